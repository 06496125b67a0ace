//! The functions through which the engine calls an image.

use std::{
    io::Write as _,
    ptr, slice,
    sync::atomic::{AtomicPtr, Ordering},
};

use super::{
    HOST, StaticPlugin, alloc, catch, catch_in_call, linked::Inside, log, log_crate, panics,
};
use crate::{
    BoundObject, Data, Error, ImportRequest, ImportTarget, LiveTypeDescription, Plugin, TypeSchema,
    Value, Vault,
    abi::{Answer, CallContext, HostTable, PluginTable, descriptor::Descriptor},
    function::{Call, Context, DescribedFunction, Function, FunctionRef, LIVE_TYPES, LiveType},
    future::RawFuture,
    interface::raw::RawObject,
    shared::{self, SHARED_TYPES},
};

/// A plugin in its binary: the plugin's instance and what belongs to it. An image has one, in a static. If
/// the plugin is linked into a program, each engine makes one of its own.
#[doc(hidden)]
pub struct Instance {
    /// The path of the module in which the plugin's attribute is.
    module: &'static str,
    /// The host, if the plugin is linked into it; `None` in an image.
    linked_host: Option<&'static HostTable>,
    make: fn() -> Box<dyn Plugin>,
    plugin: Place<Box<dyn Plugin>>,
    vault: Place<Vault>,
    table: Place<PluginTable>,
    /// The context of all calls. It refers to the plugin and to the Vault.
    context: Place<Context<'static>>,
}

/// A place for a value in a static. It is filled once, and emptied before the image is unmapped, since a
/// static is never dropped.
struct Place<T>(AtomicPtr<T>);

impl<T> Place<T> {
    const fn empty() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    fn get(&self) -> Option<&T> {
        // SAFETY: the pointer came from a `Box`, and is valid until `take`, whose caller promises that
        // no reference is left.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Puts a value into the place if it is empty; returns the value that is in the place afterwards.
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

    /// Empties the place.
    ///
    /// # Safety
    /// No reference that `get` or `fill` returned is left, and neither is called meanwhile.
    unsafe fn take(&self) -> Option<Box<T>> {
        let old = self.0.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: the pointer came from a `Box`; by the caller's promise it is the last.
        (!old.is_null()).then(|| unsafe { Box::from_raw(old) })
    }
}

impl Instance {
    /// The plugin `P`, whose attribute is in `module`.
    pub const fn new<P: Plugin + Default>(module: &'static str) -> Self {
        Self::made_by(|| Box::new(P::default()), module, None)
    }

    const fn made_by(
        make: fn() -> Box<dyn Plugin>,
        module: &'static str,
        linked_host: Option<&'static HostTable>,
    ) -> Self {
        Self {
            module,
            linked_host,
            make,
            plugin: Place::empty(),
            vault: Place::empty(),
            table: Place::empty(),
            context: Place::empty(),
        }
    }

    /// The path of the module in which the plugin's attribute is.
    pub(super) fn module(&self) -> &'static str {
        self.module
    }

    /// A further instance of the plugin for an engine of this program, whose functions `host` has.
    pub(super) fn attached_to(&self, host: &'static HostTable) -> Self {
        Self::made_by(self.make, self.module, Some(host))
    }

    /// The host, if the plugin is linked into it.
    pub(super) fn linked_host(&self) -> Option<&'static HostTable> {
        self.linked_host
    }

    /// Keeps the table of functions for as long as the instance is attached.
    pub(super) fn fill_table(&'static self, table: PluginTable) -> &'static PluginTable {
        self.table.fill(table)
    }

    /// The context to call functions with.
    fn context(&self) -> crate::Result<&Context<'static>> {
        self.context.get().ok_or_else(|| Error::msg("the plugin is not loaded yet"))
    }

    /// Drops the plugin and everything that was made for it.
    ///
    /// # Safety
    /// No function of the plugin is running, and none is called any more.
    pub(super) unsafe fn empty(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            // These are dropped in reverse order, and all of them even if the drop of the plugin panics.
            let _table = self.table.take();
            let _vault = self.vault.take();
            let _plugin = self.plugin.take();
            drop(self.context.take());
        }
    }

    fn plugin(&self) -> crate::Result<&dyn Plugin> {
        self.plugin
            .get()
            .map(Box::as_ref)
            .ok_or_else(|| Error::msg("the plugin's instance has not been made yet"))
    }
}

/// The function behind the symbol `hotswap_attach`. It remembers the host, forwards log events and panics to
/// it, and returns the functions of the plugin.
///
/// # Safety
/// The functions of `host` do what [`HostTable`] says.
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
        log_crate::install();
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
        describe_function,
        describe_types,
        describe_shared,
        renew,
        reloadable,
        hands_over,
        hand_over,
        take_back,
        export,
        requests,
        bind,
        on_load,
        on_init,
        on_free,
        invoke,
        start,
        prepare,
        invoke_func,
        detach,
    }
}

/// Runs `f` with the instance; the answer says whether `f` returned an error or panicked.
///
/// # Safety
/// `instance` is the one in the table that attaching returned.
pub(super) unsafe fn enter<T>(
    instance: *const Instance,
    f: impl FnOnce(&'static Instance) -> crate::Result<T>,
) -> Answer<T> {
    // SAFETY: the caller's promise; the instance is a static of this image.
    let instance = unsafe { &*instance };
    let _inside = instance.linked_host().map(Inside::enter);
    catch(|| Answer::from_result(f(instance)))
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

unsafe extern "C" fn create(instance: *const Instance) -> Answer<()> {
    // SAFETY: the engine passes the instance of its table.
    unsafe {
        enter(instance, |instance| {
            instance.plugin.fill((instance.make)());
            Ok(())
        })
    }
}

unsafe extern "C" fn describe(instance: *const Instance) -> Answer<Vec<DescribedFunction>> {
    // SAFETY: the engine passes the instance of its table.
    unsafe { enter(instance, |instance| Ok(Function::describe_all(instance.module))) }
}

unsafe extern "C" fn describe_function(
    instance: *const Instance,
    function: FunctionRef,
) -> Answer<DescribedFunction> {
    // SAFETY: the engine passes the instance of its table, and a function of what was loaded for it.
    unsafe { enter(instance, |_| Ok(function.get().described())) }
}

unsafe extern "C" fn describe_types(instance: *const Instance) -> Answer<Vec<LiveTypeDescription>> {
    // SAFETY: the engine passes the instance of its table.
    unsafe { enter(instance, |instance| Ok(LiveType::describe_all(instance.module))) }
}

unsafe extern "C" fn describe_shared(instance: *const Instance) -> Answer<Vec<TypeSchema>> {
    // SAFETY: the engine passes the instance of its table.
    unsafe { enter(instance, |_| Ok(SHARED_TYPES.iter().map(|schema| schema()).collect())) }
}

unsafe extern "C" fn renew(
    instance: *const Instance,
    index: usize,
    value: &Value,
) -> Answer<Value> {
    // SAFETY: the engine passes the instance of its table.
    unsafe {
        enter(instance, |_| {
            let live = LIVE_TYPES
                .get(index)
                .ok_or_else(|| Error::msg(format_args!("no live type has the number {index}")))?;
            (live.renew)(value)
        })
    }
}

unsafe extern "C" fn reloadable(instance: *const Instance) -> Answer<bool> {
    // SAFETY: the engine passes the instance of its table.
    unsafe { enter(instance, |instance| Ok(instance.plugin()?.reloadable())) }
}

unsafe extern "C" fn hands_over(instance: *const Instance) -> Answer<bool> {
    // SAFETY: the engine passes the instance of its table.
    unsafe { enter(instance, |instance| Ok(instance.plugin()?.hands_over())) }
}

unsafe extern "C" fn hand_over(instance: *const Instance) -> Answer<()> {
    // SAFETY: the engine passes the instance of its table.
    unsafe { enter(instance, |instance| instance.plugin()?.hand_over()) }
}

unsafe extern "C" fn take_back(instance: *const Instance) -> Answer<()> {
    // SAFETY: the engine passes the instance of its table.
    unsafe { enter(instance, |instance| instance.plugin()?.take_back()) }
}

unsafe extern "C" fn export(instance: *const Instance) -> Answer<Option<RawObject>> {
    // SAFETY: the engine passes the instance of its table.
    unsafe { enter(instance, |instance| Ok(instance.plugin()?.export()?.into_raw())) }
}

unsafe extern "C" fn requests(instance: *const Instance) -> Answer<Vec<ImportRequest>> {
    // SAFETY: the engine passes the instance of its table.
    unsafe {
        enter(instance, |instance| {
            Ok(instance.plugin()?.import().map(ImportTarget::requests).unwrap_or_default())
        })
    }
}

unsafe extern "C" fn bind(
    instance: *const Instance,
    objects: Vec<Option<BoundObject>>,
) -> Answer<()> {
    // SAFETY: the engine passes the instance of its table.
    unsafe {
        enter(instance, |instance| match instance.plugin()?.import() {
            Some(imports) => imports.bind(&mut objects.into_iter()),
            None => Ok(()),
        })
    }
}

unsafe extern "C" fn on_load(instance: *const Instance, data: &Data) -> Answer<()> {
    // SAFETY: the engine passes the instance of its table.
    unsafe { enter(instance, |instance| instance.plugin()?.on_load(data)) }
}

unsafe extern "C" fn on_init(instance: *const Instance) -> Answer<()> {
    // SAFETY: the engine passes the instance of its table.
    unsafe {
        enter(instance, |instance| {
            let vault = instance.vault.get();
            let vault = vault.ok_or_else(|| Error::msg("`prepare` was not called"))?;
            let answer = instance.plugin()?.on_init(vault);
            if instance.linked_host().is_none() {
                panics::note_before_hook();
            }
            answer
        })
    }
}

unsafe extern "C" fn on_free(instance: *const Instance) -> Answer<()> {
    // SAFETY: the engine passes the instance of its table.
    unsafe {
        enter(instance, |instance| {
            instance.plugin()?.on_free();
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn invoke(
    instance: *const Instance,
    function: FunctionRef,
    args: *const Value,
    count: usize,
) -> Answer<Value> {
    // SAFETY: the engine passes the instance of its table, a function of it, and a slice that lives through
    // the call.
    unsafe {
        let instance = &*instance;
        catch_in_call(|| {
            let context = match instance.context() {
                Ok(context) => context,
                Err(error) => return Answer::Err(error),
            };
            Answer::from_result(match function.get().call {
                Call::Sync(call) => call(context, arguments(args, count)),
                Call::Async(_) => {
                    Err(Error::msg("the function is async, but was called as if it were not"))
                }
            })
        })
    }
}

unsafe extern "C" fn start(
    instance: *const Instance,
    function: FunctionRef,
    args: *const Value,
    count: usize,
) -> Answer<RawFuture> {
    // SAFETY: the engine passes the instance of its table, a function of it, and a slice that lives through
    // the call.
    unsafe {
        enter(instance, |instance| {
            let context = instance.context()?;
            match function.get().call {
                // Whoever polls the future notes which linked plugin the thread is in.
                Call::Async(start) => Ok(RawFuture::new(start(context, arguments(args, count))?)),
                Call::Sync(_) => {
                    Err(Error::msg("the function is not async, but was called as if it were"))
                }
            }
        })
    }
}

unsafe extern "C" fn prepare(instance: *const Instance, vault: Vault) -> Answer<CallContext> {
    // SAFETY: the engine passes the instance of its table.
    unsafe {
        enter(instance, |instance| {
            let (vault, plugin) = (instance.vault.fill(vault), instance.plugin()?);
            Ok(CallContext(instance.context.fill(Context { vault, plugin })))
        })
    }
}

unsafe extern "C" fn invoke_func(
    instance: *const Instance,
    name: *const u8,
    name_len: usize,
    args: *const Value,
    count: usize,
) -> Answer<Value> {
    // SAFETY: the engine passes the instance of its table, and a name and a slice that live
    // through the call.
    unsafe {
        enter(instance, |instance| {
            let name = std::str::from_utf8(slice::from_raw_parts(name, name_len))?;
            instance.plugin()?.invoke_func(name, arguments(args, count))
        })
    }
}

unsafe extern "C" fn detach(instance: *const Instance) -> Answer<()> {
    // Each step is done whether or not the code of the plugin in the step before panics.
    let steps: [fn(&'static Instance) -> crate::Result<()>; 3] = [
        |instance| {
            // SAFETY: the engine calls nothing afterwards.
            unsafe { instance.empty() };
            Ok(())
        },
        |_| {
            shared::forget_schemas();
            drop(std::panic::take_hook());
            Ok(())
        },
        |_| if alloc::may_have_printed() { Ok(std::io::stdout().flush()?) } else { Ok(()) },
    ];
    steps.into_iter().fold(Answer::Ok(()), |answer, step| {
        // SAFETY: the engine passes the instance of its table.
        let done = unsafe { enter(instance, step) };
        if matches!(answer, Answer::Ok(())) { done } else { answer }
    })
}
