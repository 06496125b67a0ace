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
    /// The failures of the functions that have a place in the version. A plugin may answer for any number of other
    /// names.
    by_place: BTreeMap<usize, Failures>,
    total: Failures,
    /// The faces whose first failure was reported.
    reported: BTreeSet<FaceNumber>,
}

impl FailureCounts {
    /// Counts an error that a function returned; `place` is its place in the version, if it has one. Returns the
    /// failure if it is the first one of the face.
    pub fn returned(
        &self,
        face: FaceNumber,
        (function, place): (&str, Option<usize>),
        message: &str,
    ) -> Option<FirstFailure> {
        self.count(face, (function, place), message, |failures| failures.errors += 1)
    }

    /// Counts a panic, as `returned` counts an error.
    pub fn panicked(
        &self,
        face: FaceNumber,
        (function, place): (&str, Option<usize>),
        message: &str,
    ) -> Option<FirstFailure> {
        self.count(face, (function, place), message, |failures| failures.panics += 1)
    }

    fn count(
        &self,
        face: FaceNumber,
        (function, place): (&str, Option<usize>),
        message: &str,
        add: impl Fn(&mut Failures),
    ) -> Option<FirstFailure> {
        let first = || FirstFailure {
            function: shortened(function, MAX_TEXT),
            message: shortened(message, MAX_TEXT),
            at_ms: now_ms(),
            patch: face.patch_number(),
        };
        let mut counts = self.0.locked();
        let Counts { by_place, total, reported } = &mut *counts;
        let at_place = place.map(|place| by_place.entry(place).or_default());
        for failures in at_place.into_iter().chain([total]) {
            add(failures);
            // The first failure of a newer face takes the place of an older face's.
            let is_there = |known: &FirstFailure| known.patch >= face.patch_number();
            if !failures.first_failure.as_ref().is_some_and(is_there) {
                failures.first_failure = Some(first());
            }
        }
        reported.insert(face).then(first)
    }

    /// The failures of the function at this place.
    pub fn of(&self, place: usize) -> Failures {
        self.0.locked().by_place.get(&place).cloned().unwrap_or_default()
    }

    /// The failures of all functions together.
    pub fn total(&self) -> Failures {
        self.0.locked().total.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_a_place_are_counted_only_together() {
        let counts = FailureCounts::default();
        for page in 0..100 {
            counts.returned(FaceNumber::BASE, (&format!("page {page}"), None), "not found");
        }
        counts.panicked(FaceNumber::BASE, ("greet", Some(3)), "index out of bounds");
        assert_eq!((counts.total().errors, counts.total().panics), (100, 1));
        assert_eq!((counts.of(3).panics, counts.of(0)), (1, Failures::default()));
        assert_eq!(counts.0.locked().by_place.len(), 1);
    }
}
