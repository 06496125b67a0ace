//! What host and image call each other through. Private to Hotswap: it changes without notice, and
//! the descriptor's [`ABI_VERSION`](descriptor::ABI_VERSION) changes with it.
//!
//! Rust types appear in these signatures. That is sound because the gate lets an image in only
//! when the same compiler built it against the same version of this crate, and because what they
//! own is allocated by the host's allocator on both sides.

pub mod descriptor;

use std::{
    ffi::{c_char, c_int, c_void},
    time::Duration,
};

use crate::{
    BoundObject, Data, Error, FunctionDescription, ImportRequest, InterfaceShape,
    LiveTypeDescription, TypeSchema, Value, Vault,
    function::{Context, TypedCall},
    future::RawFuture,
    interface::raw::RawObject,
    vault::{
        Carried,
        raw::{CarryTable, RawValue, ValueCallback},
    },
};

/// The symbol that an image exports beside its descriptor.
pub const ATTACH_SYMBOL: &str = "hotswap_attach";

/// The type of [`ATTACH_SYMBOL`]; null means that attaching panicked.
pub type Attach = unsafe extern "C" fn(&'static HostTable) -> *const PluginTable;

/// What comes back from a call into another image.
#[derive(Debug, Clone)]
#[repr(C)]
pub enum Outcome<T> {
    /// It returned.
    Ok(T),
    /// It returned an error.
    Err(Error),
    /// It panicked; the panic ended on its own side.
    Panic(PanicReport),
}

impl<T> Outcome<T> {
    /// Goes on with the value.
    pub fn then<U>(self, next: impl FnOnce(T) -> Outcome<U>) -> Outcome<U> {
        match self {
            Self::Ok(value) => next(value),
            Self::Err(error) => Outcome::Err(error),
            Self::Panic(report) => Outcome::Panic(report),
        }
    }

    /// Makes another value of it.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Outcome<U> {
        self.then(|value| Outcome::Ok(make(value)))
    }

    /// Wraps what a function returned.
    pub fn from_result(result: crate::Result<T>) -> Self {
        match result {
            Ok(value) => Self::Ok(value),
            Err(error) => Self::Err(error),
        }
    }
}

/// A panic as owned text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C)]
pub struct PanicReport {
    /// The panic's message.
    pub message: String,
    /// `src/lib.rs:12:5`
    pub location: String,
}

/// A log event on its way to the host.
#[derive(Debug)]
#[repr(C)]
pub struct LogEvent {
    /// 1 error … 5 trace.
    pub level: u8,
    /// Its target.
    pub target: String,
    /// Its message.
    pub message: String,
    /// Source file, if known.
    pub file: Option<String>,
    /// Source line, if known.
    pub line: Option<u32>,
    /// Its other fields.
    pub fields: Vec<(String, Value)>,
}

/// Names the version that a call from an image concerns; made and read by the engine only.
pub type HostContext = *const c_void;

/// The type of a destructor that a thread runs.
pub type ThreadDestructor = unsafe extern "C" fn(*mut c_void);

/// The type of a thread's first function. `pthread_exit` unwinds out of it.
pub type ThreadStart = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

/// The functions of the system's loader, for an image to call itself: they look at who calls them.
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

/// What an image may ask of its host. It outlives the image.
#[repr(C)]
pub struct HostTable {
    /// Handed back in every call.
    pub context: HostContext,
    /// The host's allocator; the context says whose the memory is, for hosts that count that.
    pub alloc: unsafe extern "C" fn(HostContext, size: usize, align: usize) -> *mut u8,
    /// The host's allocator, zeroing.
    pub alloc_zeroed: unsafe extern "C" fn(HostContext, size: usize, align: usize) -> *mut u8,
    /// The host's allocator.
    pub realloc:
        unsafe extern "C" fn(old: *mut u8, size: usize, align: usize, new_size: usize) -> *mut u8,
    /// The host's allocator.
    pub dealloc: unsafe extern "C" fn(old: *mut u8, size: usize, align: usize),
    /// Keeps a thread-local's destructor for the calling thread.
    pub thread_at_exit:
        unsafe extern "C" fn(HostContext, dtor: ThreadDestructor, object: *mut c_void) -> c_int,
    /// Makes a key for a value per thread; negative on failure.
    pub key_create: unsafe extern "C" fn(HostContext, dtor: Option<ThreadDestructor>) -> i64,
    /// Forgets a key.
    pub key_delete: unsafe extern "C" fn(HostContext, key: u32) -> c_int,
    /// Sets the calling thread's value of a key.
    pub key_set: unsafe extern "C" fn(HostContext, key: u32, value: *const c_void) -> c_int,
    /// The calling thread's value of a key.
    pub key_get: unsafe extern "C" fn(HostContext, key: u32) -> *mut c_void,
    /// Starts a thread that leases the image for its whole life.
    pub thread_create: unsafe extern "C" fn(
        HostContext,
        native: *mut c_void,
        attributes: *const c_void,
        start: ThreadStart,
        argument: *mut c_void,
    ) -> c_int,
    /// `getenv`, under the lock of the host's `std`. The text stays as long as the image.
    pub get_variable: unsafe extern "C" fn(HostContext, name: *const c_char) -> *mut c_char,
    /// `setenv`, or `unsetenv` where there is no value, under the lock of the host's `std`.
    pub set_variable:
        unsafe extern "C" fn(name: *const c_char, value: *const c_char, replace: c_int) -> c_int,
    /// `putenv`, which copies the text; as above.
    pub put_variable: unsafe extern "C" fn(text: *const c_char) -> c_int,
    /// `clearenv`; as above.
    pub clear_variables: unsafe extern "C" fn() -> c_int,
    /// `sigaction`; the host remembers which handlers the image has set.
    pub signal_action: unsafe extern "C" fn(
        HostContext,
        signal: c_int,
        action: *const c_void,
        old: *mut c_void,
    ) -> c_int,
    /// `signal`; as above.
    pub signal_handler: unsafe extern "C" fn(HostContext, signal: c_int, handler: usize) -> usize,
    /// The functions of the loader.
    pub loader: LoaderTable,
    /// The image has opened a library, or itself; false where it may not have it.
    pub library_opened: unsafe extern "C" fn(HostContext, file: *const c_char) -> bool,
    /// The image has looked a symbol up; false where it may not have it.
    pub symbol_found:
        unsafe extern "C" fn(HostContext, name: *const c_char, address: *const c_void) -> bool,
    /// The image gives libc a pointer to keep, by calling a function of this name; false where it may
    /// not.
    pub pointer_given:
        unsafe extern "C" fn(HostContext, function: &str, pointer: *const c_void) -> bool,
    /// Starts a task on the host's runtime.
    pub spawn: unsafe extern "C" fn(HostContext, name: &str, task: RawFuture) -> Outcome<()>,
    /// Whether the calling thread is in a call that the engine makes, which catches panics.
    pub is_in_call: unsafe extern "C" fn() -> bool,
    /// A future of the host's that ends after a while.
    pub sleep: unsafe extern "C" fn(HostContext, duration: Duration) -> Outcome<RawFuture>,
    /// The least grave level that the host's log takes: 0 none, 1 error … 5 trace.
    pub max_log_level: unsafe extern "C" fn() -> u8,
    /// Writes to the host's log.
    pub log: unsafe extern "C" fn(HostContext, event: LogEvent),
}

// SAFETY: the context is only handed back, and the functions may be called on any thread.
unsafe impl Send for HostTable {}
// SAFETY: as above.
unsafe impl Sync for HostTable {}

/// What the engine may ask of an image. Every function catches the panics of its own side.
#[repr(C)]
pub struct PluginTable {
    /// The descriptor as it lies in the image; null when the plugin is linked into the host.
    pub descriptor: *const descriptor::Descriptor,
    /// Handed back in every call.
    pub instance: *const crate::image::Instance,
    /// Makes the plugin's instance.
    pub create: unsafe extern "C" fn(*const crate::image::Instance) -> Outcome<()>,
    /// Tells the functions that can be called by number.
    pub describe:
        unsafe extern "C" fn(*const crate::image::Instance) -> Outcome<Vec<FunctionDescription>>,
    /// Tells the live types.
    pub describe_types:
        unsafe extern "C" fn(*const crate::image::Instance) -> Outcome<Vec<LiveTypeDescription>>,
    /// Tells the types that may cross and have no parameters.
    pub describe_shared:
        unsafe extern "C" fn(*const crate::image::Instance) -> Outcome<Vec<TypeSchema>>,
    /// Reads a value as the live type of a number, and writes it anew.
    pub renew: unsafe extern "C" fn(
        *const crate::image::Instance,
        index: usize,
        value: &Value,
    ) -> Outcome<Value>,
    /// See [`crate::Plugin::reloadable`].
    pub reloadable: unsafe extern "C" fn(*const crate::image::Instance) -> Outcome<bool>,
    /// See [`crate::Plugin::export`].
    pub export: unsafe extern "C" fn(*const crate::image::Instance) -> Outcome<Option<RawObject>>,
    /// What [`crate::Plugin::import`] asks for.
    pub requests:
        unsafe extern "C" fn(*const crate::image::Instance) -> Outcome<Vec<ImportRequest>>,
    /// Hands over what was found for the requests, in their order.
    pub bind: unsafe extern "C" fn(
        *const crate::image::Instance,
        objects: Vec<Option<BoundObject>>,
    ) -> Outcome<()>,
    /// See [`crate::Plugin::on_load`].
    pub on_load: unsafe extern "C" fn(*const crate::image::Instance, &Data) -> Outcome<()>,
    /// Hands the Vault over, then see [`crate::Plugin::on_init`].
    pub on_init: unsafe extern "C" fn(*const crate::image::Instance, Vault) -> Outcome<()>,
    /// See [`crate::Plugin::on_free`].
    pub on_free: unsafe extern "C" fn(*const crate::image::Instance) -> Outcome<()>,
    /// Calls the function of a number that `describe` told.
    pub invoke: unsafe extern "C" fn(
        *const crate::image::Instance,
        index: usize,
        args: *const Value,
        count: usize,
    ) -> Outcome<Value>,
    /// Begins a call of the `async` function of a number.
    pub start: unsafe extern "C" fn(
        *const crate::image::Instance,
        index: usize,
        args: *const Value,
        count: usize,
    ) -> Outcome<RawFuture>,
    /// Makes what calls are handed, and tells how to call the functions with Rust types; after `on_init`,
    /// and before any call.
    pub typed_calls: unsafe extern "C" fn(*const crate::image::Instance) -> Outcome<TypedCalls>,
    /// See [`crate::Plugin::invoke_func`].
    pub invoke_func: unsafe extern "C" fn(
        *const crate::image::Instance,
        name: *const u8,
        name_len: usize,
        args: *const Value,
        count: usize,
    ) -> Outcome<Value>,
    /// Drops the instance and what attaching installed; nothing is called afterwards.
    pub detach: unsafe extern "C" fn(*const crate::image::Instance) -> Outcome<()>,
}

/// How to call the functions of an image with Rust types. It is valid until the image is detached.
#[repr(C)]
pub struct TypedCalls {
    /// Handed in to each.
    pub context: *const Context<'static>,
    /// By number; none where a type of the signature is not `Shared`.
    pub calls: Vec<Option<TypedCall>>,
}

// SAFETY: a context may be used from any thread: it refers to a `Plugin`, which is `Sync`, and to the
// `Vault`.
unsafe impl Send for TypedCalls {}

/// Names the owner and the store that a Vault's call concerns; made and read by the engine only.
pub type VaultContext = *const c_void;

/// What a [`Vault`] asks of its host. It lives as long as the process.
#[repr(C)]
pub struct VaultTable {
    /// One more owner of the context.
    pub retain: unsafe extern "C" fn(VaultContext),
    /// One owner less.
    pub release: unsafe extern "C" fn(VaultContext),
    /// Stores a value under a key; the host owns it afterwards, also on failure.
    /// Without `replace` a value that is there stays; says whether the new one was stored.
    pub bag_set: unsafe extern "C" fn(
        VaultContext,
        key: &str,
        value: RawValue,
        replace: bool,
    ) -> Outcome<bool>,
    /// Calls back with the value under a key, locked; says whether there was one.
    pub bag_with: unsafe extern "C" fn(
        VaultContext,
        key: &str,
        callback: &mut ValueCallback,
    ) -> Outcome<bool>,
    /// Takes a value over from a version that is replaced.
    pub bag_carry: unsafe extern "C" fn(
        VaultContext,
        key: &str,
        table: &'static CarryTable,
    ) -> Outcome<Carried>,
    /// Removes a value; says whether there was one.
    pub bag_remove: unsafe extern "C" fn(VaultContext, key: &str) -> Outcome<bool>,
    /// The keys, sorted.
    pub bag_keys: unsafe extern "C" fn(VaultContext) -> Outcome<Vec<String>>,
    /// Calls the newest live function of a name.
    pub live_call: unsafe extern "C" fn(
        VaultContext,
        name: &str,
        args: *const Value,
        count: usize,
    ) -> Outcome<Value>,
    /// Reads data as the newest live type of its name, and writes it anew.
    pub live_renew: unsafe extern "C" fn(VaultContext, data: &Data) -> Outcome<Data>,
    /// Registers an object in the Extension; the host owns it afterwards, also on failure.
    pub register: unsafe extern "C" fn(VaultContext, name: &str, object: RawObject) -> Outcome<()>,
    /// Lends the object that is registered under a name for an interface.
    pub find: unsafe extern "C" fn(
        VaultContext,
        shape: &InterfaceShape,
        name: &str,
    ) -> Outcome<Option<BoundObject>>,
    /// The names that are registered for an interface, sorted.
    pub names: unsafe extern "C" fn(VaultContext, interface: &str) -> Outcome<Vec<String>>,
}
