//! Makes a view the implementation of the [`Vault`] of a plugin or of the host.

use std::sync::Arc;

use hotswap_plugin::{
    __private::{CarryTable, RawObject, RawValue, ValueCallback, VaultServices},
    BoundObject, Carried, Data, InterfaceShape, Result, Value, Vault,
};

use super::View;

/// Wraps a view so that plugins and hosts can use it.
pub(super) fn vault(view: Arc<View>) -> Vault {
    Vault::over(view)
}

impl VaultServices for View {
    fn set(&self, key: &str, value: RawValue, replace: bool) -> Result<bool> {
        self.set(key, value, replace)
    }

    fn with(&self, key: &str, callback: &mut ValueCallback) -> Result<bool> {
        self.with(key, callback)
    }

    fn carry(&self, key: &str, table: &'static CarryTable) -> Result<Carried> {
        self.carry(key, table)
    }

    fn remove(&self, key: &str) -> Result<bool> {
        self.remove(key)
    }

    fn keys(&self) -> Vec<String> {
        self.keys()
    }

    fn live_call(&self, name: &str, args: &[Value]) -> Result<Value> {
        self.live_call(name, args)
    }

    fn live_renew(&self, data: &Data) -> Result<Data> {
        self.live_renew(data)
    }

    fn register(&self, name: &str, object: RawObject, replace: bool) -> Result<()> {
        self.register(name, object, replace)
    }

    fn unregister(&self, interface: &str, name: &str) -> Result<bool> {
        self.unregister(interface, name)
    }

    fn find(&self, shape: &InterfaceShape, name: &str) -> Result<Option<BoundObject>> {
        self.registered(shape, name)
    }

    fn names(&self, interface: &str) -> Vec<String> {
        self.names(interface)
    }
}
