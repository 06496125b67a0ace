//! The events of a session.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use hotswap_build::{BuildEffect, BuildMessage, DiagnosticLevel, SourceChanges};
use hotswap_protocol::{
    HostInfo, InFlightCall, InvokeResult, LiveSnapshot, LogRecord, PhaseTiming, Pins, Reloads,
    Snapshot, VaultSnapshot, WireError,
};
use serde::Serialize;

use super::Watch;
use super::job::{Job, JobOutcome};
use super::store::StoredBuild;
use crate::compare::difference::Difference;
use crate::compare::preview::Preview;
use crate::compare::replay::Replay;
use crate::format;
use crate::host::HostExit;
use crate::host::operation::Operation;

/// An event of a session.
///
/// As JSON it is one line of `hotswap run --json`, and its `event` names the kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SessionEvent {
    /// The host's package was read.
    Opened {
        /// The host.
        name: String,
        /// Its package's directory; `None` if it was not started from a package.
        #[serde(skip_serializing_if = "Option::is_none")]
        package_dir: Option<PathBuf>,
        /// The directory of its artifacts; `None` if only the host knows it.
        plugin_dir: Option<PathBuf>,
        /// The package names of its plugins.
        plugins: Vec<String>,
        /// The directories of these packages, in the same order.
        plugin_packages: Vec<PathBuf>,
    },
    /// A job began.
    JobStarted {
        /// The job.
        job: Job,
    },
    /// A build made progress.
    JobProgress {
        /// The number of compiled units.
        done: usize,
        /// The number of all units, once cargo has reported it.
        total: Option<usize>,
        /// The unit that was compiled last.
        package: String,
    },
    /// A line of output of cargo or the compiler.
    Build {
        /// The package being built.
        package: String,
        /// The line.
        #[serde(flatten)]
        line: BuildLine,
    },
    /// A plugin's artifact is in the plugin directory.
    Built {
        /// The plugin, as the artifact names it.
        plugin: String,
        /// The artifact's build id.
        build_id: String,
        /// The path of the artifact.
        path: PathBuf,
        /// The number of compiler warnings.
        warnings: usize,
        /// Its effect: `new_code`, `same_code` or `up_to_date`.
        effect: BuildEffect,
        /// The changed functions and other items, compared with the last build; `None` if they are not known, such
        /// as after a run of cargo.
        changes: Option<SourceChanges>,
        /// Whether its code can be loaded into the running version as a patch; `None` if no such version runs, or
        /// if patches are turned off.
        #[serde(skip_serializing_if = "Option::is_none")]
        patchable: Option<bool>,
        /// Why its code cannot be loaded as a patch; `None` if it can, if no such version runs, or if patches are
        /// turned off.
        #[serde(skip_serializing_if = "Option::is_none")]
        not_patched: Option<String>,
        /// Whether the host already serves its code, which it got while the artifact was linked, so that no reload
        /// follows.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_served: bool,
        /// How long each phase took, as `hotswap build -v` shows; also `notice`, from the moment a save was
        /// noticed, and `install`.
        phases: Vec<PhaseTiming>,
    },
    /// The artifacts in the plugin directory, whoever put them there; sent when they have changed.
    #[serde(skip)]
    Installed {
        /// The build id of each plugin's artifact, as the artifact names the plugin.
        builds: BTreeMap<String, String>,
        /// The libraries that are no complete artifacts, by file name without suffix, and why.
        unusable: BTreeMap<String, String>,
    },
    /// The host was to be restarted with an artifact that it cannot load.
    #[serde(skip)]
    ArtifactRefused {
        /// The plugin, or the name of the file if the file does not name its plugin.
        plugin: String,
        /// The problem with the artifact.
        reason: String,
        /// The build id of the earlier build that has replaced it; `None` if no build is stored.
        instead: Option<String>,
    },
    /// A job ended.
    JobFinished {
        /// The job.
        job: Job,
        /// Its outcome.
        #[serde(flatten)]
        outcome: JobOutcome,
        /// How long it took, in milliseconds.
        elapsed_ms: u64,
    },
    /// The host's process has started.
    HostStarted {
        /// Its process id.
        pid: u32,
    },
    /// The host answers.
    Connected {
        /// The host.
        host: HostInfo,
    },
    /// The connection is lost. The session connects again as long as the host's process runs.
    Disconnected {
        /// The reason.
        reason: String,
    },
    /// The host's process ended.
    HostExited {
        /// How it ended.
        #[serde(flatten)]
        exit: HostExit,
        /// Whether the session has ended it.
        expected: bool,
        /// The calls that were in flight when it ended by itself; `None` if they are not known.
        #[serde(skip_serializing_if = "Option::is_none")]
        calls: Option<Vec<InFlightCall>>,
    },
    /// The host's process runs, but its engine has not answered yet. The session keeps trying.
    HostSilent {
        /// The time since the start, in milliseconds.
        waited_ms: u64,
    },
    /// The host's process was stopped by a signal, and does nothing until it is continued.
    HostStopped {
        /// The signal that stopped it; 0 if the system does not say which.
        signal: i32,
    },
    /// The host's process was continued.
    HostContinued,
    /// SIGTERM was sent to the host, or to processes that it started, to end them.
    HostTerminated {
        /// The reason.
        reason: String,
    },
    /// SIGKILL was sent to the host, or to processes that it started.
    HostKilled {
        /// The reason.
        reason: String,
    },
    /// Sources changed. Their plugins will be built, and reloaded if the session reloads saves.
    SourcesChanged {
        /// The plugins' package names.
        plugins: Vec<String>,
        /// When the last of them was saved, in milliseconds since the Unix epoch.
        saved_at_ms: u64,
    },
    /// The running host is older than its sources.
    HostOutdated {
        /// The plugins whose sources changed together with the host's: the running host, built before, calls their
        /// new versions.
        plugins: Vec<String>,
    },
    /// The running host is not older than its sources any more: they are again those from which it was built.
    HostCurrent,
    /// Cargo made other code of a plugin than a build without cargo. The build of cargo is now in the plugin
    /// directory.
    ReplayDisagreed {
        /// The plugin, as the artifact names it.
        plugin: String,
        /// The build id of the build with cargo.
        build_id: String,
        /// The build id of the build without cargo.
        replayed: String,
        /// The crates that cargo compiled although none of their recorded sources had changed.
        missed: Vec<String>,
        /// The path of the artifact.
        path: PathBuf,
    },
    /// The build of a plugin failed after the host had got its code early: the host goes back to the artifact in
    /// the plugin directory.
    EarlyDropped {
        /// The plugin's package name.
        plugin: String,
    },
    /// A build was not reloaded, because that would break something that is in use.
    ReloadWaits {
        /// The plugins whose new builds would break something.
        plugins: Vec<String>,
    },
    /// The manifests name other plugins than before.
    PluginsChanged {
        /// The added plugins, by package name, which are built and loaded.
        added: Vec<String>,
        /// The removed plugins, by package name, which are unloaded and removed from the plugin directory.
        removed: Vec<String>,
        /// All plugins now, by package name.
        plugins: Vec<String>,
        /// The directories of these packages, in the same order.
        plugin_packages: Vec<PathBuf>,
    },
    /// The changed manifests cannot be used, so the list of plugins stays as it was. They are read again
    /// after the next save.
    ManifestsRefused {
        /// The reason.
        error: String,
    },
    /// The watching of sources has begun or ended.
    Watching {
        /// Whether they are watched.
        on: bool,
        /// The reaction to a save: reload (`on`), reload unless that would break something (`ask`), build only
        /// (`build`), or nothing (`off`).
        mode: Watch,
        /// Why they cannot be watched.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// The type of the file system with the sources, if it may not report all changes; `--poll` then notices
        /// them.
        #[serde(skip_serializing_if = "Option::is_none")]
        file_system: Option<String>,
    },
    /// Patches were turned on or off.
    Patching {
        /// Whether builds are loaded as patches where possible.
        on: bool,
    },
    /// The state of the engine, whenever it may have changed.
    #[serde(skip)]
    Snapshot(Box<Snapshot>),
    /// The engine was asked for its state, and gave the same answer as before.
    #[serde(skip)]
    SameSnapshot,
    /// The Vault, after a request.
    #[serde(skip)]
    Vault(Result<VaultSnapshot, WireError>),
    /// The live functions and types, after a request.
    #[serde(skip)]
    Live(Result<LiveSnapshot, WireError>),
    /// The answer of a call.
    #[serde(skip)]
    Invoked {
        /// The call.
        operation: Operation,
        /// Its answer.
        answer: Result<InvokeResult, WireError>,
    },
    /// The pinned calls, after a request.
    #[serde(skip)]
    Pins(Result<Pins, WireError>),
    /// A call could not be pinned or unpinned.
    #[serde(skip)]
    NotPinned(WireError),
    /// A call could not be cancelled and continues.
    #[serde(skip)]
    CallGoesOn {
        /// The reason.
        reason: String,
    },
    /// A call was made in the serving version and in a stored build.
    #[serde(skip)]
    InvokedInBoth {
        /// The call.
        operation: Operation,
        /// The results in the serving version and in the stored build.
        answers: Box<[Result<InvokeResult, WireError>; 2]>,
    },
    /// A version is kept loaded from now on, or not any more.
    #[serde(skip)]
    Held {
        /// `world@3`
        target: String,
        /// Whether it is kept; an error if that could not be changed.
        answer: Result<bool, WireError>,
    },
    /// The effects of a reload, after a request.
    #[serde(skip)]
    Preview(Result<Preview, WireError>),
    /// The reloads before this session was connected. Some may be sent as events, too.
    #[serde(skip)]
    Reloads(Reloads),
    /// The pinned calls in the builds that a reload would load, after a request.
    #[serde(skip)]
    Replayed(Result<Replay, WireError>),
    /// The differences between versions, after a request.
    #[serde(skip)]
    Difference(Box<Difference>),
    /// The stored builds of a plugin, after a request.
    #[serde(skip)]
    StoredBuilds {
        /// The plugin.
        plugin: String,
        /// The builds, the newest first, or why they cannot be listed.
        builds: Result<Vec<StoredBuild>, String>,
    },
    /// The session is over.
    Ended {
        /// The error that ended it, if any.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<WireError>,
    },
    /// An event of the engine.
    #[serde(untagged)]
    Engine(hotswap_protocol::Event),
}

impl SessionEvent {
    /// Whether only screens receive it and it has no JSON: the variants with `serde(skip)`.
    pub fn is_for_screens(&self) -> bool {
        // All variants are listed, so that each new one gets a decision.
        match self {
            Self::Installed { .. }
            | Self::ArtifactRefused { .. }
            | Self::Snapshot(_)
            | Self::SameSnapshot
            | Self::Vault(_)
            | Self::Live(_)
            | Self::Invoked { .. }
            | Self::InvokedInBoth { .. }
            | Self::Pins(_)
            | Self::NotPinned(_)
            | Self::CallGoesOn { .. }
            | Self::Held { .. }
            | Self::Preview(_)
            | Self::Replayed(_)
            | Self::Reloads(_)
            | Self::Difference(_)
            | Self::StoredBuilds { .. } => true,
            Self::Opened { .. }
            | Self::EarlyDropped { .. }
            | Self::ReloadWaits { .. }
            | Self::JobStarted { .. }
            | Self::JobProgress { .. }
            | Self::Build { .. }
            | Self::Built { .. }
            | Self::JobFinished { .. }
            | Self::HostStarted { .. }
            | Self::Connected { .. }
            | Self::Disconnected { .. }
            | Self::HostExited { .. }
            | Self::HostSilent { .. }
            | Self::HostStopped { .. }
            | Self::HostContinued
            | Self::HostTerminated { .. }
            | Self::HostKilled { .. }
            | Self::SourcesChanged { .. }
            | Self::HostOutdated { .. }
            | Self::HostCurrent
            | Self::ReplayDisagreed { .. }
            | Self::PluginsChanged { .. }
            | Self::ManifestsRefused { .. }
            | Self::Watching { .. }
            | Self::Patching { .. }
            | Self::Ended { .. }
            | Self::Engine(_) => false,
        }
    }
}

/// A line of output of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum BuildLine {
    /// A diagnostic of the compiler.
    Diagnostic {
        /// Its level: `error`, `warning`, `note` or `help`.
        level: &'static str,
        /// Its first line.
        message: String,
        /// The whole diagnostic as cargo shows it, with colours unless they were removed.
        rendered: String,
        /// The file that it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<PathBuf>,
        /// The line in the file, from 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        row: Option<u32>,
        /// The column in the line, from 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        column: Option<u32>,
    },
    /// Any other line.
    Output {
        /// The line.
        text: String,
    },
}

impl SessionEvent {
    /// The event, with or without the colours of the compiler and cargo.
    pub(crate) fn shown(&self, in_colours: bool) -> Cow<'_, Self> {
        match self {
            Self::Build { package, line } if !in_colours => {
                let (package, line) = (package.clone(), line.without_colours());
                Cow::Owned(Self::Build { package, line })
            }
            event => Cow::Borrowed(event),
        }
    }
}

impl BuildLine {
    fn without_colours(&self) -> Self {
        let mut line = self.clone();
        let (Self::Diagnostic { rendered: text, .. } | Self::Output { text }) = &mut line;
        *text = format::in_colours(text, false).into_owned();
        line
    }

    /// The part of a message that is shown; `None` for progress, which is a separate event.
    pub(super) fn of(message: BuildMessage) -> Option<Self> {
        match message {
            BuildMessage::Diagnostic(diagnostic) => Some(Self::Diagnostic {
                level: level_word(diagnostic.level),
                message: diagnostic.message,
                rendered: diagnostic.rendered,
                file: diagnostic.file,
                row: diagnostic.line,
                column: diagnostic.column,
            }),
            BuildMessage::Output(text) => Some(Self::Output { text }),
            _ => None,
        }
    }
}

fn level_word(level: DiagnosticLevel) -> &'static str {
    match level {
        DiagnosticLevel::Error => "error",
        DiagnosticLevel::Warning => "warning",
        DiagnosticLevel::Note => "note",
        _ => "help",
    }
}

/// A line that the host wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum LogLine {
    /// A structured record.
    Log(LogRecord),
    /// A line on stdout or stderr.
    Output {
        /// The stream.
        stream: OutputStream,
        /// The line, without its end.
        text: String,
    },
    /// Lines were lost, because they came faster than they were read.
    Dropped {
        /// Their number.
        count: u64,
    },
}

/// The stream of a plain line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputStream {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
}

impl OutputStream {
    /// `stdout` or `stderr`
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}
