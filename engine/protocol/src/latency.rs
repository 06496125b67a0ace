//! How long repeated calls took.

use serde::{Deserialize, Serialize};

/// How long each of several calls took, as a summary and a histogram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latencies {
    /// How many calls there were.
    pub calls: u64,
    /// The shortest, in nanoseconds.
    pub min_ns: u64,
    /// Half of the calls took at most this, in nanoseconds.
    pub p50_ns: u64,
    /// Nine tenths of the calls took at most this, in nanoseconds.
    pub p90_ns: u64,
    /// 99 of a hundred calls took at most this, in nanoseconds.
    pub p99_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
    /// The histogram, without gaps, the shortest first.
    pub buckets: Vec<LatencyBucket>,
}

/// The calls that took more than the bucket before allows, and at most this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyBucket {
    /// The longest that a call of this bucket takes, in nanoseconds: 1, 2 or 5 times a power of ten.
    pub up_to_ns: u64,
    /// How many calls there were.
    pub calls: u64,
}

impl Latencies {
    /// Sums up calls, each given in nanoseconds; none when there were no calls.
    pub fn of(mut calls_ns: Vec<u64>) -> Option<Self> {
        calls_ns.sort_unstable();
        let (min_ns, max_ns) = (*calls_ns.first()?, *calls_ns.last()?);
        let count = calls_ns.len();
        // The nearest rank: the least call that as many calls as this part of all do not exceed.
        let percentile = |part: usize| calls_ns[(count * part).div_ceil(100).max(1) - 1];
        Some(Self {
            calls: count as u64,
            min_ns,
            p50_ns: percentile(50),
            p90_ns: percentile(90),
            p99_ns: percentile(99),
            max_ns,
            buckets: buckets(&calls_ns, min_ns, max_ns),
        })
    }
}

fn buckets(sorted_ns: &[u64], min_ns: u64, max_ns: u64) -> Vec<LatencyBucket> {
    let mut buckets = Vec::new();
    let mut counted = 0;
    for up_to_ns in bounds() {
        let until = sorted_ns.partition_point(|it| *it <= up_to_ns);
        if up_to_ns >= min_ns {
            buckets.push(LatencyBucket { up_to_ns, calls: (until - counted) as u64 });
        }
        counted = until;
        if up_to_ns >= max_ns {
            break;
        }
    }
    buckets
}

/// 1, 2, 5, 10, 20, 50 …; the last is the greatest number there is.
fn bounds() -> impl Iterator<Item = u64> {
    let powers = (0..20).map(|exponent| 10_u64.pow(exponent));
    let bounds = powers.flat_map(|power| [1, 2, 5].map(|step| power.checked_mul(step)));
    bounds.flatten().chain([u64::MAX])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_calls_that_were_made_and_each_call_is_in_a_bucket() {
        let latencies = Latencies::of((1..=100).rev().collect()).unwrap();
        assert_eq!((latencies.min_ns, latencies.max_ns), (1, 100));
        assert_eq!((latencies.p50_ns, latencies.p90_ns, latencies.p99_ns), (50, 90, 99));
        let bounds: Vec<u64> = latencies.buckets.iter().map(|it| it.up_to_ns).collect();
        assert_eq!(bounds, [1, 2, 5, 10, 20, 50, 100]);
        let calls: Vec<u64> = latencies.buckets.iter().map(|it| it.calls).collect();
        assert_eq!(calls, [1, 1, 3, 5, 10, 30, 50]);
    }

    #[test]
    fn the_histogram_has_no_gaps_and_begins_with_the_shortest() {
        let latencies = Latencies::of(vec![40, 900, u64::MAX]).unwrap();
        assert_eq!(latencies.buckets[0], LatencyBucket { up_to_ns: 50, calls: 1 });
        assert_eq!(latencies.buckets[1], LatencyBucket { up_to_ns: 100, calls: 0 });
        assert_eq!(latencies.buckets.last().unwrap().calls, 1);
        assert_eq!(latencies.buckets.iter().map(|it| it.calls).sum::<u64>(), 3);
        assert_eq!(Latencies::of(Vec::new()), None);
    }
}
