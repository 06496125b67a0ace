//! The code of a loaded image besides the author's: the functions that the engine calls, and the hooks below
//! the image's own copy of `std`.

mod alloc;
mod attach;
#[doc(hidden)]
pub mod hooks;
mod linked;
mod log;
mod log_crate;
mod panics;

pub use alloc::HostAllocator;
pub use attach::{Instance, attach};
pub use linked::{Inside, StaticPlugin, attach_linked};
pub(crate) use linked::{current_host, inside};
pub use panics::end_panic;
pub(crate) use panics::{catch, catch_in_call};

use std::sync::atomic::{AtomicPtr, Ordering};

use crate::abi::{Answer, HostTable, PanicReport};

/// The section of an artifact that contains only the address of its host.
pub const HOST_SECTION: &str = ".hotswap_host";

/// The host of this image. In a program with linked plugins, it is the host of the plugin that was attached
/// last. Null if there is none.
///
/// The engine writes the address into its copy of the artifact before it opens the copy. Constructors run
/// before the engine can attach, and need the host to allocate, to register destructors and to start threads.
// The attribute accepts only a literal.
#[cfg_attr(target_os = "linux", unsafe(link_section = ".hotswap_host"))]
static HOST: AtomicPtr<HostTable> = AtomicPtr::new(std::ptr::null_mut());

/// The host; `None` if no engine has opened this image or attached a plugin of this program.
pub(crate) fn host() -> Option<&'static HostTable> {
    let host = HOST.load(Ordering::Acquire);
    // SAFETY: only the engine and attaching store here, and both store a `&'static HostTable`.
    unsafe { host.as_ref() }
}

/// The host of this image; `None` in a program, even if plugins are linked into it.
pub(crate) fn image_host() -> Option<&'static HostTable> {
    host().filter(|_| !linked::is_program())
}

/// Works like [`catch`], for methods of objects that the image has given out: a panic is counted for the
/// plugin's version.
///
/// An object of a linked plugin does not know which plugin it belongs to, so its panics are not counted.
pub(crate) fn catch_in_object<T>(
    method: impl FnOnce() -> String,
    f: impl FnOnce() -> Answer<T>,
) -> Answer<T> {
    let answer = catch(f);
    if let (Answer::Panic(report), Some(host)) = (&answer, image_host()) {
        // SAFETY: the context is the host's own.
        unsafe { (host.object_panicked)(host.context, &method(), report) };
    }
    answer
}

/// Logs a panic to the host's log that was caught where it cannot be returned to a caller.
pub(crate) fn log_panic(what: &str, PanicReport { message, location }: &PanicReport) {
    if let Some(host) = current_host() {
        log::error(host, format!("{what} panicked at {location}: {message}"), None);
    }
}
