//! What happens when a slot is left: waiters are woken, and the thread does its duties for the versions that
//! it has called.
//!
//! Slots know nothing of the floors above them. Those register here.

use std::sync::{Mutex, OnceLock, Weak};

use crate::lock::Lock as _;

/// Waits for calls to end.
pub(crate) trait Waiter: Send + Sync {
    /// Called when a call has ended for which a waiter was waiting. Returns whether the waiter still exists.
    fn notify(&self) -> bool;
}

/// The duties of a thread besides its calls.
pub(crate) struct ThreadDuties {
    /// Claims slots for this thread, until its end.
    pub claim_slots: fn(),
    /// Runs the destructors that wait for this thread.
    pub checkpoint: fn(),
}

/// The references are weak: a waiter may be gone, and a call that has ended does not know to which waiter it
/// mattered.
static WAITERS: Mutex<Vec<Weak<dyn Waiter>>> = Mutex::new(Vec::new());

static DUTIES: OnceLock<ThreadDuties> = OnceLock::new();

/// Adds a waiter, which is called from now on.
pub(crate) fn add_waiter(waiter: Weak<dyn Waiter>) {
    WAITERS.locked().push(waiter);
}

/// Sets the duties of threads. The first engine does this, before there is a call.
pub(crate) fn set_thread_duties(duties: ThreadDuties) {
    let _ = DUTIES.set(duties);
}

/// Notifies all waiters that a slot was left for which one of them was waiting.
pub(super) fn notify_all() {
    let mut all = WAITERS.locked();
    all.retain(|waiter| waiter.upgrade().is_some_and(|waiter| waiter.notify()));
}

pub(super) fn claim_slots() {
    DUTIES.get().into_iter().for_each(|duties| (duties.claim_slots)());
}

pub(super) fn checkpoint() {
    DUTIES.get().into_iter().for_each(|duties| (duties.checkpoint)());
}
