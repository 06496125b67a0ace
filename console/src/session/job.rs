//! Jobs: work that takes a while. One job runs at a time, or several builds of plugins; other jobs wait.

use hotswap_protocol::{ErrorKind, PruneParams, TargetParams, WireError};
use serde::{Serialize, Serializer};

use super::store::StoredChoice;
use crate::host::operation::Operation;

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Build the host.
    BuildHost,
    /// Build this plugin, by package name, and install its artifact.
    BuildPlugin(String),
    /// Replace broken artifacts by complete builds.
    MendArtifacts,
    /// Replace the artifacts that ended the host while it loaded them.
    LeaveOut,
    /// Copy these stored builds into the plugin directory.
    Install(Vec<StoredChoice>),
    /// Start the host and connect to it.
    StartHost,
    /// End the host.
    StopHost,
    /// Reload what changed.
    Reload,
    /// Reload what changed, if a plugin was built since the last reload.
    ReloadIfBuilt,
    /// Reload what changed, including plugins that a rollback keeps at an earlier build.
    ReloadLatest,
    /// Reload what changed, and unload plugins whose artifact is gone.
    Prune(PruneParams),
    /// Load this earlier version or build.
    Rollback(TargetParams),
    /// Free this version.
    Free(TargetParams),
}

impl std::fmt::Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BuildHost => f.write_str("build host"),
            Self::BuildPlugin(package) => write!(f, "build {package}"),
            Self::MendArtifacts => f.write_str("check the artifacts"),
            Self::LeaveOut => f.write_str("leave out what ended the host"),
            Self::Install(builds) => {
                let plugins: Vec<&str> = builds.iter().map(|it| it.plugin.as_str()).collect();
                write!(f, "go back to earlier builds of {}", plugins.join(", "))
            }
            Self::StartHost => f.write_str("start host"),
            Self::StopHost => f.write_str("stop host"),
            Self::Reload | Self::ReloadIfBuilt | Self::ReloadLatest => f.write_str("reload"),
            Self::Prune(prune) if prune.plugins.is_empty() => {
                f.write_str("unload what has no artifact")
            }
            Self::Prune(prune) => write!(f, "unload {}", prune.plugins.join(", ")),
            Self::Rollback(target) => write!(f, "roll back to {}", target.target),
            Self::Free(target) => write!(f, "free {}", target.target),
        }
    }
}

impl Job {
    /// Whether it is a build of a plugin. Several of these run side by side.
    pub fn is_plugin_build(&self) -> bool {
        matches!(self, Self::BuildPlugin(_))
    }

    /// Whether it is a build of a plugin or of the host.
    pub fn is_build(&self) -> bool {
        matches!(self, Self::BuildHost | Self::BuildPlugin(_))
    }

    /// Whether it makes the host load what is in the plugin directory.
    pub fn reloads(&self) -> bool {
        matches!(self, Self::Reload | Self::ReloadIfBuilt | Self::ReloadLatest | Self::Prune(_))
    }

    /// The package name of the plugin that is built; `None` for anything else.
    pub fn plugin(&self) -> Option<&String> {
        match self {
            Self::BuildPlugin(package) => Some(package),
            _ => None,
        }
    }

    /// The request to the host, if the job is one.
    pub fn operation(&self) -> Option<Operation> {
        match self {
            Self::Reload | Self::ReloadIfBuilt => Some(Operation::Reload),
            Self::ReloadLatest => Some(Operation::ReloadLatest),
            Self::Prune(prune) => Some(Operation::Prune(prune.clone())),
            Self::Rollback(target) => Some(Operation::Rollback(target.clone())),
            Self::Free(target) => Some(Operation::Free(target.clone())),
            _ => None,
        }
    }
}

impl Serialize for Job {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum JobOutcome {
    /// It succeeded.
    Done {
        /// The result in a few words.
        summary: String,
    },
    /// It failed.
    Failed {
        /// The error.
        error: WireError,
    },
    /// It was cancelled.
    Cancelled,
}

impl JobOutcome {
    pub(super) fn done(summary: impl Into<String>) -> Self {
        Self::Done { summary: summary.into() }
    }

    pub(super) fn failed(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::Failed { error: WireError::new(kind, message) }
    }
}

impl From<hotswap_build::BuildError> for JobOutcome {
    fn from(error: hotswap_build::BuildError) -> Self {
        match error.kind() {
            hotswap_build::BuildErrorKind::Cancelled => Self::Cancelled,
            _ => Self::failed(ErrorKind::Build, error.to_string()),
        }
    }
}
