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

impl std::fmt::Display for HostExit {
    /// `exit code 1`, `SIGSEGV (signal 11)`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => match signal_hook::low_level::signal_name(signal) {
                Some(name) => write!(f, "{name} (signal {signal})"),
                None => write!(f, "signal {signal}"),
            },
            (None, None) => f.write_str("an exit code that only its parent knows"),
        }
    }
}
