//! A plugin that is linked into the host instead of being loaded.
//!
//! Host and plugins are then one program with one copy of this crate. An image has one host in a static;
//! here, each plugin has its own, and a thread-local says which plugin the thread is in.

use std::{
    cell::Cell,
    fmt,
    marker::PhantomData,
    pin::Pin,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
};

use super::{
    HOST,
    attach::{Instance, enter, invoke, table},
    host, panics,
};
use crate::{
    Plugin, Result, Value,
    abi::{Answer, HostTable, PluginTable},
    function::{CallFuture, FunctionRef},
};

/// A plugin that is linked into a host. `#[plugin]` emits one in each plugin crate;
/// [`static_plugins!`](crate::static_plugins) lists them, with an example.
pub struct StaticPlugin {
    instance: Instance,
    name: &'static str,
    crate_version: &'static str,
}

impl StaticPlugin {
    /// The plugin `P`, whose attribute is in `module`.
    #[doc(hidden)]
    pub const fn new<P: Plugin + Default>(
        module: &'static str,
        name: &'static str,
        crate_version: &'static str,
    ) -> Self {
        Self { instance: Instance::new::<P>(module), name, crate_version }
    }

    /// The name of the plugin, which is the name of its package.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The version of the plugin's package.
    pub fn crate_version(&self) -> &'static str {
        self.crate_version
    }

    /// The name of the plugin's crate: the targets of its log events begin with it.
    pub fn crate_name(&self) -> &'static str {
        let module = self.instance.module();
        module.split("::").next().unwrap_or(module)
    }

    pub(super) fn instance(&self) -> &Instance {
        &self.instance
    }
}

impl fmt::Debug for StaticPlugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticPlugin({} {})", self.name, self.crate_version)
    }
}

/// Whether a plugin that is linked into this program was attached.
static IS_PROGRAM: AtomicBool = AtomicBool::new(false);

/// Whether this is a program into which plugins are linked, and not an image.
pub(super) fn is_program() -> bool {
    IS_PROGRAM.load(Ordering::Acquire)
}

/// Attaches a plugin that is linked into this program, and returns its functions. Each engine that attaches
/// the plugin gets an instance of its own.
///
/// # Safety
/// The functions of `host` do what [`HostTable`] says.
#[doc(hidden)]
pub unsafe fn attach_linked(
    plugin: &'static StaticPlugin,
    host: &'static HostTable,
) -> *const PluginTable {
    let instance: &'static Instance = Box::leak(Box::new(plugin.instance().attached_to(host)));
    HOST.store(ptr::from_ref(host).cast_mut(), Ordering::Release);
    IS_PROGRAM.store(true, Ordering::Release);
    panics::note_locations();
    instance.fill_table(PluginTable {
        invoke: invoke_inside,
        detach: detach_linked,
        ..table(instance, ptr::null())
    })
}

/// Calls a function like `invoke` does in an image, and notes which plugin the thread is in.
unsafe extern "C" fn invoke_inside(
    instance: *const Instance,
    function: FunctionRef,
    args: *const Value,
    count: usize,
) -> Answer<Value> {
    // SAFETY: the engine passes the instance of its table.
    let _inside = unsafe { (*instance).linked_host() }.map(Inside::enter);
    // SAFETY: the caller's promises are passed on.
    unsafe { invoke(instance, function, args, count) }
}

unsafe extern "C" fn detach_linked(instance: *const Instance) -> Answer<()> {
    // SAFETY: the engine passes the instance of its table, which `attach_linked` made, and calls nothing
    // afterwards.
    unsafe {
        let emptied = enter(instance, |instance| {
            instance.empty();
            Ok(())
        });
        drop(Box::from_raw(instance.cast_mut()));
        emptied
    }
}

thread_local! {
    /// The host of the linked plugin that this thread is in.
    static CURRENT: Cell<Option<&'static HostTable>> = const { Cell::new(None) };
}

/// The host of the code that runs.
///
/// For linked plugins, it is the host of the plugin that the thread is in. Methods of objects, and threads that a
/// plugin started, do not note which plugin that is. For these, it is the host of the plugin that was attached last.
pub(crate) fn current_host() -> Option<&'static HostTable> {
    CURRENT.try_with(Cell::get).ok().flatten().or_else(host)
}

/// Notes that this thread is in a linked plugin, until it is dropped.
pub struct Inside {
    before: Option<&'static HostTable>,
    /// It must be dropped on its own thread.
    _not_send: PhantomData<*const ()>,
}

impl Inside {
    /// Notes that this thread is in the plugin with this host.
    pub fn enter(host: &'static HostTable) -> Self {
        let before = CURRENT.try_with(|current| current.replace(Some(host)));
        Self { before: before.ok().flatten(), _not_send: PhantomData }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = CURRENT.try_with(|current| current.set(self.before));
    }
}

/// Wraps the future of a linked plugin, so that each poll notes that the thread is in the plugin. In an
/// image, the future is returned unchanged.
pub(crate) fn inside(future: CallFuture) -> CallFuture {
    match CURRENT.try_with(Cell::get).ok().flatten() {
        Some(host) => Box::pin(InsideFuture { host, future }),
        None => future,
    }
}

struct InsideFuture {
    host: &'static HostTable,
    future: CallFuture,
}

impl Future for InsideFuture {
    type Output = Result<Value>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let _inside = Inside::enter(self.host);
        self.future.as_mut().poll(context)
    }
}
