//! The trait that a plugin implements.

use std::any::Any;

use crate::{Data, Error, ErrorKind, Export, ImportTarget, Result, Value, Vault};

/// A plugin: the functions that the engine calls during the life of one version.
///
/// Each function has a default. The engine calls them in this order:
///
/// 1. [`reloadable`], [`export`], [`import`], [`on_load`] and [`on_init`] of a new version, while it is
///    loaded. A load does one step for all new versions before it begins the next step. In each step, it
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

    /// The field of the plugin, of type [`Imports`](struct@crate::Imports), into which the engine puts the
    /// imported objects. The default is `None`: the plugin imports nothing.
    fn import(&self) -> Option<&dyn ImportTarget> {
        None
    }

    /// Called after the engine has loaded the version and bound its imports. `data` is what the host passed
    /// to the load; [`Data::unwrap`] reads it.
    ///
    /// # Errors
    /// An error undoes the load of all plugins; the old versions keep serving.
    fn on_load(&self, data: &Data) -> Result<()> {
        let _ = data;
        Ok(())
    }

    /// Called when the Vault is available: take values over from the version before ([`DataBag::carry`]), set
    /// new ones, register objects ([`Extension::register`]), and start tasks ([`rt::spawn`]).
    ///
    /// It runs on a thread that ends with the load, so a thread-local that is set here does not exist in
    /// later calls. The version that is replaced still serves: its `on_free` runs after this.
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

    /// Whether two versions must not have some resource at the same time, such as a database that a process
    /// can open only once. If so, the engine calls [`hand_over`] before the `on_init` of the version that
    /// replaces this one. The default is `false`: two versions overlap, and no call waits.
    ///
    /// ```
    /// use std::{fs::File, sync::Mutex};
    ///
    /// use hotswap_plugin::prelude::*;
    ///
    /// /// Has a file that only one version may have open.
    /// #[derive(Default)]
    /// struct Log {
    ///     file: Mutex<Option<File>>,
    /// }
    ///
    /// impl Log {
    ///     fn open(&self) -> Result<()> {
    ///         *self.file.lock()? = Some(File::options().append(true).open("log")?);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// #[plugin]
    /// impl Plugin for Log {
    ///     fn on_init(&self, _: &Vault) -> Result<()> {
    ///         self.open()
    ///     }
    ///
    ///     fn hands_over(&self) -> bool {
    ///         true
    ///     }
    ///
    ///     fn hand_over(&self) -> Result<()> {
    ///         *self.file.lock()? = None;
    ///         Ok(())
    ///     }
    ///
    ///     fn take_back(&self) -> Result<()> {
    ///         self.open()
    ///     }
    /// }
    /// # fn main() {}
    /// ```
    ///
    /// This is the one case in which a call may wait. The engine lets the running calls of this version end,
    /// and holds up new calls of this plugin. They then run on the version that serves afterwards, and the
    /// report of the reload says how long they waited. If the running calls do not end within the step
    /// timeout, the reload is refused and nothing is handed over. Only calls of functions are held up, by
    /// name and by type; methods of objects that others have from this plugin are not. A call from code for which
    /// the load itself waits, such as a step of a plugin or a callback of the host, is an error.
    ///
    /// [`hand_over`]: Plugin::hand_over
    fn hands_over(&self) -> bool {
        false
    }

    /// Releases the resource that only one version may have. No call runs, and the next version is about to
    /// take the resource. Only called if [`hands_over`](Plugin::hands_over) is true.
    ///
    /// # Errors
    /// An error undoes the load of all plugins, and [`take_back`](Plugin::take_back) is called.
    fn hand_over(&self) -> Result<()> {
        Ok(())
    }

    /// Takes the resource back that [`hand_over`](Plugin::hand_over) released. Called if the load failed
    /// afterwards: the new version has released everything, and this version keeps serving.
    ///
    /// # Errors
    /// An error is logged; the version keeps serving.
    fn take_back(&self) -> Result<()> {
        Ok(())
    }

    /// Called after the last call of this version has returned. End the threads that the plugin started here:
    /// the engine unmaps the image when they have ended.
    ///
    /// If another version has replaced this one, its `on_init` ran long ago. So a resource that only one
    /// version may have, such as a PID file, belongs to that version now (see
    /// [`hands_over`](Plugin::hands_over)).
    fn on_free(&self) {}

    /// Answers a call of a function that no [`#[invoke]`](macro@crate::invoke) attribute declares.
    ///
    /// # Errors
    /// An error goes to the caller. The default returns [`ErrorKind::UnknownFunction`]. Return an error of
    /// that kind only if the plugin has no function `name`.
    fn invoke_func(&self, name: &str, params: &[Value]) -> Result<Value> {
        let _ = params;
        Err(Error::new(ErrorKind::UnknownFunction, format_args!("no function named `{name}`")))
    }
}
