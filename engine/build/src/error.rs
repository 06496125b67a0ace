//! The error of this crate's functions.

use std::backtrace::Backtrace;
use std::error::Error;
use std::fmt;

/// Why something could not be found, built, stored or watched.
///
/// The text names the package or file, says what was found, and what to do about it. If another library or
/// the system refused something, its own error is the [`source`](std::error::Error::source):
///
/// ```no_run
/// use std::{error::Error as _, io, path::Path};
///
/// use hotswap_build::{ArtifactError, Store};
///
/// # fn main() -> Result<(), hotswap_build::BuildError> {
/// let store = Store::open(Path::new("target/hotswap/store"))?;
/// if let Err(error) = store.put(b"no artifact") {
///     let cause = error.source().expect("a refused file has a cause");
///     if let Some(ArtifactError::Toolchain(_)) = cause.downcast_ref() { /* build it again */ }
///     if let Some(_full) = cause.downcast_ref::<io::Error>() { /* make room */ }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct BuildError {
    kind: BuildErrorKind,
    message: String,
    cause: Option<Cause>,
    backtrace: Backtrace,
}

/// An error of another library or the system.
pub(crate) type Cause = Box<dyn Error + Send + Sync>;

/// The kind of failure of a [`BuildError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildErrorKind {
    /// The sources do not compile. The compiler's diagnostics were passed on as
    /// [messages](crate::BuildMessage::Diagnostic).
    Compile,
    /// [`Cancel::cancel`](crate::Cancel::cancel) was called.
    Cancelled,
    /// A package, its manifest, cargo or the machine does not meet a requirement.
    Setup,
    /// The built library is not an artifact, or could not be stored, read back or installed.
    Artifact,
}

impl BuildError {
    /// The kind of this failure.
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

    /// Adds the source of the error. The message contains it already.
    pub(crate) fn because(self, cause: impl Into<Cause>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// A failed build has the time to capture a backtrace. Its names are looked up only if it is shown.
    fn new(kind: BuildErrorKind, message: String) -> Self {
        Self { kind, message, cause: None, backtrace: Backtrace::force_capture() }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let cause = self.cause.as_deref()?;
        Some(cause)
    }
}
