//! A session: builds a host and its plugins, starts the host, stays connected to it, watches the sources, and
//! reloads what changed.
//!
//! [`start`] runs a session in the background. Orders go in, and events and log lines come out, each over a
//! bounded channel of its own. The screen and `hotswap run` use sessions.

mod cargo_flags;
pub(crate) mod disagreements;
mod event;
pub(crate) mod host_inputs;
mod job;
mod link;
mod output;
pub(crate) mod plugin_dir;
mod process;
mod stops;
mod store;
mod successor;
mod supervisor;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use hotswap_protocol::{ErrorKind, InvokeParams, WireError};
use serde::Serialize;
use tokio::sync::mpsc;

pub use hotswap_build::BuildEffect;

pub use event::{BuildLine, LogLine, OutputStream, SessionEvent};
pub use job::{Job, JobOutcome};
pub use store::{StoredBuild, StoredChoice};

use crate::compare::difference::DiffRequest;
use crate::compare::probe::Prober;
use crate::host::operation::Operation;
use crate::host::socket::HostChoice;

/// How many events may wait for their reader; a build then waits, too.
const EVENT_QUEUE: usize = 512;
/// How many log lines may wait for their reader; the host drops and counts further records.
const LOG_QUEUE: usize = 8192;
/// How many orders may wait; further ones are refused.
const ORDER_QUEUE: usize = 64;

/// The subject of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A cargo package whose `[package.metadata.hotswap]` names the plugins.
    Package(PathBuf),
    /// A program that is already built.
    Executable(PathBuf),
    /// A host that is already running.
    Running(HostChoice),
    /// No host: nothing is built or started.
    Nothing,
}

impl Target {
    /// The package directory or executable at `path`.
    pub fn at(path: PathBuf) -> Result<Self, WireError> {
        let setup = |message: String| WireError::new(ErrorKind::Build, message);
        let metadata = std::fs::metadata(&path)
            .map_err(|error| setup(format!("no host at {}: {error}", path.display())))?;
        if metadata.is_file() {
            if metadata.permissions().mode() & 0o111 == 0 {
                return Err(setup(format!(
                    "{} is a file that cannot be executed: name a host's package directory, or an executable together \
                     with --plugins DIR",
                    path.display()
                )));
            }
            return Ok(Self::Executable(path));
        }
        if !path.join("Cargo.toml").is_file() {
            return Err(setup(format!(
                "{} is not a cargo package: it has no Cargo.toml. Name a host's package directory, \
                 or an executable together with --plugins DIR",
                path.display()
            )));
        }
        Ok(Self::Package(path))
    }
}

/// The settings of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Its subject.
    pub target: Target,
    /// The directory of artifacts, if it is not the one that the package names.
    pub plugin_dir: Option<PathBuf>,
    /// The command line arguments of the host.
    pub host_arguments: Vec<String>,
    /// More flags for cargo, after the flags of the host's manifest.
    pub cargo_flags: Vec<String>,
    /// The reaction to saves.
    pub watch: Watch,
    /// Whether a build in which only bodies of functions changed is loaded as a patch.
    pub patch: bool,
    /// The pause between two scans of the sources; `None` if the file system reports changes.
    pub poll: Option<Duration>,
    /// The client name of the session.
    pub client_name: &'static str,
    /// Opens artifacts to compare them.
    pub prober: Prober,
    /// Whether a screen shows it, which no other process may write over.
    pub has_screen: bool,
}

/// The reaction to a save.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Watch {
    /// Build and reload.
    On,
    /// Build, and reload unless that would break something that is in use; then a person decides.
    Ask,
    /// Build only; a person can see what a reload would change, and reload.
    Build,
    /// Nothing.
    #[default]
    Off,
}

impl Watch {
    /// The next mode, in a circle.
    pub fn next(self) -> Self {
        match self {
            Self::On => Self::Ask,
            Self::Ask => Self::Build,
            Self::Build => Self::Off,
            Self::Off => Self::On,
        }
    }

    /// Whether saves are reloaded without a person.
    pub fn reloads(self) -> bool {
        matches!(self, Self::On | Self::Ask)
    }

    /// The value for `--watch`.
    pub fn as_argument(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Ask => "ask",
            Self::Build => "build",
            Self::Off => "off",
        }
    }

    /// The text for a screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Ask => "on, asks if breaking",
            Self::Build => "build only",
            Self::Off => "off",
        }
    }
}

/// An order to a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// Build these plugins, by package name; all plugins if empty.
    Build(Vec<String>),
    /// Send a request to the host. A reload and a free are jobs; other requests are sent at once.
    Operate(Operation),
    /// Write this to the host's standard input.
    Input(Vec<u8>),
    /// Make this call in the serving version and in a stored build, each in a process of its own.
    InvokeInBoth(InvokeParams, StoredChoice),
    /// Close the host's standard input.
    EndInput,
    /// Load builds as patches where possible, or load all builds as a whole.
    Patch(bool),
    /// Cancel the running calls.
    CancelCalls,
    /// Keep a version loaded, such as `world@3`, so that it can be called after it was replaced.
    Hold(String),
    /// Stop keeping it loaded.
    Release(String),
    /// Show what a reload would change.
    Preview,
    /// Make the pinned calls in the serving builds and in those that a reload would load, each in a process of its
    /// own.
    Replay,
    /// Show the differences between two versions of a plugin.
    Compare(DiffRequest),
    /// List the stored builds of this plugin.
    ListBuilds(String),
    /// Change the reaction to saves.
    Watch(Watch),
    /// Cancel the running job where possible, and forget waiting jobs.
    Cancel,
    /// End the host if it runs, and start it again.
    Restart,
    /// The same, with these builds in place of those in the plugin directory.
    RestartWith(Vec<StoredChoice>),
    /// End the session, and the host if the session started it.
    End,
}

/// The channels of a session.
pub struct Session {
    /// Takes orders.
    pub orders: mpsc::Sender<Order>,
    /// Events; the channel closes after [`SessionEvent::Ended`].
    pub events: mpsc::Receiver<SessionEvent>,
    /// The host's output and log.
    pub logs: mpsc::Receiver<LogLine>,
}

/// Starts a session in the background.
pub fn start(options: Options) -> Session {
    let (orders, ordered) = mpsc::channel(ORDER_QUEUE);
    let (send_events, events) = mpsc::channel(EVENT_QUEUE);
    let (write_log, logs) = mpsc::channel(LOG_QUEUE);
    tokio::spawn(supervisor::supervise(options, ordered, send_events, write_log));
    Session { orders, events, logs }
}
