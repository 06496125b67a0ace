//! Counts the failures of a version's functions. Only failed calls use this; calls that succeed cost nothing.

use std::{collections::BTreeMap, sync::Mutex};

use hotswap_protocol::{Failures, FirstFailure, clock::now_ms};

use crate::lock::Lock as _;

/// Counts the calls of one version's functions that failed.
#[derive(Default)]
pub(crate) struct FailureCounts(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    by_function: BTreeMap<String, Failures>,
    total: Failures,
}

impl FailureCounts {
    /// Counts an error that a function returned. Returns it if it is the first failure of the version.
    pub fn returned(&self, function: &str, message: &str) -> Option<FirstFailure> {
        self.count(function, message, |failures| failures.errors += 1)
    }

    /// Counts a panic, in the same way as `returned` counts an error.
    pub fn panicked(&self, function: &str, message: &str) -> Option<FirstFailure> {
        self.count(function, message, |failures| failures.panics += 1)
    }

    fn count(
        &self,
        function: &str,
        message: &str,
        add: impl Fn(&mut Failures),
    ) -> Option<FirstFailure> {
        let first = || FirstFailure {
            function: function.to_owned(),
            message: message.to_owned(),
            at_ms: now_ms(),
        };
        let mut counts = self.0.locked();
        let Counts { by_function, total } = &mut *counts;
        let is_first = total.first_failure.is_none();
        for failures in [by_function.entry(function.to_owned()).or_default(), &mut *total] {
            add(failures);
            failures.first_failure.get_or_insert_with(first);
        }
        total.first_failure.clone().filter(|_| is_first)
    }

    /// The failures of one function.
    pub fn of(&self, function: &str) -> Failures {
        self.0.locked().by_function.get(function).cloned().unwrap_or_default()
    }

    /// The failures of all functions together.
    pub fn total(&self) -> Failures {
        self.0.locked().total.clone()
    }
}
