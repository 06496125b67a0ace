//! What a loaded image runs beside the author's code: the engine's entry, and the hooks under
//! its own copy of `std`.

mod alloc;
mod attach;
#[doc(hidden)]
pub mod hooks;
mod log;
mod panics;

pub use alloc::HostAllocator;
pub use attach::{Instance, attach};
pub(crate) use panics::{catch, catch_in_call};

use std::sync::atomic::{AtomicPtr, Ordering};

use crate::abi::HostTable;

/// The host this image is attached to; null in a program that merely links the plugin.
static HOST: AtomicPtr<HostTable> = AtomicPtr::new(std::ptr::null_mut());

/// The host, once attached.
pub(crate) fn host() -> Option<&'static HostTable> {
    let host = HOST.load(Ordering::Acquire);
    // SAFETY: only `attach` stores here, and what it stores is a `&'static HostTable`.
    unsafe { host.as_ref() }
}
