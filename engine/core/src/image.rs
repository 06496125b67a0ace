//! An artifact mapped into the host, or a plugin that is linked into it. Only this file opens and
//! closes a library.

mod mapping;

pub(crate) use mapping::is_loaded;

use std::{ffi::c_int, ptr::NonNull, sync::Arc};

use hotswap_plugin::{
    __private::{RawFuture, RawObject, attach_linked},
    BoundObject, Data, FunctionDescription, ImportRequest, LiveTypeDescription, StaticPlugin,
    TypeSchema, Value, Vault,
    abi::{
        ATTACH_SYMBOL, Attach, HostTable, Outcome, PluginTable, TypedCalls,
        descriptor::{Descriptor, Stamp},
    },
};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use mapping::{handled_signal, mapping};

use crate::{
    EngineError, artifact::BuildId, find::Found, host_table::host_table, stage::Named,
    version::Version,
};

/// A mapped image, attached to this host.
///
/// Its functions may be called from any thread while it is open. The engine keeps it open as long
/// as there is a lease, and calls nothing of it without one.
pub(crate) struct Image {
    table: NonNull<PluginTable>,
    /// None when the plugin is linked into the host, where it stays.
    mapped: Option<Mapped>,
    // What the image calls through until it is unmapped; `close` frees it then.
    host: NonNull<HostTable>,
    // The table's context. This makes a cycle, which `close` breaks: a version whose image is never
    // closed lives as long as the process, and so does the image.
    version: Arc<Version>,
}

/// What was mapped.
struct Mapped {
    library: Library,
    // Last: the file.
    named: Named,
}

// SAFETY: the table is the image's, and all its functions may be called from any thread: they hold
// a `Plugin`, which is `Send + Sync`, and catch panics.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

impl Image {
    /// Maps a staged artifact and attaches to it.
    pub fn open(named: Named, version: &Arc<Version>) -> Result<Self, String> {
        let host = NonNull::from(Box::leak(Box::new(host_table(version))));
        // SAFETY: the file was inspected: it is a whole plugin that `hotswap build` made of Rust
        // code with this toolchain, and the copy is ours alone. Its constructors are those of std.
        let library = unsafe { Library::open(Some(named.copy.path()), RTLD_NOW | RTLD_LOCAL) };
        let library = library.map_err(|error| error_text(&error))?;
        // SAFETY: the inspected descriptor's ABI version says that the symbol has this type.
        let attach = unsafe { library.get::<Attach>(ATTACH_SYMBOL.as_bytes()) };
        let attach = attach.map_err(|error| error_text(&error))?;
        // SAFETY: the table was leaked, and is freed only when the image is gone.
        let table = unsafe { attach(host.as_ref()) };
        let table = NonNull::new(table.cast_mut()).ok_or("attaching to it panicked")?;
        let expected = named.facts.build_id;
        let mapped = Some(Mapped { library, named });
        let image = Self { table, mapped, host, version: version.clone() };
        image.expect_inspected(expected)?;
        Ok(image)
    }

    /// Attaches to a plugin that is linked into this program.
    pub fn link(plugin: &'static StaticPlugin, version: &Arc<Version>) -> Result<Self, String> {
        let host = NonNull::from(Box::leak(Box::new(host_table(version))));
        // SAFETY: the table was leaked, and such an image is never closed.
        let table = attach_linked(plugin, unsafe { host.as_ref() });
        let table = NonNull::new(table.map_err(|error| error.to_string())?.cast_mut());
        let table = table.ok_or("it has no functions")?;
        Ok(Self { table, mapped: None, host, version: version.clone() })
    }

    /// Checks that the descriptor that answers is the one that was inspected.
    fn expect_inspected(&self, expected: BuildId) -> Result<(), String> {
        // SAFETY: the address is of a static in the image. The compiler that built the image knows
        // its stamp as zero; the read is volatile since the file's says otherwise.
        let Descriptor { stamp: Stamp { build_id, .. }, .. } =
            unsafe { self.table().descriptor.read_volatile() };
        if build_id == expected.bytes() {
            return Ok(());
        }
        Err(format!("another image answered than {expected}, which was inspected"))
    }

    /// The file that was mapped, to be loaded once more.
    pub fn staged_file(&self) -> Result<Found, EngineError> {
        let mapped = self.mapped.as_ref().ok_or(EngineError::StaticallyLinked)?;
        Found::at(mapped.named.copy.path())
    }

    fn table(&self) -> &PluginTable {
        // SAFETY: the table lives until `detach`, after which nothing is called.
        unsafe { self.table.as_ref() }
    }

    pub fn create(&self) -> Outcome<()> {
        // SAFETY: the instance is the table's own; so below.
        unsafe { (self.table().create)(self.table().instance) }
    }

    pub fn describe(&self) -> Outcome<Vec<FunctionDescription>> {
        // SAFETY: see `create`.
        unsafe { (self.table().describe)(self.table().instance) }
    }

    pub fn describe_types(&self) -> Outcome<Vec<LiveTypeDescription>> {
        // SAFETY: see `create`.
        unsafe { (self.table().describe_types)(self.table().instance) }
    }

    pub fn describe_shared(&self) -> Outcome<Vec<TypeSchema>> {
        // SAFETY: see `create`.
        unsafe { (self.table().describe_shared)(self.table().instance) }
    }

    pub fn renew(&self, index: usize, value: &Value) -> Outcome<Value> {
        // SAFETY: see `create`.
        unsafe { (self.table().renew)(self.table().instance, index, value) }
    }

    pub fn reloadable(&self) -> Outcome<bool> {
        // SAFETY: see `create`.
        unsafe { (self.table().reloadable)(self.table().instance) }
    }

    pub fn export(&self) -> Outcome<Option<RawObject>> {
        // SAFETY: see `create`.
        unsafe { (self.table().export)(self.table().instance) }
    }

    pub fn requests(&self) -> Outcome<Vec<ImportRequest>> {
        // SAFETY: see `create`.
        unsafe { (self.table().requests)(self.table().instance) }
    }

    pub fn bind(&self, objects: Vec<Option<BoundObject>>) -> Outcome<()> {
        // SAFETY: see `create`; the objects are of the shapes that were asked for.
        unsafe { (self.table().bind)(self.table().instance, objects) }
    }

    pub fn on_load(&self, data: &Data) -> Outcome<()> {
        // SAFETY: see `create`.
        unsafe { (self.table().on_load)(self.table().instance, data) }
    }

    pub fn on_init(&self, vault: Vault) -> Outcome<()> {
        // SAFETY: see `create`.
        unsafe { (self.table().on_init)(self.table().instance, vault) }
    }

    pub fn on_free(&self) -> Outcome<()> {
        // SAFETY: see `create`.
        unsafe { (self.table().on_free)(self.table().instance) }
    }

    pub fn invoke(&self, index: usize, args: &[Value]) -> Outcome<Value> {
        // SAFETY: see `create`; the arguments live through the call.
        unsafe { (self.table().invoke)(self.table().instance, index, args.as_ptr(), args.len()) }
    }

    /// Begins a call of an `async` function. The future is the image's, and wants a lease.
    pub fn start(&self, index: usize, args: &[Value]) -> Outcome<RawFuture> {
        // SAFETY: see `create`; the arguments live through the call.
        unsafe { (self.table().start)(self.table().instance, index, args.as_ptr(), args.len()) }
    }

    /// How to call the functions with Rust types; valid until `detach`.
    pub fn typed_calls(&self) -> Outcome<TypedCalls> {
        // SAFETY: see `create`.
        unsafe { (self.table().typed_calls)(self.table().instance) }
    }

    pub fn invoke_func(&self, name: &str, args: &[Value]) -> Outcome<Value> {
        let table = self.table();
        // SAFETY: see `create`; name and arguments live through the call.
        unsafe {
            (table.invoke_func)(
                table.instance,
                name.as_ptr(),
                name.len(),
                args.as_ptr(),
                args.len(),
            )
        }
    }

    /// Drops the plugin's instance and what attaching installed.
    ///
    /// # Safety
    /// Nobody is in the image, nothing but `close` is called afterwards, and this is called once.
    pub unsafe fn detach(&self) {
        // SAFETY: the caller's promise.
        let detached = unsafe { (self.table().detach)(self.table().instance) };
        if let Outcome::Panic(report) = detached {
            let (plugin, location) = (self.version.name(), &report.location);
            tracing::error!(plugin, "its drop panicked at {location}: {}", report.message);
        }
    }

    /// Unmaps the image, and looks whether it is gone.
    ///
    /// # Safety
    /// The image was detached; nothing runs in it or will, and no thread has destructors of it.
    pub unsafe fn close(self) -> Closed {
        let Self { mapped, host, version, .. } = self;
        let Some(Mapped { library, named }) = mapped else {
            return Closed::StillMapped("it is linked into this program".into());
        };
        let why = match unmap(library, &named, version.threads.signals.handled()) {
            Ok(()) => {
                // SAFETY: the pointer came from a box, and who called through it is gone.
                drop(unsafe { Box::from_raw(host.as_ptr()) });
                return Closed::Unmapped;
            }
            Err(why) => why,
        };
        // The image may still be called, by whatever keeps it: leave it its host.
        std::mem::forget((version, named));
        Closed::StillMapped(why)
    }
}

/// Unmaps a library of which nothing is used any more, unless something else still points into it;
/// says why it is still there.
fn unmap(library: Library, named: &Named, handled: Option<usize>) -> Result<(), String> {
    let handled = handled.and_then(|signal| c_int::try_from(signal).ok());
    let now = || mapping(named.copy.path()).as_ref().and_then(handled_signal);
    if let Some(signal) = handled.or_else(now) {
        std::mem::forget(library);
        return Err(format!(
            "the handler of signal {signal} lies in it; a plugin that sets one resets it in `on_free`"
        ));
    }
    library.close().map_err(|error| error_text(&error))?;
    match (mapping(named.copy.path()), &named.facts.unique_symbol) {
        (None, _) => Ok(()),
        (Some(_), None) => Err("the loader kept it mapped".into()),
        (Some(_), Some(symbol)) => Err(format!(
            "the loader kept it mapped for the unique symbol `{symbol}`, as of C++ code"
        )),
    }
}

/// What came of closing an image.
pub(crate) enum Closed {
    /// It is gone.
    Unmapped,
    /// It is not; why.
    StillMapped(String),
}

fn error_text(error: &libloading::Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}
