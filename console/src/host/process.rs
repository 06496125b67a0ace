//! Facts about processes from the system.

use std::{fs, str::Split};

/// The fields of `/proc/PID/stat` from the third one, the state: `man 5 proc_pid_stat` numbers them.
pub(crate) struct Stat(String);

impl Stat {
    /// The fields of a process, named by its id or `self`; empty if there is no such process.
    pub fn of(process: impl std::fmt::Display) -> Self {
        Self::parse(&fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default())
    }

    pub fn parse(line: &str) -> Self {
        // The name before the state may contain any character.
        Self(line.rsplit_once(") ").map_or("", |(_, rest)| rest).trim_end().to_owned())
    }

    /// The state: `R`, `S`, `T`, …; empty if there is no such process.
    pub fn state(&self) -> &str {
        self.fields().next().unwrap_or_default()
    }

    /// The field with this number, 3 or higher, if it is numeric.
    pub fn number(&self, field: usize) -> Option<u64> {
        self.fields().nth(field.checked_sub(3)?)?.parse().ok()
    }

    fn fields(&self) -> Split<'_, char> {
        self.0.split(' ')
    }
}
