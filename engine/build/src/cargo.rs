//! Running cargo, its pipes always drained.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use cargo_metadata::Message;

use crate::Cancel;
use crate::process::Running;

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
    command: Command,
    cancel: &Cancel,
    on_message: &mut dyn FnMut(Message),
) -> io::Result<ExitStatus> {
    let mut running = Running::start(command, cancel)?;
    for message in messages(&mut running)? {
        on_message(message);
    }
    running.finish()
}

/// Ends when both streams are closed, which is when everyone who writes to them has ended.
fn messages(running: &mut Running<'_>) -> io::Result<Receiver<Message>> {
    let (sender, receiver) = sync_channel(QUEUED_LINES);
    if let Some(stdout) = running.take_stdout() {
        let sender = sender.clone();
        thread::Builder::new()
            .name("cargo stdout".to_owned())
            .spawn(move || forward_messages(stdout, &sender))?;
    }
    if let Some(stderr) = running.take_stderr() {
        thread::Builder::new()
            .name("cargo stderr".to_owned())
            .spawn(move || forward_lines(stderr, &sender))?;
    }
    Ok(receiver)
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
