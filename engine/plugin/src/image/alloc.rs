//! The image's allocator: the host's, so that either side may drop what the other made.

use std::{
    alloc::{GlobalAlloc, Layout},
    io::Write as _,
    process::abort,
};

use super::host;

/// Forwards every allocation to the host.
#[doc(hidden)]
pub struct HostAllocator;

// SAFETY: every request goes unchanged to the host's allocator, which upholds the contract.
unsafe impl GlobalAlloc for HostAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let host = attached();
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

/// The host. An image that allocates in a constructor, before it is attached, has none; memory from
/// elsewhere would later be freed into the host's allocator, so the process ends instead.
fn attached() -> &'static crate::abi::HostTable {
    host().unwrap_or_else(|| {
        let _ = std::io::stderr()
            .write_all(b"hotswap: a plugin allocates in a constructor, before it is attached\n");
        abort()
    })
}
