//! The engine proper: what its handles share.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle, ThreadId},
    time::{Duration, Instant},
};

use hotswap_plugin::{__private::end_panic, Data, StaticPlugin};
use hotswap_protocol::{
    Event, FreeResult, HostInfo, LiveSnapshot, PluginInfo, ReloadPlan, ReloadReport, Snapshot,
    VaultSnapshot, VersionState,
};
use serde::Serialize;

use super::ShutdownReport;
use crate::{
    ConsoleSocket, EngineError, LoadedPlugin, PluginManager, Step,
    console::{self, Listener},
    current::{Current, Replaced},
    event::{EventHub, now_ms},
    extension::{ExtensionFactory, ExtensionObject},
    history,
    lease::{Lease, LeaseKind},
    lifecycle::{self, EngineId},
    live::LiveTable,
    manager::same_name,
    reaper::ReaperHandle,
    reload::{self, BoxError, Callback, LoadState, Request},
    runtime::Runtime,
    slots,
    stage::Staging,
    thread::checkpoint,
    vault::{LOOKED_AT, Store, View, told},
    version::{Services, Version},
};

/// How many ended versions of a plugin stay listed.
const ENDED_LISTED: usize = 16;

/// How long a request to free a version waits for the reaper to look at it, so that the answer tells
/// what came of it. It takes microseconds, unless the plugin's `on_free` or a drop takes longer.
const FREE_PATIENCE: Duration = Duration::from_millis(500);

/// A callback of the engine's, for every load.
pub(super) type OnReload =
    Box<dyn Fn(&PluginManager, &PluginManager) -> Result<(), BoxError> + Send + Sync>;

/// The engine proper.
pub(crate) struct Inner {
    host: Mutex<HostInfo>,
    /// The plugins that are linked into this program, if it runs on those.
    linked: Option<Vec<&'static StaticPlugin>>,
    store_dir: Option<PathBuf>,
    only: Option<Vec<String>>,
    step_timeout: Duration,
    extension: ExtensionFactory,
    on_reload: Vec<OnReload>,
    current: Arc<Current>,
    /// How many loads have been published.
    loads: AtomicU64,
    load_state: Mutex<LoadState>,
    /// The thread that loads, so that it does not wait for itself.
    loading_thread: Mutex<Option<ThreadId>>,
    versions: Mutex<Vec<Arc<Version>>>,
    store: Arc<Store>,
    staging: Staging,
    events: Arc<EventHub>,
    reaper: ReaperHandle,
    reaper_thread: Mutex<Option<JoinHandle<()>>>,
    runtime: Option<Arc<dyn Runtime>>,
    trusted: Arc<[String]>,
    listener: Mutex<Option<Listener>>,
    is_shut_down: AtomicBool,
}

/// What an engine is made of.
pub(super) struct Parts {
    pub host: HostInfo,
    pub linked: Option<Vec<&'static StaticPlugin>>,
    pub store_dir: Option<PathBuf>,
    pub only: Option<Vec<String>>,
    pub step_timeout: Duration,
    pub extension: ExtensionFactory,
    pub on_reload: Vec<OnReload>,
    pub store: Arc<Store>,
    pub staging: Staging,
    pub reaper: ReaperHandle,
    pub reaper_thread: JoinHandle<()>,
    pub runtime: Option<Arc<dyn Runtime>>,
    pub trusted: Arc<[String]>,
}

impl Inner {
    /// An engine whose generation 0 is empty.
    pub(super) fn new(parts: Parts) -> Self {
        let empty = PluginManager {
            generation: 0,
            versions: Vec::new(),
            live_functions: HashMap::default(),
            extension: (parts.extension)(None),
            store: parts.store.clone(),
            vault: View::for_host(&parts.store),
        };
        Self {
            host: Mutex::new(parts.host),
            linked: parts.linked,
            store_dir: parts.store_dir,
            only: parts.only,
            step_timeout: parts.step_timeout,
            extension: parts.extension,
            on_reload: parts.on_reload,
            current: Arc::new(Current::new(empty, parts.reaper.clone())),
            loads: AtomicU64::new(0),
            load_state: Mutex::default(),
            loading_thread: Mutex::default(),
            versions: Mutex::default(),
            store: parts.store,
            staging: parts.staging,
            events: Arc::default(),
            reaper: parts.reaper,
            reaper_thread: Mutex::new(Some(parts.reaper_thread)),
            runtime: parts.runtime,
            trusted: parts.trusted,
            listener: Mutex::new(None),
            is_shut_down: AtomicBool::new(false),
        }
    }

    /// Lets consoles attach.
    pub(super) fn listen(self: &Arc<Self>, socket: ConsoleSocket) -> Result<(), EngineError> {
        let listener = console::listen(self, socket)?;
        {
            let mut host = self.lock_host();
            host.socket = listener.path().to_owned();
            host.calls_file = slots::calls_path();
        }
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
        Ok(())
    }

    /// What tells this engine from others.
    pub fn id(&self) -> EngineId {
        self.reaper.engine()
    }

    pub fn current(&self) -> Arc<PluginManager> {
        self.current.load()
    }

    /// Where the generation that serves is found.
    pub fn current_cell(&self) -> &Arc<Current> {
        &self.current
    }

    pub fn plugin_dir(&self) -> PathBuf {
        self.lock_host().plugin_dir.clone()
    }

    pub fn set_plugin_dir(&self, dir: &Path) {
        self.lock_host().plugin_dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    }

    pub fn linked(&self) -> Option<&[&'static StaticPlugin]> {
        self.linked.as_deref()
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

    pub fn store_dir(&self) -> Option<&Path> {
        self.store_dir.as_deref()
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// What a version needs of the engine.
    pub fn services(&self) -> Services {
        let (reaper, events) = (self.reaper.clone(), self.events.clone());
        Services { reaper, events, runtime: self.runtime.clone(), trusted: self.trusted.clone() }
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
        if self.linked.is_some() {
            return Err(EngineError::StaticallyLinked);
        }
        let versions = self.lock_versions().clone();
        let store = self.store_dir.as_deref();
        self.expect_outside_load("rollback")?;
        let artifact = history::find_earlier(target, &versions, store, &self.staging)?;
        self.load_as(Request::Rollback(Box::new(artifact)), &(), None)
    }

    /// What a reload would do now.
    pub fn plan(&self, latest: bool) -> Result<ReloadPlan, EngineError> {
        self.expect_outside_load("plan")?;
        let state = self.load_state.lock().unwrap_or_else(PoisonError::into_inner);
        reload::plan(self, &state, if latest { Request::Latest } else { Request::Changed })
    }

    pub fn load_as<T: Serialize>(
        &self,
        request: Request,
        data: &T,
        callback: Option<&mut Callback<'_>>,
    ) -> Result<ReloadReport, EngineError> {
        self.expect_outside_load("reload")?;
        let data = reload::load_data(data)?;
        let mut state = self.load_state.lock().unwrap_or_else(PoisonError::into_inner);
        *self.lock_loading_thread() = Some(thread::current().id());
        let loading = Loading(self);
        let result = self.load_locked(&mut state, request, &data, callback);
        drop(loading);
        if self.is_shut_down() {
            // A shutdown that was asked for inside the load could not wait for it.
            self.retire_all();
        }
        result
    }

    /// Refuses what would wait for a load that waits for the caller.
    fn expect_outside_load(&self, what: &'static str) -> Result<(), EngineError> {
        if self.is_inside_load() { Err(EngineError::InsideLoad { what }) } else { Ok(()) }
    }

    /// Whether a load waits for this thread.
    fn is_inside_load(&self) -> bool {
        lifecycle::is_inside_load_of(self.id())
            || *self.lock_loading_thread() == Some(thread::current().id())
    }

    fn lock_loading_thread(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.loading_thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load_locked(
        &self,
        state: &mut LoadState,
        request: Request,
        data: &Data,
        callback: Option<&mut Callback<'_>>,
    ) -> Result<ReloadReport, EngineError> {
        if self.is_shut_down() {
            return Err(EngineError::ShutDown);
        }
        self.events.send(Event::ReloadStarted { at_ms: now_ms() });
        let result = reload::reload(self, state, request, data, callback);
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
        let make = || (self.extension)(Some(previous.extension.as_ref()));
        end_panic(make).map_err(|panic| EngineError::Load {
            plugin: None,
            step: Step::Publish,
            message: format!("the host's factory for its Extension panicked: {panic}"),
            causes: Vec::new(),
        })
    }

    /// Calls the host's callbacks, that of the engine and that of one reload.
    pub fn call_back(
        &self,
        new: &PluginManager,
        old: &PluginManager,
        callback: Option<&mut Callback<'_>>,
    ) -> Result<(), EngineError> {
        let both = || -> Result<(), (String, Vec<String>)> {
            // The error is the host's own, and so is its text.
            let told = |error: BoxError| {
                let causes = std::iter::successors(error.source(), |cause| cause.source());
                (error.to_string(), causes.map(ToString::to_string).collect())
            };
            self.on_reload.iter().try_for_each(|on_reload| on_reload(new, old)).map_err(told)?;
            callback.map_or(Ok(()), |callback| callback(new, old)).map_err(told)
        };
        let refuse = |message: String, causes| {
            Err(EngineError::Load { plugin: None, step: Step::Callback, message, causes })
        };
        match end_panic(both) {
            Ok(Ok(())) => Ok(()),
            Ok(Err((message, causes))) => refuse(message, causes),
            Err(panic) => refuse(format!("the host's callback panicked: {panic}"), Vec::new()),
        }
    }

    pub fn make_manager(
        &self,
        generation: u64,
        versions: Vec<Lease>,
        extension: Arc<dyn ExtensionObject>,
    ) -> PluginManager {
        PluginManager {
            generation,
            live_functions: PluginManager::live_functions(&versions),
            versions,
            extension,
            store: self.store.clone(),
            vault: View::for_host(&self.store),
        }
    }

    pub fn is_shut_down(&self) -> bool {
        self.is_shut_down.load(Ordering::Acquire)
    }

    /// Makes the generation of a load serve, and returns the one that did.
    pub fn publish(&self, new: PluginManager) -> Replaced {
        self.loads.fetch_add(1, Ordering::Relaxed);
        self.current.publish(Arc::new(new))
    }

    /// How many loads have been published.
    pub fn load_count(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
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
            _ => {
                version.cancel_tasks();
                version.hurry();
                // Who asks may be what it waits for.
                checkpoint();
                if !self.reaper.is_here() {
                    self.reaper.wait(&version, FREE_PATIENCE);
                }
            }
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
        versions.sort_by_cached_key(|version| {
            (place(version), version.name().to_lowercase(), std::cmp::Reverse(version.ordinal))
        });
        let of_one_plugin = versions.chunk_by(|a, b| same_name(a.name(), b.name()));
        let plugins = of_one_plugin.map(|versions| plugin_info(versions, &current)).collect();
        Snapshot {
            host: self.host_info(),
            generation: current.generation,
            plugins,
            vault_changes: self.store.changes(),
        }
    }

    pub fn vault_snapshot(&self) -> VaultSnapshot {
        // Looking runs code of whoever owns the values, and so must not hold the whole generation.
        let (generation, extension) = {
            let current = self.current();
            (current.generation, current.extension.clone())
        };
        // First: what changes meanwhile is looked at again.
        let changes = self.store.changes();
        let (data_bag, data_bag_len) = self.store.data_bag_infos();
        let (slots, slots_len) = self.store.slot_infos();
        let (json, cuts) = extension.look(LOOKED_AT);
        VaultSnapshot {
            generation,
            changes,
            data_bag,
            data_bag_len,
            extension: json,
            extension_cuts: cuts.into_iter().map(told).collect(),
            extension_type: extension.type_name().to_owned(),
            slots,
            slots_len,
        }
    }

    pub fn live_snapshot(&self) -> LiveSnapshot {
        self.store.live().snapshot(self.current().generation)
    }

    pub fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        let deadline = crate::event::after(Instant::now(), timeout);
        self.is_shut_down.store(true, Ordering::Release);
        let ended = self.events.subscribe();
        self.events.send(Event::ShuttingDown { at_ms: now_ms() });
        // A load that runs ends first, and does not publish any more; none begins afterwards.
        let patience = if self.is_inside_load() { Instant::now() } else { deadline };
        let Some(loads) = self.lock_loads_until(patience) else {
            return ShutdownReport { held: vec!["a load that has not ended".into()] };
        };
        self.retire_all();
        drop(loads);
        for version in self.mapped() {
            version.cancel_tasks();
            version.hurry();
        }
        checkpoint();
        // What a version does at its end is not waited for by itself.
        while !self.mapped().is_empty() && !self.reaper.is_here() {
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
            // Here, and not when the engine drops: a console's request may hold it until the process
            // is gone.
            self.staging.remove();
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
        let old = self.current.publish(Arc::new(empty));
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
        // A shutdown that the reaper's own log events ask for cannot wait for it.
        let thread = self.lock_reaper_thread().take();
        if let Some(thread) = thread.filter(|_| !self.reaper.is_here()) {
            let _ = thread.join();
        }
    }

    fn lock_reaper_thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.reaper_thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While this lives its thread loads.
struct Loading<'a>(&'a Inner);

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        *self.0.lock_loading_thread() = None;
    }
}

impl Drop for Inner {
    /// A shutdown that could not wait for a load left the versions serving.
    fn drop(&mut self) {
        self.retire_all();
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
