//! The image's allocator: the host's, so that either side may drop what the other made.

use std::{
    alloc::{GlobalAlloc, Layout},
    io::Write as _,
    process::abort,
    sync::atomic::{AtomicBool, Ordering},
};

use super::host;

/// What `std` allocates when something is printed for the first time, and has no way to give back.
const STDOUT_BUFFER_BYTES: usize = 1024;

/// Whether so much was allocated at once.
static MAY_HAVE_PRINTED: AtomicBool = AtomicBool::new(false);

/// Whether the image may have printed something: where it has not, nobody should ask for its stdout,
/// which makes the buffer.
pub(super) fn may_have_printed() -> bool {
    MAY_HAVE_PRINTED.load(Ordering::Relaxed)
}

/// Forwards every allocation to the host.
#[doc(hidden)]
pub struct HostAllocator;

// SAFETY: every request goes unchanged to the host's allocator, which upholds the contract.
unsafe impl GlobalAlloc for HostAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let host = attached();
        if layout.size() == STDOUT_BUFFER_BYTES {
            MAY_HAVE_PRINTED.store(true, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { (host.alloc)(host.context, layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let host = attached();
        // SAFETY: as for `alloc`.
        unsafe { (host.alloc_zeroed)(host.context, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise about `old` and `layout` is passed on.
        unsafe { (attached().realloc)(old, layout.size(), layout.align(), new_size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as for `realloc`.
        unsafe { (attached().dealloc)(old, layout.size(), layout.align()) }
    }
}

/// The host. An image that something else than an engine has opened has none; memory from elsewhere
/// would later be freed into the host's allocator, so the process ends instead.
fn attached() -> &'static crate::abi::HostTable {
    host().unwrap_or_else(|| {
        let _ = std::io::stderr()
            .write_all(b"hotswap: a plugin's code runs in a file that no engine has opened\n");
        abort()
    })
}
