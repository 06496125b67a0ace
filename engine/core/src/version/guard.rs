//! The guard rolls a plugin back if the calls of the version that serves fail too often.

use std::{
    collections::VecDeque,
    sync::{Mutex, mpsc::Sender},
    time::{Duration, Instant},
};

use hotswap_protocol::PluginName;

use super::face::FaceNumber;
use crate::{artifact::BuildId, lock::Lock as _};

/// Sets when a plugin is rolled back automatically; see
/// [`EngineBuilder::guard`](crate::EngineBuilder::guard).
///
/// ```
/// use std::time::Duration;
///
/// use hotswap_engine::Guard;
///
/// // Ten panics within five seconds.
/// let strict = Guard::panics(10).within(Duration::from_secs(5));
/// // A hundred calls that return an error or panic, within a minute.
/// let lax = Guard::failures(100).within(Duration::from_secs(60));
/// # assert_ne!(strict, lax);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    limit: usize,
    within: Duration,
    counts_errors: bool,
}

impl Guard {
    /// Takes a version back after `limit` panics of its functions (at least 1) within 5 s.
    pub const fn panics(limit: usize) -> Self {
        let limit = if limit == 0 { 1 } else { limit };
        Self { limit, within: Duration::from_secs(5), counts_errors: false }
    }

    /// Works like [`panics`](Self::panics), and also counts errors that functions return. Errors that say
    /// that the call was wrong do not count.
    pub const fn failures(limit: usize) -> Self {
        Self { counts_errors: true, ..Self::panics(limit) }
    }

    /// Counts failures within `period` instead.
    pub const fn within(self, period: Duration) -> Self {
        Self { within: period, ..self }
    }
}

/// A guard, and the channel through which it reports the versions to roll back.
pub(crate) struct ActiveGuard {
    pub guard: Guard,
    trips: Sender<Trip>,
}

/// A version whose calls failed too often.
pub(crate) struct Trip {
    pub plugin: PluginName,
    pub ordinal: u32,
    /// The face that served.
    pub face: FaceNumber,
    pub build_id: BuildId,
    pub failures: usize,
    pub within: Duration,
    pub counts_errors: bool,
}

/// The last failures of one version.
#[derive(Default)]
pub(crate) struct Recent(Mutex<Failures>);

#[derive(Default)]
struct Failures {
    at: VecDeque<Instant>,
    has_tripped: bool,
}

impl ActiveGuard {
    pub fn new(guard: Guard, trips: Sender<Trip>) -> Self {
        Self { guard, trips }
    }

    /// Counts a failure of a version that serves, and reports the version when there are too many.
    pub fn count(
        &self,
        recent: &Recent,
        is_panic: bool,
        who: impl FnOnce() -> (PluginName, u32, FaceNumber, BuildId),
    ) {
        let Guard { limit, within, counts_errors } = self.guard;
        if !(is_panic || counts_errors) || !recent.count(limit, within, Instant::now()) {
            return;
        }
        let (plugin, ordinal, face, build_id) = who();
        let trip = Trip { plugin, ordinal, face, build_id, failures: limit, within, counts_errors };
        // If there is no receiver, the engine is gone.
        let _ = self.trips.send(trip);
    }
}

impl Recent {
    /// Starts counting from zero.
    pub fn forget(&self) {
        *self.0.locked() = Failures::default();
    }

    /// Counts a failure. Returns true for the failure that reaches the limit, which happens once.
    fn count(&self, limit: usize, within: Duration, now: Instant) -> bool {
        let mut failures = self.0.locked();
        if failures.has_tripped {
            return false;
        }
        failures.at.push_back(now);
        if failures.at.len() > limit {
            failures.at.pop_front();
        }
        let first = failures.at.front().copied().unwrap_or(now);
        failures.has_tripped = failures.at.len() >= limit && now.duration_since(first) <= within;
        failures.has_tripped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_within_the_period_are_too_many_and_once() {
        let (recent, begun) = (Recent::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut count = |seconds| recent.count(3, Duration::from_secs(5), at(seconds));
        assert_eq!(
            [0, 1, 6, 7].map(&mut count),
            [false; 4],
            "there are never three within five seconds"
        );
        assert_eq!([11, 11, 12].map(&mut count), [true, false, false]);
        assert!(Recent::default().count(1, Duration::ZERO, begun));
    }
}
