//! What happens when a slot is left: waiters are woken, and the thread does its duties for the versions
//! that it has called.
//!
//! Slots know nothing of the floors above. Those register here.

use std::sync::{Mutex, OnceLock, Weak};

use crate::lock::Lock as _;

/// Waits for calls to end.
pub(crate) trait Waiter: Send + Sync {
    /// A call has ended that somebody was waiting for. Returns whether the waiter is still there.
    fn look_again(&self) -> bool;
}

/// What a thread does besides its calls.
pub(crate) struct ThreadDuties {
    /// Claims slots for this thread, until its end.
    pub keep_slots: fn(),
    /// Runs what waits for this thread.
    pub checkpoint: fn(),
}

/// Held weakly: a call that has ended does not know whose it was, and a waiter may be gone.
static WAITERS: Mutex<Vec<Weak<dyn Waiter>>> = Mutex::new(Vec::new());

static DUTIES: OnceLock<ThreadDuties> = OnceLock::new();

/// Tells the waiter from now on.
pub(crate) fn add_waiter(waiter: Weak<dyn Waiter>) {
    WAITERS.locked().push(waiter);
}

/// Says what threads do; the first engine does so, before there is a call.
pub(crate) fn set_thread_duties(duties: ThreadDuties) {
    let _ = DUTIES.set(duties);
}

/// Tells all waiters that a slot was left which somebody was waiting for.
pub(super) fn look_again() {
    let mut all = WAITERS.locked();
    all.retain(|waiter| waiter.upgrade().is_some_and(|waiter| waiter.look_again()));
}

pub(super) fn keep_slots() {
    DUTIES.get().into_iter().for_each(|duties| (duties.keep_slots)());
}

pub(super) fn checkpoint() {
    DUTIES.get().into_iter().for_each(|duties| (duties.checkpoint)());
}
