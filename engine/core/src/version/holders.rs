//! Who keeps a version in use, by name.

use std::{
    fs,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{Version, counts::CallCounts, lease::LeaseKind};
use crate::slots::{self, CallSeen};

/// The calls that were seen in a version's slots, and since when.
///
/// A call costs no clock, so it is known for how long it has been seen, which is less than it runs.
#[derive(Default)]
pub(crate) struct SeenCalls(Mutex<Vec<Seen>>);

struct Seen {
    thread: usize,
    depth: usize,
    place: usize,
    /// How often the thread had called the function: tells a call from an earlier one.
    calls: u64,
    thread_id: i32,
    since: Instant,
}

impl SeenCalls {
    /// The calls that are under way: place of the function, thread, and since when it was seen.
    fn look(&self, version: &Version) -> Vec<(usize, i32, Instant)> {
        let now = slots::calls_at(version).into_iter().map(|call| {
            let CallSeen { thread, depth, thread_id, note: place } = call;
            let counted = |counts: &CallCounts| counts.calls_by(thread, place);
            let calls = version.counts().map_or(0, counted);
            Seen { thread, depth, place, calls, thread_id, since: Instant::now() }
        });
        let mut now: Vec<Seen> = now.collect();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for call in &mut now {
            let known = seen.iter().find(|known| known.is(call));
            call.since = known.map_or(call.since, |known| known.since);
        }
        let told = now.iter().map(|call| (call.place, call.thread_id, call.since)).collect();
        *seen = now;
        told
    }
}

impl Seen {
    fn is(&self, other: &Self) -> bool {
        (self.thread, self.thread_id, self.depth, self.place, self.calls)
            == (other.thread, other.thread_id, other.depth, other.place, other.calls)
    }
}

impl Version {
    /// Notes the calls that are under way, so that it is known since when they have been.
    pub fn note_calls(&self) {
        self.seen_calls.look(self);
    }

    /// What keeps the version from being unmapped, each by name: `call of greet on "main", ≥ 4.0 s`.
    pub fn holders(&self) -> Vec<String> {
        let mut holders: Vec<String> = self
            .seen_calls
            .look(self)
            .into_iter()
            .map(|(place, thread, since)| {
                let function = self.function_name(place).unwrap_or("a function found by hand");
                let thread = thread_name(thread);
                format!("call of {function} on {thread}, ≥ {}", duration_text(since.elapsed()))
            })
            .collect();
        let named = self.leases().named();
        for kind in LeaseKind::ALL {
            let of_kind = named.iter().filter(|holder| holder.kind == kind);
            let texts = of_kind.map(|holder| {
                let (name, since) = (&holder.name, duration_text(holder.since.elapsed()));
                match kind {
                    LeaseKind::Call => format!("call of {name}, {since}"),
                    LeaseKind::Task => format!("task {name}, {since}"),
                    LeaseKind::Thread => {
                        format!("thread {}", thread_name(name.parse().unwrap_or(0)))
                    }
                    LeaseKind::Value | LeaseKind::Handle => format!("{} {name}", kind.noun(1)),
                }
            });
            let texts: Vec<String> = texts.collect();
            let unnamed = self.leases().count(kind).saturating_sub(texts.len());
            holders.extend(texts);
            if unnamed > 0 {
                holders.push(format!("{unnamed} {}", kind.noun(unnamed)));
            }
        }
        holders.extend(self.what_else());
        holders
    }

    /// What keeps the version from being unmapped, counted: `2 calls, 1 task`.
    pub fn holder_counts(&self) -> String {
        let counts = LeaseKind::ALL.map(|kind| {
            let in_slots = if kind == LeaseKind::Call { slots::calls_at(self).len() } else { 0 };
            (kind, self.leases().count(kind) + in_slots)
        });
        let held = counts.into_iter().filter(|(_, count)| *count > 0);
        let mut texts: Vec<String> =
            held.map(|(kind, count)| format!("{count} {}", kind.noun(count))).collect();
        texts.extend(self.what_else());
        texts.join(", ")
    }

    /// What runs on the reaper's thread; or, when nothing else is left, the threads that have
    /// destructors to run.
    fn what_else(&self) -> Vec<String> {
        if let Some(running) = self.ending().running() {
            return vec![running.to_owned()];
        }
        if !self.leases().has_ended() {
            return Vec::new();
        }
        let threads = self.threads.pinned().into_iter();
        threads.map(|name| format!("thread-local on \"{name}\"")).collect()
    }
}

/// `"main"`, or with its number where the system knows no name.
fn thread_name(id: i32) -> String {
    if id == i32::try_from(std::process::id()).unwrap_or(0) {
        return "\"main\"".into();
    }
    match fs::read_to_string(format!("/proc/self/task/{id}/comm")) {
        Ok(name) => format!("\"{}\" ({id})", name.trim_end()),
        Err(_) => format!("thread {id}"),
    }
}

/// `12 ms`, `3.4 s`
pub(crate) fn duration_text(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms < 1000 { format!("{ms} ms") } else { format!("{:.1} s", duration.as_secs_f64()) }
}
