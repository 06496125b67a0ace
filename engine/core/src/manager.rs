//! One generation: a consistent set of versions, as callers see it.

use std::{any::Any, collections::HashMap, fmt, sync::Arc};

use hotswap_plugin::{FunctionDescription, Interface, Leased, Value, Vault};
use hotswap_protocol::ErrorKind;
use rustc_hash::FxBuildHasher;
use serde::de::DeserializeOwned;

use crate::{
    CallError, EngineError,
    call::{self, Begun},
    extension::ExtensionObject,
    lease::{Lease, LeaseKind},
    vault::Store,
    version::Version,
};

/// One immutable generation of plugins.
///
/// A handle to it, from [`Engine::current`](crate::Engine::current), keeps all its versions in use.
/// Hold one as long as you need a consistent set, and no longer.
pub struct PluginManager {
    pub(crate) generation: u64,
    /// In load order.
    pub(crate) versions: Vec<Lease>,
    /// Where the live functions are, by name: which of the versions, and the place in it.
    pub(crate) live_functions: HashMap<String, (usize, usize), FxBuildHasher>,
    pub(crate) extension: Arc<dyn ExtensionObject>,
    pub(crate) store: Arc<Store>,
    pub(crate) vault: Vault,
}

impl PluginManager {
    /// Counts the generations from 1; 0 is the empty one before the first load.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The plugin of a name, without regard to case.
    ///
    /// # Errors
    /// When there is none; the message lists those there are.
    pub fn plugin(&self, name: &str) -> Result<LoadedPlugin, EngineError> {
        self.find(name).map(|lease| LoadedPlugin(lease.another(LeaseKind::Handle)))
    }

    /// The version of a plugin.
    pub(crate) fn version(&self, name: &str) -> Result<&Arc<Version>, EngineError> {
        self.find(name).map(Lease::version)
    }

    /// Where the live functions of some versions are.
    pub(crate) fn live_functions(
        versions: &[Lease],
    ) -> HashMap<String, (usize, usize), FxBuildHasher> {
        let all = versions.iter().enumerate().flat_map(|(at, lease)| {
            let places = lease.version().live_places();
            places.map(move |(place, function)| (function.name.clone(), (at, place)))
        });
        all.collect()
    }

    /// The live function of a name.
    pub(crate) fn live_function(
        &self,
        name: &str,
    ) -> Result<(&Arc<Version>, usize, &FunctionDescription), CallError> {
        let found = self.live_functions.get(name).and_then(|(at, place)| {
            let version = self.versions.get(*at)?.version();
            Some((version, *place, version.function_at(*place)?))
        });
        found.ok_or_else(|| {
            let mut known: Vec<&str> = self.live_functions.keys().map(String::as_str).collect();
            known.sort_unstable();
            CallError::no_live_function(name, &known)
        })
    }

    fn find(&self, name: &str) -> Result<&Lease, EngineError> {
        let mut versions = self.versions.iter();
        let found = versions.find(|version| same_name(version.version().name(), name));
        found.ok_or_else(|| self.unknown(name))
    }

    /// The error that lists which plugins there are.
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
        self.versions.iter().map(|version| version.version().name())
    }

    /// Calls a function of every plugin that has it, in load order.
    ///
    /// One plugin's error or panic is logged, and the others still run. Returns each plugin's name
    /// and what it answered; plugins without the function are left out.
    pub fn invoke_each(
        &self,
        function: &str,
        args: &[Value],
    ) -> Vec<(String, Result<Value, CallError>)> {
        invoke_all(self.versions.iter(), function, args)
    }

    /// As [`invoke_each`](Self::invoke_each), in reverse order.
    pub fn invoke_each_backward(
        &self,
        function: &str,
        args: &[Value],
    ) -> Vec<(String, Result<Value, CallError>)> {
        invoke_all(self.versions.iter().rev(), function, args)
    }

    /// The Vault as the host sees it.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// The host's own object, if it is an `E`.
    pub fn extension<E: Any>(&self) -> Option<&E> {
        (self.extension.as_ref() as &dyn Any).downcast_ref()
    }

    /// What plugins registered in the Extension for an interface, sorted by name.
    ///
    /// # Errors
    /// When a plugin's idea of the interface is another; the message says what differs.
    pub fn registered<I: Interface + ?Sized>(&self) -> Result<Vec<Registered<I>>, EngineError> {
        let shape = I::shape();
        let mut registered = Vec::new();
        for slot in self.store.slots(&shape.name) {
            if let Some(what) = slot.shape.difference(&shape) {
                return Err(EngineError::Interface { owner: slot.owner.to_string(), what });
            }
            let (name, owner) = (slot.name.clone(), slot.owner.to_string());
            if let Some(object) = slot.lend() {
                registered.push(Registered { name, owner, object });
            }
        }
        Ok(registered)
    }
}

impl fmt::Debug for PluginManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<_> =
            self.versions.iter().map(|lease| lease.version().to_string()).collect();
        write!(f, "PluginManager(generation {}: {})", self.generation, versions.join(", "))
    }
}

fn invoke_all<'a>(
    versions: impl Iterator<Item = &'a Lease>,
    function: &str,
    args: &[Value],
) -> Vec<(String, Result<Value, CallError>)> {
    let mut answers = Vec::new();
    for lease in versions {
        let answer = call::invoke(lease, function, args);
        match &answer {
            Err(error) if error.kind() == ErrorKind::UnknownFunction => continue,
            Err(error) => tracing::error!("{error}"),
            Ok(_) => {}
        }
        answers.push((lease.version().name().to_owned(), answer));
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
        self.0.version().name()
    }

    /// Which load of the plugin this is, from 1.
    pub fn version(&self) -> u32 {
        self.0.version().ordinal
    }

    /// Calls a function and reads its result as a `T`. An `async` function is waited for on this
    /// thread.
    ///
    /// # Errors
    /// When there is no such function, an argument does not fit, the function fails or panics, or
    /// its result is no `T`.
    pub fn invoke<T: DeserializeOwned>(
        &self,
        function: &str,
        args: &[Value],
    ) -> Result<T, CallError> {
        let value = self.invoke_value(function, args)?;
        value.to().map_err(|error| CallError::bad_result(self.inner(), function, &error))
    }

    /// Calls a function.
    ///
    /// # Errors
    /// As for [`invoke`](Self::invoke), but for the result.
    pub fn invoke_value(&self, function: &str, args: &[Value]) -> Result<Value, CallError> {
        call::invoke(&self.0, function, args)
    }

    /// Calls a function, without blocking the thread while an `async` one waits.
    ///
    /// The call ends on this version, also when another one serves meanwhile; dropping the future
    /// cancels it.
    ///
    /// # Errors
    /// As for [`invoke`](Self::invoke).
    pub async fn invoke_async<T: DeserializeOwned>(
        &self,
        function: &str,
        args: &[Value],
    ) -> Result<T, CallError> {
        let value = match call::begin(&self.0, function, args) {
            Begun::Ended(result) => result?,
            Begun::Running(call) => call.await?,
        };
        value.to().map_err(|error| CallError::bad_result(self.inner(), function, &error))
    }

    pub(crate) fn inner(&self) -> &Arc<Version> {
        self.0.version()
    }
}

impl fmt::Debug for LoadedPlugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoadedPlugin({})", self.0.version())
    }
}

/// Whether two names are of one plugin.
pub(crate) fn same_name(a: &str, b: &str) -> bool {
    fn lower(name: &str) -> impl Iterator<Item = char> {
        name.chars().flat_map(char::to_lowercase)
    }
    // A reload compares all names with all; most are plain, and not looked at a second time.
    a.eq_ignore_ascii_case(b) || !(a.is_ascii() && b.is_ascii()) && lower(a).eq(lower(b))
}
