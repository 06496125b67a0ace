//! The error of this crate.

use std::{fmt, io, path::Path};

use crate::Distrust;

/// An error of an operation on a fleet. Its text names the file, or the stream and key of the server, that it is
/// about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetError {
    message: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Other,
    Changed,
    Unreachable,
    Distrusted(Distrust),
}

impl FleetError {
    /// An error with this text.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: Kind::Other }
    }

    /// An error about a stored document.
    pub(crate) fn at(place: impl fmt::Display, message: impl fmt::Display) -> Self {
        Self::new(format!("{place}: {message}"))
    }

    /// A stored document that is not trusted.
    pub fn distrusted(place: impl fmt::Display, distrust: Distrust) -> Self {
        let error = Self::at(place, &distrust);
        Self { kind: Kind::Distrusted(distrust), ..error }
    }

    /// A file could not be read or written.
    pub(crate) fn io(path: &Path, what: &str, error: &io::Error) -> Self {
        Self::at(path.display(), format_args!("cannot {what} it: {error}"))
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

    /// Whether another writer changed the document in the meantime. If the caller tries again, it sees that
    /// change.
    pub fn is_changed(&self) -> bool {
        self.kind == Kind::Changed
    }

    /// Why a stored document is not trusted, if this is the cause.
    pub fn distrust(&self) -> Option<&Distrust> {
        match &self.kind {
            Kind::Distrusted(distrust) => Some(distrust),
            _ => None,
        }
    }

    /// Whether the server does not answer, or is not connected yet. The state of the fleet is then unknown.
    pub fn is_unreachable(&self) -> bool {
        self.kind == Kind::Unreachable
    }
}

impl fmt::Display for FleetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FleetError {}
