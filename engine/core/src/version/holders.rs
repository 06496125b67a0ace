//! What keeps a version in use.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Instant,
};

use hotswap_protocol::{Activity, Holder, HolderKind, clock::now_ms};

use super::{
    Version,
    counts::CallCounts,
    face::FaceNumber,
    lease::{LeaseKind, LeaseName, NamedLease},
};
use crate::lock::Lock as _;
use crate::slots::{self, CallSeen};

/// The largest number of named holders of one kind that are listed, beginning with the first. The others are only
/// counted, because a plugin may have any number of tasks, and its users any number of its objects.
const MAX_NAMED: usize = 100;

/// The calls that were seen in a version's slots, and since when.
///
/// Calls do not read a clock, so only the time is known since which a call has been seen. The call may run
/// for longer.
#[derive(Default)]
pub(crate) struct SeenCalls(Mutex<Vec<Seen>>);

struct Seen {
    thread: usize,
    depth: usize,
    /// The note of the slot: the function and its face.
    note: usize,
    /// How often the thread had called the function, which distinguishes the call from an earlier one.
    calls: u64,
    thread_id: i32,
    since: Instant,
}

impl SeenCalls {
    /// The calls that are under way: the note of each, its thread, and since when it has been seen.
    fn update(&self, version: &Version) -> Vec<(usize, i32, Instant)> {
        let now = slots::calls_at(version).into_iter().map(|call| {
            let CallSeen { thread, depth, thread_id, note } = call;
            let (_, place) = FaceNumber::of_note(note);
            let counted = |counts: &CallCounts| counts.calls_by(thread, place);
            let calls = version.counts().map_or(0, counted);
            Seen { thread, depth, note, calls, thread_id, since: Instant::now() }
        });
        let mut now: Vec<Seen> = now.collect();
        let mut seen = self.0.locked();
        for call in &mut now {
            let known = seen.iter().find(|known| known.is(call));
            call.since = known.map_or(call.since, |known| known.since);
        }
        let calls = now.iter().map(|call| (call.note, call.thread_id, call.since)).collect();
        *seen = now;
        calls
    }
}

impl Seen {
    fn is(&self, other: &Self) -> bool {
        (self.thread, self.thread_id, self.depth, self.note, self.calls)
            == (other.thread, other.thread_id, other.depth, other.note, other.calls)
    }
}

impl Version {
    /// Notes the calls under way, so that it is known since when they have been seen.
    pub fn note_calls(&self) {
        self.seen_calls.update(self);
    }

    /// What keeps the version from being unmapped: named holders, and the number of the others by kind.
    pub fn holders(&self) -> Vec<Holder> {
        let calls = self.seen_calls.update(self).into_iter();
        let mut holders: Vec<Holder> = calls.map(|call| self.call_holder(call)).collect();
        let named = self.leases().named(MAX_NAMED);
        for kind in LeaseKind::ALL {
            let of_kind = named.iter().filter(|lease| lease.kind == kind);
            let of_kind: Vec<Holder> = of_kind.map(lease_holder).collect();
            let unnamed = self.leases().count(kind).saturating_sub(of_kind.len());
            holders.extend(of_kind);
            if unnamed > 0 {
                holders.push(Holder::unnamed(kind.to_wire(), unnamed as u64));
            }
        }
        holders.extend(self.what_else());
        holders
    }

    fn call_holder(&self, (note, thread, since): (usize, i32, Instant)) -> Holder {
        let (face, place) = FaceNumber::of_note(note);
        let function = self.function_name(place).map(ToOwned::to_owned);
        Holder {
            activity: function.is_none().then_some(Activity::FoundByHand),
            function,
            patch: face.patch_number(),
            since_ms: Some(moment_ms(since)),
            is_at_least: true,
            ..on_thread(HolderKind::Call, thread)
        }
    }

    /// The number of holders of each kind: `2 calls, 1 task`.
    pub fn holder_counts(&self) -> String {
        let counts = LeaseKind::ALL.map(|kind| {
            let in_slots = if kind == LeaseKind::Call { slots::calls_at(self).len() } else { 0 };
            Holder::unnamed(kind.to_wire(), (self.leases().count(kind) + in_slots) as u64)
        });
        let mut holders: Vec<Holder> =
            counts.into_iter().filter(|holder| holder.count > 0).collect();
        holders.extend(self.what_else());
        texts(&holders).join(", ")
    }

    /// The step of the version's end that runs; or, when nothing else is left, the threads that have
    /// destructors to run.
    fn what_else(&self) -> Vec<Holder> {
        if let Some(running) = self.stage().running() {
            let ending = Holder::unnamed(HolderKind::Ending, 1);
            return vec![Holder { activity: Some(running), ..ending }];
        }
        if !self.leases().has_ended() {
            return Vec::new();
        }
        let threads = self.threads.pinned().into_iter();
        let holder = |(id, name)| Holder {
            thread: Some(name),
            thread_id: (id != first_thread()).then_some(id),
            ..Holder::unnamed(HolderKind::ThreadLocal, 1)
        };
        threads.map(holder).collect()
    }
}

/// The holders as texts, as of now.
pub(crate) fn texts(holders: &[Holder]) -> Vec<String> {
    let now_ms = now_ms();
    holders.iter().map(|holder| holder.text(now_ms)).collect()
}

fn lease_holder(lease: &NamedLease) -> Holder {
    let holder = match &lease.name {
        LeaseName::Thread(id) => on_thread(lease.kind.to_wire(), *id),
        _ => Holder::unnamed(lease.kind.to_wire(), 1),
    };
    let (patch, since_ms) = (lease.face.patch_number(), Some(moment_ms(lease.since)));
    let holder = Holder { patch, since_ms, ..holder };
    let owned = |name: &Arc<str>| Some(name.as_ref().to_owned());
    match &lease.name {
        LeaseName::Function(name) => Holder { function: owned(name), ..holder },
        LeaseName::Activity(activity) => Holder { activity: Some(*activity), ..holder },
        LeaseName::Task(name) => Holder { task: owned(name), ..holder },
        LeaseName::Value(key) => Holder { key: owned(key), ..holder },
        LeaseName::Registration { name, interface } => {
            Holder { key: owned(name), interface: owned(interface), ..holder }
        }
        LeaseName::Object(interface) => {
            Holder { key: Some("object".to_owned()), interface: owned(interface), ..holder }
        }
        LeaseName::Export(interface) => {
            Holder { key: Some("export".to_owned()), interface: owned(interface), ..holder }
        }
        LeaseName::Thread(_) => holder,
        LeaseName::Console => Holder { is_console: true, ..holder },
    }
}

/// The same time in milliseconds since the Unix epoch.
fn moment_ms(since: Instant) -> u64 {
    now_ms().saturating_sub(u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// A holder that is a thread, with its name, and its id unless it is the first thread. It has only the id if
/// the system has no name.
fn on_thread(kind: HolderKind, id: i32) -> Holder {
    let holder = Holder::unnamed(kind, 1);
    if id == first_thread() {
        return Holder { thread: Some("main".into()), ..holder };
    }
    let name = fs::read_to_string(format!("/proc/self/task/{id}/comm"));
    let thread = name.ok().map(|name| name.trim_end().to_owned());
    Holder { thread, thread_id: Some(id), ..holder }
}

/// The id of the first thread, which is that of the process.
fn first_thread() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}
