//! The signals that ask a program to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// How a program was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// By Ctrl-C, which reaches every program in the foreground of the terminal.
    Interrupt,
    /// By a signal to this program.
    End,
}

/// Receives SIGINT, SIGTERM and SIGHUP, which do not end the process any more.
pub struct Termination {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Termination {
    /// Begins to receive them.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub async fn recv(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.terminate.recv() => Asked::End,
            _ = self.hangup.recv() => Asked::End,
        }
    }
}
