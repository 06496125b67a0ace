//! The engine as a host uses it.

mod builder;
mod guard;
mod hooks;
mod inner;
mod places;
#[cfg(feature = "tokio")]
mod tokio_workers;

pub use builder::{EngineBuilder, plugin_dir_from_env};
pub(crate) use inner::Inner;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hotswap_plugin::{StaticPlugin, Value, Vault};
use hotswap_protocol::{
    FreeResult, Holder, LiveSnapshot, PatchParams, PlanParams, PruneParams, ReloadPlan,
    ReloadReport, Snapshot, VaultSnapshot,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    AsyncFunc, CallError, EngineError, Events, Func, Generation, LiveFuncs, LoadedPlugin,
    Signature,
    load::{Request, load_data},
    serve::by_name,
    vault::View,
    version::{holders::texts, threads::checkpoint},
};

/// How long dropping an engine waits for calls to end.
const DROP_TIMEOUT: Duration = Duration::from_secs(2);

/// Loads, serves, replaces and frees plugins.
///
/// A clone is another handle to the same engine. When the last one is dropped, the engine shuts
/// down: see [`Engine::shutdown`].
///
/// ```no_run
/// use std::time::Duration;
///
/// use hotswap_engine::{ConsoleSocket, Engine, args};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::builder("plugins")
///     .free_delay(Duration::from_secs(1))
///     .console(ConsoleSocket::from_env())
///     .build()?;
/// engine.load(())?;
///
/// // By name, or with Rust types: both go to the version that serves at the moment of the call.
/// let greeting: String = engine.invoke("world", "greet", args!["Ada", 2])?;
/// let describe = engine.func::<fn(f32) -> String>("physics", "describe")?;
/// println!("{greeting} {}", describe.call(9.81)?);
///
/// // A reload that fails changes nothing.
/// if let Err(error) = engine.reload() {
///     eprintln!("{error}");
/// }
/// let report = engine.shutdown(Duration::from_secs(5));
/// println!("still mapped: {report}");
/// # Ok(())
/// # }
/// ```
///
/// # Backtraces
/// If the host makes a backtrace with std while a plugin is on the stack, std's symboliser keeps the plugin's
/// *file* open for the life of the process. The image is unmapped nevertheless.
///
/// # `fork`
/// A child of `fork` has none of the engine's threads. It may call plugins without affecting its parent. In
/// the child, nothing is freed, and consoles do not see it. The child must not load, shut down or drop the
/// engine, because the socket and the staged files belong to its parent: it must end with `exec` or `_exit`.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
    _last: Arc<ShutdownOnDrop>,
}

/// The result of [`Engine::shutdown`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Whatever had not ended when the time was over; empty after a complete shutdown.
    pub held: Vec<Leftover>,
}

/// Something that had not ended when the time of a shutdown was over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leftover {
    /// A load is still running. No version was retired; this happens when the load ends.
    Load,
    /// A version that is still mapped.
    Version {
        /// The plugin.
        plugin: String,
        /// The version.
        version: u32,
        /// What keeps the version in use.
        holders: Vec<Holder>,
    },
}

impl fmt::Display for ShutdownReport {
    /// The leftovers, separated by `; `, or `nothing`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.held.split_first() else { return f.write_str("nothing") };
        write!(f, "{first}")?;
        others.iter().try_for_each(|leftover| write!(f, "; {leftover}"))
    }
}

impl fmt::Display for Leftover {
    /// `world v1: 1 call`, with the age of calls as of now.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load => f.write_str("a load that has not ended"),
            Self::Version { plugin, version, holders } => {
                write!(f, "{plugin} v{version}: {}", texts(holders).join(", "))
            }
        }
    }
}

impl Engine {
    /// Sets up an engine from the environment, so that the host needs no settings: a console that starts the
    /// host says where the plugins are, and can attach.
    ///
    /// | what | from | or else |
    /// |---|---|---|
    /// | the directory of artifacts | `HOTSWAP_PLUGIN_DIR` | where a console builds: `hotswap/plugins/PROGRAM` in cargo's target directory; for a program outside of one, `plugins` beside it |
    /// | the store of earlier builds | `HOTSWAP_STORE` | `hotswap/store` in cargo's target directory; outside of one, none |
    /// | the [console](EngineBuilder::console) | `HOTSWAP_CONSOLE` | none |
    ///
    /// ```no_run
    /// use hotswap_engine::Engine;
    ///
    /// # fn main() -> Result<(), hotswap_engine::EngineError> {
    /// let engine = Engine::from_env().build()?;
    /// // A host runs without its plugins too: the next reload may load what failed.
    /// if let Err(error) = engine.load(()) {
    ///     eprintln!("{error}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_env() -> EngineBuilder {
        EngineBuilder::from_env()
    }

    /// Sets up an engine whose artifacts are in `plugin_dir`. A relative path is relative to the working
    /// directory.
    pub fn builder(plugin_dir: impl Into<PathBuf>) -> EngineBuilder {
        EngineBuilder::new(plugin_dir.into())
    }

    /// Sets up an engine whose plugins are linked into this program, for debuggers and for platforms that
    /// cannot unload: `Engine::builder_static(static_plugins![world, dog])`.
    ///
    /// Linked plugins work like loaded ones, with these differences:
    /// - Once they are loaded, [`reload`](Self::reload) and [`rollback`](Self::rollback) return
    ///   [`EngineError::StaticallyLinked`].
    /// - Threads that a plugin starts, thread-locals that it leaves, and its statics belong to the program.
    /// - Log records of a plugin are attributed to the engine that loaded the plugin last.
    ///
    /// Each engine has its own instance of each plugin and its own Vault, so tests that make an engine each
    /// can run in parallel.
    pub fn builder_static(
        plugins: impl IntoIterator<Item = &'static StaticPlugin>,
    ) -> EngineBuilder {
        EngineBuilder::linked(plugins.into_iter().collect())
    }

    /// Loads the plugins, and passes `data` to the `on_load` of each.
    ///
    /// The engine remembers `data` for the loads that have no data of their own: [`reload`](Self::reload),
    /// [`reload_latest`](Self::reload_latest), [`rollback`](Self::rollback), and loads that a console
    /// requests.
    ///
    /// # Errors
    /// If any step of any plugin fails. Then the whole load is undone, and the generation before it keeps
    /// serving.
    pub fn load<T: Serialize>(&self, data: T) -> Result<ReloadReport, EngineError> {
        self.enter().load_as(Request::Changed, Some(load_data(&data)?), None)
    }

    /// Loads the plugins that changed since the last load, as [`load`](Self::load) does. Unchanged plugins
    /// stay, and so do plugins whose artifact is gone: see [`reload_pruning`](Self::reload_pruning).
    ///
    /// Running calls end on the old versions, which are freed when nothing uses them any more. Two reloads
    /// never run at once: the second one waits.
    ///
    /// # Errors
    /// As for `load`.
    pub fn reload(&self) -> Result<ReloadReport, EngineError> {
        self.enter().load_as(Request::Changed, None, None)
    }

    /// Reloads like [`reload`](Self::reload), with new `data` for `on_load` and a callback. The callback gets
    /// the new and the old generation before the new one is published.
    ///
    /// In the callback, everything of the new generation is new: its plugins, live functions, registrations,
    /// and its [`vault`](Generation::vault). If the load is undone, so is whatever the callback writes there.
    /// The callback can replace values that existed before, but not change them in place.
    ///
    /// # Errors
    /// As for `load`. Also if the callback fails or panics; then the reload is undone.
    pub fn reload_with<T, E>(
        &self,
        data: T,
        mut callback: impl FnMut(&Generation, &Generation) -> Result<(), E>,
    ) -> Result<ReloadReport, EngineError>
    where
        T: Serialize,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut callback =
            |new: &Generation, old: &Generation| callback(new, old).map_err(Into::into);
        self.enter().load_as(Request::Changed, Some(load_data(&data)?), Some(&mut callback))
    }

    /// The number of reloads that were published. The first load, and reloads without a change, do not count.
    pub fn reload_count(&self) -> u64 {
        self.enter().load_count().saturating_sub(1)
    }

    /// Changes the directory where the next reload looks for artifacts.
    pub fn set_plugin_dir(&self, dir: impl AsRef<Path>) {
        self.enter().set_plugin_dir(dir.as_ref());
    }

    /// Reloads like [`reload`](Self::reload), and also loads plugins that a rollback keeps back.
    ///
    /// # Errors
    /// As for `load`.
    pub fn reload_latest(&self) -> Result<ReloadReport, EngineError> {
        self.enter().load_as(Request::Latest, None, None)
    }

    /// Reloads like [`reload`](Self::reload), and also unloads plugins whose artifact is gone from the plugin
    /// directory.
    ///
    /// Every other load keeps them, and reports [`Outcome::Missing`](hotswap_protocol::Outcome): a file may
    /// disappear although nobody wants to unload its plugin, for example after `cargo clean`.
    ///
    /// # Errors
    /// As for `load`.
    pub fn reload_pruning(&self) -> Result<ReloadReport, EngineError> {
        self.enter().load_as(Request::Pruning(PruneParams::default()), None, None)
    }

    /// Says what [`reload`](Self::reload) would do now, or, with `latest`, what
    /// [`reload_latest`](Self::reload_latest) would do. Nothing is loaded; [`probe`](crate::probe) shows what
    /// the artifacts declare.
    ///
    /// # Errors
    /// As for a reload that is refused before an artifact is opened.
    pub fn plan(&self, latest: bool) -> Result<ReloadPlan, EngineError> {
        self.enter().plan(PlanParams { latest, ..PlanParams::default() })
    }

    /// Patches the version of a plugin that serves, while the artifact with the same code is still being linked.
    /// `hotswap_build` makes such patches. The host has to be told later which build has this code: by a
    /// [`reload`](Self::reload) that finds the artifact with its patch beside it, or, without a reload, by a second
    /// call of this function with that patch. Both publish nothing, because the code serves already.
    ///
    /// # Errors
    /// As for `load`. Also if the patch cannot be read or is for another build than the one that serves, if a
    /// rollback keeps the plugin back, or if the plugin has this code already. Then nothing has changed, and
    /// nothing is logged as an error, because the artifact is still to come.
    pub fn patch(&self, params: PatchParams) -> Result<ReloadReport, EngineError> {
        self.enter().patch(params)
    }

    /// Loads a plugin from an earlier artifact, without a build. `target` names a version: `world@2`, or
    /// `world@7f3a90` with the beginning of its build id; see [`PluginName`](hotswap_protocol::PluginName).
    ///
    /// Afterwards the plugin is kept back: [`reload`](Self::reload) does not load the artifact from which it
    /// was rolled back. It loads any newer artifact, and [`reload_latest`](Self::reload_latest) loads any
    /// artifact.
    ///
    /// # Errors
    /// As for `load`. Also if there is no such artifact, in memory or in the [store](EngineBuilder::store).
    pub fn rollback(&self, target: &str) -> Result<ReloadReport, EngineError> {
        self.enter().rollback(target)
    }

    /// The generation that serves. The handle keeps all versions of the generation in use.
    pub fn current(&self) -> Arc<Generation> {
        self.enter().current()
    }

    /// The plugin or the version that `target` names, if it can still be called.
    ///
    /// # Errors
    /// If there is none. The message lists the available targets.
    pub fn plugin(&self, target: &str) -> Result<LoadedPlugin, EngineError> {
        self.enter().plugin(target)
    }

    /// The host's handle to the Vault. It stays valid in all later generations.
    pub fn vault(&self) -> Vault {
        View::for_host(self.enter().vault_contents()).vault()
    }

    /// A handle to a plugin's `#[invoke]` or `#[live]` function that is called with Rust types and follows
    /// reloads: `engine.func::<fn(f32) -> String>("physics", "describe")`.
    ///
    /// # Errors
    /// If there is no such plugin or function, or the function has another signature. The message shows both
    /// signatures.
    pub fn func<F: Signature>(&self, plugin: &str, name: &str) -> Result<Func<F>, CallError> {
        Func::new(self.enter().current_cell(), plugin, name)
    }

    /// Works like [`func`](Self::func), for an `async` function: `engine.async_func::<fn(u64) ->
    /// u64>("world", "wait")`.
    ///
    /// # Errors
    /// As for `func`. Also if the function is not `async`.
    pub fn async_func<F: Signature>(
        &self,
        plugin: &str,
        name: &str,
    ) -> Result<AsyncFunc<F>, CallError> {
        AsyncFunc::new(self.enter().current_cell(), plugin, name)
    }

    /// A handle to all live functions with the signature `F`. Each call finds its function by name.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = hotswap_engine::Engine::builder("plugins").build()?;
    /// let jobs = engine.live_funcs::<fn(u64, u64) -> u64>();
    /// let sum = jobs.call("live_add", (3, 4))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn live_funcs<F: Signature>(&self) -> LiveFuncs<F> {
        LiveFuncs::new(self.enter().current_cell())
    }

    /// Calls a function of a serving plugin by name, and reads its result as a `T`. If the function is
    /// `async`, this thread waits for its result.
    ///
    /// It does the same as `current().plugin(plugin)?.invoke(function, args)`, without the handles.
    ///
    /// # Errors
    /// If there is no such plugin or function, an argument does not fit, the function fails or panics, or its
    /// result is not a `T`.
    pub fn invoke<T: DeserializeOwned>(
        &self,
        plugin: &str,
        function: &str,
        args: &[Value],
    ) -> Result<T, CallError> {
        let current = self.inner.current_cell();
        by_name::invoke_serving(current, plugin, function, args)
    }

    /// Asks the engine to free a version that was replaced, and says what keeps it in use.
    ///
    /// # Errors
    /// If there is no such version, or it serves.
    pub fn free(&self, target: &str) -> Result<FreeResult, EngineError> {
        self.enter().free(target)
    }

    /// Whether the plugins are linked into this program instead of being loaded from artifacts, that is,
    /// whether [`builder_static`](Self::builder_static) made the engine. Such an engine loads once, and never
    /// reloads.
    pub fn is_statically_linked(&self) -> bool {
        self.inner.is_statically_linked()
    }

    /// The events of the engine from now on.
    pub fn subscribe(&self) -> Events {
        self.enter().events().subscribe()
    }

    /// The plugins and all their versions.
    pub fn snapshot(&self) -> Snapshot {
        self.enter().snapshot()
    }

    /// The contents of the Vault.
    pub fn vault_snapshot(&self) -> VaultSnapshot {
        self.enter().vault_snapshot()
    }

    /// The live functions and types.
    pub fn live_snapshot(&self) -> LiveSnapshot {
        self.enter().live_snapshot()
    }

    /// Retires all versions and waits until they are freed, for at most `timeout`.
    ///
    /// After this the engine loads nothing any more.
    pub fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        self.enter().shutdown(timeout)
    }

    /// The shared part of the engine, for the rest of this crate.
    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// The shared part of the engine. The calling thread passes a checkpoint.
    fn enter(&self) -> &Inner {
        checkpoint();
        &self.inner
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({:?})", self.inner.current())
    }
}

/// Shuts the engine down when the last handle is dropped. The threads of consoles hold the engine weakly.
struct ShutdownOnDrop(Arc<Inner>);

impl Drop for ShutdownOnDrop {
    fn drop(&mut self) {
        for leftover in self.0.shutdown(DROP_TIMEOUT).held {
            match leftover {
                Leftover::Load => tracing::warn!("the engine has shut down during a load"),
                version => tracing::warn!("the engine has shut down; still mapped: {version}"),
            }
        }
    }
}
