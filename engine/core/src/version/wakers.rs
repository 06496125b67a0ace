//! Wakers of a version that code outside the version has.
//!
//! Whoever is polled by a version's code may keep the waker long after the future is gone: the sender of a
//! channel keeps it until the next message. So the functions of the waker are the host's, and they call the
//! version only as long as the poller keeps the waker tied.

use std::{
    sync::{Arc, Mutex, Weak},
    task::{Wake, Waker},
};

use hotswap_plugin::{
    __private::Lease as RawLease,
    abi::{TiedWaker, WakeTarget},
};

use super::{
    Version,
    lease::{Lease, LeaseKind},
};
use crate::lock::Lock as _;

/// Makes a waker for others. The code of the version that requests it runs.
pub(crate) fn tie(version: &Arc<Version>, target: WakeTarget) -> TiedWaker {
    let target = Mutex::new(Some(Arc::new(Target(target))));
    let tied = Arc::new(Tied { version: Arc::downgrade(version), target });
    let tie = Arc::into_raw(tied.clone()).cast();
    // SAFETY: both functions count references to the `Arc` from which the pointer was made.
    let tie = unsafe { RawLease::new(tie, retain, untie) };
    TiedWaker { waker: Waker::from(tied), tie }
}

struct Tied {
    version: Weak<Version>,
    /// `None` once it was untied.
    target: Mutex<Option<Arc<Target>>>,
}

/// The version's own waker.
struct Target(WakeTarget);

// SAFETY: the target refers to a waker, which may be used and dropped on any thread.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Drop for Target {
    fn drop(&mut self) {
        // SAFETY: whoever unties it is code of the version that runs, and whoever wakes has a lease.
        unsafe { (self.0.release)(self.0.data) };
    }
}

/// A target that is being woken.
struct Waking {
    // Dropped first: afterwards the lease may let the image be unmapped.
    target: Arc<Target>,
    _lease: Lease,
}

impl Tied {
    /// The target, if it is still tied. Holding its lock, this thread cannot have the last reference.
    fn begin(&self) -> Option<Waking> {
        let tied = self.target.locked();
        let target = tied.as_ref()?;
        let _lease = Lease::try_new(&self.version.upgrade()?, LeaseKind::Task)?;
        Some(Waking { target: target.clone(), _lease })
    }
}

impl Wake for Tied {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(Waking { target, .. }) = &self.begin() {
            // SAFETY: the lease keeps the image mapped, and the target was not released.
            unsafe { (target.0.wake)(target.0.data) };
        }
    }
}

unsafe extern "C" fn retain(tied: *const ()) {
    // SAFETY: the pointer came from `Arc::into_raw` in `tie`.
    unsafe { Arc::increment_strong_count(tied.cast::<Tied>()) };
}

unsafe extern "C" fn untie(tied: *const ()) {
    // SAFETY: as above; each reference is released once.
    let tied = unsafe { Arc::from_raw(tied.cast::<Tied>()) };
    // The lock is released before code of the version runs.
    let target = tied.target.locked().take();
    drop(target);
}
