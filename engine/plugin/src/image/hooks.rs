//! Functions that replace those of the C library, for this image alone.
//!
//! `#[plugin]` emits hidden symbols that jump here. So the image's own `std`, and C code linked into it,
//! register thread-local destructors, keys and threads with the engine instead of libc. Libc would pin the
//! image for good (`__cxa_thread_atexit_impl`), or call it after it was unmapped (`pthread_key_create`).
//!
//! Signal handlers, and libraries and symbols that the image opens or looks up at run time, still go to
//! libc. The engine is notified, since they decide whether it may unmap the image. The environment goes
//! through the host's `std`, whose lock all must use. Nothing outside the image is changed.

use std::{
    ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void},
    ptr::null_mut,
};

use super::host;
use crate::abi::{ThreadDestructor, ThreadStart};

/// The symbols that an image defines itself, and so must not import from libc.
pub const NAMES: &[&str] = crate::__each_hook!(__hook_names);

/// The hook of a symbol, for code that looks the symbol up at run time; `None` if it has none.
fn hook(symbol: &[u8]) -> Option<*mut c_void> {
    let hooks: &[(&str, *const ())] = crate::__each_hook!(__hook_table);
    let (_, hook) = hooks.iter().find(|(name, _)| name.as_bytes() == symbol)?;
    Some(hook.cast_mut().cast())
}

/// `EAGAIN` on Linux: an error that each of these functions may return.
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
    let Some(host) = host() else { return null_mut() };
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

/// `getenv`
///
/// # Safety
/// As POSIX says of its arguments.
pub unsafe extern "C" fn get_variable(name: *const c_char) -> *mut c_char {
    let Some(host) = host() else { return null_mut() };
    // SAFETY: the caller's promise is passed on; the context is the host's own.
    unsafe { (host.get_variable)(host.context, name) }
}

/// `secure_getenv`
///
/// # Safety
/// As glibc says of its arguments.
pub unsafe extern "C" fn get_secure_variable(name: *const c_char) -> *mut c_char {
    /// The entry that says whether the process has more rights than the user who started it.
    const AT_SECURE: c_ulong = 23;
    unsafe extern "C" {
        safe fn getauxval(kind: c_ulong) -> c_ulong;
    }
    if getauxval(AT_SECURE) != 0 {
        return null_mut();
    }
    // SAFETY: the caller's promise is passed on.
    unsafe { get_variable(name) }
}

/// `setenv`
///
/// # Safety
/// As POSIX says of its arguments.
pub unsafe extern "C" fn set_variable(
    name: *const c_char,
    value: *const c_char,
    replace: c_int,
) -> c_int {
    let Some(host) = host() else { return -1 };
    // SAFETY: the caller's promise is passed on.
    unsafe { (host.set_variable)(name, value, replace) }
}

/// `unsetenv`
///
/// # Safety
/// As POSIX says of its arguments.
pub unsafe extern "C" fn unset_variable(name: *const c_char) -> c_int {
    let Some(host) = host() else { return -1 };
    // SAFETY: the caller's promise is passed on.
    unsafe { (host.set_variable)(name, std::ptr::null(), 1) }
}

/// `putenv`
///
/// # Safety
/// As POSIX says of its arguments.
pub unsafe extern "C" fn put_variable(text: *mut c_char) -> c_int {
    let Some(host) = host() else { return -1 };
    // SAFETY: the caller's promise is passed on.
    unsafe { (host.put_variable)(text) }
}

/// `clearenv`
///
/// # Safety
/// None beyond what glibc asks.
pub unsafe extern "C" fn clear_variables() -> c_int {
    let Some(host) = host() else { return -1 };
    // SAFETY: the function has no precondition.
    unsafe { (host.clear_variables)() }
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

/// `sigaltstack`, whose argument begins with the address of the stack.
///
/// # Safety
/// As POSIX says of its arguments.
pub unsafe extern "C" fn signal_stack(stack: *const *const c_void, old: *mut c_void) -> c_int {
    // SAFETY: the caller's promise.
    let at = unsafe { stack.as_ref() }.map_or(std::ptr::null(), |at| *at);
    let real = if may_give("sigaltstack", at) { libc_function(c"sigaltstack") } else { null_mut() };
    if real.is_null() {
        return -1;
    }
    // SAFETY: this is the function's type; the caller's promise is passed on.
    unsafe {
        let real: unsafe extern "C" fn(*const *const c_void, *mut c_void) -> c_int =
            std::mem::transmute(real);
        real(stack, old)
    }
}

/// `dlopen`
///
/// # Safety
/// As POSIX says of its arguments.
pub unsafe extern "C" fn open_library(file: *const c_char, flags: c_int) -> *mut c_void {
    let Some(host) = host() else { return null_mut() };
    // SAFETY: the caller's promise is passed on. The call is in the image itself, as the loader needs.
    let library = unsafe { (host.loader.open)(file, flags) };
    // SAFETY: as above; the context is the host's own.
    unsafe { opened(library, file) }
}

/// `dlmopen`
///
/// # Safety
/// As glibc says of its arguments.
pub unsafe extern "C" fn open_library_in(
    namespace: c_long,
    file: *const c_char,
    flags: c_int,
) -> *mut c_void {
    let Some(host) = host() else { return null_mut() };
    // SAFETY: as for `open_library`.
    let library = unsafe { (host.loader.open_in)(namespace, file, flags) };
    // SAFETY: as above.
    unsafe { opened(library, file) }
}

/// Notifies the host of a library that was opened. Returns the library, or null if the image must not use
/// it.
///
/// # Safety
/// `file` is a C string or null.
unsafe fn opened(library: *mut c_void, file: *const c_char) -> *mut c_void {
    // Without a name it is the program itself, which loads nothing new.
    if library.is_null() || file.is_null() {
        return library;
    }
    let Some(host) = host() else { return null_mut() };
    // SAFETY: the caller's promise is passed on; the context is the host's own.
    let may_have = unsafe { (host.library_opened)(host.context, file) };
    if may_have { library } else { null_mut() }
}

/// `dlsym`
///
/// # Safety
/// As POSIX says of its arguments.
pub unsafe extern "C" fn find_symbol(library: *mut c_void, name: *const c_char) -> *mut c_void {
    // SAFETY: the caller's promise is passed on. The call is in the image itself, as the loader needs.
    unsafe { found(name, |host| (host.loader.find)(library, name)) }
}

/// `dlvsym`
///
/// # Safety
/// As glibc says of its arguments.
pub unsafe extern "C" fn find_symbol_version(
    library: *mut c_void,
    name: *const c_char,
    version: *const c_char,
) -> *mut c_void {
    // SAFETY: as for `find_symbol`.
    unsafe { found(name, |host| (host.loader.find_version)(library, name, version)) }
}

/// The result of looking a symbol up: its hook, if it has one, or else the address that `find` returns, of
/// which the host is notified; null if the image must not use it.
///
/// # Safety
/// `name` is a C string.
unsafe fn found(
    name: *const c_char,
    find: impl FnOnce(&crate::abi::HostTable) -> *mut c_void,
) -> *mut c_void {
    let Some(host) = host() else { return null_mut() };
    // SAFETY: the caller's promise.
    if let Some(hook) = hook(unsafe { CStr::from_ptr(name) }.to_bytes()) {
        return hook;
    }
    let address = find(host);
    if address.is_null() {
        return address;
    }
    // SAFETY: the caller's promise is passed on; the context is the host's own.
    let may_have = unsafe { (host.symbol_found)(host.context, name, address) };
    if may_have { address } else { null_mut() }
}

/// `setvbuf`
///
/// # Safety
/// As C says of its arguments.
pub unsafe extern "C" fn set_buffer(
    stream: *mut c_void,
    buffer: *mut c_char,
    mode: c_int,
    size: usize,
) -> c_int {
    let real =
        if may_give("setvbuf", buffer.cast()) { libc_function(c"setvbuf") } else { null_mut() };
    if real.is_null() {
        return -1;
    }
    // SAFETY: this is the function's type; the caller's promise is passed on.
    unsafe {
        let real: unsafe extern "C" fn(*mut c_void, *mut c_char, c_int, usize) -> c_int =
            std::mem::transmute(real);
        real(stream, buffer, mode, size)
    }
}

/// `setbuf`
///
/// # Safety
/// As C says of its arguments.
pub unsafe extern "C" fn set_whole_buffer(stream: *mut c_void, buffer: *mut c_char) {
    /// `BUFSIZ` of glibc.
    const BUFFER_BYTES: usize = 8192;
    // SAFETY: the caller's promise is passed on.
    unsafe { set_sized_buffer(stream, buffer, BUFFER_BYTES) };
}

/// `setbuffer`
///
/// # Safety
/// As BSD says of its arguments.
pub unsafe extern "C" fn set_sized_buffer(stream: *mut c_void, buffer: *mut c_char, size: usize) {
    /// `_IOFBF` of glibc, and `_IONBF`.
    const FULLY: c_int = 0;
    const NOT: c_int = 2;
    let mode = if buffer.is_null() { NOT } else { FULLY };
    // SAFETY: the caller's promise is passed on.
    unsafe { set_buffer(stream, buffer, mode, size) };
}

/// Notifies the host that the image gives libc a pointer to keep; returns whether it may.
fn may_give(function: &str, pointer: *const c_void) -> bool {
    // SAFETY: the host does not dereference the pointer; the context is the host's own.
    host().is_some_and(|host| unsafe { (host.pointer_given)(host.context, function, pointer) })
}

/// The function of libc that a hook of this image replaces; null if libc has none.
fn libc_function(name: &CStr) -> *mut c_void {
    // SAFETY: the name is a C string; a null handle means all libraries of the program.
    host().map_or(null_mut(), |host| unsafe { (host.loader.find)(null_mut(), name.as_ptr()) })
}

/// `dl_iterate_phdr`. It reports to this image's symboliser that no library is loaded, since the symboliser
/// would keep the image's file mapped for good. The unwinder does not need it.
///
/// # Safety
/// None: it does nothing.
pub unsafe extern "C" fn iterate_images(_callback: *mut c_void, _data: *mut c_void) -> c_int {
    0
}
