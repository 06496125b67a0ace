//! How a thread enters a version that another thread may be about to free, without a lock and without a
//! fence.
//!
//! The entering thread writes the address that it is about to use into a slot of its own, and then checks
//! that the address is still published. The freeing thread first unpublishes the address, and then looks into
//! all slots. Between its two steps, the entering thread has a light barrier and the freeing thread a heavy
//! one. So either the entering thread sees that the address is not published any more, or the freeing thread
//! sees it in the slot. This is a hazard pointer with an asymmetric barrier.
//!
//! The same pair of barriers wakes a thread that waits for a slot to be left. The leaving thread empties the
//! slot, and then checks for a request. The waiting thread sets the request, for this slot only, and then looks
//! into the slot.

use crate::sync::{AtomicI32, AtomicPtr, AtomicUsize, Ordering, heavy_barrier, light_barrier};

/// The largest number of nested calls of one thread that use slots.
pub(crate) const DEPTH: usize = 6;

/// The bit that asks the thread to pass a checkpoint. It lies beside the bits for its slots.
const CHECKPOINT: usize = 1 << DEPTH;

/// The bit that makes the thread fence by itself. It is not a request, but leaving a slot reads this word
/// anyway.
const FENCE: usize = CHECKPOINT << 1;

/// The slots of one thread. Only that thread writes the slots; any thread may set a request.
///
/// The alignment is two cache lines, which processors fetch in pairs, so that no two threads share one.
/// Consoles read this structure as `hotswap_protocol::in_flight` describes it.
#[repr(C, align(128))]
pub(crate) struct ThreadSlots {
    /// A bit for each slot that somebody waits for, [`CHECKPOINT`], and [`FENCE`], which the thread sets
    /// before it first uses a slot.
    requests: AtomicUsize,
    /// The system's id of the thread; 0 if no thread has the slots.
    pub(super) thread_id: AtomicI32,
    pub(super) slots: [Slot; DEPTH],
    /// The thread's name, for people.
    pub(super) name: [AtomicUsize; NAME_WORDS],
}

/// The size of a thread's name in the system, in bytes.
pub(crate) const NAME_BYTES: usize = 16;

const NAME_WORDS: usize = NAME_BYTES / size_of::<usize>();

/// Tag bit of an address that a lease protects. `is_held` compares untagged addresses, so it skips such
/// slots.
const NOTED: usize = 1;

#[repr(C)]
pub(crate) struct Slot {
    /// The address in use; 0 if there is none.
    address: AtomicUsize,
    /// What the thread does there, for people.
    note: AtomicUsize,
}

impl Slot {
    #[cfg(not(loom))]
    const fn new() -> Self {
        Self { address: AtomicUsize::new(0), note: AtomicUsize::new(0) }
    }

    /// Holds an address instead of the one before. It must be valid because of what the slot held before, or
    /// because of a lease.
    #[inline(always)]
    pub fn hold(&self, address: usize, note: usize) {
        self.note.store(note, Ordering::Relaxed);
        // Release: whatever was read through the former address is finished. `is_held` acquires.
        self.address.store(address, Ordering::Release);
    }

    /// Works like `hold`, for an address that is valid only if the caller then sees that it is still
    /// published. `must_fence` is the result of [`must_fence`](ThreadSlots::must_fence).
    #[inline(always)]
    pub fn try_hold(&self, address: usize, note: usize, must_fence: bool) {
        self.hold(address, note);
        light_barrier(must_fence);
    }

    /// The note for the address in use.
    #[inline(always)]
    pub fn noted(&self) -> usize {
        self.note.load(Ordering::Relaxed)
    }

    /// Notes what the thread does at an address that something else keeps valid.
    pub fn note(&self, address: usize, note: usize) {
        self.hold(address | NOTED, note);
    }

    /// Whether it holds or notes an address.
    fn has(&self, address: usize) -> bool {
        self.address.load(Ordering::Relaxed) & !NOTED == address
    }
}

impl ThreadSlots {
    /// Slots that hold nothing.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            requests: AtomicUsize::new(FENCE),
            thread_id: AtomicI32::new(0),
            slots: [const { Slot::new() }; DEPTH],
            name: [const { AtomicUsize::new(0) }; NAME_WORDS],
        }
    }

    /// The same for loom, whose atomics cannot be made in a constant.
    #[cfg(loom)]
    pub fn new() -> Self {
        let slots = std::array::from_fn(|_| Slot {
            address: AtomicUsize::new(0),
            note: AtomicUsize::new(0),
        });
        Self {
            requests: AtomicUsize::new(FENCE),
            thread_id: AtomicI32::new(0),
            slots,
            name: std::array::from_fn(|_| AtomicUsize::new(0)),
        }
    }

    /// Gives the slots to a thread.
    pub fn begin(&self, must_fence: bool, thread_id: i32, name: [u8; NAME_BYTES]) {
        self.requests.store(if must_fence { FENCE } else { 0 }, Ordering::Relaxed);
        for (word, bytes) in self.name.iter().zip(name.chunks_exact(size_of::<usize>())) {
            let bytes = std::array::from_fn(|at| bytes[at]);
            word.store(usize::from_ne_bytes(bytes), Ordering::Relaxed);
        }
        self.thread_id.store(thread_id, Ordering::Relaxed);
    }

    /// Takes the slots from their thread. A thread that ended in the middle of calls has not left their
    /// slots; this leaves them. Returns whether somebody waits for one of them.
    #[must_use]
    pub fn end(&self) -> bool {
        let mut is_awaited = false;
        for slot in &self.slots {
            if slot.address.load(Ordering::Relaxed) != 0 && self.leave(slot) {
                is_awaited |= self.take_wake_request(slot);
            }
        }
        self.thread_id.store(0, Ordering::Relaxed);
        is_awaited
    }

    /// The system's id of the thread; 0 if no thread has the slots.
    pub fn thread_id(&self) -> i32 {
        self.thread_id.load(Ordering::Relaxed)
    }

    /// Whether the thread must fence for itself.
    pub fn must_fence(&self) -> bool {
        self.requests.load(Ordering::Relaxed) & FENCE != 0
    }

    /// The slot of a call that is nested in `depth` others, which must be fewer than [`DEPTH`].
    pub fn slot(&self, depth: usize) -> &Slot {
        &self.slots[depth]
    }

    /// Protects the published pointer. The address stays valid until the slot holds another one, or is
    /// emptied.
    #[inline(always)]
    pub fn protect<T>(&self, slot: &Slot, published: &AtomicPtr<T>) -> *mut T {
        let mut seen = published.load(Ordering::Relaxed);
        loop {
            // Release: whatever was done through the slot's former address is finished. `is_held` acquires.
            slot.address.store(seen as usize, Ordering::Release);
            light_barrier(self.must_fence());
            // Acquire: what the publisher wrote behind the pointer is visible.
            let again = published.load(Ordering::Acquire);
            if again == seen {
                return seen;
            }
            seen = again;
        }
    }

    /// Empties a slot. Returns whether somebody waits for this, or for a checkpoint.
    #[inline(always)]
    #[must_use]
    pub fn leave(&self, slot: &Slot) -> bool {
        // Release: whatever was done through the address is finished. `is_held` acquires.
        slot.address.store(0, Ordering::Release);
        light_barrier(false);
        self.requests.load(Ordering::Relaxed) != 0 && self.has_request_for(slot)
    }

    /// Checks the bits more closely, after `leave` has seen one.
    #[cold]
    fn has_request_for(&self, slot: &Slot) -> bool {
        light_barrier(self.must_fence());
        self.requests.load(Ordering::Relaxed) & (self.bit(slot) | CHECKPOINT) != 0
    }

    /// The bit for one of these slots.
    fn bit(&self, slot: &Slot) -> usize {
        self.slots.iter().position(|own| std::ptr::eq(own, slot)).map_or(0, |depth| 1 << depth)
    }

    /// Whether somebody waits for a slot to be left. Removes the request.
    pub fn take_wake_request(&self, slot: &Slot) -> bool {
        self.take_request(self.bit(slot))
    }

    /// Whether somebody waits for a checkpoint. Removes the request.
    pub fn take_checkpoint_request(&self) -> bool {
        self.take_request(CHECKPOINT)
    }

    fn take_request(&self, request: usize) -> bool {
        self.requests.fetch_and(!request, Ordering::AcqRel) & request != 0
    }

    /// Whether somebody waits for a checkpoint.
    #[inline(always)]
    pub fn is_checkpoint_requested(&self) -> bool {
        self.requests.load(Ordering::Relaxed) & CHECKPOINT != 0
    }

    /// Asks the thread to pass a checkpoint when it next leaves a slot, or at another occasion.
    pub fn request_checkpoint(&self) {
        self.requests.fetch_or(CHECKPOINT, Ordering::Release);
    }

    /// Asks the thread to wake the waiter when it leaves a slot; returns whether it was asked already.
    fn request_wake(&self, slot: usize) -> bool {
        self.requests.fetch_or(1 << slot, Ordering::AcqRel) & (1 << slot) != 0
    }

    /// What the thread does at an address: the indices of the slots that hold it, and their notes.
    pub fn notes_at(&self, address: usize) -> impl Iterator<Item = (usize, usize)> {
        let notes = self.slots_with(address).map(|at| {
            let note = self.slots[at].note.load(Ordering::Relaxed);
            (at, note, self.slots[at].address.load(Ordering::Acquire))
        });
        // If the slot was left meanwhile, the note may belong to another call.
        notes.filter(move |(.., now)| *now == address).map(|(at, note, _)| (at, note))
    }

    /// The note of the innermost slot that holds or notes an address. Only the slots' own thread calls this.
    pub fn noted_at(&self, address: usize) -> Option<usize> {
        self.slots.iter().rev().find(|slot| slot.has(address)).map(Slot::noted)
    }

    /// How many slots hold or note an address. Only the slots' own thread calls this.
    pub fn times_noted_at(&self, address: usize) -> usize {
        self.slots.iter().filter(|slot| slot.has(address)).count()
    }

    fn slots_with(&self, address: usize) -> impl Iterator<Item = usize> {
        let slots = self.slots.iter().enumerate();
        let held = slots.filter(move |(_, slot)| slot.address.load(Ordering::Acquire) == address);
        held.map(|(at, _)| at)
    }
}

/// Whether some thread holds an address that is not published any more and that nobody can reach otherwise.
/// The threads that hold it are asked to wake the waiter after they have left it.
///
/// `threads` returns the slots of all threads that exist at that moment.
pub(crate) fn is_held<'a>(threads: impl Fn() -> &'a [ThreadSlots], address: usize) -> bool {
    loop {
        // A thread that is not seen from here on will see that the address is not published any more. A
        // thread that is seen, and was asked before, will see the request when it leaves.
        if !heavy_barrier() {
            // Nothing is known; keeping the address does no harm.
            return true;
        }
        let mut is_held = false;
        let mut all_were_asked = true;
        for thread in threads() {
            for slot in thread.slots_with(address) {
                is_held = true;
                all_were_asked &= thread.request_wake(slot);
            }
        }
        // A thread that was not asked before may be leaving just now.
        if !is_held || all_were_asked {
            return is_held;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_ends_in_the_middle_of_calls_leaves_their_slots() {
        let slots = ThreadSlots::new();
        slots.begin(true, 1, [0; NAME_BYTES]);
        let address = 0x1000;
        slots.slot(0).hold(address, 0);
        slots.slot(2).hold(address, 0);
        assert_eq!(slots.slots_with(address).count(), 2);
        assert!(!slots.request_wake(2));
        assert!(slots.end(), "a thread waits for the end");
        assert_eq!(slots.slots_with(address).count(), 0);
        assert_eq!(slots.thread_id(), 0);
        assert!(!slots.end());
    }
}
