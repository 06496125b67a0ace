//! The host's process and its descendants.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use hotswap_build::{HostPackage, toolchain_files};
use hotswap_protocol::env;
use process_wrap::tokio::{ChildWrapper, CommandWrap, ProcessSession};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::event::{LogLine, OutputStream, SessionEvent};
use super::output::drain;
use super::stops::{Started, report_stops};
use crate::host::HostExit;
use crate::host::socket::process_lives;

/// How long a host may take to end after SIGTERM, and then the processes that it started.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// The variable with which rustup passes on its choice of a toolchain.
const TOOLCHAIN: &str = "RUSTUP_TOOLCHAIN";
/// How often to check whether the processes that the host started have ended.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A host that the session started. Dropping this does not end the host.
pub(super) struct HostProcess {
    pub pid: u32,
    stop: CancellationToken,
    /// The channel to its standard input; `None` once that is closed.
    input: Option<mpsc::UnboundedSender<Vec<u8>>>,
}

/// The command `cargo run` for the host that was just built. With it, the host has the environment, the library
/// path, the runner and the toolchain that cargo provides.
pub(super) fn cargo_run(package: &HostPackage, flags: &[String]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--package", &package.package_id]);
    command.args(package.program.flags());
    command.arg("--manifest-path").arg(&package.manifest_path);
    command.arg("--target-dir").arg(&package.target_dir);
    for config in configurations(&package.dir) {
        command.arg("--config").arg(config);
    }
    if let Some(toolchain) = toolchain_of(package) {
        command.env(TOOLCHAIN, toolchain);
    }
    command.args(flags).arg("--");
    command
}

/// The configuration files of cargo that apply in `dir` and not in the directory of this process, the nearest
/// last.
fn configurations(dir: &Path) -> Vec<PathBuf> {
    let here = std::env::current_dir().unwrap_or_default();
    let others = dir.ancestors().filter(|ancestor| !here.starts_with(ancestor));
    let files = others.filter_map(|ancestor| {
        let names = [".cargo/config.toml", ".cargo/config"];
        names.iter().map(|name| ancestor.join(name)).find(|file| file.is_file())
    });
    let mut files: Vec<PathBuf> = files.collect();
    files.reverse();
    files
}

/// The toolchain that rustup chooses in the directory of a package, which is built there, if another one may be chosen
/// in the directory of this process, where the host runs. `None` also if the user has chosen one, and without rustup.
fn toolchain_of(package: &HostPackage) -> Option<String> {
    let is_chosen = [TOOLCHAIN, "CARGO"].iter().any(|name| std::env::var_os(name).is_some());
    let here = std::env::current_dir().ok()?;
    let file = |dir: &Path| toolchain_files(dir).find(|file| file.is_file());
    let is_same = here.starts_with(&package.workspace_root) && file(&here) == file(&package.dir);
    if is_chosen || is_same {
        return None;
    }
    let mut rustup = std::process::Command::new("rustup");
    rustup.args(["show", "active-toolchain"]).current_dir(&package.dir).stdin(Stdio::null());
    let output = rustup.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().next().map(str::to_owned)
}

/// A program without cargo, with the environment of its last run, if there was one.
pub(super) fn direct(executable: &Path, environment: &[(OsString, OsString)]) -> Command {
    let mut command = Command::new(executable);
    if !environment.is_empty() {
        command.env_clear().envs(environment.iter().cloned());
    }
    command
}

/// The environment that a process was started with; empty if that cannot be read.
pub(super) fn environment_of(pid: u32) -> Vec<(OsString, OsString)> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let variables = environment.split(|&byte| byte == 0).filter_map(|variable| {
        let at = variable.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (&variable[..at], &variable[at + 1..]);
        Some((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned()))
    });
    variables.collect()
}

/// Where a host runs. In both cases Ctrl-C in the terminal does not reach the host: the session ends it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// A process group. The host can write to the terminal directly.
    Group,
    /// A session without a terminal: neither the host nor its descendants can write over the screen.
    Session,
}

impl HostProcess {
    /// Starts the host, whose program is `program`. The receiver gets the way it ended.
    pub fn start(
        mut command: Command,
        place: Place,
        program: &Path,
        events: &mpsc::Sender<SessionEvent>,
        logs: &mpsc::Sender<LogLine>,
    ) -> io::Result<(Self, oneshot::Receiver<HostExit>)> {
        command
            .env(env::CONSOLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut command = CommandWrap::from(command);
        match place {
            Place::Session => drop(command.wrap(ProcessSession)),
            Place::Group => drop(command.command_mut().process_group(0)),
        }
        // A wrapper would also wait for all processes that the host has started.
        let mut child = command.spawn()?.into_inner();
        let pid = child.id().unwrap_or_default();
        if let Some(stdout) = child.stdout().take() {
            tokio::spawn(drain(stdout, OutputStream::Stdout, logs.clone()));
        }
        if let Some(stderr) = child.stderr().take() {
            tokio::spawn(drain(stderr, OutputStream::Stderr, logs.clone()));
        }
        let input = child.stdin().take().map(|stdin| {
            let (input, lines) = mpsc::unbounded_channel();
            tokio::spawn(write_all(stdin, lines));
            input
        });
        let stop = CancellationToken::new();
        let (exited, exit) = oneshot::channel();
        tokio::spawn(wait(child, program.to_owned(), stop.clone(), events.clone(), exited));
        Ok((Self { pid, stop, input }, exit))
    }

    /// Whether the process is running.
    pub fn lives(&self) -> bool {
        process_lives(self.pid)
    }

    /// Asks the host to end, and kills it if it does not.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Writes to the host's standard input, without waiting for the host to read it.
    pub fn write(&self, bytes: Vec<u8>) {
        if let Some(input) = &self.input {
            // An error means that the host has closed its input.
            let _ = input.send(bytes);
        }
    }

    /// Closes the host's standard input after everything was written.
    pub fn end_input(&mut self) {
        self.input = None;
    }
}

async fn write_all(mut stdin: ChildStdin, mut lines: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(bytes) = lines.recv().await {
        if stdin.write_all(&bytes).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
}

async fn wait(
    mut child: Box<dyn ChildWrapper>,
    program: PathBuf,
    stop: CancellationToken,
    events: mpsc::Sender<SessionEvent>,
    exited: oneshot::Sender<HostExit>,
) {
    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let started =
        group.map(|child| Started { child, program: program.canonicalize().unwrap_or(program) });
    let status = tokio::select! {
        status = child.wait() => status,
        () = stop.cancelled() => end(&mut *child, group, &events).await,
        never = report_stops(started, &events) => match never {},
    };
    let exit = match status {
        Ok(status) => HostExit { code: status.code(), signal: status.signal() },
        Err(_) => HostExit { code: None, signal: None },
    };
    if let Some(group) = group {
        end_group(group, &events).await;
    }
    // An error means that the session was dropped.
    let _ = exited.send(exit);
}

async fn end(
    child: &mut dyn ChildWrapper,
    group: Option<Pid>,
    events: &mpsc::Sender<SessionEvent>,
) -> io::Result<std::process::ExitStatus> {
    // The child is not reaped yet, so its id is still valid. A wrapper around the host may not pass signals on, so
    // the whole group gets it.
    if let Some(group) = group {
        send_terminated("the host is to end", events).await;
        terminate(group);
    }
    match tokio::time::timeout(STOP_GRACE, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            let what = "the host did not end within 5 s of SIGTERM";
            send_killed(what, events).await;
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            child.start_kill()?;
            child.wait().await
        }
    }
}

/// Ends the processes that the host has started and left. The group keeps its id while one of them runs.
async fn end_group(group: Pid, events: &mpsc::Sender<SessionEvent>) {
    if test_kill_process_group(group).is_err() {
        return;
    }
    send_terminated("processes that the host started are to end", events).await;
    terminate(group);
    let deadline = Instant::now() + STOP_GRACE;
    while test_kill_process_group(group).is_ok() {
        if Instant::now() > deadline {
            let what = "processes that the host started did not end within 5 s of SIGTERM";
            send_killed(what, events).await;
            let _ = kill_process_group(group, Signal::KILL);
            return;
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Sends SIGTERM to a group. Stopped processes are continued, so that they can end.
fn terminate(group: Pid) {
    let _ = kill_process_group(group, Signal::TERM);
    let _ = kill_process_group(group, Signal::CONT);
}

async fn send_terminated(reason: &str, events: &mpsc::Sender<SessionEvent>) {
    // The session is over when this fails.
    let _ = events.send(SessionEvent::HostTerminated { reason: reason.to_owned() }).await;
}

async fn send_killed(reason: &str, events: &mpsc::Sender<SessionEvent>) {
    // The session is over when this fails.
    let _ = events.send(SessionEvent::HostKilled { reason: reason.to_owned() }).await;
}
