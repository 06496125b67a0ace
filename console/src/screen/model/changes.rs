//! What the last reload changed of a plugin: its functions, how fast and how well they run.

use std::collections::BTreeSet;

use hotswap_protocol::{Failures, FunctionInfo, LatencyBucket, PluginInfo};

use super::face::Face;
use crate::format::{LEAST_FOR_MEDIAN, timed_calls};

/// The host's histogram tells latencies apart that differ by a quarter; less is no difference.
const SAME_WITHIN: f64 = 1.3;

/// What served of a plugin before what serves now, as it was seen last.
#[derive(Debug, Clone, PartialEq)]
pub struct Before {
    /// The version, and its patch.
    pub face: Face,
    /// What calls of the version had failed; a patch of it goes on with these counts.
    pub failures: Failures,
    /// What it had on the heap.
    pub heap_bytes: Option<u64>,
    /// Its functions.
    pub functions: Vec<FunctionInfo>,
    /// The functions whose bodies have changed since, as the builds have told.
    pub changed_bodies: BTreeSet<String>,
    /// Whether somebody has looked at what changed.
    pub is_seen: bool,
    /// Whether the version goes on, with other code: it counts calls, failures and times on.
    pub goes_on: bool,
}

/// How a function differs from that of the version before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionChange {
    /// The version before had none of its name.
    New,
    /// Its parameters or its result are others.
    Changed,
    /// It is called as before, and has another body.
    Body,
    /// It is as before, as far as is known.
    Same,
}

/// How fast a function is, compared with that of the version before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// Too few calls were timed to say.
    Unknown,
    /// As fast as it was, as far as the histograms tell.
    Same,
    /// It takes so many percent longer; less than 0 if it takes less long.
    Percent(i64),
}

/// What a reload made better or worse.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Calls of a function fail that did not, or no longer: errors or panics, before and since.
    Failures {
        /// The function.
        function: String,
        /// `panics` or `errors`.
        what: &'static str,
        /// How many there were in the version before.
        before: u64,
        /// How many there are since.
        now: u64,
    },
    /// Calls of a function take so many percent longer.
    Speed {
        /// The function.
        function: String,
        /// So many percent.
        percent: i64,
    },
    /// It has so many bytes on the heap, before and now.
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
    /// The version of a plugin that serves.
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

    /// How many of these calls failed since the reload, of which `before` had failed before it.
    fn since(&self, now: &Failures, before: &Failures) -> Failures {
        let counted =
            |now: u64, before: u64| if self.goes_on { now.saturating_sub(before) } else { now };
        Failures {
            errors: counted(now.errors, before.errors),
            panics: counted(now.panics, before.panics),
            first_failure: None,
        }
    }

    /// How many calls of what serves failed since the reload.
    pub fn failures_since(&self, plugin: &PluginInfo) -> Failures {
        let now = plugin.active().map(|active| self.since(&active.failures, &self.failures));
        now.unwrap_or_default()
    }

    /// The same of a function.
    pub fn failures_of_since(&self, function: &FunctionInfo) -> Failures {
        let before = self.function(&function.name).map(|before| before.failures.clone());
        self.since(&function.failures, &before.unwrap_or_default())
    }

    /// Its function of this name.
    pub fn function(&self, name: &str) -> Option<&FunctionInfo> {
        self.functions.iter().find(|it| it.name == name)
    }

    /// How a function of the version that serves differs.
    pub fn change_of(&self, function: &FunctionInfo) -> FunctionChange {
        match self.function(&function.name) {
            None => FunctionChange::New,
            Some(before) if before.signature != function.signature => FunctionChange::Changed,
            Some(_) if self.changed_bodies.contains(&function.name) => FunctionChange::Body,
            Some(_) => FunctionChange::Same,
        }
    }

    /// The functions that the version that serves has no longer.
    pub fn gone<'a>(&'a self, now: &'a [FunctionInfo]) -> impl Iterator<Item = &'a FunctionInfo> {
        self.functions.iter().filter(|it| !now.iter().any(|other| other.name == it.name))
    }

    /// How fast a function of the version that serves is.
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

    /// The median latency of a function of what serves, in microseconds; none where too few calls were timed.
    pub fn median_us_since(&self, function: &FunctionInfo) -> Option<f64> {
        match self.function(&function.name).filter(|_| self.goes_on) {
            Some(before) => median_since(before, function),
            None => median_us(function),
        }
    }

    /// What got better or worse since, the worst first.
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

/// The median latency of the calls of a function that were timed since then, in microseconds; none where these are too
/// few.
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

/// The median latency of a function in microseconds; none where too few calls were timed.
pub fn median_us(function: &FunctionInfo) -> Option<f64> {
    function.latency_us_p50.filter(|_| timed_calls(function) >= LEAST_FOR_MEDIAN)
}
