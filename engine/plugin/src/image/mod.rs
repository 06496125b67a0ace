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
pub use panics::end_panic;
pub(crate) use panics::{catch, catch_in_call};

use std::sync::atomic::{AtomicPtr, Ordering};

use crate::abi::{HostTable, PanicReport};

/// The section of an artifact that holds the address of its host, and nothing else.
pub const HOST_SECTION: &str = ".hotswap_host";

/// The host of this image. In a program that plugins are linked into it is that of the plugin which
/// was attached last, and null as long as there is none.
///
/// The engine writes it into its copy of the artifact before it opens that: constructors run before
/// anybody can attach, and what they allocate, register and start needs the host as well.
// The attribute takes no constant.
#[cfg_attr(target_os = "linux", unsafe(link_section = ".hotswap_host"))]
static HOST: AtomicPtr<HostTable> = AtomicPtr::new(std::ptr::null_mut());

/// The host, if the engine has opened the image, or attached a plugin that is linked into it.
pub(crate) fn host() -> Option<&'static HostTable> {
    let host = HOST.load(Ordering::Acquire);
    // SAFETY: only the engine and attaching store here, and what they store is a `&'static HostTable`.
    unsafe { host.as_ref() }
}

/// Writes a panic to the host's log that ended where nobody could be told of it.
pub(crate) fn log_panic(what: &str, PanicReport { message, location }: &PanicReport) {
    if let Some(host) = current_host() {
        log::error(host, format!("{what} panicked at {location}: {message}"));
    }
}
