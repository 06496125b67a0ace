//! What the host writes on stdout and stderr.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::event::{LogLine, OutputStream};

/// A longer line is shown in parts, so that a host that writes no line ends costs no memory.
const MAX_LINE: usize = 16 * 1024;
/// Of lines that come faster than they are taken so many of the latest wait here: the last ones,
/// before a crash say, tell the most.
const HELD: usize = 1024;

/// Reads all that the host writes. It is never made to wait: of lines that nobody takes in time
/// the latest are kept, and the others counted.
pub(super) async fn drain(
    mut output: impl AsyncRead + Unpin,
    stream: OutputStream,
    logs: Sender<LogLine>,
) {
    let mut lines = Lines { stream, logs: logs.clone(), held: VecDeque::new(), dropped: 0 };
    let mut pending = Vec::with_capacity(MAX_LINE);
    loop {
        let count = tokio::select! {
            count = output.read_buf(&mut pending) => count.unwrap_or(0),
            room = logs.reserve(), if lines.wait() => {
                drop(room);
                lines.flush();
                continue;
            }
        };
        if count == 0 {
            break;
        }
        let mut start = 0;
        while let Some(length) = pending[start..].iter().position(|&byte| byte == b'\n') {
            lines.offer(&pending[start..start + length]);
            start += length + 1;
        }
        pending.drain(..start);
        if pending.len() >= MAX_LINE {
            lines.offer(&pending);
            pending.clear();
        }
    }
    if !pending.is_empty() {
        lines.offer(&pending);
    }
    // The last words are waited with, unless nobody is left to hear them.
    while lines.wait() && logs.reserve().await.is_ok() {
        lines.flush();
    }
}

/// Lines on their way to the log.
struct Lines {
    stream: OutputStream,
    logs: Sender<LogLine>,
    /// What there was no room for, the oldest first.
    held: VecDeque<String>,
    /// How many lines before those were lost.
    dropped: u64,
}

impl Lines {
    fn offer(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
        self.held.push_back(line);
        self.flush();
        if self.held.len() > HELD {
            self.held.pop_front();
            self.dropped += 1;
        }
    }

    /// Whether something waits for room.
    fn wait(&self) -> bool {
        self.dropped > 0 || !self.held.is_empty()
    }

    /// Hands over as much as there is room for.
    fn flush(&mut self) {
        if self.dropped > 0 {
            let count = self.dropped;
            if self.logs.try_send(LogLine::Dropped { count }).is_err() {
                return;
            }
            self.dropped = 0;
        }
        while let Some(text) = self.held.pop_front() {
            match self.logs.try_send(LogLine::Output { stream: self.stream, text }) {
                Ok(()) => {}
                Err(TrySendError::Full(LogLine::Output { text, .. })) => {
                    return self.held.push_front(text);
                }
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn of_a_flood_that_nobody_reads_the_last_lines_stay_and_the_others_are_counted() {
        let flood: String = (0..10_000).map(|number| format!("line {number}\n")).collect();
        let (logs, mut lines) = mpsc::channel(100);
        let drain = tokio::spawn(drain_text(flood + "the end", logs));
        // Until all is read: the drain waits for room, and for nothing else.
        while lines.len() < 100 {
            tokio::task::yield_now().await;
        }
        let (mut shown, mut dropped, mut last) = (0, 0, String::new());
        while let Some(line) = lines.recv().await {
            match line {
                LogLine::Output { text, .. } => (shown, last) = (shown + 1, text),
                LogLine::Dropped { count } => dropped += count,
                LogLine::Log(_) => unreachable!(),
            }
        }
        assert_eq!((shown + dropped, last.as_str()), (10_001, "the end"));
        drain.await.unwrap();
    }

    async fn drain_text(text: String, logs: Sender<LogLine>) {
        drain(text.as_bytes(), OutputStream::Stdout, logs).await;
    }
}
