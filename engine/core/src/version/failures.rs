//! How often the functions of a version failed. Only a call that fails comes here: one that succeeds pays
//! nothing for it.

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
    /// Whether one was given back since other code serves.
    is_told: bool,
}

impl FailureCounts {
    /// Counts an error that a function returned; the first failure of the code that serves is given back.
    pub fn returned(&self, function: &str, message: &str) -> Option<FirstFailure> {
        self.count(function, message, |failures| failures.errors += 1)
    }

    /// Counts a panic, as `returned` does an error.
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
        let Counts { by_function, total, is_told } = &mut *counts;
        for failures in [by_function.entry(function.to_owned()).or_default(), &mut *total] {
            add(failures);
            failures.first_failure.get_or_insert_with(first);
        }
        (!std::mem::replace(is_told, true)).then(first)
    }

    /// Other code serves from now on.
    pub fn begin_anew(&self) {
        self.0.locked().is_told = false;
    }

    /// Those of one function.
    pub fn of(&self, function: &str) -> Failures {
        self.0.locked().by_function.get(function).cloned().unwrap_or_default()
    }

    /// Those of all functions together.
    pub fn total(&self) -> Failures {
        self.0.locked().total.clone()
    }
}
