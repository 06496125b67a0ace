//! Why a call returned no value.

use std::fmt;

use hotswap_plugin::{Error, ErrorKind as PluginErrorKind, abi::PanicReport};
use hotswap_protocol::{ErrorKind, WireError, version_label};

use crate::{
    EngineError,
    error::{MAX_CALL_TEXT_BYTES, bounded, write_with_causes},
    version::face::Faced,
};

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
    patch: Option<u32>,
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

    /// The error in the console protocol, with at most 128 KiB of text.
    pub fn to_wire(&self) -> WireError {
        let mut wire = WireError::new(self.0.kind, self.to_string());
        wire.plugin = Some(self.0.plugin.clone()).filter(|plugin| !plugin.is_empty());
        wire.chain.clone_from(&self.0.causes);
        bounded(wire, MAX_CALL_TEXT_BYTES)
    }

    pub(crate) fn bad_result(called: Faced<'_>, function: &str, error: &Error) -> Self {
        Self::of(called, function, ErrorKind::BadArgument, error)
    }

    /// The function returned an error.
    #[cold]
    pub(crate) fn failed(called: Faced<'_>, function: &str, error: Error) -> Self {
        called.version.returned(called.face, function, &error);
        refused(called, function, error)
    }

    /// The function panicked.
    #[cold]
    pub(crate) fn panicked(called: Faced<'_>, function: &str, report: &PanicReport) -> Self {
        let text = called.version.panicked(called.face, function, report);
        Self::of(called, function, ErrorKind::Panic, &Error::msg(text))
    }

    /// The function is not what the caller expects.
    pub(crate) fn signature(called: Faced<'_>, function: &str, why: &str) -> Self {
        Self::of(called, function, ErrorKind::Signature, &Error::msg(why))
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
            patch: None,
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
            patch: None,
            function: function.to_owned(),
            message: error.to_string(),
            causes: Vec::new(),
        }))
    }

    /// The version hands over, and the load that holds its calls up waits for the caller.
    #[cold]
    pub(crate) fn inside_load(called: Faced<'_>, function: &str) -> Self {
        let message = "the plugin hands over, and the load that holds its calls up waits for this caller: a step of \
                       a plugin, or a callback of the host; call again after the load has ended";
        Self::of(called, function, ErrorKind::Reload, &Error::msg(message))
    }

    /// The version hands over, and a callback of the host does not return.
    #[cold]
    pub(crate) fn held_up(called: Faced<'_>, function: &str) -> Self {
        let message = "the plugin hands over, and a callback of the host (`on_reload`) has not returned within the \
                       step timeout; it may wait for something that this caller has, such as a lock";
        Self::of(called, function, ErrorKind::Reload, &Error::msg(message))
    }

    fn of(called: Faced<'_>, function: &str, kind: ErrorKind, error: &Error) -> Self {
        Self(Box::new(Reason {
            kind,
            plugin: called.version.name().to_string(),
            version: called.version.ordinal,
            patch: called.face.patch_number(),
            function: function.to_owned(),
            message: error.message().to_owned(),
            causes: error.causes().to_vec(),
        }))
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reason { plugin, version, patch, function, message, .. } = &*self.0;
        let version = version_label(*version, *patch);
        match self.0.kind {
            ErrorKind::UnknownFunction if plugin.is_empty() => f.write_str(message),
            ErrorKind::UnknownFunction => write!(f, "{plugin} {version}: {message}"),
            ErrorKind::UnknownPlugin => write!(f, "{plugin}: {function}: {message}"),
            _ => write!(f, "{plugin} {version}: {function}: {message}"),
        }
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_with_causes(f, self, &self.0.causes)
    }
}

impl std::error::Error for CallError {}

fn refused(called: Faced<'_>, name: &str, error: Error) -> CallError {
    match error.kind() {
        PluginErrorKind::UnknownFunction => {
            let known = called.version.function_names();
            let message = if known.is_empty() {
                format!("{error}; it declares no functions")
            } else {
                format!("{error}; it has {}", known.join(", "))
            };
            CallError::of(called, name, ErrorKind::UnknownFunction, &Error::msg(message))
        }
        PluginErrorKind::BadArgument => CallError::of(called, name, ErrorKind::BadArgument, &error),
        _ => CallError::of(called, name, ErrorKind::PluginError, &error),
    }
}
