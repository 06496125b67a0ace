//! Functions that replace functions of the C library, for this image only.
//!
//! `#[plugin]` emits hidden symbols that jump to these functions. So the image's own `std`, and C code linked
//! into the image, register thread-local destructors, keys and threads with the engine instead of libc. Libc
//! would keep the image mapped forever (`__cxa_thread_atexit_impl`), or call it after it was unmapped
//! (`pthread_key_create`).
//!
//! Signal handlers, and libraries and symbols that the image opens or looks up at run time, still go to libc.
//! The engine is notified, because they decide whether it may unmap the image. Changes of the environment go
//! through the host's `std`, whose lock all code in the process must use. Nothing outside the image is
//! changed.

use std::{
    ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void},
    ptr::null_mut,
};

use super::host;
use crate::abi::{AtFork, ImageCallback, ThreadDestructor, ThreadStart};

/// The symbols that an image must define itself instead of importing them from libc.
pub const NAMES: &[&str] = crate::__each_hook!(__hook_names);

/// The hook that replaces `symbol`, for code that looks the symbol up at run time; `None` if there is no
/// hook.
fn hook(symbol: &[u8]) -> Option<*mut c_void> {
    let hooks: &[(&str, *const ())] = crate::__each_hook!(__hook_table);
    let (_, hook) = hooks.iter().find(|(name, _)| name.as_bytes() == symbol)?;
    Some(hook.cast_mut().cast())
}

/// `EAGAIN` on Linux, an error that each of these functions may return.
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

/// `__cxa_atexit`, for this image. So libc calls the function when the image is unmapped, whatever library the
/// caller names.
///
/// # Safety
/// `function(argument)` may be called at the end.
pub unsafe extern "C" fn at_exit(
    function: ThreadDestructor,
    argument: *mut c_void,
    _library: *const c_void,
) -> c_int {
    let Some(host) = host() else { return -1 };
    // SAFETY: the caller's promise is passed on.
    unsafe { (host.at_exit)(function, argument, this_image()) }
}

/// `__register_atfork`, for this image. So libc forgets the functions when the image is unmapped.
///
/// # Safety
/// The functions may be called at a fork.
pub unsafe extern "C" fn at_fork(
    before: Option<AtFork>,
    in_parent: Option<AtFork>,
    in_child: Option<AtFork>,
    _library: *const c_void,
) -> c_int {
    let Some(host) = host() else { return EAGAIN };
    // SAFETY: the caller's promise is passed on.
    unsafe { (host.at_fork)(before, in_parent, in_child, this_image()) }
}

/// By what libc knows this image.
fn this_image() -> *const c_void {
    unsafe extern "C" {
        /// Each program and each library has its own.
        static __dso_handle: c_void;
    }
    &raw const __dso_handle
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

/// `exit`
///
/// # Safety
/// None beyond what C asks.
pub unsafe extern "C" fn end_process(code: c_int) -> ! {
    end_by(c"exit", code)
}

/// `_exit`, `_Exit`
///
/// # Safety
/// None beyond what C asks.
pub unsafe extern "C" fn end_process_at_once(code: c_int) -> ! {
    end_by(c"_exit", code)
}

/// `quick_exit`
///
/// # Safety
/// None beyond what C asks.
pub unsafe extern "C" fn end_process_quickly(code: c_int) -> ! {
    end_by(c"quick_exit", code)
}

/// Ends the process by a function of libc, after the host has noted whose code asked for it.
fn end_by(function: &CStr, code: c_int) -> ! {
    if let Some(host) = host() {
        // SAFETY: the context is the host's own.
        unsafe { (host.ends_process)(host.context) };
    }
    let function = libc_function(function);
    if function.is_null() {
        std::process::abort();
    }
    // SAFETY: each of these functions is of this type.
    let end: unsafe extern "C" fn(c_int) -> ! = unsafe { std::mem::transmute(function) };
    // SAFETY: any code may be passed.
    unsafe { end(code) }
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

/// Notifies the host of a library that was opened. Returns the library, or null if the image must not use it.
///
/// # Safety
/// `file` is a C string or null.
unsafe fn opened(library: *mut c_void, file: *const c_char) -> *mut c_void {
    // Without a name, it is the program itself, and nothing new is loaded.
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

/// The result of looking up a symbol: its hook, if it has one, or otherwise the address that `find` returns.
/// The host is notified of that address. Null if the image must not use it.
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

/// `dl_iterate_phdr`, reduced to this image and its patches. The image's symboliser maps the file of every image
/// that is reported, and never unmaps it; only files of the image itself are unmapped together with the image.
/// The unwinder does not need this function.
///
/// # Safety
/// As glibc says of its arguments.
pub unsafe extern "C" fn iterate_images(
    callback: Option<ImageCallback>,
    data: *mut c_void,
) -> c_int {
    let real = libc_function(c"dl_iterate_phdr");
    let Some(callback) = callback.filter(|_| !real.is_null()) else { return 0 };
    let mut own = OwnImage { callback, data };
    // SAFETY: this is the function's type, and `only_own` is called before it returns.
    let answer = unsafe {
        let real: unsafe extern "C" fn(ImageCallback, *mut c_void) -> c_int =
            std::mem::transmute(real);
        real(only_own, (&raw mut own).cast())
    };
    match host() {
        // SAFETY: the caller's promise is passed on; the context is the host's own.
        Some(host) if answer == 0 => unsafe { (host.each_patch)(host.context, callback, data) },
        _ => answer,
    }
}

/// The beginning of `dl_phdr_info`.
#[repr(C)]
struct ImageInfo {
    address: usize,
    name: *const c_char,
    headers: *const ProgramHeader,
    header_count: u16,
}

/// `Elf64_Phdr`
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical_address: u64,
    file_size: u64,
    memory_size: u64,
    alignment: u64,
}

/// The callback that is called for this image only.
struct OwnImage {
    callback: ImageCallback,
    data: *mut c_void,
}

unsafe extern "C" fn only_own(info: *const c_void, size: usize, data: *mut c_void) -> c_int {
    const LOADED: u32 = 1;
    let here = (&raw const super::HOST).addr();
    // SAFETY: the loader passes a valid record, and `iterate_images` its own.
    let (image, own) = unsafe { (&*info.cast::<ImageInfo>(), &*data.cast::<OwnImage>()) };
    // SAFETY: the record says how many headers there are.
    let headers =
        unsafe { std::slice::from_raw_parts(image.headers, usize::from(image.header_count)) };
    let has = |header: &ProgramHeader| {
        let start = image.address.wrapping_add(header.address as usize);
        header.kind == LOADED && here.wrapping_sub(start) < header.memory_size as usize
    };
    if !headers.iter().any(has) {
        return 0;
    }
    // SAFETY: the caller of `iterate_images` promises it.
    unsafe { (own.callback)(info, size, own.data) }
}

/// Makes a system call. It goes through the host, which remembers what the call leaves.
///
/// # Safety
/// As the system says of the arguments.
unsafe fn system_call(number: c_long, arguments: [c_long; 6]) -> c_long {
    let Some(host) = host() else { return -1 };
    // SAFETY: the caller's promise is passed on; the context is the host's own.
    unsafe { (host.system_call)(host.context, number, arguments) }
}

/// `syscall`, with as many arguments as a system call may have.
///
/// # Safety
/// As the system says of the arguments.
pub unsafe extern "C" fn make_system_call(
    number: c_long,
    first: c_long,
    second: c_long,
    third: c_long,
    fourth: c_long,
    fifth: c_long,
    sixth: c_long,
) -> c_long {
    if number == calls::EXIT_GROUP {
        // SAFETY: the function has no precondition.
        unsafe { end_process_at_once(first as c_int) }
    }
    // SAFETY: the caller's promise is passed on.
    unsafe { system_call(number, [first, second, third, fourth, fifth, sixth]) }
}

/// The numbers of system calls on x86-64.
#[cfg(target_arch = "x86_64")]
mod calls {
    use std::ffi::c_long;

    pub const EXIT_GROUP: c_long = 231;
    pub const OPENAT: c_long = 257;
    pub const CLOSE: c_long = 3;
    pub const SOCKET: c_long = 41;
    pub const SOCKETPAIR: c_long = 53;
    pub const ACCEPT4: c_long = 288;
    pub const RECVMSG: c_long = 47;
    pub const RECVMMSG: c_long = 299;
    pub const DUP: c_long = 32;
    pub const DUP3: c_long = 292;
    pub const FCNTL: c_long = 72;
    pub const PIPE2: c_long = 293;
    pub const EVENTFD2: c_long = 290;
    pub const EPOLL_CREATE1: c_long = 291;
    pub const MEMFD_CREATE: c_long = 319;
    pub const TIMERFD_CREATE: c_long = 283;
    pub const INOTIFY_INIT1: c_long = 294;
    pub const SIGNALFD4: c_long = 289;
    pub const FANOTIFY_INIT: c_long = 300;
    pub const OPEN_BY_HANDLE_AT: c_long = 304;
    pub const PIDFD_OPEN: c_long = 434;
    pub const PIDFD_GETFD: c_long = 438;
}

/// The numbers of system calls that most other architectures share.
#[cfg(not(target_arch = "x86_64"))]
mod calls {
    use std::ffi::c_long;

    pub const EXIT_GROUP: c_long = 94;
    pub const OPENAT: c_long = 56;
    pub const CLOSE: c_long = 57;
    pub const SOCKET: c_long = 198;
    pub const SOCKETPAIR: c_long = 199;
    pub const ACCEPT4: c_long = 242;
    pub const RECVMSG: c_long = 212;
    pub const RECVMMSG: c_long = 243;
    pub const DUP: c_long = 23;
    pub const DUP3: c_long = 24;
    pub const FCNTL: c_long = 25;
    pub const PIPE2: c_long = 59;
    pub const EVENTFD2: c_long = 19;
    pub const EPOLL_CREATE1: c_long = 20;
    pub const MEMFD_CREATE: c_long = 279;
    pub const TIMERFD_CREATE: c_long = 85;
    pub const INOTIFY_INIT1: c_long = 26;
    pub const SIGNALFD4: c_long = 74;
    pub const FANOTIFY_INIT: c_long = 262;
    pub const OPEN_BY_HANDLE_AT: c_long = 265;
    pub const PIDFD_OPEN: c_long = 434;
    pub const PIDFD_GETFD: c_long = 438;
}

/// The directory of `open`: the working directory.
const AT_FDCWD: c_int = -100;

macro_rules! as_system_calls {
    ($($(#[doc = $doc:literal])* $name:ident($($arg:ident: $type:ty),*) => $call:ident[$($value:expr),*];)*) => {
        $(
            $(#[doc = $doc])*
            ///
            /// # Safety
            /// As the system says of its arguments.
            pub unsafe extern "C" fn $name($($arg: $type),*) -> c_int {
                // SAFETY: the caller's promise is passed on.
                unsafe { system_call(calls::$call, padded([$($value as c_long),*])) as c_int }
            }
        )*
    };
}

/// The arguments of a system call that has fewer than it may have.
fn padded<const COUNT: usize>(arguments: [c_long; COUNT]) -> [c_long; 6] {
    std::array::from_fn(|at| arguments.get(at).copied().unwrap_or(0))
}

as_system_calls! {
    /// `open`
    open_file(path: *const c_char, flags: c_int, mode: c_int) =>
        OPENAT[AT_FDCWD, path, flags, mode];
    /// `openat`
    open_file_at(dir: c_int, path: *const c_char, flags: c_int, mode: c_int) =>
        OPENAT[dir, path, flags, mode];
    /// `creat`: `O_CREAT | O_WRONLY | O_TRUNC`
    create_file(path: *const c_char, mode: c_int) => OPENAT[AT_FDCWD, path, 0o1101, mode];
    /// `socket`
    open_socket(domain: c_int, kind: c_int, protocol: c_int) => SOCKET[domain, kind, protocol];
    /// `socketpair`
    open_socket_pair(domain: c_int, kind: c_int, protocol: c_int, pair: *mut c_int) =>
        SOCKETPAIR[domain, kind, protocol, pair];
    /// `accept`
    accept_client(socket: c_int, address: *mut c_void, size: *mut u32) =>
        ACCEPT4[socket, address, size, 0];
    /// `accept4`
    accept_client_with(socket: c_int, address: *mut c_void, size: *mut u32, flags: c_int) =>
        ACCEPT4[socket, address, size, flags];
    /// `close`. The host forgets the descriptor.
    close_descriptor(descriptor: c_int) => CLOSE[descriptor];
    /// `recvmsg`, which may receive descriptors
    receive_message(socket: c_int, message: *mut c_void, flags: c_int) =>
        RECVMSG[socket, message, flags];
    /// `recvmmsg`
    receive_messages(
        socket: c_int, messages: *mut c_void, count: u32, flags: c_int, timeout: *mut c_void
    ) => RECVMMSG[socket, messages, count, flags, timeout];
    /// `dup`
    duplicate(descriptor: c_int) => DUP[descriptor];
    /// `dup3`
    duplicate_to_with(descriptor: c_int, to: c_int, flags: c_int) => DUP3[descriptor, to, flags];
    /// `fcntl`
    control_descriptor(descriptor: c_int, command: c_int, argument: c_long) =>
        FCNTL[descriptor, command, argument];
    /// `pipe`
    open_pipe(pair: *mut c_int) => PIPE2[pair, 0];
    /// `pipe2`
    open_pipe_with(pair: *mut c_int, flags: c_int) => PIPE2[pair, flags];
    /// `eventfd`
    open_event_counter(first: c_int, flags: c_int) => EVENTFD2[first, flags];
    /// `epoll_create`
    open_event_queue(_size: c_int) => EPOLL_CREATE1[0];
    /// `epoll_create1`
    open_event_queue_with(flags: c_int) => EPOLL_CREATE1[flags];
    /// `memfd_create`
    create_memory_file(name: *const c_char, flags: c_int) => MEMFD_CREATE[name, flags];
    /// `timerfd_create`
    create_timer(clock: c_int, flags: c_int) => TIMERFD_CREATE[clock, flags];
    /// `inotify_init`
    watch_files() => INOTIFY_INIT1[0];
    /// `inotify_init1`
    watch_files_with(flags: c_int) => INOTIFY_INIT1[flags];
    /// `signalfd`. The system call also takes the size of the set of signals.
    receive_signals(descriptor: c_int, signals: *const c_void, flags: c_int) =>
        SIGNALFD4[descriptor, signals, 8, flags];
    /// `pidfd_open`
    open_process(process: c_int, flags: c_int) => PIDFD_OPEN[process, flags];
    /// `pidfd_getfd`
    take_descriptor(process: c_int, descriptor: c_int, flags: c_int) =>
        PIDFD_GETFD[process, descriptor, flags];
    /// `fanotify_init`
    watch_file_systems(flags: c_int, event_flags: c_int) =>
        FANOTIFY_INIT[flags, event_flags];
    /// `open_by_handle_at`
    open_by_handle(mount: c_int, handle: *const c_void, flags: c_int) =>
        OPEN_BY_HANDLE_AT[mount, handle, flags];
}

/// Notifies the host of a descriptor that a function of libc has opened. A negative number is no descriptor: the
/// function failed.
fn opened_by_libc(descriptor: c_int) {
    if let Some(host) = host().filter(|_| descriptor >= 0) {
        // SAFETY: the context is the host's own.
        unsafe { (host.descriptor_opened)(host.context, descriptor) }
    }
}

/// Functions of libc that open descriptors by themselves. The hook calls the function of libc, and then notifies
/// the host of the descriptor.
macro_rules! opening_in_libc {
    ($(
        $(#[doc = $doc:literal])* $symbol:literal
        $name:ident($($arg:ident: $type:ty),*) -> $result:ty {
            fails: $failed:expr, descriptor: $descriptor:expr
        }
    )*) => {
        $(
            $(#[doc = $doc])*
            ///
            /// # Safety
            /// As its manual says of its arguments.
            pub unsafe extern "C" fn $name($($arg: $type),*) -> $result {
                let real = libc_function($symbol);
                if real.is_null() {
                    return $failed;
                }
                // SAFETY: this is the function's type; the caller's promise is passed on.
                let result = unsafe {
                    let real: unsafe extern "C" fn($($type),*) -> $result = std::mem::transmute(real);
                    real($($arg),*)
                };
                opened_by_libc($descriptor(result));
                result
            }
        )*
    };
}

unsafe extern "C" {
    fn fileno(stream: *mut c_void) -> c_int;
    fn dirfd(directory: *mut c_void) -> c_int;
}

/// The descriptor of a stream that libc has just returned.
fn of_stream(stream: *mut c_void) -> c_int {
    // SAFETY: a stream that is not null is open.
    if stream.is_null() { -1 } else { unsafe { fileno(stream) } }
}

/// The descriptor of a directory that libc has just returned.
fn of_directory(directory: *mut c_void) -> c_int {
    // SAFETY: a directory that is not null is open.
    if directory.is_null() { -1 } else { unsafe { dirfd(directory) } }
}

/// The descriptor that libc has just returned.
fn itself(descriptor: c_int) -> c_int {
    descriptor
}

opening_in_libc! {
    /// `shm_open`
    c"shm_open" open_shared_memory(name: *const c_char, flags: c_int, mode: c_int) -> c_int {
        fails: -1, descriptor: itself
    }
    /// `mq_open`
    c"mq_open" open_message_queue(
        name: *const c_char, flags: c_int, mode: c_int, attributes: *const c_void
    ) -> c_int { fails: -1, descriptor: itself }
    /// `posix_openpt`
    c"posix_openpt" open_terminal(flags: c_int) -> c_int { fails: -1, descriptor: itself }
    /// `getpt`
    c"getpt" open_any_terminal() -> c_int { fails: -1, descriptor: itself }
    /// `mkstemp`
    c"mkstemp" make_temporary(template: *mut c_char) -> c_int { fails: -1, descriptor: itself }
    /// `mkostemp`
    c"mkostemp" make_temporary_with(template: *mut c_char, flags: c_int) -> c_int {
        fails: -1, descriptor: itself
    }
    /// `mkstemps`
    c"mkstemps" make_named_temporary(template: *mut c_char, suffix: c_int) -> c_int {
        fails: -1, descriptor: itself
    }
    /// `mkostemps`
    c"mkostemps" make_named_temporary_with(
        template: *mut c_char, suffix: c_int, flags: c_int
    ) -> c_int { fails: -1, descriptor: itself }
    /// `opendir`
    c"opendir" open_directory(path: *const c_char) -> *mut c_void {
        fails: null_mut(), descriptor: of_directory
    }
    /// `fopen`
    c"fopen" open_stream(path: *const c_char, mode: *const c_char) -> *mut c_void {
        fails: null_mut(), descriptor: of_stream
    }
    /// `freopen`
    c"freopen" reopen_stream(
        path: *const c_char, mode: *const c_char, stream: *mut c_void
    ) -> *mut c_void { fails: null_mut(), descriptor: of_stream }
    /// `tmpfile`
    c"tmpfile" open_temporary_stream() -> *mut c_void {
        fails: null_mut(), descriptor: of_stream
    }
    /// `popen`
    c"popen" open_command(command: *const c_char, mode: *const c_char) -> *mut c_void {
        fails: null_mut(), descriptor: of_stream
    }
}

/// `openpty`
///
/// # Safety
/// As its manual says of its arguments.
pub unsafe extern "C" fn open_terminal_pair(
    first: *mut c_int,
    second: *mut c_int,
    name: *mut c_char,
    settings: *const c_void,
    size: *const c_void,
) -> c_int {
    let real = libc_function(c"openpty");
    if real.is_null() {
        return -1;
    }
    type OpenPair = unsafe extern "C" fn(
        *mut c_int,
        *mut c_int,
        *mut c_char,
        *const c_void,
        *const c_void,
    ) -> c_int;
    // SAFETY: this is the function's type; the caller's promise is passed on.
    let code = unsafe {
        let real: OpenPair = std::mem::transmute(real);
        real(first, second, name, settings, size)
    };
    if code == 0 {
        // SAFETY: it succeeded, and so has written both numbers.
        for descriptor in unsafe { [first.read(), second.read()] } {
            opened_by_libc(descriptor);
        }
    }
    code
}

/// `dup2`
///
/// # Safety
/// As the system says of its arguments.
pub unsafe extern "C" fn duplicate_to(descriptor: c_int, to: c_int) -> c_int {
    /// The command that only asks whether the descriptor is open.
    const F_GETFD: c_int = 1;
    // SAFETY: the caller's promise is passed on.
    unsafe {
        if descriptor != to {
            return duplicate_to_with(descriptor, to, 0);
        }
        // `dup3` refuses two equal descriptors.
        if control_descriptor(descriptor, F_GETFD, 0) < 0 { -1 } else { to }
    }
}

/// `mmap`
///
/// # Safety
/// As POSIX says of its arguments.
pub unsafe extern "C" fn map_memory(
    address: *mut c_void,
    size: usize,
    protection: c_int,
    flags: c_int,
    descriptor: c_int,
    offset: i64,
) -> *mut c_void {
    let Some(host) = host() else { return std::ptr::without_provenance_mut(usize::MAX) };
    // SAFETY: the caller's promise is passed on; the context is the host's own.
    unsafe { (host.map)(host.context, address, size, protection, flags, descriptor, offset) }
}

/// `munmap`
///
/// # Safety
/// As POSIX says of its arguments.
pub unsafe extern "C" fn unmap_memory(address: *mut c_void, size: usize) -> c_int {
    let Some(host) = host() else { return -1 };
    // SAFETY: the caller's promise is passed on; the context is the host's own.
    unsafe { (host.unmap)(host.context, address, size) }
}

/// `mremap`, of which the last argument counts only with some flags.
///
/// # Safety
/// As Linux says of its arguments.
pub unsafe extern "C" fn remap_memory(
    address: *mut c_void,
    size: usize,
    new_size: usize,
    flags: c_int,
    new_address: *mut c_void,
) -> *mut c_void {
    let Some(host) = host() else { return std::ptr::without_provenance_mut(usize::MAX) };
    // SAFETY: the caller's promise is passed on; the context is the host's own.
    unsafe { (host.remap)(host.context, address, size, new_size, flags, new_address) }
}
