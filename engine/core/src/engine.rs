//! What the host holds.

use std::{
    any::Any,
    env, fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use hotswap_plugin::Vault;
use hotswap_protocol::{
    Event, FreeResult, HostInfo, LiveSnapshot, PluginInfo, ReloadReport, Snapshot, VaultSnapshot,
    VersionState,
};
use serde::Serialize;

use crate::{
    ConsoleSocket, EngineError, Events, LoadedPlugin, PluginManager, Step,
    artifact::Toolchain,
    console::{self, Listener},
    event::{EventHub, now_ms},
    extension::{self, ExtensionFactory, ExtensionObject},
    history,
    lease::{Lease, LeaseKind},
    live::LiveTable,
    manager::same_name,
    reaper::{self, ReaperHandle, WakeThreads},
    reload::{self, LoadState, Request},
    stage::Staging,
    thread::checkpoint,
    vault::{Store, View},
    version::Version,
};

/// How long a lifecycle step may take unless the host says otherwise.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// How long dropping an engine waits for calls to end.
const DROP_TIMEOUT: Duration = Duration::from_secs(2);

/// How many ended versions of a plugin stay listed.
const ENDED_LISTED: usize = 16;

/// Loads, serves, replaces and frees plugins.
///
/// A clone is another handle to the same engine. When the last one is dropped, the engine shuts
/// down: see [`Engine::shutdown`].
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
    _last: Arc<ShutdownOnDrop>,
}

/// Settings of an engine to be.
pub struct EngineBuilder {
    plugin_dir: PathBuf,
    store_dir: Option<PathBuf>,
    only: Option<Vec<String>>,
    step_timeout: Duration,
    extension: ExtensionFactory,
    console: Option<ConsoleSocket>,
    wake: Vec<WakeThreads>,
}

/// What a shutdown left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownReport {
    /// The versions that are still mapped, and who holds them: `world v1: 1 call`.
    pub held: Vec<String>,
}

/// The directory where a host looks for artifacts: that of `HOTSWAP_PLUGIN_DIR`, which a console
/// sets for the host it starts, or else `default`.
pub fn plugin_dir_from_env(default: impl Into<PathBuf>) -> PathBuf {
    env::var_os("HOTSWAP_PLUGIN_DIR").map_or_else(|| default.into(), PathBuf::from)
}

impl Engine {
    /// Begins an engine whose artifacts lie in a directory.
    pub fn builder(plugin_dir: impl Into<PathBuf>) -> EngineBuilder {
        EngineBuilder {
            plugin_dir: plugin_dir.into(),
            store_dir: None,
            only: None,
            step_timeout: STEP_TIMEOUT,
            extension: extension::factory(|_: Option<&()>| ()),
            console: None,
            wake: Vec::new(),
        }
    }

    /// Loads the plugins, handing each one `data`.
    ///
    /// # Errors
    /// Any failing step of any plugin undoes the whole load; what served before serves on.
    pub fn load<T: Serialize>(&self, data: T) -> Result<ReloadReport, EngineError> {
        self.enter().load_as(Request::Changed, &data)
    }

    /// Loads what changed since, as [`load`](Self::load) does; unchanged plugins stay as they are.
    ///
    /// Running calls end on the old versions, which are freed when nothing uses them any more. Two
    /// reloads never run at once: a second one waits.
    ///
    /// # Errors
    /// As for `load`.
    pub fn reload(&self) -> Result<ReloadReport, EngineError> {
        self.enter().load_as(Request::Changed, &())
    }

    /// As [`reload`](Self::reload), also for plugins that a rollback holds.
    ///
    /// # Errors
    /// As for `load`.
    pub fn reload_latest(&self) -> Result<ReloadReport, EngineError> {
        self.enter().load_as(Request::Latest, &())
    }

    /// Loads a plugin from an earlier artifact, without a build: `name@version`, or
    /// `name@build-id`, which may be cut short.
    ///
    /// The plugin is then held: the artifact it was rolled back from is not loaded again by the
    /// next [`reload`](Self::reload); a newer one is, and so is any by
    /// [`reload_latest`](Self::reload_latest).
    ///
    /// # Errors
    /// As for `load`, and when there is no such artifact in memory or in the
    /// [store](EngineBuilder::store).
    pub fn rollback(&self, target: &str) -> Result<ReloadReport, EngineError> {
        self.enter().rollback(target)
    }

    /// The generation that serves. The handle keeps all its versions in use.
    pub fn current(&self) -> Arc<PluginManager> {
        self.enter().current()
    }

    /// A plugin by name, or a version that is still loaded by `name@version`.
    ///
    /// # Errors
    /// When there is none; the message lists what there is.
    pub fn plugin(&self, target: &str) -> Result<LoadedPlugin, EngineError> {
        self.enter().plugin(target)
    }

    /// The Vault as the host sees it, now and in all generations to come.
    pub fn vault(&self) -> Vault {
        View::for_host(&self.enter().store)
    }

    /// Asks that a version which was replaced be freed now, and says what keeps it.
    ///
    /// # Errors
    /// When there is no such version, or it serves.
    pub fn free(&self, target: &str) -> Result<FreeResult, EngineError> {
        self.enter().free(target)
    }

    /// What happens in the engine from now on.
    pub fn subscribe(&self) -> Events {
        self.enter().events.subscribe()
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

impl EngineBuilder {
    /// Loads these plugins only; one that is missing is an error.
    pub fn only<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.only = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Where `hotswap build` keeps earlier artifacts, for [`Engine::rollback`]; none by default.
    pub fn store(mut self, dir: impl Into<PathBuf>) -> Self {
        self.store_dir = Some(dir.into());
        self
    }

    /// How long a lifecycle step may take before the load is undone; 30 s by default.
    pub fn step_timeout(mut self, timeout: Duration) -> Self {
        self.step_timeout = timeout;
        self
    }

    /// The host's own object. The factory is called for each generation with the previous one's.
    pub fn extension<E>(mut self, make: impl Fn(Option<&E>) -> E + Send + Sync + 'static) -> Self
    where
        E: Serialize + Any + Send + Sync,
    {
        self.extension = extension::factory(make);
        self
    }

    /// Whether consoles may attach; off by default.
    pub fn console(mut self, socket: Option<ConsoleSocket>) -> Self {
        self.console = socket;
        self
    }

    /// Called when a version waits for threads to run its thread-locals' destructors.
    ///
    /// A host whose threads live long without calling plugins wakes them here, so that each calls
    /// [`checkpoint`].
    pub fn wake_threads(mut self, wake: impl Fn() + Send + Sync + 'static) -> Self {
        self.wake.push(Box::new(wake));
        self
    }

    /// Makes the workers of a tokio runtime pass a checkpoint whenever a version waits for them.
    #[cfg(feature = "tokio")]
    pub fn tokio(self, runtime: tokio::runtime::Handle) -> Self {
        self.wake_threads(move || crate::tokio_workers::wake(&runtime))
    }

    /// Makes the engine. Nothing is loaded yet.
    ///
    /// # Errors
    /// When the staging directory, the console's socket or a thread cannot be made.
    pub fn build(self) -> Result<Engine, EngineError> {
        let Self { plugin_dir, store_dir, only, step_timeout, extension, console, wake } = self;
        let staging = Staging::new()?;
        let store = Arc::new(Store::default());
        let started = reaper::start(store.clone(), wake);
        let (reaper, reaper_thread) = started.map_err(|error| EngineError::Setup {
            what: "cannot start the reaper's thread for".into(),
            path: plugin_dir.clone(),
            error,
        })?;
        let empty = PluginManager {
            generation: 0,
            versions: Vec::new(),
            extension: extension(None),
            store: store.clone(),
            vault: View::for_host(&store),
        };
        let inner = Arc::new(Inner {
            host: Mutex::new(host_info(&plugin_dir, staging.dir())),
            store_dir,
            only,
            step_timeout,
            extension,
            current: ArcSwap::from_pointee(empty),
            load_state: Mutex::default(),
            versions: Mutex::default(),
            store,
            staging,
            events: Arc::default(),
            reaper,
            reaper_thread: Mutex::new(Some(reaper_thread)),
            listener: Mutex::new(None),
            is_shut_down: AtomicBool::new(false),
        });
        if let Some(socket) = console {
            let listener = console::listen(&inner, socket)?;
            inner.lock_host().socket = listener.path().to_owned();
            *inner.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
        }
        Ok(Engine { _last: Arc::new(ShutdownOnDrop(inner.clone())), inner })
    }
}

/// Shuts the engine down when the last handle goes; consoles' threads hold the engine weakly.
struct ShutdownOnDrop(Arc<Inner>);

impl Drop for ShutdownOnDrop {
    fn drop(&mut self) {
        for held in self.0.shutdown(DROP_TIMEOUT).held {
            tracing::warn!("the engine ends, and still mapped is {held}");
        }
    }
}

/// The engine proper.
pub(crate) struct Inner {
    host: Mutex<HostInfo>,
    store_dir: Option<PathBuf>,
    only: Option<Vec<String>>,
    step_timeout: Duration,
    extension: ExtensionFactory,
    current: ArcSwap<PluginManager>,
    load_state: Mutex<LoadState>,
    versions: Mutex<Vec<Arc<Version>>>,
    store: Arc<Store>,
    staging: Staging,
    events: Arc<EventHub>,
    reaper: ReaperHandle,
    reaper_thread: Mutex<Option<JoinHandle<()>>>,
    listener: Mutex<Option<Listener>>,
    is_shut_down: AtomicBool,
}

impl Inner {
    pub fn current(&self) -> Arc<PluginManager> {
        self.current.load_full()
    }

    pub fn plugin_dir(&self) -> PathBuf {
        self.lock_host().plugin_dir.clone()
    }

    pub fn only(&self) -> Option<&[String]> {
        self.only.as_deref()
    }

    pub fn step_timeout(&self) -> Duration {
        self.step_timeout
    }

    pub fn staging(&self) -> &Staging {
        &self.staging
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub fn reaper(&self) -> &ReaperHandle {
        &self.reaper
    }

    pub fn events(&self) -> &Arc<EventHub> {
        &self.events
    }

    pub fn host_info(&self) -> HostInfo {
        self.lock_host().clone()
    }

    fn lock_host(&self) -> MutexGuard<'_, HostInfo> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_versions(&self) -> MutexGuard<'_, Vec<Arc<Version>>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a version that is being loaded; of those that ended, only the newest stay.
    pub fn register(&self, version: &Arc<Version>) {
        let mut versions = self.lock_versions();
        versions.push(version.clone());
        let ended: Vec<_> = versions
            .iter()
            .filter(|other| same_name(other.name(), version.name()) && other.is_finished())
            .map(Arc::as_ptr)
            .collect();
        let surplus = ended.len().saturating_sub(ENDED_LISTED);
        versions.retain(|other| !ended[..surplus].contains(&Arc::as_ptr(other)));
    }

    pub fn rollback(&self, target: &str) -> Result<ReloadReport, EngineError> {
        let versions = self.lock_versions().clone();
        let artifact = history::find_earlier(target, &versions, self.store_dir.as_deref())?;
        self.load_as(Request::Rollback(Box::new(artifact)), &())
    }

    pub fn load_as<T: Serialize>(
        &self,
        request: Request,
        data: &T,
    ) -> Result<ReloadReport, EngineError> {
        let data = reload::load_data(data)?;
        let mut state = self.load_state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_shut_down() {
            return Err(EngineError::ShutDown);
        }
        self.events.send(Event::ReloadStarted { at_ms: now_ms() });
        let result = reload::reload(self, &mut state, request, &data);
        match &result {
            Ok(report) => {
                tracing::info!(generation = report.generation, "loaded: {report}");
                let report = report.clone();
                self.events.send(Event::ReloadFinished { at_ms: now_ms(), report });
            }
            Err(error) => {
                tracing::error!("load refused: {error}");
                let error = error.to_wire();
                self.events.send(Event::ReloadFailed { at_ms: now_ms(), error });
            }
        }
        result
    }

    /// Makes the host's object for the next generation.
    pub fn make_extension(
        &self,
        previous: &PluginManager,
    ) -> Result<Arc<dyn ExtensionObject>, EngineError> {
        let make = AssertUnwindSafe(|| (self.extension)(Some(previous.extension.as_ref())));
        catch_unwind(make).map_err(|_| EngineError::Load {
            plugin: None,
            step: Step::Publish,
            message: "the host's factory for its Extension panicked".into(),
            causes: Vec::new(),
        })
    }

    pub fn make_manager(
        &self,
        generation: u64,
        versions: Vec<Lease>,
        extension: Arc<dyn ExtensionObject>,
    ) -> PluginManager {
        PluginManager {
            generation,
            versions,
            extension,
            store: self.store.clone(),
            vault: View::for_host(&self.store),
        }
    }

    pub fn is_shut_down(&self) -> bool {
        self.is_shut_down.load(Ordering::Acquire)
    }

    /// Makes a generation the one that serves, and returns the one that did.
    pub fn publish(&self, new: PluginManager) -> Arc<PluginManager> {
        self.current.swap(Arc::new(new))
    }

    pub fn plugin(&self, target: &str) -> Result<LoadedPlugin, EngineError> {
        if !target.contains('@') {
            return self.current().plugin(target);
        }
        let version = self.version(target)?;
        if !matches!(version.state(), VersionState::Active | VersionState::Retired) {
            return Err(self.unknown(target));
        }
        let lease = Lease::try_new(&version, LeaseKind::Handle);
        lease.map(LoadedPlugin).ok_or_else(|| self.unknown(target))
    }

    pub fn free(&self, target: &str) -> Result<FreeResult, EngineError> {
        let version = self.version(target)?;
        let refuse = |why| EngineError::NotFreeable { target: target.to_owned(), why };
        match version.state() {
            VersionState::Active => {
                return Err(refuse("it serves; a reload that replaces it retires it"));
            }
            VersionState::Loading => return Err(refuse("it is being loaded")),
            _ => version.unused(),
        }
        let info = version.info();
        Ok(FreeResult {
            plugin: version.name().to_owned(),
            version: version.ordinal,
            state: info.state,
            detail: info.detail,
            holders: info.holders,
        })
    }

    /// The version that `name@version` names.
    fn version(&self, target: &str) -> Result<Arc<Version>, EngineError> {
        let wanted = target.rsplit_once('@');
        let wanted = wanted.and_then(|(name, ordinal)| {
            Some((name, ordinal.trim_start_matches('v').parse::<u32>().ok()?))
        });
        let versions = self.lock_versions();
        let found = wanted.and_then(|(name, ordinal)| {
            versions
                .iter()
                .find(|version| same_name(version.name(), name) && version.ordinal == ordinal)
        });
        let found = found.cloned();
        drop(versions);
        found.ok_or_else(|| self.unknown(target))
    }

    fn unknown(&self, target: &str) -> EngineError {
        let versions = self.lock_versions();
        let callable = [VersionState::Active, VersionState::Retired];
        let loaded = versions.iter().filter(|version| callable.contains(&version.state()));
        let known = loaded.map(|version| format!("{}@{}", version.name(), version.ordinal));
        EngineError::UnknownPlugin { name: target.to_owned(), known: known.collect() }
    }

    pub fn snapshot(&self) -> Snapshot {
        let current = self.current();
        let mut versions = self.lock_versions().clone();
        // Those that serve in load order, then the others by name; each one's versions newest first.
        let place = |version: &Version| {
            let serving = current.versions.iter();
            let at = serving
                .map(|lease| lease.version().name())
                .position(|name| same_name(name, version.name()));
            at.unwrap_or(usize::MAX)
        };
        versions.sort_by_key(|version| {
            (place(version), version.name().to_lowercase(), std::cmp::Reverse(version.ordinal))
        });
        let of_one_plugin = versions.chunk_by(|a, b| same_name(a.name(), b.name()));
        let plugins = of_one_plugin.map(|versions| plugin_info(versions, &current)).collect();
        Snapshot { host: self.host_info(), generation: current.generation, plugins }
    }

    pub fn vault_snapshot(&self) -> VaultSnapshot {
        let current = self.current();
        VaultSnapshot {
            generation: current.generation,
            data_bag: self.store.data_bag_infos(),
            extension: current.extension.to_json(),
            extension_type: current.extension.type_name().to_owned(),
            slots: self.store.slot_infos(),
        }
    }

    pub fn live_snapshot(&self) -> LiveSnapshot {
        self.store.live().snapshot(self.current().generation)
    }

    fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        let deadline = Instant::now() + timeout;
        self.is_shut_down.store(true, Ordering::Release);
        let ended = self.events.subscribe();
        self.events.send(Event::ShuttingDown { at_ms: now_ms() });
        // A load that runs ends first, and does not publish any more; none begins afterwards.
        let Some(loads) = self.lock_loads_until(deadline) else {
            return ShutdownReport { held: vec!["a load that has not ended".into()] };
        };
        self.retire_all();
        drop(loads);
        checkpoint();
        while !self.mapped().is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || ended.recv_timeout(left).is_err() {
                break;
            }
            checkpoint();
        }
        let mapped = self.mapped();
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(listener);
        if mapped.is_empty() {
            self.end_reaper();
        }
        let held =
            mapped.iter().map(|version| format!("{version}: {}", version.holders().join(", ")));
        ShutdownReport { held: held.collect() }
    }

    fn lock_loads_until(&self, deadline: Instant) -> Option<MutexGuard<'_, LoadState>> {
        /// How often to look whether the load has ended; there is no event for that.
        const LOOK: Duration = Duration::from_millis(5);
        loop {
            match self.load_state.try_lock() {
                Ok(state) => return Some(state),
                Err(TryLockError::Poisoned(state)) => return Some(state.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return None,
                Err(TryLockError::WouldBlock) => thread::sleep(LOOK),
            }
        }
    }

    fn retire_all(&self) {
        let current = self.current();
        if current.versions.is_empty() {
            return;
        }
        let extension = current.extension.clone();
        let empty = self.make_manager(current.generation + 1, Vec::new(), extension);
        drop(current);
        self.store.set_live(LiveTable::default());
        let old = self.publish(empty);
        for lease in &old.versions {
            self.store.retire(lease.version());
            lease.version().enter(VersionState::Retired, "retired".into());
        }
    }

    /// The versions whose images are mapped and may still go.
    fn mapped(&self) -> Vec<Arc<Version>> {
        let versions = self.lock_versions();
        versions.iter().filter(|version| !version.is_finished()).cloned().collect()
    }

    fn end_reaper(&self) {
        self.reaper.stop();
        let thread = self.reaper_thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A shutdown that a plugin's `on_free` asks for runs on the reaper itself.
        if let Some(thread) = thread.filter(|reaper| reaper.thread().id() != thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

/// A plugin as a console shows it, given its versions, newest first.
fn plugin_info(versions: &[Arc<Version>], current: &PluginManager) -> PluginInfo {
    let name = versions.first().map_or("", |version| version.name());
    let serving = current.versions.iter().map(Lease::version);
    let active = serving.into_iter().find(|version| same_name(version.name(), name));
    let imports = active.map(|active| active.imports());
    PluginInfo {
        name: active.map_or(name, |active| active.name()).to_owned(),
        versions: versions.iter().map(|version| version.info()).collect(),
        imports: imports.into_iter().flatten().map(|import| import.plugin.clone()).collect(),
        functions: active.map(|active| active.function_infos()).unwrap_or_default(),
    }
}

fn host_info(plugin_dir: &Path, staging_dir: &Path) -> HostInfo {
    let executable = env::current_exe().ok();
    let name = executable.as_deref().and_then(Path::file_name);
    HostInfo {
        name: name.map_or_else(|| "host".into(), |name| name.to_string_lossy().into_owned()),
        pid: std::process::id(),
        started_at_ms: now_ms(),
        plugin_dir: std::path::absolute(plugin_dir).unwrap_or_else(|_| plugin_dir.to_owned()),
        staging_dir: staging_dir.to_owned(),
        socket: PathBuf::new(),
        engine_version: env!("CARGO_PKG_VERSION").into(),
        toolchain: Toolchain::of_host().rustc(),
    }
}
