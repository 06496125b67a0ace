//! What a session tells.

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

/// Something that happened in a session.
///
/// As JSON it is one line of `hotswap run --json`, told apart by `event`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SessionEvent {
    /// The host's package was read.
    Opened {
        /// The host.
        name: String,
        /// Its package's directory; none where it was not started from one.
        #[serde(skip_serializing_if = "Option::is_none")]
        package_dir: Option<PathBuf>,
        /// Where its artifacts go; none when only the host knows.
        plugin_dir: Option<PathBuf>,
        /// Its plugins' package names.
        plugins: Vec<String>,
        /// The directories of these packages, in the same order.
        plugin_packages: Vec<PathBuf>,
    },
    /// Work began.
    JobStarted {
        /// What work.
        job: Job,
    },
    /// A build got further.
    JobProgress {
        /// Units compiled.
        done: usize,
        /// Units in all, when cargo has said so.
        total: Option<usize>,
        /// The last one compiled.
        package: String,
    },
    /// Cargo said something.
    Build {
        /// The package being built.
        package: String,
        /// What it said.
        #[serde(flatten)]
        line: BuildLine,
    },
    /// A plugin's artifact is in the plugin directory.
    Built {
        /// The plugin, as the artifact names it.
        plugin: String,
        /// The artifact's build id.
        build_id: String,
        /// Where it lies.
        path: PathBuf,
        /// How many warnings the compiler gave.
        warnings: usize,
        /// What it changed: `new_code`, `same_code`, or nothing since it is `up_to_date`.
        effect: BuildEffect,
        /// Which functions changed, and what else, compared with the build before; none where that is not
        /// known, as after a run of cargo.
        changes: Option<SourceChanges>,
        /// Whether the version that runs can have its code as a patch; none if there is no such version, or if
        /// patches are not wanted.
        #[serde(skip_serializing_if = "Option::is_none")]
        patchable: Option<bool>,
        /// Why the version that runs cannot have its code as a patch; none if it can, if there is no such
        /// version, or if patches are not wanted.
        #[serde(skip_serializing_if = "Option::is_none")]
        not_patched: Option<String>,
        /// Whether the host serves its code already, which it got while the artifact was linked: no reload follows.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_served: bool,
        /// How long each phase took: what `hotswap build -v` tells; before it `notice`, from the
        /// moment a save was noticed, and after it `install`.
        phases: Vec<PhaseTiming>,
    },
    /// What lies in the plugin directory, whoever put it there; told when that has changed.
    #[serde(skip)]
    Installed {
        /// The build id of each plugin's artifact, as the artifact names the plugin.
        builds: BTreeMap<String, String>,
    },
    /// The host was to be started anew with an artifact that it cannot load.
    #[serde(skip)]
    ArtifactRefused {
        /// The plugin, or the artifact's file where that does not say which plugin it is of.
        plugin: String,
        /// What is wrong with the artifact.
        reason: String,
        /// The build id of the earlier build that is in its place now; none where none is stored.
        instead: Option<String>,
    },
    /// Work ended.
    JobFinished {
        /// What work.
        job: Job,
        /// How.
        #[serde(flatten)]
        outcome: JobOutcome,
        /// How long it took, in milliseconds.
        elapsed_ms: u64,
    },
    /// The host's process runs.
    HostStarted {
        /// Its process id.
        pid: u32,
    },
    /// The host answers.
    Connected {
        /// Who answers.
        host: HostInfo,
    },
    /// The connection is lost; it is tried anew while the host's process lives.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// The host's process ended.
    HostExited {
        /// How.
        #[serde(flatten)]
        exit: HostExit,
        /// Whether it was told to.
        expected: bool,
        /// The calls that were under way when it ended by itself; none when nobody can tell.
        #[serde(skip_serializing_if = "Option::is_none")]
        calls: Option<Vec<InFlightCall>>,
    },
    /// The host's process runs, and its engine has not answered yet; it is tried on.
    HostSilent {
        /// For how long, in milliseconds.
        waited_ms: u64,
    },
    /// The host's process was stopped, and does nothing until it is continued.
    HostStopped {
        /// The signal that stopped it; 0 if the system does not say which.
        signal: i32,
    },
    /// The host's process was continued.
    HostContinued,
    /// The host, or what it started, was sent SIGTERM, for it to end.
    HostTerminated {
        /// Why.
        reason: String,
    },
    /// The host, or what it started, was ended with SIGKILL.
    HostKilled {
        /// Why.
        reason: String,
    },
    /// Sources changed; their plugins are built, and reloaded where that is wanted.
    SourcesChanged {
        /// The plugins' package names.
        plugins: Vec<String>,
        /// When the save was noticed, in milliseconds since the Unix epoch.
        saved_at_ms: u64,
    },
    /// The host that runs is older than its sources.
    HostOutdated {
        /// The plugins whose sources changed with the host's: the host calls their new versions as it
        /// was built before.
        plugins: Vec<String>,
    },
    /// Cargo makes other code of a plugin than a build without it made. What cargo made is in the plugin
    /// directory.
    ReplayDisagreed {
        /// The plugin, as the artifact names it.
        plugin: String,
        /// The build id of what cargo made.
        build_id: String,
        /// The build id of what was built without cargo.
        replayed: String,
        /// The crates that cargo compiled although none of their recorded sources had changed.
        missed: Vec<String>,
        /// Where the artifact lies.
        path: PathBuf,
    },
    /// The host got code of a plugin before its artifact was there, and the build failed: the host goes back to the
    /// artifact in the plugin directory.
    EarlyDropped {
        /// The plugin's package name.
        plugin: String,
    },
    /// What was saved is built and not reloaded, since that would break something that is used.
    ReloadWaits {
        /// The plugins whose new builds would.
        plugins: Vec<String>,
    },
    /// The manifests name other plugins than before.
    PluginsChanged {
        /// What came, by package name: it is built and loaded.
        added: Vec<String>,
        /// What was taken off: it is unloaded, and its artifact removed from the plugin directory.
        removed: Vec<String>,
        /// All package names now.
        plugins: Vec<String>,
        /// The directories of these packages, in the same order.
        plugin_packages: Vec<PathBuf>,
    },
    /// The sources are watched from now on, or no longer.
    Watching {
        /// Whether they are.
        on: bool,
        /// What a save does: it is reloaded (`on`), or unless that would break something (`ask`), only built
        /// (`build`), or left alone (`off`).
        mode: Watch,
        /// Why they cannot be.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// The type of the file system on which the sources lie, if it may not tell of all changes:
        /// then `--poll` notices them.
        #[serde(skip_serializing_if = "Option::is_none")]
        file_system: Option<String>,
    },
    /// Builds are patches for the versions that run from now on, where that is possible; or each is loaded as a
    /// whole.
    Patching {
        /// Whether they are patches.
        on: bool,
    },
    /// The state of the engine, whenever it may have changed.
    #[serde(skip)]
    Snapshot(Box<Snapshot>),
    /// The state of the engine was asked for, and is the last one.
    #[serde(skip)]
    SameSnapshot,
    /// The Vault, when it was asked for.
    #[serde(skip)]
    Vault(Result<VaultSnapshot, WireError>),
    /// The live functions and types, when they were asked for.
    #[serde(skip)]
    Live(Result<LiveSnapshot, WireError>),
    /// A function's answer.
    #[serde(skip)]
    Invoked {
        /// The call.
        operation: Operation,
        /// Its answer.
        answer: Result<InvokeResult, WireError>,
    },
    /// The pinned calls, when they were asked for.
    #[serde(skip)]
    Pins(Result<Pins, WireError>),
    /// A call could not be pinned, or unpinned.
    #[serde(skip)]
    NotPinned(WireError),
    /// A call that was to be cancelled goes on.
    #[serde(skip)]
    CallGoesOn {
        /// Why.
        reason: String,
    },
    /// A call was made in what serves and in a stored build.
    #[serde(skip)]
    InvokedInBoth {
        /// The call.
        operation: Operation,
        /// What it gave in what serves, and in the stored build.
        answers: Box<[Result<InvokeResult, WireError>; 2]>,
    },
    /// A version is kept loaded from now on, or no longer.
    #[serde(skip)]
    Held {
        /// `world@3`
        target: String,
        /// Whether it is kept; or why that could not be changed.
        answer: Result<bool, WireError>,
    },
    /// What a reload would change, when it was asked for.
    #[serde(skip)]
    Preview(Result<Preview, WireError>),
    /// The reloads of before this session was connected; some may be told as events too.
    #[serde(skip)]
    Reloads(Reloads),
    /// What the pinned calls give in what a reload would load, when it was asked for.
    #[serde(skip)]
    Replayed(Result<Replay, WireError>),
    /// How versions differ, when it was asked for.
    #[serde(skip)]
    Difference(Box<Difference>),
    /// What is stored of a plugin, when it was asked for.
    #[serde(skip)]
    StoredBuilds {
        /// The plugin.
        plugin: String,
        /// Its builds, the newest first; or why they cannot be listed.
        builds: Result<Vec<StoredBuild>, String>,
    },
    /// The session is over.
    Ended {
        /// Why it could not go on.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<WireError>,
    },
    /// Something happened in the engine.
    #[serde(untagged)]
    Engine(hotswap_protocol::Event),
}

impl SessionEvent {
    /// Whether only a screen is told, and it has no JSON: the variants with `serde(skip)`.
    pub fn is_for_screens(&self) -> bool {
        // All are listed, so that a new one is decided about.
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
            | Self::ReplayDisagreed { .. }
            | Self::PluginsChanged { .. }
            | Self::Watching { .. }
            | Self::Patching { .. }
            | Self::Ended { .. }
            | Self::Engine(_) => false,
        }
    }
}

/// Something cargo said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum BuildLine {
    /// A diagnostic of the compiler.
    Diagnostic {
        /// How grave it is: `error`, `warning`, `note` or `help`.
        level: &'static str,
        /// Its first line.
        message: String,
        /// All of it as cargo shows it, with colours unless they were taken out.
        rendered: String,
        /// The file it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<PathBuf>,
        /// The line in the file, from 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        row: Option<u32>,
        /// The column in the line, from 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        column: Option<u32>,
    },
    /// Other output.
    Output {
        /// A line of it.
        text: String,
    },
}

impl SessionEvent {
    /// The event, what the compiler and cargo say in it with or without colours.
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

    /// Takes what is to be shown of a message; progress is told apart.
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
        /// On which of them.
        stream: OutputStream,
        /// The line, without its end.
        text: String,
    },
    /// Lines that nobody will see: they came faster than they were read.
    Dropped {
        /// How many.
        count: u64,
    },
}

/// Where a plain line was written.
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
