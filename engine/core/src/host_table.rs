//! What an image may ask of its host.

use std::{
    alloc::{self, Layout},
    ffi::{c_int, c_void},
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use hotswap_plugin::{
    __private::RawFuture,
    Error,
    abi::{HostContext, HostTable, LogEvent, Outcome, ThreadDestructor, ThreadStart},
};

use crate::{log, runtime, slots, version::Version};

/// The table of one version. Its context is a reference to the version, which outlives its image.
pub(crate) fn host_table(version: &Arc<Version>) -> HostTable {
    HostTable {
        context: Arc::as_ptr(version).cast(),
        alloc: alloc_memory,
        alloc_zeroed: alloc_zeroed_memory,
        realloc: realloc_memory,
        dealloc: dealloc_memory,
        thread_at_exit,
        key_create,
        key_delete,
        key_set,
        key_get,
        thread_create,
        set_variable,
        signal_action,
        signal_handler,
        spawn,
        is_in_call,
        sleep,
        max_log_level,
        log: log_event,
    }
}

/// The version that a context names, without owning it.
///
/// # Safety
/// The context is of a table whose version is alive. It is while code in its image runs: the engine
/// holds every version whose image is open.
unsafe fn version(context: HostContext) -> ManuallyDrop<Arc<Version>> {
    // SAFETY: `host_table` took the pointer from an `Arc`; not dropping it leaves the count alone.
    ManuallyDrop::new(unsafe { Arc::from_raw(context.cast()) })
}

unsafe extern "C" fn alloc_memory(context: HostContext, size: usize, align: usize) -> *mut u8 {
    // SAFETY: the image passes its own context, and what a `Layout` of its own says.
    unsafe { allocate(context, || alloc::alloc(Layout::from_size_align_unchecked(size, align))) }
}

unsafe extern "C" fn alloc_zeroed_memory(
    context: HostContext,
    size: usize,
    align: usize,
) -> *mut u8 {
    // SAFETY: as above.
    let allocate_zeroed =
        || unsafe { alloc::alloc_zeroed(Layout::from_size_align_unchecked(size, align)) };
    // SAFETY: as above.
    unsafe { allocate(context, allocate_zeroed) }
}

/// Allocates for the version that a context names.
///
/// # Safety
/// As for [`version`].
unsafe fn allocate(context: HostContext, allocate: impl FnOnce() -> *mut u8) -> *mut u8 {
    // SAFETY: the caller's promise.
    match unsafe { version(context) }.heap {
        Some(heap) => heap.allocate(allocate),
        None => allocate(),
    }
}

unsafe extern "C" fn realloc_memory(
    old: *mut u8,
    size: usize,
    align: usize,
    new_size: usize,
) -> *mut u8 {
    // SAFETY: as above; all memory of the image comes from this allocator.
    unsafe { alloc::realloc(old, Layout::from_size_align_unchecked(size, align), new_size) }
}

unsafe extern "C" fn dealloc_memory(old: *mut u8, size: usize, align: usize) {
    // SAFETY: as above.
    unsafe { alloc::dealloc(old, Layout::from_size_align_unchecked(size, align)) }
}

unsafe extern "C" fn thread_at_exit(
    context: HostContext,
    dtor: ThreadDestructor,
    object: *mut c_void,
) -> c_int {
    // SAFETY: the image passes its own context.
    let kept = unsafe { version(context) }.at_thread_exit(dtor, object);
    if kept { 0 } else { libc::EAGAIN }
}

unsafe extern "C" fn key_create(context: HostContext, dtor: Option<ThreadDestructor>) -> i64 {
    // SAFETY: the image passes its own context.
    unsafe { version(context) }.threads.create_key(dtor).map_or(-1, i64::from)
}

unsafe extern "C" fn key_delete(context: HostContext, key: u32) -> c_int {
    // SAFETY: the image passes its own context.
    let known = unsafe { version(context) }.threads.delete_key(key);
    if known { 0 } else { libc::EINVAL }
}

unsafe extern "C" fn key_set(context: HostContext, key: u32, value: *const c_void) -> c_int {
    // SAFETY: the image passes its own context.
    let known = unsafe { version(context) }.set_key(key, value.cast_mut());
    if known { 0 } else { libc::EINVAL }
}

unsafe extern "C" fn key_get(context: HostContext, key: u32) -> *mut c_void {
    // SAFETY: the image passes its own context.
    unsafe { version(context) }.key_value(key)
}

unsafe extern "C" fn thread_create(
    context: HostContext,
    native: *mut c_void,
    attributes: *const c_void,
    start: ThreadStart,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the image passes its own context, and what POSIX asks for.
    unsafe { version(context).start_thread(native, attributes, start, argument) }
}

unsafe extern "C" fn set_variable(
    name: *const std::ffi::c_char,
    value: *const std::ffi::c_char,
    replace: c_int,
) -> c_int {
    use std::{
        env,
        ffi::{CStr, OsStr},
        os::unix::ffi::OsStrExt,
    };
    let set = AssertUnwindSafe(|| {
        // SAFETY: as POSIX says, both are texts, the second one perhaps null.
        let text = |text| OsStr::from_bytes(unsafe { CStr::from_ptr(text) }.to_bytes());
        let name = text(name);
        if value.is_null() {
            // SAFETY: the host's std has a lock; whoever goes past it does so at their own risk.
            unsafe { env::remove_var(name) };
        } else if replace != 0 || env::var_os(name).is_none() {
            // SAFETY: as above.
            unsafe { env::set_var(name, text(value)) };
        }
    });
    // std panics at a name that cannot be.
    if catch_unwind(set).is_ok() { 0 } else { -1 }
}

unsafe extern "C" fn signal_action(
    context: HostContext,
    signal: c_int,
    action: *const c_void,
    old: *mut c_void,
) -> c_int {
    // SAFETY: the image passes its own context, and what POSIX asks for.
    unsafe { version(context).threads.signals.set(signal, action.cast(), old.cast()) }
}

unsafe extern "C" fn signal_handler(context: HostContext, signal: c_int, handler: usize) -> usize {
    // SAFETY: zeros are an action; the image passes its own context, and what POSIX asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART;
        let mut old: libc::sigaction = std::mem::zeroed();
        match version(context).threads.signals.set(signal, &raw const action, &raw mut old) {
            0 => old.sa_sigaction,
            _ => libc::SIG_ERR,
        }
    }
}

unsafe extern "C" fn spawn(context: HostContext, name: &str, task: RawFuture) -> Outcome<()> {
    // SAFETY: the image passes its own context.
    let version = unsafe { version(context) };
    guard(|| runtime::spawn(&version, name, task))
}

unsafe extern "C" fn sleep(context: HostContext, duration: Duration) -> Outcome<RawFuture> {
    // SAFETY: the image passes its own context.
    let version = unsafe { version(context) };
    guard(|| runtime::sleep(&version, duration))
}

/// Runs what is the host's; its panic must not reach the image.
fn guard<T>(f: impl FnOnce() -> hotswap_plugin::Result<T>) -> Outcome<T> {
    let result = catch_unwind(AssertUnwindSafe(f));
    Outcome::from_result(result.unwrap_or_else(|_| Err(Error::msg("the host's runtime panicked"))))
}

unsafe extern "C" fn is_in_call() -> bool {
    slots::is_in_call()
}

unsafe extern "C" fn max_log_level() -> u8 {
    log::max_level()
}

unsafe extern "C" fn log_event(context: HostContext, event: LogEvent) {
    // SAFETY: the image passes its own context.
    let version = unsafe { version(context) };
    // The host's subscriber is the host author's code, and its panic must not reach the image.
    let _ = catch_unwind(AssertUnwindSafe(|| log::emit(&version, event)));
}
