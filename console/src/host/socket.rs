//! Where hosts listen, and how one of them is chosen.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use hotswap_protocol::{ErrorKind, HostInfo, RuntimeDir, WireError, remove_dead_socket};

use crate::host::client::Client;

/// A host that accepts connections but does not say hello for this long is passed over.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);

/// The directory that holds the sockets of this user's hosts.
pub fn directory() -> PathBuf {
    runtime_dir().path().to_owned()
}

fn runtime_dir() -> RuntimeDir {
    RuntimeDir::of(user_id())
}

fn user_id() -> u32 {
    rustix::process::getuid().as_raw()
}

/// Says that no host has a socket in the directory, and why it was not looked for, if so.
pub(crate) fn no_sockets() -> String {
    let dir = runtime_dir();
    let mut text = format!("no host runs with a console socket in {}", dir.path().display());
    let untrusted = dir.check().err().filter(|error| error.kind() != io::ErrorKind::NotFound);
    let passed_over = dir.passed_over().map(str::to_owned);
    for why in passed_over.into_iter().chain(untrusted.map(|error| error.to_string())) {
        text = format!("{text}. {why}");
    }
    text
}

/// The socket of the host with this process id.
pub fn of_process(pid: u32) -> PathBuf {
    directory().join(format!("{pid}.sock"))
}

/// Which host is meant: `--host PID|SOCKET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostChoice {
    /// The host with this process id, at its usual socket.
    Process(u32),
    /// The host at this socket.
    Socket(PathBuf),
}

impl FromStr for HostChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(pid) = text.parse() {
            return Ok(Self::Process(pid));
        }
        if text.is_empty() {
            return Err("expected a process id or the path of a socket".into());
        }
        Ok(Self::Socket(text.into()))
    }
}

impl HostChoice {
    /// The socket to connect to.
    pub fn socket(&self) -> PathBuf {
        match self {
            Self::Process(pid) => of_process(*pid),
            Self::Socket(path) => path.clone(),
        }
    }

    fn no_host(&self, reason: &io::Error) -> WireError {
        let message = match self {
            Self::Process(pid) => format!(
                "no host with process id {pid} listens at {}: {reason}. \
                 `hotswap hosts` lists those that run",
                self.socket().display()
            ),
            Self::Socket(path) => format!(
                "no host listens at {}: {reason}. `hotswap hosts` lists those that run",
                path.display()
            ),
        };
        WireError::new(ErrorKind::NoHost, message)
    }

    /// Connects to this host; a socket that nobody listens at any more is removed.
    pub async fn connect(&self, client_name: &str) -> Result<Connected, WireError> {
        if matches!(self, Self::Process(_)) {
            runtime_dir().check().map_err(|error| self.no_host(&error))?;
        }
        match open(&self.socket()).await {
            Ok(stream) => hello(stream, client_name).await,
            Err(error) => Err(self.no_host(&error)),
        }
    }
}

/// A client, and what the host tells it by itself.
pub type Connected = (Client, tokio::sync::mpsc::Receiver<hotswap_protocol::Notification>);

/// Connects to the chosen host, or to the only one that runs.
pub async fn connect(
    choice: Option<&HostChoice>,
    client_name: &str,
) -> Result<Connected, WireError> {
    if let Some(choice) = choice {
        return choice.connect(client_name).await;
    }
    let mut found = running(client_name).await;
    match found.len() {
        0 => Err(no_host_runs()),
        1 => Ok(found.remove(0)),
        count => {
            let hosts: Vec<_> = found
                .iter()
                .map(|(client, _)| format!("{} (pid {})", client.host().name, client.host().pid))
                .collect();
            Err(WireError::new(
                ErrorKind::NoHost,
                format!("{count} hosts run: {}; choose one with --host PID", hosts.join(", ")),
            ))
        }
    }
}

/// Says that no host of this user runs, and how one is started.
pub(crate) fn no_host_runs() -> WireError {
    WireError::new(
        ErrorKind::NoHost,
        format!("{}; start one with `hotswap run <host-dir>`", no_sockets()),
    )
}

/// The hosts of this user that answer, sorted by process id.
pub async fn hosts(client_name: &str) -> Vec<HostInfo> {
    running(client_name).await.iter().map(|(client, _)| client.host().clone()).collect()
}

async fn running(client_name: &str) -> Vec<Connected> {
    let attempts = sockets().into_iter().map(|path| async move {
        let stream = open(&path).await.ok()?;
        hello(stream, client_name).await.ok()
    });
    let mut found: Vec<Connected> =
        futures::future::join_all(attempts).await.into_iter().flatten().collect();
    found.sort_by_key(|(client, _)| client.host().pid);
    found
}

fn sockets() -> Vec<PathBuf> {
    let dir = runtime_dir();
    // In a directory that others can change, anybody can listen.
    if dir.check().is_err() {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(dir.path()) else { return Vec::new() };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sock"))
        .collect()
}

/// Connects, and removes the socket of a host that has gone without doing so: one among those of this
/// user's hosts, and not whatever somebody names.
async fn open(path: &Path) -> io::Result<tokio::net::UnixStream> {
    let answer = tokio::net::UnixStream::connect(path).await;
    let refused = matches!(&answer, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused);
    // A host that is just starting refuses too, between making its socket and listening.
    let pid = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
    if let Some(pid) = pid.filter(|pid| refused && *path == of_process(*pid)) {
        remove_left_behind(pid);
    }
    answer
}

/// Removes the socket that a process which has ended left. One that stays does no harm.
pub(crate) fn remove_left_behind(pid: u32) {
    if !process_lives(pid) {
        remove_dead_socket(&of_process(pid), user_id());
    }
}

/// Whether a process of this id runs. One that has ended and whose parent has not noticed does not.
pub(crate) fn process_lives(pid: u32) -> bool {
    let Some(id) = rustix::process::Pid::from_raw(pid.cast_signed()) else { return false };
    let is_there = rustix::process::test_kill_process(id).is_ok();
    // The name before the state may have any sign in it.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    is_there && !matches!(state, Some('Z' | 'X'))
}

async fn hello(stream: tokio::net::UnixStream, client_name: &str) -> Result<Connected, WireError> {
    match tokio::time::timeout(HELLO_TIMEOUT, Client::hello(stream, client_name)).await {
        Ok(answer) => answer,
        Err(_) => Err(WireError::new(
            ErrorKind::NoHost,
            format!(
                "the host accepts connections but did not say hello within {} s; is it stopped?",
                HELLO_TIMEOUT.as_secs()
            ),
        )),
    }
}
