//! A plugin that is linked into the host instead of being loaded.
//!
//! Host and plugins are one program then, with one copy of this crate. What is one to an image is one
//! to a plugin here: the host it is attached to is found through the plugin that the thread is in.

use std::{
    cell::Cell,
    fmt,
    marker::PhantomData,
    pin::Pin,
    ptr,
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use super::{
    HOST,
    attach::{Instance, enter, invoke, table},
    host, panics,
};
use crate::{
    Error, Plugin, Result, Value,
    abi::{HostTable, Outcome, PluginTable},
    function::CallFuture,
};

/// A plugin crate as a program finds it that it is linked into; see
/// [`static_plugins!`](crate::static_plugins).
pub struct StaticPlugin {
    instance: Instance,
    name: &'static str,
    crate_version: &'static str,
}

impl StaticPlugin {
    /// The plugin `P`, whose attribute stands in `module`.
    #[doc(hidden)]
    pub const fn new<P: Plugin + Default>(
        module: &'static str,
        name: &'static str,
        crate_version: &'static str,
    ) -> Self {
        Self { instance: Instance::new::<P>(module), name, crate_version }
    }

    /// The plugin's name, which is that of its package.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The version of its package.
    pub fn crate_version(&self) -> &'static str {
        self.crate_version
    }

    /// The name of its crate, with which the targets of its log begin.
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

/// Attaches a plugin of this very program, and answers with the functions to call.
///
/// # Errors
/// When it is attached already: it has one instance.
///
/// # Safety
/// The table's functions do what [`HostTable`] says of them.
#[doc(hidden)]
pub unsafe fn attach_linked(
    plugin: &'static StaticPlugin,
    host: &'static HostTable,
) -> Result<*const PluginTable> {
    let instance = plugin.instance();
    let table_host = ptr::from_ref(host).cast_mut();
    let free = ptr::null_mut();
    let taken = instance.linked_host.compare_exchange(
        free,
        table_host,
        Ordering::AcqRel,
        Ordering::Acquire,
    );
    if taken.is_err() {
        return Err(Error::msg(
            "it is linked into this program once, and an engine has it already, or is still ending it",
        ));
    }
    HOST.store(table_host, Ordering::Release);
    panics::note_locations();
    Ok(instance.fill_table(PluginTable {
        invoke: invoke_inside,
        detach: detach_linked,
        ..table(instance, ptr::null())
    }))
}

/// A call as in an image, where it need not tell which plugin it is in.
unsafe extern "C" fn invoke_inside(
    instance: *const Instance,
    index: usize,
    args: *const Value,
    count: usize,
) -> Outcome<Value> {
    // SAFETY: the engine passes what attaching answered with.
    let _inside = unsafe { (*instance).linked_host() }.map(Inside::enter);
    // SAFETY: the caller's promises are passed on.
    unsafe { invoke(instance, index, args, count) }
}

unsafe extern "C" fn detach_linked(instance: *const Instance) -> Outcome<()> {
    // SAFETY: the engine passes what attaching answered with, and calls nothing afterwards.
    unsafe {
        let emptied = enter(instance, |instance| {
            instance.empty();
            Ok(())
        });
        // Last: from now on another engine may attach it.
        (*instance).linked_host.store(ptr::null_mut(), Ordering::Release);
        emptied
    }
}

thread_local! {
    /// The host of the linked plugin that this thread is in.
    static CURRENT: Cell<Option<&'static HostTable>> = const { Cell::new(None) };
}

/// The host of the code that runs.
///
/// Of linked plugins it is that of the plugin that the thread is in. Calls with Rust types go past this,
/// and a thread that a plugin started is in none; what these ask for counts as the plugin's that was
/// attached last.
pub(crate) fn current_host() -> Option<&'static HostTable> {
    CURRENT.try_with(Cell::get).ok().flatten().or_else(host)
}

/// A note that this thread is in a linked plugin.
pub(super) struct Inside {
    before: Option<&'static HostTable>,
    /// It belongs to its thread.
    _not_send: PhantomData<*const ()>,
}

impl Inside {
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

/// A future that is polled inside the linked plugin that made it; in an image, the future as it is.
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
