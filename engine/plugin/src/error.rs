//! Errors as owned text. A type of one image is unknown in another; a text is not.

use std::{borrow::Cow, fmt};

use crate::hint::explained;

/// A result whose error can cross between images: the default error type is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How many causes of an error of std are kept. An error can be a cause of itself, and so have infinitely many.
const MAX_CAUSES: usize = 100;

/// An error as owned text: a message, and the messages of its causes.
///
/// `?` converts every [`std::error::Error`] to an `Error`. Like `anyhow::Error`, it does not implement
/// that trait itself, since the conversion would then conflict with that of std.
///
/// ```
/// use hotswap_plugin::{Error, Result};
///
/// fn port(text: &str) -> Result<u16> {
///     let port: u16 = text.parse()?;
///     if port < 1024 {
///         return Err(Error::msg(format_args!("port {port} needs root")));
///     }
///     Ok(port)
/// }
///
/// let error = port("x").unwrap_err().context("reading the port");
/// assert_eq!(error.message(), "reading the port");
/// assert_eq!(error.causes(), ["invalid digit found in string"]);
/// assert_eq!(port("80").unwrap_err().to_string(), "port 80 needs root");
/// ```
///
/// [`Display`](fmt::Display) shows the message; [`Debug`](fmt::Debug) also shows the causes, one per line.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Parts>);

/// The content of an error. It is in a box, so that a `Result` is hardly larger than its value: results are moved
/// often, and are seldom errors.
#[derive(Clone, PartialEq, Eq)]
struct Parts {
    kind: ErrorKind,
    message: String,
    causes: Vec<String>,
}

/// The messages of an error's causes, beginning with its source.
#[doc(hidden)]
pub fn causes_from(source: Option<&(dyn std::error::Error + 'static)>) -> Vec<String> {
    let mut sources = std::iter::successors(source, |cause| cause.source());
    let mut causes: Vec<_> = sources.by_ref().take(MAX_CAUSES).map(ToString::to_string).collect();
    if sources.next().is_some() {
        causes.push("… (further causes are left out)".to_owned());
    }
    causes
}

/// What kind of error it is: whether the function ran and failed, or the call was wrong.
///
/// The kind describes one call. When a function with `#[invoke]` or `#[live]` returns an error of a call that
/// it made itself, its own caller gets that error as [`Failed`](Self::Failed).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The function ran and failed.
    Failed,
    /// The plugin has no function with that name.
    UnknownFunction,
    /// The call has too few or too many arguments, or an argument has the wrong type.
    BadArgument,
}

impl Error {
    /// An error of the kind [`ErrorKind::Failed`], with a message and without causes.
    pub fn msg(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    /// An error of this kind, with a message and without causes.
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self::of(kind, message.to_string())
    }

    fn of(kind: ErrorKind, message: String) -> Self {
        Self(Box::new(Parts { kind, message, causes: Vec::new() }))
    }

    fn with_causes(message: String, source: Option<&(dyn std::error::Error + 'static)>) -> Self {
        let causes = causes_from(source);
        Self(Box::new(Parts { kind: ErrorKind::Failed, message, causes }))
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The same error as one of the kind [`ErrorKind::Failed`].
    pub(crate) fn into_failure(mut self) -> Self {
        self.0.kind = ErrorKind::Failed;
        self
    }

    /// The same error, with advice if the message or a cause is known to mislead in a plugin.
    #[cold]
    pub(crate) fn explained(mut self) -> Self {
        let Parts { message, causes, .. } = &mut *self.0;
        for text in std::iter::once(message).chain(causes) {
            if let Cow::Owned(text_with_hint) = explained(text) {
                *text = text_with_hint;
            }
        }
        self
    }

    /// Puts a message in front; the old message becomes the first cause.
    pub fn context(mut self, message: impl fmt::Display) -> Self {
        let cause = std::mem::replace(&mut self.0.message, message.to_string());
        self.0.causes.insert(0, cause);
        self
    }

    /// The message: what went wrong.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The messages of the causes, outermost first.
    pub fn causes(&self) -> &[String] {
        &self.0.causes
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        // The text is made here, where the type is known. Through a table of methods, the code would stay the
        // old one after a patch.
        Self::with_causes(error.to_string(), error.source())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        for cause in &self.0.causes {
            write!(f, "\n  caused by: {cause}")?;
        }
        Ok(())
    }
}

/// An error with its causes, as [`std::error::Error`] chains them.
#[derive(Debug)]
struct Chain {
    message: String,
    cause: Option<Box<Chain>>,
}

impl From<Error> for Box<dyn std::error::Error + Send + Sync> {
    fn from(error: Error) -> Self {
        let Parts { message, causes, .. } = *error.0;
        let cause = causes
            .into_iter()
            .rev()
            .fold(None, |cause, message| Some(Box::new(Chain { message, cause })));
        Box::new(Chain { message, cause })
    }
}

impl From<Error> for Box<dyn std::error::Error> {
    fn from(error: Error) -> Self {
        Box::<dyn std::error::Error + Send + Sync>::from(error)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Chain {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standard_error_keeps_the_causes() {
        let error = Error::msg("third").context("second").context("first");
        let error: Box<dyn std::error::Error> = error.into();
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        assert_eq!(error.to_string(), "first");
        assert_eq!(causes.map(ToString::to_string).collect::<Vec<_>>(), ["second", "third"]);
    }

    #[test]
    fn of_endless_causes_only_some_are_kept() {
        #[derive(Debug)]
        struct Circle;

        impl fmt::Display for Circle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("circle")
            }
        }

        impl std::error::Error for Circle {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(self)
            }
        }

        let error = Error::from(Circle);
        assert_eq!(error.causes().len(), MAX_CAUSES + 1);
        assert_eq!(error.causes()[MAX_CAUSES], "… (further causes are left out)");
    }

    #[test]
    fn keeps_the_chain_of_causes() {
        let cause = "x".parse::<u32>().unwrap_err();
        let error = Error::from(cause).context("reading the port");
        assert_eq!(error.message(), "reading the port");
        assert_eq!(error.causes(), ["invalid digit found in string"]);
    }
}
