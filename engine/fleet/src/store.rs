//! The documents and artifacts of a fleet, in a directory or on a server. Each document is checked when it is
//! read: its size, its own name, and the fleet that it names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    io::{self, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use crate::{
    Artifact, AuditEntry, Channel, Declaration, Digest, Distrust, Fleet, FleetError, HostReport,
    Id, Keys, Mark, Release, Rollout, SecretKey, Time,
    backend::{
        Attachable, Backend, Clock, Content, Document, Glance, OnChange, Report, parse, to_json,
    },
    clock::Watch,
    directory::{Directory, make_beside},
    signature::Signature,
    trust::Signed,
};

/// The format that this program reads and writes.
const FORMAT: u32 = 1;

/// The largest number of audit entries that a document keeps while the audit log cannot be written.
const MOST_UNSAID: usize = 100;
/// The largest number of lines of the audit log that are remembered.
const MOST_SAID: usize = 1000;

const NO_CHANNEL: &str = "the fleet has no such channel; choose one with `--channel NAME` (the default is main), or restore it if it was lost";

/// The place that keeps a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In a directory.
    Directory(PathBuf),
    /// On a NATS server.
    #[cfg(feature = "nats")]
    Nats(crate::Server),
}

impl Location {
    fn reach(&self) -> Result<Arc<dyn Backend>, FleetError> {
        match self {
            Self::Directory(root) => Ok(Arc::new(Directory::at(root))),
            #[cfg(feature = "nats")]
            Self::Nats(server) => Ok(Arc::new(crate::nats::Nats::connect(server)?)),
        }
    }

    /// The default name of a fleet at this place.
    pub fn name(&self) -> Id {
        match self {
            Self::Directory(root) => {
                let name = root.file_name().unwrap_or_default();
                Id::made_of(&name.to_string_lossy())
            }
            #[cfg(feature = "nats")]
            Self::Nats(server) => Id::made_of(server.prefix()),
        }
    }
}

/// An open fleet.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
    fleet: Fleet,
    /// The secret keys that sign what it writes.
    signers: Vec<SecretKey>,
    believed: Arc<Mutex<Believed>>,
    watch: Arc<Mutex<Watch>>,
    /// Lines that the audit log has.
    said: Arc<Mutex<BTreeSet<Vec<u8>>>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("place", &self.place()).finish_non_exhaustive()
    }
}

/// What was trusted so far. Nothing older is accepted later.
#[derive(Default)]
struct Believed {
    keys: Option<Keys>,
    /// The documents that were verified last, with their marks, by place.
    declared: BTreeMap<String, (Content, Mark)>,
}

/// The result of pushing or signing a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Whether the release was new.
    pub is_new: bool,
    /// The number of valid signatures, by keys that may sign releases.
    pub signed: usize,
    /// The number of signatures that the fleet requires.
    pub needed: usize,
}

impl Store {
    /// Makes a fleet with a channel, whose document has these audit entries, with the time of the place.
    ///
    /// # Errors
    /// If there is a fleet already, or it cannot be written.
    pub fn create(
        location: &Location,
        fleet: &Id,
        channel: &Id,
        mut unsaid: Vec<AuditEntry>,
    ) -> Result<Self, FleetError> {
        let backend = location.reach()?;
        backend.prepare()?;
        let Clock { now_ms, .. } = backend.clock()?;
        unsaid.iter_mut().for_each(|entry| entry.at_ms = now_ms);
        let at = backend.at(Document::Fleet);
        let exists = || FleetError::at(&at, "a fleet exists here already; name another place");
        if backend.read(Document::Fleet)?.is_some() {
            return Err(exists());
        }
        let fleet = Fleet { format: FORMAT, id: fleet.clone(), made_at_ms: now_ms };
        let identity = Content::unsigned(to_json(&at, &fleet)?);
        let store = Self::of(backend, fleet);
        // The fleet exists once its identity is written, so everything else comes before.
        let declared = Channel { unsaid, ..Channel::new(channel.clone(), now_ms) };
        store.write(Document::Channel(channel), &declared)?;
        match store.backend.create(Document::Fleet, &identity)? {
            true => Ok(store),
            false => Err(exists()),
        }
    }

    /// Opens the fleet at a place.
    ///
    /// # Errors
    /// If there is no fleet, or its format is another one.
    pub fn open(location: &Location) -> Result<Self, FleetError> {
        let backend = location.reach()?;
        let Some(fleet) = read_fleet(&*backend)? else {
            let advice = "there is no fleet; `hotswap fleet init` makes one, and `--fleet DIR` names another";
            return Err(FleetError::at(backend.place(), advice));
        };
        Ok(Self::of(backend, fleet))
    }

    fn of(backend: Arc<dyn Backend>, fleet: Fleet) -> Self {
        Self {
            backend,
            fleet,
            signers: Vec::new(),
            believed: Arc::default(),
            watch: Arc::default(),
            said: Arc::default(),
        }
    }

    /// Makes the store sign what it writes with these keys, where the fleet requires signatures.
    #[must_use]
    pub fn signed_by(self, signers: Vec<SecretKey>) -> Self {
        Self { signers, ..self }
    }

    /// Trusts these keys. Other keys are then trusted only after a chain of changes, each of them signed by the
    /// keys before it. Without this call, the keys that are read first are trusted.
    pub fn believe(&self, keys: Keys) {
        self.believed().keys = Some(keys);
    }

    /// Whether the store has any keys to sign with, whatever the fleet lets these keys sign.
    pub fn has_signers(&self) -> bool {
        !self.signers.is_empty()
    }

    fn believed(&self) -> MutexGuard<'_, Believed> {
        self.believed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of the place, for messages.
    pub fn place(&self) -> String {
        self.backend.place()
    }

    /// The identity of the fleet.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Creates the streams of a server or the directories where they are missing. From then on it also creates
    /// them again after a loss. For programs that may declare releases.
    ///
    /// # Errors
    /// If they cannot be created.
    pub fn prepare(&self) -> Result<(), FleetError> {
        self.backend.prepare()
    }

    /// Calls `on_change` for each later change of a channel. Returns `false` if the place announces no
    /// changes, so the caller has to poll.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub fn watch(&self, channel: &Id, on_change: OnChange) -> Result<bool, FleetError> {
        self.backend.watch(channel, on_change)
    }

    /// The state of the files that hold the keys, the declaration of a channel and its rollout. While it is the same,
    /// none of these documents has changed. `None` if the fleet is not kept in files of this machine.
    pub fn glance(&self, channel: &Id) -> Option<Glance> {
        self.backend.glance(&Self::deciding(channel))
    }

    /// The directories that contain the files of [`glance`](Self::glance); none if the fleet is not kept in files of
    /// this machine.
    pub fn directories(&self, channel: &Id) -> BTreeSet<PathBuf> {
        self.backend.directories(&Self::deciding(channel))
    }

    /// The documents that decide what a channel's hosts run.
    fn deciding(channel: &Id) -> [Document<'_>; 3] {
        [Document::Keys, Document::Channel(channel), Document::Rollout(channel)]
    }

    /// Lets consoles of other machines attach, through this program, to the host that listens at a socket of this
    /// machine, for as long as the returned value is kept; `None` if the fleet has hosts of one machine only.
    pub fn allow_attach(&self, host: &Id, socket: PathBuf) -> Option<Attachable> {
        self.backend.allow_attach(host, socket)
    }

    /// Connects a stream to the console of a host of another machine, through the agent of that machine. Data is
    /// passed on in the background for as long as the store is open.
    ///
    /// # Errors
    /// If the agent does not answer or refuses the connection.
    pub fn attach(&self, host: &Id, stream: UnixStream) -> Result<(), FleetError> {
        self.backend.attach(host, stream)
    }

    /// Whether hosts of many machines report to this place. If so, a report expires unless it is sent again.
    pub fn is_of_many_machines(&self) -> bool {
        self.backend.is_of_many_machines()
    }

    fn read<T: DeserializeOwned>(
        &self,
        document: Document<'_>,
        name: impl Fn(&T) -> &Id,
        expected: &Id,
    ) -> Result<Option<T>, FleetError> {
        let read = self.backend.read(document)?;
        read.map(|read| self.parse(document, &read.json, name, expected)).transpose()
    }

    fn parse<T: DeserializeOwned>(
        &self,
        document: Document<'_>,
        json: &[u8],
        name: impl Fn(&T) -> &Id,
        expected: &Id,
    ) -> Result<T, FleetError> {
        let at = self.backend.at(document);
        let advise = |error: FleetError| match document {
            Document::Host(_) => error,
            Document::Rollout(_) => error
                .advising("restore the earlier document, or remove this one to end the rollout"),
            Document::Release(_) => error.advising(
                "restore the earlier document, or remove this one and push the release again",
            ),
            _ => error.advising("restore the earlier document"),
        };
        let value = parse(&at, json).map_err(advise)?;
        let found = name(&value);
        if found == expected {
            return Ok(value);
        }
        Err(FleetError::at(at, format_args!("it is named {found} inside, and not {expected}")))
    }

    fn to_json<T: Serialize>(
        &self,
        document: Document<'_>,
        value: &T,
    ) -> Result<Vec<u8>, FleetError> {
        to_json(&self.backend.at(document), value)
    }

    fn write<T: Serialize>(&self, document: Document<'_>, value: &T) -> Result<(), FleetError> {
        self.backend.write(document, &self.to_json(document, value)?)
    }

    /// The declaration of a channel, with signatures where the fleet requires them.
    ///
    /// # Errors
    /// If there is no such channel, it cannot be read, lacks signatures, is older than what was read before, or
    /// another fleet is at the place now.
    pub fn channel(&self, name: &Id) -> Result<Channel, FleetError> {
        self.check_fleet()?;
        let document = Document::Channel(name);
        let mark = |channel: &Channel| channel.mark;
        let channel = self.read_declared(document, |it: &Channel| &it.name, name, mark)?;
        channel.ok_or_else(|| FleetError::missing(self.backend.at(document), NO_CHANNEL))
    }

    /// Fails if another fleet has replaced this one at the place.
    fn check_fleet(&self) -> Result<(), FleetError> {
        match read_fleet(&*self.backend)? {
            Some(fleet) if fleet == self.fleet => Ok(()),
            other => Err(FleetError::replaced(self.place(), &self.fleet, other)),
        }
    }

    /// Writes a channel if it is still `read`, with signatures where the fleet requires them.
    ///
    /// # Errors
    /// If somebody else wrote it in the meantime, a required signature cannot be made, or it cannot be written.
    pub fn write_channel(&self, read: &Channel, new: &Channel) -> Result<(), FleetError> {
        let name = &read.name;
        let document = Document::Channel(name);
        let is_as_read = |found: Option<&Content>| {
            let Some(found) = found else { return Ok(false) };
            let found = self.parse(document, &found.json, |it: &Channel| &it.name, name)?;
            Ok(found == *read)
        };
        let mut new = new.clone();
        self.say_earlier(&read.unsaid, &mut new.unsaid);
        let new = self.declaration(document, &new)?;
        self.backend.replace(document, &is_as_read, &new)
    }

    /// The declaration of a channel and its rollout, without a check of signatures: for somebody who reviews them
    /// in order to sign them.
    ///
    /// # Errors
    /// If there is no such channel, or it cannot be read.
    pub fn unverified(&self, name: &Id) -> Result<(Channel, Option<Rollout>), FleetError> {
        let document = Document::Channel(name);
        let channel = self
            .read(document, |it: &Channel| &it.name, name)?
            .ok_or_else(|| FleetError::missing(self.backend.at(document), NO_CHANNEL))?;
        Ok((channel, self.read(Document::Rollout(name), |it: &Rollout| &it.channel, name)?))
    }

    /// Signs the declaration of a channel, with the audit entries of `signed`, and its rollout after a change of the
    /// keys, if they are still what the caller read.
    ///
    /// # Errors
    /// If somebody else wrote them in the meantime, or they cannot be signed or written.
    pub fn sign_declarations(
        &self,
        read: &Channel,
        signed: &Channel,
        rollout: Option<&Rollout>,
    ) -> Result<(), FleetError> {
        let mut new = signed.clone();
        new.raise_mark(&self.hosts(&read.name)?.0);
        self.write_channel(read, &new)?;
        rollout.map_or(Ok(()), |rollout| self.write_rollout(Some(rollout), rollout))
    }

    /// The last rollout of a channel; `None` if it had none. It is signed as the channel is, because controllers
    /// derive declarations from it and sign these.
    ///
    /// # Errors
    /// If it cannot be read, lacks signatures, or is older than what was read before.
    pub fn rollout(&self, channel: &Id) -> Result<Option<Rollout>, FleetError> {
        let mark = |rollout: &Rollout| Mark { epoch: 0, seq: rollout.writes };
        self.read_declared(Document::Rollout(channel), |it: &Rollout| &it.channel, channel, mark)
    }

    /// Writes a rollout if the stored one is still `read`, with signatures where the fleet requires them.
    ///
    /// # Errors
    /// If somebody else wrote it in the meantime, a required signature cannot be made, or it cannot be written.
    pub fn write_rollout(&self, read: Option<&Rollout>, new: &Rollout) -> Result<(), FleetError> {
        let name = &new.channel;
        let document = Document::Rollout(name);
        let is_as_read = |found: Option<&Content>| {
            let found = found
                .map(|found| self.parse(document, &found.json, |it: &Rollout| &it.channel, name));
            Ok(found.transpose()?.as_ref() == read)
        };
        let writes = read.map_or(0, |read| read.writes).saturating_add(1);
        let mut new = Rollout { writes, ..new.clone() };
        let earlier = read.map_or(&[][..], |read| &read.memory.unsaid);
        self.say_earlier(earlier, &mut new.memory.unsaid);
        let new = self.declaration(document, &new)?;
        self.backend.replace(document, &is_as_read, &new)
    }

    /// Whether declarations have to be signed: on a server always, otherwise if the fleet has keys for it.
    fn signs_declarations(&self, keys: &Keys) -> bool {
        !keys.directors.is_empty() || self.is_of_many_machines()
    }

    /// Whether this store may write declarations: either they need no signature, or the store has a key that may
    /// sign them.
    ///
    /// # Errors
    /// If the keys cannot be read.
    pub fn may_declare(&self) -> Result<bool, FleetError> {
        let keys = self.keys()?.filter(|keys| self.signs_declarations(keys));
        keys.map_or(Ok(true), |keys| Ok(self.declaring(&keys)?.is_some()))
    }

    fn declaring(&self, keys: &Keys) -> Result<Option<&SecretKey>, FleetError> {
        for signer in &self.signers {
            let public = signer.public()?;
            if keys.declaring().any(|key| *key == public) {
                return Ok(Some(signer));
            }
        }
        Ok(None)
    }

    /// The purpose that is signed together with a document, so that its signature fits no other document.
    fn purpose(&self, document: Document<'_>) -> String {
        let of = match document {
            Document::Fleet => "fleet".to_owned(),
            Document::Keys => "keys".to_owned(),
            Document::EarlierKeys(_) => "keys".to_owned(),
            Document::Release(name) => format!("release {name}"),
            Document::Channel(name) => format!("channel {name}"),
            Document::Rollout(name) => format!("rollout {name}"),
            Document::Host(name) => format!("host {name}"),
        };
        format!("hotswap fleet {} {of}", self.fleet.id)
    }

    /// A declaration, ready to be written, with its signature.
    fn declaration<T: Serialize>(
        &self,
        document: Document<'_>,
        value: &T,
    ) -> Result<Content, FleetError> {
        let json = self.to_json(document, value)?;
        let Some(keys) = self.keys()?.filter(|keys| self.signs_declarations(keys)) else {
            return Ok(Content::unsigned(json));
        };
        let signer = self.declaring(&keys)?.ok_or_else(|| {
            let message = "declarations in this fleet have to be signed: use `--sign SECRET-KEY` with the key of a director or of a \
                           release key";
            FleetError::at(self.backend.at(document), message)
        })?;
        let signature = Some(signer.sign(&json, &self.purpose(document))?);
        Ok(Content { json, signature })
    }

    /// Reads a declaration and verifies it where that is required. While this store lives, it accepts no older one
    /// afterwards.
    fn read_declared<T: DeserializeOwned>(
        &self,
        document: Document<'_>,
        name: impl Fn(&T) -> &Id,
        expected: &Id,
        mark: impl Fn(&T) -> Mark,
    ) -> Result<Option<T>, FleetError> {
        let keys = self.keys()?.filter(|keys| self.signs_declarations(keys));
        let Some(keys) = keys else { return self.read(document, name, expected) };
        // The lock is held until the comparison, since another thread may read something newer in the meantime.
        let mut believed = self.believed();
        let Some(content) = self.backend.read(document)? else { return Ok(None) };
        let value = self.parse(document, &content.json, name, expected)?;
        self.believe_declared(&mut believed, &keys, document, content, mark(&value))?;
        Ok(Some(value))
    }

    /// A document that is not trusted, with what to do if signatures are missing.
    fn distrusted(&self, document: Document<'_>, distrust: Distrust) -> FleetError {
        let lacks = matches!(distrust, Distrust::Unsigned | Distrust::TooFew { .. });
        let error = FleetError::distrusted(self.backend.at(document), distrust);
        let advice = match document {
            _ if !lacks => return error,
            Document::Release(id) => {
                format!("`hotswap fleet sign {id} --sign SECRET-KEY` adds one")
            }
            Document::Keys | Document::EarlierKeys(_) => {
                "give `--sign SECRET-KEY` for each of the present keys that sign the change"
                    .to_owned()
            }
            Document::Channel(_) | Document::Rollout(_) => {
                "`hotswap fleet sign --sign SECRET-KEY` signs it as it is".to_owned()
            }
            Document::Fleet | Document::Host(_) => return error,
        };
        error.advising(&advice)
    }

    /// Refuses a declaration without the required signatures, or older than one that was trusted before.
    fn believe_declared(
        &self,
        believed: &mut Believed,
        keys: &Keys,
        document: Document<'_>,
        content: Content,
        to: Mark,
    ) -> Result<(), FleetError> {
        let at = self.backend.at(document);
        let known = believed.declared.get(&at);
        if known.is_none_or(|(known, _)| *known != content) {
            let signed = keys.verify(Signed::Declaration, &self.purpose(document), &content);
            signed.map_err(|distrust| self.distrusted(document, distrust))?;
            match known {
                Some((known, from)) if known.json != content.json && to <= *from => {
                    return Err(FleetError::distrusted(at, Distrust::WentBack { from: *from, to }));
                }
                _ => {}
            }
            believed.declared.insert(at, (content, to));
        }
        Ok(())
    }

    /// Verifies the declaration of a channel that a server announced, without a request to the server.
    ///
    /// # Errors
    /// If it cannot be parsed, lacks signatures, is older than what was read before, or no keys were read yet. The
    /// caller then has to read the channel.
    pub fn verify_announced(
        &self,
        name: &Id,
        announced: &Declaration,
    ) -> Result<Channel, FleetError> {
        let document = Document::Channel(name);
        let Declaration(content) = announced;
        let mut believed = self.believed();
        let keys = believed.keys.clone().filter(|keys| self.signs_declarations(keys));
        let keys = keys
            .ok_or_else(|| FleetError::distrusted(self.backend.at(document), Distrust::NoKeys))?;
        let channel = self.parse(document, &content.json, |it: &Channel| &it.name, name)?;
        self.believe_declared(&mut believed, &keys, document, content.clone(), channel.mark)?;
        Ok(channel)
    }

    /// Stores an artifact.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn push_blob(&self, bytes: &[u8]) -> Result<Digest, FleetError> {
        let digest = Digest::of(bytes);
        self.backend.push_blob(&digest, bytes)?;
        Ok(digest)
    }

    /// Stores a release with signatures by the keys of this store that may sign it. A release with the same name
    /// and content may be pushed again; the new signatures are then added.
    ///
    /// # Errors
    /// If another release has its name, or it cannot be written.
    pub fn push_release(&self, release: &Release) -> Result<Pushed, FleetError> {
        release.check()?;
        let document = Document::Release(&release.id);
        let new = self.signed_release(document, self.to_json(document, release)?, None, None)?;
        if self.backend.create(document, &new)? {
            return self.pushed(document, true);
        }
        let (kept, _) = self.read_release(&release.id)?;
        let same =
            Release { pushed_at_ms: kept.pushed_at_ms, by: kept.by.clone(), ..release.clone() };
        if same != kept {
            let message = "another release has this name; choose a new name";
            return Err(FleetError::at(self.backend.at(document), message));
        }
        self.sign_release(&release.id, None)
    }

    /// Adds signatures by the keys of this store to a release, with an audit entry beside each of them.
    ///
    /// # Errors
    /// If there is no such release, or it cannot be written.
    pub fn sign_release(&self, id: &Id, entry: Option<&AuditEntry>) -> Result<Pushed, FleetError> {
        let document = Document::Release(id);
        let (_, content) = self.read_release(id)?;
        let signature = content.signature.as_deref();
        let new = self.signed_release(document, content.json.clone(), signature, entry)?;
        if new != content {
            self.backend.replace(document, &|found| Ok(found == Some(&content)), &new)?;
        }
        self.pushed(document, false)
    }

    fn pushed(&self, document: Document<'_>, is_new: bool) -> Result<Pushed, FleetError> {
        let content = self.backend.read(document)?;
        let Some(keys) = self.keys()? else {
            return Ok(Pushed { is_new, signed: 0, needed: 0 });
        };
        let signed = content.map(|content| {
            let signatures = Signature::all_in(content.signature.as_deref().unwrap_or_default());
            let has_signed = |key: &&String| {
                let purpose = self.purpose(document);
                let mut of_it = signatures.iter().filter(|it| it.purpose() == purpose);
                of_it.any(|it| it.is_by(key, &content.json))
            };
            keys.keys.iter().filter(has_signed).count()
        });
        Ok(Pushed { is_new, signed: signed.unwrap_or_default(), needed: keys.threshold })
    }

    /// The release with its present signatures, and with signatures by the release keys of this store.
    fn signed_release(
        &self,
        document: Document<'_>,
        json: Vec<u8>,
        signature: Option<&str>,
        entry: Option<&AuditEntry>,
    ) -> Result<Content, FleetError> {
        let note = entry.and_then(|entry| serde_json::to_string(entry).ok());
        let keys = self.keys()?.map(|keys| keys.keys).unwrap_or_default();
        let there = Signature::all_in(signature.unwrap_or_default());
        let is_of_fleet = |it: &&Signature| keys.iter().any(|key| it.is_by(key, &json));
        let mut text: String = there.iter().filter(is_of_fleet).map(Signature::text).collect();
        for signer in &self.signers {
            let public = signer.public()?;
            let is_there = there.iter().any(|it| it.is_by(&public, &json));
            // In a fleet without keys, any key may be trusted later, so each one signs.
            if (keys.is_empty() || keys.contains(&public)) && !is_there {
                text += &signer.sign_with_note(&json, &self.purpose(document), note.as_deref())?;
            }
        }
        Ok(Content { json, signature: Some(text).filter(|text| !text.is_empty()) })
    }

    fn read_release(&self, id: &Id) -> Result<(Release, Content), FleetError> {
        let document = Document::Release(id);
        let Some(content) = self.backend.read(document)? else {
            return Err(FleetError::new(format!(
                "there is no release {id} in {}; `hotswap fleet releases` lists those that are there",
                self.place()
            )));
        };
        let release = self.parse(document, &content.json, |release: &Release| &release.id, id)?;
        let at = self.backend.at(document);
        if release.fleet != self.fleet.id {
            let (found, expected) = (&release.fleet, &self.fleet.id);
            let message = format!("it is for the fleet {found}, and this is the fleet {expected}");
            return Err(FleetError::at(at, message));
        }
        release.check().map_err(|error| FleetError::at(at, error))?;
        Ok((release, content))
    }

    /// A release, with the signatures that `keys` require.
    ///
    /// # Errors
    /// If it cannot be read, is for another fleet, or lacks signatures.
    pub fn release(&self, id: &Id, keys: Option<&Keys>) -> Result<Release, FleetError> {
        let (release, content) = self.read_release(id)?;
        if let Some(keys) = keys {
            let document = Document::Release(id);
            let signed = keys.verify(Signed::Release, &self.purpose(document), &content);
            signed.map_err(|distrust| self.distrusted(document, distrust))?;
        }
        Ok(release)
    }

    /// The names of all releases, sorted.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn releases(&self) -> Result<Vec<Id>, FleetError> {
        self.backend.releases()
    }

    /// Verifies a release and all its artifacts.
    ///
    /// # Errors
    /// The first fault, with the name of the plugin.
    pub fn verify(&self, id: &Id, keys: Option<&Keys>) -> Result<Release, FleetError> {
        let release = self.release(id, keys)?;
        for plugin in &release.plugins {
            for artifact in &plugin.artifacts {
                self.copy(id, &plugin.name, artifact, &mut |_| Ok(()))?;
            }
        }
        Ok(release)
    }

    /// Copies an artifact to a path, and verifies it against the release.
    ///
    /// # Errors
    /// If the artifact is missing or differs from the one that the release names. There is no file at the path
    /// then.
    pub fn fetch(
        &self,
        release: &Id,
        plugin: &str,
        artifact: &Artifact,
        to: &Path,
    ) -> Result<(), FleetError> {
        let (beside, mut file) = make_beside(to)?;
        let wrong = |error: io::Error| FleetError::io(to, "write", &error);
        let mut write = |piece: &[u8]| file.write_all(piece).map_err(wrong);
        let copied = self
            .copy(release, plugin, artifact, &mut write)
            .and_then(|()| file.sync_all().and_then(|()| fs::rename(&beside, to)).map_err(wrong));
        if copied.is_err() {
            let _ = fs::remove_file(&beside);
        }
        copied
    }

    fn copy(
        &self,
        release: &Id,
        plugin: &str,
        artifact: &Artifact,
        to: &mut dyn FnMut(&[u8]) -> Result<(), FleetError>,
    ) -> Result<(), FleetError> {
        let at = self.backend.blob_at(&artifact.sha256);
        let of = format!("{plugin} of release {release}");
        let again =
            format!("`hotswap fleet push … --id {release}` with the same artifacts restores it");
        let refuse = |why: String| FleetError::new(format!("{of}: {at}: {why}; {again}"));
        let (mut hasher, mut size) = (Sha256::new(), 0_u64);
        let mut take = |piece: &[u8]| {
            size += piece.len() as u64;
            hasher.update(piece);
            to(piece)
        };
        let copied = self.backend.copy_blob(&artifact.sha256, artifact.size_bytes, &mut take);
        copied.map_err(|error| match error.is_missing() {
            true => error.about(&of).advising(&again),
            false => error.about(&of),
        })?;
        if size != artifact.size_bytes {
            let than = if size > artifact.size_bytes { "more" } else { "less" };
            return Err(refuse(format!(
                "the artifact was altered: the release names {} bytes, and it has {than}",
                artifact.size_bytes
            )));
        }
        let found = Digest::finish(hasher);
        if found != artifact.sha256 {
            return Err(refuse(format!(
                "the artifact was altered: the release names SHA-256 {}, and it has {found}",
                artifact.sha256
            )));
        }
        Ok(())
    }

    /// The time for reports and rollouts, in milliseconds since the Unix epoch: the server's clock, or this
    /// machine's if the fleet is in a directory.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn now_ms(&self) -> Result<u64, FleetError> {
        Ok(self.time()?.now_ms)
    }

    /// The time as in [`Store::now_ms`], whether this store has seen that somebody set the clock, and whether
    /// reports may be lost.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn time(&self) -> Result<Time, FleetError> {
        let Clock { now_ms, may_have_lost } = self.backend.clock()?;
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let clock_set_at_ms = watch.note(now_ms, Instant::now());
        Ok(Time { now_ms, clock_set_at_ms, may_have_lost })
    }

    /// The reports of the hosts of a channel, sorted by name, with times as in [`Store::now_ms`]; and an error for
    /// each report that cannot be read.
    ///
    /// # Errors
    /// If no report can be read.
    pub fn hosts(&self, channel: &Id) -> Result<(Vec<HostReport>, Vec<FleetError>), FleetError> {
        let (mut hosts, mut unreadable) = (Vec::new(), Vec::new());
        for Report { host: name, json, kept_at_ms } in self.backend.hosts()? {
            let document = Document::Host(&name);
            let read = json
                .and_then(|json| self.parse(document, &json, |host: &HostReport| &host.id, &name));
            match read {
                Ok(host) if host.channel == *channel => {
                    hosts.push(HostReport { at_ms: kept_at_ms.unwrap_or(host.at_ms), ..host });
                }
                Ok(_) => {}
                Err(error) => unreadable.push(error),
            }
        }
        Ok((hosts, unreadable))
    }

    /// Stores the report of a host.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn report(&self, host: &HostReport) -> Result<(), FleetError> {
        self.write(Document::Host(&host.id), host)
    }

    /// Removes the report of a host.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn forget(&self, host: &Id) -> Result<(), FleetError> {
        self.backend.remove(Document::Host(host))
    }

    /// Appends an entry to the audit log, unless the log has it.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn audit(&self, entry: &AuditEntry) -> Result<(), FleetError> {
        let line = to_json(&"audit", entry)?;
        if self.said().contains(&line) {
            return Ok(());
        }
        let is_it = |line: &[u8]| {
            let found = serde_json::from_slice::<AuditEntry>(line);
            found.is_ok_and(|found| entry.is_about_action_of(&found))
        };
        self.backend.audit(&line, entry.at_ms, &is_it)?;
        let mut said = self.said();
        if said.len() >= MOST_SAID {
            said.clear();
        }
        said.insert(line);
        Ok(())
    }

    fn said(&self) -> MutexGuard<'_, BTreeSet<Vec<u8>>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends those entries of a document to the audit log that the log lacks.
    ///
    /// A program can be killed between the write of a document and that of the audit log. So the document that it writes
    /// has the entries of this write, and whoever reads the document, or replaces it, appends them if they are missing.
    ///
    /// # Errors
    /// If the audit log cannot be read or written. The document keeps the entries until it can.
    pub fn say(&self, unsaid: &[AuditEntry]) -> Result<(), FleetError> {
        let said = unsaid.iter().try_for_each(|entry| self.audit(entry));
        said.map_err(|error| error.about("what was done is not in the audit log yet"))
    }

    /// Removes the entries of the earlier document from a new one, once the audit log has them.
    fn say_earlier(&self, earlier: &[AuditEntry], unsaid: &mut Vec<AuditEntry>) {
        unsaid.retain(|entry| !earlier.contains(entry) || self.audit(entry).is_err());
        unsaid.drain(..unsaid.len().saturating_sub(MOST_UNSAID));
    }

    /// Appends what the audit log lacks about the keys, and about a channel and its rollout.
    ///
    /// # Errors
    /// If something cannot be read, or the audit log cannot be written.
    pub fn say_missing(&self, channel: &Id) -> Result<(), FleetError> {
        let mut unsaid = self.keys()?.map(|keys| keys.unsaid).unwrap_or_default();
        unsaid.extend(self.channel(channel)?.unsaid);
        unsaid.extend(self.rollout(channel)?.into_iter().flat_map(|it| it.memory.unsaid));
        unsaid.sort_by_key(|entry| entry.at_ms);
        self.say(&unsaid)
    }

    /// Appends what the audit log lacks about pushes and signatures of releases that are as young as the log.
    ///
    /// # Errors
    /// If something cannot be read, or the audit log cannot be written.
    pub fn say_missing_of_releases(&self, channel: &Id) -> Result<(), FleetError> {
        let (entries, _) = self.audited()?;
        let Some(since_ms) = entries.iter().map(|entry| entry.at_ms).min() else { return Ok(()) };
        for id in self.releases()? {
            // Whoever uses a release that cannot be read is told so.
            let Ok((release, content)) = self.read_release(&id) else { continue };
            let signatures = Signature::all_in(content.signature.as_deref().unwrap_or_default());
            let signed = signatures.iter().filter_map(|it| serde_json::from_str(&it.note()).ok());
            for entry in [AuditEntry::of_push(&release, channel)].into_iter().chain(signed) {
                let is_said = || entries.iter().any(|said| entry.is_about_action_of(said));
                if entry.at_ms >= since_ms && !is_said() {
                    self.audit(&entry)?;
                }
            }
        }
        Ok(())
    }

    /// The last entries of the audit log, the oldest first, and the number of lines that cannot be read.
    ///
    /// # Errors
    /// If no line can be read.
    pub fn audited(&self) -> Result<(Vec<AuditEntry>, usize), FleetError> {
        let lines = self.backend.audited()?;
        let entries: Vec<Option<AuditEntry>> =
            lines.iter().map(|line| serde_json::from_slice(line).ok()).collect();
        let unreadable = entries.iter().filter(|entry| entry.is_none()).count();
        Ok((entries.into_iter().flatten().collect(), unreadable))
    }

    fn read_keys(&self, document: Document<'_>) -> Result<Option<(Keys, Content)>, FleetError> {
        let Some(content) = self.backend.read(document)? else { return Ok(None) };
        let fleet = &self.fleet.id;
        let keys = self.parse(document, &content.json, |keys: &Keys| &keys.fleet, fleet)?;
        keys.check().map_err(|error| FleetError::at(self.backend.at(document), error))?;
        Ok(Some((keys, content)))
    }

    /// The keys of the fleet; `None` while it has none. The first keys are those of [`Store::believe`], or else
    /// those that are read first. Each change has to be signed by the keys before it.
    ///
    /// # Errors
    /// If the keys cannot be read, belong to another fleet, are gone or older than before, or a change of them is
    /// missing or lacks signatures.
    pub fn keys(&self) -> Result<Option<Keys>, FleetError> {
        let found = self.read_keys(Document::Keys)?;
        let mut believed = self.believed();
        let at = self.backend.at(Document::Keys);
        let keys = match (&believed.keys, found) {
            (None, None) => return Ok(None),
            (None, Some((found, _))) => found,
            (Some(known), Some((found, _))) if found.are(known) => return Ok(Some(found)),
            (Some(known), Some((found, content))) if found.serial > known.serial => {
                self.follow(known, found, content)?
            }
            (Some(known), Some((found, _))) => {
                let mark = |keys: &Keys| Mark { epoch: 0, seq: keys.serial };
                let (from, to) = (mark(known), mark(&found));
                return Err(FleetError::distrusted(at, Distrust::WentBack { from, to }));
            }
            (Some(_), None) => return Err(FleetError::distrusted(at, Distrust::Gone)),
        };
        believed.keys = Some(keys.clone());
        // Other keys may sign now, so declarations are verified again.
        believed.declared.clear();
        Ok(Some(keys))
    }

    /// The newest keys, if a chain of signed changes leads to them.
    fn follow(&self, known: &Keys, newest: Keys, content: Content) -> Result<Keys, FleetError> {
        let mut before = known.clone();
        for serial in known.serial + 1..newest.serial {
            let document = Document::EarlierKeys(serial);
            let gap =
                || FleetError::distrusted(self.backend.at(document), Distrust::Gap { serial });
            let (next, content) = self.read_keys(document)?.ok_or_else(gap)?;
            if next.serial != serial {
                return Err(gap());
            }
            self.check_change(&before, document, &content)?;
            before = next;
        }
        self.check_change(&before, Document::Keys, &content)?;
        Ok(newest)
    }

    fn check_change(
        &self,
        before: &Keys,
        document: Document<'_>,
        content: &Content,
    ) -> Result<(), FleetError> {
        let signed = before.verify(Signed::Release, &self.purpose(document), content);
        signed.map_err(|distrust| self.distrusted(document, distrust))
    }

    /// Changes the keys. As many of the present keys as the threshold says have to sign the change, if there are
    /// any.
    ///
    /// # Errors
    /// If this store has too few of the keys, somebody else changes them at the same time, or they cannot be
    /// written.
    pub fn change_keys(
        &self,
        change: impl FnOnce(&mut Keys) -> Result<(), FleetError>,
    ) -> Result<Keys, FleetError> {
        let document = Document::Keys;
        let at = self.backend.at(document);
        let believed = self.keys()?;
        let read = self.read_keys(document)?;
        if read.as_ref().map(|(keys, _)| keys) != believed.as_ref() {
            return Err(FleetError::changed(at));
        }
        let mut new = believed.clone().unwrap_or_else(|| Keys::none(self.fleet.id.clone()));
        change(&mut new)?;
        let earlier = believed.as_ref().map_or(&[][..], |believed| &believed.unsaid);
        self.say_earlier(earlier, &mut new.unsaid);
        new.serial += 1;
        new.check()?;
        let mut content = Content::unsigned(self.to_json(document, &new)?);
        if let Some((before, before_content)) = &read {
            let mut text = String::new();
            for signer in &self.signers {
                if before.keys.contains(&signer.public()?) {
                    text += &signer.sign(&content.json, &self.purpose(document))?;
                }
            }
            content.signature = Some(text).filter(|text| !text.is_empty());
            self.check_change(before, document, &content)?;
            // A reader that knows older keys needs this document to follow the changes.
            self.backend.create(Document::EarlierKeys(before.serial), before_content)?;
        }
        let read = read.map(|(_, content)| content);
        self.backend.replace(document, &|found| Ok(found == read.as_ref()), &content)?;
        self.believe(new.clone());
        Ok(new)
    }
}

fn read_fleet(backend: &dyn Backend) -> Result<Option<Fleet>, FleetError> {
    let at = backend.at(Document::Fleet);
    let Some(content) = backend.read(Document::Fleet)? else { return Ok(None) };
    let fleet: Fleet = parse(&at, &content.json)
        .map_err(|error| error.advising("restore the earlier document"))?;
    if fleet.format != FORMAT {
        let found = fleet.format;
        let message = format!(
            "its format is {found}, and this program knows format {FORMAT}; update hotswap"
        );
        return Err(FleetError::at(at, message));
    }
    Ok(Some(fleet))
}
