//! The image's allocator. It forwards to the host's allocator, so that host and image may free each other's
//! memory.

use std::{
    alloc::{GlobalAlloc, Layout},
    io::Write as _,
    process::abort,
    sync::atomic::{AtomicBool, Ordering},
};

use super::host;

/// The size of the buffer that `std` allocates when the image prints for the first time. It is never freed.
const STDOUT_BUFFER_BYTES: usize = 1024;

/// Whether an allocation of that size was made.
static MAY_HAVE_PRINTED: AtomicBool = AtomicBool::new(false);

/// Whether the image may have printed something. If it has not, its stdout must not be flushed at the end,
/// since that would allocate the buffer.
pub(super) fn may_have_printed() -> bool {
    MAY_HAVE_PRINTED.load(Ordering::Relaxed)
}

/// Forwards every allocation to the host.
#[doc(hidden)]
pub struct HostAllocator;

// SAFETY: every call goes unchanged to the host's allocator, which upholds the contract.
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

/// The host. If there is none, the file was not opened by an engine, and the process is ended: memory from
/// another allocator would later be freed with the host's.
fn attached() -> &'static crate::abi::HostTable {
    host().unwrap_or_else(|| {
        let _ = std::io::stderr().write_all(
            b"hotswap: something other than a Hotswap engine opened this plugin's file\n",
        );
        abort()
    })
}
