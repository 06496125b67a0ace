//! The calls under way. Each thread keeps its own calls in slots.
//!
//! To enter a version, a thread writes two words to memory of its own. It needs no lock, no fence, and no
//! counter that other threads write. `protocol` says why this is sufficient; this file gives each thread its
//! slots and each call a guard; `file` lets consoles read the slots.

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

/// The largest number of threads that have slots at the same time. Calls of further threads, and calls that
/// are nested too deeply for the slots, use shared counters instead.
pub(crate) const MAX_THREADS: usize = 1024;

/// The slots of all threads. The first row belongs to the holder of [`SHARED`].
type Rows = [ThreadSlots; MAX_THREADS];

/// The slots that are used if no console reads them.
static PRIVATE: Rows = [const { ThreadSlots::new() }; MAX_THREADS];

/// The slots that consoles read; `None` if they read none.
static CALLS_FILE: OnceLock<Option<CallsFile>> = OnceLock::new();

/// How many rows were ever used.
static USED: AtomicUsize = AtomicUsize::new(1);

/// The indices of the rows that were given back.
static FREE: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Locked, for a moment, by the thread that uses the first row.
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

/// The state of a thread. It has no destructor, so that it exists until the very end of the thread.
struct ThisThread {
    /// The slot of the thread's next call, or the end of its slots; null if it has none. The pointer can
    /// reach all of the thread's [`ThreadSlots`].
    next: Cell<*const Slot>,
    /// The end of its slots if it can use them without a fence; otherwise null.
    unfenced_end: Cell<*const Slot>,
    slots: Cell<Option<&'static ThreadSlots>>,
    /// How many calls without a slot are on its stack.
    counted: Cell<usize>,
    /// How many calls on its stack are below code that runs outside of calls; see [`outside_calls`].
    outside: Cell<usize>,
    /// The index of its row; `MAX_THREADS` if it has none.
    number: Cell<usize>,
    /// Whether it has asked for slots before.
    asked: Cell<bool>,
}

impl ThisThread {
    /// Sets the slots of this thread.
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

/// The first slot of a thread, as a pointer that can reach all its slots.
fn first_slot(slots: &'static ThreadSlots) -> *const Slot {
    ptr::from_ref(slots).wrapping_byte_add(offset_of!(ThreadSlots, slots)).cast()
}

/// Decides, before the first engine exists, whether consoles can read the calls under way, also after this
/// process has died. Later calls change nothing, because used slots cannot move.
pub(crate) fn prepare(for_consoles: bool) {
    CALLS_FILE.get_or_init(|| {
        let file = for_consoles.then(CallsFile::new)?;
        let warn =
            |error| tracing::warn!("the calls under way cannot be read after a crash: {error}");
        file.map_err(warn).ok()
    });
}

/// The path by which consoles open the file of calls.
pub(crate) fn calls_path() -> Option<PathBuf> {
    calls_file().map(CallsFile::path)
}

/// Tells consoles which version has an address that slots may hold, and what the notes of calls there mean: the
/// functions, and then the activities, by number. `builds` are the builds of the version's faces.
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

/// The slots of one thread. The thread gives them back at its end by dropping this.
pub(crate) struct Claim(usize);

impl Claim {
    /// Claims slots for this thread.
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
                waiters::notify_all();
            }
            FREE.locked().push(self.0);
        }
    }
}

/// A call on this thread's stack, and the slot that holds what it uses.
///
/// The call ends on the thread on which it began: a pointer is not `Send`.
pub(crate) struct Entered(SlotAt);

/// A slot of a thread. It lies before the end of the thread's slots, which are never freed.
#[derive(Clone, Copy)]
struct SlotAt(*const Slot);

impl SlotAt {
    #[inline(always)]
    fn slot(self) -> &'static Slot {
        // SAFETY: slots are never freed.
        unsafe { &*self.0 }
    }

    /// The slots among which this slot is.
    #[inline(always)]
    fn slots(self) -> &'static ThreadSlots {
        let start = |address: usize| address & !(align_of::<ThreadSlots>() - 1);
        // SAFETY: slots are aligned to their size, and the pointer can reach all slots of the thread.
        unsafe { &*self.0.map_addr(start).cast::<ThreadSlots>() }
    }

    /// Empties the slot. Returns whether somebody waits for this, or for a checkpoint.
    #[inline(always)]
    fn leave(self) -> bool {
        THIS_THREAD.with(|this| this.next.set(self.0));
        self.slots().leave(self.slot())
    }

    /// Wakes whoever waits for this slot. Takes the slot by value, so the call itself can stay in registers.
    #[cold]
    fn wake_waiters(self) {
        if self.slots().take_wake_request(self.slot()) {
            waiters::notify_all();
        }
    }
}

impl Entered {
    /// Puts a call on this thread's stack; `None` if the thread has no free slot that it can use without a
    /// fence.
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

    /// Works like `unfenced`, also for a thread that must fence, or has not asked for slots yet.
    pub fn new() -> Option<Self> {
        Self::unfenced().or_else(|| {
            if !THIS_THREAD.with(|this| this.asked.get()) {
                waiters::claim_slots();
            }
            THIS_THREAD.with(|this| {
                let slot = this.next.get();
                let end = first_slot(this.slots.get()?).wrapping_add(DEPTH);
                this.next.set(if slot < end { slot.wrapping_add(1) } else { return None });
                Some(Self(SlotAt(slot)))
            })
        })
    }

    /// Protects the published pointer.
    ///
    /// The address stays valid until the slot [`hold`](Self::hold)s another one, or the call ends.
    #[inline(always)]
    pub fn protect<T>(&self, published: &AtomicPtr<T>) -> *mut T {
        self.0.slots().protect(self.0.slot(), published)
    }

    /// Holds an address that is valid because of what the slot held before, or because of a lease.
    #[inline(always)]
    pub fn hold<T>(&self, address: *const T, note: usize) {
        self.0.slot().hold(address.addr(), note);
    }

    /// Works like `hold`, for a call that entered [`unfenced`](Self::unfenced). The address is valid only if
    /// the caller then sees that it is still published.
    #[inline(always)]
    pub fn try_hold_unfenced<T>(&self, address: *const T, note: usize) {
        self.0.slot().try_hold(address.addr(), note, false);
    }

    /// The note of the slot.
    #[inline(always)]
    pub fn noted(&self) -> usize {
        self.0.slot().noted()
    }

    /// Notes for consoles what runs at an address that a lease keeps valid.
    pub fn note<T>(&self, address: *const T, note: usize) {
        self.0.slot().note(address.addr(), note);
    }

    /// Ends a call that ran no code of a plugin, and so must run none now: the thread passes its checkpoint
    /// later.
    #[inline(always)]
    pub fn leave_quietly(self) {
        let slot = self.0;
        std::mem::forget(self);
        if slot.leave() {
            slot.wake_waiters();
        }
    }
}

impl Drop for Entered {
    #[inline(always)]
    fn drop(&mut self) {
        let slot = self.0;
        if slot.leave() {
            slot.wake_waiters();
            waiters::checkpoint();
        }
    }
}

/// A call on this thread's stack that has no slot. A lease keeps what it uses.
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

/// The index of this thread's row. It is below [`MAX_THREADS`] if the thread has slots of its own, which is
/// the case while it is [`Entered`].
#[inline(always)]
pub(crate) fn this_thread() -> usize {
    THIS_THREAD.with(|this| this.number.get())
}

/// Protects the published pointer for a moment, on a thread that cannot use slots of its own.
#[cold]
pub(crate) fn protect_shared<T>(published: &AtomicPtr<T>) -> (*mut T, SharedHold) {
    let lock = SHARED.locked();
    (threads()[0].protect(threads()[0].slot(0), published), SharedHold(lock))
}

/// Keeps the pointer valid that [`protect_shared`] has returned.
pub(crate) struct SharedHold(#[allow(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Drop for SharedHold {
    fn drop(&mut self) {
        let slots = &threads()[0];
        let slot = slots.slot(0);
        if slots.leave(slot) && slots.take_wake_request(slot) {
            waiters::notify_all();
        }
    }
}

/// Whether this thread is in a call of a plugin, in which panics are caught.
pub(crate) fn is_in_call() -> bool {
    THIS_THREAD.with(|this| this.depth() > this.outside.get())
}

/// Runs code of a plugin whose panics no call catches, whatever calls are on the stack.
pub(crate) fn outside_calls<T>(run: impl FnOnce() -> T) -> T {
    let this = |f: &dyn Fn(&ThisThread) -> usize| THIS_THREAD.with(f);
    let before = this(&|this| this.outside.replace(this.depth()));
    let result = run();
    this(&|this| this.outside.replace(before));
    result
}

/// Whether this thread was asked to pass a checkpoint; `None` if it has no slots, and so cannot be asked.
#[inline]
pub(crate) fn is_checkpoint_requested() -> Option<bool> {
    THIS_THREAD.with(|this| this.slots.get()).map(ThreadSlots::is_checkpoint_requested)
}

/// Returns the same as [`is_checkpoint_requested`], and removes the request: the next call returns false.
pub(crate) fn take_checkpoint_request() -> bool {
    THIS_THREAD.with(|this| this.slots.get()).is_some_and(ThreadSlots::take_checkpoint_request)
}

/// The note of this thread's innermost call at an address; `None` if no such call has a slot.
pub(crate) fn noted_here<T>(address: *const T) -> Option<usize> {
    THIS_THREAD.with(|this| this.slots.get())?.noted_at(address.addr())
}

/// How many calls of this thread are at an address, as far as they have slots.
pub(crate) fn times_noted_here(address: usize) -> usize {
    let own = THIS_THREAD.with(|this| this.slots.get());
    own.map_or(0, |own| own.times_noted_at(address))
}

/// Asks this thread to pass a checkpoint.
pub(crate) fn request_checkpoint_here() {
    let own = THIS_THREAD.with(|this| this.slots.get());
    own.into_iter().for_each(ThreadSlots::request_checkpoint);
}

/// Asks every thread to pass a checkpoint.
pub(crate) fn request_checkpoints() {
    used().iter().for_each(ThreadSlots::request_checkpoint);
}

/// The barrier between taking a hold and checking whether the version may be used. A thread that forbids the
/// use and then calls [`is_held`] either sees the hold, or the other thread sees that the use is forbidden.
#[inline]
pub(crate) fn light_barrier() {
    crate::sync::light_barrier(must_fence());
}

/// Whether some call holds an address that new calls cannot reach any more. The threads of such calls report
/// when they have left it.
pub(crate) fn is_held<T>(address: *const T) -> bool {
    protocol::is_held(used, address as usize)
}

/// A call that holds an address, as another thread sees it.
pub(crate) struct CallSeen {
    /// The index of the thread's row, and of the slot in it.
    pub thread: usize,
    pub depth: usize,
    /// The system's id of the thread.
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
