//! Counts the calls of a version's functions, and measures how long they take.
//!
//! Every call is counted by its own thread, in memory that no other thread writes. Reading a clock costs ten
//! times as much as a call, so only the first calls and then a sample are timed.

use std::{
    ptr::{self, NonNull},
    sync::{
        OnceLock,
        atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hotswap_protocol::{CALLS_OF_A_SAMPLE, LatencyBucket};

use crate::slots::MAX_THREADS;

/// How many calls of a function each thread times before it takes samples.
const TIMED_FIRST: u64 = 64;

/// The calls of one version: a counter for each of its functions, and one for calls that the plugin answers
/// in `invoke_func`.
pub(crate) struct CallCounts {
    functions: usize,
    /// For each thread, a row with a counter for each function; `uncalled` if the thread has not called any.
    by_thread: [AtomicPtr<Counters>; MAX_THREADS],
    /// All threads that have a row have an index below this.
    threads: AtomicUsize,
    /// A row in which every call is timed; nobody writes it.
    uncalled: NonNull<Counters>,
    /// The counters of all threads without slots.
    shared: Box<[Counter]>,
    latencies: Box<[OnceLock<Box<Latencies>>]>,
}

/// Counters that share no cache line with those of another thread. Processors fetch lines in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Counters(#[allow(dead_code, reason = "reached by address")] [Counter; PER_LINES]);

/// How many counters fill two cache lines.
const PER_LINES: usize = 16;

/// How often a thread has called a function, in one word that also says whether the next call is timed: it is
/// timed if the word is a multiple of [`CALLS_OF_A_SAMPLE`].
///
/// Each of the first calls adds [`CALLS_OF_A_SAMPLE`], so that the next one is timed too; each later call adds 1.
#[derive(Default)]
struct Counter(AtomicU64);

/// A counted call; `Some` if it is timed.
pub(crate) type Begun = Option<Timed>;

/// A call that is timed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timed {
    at: Instant,
    /// How many calls it stands for.
    weight: u64,
}

// SAFETY: the rows are atomics.
unsafe impl Send for CallCounts {}
// SAFETY: as above; `uncalled` is only read.
unsafe impl Sync for CallCounts {}

impl CallCounts {
    /// Counters for `functions` functions, and one more for calls that the plugin answers in `invoke_func`.
    pub fn new(functions: usize) -> Box<Self> {
        let counters = functions + 1;
        let uncalled = row(functions);
        Box::new(Self {
            functions,
            by_thread: std::array::from_fn(|_| AtomicPtr::new(uncalled.as_ptr())),
            threads: AtomicUsize::new(0),
            uncalled,
            shared: (0..counters).map(|_| Counter::default()).collect(),
            latencies: (0..counters).map(|_| OnceLock::new()).collect(),
        })
    }

    /// The number of the counter for calls that the plugin answers in `invoke_func`.
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
        // SAFETY: the row has a counter for each function and at least one more, and lives as long as this.
        let counter = unsafe { counter(row, function.min(self.functions)) };
        if counter.count_untimed() { None } else { self.begin_timed(thread, function) }
    }

    /// Counts a call of a function by a thread, unless the call must be timed. Returns whether it was counted.
    ///
    /// # Safety
    /// The thread's index is below [`MAX_THREADS`], and there is a function with this number.
    #[inline(always)]
    pub unsafe fn count_untimed(&self, thread: usize, function: usize) -> bool {
        // SAFETY: the caller's promise.
        let row = unsafe { self.by_thread.get_unchecked(thread) }.load(Ordering::Acquire);
        // SAFETY: as in `begin`.
        unsafe { counter(row, function) }.count_untimed()
    }

    #[cold]
    fn begin_timed(&self, thread: usize, function: usize) -> Begun {
        let own = &self.by_thread[thread];
        if own.load(Ordering::Acquire) == self.uncalled.as_ptr() {
            own.store(row(self.functions).as_ptr(), Ordering::Release);
            self.threads.fetch_max(thread + 1, Ordering::Relaxed);
        }
        // SAFETY: as in `begin`.
        let counter = unsafe { counter(own.load(Ordering::Acquire), function.min(self.functions)) };
        counter.count()
    }

    #[cold]
    fn begin_shared(&self, function: usize) -> Begun {
        self.shared[function.min(self.functions)].count()
    }

    /// Ends a call.
    pub fn end(&self, function: usize, timed: Timed) {
        let latencies = &self.latencies[function.min(self.functions)];
        latencies.get_or_init(Box::default).record(timed.at.elapsed(), timed.weight);
    }

    /// How often a function was called.
    pub fn calls(&self, function: usize) -> u64 {
        let threads = self.threads.load(Ordering::Relaxed);
        let own = (0..threads).map(|thread| self.calls_by(thread, function));
        own.sum::<u64>() + self.shared[function].calls()
    }

    /// How often a thread called a function.
    pub fn calls_by(&self, thread: usize, function: usize) -> u64 {
        let Some(row) = self.by_thread.get(thread) else { return 0 };
        let row = row.load(Ordering::Acquire);
        // SAFETY: as in `begin`.
        unsafe { counter(row, function.min(self.functions)) }.calls()
    }

    /// How often the version was called.
    pub fn total(&self) -> u64 {
        (0..=self.functions).map(|function| self.calls(function)).sum()
    }

    /// The cumulative histogram of the timed calls: how many took at most as long as each bound.
    pub fn buckets(&self, function: usize) -> Vec<LatencyBucket> {
        let latencies = self.latencies.get(function).and_then(OnceLock::get);
        latencies.map_or_else(Vec::new, |latencies| latencies.cumulative())
    }
}

impl Drop for CallCounts {
    fn drop(&mut self) {
        let uncalled = self.uncalled.as_ptr();
        let rows = self.by_thread.iter_mut().map(|row| *row.get_mut());
        for row in rows.filter(|row| *row != uncalled).chain([uncalled]) {
            let row = ptr::slice_from_raw_parts_mut(row, row_len(self.functions));
            // SAFETY: the pointer came from a box of a row of this length.
            drop(unsafe { Box::from_raw(row) });
        }
    }
}

/// A row for `functions` functions and one more, without any calls yet.
fn row(functions: usize) -> NonNull<Counters> {
    let row: Box<[Counters]> = (0..row_len(functions)).map(|_| Counters::default()).collect();
    NonNull::from(Box::leak(row)).cast()
}

/// How many [`Counters`] a row has.
fn row_len(functions: usize) -> usize {
    functions / PER_LINES + 1
}

/// The counter of a function. [`Counters`] consist only of counters, so a row is one array of them.
///
/// # Safety
/// The row has a counter for the function, and outlives the result.
#[inline(always)]
unsafe fn counter<'a>(row: *const Counters, function: usize) -> &'a Counter {
    // SAFETY: the caller's promise.
    unsafe { &*row.cast::<Counter>().add(function) }
}

impl Counter {
    /// Counts a call on the only thread that writes the counter, unless the call must be timed. Returns whether
    /// it was counted.
    #[inline(always)]
    fn count_untimed(&self) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        if word.is_multiple_of(CALLS_OF_A_SAMPLE) {
            return false;
        }
        // Nobody else writes the counter, so reading and writing it need not be one atomic step.
        self.0.store(word + 1, Ordering::Relaxed);
        true
    }

    /// Counts any call, even if other threads write the counter.
    fn count(&self) -> Begun {
        let is_first = |word| word < TIMED_FIRST * CALLS_OF_A_SAMPLE;
        let count = |word| Some(if is_first(word) { word + CALLS_OF_A_SAMPLE } else { word + 1 });
        let counted = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
        let word = counted.unwrap_or_else(|word| word);
        let weight = if is_first(word) { 1 } else { CALLS_OF_A_SAMPLE };
        word.is_multiple_of(CALLS_OF_A_SAMPLE).then(|| Timed { at: Instant::now(), weight })
    }

    fn calls(&self) -> u64 {
        let word = self.0.load(Ordering::Relaxed);
        (word / CALLS_OF_A_SAMPLE).min(TIMED_FIRST)
            + word.saturating_sub(TIMED_FIRST * CALLS_OF_A_SAMPLE)
    }
}

/// How many buckets an octave of durations has.
const BUCKETS_PER_OCTAVE: u32 = 4;

/// The buckets cover 1 ns to some 73 minutes.
const BUCKETS: usize = 42 * BUCKETS_PER_OCTAVE as usize;

/// A histogram of durations. The bound of a bucket is at most 25 % above the bound before it.
struct Latencies([AtomicU64; BUCKETS]);

impl Default for Latencies {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl Latencies {
    /// Records `calls` calls that took this long.
    fn record(&self, took: Duration, calls: u64) {
        self.0[bucket(took)].fetch_add(calls, Ordering::Relaxed);
    }

    /// How many calls took at most as long as each bound, for the buckets that have calls.
    fn cumulative(&self) -> Vec<LatencyBucket> {
        let mut calls = 0;
        let counts = self.0.iter().map(|n| n.load(Ordering::Relaxed)).enumerate();
        let filled = counts.filter(|(_, count)| *count > 0);
        let ends = filled.map(|(bucket, count)| {
            calls += count;
            LatencyBucket { up_to_ns: upper_bound(bucket).as_nanos() as u64, calls }
        });
        ends.collect()
    }
}

fn bucket(took: Duration) -> usize {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
    let octave = nanos.ilog2();
    // The two bits below the highest one give the quarter of the octave.
    let quarter =
        if octave >= 2 { (nanos >> (octave - 2)) & 3 } else { (nanos << (2 - octave)) & 3 };
    ((octave * BUCKETS_PER_OCTAVE) as usize + quarter as usize).min(BUCKETS - 1)
}

/// The longest duration in a bucket.
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
    fn quantiles_match_the_recorded_times() {
        let latencies = Latencies::default();
        assert!(latencies.cumulative().is_empty());
        latencies.record(Duration::from_micros(8), 99);
        latencies.record(Duration::from_millis(3), 1);
        let cumulative = latencies.cumulative();
        let micros = |part| LatencyBucket::quantile(&cumulative, part).unwrap() / 1000;
        assert!((8..10).contains(&micros(500)));
        assert!((8..10).contains(&micros(990)));
        assert!((3_000..3_600).contains(&micros(1000)));
        assert_eq!(cumulative.iter().map(|bucket| bucket.calls).collect::<Vec<_>>(), [99, 100]);
        assert!((8_000..10_000).contains(&cumulative[0].up_to_ns));
    }

    #[test]
    fn every_call_is_counted_and_the_first_are_timed() {
        let counts = CallCounts::new(2);
        let timed = (0..5_000).filter(|_| counts.begin(3, 1).is_some()).count();
        assert_eq!(timed as u64, TIMED_FIRST + 1 + (5_000 - TIMED_FIRST - 1) / CALLS_OF_A_SAMPLE);
        assert!(counts.begin(MAX_THREADS, 1).is_some());
        assert!(counts.begin(3, usize::MAX).is_some());
        assert_eq!((counts.calls(0), counts.calls(1), counts.calls(2)), (0, 5_001, 1));
        assert_eq!((counts.calls_by(3, 1), counts.total()), (5_000, 5_002));
    }
}
