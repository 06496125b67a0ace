//! The atomics of the protocol in `slots/protocol.rs`, and the barriers between its two sides.
//!
//! The model of the protocol (`tests/models`) replaces this file by one with loom's atomics.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};

use std::sync::atomic::{compiler_fence, fence};

/// Whether the system runs barriers on the other threads.
static ASYMMETRIC: AtomicBool = AtomicBool::new(false);

/// Asks the system once, before the first engine exists, to run barriers on other threads.
///
/// Until then, and if the system cannot do it, both sides fence.
pub(crate) fn prepare_barriers() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let registered = membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
        ASYMMETRIC.store(registered, Ordering::SeqCst);
    });
}

/// Whether the frequent side must fence by itself.
pub(crate) fn must_fence() -> bool {
    !ASYMMETRIC.load(Ordering::SeqCst)
}

/// The barrier of the frequent side. Either the thread that then runs the [`heavy_barrier`] sees what this
/// thread stored before, or this thread sees what that one stored before.
///
/// `must_fence` is the result of the function of that name. A thread that fences although it need not any
/// more does no harm.
#[inline(always)]
pub(crate) fn light_barrier(must_fence: bool) {
    if must_fence {
        fence(Ordering::SeqCst);
    } else {
        compiler_fence(Ordering::SeqCst);
    }
}

/// The barrier of the rare side, which costs a few microseconds. See [`light_barrier`].
///
/// Returns false if the system refuses it although it accepted it before: then nothing is known of the other
/// side.
#[must_use]
pub(crate) fn heavy_barrier() -> bool {
    fence(Ordering::SeqCst);
    must_fence() || membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
}

#[cfg(target_os = "linux")]
fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: the call has no precondition, and does not access memory of this process.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn membarrier(_command: libc::c_int) -> bool {
    false
}
