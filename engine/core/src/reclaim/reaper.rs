//! Makes sure that versions are freed when nothing uses them any more.
//!
//! The reaper's thread makes the decisions, and runs no code of a plugin. What a plugin does at its end runs
//! on the threads of [`Enders`].

use std::{
    cell::Cell,
    mem, ptr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SendError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hotswap_plugin::__private::end_panic;

use super::ending::{Done, Enders, Next, Work};
use crate::{
    image::step_thread::EngineId,
    slots::{
        self,
        waiters::{self, Waiter},
    },
    vault::VaultContents,
    version::{Version, reclaimer::Reclaimer},
};

/// Sends messages to the reaper, from any place where a lease ends.
#[derive(Clone)]
pub(crate) struct ReaperHandle(Arc<Mailbox>);

struct Mailbox {
    messages: Sender<Message>,
    /// Whether the reaper was asked to check the versions again, and has not begun yet.
    is_check_due: AtomicBool,
}

/// Something that is dropped as soon as no call reads it any more.
pub(crate) trait Readable: Send {
    /// Whether a call is still reading it.
    fn is_read(&self) -> bool;
}

enum Message {
    /// A version may have become unused.
    Consider(Arc<Version>),
    /// A generation was replaced, but a call is still reading it.
    Keep(Box<dyn Readable>),
    /// A call has ended for which the reaper was waiting.
    CheckAgain,
    /// Drop something that a plugin made, on a thread that nobody waits for.
    Drop(Box<dyn FnOnce() + Send>),
    /// An ender has finished a job.
    Done(Done),
    /// A thread waits until a version has gone as far towards its end as it can.
    Answer(Arc<Version>, Sender<()>),
    /// No more messages will come.
    Stop,
}

/// How long to wait before checking again whether a call still reads a replaced generation.
const CHECK_REPLACED: Duration = Duration::from_millis(2);

/// How long to wait before waking threads again that have destructors to run: the shortest and the longest
/// pause. The longer a version has waited for them, the less waking them once more helps.
const WAKE_AGAIN: Duration = Duration::from_millis(500);
const WAKE_RARELY: Duration = Duration::from_secs(30);

/// The longest time that a version waits until the versions that were loaded later, and left together with
/// it, have begun to end. This takes microseconds, unless one of them takes long to end.
const TURN: Duration = Duration::from_secs(1);

/// Called when a version begins to drain, so that the host can make its threads pass a checkpoint.
pub(crate) type WakeThreads = Box<dyn Fn() + Send + Sync>;

impl Waiter for Mailbox {
    /// Asks the reaper to check the versions again. Further calls have no effect until it does.
    fn notify(&self) -> bool {
        let is_asked = self.is_check_due.swap(true, Ordering::AcqRel);
        is_asked || self.messages.send(Message::CheckAgain).is_ok()
    }
}

impl Reclaimer for ReaperHandle {
    fn consider(&self, version: &Arc<Version>) {
        // The reaper is gone only when the process ends. Then the image stays mapped, which is safe.
        let _ = self.0.messages.send(Message::Consider(version.clone()));
    }
}

impl ReaperHandle {
    /// Takes over a generation that a call is still reading.
    pub fn keep(&self, generation: Box<dyn Readable>) {
        if let Err(SendError(message)) = self.0.messages.send(Message::Keep(generation)) {
            // There is no reaper to check whether the call has gone on. So the generation stays, which is
            // safe.
            mem::forget(message);
        }
    }

    /// Drops something that a plugin made, on a thread that nobody waits for.
    pub fn drop_later(&self, drop: impl FnOnce() + Send + 'static) {
        // As above: without a reaper it stays, which is safe.
        if let Err(SendError(message)) = self.0.messages.send(Message::Drop(Box::new(drop))) {
            mem::forget(message);
        }
    }

    /// The engine of this reaper. Each engine has one.
    pub fn engine(&self) -> EngineId {
        EngineId(Arc::as_ptr(&self.0).addr())
    }

    /// Whether this thread is the reaper's, or ends versions for it. Such a thread must not wait for the
    /// reaper.
    pub fn is_here(&self) -> bool {
        HERE.get() == Arc::as_ptr(&self.0)
    }

    /// A handle that does not keep the reaper waiting for messages.
    pub fn downgrade(&self) -> WeakReaper {
        WeakReaper(Arc::downgrade(&self.0))
    }

    /// Waits until the reaper has handled every message that was sent before this call, and the version has
    /// gone as far towards its end as it can, for at most `patience`.
    pub fn wait(&self, version: &Arc<Version>, patience: Duration) {
        let (answer, answered) = channel();
        if self.0.messages.send(Message::Answer(version.clone(), answer)).is_ok() {
            let _ = answered.recv_timeout(patience);
        }
    }

    pub fn stop(&self) {
        let _ = self.0.messages.send(Message::Stop);
    }
}

/// Sends messages to the reaper as long as it exists.
pub(crate) struct WeakReaper(Weak<Mailbox>);

impl WeakReaper {
    /// Notes that this thread works for the reaper.
    pub fn mark_thread(&self) {
        HERE.set(self.0.as_ptr());
    }

    /// Reports a finished job. Returns whether the reaper exists.
    pub fn report(&self, done: Done) -> bool {
        let reaper = self.0.upgrade();
        reaper.is_some_and(|reaper| reaper.messages.send(Message::Done(done)).is_ok())
    }
}

thread_local! {
    /// The mailbox of the reaper for which this thread works. It is only compared.
    static HERE: Cell<*const Mailbox> = const { Cell::new(ptr::null()) };
}

/// Starts the reaper's thread.
pub(crate) fn start(
    vault_contents: Arc<VaultContents>,
    free_delay: Duration,
    wake: Vec<WakeThreads>,
) -> std::io::Result<(ReaperHandle, JoinHandle<()>)> {
    let (messages, receiver) = channel();
    let mailbox = Arc::new(Mailbox { messages, is_check_due: AtomicBool::new(false) });
    let own = Arc::downgrade(&mailbox);
    let thread = thread::Builder::new().name("hotswap-reaper".into());
    let thread = thread.spawn(move || {
        WeakReaper(own.clone()).mark_thread();
        let reaper = Reaper {
            enders: Enders::new(vault_contents),
            ending: Vec::new(),
            answers: Vec::new(),
            free_delay,
            wake,
            waiting: Vec::new(),
            in_turn: Vec::new(),
            called: Vec::new(),
            replaced: Vec::new(),
            mailbox: own,
        };
        reaper.run(&receiver);
    })?;
    let waiter: Arc<dyn Waiter> = mailbox.clone();
    waiters::add_waiter(Arc::downgrade(&waiter));
    Ok((ReaperHandle(mailbox), thread))
}

struct Reaper {
    enders: Enders,
    /// The versions that enders have, and whether each has to be considered again afterwards.
    ending: Vec<(Arc<Version>, bool)>,
    /// The threads that wait, and the version for which each waits.
    answers: Vec<(Arc<Version>, Sender<()>)>,
    free_delay: Duration,
    wake: Vec<WakeThreads>,
    /// The versions that are kept for some time, with the end of that time.
    waiting: Vec<(Instant, Arc<Version>)>,
    /// The versions that must wait for others to end first, with the time until which each waits.
    in_turn: Vec<(Instant, Arc<Version>)>,
    /// The versions that only calls keep in use.
    called: Vec<Arc<Version>>,
    /// The generations that calls are still reading.
    replaced: Vec<Box<dyn Readable>>,
    mailbox: Weak<Mailbox>,
}

impl Reaper {
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            // This comes before the next message, since messages may never stop coming.
            self.consider_due();
            match self.next(messages) {
                Ok(Message::Consider(version)) => {
                    version.begin_considering();
                    self.consider(&version);
                }
                Ok(Message::Keep(generation)) => self.keep(generation),
                Ok(Message::Drop(drop)) => self.start_job(Work::Drop(drop)),
                Ok(Message::Done(done)) => self.done(done),
                Ok(Message::Answer(version, answer)) => self.answer(version, answer),
                Ok(Message::CheckAgain) => {
                    if let Some(mailbox) = self.mailbox.upgrade() {
                        mailbox.is_check_due.store(false, Ordering::Release);
                    }
                    self.check_again();
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.check_replaced();
                    self.with_mailbox(|enders, reaper| enders.start_waiting(reaper));
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// The next message, or a timeout when something has waited long enough.
    fn next(&self, messages: &Receiver<Message>) -> Result<Message, RecvTimeoutError> {
        let until =
            self.waiting.iter().map(|(until, _)| *until).chain(self.enders.deadline()).min();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let look = (!self.replaced.is_empty()).then_some(CHECK_REPLACED);
        match left.into_iter().chain(look).min() {
            Some(left) => messages.recv_timeout(left),
            None => messages.recv().map_err(RecvTimeoutError::from),
        }
    }

    fn consider_due(&mut self) {
        let now = Instant::now();
        let (due, waiting) =
            mem::take(&mut self.waiting).into_iter().partition(|(until, _)| *until <= now);
        self.waiting = waiting;
        let due: Vec<(Instant, Arc<Version>)> = due;
        due.iter().for_each(|(_, version)| self.consider(version));
    }

    /// Checks the replaced generations. A call that was reading a generation may have gone on to a version of
    /// it without leaving its slot, which sends no message.
    fn check_replaced(&mut self) {
        for generation in mem::take(&mut self.replaced) {
            self.keep(generation);
        }
    }

    fn check_again(&mut self) {
        self.check_replaced();
        for version in mem::take(&mut self.called) {
            self.consider(&version);
        }
    }

    /// Keeps a generation until no call reads it any more.
    fn keep(&mut self, generation: Box<dyn Readable>) {
        if generation.is_read() {
            return self.replaced.push(generation);
        }
        drop(generation);
    }

    fn consider(&mut self, version: &Arc<Version>) {
        if let Some(until) = version.kept_until(self.free_delay) {
            self.wait(version, until);
            return;
        }
        if version.is_finished() || !version.leases().has_no_entry() {
            return;
        }
        // When nothing leads to the version any more, no call can begin, but one may still run.
        if slots::is_held(Arc::as_ptr(version)) {
            self.wait_for_calls(version);
            return;
        }
        if !self.may_end_now(version) {
            return;
        }
        if version.leases().close() {
            self.end(version);
        }
    }

    /// Whether the version may end now. If not, it waits for others, but not forever.
    fn may_end_now(&mut self, version: &Arc<Version>) -> bool {
        let at = self.in_turn.iter().position(|(_, waiting)| Arc::ptr_eq(waiting, version));
        let until = at.map_or_else(|| Instant::now() + TURN, |at| self.in_turn.swap_remove(at).0);
        if until <= Instant::now() || !version.waits_for_another() {
            return true;
        }
        self.in_turn.push((until, version.clone()));
        self.wait(version, until);
        false
    }

    /// Continues the end of a version that nobody can enter any more.
    fn end(&mut self, version: &Arc<Version>) {
        let mut ending = self.ending.iter_mut();
        match ending.find(|(ending, _)| Arc::ptr_eq(ending, version)) {
            Some((_, again)) => *again = true,
            None => {
                self.ending.push((version.clone(), false));
                self.start_job(Work::Advance(version.clone()));
            }
        }
    }

    fn start_job(&mut self, work: Work) {
        self.with_mailbox(|enders, reaper| enders.add(work, reaper));
    }

    fn with_mailbox(&mut self, f: impl FnOnce(&mut Enders, &ReaperHandle)) {
        // Every sender of a message, and every version, has the mailbox.
        if let Some(mailbox) = self.mailbox.upgrade() {
            f(&mut self.enders, &ReaperHandle(mailbox));
        }
    }

    /// Continues with a version that an ender has taken as far as it could.
    fn done(&mut self, done: Done) {
        self.with_mailbox(|enders, reaper| enders.done(&done, reaper));
        let Some((version, next)) = done.version else { return };
        let at = self.ending.iter().position(|(ending, _)| Arc::ptr_eq(ending, &version));
        let again = at.is_some_and(|at| self.ending.swap_remove(at).1);
        match next {
            Next::Nothing => {}
            Next::Threads => self.wait_for_threads(&version),
            Next::Again => self.wait(&version, Instant::now() + WAKE_AGAIN),
        }
        if again {
            self.consider(&version);
        }
        for (_, next) in self.in_turn.clone() {
            self.consider(&next);
        }
        let mut answers = mem::take(&mut self.answers);
        for (_, answer) in answers.extract_if(.., |(awaited, _)| Arc::ptr_eq(awaited, &version)) {
            // The waiting thread may have given up.
            let _ = answer.send(());
        }
        self.answers = answers;
    }

    /// Answers when a version that is ending has gone as far as it can.
    fn answer(&mut self, version: Arc<Version>, answer: Sender<()>) {
        if self.ending.iter().any(|(ending, _)| Arc::ptr_eq(ending, &version)) {
            self.answers.push((version, answer));
        } else {
            let _ = answer.send(());
        }
    }

    /// Considers a version again at the time `until`. If it already waits, the earlier time counts.
    fn wait(&mut self, version: &Arc<Version>, until: Instant) {
        let mut waiting = self.waiting.iter_mut();
        match waiting.find(|(_, waiting)| Arc::ptr_eq(waiting, version)) {
            Some((earlier, _)) => *earlier = until.min(*earlier),
            None => self.waiting.push((until, version.clone())),
        }
    }

    fn wait_for_calls(&mut self, version: &Arc<Version>) {
        version.note_calls();
        if !self.called.iter().any(|called| Arc::ptr_eq(called, version)) {
            self.called.push(version.clone());
        }
    }

    fn wait_for_threads(&mut self, version: &Arc<Version>) {
        version.wait_for_threads();
        // A thread that was busy just now may be idle for a long time afterwards.
        let waited = version.since_leaving().unwrap_or_default();
        self.wait(version, Instant::now() + (waited / 8).clamp(WAKE_AGAIN, WAKE_RARELY));
        slots::request_checkpoints();
        self.start_job(Work::Checkpoint);
        for wake in &self.wake {
            if end_panic(wake).is_err() {
                tracing::error!(
                    "the host's callback that wakes its threads (`EngineBuilder::wake_threads`) panicked"
                );
            }
        }
    }
}
