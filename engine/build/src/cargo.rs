//! Running cargo: in a process group of its own, its pipes always drained, and never for longer
//! than its caller wants.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use cargo_metadata::Message;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::cancel::{Cancel, kill};

/// How many lines of output may wait for a caller who is busy, before cargo waits too.
const QUEUED_LINES: usize = 256;

/// The cargo that runs us, if one does, so that both agree on the toolchain.
pub(crate) fn command() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// Runs `command` to its end and hands over its messages in the order they come.
///
/// A line that is not a message, of either stream, is a [`Message::TextLine`].
pub(crate) fn run(
    mut command: Command,
    cancel: &Cancel,
    on_message: &mut dyn FnMut(Message),
) -> io::Result<ExitStatus> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut running = Running::new(command.spawn()?, cancel);
    for message in running.messages()? {
        on_message(message);
    }
    running.finish()
}

/// Ends the process group when dropped before its time, be it by an error or by a panic.
struct Running<'a> {
    child: Child,
    group: Pid,
    cancel: &'a Cancel,
    reaped: bool,
}

impl<'a> Running<'a> {
    fn new(child: Child, cancel: &'a Cancel) -> Self {
        let group = Pid::from_child(&child);
        cancel.add_group(group);
        Self { child, group, cancel, reaped: false }
    }

    /// Ends when both streams are closed, which is when everyone who writes to them has ended.
    fn messages(&mut self) -> io::Result<Receiver<Message>> {
        let (sender, receiver) = sync_channel(QUEUED_LINES);
        if let Some(stdout) = self.child.stdout.take() {
            let sender = sender.clone();
            thread::Builder::new()
                .name("cargo stdout".to_owned())
                .spawn(move || forward_messages(stdout, &sender))?;
        }
        if let Some(stderr) = self.child.stderr.take() {
            thread::Builder::new()
                .name("cargo stderr".to_owned())
                .spawn(move || forward_lines(stderr, &sender))?;
        }
        Ok(receiver)
    }

    fn finish(mut self) -> io::Result<ExitStatus> {
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

fn forward_messages(stdout: impl Read, sender: &SyncSender<Message>) {
    for message in Message::parse_stream(BufReader::new(stdout)) {
        match message {
            Ok(message) => {
                if sender.send(message).is_err() {
                    return;
                }
            }
            // A line that is not UTF-8 is nothing that cargo wrote; what follows it may be.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(_) => return,
        }
    }
}

fn forward_lines(stderr: impl Read, sender: &SyncSender<Message>) {
    for line in BufReader::new(stderr).split(b'\n') {
        let Ok(line) = line else { return };
        let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
        if sender.send(Message::TextLine(text)).is_err() {
            return;
        }
    }
}
