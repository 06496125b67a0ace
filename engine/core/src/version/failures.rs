//! Counts the failures of a version's functions. Only failed calls use this; calls that succeed cost nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use hotswap_protocol::{Failures, FirstFailure, clock::now_ms};

use super::face::FaceNumber;
use crate::{error::shortened, lock::Lock as _};

/// The longest message of a failure that is kept, in bytes.
const MAX_TEXT: usize = 4 << 10;

/// Counts the calls of one version's functions that failed.
#[derive(Default)]
pub(crate) struct FailureCounts(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    by_function: BTreeMap<String, Failures>,
    total: Failures,
    /// The faces whose first failure was reported.
    reported: BTreeSet<FaceNumber>,
}

impl FailureCounts {
    /// Counts an error that a function returned. Returns the failure if it is the first one of the face.
    pub fn returned(
        &self,
        face: FaceNumber,
        function: &str,
        message: &str,
    ) -> Option<FirstFailure> {
        self.count(face, function, message, |failures| failures.errors += 1)
    }

    /// Counts a panic, as `returned` counts an error.
    pub fn panicked(
        &self,
        face: FaceNumber,
        function: &str,
        message: &str,
    ) -> Option<FirstFailure> {
        self.count(face, function, message, |failures| failures.panics += 1)
    }

    fn count(
        &self,
        face: FaceNumber,
        function: &str,
        message: &str,
        add: impl Fn(&mut Failures),
    ) -> Option<FirstFailure> {
        let first = || FirstFailure {
            function: function.to_owned(),
            message: shortened(message, MAX_TEXT),
            at_ms: now_ms(),
            patch: face.patch_number(),
        };
        let mut counts = self.0.locked();
        let Counts { by_function, total, reported } = &mut *counts;
        for failures in [by_function.entry(function.to_owned()).or_default(), total] {
            add(failures);
            // The first failure of a newer face takes the place of an older face's.
            let is_there = |known: &FirstFailure| known.patch >= face.patch_number();
            if !failures.first_failure.as_ref().is_some_and(is_there) {
                failures.first_failure = Some(first());
            }
        }
        reported.insert(face).then(first)
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
