//! The lines that wait to be written to one console.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::lock::Lock as _;

/// The largest number of answers and events that wait. A console that leaves more unread is disconnected.
const CONTROL: usize = 1024;

/// The largest number of log lines that wait here. Further lines wait, and are counted, in the log's own
/// queue.
const LOGS: usize = 64;

/// Two bounded queues with one writer. Answers and events are written before log lines.
#[derive(Default)]
pub(super) struct Outbox {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    control: VecDeque<String>,
    logs: VecDeque<String>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Open,
    /// The waiting lines are still written, but nothing is added.
    Ending,
    Closed,
}

impl Outbox {
    /// Queues an answer or an event, without waiting. Returns whether the console is still there.
    pub fn send(&self, line: String) -> bool {
        let mut lines = self.lock();
        if lines.state != State::Open {
            return false;
        }
        if lines.control.len() >= CONTROL {
            lines.state = State::Closed;
        } else {
            lines.control.push_back(line);
        }
        self.changed.notify_all();
        lines.state == State::Open
    }

    /// Queues a log line, and waits for room. Returns whether the console is still there.
    pub fn send_log(&self, line: String) -> bool {
        let mut lines = self.lock();
        while lines.state == State::Open && lines.logs.len() >= LOGS {
            lines = self.changed.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
        if lines.state == State::Open {
            lines.logs.push_back(line);
            self.changed.notify_all();
        }
        lines.state == State::Open
    }

    /// Waits for the next line to write; `None` if there will be no more.
    pub fn next(&self) -> Option<String> {
        let mut lines = self.lock();
        loop {
            if lines.state == State::Closed {
                return None;
            }
            let line = lines.control.pop_front().or_else(|| lines.logs.pop_front());
            if line.is_some() {
                self.changed.notify_all();
                return line;
            }
            if lines.state == State::Ending {
                return None;
            }
            lines = self.changed.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Makes the writer write the waiting lines, and end.
    pub fn end(&self) {
        self.leave(State::Ending);
    }

    /// Ends the writer, and every thread that waits for room.
    pub fn close(&self) {
        self.leave(State::Closed);
    }

    /// Whether nothing is accepted any more.
    pub fn has_ended(&self) -> bool {
        self.lock().state != State::Open
    }

    fn leave(&self, state: State) {
        let mut lines = self.lock();
        if lines.state != State::Closed {
            lines.state = state;
        }
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.locked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_before_log_lines() {
        let outbox = Outbox::default();
        assert!(outbox.send_log("log".into()));
        assert!(outbox.send("answer".into()));
        outbox.end();
        assert!(!outbox.send("late".into()));
        assert_eq!(outbox.next().as_deref(), Some("answer"));
        assert_eq!(outbox.next().as_deref(), Some("log"));
        assert_eq!(outbox.next(), None);
    }

    #[test]
    fn a_console_that_does_not_read_is_let_go() {
        let outbox = Outbox::default();
        assert!((0..CONTROL).all(|number| outbox.send(number.to_string())));
        assert!(!outbox.send("one too many".into()));
        assert_eq!(outbox.next(), None);
    }
}
