//! How often a version's functions are called, and how long the calls take.
//!
//! Every call is counted, by the thread that makes it, in memory that no other thread writes. A clock
//! costs ten times what a call does, so only the first calls and then a sample are timed.

use std::{
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::slots::MAX_THREADS;

/// How many calls of a function each thread times before it takes samples.
const TIMED_FIRST: u64 = 64;

/// Of so many calls one is timed, after the first.
const SAMPLED: u64 = 1024;

/// The calls of one version: for each of its functions, and for those it finds by hand.
pub(crate) struct CallCounts {
    functions: usize,
    /// By thread, a row with a counter for each function; null where that thread has not called any.
    by_thread: [AtomicPtr<Counters>; MAX_THREADS],
    /// The counters of all threads without slots.
    shared: Box<[Counter]>,
    latencies: Box<[OnceLock<Box<Latencies>>]>,
}

/// Counters that share no cache line with another thread's; processors fetch lines in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Counters(#[allow(dead_code, reason = "reached by address")] [Counter; 8]);

#[derive(Default)]
struct Counter {
    calls: AtomicU64,
    /// The call that is timed next.
    timed_next: AtomicU64,
}

/// A call that was counted; `Some` where it is timed.
pub(crate) type Begun = Option<Instant>;

impl CallCounts {
    /// Counters for so many functions, and one more for those that have no number.
    pub fn new(functions: usize) -> Box<Self> {
        let counters = functions + 1;
        Box::new(Self {
            functions,
            by_thread: [const { AtomicPtr::new(ptr::null_mut()) }; MAX_THREADS],
            shared: (0..counters).map(|_| Counter::default()).collect(),
            latencies: (0..counters).map(|_| OnceLock::new()).collect(),
        })
    }

    /// The number of a call that has none.
    pub fn unnumbered(&self) -> usize {
        self.functions
    }

    /// Counts a call of a function by a thread.
    #[inline(always)]
    pub fn begin(&self, thread: usize, function: usize) -> Begun {
        let row = match self.by_thread.get(thread) {
            Some(row) => row.load(Ordering::Acquire),
            None => return self.begin_shared(function),
        };
        if row.is_null() || function > self.functions {
            return self.begin_first(thread, function);
        }
        // SAFETY: the row has a counter for each function and one more at least, and lives as long as
        // this.
        let counter = unsafe { counter(row, function) };
        // Nobody else writes it, so reading and writing it need not be one step.
        let calls = counter.calls.load(Ordering::Relaxed);
        counter.calls.store(calls + 1, Ordering::Relaxed);
        if calls < counter.timed_next.load(Ordering::Relaxed) { None } else { counter.time(calls) }
    }

    /// Counts a call of a function by a thread, unless it is one that is timed; says whether it did.
    ///
    /// # Safety
    /// There is a function of that number.
    #[inline(always)]
    pub unsafe fn count_untimed(&self, thread: usize, function: usize) -> bool {
        let Some(row) = self.by_thread.get(thread) else { return false };
        let row = row.load(Ordering::Acquire);
        if row.is_null() {
            return false;
        }
        // SAFETY: as in `begin`.
        let counter = unsafe { counter(row, function) };
        let calls = counter.calls.load(Ordering::Relaxed);
        if calls >= counter.timed_next.load(Ordering::Relaxed) {
            return false;
        }
        counter.calls.store(calls + 1, Ordering::Relaxed);
        true
    }

    #[cold]
    fn begin_first(&self, thread: usize, function: usize) -> Begun {
        if self.by_thread[thread].load(Ordering::Acquire).is_null() {
            let row: Box<[Counters]> = (0..self.row_len()).map(|_| Counters::default()).collect();
            self.by_thread[thread].store(Box::into_raw(row).cast::<Counters>(), Ordering::Release);
        }
        self.begin(thread, function.min(self.functions))
    }

    /// How many [`Counters`] a row is long.
    fn row_len(&self) -> usize {
        self.functions / 8 + 1
    }

    #[cold]
    fn begin_shared(&self, function: usize) -> Begun {
        let counter = &self.shared[function.min(self.functions)];
        let calls = counter.calls.fetch_add(1, Ordering::Relaxed);
        (calls >= counter.timed_next.load(Ordering::Relaxed)).then(|| counter.time(calls)).flatten()
    }

    /// Ends a call.
    #[inline(always)]
    pub fn end(&self, function: usize, begun: Begun) {
        if let Some(begun) = begun {
            self.record(function, begun.elapsed());
        }
    }

    #[cold]
    fn record(&self, function: usize, took: Duration) {
        let latencies = &self.latencies[function.min(self.functions)];
        latencies.get_or_init(Box::default).record(took);
    }

    /// How often a function was called.
    pub fn calls(&self, function: usize) -> u64 {
        let own = (0..MAX_THREADS).map(|thread| self.calls_by(thread, function));
        own.sum::<u64>() + self.shared[function].calls.load(Ordering::Relaxed)
    }

    /// How often a thread called a function.
    pub fn calls_by(&self, thread: usize, function: usize) -> u64 {
        let row = self.by_thread.get(thread).map(|row| row.load(Ordering::Acquire));
        let Some(row) = row.filter(|row| !row.is_null()) else { return 0 };
        // SAFETY: as in `begin`.
        let counter = unsafe { counter(row, function.min(self.functions)) };
        counter.calls.load(Ordering::Relaxed)
    }

    /// How often the version was called.
    pub fn total(&self) -> u64 {
        (0..=self.functions).map(|function| self.calls(function)).sum()
    }

    /// How long the timed calls of a function took, so much of them at most; none when there was
    /// none.
    pub fn quantile(&self, function: usize, part: f64) -> Option<Duration> {
        self.latencies.get(function)?.get()?.quantile(part)
    }
}

impl Drop for CallCounts {
    fn drop(&mut self) {
        let length = self.row_len();
        for row in &mut self.by_thread {
            let first = *row.get_mut();
            if !first.is_null() {
                let row = ptr::slice_from_raw_parts_mut(first, length);
                // SAFETY: the pointer came from a box of a row of this length.
                drop(unsafe { Box::from_raw(row) });
            }
        }
    }
}

/// The counter of a function: [`Counters`] are nothing but counters, so a row is one array of them.
///
/// # Safety
/// The row has that many, and outlives the answer.
#[inline(always)]
unsafe fn counter<'a>(row: *const Counters, function: usize) -> &'a Counter {
    // SAFETY: the caller's promise.
    unsafe { &*row.cast::<Counter>().add(function) }
}

impl Counter {
    #[cold]
    fn time(&self, calls: u64) -> Begun {
        let next = if calls < TIMED_FIRST { calls + 1 } else { calls + SAMPLED };
        self.timed_next.store(next, Ordering::Relaxed);
        Some(Instant::now())
    }
}

/// How many buckets an octave of durations has.
const BUCKETS_PER_OCTAVE: u32 = 4;

/// From 1 ns to some 73 minutes.
const BUCKETS: usize = 42 * BUCKETS_PER_OCTAVE as usize;

/// A histogram of durations; a bucket is 19 % wider than the one before it at most.
struct Latencies([AtomicU32; BUCKETS]);

impl Default for Latencies {
    fn default() -> Self {
        Self([const { AtomicU32::new(0) }; BUCKETS])
    }
}

impl Latencies {
    fn record(&self, took: Duration) {
        self.0[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    fn quantile(&self, part: f64) -> Option<Duration> {
        let counts: Vec<u64> = self.0.iter().map(|n| n.load(Ordering::Relaxed).into()).collect();
        let all: u64 = counts.iter().sum();
        if all == 0 {
            return None;
        }
        let wanted = ((all as f64) * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        let at = counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        Some(upper_bound(at.unwrap_or(BUCKETS - 1)))
    }
}

fn bucket(took: Duration) -> usize {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
    let octave = nanos.ilog2();
    // The two bits below the highest one say which quarter of the octave it is.
    let quarter =
        if octave >= 2 { (nanos >> (octave - 2)) & 3 } else { (nanos << (2 - octave)) & 3 };
    ((octave * BUCKETS_PER_OCTAVE) as usize + quarter as usize).min(BUCKETS - 1)
}

/// The longest duration of a bucket.
fn upper_bound(bucket: usize) -> Duration {
    let (octave, quarter) = (bucket as u32 / BUCKETS_PER_OCTAVE, bucket as u64 % 4);
    let next = (5 + quarter) << octave;
    Duration::from_nanos((next / 4).saturating_sub(u64::from(next % 4 == 0)).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_lies_within_its_bucket() {
        for nanos in [1, 2, 3, 4, 5, 7, 8, 100, 1_000, 1_024, 12_345, 1_000_000_007] {
            let took = Duration::from_nanos(nanos);
            assert!(took <= upper_bound(bucket(took)), "{nanos} ns");
            if nanos > 4 {
                assert!(took > upper_bound(bucket(took) - 1), "{nanos} ns");
            }
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        (0..99).for_each(|_| latencies.record(Duration::from_micros(8)));
        latencies.record(Duration::from_millis(3));
        let micros = |part| latencies.quantile(part).unwrap().as_micros();
        assert!((8..10).contains(&micros(0.5)));
        assert!((8..10).contains(&micros(0.99)));
        assert!((3_000..3_600).contains(&micros(1.0)));
    }

    #[test]
    fn every_call_is_counted_and_the_first_are_timed() {
        let counts = CallCounts::new(2);
        let timed = (0..5_000).filter(|_| counts.begin(3, 1).is_some()).count();
        assert_eq!(timed as u64, TIMED_FIRST + 1 + (5_000 - TIMED_FIRST - 1) / SAMPLED);
        assert!(counts.begin(MAX_THREADS, 1).is_some());
        assert!(counts.begin(3, usize::MAX).is_some());
        assert_eq!((counts.calls(0), counts.calls(1), counts.calls(2)), (0, 5_001, 1));
        assert_eq!((counts.calls_by(3, 1), counts.total()), (5_000, 5_002));
    }
}
