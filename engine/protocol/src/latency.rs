//! Percentiles and histograms of the latencies of calls.

use serde::{Deserialize, Serialize};

/// The quantile `per_mille` (0 to 1000, in thousandths) of sorted values, by the nearest-rank method: the smallest
/// value such that at least this part of the values is less or equal. The result is one of the values; `None` if
/// there are none.
///
/// ```
/// use hotswap_protocol::quantile;
///
/// assert_eq!(quantile(&[10, 20, 30, 40], 500), Some(20));
/// assert_eq!(quantile(&[10, 20, 30, 40], 999), Some(40));
/// ```
pub fn quantile<T: Copy>(sorted: &[T], per_mille: u16) -> Option<T> {
    let rank = nearest_rank(sorted.len() as u64, per_mille);
    sorted.get(usize::try_from(rank).ok()?.checked_sub(1)?).copied()
}

/// The nearest rank of a quantile among `count` values, from 1.
fn nearest_rank(count: u64, per_mille: u16) -> u64 {
    let rank = (u128::from(count) * u128::from(per_mille)).div_ceil(1000).max(1);
    u64::try_from(rank).map_or(count, |rank| rank.min(count))
}

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
    /// The number of calls.
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

/// After a thread's first calls of a function, one of this many calls is timed. In a [`LatencyBucket`] of a
/// cumulative histogram, it then counts as this many calls.
pub const CALLS_OF_A_SAMPLE: u64 = 1024;

/// A bucket of a histogram.
///
/// In [`Latencies`], a bucket counts the calls above the bound of the bucket before it, up to its own bound.
/// Bounds are 1, 2 or 5 times a power of ten. In a cumulative histogram, a bucket counts all calls up to its
/// bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyBucket {
    /// The bucket's upper bound, in nanoseconds.
    pub up_to_ns: u64,
    /// The number of calls in the bucket.
    pub calls: u64,
}

impl LatencyBucket {
    /// The smallest bound, in nanoseconds, such that at least `per_mille` thousandths of the calls of a cumulative
    /// histogram take at most this long; `None` if the histogram has no calls.
    pub fn quantile(cumulative: &[Self], per_mille: u16) -> Option<u64> {
        let rank = nearest_rank(cumulative.last()?.calls, per_mille);
        Some(cumulative.iter().find(|bucket| bucket.calls >= rank)?.up_to_ns)
    }
}

impl Latencies {
    /// The summary of the latencies `calls_ns`, in nanoseconds; `None` if there are none.
    pub fn of(mut calls_ns: Vec<u64>) -> Option<Self> {
        calls_ns.sort_unstable();
        let (min_ns, max_ns) = (*calls_ns.first()?, *calls_ns.last()?);
        Some(Self {
            calls: calls_ns.len() as u64,
            min_ns,
            p50_ns: quantile(&calls_ns, 500)?,
            p90_ns: quantile(&calls_ns, 900)?,
            p99_ns: quantile(&calls_ns, 990)?,
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
    fn a_quantile_of_a_histogram_is_the_bound_of_its_bucket() {
        let cumulative = [(10, 1), (20, 3), (40, 4)];
        let cumulative = cumulative.map(|(up_to_ns, calls)| LatencyBucket { up_to_ns, calls });
        let at = |per_mille| LatencyBucket::quantile(&cumulative, per_mille);
        assert_eq!([0, 250, 251, 750, 751, 1000].map(at), [10, 10, 20, 20, 40, 40].map(Some));
        assert_eq!(LatencyBucket::quantile(&[], 500), None);
        assert_eq!(quantile::<u32>(&[], 500), None);
        assert_eq!(nearest_rank(u64::MAX, 1000), u64::MAX);
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
