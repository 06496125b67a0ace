//! The operations of a place that keeps a fleet: a directory or a server. A backend does not interpret documents,
//! and [`Store`](crate::Store) checks everything that a backend returns.

use std::{
    any::Any,
    collections::BTreeSet,
    fmt::{Debug, Display},
    os::unix::net::UnixStream,
    path::PathBuf,
};

use hotswap_protocol::clock::now_ms;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Digest, FleetError, Id};

/// The largest document in bytes.
pub(crate) const LARGEST_DOCUMENT: usize = 1 << 20;

/// A document of a fleet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Document<'a> {
    /// The identity of the fleet.
    Fleet,
    /// The keys that may sign.
    Keys,
    /// The keys with this serial number, which later keys have replaced.
    EarlierKeys(u64),
    /// A release.
    Release(&'a Id),
    /// What a channel declares.
    Channel(&'a Id),
    /// The rollout of a channel.
    Rollout(&'a Id),
    /// What a host reports.
    Host(&'a Id),
}

/// The stored form of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    /// JSON on one line.
    pub json: Vec<u8>,
    /// Signatures of the JSON.
    pub signature: Option<String>,
}

impl Content {
    /// Content without a signature.
    pub fn unsigned(json: Vec<u8>) -> Self {
        Self { json, signature: None }
    }

    /// The stored bytes: the JSON on the first line, and signatures on the lines after it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.json.clone();
        if let Some(signature) = &self.signature {
            bytes.push(b'\n');
            bytes.extend_from_slice(signature.as_bytes());
        }
        bytes
    }

    /// Splits what [`to_bytes`](Self::to_bytes) wrote.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
        let json = parts.next().unwrap_or_default().to_vec();
        let signature = parts.next().map(|rest| String::from_utf8_lossy(rest).into_owned());
        Self { json, signature }
    }
}

/// A change that a backend announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The channel declares this.
    Declared(Declaration),
    /// The keys of the fleet have changed.
    Keys,
    /// The connection to the server is back; the server may have lost any document.
    Connected,
}

/// The state of some files. A change of a file changes it, so the files need not be read to notice one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance(pub(crate) Vec<Option<FileStamp>>);

/// The state of a file. Replacing a file changes its inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileStamp {
    pub device: u64,
    pub inode: u64,
    pub size_bytes: u64,
    /// When the file was changed last: seconds and nanoseconds.
    pub changed_at: (i64, i64),
}

/// A declaration of a channel that a server announced. It is not verified yet: see
/// [`Store::verify_announced`](crate::Store::verify_announced).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration(pub(crate) Content);

/// Compares stored content with what the writer read. A backend calls it again each time it tries a conditional
/// write.
pub(crate) type IsAsRead<'a> = &'a dyn Fn(Option<&Content>) -> Result<bool, FleetError>;

/// Recognises a line of the audit log.
pub(crate) type IsIt<'a> = &'a dyn Fn(&[u8]) -> bool;

/// A stored report of a host.
pub(crate) struct Report {
    pub host: Id,
    /// The report as JSON, or why it cannot be read.
    pub json: Result<Vec<u8>, FleetError>,
    /// When the report was stored, by the clock of the server; `None` if the reports are on this machine.
    pub kept_at_ms: Option<u64>,
}

/// The clock of the place that keeps the fleet. Times that several machines write are compared by this clock only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// The time in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Whether the server may have lost reports so recently that hosts have not sent them again yet.
    pub may_have_lost: bool,
}
/// A callback for changes.
pub type OnChange = Box<dyn Fn(Change) + Send + Sync>;

/// While this value is kept, consoles of other machines can attach to a host.
pub type Attachable = Box<dyn Any + Send>;

/// A place that keeps a fleet.
pub(crate) trait Backend: Debug + Send + Sync {
    /// The name of the place, for messages.
    fn place(&self) -> String;

    /// The name of a document's place, for messages.
    fn at(&self, document: Document<'_>) -> String;

    /// The name of an artifact's place, for messages.
    fn blob_at(&self, digest: &Digest) -> String;

    /// Creates the containers of documents (directories or streams) where they are missing. From then on it
    /// creates them again whenever the place may have lost them.
    fn prepare(&self) -> Result<(), FleetError>;

    /// Reads a document; `None` if there is none.
    fn read(&self, document: Document<'_>) -> Result<Option<Content>, FleetError>;

    /// Writes a document if it does not exist, and returns whether it did so. No reader sees a partial document.
    fn create(&self, document: Document<'_>, new: &Content) -> Result<bool, FleetError>;

    /// Writes a document if its stored content is still the content that the caller read.
    fn replace(
        &self,
        document: Document<'_>,
        is_as_read: IsAsRead<'_>,
        new: &Content,
    ) -> Result<(), FleetError>;

    /// Writes a document, whether or not it exists.
    fn write(&self, document: Document<'_>, json: &[u8]) -> Result<(), FleetError>;

    /// Removes a document if it exists.
    fn remove(&self, document: Document<'_>) -> Result<(), FleetError>;

    /// The names of all releases.
    fn releases(&self) -> Result<Vec<Id>, FleetError>;

    /// The reports of all hosts. A report that cannot be read has its error instead.
    fn hosts(&self) -> Result<Vec<Report>, FleetError>;

    /// The clock of the place.
    fn clock(&self) -> Result<Clock, FleetError> {
        Ok(Clock { now_ms: now_ms(), may_have_lost: false })
    }

    /// Stores an artifact.
    fn push_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), FleetError>;

    /// Passes on the bytes of an artifact, in pieces. If the stored file is larger than the expected size, it may
    /// stop one byte after that size.
    fn copy_blob(
        &self,
        digest: &Digest,
        size_bytes: u64,
        to: &mut dyn FnMut(&[u8]) -> Result<(), FleetError>,
    ) -> Result<(), FleetError>;

    /// Appends a line to the audit log, unless the log has it. `is_it` recognises the line. If several programs append
    /// the same line, the log has it once.
    fn audit(&self, line: &[u8], since_ms: u64, is_it: IsIt<'_>) -> Result<(), FleetError>;

    /// The last lines of the audit log.
    fn audited(&self) -> Result<Vec<Vec<u8>>, FleetError>;

    /// Calls `on_change` for each later change of a channel. Returns `false` if the place announces no
    /// changes, so the caller has to poll.
    fn watch(&self, _channel: &Id, _on_change: OnChange) -> Result<bool, FleetError> {
        Ok(false)
    }

    /// The state of the files of documents; `None` if they are not files of this machine.
    fn glance(&self, _documents: &[Document<'_>]) -> Option<Glance> {
        None
    }

    /// The directories of these files.
    fn directories(&self, _documents: &[Document<'_>]) -> BTreeSet<PathBuf> {
        BTreeSet::new()
    }

    /// Lets consoles of other machines attach to the host that listens at a socket of this machine; `None` if the
    /// fleet has no other machines.
    fn allow_attach(&self, _host: &Id, _socket: PathBuf) -> Option<Attachable> {
        None
    }

    /// Connects a stream to the console of a host of another machine.
    fn attach(&self, _host: &Id, _stream: UnixStream) -> Result<(), FleetError> {
        Err(FleetError::at(self.place(), "all its hosts are on this machine"))
    }

    /// Whether hosts of many machines report to this place. If so, a report expires unless it is sent again.
    fn is_of_many_machines(&self) -> bool {
        false
    }
}

/// Serializes a document for storage.
pub(crate) fn to_json<T: Serialize>(place: &dyn Display, value: &T) -> Result<Vec<u8>, FleetError> {
    let json = serde_json::to_vec(value);
    let json = json.map_err(|error| {
        FleetError::at(place, format_args!("it cannot be written as JSON: {error}"))
    })?;
    if json.len() > LARGEST_DOCUMENT {
        let message = format_args!("it would have more than {LARGEST_DOCUMENT} bytes");
        return Err(FleetError::at(place, message));
    }
    Ok(json)
}

/// Parses the JSON of a document.
pub(crate) fn parse<T: DeserializeOwned>(
    place: &dyn Display,
    json: &[u8],
) -> Result<T, FleetError> {
    serde_json::from_slice(json).map_err(|error| FleetError::format(place, error))
}
