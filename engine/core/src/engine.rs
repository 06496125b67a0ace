//! What the host holds.

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
    FreeResult, LiveSnapshot, PatchParams, PlanParams, PruneParams, ReloadPlan, ReloadReport,
    Snapshot, VaultSnapshot,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    AsyncFunc, CallError, EngineError, Events, Func, Generation, LiveFuncs, LoadedPlugin,
    Signature,
    load::{Request, load_data},
    serve::by_name,
    vault::View,
    version::threads::checkpoint,
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
/// println!("still mapped: {}", report.held.join(", "));
/// # Ok(())
/// # }
/// ```
///
/// # Backtraces
/// A backtrace that the host makes with std while a plugin is on the stack keeps the plugin's *file* open
/// for good, since std's symboliser remembers it. The image is unmapped all the same.
///
/// # `fork`
/// A child of `fork` has none of the engine's threads. It may call plugins, which does not concern its
/// parent; nothing is freed there, and consoles do not see it. The child must not load, shut down or drop
/// the engine, whose socket and staged files belong to its parent: it leaves by `exec` or `_exit`.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
    _last: Arc<ShutdownOnDrop>,
}

/// What a shutdown left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownReport {
    /// The versions that are still mapped, and who holds them: `world v1: 1 call`.
    pub held: Vec<String>,
}

impl Engine {
    /// Starts to set up an engine that needs no setting: a console that starts the host says where the
    /// plugins are, and may attach.
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

    /// Starts to set up an engine whose artifacts lie in `plugin_dir`; a relative path is taken from the
    /// working directory.
    pub fn builder(plugin_dir: impl Into<PathBuf>) -> EngineBuilder {
        EngineBuilder::new(plugin_dir.into())
    }

    /// Starts to set up an engine whose plugins are linked into this program, for debuggers and for
    /// platforms that cannot unload: `Engine::builder_static(static_plugins![world, dog])`.
    ///
    /// Linked plugins work as loaded ones do, except that [`reload`](Self::reload) and
    /// [`rollback`](Self::rollback) answer [`EngineError::StaticallyLinked`] once they are loaded. Threads
    /// that such a plugin starts, thread-locals that it leaves, and its statics are the program's own. Each
    /// engine has an instance and a Vault for itself, so tests that each make an engine run in parallel. What
    /// a plugin logs is told as that of the engine that loaded it last.
    pub fn builder_static(
        plugins: impl IntoIterator<Item = &'static StaticPlugin>,
    ) -> EngineBuilder {
        EngineBuilder::linked(plugins.into_iter().collect())
    }

    /// Loads the plugins, handing `data` to each one's `on_load`.
    ///
    /// The engine remembers `data` for the loads that have none of their own: [`reload`](Self::reload),
    /// [`reload_latest`](Self::reload_latest), [`rollback`](Self::rollback), and those that a console asks
    /// for.
    ///
    /// # Errors
    /// Any failing step of any plugin undoes the whole load; what served before serves on.
    pub fn load<T: Serialize>(&self, data: T) -> Result<ReloadReport, EngineError> {
        self.enter().load_as(Request::Changed, Some(load_data(&data)?), None)
    }

    /// Loads what changed since, as [`load`](Self::load) does; unchanged plugins stay as they are, and so
    /// do those whose artifact is gone: see [`reload_pruning`](Self::reload_pruning).
    ///
    /// Running calls end on the old versions, which are freed when nothing uses them any more. Two
    /// reloads never run at once: a second one waits.
    ///
    /// # Errors
    /// As for `load`.
    pub fn reload(&self) -> Result<ReloadReport, EngineError> {
        self.enter().load_as(Request::Changed, None, None)
    }

    /// As [`reload`](Self::reload), with `data` for `on_load` from now on, and calling back with the new and
    /// the old generation before the new one is published.
    ///
    /// All of the new generation is new in the callback: its plugins, live functions, registrations, and its
    /// [`vault`](Generation::vault). What the callback writes there is undone if the load is; what was there
    /// before can be set anew, and not changed in its place.
    ///
    /// # Errors
    /// As for `load`; also when the callback fails or panics, which undoes the reload.
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

    /// The number of reloads that were published. The first load and reloads without a change do not count.
    pub fn reload_count(&self) -> u64 {
        self.enter().load_count().saturating_sub(1)
    }

    /// Changes the directory where the next reload looks for artifacts.
    pub fn set_plugin_dir(&self, dir: impl AsRef<Path>) {
        self.enter().set_plugin_dir(dir.as_ref());
    }

    /// As [`reload`](Self::reload), also for plugins that a rollback holds.
    ///
    /// # Errors
    /// As for `load`.
    pub fn reload_latest(&self) -> Result<ReloadReport, EngineError> {
        self.enter().load_as(Request::Latest, None, None)
    }

    /// As [`reload`](Self::reload), and unloads plugins whose artifact is gone from the plugin directory.
    ///
    /// Every other load keeps them, and reports [`Outcome::Missing`](hotswap_protocol::Outcome): a file
    /// may vanish without anybody wanting to unload its plugin, as after `cargo clean`.
    ///
    /// # Errors
    /// As for `load`.
    pub fn reload_pruning(&self) -> Result<ReloadReport, EngineError> {
        self.enter().load_as(Request::Pruning(PruneParams::default()), None, None)
    }

    /// What [`reload`](Self::reload) would do now, or with `latest` what
    /// [`reload_latest`](Self::reload_latest) would. Nothing is loaded; [`probe`](crate::probe) shows what
    /// the artifacts declare.
    ///
    /// # Errors
    /// As for a reload that is refused before anything is opened.
    pub fn plan(&self, latest: bool) -> Result<ReloadPlan, EngineError> {
        self.enter().plan(PlanParams { latest, ..PlanParams::default() })
    }

    /// Gives the version of a plugin that serves the code of a patch whose artifact is still being linked, as
    /// `hotswap_build` makes it. A later [`reload`](Self::reload) that finds the artifact, and the patch that names
    /// it beside, publishes nothing: the code serves already. The same call with that patch says at once which
    /// build it is.
    ///
    /// # Errors
    /// As for `load`; if the patch cannot be read or is for another build than the one that serves, if a rollback
    /// keeps the plugin back, and if it has this code already. Nothing has changed then, and nothing is logged
    /// as an error: the artifact is still to come.
    pub fn patch(&self, params: PatchParams) -> Result<ReloadReport, EngineError> {
        self.enter().patch(params)
    }

    /// Loads a plugin from an earlier artifact, without a build. `target` names a version: `world@2`, or
    /// `world@7f3a90` with a part of its build id; see [`PluginName`](hotswap_protocol::PluginName).
    ///
    /// Afterwards the plugin is held: [`reload`](Self::reload) does not load the artifact again that it was
    /// rolled back from. A newer artifact is loaded, and [`reload_latest`](Self::reload_latest) loads any.
    ///
    /// # Errors
    /// As for `load`, and when there is no such artifact in memory or in the
    /// [store](EngineBuilder::store).
    pub fn rollback(&self, target: &str) -> Result<ReloadReport, EngineError> {
        self.enter().rollback(target)
    }

    /// The generation that serves. The handle keeps all its versions in use.
    pub fn current(&self) -> Arc<Generation> {
        self.enter().current()
    }

    /// The plugin that `target` names, or the version, as long as it can be called.
    ///
    /// # Errors
    /// If there is none; the message lists the targets there are.
    pub fn plugin(&self, target: &str) -> Result<LoadedPlugin, EngineError> {
        self.enter().plugin(target)
    }

    /// The Vault as the host sees it, now and in all generations to come.
    pub fn vault(&self) -> Vault {
        View::for_host(self.enter().store()).vault()
    }

    /// A plugin's `#[invoke]` or `#[live]` function, called with Rust types and followed across
    /// reloads: `engine.func::<fn(f32) -> String>("physics", "describe")`.
    ///
    /// # Errors
    /// When there is no such plugin or function, or its signature is another; the message shows both.
    pub fn func<F: Signature>(&self, plugin: &str, name: &str) -> Result<Func<F>, CallError> {
        Func::new(self.enter().current_cell(), plugin, name)
    }

    /// As [`func`](Self::func), for an `async` function: `engine.async_func::<fn(u64) -> u64>("world", "wait")`.
    ///
    /// # Errors
    /// As for `func`, and when the function is not `async`.
    pub fn async_func<F: Signature>(
        &self,
        plugin: &str,
        name: &str,
    ) -> Result<AsyncFunc<F>, CallError> {
        AsyncFunc::new(self.enter().current_cell(), plugin, name)
    }

    /// Plugins' live functions of a signature, each found by name when it is called.
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

    /// Calls a function of a plugin that serves, by name, and reads its result as a `T`. An `async`
    /// function is waited for on this thread.
    ///
    /// As `current().plugin(plugin)?.invoke(function, args)`, without the handles.
    ///
    /// # Errors
    /// When there is no such plugin or function, an argument does not fit, the function fails or
    /// panics, or its result is no `T`.
    pub fn invoke<T: DeserializeOwned>(
        &self,
        plugin: &str,
        function: &str,
        args: &[Value],
    ) -> Result<T, CallError> {
        let current = self.inner.current_cell();
        by_name::invoke_serving(current, plugin, function, args)
    }

    /// Asks that a version which was replaced be freed now, and says what keeps it.
    ///
    /// # Errors
    /// When there is no such version, or it serves.
    pub fn free(&self, target: &str) -> Result<FreeResult, EngineError> {
        self.enter().free(target)
    }

    /// Whether the plugins are linked into this program, instead of being loaded from artifacts:
    /// [`builder_static`](Self::builder_static) made the engine. Then it loads once, and never reloads.
    pub fn is_statically_linked(&self) -> bool {
        self.inner.is_statically_linked()
    }

    /// What happens in the engine from now on.
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

    /// Retires all versions and waits until they are freed, `timeout` at most.
    ///
    /// Afterwards the engine loads nothing any more.
    pub fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        self.enter().shutdown(timeout)
    }

    /// The engine proper, for the rest of this crate.
    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// The engine proper; whoever comes here passes a checkpoint.
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

/// Shuts the engine down when the last handle goes; consoles' threads hold the engine weakly.
struct ShutdownOnDrop(Arc<Inner>);

impl Drop for ShutdownOnDrop {
    fn drop(&mut self) {
        for held in self.0.shutdown(DROP_TIMEOUT).held {
            tracing::warn!("the engine has shut down; {held} is still mapped");
        }
    }
}
