//! Reports when the host is stopped and when it is continued.

use std::convert::Infallible;
use std::fs;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use tokio::signal::unix::{Signal as Changes, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::event::SessionEvent;
use crate::host::{process::Stat, socket};

/// How often a host is checked that is not a child of this process: the system notifies only its parent.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// A program that was started. It is the host, or it has started the host.
pub(super) struct Started {
    pub child: Pid,
    /// The host's program, if it is known.
    pub program: PathBuf,
}

/// The known state of the host.
#[derive(Default)]
struct State {
    /// The signal that stopped the child.
    of_child: Option<i32>,
    /// The signal that stopped the host, if it is another process.
    of_host: Option<i32>,
    /// The last result for a traced process, which is stopped for moments all the time.
    traced: Option<i32>,
    reported: Option<i32>,
}

/// Sends an event whenever the host is stopped or continued.
pub(super) async fn report_stops(
    started: Option<Started>,
    events: &mpsc::Sender<SessionEvent>,
) -> Infallible {
    let (Some(started), Ok(mut changed)) = (started, signal(SignalKind::child())) else {
        return pending().await;
    };
    let options = WaitIdOptions::STOPPED | WaitIdOptions::CONTINUED | WaitIdOptions::NOHANG;
    let mut state = State::default();
    loop {
        // Another task reaps a host that has ended.
        while let Ok(Some(status)) = waitid(WaitId::Pid(started.child), options) {
            state.of_child = status.stopping_signal();
            state.report(events).await;
        }
        if let Some(host) = started.host() {
            state.update(host);
            state.report(events).await;
        }
        started.wait(&mut changed).await;
    }
}

impl State {
    async fn report(&mut self, events: &mpsc::Sender<SessionEvent>) {
        let stopped = self.of_child.or(self.of_host);
        if stopped == self.reported {
            return;
        }
        self.reported = stopped;
        let event = match stopped {
            Some(signal) => SessionEvent::HostStopped { signal },
            None => SessionEvent::HostContinued,
        };
        // The session is over when this fails.
        let _ = events.send(event).await;
    }

    fn update(&mut self, host: u32) {
        let ProcessState { stopped, is_traced } = ProcessState::at(host);
        let before = std::mem::replace(&mut self.traced, stopped.filter(|_| is_traced));
        self.of_host = stopped.filter(|_| !is_traced || before == stopped);
    }
}

impl Started {
    /// The host, if it is not the child itself: the process with a socket, or else the process with the host's
    /// program.
    fn host(&self) -> Option<u32> {
        let child = self.child.as_raw_pid().cast_unsigned();
        if socket::of_process(child).exists() || runs(child, &self.program) {
            return None;
        }
        let host = socket::started_by(child);
        if host != child {
            return Some(host);
        }
        let mut open = children(child);
        while let Some(process) = open.pop() {
            if runs(process, &self.program) {
                return Some(process);
            }
            open.extend(children(process));
        }
        None
    }

    /// Waits until the state may have changed.
    async fn wait(&self, changed: &mut Changes) {
        let child = self.child.as_raw_pid().cast_unsigned();
        if socket::of_process(child).exists() {
            let _ = changed.recv().await;
            return;
        }
        tokio::select! {
            _ = changed.recv() => {}
            () = sleep(POLL_INTERVAL) => {}
        }
    }
}

fn runs(process: u32, program: &Path) -> bool {
    fs::read_link(format!("/proc/{process}/exe")).is_ok_and(|exe| exe == program)
}

fn children(process: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|it| fs::read_to_string(it.path().join("children")).ok());
    lists
        .flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The state of a process as the system shows it.
#[derive(Debug, PartialEq, Eq)]
struct ProcessState {
    /// The signal that stopped it; 0 if it is not known which.
    stopped: Option<i32>,
    is_traced: bool,
}

impl ProcessState {
    fn at(process: u32) -> Self {
        Self::of(&Stat::of(process))
    }

    fn of(stat: &Stat) -> Self {
        let signal = stat.number(52).and_then(|signal| signal.try_into().ok()).unwrap_or(0);
        let stops = [Signal::STOP, Signal::TSTP, Signal::TTIN, Signal::TTOU].map(Signal::as_raw);
        let signal = Some(signal).filter(|signal| stops.contains(signal));
        match stat.state() {
            "T" => Self { stopped: Some(signal.unwrap_or(0)), is_traced: false },
            // A tracer stops a process also for other reasons, which are not reported.
            "t" => Self { stopped: signal, is_traced: true },
            _ => Self { stopped: None, is_traced: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_process_is_recognised_by_its_state_and_signal() {
        let line =
            |state: &str, code: i32| format!("7 (a ) b) {state} 1{} {code}\n", " 0".repeat(47));
        for (state, code, stopped, is_traced) in [
            ("S", 0, None, false),
            ("T", 21, Some(21), false),
            ("T", 0, Some(0), false),
            ("t", 21, Some(21), true),
            ("t", 5, None, true),
        ] {
            let found = ProcessState::of(&Stat::parse(&line(state, code)));
            assert_eq!(found, ProcessState { stopped, is_traced }, "{state} {code}");
        }
        assert_eq!(
            ProcessState::of(&Stat::parse("")),
            ProcessState { stopped: None, is_traced: false }
        );
    }
}
