//! Calls that are under way, kept in slots of the threads that make them.
//!
//! Entering a version costs a thread two stores to memory of its own: no lock, no fence, no counter
//! that others write. `protocol` says why that is enough; this file gives each thread its slots and
//! each call a guard.

mod protocol;

use std::{
    cell::Cell,
    marker::PhantomData,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering},
    },
};

use protocol::{DEPTH, ThreadSlots};

/// How many threads have slots at a time. The calls of any beyond them, and calls nested deeper than
/// the slots, are counted with shared counters instead.
pub(crate) const MAX_THREADS: usize = 1024;

/// The slots of all threads. The first belongs to whoever holds [`SHARED`].
static THREADS: [ThreadSlots; MAX_THREADS] = [const { ThreadSlots::new() }; MAX_THREADS];

/// The system's numbers of the threads; 0 where the slots are nobody's.
static THREAD_IDS: [AtomicI32; MAX_THREADS] = [const { AtomicI32::new(0) }; MAX_THREADS];

/// How many of the slots have ever been somebody's.
static USED: AtomicUsize = AtomicUsize::new(1);

/// The numbers of the slots that were given back.
static FREE: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Held by the thread that uses the first slots, for a moment.
static SHARED: Mutex<()> = Mutex::new(());

thread_local! {
    static THIS_THREAD: ThisThread = const {
        ThisThread { number: Cell::new(usize::MAX), depth: Cell::new(0) }
    };
}

/// What a thread knows of itself. It has no destructor, so that it is there until the very end.
struct ThisThread {
    /// Which of the slots are its own; `MAX_THREADS` where it has none, more where it did not ask.
    number: Cell<usize>,
    /// How many calls are on its stack.
    depth: Cell<usize>,
}

/// The slots of one thread, given back when dropped: by the thread itself, at its end.
pub(crate) struct Claim(usize);

impl Claim {
    /// The slots of this thread, from now on.
    pub fn new() -> Self {
        let freed = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let one_more = |used| (used < MAX_THREADS).then_some(used + 1);
        let number =
            freed.or_else(|| USED.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok());
        let number = number.unwrap_or(MAX_THREADS);
        if let Some(id) = THREAD_IDS.get(number) {
            // SAFETY: the call has no precondition.
            id.store(unsafe { libc::gettid() }, Ordering::Relaxed);
        }
        THIS_THREAD.with(|this| this.number.set(number));
        Self(number)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        THIS_THREAD.with(|this| this.number.set(usize::MAX));
        if let Some(id) = THREAD_IDS.get(self.0) {
            id.store(0, Ordering::Relaxed);
            let _ = THREADS[self.0].take_attention();
            FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self.0);
        }
    }
}

/// A call on this thread's stack. Its slot, if it has one, holds what the call uses.
pub(crate) struct Entered {
    number: usize,
    /// Which of the thread's slots; none that exists when the call is counted otherwise.
    slot: usize,
    /// It ends on the thread on which it began.
    not_send: PhantomData<*const ()>,
}

impl Entered {
    /// Puts a call on this thread's stack.
    #[inline(always)]
    pub fn new() -> Self {
        THIS_THREAD.with(|this| {
            let mut number = this.number.get();
            if number >= MAX_THREADS {
                number = claim(number);
            }
            let depth = this.depth.get();
            this.depth.set(depth + 1);
            let slot = if number < MAX_THREADS { depth } else { DEPTH };
            Self { number, slot, not_send: PhantomData }
        })
    }

    /// The thread's slots and which of them is this call's; none when it has none.
    #[inline(always)]
    fn slot(&self) -> Option<(&'static ThreadSlots, usize)> {
        (self.slot < DEPTH).then(|| (&THREADS[self.number], self.slot))
    }

    /// Takes hold of what is published; none when the call has no slot.
    ///
    /// The address stays valid until the slot [`hold`](Self::hold)s another or the call ends.
    #[inline(always)]
    pub fn protect<T>(&self, published: &AtomicPtr<T>) -> Option<*mut T> {
        self.slot().map(|(thread, slot)| thread.protect(slot, published))
    }

    /// Holds an address which is valid by what the slot held so far, or by a lease; says whether the
    /// call has a slot to hold it.
    #[inline(always)]
    pub fn hold<T>(&self, address: *const T, note: usize) -> bool {
        let Some((thread, slot)) = self.slot() else { return false };
        thread.hold(slot, address as usize, note);
        true
    }

    /// This thread's number, below [`MAX_THREADS`] where it has slots of its own.
    #[inline(always)]
    pub fn thread(&self) -> usize {
        self.number
    }
}

impl Entered {
    /// Ends a call that did not run a plugin's code, and so must not do so now either: the thread's
    /// checkpoint comes later.
    pub fn leave_quietly(self) {
        if self.leave() {
            crate::reaper::look_again();
        }
        std::mem::forget(self);
    }

    /// Empties the slot; says whether somebody wants attention.
    #[inline(always)]
    fn leave(&self) -> bool {
        THIS_THREAD.with(|this| this.depth.set(this.depth.get() - 1));
        self.slot().is_some_and(|(thread, slot)| thread.leave(slot))
    }
}

impl Drop for Entered {
    #[inline(always)]
    fn drop(&mut self) {
        if self.leave() {
            crate::thread::attend();
        }
    }
}

/// Gives this thread slots if there are any, and keeps them until its end.
#[cold]
fn claim(number: usize) -> usize {
    if number == MAX_THREADS {
        return number;
    }
    crate::thread::keep_slots();
    THIS_THREAD.with(|this| this.number.get())
}

/// Takes hold of what is published, for a moment, on a thread whose own slots do not serve.
#[cold]
pub(crate) fn protect_shared<T>(published: &AtomicPtr<T>) -> (*mut T, SharedHold) {
    let lock = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    (THREADS[0].protect(0, published), SharedHold(lock))
}

/// Keeps valid what [`protect_shared`] took hold of.
pub(crate) struct SharedHold(#[allow(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Drop for SharedHold {
    fn drop(&mut self) {
        if THREADS[0].leave(0) {
            let _ = THREADS[0].take_attention();
            crate::reaper::look_again();
        }
    }
}

/// Whether this thread is in a call of a plugin.
pub(crate) fn is_in_call() -> bool {
    THIS_THREAD.with(|this| this.depth.get() > 0)
}

/// Whether this thread is wanted to look around; none when it has no slots, and so cannot be told.
#[inline]
pub(crate) fn wants_attention() -> Option<bool> {
    let number = THIS_THREAD.with(|this| this.number.get());
    THREADS.get(number).map(ThreadSlots::wants_attention)
}

/// As [`wants_attention`]; not any more, once told.
pub(crate) fn take_attention() -> bool {
    let number = THIS_THREAD.with(|this| this.number.get());
    THREADS.get(number).is_some_and(ThreadSlots::take_attention)
}

/// Asks this thread to look around at its next checkpoint.
pub(crate) fn ask_this_thread() {
    let number = THIS_THREAD.with(|this| this.number.get());
    THREADS.get(number).into_iter().for_each(ThreadSlots::ask_for_attention);
}

/// Asks every thread to look around at its next checkpoint.
pub(crate) fn ask_all_threads() {
    used().iter().for_each(ThreadSlots::ask_for_attention);
}

/// Whether some call holds an address that nobody can come by any more. The threads of such calls
/// look around when they have left it.
pub(crate) fn is_held<T>(address: *const T) -> bool {
    protocol::is_held(used, address as usize)
}

/// A call that holds an address, as seen from outside.
pub(crate) struct CallSeen {
    /// Which slots it is in: those of a thread, and which of them.
    pub thread: usize,
    pub depth: usize,
    /// The system's number of the thread.
    pub thread_id: i32,
    pub note: usize,
}

/// The calls that hold an address right now.
pub(crate) fn calls_at<T>(address: *const T) -> Vec<CallSeen> {
    let mut calls = Vec::new();
    for (thread, slots) in used().iter().enumerate() {
        let thread_id = THREAD_IDS[thread].load(Ordering::Relaxed);
        let held = slots.notes_at(address as usize);
        calls.extend(held.map(|(depth, note)| CallSeen { thread, depth, thread_id, note }));
    }
    calls
}

fn used() -> &'static [ThreadSlots] {
    &THREADS[..USED.load(Ordering::Acquire)]
}
