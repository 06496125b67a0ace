//! Calls that are under way, kept in slots of the threads that make them.
//!
//! Entering a version costs a thread two stores to memory of its own: no lock, no fence, no counter
//! that others write. `protocol` says why that is enough; this file gives each thread its slots and
//! each call a guard; `file` lets consoles read them.

mod file;
mod protocol;
pub(crate) mod waiters;

use std::{
    cell::Cell,
    marker::PhantomData,
    mem::offset_of,
    path::PathBuf,
    ptr,
    sync::{
        Mutex, MutexGuard, OnceLock,
        atomic::{AtomicPtr, AtomicUsize, Ordering},
    },
};

use hotswap_protocol::BuildId;

use crate::{lock::Lock as _, os, sync::must_fence};
use file::CallsFile;
use protocol::{DEPTH, Slot, ThreadSlots};

pub(crate) use file::LegendEntry;

/// How many threads have slots at a time. The calls of any beyond them, and calls nested deeper than
/// the slots, are counted with shared counters instead.
pub(crate) const MAX_THREADS: usize = 1024;

/// The slots of all threads. The first belongs to whoever holds [`SHARED`].
type Rows = [ThreadSlots; MAX_THREADS];

/// The slots where no console reads them.
static PRIVATE: Rows = [const { ThreadSlots::new() }; MAX_THREADS];

/// The slots if consoles read them; `None` if they do not.
static CALLS_FILE: OnceLock<Option<CallsFile>> = OnceLock::new();

/// How many of the slots have ever been somebody's.
static USED: AtomicUsize = AtomicUsize::new(1);

/// The numbers of the slots that were given back.
static FREE: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Held by the thread that uses the first slots, for a moment.
static SHARED: Mutex<()> = Mutex::new(());

thread_local! {
    static THIS_THREAD: ThisThread = const {
        ThisThread {
            next: Cell::new(ptr::null()),
            unfenced_end: Cell::new(ptr::null()),
            slots: Cell::new(None),
            counted: Cell::new(0),
            outside: Cell::new(0),
            number: Cell::new(MAX_THREADS),
            asked: Cell::new(false),
        }
    };
}

/// What a thread knows of itself. It has no destructor, so that it is there until the very end.
struct ThisThread {
    /// The slot of its next call, also one past its last; null where it has none. From it the whole of
    /// its [`ThreadSlots`] can be reached.
    next: Cell<*const Slot>,
    /// One past the last of its slots where it can use these without a fence, and else null.
    unfenced_end: Cell<*const Slot>,
    slots: Cell<Option<&'static ThreadSlots>>,
    /// How many calls without a slot are on its stack.
    counted: Cell<usize>,
    /// How many of these are below what now runs outside of calls; see [`outside_calls`].
    outside: Cell<usize>,
    /// Which of the slots are its own; `MAX_THREADS` where it has none.
    number: Cell<usize>,
    /// Whether it asked for slots, and so need not do so again.
    asked: Cell<bool>,
}

impl ThisThread {
    /// Makes slots its own, or none.
    fn own(&self, slots: Option<&'static ThreadSlots>) {
        let first = slots.map_or(ptr::null(), first_slot);
        self.next.set(first);
        let needs_no_fence = slots.is_some_and(|slots| !slots.must_fence());
        self.unfenced_end.set(if needs_no_fence { first.wrapping_add(DEPTH) } else { ptr::null() });
        self.slots.set(slots);
    }

    /// How many calls are on its stack.
    fn depth(&self) -> usize {
        let first = self.slots.get().map_or(ptr::null(), first_slot);
        let in_slots = (self.next.get().addr() - first.addr()) / size_of::<Slot>();
        in_slots + self.counted.get()
    }
}

/// The first slot of a thread, as a pointer that leads to all of them.
fn first_slot(slots: &'static ThreadSlots) -> *const Slot {
    ptr::from_ref(slots).wrapping_byte_add(offset_of!(ThreadSlots, slots)).cast()
}

/// Says, before the first engine is there, whether consoles are to read the calls that are under way,
/// also when this process has died. Afterwards it stays so: slots in use cannot move.
pub(crate) fn prepare(for_consoles: bool) {
    CALLS_FILE.get_or_init(|| {
        let file = for_consoles.then(CallsFile::new)?;
        let warn = |error| tracing::warn!("calls cannot be told after a crash: {error}");
        file.map_err(warn).ok()
    });
}

/// Where consoles open what they read the calls from.
pub(crate) fn calls_path() -> Option<PathBuf> {
    calls_file().map(CallsFile::path)
}

/// Says to consoles what is at an address that slots may hold, and by number what calls note there. The builds
/// are those of its faces.
pub(crate) fn describe<'a, T>(
    address: *const T,
    plugin: &str,
    version: u32,
    builds: &[BuildId],
    functions: &[&'a str],
    activities: impl IntoIterator<Item = &'a str>,
) -> Option<LegendEntry> {
    calls_file()?.describe(address as usize, plugin, version, builds, functions, activities)
}

fn calls_file() -> Option<&'static CallsFile> {
    CALLS_FILE.get_or_init(|| None).as_ref()
}

fn threads() -> &'static Rows {
    calls_file().map_or(&PRIVATE, CallsFile::rows)
}

/// The slots of one thread, given back when dropped: by the thread itself, at its end.
pub(crate) struct Claim(usize);

impl Claim {
    /// The slots of this thread, from now on.
    pub fn new() -> Self {
        let freed = FREE.locked().pop();
        let one_more = |used| (used < MAX_THREADS).then_some(used + 1);
        let number =
            freed.or_else(|| USED.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok());
        let number = number.unwrap_or(MAX_THREADS);
        let slots = threads().get(number);
        if let Some(slots) = slots {
            slots.begin(must_fence(), os::thread_id(), os::thread_name());
        }
        THIS_THREAD.with(|this| {
            this.own(slots);
            this.number.set(number);
            this.asked.set(true);
        });
        Self(number)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        THIS_THREAD.with(|this| {
            this.own(None);
            this.number.set(MAX_THREADS);
            this.asked.set(false);
        });
        if let Some(slots) = threads().get(self.0) {
            if slots.end() {
                waiters::look_again();
            }
            FREE.locked().push(self.0);
        }
    }
}

/// A call on this thread's stack, and the slot that holds what it uses.
///
/// It ends on the thread on which it began: a pointer is not `Send`.
pub(crate) struct Entered(SlotAt);

/// A slot of a thread: below the end of its slots, which are there for good.
#[derive(Clone, Copy)]
struct SlotAt(*const Slot);

impl SlotAt {
    #[inline(always)]
    fn slot(self) -> &'static Slot {
        // SAFETY: there is a slot.
        unsafe { &*self.0 }
    }

    /// The slots that it is one of.
    #[inline(always)]
    fn slots(self) -> &'static ThreadSlots {
        let start = |address: usize| address & !(align_of::<ThreadSlots>() - 1);
        // SAFETY: slots are aligned to their size, and the pointer leads to all of a thread's.
        unsafe { &*self.0.map_addr(start).cast::<ThreadSlots>() }
    }

    /// Empties the slot; says whether somebody waits for that, or for a checkpoint.
    #[inline(always)]
    fn leave(self) -> bool {
        THIS_THREAD.with(|this| this.next.set(self.0));
        self.slots().leave(self.slot())
    }

    /// Wakes whoever waits for this slot. Takes the slot by value, so the call itself can stay in registers.
    #[cold]
    fn tell(self) {
        if self.slots().take_wish_for(self.slot()) {
            waiters::look_again();
        }
    }
}

impl Entered {
    /// Puts a call on this thread's stack; `None` if the thread has no slot at hand for it that it can
    /// use without a fence.
    #[inline(always)]
    pub fn unfenced() -> Option<Self> {
        THIS_THREAD.with(|this| {
            let slot = this.next.get();
            if slot >= this.unfenced_end.get() {
                return None;
            }
            this.next.set(slot.wrapping_add(1));
            Some(Self(SlotAt(slot)))
        })
    }

    /// As `unfenced`, for a thread that may have to fence, or may not have asked for slots yet.
    pub fn new() -> Option<Self> {
        Self::unfenced().or_else(|| {
            if !THIS_THREAD.with(|this| this.asked.get()) {
                waiters::keep_slots();
            }
            THIS_THREAD.with(|this| {
                let slot = this.next.get();
                let end = first_slot(this.slots.get()?).wrapping_add(DEPTH);
                this.next.set(if slot < end { slot.wrapping_add(1) } else { return None });
                Some(Self(SlotAt(slot)))
            })
        })
    }

    /// Takes hold of what is published.
    ///
    /// The address stays valid until the slot [`hold`](Self::hold)s another or the call ends.
    #[inline(always)]
    pub fn protect<T>(&self, published: &AtomicPtr<T>) -> *mut T {
        self.0.slots().protect(self.0.slot(), published)
    }

    /// Holds an address which is valid by what the slot held so far, or by a lease.
    #[inline(always)]
    pub fn hold<T>(&self, address: *const T, note: usize) {
        self.0.slot().hold(address.addr(), note);
    }

    /// As `hold`, for an address that is valid only if the caller then sees that it is still
    /// published, and that entered [`unfenced`](Self::unfenced).
    #[inline(always)]
    pub fn try_hold_unfenced<T>(&self, address: *const T, note: usize) {
        self.0.slot().try_hold(address.addr(), note, false);
    }

    /// What it has noted.
    pub fn noted(&self) -> usize {
        self.0.slot().noted()
    }

    /// Notes for consoles what runs at an address that a lease keeps valid.
    pub fn note<T>(&self, address: *const T, note: usize) {
        self.0.slot().note(address.addr(), note);
    }

    /// Ends a call that did not run a plugin's code, and so must not do so now either: the thread's
    /// checkpoint comes later.
    #[inline(always)]
    pub fn leave_quietly(self) {
        let slot = self.0;
        std::mem::forget(self);
        if slot.leave() {
            slot.tell();
        }
    }
}

impl Drop for Entered {
    #[inline(always)]
    fn drop(&mut self) {
        let slot = self.0;
        if slot.leave() {
            slot.tell();
            waiters::checkpoint();
        }
    }
}

/// A call on this thread's stack that has no slot: a lease keeps what it uses.
pub(crate) struct Counted(PhantomData<*const ()>);

impl Counted {
    /// Puts the call on the stack.
    pub fn new() -> Self {
        THIS_THREAD.with(|this| this.counted.set(this.counted.get() + 1));
        Self(PhantomData)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let depth = THIS_THREAD.with(|this| {
            this.counted.set(this.counted.get() - 1);
            this.depth()
        });
        if depth == 0 {
            waiters::checkpoint();
        }
    }
}

/// This thread's number, below [`MAX_THREADS`] where it has slots of its own, and so where it is
/// [`Entered`].
#[inline(always)]
pub(crate) fn this_thread() -> usize {
    THIS_THREAD.with(|this| this.number.get())
}

/// Takes hold of what is published, for a moment, on a thread whose own slots do not serve.
#[cold]
pub(crate) fn protect_shared<T>(published: &AtomicPtr<T>) -> (*mut T, SharedHold) {
    let lock = SHARED.locked();
    (threads()[0].protect(threads()[0].slot(0), published), SharedHold(lock))
}

/// Keeps valid what [`protect_shared`] took hold of.
pub(crate) struct SharedHold(#[allow(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Drop for SharedHold {
    fn drop(&mut self) {
        let slots = &threads()[0];
        let slot = slots.slot(0);
        if slots.leave(slot) && slots.take_wish_for(slot) {
            waiters::look_again();
        }
    }
}

/// Whether this thread is in a call of a plugin, which catches panics.
pub(crate) fn is_in_call() -> bool {
    THIS_THREAD.with(|this| this.depth() > this.outside.get())
}

/// Runs something of a plugin that no call catches the panics of, whatever calls are on the stack.
pub(crate) fn outside_calls<T>(run: impl FnOnce() -> T) -> T {
    let this = |f: &dyn Fn(&ThisThread) -> usize| THIS_THREAD.with(f);
    let before = this(&|this| this.outside.replace(this.depth()));
    let result = run();
    this(&|this| this.outside.replace(before));
    result
}

/// Whether this thread is asked to pass a checkpoint; `None` if it has no slots, and so cannot be
/// asked.
#[inline]
pub(crate) fn has_wish_for_checkpoint() -> Option<bool> {
    THIS_THREAD.with(|this| this.slots.get()).map(ThreadSlots::has_wish_for_checkpoint)
}

/// As [`has_wish_for_checkpoint`], and fulfils the wish: the next call returns false.
pub(crate) fn take_wish_for_checkpoint() -> bool {
    THIS_THREAD.with(|this| this.slots.get()).is_some_and(ThreadSlots::take_wish_for_checkpoint)
}

/// What the innermost call of this thread at an address has noted, if there is one that has a slot.
pub(crate) fn noted_here<T>(address: *const T) -> Option<usize> {
    THIS_THREAD.with(|this| this.slots.get())?.noted_at(address.addr())
}

/// Asks this thread to pass a checkpoint.
pub(crate) fn ask_this_thread() {
    let own = THIS_THREAD.with(|this| this.slots.get());
    own.into_iter().for_each(ThreadSlots::ask_for_checkpoint);
}

/// Asks every thread to pass a checkpoint.
pub(crate) fn ask_all_threads() {
    used().iter().for_each(ThreadSlots::ask_for_checkpoint);
}

/// Between taking hold of something, and looking whether it may be used: whoever forbids that, and then
/// asks [`is_held`], sees the one or is seen by the other.
#[inline]
pub(crate) fn light_barrier() {
    crate::sync::light_barrier(must_fence());
}

/// Whether some call holds an address that nobody can come by any more. The threads of such calls
/// tell when they have left it.
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
        let thread_id = slots.thread_id();
        let held = slots.notes_at(address as usize);
        calls.extend(held.map(|(depth, note)| CallSeen { thread, depth, thread_id, note }));
    }
    calls
}

fn used() -> &'static [ThreadSlots] {
    &threads()[..USED.load(Ordering::Acquire)]
}
