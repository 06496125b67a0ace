//! What can go wrong.

use std::{fmt, io, path::Path};

/// Why something of a fleet cannot be done. Its text names the file where it is about one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetError {
    message: String,
    is_changed: bool,
}

impl FleetError {
    /// An error with this text.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_changed: false }
    }

    /// An error about a file.
    pub(crate) fn at(path: &Path, message: impl fmt::Display) -> Self {
        Self::new(format!("{}: {message}", path.display()))
    }

    /// A file could not be read or written.
    pub(crate) fn io(path: &Path, what: &str, error: &io::Error) -> Self {
        Self::at(path, format_args!("cannot {what} it: {error}"))
    }

    /// Somebody else wrote it meanwhile.
    pub(crate) fn changed(path: &Path) -> Self {
        Self { is_changed: true, ..Self::at(path, "it was changed meanwhile; try again") }
    }

    /// Whether somebody else wrote the same file meanwhile: whoever tries again sees what was written.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }
}

impl fmt::Display for FleetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FleetError {}
