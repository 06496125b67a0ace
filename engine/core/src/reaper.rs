//! Frees versions that nothing uses any more, on a thread of its own.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SendError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hotswap_plugin::abi::Outcome;
use hotswap_protocol::VersionState;

use crate::{
    current::Replaced,
    holders::duration_text,
    image::Closed,
    slots,
    vault::Store,
    version::{Ending, Version},
};

/// Reaches the reaper from wherever a lease ends.
#[derive(Clone)]
pub(crate) struct ReaperHandle(Arc<Mailbox>);

struct Mailbox {
    messages: Sender<Message>,
    /// Whether the reaper is asked to look again already, and has not begun to.
    looks_again: AtomicBool,
}

/// The reapers of all engines in the process: a call that has ended does not know whose it was. They
/// are held weakly, for a reaper ends when nobody is left to send it anything.
static ALL: Mutex<Vec<Weak<Mailbox>>> = Mutex::new(Vec::new());

enum Message {
    /// A version may have become unused.
    Consider(Arc<Version>),
    /// A generation was replaced, and a call is still reading it.
    Keep(Replaced),
    /// A call has ended that somebody was waiting for.
    LookAgain,
    /// Somebody waits until all that came before was looked at.
    Answer(Sender<()>),
    /// Nothing comes any more.
    Stop,
}

/// How long to wait before a generation that a call was reading is looked at again.
const LOOK_AT_REPLACED: Duration = Duration::from_millis(2);

/// How long to wait before threads that have destructors to run are woken again, at first and
/// after long: the longer a version has waited for them, the less waking them once more helps.
const WAKE_AGAIN: Duration = Duration::from_millis(500);
const WAKE_RARELY: Duration = Duration::from_secs(30);

/// Called when a version begins to drain, so that the host can make its threads pass a checkpoint.
pub(crate) type WakeThreads = Box<dyn Fn() + Send + Sync>;

impl Mailbox {
    /// Asks the reaper to look again, once until it does; says whether there is a reaper.
    fn look_again(&self) -> bool {
        let is_asked = self.looks_again.swap(true, Ordering::AcqRel);
        is_asked || self.messages.send(Message::LookAgain).is_ok()
    }
}

impl ReaperHandle {
    pub fn consider(&self, version: &Arc<Version>) {
        // The reaper is gone only when the process ends; then the image stays mapped, which is safe.
        let _ = self.0.messages.send(Message::Consider(version.clone()));
    }

    /// Takes over a generation that a call is still reading.
    pub fn keep(&self, generation: Replaced) {
        if let Err(SendError(message)) = self.0.messages.send(Message::Keep(generation)) {
            // Nobody is there to look when the call has gone on; then it stays, which is safe.
            std::mem::forget(message);
        }
    }

    /// Waits until the reaper has looked at all that it was told of, but no longer than so long: what
    /// runs at a version's end may take its time.
    pub fn wait(&self, patience: Duration) {
        let (answer, answered) = channel();
        if self.0.messages.send(Message::Answer(answer)).is_ok() {
            let _ = answered.recv_timeout(patience);
        }
    }

    pub fn stop(&self) {
        let _ = self.0.messages.send(Message::Stop);
    }
}

/// Lets all reapers look again for calls that they wait for.
pub(crate) fn look_again() {
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|reaper| reaper.upgrade().is_some_and(|reaper| reaper.look_again()));
}

/// Starts the reaper's thread.
pub(crate) fn start(
    store: Arc<Store>,
    free_delay: Duration,
    wake: Vec<WakeThreads>,
) -> std::io::Result<(ReaperHandle, JoinHandle<()>)> {
    let (messages, receiver) = channel();
    let mailbox = Arc::new(Mailbox { messages, looks_again: AtomicBool::new(false) });
    let own = Arc::downgrade(&mailbox);
    let thread = thread::Builder::new().name("hotswap-reaper".into());
    let thread = thread.spawn(move || {
        let reaper = Reaper {
            store,
            free_delay,
            wake,
            waiting: Vec::new(),
            called: Vec::new(),
            replaced: Vec::new(),
            mailbox: own,
        };
        reaper.run(&receiver);
    })?;
    ALL.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&mailbox));
    Ok((ReaperHandle(mailbox), thread))
}

struct Reaper {
    store: Arc<Store>,
    free_delay: Duration,
    wake: Vec<WakeThreads>,
    /// The versions that are kept for a while, and until when.
    waiting: Vec<(Instant, Arc<Version>)>,
    /// The versions that only calls keep.
    called: Vec<Arc<Version>>,
    /// The generations that calls are still reading.
    replaced: Vec<Replaced>,
    mailbox: Weak<Mailbox>,
}

impl Reaper {
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            // Before the next message, for there may always be one.
            self.consider_those_that_waited();
            match self.next(messages) {
                Ok(Message::Consider(version)) => {
                    version.is_being_considered();
                    self.consider(&version);
                }
                Ok(Message::Keep(generation)) => self.keep(generation),
                Ok(Message::Answer(answer)) => {
                    let _ = answer.send(());
                }
                Ok(Message::LookAgain) => {
                    if let Some(mailbox) = self.mailbox.upgrade() {
                        mailbox.looks_again.store(false, Ordering::Release);
                    }
                    self.look_again();
                }
                Err(RecvTimeoutError::Timeout) => self.look_at_replaced(),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// The next message, or a timeout when something has waited long enough.
    fn next(&self, messages: &Receiver<Message>) -> Result<Message, RecvTimeoutError> {
        let until = self.waiting.iter().map(|(until, _)| *until).min();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let look = (!self.replaced.is_empty()).then_some(LOOK_AT_REPLACED);
        match left.into_iter().chain(look).min() {
            Some(left) => messages.recv_timeout(left),
            None => messages.recv().map_err(RecvTimeoutError::from),
        }
    }

    fn consider_those_that_waited(&mut self) {
        let now = Instant::now();
        let (due, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(until, _)| *until <= now);
        self.waiting = waiting;
        let due: Vec<(Instant, Arc<Version>)> = due;
        due.iter().for_each(|(_, version)| self.consider(version));
    }

    /// A call that was reading a generation may have gone on to a version of it, without leaving its
    /// slot: nobody tells of that.
    fn look_at_replaced(&mut self) {
        for generation in std::mem::take(&mut self.replaced) {
            self.keep(generation);
        }
    }

    fn look_again(&mut self) {
        self.look_at_replaced();
        for version in std::mem::take(&mut self.called) {
            self.consider(&version);
        }
    }

    /// Keeps a generation until no call reads it any more.
    fn keep(&mut self, generation: Replaced) {
        if generation.is_held() {
            return self.replaced.push(generation);
        }
        drop(generation);
    }

    fn consider(&mut self, version: &Arc<Version>) {
        if let Some(until) = version.kept_until(self.free_delay) {
            self.wait(version, until);
            return;
        }
        // The host's code may run in here: its log's subscriber, and what wakes its threads.
        let advance = AssertUnwindSafe(|| self.advance(version));
        if catch_unwind(advance).is_err() {
            version.set_ending(version.ending().passed());
            self.wait(version, Instant::now() + WAKE_AGAIN);
        }
    }

    /// Considers a version again at a time; at the earlier one if it was to wait already.
    fn wait(&mut self, version: &Arc<Version>, until: Instant) {
        let mut waiting = self.waiting.iter_mut();
        match waiting.find(|(_, waiting)| Arc::ptr_eq(waiting, version)) {
            Some((earlier, _)) => *earlier = until.min(*earlier),
            None => self.waiting.push((until, version.clone())),
        }
    }

    /// Takes a version as far towards its end as it can go.
    ///
    /// Each step may run the plugin's code, which may start threads and leave thread-locals. Then
    /// this is called again when those end.
    fn advance(&mut self, version: &Arc<Version>) {
        if version.is_finished() || !version.leases().has_no_entry() {
            return;
        }
        // Once nothing leads to the version any more, no call can begin, but one may still run.
        if slots::is_held(Arc::as_ptr(version)) {
            self.wait_for_calls(version);
            return;
        }
        if !version.leases().close() {
            return;
        }
        if version.ending() == Ending::InUse {
            version.set_ending(Ending::OnFree);
            version.cancel_tasks();
            on_free(version);
            version.set_ending(Ending::Freed);
        }
        if !version.leases().has_ended() {
            if version.failure().is_none() {
                version
                    .enter(VersionState::Retired, format!("retired: {}", version.holder_counts()));
            }
            return;
        }
        if version.ending() == Ending::Freed {
            version.set_ending(Ending::Dropping);
            let noted = version.note("the drop of a value");
            self.store.end(version);
            version.export().into_iter().for_each(|export| export.destroy());
            drop(noted);
            version.set_ending(Ending::Draining);
        }
        version.threads.begin_drain();
        if !self.has_drained(version) {
            return;
        }
        if version.ending() == Ending::Draining {
            version.set_ending(Ending::Detaching);
            let noted = version.note("the drop of the plugin");
            // SAFETY: this is the reaper, and the version has ended.
            unsafe { version.detach() };
            drop(noted);
            version.set_ending(Ending::Detached);
        }
        // The drop of the instance may have started a thread, or touched thread-locals.
        if !self.has_drained(version) {
            return;
        }
        if let Some(why) = &version.keep_reason {
            version.finish(VersionState::Kept, format!("kept: {why}"));
            return;
        }
        // SAFETY: this is the reaper; the version was detached and has ended. It is closed, so no
        // lease can come but of its own code, and no thread runs that any more.
        let closed = unsafe { version.close() };
        self.report(version, closed);
    }

    /// Whether no thread runs in the version, nor has destructors of it to run.
    fn has_drained(&mut self, version: &Arc<Version>) -> bool {
        version.run_destructors();
        if version.threads.is_pinned() {
            self.wait_for_threads(version);
            return false;
        }
        version.has_ended_unpinned()
    }

    fn wait_for_calls(&mut self, version: &Arc<Version>) {
        version.note_calls();
        if !self.called.iter().any(|called| Arc::ptr_eq(called, version)) {
            self.called.push(version.clone());
        }
    }

    fn wait_for_threads(&mut self, version: &Arc<Version>) {
        let detail = format!("pinned: {}", version.holder_counts());
        if version.failure().is_none() {
            version.enter(VersionState::Pinned, detail);
        }
        // A thread that was busy just now may be idle for long afterwards.
        let waited = version.since_retired().unwrap_or_default();
        self.wait(version, Instant::now() + (waited / 8).clamp(WAKE_AGAIN, WAKE_RARELY));
        slots::ask_all_threads();
        for wake in &self.wake {
            if catch_unwind(AssertUnwindSafe(wake)).is_err() {
                tracing::error!("what the host wakes its threads with panicked");
            }
        }
    }

    fn report(&self, version: &Arc<Version>, closed: Option<Closed>) {
        match (closed, version.failure()) {
            (Some(Closed::Unmapped), None) => {
                let size = size_text(version.size_bytes);
                let after = version.since_retired().unwrap_or_default();
                let left = version.heap.map(|heap| size_text(heap.bytes() as u64));
                let left =
                    left.map_or_else(String::new, |left| format!(", {left} left on the heap"));
                let detail = format!("freed: {size} unmapped after {}{left}", duration_text(after));
                version.finish(VersionState::Freed, detail);
            }
            (Some(Closed::Unmapped), Some(failure)) => {
                version.finish(VersionState::Failed, format!("failed: {failure}"));
            }
            (Some(Closed::StillMapped(why)), _) => {
                version.finish(VersionState::Kept, format!("kept: {why}"));
            }
            (None, _) => version.finish(VersionState::Kept, "kept: it has no image".into()),
        }
    }
}

/// Runs a version's `on_free`, which nobody but its own threads can be beside.
fn on_free(version: &Arc<Version>) {
    let _noted = version.note("on_free");
    // SAFETY: this is the reaper.
    match unsafe { version.image() }.on_free() {
        Outcome::Ok(()) => {}
        Outcome::Err(error) => tracing::debug!("{version}: on_free did not run: {error}"),
        Outcome::Panic(report) => tracing::error!(
            plugin = version.name(),
            version = version.ordinal,
            "on_free panicked at {}: {}",
            report.location,
            report.message
        ),
    }
}

/// `4.3 MiB`
fn size_text(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    let bytes = bytes as f64;
    if bytes < KIB {
        format!("{bytes} bytes")
    } else if bytes < KIB * KIB {
        format!("{:.0} KiB", bytes / KIB)
    } else {
        format!("{:.1} MiB", bytes / KIB / KIB)
    }
}
