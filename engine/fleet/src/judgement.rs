//! Decides from the results of calls whether a candidate is worse than the base that it replaces.
//!
//! The decision is made again at each step, and a test that is made for one decision would sooner or later find a
//! difference where there is none. Therefore the evidence is a likelihood ratio that stays valid however often it
//! is computed. It compares two models of the counts: each side has an error rate of its own (a mixture over all
//! rates), or both have the same rate (the most likely one). If both sides are alike, the expectation of the ratio
//! is at most 1, so it exceeds 50 in at most 1 of 50 rollouts (Ville's inequality), and in half of these the
//! candidate looks better and not worse. The test needs no minimum number of calls and no approximation.

use std::{collections::BTreeMap, ops::Bound};

use hotswap_protocol::{CALLS_OF_A_SAMPLE, LatencyBucket};
use serde::{Deserialize, Serialize};

/// Counts of calls by result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Arm {
    /// The number of calls.
    pub calls: u64,
    /// The number of calls that returned an error.
    pub errors: u64,
    /// The number of calls that panicked.
    pub panics: u64,
}

impl Arm {
    /// The sum of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            errors: self.errors.saturating_add(other.errors),
            panics: self.panics.saturating_add(other.panics),
        }
    }
}

/// A histogram of the durations of calls. It maps each bound, in nanoseconds, to the number of calls that took at
/// most so long and longer than the bound before. Histograms of several functions and hosts can be added up;
/// percentiles cannot.
///
/// In JSON it is an array of pairs, because serde cannot read numeric keys in an object that is flattened into
/// another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Histogram(BTreeMap<u64, u64>);

impl From<Vec<(u64, u64)>> for Histogram {
    fn from(pairs: Vec<(u64, u64)>) -> Self {
        let mut histogram = Self::default();
        pairs.into_iter().for_each(|(up_to_ns, calls)| histogram.add(up_to_ns, calls));
        histogram
    }
}

impl From<Histogram> for Vec<(u64, u64)> {
    fn from(histogram: Histogram) -> Self {
        histogram.0.into_iter().collect()
    }
}

impl Histogram {
    /// Adds the timed calls of a cumulative histogram. There, a sample counts as many calls; here it counts as
    /// one, because it is one measurement.
    pub fn add_cumulative(&mut self, buckets: &[LatencyBucket]) {
        let mut before = 0;
        for bucket in buckets {
            let calls = bucket.calls.saturating_sub(before);
            self.add(bucket.up_to_ns, calls % CALLS_OF_A_SAMPLE + calls / CALLS_OF_A_SAMPLE);
            before = before.max(bucket.calls);
        }
    }

    /// Adds another histogram.
    pub fn add_all(&mut self, other: &Self) {
        other.0.iter().for_each(|(bound, calls)| self.add(*bound, *calls));
    }

    /// Adds `calls` calls to the bucket with this bound.
    pub fn add(&mut self, up_to_ns: u64, calls: u64) {
        if calls > 0 {
            let sum = self.0.entry(up_to_ns).or_default();
            *sum = sum.saturating_add(calls);
        }
    }

    /// The number of calls.
    pub fn calls(&self) -> u64 {
        self.0.values().copied().fold(0, u64::saturating_add)
    }

    /// The 99th percentile, in nanoseconds: the bound that 99 % of the calls do not exceed; `None` if there are no
    /// calls.
    pub fn p99_ns(&self) -> Option<u64> {
        let calls = self.calls();
        let rank = calls - calls / 100;
        let mut counted = 0_u64;
        let mut bounds = self.0.iter();
        let at = bounds.find(|(_, calls)| {
            counted = counted.saturating_add(**calls);
            counted >= rank
        });
        at.map(|(bound, _)| *bound)
    }

    /// The number of calls that took longer than a bound.
    fn above(&self, bound_ns: u64) -> u64 {
        let above = self.0.range((Bound::Excluded(bound_ns), Bound::Unbounded));
        above.map(|(_, calls)| *calls).fold(0, u64::saturating_add)
    }
}

/// Whether the calls of a candidate take longer by the 99th percentile: beyond reasonable doubt, more than 1 % of
/// them take at least twice the 99th percentile of the base. If there are too few calls, it returns `false`.
pub fn is_slower(candidate: &Histogram, base: &Histogram) -> bool {
    let (calls, base_calls) = (candidate.calls(), base.calls());
    if calls < TIMED || base_calls < TIMED {
        return false;
    }
    let Some(limit) = base.p99_ns().map(|p99| p99.saturating_mul(2)) else { return false };
    let (slow, base_slow) = (candidate.above(limit), base.above(limit));
    slow > calls / 100 && is_higher((slow, calls), (base_slow, base_calls))
}

/// The judgement about a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No evidence against it.
    Good,
    /// It panics more than the base.
    Panics,
    /// It returns errors more often than the base.
    MoreErrors,
}

/// The number of timed calls that each side needs for a comparison.
const TIMED: u64 = 100;
/// How many times more likely two different rates must be than one common rate.
const CONVINCED: f64 = 50.0;
/// The error rate that is assumed for a base without calls.
const USUAL: f64 = 0.01;
/// The exponent of the mixture's density `A · rate^(A - 1)`. A small `A` gives each order of magnitude about the
/// same weight.
const A: f64 = 0.1;

/// Compares a candidate with the base.
pub fn judge(candidate: &Arm, base: &Arm) -> Verdict {
    let panics = |arm: &Arm| (arm.panics, arm.calls.max(arm.panics));
    if candidate.panics > 0 && (base.panics == 0 || is_higher(panics(candidate), panics(base))) {
        return Verdict::Panics;
    }
    let errors = |arm: &Arm| (arm.errors, arm.calls.max(arm.errors));
    if is_higher(errors(candidate), errors(base)) { Verdict::MoreErrors } else { Verdict::Good }
}

/// Whether the rate of the first is higher than the rate of the second, beyond reasonable doubt.
#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are the same as rates")]
fn is_higher((hits, calls): (u64, u64), (base_hits, base_calls): (u64, u64)) -> bool {
    if hits == 0 {
        return false;
    }
    let (hits, calls) = (hits as f64, calls as f64);
    let (base_hits, base_calls) = (base_hits as f64, base_calls as f64);
    let evidence = if base_calls == 0.0 {
        if hits / calls <= USUAL {
            return false;
        }
        own_rate(hits, calls) - at_rate(USUAL, hits, calls)
    } else {
        if hits / calls <= base_hits / base_calls {
            return false;
        }
        let (all_hits, all_calls) = (hits + base_hits, calls + base_calls);
        own_rate(hits, calls) + own_rate(base_hits, base_calls)
            - at_rate(all_hits / all_calls, all_hits, all_calls)
    };
    evidence > CONVINCED.ln()
}

/// The logarithm of the likelihood of the counts, in the mixture over all rates.
fn own_rate(hits: f64, calls: f64) -> f64 {
    ln_beta(hits + A, calls - hits + 1.0) - ln_beta(A, 1.0)
}

/// The logarithm of the likelihood of the counts at one rate.
fn at_rate(rate: f64, hits: f64, calls: f64) -> f64 {
    let of = |count: f64, rate: f64| if count == 0.0 { 0.0 } else { count * rate.ln() };
    of(hits, rate) + of(calls - hits, 1.0 - rate)
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// Stirling's series, which is exact to 1e-10 from 10 on. The recurrence brings smaller arguments there.
fn ln_gamma(x: f64) -> f64 {
    if x < 10.0 {
        return ln_gamma(x + 1.0) - x.ln();
    }
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1260.0 * x.powi(5));
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Numbers;

    /// The number of failing calls, at a rate of `per_10_000` in 10,000.
    fn hits(numbers: &mut Numbers, calls: u64, per_10_000: u64) -> u64 {
        (0..calls).map(|_| u64::from(numbers.below(10_000) < per_10_000)).sum()
    }

    /// Judges after every 50 calls. Returns in how many rollouts the candidate is found to be worse, and the
    /// median number of calls until then.
    fn found(rollouts: u64, looks: u64, base: u64, candidate: u64) -> (usize, Option<u64>) {
        let mut after = Vec::new();
        for seed in 0..rollouts {
            let mut numbers = Numbers::seeded(seed);
            let (mut old, mut new) = (Arm::default(), Arm::default());
            for look in 1..=looks {
                old = old.and(Arm { calls: 50, errors: hits(&mut numbers, 50, base), panics: 0 });
                new = new.and(Arm {
                    calls: 50,
                    errors: hits(&mut numbers, 50, candidate),
                    panics: 0,
                });
                if judge(&new, &old) != Verdict::Good {
                    after.push(look * 50);
                    break;
                }
            }
        }
        after.sort_unstable();
        (after.len(), after.get(after.len() / 2).copied())
    }

    #[test]
    fn the_gamma_function_is_right() {
        for (x, expected) in [(0.1, 2.252_712_651_734_206), (1.0, 0.0), (5.0, 24.0_f64.ln())] {
            assert!((ln_gamma(x) - expected).abs() < 1e-9, "{x}");
        }
    }

    #[test]
    fn hardly_any_equal_candidate_is_judged_worse() {
        for rate in [10, 100, 1000] {
            let (count, _) = found(400, 100, rate, rate);
            assert!(
                count < 4,
                "{count} of 400 equal candidates were judged worse at {rate} errors in 10,000 calls"
            );
        }
    }

    #[test]
    fn a_candidate_that_fails_more_often_is_found() {
        let (count, middle) = found(60, 400, 10, 50);
        assert!(count >= 59, "only {count} of 60 worse candidates were found");
        assert!(middle.is_some_and(|middle| middle < 8000), "{middle:?}");
        let (count, middle) = found(60, 20, 10, 1000);
        assert!(count == 60 && middle.is_some_and(|middle| middle <= 200), "{count}, {middle:?}");
    }

    /// Timed calls: most take about `about_us` microseconds, and one in a hundred takes ten times as long.
    fn timed(numbers: &mut Numbers, calls: u64, about_us: u64) -> Histogram {
        let mut histogram = Histogram::default();
        for _ in 0..calls {
            let tail = if numbers.below(100) == 0 { 10 } else { 1 };
            let us = about_us * tail * (50 + numbers.below(100)) / 100;
            // Round up to a power of two, as the engine's buckets do.
            histogram.add((us.max(1) * 1000).next_power_of_two(), 1);
        }
        histogram
    }

    /// The number of rollouts in which a candidate is found to be slower, with many judgements in each.
    fn found_slower(rollouts: u64, base_us: u64, candidate_us: u64) -> usize {
        let is_found = |seed: &u64| {
            let mut numbers = Numbers::seeded(*seed);
            let (mut old, mut new) = (Histogram::default(), Histogram::default());
            (0..60).any(|_| {
                old.add_all(&timed(&mut numbers, 50, base_us));
                new.add_all(&timed(&mut numbers, 50, candidate_us));
                is_slower(&new, &old)
            })
        };
        (0..rollouts).filter(is_found).count()
    }

    #[test]
    fn a_candidate_that_is_as_fast_is_hardly_ever_found_slower_and_one_that_is_slower_is() {
        let falsely = found_slower(400, 100, 100);
        assert!(falsely < 4, "{falsely} of 400 candidates were falsely found slower");
        assert_eq!(found_slower(20, 100, 1000), 20);
        assert_eq!(found_slower(20, 1000, 100), 0, "a faster candidate is not slower");
    }

    #[test]
    fn histograms_are_added_up_and_too_few_calls_say_nothing() {
        let bucket = |up_to_ns, calls| LatencyBucket { up_to_ns, calls };
        let mut sum = Histogram::default();
        sum.add_cumulative(&[bucket(10, 95), bucket(20, 100)]);
        sum.add_cumulative(&[bucket(10, 99), bucket(40, 100)]);
        assert_eq!((sum.calls(), sum.above(10), sum.p99_ns()), (200, 6, Some(20)));
        assert_eq!(Histogram::default().p99_ns(), None);
        let (mut slow, mut fast) = (Histogram::default(), Histogram::default());
        slow.add(1000, 99);
        fast.add(10, 100_000);
        assert!(!is_slower(&slow, &fast));
        slow.add(1000, 1);
        assert!(is_slower(&slow, &fast));
        assert!(!is_slower(&fast, &slow));
    }

    #[test]
    fn a_sample_is_one_timed_call_however_many_it_stands_for() {
        let bucket = |up_to_ns, calls| LatencyBucket { up_to_ns, calls };
        let (mut new, mut base) = (Histogram::default(), Histogram::default());
        // Each thread times its first 64 calls, and then samples. One sample of the new code was interrupted.
        let samples = |count: u64| 64 + count * CALLS_OF_A_SAMPLE;
        base.add_cumulative(&[bucket(100, samples(200))]);
        new.add_cumulative(&[bucket(100, samples(60)), bucket(9000, samples(61))]);
        assert_eq!((base.calls(), new.calls(), new.above(100)), (264, 125, 1));
        assert!(!is_slower(&new, &base));
        new.add_cumulative(&[bucket(9000, samples(20))]);
        assert!(is_slower(&new, &base));
    }

    #[test]
    fn without_a_base_the_usual_rate_is_compared_with() {
        let nothing = Arm::default();
        assert_eq!(judge(&Arm { calls: 100, errors: 1, panics: 0 }, &nothing), Verdict::Good);
        assert_eq!(
            judge(&Arm { calls: 100, errors: 15, panics: 0 }, &nothing),
            Verdict::MoreErrors
        );
        assert_eq!(judge(&Arm { calls: 1, errors: 0, panics: 1 }, &nothing), Verdict::Panics);
    }

    #[test]
    fn panics_that_were_there_before_are_compared_as_errors_are() {
        let base = Arm { calls: 1000, errors: 0, panics: 10 };
        assert_eq!(judge(&Arm { calls: 500, errors: 0, panics: 5 }, &base), Verdict::Good);
        assert_eq!(judge(&Arm { calls: 500, errors: 0, panics: 90 }, &base), Verdict::Panics);
    }

    #[test]
    fn counts_that_make_no_sense_are_not_believed_to_be_good() {
        let odd = Arm { calls: 0, errors: 50, panics: 0 };
        assert_eq!(judge(&odd, &Arm::default()), Verdict::MoreErrors);
        let huge = Arm { calls: u64::MAX, errors: u64::MAX, panics: u64::MAX };
        assert_eq!(judge(&huge, &Arm { calls: 100, errors: 0, panics: 0 }), Verdict::Panics);
    }
}
