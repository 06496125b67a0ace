//! The sockets of hosts, and the choice of a host.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use hotswap_protocol::{
    ErrorKind, HostInfo, RuntimeDir, SocketPath, WireError, remove_dead_socket,
};

use super::process::Stat;
use crate::host::client::Client;

/// A host is skipped if it accepts a connection but does not send hello within this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a host that owes an answer is asked for hello on another connection.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// A host whose answer is waited for counts as stopped if it does not send hello within this time.
const SILENCE: Duration = Duration::from_secs(5);

/// The directory that holds the sockets of this user's hosts.
pub fn directory() -> PathBuf {
    runtime_dir().path().to_owned()
}

/// The same directory, which is made if it does not exist.
pub(crate) fn make_directory() -> io::Result<PathBuf> {
    runtime_dir().make(None)
}

fn runtime_dir() -> RuntimeDir {
    RuntimeDir::of(user_id())
}

fn user_id() -> u32 {
    rustix::process::getuid().as_raw()
}

/// The message that no host has a socket in the directory, with the reason if another directory was not searched.
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

/// A choice of a host: `--host NAME|PID|SOCKET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostChoice {
    /// The host with this process id, at its usual socket.
    Process(u32),
    /// The host at this socket.
    Socket(PathBuf),
    /// The host in the project with this name, or the host with this name.
    Named(String),
    /// The host in this process, or in a process that it has started.
    Started(u32),
    /// A host of another machine, which is reached through a local socket.
    Through(PathBuf),
}

impl FromStr for HostChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(pid) = text.parse() {
            return Ok(Self::Process(pid));
        }
        if text.is_empty() {
            return Err("expected a name, a process id or the path of a socket".into());
        }
        let is_socket = |metadata: std::fs::Metadata| metadata.file_type().is_socket();
        if text.contains('/') || std::fs::metadata(text).is_ok_and(is_socket) {
            return Ok(Self::Socket(text.into()));
        }
        Ok(Self::Named(text.to_owned()))
    }
}

impl HostChoice {
    /// The socket to connect to.
    pub fn socket(&self) -> PathBuf {
        match self {
            Self::Process(pid) => of_process(*pid),
            Self::Started(pid) => of_process(started_by(*pid)),
            Self::Socket(path) | Self::Through(path) => path.clone(),
            Self::Named(name) => directory().join(name),
        }
    }

    /// Whether this choice includes a host.
    pub(crate) fn is_meant(&self, host: &HostInfo) -> bool {
        match self {
            Self::Process(pid) => host.pid == *pid,
            Self::Started(pid) => is_started_by(host.pid, *pid),
            Self::Socket(path) | Self::Through(path) => host.socket == *path,
            Self::Named(name) => host.name == *name,
        }
    }

    fn no_host(&self, reason: &io::Error) -> WireError {
        let message = match self {
            Self::Process(pid) | Self::Started(pid) => format!(
                "no host with process id {pid} listens at {}: {reason}. \
                 `hotswap hosts` lists those that run",
                self.socket().display()
            ),
            Self::Named(name) => {
                format!("no host is named {name}. `hotswap hosts` lists those that run")
            }
            Self::Through(_) => format!("the host of another machine cannot be reached: {reason}"),
            Self::Socket(path) => format!(
                "no host listens at {}: {reason}. `hotswap hosts` lists those that run",
                path.display()
            ),
        };
        WireError::new(ErrorKind::NoHost, message)
    }

    /// Connects to this host. Removes the socket if nobody listens at it any more.
    pub async fn connect(&self, client_name: &str) -> Result<Connected, WireError> {
        if let Self::Named(name) = self {
            let none = || self.no_host(&io::ErrorKind::NotFound.into());
            return running(client_name).await.choose(|host| host.name == *name, none);
        }
        if matches!(self, Self::Process(_) | Self::Started(_)) {
            runtime_dir().check().map_err(|error| self.no_host(&error))?;
        }
        match open(&self.socket()).await {
            Ok(stream) => {
                if !self.is_elsewhere() {
                    return hello(stream, client_name, &self.socket()).await;
                }
                let said = tokio::time::timeout(HELLO_TIMEOUT, Client::hello(stream, client_name));
                let (client, notifications) = said.await.unwrap_or_else(|_| {
                    let message = "the host of another machine does not answer through its agent: it may be stopped";
                    Err(WireError::new(ErrorKind::NoHost, message))
                })?;
                Ok((client.of_elsewhere(), notifications))
            }
            Err(error) => Err(self.no_host(&error)),
        }
    }

    /// Whether the host is on another machine, so its process ids and paths mean nothing here.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Through(_))
    }

    /// Whether the process of this host may be running. For a host of another machine this is not known, so it is
    /// `true`.
    pub(crate) fn may_live(&self, pid: u32) -> bool {
        self.is_elsewhere() || process_lives(pid)
    }
}

/// A client, and the notifications of its host.
pub type Connected = (Client, tokio::sync::mpsc::Receiver<hotswap_protocol::Notification>);

/// Connects to the chosen host, or to the only running one.
pub async fn connect(
    choice: Option<&HostChoice>,
    client_name: &str,
) -> Result<Connected, WireError> {
    if let Some(choice) = choice {
        return choice.connect(client_name).await;
    }
    let running = running(client_name).await;
    let here = std::env::current_dir().unwrap_or_default();
    let of_project = |host: &HostInfo| is_in_project(host, &here);
    let found = &running.found;
    if found.len() > 1 && found.iter().filter(|(client, _)| of_project(client.host())).count() == 1
    {
        return running.choose(of_project, no_host_runs);
    }
    running.choose(|_| true, no_host_runs)
}

/// Connects to the chosen host. Without a choice, it connects to the only host in the project of the current
/// directory; `None` if there is none. For commands about a file, which need no host.
pub async fn connect_in_project(
    choice: Option<&HostChoice>,
    client_name: &str,
) -> Result<Option<Connected>, WireError> {
    if let Some(choice) = choice {
        return choice.connect(client_name).await.map(Some);
    }
    let here = std::env::current_dir().unwrap_or_default();
    let running = running(client_name).await;
    Ok(running.choose(|host| is_in_project(host, &here), no_host_runs).ok())
}

/// The hosts of this user.
struct Running {
    found: Vec<Connected>,
    /// Why others that accept connections cannot be used, for example because they do not answer.
    silent: Vec<WireError>,
}

impl Running {
    /// The only one of these hosts that the choice includes.
    fn choose(
        mut self,
        is_meant: impl Fn(&HostInfo) -> bool,
        none: impl Fn() -> WireError,
    ) -> Result<Connected, WireError> {
        self.found.retain(|(client, _)| is_meant(client.host()));
        match (self.found.len(), self.silent.first()) {
            // It may be the one that is meant.
            (0, Some(silent)) => Err(silent.clone()),
            (0, None) => Err(none()),
            (1, _) => Ok(self.found.remove(0)),
            (count, _) => {
                let in_words = |(client, _): &Connected| {
                    format!("{} (pid {})", client.host().name, client.host().pid)
                };
                let hosts: Vec<_> = self.found.iter().map(in_words).collect();
                Err(WireError::new(
                    ErrorKind::NoHost,
                    format!("{count} hosts run: {}; choose one with --host PID", hosts.join(", ")),
                ))
            }
        }
    }
}

/// Whether a host runs in the project of a directory: its program, its working directory or its plugin directory
/// is in the same workspace.
fn is_in_project(host: &HostInfo, dir: &Path) -> bool {
    let Some(project) = project_of(dir) else { return false };
    let link = |name: &str| std::fs::read_link(format!("/proc/{}/{name}", host.pid)).ok();
    let places = [link("exe"), link("cwd"), Some(host.plugin_dir.clone())];
    places.into_iter().flatten().any(|place| place.starts_with(project))
}

/// The root of the workspace that contains a directory; the root of the package if there is no workspace.
fn project_of(dir: &Path) -> Option<&Path> {
    let manifest = |dir: &Path| std::fs::read_to_string(dir.join("Cargo.toml")).ok();
    let is_workspace = |dir: &&Path| {
        let manifest = manifest(dir).and_then(|text| text.parse::<toml::Table>().ok());
        manifest.is_some_and(|manifest| manifest.contains_key("workspace"))
    };
    let workspace = dir.ancestors().find(is_workspace);
    workspace.or_else(|| dir.ancestors().find(|dir| manifest(dir).is_some()))
}

/// The process with a socket among this one and its descendants; this process if none has a socket.
pub(crate) fn started_by(pid: u32) -> u32 {
    if of_process(pid).exists() {
        return pid;
    }
    let pids = sockets().into_iter().filter_map(|path| path.file_stem()?.to_str()?.parse().ok());
    pids.into_iter().find(|&other| is_started_by(other, pid)).unwrap_or(pid)
}

fn is_started_by(mut pid: u32, by: u32) -> bool {
    while pid > 1 && pid != by {
        let parent = Stat::of(pid).number(4);
        pid = parent.and_then(|parent| parent.try_into().ok()).unwrap_or(0);
    }
    pid == by
}

/// The error that no host of this user runs, with how to start one.
pub(crate) fn no_host_runs() -> WireError {
    WireError::new(
        ErrorKind::NoHost,
        format!("{}; start one with `hotswap run <host-dir>`", no_sockets()),
    )
}

/// The hosts of this user that answer, sorted by process id.
pub async fn hosts(client_name: &str) -> Vec<HostInfo> {
    let running = running(client_name).await;
    running.found.iter().map(|(client, _)| client.host().clone()).collect()
}

/// The hosts of this user that answer, sorted by process id, and why others cannot be used.
pub(crate) async fn hosts_and_silent(client_name: &str) -> (Vec<HostInfo>, Vec<WireError>) {
    let Running { found, silent } = running(client_name).await;
    (found.iter().map(|(client, _)| client.host().clone()).collect(), silent)
}

async fn running(client_name: &str) -> Running {
    let attempts = sockets().into_iter().map(|path| async move {
        let stream = open(&path).await.ok()?;
        Some(hello(stream, client_name, &path).await)
    });
    let (mut found, mut silent) = (Vec::new(), Vec::new());
    for answer in futures::future::join_all(attempts).await.into_iter().flatten() {
        match answer {
            Ok(connected) => found.push(connected),
            Err(error) => silent.push(error),
        }
    }
    found.sort_by_key(|(client, _)| client.host().pid);
    Running { found, silent }
}

/// Waits for an answer of a host, however long it takes, but not if the host stops answering at all: it is asked for
/// hello on other connections meanwhile.
pub(crate) async fn answered<T, E: From<WireError>>(
    client: &Client,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::select! {
        answer = answer => answer,
        error = silence(client) => Err(error.into()),
    }
}

/// Returns once the host does not answer any more.
pub(crate) async fn silence(client: &Client) -> WireError {
    let socket = &client.host().socket;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        // The socket of a host on another machine is not here, and a host that has ended closes the connection.
        if client.is_elsewhere() {
            continue;
        }
        let Ok(stream) = open(socket).await else { continue };
        let pid = peer(&stream);
        if tokio::time::timeout(SILENCE, Client::hello(stream, "look")).await.is_err() {
            return no_hello(pid, SILENCE, socket);
        }
    }
}

/// Returns once a host that was silent answers again, or has ended.
pub(crate) async fn end_of_silence(client: &Client) {
    if let Ok(stream) = open(&client.host().socket).await {
        // A host that has ended closes the other connection, too.
        let _ = Client::hello(stream, "look").await;
    }
}

/// The sockets of this user's hosts, including those of dead hosts.
pub(crate) fn sockets() -> Vec<PathBuf> {
    let dir = runtime_dir();
    // If others can change the directory, a socket in it could be anybody's.
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

/// Connects. If the host has died and left its socket, it is removed, but only in the directory of this user's
/// hosts and never at a path that a user has named.
async fn open(path: &Path) -> io::Result<tokio::net::UnixStream> {
    let answer = match SocketPath::of(path) {
        Ok(short) => tokio::net::UnixStream::connect(short.path()).await,
        Err(error) => Err(error),
    };
    let refused = matches!(&answer, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused);
    // A host that is just starting also refuses connections, between making its socket and listening.
    let pid = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
    if let Some(pid) = pid.filter(|pid| refused && *path == of_process(*pid)) {
        remove_left_behind(pid);
    }
    answer
}

/// Removes the socket of a process that has ended. An error does no harm.
pub(crate) fn remove_left_behind(pid: u32) {
    if !process_lives(pid) {
        remove_dead_socket(&of_process(pid), user_id());
    }
}

/// Whether a process with this id is running. A process that has ended but was not reaped does not count.
pub(crate) fn process_lives(pid: u32) -> bool {
    let Some(id) = rustix::process::Pid::from_raw(pid.cast_signed()) else { return false };
    let is_there = rustix::process::test_kill_process(id).is_ok();
    is_there && !matches!(Stat::of(pid).state(), "Z" | "X")
}

async fn hello(
    stream: tokio::net::UnixStream,
    client_name: &str,
    socket: &Path,
) -> Result<Connected, WireError> {
    let pid = peer(&stream);
    match tokio::time::timeout(HELLO_TIMEOUT, Client::hello(stream, client_name)).await {
        Ok(answer) => answer,
        Err(_) => Err(no_hello(pid, HELLO_TIMEOUT, socket)),
    }
}

/// The process at the other end.
fn peer(stream: &tokio::net::UnixStream) -> Option<i32> {
    stream.peer_cred().ok()?.pid()
}

/// The error that a host accepts connections and does not answer, with its process and what to do.
fn no_hello(pid: Option<i32>, patience: Duration, socket: &Path) -> WireError {
    let seconds = patience.as_secs();
    let message = match pid {
        Some(pid) if matches!(Stat::of(pid).state(), "T" | "t") => format!(
            "the host with process id {pid} has not answered for {seconds} s: its process is stopped, by a signal or a \
             debugger; `kill -CONT {pid}` continues it"
        ),
        Some(pid) => format!(
            "the host with process id {pid} has not answered for {seconds} s: it accepts connections at {}, so its process \
             hangs or the machine is overloaded; try again, or look at the process",
            socket.display()
        ),
        None => format!(
            "the host at {} accepts connections and has not answered for {seconds} s; try again, or look at its process",
            socket.display()
        ),
    };
    WireError::new(ErrorKind::NoHost, message)
}
