//! The signals that ask a program to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// How a program is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// By Ctrl-C, which each program hears that the terminal belongs to at the moment.
    Interrupt,
    /// By whoever means this program.
    End,
}

/// SIGINT, SIGTERM and SIGHUP; from its making on they no longer end the process by themselves.
pub struct Termination {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Termination {
    /// Begins to listen.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one of them.
    pub async fn recv(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.terminate.recv() => Asked::End,
            _ = self.hangup.recv() => Asked::End,
        }
    }
}
