//! The functions through which images reach a Vault, whatever implements it.

use std::sync::Arc;

use super::{
    Carried, Vault,
    raw::{CarryTable, RawValue, ValueCallback},
};
use crate::{
    BoundObject, Data, InterfaceShape, Result, Value,
    abi::{Answer, PanicReport, VaultContext, VaultTable},
    image::end_panic,
    interface::raw::RawObject,
};

/// The implementation of a Vault. [`VaultTable`] says what each method does.
pub trait VaultServices: Send + Sync + 'static {
    /// [`VaultTable::bag_set`]
    fn set(&self, key: &str, value: RawValue, replace: bool) -> Result<bool>;
    /// [`VaultTable::bag_with`]
    fn with(&self, key: &str, callback: &mut ValueCallback) -> Result<bool>;
    /// [`VaultTable::bag_carry`]
    fn carry(&self, key: &str, table: &'static CarryTable) -> Result<Carried>;
    /// [`VaultTable::bag_remove`]
    fn remove(&self, key: &str) -> Result<bool>;
    /// [`VaultTable::bag_keys`]
    fn keys(&self) -> Vec<String>;
    /// [`VaultTable::live_call`]
    fn live_call(&self, name: &str, args: &[Value]) -> Result<Value>;
    /// [`VaultTable::live_renew`]
    fn live_renew(&self, data: &Data) -> Result<Data>;
    /// [`VaultTable::register`]
    fn register(&self, name: &str, object: RawObject, replace: bool) -> Result<()>;
    /// [`VaultTable::unregister`]
    fn unregister(&self, interface: &str, name: &str) -> Result<bool>;
    /// [`VaultTable::find`]
    fn find(&self, shape: &InterfaceShape, name: &str) -> Result<Option<BoundObject>>;
    /// [`VaultTable::names`]
    fn names(&self, interface: &str) -> Vec<String>;
}

impl Vault {
    /// Makes a handle to a Vault with this implementation.
    #[doc(hidden)]
    pub fn over<S: VaultServices>(services: Arc<S>) -> Self {
        // SAFETY: the context is an owned reference to services, which is what the table expects.
        unsafe { Self::from_raw(Arc::into_raw(services).cast(), TableOf::<S>::TABLE) }
    }
}

struct TableOf<S>(S);

impl<S: VaultServices> TableOf<S> {
    const TABLE: &'static VaultTable = &VaultTable {
        retain: retain::<S>,
        release: release::<S>,
        bag_set: bag_set::<S>,
        bag_with: bag_with::<S>,
        bag_carry: bag_carry::<S>,
        bag_remove: bag_remove::<S>,
        bag_keys: bag_keys::<S>,
        live_call: live_call::<S>,
        live_renew: live_renew::<S>,
        register: register::<S>,
        unregister: unregister::<S>,
        find: find::<S>,
        names: names::<S>,
    };
}

unsafe extern "C" fn retain<S: VaultServices>(context: VaultContext) {
    // SAFETY: a context is a reference that `over` made.
    unsafe { Arc::increment_strong_count(context.cast::<S>()) };
}

unsafe extern "C" fn release<S: VaultServices>(context: VaultContext) {
    // SAFETY: a context is a reference that `over` made; each handle releases it once.
    let _ = end_panic(|| unsafe { Arc::decrement_strong_count(context.cast::<S>()) });
}

unsafe extern "C" fn bag_set<S: VaultServices>(
    context: VaultContext,
    key: &str,
    value: RawValue,
    replace: bool,
) -> Answer<bool> {
    // SAFETY: the caller passes its own context. The same goes for the functions below.
    unsafe { enter(context, |services: &S| services.set(key, value, replace)) }
}

unsafe extern "C" fn bag_with<S: VaultServices>(
    context: VaultContext,
    key: &str,
    callback: &mut ValueCallback,
) -> Answer<bool> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |services: &S| services.with(key, callback)) }
}

unsafe extern "C" fn bag_carry<S: VaultServices>(
    context: VaultContext,
    key: &str,
    table: &'static CarryTable,
) -> Answer<Carried> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |services: &S| services.carry(key, table)) }
}

unsafe extern "C" fn bag_remove<S: VaultServices>(
    context: VaultContext,
    key: &str,
) -> Answer<bool> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |services: &S| services.remove(key)) }
}

unsafe extern "C" fn bag_keys<S: VaultServices>(context: VaultContext) -> Answer<Vec<String>> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |services: &S| Ok(services.keys())) }
}

unsafe extern "C" fn live_call<S: VaultServices>(
    context: VaultContext,
    name: &str,
    args: *const Value,
    count: usize,
) -> Answer<Value> {
    // SAFETY: see `bag_set`; the caller passes a slice's parts.
    unsafe {
        let args = if count == 0 { &[] } else { std::slice::from_raw_parts(args, count) };
        enter(context, |services: &S| services.live_call(name, args))
    }
}

unsafe extern "C" fn live_renew<S: VaultServices>(
    context: VaultContext,
    data: &Data,
) -> Answer<Data> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |services: &S| services.live_renew(data)) }
}

unsafe extern "C" fn register<S: VaultServices>(
    context: VaultContext,
    name: &str,
    object: RawObject,
    replace: bool,
) -> Answer<()> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |services: &S| services.register(name, object, replace)) }
}

unsafe extern "C" fn unregister<S: VaultServices>(
    context: VaultContext,
    interface: &str,
    name: &str,
) -> Answer<bool> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |services: &S| services.unregister(interface, name)) }
}

unsafe extern "C" fn find<S: VaultServices>(
    context: VaultContext,
    shape: &InterfaceShape,
    name: &str,
) -> Answer<Option<BoundObject>> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |services: &S| services.find(shape, name)) }
}

unsafe extern "C" fn names<S: VaultServices>(
    context: VaultContext,
    interface: &str,
) -> Answer<Vec<String>> {
    // SAFETY: see `bag_set`.
    unsafe { enter(context, |services: &S| Ok(services.names(interface))) }
}

/// Runs `f` with the implementation. A panic there does not reach the caller's image.
///
/// # Safety
/// The context is one that `over` made and that was not released.
unsafe fn enter<S, T>(context: VaultContext, f: impl FnOnce(&S) -> Result<T>) -> Answer<T> {
    // SAFETY: the caller's promise.
    let services = unsafe { &*context.cast::<S>() };
    match end_panic(|| f(services)) {
        Ok(result) => Answer::from_result(result),
        Err(message) => Answer::Panic(PanicReport { message, location: "the engine".into() }),
    }
}
