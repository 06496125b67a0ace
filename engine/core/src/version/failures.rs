//! How often the functions of a version failed. Only a call that fails comes here: one that succeeds pays
//! nothing for it.

use std::{collections::BTreeMap, sync::Mutex};

use hotswap_plugin::ErrorKind;
use hotswap_protocol::{FirstFailure, clock::now_ms};

use crate::lock::Lock as _;

/// How often the functions of one version failed.
#[derive(Default)]
pub(crate) struct Failures {
    by_function: Mutex<BTreeMap<String, Counts>>,
}

/// How often a function failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// It returned an error.
    pub errors: u64,
    /// It panicked.
    pub panics: u64,
    /// What it said first.
    pub first: Option<FirstFailure>,
}

impl Failures {
    /// Counts an error that a function returned. Errors that say that the call was wrong are its caller's.
    pub fn returned(&self, function: &str, kind: ErrorKind, message: &str) {
        if kind == ErrorKind::Failed {
            self.count(function, message, |counts| counts.errors += 1);
        }
    }

    /// Counts a panic.
    pub fn panicked(&self, function: &str, message: &str) {
        self.count(function, message, |counts| counts.panics += 1);
    }

    fn count(&self, function: &str, message: &str, add: impl FnOnce(&mut Counts)) {
        let mut by_function = self.by_function.locked();
        let counts = by_function.entry(function.to_owned()).or_default();
        add(counts);
        counts.first.get_or_insert_with(|| FirstFailure {
            function: function.to_owned(),
            message: message.to_owned(),
            at_ms: now_ms(),
        });
    }

    /// Those of one function.
    pub fn of(&self, function: &str) -> Counts {
        self.by_function.locked().get(function).cloned().unwrap_or_default()
    }

    /// Those of all functions together.
    pub fn total(&self) -> Counts {
        let by_function = self.by_function.locked();
        let firsts = by_function.values().filter_map(|counts| counts.first.as_ref());
        Counts {
            errors: by_function.values().map(|counts| counts.errors).sum(),
            panics: by_function.values().map(|counts| counts.panics).sum(),
            first: firsts.min_by_key(|first| first.at_ms).cloned(),
        }
    }
}
