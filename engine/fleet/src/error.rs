//! The error of this crate.

use std::{fmt, io, path::Path};

use crate::{Distrust, Fleet};

/// An error of an operation on a fleet. Its text names the file, or the stream and key of the server, that it is
/// about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetError {
    message: String,
    /// The document or the fleet that it is about.
    place: Option<String>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Other,
    Changed,
    /// The server does not answer.
    #[cfg_attr(not(feature = "nats"), expect(dead_code, reason = "only a server is unreachable"))]
    Unreachable,
    /// The server answers, but it has lost the stream.
    #[cfg_attr(not(feature = "nats"), expect(dead_code, reason = "only a server has streams"))]
    Lost,
    Distrusted(Distrust),
    Io(io::ErrorKind),
    Missing,
    Format,
    TooLarge,
    NotRegular,
    Replaced {
        by: Option<Fleet>,
    },
}

impl FleetError {
    /// An error with this text.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, kind: Kind::Other }
    }

    /// An error about a stored document.
    pub(crate) fn at(place: impl fmt::Display, message: impl fmt::Display) -> Self {
        let error = Self::new(format!("{place}: {message}"));
        Self { place: Some(place.to_string()), ..error }
    }

    /// A stored document that is not trusted.
    pub fn distrusted(place: impl fmt::Display, distrust: Distrust) -> Self {
        let error = Self::at(place, &distrust);
        Self { kind: Kind::Distrusted(distrust), ..error }
    }

    /// A file could not be read or written.
    pub(crate) fn io(path: &Path, what: &str, error: &io::Error) -> Self {
        let kind = Kind::Io(error.kind());
        let advice = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on this disk",
            io::ErrorKind::ReadOnlyFilesystem => "; make this disk writable",
            io::ErrorKind::PermissionDenied => "; this user lacks the permission",
            _ => "",
        };
        let error = Self::at(path.display(), format_args!("cannot {what} it: {error}{advice}"));
        Self { kind, ..error }
    }

    /// There is no such document.
    pub(crate) fn missing(place: impl fmt::Display, message: impl fmt::Display) -> Self {
        Self { kind: Kind::Missing, ..Self::at(place, message) }
    }

    /// A document does not have the expected format.
    pub(crate) fn format(place: impl fmt::Display, error: impl fmt::Display) -> Self {
        let message = format_args!("it does not have the expected format: {error}");
        Self { kind: Kind::Format, ..Self::at(place, message) }
    }

    /// A document has more bytes than a document may have.
    pub(crate) fn too_large(place: impl fmt::Display, largest: usize) -> Self {
        let message = format_args!("it has more than {largest} bytes");
        Self { kind: Kind::TooLarge, ..Self::at(place, message) }
    }

    /// A link, a directory or a special file is in the place of a file.
    pub(crate) fn not_regular(place: impl fmt::Display) -> Self {
        Self {
            kind: Kind::NotRegular,
            ..Self::at(place, "it is not a regular file; put the file itself there")
        }
    }

    /// Another fleet is at the place now, or none.
    pub(crate) fn replaced(place: impl fmt::Display, fleet: &Fleet, by: Option<Fleet>) -> Self {
        let Fleet { id, made_at_ms, .. } = fleet;
        let message = match &by {
            Some(other) => format!(
                "the fleet here is now {}, made at {}, and not {id}, made at {made_at_ms}; restore that fleet, or \
                 restart the agents",
                other.id, other.made_at_ms
            ),
            None => format!(
                "the fleet is gone; restore {id}, made at {made_at_ms}, or make another and restart the agents"
            ),
        };
        Self { kind: Kind::Replaced { by }, ..Self::at(place, message) }
    }

    /// Adds the subject to the error.
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Adds what to do next.
    pub(crate) fn advising(mut self, advice: &str) -> Self {
        self.message = format!("{}; {advice}", self.message);
        self
    }

    /// Another writer changed the document in the meantime.
    pub(crate) fn changed(place: impl fmt::Display) -> Self {
        let error = Self::at(place, "it was changed meanwhile; try again");
        Self { kind: Kind::Changed, ..error }
    }

    /// The server does not answer.
    #[cfg(feature = "nats")]
    pub(crate) fn unreachable(place: impl fmt::Display, message: impl fmt::Display) -> Self {
        Self { kind: Kind::Unreachable, ..Self::at(place, message) }
    }

    /// The server answers, and does not have the stream.
    #[cfg(feature = "nats")]
    pub(crate) fn lost(place: impl fmt::Display, message: impl fmt::Display) -> Self {
        Self { kind: Kind::Lost, ..Self::at(place, message) }
    }

    /// Whether the server does not have the stream.
    #[cfg(feature = "nats")]
    pub(crate) fn is_lost(&self) -> bool {
        self.kind == Kind::Lost
    }

    /// The document or the fleet that it is about; `None` if it is about something else.
    pub fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }

    /// Whether two errors have the same cause, whatever their texts say about it.
    pub fn has_cause_of(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Other, Kind::Other) if self.place.is_none() => self == other,
            (one, other) => one == other,
        }
    }

    /// Whether the fleet itself is gone, or another one has replaced it.
    pub fn is_replaced(&self) -> bool {
        matches!(self.kind, Kind::Replaced { .. })
    }

    /// Whether the fleet itself is gone, with everything in it.
    pub fn is_gone(&self) -> bool {
        self.kind == Kind::Replaced { by: None }
    }

    /// Whether another writer changed the document in the meantime. If the caller tries again, it sees that
    /// change.
    pub fn is_changed(&self) -> bool {
        self.kind == Kind::Changed
    }

    /// Whether what was to be read does not exist.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.kind, Kind::Missing | Kind::Io(io::ErrorKind::NotFound))
    }

    /// Why a stored document is not trusted, if this is the cause.
    pub fn distrust(&self) -> Option<&Distrust> {
        match &self.kind {
            Kind::Distrusted(distrust) => Some(distrust),
            _ => None,
        }
    }

    /// Whether the server does not answer, is not connected yet, or has lost what it had. The state of the fleet is then
    /// unknown.
    pub fn is_unreachable(&self) -> bool {
        matches!(self.kind, Kind::Unreachable | Kind::Lost)
    }
}

impl fmt::Display for FleetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FleetError {}
