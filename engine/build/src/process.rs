//! A child process in a process group of its own. The group is killed if the caller gives up.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::cancel::{Cancel, kill};

/// A child process. If it is dropped before [`finish`](Self::finish), by an error or a panic, its
/// whole process group is killed.
pub(crate) struct Running<'a> {
    child: Child,
    group: Pid,
    cancel: &'a Cancel,
    reaped: bool,
}

impl<'a> Running<'a> {
    /// Starts `command` with pipes for its output. The caller must read them, or the program may
    /// wait forever.
    pub(crate) fn start(command: &mut Command, cancel: &'a Cancel) -> io::Result<Self> {
        Ok(Self::of(with_pipes(command).spawn()?, cancel))
    }

    /// Takes over a process that was started [with pipes](with_pipes).
    pub(crate) fn of(child: Child, cancel: &'a Cancel) -> Self {
        let group = Pid::from_child(&child);
        cancel.add_group(group);
        Self { child, group, cancel, reaped: false }
    }

    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    pub(crate) fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Waits until the program ends.
    pub(crate) fn finish(mut self) -> io::Result<ExitStatus> {
        self.reap()
    }

    /// Reaps the process in two steps. As soon as it is reaped, the system may give its id to another
    /// process, so the `Cancel` must forget the id before that.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(self.group), options) {}
        self.cancel.remove_group(self.group);
        self.reaped = true;
        self.child.wait()
    }
}

/// Gives the command pipes for its output, no input, and a process group of its own.
pub(crate) fn with_pipes(command: &mut Command) -> &mut Command {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0)
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.reaped {
            kill(self.group);
            let _ = self.reap();
        }
    }
}
