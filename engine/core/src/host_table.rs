//! What an image may ask of its host.

use std::{
    alloc::{self, Layout},
    env,
    ffi::{CStr, CString, OsStr, OsString, c_char, c_int, c_void},
    mem::{ManuallyDrop, zeroed},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    ptr,
    sync::Arc,
    time::Duration,
};

use hotswap_plugin::{
    __private::{RawFuture, end_panic},
    Error,
    abi::{HostContext, HostTable, LoaderTable, LogEvent, Outcome, ThreadDestructor, ThreadStart},
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
        get_variable,
        set_variable,
        put_variable,
        clear_variables,
        signal_action,
        signal_handler,
        loader: LOADER,
        library_opened,
        symbol_found,
        pointer_given,
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
    unsafe { version(context) }.create_key(dtor).map_or(-1, i64::from)
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

unsafe extern "C" fn get_variable(context: HostContext, name: *const c_char) -> *mut c_char {
    // SAFETY: as POSIX says, it is a text; the image passes its own context.
    let (name, version) = unsafe { (os_text(name), version(context)) };
    let value = end_panic(|| env::var_os(name)).ok().flatten();
    // What the environment has holds no zero.
    let value = value.and_then(|value| CString::new(value.into_vec()).ok());
    value.map_or(ptr::null_mut(), |value| version.outside.keep_variable(value).cast_mut())
}

unsafe extern "C" fn set_variable(
    name: *const c_char,
    value: *const c_char,
    replace: c_int,
) -> c_int {
    if name.is_null() {
        return invalid();
    }
    // SAFETY: as POSIX says, both are texts, the second one perhaps null.
    let (name, value) = unsafe { (os_text(name), (!value.is_null()).then(|| os_text(value))) };
    change_variable(name, value, replace != 0)
}

unsafe extern "C" fn put_variable(text: *const c_char) -> c_int {
    // SAFETY: as POSIX says, it is a text.
    let text = unsafe { os_text(text) }.as_bytes();
    match text.iter().position(|byte| *byte == b'=') {
        Some(at) => {
            let (name, value) = (&text[..at], &text[at + 1..]);
            change_variable(OsStr::from_bytes(name), Some(OsStr::from_bytes(value)), true)
        }
        // So does glibc.
        None => change_variable(OsStr::from_bytes(text), None, true),
    }
}

unsafe extern "C" fn clear_variables() -> c_int {
    let names: Vec<OsString> = env::vars_os().map(|(name, _)| name).collect();
    let codes = names.iter().map(|name| change_variable(name, None, true));
    codes.min().unwrap_or(0)
}

/// Sets or removes a variable under the lock of the host's `std`; as libc does, zero is success.
fn change_variable(name: &OsStr, value: Option<&OsStr>, replace: bool) -> c_int {
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        return invalid();
    }
    let change = || match value {
        // SAFETY: `std` has a lock, and this is the host's; whoever goes past it has promised that
        // nobody else does so meanwhile.
        None => unsafe { env::remove_var(name) },
        // SAFETY: as above.
        Some(value) if replace || env::var_os(name).is_none() => unsafe {
            env::set_var(name, value)
        },
        Some(_) => {}
    };
    // `std` panics where memory is short.
    if end_panic(change).is_ok() { 0 } else { -1 }
}

/// What libc answers to what cannot be the name of a variable.
fn invalid() -> c_int {
    // SAFETY: the place is this thread's own.
    unsafe { *libc::__errno_location() = libc::EINVAL };
    -1
}

/// A text of C.
///
/// # Safety
/// It ends with a zero, and is there for as long as `'a`.
unsafe fn os_text<'a>(text: *const c_char) -> &'a OsStr {
    // SAFETY: the caller's promise.
    OsStr::from_bytes(unsafe { CStr::from_ptr(text) }.to_bytes())
}

unsafe extern "C" fn signal_action(
    context: HostContext,
    signal: c_int,
    action: *const c_void,
    old: *mut c_void,
) -> c_int {
    // SAFETY: the image passes its own context, and what POSIX asks for.
    unsafe { version(context).outside.set_signal(signal, action.cast(), old.cast()) }
}

unsafe extern "C" fn signal_handler(context: HostContext, signal: c_int, handler: usize) -> usize {
    // SAFETY: zeros are an action; the image passes its own context, and what POSIX asks for.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART;
        let mut old: libc::sigaction = zeroed();
        match version(context).outside.set_signal(signal, &raw const action, &raw mut old) {
            0 => old.sa_sigaction,
            _ => libc::SIG_ERR,
        }
    }
}

/// Where the host runs, an image's calls go to libc.
const LOADER: LoaderTable = LoaderTable {
    open: libc::dlopen,
    open_in: libc::dlmopen,
    find: libc::dlsym,
    find_version: libc::dlvsym,
};

unsafe extern "C" fn library_opened(context: HostContext, file: *const c_char) -> bool {
    // SAFETY: the image passes its own context, and a text.
    unsafe { version(context).outside.library_opened(CStr::from_ptr(file)) }
}

unsafe extern "C" fn symbol_found(
    context: HostContext,
    name: *const c_char,
    address: *const c_void,
) -> bool {
    // SAFETY: zeros are such a record, which the call fills where it finds something.
    let file = unsafe {
        let mut found: libc::Dl_info = zeroed();
        let is_found = libc::dladdr(address, &raw mut found) != 0 && !found.dli_fname.is_null();
        is_found.then(|| CStr::from_ptr(found.dli_fname))
    };
    // SAFETY: the image passes its own context, and a text.
    unsafe { version(context).outside.symbol_found(CStr::from_ptr(name), file) }
}

unsafe extern "C" fn pointer_given(
    context: HostContext,
    function: &str,
    pointer: *const c_void,
) -> bool {
    // SAFETY: the image passes its own context.
    unsafe { version(context) }.outside.pointer_given(function, pointer)
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
    let panicked = |panic| Err(Error::msg(format_args!("the host's runtime panicked: {panic}")));
    Outcome::from_result(end_panic(f).unwrap_or_else(panicked))
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
    let _ = end_panic(|| log::emit(&version, event));
}
