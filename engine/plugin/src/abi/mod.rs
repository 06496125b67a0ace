//! The functions through which host and image call each other. They are internal to Hotswap and change
//! without notice; the descriptor's [`ABI_VERSION`](descriptor::ABI_VERSION) changes with them.
//!
//! Rust types appear in these signatures. That is sound for two reasons. The gate accepts an image only if
//! the same compiler built it against the same source of this crate. And both sides allocate with the host's
//! allocator, so each may free the memory of the other.

pub mod descriptor;

use std::{
    ffi::{c_char, c_int, c_long, c_void},
    fmt,
    time::Duration,
};

use crate::{
    BoundObject, Data, Error, ImportRequest, InterfaceShape, LiveTypeDescription, TypeSchema,
    Value, Vault,
    function::{Context, DescribedFunction, FunctionRef},
    future::RawFuture,
    interface::raw::{Lease, RawObject},
    vault::{
        Carried,
        raw::{CarryTable, RawValue, ValueCallback},
    },
};

/// The symbol that an image exports beside its descriptor.
pub const ATTACH_SYMBOL: &str = "hotswap_attach";

/// The type of [`ATTACH_SYMBOL`]. The function returns null if attaching panicked.
pub type Attach = unsafe extern "C" fn(&'static HostTable) -> *const PluginTable;

/// The answer of a function in another image.
#[derive(Debug, Clone)]
#[repr(C)]
pub enum Answer<T> {
    /// The function returned a value.
    Ok(T),
    /// The function returned an error.
    Err(Error),
    /// The function panicked. Its own side caught the panic.
    Panic(PanicReport),
}

impl<T> Answer<T> {
    /// Continues with the value, if there is one.
    pub fn then<U>(self, next: impl FnOnce(T) -> Answer<U>) -> Answer<U> {
        match self {
            Self::Ok(value) => next(value),
            Self::Err(error) => Answer::Err(error),
            Self::Panic(report) => Answer::Panic(report),
        }
    }

    /// Converts the value, if there is one.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Answer<U> {
        self.then(|value| Answer::Ok(make(value)))
    }

    /// Wraps the result of a function that did not panic.
    pub fn from_result(result: crate::Result<T>) -> Self {
        match result {
            Ok(value) => Self::Ok(value),
            Err(error) => Self::Err(error.explained()),
        }
    }
}

/// A panic as owned text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C)]
pub struct PanicReport {
    /// The panic's message.
    pub message: String,
    /// The place in the source: `src/lib.rs:12:5`.
    pub location: String,
}

impl fmt::Display for PanicReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at {})", self.message, self.location)
    }
}

/// A log event on its way to the host.
#[derive(Debug)]
#[repr(C)]
pub struct LogEvent {
    /// The level: 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    pub level: u8,
    /// The target, usually a module's path.
    pub target: String,
    /// The message.
    pub message: String,
    /// The source file; `None` if it is not known.
    pub file: Option<String>,
    /// The line in the source file; `None` if it is not known.
    pub line: Option<u32>,
    /// The other fields.
    pub fields: Vec<(String, Value)>,
}

/// Identifies the version that calls the host. Only the engine makes and reads it.
pub type HostContext = *const c_void;

/// The type of a destructor of a thread-local.
pub type ThreadDestructor = unsafe extern "C" fn(*mut c_void);

/// The type of a function that is called at each fork.
pub type AtFork = unsafe extern "C" fn();

/// The type of a thread's first function. `pthread_exit` unwinds out of it.
pub type ThreadStart = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

/// The type of the function that `dl_iterate_phdr` calls with each image: `info` is a `dl_phdr_info` of `size` bytes.
pub type ImageCallback =
    unsafe extern "C" fn(info: *const c_void, size: usize, data: *mut c_void) -> c_int;

/// The functions of the system's loader. An image must call them itself, since their results depend on the
/// library that calls them.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct LoaderTable {
    /// `dlopen`
    pub open: unsafe extern "C" fn(file: *const c_char, flags: c_int) -> *mut c_void,
    /// `dlmopen`
    pub open_in: unsafe extern "C" fn(
        namespace: std::ffi::c_long,
        file: *const c_char,
        flags: c_int,
    ) -> *mut c_void,
    /// `dlsym`
    pub find: unsafe extern "C" fn(library: *mut c_void, name: *const c_char) -> *mut c_void,
    /// `dlvsym`
    pub find_version: unsafe extern "C" fn(
        library: *mut c_void,
        name: *const c_char,
        version: *const c_char,
    ) -> *mut c_void,
}

/// What a waker of an image wakes: the image's own waker, through shims that catch its panics.
#[repr(C)]
pub struct WakeTarget {
    /// The first argument of both functions.
    pub data: *const (),
    /// Wakes.
    pub wake: unsafe extern "C" fn(*const ()),
    /// Gives `data` up.
    pub release: unsafe extern "C" fn(*const ()),
}

/// A waker whose functions are the host's.
#[repr(C)]
pub struct TiedWaker {
    /// The waker, of which anybody may keep clones.
    pub waker: std::task::Waker,
    /// When this is dropped, the target is released, and the waker wakes nobody any more.
    pub tie: Lease,
}

/// The functions of the host that an image calls. The table outlives the image.
#[repr(C)]
pub struct HostTable {
    /// The first argument of the functions that need it.
    pub context: HostContext,
    /// Allocates with the host's allocator, which may count the memory of each version.
    pub alloc: unsafe extern "C" fn(HostContext, size: usize, align: usize) -> *mut u8,
    /// Allocates like `alloc`, but zeroed memory.
    pub alloc_zeroed: unsafe extern "C" fn(HostContext, size: usize, align: usize) -> *mut u8,
    /// Reallocates with the host's allocator.
    pub realloc:
        unsafe extern "C" fn(old: *mut u8, size: usize, align: usize, new_size: usize) -> *mut u8,
    /// Frees with the host's allocator.
    pub dealloc: unsafe extern "C" fn(old: *mut u8, size: usize, align: usize),
    /// Registers the destructor of a thread-local of the calling thread.
    pub thread_at_exit:
        unsafe extern "C" fn(HostContext, dtor: ThreadDestructor, object: *mut c_void) -> c_int,
    /// `__cxa_atexit`
    pub at_exit: unsafe extern "C" fn(
        function: ThreadDestructor,
        argument: *mut c_void,
        library: *const c_void,
    ) -> c_int,
    /// `__register_atfork`
    pub at_fork: unsafe extern "C" fn(
        before: Option<AtFork>,
        in_parent: Option<AtFork>,
        in_child: Option<AtFork>,
        library: *const c_void,
    ) -> c_int,
    /// Creates a key for a value of each thread; returns a negative number on failure.
    pub key_create: unsafe extern "C" fn(HostContext, dtor: Option<ThreadDestructor>) -> i64,
    /// Deletes a key.
    pub key_delete: unsafe extern "C" fn(HostContext, key: u32) -> c_int,
    /// Sets the calling thread's value of a key.
    pub key_set: unsafe extern "C" fn(HostContext, key: u32, value: *const c_void) -> c_int,
    /// Returns the calling thread's value of a key.
    pub key_get: unsafe extern "C" fn(HostContext, key: u32) -> *mut c_void,
    /// Starts a thread that leases the image for its whole life.
    pub thread_create: unsafe extern "C" fn(
        HostContext,
        native: *mut c_void,
        attributes: *const c_void,
        start: ThreadStart,
        argument: *mut c_void,
    ) -> c_int,
    /// `getenv`, under the lock of the host's `std`. The text stays valid as long as the image is mapped.
    pub get_variable: unsafe extern "C" fn(HostContext, name: *const c_char) -> *mut c_char,
    /// `setenv`, or `unsetenv` if `value` is null, under the lock of the host's `std`.
    pub set_variable:
        unsafe extern "C" fn(name: *const c_char, value: *const c_char, replace: c_int) -> c_int,
    /// `putenv`, under the lock of the host's `std`. It copies the text.
    pub put_variable: unsafe extern "C" fn(text: *const c_char) -> c_int,
    /// `clearenv`, under the lock of the host's `std`.
    pub clear_variables: unsafe extern "C" fn() -> c_int,
    /// `sigaction`. The host remembers which handlers the image has set.
    pub signal_action: unsafe extern "C" fn(
        HostContext,
        signal: c_int,
        action: *const c_void,
        old: *mut c_void,
    ) -> c_int,
    /// `signal`. The host remembers which handlers the image has set.
    pub signal_handler: unsafe extern "C" fn(HostContext, signal: c_int, handler: usize) -> usize,
    /// The functions of the loader.
    pub loader: LoaderTable,
    /// Calls the callback with each patch that the image has or may get, as `dl_iterate_phdr` does with images.
    /// Code that resolves backtraces asks only once, so the list also has the patches that may come later.
    pub each_patch:
        unsafe extern "C" fn(HostContext, callback: ImageCallback, data: *mut c_void) -> c_int,
    /// Notes that the image has opened a library, or itself. Returns false if the image must not use it.
    pub library_opened: unsafe extern "C" fn(HostContext, file: *const c_char) -> bool,
    /// Notes that the image has looked up a symbol. Returns false if the image must not use it.
    pub symbol_found:
        unsafe extern "C" fn(HostContext, name: *const c_char, address: *const c_void) -> bool,
    /// Notes that the image is about to give libc a pointer to keep, by a call of `function`. Returns
    /// false if it must not.
    pub pointer_given:
        unsafe extern "C" fn(HostContext, function: &str, pointer: *const c_void) -> bool,
    /// Makes a system call, and notes what it leaves: descriptors, mapped memory, threads, signal handlers. Returns
    /// the result of `syscall`; the error is in `errno`.
    pub system_call:
        unsafe extern "C" fn(HostContext, number: c_long, arguments: [c_long; 6]) -> c_long,
    /// Notes that a function of libc has opened a descriptor for the image.
    pub descriptor_opened: unsafe extern "C" fn(HostContext, descriptor: c_int),
    /// `mmap`. When the image is gone, the host unmaps what the image mapped of its own file.
    pub map: unsafe extern "C" fn(
        HostContext,
        address: *mut c_void,
        size: usize,
        protection: c_int,
        flags: c_int,
        descriptor: c_int,
        offset: i64,
    ) -> *mut c_void,
    /// `munmap`
    pub unmap: unsafe extern "C" fn(HostContext, address: *mut c_void, size: usize) -> c_int,
    /// `mremap`
    pub remap: unsafe extern "C" fn(
        HostContext,
        address: *mut c_void,
        size: usize,
        new_size: usize,
        flags: c_int,
        new_address: *mut c_void,
    ) -> *mut c_void,
    /// Starts a task on the host's runtime.
    pub spawn: unsafe extern "C" fn(HostContext, name: &str, task: RawFuture) -> Answer<()>,
    /// Takes ownership of an object of an interface, and returns a lease of it. The object is dropped with
    /// the last lease, which keeps the image mapped until then.
    pub lend:
        unsafe extern "C" fn(HostContext, object: RawObject, interface: &str) -> Answer<Lease>,
    /// Makes a waker that wakes `target` as long as its tie exists. The waker itself may outlive the image.
    pub tie_waker: unsafe extern "C" fn(HostContext, target: WakeTarget) -> TiedWaker,
    /// Counts a panic in a method of an object that the image has given out.
    pub object_panicked: unsafe extern "C" fn(HostContext, method: &str, report: &PanicReport),
    /// Whether the calling thread is in a call of the engine, where panics are caught.
    pub is_in_call: unsafe extern "C" fn() -> bool,
    /// Notes that the calling thread is about to end the process.
    pub ends_process: unsafe extern "C" fn(HostContext),
    /// Makes a future that ends after `duration`.
    pub sleep: unsafe extern "C" fn(HostContext, duration: Duration) -> Answer<RawFuture>,
    /// The most verbose level that the host logs: 0 none, 1 error … 5 trace.
    pub max_log_level: unsafe extern "C" fn() -> u8,
    /// Writes to the host's log.
    pub log: unsafe extern "C" fn(HostContext, event: LogEvent),
    /// The seed of the digests of values. It is the same in the whole process.
    pub digest_seed: u64,
}

// SAFETY: images only pass the context on, and the functions may be called on any thread.
unsafe impl Send for HostTable {}
// SAFETY: as above.
unsafe impl Sync for HostTable {}

/// The functions of an image that the engine calls. Each catches the panics of its own side.
#[repr(C)]
pub struct PluginTable {
    /// The image's descriptor; null if the plugin is linked into the host.
    pub descriptor: *const descriptor::Descriptor,
    /// The first argument of each function.
    pub instance: *const crate::image::Instance,
    /// Makes the plugin's instance.
    pub create: unsafe extern "C" fn(*const crate::image::Instance) -> Answer<()>,
    /// Lists the functions that can be called.
    pub describe:
        unsafe extern "C" fn(*const crate::image::Instance) -> Answer<Vec<DescribedFunction>>,
    /// Describes one function, which may belong to a patch that was loaded beside the image.
    pub describe_function: unsafe extern "C" fn(
        *const crate::image::Instance,
        function: FunctionRef,
    ) -> Answer<DescribedFunction>,
    /// Lists the live types.
    pub describe_types:
        unsafe extern "C" fn(*const crate::image::Instance) -> Answer<Vec<LiveTypeDescription>>,
    /// Lists the types that have `#[derive(Shared)]` and no type parameters.
    pub describe_shared:
        unsafe extern "C" fn(*const crate::image::Instance) -> Answer<Vec<TypeSchema>>,
    /// Reads a value as the live type number `index`, and converts it back.
    pub renew: unsafe extern "C" fn(
        *const crate::image::Instance,
        index: usize,
        value: &Value,
    ) -> Answer<Value>,
    /// See [`crate::Plugin::reloadable`].
    pub reloadable: unsafe extern "C" fn(*const crate::image::Instance) -> Answer<bool>,
    /// See [`crate::Plugin::hands_over`].
    pub hands_over: unsafe extern "C" fn(*const crate::image::Instance) -> Answer<bool>,
    /// See [`crate::Plugin::hand_over`].
    pub hand_over: unsafe extern "C" fn(*const crate::image::Instance) -> Answer<()>,
    /// See [`crate::Plugin::take_back`].
    pub take_back: unsafe extern "C" fn(*const crate::image::Instance) -> Answer<()>,
    /// See [`crate::Plugin::export`].
    pub export: unsafe extern "C" fn(*const crate::image::Instance) -> Answer<Option<RawObject>>,
    /// Lists what the plugin imports: the requests of [`crate::Plugin::import`].
    pub requests: unsafe extern "C" fn(*const crate::image::Instance) -> Answer<Vec<ImportRequest>>,
    /// Hands over the objects that were found for the requests, in the order of the requests.
    pub bind: unsafe extern "C" fn(
        *const crate::image::Instance,
        objects: Vec<Option<BoundObject>>,
    ) -> Answer<()>,
    /// See [`crate::Plugin::on_load`].
    pub on_load: unsafe extern "C" fn(*const crate::image::Instance, &Data) -> Answer<()>,
    /// Keeps the Vault's handle, and makes the context of all calls. It must be called before `on_init` and
    /// before any call.
    pub prepare: unsafe extern "C" fn(*const crate::image::Instance, Vault) -> Answer<CallContext>,
    /// See [`crate::Plugin::on_init`].
    pub on_init: unsafe extern "C" fn(*const crate::image::Instance) -> Answer<()>,
    /// See [`crate::Plugin::on_free`].
    pub on_free: unsafe extern "C" fn(*const crate::image::Instance) -> Answer<()>,
    /// Calls a function that is not `async`.
    pub invoke: unsafe extern "C" fn(
        *const crate::image::Instance,
        function: FunctionRef,
        args: *const Value,
        count: usize,
    ) -> Answer<Value>,
    /// Begins a call of a function that is `async`.
    pub start: unsafe extern "C" fn(
        *const crate::image::Instance,
        function: FunctionRef,
        args: *const Value,
        count: usize,
    ) -> Answer<RawFuture>,
    /// See [`crate::Plugin::invoke_func`].
    pub invoke_func: unsafe extern "C" fn(
        *const crate::image::Instance,
        name: *const u8,
        name_len: usize,
        args: *const Value,
        count: usize,
    ) -> Answer<Value>,
    /// Drops the instance and what attaching installed. No function may be called afterwards.
    pub detach: unsafe extern "C" fn(*const crate::image::Instance) -> Answer<()>,
}

/// The first argument of each call with Rust types. It is valid until the image is detached.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct CallContext(pub *const Context<'static>);

// SAFETY: a context may be used from any thread: it refers to a `Plugin`, which is `Sync`, and to the
// `Vault`.
unsafe impl Send for CallContext {}
// SAFETY: as above.
unsafe impl Sync for CallContext {}

/// Identifies a Vault and the owner of a handle to it. Only the engine makes and reads it.
pub type VaultContext = *const c_void;

/// The functions of the engine that implement a [`Vault`]. The table lives as long as the process.
#[repr(C)]
pub struct VaultTable {
    /// Adds a reference to the context.
    pub retain: unsafe extern "C" fn(VaultContext),
    /// Removes a reference to the context.
    pub release: unsafe extern "C" fn(VaultContext),
    /// Sets the value of a key, and returns whether it did: without `replace`, an old value stays. Afterwards
    /// the engine owns the value, even if setting it failed.
    pub bag_set: unsafe extern "C" fn(
        VaultContext,
        key: &str,
        value: RawValue,
        replace: bool,
    ) -> Answer<bool>,
    /// Locks the value of a key and calls back with it; returns whether there was one.
    pub bag_with:
        unsafe extern "C" fn(VaultContext, key: &str, callback: &mut ValueCallback) -> Answer<bool>,
    /// Takes a value over from a version that is replaced.
    pub bag_carry: unsafe extern "C" fn(
        VaultContext,
        key: &str,
        table: &'static CarryTable,
    ) -> Answer<Carried>,
    /// Removes the value of a key; returns whether there was one.
    pub bag_remove: unsafe extern "C" fn(VaultContext, key: &str) -> Answer<bool>,
    /// Lists the keys, sorted.
    pub bag_keys: unsafe extern "C" fn(VaultContext) -> Answer<Vec<String>>,
    /// Calls the live function named `name`.
    pub live_call: unsafe extern "C" fn(
        VaultContext,
        name: &str,
        args: *const Value,
        count: usize,
    ) -> Answer<Value>,
    /// Converts data to the live type with its name.
    pub live_renew: unsafe extern "C" fn(VaultContext, data: &Data) -> Answer<Data>,
    /// Registers an object under a name. Afterwards the engine owns the object, even if registering it
    /// failed. With `replace`, it replaces the caller's own object of that name.
    pub register: unsafe extern "C" fn(
        VaultContext,
        name: &str,
        object: RawObject,
        replace: bool,
    ) -> Answer<()>,
    /// Ends the registration of the caller's own object of an interface; returns whether there was one.
    pub unregister: unsafe extern "C" fn(VaultContext, interface: &str, name: &str) -> Answer<bool>,
    /// Lends the object of an interface that is registered under a name.
    pub find: unsafe extern "C" fn(
        VaultContext,
        shape: &InterfaceShape,
        name: &str,
    ) -> Answer<Option<BoundObject>>,
    /// Lists the names under which objects of an interface are registered, sorted.
    pub names: unsafe extern "C" fn(VaultContext, interface: &str) -> Answer<Vec<String>>,
}
