//! The changes that the last reload made to a plugin: its functions, their speed and their failures.

use std::collections::BTreeSet;

use hotswap_protocol::{Failures, FunctionInfo, LatencyBucket, PluginInfo};

use super::face::Face;
use crate::format::{LEAST_FOR_MEDIAN, timed_calls};

/// A ratio of latencies up to this counts as no difference: the buckets of the host's histogram differ by a quarter.
const SAME_WITHIN: f64 = 1.3;

/// The version or patch of a plugin that served before the present one, as last seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Before {
    /// The version and its patch.
    pub face: Face,
    /// The failed calls of the version. A patch continues these counts.
    pub failures: Failures,
    /// The bytes that it had on the heap.
    pub heap_bytes: Option<u64>,
    /// Its functions.
    pub functions: Vec<FunctionInfo>,
    /// The functions whose bodies have changed since, according to the builds.
    pub changed_bodies: BTreeSet<String>,
    /// Whether somebody has looked at the changes.
    pub is_seen: bool,
    /// Whether the version continues with other code (a patch), and with its counts of calls, failures and times.
    pub goes_on: bool,
}

/// The change of a function since the version before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionChange {
    /// The version before had no function of this name.
    New,
    /// Its parameters or its result have changed.
    Changed,
    /// Its body has changed; its signature has not.
    Body,
    /// It has not changed, as far as is known.
    Same,
}

/// The speed of a function, compared with the version before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// Too few calls were timed.
    Unknown,
    /// No difference that the histograms can show.
    Same,
    /// It takes this many percent longer; a negative number means that it is faster.
    Percent(i64),
}

/// Something that a reload made better or worse.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The number of failed calls of a function has changed.
    Failures {
        /// The function.
        function: String,
        /// `panics` or `errors`.
        what: &'static str,
        /// Their number in the version before.
        before: u64,
        /// Their number since the reload.
        now: u64,
    },
    /// Calls of a function take longer, or less long.
    Speed {
        /// The function.
        function: String,
        /// The difference in percent; negative if it is faster.
        percent: i64,
    },
    /// The bytes on the heap, before and now.
    Heap(u64, u64),
}

impl Verdict {
    /// Whether it is worse than before.
    pub fn is_worse(&self) -> bool {
        match self {
            Self::Failures { before, now, .. } => now > before,
            Self::Speed { percent, .. } => *percent > 0,
            Self::Heap(before, now) => *now > before.saturating_mul(2),
        }
    }
}

impl Before {
    /// The facts about the version that serves now, to compare later ones with; `None` if none serves.
    pub fn of(plugin: &PluginInfo) -> Option<Self> {
        let active = plugin.active()?;
        Some(Self {
            face: Face::of(active),
            failures: active.failures.clone(),
            heap_bytes: active.heap_bytes,
            functions: plugin.functions.clone(),
            changed_bodies: BTreeSet::new(),
            is_seen: false,
            goes_on: false,
        })
    }

    /// The failures since the reload, from the counts `now` and `before`.
    fn since(&self, now: &Failures, before: &Failures) -> Failures {
        let counted =
            |now: u64, before: u64| if self.goes_on { now.saturating_sub(before) } else { now };
        Failures {
            errors: counted(now.errors, before.errors),
            panics: counted(now.panics, before.panics),
            first_failure: None,
        }
    }

    /// The failed calls of the code that serves, since the reload.
    pub fn failures_since(&self, plugin: &PluginInfo) -> Failures {
        let now = plugin.active().map(|active| self.since(&active.failures, &self.failures));
        now.unwrap_or_default()
    }

    /// The failed calls of a function, since the reload.
    pub fn failures_of_since(&self, function: &FunctionInfo) -> Failures {
        let before = self.function(&function.name).map(|before| before.failures.clone());
        self.since(&function.failures, &before.unwrap_or_default())
    }

    /// The function of this name.
    pub fn function(&self, name: &str) -> Option<&FunctionInfo> {
        self.functions.iter().find(|it| it.name == name)
    }

    /// The change of a function of the version that serves.
    pub fn change_of(&self, function: &FunctionInfo) -> FunctionChange {
        match self.function(&function.name) {
            None => FunctionChange::New,
            Some(before) if before.signature != function.signature => FunctionChange::Changed,
            Some(_) if self.changed_bodies.contains(&function.name) => FunctionChange::Body,
            Some(_) => FunctionChange::Same,
        }
    }

    /// The functions that the version that serves does not have.
    pub fn gone<'a>(&'a self, now: &'a [FunctionInfo]) -> impl Iterator<Item = &'a FunctionInfo> {
        self.functions.iter().filter(|it| !now.iter().any(|other| other.name == it.name))
    }

    /// The speed of a function of the version that serves.
    pub fn speed_of(&self, function: &FunctionInfo) -> Speed {
        let before = self.function(&function.name).and_then(median_us);
        let (Some(before), Some(now)) = (before, self.median_us_since(function)) else {
            return Speed::Unknown;
        };
        let ratio = now / before.max(0.001);
        if (1.0 / SAME_WITHIN..=SAME_WITHIN).contains(&ratio) {
            return Speed::Same;
        }
        Speed::Percent(((ratio - 1.0) * 100.0).round() as i64)
    }

    /// The median latency of a function in the code that serves, in microseconds; `None` if too few calls were timed.
    pub fn median_us_since(&self, function: &FunctionInfo) -> Option<f64> {
        match self.function(&function.name).filter(|_| self.goes_on) {
            Some(before) => median_since(before, function),
            None => median_us(function),
        }
    }

    /// The changes for better and worse since then, worse ones first.
    pub fn verdicts(&self, plugin: &PluginInfo) -> Vec<Verdict> {
        let mut verdicts: Vec<_> =
            plugin.functions.iter().flat_map(|function| self.failures_of(function)).collect();
        verdicts.extend(plugin.functions.iter().filter_map(|function| {
            let Speed::Percent(percent) = self.speed_of(function) else { return None };
            Some(Verdict::Speed { function: function.name.clone(), percent })
        }));
        let heap = self.heap_bytes.zip(plugin.active().and_then(|it| it.heap_bytes));
        verdicts.extend(heap.map(|(before, now)| Verdict::Heap(before, now)));
        verdicts.sort_by_key(|verdict| !verdict.is_worse());
        verdicts
    }

    fn failures_of(&self, function: &FunctionInfo) -> Vec<Verdict> {
        let before = self.function(&function.name).map(|before| before.failures.clone());
        let before = before.unwrap_or_default();
        let now = self.failures_of_since(function);
        let counts = [("panics", before.panics, now.panics), ("errors", before.errors, now.errors)];
        let differ = counts.into_iter().filter(|(_, before, now)| before != now);
        let verdict = |(what, before, now)| Verdict::Failures {
            function: function.name.clone(),
            what,
            before,
            now,
        };
        differ.map(verdict).collect()
    }
}

/// The median latency of the calls of a function that were timed after `before`, in microseconds; `None` if they are
/// too few.
fn median_since(before: &FunctionInfo, now: &FunctionInfo) -> Option<f64> {
    let earlier = |up_to_ns: u64| {
        let reached = before.latency_buckets.iter().rev().find(|it| it.up_to_ns <= up_to_ns);
        reached.map_or(0, |bucket| bucket.calls)
    };
    let since = now.latency_buckets.iter().map(|bucket| LatencyBucket {
        calls: bucket.calls.saturating_sub(earlier(bucket.up_to_ns)),
        ..*bucket
    });
    let since: Vec<LatencyBucket> = since.collect();
    let is_enough = since.last().is_some_and(|all| all.calls >= LEAST_FOR_MEDIAN);
    let median_ns = LatencyBucket::quantile(&since, 500).filter(|_| is_enough)?;
    Some(median_ns as f64 / 1e3)
}

/// The median latency of a function in microseconds; `None` if too few calls were timed.
pub fn median_us(function: &FunctionInfo) -> Option<f64> {
    function.latency_us_p50.filter(|_| timed_calls(function) >= LEAST_FOR_MEDIAN)
}
