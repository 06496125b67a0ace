//! The errors of the engine: which plugin, which step, what was expected and found, and what to do.

use std::{fmt, io, path::PathBuf, time::Duration};

use hotswap_plugin::{
    Error,
    abi::{Answer, PanicReport},
};
pub use hotswap_protocol::Step;
use hotswap_protocol::{BrokenExpectation, CauseKind, ErrorKind, Failure, WireError};

use crate::artifact::ArtifactError;

/// Why the engine refused or failed to do something.
///
/// [`Display`](fmt::Display) shows the message. [`Debug`](fmt::Debug) also shows the causes, one per line, so
/// that a `main` which returns the error prints a readable text.
#[non_exhaustive]
pub enum EngineError {
    /// A load or reload was refused and undone. The old generation, if any, keeps serving.
    Load {
        /// The plugin, or the file if its plugin is not known yet; `None` if the error is about all plugins.
        plugin: Option<String>,
        /// The step that failed.
        step: Step,
        /// What was wrong.
        message: String,
        /// The causes, outermost first.
        causes: Vec<String>,
        /// The cause for programs; it is also the error's `source`.
        cause: Box<LoadCause>,
    },
    /// The staging directory, or the console's socket, cannot be used.
    Setup {
        /// What was tried.
        what: String,
        /// The path.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// No plugin of that name is loaded, or it has no such version.
    UnknownPlugin {
        /// The requested name.
        name: String,
        /// The names that are loaded.
        known: Vec<String>,
    },
    /// An interface of a plugin differs from the host's interface of that name.
    Interface {
        /// `cat v2`
        owner: String,
        /// What differs.
        what: String,
    },
    /// The version cannot be freed.
    NotFreeable {
        /// `world@3`
        target: String,
        /// Why.
        why: &'static str,
    },
    /// The plugins are linked into the program, and cannot be replaced.
    StaticallyLinked,
    /// Code that a load waits for has requested a load, which would wait for itself.
    InsideLoad {
        /// `reload`
        what: &'static str,
    },
    /// The engine was shut down.
    ShutDown,
}

/// What made a load fail: the [`source`](std::error::Error::source) of [`EngineError::Load`].
///
/// ```no_run
/// use std::error::Error;
///
/// use hotswap_engine::{Engine, LoadCause, artifact::ArtifactError};
///
/// # fn main() -> Result<(), hotswap_engine::EngineError> {
/// # let engine = Engine::builder("plugins").build()?;
/// if let Err(error) = engine.reload() {
///     match error.source().and_then(|cause| cause.downcast_ref()) {
///         Some(LoadCause::Artifact(ArtifactError::Toolchain(_))) => { /* build it again */ }
///         Some(LoadCause::Panic { .. }) => { /* tell its author */ }
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadCause {
    /// A file is not an artifact that this host can load.
    Artifact(ArtifactError),
    /// The system refused to read or copy a file, or to start a thread.
    Io(io::Error),
    /// The system's loader did not open the image, or opened another image.
    Loader,
    /// The plugin's code returned an error.
    Plugin(Error),
    /// The plugin's code panicked; if the error names no plugin, the host's code did.
    Panic {
        /// The message of the panic.
        message: String,
        /// The place of the panic; `None` if it is not known.
        location: Option<String>,
    },
    /// The plugin's code did not return in time.
    TimedOut {
        /// How long the load waited.
        after: Duration,
    },
    /// A plugin imports something that no other plugin exports in this form.
    Import {
        /// The plugin from which it imports.
        from: String,
    },
    /// A callback of the host returned this error.
    Callback(Box<dyn std::error::Error + Send + Sync>),
    /// The load would break these expectations of the host's own code.
    HostExpects(Vec<BrokenExpectation>),
    /// The load breaks a rule: two plugins have one name, a plugin is missing, or a plugin must not be
    /// replaced.
    Refused,
    /// Anything else. The message of the load describes it.
    Other,
}

impl LoadCause {
    /// The kind of the cause in the console protocol.
    pub fn kind(&self) -> CauseKind {
        match self {
            Self::Artifact(ArtifactError::Toolchain(_)) => CauseKind::Toolchain,
            Self::Artifact(_) => CauseKind::Artifact,
            Self::Io(_) => CauseKind::Io,
            Self::Loader => CauseKind::Loader,
            Self::Plugin(_) => CauseKind::Plugin,
            Self::Panic { .. } => CauseKind::Panic,
            Self::TimedOut { .. } => CauseKind::TimedOut,
            Self::Import { .. } => CauseKind::Import,
            Self::Callback(_) => CauseKind::Callback,
            Self::HostExpects(_) => CauseKind::HostExpects,
            Self::Refused => CauseKind::Refused,
            Self::Other => CauseKind::Other,
        }
    }
}

impl fmt::Display for LoadCause {
    /// Names the kind of the cause. The message of the load says the rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Artifact(_) => f.write_str("the file is not an artifact that this host can load"),
            Self::Io(_) => f.write_str("the system refused an operation"),
            Self::Loader => f.write_str("the system's loader did not open the image"),
            Self::Plugin(_) => f.write_str("the plugin's code returned an error"),
            Self::Panic { .. } => f.write_str("the code panicked"),
            Self::TimedOut { after } => {
                write!(f, "the code did not return within {} s", after.as_secs_f64())
            }
            Self::Import { from } => write!(f, "{from} does not export the imported object"),
            Self::Callback(_) => f.write_str("a callback of the host returned an error"),
            Self::HostExpects(_) => {
                f.write_str("the load breaks an expectation of the host's own code")
            }
            Self::Refused => f.write_str("the load breaks a rule"),
            Self::Other => f.write_str("the load could not continue"),
        }
    }
}

impl std::error::Error for LoadCause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Artifact(error) => Some(error),
            Self::Io(error) => Some(error),
            Self::Callback(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}

impl EngineError {
    /// A load that is refused at `step` because of a plugin.
    pub(crate) fn load(plugin: impl fmt::Display, step: Step, message: impl fmt::Display) -> Self {
        Self::load_of_all(step, message).of_plugin(plugin)
    }

    /// A load that is refused at `step` without a plugin at fault.
    pub(crate) fn load_of_all(step: Step, message: impl fmt::Display) -> Self {
        Self::Load {
            plugin: None,
            step,
            message: message.to_string(),
            causes: Vec::new(),
            cause: Box::new(LoadCause::Refused),
        }
    }

    /// Adds the plugin or the file at fault.
    fn of_plugin(mut self, name: impl fmt::Display) -> Self {
        if let Self::Load { plugin, .. } = &mut self {
            *plugin = Some(name.to_string());
        }
        self
    }

    /// Sets another cause than a broken rule.
    pub(crate) fn because(mut self, why: LoadCause) -> Self {
        if let Self::Load { cause, .. } = &mut self {
            **cause = why;
        }
        self
    }

    /// Adds the messages of the causes.
    pub(crate) fn with_causes(mut self, of: Vec<String>) -> Self {
        if let Self::Load { causes, .. } = &mut self {
            *causes = of;
        }
        self
    }

    /// A file that is not an artifact.
    pub(crate) fn artifact(file: &str, error: ArtifactError) -> Self {
        Self::load(file, Step::Inspect, &error).because(LoadCause::Artifact(error))
    }

    /// The answer of a step of `plugin` as a result: its value, or the error of the load.
    pub(crate) fn of_answer<T>(
        plugin: impl fmt::Display,
        step: Step,
        answer: Answer<T>,
    ) -> Result<T, Self> {
        match answer {
            Answer::Ok(value) => Ok(value),
            Answer::Err(error) => Err(Self::load(plugin, step, error.message())
                .with_causes(error.causes().to_vec())
                .because(LoadCause::Plugin(error))),
            Answer::Panic(PanicReport { message, location }) => {
                let text = format_args!("panicked at {location}: {message}");
                let error = Self::load(plugin, step, text);
                Err(error.because(LoadCause::Panic { message, location: Some(location) }))
            }
        }
    }

    /// Puts `what` in front of the message.
    pub(crate) fn about(mut self, what: impl fmt::Display) -> Self {
        if let Self::Load { message, .. } = &mut self {
            *message = format!("{what}: {message}");
        }
        self
    }

    /// A load that breaks expectations of the host's own code; `None` if it breaks none.
    pub(crate) fn host_expects(broken: Vec<BrokenExpectation>) -> Option<Self> {
        let first = broken.first()?;
        let message = format!("{first}; rebuild and restart the host, or undo the change");
        let others = broken[1..].iter().map(|other| format!("{}: {other}", other.by)).collect();
        let refused = Self::load(&first.by, Step::HostExpects, message).with_causes(others);
        Some(refused.because(LoadCause::HostExpects(broken)))
    }

    /// A publish that failed without a plugin at fault.
    pub(crate) fn publish(error: &Error) -> Self {
        Self::load_of_all(Step::Publish, error.message()).with_causes(error.causes().to_vec())
    }

    /// Whether the plugin's code did not return in time.
    pub(crate) fn is_timed_out(&self) -> bool {
        matches!(self, Self::Load { cause, .. } if matches!(**cause, LoadCause::TimedOut { .. }))
    }

    /// The failure of a version in the console protocol.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Load { plugin, step, message, causes, cause } => Failure {
                plugin: plugin.clone(),
                step: Some(*step),
                cause: cause.kind(),
                message: shortened(message, MAX_TEXT_BYTES),
                causes: causes
                    .iter()
                    .take(MAX_CAUSES)
                    .map(|it| shortened(it, MAX_TEXT_BYTES))
                    .collect(),
            },
            other => Failure {
                plugin: None,
                step: None,
                cause: CauseKind::Other,
                message: other.to_string(),
                causes: Vec::new(),
            },
        }
    }

    /// The error in the console protocol, with at most 16 KiB of text.
    pub fn to_wire(&self) -> WireError {
        let mut wire = WireError::new(self.kind(), self.to_string());
        if let Self::Load { plugin, step, causes, cause, .. } = self {
            wire.plugin.clone_from(plugin);
            wire.step = Some(*step);
            wire.cause = Some(cause.kind());
            wire.chain.clone_from(causes);
            if let LoadCause::HostExpects(broken) = &**cause {
                wire.broken.clone_from(broken);
            }
        }
        bounded(wire, MAX_TEXT_BYTES)
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Load { cause, .. } if matches!(**cause, LoadCause::HostExpects(_)) => {
                ErrorKind::HostExpects
            }
            Self::Load { .. } | Self::StaticallyLinked | Self::InsideLoad { .. } => {
                ErrorKind::Reload
            }
            Self::UnknownPlugin { .. } => ErrorKind::UnknownPlugin,
            Self::NotFreeable { .. } => ErrorKind::NotFreeable,
            Self::Setup { .. } | Self::Interface { .. } | Self::ShutDown => ErrorKind::Internal,
        }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load { plugin: Some(plugin), step, message, .. } => {
                write!(f, "{plugin}: {step}: {message}")
            }
            Self::Load { plugin: None, step, message, .. } => write!(f, "{step}: {message}"),
            Self::Setup { what, path, error } => write!(f, "{what} {}: {error}", path.display()),
            Self::UnknownPlugin { name, known } if known.is_empty() => {
                write!(f, "no plugin `{name}`: none is loaded")
            }
            Self::UnknownPlugin { name, known } => {
                write!(f, "no plugin `{name}`; loaded: {}", known.join(", "))
            }
            Self::Interface { owner, what } => {
                write!(f, "{owner}: {what}; build plugin and host against the same source")
            }
            Self::NotFreeable { target, why } => write!(f, "{target} cannot be freed: {why}"),
            Self::StaticallyLinked => f.write_str(
                "the plugins of this host are linked into it, so they cannot be replaced; to \
                 replace plugins, start the host with a directory of artifacts (`Engine::builder`)",
            ),
            Self::InsideLoad { what } => write!(
                f,
                "code that a load waits for requested a {what}, which would wait for that load: a step, \
                 thread or task of a plugin that does not serve yet, or a callback of the host; request it \
                 again after the load has ended"
            ),
            Self::ShutDown => f.write_str("the engine was shut down"),
        }
    }
}

impl fmt::Debug for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let causes = if let Self::Load { causes, .. } = self { causes.as_slice() } else { &[] };
        write_with_causes(f, self, causes)
    }
}

/// Writes an error, and then its causes, one per line.
pub(crate) fn write_with_causes(
    f: &mut fmt::Formatter<'_>,
    error: &dyn fmt::Display,
    causes: &[String],
) -> fmt::Result {
    write!(f, "{error}")?;
    causes.iter().try_for_each(|cause| write!(f, "\n  caused by: {cause}"))
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Load { cause, .. } => Some(cause.as_ref()),
            Self::Setup { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// The longest text of a failed load that consoles receive, in bytes, and the largest number of its causes.
const MAX_TEXT_BYTES: usize = 16 << 10;
const MAX_CAUSES: usize = 16;

/// The longest text of a failed call that consoles receive, in bytes. An answer contains the message twice, and a byte
/// may take six bytes of JSON.
pub(crate) const MAX_CALL_TEXT_BYTES: usize = 128 << 10;

/// The first `bytes` bytes of a text that a plugin has made, and then its length if it was longer. Consoles
/// receive it as long as the version is there, and the length of a line for a console is bounded.
pub(crate) fn shortened(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    format!("{}… ({} bytes)", &text[..text.floor_char_boundary(bytes)], text.len())
}

/// The error with at most `bytes` bytes of its message, and of its causes what the message leaves. A text that is cut
/// ends with its length.
pub(crate) fn bounded(mut wire: WireError, bytes: usize) -> WireError {
    let mut left = bytes;
    let mut bound = |text: &mut String| {
        if text.len() > left {
            *text = shortened(text, left);
        }
        left = left.saturating_sub(text.len());
    };
    bound(&mut wire.message);
    wire.chain.truncate(MAX_CAUSES);
    wire.chain.iter_mut().for_each(bound);
    wire
}

/// The result of a call into an image. A panic becomes an error.
pub(crate) fn flatten<T>(answer: Answer<T>) -> hotswap_plugin::Result<T> {
    match answer {
        Answer::Ok(value) => Ok(value),
        Answer::Err(error) => Err(error),
        Answer::Panic(report) => {
            let (message, location) = (report.message, report.location);
            Err(Error::msg(format_args!("panicked at {location}: {message}")))
        }
    }
}
