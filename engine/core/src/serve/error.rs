//! Why a call returned no value.

use std::fmt;

use hotswap_plugin::{Error, ErrorKind as PluginErrorKind, abi::PanicReport};
use hotswap_protocol::{ErrorKind, WireError};

use crate::{EngineError, error::write_with_causes, version::Version};

/// Why a call returned no value.
///
/// [`Display`](fmt::Display) shows the message; [`Debug`](fmt::Debug) also shows the causes, one per line.
/// The error has the size of one pointer, so that the result of a call need not be larger than its value.
#[derive(Clone)]
pub struct CallError(Box<Reason>);

#[derive(Clone)]
struct Reason {
    kind: ErrorKind,
    plugin: String,
    version: u32,
    function: String,
    message: String,
    causes: Vec<String>,
}

impl CallError {
    /// The kind of the error, which says whether the caller is at fault (`UnknownFunction`, `BadArgument`) or
    /// the function (`PluginError`, `Panic`).
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message of the function, without the function's name.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The causes, outermost first.
    pub fn causes(&self) -> &[String] {
        &self.0.causes
    }

    /// The error in the console protocol.
    pub fn to_wire(&self) -> WireError {
        let mut wire = WireError::new(self.0.kind, self.to_string());
        wire.plugin = Some(self.0.plugin.clone()).filter(|plugin| !plugin.is_empty());
        wire.chain.clone_from(&self.0.causes);
        wire
    }

    pub(crate) fn bad_result(version: &Version, function: &str, error: &Error) -> Self {
        Self::of(version, function, ErrorKind::BadArgument, error)
    }

    /// The function returned an error.
    #[cold]
    pub(crate) fn failed(version: &Version, function: &str, error: Error) -> Self {
        version.returned(function, &error);
        refused(version, function, error)
    }

    /// The function panicked.
    #[cold]
    pub(crate) fn panicked(version: &Version, function: &str, report: &PanicReport) -> Self {
        let text = version.panicked(function, report);
        Self::of(version, function, ErrorKind::Panic, &Error::msg(text))
    }

    /// The function has another signature than the caller expects.
    pub(crate) fn signature(version: &Version, function: &str, why: &str) -> Self {
        Self(Box::new(Reason {
            kind: ErrorKind::Signature,
            plugin: version.name().to_string(),
            version: version.ordinal,
            function: function.to_owned(),
            message: why.to_owned(),
            causes: Vec::new(),
        }))
    }

    /// No plugin has a live function of this name.
    #[cold]
    pub(crate) fn no_live_function(name: &str, known: &[&str]) -> Self {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message = format!("no live function named `{name}`; there is {known}");
        Self(Box::new(Reason {
            kind: ErrorKind::UnknownFunction,
            plugin: String::new(),
            version: 0,
            function: name.to_owned(),
            message,
            causes: Vec::new(),
        }))
    }

    /// The plugin does not serve any more.
    pub(crate) fn gone(plugin: &str, function: &str, error: &EngineError) -> Self {
        Self(Box::new(Reason {
            kind: ErrorKind::UnknownPlugin,
            plugin: plugin.to_owned(),
            version: 0,
            function: function.to_owned(),
            message: error.to_string(),
            causes: Vec::new(),
        }))
    }

    fn of(version: &Version, function: &str, kind: ErrorKind, error: &Error) -> Self {
        Self(Box::new(Reason {
            kind,
            plugin: version.name().to_string(),
            version: version.ordinal,
            function: function.to_owned(),
            message: error.message().to_owned(),
            causes: error.causes().to_vec(),
        }))
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reason { plugin, version, function, message, .. } = &*self.0;
        match self.0.kind {
            ErrorKind::UnknownFunction if plugin.is_empty() => f.write_str(message),
            ErrorKind::UnknownFunction => write!(f, "{plugin} v{version}: {message}"),
            ErrorKind::UnknownPlugin => write!(f, "{plugin}: {function}: {message}"),
            _ => write!(f, "{plugin} v{version}: {function}: {message}"),
        }
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_with_causes(f, self, &self.0.causes)
    }
}

impl std::error::Error for CallError {}

fn refused(version: &Version, name: &str, error: Error) -> CallError {
    match error.kind() {
        PluginErrorKind::UnknownFunction => {
            let known = version.function_names();
            let message = if known.is_empty() {
                format!("{error}; it declares no functions")
            } else {
                format!("{error}; it has {}", known.join(", "))
            };
            CallError::of(version, name, ErrorKind::UnknownFunction, &Error::msg(message))
        }
        PluginErrorKind::BadArgument => {
            CallError::of(version, name, ErrorKind::BadArgument, &error)
        }
        _ => CallError::of(version, name, ErrorKind::PluginError, &error),
    }
}
