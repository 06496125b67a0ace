//! What can go wrong.

use std::{fmt, io, path::Path};

use crate::Distrust;

/// Why something of a fleet cannot be done. Its text names the file, or what the server has, where it is about
/// one.
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

    /// An error about something that is kept at a place.
    pub(crate) fn at(place: impl fmt::Display, message: impl fmt::Display) -> Self {
        Self::new(format!("{place}: {message}"))
    }

    /// What is kept at a place is not believed.
    pub fn distrusted(place: impl fmt::Display, distrust: Distrust) -> Self {
        let error = Self::at(place, &distrust);
        Self { kind: Kind::Distrusted(distrust), ..error }
    }

    /// A file could not be read or written.
    pub(crate) fn io(path: &Path, what: &str, error: &io::Error) -> Self {
        Self::at(path.display(), format_args!("cannot {what} it: {error}"))
    }

    /// The same, with what it is about.
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The same, with what to do.
    pub(crate) fn advising(mut self, advice: &str) -> Self {
        self.message = format!("{}; {advice}", self.message);
        self
    }

    /// Somebody else wrote it meanwhile.
    pub(crate) fn changed(place: impl fmt::Display) -> Self {
        let error = Self::at(place, "it was changed meanwhile; try again");
        Self { kind: Kind::Changed, ..error }
    }

    /// The server does not answer.
    #[cfg(feature = "nats")]
    pub(crate) fn unreachable(place: impl fmt::Display, message: impl fmt::Display) -> Self {
        Self { kind: Kind::Unreachable, ..Self::at(place, message) }
    }

    /// Whether somebody else wrote the same document meanwhile: whoever tries again sees what was written.
    pub fn is_changed(&self) -> bool {
        self.kind == Kind::Changed
    }

    /// Why what is kept is not believed, where that is what is wrong.
    pub fn distrust(&self) -> Option<&Distrust> {
        match &self.kind {
            Kind::Distrusted(distrust) => Some(distrust),
            _ => None,
        }
    }

    /// Whether the server does not answer, or not yet: nothing is known of what it has.
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
