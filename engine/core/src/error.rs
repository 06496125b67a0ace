//! Errors of the engine: which plugin, which step, what was found, what to do.

use std::{fmt, path::PathBuf};

use hotswap_plugin::{
    Error,
    abi::{Outcome, PanicReport},
};
pub use hotswap_protocol::Step;
use hotswap_protocol::{ErrorKind, WireError};

use crate::artifact::ArtifactError;

/// Why the engine could not do what it was asked to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum EngineError {
    /// A load or reload was refused and undone; the old generation, if any, keeps serving.
    Load {
        /// The plugin, or the file where no plugin is known yet; none where it concerns them all.
        plugin: Option<String>,
        /// Where it failed.
        step: Step,
        /// What was wrong.
        message: String,
        /// The causes, outermost first.
        causes: Vec<String>,
    },
    /// The staging directory, or the console's socket, cannot be used.
    Setup {
        /// What was tried.
        what: String,
        /// The path.
        path: PathBuf,
        /// Why it failed.
        error: std::io::Error,
    },
    /// No plugin of that name is loaded, or no such version.
    UnknownPlugin {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A plugin has another idea of an interface than the host.
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
    /// A load was asked for by code that a load is waiting for.
    InsideLoad {
        /// `reload`
        what: &'static str,
    },
    /// The engine was shut down.
    ShutDown,
}

impl EngineError {
    /// A load that failed at a step.
    pub(crate) fn load(plugin: impl fmt::Display, step: Step, message: impl fmt::Display) -> Self {
        Self::Load {
            plugin: Some(plugin.to_string()),
            step,
            message: message.to_string(),
            causes: Vec::new(),
        }
    }

    /// A file that is no artifact.
    pub(crate) fn artifact(file: &str, error: &ArtifactError) -> Self {
        Self::load(file, Step::Inspect, error)
    }

    /// What a plugin's step answered.
    pub(crate) fn of_outcome<T>(
        plugin: impl fmt::Display,
        step: Step,
        outcome: Outcome<T>,
    ) -> Result<T, Self> {
        match outcome {
            Outcome::Ok(value) => Ok(value),
            Outcome::Err(error) => Err(Self::Load {
                plugin: Some(plugin.to_string()),
                step,
                message: error.message().to_owned(),
                causes: error.causes().to_vec(),
            }),
            Outcome::Panic(PanicReport { message, location }) => {
                Err(Self::load(plugin, step, format_args!("panicked at {location}: {message}")))
            }
        }
    }

    /// The same, with what it is about before its message.
    pub(crate) fn about(mut self, what: impl fmt::Display) -> Self {
        if let Self::Load { message, .. } = &mut self {
            *message = format!("{what}: {message}");
        }
        self
    }

    /// A publish that did not come about, through no plugin's fault.
    pub(crate) fn publish(error: &Error) -> Self {
        Self::Load {
            plugin: None,
            step: Step::Publish,
            message: error.message().to_owned(),
            causes: error.causes().to_vec(),
        }
    }

    /// The error as the console's protocol tells it.
    pub fn to_wire(&self) -> WireError {
        let mut wire = WireError::new(self.kind(), self.to_string());
        if let Self::Load { plugin, step, causes, .. } = self {
            wire.plugin.clone_from(plugin);
            wire.step = Some(step.to_string());
            wire.chain.clone_from(causes);
        }
        wire
    }

    fn kind(&self) -> ErrorKind {
        match self {
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
                "the host runs statically linked: its plugins are a part of the program, and last as \
                 long as it does; to replace plugins, start it with a directory of artifacts \
                 (`Engine::builder`)",
            ),
            Self::InsideLoad { what } => write!(
                f,
                "a {what} was asked for by code that a load is waiting for: a step, thread or task of \
                 a plugin that does not serve yet, or a callback of the host's; ask again when the \
                 load has ended"
            ),
            Self::ShutDown => f.write_str("the engine was shut down"),
        }
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Setup { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// What an image answered, its panic as an error.
pub(crate) fn flatten<T>(outcome: Outcome<T>) -> hotswap_plugin::Result<T> {
    match outcome {
        Outcome::Ok(value) => Ok(value),
        Outcome::Err(error) => Err(error),
        Outcome::Panic(report) => {
            let (message, location) = (report.message, report.location);
            Err(Error::msg(format_args!("panicked at {location}: {message}")))
        }
    }
}
