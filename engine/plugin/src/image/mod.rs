//! What a loaded image runs beside the author's code: the engine's entry, and the hooks under
//! its own copy of `std`.

mod alloc;
mod attach;
#[doc(hidden)]
pub mod hooks;
mod linked;
mod log;
mod panics;

pub use alloc::HostAllocator;
pub use attach::{Instance, attach};
pub use linked::{StaticPlugin, attach_linked};
pub(crate) use linked::{current_host, inside};
pub(crate) use panics::{catch, catch_in_call};

use std::sync::atomic::{AtomicPtr, Ordering};

use crate::abi::HostTable;

/// The host this image is attached to. In a program that plugins are linked into it is that of the
/// plugin which was attached last, and null as long as there is none.
static HOST: AtomicPtr<HostTable> = AtomicPtr::new(std::ptr::null_mut());

/// The host, once attached.
pub(crate) fn host() -> Option<&'static HostTable> {
    let host = HOST.load(Ordering::Acquire);
    // SAFETY: only attaching stores here, and what it stores is a `&'static HostTable`.
    unsafe { host.as_ref() }
}
