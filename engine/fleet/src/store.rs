//! A fleet, wherever it is kept. Nothing that is read is believed: its size is bounded, and it says the name that
//! it has and the fleet that it is for.

use std::{
    fs,
    io::{self, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use crate::{
    Artifact, AuditEntry, Channel, Digest, Fleet, FleetError, HostReport, Id, Keys, Release,
    Rollout,
    backend::{Attachable, Backend, Content, Document, ToldChange, parse, to_json},
    directory::{Directory, beside, create_new},
    signature,
};

/// The layout that this program reads and writes.
const FORMAT: u32 = 1;

/// Where a fleet is kept.
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

    /// What a fleet there is called that is given no name.
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

/// A fleet.
#[derive(Debug, Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
    fleet: Fleet,
}

impl Store {
    /// Makes a fleet, with a channel.
    ///
    /// # Errors
    /// If there is one already, or it cannot be written.
    pub fn create(
        location: &Location,
        fleet: &Id,
        channel: &Id,
        now_ms: u64,
    ) -> Result<Self, FleetError> {
        let backend = location.reach()?;
        backend.prepare()?;
        let fleet = Fleet { format: FORMAT, id: fleet.clone(), made_at_ms: now_ms };
        let at = backend.at(Document::Fleet);
        if !backend.create(Document::Fleet, &Content::unsigned(to_json(&at, &fleet)?))? {
            return Err(FleetError::at(at, "there is a fleet already; name another place"));
        }
        let store = Self { backend, fleet };
        store.write(Document::Channel(channel), &Channel::new(channel.clone(), now_ms))?;
        Ok(store)
    }

    /// The fleet at a place.
    ///
    /// # Errors
    /// If there is none, or one of another layout.
    pub fn open(location: &Location) -> Result<Self, FleetError> {
        let backend = location.reach()?;
        let Some(fleet) = read_fleet(&*backend)? else {
            let advice = "there is no fleet; `hotswap fleet init` makes one, and `--fleet DIR` names another";
            return Err(FleetError::at(backend.place(), advice));
        };
        Ok(Self { backend, fleet })
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        self.backend.place()
    }

    /// What fleet it is.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Makes what a server keeps documents in, unless it is there; and from now on whenever that may be lost. It is
    /// for whoever may declare releases.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn prepare(&self) -> Result<(), FleetError> {
        self.backend.prepare()
    }

    /// Tells whatever changes of a channel from now on; `false` where nobody tells, so that whoever wants to know has
    /// to look.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub fn watch(&self, channel: &Id, told: ToldChange) -> Result<bool, FleetError> {
        self.backend.watch(channel, told)
    }

    /// Lets consoles attach through this program to a host that listens at a socket of this machine, for as long as
    /// what is returned is kept; `None` where a fleet has hosts of one machine only.
    pub fn let_attach(&self, host: &Id, socket: PathBuf) -> Option<Attachable> {
        self.backend.let_attach(host, socket)
    }

    /// Connects a stream to the console of a host of another machine, through its agent. It is handed on in the
    /// background for as long as the fleet is open.
    ///
    /// # Errors
    /// If nobody lets it in.
    pub fn attach(&self, host: &Id, stream: UnixStream) -> Result<(), FleetError> {
        self.backend.attach(host, stream)
    }

    /// Whether hosts of many machines report there. What nobody reports anew is then forgotten after a while.
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
        let value = parse(&at, json)?;
        let found = name(&value);
        if found == expected {
            return Ok(value);
        }
        Err(FleetError::at(at, format_args!("it says that it is {found}, and not {expected}")))
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

    /// What a channel declares.
    ///
    /// # Errors
    /// If there is no such channel, it cannot be read, or the fleet is another one by now.
    pub fn channel(&self, name: &Id) -> Result<Channel, FleetError> {
        match read_fleet(&*self.backend)? {
            Some(fleet) if fleet == self.fleet => {}
            found => {
                let now = match found {
                    Some(other) => {
                        format!("the fleet here is {} of {} now", other.id, other.made_at_ms)
                    }
                    None => "there is no fleet any more".to_owned(),
                };
                let Fleet { id, made_at_ms, .. } = &self.fleet;
                let message = format!(
                    "{now}, and not {id} of {made_at_ms}; put that back, or start the agents anew"
                );
                return Err(FleetError::at(self.place(), message));
            }
        }
        let document = Document::Channel(name);
        self.read(document, |channel: &Channel| &channel.name, name)?.ok_or_else(|| {
            FleetError::at(self.backend.at(document), "there is no such channel in the fleet")
        })
    }

    /// Writes a channel, if it is what was read.
    ///
    /// # Errors
    /// If somebody else wrote it meanwhile, or it cannot be written.
    pub fn write_channel(&self, read: &Channel, new: &Channel) -> Result<(), FleetError> {
        let name = &read.name;
        let document = Document::Channel(name);
        let is_as_read = |found: Option<&Content>| {
            let Some(found) = found else { return Ok(false) };
            let found = self.parse(document, &found.json, |it: &Channel| &it.name, name)?;
            Ok(found == *read)
        };
        let json = self.to_json(document, new)?;
        self.backend.replace(document, &is_as_read, &Content::unsigned(json))
    }

    /// The last rollout of a channel; `None` if it had none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn rollout(&self, channel: &Id) -> Result<Option<Rollout>, FleetError> {
        self.read(Document::Rollout(channel), |rollout: &Rollout| &rollout.channel, channel)
    }

    /// Writes a rollout, if it is what was read.
    ///
    /// # Errors
    /// If somebody else wrote it meanwhile, or it cannot be written.
    pub fn write_rollout(&self, read: Option<&Rollout>, new: &Rollout) -> Result<(), FleetError> {
        let name = &new.channel;
        let document = Document::Rollout(name);
        let is_as_read = |found: Option<&Content>| {
            let found = found
                .map(|found| self.parse(document, &found.json, |it: &Rollout| &it.channel, name));
            Ok(found.transpose()?.as_ref() == read)
        };
        let json = self.to_json(document, new)?;
        self.backend.replace(document, &is_as_read, &Content::unsigned(json))
    }

    /// Keeps an artifact.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn push_blob(&self, bytes: &[u8]) -> Result<Digest, FleetError> {
        let digest = Digest::of(bytes);
        self.backend.push_blob(&digest, bytes)?;
        Ok(digest)
    }

    /// Keeps a release; whether it was not there yet. One of the same name and content may be pushed again.
    ///
    /// # Errors
    /// If there is another one of its name, or it cannot be written.
    pub fn push_release(
        &self,
        release: &Release,
        secret: Option<&signature::SecretKey>,
    ) -> Result<bool, FleetError> {
        release.check()?;
        let document = Document::Release(&release.id);
        let sign = |json: Vec<u8>| {
            let signature = secret.map(|secret| secret.sign(&json)).transpose()?;
            Ok::<_, FleetError>(Content { json, signature })
        };
        if self.backend.create(document, &sign(self.to_json(document, release)?)?)? {
            return Ok(true);
        }
        let (kept, content) = self.read_release(&release.id)?;
        let same =
            Release { pushed_at_ms: kept.pushed_at_ms, by: kept.by.clone(), ..release.clone() };
        if same != kept {
            let message = "another release of this name is there; choose another";
            return Err(FleetError::at(self.backend.at(document), message));
        }
        if secret.is_some() {
            let new = sign(content.json.clone())?;
            self.backend.replace(document, &|found| Ok(found == Some(&content)), &new)?;
        }
        Ok(false)
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

    /// A release, signed by one of these keys where there are any.
    ///
    /// # Errors
    /// If it cannot be read, is for another fleet, or is not signed so.
    pub fn release(&self, id: &Id, keys: &[String]) -> Result<Release, FleetError> {
        let (release, content) = self.read_release(id)?;
        if !keys.is_empty() {
            let at = self.backend.at(Document::Release(id));
            let signature = content.signature.ok_or_else(|| {
                let message = "the release is not signed, as this fleet wants it; push it \
                     again with `--sign SECRET-KEY`";
                FleetError::at(&at, message)
            })?;
            signature::verify(&content.json, &signature, keys)
                .map_err(|error| FleetError::at(at, error))?;
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

    /// A release and all its artifacts, looked at as a whole.
    ///
    /// # Errors
    /// The first thing that is wrong, by name.
    pub fn verify(&self, id: &Id, keys: &[String]) -> Result<Release, FleetError> {
        let release = self.release(id, keys)?;
        for plugin in &release.plugins {
            for artifact in &plugin.artifacts {
                self.copy(id, &plugin.name, artifact, &mut io::sink())?;
            }
        }
        Ok(release)
    }

    /// Copies an artifact to a path, if it is the one that the release names.
    ///
    /// # Errors
    /// If it is missing or another one: nothing is at the path then.
    pub fn fetch(
        &self,
        release: &Id,
        plugin: &str,
        artifact: &Artifact,
        to: &Path,
    ) -> Result<(), FleetError> {
        let beside = beside(to);
        let copied = create_new(&beside).and_then(|mut file| {
            self.copy(release, plugin, artifact, &mut file)?;
            file.sync_all().map_err(|error| FleetError::io(&beside, "write", &error))?;
            fs::rename(&beside, to).map_err(|error| FleetError::io(to, "write", &error))
        });
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
        to: &mut dyn Write,
    ) -> Result<(), FleetError> {
        let at = self.backend.blob_at(&artifact.sha256);
        let of = format!("{plugin} of release {release}");
        let refuse = |why: String| FleetError::new(format!("{of}: {at}: {why}"));
        let (mut hasher, mut size) = (Sha256::new(), 0_u64);
        let mut take = |piece: &[u8]| {
            size += piece.len() as u64;
            hasher.update(piece);
            to.write_all(piece).map_err(|error| refuse(format!("cannot copy it: {error}")))
        };
        let copied = self.backend.copy_blob(&artifact.sha256, artifact.size_bytes, &mut take);
        copied.map_err(|error| error.about(&of))?;
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

    /// What the hosts of a channel report, sorted by name; and the reports that cannot be read.
    ///
    /// # Errors
    /// If none can be read.
    pub fn hosts(&self, channel: &Id) -> Result<(Vec<HostReport>, Vec<FleetError>), FleetError> {
        let (mut hosts, mut unreadable) = (Vec::new(), Vec::new());
        for (name, read) in self.backend.hosts()? {
            let document = Document::Host(&name);
            let read = read
                .and_then(|json| self.parse(document, &json, |host: &HostReport| &host.id, &name));
            match read {
                Ok(host) if host.channel == *channel => hosts.push(host),
                Ok(_) => {}
                Err(error) => unreadable.push(error),
            }
        }
        Ok((hosts, unreadable))
    }

    /// Keeps what a host reports.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn report(&self, host: &HostReport) -> Result<(), FleetError> {
        self.write(Document::Host(&host.id), host)
    }

    /// Forgets a host.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn forget(&self, host: &Id) -> Result<(), FleetError> {
        self.backend.remove(Document::Host(host))
    }

    /// Writes down what was done.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn audit(&self, entry: &AuditEntry) -> Result<(), FleetError> {
        self.backend.audit(&to_json(&"audit", entry)?)
    }

    /// The last things that were done, the oldest first; and how many lines cannot be read.
    ///
    /// # Errors
    /// If none can be read.
    pub fn audited(&self) -> Result<(Vec<AuditEntry>, usize), FleetError> {
        let lines = self.backend.audited()?;
        let entries: Vec<Option<AuditEntry>> =
            lines.iter().map(|line| serde_json::from_slice(line).ok()).collect();
        let unreadable = entries.iter().filter(|entry| entry.is_none()).count();
        Ok((entries.into_iter().flatten().collect(), unreadable))
    }

    fn read_keys(&self) -> Result<Option<(Keys, Content)>, FleetError> {
        let Some(content) = self.backend.read(Document::Keys)? else { return Ok(None) };
        let fleet = &self.fleet.id;
        let keys = self.parse(Document::Keys, &content.json, |keys: &Keys| &keys.fleet, fleet)?;
        Ok(Some((keys, content)))
    }

    /// The keys that may sign releases; `None` while nothing has to be signed.
    ///
    /// # Errors
    /// If they cannot be read, or are those of another fleet.
    pub fn keys(&self) -> Result<Option<Keys>, FleetError> {
        Ok(self.read_keys()?.map(|(keys, _)| keys))
    }

    /// The keys of the fleet for whoever has believed in some already: if they have changed, one of those must
    /// have signed the change.
    ///
    /// # Errors
    /// If they are fewer than none, older, or not signed so.
    pub fn keys_after(&self, known: Option<&Keys>) -> Result<Option<Keys>, FleetError> {
        let (at, found) = (self.backend.at(Document::Keys), self.read_keys()?);
        let Some(known) = known else { return Ok(found.map(|(found, _)| found)) };
        match found {
            Some((found, _)) if found == *known => Ok(Some(found)),
            Some((found, content)) if found.serial > known.serial => {
                let signature = content.signature.unwrap_or_default();
                signature::verify(&content.json, &signature, &known.keys)
                    .map_err(|error| FleetError::at(at, error))?;
                Ok(Some(found))
            }
            _ => Err(FleetError::at(
                at,
                "the keys of the fleet are gone or older than those that were there before; put them back",
            )),
        }
    }

    /// Declares other keys; `secret` is that of a key which is there, if any is.
    ///
    /// # Errors
    /// If that is none of them, somebody else changes them, or they cannot be written.
    pub fn set_keys(
        &self,
        keys: Vec<String>,
        secret: Option<&signature::SecretKey>,
    ) -> Result<Keys, FleetError> {
        let at = self.backend.at(Document::Keys);
        let before = self.read_keys()?;
        let serial = before.as_ref().map_or(0, |(before, _)| before.serial) + 1;
        let new = Keys { fleet: self.fleet.id.clone(), serial, keys };
        let mut content = Content::unsigned(self.to_json(Document::Keys, &new)?);
        if let Some((before, _)) = before.as_ref().filter(|(before, _)| !before.keys.is_empty()) {
            let secret = secret.ok_or_else(|| {
                let message =
                    "a change of keys is signed by one that is there: `--sign SECRET-KEY`";
                FleetError::at(&at, message)
            })?;
            let signature = secret.sign(&content.json)?;
            signature::verify(&content.json, &signature, &before.keys)
                .map_err(|error| FleetError::at(&at, error))?;
            content.signature = Some(signature);
        }
        let read = before.map(|(_, content)| content);
        self.backend.replace(Document::Keys, &|found| Ok(found == read.as_ref()), &content)?;
        Ok(new)
    }
}

fn read_fleet(backend: &dyn Backend) -> Result<Option<Fleet>, FleetError> {
    let at = backend.at(Document::Fleet);
    let Some(content) = backend.read(Document::Fleet)? else { return Ok(None) };
    let fleet: Fleet = parse(&at, &content.json)?;
    if fleet.format != FORMAT {
        let found = fleet.format;
        let message =
            format!("its layout is {found}, and this program knows {FORMAT}; update hotswap");
        return Err(FleetError::at(at, message));
    }
    Ok(Some(fleet))
}
