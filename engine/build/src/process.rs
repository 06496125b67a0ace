//! A child process in a session of its own, and so in a process group of its own. The group is killed if the caller
//! gives up.

use std::ffi::OsStr;
use std::io;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

use process_wrap::std::{CommandWrap, CommandWrapper as _, ProcessSession};
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

/// Gives the command pipes for its output, and no input.
pub(crate) fn with_pipes(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

/// A command whose process [has a session of its own](in_session).
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    in_session(Command::new(program))
}

/// Gives the command's process a session of its own, which has no terminal. So a compiler, a build script or
/// a linker cannot write to the screen past its output pipes, and a program that asks for a password fails at
/// once. In a background process group, the system would stop such a program, and the build would hang.
///
/// Call this once for a command: with a second call, the process cannot be started.
pub(crate) fn in_session(mut command: Command) -> Command {
    let of_nothing = CommandWrap::with_new("", |_| ());
    // It notes what the child is to do first, which cannot fail.
    let _ = ProcessSession.pre_spawn(&mut command, &of_nothing);
    command
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.reaped {
            kill(self.group);
            let _ = self.reap();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_process_has_a_session_of_its_own_and_so_no_terminal() {
        let cancel = Cancel::default();
        let mut command = command("sh");
        // The session is the sixth number of this file, the terminal the seventh.
        command.args(["-c", "cut -d' ' -f6,7 /proc/$$/stat"]);
        let mut running = Running::start(&mut command, &cancel).unwrap();
        let expected = format!("{} 0\n", running.child.id());
        let mut printed = String::new();
        running.take_stdout().unwrap().read_to_string(&mut printed).unwrap();
        assert!(running.finish().unwrap().success());
        assert_eq!(printed, expected);
    }
}
