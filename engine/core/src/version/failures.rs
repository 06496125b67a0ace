//! How often the functions of a version failed. Only a call that fails comes here: one that succeeds pays
//! nothing for it.

use std::{collections::BTreeMap, sync::Mutex};

use hotswap_plugin::ErrorKind;
use hotswap_protocol::{FirstFailure, clock::now_ms};

use crate::lock::Lock as _;

/// How often the functions of one version failed.
#[derive(Default)]
pub(crate) struct Failures(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    by_function: BTreeMap<String, Counts>,
    /// The very first of all.
    first: Option<FirstFailure>,
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
        let mut counted = self.0.locked();
        let Counted { by_function, first } = &mut *counted;
        let counts = by_function.entry(function.to_owned()).or_default();
        add(counts);
        let own = counts.first.get_or_insert_with(|| FirstFailure {
            function: function.to_owned(),
            message: message.to_owned(),
            at_ms: now_ms(),
        });
        first.get_or_insert_with(|| own.clone());
    }

    /// Those of one function.
    pub fn of(&self, function: &str) -> Counts {
        self.0.locked().by_function.get(function).cloned().unwrap_or_default()
    }

    /// Those of all functions together.
    pub fn total(&self) -> Counts {
        let counted = self.0.locked();
        let all = || counted.by_function.values();
        Counts {
            errors: all().map(|counts| counts.errors).sum(),
            panics: all().map(|counts| counts.panics).sum(),
            first: counted.first.clone(),
        }
    }
}
