//! A fleet in a directory.
//!
//! | file | what | written |
//! |---|---|---|
//! | `fleet.json` | what fleet it is | once |
//! | `keys.json`, `keys.json.minisig` | who may sign releases | under a lock |
//! | `blobs/SHA256.so` | artifacts | once |
//! | `releases/ID.json`, `releases/ID.json.minisig` | releases | once |
//! | `channels/C.json`, `rollouts/C.json` | what is declared, and the rollout | under the lock `channels/C.lock`, if they are what was read |
//! | `hosts/ID.json` | what a host reports | by its agent |
//! | `audit.jsonl` | what was done | appended to |
//!
//! Each file is written beside its place and renamed, so nobody reads half of one. Nothing that is read is
//! believed: its size is bounded, it is a regular file and no link, and it says the name that it has.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use crate::{
    Artifact, AuditEntry, Channel, Digest, Fleet, FleetError, HostReport, Id, Keys, Release,
    Rollout, signature,
};

/// The largest document.
const LARGEST_DOCUMENT: u64 = 1 << 20;
/// How much of the audit is read, from its end.
const READ_OF_AUDIT: u64 = 1 << 20;
/// The layout that this program reads and writes.
const FORMAT: u32 = 1;

/// A fleet in a directory.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
    fleet: Fleet,
}

/// The lock of a channel: who has it alone writes the channel and its rollout.
#[derive(Debug)]
pub struct Locked<'a> {
    directory: &'a Directory,
    channel: Id,
    _lock: File,
}

impl Directory {
    /// Makes a fleet, with a channel.
    ///
    /// # Errors
    /// If there is one already, or it cannot be written.
    pub fn create(root: &Path, fleet: &Id, channel: &Id, now_ms: u64) -> Result<Self, FleetError> {
        for dir in ["blobs", "releases", "channels", "rollouts", "hosts"] {
            let dir = root.join(dir);
            let mut builder = fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(&dir);
            made.map_err(|error| FleetError::io(&dir, "make", &error))?;
        }
        let fleet = Fleet { format: FORMAT, id: fleet.clone(), made_at_ms: now_ms };
        let path = root.join("fleet.json");
        if !create_only(&path, &to_json(&fleet)?)? {
            return Err(FleetError::at(&path, "there is a fleet already; name another directory"));
        }
        let directory = Self { root: root.to_owned(), fleet };
        let declared = Channel::new(channel.clone(), now_ms);
        write_document(&directory.channel_path(channel), &declared)?;
        Ok(directory)
    }

    /// The fleet in a directory.
    ///
    /// # Errors
    /// If there is none, or one of another layout.
    pub fn open(root: &Path) -> Result<Self, FleetError> {
        let path = root.join("fleet.json");
        if !path.exists() {
            let advice = "there is no fleet; `hotswap fleet init` makes one, and `--fleet DIR` names another";
            return Err(FleetError::at(root, advice));
        }
        let fleet: Fleet = read_document(&path)?;
        if fleet.format != FORMAT {
            let found = fleet.format;
            let message =
                format!("its layout is {found}, and this program knows {FORMAT}; update hotswap");
            return Err(FleetError::at(&path, message));
        }
        Ok(Self { root: root.to_owned(), fleet })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What fleet it is.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    fn channel_path(&self, channel: &Id) -> PathBuf {
        self.root.join("channels").join(format!("{channel}.json"))
    }

    fn rollout_path(&self, channel: &Id) -> PathBuf {
        self.root.join("rollouts").join(format!("{channel}.json"))
    }

    fn release_path(&self, release: &Id) -> PathBuf {
        self.root.join("releases").join(format!("{release}.json"))
    }

    /// Where an artifact is.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(format!("{digest}.so"))
    }

    /// What a channel declares.
    ///
    /// # Errors
    /// If there is no such channel, or it cannot be read.
    pub fn channel(&self, name: &Id) -> Result<Channel, FleetError> {
        let path = self.channel_path(name);
        if !path.exists() {
            return Err(FleetError::at(&path, "there is no such channel in the fleet"));
        }
        let channel: Channel = read_document(&path)?;
        expect_name(&path, &channel.name, name)?;
        Ok(channel)
    }

    /// The last rollout of a channel; `None` if it had none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn rollout(&self, channel: &Id) -> Result<Option<Rollout>, FleetError> {
        let path = self.rollout_path(channel);
        if !path.exists() {
            return Ok(None);
        }
        let rollout: Rollout = read_document(&path)?;
        expect_name(&path, &rollout.channel, channel)?;
        Ok(Some(rollout))
    }

    /// Waits until nobody else writes the channel.
    ///
    /// # Errors
    /// If the lock cannot be opened.
    pub fn lock(&self, channel: &Id) -> Result<Locked<'_>, FleetError> {
        let lock = lock_file(&self.root.join("channels").join(format!("{channel}.lock")))?;
        Ok(Locked { directory: self, channel: channel.clone(), _lock: lock })
    }

    /// Keeps an artifact.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn push_blob(&self, bytes: &[u8]) -> Result<Digest, FleetError> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(&digest);
        // What lies there may have been altered.
        let is_there = fs::read(&path).is_ok_and(|found| found == bytes);
        if !is_there {
            atomic_write(&path, bytes)?;
        }
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
        let (path, json) = (self.release_path(&release.id), to_json(release)?);
        if json.len() as u64 > LARGEST_DOCUMENT {
            return Err(FleetError::new(format!("release {}: it is too large", release.id)));
        }
        if path.exists() {
            let kept = self.read_release(&release.id)?.0;
            let same =
                Release { pushed_at_ms: kept.pushed_at_ms, by: kept.by.clone(), ..release.clone() };
            if same != kept {
                return Err(FleetError::at(
                    &path,
                    "another release of this name is there; choose another",
                ));
            }
            if let Some(secret) = secret {
                let json = read_bounded(&path, LARGEST_DOCUMENT)?;
                atomic_write(&signature_path(&path), secret.sign(&json)?.as_bytes())?;
            }
            return Ok(false);
        }
        // Whoever sees the release sees its signature too.
        if let Some(secret) = secret {
            atomic_write(&signature_path(&path), secret.sign(&json)?.as_bytes())?;
        }
        if !create_only(&path, &json)? {
            return Err(FleetError::changed(&path));
        }
        Ok(true)
    }

    fn read_release(&self, id: &Id) -> Result<(Release, Vec<u8>), FleetError> {
        let path = self.release_path(id);
        if !path.exists() {
            return Err(FleetError::new(format!(
                "there is no release {id} in {}; `hotswap fleet releases` lists those that are there",
                self.root.display()
            )));
        }
        let json = read_bounded(&path, LARGEST_DOCUMENT)?;
        let release: Release = parse(&path, &json)?;
        expect_name(&path, &release.id, id)?;
        if release.fleet != self.fleet.id {
            let (found, expected) = (&release.fleet, &self.fleet.id);
            let message = format!("it is for the fleet {found}, and this is the fleet {expected}");
            return Err(FleetError::at(&path, message));
        }
        release.check().map_err(|error| FleetError::at(&path, error))?;
        Ok((release, json))
    }

    /// A release, signed by one of these keys where there are any.
    ///
    /// # Errors
    /// If it cannot be read, is for another fleet, or is not signed so.
    pub fn release(&self, id: &Id, keys: &[String]) -> Result<Release, FleetError> {
        let (release, json) = self.read_release(id)?;
        if !keys.is_empty() {
            let path = signature_path(&self.release_path(id));
            if !path.exists() {
                return Err(FleetError::at(
                    &path,
                    "the release is not signed, as this fleet wants it; push it \
                    again with `--sign SECRET-KEY`",
                ));
            }
            let signature = read_bounded(&path, LARGEST_DOCUMENT)?;
            signature::verify(&json, &String::from_utf8_lossy(&signature), keys)
                .map_err(|error| FleetError::at(&path, error))?;
        }
        Ok(release)
    }

    /// The names of all releases.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn releases(&self) -> Result<Vec<Id>, FleetError> {
        names(&self.root.join("releases"))
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
        let path = self.blob_path(&artifact.sha256);
        let refuse = |why: String| {
            FleetError::new(format!("{plugin} of release {release}: {}: {why}", path.display()))
        };
        let file = open_regular(&path).map_err(|error| refuse(error.to_string()))?;
        let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0_u64, vec![0; 1 << 16]);
        let mut reader = file.take(artifact.size_bytes.saturating_add(1));
        loop {
            let read = reader
                .read(&mut buffer)
                .map_err(|error| refuse(format!("cannot read it: {error}")))?;
            if read == 0 {
                break;
            }
            size += read as u64;
            hasher.update(&buffer[..read]);
            to.write_all(&buffer[..read])
                .map_err(|error| refuse(format!("cannot copy it: {error}")))?;
        }
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
    /// If the directory cannot be read.
    pub fn hosts(&self, channel: &Id) -> Result<(Vec<HostReport>, Vec<FleetError>), FleetError> {
        let dir = self.root.join("hosts");
        let (mut hosts, mut unreadable) = (Vec::new(), Vec::new());
        for name in names(&dir)? {
            let path = dir.join(format!("{name}.json"));
            let read = read_document::<HostReport>(&path)
                .and_then(|host| expect_name(&path, &host.id, &name).map(|()| host));
            match read {
                Ok(host) if host.channel == *channel => hosts.push(host),
                Ok(_) => {}
                // It was removed meanwhile.
                Err(_) if !path.exists() => {}
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
        write_document(&self.root.join("hosts").join(format!("{}.json", host.id)), host)
    }

    /// Forgets a host.
    pub fn forget(&self, host: &Id) {
        // It comes to the same where it is gone already, and shows where it is not.
        let _ = fs::remove_file(self.root.join("hosts").join(format!("{host}.json")));
    }

    /// Writes down what was done.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn audit(&self, entry: &AuditEntry) -> Result<(), FleetError> {
        let path = self.root.join("audit.jsonl");
        let mut line = to_json(entry)?;
        line.push(b'\n');
        let mut options = OpenOptions::new();
        options
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(&path);
        // One write, so that lines of several writers do not mix.
        file.and_then(|mut file| file.write_all(&line))
            .map_err(|error| FleetError::io(&path, "write", &error))
    }

    /// The last things that were done, the oldest first; and how many lines cannot be read.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn audited(&self) -> Result<(Vec<AuditEntry>, usize), FleetError> {
        let path = self.root.join("audit.jsonl");
        let wrong = |error: io::Error| FleetError::io(&path, "read", &error);
        if !path.exists() {
            return Ok((Vec::new(), 0));
        }
        let mut file = open_regular(&path)?;
        let length = file.metadata().map_err(wrong)?.len();
        let from = length.saturating_sub(READ_OF_AUDIT);
        file.seek(SeekFrom::Start(from)).map_err(wrong)?;
        let mut bytes = Vec::new();
        file.take(READ_OF_AUDIT).read_to_end(&mut bytes).map_err(wrong)?;
        let text = String::from_utf8_lossy(&bytes);
        // Of what is cut off at its beginning, the first line is a part.
        let lines = text.lines().skip(usize::from(from > 0)).filter(|line| !line.is_empty());
        let entries: Vec<Option<AuditEntry>> =
            lines.map(|line| serde_json::from_str(line).ok()).collect();
        let unreadable = entries.iter().filter(|entry| entry.is_none()).count();
        Ok((entries.into_iter().flatten().collect(), unreadable))
    }

    /// The keys that may sign releases, and what proves a change of them; `None` while nothing has to be signed.
    ///
    /// # Errors
    /// If they cannot be read, or are those of another fleet.
    pub fn keys(&self) -> Result<Option<Keys>, FleetError> {
        let path = self.root.join("keys.json");
        if !path.exists() {
            return Ok(None);
        }
        let keys: Keys = read_document(&path)?;
        expect_name(&path, &keys.fleet, &self.fleet.id)?;
        Ok(Some(keys))
    }

    /// The keys of the fleet for whoever has believed in some already: if they have changed, one of those must
    /// have signed the change.
    ///
    /// # Errors
    /// If they are fewer than none, older, or not signed so.
    pub fn keys_after(&self, known: Option<&Keys>) -> Result<Option<Keys>, FleetError> {
        let (path, found) = (self.root.join("keys.json"), self.keys()?);
        let Some(known) = known else { return Ok(found) };
        match found {
            Some(found) if found == *known => Ok(Some(found)),
            Some(found) if found.serial > known.serial => {
                let signed = signature_path(&path);
                let signature = read_bounded(&signed, LARGEST_DOCUMENT)?;
                let bytes = read_bounded(&path, LARGEST_DOCUMENT)?;
                signature::verify(&bytes, &String::from_utf8_lossy(&signature), &known.keys)
                    .map_err(|error| FleetError::at(&signed, error))?;
                Ok(Some(found))
            }
            _ => Err(FleetError::at(
                &path,
                "the keys of the fleet are gone or older than those that were there before; put them back",
            )),
        }
    }

    /// Declares other keys; `secret` is that of a key which is there, if any is.
    ///
    /// # Errors
    /// If that is none of them, or the file cannot be written.
    pub fn set_keys(
        &self,
        keys: Vec<String>,
        secret: Option<&signature::SecretKey>,
    ) -> Result<Keys, FleetError> {
        let path = self.root.join("keys.json");
        let _lock = lock_file(&self.root.join("keys.lock"))?;
        let before = self.keys()?;
        let serial = before.as_ref().map_or(0, |before| before.serial) + 1;
        let new = Keys { fleet: self.fleet.id.clone(), serial, keys };
        let json = to_json(&new)?;
        if let Some(before) = before.filter(|before| !before.keys.is_empty()) {
            let secret = secret.ok_or_else(|| {
                FleetError::at(
                    &path,
                    "a change of keys is signed by one that is there: `--sign SECRET-KEY`",
                )
            })?;
            let signature = secret.sign(&json)?;
            signature::verify(&json, &signature, &before.keys)
                .map_err(|error| FleetError::at(&path, error))?;
            atomic_write(&signature_path(&path), signature.as_bytes())?;
        }
        atomic_write(&path, &json)?;
        Ok(new)
    }
}

impl Locked<'_> {
    /// Writes the channel, if it is what was read.
    ///
    /// # Errors
    /// If somebody else wrote it meanwhile, or it cannot be written.
    pub fn write_channel(&self, read: &Channel, new: &Channel) -> Result<(), FleetError> {
        let path = self.directory.channel_path(&self.channel);
        if self.directory.channel(&self.channel)? != *read {
            return Err(FleetError::changed(&path));
        }
        write_document(&path, new)
    }

    /// Writes the rollout, if it is what was read.
    ///
    /// # Errors
    /// If somebody else wrote it meanwhile, or it cannot be written.
    pub fn write_rollout(&self, read: Option<&Rollout>, new: &Rollout) -> Result<(), FleetError> {
        let path = self.directory.rollout_path(&self.channel);
        if self.directory.rollout(&self.channel)?.as_ref() != read {
            return Err(FleetError::changed(&path));
        }
        write_document(&path, new)
    }
}

fn signature_path(path: &Path) -> PathBuf {
    path.with_extension("json.minisig")
}

fn expect_name(path: &Path, found: &Id, expected: &Id) -> Result<(), FleetError> {
    if found == expected {
        return Ok(());
    }
    Err(FleetError::at(path, format_args!("it says that it is {found}, and not {expected}")))
}

/// The names of the documents in a directory, sorted.
fn names(dir: &Path) -> Result<Vec<Id>, FleetError> {
    let wrong = |error: io::Error| FleetError::io(dir, "read", &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(wrong)? {
        let name = entry.map_err(wrong)?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
        names.extend(name.and_then(|name| name.parse::<Id>().ok()));
    }
    names.sort();
    Ok(names)
}

fn lock_file(path: &Path) -> Result<File, FleetError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let lock = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    lock.and_then(|lock| lock.lock().map(|()| lock))
        .map_err(|error| FleetError::io(path, "lock", &error))
}

fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>, FleetError> {
    serde_json::to_vec(value)
        .map_err(|error| FleetError::new(format!("cannot be written as JSON: {error}")))
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, FleetError> {
    serde_json::from_slice(bytes)
        .map_err(|error| FleetError::at(path, format_args!("it is not what it should be: {error}")))
}

/// Opens a file that is one, and neither a link nor anything that could be waited for.
fn open_regular(path: &Path) -> Result<File, FleetError> {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = file.map_err(|error| FleetError::io(path, "open", &error))?;
    let metadata = file.metadata().map_err(|error| FleetError::io(path, "read", &error))?;
    if !metadata.is_file() {
        return Err(FleetError::at(path, "it is not a regular file"));
    }
    Ok(file)
}

pub(crate) fn read_bounded(path: &Path, largest: u64) -> Result<Vec<u8>, FleetError> {
    let mut bytes = Vec::new();
    let read = open_regular(path)?.take(largest + 1).read_to_end(&mut bytes);
    read.map_err(|error| FleetError::io(path, "read", &error))?;
    if bytes.len() as u64 > largest {
        return Err(FleetError::at(path, format_args!("it has more than {largest} bytes")));
    }
    Ok(bytes)
}

/// Reads a document of at most 1 MiB.
///
/// # Errors
/// If it is no regular file, is larger, or is not what it should be: the error names the file.
pub fn read_document<T: DeserializeOwned>(path: &Path) -> Result<T, FleetError> {
    parse(path, &read_bounded(path, LARGEST_DOCUMENT)?)
}

/// Writes a document as a whole.
///
/// # Errors
/// If it cannot be written, or nobody could read it for its size.
pub fn write_document<T: Serialize>(path: &Path, value: &T) -> Result<(), FleetError> {
    let json = to_json(value)?;
    if json.len() as u64 > LARGEST_DOCUMENT {
        return Err(FleetError::at(
            path,
            format_args!("it would have more than {LARGEST_DOCUMENT} bytes"),
        ));
    }
    atomic_write(path, &json)
}

/// A path beside another one, for a file in the making.
fn beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.{next}", std::process::id()))
}

fn create_new(path: &Path) -> Result<File, FleetError> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| FleetError::io(path, "make", &error))
}

fn write_beside(path: &Path, bytes: &[u8]) -> Result<PathBuf, FleetError> {
    let beside = beside(path);
    let mut file = create_new(&beside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|error| {
        let _ = fs::remove_file(&beside);
        FleetError::io(path, "write", &error)
    })?;
    Ok(beside)
}

/// Writes a file as a whole: whoever reads it sees what was there before, or this.
///
/// # Errors
/// If it cannot be written.
pub fn atomic_write(path: &Path, bytes: &[u8]) -> Result<(), FleetError> {
    let beside = write_beside(path, bytes)?;
    fs::rename(&beside, path).map_err(|error| {
        let _ = fs::remove_file(&beside);
        FleetError::io(path, "write", &error)
    })
}

/// Writes a file as a whole; whether it was not there.
fn create_only(path: &Path, bytes: &[u8]) -> Result<bool, FleetError> {
    let beside = write_beside(path, bytes)?;
    let linked = fs::hard_link(&beside, path);
    let _ = fs::remove_file(&beside);
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(FleetError::io(path, "write", &error)),
    }
}
