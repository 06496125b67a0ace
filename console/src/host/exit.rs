//! How a process ended.

use serde::Serialize;

/// How a host's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HostExit {
    /// Its exit code; none when a signal ended it, or when it was not our child.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
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
