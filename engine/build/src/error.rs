//! The error of this crate's functions.

use std::backtrace::Backtrace;
use std::fmt;

/// Why something could not be found, built, stored or watched.
///
/// The text says which package or file, what was found, and what to do about it.
#[derive(Debug)]
pub struct BuildError {
    kind: BuildErrorKind,
    message: String,
    backtrace: Backtrace,
}

/// What sort of failure a [`BuildError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildErrorKind {
    /// The sources do not compile. The compiler's diagnostics were passed on as
    /// [messages](crate::BuildMessage::Diagnostic).
    Compile,
    /// [`Cancel::cancel`](crate::Cancel::cancel) was called.
    Cancelled,
    /// A package, its manifest, cargo or the machine is not as it has to be.
    Setup,
    /// The library that was built is not an artifact, or could not be stored, read back or
    /// installed.
    Artifact,
}

impl BuildError {
    /// What sort of failure this is.
    pub fn kind(&self) -> BuildErrorKind {
        self.kind
    }

    /// Where in the program the error was created.
    pub fn backtrace(&self) -> &Backtrace {
        &self.backtrace
    }

    pub(crate) fn compile(message: impl Into<String>) -> Self {
        Self::new(BuildErrorKind::Compile, message.into())
    }

    pub(crate) fn cancelled(package: &str) -> Self {
        let message = format!("the build of `{package}` was cancelled");
        Self::new(BuildErrorKind::Cancelled, message)
    }

    pub(crate) fn setup(message: impl Into<String>) -> Self {
        Self::new(BuildErrorKind::Setup, message.into())
    }

    pub(crate) fn artifact(message: impl Into<String>) -> Self {
        Self::new(BuildErrorKind::Artifact, message.into())
    }

    /// A failed build has the time to capture a backtrace. Its names are looked up only when it is
    /// shown.
    fn new(kind: BuildErrorKind, message: String) -> Self {
        Self { kind, message, backtrace: Backtrace::force_capture() }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BuildError {}
