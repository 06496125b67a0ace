//! One generation: a consistent set of versions, as callers see it.

use std::{any::Any, fmt, path::Path, sync::Arc};

use hotswap_plugin::{FunctionDescription, Interface, Leased, Value, Vault};
use hotswap_protocol::{ErrorKind, PluginName};
use serde::de::DeserializeOwned;

use super::{
    by_name::{self, Begun},
    error::CallError,
    extension::ExtensionObject,
    live::LiveTable,
};
use crate::{
    EngineError,
    vault::View,
    version::{
        Version,
        lease::{Lease, LeaseKind, LeaseName},
    },
};

/// The number of a generation. The first load makes number 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GenerationNumber(u64);

impl GenerationNumber {
    /// The empty generation before the first load.
    pub const NONE: Self = Self(0);

    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    pub fn get(self) -> u64 {
        self.0
    }

    /// The number plus one, so that 0 can stand for "not known".
    pub fn tag(self) -> u64 {
        self.0 + 1
    }
}

/// A consistent set of versions, one of each plugin. It never changes: a reload publishes another one.
///
/// A handle to it, from [`Engine::current`](crate::Engine::current), keeps all its versions in use. Keep a
/// handle as long as you need a consistent set, and no longer.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let engine = hotswap_engine::Engine::builder("plugins").build()?;
/// use hotswap_engine::args;
///
/// let generation = engine.current();
/// // Both calls go to versions that were loaded together, whatever is reloaded between them.
/// let tick: u64 = generation.plugin("clock")?.invoke("tick", args![])?;
/// for (plugin, result) in generation.invoke_each("on_tick", args![tick]) {
///     println!("{plugin}: {result:?}");
/// }
/// # Ok(())
/// # }
/// ```
#[doc(alias = "PluginManager")]
pub struct Generation {
    pub(crate) number: GenerationNumber,
    /// In load order.
    pub(crate) versions: Vec<Lease>,
    pub(crate) live: Arc<LiveTable>,
    pub(crate) extension: Arc<dyn ExtensionObject>,
    view: Arc<View>,
    vault: Vault,
}

impl Generation {
    /// A generation of these versions, which are in load order.
    pub(crate) fn new(
        number: GenerationNumber,
        versions: Vec<Lease>,
        live: Arc<LiveTable>,
        extension: Arc<dyn ExtensionObject>,
        view: Arc<View>,
    ) -> Self {
        let vault = view.vault();
        Self { number, versions, live, extension, view, vault }
    }

    /// The number of the generation: 1 for the generation of the first load, 0 for the empty one before it.
    pub fn generation(&self) -> u64 {
        self.number.get()
    }

    /// The plugin named `name`, in whatever case.
    ///
    /// # Errors
    /// If there is none. The message lists the plugins of the generation.
    pub fn plugin(&self, name: &str) -> Result<LoadedPlugin, EngineError> {
        self.find(name).map(|lease| LoadedPlugin(lease.another(LeaseKind::Handle)))
    }

    /// The live function named `name`.
    pub(crate) fn live_function(
        &self,
        name: &str,
    ) -> Result<(&Lease, usize, &FunctionDescription), CallError> {
        let found = self.live.place(name).and_then(|(at, place)| {
            let lease = self.versions.get(at)?;
            Some((lease, place, lease.version().function_at(place)?))
        });
        found.ok_or_else(|| CallError::no_live_function(name, &self.live.function_names()))
    }

    /// The lease of a plugin's version, if it serves.
    pub(crate) fn lease(&self, name: &PluginName) -> Option<&Lease> {
        self.versions.iter().find(|lease| lease.version().name() == name)
    }

    /// The version of a plugin, by the plugin's name in whatever case.
    pub(crate) fn find(&self, name: &str) -> Result<&Lease, EngineError> {
        let mut versions = self.versions.iter();
        let found = versions.find(|lease| lease.version().name().is(name));
        found.ok_or_else(|| self.unknown(name))
    }

    /// The error that lists the plugins of the generation.
    #[cold]
    pub(crate) fn unknown(&self, name: &str) -> EngineError {
        EngineError::UnknownPlugin {
            name: name.to_owned(),
            known: self.names().map(ToOwned::to_owned).collect(),
        }
    }

    /// All plugins, in load order.
    pub fn plugins(&self) -> Vec<LoadedPlugin> {
        let versions = self.versions.iter();
        versions.map(|version| LoadedPlugin(version.another(LeaseKind::Handle))).collect()
    }

    /// The plugins' names, in load order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.versions.iter().map(|lease| lease.version().name().as_str())
    }

    /// Calls a function of every plugin that has it, in load order.
    ///
    /// If a plugin returns an error or panics, this is logged, and the others still run. Returns the name and
    /// the result of each plugin; plugins without the function are left out.
    pub fn invoke_each(
        &self,
        function: &str,
        args: &[Value],
    ) -> Vec<(String, Result<Value, CallError>)> {
        invoke_all(self.versions.iter(), function, args)
    }

    /// Does the same as [`invoke_each`](Self::invoke_each), in reverse order.
    pub fn invoke_each_backward(
        &self,
        function: &str,
        args: &[Value],
    ) -> Vec<(String, Result<Value, CallError>)> {
        invoke_all(self.versions.iter().rev(), function, args)
    }

    /// The host's handle to the Vault. In a callback before the generation is published, it shows the changes
    /// of the load, and changes through it are undone with the load.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// The host's own object; `None` if it is not an `E`.
    pub fn extension<E: Any>(&self) -> Option<&E> {
        (self.extension.as_ref() as &dyn Any).downcast_ref()
    }

    /// The objects that plugins registered in the Extension for an interface, sorted by name.
    ///
    /// # Errors
    /// If a plugin was built with another version of the interface. The message says what differs.
    pub fn registered<I: Interface + ?Sized>(&self) -> Result<Vec<Registered<I>>, EngineError> {
        let shape = I::shape();
        let mut registered = Vec::new();
        for object in self.view.registrations(&shape.name) {
            if let Some(what) = object.shape.difference(&shape) {
                return Err(EngineError::Interface { owner: object.owner.to_string(), what });
            }
            let (name, owner) = (object.name.clone(), object.owner.to_string());
            if let Some(object) = object.lend() {
                registered.push(Registered { name, owner, object });
            }
        }
        if !registered.is_empty() {
            self.view.expectations().of_interface(None, &shape);
        }
        Ok(registered)
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<_> = self.versions.iter().map(Lease::to_string).collect();
        write!(f, "Generation({}: {})", self.number.get(), versions.join(", "))
    }
}

impl Drop for Generation {
    /// Drops the versions in reverse load order.
    fn drop(&mut self) {
        while self.versions.pop().is_some() {}
    }
}

fn invoke_all<'a>(
    versions: impl Iterator<Item = &'a Lease>,
    function: &str,
    args: &[Value],
) -> Vec<(String, Result<Value, CallError>)> {
    let mut answers = Vec::new();
    for lease in versions {
        let answer = by_name::invoke(lease, function, args);
        match &answer {
            Err(error) if error.kind() == ErrorKind::UnknownFunction => continue,
            Err(error) => tracing::error!("{error}"),
            Ok(_) => {}
        }
        answers.push((lease.version().name().to_string(), answer));
    }
    answers
}

/// An object that a plugin registered in the Extension.
pub struct Registered<I: ?Sized> {
    /// The name it was registered under.
    pub name: String,
    /// `cat v2`
    pub owner: String,
    /// The object; it keeps its version in use.
    pub object: Leased<I>,
}

/// A handle to one version of a plugin, which it keeps in use.
pub struct LoadedPlugin(pub(crate) Lease);

impl LoadedPlugin {
    /// The plugin's name.
    pub fn name(&self) -> &str {
        self.0.version().name().as_str()
    }

    /// Which load of the plugin this is, from 1.
    pub fn version(&self) -> u32 {
        self.0.version().ordinal
    }

    /// The number of the patch whose code this handle calls, from 1; `None` for the version as it was loaded.
    pub fn patch(&self) -> Option<u32> {
        self.0.face().patch_number()
    }

    /// Whether the version said during its load that it may be replaced. A reload asks it again.
    pub fn is_reloadable(&self) -> bool {
        self.inner().is_reloadable()
    }

    /// The engine's own copy of the artifact, from which the version was loaded; `None` if the plugin is
    /// linked into this program.
    pub fn file(&self) -> Option<&Path> {
        self.0.image().file()
    }

    /// A text about the version besides its state: what keeps it in use after it was replaced, or why its
    /// image stays mapped. It is empty if there is nothing to say.
    pub fn note(&self) -> String {
        self.inner().info().remark.unwrap_or_default()
    }

    /// The object that the plugin exports, as an `I`; `None` if it exports nothing. The object keeps the
    /// version in use.
    ///
    /// ```no_run
    /// # use hotswap_engine::plugin::interface;
    /// # #[interface] trait Alpha { fn one(&self) -> u32; }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = hotswap_engine::Engine::builder("plugins").build()?;
    /// if let Some(alpha) = engine.plugin("alpha")?.export::<dyn Alpha>()? {
    ///     println!("{}", alpha.one());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the plugin exports another interface, or was built with another version of the interface. The
    /// message says what differs.
    pub fn export<I: Interface + ?Sized>(&self) -> Result<Option<Leased<I>>, EngineError> {
        let Some(export) = self.inner().export() else { return Ok(None) };
        let shape = I::shape();
        if let Some(what) = export.shape.difference(&shape) {
            return Err(EngineError::Interface { owner: self.0.to_string(), what });
        }
        self.inner().expectations().of_interface(Some(self.name()), &shape);
        Ok(export.lend())
    }

    /// Calls a function and reads its result as a `T`. If the function is `async`, this thread waits for its
    /// result.
    ///
    /// # Errors
    /// If there is no such function, an argument does not fit, the function fails or panics, or its result is
    /// not a `T`.
    pub fn invoke<T: DeserializeOwned>(
        &self,
        function: &str,
        args: &[Value],
    ) -> Result<T, CallError> {
        let value = self.invoke_value(function, args)?;
        value.to().map_err(|error| CallError::bad_result(self.0.faced(), function, &error))
    }

    /// Calls a function.
    ///
    /// # Errors
    /// As for [`invoke`](Self::invoke), except that the result always fits.
    pub fn invoke_value(&self, function: &str, args: &[Value]) -> Result<Value, CallError> {
        by_name::invoke(&self.0, function, args)
    }

    /// Calls a function. While an `async` function waits, it does not block a thread.
    ///
    /// The call ends on this version, even if another one serves by then. Dropping the future cancels the
    /// call.
    ///
    /// # Errors
    /// As for [`invoke`](Self::invoke).
    pub async fn invoke_async<T: DeserializeOwned>(
        &self,
        function: &str,
        args: &[Value],
    ) -> Result<T, CallError> {
        let value = match by_name::begin_async(&self.0, function, args).await {
            Begun::Ended(result) => result?,
            Begun::Running(call) => call.await?,
        };
        value.to().map_err(|error| CallError::bad_result(self.0.faced(), function, &error))
    }

    /// The same handle, marked as one that a console has.
    pub(crate) fn held_by_console(self) -> Self {
        Self(self.0.named(LeaseName::Console))
    }

    pub(crate) fn inner(&self) -> &Arc<Version> {
        self.0.version()
    }
}

impl fmt::Debug for LoadedPlugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoadedPlugin({})", self.0)
    }
}
