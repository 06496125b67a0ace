//! The host's output on stdout and stderr.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::sleep;

use super::event::{LogLine, OutputStream};

/// A longer line is shown in parts, so that output without line ends does not fill the memory.
const MAX_LINE: usize = 16 * 1024;
/// How many of the latest lines are kept if they come faster than they are read. The latest ones say most, for
/// example before a crash.
const HELD: usize = 1024;

/// After this time without more output, a line without an end is shown, for example a question that waits for
/// input.
const MOMENT: Duration = Duration::from_millis(300);

/// Reads all output of the host, so that the host never waits. If lines are not read in time, the latest are kept
/// and the others counted.
pub(super) async fn drain(
    mut output: impl AsyncRead + Unpin,
    stream: OutputStream,
    logs: Sender<LogLine>,
) {
    let mut lines = Lines { stream, logs: logs.clone(), held: VecDeque::new(), dropped: 0 };
    let mut pending = Vec::with_capacity(MAX_LINE);
    // Whether the beginning of the line was already shown.
    let mut is_begun = false;
    loop {
        let count = tokio::select! {
            count = output.read_buf(&mut pending) => count.unwrap_or(0),
            room = logs.reserve(), if lines.wait() => {
                drop(room);
                lines.flush();
                continue;
            }
            () = sleep(MOMENT), if !pending.is_empty() => {
                lines.offer(&pending);
                pending.clear();
                is_begun = true;
                continue;
            }
        };
        if count == 0 {
            break;
        }
        let mut start = 0;
        while let Some(length) = pending[start..].iter().position(|&byte| byte == b'\n') {
            if length > 0 || !is_begun {
                lines.offer(&pending[start..start + length]);
            }
            is_begun = false;
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
    // At the end, this waits until the last lines are read, unless there is no reader any more.
    while lines.wait() && logs.reserve().await.is_ok() {
        lines.flush();
    }
}

/// Lines on their way to the log.
struct Lines {
    stream: OutputStream,
    logs: Sender<LogLine>,
    /// The lines that wait, the oldest first.
    held: VecDeque<String>,
    /// How many earlier lines were lost.
    dropped: u64,
}

impl Lines {
    /// If a line was rewritten with `\r`, such as a progress bar, only its last state counts.
    fn offer(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end_matches('\r');
        let line = line.rsplit('\r').next().unwrap_or(line).to_owned();
        self.held.push_back(line);
        self.flush();
        if self.held.len() > HELD {
            self.held.pop_front();
            self.dropped += 1;
        }
    }

    /// Whether lines wait.
    fn wait(&self) -> bool {
        self.dropped > 0 || !self.held.is_empty()
    }

    /// Passes on as many lines as fit.
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
    use tokio::io::AsyncWriteExt;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn of_an_unread_flood_the_last_lines_stay_and_the_others_are_counted() {
        let flood: String = (0..10_000).map(|number| format!("line {number}\n")).collect();
        let (logs, mut lines) = mpsc::channel(100);
        let drain = tokio::spawn(drain_text(flood + "the end", logs));
        // Once the channel is full, the drain only waits for room in it.
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

    #[tokio::test]
    async fn a_question_is_shown_before_its_line_ends() {
        let (mut host, output) = tokio::io::duplex(64);
        let (logs, mut lines) = mpsc::channel(8);
        tokio::spawn(drain(output, OutputStream::Stdout, logs));
        let mut next = async |text: &str| {
            host.write_all(text.as_bytes()).await.unwrap();
            match lines.recv().await.unwrap() {
                LogLine::Output { text, .. } => text,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(next("name? ").await, "name? ");
        assert_eq!(next("Ada\n").await, "Ada");
        assert_eq!(next("10 %\r20 %\r30 %\r\n").await, "30 %", "the last state of a line");
    }

    async fn drain_text(text: String, logs: Sender<LogLine>) {
        drain(text.as_bytes(), OutputStream::Stdout, logs).await;
    }
}
