//! The end of a version, step by step, and the threads that run what a plugin does then.
//!
//! Each step may run the plugin's code, which may block for good. So the reaper runs none of it: it
//! hands a version to a thread that ends versions one after the other, in the order in which they
//! came, and starts another such thread when that one does not come back.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        mpsc::{SendError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use hotswap_plugin::{__private::end_panic, abi::Answer};
use hotswap_protocol::{Activity, Ending, Freed, KeepKind, KeepReason, clock::micros};

use super::reaper::ReaperHandle;
use crate::{
    image::{
        Closed,
        heap::{HeapUse, MEANS_NOTHING},
    },
    vault::Store,
    version::{Version, life::Stage, threads::checkpoint},
};

/// How long what a version does at its end may keep the next one waiting. It takes microseconds,
/// unless the plugin waits for something.
const PATIENCE: Duration = Duration::from_millis(100);

/// What is to be done on a thread that may be given up.
pub(crate) enum Work {
    /// Take a version as far towards its end as it can go.
    Advance(Arc<Version>),
    /// Drop something that a plugin made.
    Drop(Box<dyn FnOnce() + Send>),
    /// Let the thread run the destructors that a version waits for.
    Checkpoint,
}

/// Where a version has to go from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nowhere until a message comes: it is over, or one of its threads or tasks runs.
    Nothing,
    /// Threads have destructors of it to run.
    Threads,
    /// The host's code panicked: on from the step after.
    Again,
}

/// A piece of work that was done: by which thread, and what became of the version.
pub(crate) struct Done {
    by: u64,
    pub version: Option<(Arc<Version>, Next)>,
}

/// The thread that ends versions, and what waits for it.
pub(crate) struct Enders {
    store: Arc<Store>,
    waiting: VecDeque<Work>,
    current: Option<Ender>,
    /// The number of the thread that was started last.
    last: u64,
}

struct Ender {
    number: u64,
    work: Sender<Work>,
    /// Since when it has been at work, if it is.
    busy: Option<Instant>,
}

impl Enders {
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, waiting: VecDeque::new(), current: None, last: 0 }
    }

    /// Does some work after all that was given before, unless that takes too long.
    pub fn give(&mut self, work: Work, reaper: &ReaperHandle) {
        self.waiting.push_back(work);
        self.go_on(reaper);
    }

    /// Takes note that some work is done, and goes on with the next.
    pub fn done(&mut self, done: &Done, reaper: &ReaperHandle) {
        if let Some(ender) = self.current.as_mut().filter(|ender| ender.number == done.by) {
            ender.busy = None;
        }
        self.go_on(reaper);
    }

    /// When to look whether the thread is to be given up; `None` if nothing waits for it.
    pub fn look_at(&self) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        let busy = self.current.as_ref().and_then(|ender| ender.busy);
        Some(busy.unwrap_or_else(Instant::now) + PATIENCE)
    }

    /// Hands over what waits, if there is a thread for it.
    pub fn go_on(&mut self, reaper: &ReaperHandle) {
        while !self.waiting.is_empty() {
            let busy = self.current.as_ref().and_then(|ender| ender.busy);
            match busy {
                Some(since) if since.elapsed() < PATIENCE => return,
                // Its channel ends with this, and so it ends when it comes back.
                Some(_) => self.current = None,
                None => {}
            }
            if self.current.is_none() {
                self.current = self.start(reaper);
            }
            let Some(ender) = &mut self.current else { return };
            let Some(work) = self.waiting.pop_front() else { return };
            ender.busy = Some(Instant::now());
            if let Err(SendError(work)) = ender.work.send(work) {
                self.waiting.push_front(work);
                self.current = None;
            }
        }
    }

    /// Starts a thread; `None` if the system has none to give, and then the versions stay mapped until
    /// it has.
    fn start(&mut self, reaper: &ReaperHandle) -> Option<Ender> {
        self.last += 1;
        let (work, received) = channel();
        let (number, store, reaper) = (self.last, self.store.clone(), reaper.downgrade());
        let thread = thread::Builder::new().name("hotswap-ender".into());
        let started = thread.spawn(move || {
            reaper.mark_thread();
            while let Ok(work) = received.recv() {
                let version = run(work, &store);
                if !reaper.tell(Done { by: number, version }) {
                    return;
                }
            }
        });
        match started {
            Ok(_) => Some(Ender { number, work, busy: None }),
            Err(error) => {
                tracing::error!("cannot start a thread that ends versions: {error}");
                None
            }
        }
    }
}

/// Does some work; returns the version that it was about, and where that has to go.
fn run(work: Work, store: &Store) -> Option<(Arc<Version>, Next)> {
    match work {
        Work::Advance(version) => {
            // The host's code may run in here: its log's subscriber, and what wakes its threads.
            let next = end_panic(|| advance(&version, store));
            let next = next.unwrap_or_else(|_| {
                version.pass_step();
                Next::Again
            });
            Some((version, next))
        }
        Work::Drop(drop) => {
            let _ = end_panic(drop);
            None
        }
        Work::Checkpoint => {
            checkpoint();
            None
        }
    }
}

/// Takes a version, which nobody can enter any more, as far towards its end as it can go.
///
/// Each step may run the plugin's code, which may start threads and leave thread-locals. Then this
/// is called again when those end.
fn advance(version: &Arc<Version>, store: &Store) -> Next {
    if !version.stage().is_ending() {
        version.advance(Stage::OnFree);
        version.cancel_tasks();
        on_free(version);
        // A thread that waits for signals may never end, and the version with it: the host has them back now.
        version.outside().put_signals_back();
        version.advance(Stage::AfterOnFree);
    }
    if !version.leases().has_ended() {
        version.wait_for_holders();
        return Next::Nothing;
    }
    if version.stage() == Stage::AfterOnFree {
        version.advance(Stage::Dropping);
        let noted = version.note(Activity::DropValue);
        store.end(version);
        version.export().into_iter().for_each(|export| export.destroy());
        drop(noted);
        version.advance(Stage::Draining);
    }
    version.threads.begin_drain();
    if let Some(next) = has_to_drain(version) {
        return next;
    }
    if version.stage() == Stage::Draining {
        version.advance(Stage::Detaching);
        let noted = version.note(Activity::DropPlugin);
        // SAFETY: the reaper has handed the version to this thread alone, and it has ended.
        unsafe { version.detach() };
        drop(noted);
        version.advance(Stage::Detached);
    }
    // The drop of the instance may have started a thread, or touched thread-locals.
    if let Some(next) = has_to_drain(version) {
        return next;
    }
    version.outside().put_signals_back();
    if let Some(why) = &version.keep_reason {
        version.end(Ending::Kept(why.clone()));
        return Next::Nothing;
    }
    // SAFETY: the reaper has handed the version to this thread alone; it was detached and has ended.
    // It is closed, so no lease can come but of its own code, and no thread runs that any more.
    let closed = unsafe { version.close() };
    report(version, closed);
    Next::Nothing
}

/// What to wait for while threads run in the version, or have destructors of it to run.
fn has_to_drain(version: &Arc<Version>) -> Option<Next> {
    version.run_destructors();
    let pinned = version.threads.pinned();
    // SAFETY: the reaper has handed the version to this thread alone, and its image is open.
    unsafe { version.image() }.end_opener(&pinned);
    if version.threads.is_pinned() {
        return Some(Next::Threads);
    }
    (!version.has_ended_unpinned()).then_some(Next::Nothing)
}

/// Runs a version's `on_free`, which nobody but its own threads can be beside.
fn on_free(version: &Arc<Version>) {
    let _noted = version.note(Activity::OnFree);
    // SAFETY: the reaper has handed the version to this thread alone.
    match unsafe { version.image() }.on_free() {
        Answer::Ok(()) => {}
        Answer::Err(error) => tracing::debug!("{version}: on_free did not run: {error}"),
        Answer::Panic(report) => tracing::error!(
            plugin = version.name().as_str(),
            version = version.ordinal,
            "on_free panicked at {}: {}",
            report.location,
            report.message
        ),
    }
}

/// Says what became of a version.
fn report(version: &Arc<Version>, closed: Option<Closed>) {
    let ending = match (closed, version.failure()) {
        (Some(Closed::Unmapped), None) => {
            let after = version.since_leaving().unwrap_or_default();
            let on_heap = version.heap.map_or(0, HeapUse::bytes) as u64;
            Ending::Freed(Freed {
                unmapped_bytes: version.origin.size_bytes,
                after_us: micros(after),
                heap_bytes: if on_heap < MEANS_NOTHING { 0 } else { on_heap },
                descriptors: version.outside().descriptors(),
            })
        }
        (Some(Closed::Unmapped), Some(_)) => Ending::Failed,
        (Some(Closed::StillMapped(why)), _) => Ending::Kept(why),
        (None, _) => Ending::Kept(KeepReason::new(KeepKind::Other, "it has no image")),
    };
    version.end(ending);
}
