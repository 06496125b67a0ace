//! Definitions of the C library's thread-local machinery for this image alone.
//!
//! `#[plugin]` emits hidden symbols that jump here, so that the image's private `std`, and C code
//! linked into it, register thread-local destructors, keys and threads with the engine instead of
//! with libc. Libc would pin the image for good (`__cxa_thread_atexit_impl`), or call into it after
//! it was unmapped (`pthread_key_create`). Nothing outside the image is touched.

use std::ffi::{c_int, c_void};

use super::host;
use crate::abi::{ThreadDestructor, ThreadStart};

/// `EAGAIN` on Linux: the one error that all of these may report.
const EAGAIN: c_int = 11;

/// `__cxa_thread_atexit_impl`
///
/// # Safety
/// As the C++ ABI says: `dtor(object)` may be called on this thread.
pub unsafe extern "C" fn thread_at_exit(
    dtor: ThreadDestructor,
    object: *mut c_void,
    _dso: *mut c_void,
) -> c_int {
    let Some(host) = host() else { return EAGAIN };
    // SAFETY: the caller's promise is passed on; the context is the host's own.
    unsafe { (host.thread_at_exit)(host.context, dtor, object) }
}

/// `pthread_key_create`
///
/// # Safety
/// `key` is valid for a write.
pub unsafe extern "C" fn key_create(key: *mut u32, dtor: Option<ThreadDestructor>) -> c_int {
    let Some(host) = host() else { return EAGAIN };
    // SAFETY: the context is the host's own.
    let made = unsafe { (host.key_create)(host.context, dtor) };
    match u32::try_from(made) {
        Ok(made) => {
            // SAFETY: the caller's promise.
            unsafe { key.write(made) };
            0
        }
        Err(_) => EAGAIN,
    }
}

/// `pthread_key_delete`
///
/// # Safety
/// None beyond what POSIX asks.
pub unsafe extern "C" fn key_delete(key: u32) -> c_int {
    let Some(host) = host() else { return EAGAIN };
    // SAFETY: the context is the host's own.
    unsafe { (host.key_delete)(host.context, key) }
}

/// `pthread_setspecific`
///
/// # Safety
/// The key's destructor may be called with `value` on this thread.
pub unsafe extern "C" fn key_set(key: u32, value: *const c_void) -> c_int {
    let Some(host) = host() else { return EAGAIN };
    // SAFETY: the caller's promise is passed on; the context is the host's own.
    unsafe { (host.key_set)(host.context, key, value) }
}

/// `pthread_getspecific`
///
/// # Safety
/// None beyond what POSIX asks.
pub unsafe extern "C" fn key_get(key: u32) -> *mut c_void {
    let Some(host) = host() else { return std::ptr::null_mut() };
    // SAFETY: the context is the host's own.
    unsafe { (host.key_get)(host.context, key) }
}

/// `pthread_create`
///
/// # Safety
/// As POSIX says of its arguments.
pub unsafe extern "C" fn thread_create(
    native: *mut c_void,
    attributes: *const c_void,
    start: ThreadStart,
    argument: *mut c_void,
) -> c_int {
    let Some(host) = host() else { return EAGAIN };
    // SAFETY: the caller's promise is passed on; the context is the host's own.
    unsafe { (host.thread_create)(host.context, native, attributes, start, argument) }
}

/// `setenv`
///
/// # Safety
/// As POSIX says of its arguments.
pub unsafe extern "C" fn set_variable(
    name: *const std::ffi::c_char,
    value: *const std::ffi::c_char,
    replace: c_int,
) -> c_int {
    let Some(host) = host() else { return -1 };
    // SAFETY: the caller's promise is passed on; the context is the host's own.
    unsafe { (host.set_variable)(name, value, replace) }
}

/// `unsetenv`
///
/// # Safety
/// As POSIX says of its arguments.
pub unsafe extern "C" fn unset_variable(name: *const std::ffi::c_char) -> c_int {
    let Some(host) = host() else { return -1 };
    // SAFETY: the caller's promise is passed on; the context is the host's own.
    unsafe { (host.set_variable)(name, std::ptr::null(), 1) }
}

/// `sigaction`
///
/// # Safety
/// As POSIX says of its arguments.
pub unsafe extern "C" fn signal_action(
    signal: c_int,
    action: *const c_void,
    old: *mut c_void,
) -> c_int {
    let Some(host) = host() else { return -1 };
    // SAFETY: the caller's promise is passed on; the context is the host's own.
    unsafe { (host.signal_action)(host.context, signal, action, old) }
}

/// `signal`
///
/// # Safety
/// As POSIX says of its arguments.
pub unsafe extern "C" fn signal_handler(signal: c_int, handler: usize) -> usize {
    let Some(host) = host() else { return usize::MAX };
    // SAFETY: the caller's promise is passed on; the context is the host's own.
    unsafe { (host.signal_handler)(host.context, signal, handler) }
}

/// `dl_iterate_phdr`, which tells this image's symboliser that nothing is loaded. It would keep a
/// mapping of the image's file open for good; the unwinder has its own way and needs this not.
///
/// # Safety
/// None: it does nothing.
pub unsafe extern "C" fn iterate_images(_callback: *mut c_void, _data: *mut c_void) -> c_int {
    0
}
