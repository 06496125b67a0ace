//! The functions through which images reach the Vault.

use std::sync::Arc;

use hotswap_plugin::{
    __private::{CarryTable, RawObject, RawValue, ValueCallback, end_panic},
    BoundObject, Carried, Data, InterfaceShape, Result, Value, Vault,
    abi::{Answer, PanicReport, VaultContext, VaultTable},
};

use super::View;

/// Wraps a view so that plugins and hosts can use it.
pub(super) fn vault(view: Arc<View>) -> Vault {
    // SAFETY: the context is an owned reference to a view, which is what the table expects.
    unsafe { Vault::from_raw(Arc::into_raw(view).cast(), &TABLE) }
}

static TABLE: VaultTable = VaultTable {
    retain,
    release,
    bag_set,
    bag_with,
    bag_carry,
    bag_remove,
    bag_keys,
    live_call,
    live_renew,
    register,
    unregister,
    find,
    names,
};

unsafe extern "C" fn retain(context: VaultContext) {
    // SAFETY: a context is a reference that `vault` made.
    unsafe { Arc::increment_strong_count(context.cast::<View>()) };
}

unsafe extern "C" fn release(context: VaultContext) {
    // SAFETY: a context is a reference that `vault` made; each handle releases it once.
    unsafe { Arc::decrement_strong_count(context.cast::<View>()) };
}

unsafe extern "C" fn bag_set(
    context: VaultContext,
    key: &str,
    value: RawValue,
    replace: bool,
) -> Answer<bool> {
    // SAFETY: the caller passes its own context; so below.
    unsafe { enter(context, |view| view.set(key, value, replace)) }
}

unsafe extern "C" fn bag_with(
    context: VaultContext,
    key: &str,
    callback: &mut ValueCallback,
) -> Answer<bool> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |view| view.with(key, callback)) }
}

unsafe extern "C" fn bag_carry(
    context: VaultContext,
    key: &str,
    table: &'static CarryTable,
) -> Answer<Carried> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |view| view.carry(key, table)) }
}

unsafe extern "C" fn bag_remove(context: VaultContext, key: &str) -> Answer<bool> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |view| view.remove(key)) }
}

unsafe extern "C" fn bag_keys(context: VaultContext) -> Answer<Vec<String>> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |view| Ok(view.keys())) }
}

unsafe extern "C" fn live_call(
    context: VaultContext,
    name: &str,
    args: *const Value,
    count: usize,
) -> Answer<Value> {
    // SAFETY: see `bag_set`; the caller passes a slice's parts.
    unsafe {
        let args = if count == 0 { &[] } else { std::slice::from_raw_parts(args, count) };
        enter(context, |view| view.live_call(name, args))
    }
}

unsafe extern "C" fn live_renew(context: VaultContext, data: &Data) -> Answer<Data> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |view| view.live_renew(data)) }
}

unsafe extern "C" fn register(
    context: VaultContext,
    name: &str,
    object: RawObject,
    replace: bool,
) -> Answer<()> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |view| view.register(name, object, replace)) }
}

unsafe extern "C" fn unregister(
    context: VaultContext,
    interface: &str,
    name: &str,
) -> Answer<bool> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |view| view.unregister(interface, name)) }
}

unsafe extern "C" fn find(
    context: VaultContext,
    shape: &InterfaceShape,
    name: &str,
) -> Answer<Option<BoundObject>> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |view| view.registered(shape, name)) }
}

unsafe extern "C" fn names(context: VaultContext, interface: &str) -> Answer<Vec<String>> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |view| Ok(view.names(interface))) }
}

/// Runs `f` with the view; a panic of the engine does not reach the caller's image.
///
/// # Safety
/// The context is one that `vault` made and that was not released.
unsafe fn enter<T>(context: VaultContext, f: impl FnOnce(&View) -> Result<T>) -> Answer<T> {
    // SAFETY: the caller's promise.
    let view = unsafe { &*context.cast::<View>() };
    match end_panic(|| f(view)) {
        Ok(result) => Answer::from_result(result),
        Err(message) => Answer::Panic(PanicReport { message, location: "the engine".into() }),
    }
}
