//! The functions of the host that an image may call.

use std::{
    alloc::{self, Layout},
    env,
    ffi::{CStr, CString, OsStr, OsString, c_char, c_int, c_long, c_void},
    mem::{ManuallyDrop, zeroed},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    ptr,
    sync::Arc,
    time::Duration,
};

use hotswap_plugin::{
    __private::{Lease as RawLease, RawFuture, RawObject, digest_seed, end_panic},
    Error, Result,
    abi::{
        Answer, AtFork, HostContext, HostTable, ImageCallback, LoaderTable, LogEvent, PanicReport,
        ThreadDestructor, ThreadStart, TiedWaker, WakeTarget,
    },
};

use super::{Outside, heap::HeapUse};
use crate::slots::{self, Entered};

/// The services for an image that concern threads; see [`HostServices`].
pub(crate) trait ThreadServices {
    /// Keeps a destructor that this thread runs later. Returns whether it could.
    fn at_thread_exit(self: &Arc<Self>, dtor: ThreadDestructor, object: *mut c_void) -> bool;

    /// Makes a key for a value per thread; `None` if there are too many keys.
    fn create_key(&self, dtor: Option<ThreadDestructor>) -> Option<u32>;

    /// Forgets a key. Returns whether it existed.
    fn delete_key(&self, key: u32) -> bool;

    /// Sets this thread's value of a key. Returns whether the key exists.
    fn set_key(self: &Arc<Self>, key: u32, value: *mut c_void) -> bool;

    /// This thread's value of a key; null if there is none.
    fn key_value(self: &Arc<Self>, key: u32) -> *mut c_void;

    /// # Safety
    /// The pointers are valid arguments of `pthread_create`.
    unsafe fn start_thread(
        self: &Arc<Self>,
        native: *mut c_void,
        attributes: *const c_void,
        start: ThreadStart,
        argument: *mut c_void,
    ) -> c_int;
}

/// The services for an image. The implementor outlives the image.
pub(crate) trait HostServices: ThreadServices + Send + Sync + Sized + 'static {
    /// What the image has given to code outside it.
    fn outside(&self) -> &Arc<Outside>;

    /// The counter of its memory; `None` if memory is not counted.
    fn heap(&self) -> Option<&'static HeapUse>;

    /// Shows consoles that the image is being opened, until the result is dropped.
    fn note_opening(&self) -> Option<Entered>;

    /// Shows consoles that this thread is about to end the process.
    fn note_exit(&self);

    /// Starts a task on the host's runtime.
    fn spawn(self: &Arc<Self>, name: &str, task: RawFuture) -> Result<()>;

    /// A future that ends after `duration`.
    fn sleep(self: &Arc<Self>, duration: Duration) -> Result<RawFuture>;

    /// Takes ownership of an object that the image has just made, and lends it.
    fn lend(self: &Arc<Self>, object: RawObject, interface: &str) -> Result<RawLease>;

    /// Makes a waker for others that wakes code of the image.
    fn tie_waker(self: &Arc<Self>, target: WakeTarget) -> TiedWaker;

    /// Counts a panic in a method of an object that the image has given out.
    fn object_panicked(&self, method: &str, report: &PanicReport);

    /// The most verbose level that the host's log takes: 0 none, 1 error … 5 trace.
    fn max_log_level() -> u8;

    /// Writes an event to the host's log.
    fn log(&self, event: LogEvent);
}

/// The table for one image. Its context is a reference to the services.
pub(super) fn host_table<H: HostServices>(owner: &Arc<H>) -> HostTable {
    HostTable {
        context: Arc::as_ptr(owner).cast(),
        alloc: alloc_memory::<H>,
        alloc_zeroed: alloc_zeroed_memory::<H>,
        realloc: realloc_memory,
        dealloc: dealloc_memory,
        thread_at_exit: thread_at_exit::<H>,
        at_exit: __cxa_atexit,
        at_fork: __register_atfork,
        key_create: key_create::<H>,
        key_delete: key_delete::<H>,
        key_set: key_set::<H>,
        key_get: key_get::<H>,
        thread_create: thread_create::<H>,
        get_variable: get_variable::<H>,
        set_variable,
        put_variable,
        clear_variables,
        signal_action: signal_action::<H>,
        signal_handler: signal_handler::<H>,
        loader: LOADER,
        each_patch: each_patch::<H>,
        library_opened: library_opened::<H>,
        symbol_found: symbol_found::<H>,
        pointer_given: pointer_given::<H>,
        system_call: system_call::<H>,
        descriptor_opened: descriptor_opened::<H>,
        map: map::<H>,
        unmap: unmap::<H>,
        remap: remap::<H>,
        spawn: spawn::<H>,
        lend: lend::<H>,
        tie_waker: tie_waker::<H>,
        object_panicked: object_panicked::<H>,
        is_in_call,
        ends_process: ends_process::<H>,
        sleep: sleep::<H>,
        max_log_level: max_log_level::<H>,
        log: log_event::<H>,
        digest_seed: digest_seed(),
    }
}

/// The services to which a context refers, without taking ownership.
///
/// # Safety
/// The context belongs to a table for an `H` that is alive. It is alive while code in its image runs: the
/// engine keeps every version whose image is open.
unsafe fn owner<H>(context: HostContext) -> ManuallyDrop<Arc<H>> {
    // SAFETY: `host_table` took the pointer from an `Arc`; not dropping it leaves the count alone.
    ManuallyDrop::new(unsafe { Arc::from_raw(context.cast()) })
}

unsafe extern "C" fn alloc_memory<H: HostServices>(
    context: HostContext,
    size: usize,
    align: usize,
) -> *mut u8 {
    // SAFETY: the image passes its own context, and what a `Layout` of its own says.
    unsafe {
        allocate::<H>(context, || alloc::alloc(Layout::from_size_align_unchecked(size, align)))
    }
}

unsafe extern "C" fn alloc_zeroed_memory<H: HostServices>(
    context: HostContext,
    size: usize,
    align: usize,
) -> *mut u8 {
    // SAFETY: as above.
    let allocate_zeroed =
        || unsafe { alloc::alloc_zeroed(Layout::from_size_align_unchecked(size, align)) };
    // SAFETY: as above.
    unsafe { allocate::<H>(context, allocate_zeroed) }
}

/// Allocates for the version that a context names.
///
/// # Safety
/// As for [`owner`].
unsafe fn allocate<H: HostServices>(
    context: HostContext,
    allocate: impl FnOnce() -> *mut u8,
) -> *mut u8 {
    // SAFETY: the caller's promise.
    match unsafe { owner::<H>(context) }.heap() {
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

unsafe extern "C" {
    fn __cxa_atexit(
        function: ThreadDestructor,
        argument: *mut c_void,
        library: *const c_void,
    ) -> c_int;
    fn __register_atfork(
        before: Option<AtFork>,
        in_parent: Option<AtFork>,
        in_child: Option<AtFork>,
        library: *const c_void,
    ) -> c_int;
}

unsafe extern "C" fn thread_at_exit<H: HostServices>(
    context: HostContext,
    dtor: ThreadDestructor,
    object: *mut c_void,
) -> c_int {
    // SAFETY: the image passes its own context.
    let kept = unsafe { owner::<H>(context) }.at_thread_exit(dtor, object);
    if kept { 0 } else { libc::EAGAIN }
}

unsafe extern "C" fn key_create<H: HostServices>(
    context: HostContext,
    dtor: Option<ThreadDestructor>,
) -> i64 {
    // SAFETY: the image passes its own context.
    unsafe { owner::<H>(context) }.create_key(dtor).map_or(-1, i64::from)
}

unsafe extern "C" fn key_delete<H: HostServices>(context: HostContext, key: u32) -> c_int {
    // SAFETY: the image passes its own context.
    let known = unsafe { owner::<H>(context) }.delete_key(key);
    if known { 0 } else { libc::EINVAL }
}

unsafe extern "C" fn key_set<H: HostServices>(
    context: HostContext,
    key: u32,
    value: *const c_void,
) -> c_int {
    // SAFETY: the image passes its own context.
    let known = unsafe { owner::<H>(context) }.set_key(key, value.cast_mut());
    if known { 0 } else { libc::EINVAL }
}

unsafe extern "C" fn key_get<H: HostServices>(context: HostContext, key: u32) -> *mut c_void {
    // SAFETY: the image passes its own context.
    unsafe { owner::<H>(context) }.key_value(key)
}

unsafe extern "C" fn thread_create<H: HostServices>(
    context: HostContext,
    native: *mut c_void,
    attributes: *const c_void,
    start: ThreadStart,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the image passes its own context, and what POSIX asks for.
    unsafe { owner::<H>(context).start_thread(native, attributes, start, argument) }
}

unsafe extern "C" fn get_variable<H: HostServices>(
    context: HostContext,
    name: *const c_char,
) -> *mut c_char {
    // SAFETY: as POSIX says, it is a text; the image passes its own context.
    let (name, owner) = unsafe { (os_text(name), owner::<H>(context)) };
    let value = end_panic(|| env::var_os(name)).ok().flatten();
    // A value in the environment contains no zero.
    let value = value.and_then(|value| CString::new(value.into_vec()).ok());
    value.map_or(ptr::null_mut(), |value| owner.outside().keep_variable(value).cast_mut())
}

unsafe extern "C" fn set_variable(
    name: *const c_char,
    value: *const c_char,
    replace: c_int,
) -> c_int {
    if name.is_null() {
        return invalid();
    }
    // SAFETY: as POSIX says, both are texts; the second one may be null.
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
        // glibc also removes the variable here.
        None => change_variable(OsStr::from_bytes(text), None, true),
    }
}

unsafe extern "C" fn clear_variables() -> c_int {
    let names: Vec<OsString> = env::vars_os().map(|(name, _)| name).collect();
    let codes = names.iter().map(|name| change_variable(name, None, true));
    codes.min().unwrap_or(0)
}

/// Sets or removes a variable under the lock of the host's `std`. Returns zero on success, as libc does.
fn change_variable(name: &OsStr, value: Option<&OsStr>, replace: bool) -> c_int {
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        return invalid();
    }
    let change = || match value {
        // SAFETY: `std` has a lock, and this is the `std` of the host. Code that bypasses the lock has
        // promised that nothing else uses the environment meanwhile.
        None => unsafe { env::remove_var(name) },
        // SAFETY: as above.
        Some(value) if replace || env::var_os(name).is_none() => unsafe {
            env::set_var(name, value)
        },
        Some(_) => {}
    };
    // `std` panics if it is out of memory.
    if end_panic(change).is_ok() { 0 } else { -1 }
}

/// The result of libc for a text that cannot be the name of a variable.
fn invalid() -> c_int {
    // SAFETY: the place is this thread's own.
    unsafe { *libc::__errno_location() = libc::EINVAL };
    -1
}

/// A C string.
///
/// # Safety
/// It ends with a zero, and is valid for as long as `'a`.
unsafe fn os_text<'a>(text: *const c_char) -> &'a OsStr {
    // SAFETY: the caller's promise.
    OsStr::from_bytes(unsafe { CStr::from_ptr(text) }.to_bytes())
}

unsafe extern "C" fn signal_action<H: HostServices>(
    context: HostContext,
    signal: c_int,
    action: *const c_void,
    old: *mut c_void,
) -> c_int {
    // SAFETY: the image passes its own context, and what POSIX asks for.
    unsafe {
        let owner = owner::<H>(context);
        let code = owner.outside().set_signal(signal, action.cast(), old.cast());
        log_signal(&**owner);
        code
    }
}

/// Logs which signal the image has begun to handle.
fn log_signal<H: HostServices>(owner: &H) {
    let Some(signal) = owner.outside().take_newly_handled() else { return };
    owner.log(LogEvent {
        level: 2,
        target: env!("CARGO_CRATE_NAME").to_owned(),
        message: format!(
            "the plugin handles {signal} in place of the host until it ends; it is better to leave \
             signals to the host"
        ),
        file: None,
        line: None,
        fields: Vec::new(),
    });
}

unsafe extern "C" fn signal_handler<H: HostServices>(
    context: HostContext,
    signal: c_int,
    handler: usize,
) -> usize {
    // SAFETY: zeros are a valid action; the image passes its own context, and valid arguments.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART;
        let mut old: libc::sigaction = zeroed();
        let owner = owner::<H>(context);
        let code = owner.outside().set_signal(signal, &raw const action, &raw mut old);
        log_signal(&**owner);
        match code {
            0 => old.sa_sigaction,
            _ => libc::SIG_ERR,
        }
    }
}

/// The functions of libc itself: the host's own calls do not go through hooks.
const LOADER: LoaderTable = LoaderTable {
    open: libc::dlopen,
    open_in: libc::dlmopen,
    find: libc::dlsym,
    find_version: libc::dlvsym,
};

unsafe extern "C" fn library_opened<H: HostServices>(
    context: HostContext,
    file: *const c_char,
) -> bool {
    // SAFETY: the image passes its own context, and a text.
    unsafe { owner::<H>(context).outside().library_opened(CStr::from_ptr(file)) }
}

unsafe extern "C" fn symbol_found<H: HostServices>(
    context: HostContext,
    name: *const c_char,
    address: *const c_void,
) -> bool {
    // SAFETY: zeros are a valid record, which the call fills if it finds something.
    let file = unsafe {
        let mut found: libc::Dl_info = zeroed();
        let is_found = libc::dladdr(address, &raw mut found) != 0 && !found.dli_fname.is_null();
        is_found.then(|| CStr::from_ptr(found.dli_fname))
    };
    // SAFETY: the image passes its own context, and a text.
    unsafe { owner::<H>(context).outside().symbol_found(CStr::from_ptr(name), file) }
}

unsafe extern "C" fn pointer_given<H: HostServices>(
    context: HostContext,
    function: &str,
    pointer: *const c_void,
) -> bool {
    // SAFETY: the image passes its own context.
    unsafe { owner::<H>(context) }.outside().pointer_given(function, pointer)
}

unsafe extern "C" fn each_patch<H: HostServices>(
    context: HostContext,
    callback: ImageCallback,
    data: *mut c_void,
) -> c_int {
    // SAFETY: the image passes its own context.
    let owner = unsafe { owner::<H>(context) };
    owner.outside().each_patch(|patch| {
        // SAFETY: this is what the callback takes; the caller's promise is passed on.
        unsafe { callback(ptr::from_ref(patch).cast(), size_of_val(patch), data) }
    })
}

unsafe extern "C" fn system_call<H: HostServices>(
    context: HostContext,
    number: c_long,
    arguments: [c_long; 6],
) -> c_long {
    // SAFETY: the image passes its own context, and its caller's promise on.
    unsafe { owner::<H>(context).outside().system_call(number, arguments) }
}

unsafe extern "C" fn descriptor_opened<H: HostServices>(context: HostContext, descriptor: c_int) {
    // SAFETY: the image passes its own context.
    unsafe { owner::<H>(context) }.outside().descriptor_opened(descriptor);
}

unsafe extern "C" fn map<H: HostServices>(
    context: HostContext,
    address: *mut c_void,
    size: usize,
    protection: c_int,
    flags: c_int,
    descriptor: c_int,
    offset: i64,
) -> *mut c_void {
    // SAFETY: the image passes its own context, and its caller's promise on.
    unsafe {
        let owner = owner::<H>(context);
        owner.outside().map(address, size, (protection, flags), descriptor, offset)
    }
}

unsafe extern "C" fn unmap<H: HostServices>(
    context: HostContext,
    address: *mut c_void,
    size: usize,
) -> c_int {
    // SAFETY: the image passes its own context, and its caller's promise on.
    unsafe { owner::<H>(context).outside().unmap(address, size) }
}

unsafe extern "C" fn remap<H: HostServices>(
    context: HostContext,
    address: *mut c_void,
    size: usize,
    new_size: usize,
    flags: c_int,
    new_address: *mut c_void,
) -> *mut c_void {
    // SAFETY: the image passes its own context, and its caller's promise on.
    unsafe {
        let owner = owner::<H>(context);
        owner.outside().remap((address, size), new_size, flags, new_address)
    }
}

unsafe extern "C" fn spawn<H: HostServices>(
    context: HostContext,
    name: &str,
    task: RawFuture,
) -> Answer<()> {
    // SAFETY: the image passes its own context.
    let owner = unsafe { owner::<H>(context) };
    guard(|| owner.spawn(name, task))
}

unsafe extern "C" fn sleep<H: HostServices>(
    context: HostContext,
    duration: Duration,
) -> Answer<RawFuture> {
    // SAFETY: the image passes its own context.
    let owner = unsafe { owner::<H>(context) };
    guard(|| owner.sleep(duration))
}

unsafe extern "C" fn ends_process<H: HostServices>(context: HostContext) {
    // SAFETY: the image passes its own context.
    let owner = unsafe { owner::<H>(context) };
    // The process also ends without the note.
    let _ = end_panic(|| owner.note_exit());
}

unsafe extern "C" fn object_panicked<H: HostServices>(
    context: HostContext,
    method: &str,
    report: &PanicReport,
) {
    // SAFETY: the image passes its own context.
    let owner = unsafe { owner::<H>(context) };
    // If it cannot be counted, there is nobody to report this to.
    let _ = end_panic(|| owner.object_panicked(method, report));
}

unsafe extern "C" fn lend<H: HostServices>(
    context: HostContext,
    object: RawObject,
    interface: &str,
) -> Answer<RawLease> {
    // SAFETY: the image passes its own context.
    let owner = unsafe { owner::<H>(context) };
    guard(|| owner.lend(object, interface))
}

unsafe extern "C" fn tie_waker<H: HostServices>(
    context: HostContext,
    target: WakeTarget,
) -> TiedWaker {
    // SAFETY: the image passes its own context.
    unsafe { owner::<H>(context) }.tie_waker(target)
}

/// Runs code of the host. Its panic must not reach the image.
fn guard<T>(f: impl FnOnce() -> Result<T>) -> Answer<T> {
    let panicked = |panic| Err(Error::msg(format_args!("the host's runtime panicked: {panic}")));
    Answer::from_result(end_panic(f).unwrap_or_else(panicked))
}

unsafe extern "C" fn is_in_call() -> bool {
    slots::is_in_call()
}

unsafe extern "C" fn max_log_level<H: HostServices>() -> u8 {
    H::max_log_level()
}

unsafe extern "C" fn log_event<H: HostServices>(context: HostContext, event: LogEvent) {
    // SAFETY: the image passes its own context.
    let owner = unsafe { owner::<H>(context) };
    // The host's subscriber is code of the host's author, and its panic must not reach the image.
    let _ = end_panic(|| owner.log(event));
}
