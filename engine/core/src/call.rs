//! Calls of plugins' functions by name.

use std::fmt;

use hotswap_plugin::{
    Error, ErrorKind as PluginErrorKind, FunctionDescription, Value,
    abi::{Outcome, PanicReport},
};
use hotswap_protocol::{ErrorKind, WireError};
use serde::de::DeserializeOwned;

use crate::{
    EngineError,
    current::{Current, InUse},
    future::AsyncCall,
    lease::{Lease, LeaseKind},
    version::Version,
};

/// Why a call did not answer with a value.
///
/// It is one word, so that the answer of a call that succeeds need not be larger than its value.
#[derive(Clone)]
pub struct CallError(Box<Reason>);

#[derive(Debug, Clone)]
struct Reason {
    kind: ErrorKind,
    plugin: String,
    version: u32,
    function: String,
    message: String,
    causes: Vec<String>,
}

impl CallError {
    /// Whose fault it is: of the caller (`UnknownFunction`, `BadArgument`), or of the function
    /// (`PluginError`, `Panic`).
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What the function said, without its name.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The causes, outermost first.
    pub fn causes(&self) -> &[String] {
        &self.0.causes
    }

    /// The error as the console's protocol tells it.
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
        refused(version, function, error)
    }

    /// The function panicked.
    #[cold]
    pub(crate) fn panicked(version: &Version, function: &str, report: &PanicReport) -> Self {
        let text = format!("panicked at {}: {}", report.location, report.message);
        Self::of(version, function, ErrorKind::Panic, &Error::msg(text))
    }

    /// The function is not what the caller expects.
    pub(crate) fn signature(version: &Version, function: &str, why: &str) -> Self {
        Self(Box::new(Reason {
            kind: ErrorKind::Signature,
            plugin: version.name().to_owned(),
            version: version.ordinal,
            function: function.to_owned(),
            message: why.to_owned(),
            causes: Vec::new(),
        }))
    }

    /// No plugin has a live function of that name.
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

    /// The plugin is not there.
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
            plugin: version.name().to_owned(),
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
        self.0.fmt(f)
    }
}

impl std::error::Error for CallError {}

/// Calls a function of a leased version; an `async` one is waited for on this thread.
pub(crate) fn invoke(lease: &Lease, name: &str, args: &[Value]) -> Result<Value, CallError> {
    match begin(lease, name, args) {
        Begun::Ended(result) => result,
        Begun::Running(call) => call.wait(),
    }
}

/// As `invoke`, with a lease that is the call's own.
pub(crate) fn invoke_leased(lease: Lease, name: &str, args: &[Value]) -> Result<Value, CallError> {
    let version = lease.version().clone();
    match run(&InUse::by(lease), name, version.function(name), args) {
        Begun::Ended(result) => result,
        Begun::Running(call) => call.wait(),
    }
}

/// A call that was begun.
pub(crate) enum Begun {
    /// The function answered at once.
    Ended(Result<Value, CallError>),
    /// It is `async`.
    Running(AsyncCall),
}

/// Begins a call of a function of a leased version.
pub(crate) fn begin(lease: &Lease, name: &str, args: &[Value]) -> Begun {
    let found = lease.version().function(name);
    let place = found.map_or_else(|| lease.version().unplaced(), |(place, _)| place);
    run(&InUse::of(lease, place), name, found, args)
}

/// Calls a function of the version that serves; an `async` one is waited for on this thread.
pub(crate) fn invoke_serving<T: DeserializeOwned>(
    current: &Current,
    plugin: &str,
    name: &str,
    args: &[Value],
) -> Result<T, CallError> {
    let (version, ()) = current.enter(|serving| {
        let version = serving.version(plugin);
        let version = version.map_err(|error| CallError::gone(plugin, name, &error))?;
        let place = version.function(name).map_or_else(|| version.unplaced(), |(place, _)| place);
        Ok((version, place, ()))
    })?;
    let begun = run(&version, name, version.function(name), args);
    let read = |version: &Version, value: Value| {
        value.to().map_err(|error| CallError::bad_result(version, name, &error))
    };
    match begun {
        Begun::Ended(result) => read(&version, result?),
        Begun::Running(call) => {
            // It has a lease of its own.
            drop(version);
            let lease = call.lease().another(LeaseKind::Handle);
            read(lease.version(), call.wait()?)
        }
    }
}

/// Calls a function of a version that is in use, and counts that.
fn run(
    version: &InUse,
    name: &str,
    found: Option<(usize, &FunctionDescription)>,
    args: &[Value],
) -> Begun {
    let place = found.map_or_else(|| version.unplaced(), |(place, _)| place);
    let begun = version.begin_call(place);
    let outcome = match found {
        Some((_, function)) if function.is_async => {
            match version.image().start(function.index, args) {
                Outcome::Ok(future) => {
                    let lease = version.lease(LeaseKind::Call).named(name);
                    return Begun::Running(AsyncCall::new(future, name, (place, begun), lease));
                }
                Outcome::Err(error) => Outcome::Err(error),
                Outcome::Panic(report) => Outcome::Panic(report),
            }
        }
        Some((_, function)) => version.image().invoke(function.index, args),
        None => version.image().invoke_func(name, args),
    };
    version.end_call(place, begun);
    Begun::Ended(match outcome {
        Outcome::Ok(value) => Ok(value),
        Outcome::Err(error) => Err(refused(version, name, error)),
        Outcome::Panic(report) => Err(CallError::panicked(version, name, &report)),
    })
}

fn refused(version: &Version, name: &str, error: Error) -> CallError {
    match error.kind() {
        PluginErrorKind::UnknownFunction => {
            let known = version.function_names();
            let message = if known.is_empty() {
                format!("{error}; it declares none")
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
