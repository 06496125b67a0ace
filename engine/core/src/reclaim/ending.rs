//! The steps of a version's end, and the threads that run them.
//!
//! Each step may run the plugin's code, which may block forever. So the reaper runs none of them: it hands a
//! version to an ender, a thread that ends one version after the other in the order in which they came. If an
//! ender does not return in time, another one is started.

use std::{
    collections::VecDeque,
    panic::resume_unwind,
    sync::{
        Arc,
        mpsc::{SendError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use hotswap_plugin::{__private::end_panic, abi::Answer};
use hotswap_protocol::{Activity, Ending, Freed, KeepKind, KeepReason, clock::micros};

use super::reaper::{ReaperHandle, WeakReaper};
use crate::{
    image::{
        Closed,
        heap::{HeapUse, MEANS_NOTHING},
    },
    vault::VaultContents,
    version::{Version, life::Stage, threads::checkpoint},
};

/// How long the end of one version may delay the end of the next. An end takes microseconds, unless the plugin
/// waits for something.
const PATIENCE: Duration = Duration::from_millis(100);

/// A job for an ender, which may never finish it.
pub(crate) enum Work {
    /// Take a version as far towards its end as it can go.
    Advance(Arc<Version>),
    /// Drop something that a plugin made.
    Drop(Box<dyn FnOnce() + Send>),
    /// Let the thread run the destructors that a version waits for.
    Checkpoint,
}

/// How a version continues from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Only when a message comes: it has ended, or one of its threads or tasks runs.
    Nothing,
    /// When threads have run destructors of it.
    Threads,
    /// At once, with the next step: code of the host panicked.
    Again,
}

/// A finished job: the thread that did it, and how the version continues.
pub(crate) struct Done {
    by: u64,
    pub version: Option<(Arc<Version>, Next)>,
}

/// The current ender, and the jobs that wait for it.
pub(crate) struct Enders {
    vault_contents: Arc<VaultContents>,
    waiting: VecDeque<Work>,
    current: Option<Ender>,
    /// The number of the last ender that was started.
    last: u64,
}

struct Ender {
    number: u64,
    work: Sender<Work>,
    /// Since when it has been busy; `None` if it is idle.
    busy: Option<Instant>,
}

impl Enders {
    pub fn new(vault_contents: Arc<VaultContents>) -> Self {
        Self { vault_contents, waiting: VecDeque::new(), current: None, last: 0 }
    }

    /// Adds a job after all earlier ones. It is done earlier if one of them takes too long.
    pub fn add(&mut self, work: Work, reaper: &ReaperHandle) {
        self.waiting.push_back(work);
        self.start_waiting(reaper);
    }

    /// Notes that a job is finished, and starts the next one.
    pub fn done(&mut self, done: &Done, reaper: &ReaperHandle) {
        if let Some(ender) = self.current.as_mut().filter(|ender| ender.number == done.by) {
            ender.busy = None;
        }
        self.start_waiting(reaper);
    }

    /// When to check whether the ender takes too long; `None` if no job waits for it.
    pub fn deadline(&self) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        let busy = self.current.as_ref().and_then(|ender| ender.busy);
        Some(busy.unwrap_or_else(Instant::now) + PATIENCE)
    }

    /// Starts the waiting jobs, if there is an ender for them.
    pub fn start_waiting(&mut self, reaper: &ReaperHandle) {
        while !self.waiting.is_empty() {
            let busy = self.current.as_ref().and_then(|ender| ender.busy);
            match busy {
                Some(since) if since.elapsed() < PATIENCE => return,
                // This closes its channel, so it ends when it returns.
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

    /// Starts an ender; `None` if the system cannot start a thread. Then the versions stay mapped until it
    /// can.
    fn start(&mut self, reaper: &ReaperHandle) -> Option<Ender> {
        self.last += 1;
        let (work, received) = channel();
        let (number, vault_contents, reaper) =
            (self.last, self.vault_contents.clone(), reaper.downgrade());
        let thread = thread::Builder::new().name("hotswap-ender".into());
        let started = thread.spawn(move || {
            reaper.mark_thread();
            while let Ok(work) = received.recv() {
                let version = run(work, &vault_contents, &reaper);
                if !reaper.report(Done { by: number, version }) {
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

/// Does a job. Returns the version that it was about, and how that version continues.
fn run(
    work: Work,
    vault_contents: &VaultContents,
    reaper: &WeakReaper,
) -> Option<(Arc<Version>, Next)> {
    match work {
        Work::Advance(version) => {
            // Code of the host may run in here: the subscriber of its log, and its callback that wakes
            // threads.
            let next = end_panic(|| advance(&version, vault_contents, reaper));
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

/// Takes a version that nobody can enter any more as far towards its end as it can go.
///
/// Each step may run the plugin's code, which may start threads and leave thread-locals. Then this function
/// is called again when they have ended.
fn advance(version: &Arc<Version>, vault_contents: &VaultContents, reaper: &WeakReaper) -> Next {
    if !version.stage().is_ending() {
        version.advance(Stage::OnFree);
        version.cancel_tasks();
        on_free(version);
        // A thread that waits for signals may never end, and so the version would not either. So the signals
        // go back to the host now.
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
        vault_contents.end(version);
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
        detach(version, reaper);
        version.advance(Stage::Detached);
    }
    version.leases().close_own();
    // Dropping the instance may have started a thread, or touched thread-locals.
    if let Some(next) = has_to_drain(version) {
        return next;
    }
    version.outside().put_signals_back();
    if let Some(why) = &version.keep_reason {
        version.end(Ending::Kept(why.clone()));
        return Next::Nothing;
    }
    // SAFETY: the reaper has handed the version to this thread only; it was detached and has ended. It is
    // closed, so only its own code could make a lease, and no thread runs its code any more.
    let closed = unsafe { version.close() };
    report(version, closed);
    Next::Nothing
}

/// What the version has to wait for while threads run in it, or have destructors of it to run; `None` if
/// there are no such threads.
fn has_to_drain(version: &Arc<Version>) -> Option<Next> {
    version.run_destructors();
    let pinned = version.threads.pinned();
    // SAFETY: the reaper has handed the version to this thread only, and its image is open.
    unsafe { version.image() }.end_opener(&pinned);
    if version.threads.is_pinned() {
        return Some(Next::Threads);
    }
    (!version.has_ended_unpinned()).then_some(Next::Nothing)
}

/// Drops the plugin of a version that has ended, on a thread of its own. The thread-locals that `on_free` and the
/// drops of values have used on this thread are gone by now, and the drop of the plugin may use the same.
fn detach(version: &Arc<Version>, reaper: &WeakReaper) {
    let drop_plugin = || {
        let _noted = version.note(Activity::DropPlugin);
        // SAFETY: the reaper has handed the version to the ender only, which waits here, and it has ended.
        unsafe { version.detach() };
        version.run_destructors();
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("hotswap-ender".into());
        let started = thread.spawn_scoped(scope, || {
            reaper.mark_thread();
            drop_plugin();
        });
        match started {
            Ok(thread) => {
                if let Err(panic) = thread.join() {
                    resume_unwind(panic);
                }
            }
            Err(_) => drop_plugin(),
        }
    });
}

/// Runs the `on_free` of a version. Only the version's own threads may run at the same time.
fn on_free(version: &Arc<Version>) {
    let _noted = version.note(Activity::OnFree);
    // SAFETY: the reaper has handed the version to this thread only.
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

/// Records and logs how a version ended.
fn report(version: &Arc<Version>, closed: Option<Closed>) {
    let ending = match (closed, version.failure()) {
        (Some(Closed::Unmapped), None) => {
            let after = version.since_leaving().unwrap_or_default();
            let on_heap = version.heap.map_or(0, HeapUse::bytes) as u64;
            Ending::Freed(Freed {
                unmapped_bytes: version.origin.size_bytes,
                after_us: micros(after),
                heap_bytes: if on_heap < MEANS_NOTHING { 0 } else { on_heap },
                mapped_bytes: version.outside().mapped_bytes(),
                descriptors: version.outside().descriptors(),
            })
        }
        (Some(Closed::Unmapped), Some(_)) => Ending::Failed,
        (Some(Closed::StillMapped(why)), _) => Ending::Kept(why),
        (None, _) => Ending::Kept(KeepReason::new(KeepKind::Other, "it has no image")),
    };
    version.end(ending);
}
