//! Locks whose holder may have panicked.
//!
//! Each lock of the engine guards data that is whole after every statement under it, so what a panic left
//! may be used on.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock, whatever became of its last holder.
pub(crate) trait Lock<T: ?Sized> {
    /// Waits for the lock.
    fn locked(&self) -> MutexGuard<'_, T>;
}

impl<T: ?Sized> Lock<T> for Mutex<T> {
    fn locked(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
