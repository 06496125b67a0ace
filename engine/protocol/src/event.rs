//! What happens in an engine, and what a reload did.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{VersionState, WireError};

/// Something that happened in the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A load or reload began.
    ReloadStarted {
        /// Milliseconds since the Unix epoch.
        at_ms: u64,
    },
    /// A load or reload was published.
    ReloadFinished {
        /// Milliseconds since the Unix epoch.
        at_ms: u64,
        /// What it did.
        report: ReloadReport,
    },
    /// A load or reload was undone; the old generation keeps serving.
    ReloadFailed {
        /// Milliseconds since the Unix epoch.
        at_ms: u64,
        /// Why.
        error: WireError,
    },
    /// A version entered a state.
    VersionChanged {
        /// Milliseconds since the Unix epoch.
        at_ms: u64,
        /// The plugin.
        plugin: String,
        /// The version.
        version: u32,
        /// Its state now.
        state: VersionState,
        /// The state in words: `freed: 4.3 MiB unmapped after 12 ms, 1 KiB left on the heap`.
        detail: String,
    },
    /// A version that serves returned from its first call, whatever came of it.
    FirstCall {
        /// Milliseconds since the Unix epoch.
        at_ms: u64,
        /// The plugin.
        plugin: String,
        /// The version.
        version: u32,
        /// The function.
        function: String,
        /// How long after the version began to serve it returned, in microseconds.
        elapsed_us: u64,
    },
    /// The engine shuts down.
    ShuttingDown {
        /// Milliseconds since the Unix epoch.
        at_ms: u64,
    },
}

/// What a reload did, plugin by plugin.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ReloadReport {
    /// The generation that serves now.
    pub generation: u64,
    /// One entry a plugin, in load order; removed plugins last.
    pub plugins: Vec<PluginOutcome>,
    /// How long the whole took, in microseconds.
    #[serde(default)]
    pub elapsed_us: u64,
    /// How long each phase took.
    #[serde(default)]
    pub phases: Vec<PhaseTiming>,
    /// How long each phase of building what is newly loaded took, before the reload; none where the
    /// engine knows no store that tells it.
    #[serde(default)]
    pub build_phases: Vec<PhaseTiming>,
    /// What became of the DataBag's values, sorted by key.
    #[serde(default)]
    pub data_bag: Vec<ValueOutcome>,
}

/// What a reload did with one value of the DataBag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueOutcome {
    /// The value's name.
    pub key: String,
    /// What became of it.
    pub change: ValueChange,
}

/// What became of a value of the DataBag in a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ValueChange {
    /// It is new.
    Added,
    /// It belongs to the host or to a plugin that stays.
    Kept,
    /// A new version took it over as it is.
    Shared,
    /// A new version took it over, and it has another type now.
    Migrated,
    /// It went with its version.
    Dropped,
}

/// How long one phase of a reload, or of a build before it, took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTiming {
    /// `find`, `stage`, `inspect`, `open`, a lifecycle step, or `publish`; of a build `notice`,
    /// `check`, `cargo`, `compile`, `link`, `stamp`, `store` or `install`.
    pub phase: String,
    /// Its plugin; none where it concerns all, or a file whose plugin is not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Microseconds.
    pub elapsed_us: u64,
}

impl PhaseTiming {
    /// A phase that took so long.
    pub fn new(phase: &str, plugin: Option<&str>, elapsed: Duration) -> Self {
        Self {
            phase: phase.to_owned(),
            plugin: plugin.map(ToOwned::to_owned),
            elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

/// What a reload did with one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginOutcome {
    /// The plugin.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The version that serves now; none when it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// How long its own steps took, in microseconds.
    #[serde(default)]
    pub elapsed_us: u64,
}

/// What became of a plugin in a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// A new version serves.
    #[serde(rename = "ok")]
    Ok,
    /// Its artifact is the one that is loaded.
    #[serde(rename = "unchanged")]
    Unchanged,
    /// Its running version says that it may not be reloaded.
    #[serde(rename = "not reloadable")]
    NotReloadable,
    /// Loaded afresh from the same artifact, since a plugin it imports changed.
    #[serde(rename = "rebound")]
    Rebound,
    /// It was not there before.
    #[serde(rename = "added")]
    Added,
    /// Its artifact is gone, and its last version retired.
    #[serde(rename = "removed")]
    Removed,
    /// A rollback holds it at an earlier artifact.
    #[serde(rename = "held")]
    Held,
    /// Its new version failed; the old one keeps serving.
    #[serde(rename = "failed")]
    Failed,
}

impl Outcome {
    /// The word for a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unchanged => "unchanged",
            Self::NotReloadable => "not reloadable",
            Self::Rebound => "rebound",
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Held => "held",
            Self::Failed => "failed",
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Display for ReloadReport {
    /// `alpha: ok, beta: unchanged`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.plugins.is_empty() {
            return f.write_str("no plugins");
        }
        for (i, plugin) in self.plugins.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{}: {}", plugin.name, plugin.outcome)?;
        }
        Ok(())
    }
}

/// How grave a log record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// The finest.
    Trace,
    /// For developers.
    Debug,
    /// What a person running the host wants to see.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed.
    Error,
}

impl LogLevel {
    /// All levels, the finest first.
    pub const ALL: [Self; 5] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// The word for a log line, in capitals, as logs have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// A line of the host's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Counts the host's records from 1; a gap is what was dropped.
    pub seq: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How grave it is.
    pub level: LogLevel,
    /// The module or target that wrote it.
    pub target: String,
    /// The message.
    pub message: String,
    /// The other fields, in order, as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<(String, String)>,
    /// The plugin that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The version of the plugin that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}
