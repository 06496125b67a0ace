//! The trait that a plugin implements.

use std::any::Any;

use crate::{Data, Error, ErrorKind, Export, ImportTarget, Result, Value, Vault};

/// A plugin: the functions that the engine calls during the life of one version.
///
/// Each function has a default. The engine calls them in this order:
///
/// 1. [`reloadable`], [`export`], [`import`], [`on_load`] and [`on_init`] of a new version, while it is
///    loaded. A load takes one step for all new versions before it takes the next, and in each step it
///    calls a plugin after the plugins that it imports.
/// 2. Any number of calls. [`reloadable`] is called again when the engine finds a newer artifact.
/// 3. [`on_free`], once, after the last call has returned.
///
/// The type needs [`Default`], with which the engine makes one instance for each version.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// use hotswap_plugin::prelude::*;
///
/// /// Counts its loads, and can ask not to be replaced.
/// #[derive(Default)]
/// struct Door {
///     is_locked: AtomicBool,
/// }
///
/// #[plugin]
/// impl Plugin for Door {
///     fn reloadable(&self) -> bool {
///         !self.is_locked.load(Ordering::Relaxed)
///     }
///
///     fn on_init(&self, vault: &Vault) -> Result<()> {
///         let bag = vault.data_bag();
///         bag.carry("loads", || 0_u64)?;
///         bag.update("loads", || 0_u64, |loads| *loads += 1)
///     }
/// }
///
/// /// A function that asks for the instance.
/// #[invoke]
/// fn lock(door: &Door) {
///     door.is_locked.store(true, Ordering::Relaxed);
/// }
/// # fn main() {}
/// ```
///
/// [`reloadable`]: Plugin::reloadable
/// [`export`]: Plugin::export
/// [`import`]: Plugin::import
/// [`on_load`]: Plugin::on_load
/// [`on_init`]: Plugin::on_init
/// [`on_free`]: Plugin::on_free
pub trait Plugin: Any + Send + Sync {
    /// Whether a newer artifact may replace this version. The default is `true`.
    fn reloadable(&self) -> bool {
        true
    }

    /// The object that other plugins may import from this one. The default is [`Export::none`].
    ///
    /// # Errors
    /// An error undoes the load of all plugins; the old versions keep serving.
    fn export(&self) -> Result<Export> {
        Ok(Export::none())
    }

    /// The field of the plugin into which the engine puts what it imports, of type
    /// [`Imports`](struct@crate::Imports). The default is `None`: the plugin imports nothing.
    fn import(&self) -> Option<&dyn ImportTarget> {
        None
    }

    /// The engine has loaded the version and bound its imports. `data` is what the host gave to the load;
    /// [`Data::unwrap`] reads it.
    ///
    /// # Errors
    /// An error undoes the load of all plugins; the old versions keep serving.
    fn on_load(&self, data: &Data) -> Result<()> {
        let _ = data;
        Ok(())
    }

    /// The Vault is there: take values over from the version before ([`DataBag::carry`]), set new ones,
    /// register objects ([`Extension::register`]), start tasks ([`rt::spawn`]).
    ///
    /// [`DataBag::carry`]: crate::DataBag::carry
    /// [`Extension::register`]: crate::Extension::register
    /// [`rt::spawn`]: crate::rt::spawn
    ///
    /// # Errors
    /// An error undoes the load of all plugins; the old versions keep serving.
    fn on_init(&self, vault: &Vault) -> Result<()> {
        let _ = vault;
        Ok(())
    }

    /// The last call of this version has returned. End the threads that the plugin started: the engine
    /// unmaps the image when they have ended.
    fn on_free(&self) {}

    /// Answers a call of a function that no [`#[invoke]`](macro@crate::invoke) attribute declares.
    ///
    /// # Errors
    /// An error goes to the caller. The default returns [`ErrorKind::UnknownFunction`]; an error of that
    /// kind says that the plugin has no function `name`, so return it for nothing else.
    fn invoke_func(&self, name: &str, params: &[Value]) -> Result<Value> {
        let _ = params;
        Err(Error::new(ErrorKind::UnknownFunction, format_args!("no function named `{name}`")))
    }
}
