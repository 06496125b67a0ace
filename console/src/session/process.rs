//! The host's process.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use hotswap_protocol::env;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::event::{LogLine, OutputStream};
use super::output::drain;
use crate::host::HostExit;
use crate::host::socket::process_lives;

/// How long a host may take to end after SIGTERM.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A host that the session started; dropping it does not end the host.
pub(super) struct HostProcess {
    pub pid: u32,
    stop: CancellationToken,
}

impl HostProcess {
    /// Starts the host, which finds the directories in its environment; the receiver hears how it
    /// ended.
    pub fn start(
        executable: &Path,
        arguments: &[String],
        directories: [(&str, Option<&Path>); 2],
        logs: &mpsc::Sender<LogLine>,
    ) -> io::Result<(Self, oneshot::Receiver<HostExit>)> {
        let mut command = Command::new(executable);
        command
            .args(arguments)
            .env(env::CONSOLE, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in the terminal is for the session, which then ends the host in its way.
            .process_group(0)
            .kill_on_drop(true);
        for (name, directory) in directories {
            if let Some(directory) = directory {
                command.env(name, directory);
            }
        }
        let mut child = command.spawn()?;
        let pid = child.id().unwrap_or_default();
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(drain(stdout, OutputStream::Stdout, logs.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(drain(stderr, OutputStream::Stderr, logs.clone()));
        }
        let stop = CancellationToken::new();
        let (exited, exit) = oneshot::channel();
        tokio::spawn(wait(child, stop.clone(), exited));
        Ok((Self { pid, stop }, exit))
    }

    /// Whether the process runs.
    pub fn lives(&self) -> bool {
        process_lives(self.pid)
    }

    /// Asks the host to end, and makes it end when it does not.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

async fn wait(mut child: Child, stop: CancellationToken, exited: oneshot::Sender<HostExit>) {
    let status = tokio::select! {
        status = child.wait() => status,
        () = stop.cancelled() => end(&mut child).await,
    };
    let exit = match status {
        Ok(status) => HostExit { code: status.code(), signal: status.signal() },
        Err(_) => HostExit { code: None, signal: None },
    };
    // Nobody listens when the session has been dropped.
    let _ = exited.send(exit);
}

async fn end(child: &mut Child) -> io::Result<std::process::ExitStatus> {
    // Not reaped yet, so the id is still this child's.
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        let _ = kill_process(pid, Signal::TERM);
    }
    match tokio::time::timeout(STOP_GRACE, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            child.start_kill()?;
            child.wait().await
        }
    }
}
