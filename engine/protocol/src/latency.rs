//! The latencies of repeated calls.

use serde::{Deserialize, Serialize};

/// The latencies of several calls: percentiles and a histogram.
///
/// ```
/// use hotswap_protocol::Latencies;
///
/// let latencies = Latencies::of(vec![30, 10, 20]).unwrap();
/// assert_eq!((latencies.min_ns, latencies.p50_ns, latencies.max_ns), (10, 20, 30));
/// assert_eq!(Latencies::of(Vec::new()), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latencies {
    /// How many calls there were.
    pub calls: u64,
    /// The shortest latency, in nanoseconds.
    pub min_ns: u64,
    /// The median, in nanoseconds: half of the calls took at most this long.
    pub p50_ns: u64,
    /// The 90th percentile, in nanoseconds.
    pub p90_ns: u64,
    /// The 99th percentile, in nanoseconds.
    pub p99_ns: u64,
    /// The longest latency, in nanoseconds.
    pub max_ns: u64,
    /// The histogram, shortest latencies first. Empty buckets between others are included.
    pub buckets: Vec<LatencyBucket>,
}

/// A bucket of a histogram. In [`Latencies`] it has the calls above the bound of the bucket before it, up to
/// its own, 1, 2 or 5 times a power of ten; where a histogram is cumulative, all calls up to its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyBucket {
    /// The bucket's upper bound, in nanoseconds.
    pub up_to_ns: u64,
    /// How many calls are in it.
    pub calls: u64,
}

impl Latencies {
    /// The summary of calls with these latencies, in nanoseconds; `None` if there are none.
    pub fn of(mut calls_ns: Vec<u64>) -> Option<Self> {
        calls_ns.sort_unstable();
        let (min_ns, max_ns) = (*calls_ns.first()?, *calls_ns.last()?);
        let count = calls_ns.len();
        // The nearest-rank percentile, which is always the latency of a call.
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

/// The bounds 1, 2, 5, 10, 20, 50 …; the last is `u64::MAX`.
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
