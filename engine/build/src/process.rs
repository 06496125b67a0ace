//! A program in a process group of its own, which never runs for longer than its caller wants.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::cancel::{Cancel, kill};

/// Ends the process group when dropped before its time, be it by an error or by a panic.
pub(crate) struct Running<'a> {
    child: Child,
    group: Pid,
    cancel: &'a Cancel,
    reaped: bool,
}

impl<'a> Running<'a> {
    /// Starts a program whose output is read through pipes, and must be.
    pub(crate) fn start(mut command: Command, cancel: &'a Cancel) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = command.spawn()?;
        let group = Pid::from_child(&child);
        cancel.add_group(group);
        Ok(Self { child, group, cancel, reaped: false })
    }

    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    pub(crate) fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> io::Result<ExitStatus> {
        self.reap()
    }

    /// Waits in two steps, since the process id is free for others as soon as it is reaped: no
    /// `Cancel` may know it any longer by then.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(self.group), options) {}
        self.cancel.remove_group(self.group);
        self.reaped = true;
        self.child.wait()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.reaped {
            kill(self.group);
            let _ = self.reap();
        }
    }
}
