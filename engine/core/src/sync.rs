//! The atomics of the protocol in `slots/protocol.rs`, and the barriers between its two sides.
//!
//! A model of the protocol (`tests/models`) puts loom's atomics in this file's place.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};

use std::sync::atomic::{compiler_fence, fence};

/// Whether the system makes the barriers of the other threads.
static ASYMMETRIC: AtomicBool = AtomicBool::new(false);

/// Asks the system to make barriers on other threads, once, before the first engine is there.
///
/// Until then, and where it cannot, both sides fence.
pub(crate) fn prepare_barriers() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let registered = membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
        ASYMMETRIC.store(registered, Ordering::SeqCst);
    });
}

/// Whether the frequent side must fence for itself.
pub(crate) fn must_fence() -> bool {
    !ASYMMETRIC.load(Ordering::SeqCst)
}

/// The side that is frequent: what it stored before is seen by whoever then makes the
/// [`heavy_barrier`], or it sees what that one stored before.
///
/// `must_fence` is what the function of that name said. A thread that fences when it need not any
/// more does no harm.
#[inline(always)]
pub(crate) fn light_barrier(must_fence: bool) {
    if must_fence {
        fence(Ordering::SeqCst);
    } else {
        compiler_fence(Ordering::SeqCst);
    }
}

/// The side that is rare; it costs a few microseconds. See [`light_barrier`].
///
/// False when the system refuses it, though it did not when it was asked before: then nothing is known
/// of the other side.
#[must_use]
pub(crate) fn heavy_barrier() -> bool {
    fence(Ordering::SeqCst);
    must_fence() || membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
}

#[cfg(target_os = "linux")]
fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: the call has no precondition, and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn membarrier(_command: libc::c_int) -> bool {
    false
}
