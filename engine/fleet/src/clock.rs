//! The clock of a fleet, and whether somebody has set it.

use std::time::Instant;

/// If the clock differs from the expected time by more milliseconds, somebody has set it. A smaller difference comes from
/// a slow answer, or from a clock that is being corrected.
const TOLERANCE_MS: u64 = 5000;

/// The time of a fleet, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// The time now.
    pub now_ms: u64,
    /// The time to which the clock was set last, forward or back, as far as this program has seen it. Spans that
    /// begin before that are not known.
    pub clock_set_at_ms: Option<u64>,
    /// Whether the store may have lost reports that hosts have not sent again yet.
    pub may_have_lost: bool,
}

impl Time {
    /// The latest time at which something may have happened whose time was noted as `at_ms`.
    ///
    /// If the clock was set since then, that is when the clock was set: a report or a phase is then younger than the
    /// clock says.
    pub(crate) fn latest(self, at_ms: u64) -> u64 {
        match self.clock_set_at_ms {
            Some(set_at_ms) if at_ms < set_at_ms || at_ms > self.now_ms => set_at_ms,
            _ => at_ms.min(self.now_ms),
        }
    }
}

/// Compares a clock that can be set with one that cannot.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: Option<(u64, Instant)>,
    set_at_ms: Option<u64>,
}

impl Watch {
    /// Notes that the clock says `now_ms` at this instant, and returns when it was set.
    pub(crate) fn note(&mut self, now_ms: u64, instant: Instant) -> Option<u64> {
        if let Some((seen_ms, seen)) = self.seen {
            let passed = instant.saturating_duration_since(seen).as_millis();
            let expected_ms = seen_ms.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX));
            if now_ms.abs_diff(expected_ms) > TOLERANCE_MS {
                self.set_at_ms = Some(now_ms);
            }
        }
        self.seen = Some((now_ms, instant));
        self.set_at_ms
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn a_clock_that_was_set_is_noticed() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut watch = Watch::default();
        let begin = 10 * HOUR_MS;
        assert_eq!(watch.note(begin, start), None);
        assert_eq!(watch.note(begin + 5_000, after(1)), None, "a slow answer");
        assert_eq!(watch.note(begin + 60_000, after(60)), None);
        let forward = begin + HOUR_MS;
        assert_eq!(watch.note(forward, after(61)), Some(forward));
        let later = forward + 1000;
        assert_eq!(watch.note(later, after(62)), Some(forward));
        assert_eq!(watch.note(begin, after(63)), Some(begin), "set back");
    }

    #[test]
    fn what_was_noted_before_the_clock_was_set_is_as_young_as_that() {
        let time = |clock_set_at_ms| Time { now_ms: 1000, clock_set_at_ms, may_have_lost: false };
        assert_eq!(time(None).latest(400), 400);
        assert_eq!(time(None).latest(2000), 1000, "another machine's clock");
        assert_eq!(time(Some(700)).latest(400), 700, "set forward");
        assert_eq!(time(Some(700)).latest(800), 800);
        assert_eq!(time(Some(700)).latest(2000), 700, "set back");
    }
}
