//! The events of an engine, and the results of reloads.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Ending, FirstFailure, PinnedCall, Step, VersionState, WireError, ending::is_zero, version_label,
};

/// Answer of `reloads`: the last reloads of a host, the oldest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Reloads {
    /// The reloads, at most [`MAX_RELOADS`].
    pub reloads: Vec<PastReload>,
}

/// How many reloads a host remembers.
pub const MAX_RELOADS: usize = 64;

/// A load or reload that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PastReload {
    /// When it ended, in milliseconds since the Unix epoch; the same time as in its event.
    pub at_ms: u64,
    /// How it ended.
    #[serde(flatten)]
    pub end: ReloadEnd,
}

impl From<PastReload> for Event {
    /// The event that announced its end.
    fn from(PastReload { at_ms, end }: PastReload) -> Self {
        match end {
            ReloadEnd::Report(report) => Self::ReloadFinished { at_ms, report },
            ReloadEnd::Error(error) => Self::ReloadFailed { at_ms, error },
        }
    }
}

/// How a reload ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadEnd {
    /// Its generation serves, or has served.
    Report(ReloadReport),
    /// It failed and was undone.
    Error(WireError),
}

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
    /// A load or reload succeeded, and its generation serves.
    ReloadFinished {
        /// Milliseconds since the Unix epoch.
        at_ms: u64,
        /// What it changed.
        report: ReloadReport,
    },
    /// A load or reload failed and was undone. The generation before it keeps serving.
    ReloadFailed {
        /// Milliseconds since the Unix epoch.
        at_ms: u64,
        /// Why it failed.
        error: WireError,
    },
    /// A version entered another state.
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
        /// How it ended; `None` if it has not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ending: Option<Ending>,
    },
    /// The first call of a version that serves, or of a patch of it, has returned, with a result or an error.
    FirstCall {
        /// Milliseconds since the Unix epoch.
        at_ms: u64,
        /// The plugin.
        plugin: String,
        /// The version.
        version: u32,
        /// The patch of that version that serves; `None` for the version as it was loaded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        patch: Option<u32>,
        /// The function.
        function: String,
        /// The time from when the version began to serve until the call returned, in microseconds.
        elapsed_us: u64,
    },
    /// The first call that failed in a version, or in a patch of it: a function returned an error, or panicked.
    FirstFailure {
        /// Milliseconds since the Unix epoch.
        at_ms: u64,
        /// The plugin.
        plugin: String,
        /// The version.
        version: u32,
        /// The patch of that version in whose code it failed; `None` for the version as it was loaded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        patch: Option<u32>,
        /// What failed.
        failure: FirstFailure,
    },
    /// The calls of a version that serves failed more often than the host's guard allows.
    GuardTripped(GuardTrip),
    /// A call was pinned, or was made again in a new version.
    PinCalled {
        /// Milliseconds since the Unix epoch.
        at_ms: u64,
        /// The call, with its outcomes in this version and in the version before.
        pin: Box<PinnedCall>,
    },
    /// A pinned call is not repeated any more.
    Unpinned {
        /// Milliseconds since the Unix epoch.
        at_ms: u64,
        /// The number of the pin.
        id: u64,
    },
    /// The engine shuts down.
    ShuttingDown {
        /// Milliseconds since the Unix epoch.
        at_ms: u64,
    },
}

/// A version whose calls failed too often, and the reaction of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardTrip {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The plugin.
    pub plugin: String,
    /// The version.
    pub version: u32,
    /// The patch of that version; `None` for the version as it was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<u32>,
    /// How many of its calls failed in the guard's time window.
    pub failures: u64,
    /// The length of the time window, in milliseconds.
    pub within_ms: u64,
    /// The version whose build is loaded again now. `None` if the guard found no version that it may load: it
    /// rolls a plugin back at most once between two builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_to: Option<u32>,
}

/// What a reload did, plugin by plugin.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ReloadReport {
    /// The generation that serves now.
    pub generation: u64,
    /// One entry per plugin, in load order; removed plugins come last.
    pub plugins: Vec<PluginOutcome>,
    /// How long the whole reload took, in microseconds.
    #[serde(default)]
    pub elapsed_us: u64,
    /// How long each phase took.
    #[serde(default)]
    pub phases: Vec<PhaseTiming>,
    /// How long each phase of building the newly loaded artifacts took, before the reload. Empty if the
    /// engine does not know the store with these builds.
    #[serde(default)]
    pub build_phases: Vec<PhaseTiming>,
    /// What happened to the values of the DataBag, sorted by key. If there are too many for a report, values that did not
    /// change are left out first.
    #[serde(default)]
    pub data_bag: Vec<ValueOutcome>,
    /// The number of values that are left out of `data_bag`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub data_bag_omitted: u64,
    /// The plugin that was rolled back to an earlier build; `None` if the reload was not a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<String>,
}

/// What a reload did with one value of the DataBag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueOutcome {
    /// The value's name.
    pub key: String,
    /// What happened to the value.
    pub change: ValueChange,
}

/// What happened to a value of the DataBag in a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ValueChange {
    /// It is new.
    Added,
    /// It replaced an earlier value.
    Set,
    /// It is unchanged: the host owns it, or a version that keeps serving.
    Kept,
    /// A new version took it over without a change.
    Shared,
    /// A new version took it over and converted it to another type.
    Migrated,
    /// It was dropped with its version.
    Dropped,
}

/// A phase of a reload, or of a build before it. In JSON it is a string, the phase's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum PhaseKind {
    /// Of a build: the time from the change until the build began.
    Notice,
    /// Of a build: finding what has to be compiled.
    Check,
    /// Of a build: cargo.
    Cargo,
    /// Of a build: compiler runs that were started without cargo.
    Compile,
    /// Of a build: linker runs that were started without cargo.
    Link,
    /// Of a build: writing build id and git facts into the library.
    Stamp,
    /// Of a build: putting the artifact into the store.
    Store,
    /// Of a build: comparing it with the build that the host runs, and making a patch.
    Patch,
    /// Of a build: copying the artifact into a plugin directory.
    Install,
    /// A step of the load.
    Step(Step),
    /// Handing over the objects that the plugin imports, a part of [`Step::Import`].
    Bind,
    /// How long calls had to wait for a plugin that hands over: from the first call that was held up, if
    /// there was one, until it could run.
    CallsWaited,
    /// A phase that this side does not know, by its name.
    Other(String),
}

impl PhaseKind {
    /// The phases that are not steps of a load.
    const BESIDE_STEPS: [Self; 11] = [
        Self::Notice,
        Self::Check,
        Self::Cargo,
        Self::Compile,
        Self::Link,
        Self::Stamp,
        Self::Store,
        Self::Patch,
        Self::Install,
        Self::Bind,
        Self::CallsWaited,
    ];

    /// The phase's name, which is also its name in JSON.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Notice => "notice",
            Self::Check => "check",
            Self::Cargo => "cargo",
            Self::Compile => "compile",
            Self::Link => "link",
            Self::Stamp => "stamp",
            Self::Store => "store",
            Self::Patch => "patch",
            Self::Install => "install",
            Self::Step(step) => step.as_str(),
            Self::Bind => "bind",
            Self::CallsWaited => "calls waited",
            Self::Other(name) => name,
        }
    }
}

impl From<Step> for PhaseKind {
    fn from(step: Step) -> Self {
        Self::Step(step)
    }
}

impl From<String> for PhaseKind {
    fn from(name: String) -> Self {
        let beside = Self::BESIDE_STEPS.into_iter().find(|phase| phase.as_str() == name);
        let step = || Step::named(&name).map(Self::Step);
        beside.or_else(step).unwrap_or(Self::Other(name))
    }
}

impl From<PhaseKind> for String {
    fn from(phase: PhaseKind) -> Self {
        phase.as_str().to_owned()
    }
}

impl fmt::Display for PhaseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How long one phase of a reload, or of a build before it, took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTiming {
    /// The phase.
    pub phase: PhaseKind,
    /// The plugin that the phase was about; `None` if it was about all plugins, or about a file whose plugin
    /// was not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The duration in microseconds.
    pub elapsed_us: u64,
}

impl PhaseTiming {
    /// A phase that took `elapsed`.
    pub fn new(phase: PhaseKind, plugin: Option<&str>, elapsed: Duration) -> Self {
        Self {
            phase,
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
    /// What happened to it.
    pub outcome: Outcome,
    /// The version that serves now; `None` if the plugin was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The build that serves now, 32 hexadecimal digits. Of a patch whose artifact does not exist yet, it is the id
    /// of the patch's code. `None` if the plugin was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// How long its own steps took, in microseconds.
    #[serde(default)]
    pub elapsed_us: u64,
    /// The number of the patch that serves: `v3+2` is version 3 with patch 2. `None` if the version serves as
    /// it was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<u32>,
    /// If it was patched: the functions whose code differs from that of the version as it was loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patched_functions: Vec<String>,
    /// Why the whole artifact was loaded although there was a patch for it, as text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_patched: Option<String>,
}

/// What happened to a plugin in a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// A new version serves.
    #[serde(rename = "ok")]
    Ok,
    /// The same version keeps serving, with new code for some of its functions.
    #[serde(rename = "patched")]
    Patched,
    /// Its artifact is already loaded.
    #[serde(rename = "unchanged")]
    Unchanged,
    /// Its running version does not allow a reload.
    #[serde(rename = "not reloadable")]
    NotReloadable,
    /// It was loaded again from the same artifact, because a plugin that it imports changed.
    #[serde(rename = "rebound")]
    Rebound,
    /// It is a new plugin.
    #[serde(rename = "added")]
    Added,
    /// Its artifact is gone, and its last version was retired, as the request asked.
    #[serde(rename = "removed")]
    Removed,
    /// Its artifact is gone; its version keeps serving.
    #[serde(rename = "missing")]
    Missing,
    /// A rollback keeps it at an earlier artifact.
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
            Self::Patched => "patched",
            Self::Unchanged => "unchanged",
            Self::NotReloadable => "not reloadable",
            Self::Rebound => "rebound",
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Missing => "missing",
            Self::Held => "held",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ReloadReport {
    /// What the reload did, as text for people: `world: patched (v3+2), 6 unchanged`.
    pub fn summary(&self) -> String {
        let changed = self.plugins.iter().filter(|plugin| plugin.outcome != Outcome::Unchanged);
        let changed = Self { plugins: changed.cloned().collect(), ..self.clone() };
        match (changed.plugins.len(), self.plugins.len() - changed.plugins.len()) {
            (_, 0) => self.to_string(),
            (0, unchanged) => format!("{unchanged} unchanged"),
            (_, unchanged) => format!("{changed}, {unchanged} unchanged"),
        }
    }
}

impl fmt::Display for ReloadReport {
    /// `alpha: ok, beta: unchanged, world: patched (v3+2)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.plugins.is_empty() {
            return f.write_str("no plugins");
        }
        for (i, plugin) in self.plugins.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{}: {}", plugin.name, plugin.outcome)?;
            if let (Outcome::Patched, Some(version)) = (plugin.outcome, plugin.version) {
                write!(f, " ({})", version_label(version, plugin.patch))?;
            }
            if let Some(why) = &plugin.not_patched {
                write!(f, " (as a whole: {why})")?;
            }
        }
        for waited in self.phases.iter().filter(|timing| timing.phase == PhaseKind::CallsWaited) {
            let plugin = waited.plugin.as_deref().unwrap_or("all");
            let ms = Duration::from_micros(waited.elapsed_us).as_secs_f64() * 1000.0;
            write!(f, "; calls of {plugin} waited for at most {ms:.1} ms")?;
        }
        Ok(())
    }
}

/// The severity of a log record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// The finest details.
    Trace,
    /// For developers.
    Debug,
    /// For operators of the host.
    Info,
    /// Something is wrong, but the host can go on.
    Warn,
    /// Something failed.
    Error,
}

impl LogLevel {
    /// All levels, from `Trace` to `Error`.
    pub const ALL: [Self; 5] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// The word for a log line, in capitals: `WARN`.
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

/// A record of the host's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// The record's number, counted by the host from 1. If a number is missing, that record was dropped.
    pub seq: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Its severity.
    pub level: LogLevel,
    /// The module or target that wrote it.
    pub target: String,
    /// The message.
    pub message: String,
    /// Its other fields, in order: name and value as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<(String, String)>,
    /// The plugin that wrote it; `None` if the host did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The version of that plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The patch of that version whose code ran; `None` if it was the version as it was loaded, or if the record
    /// was not written within a call of a function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<u32>,
    /// The path of the source file that wrote it, or that panicked, as it was passed to the compiler; `None` if it
    /// is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_has_its_name_in_json_also_one_that_is_not_known() {
        let steps = [Step::OnLoad, Step::HandOver, Step::TakeBack].map(PhaseKind::Step);
        for (phase, name) in steps.into_iter().zip(["on_load", "hand_over", "take_back"]) {
            assert_eq!(serde_json::from_value::<PhaseKind>(name.into()).unwrap(), phase);
            assert_eq!(phase.as_str(), name);
        }
        for phase in PhaseKind::BESIDE_STEPS {
            let name = phase.as_str().to_owned();
            assert_eq!(serde_json::to_value(&phase).unwrap(), name);
            assert_eq!(serde_json::from_value::<PhaseKind>(name.into()).unwrap(), phase);
        }
        let told = serde_json::json!({ "phase": "of a later version", "elapsed_us": 3 });
        let timing: PhaseTiming = serde_json::from_value(told.clone()).unwrap();
        assert_eq!(timing.phase, PhaseKind::Other("of a later version".to_owned()));
        assert_eq!(serde_json::to_value(&timing).unwrap(), told);
        // The name of an unknown step is not the name of a step.
        assert_eq!(PhaseKind::from("other".to_owned()), PhaseKind::Other("other".to_owned()));
    }
}
