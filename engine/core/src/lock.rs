//! Locks that can be used after a panic.
//!
//! The data under each lock of the engine is consistent after every statement, so it can be used even if a
//! thread panicked while it had the lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock even if its last holder panicked.
pub(crate) trait Lock<T: ?Sized> {
    /// Waits for the lock.
    fn locked(&self) -> MutexGuard<'_, T>;
}

impl<T: ?Sized> Lock<T> for Mutex<T> {
    fn locked(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
