//! The end of a process.

use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM};

/// How a host's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HostExit {
    /// Its exit code; `None` if a signal ended it, or if it was not a child of this process.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl HostExit {
    /// `the host ended by itself: SIGSEGV (signal 11)`
    ///
    /// For a signal that only other processes send, it says that the host was ended from outside.
    pub(crate) fn in_words(self) -> String {
        let is_sent = matches!(self.signal, Some(SIGHUP | SIGINT | SIGKILL | SIGQUIT | SIGTERM));
        let who = if is_sent { "was ended from outside" } else { "ended by itself" };
        let sender = self.sender().map_or_else(String::new, |sender| format!("; {sender}"));
        format!("the host {who}: {self}{sender}")
    }

    /// Who may have sent the signal, if that is not obvious; `None` otherwise.
    pub(crate) fn sender(self) -> Option<&'static str> {
        (self.signal == Some(SIGKILL)).then_some(
            "a user sent it, or the system did because memory ran out (`dmesg` shows this)",
        )
    }
}

/// `SIGSEGV (signal 11)`
pub(crate) fn signal_name(signal: i32) -> String {
    match signal_hook::low_level::signal_name(signal) {
        Some(name) => format!("{name} (signal {signal})"),
        None => format!("signal {signal}"),
    }
}

impl std::fmt::Display for HostExit {
    /// `exit code 1`, `SIGSEGV (signal 11)`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => f.write_str(&signal_name(signal)),
            (None, None) => f.write_str("an exit code that only its parent knows"),
        }
    }
}
