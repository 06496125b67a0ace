//! The trait that a plugin implements.

use std::any::Any;

use crate::{Data, Error, ErrorKind, Export, ImportTarget, Result, Value, Vault};

/// A plugin: what the engine calls during the life of one version.
///
/// Everything has a default. The engine calls the functions in this order: [`reloadable`],
/// [`export`], [`import`], [`on_load`] and [`on_init`] of a new version, each over all new versions
/// before the next, and a plugin's dependencies before it; then any number of calls, `reloadable`
/// again when a newer artifact is found, and [`on_free`] once, after the last call has returned.
///
/// [`reloadable`]: Plugin::reloadable
/// [`export`]: Plugin::export
/// [`import`]: Plugin::import
/// [`on_load`]: Plugin::on_load
/// [`on_init`]: Plugin::on_init
/// [`on_free`]: Plugin::on_free
pub trait Plugin: Any + Send + Sync {
    /// Whether a newer artifact may replace the running version.
    fn reloadable(&self) -> bool {
        true
    }

    /// What other plugins may import of this one.
    ///
    /// # Errors
    /// An error undoes the load of every plugin; the old versions keep serving.
    fn export(&self) -> Result<Export> {
        Ok(Export::none())
    }

    /// Where the engine puts what this plugin imports: a field of type [`Imports`](struct@crate::Imports).
    fn import(&self) -> Option<&dyn ImportTarget> {
        None
    }

    /// The version was loaded; `data` is what the host gave to the load.
    ///
    /// # Errors
    /// An error undoes the load of every plugin; the old versions keep serving.
    fn on_load(&self, data: &Data) -> Result<()> {
        let _ = data;
        Ok(())
    }

    /// The Vault is there; register in it, take over what an earlier version left.
    ///
    /// # Errors
    /// An error undoes the load of every plugin; the old versions keep serving.
    fn on_init(&self, vault: &Vault) -> Result<()> {
        let _ = vault;
        Ok(())
    }

    /// Nobody uses this version any more; its image is unmapped next.
    fn on_free(&self) {}

    /// Answers a call of a function that no `#[invoke]` attribute declares.
    ///
    /// # Errors
    /// An error goes to the caller. The default says that the function is unknown.
    fn invoke_func(&self, name: &str, params: &[Value]) -> Result<Value> {
        let _ = params;
        Err(Error::new(ErrorKind::UnknownFunction, format_args!("no function named `{name}`")))
    }
}
