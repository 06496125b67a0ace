//! What a place has to do in which a fleet is kept. What the documents say is none of its business, and nothing
//! that it gives is believed: [`Store`](crate::Store) looks at all of it.

use std::{
    any::Any,
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
    /// What fleet it is.
    Fleet,
    /// Who may sign.
    Keys,
    /// Who might, before a change of the keys: those of a serial number.
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

/// What is kept of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    /// JSON on one line.
    pub json: Vec<u8>,
    /// Signatures of the JSON.
    pub signature: Option<String>,
}

impl Content {
    /// Without a signature.
    pub fn unsigned(json: Vec<u8>) -> Self {
        Self { json, signature: None }
    }

    /// Both as one: signatures follow the JSON, which is on one line, on lines of their own.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.json.clone();
        if let Some(signature) = &self.signature {
            bytes.push(b'\n');
            bytes.extend_from_slice(signature.as_bytes());
        }
        bytes
    }

    /// What was made so.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
        let json = parts.next().unwrap_or_default().to_vec();
        let signature = parts.next().map(|rest| String::from_utf8_lossy(rest).into_owned());
        Self { json, signature }
    }
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The channel declares this.
    Declared(Declaration),
    /// Others may sign.
    Keys,
    /// The server is there again, and may have lost anything.
    Connected,
}

/// The state of files, by which a change is noticed without reading them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance(pub(crate) Vec<Option<FileStamp>>);

/// The state of a file. A file that is replaced is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileStamp {
    pub device: u64,
    pub inode: u64,
    pub size_bytes: u64,
    /// When it was changed last: seconds and nanoseconds.
    pub changed_at: (i64, i64),
}

/// What a server has told of a channel: [`Store::told`](crate::Store::told) finds out what it is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration(pub(crate) Content);

/// Where what is written under a condition is read again for it.
pub(crate) type IsAsRead<'a> = &'a dyn Fn(Option<&Content>) -> Result<bool, FleetError>;
/// What a host reports.
pub(crate) struct Report {
    pub host: Id,
    /// Where it can be read.
    pub json: Result<Vec<u8>, FleetError>,
    /// When it was kept, by the clock of whoever keeps it; `None` where that is this machine's.
    pub kept_at_ms: Option<u64>,
}

/// The time where a fleet is kept: what several machines write is compared by no other clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// In milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Whether reports may have been lost so short a while ago that hosts have not told them anew.
    pub may_have_lost: bool,
}
/// Who is told what has changed.
pub type ToldChange = Box<dyn Fn(Change) + Send + Sync>;

/// Consoles of other machines may attach to a host for as long as this is kept.
pub type Attachable = Box<dyn Any + Send>;

/// Where a fleet is kept.
pub(crate) trait Backend: Debug + Send + Sync {
    /// Where it is, for people.
    fn place(&self) -> String;

    /// Where a document is, for people.
    fn at(&self, document: Document<'_>) -> String;

    /// Where an artifact is, for people.
    fn blob_at(&self, digest: &Digest) -> String;

    /// Makes what documents need to be kept, unless it is there; and from now on again whenever the place may have
    /// lost it.
    fn prepare(&self) -> Result<(), FleetError>;

    /// A document; `None` if there is none.
    fn read(&self, document: Document<'_>) -> Result<Option<Content>, FleetError>;

    /// Writes a document that is not there yet; whether it was not. Nobody sees a half of it.
    fn create(&self, document: Document<'_>, new: &Content) -> Result<bool, FleetError>;

    /// Writes a document if what is there is as it was read.
    fn replace(
        &self,
        document: Document<'_>,
        is_as_read: IsAsRead<'_>,
        new: &Content,
    ) -> Result<(), FleetError>;

    /// Writes a document whatever is there.
    fn write(&self, document: Document<'_>, json: &[u8]) -> Result<(), FleetError>;

    /// Removes a document, where it is there.
    fn remove(&self, document: Document<'_>) -> Result<(), FleetError>;

    /// The names of all releases.
    fn releases(&self) -> Result<Vec<Id>, FleetError>;

    /// What all hosts report, and which reports cannot be read.
    fn hosts(&self) -> Result<Vec<Report>, FleetError>;

    /// What time it is there.
    fn clock(&self) -> Result<Clock, FleetError> {
        Ok(Clock { now_ms: now_ms(), may_have_lost: false })
    }

    /// Keeps an artifact.
    fn push_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), FleetError>;

    /// Gives what there is of an artifact of this size, piece by piece; what is more may be left out, but for its
    /// first byte.
    fn copy_blob(
        &self,
        digest: &Digest,
        size_bytes: u64,
        to: &mut dyn FnMut(&[u8]) -> Result<(), FleetError>,
    ) -> Result<(), FleetError>;

    /// Appends a line to the audit.
    fn audit(&self, line: &[u8]) -> Result<(), FleetError>;

    /// The last lines of the audit.
    fn audited(&self) -> Result<Vec<Vec<u8>>, FleetError>;

    /// Tells whatever changes of a channel from now on. `false` where nobody tells, and whoever wants to know has
    /// to look.
    fn watch(&self, _channel: &Id, _told: ToldChange) -> Result<bool, FleetError> {
        Ok(false)
    }

    /// The state of the files of documents; `None` where they are not files of this machine.
    fn glance(&self, _documents: &[Document<'_>]) -> Option<Glance> {
        None
    }

    /// Lets consoles of other machines attach to the host at a socket of this one; `None` where there are none.
    fn let_attach(&self, _host: &Id, _socket: PathBuf) -> Option<Attachable> {
        None
    }

    /// Connects a stream to the console of a host of another machine.
    fn attach(&self, _host: &Id, _stream: UnixStream) -> Result<(), FleetError> {
        Err(FleetError::at(self.place(), "all its hosts are on this machine"))
    }

    /// Whether hosts of many machines report there. What nobody reports anew is then forgotten after a while.
    fn is_of_many_machines(&self) -> bool {
        false
    }
}

/// A document as it is kept.
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

/// What a document says.
pub(crate) fn parse<T: DeserializeOwned>(
    place: &dyn Display,
    json: &[u8],
) -> Result<T, FleetError> {
    serde_json::from_slice(json).map_err(|error| {
        FleetError::at(place, format_args!("it is not what it should be: {error}"))
    })
}
