//! The engine's way into an image.

use std::{
    io::Write as _,
    ptr, slice,
    sync::atomic::{AtomicPtr, Ordering},
};

use super::{HOST, StaticPlugin, alloc, catch, catch_in_call, inside, linked::Inside, log, panics};
use crate::{
    BoundObject, Data, Error, FunctionDescription, ImportRequest, ImportTarget,
    LiveTypeDescription, Plugin, TypeSchema, Value, Vault,
    abi::{HostTable, Outcome, PluginTable, TypedCalls, descriptor::Descriptor},
    function::{Call, Context, FUNCTIONS, Function, LIVE_TYPES, LiveType},
    future::RawFuture,
    interface::raw::RawObject,
    shared::{self, SHARED_TYPES},
};

/// A plugin's place in its binary: the instance, and what belongs to it.
#[doc(hidden)]
pub struct Instance {
    module: &'static str,
    /// The host, when the plugin is linked into it; null in an image.
    pub(super) linked_host: AtomicPtr<HostTable>,
    make: fn() -> Box<dyn Plugin>,
    plugin: Slot<Box<dyn Plugin>>,
    vault: Slot<Vault>,
    table: Slot<PluginTable>,
    /// What calls are handed; it refers to plugin and Vault.
    context: Slot<Context<'static>>,
}

/// A place in a static that is filled once and emptied once, since statics never drop.
struct Slot<T>(AtomicPtr<T>);

impl<T> Slot<T> {
    const fn empty() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    fn get(&self) -> Option<&T> {
        // SAFETY: a pointer in here came from a `Box`, and is valid until `take`, whose caller
        // promises that no reference is left.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Fills an empty slot; a full one keeps what it has.
    fn fill(&self, value: T) -> &T {
        let new = Box::into_raw(Box::new(value));
        match self.0.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: as in `get`.
            Ok(_) => unsafe { &*new },
            Err(old) => {
                // SAFETY: `new` was not shared; `old` is as in `get`.
                unsafe {
                    drop(Box::from_raw(new));
                    &*old
                }
            }
        }
    }

    /// Empties the slot.
    ///
    /// # Safety
    /// Nobody holds what `get` or `fill` lent, and nobody asks for it again.
    unsafe fn take(&self) -> Option<Box<T>> {
        let old = self.0.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: a pointer in here came from a `Box`; the caller's promise makes it the last.
        (!old.is_null()).then(|| unsafe { Box::from_raw(old) })
    }
}

impl Instance {
    /// The place of plugin `P`, whose attribute stands in `module`.
    pub const fn new<P: Plugin + Default>(module: &'static str) -> Self {
        Self {
            module,
            linked_host: AtomicPtr::new(ptr::null_mut()),
            make: || Box::new(P::default()),
            plugin: Slot::empty(),
            vault: Slot::empty(),
            table: Slot::empty(),
            context: Slot::empty(),
        }
    }

    /// The path of the module in which the plugin's attribute stands.
    pub(super) fn module(&self) -> &'static str {
        self.module
    }

    /// The host, when the plugin is linked into it.
    pub(super) fn linked_host(&self) -> Option<&'static HostTable> {
        // SAFETY: only `attach_linked` stores here, and what it stores is a `&'static HostTable`.
        unsafe { self.linked_host.load(Ordering::Relaxed).as_ref() }
    }

    /// Keeps the functions to call, for as long as the instance is attached.
    pub(super) fn fill_table(&'static self, table: PluginTable) -> &'static PluginTable {
        self.table.fill(table)
    }

    /// A function, and what is handed in to it.
    fn function(&self, index: usize) -> crate::Result<(&'static Function, &Context<'static>)> {
        let function = FUNCTIONS.get(index);
        let function = function.ok_or_else(|| Error::msg("no function of that number"))?;
        let context = self.context.get();
        Ok((function, context.ok_or_else(|| Error::msg("called before `on_init` has returned"))?))
    }

    fn make_context(&self) -> crate::Result<Context<'_>> {
        let vault = self.vault.get().ok_or_else(|| Error::msg("called before `on_init`"))?;
        Ok(Context { vault, plugin: self.plugin()? })
    }

    /// Drops the plugin and what was made for it.
    ///
    /// # Safety
    /// Nothing is called any more, so that nobody else holds what is dropped here.
    pub(super) unsafe fn empty(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            drop(self.context.take());
            drop(self.plugin.take());
            drop(self.vault.take());
            drop(self.table.take());
        }
    }

    fn plugin(&self) -> crate::Result<&dyn Plugin> {
        self.plugin
            .get()
            .map(Box::as_ref)
            .ok_or_else(|| Error::msg("the plugin's instance was not made yet"))
    }
}

/// What the symbol `hotswap_attach` does: remembers the host, makes `tracing` and panics go there,
/// and answers with the functions to call.
///
/// # Safety
/// The table's functions do what [`HostTable`] says of them.
#[doc(hidden)]
pub unsafe fn attach(
    host: &'static HostTable,
    plugin: &'static StaticPlugin,
    descriptor: &'static Descriptor,
) -> *const PluginTable {
    HOST.store(ptr::from_ref(host).cast_mut(), Ordering::Release);
    let attached = panics::end_panic(|| {
        panics::install_hook();
        log::install();
        let instance = plugin.instance();
        instance.fill_table(table(instance, descriptor))
    });
    attached.map_or(ptr::null(), ptr::from_ref)
}

/// The functions of an instance.
pub(super) fn table(instance: &'static Instance, descriptor: *const Descriptor) -> PluginTable {
    PluginTable {
        descriptor,
        instance,
        create,
        describe,
        describe_types,
        describe_shared,
        renew,
        reloadable,
        export,
        requests,
        bind,
        on_load,
        on_init,
        on_free,
        invoke,
        start,
        typed_calls,
        invoke_func,
        detach,
    }
}

/// Runs `f` with the instance; its error and its panic become part of the outcome.
///
/// # Safety
/// `instance` is the one that attaching answered with.
pub(super) unsafe fn enter<T>(
    instance: *const Instance,
    f: impl FnOnce(&'static Instance) -> crate::Result<T>,
) -> Outcome<T> {
    // SAFETY: the caller's promise; `attach` has it for `'static`, which is as long as the image.
    let instance = unsafe { &*instance };
    let _inside = instance.linked_host().map(Inside::enter);
    catch(|| Outcome::from_result(f(instance)))
}

/// The arguments of a call.
///
/// # Safety
/// `args` points to `count` values for as long as `'a`.
unsafe fn arguments<'a>(args: *const Value, count: usize) -> &'a [Value] {
    if count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(args, count) }
}

unsafe extern "C" fn create(instance: *const Instance) -> Outcome<()> {
    // SAFETY: the engine passes what `attach` answered with.
    unsafe {
        enter(instance, |instance| {
            instance.plugin.fill((instance.make)());
            Ok(())
        })
    }
}

unsafe extern "C" fn describe(instance: *const Instance) -> Outcome<Vec<FunctionDescription>> {
    // SAFETY: the engine passes what `attach` answered with.
    unsafe { enter(instance, |instance| Ok(Function::describe_all(instance.module))) }
}

unsafe extern "C" fn describe_types(
    instance: *const Instance,
) -> Outcome<Vec<LiveTypeDescription>> {
    // SAFETY: the engine passes what `attach` answered with.
    unsafe { enter(instance, |instance| Ok(LiveType::describe_all(instance.module))) }
}

unsafe extern "C" fn describe_shared(instance: *const Instance) -> Outcome<Vec<TypeSchema>> {
    // SAFETY: the engine passes what `attach` answered with.
    unsafe { enter(instance, |_| Ok(SHARED_TYPES.iter().map(|schema| schema()).collect())) }
}

unsafe extern "C" fn renew(
    instance: *const Instance,
    index: usize,
    value: &Value,
) -> Outcome<Value> {
    // SAFETY: the engine passes what `attach` answered with.
    unsafe {
        enter(instance, |_| {
            let live = LIVE_TYPES.get(index).ok_or_else(|| Error::msg("no type of that number"))?;
            (live.renew)(value)
        })
    }
}

unsafe extern "C" fn reloadable(instance: *const Instance) -> Outcome<bool> {
    // SAFETY: the engine passes what `attach` answered with.
    unsafe { enter(instance, |instance| Ok(instance.plugin()?.reloadable())) }
}

unsafe extern "C" fn export(instance: *const Instance) -> Outcome<Option<RawObject>> {
    // SAFETY: the engine passes what `attach` answered with.
    unsafe { enter(instance, |instance| Ok(instance.plugin()?.export()?.into_raw())) }
}

unsafe extern "C" fn requests(instance: *const Instance) -> Outcome<Vec<ImportRequest>> {
    // SAFETY: the engine passes what `attach` answered with.
    unsafe {
        enter(instance, |instance| {
            Ok(instance.plugin()?.import().map(ImportTarget::requests).unwrap_or_default())
        })
    }
}

unsafe extern "C" fn bind(
    instance: *const Instance,
    objects: Vec<Option<BoundObject>>,
) -> Outcome<()> {
    // SAFETY: the engine passes what `attach` answered with.
    unsafe {
        enter(instance, |instance| match instance.plugin()?.import() {
            Some(imports) => imports.bind(&mut objects.into_iter()),
            None => Ok(()),
        })
    }
}

unsafe extern "C" fn on_load(instance: *const Instance, data: &Data) -> Outcome<()> {
    // SAFETY: the engine passes what `attach` answered with.
    unsafe { enter(instance, |instance| instance.plugin()?.on_load(data)) }
}

unsafe extern "C" fn on_init(instance: *const Instance, vault: Vault) -> Outcome<()> {
    // SAFETY: the engine passes what `attach` answered with.
    unsafe { enter(instance, |instance| instance.plugin()?.on_init(instance.vault.fill(vault))) }
}

unsafe extern "C" fn on_free(instance: *const Instance) -> Outcome<()> {
    // SAFETY: the engine passes what `attach` answered with.
    unsafe {
        enter(instance, |instance| {
            instance.plugin()?.on_free();
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn invoke(
    instance: *const Instance,
    index: usize,
    args: *const Value,
    count: usize,
) -> Outcome<Value> {
    // SAFETY: the engine passes what `attach` answered with, and a slice that lives through the call.
    unsafe {
        let instance = &*instance;
        catch_in_call(|| {
            let (function, context) = match instance.function(index) {
                Ok(found) => found,
                Err(error) => return Outcome::Err(error),
            };
            Outcome::from_result(match function.call {
                Call::Sync(call) => call(context, arguments(args, count)),
                Call::Async(_) => {
                    Err(Error::msg("the function is async, and was called otherwise"))
                }
            })
        })
    }
}

unsafe extern "C" fn start(
    instance: *const Instance,
    index: usize,
    args: *const Value,
    count: usize,
) -> Outcome<RawFuture> {
    // SAFETY: the engine passes what `attach` answered with, and a slice that lives through the call.
    unsafe {
        enter(instance, |instance| {
            let (function, context) = instance.function(index)?;
            match function.call {
                Call::Async(start) => {
                    Ok(RawFuture::new(inside(start(context, arguments(args, count))?)))
                }
                Call::Sync(_) => Err(Error::msg("the function is not async")),
            }
        })
    }
}

unsafe extern "C" fn typed_calls(instance: *const Instance) -> Outcome<TypedCalls> {
    // SAFETY: the engine passes what `attach` answered with.
    unsafe {
        enter(instance, |instance| {
            let context = instance.context.fill(instance.make_context()?);
            let calls = FUNCTIONS.iter().map(|function| Some((function.typed)()?.call));
            Ok(TypedCalls { context, calls: calls.collect() })
        })
    }
}

unsafe extern "C" fn invoke_func(
    instance: *const Instance,
    name: *const u8,
    name_len: usize,
    args: *const Value,
    count: usize,
) -> Outcome<Value> {
    // SAFETY: the engine passes what `attach` answered with, and a name and a slice that live
    // through the call.
    unsafe {
        enter(instance, |instance| {
            let name = std::str::from_utf8(slice::from_raw_parts(name, name_len))?;
            instance.plugin()?.invoke_func(name, arguments(args, count))
        })
    }
}

unsafe extern "C" fn detach(instance: *const Instance) -> Outcome<()> {
    // SAFETY: the engine passes what `attach` answered with, and calls nothing afterwards.
    unsafe {
        enter(instance, |instance| {
            instance.empty();
            shared::forget_schemas();
            drop(std::panic::take_hook());
            if alloc::may_have_printed() { Ok(std::io::stdout().flush()?) } else { Ok(()) }
        })
    }
}
