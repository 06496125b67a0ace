//! A session: a host, its plugins' sources, and what is done to them.
//!
//! It builds the host and its plugins, starts the host, keeps a connection to it, watches the
//! sources, and reloads what changed. [`start`] runs it in the background; orders go in, events
//! and log lines come out, each over a bounded channel of its own. The screen and `hotswap run`
//! are its two users.

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

/// How many events wait for their reader; a build waits with them.
const EVENT_QUEUE: usize = 512;
/// How many log lines wait for their reader; beyond, the host drops records and counts them.
const LOG_QUEUE: usize = 8192;
/// How many orders wait; more are refused.
const ORDER_QUEUE: usize = 64;

/// What a session is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A cargo package whose `[package.metadata.hotswap]` names the plugins.
    Package(PathBuf),
    /// A program that is built already.
    Executable(PathBuf),
    /// A host that runs already.
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
            return Ok(Self::Executable(path));
        }
        if !path.join("Cargo.toml").is_file() {
            return Err(setup(format!(
                "{} is no cargo package: it has no Cargo.toml. Name a host's package directory, \
                 or an executable together with --plugins DIR",
                path.display()
            )));
        }
        Ok(Self::Package(path))
    }
}

/// How a session begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What it is about.
    pub target: Target,
    /// The directory of artifacts, where it is not the one the package names.
    pub plugin_dir: Option<PathBuf>,
    /// What the host gets on its command line.
    pub host_arguments: Vec<String>,
    /// More flags for cargo, after those of the host's manifest.
    pub cargo_flags: Vec<String>,
    /// What a save does.
    pub watch: Watch,
    /// Whether builds in which only bodies of functions changed are patches for the versions that run.
    pub patch: bool,
    /// The pause between two looks at the sources; `None` if the file system tells of changes.
    pub poll: Option<Duration>,
    /// The name that the session gives itself when it says hello.
    pub client_name: &'static str,
    /// What opens artifacts to compare them.
    pub prober: Prober,
    /// Whether it is shown on a screen, over which nobody else may write.
    pub has_screen: bool,
}

/// What a save does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Watch {
    /// It is built and reloaded.
    On,
    /// It is built, and reloaded unless that would break something that is used; then a person decides.
    Ask,
    /// It is built; what a reload would change can be looked at before it is done.
    Build,
    /// Nothing.
    #[default]
    Off,
}

impl Watch {
    /// The one after this, around the end.
    pub fn next(self) -> Self {
        match self {
            Self::On => Self::Ask,
            Self::Ask => Self::Build,
            Self::Build => Self::Off,
            Self::Off => Self::On,
        }
    }

    /// Whether a save is reloaded by itself, if nothing speaks against it.
    pub fn reloads(self) -> bool {
        matches!(self, Self::On | Self::Ask)
    }

    /// As `--watch` takes it.
    pub fn as_argument(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Ask => "ask",
            Self::Build => "build",
            Self::Off => "off",
        }
    }

    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Ask => "on, asks if breaking",
            Self::Build => "build only",
            Self::Off => "off",
        }
    }
}

/// Something a session can be told to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// Build these plugins, by package name; all when empty.
    Build(Vec<String>),
    /// Ask the host something; reload and free are jobs, the others are answered at once.
    Operate(Operation),
    /// Write this on the host's standard input.
    Input(Vec<u8>),
    /// Make this call in what serves and in a stored build, each in a process of its own.
    InvokeInBoth(InvokeParams, StoredChoice),
    /// Close the host's standard input.
    EndInput,
    /// Make builds into patches for the versions that run, where that is possible; or have each loaded as a whole.
    Patch(bool),
    /// Cancel the calls that run.
    CancelCalls,
    /// Keep a version loaded, `world@3`, so that it can be called when another one serves.
    Hold(String),
    /// No longer keep it loaded.
    Release(String),
    /// Tell what a reload would change.
    Preview,
    /// Make the pinned calls in what a reload would load and in what serves, each in a process of its own.
    Replay,
    /// Tell how two versions of a plugin differ.
    Compare(DiffRequest),
    /// Tell which builds of this plugin are stored.
    ListBuilds(String),
    /// Do this about saves from now on.
    Watch(Watch),
    /// End the running job, where that is possible, and forget those that wait.
    Cancel,
    /// End the host if it runs, and start it anew.
    Restart,
    /// The same, with these builds in place of what is in the plugin directory.
    RestartWith(Vec<StoredChoice>),
    /// End the host if the session started it, and the session.
    End,
}

/// The ends of a session's channels.
pub struct Session {
    /// Takes orders.
    pub orders: mpsc::Sender<Order>,
    /// What happens; closes after [`SessionEvent::Ended`].
    pub events: mpsc::Receiver<SessionEvent>,
    /// What the host writes.
    pub logs: mpsc::Receiver<LogLine>,
}

/// Starts a session in the background.
pub fn start(options: Options) -> Session {
    let (orders, ordered) = mpsc::channel(ORDER_QUEUE);
    let (tell, events) = mpsc::channel(EVENT_QUEUE);
    let (write_log, logs) = mpsc::channel(LOG_QUEUE);
    tokio::spawn(supervisor::supervise(options, ordered, tell, write_log));
    Session { orders, events, logs }
}
