//! How a thread enters what another may be about to free, without a lock and without a fence.
//!
//! A thread writes the address that it is about to use into a slot of its own, and then looks once
//! more whether that is still what is published. Whoever frees unpublishes first, and then
//! looks into all slots. Between the two steps of the one lies a light barrier, between those of the other a
//! heavy one: so either the thread sees that the address is not published any more, or the other
//! sees it in the slot. This is a hazard pointer with an asymmetric barrier.
//!
//! The same pair of barriers wakes whoever waits for a slot to be left: a thread empties the slot and
//! then looks for a wish; the waiter states the wish, for that slot alone, and then looks into the slot.

use crate::sync::{AtomicI32, AtomicPtr, AtomicUsize, Ordering, heavy_barrier, light_barrier};

/// How many calls of one thread may be nested before the next one is counted otherwise.
pub(crate) const DEPTH: usize = 6;

/// The wish that the thread pass a checkpoint, beside those for its slots.
const CHECKPOINT: usize = 1 << DEPTH;

/// No wish, but beside them, where leaving a slot looks anyhow: the thread must fence for itself.
const FENCE: usize = CHECKPOINT << 1;

/// What one thread uses. Only that thread writes the slots; anybody may state a wish.
///
/// The alignment is two cache lines, as processors fetch them in pairs: no two threads share one. A
/// console reads this as `hotswap_protocol::in_flight` says.
#[repr(C, align(128))]
pub(crate) struct ThreadSlots {
    /// A bit for each slot that somebody waits for, [`CHECKPOINT`], and [`FENCE`], which the thread
    /// sets before it first uses a slot.
    wishes: AtomicUsize,
    /// The system's number of the thread; 0 where the slots are nobody's.
    pub(super) thread_id: AtomicI32,
    pub(super) slots: [Slot; DEPTH],
    /// The thread's name, for people to read.
    pub(super) name: [AtomicUsize; NAME_WORDS],
}

/// How long the system's names of threads are.
pub(crate) const NAME_BYTES: usize = 16;

const NAME_WORDS: usize = NAME_BYTES / size_of::<usize>();

/// Tag bit of an address that a lease protects. `is_held` compares untagged addresses, so it skips such
/// slots.
const NOTED: usize = 1;

#[repr(C)]
pub(crate) struct Slot {
    /// The address in use; 0 when there is none.
    address: AtomicUsize,
    /// What the thread does there, for people to read.
    note: AtomicUsize,
}

impl Slot {
    #[cfg(not(loom))]
    const fn new() -> Self {
        Self { address: AtomicUsize::new(0), note: AtomicUsize::new(0) }
    }

    /// Holds an address instead of another, which is valid by what the slot held so far or by a lease.
    #[inline(always)]
    pub fn hold(&self, address: usize, note: usize) {
        self.note.store(note, Ordering::Relaxed);
        // Release: what was read under the former address is done. `is_held` acquires.
        self.address.store(address, Ordering::Release);
    }

    /// As `hold`, for an address that is valid only if the caller then sees that it is still
    /// published. The thread says whether it [must fence](ThreadSlots::must_fence).
    #[inline(always)]
    pub fn try_hold(&self, address: usize, note: usize, must_fence: bool) {
        self.hold(address, note);
        light_barrier(must_fence);
    }

    /// What is noted of the address in use.
    pub fn noted(&self) -> usize {
        self.note.load(Ordering::Relaxed)
    }

    /// Notes what the thread does at an address that something else keeps valid.
    pub fn note(&self, address: usize, note: usize) {
        self.hold(address | NOTED, note);
    }
}

impl ThreadSlots {
    /// Slots that hold nothing.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            wishes: AtomicUsize::new(FENCE),
            thread_id: AtomicI32::new(0),
            slots: [const { Slot::new() }; DEPTH],
            name: [const { AtomicUsize::new(0) }; NAME_WORDS],
        }
    }

    /// As above; loom's atomics are no constants.
    #[cfg(loom)]
    pub fn new() -> Self {
        let slots = std::array::from_fn(|_| Slot {
            address: AtomicUsize::new(0),
            note: AtomicUsize::new(0),
        });
        Self {
            wishes: AtomicUsize::new(FENCE),
            thread_id: AtomicI32::new(0),
            slots,
            name: std::array::from_fn(|_| AtomicUsize::new(0)),
        }
    }

    /// Makes the slots a thread's own.
    pub fn begin(&self, must_fence: bool, thread_id: i32, name: [u8; NAME_BYTES]) {
        self.wishes.store(if must_fence { FENCE } else { 0 }, Ordering::Relaxed);
        for (word, bytes) in self.name.iter().zip(name.chunks_exact(size_of::<usize>())) {
            let bytes = std::array::from_fn(|at| bytes[at]);
            word.store(usize::from_ne_bytes(bytes), Ordering::Relaxed);
        }
        self.thread_id.store(thread_id, Ordering::Relaxed);
    }

    /// Makes the slots nobody's. A thread that ended in the middle of calls has not left their slots;
    /// this does. Says whether somebody waits for one of them.
    #[must_use]
    pub fn end(&self) -> bool {
        let mut is_awaited = false;
        for slot in &self.slots {
            if slot.address.load(Ordering::Relaxed) != 0 && self.leave(slot) {
                is_awaited |= self.take_wish_for(slot);
            }
        }
        self.thread_id.store(0, Ordering::Relaxed);
        is_awaited
    }

    /// The system's number of the thread; 0 where the slots are nobody's.
    pub fn thread_id(&self) -> i32 {
        self.thread_id.load(Ordering::Relaxed)
    }

    /// Whether the thread must fence for itself.
    pub fn must_fence(&self) -> bool {
        self.wishes.load(Ordering::Relaxed) & FENCE != 0
    }

    /// The slot of a call by how many calls it is nested in, fewer than [`DEPTH`].
    pub fn slot(&self, depth: usize) -> &Slot {
        &self.slots[depth]
    }

    /// Takes hold of what is published; the address stays valid until the slot holds another or is
    /// emptied.
    #[inline(always)]
    pub fn protect<T>(&self, slot: &Slot, published: &AtomicPtr<T>) -> *mut T {
        let mut seen = published.load(Ordering::Relaxed);
        loop {
            // Release: what was done under the slot's former address is done. `is_held` acquires.
            slot.address.store(seen as usize, Ordering::Release);
            light_barrier(self.must_fence());
            // Acquire: what the publisher wrote behind the pointer is there.
            let again = published.load(Ordering::Acquire);
            if again == seen {
                return seen;
            }
            seen = again;
        }
    }

    /// Empties a slot; says whether somebody waits for that, or for a checkpoint.
    #[inline(always)]
    #[must_use]
    pub fn leave(&self, slot: &Slot) -> bool {
        // Release: what was done under the address is done. `is_held` acquires.
        slot.address.store(0, Ordering::Release);
        light_barrier(false);
        self.wishes.load(Ordering::Relaxed) != 0 && self.has_wish_after(slot)
    }

    /// Looks closer, where leaving a slot saw something.
    #[cold]
    fn has_wish_after(&self, slot: &Slot) -> bool {
        light_barrier(self.must_fence());
        self.wishes.load(Ordering::Relaxed) & (self.bit(slot) | CHECKPOINT) != 0
    }

    /// The wish for a slot of these.
    fn bit(&self, slot: &Slot) -> usize {
        self.slots.iter().position(|own| std::ptr::eq(own, slot)).map_or(0, |depth| 1 << depth)
    }

    /// Whether somebody waits for a slot to be left. Takes the wish away.
    pub fn take_wish_for(&self, slot: &Slot) -> bool {
        self.take(self.bit(slot))
    }

    /// Whether somebody waits for a checkpoint. Takes the wish away.
    pub fn take_wish_for_checkpoint(&self) -> bool {
        self.take(CHECKPOINT)
    }

    fn take(&self, wish: usize) -> bool {
        self.wishes.fetch_and(!wish, Ordering::AcqRel) & wish != 0
    }

    /// Whether somebody waits for a checkpoint.
    #[inline(always)]
    pub fn has_wish_for_checkpoint(&self) -> bool {
        self.wishes.load(Ordering::Relaxed) & CHECKPOINT != 0
    }

    /// Asks the thread to pass a checkpoint when it leaves a slot next, or otherwise.
    pub fn ask_for_checkpoint(&self) {
        self.wishes.fetch_or(CHECKPOINT, Ordering::Release);
    }

    /// Asks the thread to wake the waiter when it leaves a slot; returns whether it was asked already.
    fn ask_for(&self, slot: usize) -> bool {
        self.wishes.fetch_or(1 << slot, Ordering::AcqRel) & (1 << slot) != 0
    }

    /// What the thread does at an address: the slots that hold it, and their notes.
    pub fn notes_at(&self, address: usize) -> impl Iterator<Item = (usize, usize)> {
        let notes = self.slots_with(address).map(|at| {
            let note = self.slots[at].note.load(Ordering::Relaxed);
            (at, note, self.slots[at].address.load(Ordering::Acquire))
        });
        // If it was left meanwhile, this may be the note of another call.
        notes.filter(move |(.., now)| *now == address).map(|(at, note, _)| (at, note))
    }

    /// What the innermost slot notes that holds an address, or has it noted; on the slots' own thread.
    pub fn noted_at(&self, address: usize) -> Option<usize> {
        let has_it = |slot: &&Slot| slot.address.load(Ordering::Relaxed) & !NOTED == address;
        self.slots.iter().rev().find(has_it).map(Slot::noted)
    }

    fn slots_with(&self, address: usize) -> impl Iterator<Item = usize> {
        let slots = self.slots.iter().enumerate();
        let held = slots.filter(move |(_, slot)| slot.address.load(Ordering::Acquire) == address);
        held.map(|(at, _)| at)
    }
}

/// Whether some thread holds an address that is not published any more, and that nobody can come by
/// otherwise. The threads that hold it are asked to wake the waiter, and do so when they have left.
///
/// `threads` returns the slots of all threads there are at that moment.
pub(crate) fn is_held<'a>(threads: impl Fn() -> &'a [ThreadSlots], address: usize) -> bool {
    loop {
        // Whoever is not seen from here on sees that the address is not published any more; and whoever was
        // asked before, and is seen, sees the wish when it leaves.
        if !heavy_barrier() {
            // Nothing is known; what is kept does no harm.
            return true;
        }
        let mut is_held = false;
        let mut all_know = true;
        for thread in threads() {
            for slot in thread.slots_with(address) {
                is_held = true;
                all_know &= thread.ask_for(slot);
            }
        }
        // One that was not asked yet may be leaving just now.
        if !is_held || all_know {
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
        assert!(!slots.ask_for(2));
        assert!(slots.end(), "somebody waits");
        assert_eq!(slots.slots_with(address).count(), 0);
        assert_eq!(slots.thread_id(), 0);
        assert!(!slots.end());
    }
}
