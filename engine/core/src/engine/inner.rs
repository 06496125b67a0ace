//! The part of the engine that all its handles share.

use std::{
    collections::{HashSet, VecDeque},
    ops::{Deref, DerefMut},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::RecvTimeoutError,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{ShutdownReport, hooks::Hooks};
use crate::{
    ConsoleSocket, EngineError, Events, Generation, Leftover, LoadedPlugin,
    event::EventHub,
    image::step_thread::{EngineId, Inside, waiting_for_load_of},
    load::{
        self, Callback, LoadContext, LoadState, Request, Settings,
        earlier::find_earlier,
        stage::{Inspected, Staging},
    },
    lock::Lock as _,
    os,
    reclaim::reaper::ReaperHandle,
    serve::{current::Current, generation::GenerationNumber, live::LiveTable},
    server::{Listener, Pins, Served},
    slots,
    vault::{PREVIEW_BOUNDS, VaultContents, View, cut_to_wire},
    version::{
        MAX_DESCRIBED, Services, Version,
        expectations::Expectations,
        face::FaceNumber,
        guard::{ActiveGuard, Trip},
        lease::{Lease, LeaseKind},
        list::VersionList,
        steps,
        tasks::Runtime,
        threads::checkpoint,
        turn::retire_together,
    },
};
use hotswap_plugin::Data;
use hotswap_protocol::{
    ApplyParams, Event, FreeResult, HostAgent, HostInfo, LiveSnapshot, MAX_RELOADS, OfferAnswer,
    OfferParams, PastReload, PatchParams, PlanParams, PluginInfo, PluginName, PruneParams,
    ReloadEnd, ReloadPlan, ReloadReport, Reloads, Snapshot, VaultSnapshot, VersionRef,
    VersionState, clock::now_ms,
};

/// How long a request to free a version waits for the reaper, so that the answer contains the outcome. This
/// takes microseconds, unless the plugin's `on_free` or a drop takes longer.
const FREE_PATIENCE: Duration = Duration::from_millis(500);

/// The part of the engine that all its handles share.
pub(crate) struct Inner {
    host: Mutex<HostInfo>,
    settings: Settings,
    current: Arc<Current>,
    /// How many loads have been published.
    loads: AtomicU64,
    /// The last loads, the oldest first, for consoles that connect later.
    reloads: Mutex<VecDeque<PastReload>>,
    load_state: Mutex<LoadState>,
    /// The plugins that a rollback keeps at an earlier build, as of the last load.
    rolled_back: Mutex<HashSet<PluginName>>,
    versions: VersionList,
    vault_contents: Arc<VaultContents>,
    staging: Staging,
    events: Arc<EventHub>,
    reaper: ReaperHandle,
    reaper_thread: Mutex<Option<JoinHandle<()>>>,
    runtime: Option<Arc<dyn Runtime>>,
    trusted: Arc<[String]>,
    expectations: Arc<Expectations>,
    guard: Option<Arc<ActiveGuard>>,
    listener: Mutex<Option<Listener>>,
    pins: Arc<Pins>,
    hooks: Hooks,
    is_shut_down: AtomicBool,
}

/// The parts from which an engine is made.
pub(super) struct Parts {
    pub host: HostInfo,
    pub settings: Settings,
    pub vault_contents: Arc<VaultContents>,
    pub staging: Staging,
    pub reaper: ReaperHandle,
    pub reaper_thread: JoinHandle<()>,
    pub runtime: Option<Arc<dyn Runtime>>,
    pub trusted: Arc<[String]>,
    pub expectations: Arc<Expectations>,
    pub guard: Option<Arc<ActiveGuard>>,
    pub hooks: Hooks,
}

impl Inner {
    /// An engine whose generation 0 is empty.
    pub(super) fn new(parts: Parts) -> Self {
        let extension = (parts.settings.extension)(None);
        let empty = Generation::new(
            GenerationNumber::NONE,
            Vec::new(),
            Arc::default(),
            extension,
            View::for_host(&parts.vault_contents),
        );
        Self {
            host: Mutex::new(parts.host),
            settings: parts.settings,
            current: Arc::new(Current::new(
                empty,
                parts.reaper.clone(),
                parts.expectations.clone(),
            )),
            loads: AtomicU64::new(0),
            reloads: Mutex::default(),
            load_state: Mutex::default(),
            rolled_back: Mutex::default(),
            versions: VersionList::default(),
            vault_contents: parts.vault_contents,
            staging: parts.staging,
            events: Arc::default(),
            reaper: parts.reaper,
            reaper_thread: Mutex::new(Some(parts.reaper_thread)),
            runtime: parts.runtime,
            trusted: parts.trusted,
            expectations: parts.expectations,
            guard: parts.guard,
            listener: Mutex::new(None),
            pins: Arc::default(),
            hooks: parts.hooks,
            is_shut_down: AtomicBool::new(false),
        }
    }

    /// Lets consoles attach.
    pub(super) fn listen(self: &Arc<Self>, socket: ConsoleSocket) -> Result<(), EngineError> {
        let served: Arc<dyn Served> = self.clone();
        // A console that connects at once reads where it is, and where the calls are.
        self.lock_host().calls_file = slots::calls_path();
        let mut listener = self.listener.locked();
        listener.insert(Listener::bind(socket)?).serve(&served).inspect_err(|_| *listener = None)
    }

    /// The id that distinguishes this engine from others.
    pub fn id(&self) -> EngineId {
        self.reaper.engine()
    }

    pub fn current(&self) -> Arc<Generation> {
        self.current.load()
    }

    /// The cell with the generation that serves.
    pub fn current_cell(&self) -> &Arc<Current> {
        &self.current
    }

    /// Whether the plugins are linked into this program.
    pub fn is_statically_linked(&self) -> bool {
        self.settings.linked.is_some()
    }

    pub fn set_plugin_dir(&self, dir: &Path) {
        self.lock_host().plugin_dir = os::absolute(dir);
    }

    pub fn vault_contents(&self) -> &Arc<VaultContents> {
        &self.vault_contents
    }

    pub fn events(&self) -> &Arc<EventHub> {
        &self.events
    }

    /// The settings and the state that a load uses.
    pub fn load_context(&self) -> LoadContext<'_> {
        LoadContext {
            settings: &self.settings,
            plugin_dir: self.lock_host().plugin_dir.clone(),
            staging: &self.staging,
            vault_contents: &self.vault_contents,
            current: &self.current,
            versions: &self.versions,
            reaper: &self.reaper,
            services: Services {
                reclaimer: Arc::new(self.reaper.clone()),
                engine: self.id(),
                loads: waiting_for_load_of(self.id()),
                events: self.events.clone(),
                runtime: self.runtime.clone(),
                trusted: self.trusted.clone(),
                expectations: self.expectations.clone(),
                guard: self.guard.clone(),
            },
            is_shut_down: &self.is_shut_down,
        }
    }

    /// The facts about the host. Its directories may have been made again since it started.
    fn host(&self) -> HostInfo {
        let mut host = self.lock_host().clone();
        host.staging_dir = self.staging.dir();
        if let Some(listener) = self.listener.locked().as_ref() {
            host.socket = listener.path();
        }
        host.health = self.hooks.health();
        host
    }

    fn lock_host(&self) -> MutexGuard<'_, HostInfo> {
        self.host.locked()
    }

    pub fn rollback(&self, target: &str) -> Result<ReloadReport, EngineError> {
        if self.is_statically_linked() {
            return Err(EngineError::StaticallyLinked);
        }
        let store = self.settings.store_dir.as_deref();
        self.expect_outside_load("rollback")?;
        let base = self.base_of(target);
        let target = base.as_deref().unwrap_or(target);
        let artifact = find_earlier(target, &self.versions.all(), store, &self.staging)?;
        self.roll_back_to(artifact, None)
    }

    /// The target of a rollback that names only a patched plugin: the version as it was loaded. `None` if the
    /// plugin is not patched.
    fn base_of(&self, plugin: &str) -> Option<String> {
        let current = self.current();
        let serving = current.find(plugin).ok().filter(|it| it.face() != FaceNumber::BASE)?;
        Some(format!("{}@{}", serving.version().name(), serving.version().ordinal))
    }

    /// Loads one plugin from `artifact`. With `replacing`, this happens only if that face of that version
    /// serves.
    pub fn roll_back_to(
        &self,
        artifact: Inspected,
        replacing: Option<(u32, FaceNumber)>,
    ) -> Result<ReloadReport, EngineError> {
        self.load_as(Request::Rollback { artifact: Box::new(artifact), replacing }, None, None)
    }

    /// The version to which the guard may go back, and its artifact.
    pub fn spare_for(&self, trip: &Trip) -> Option<(u32, Result<Inspected, EngineError>)> {
        if trip.face != FaceNumber::BASE {
            let (target, store) =
                (format!("{}@{}", trip.plugin, trip.ordinal), self.settings.store_dir.as_deref());
            let base = find_earlier(&target, &self.versions.all(), store, &self.staging);
            return Some((trip.ordinal, base));
        }
        let mut state = self.lock_loads();
        let spare = state.take_back(&trip.plugin, trip.build_id)?;
        Some((spare.ordinal, spare.inspected(&self.staging)))
    }

    /// The plan of a reload now.
    pub fn plan(&self, params: PlanParams) -> Result<ReloadPlan, EngineError> {
        let PlanParams { latest, prune, apply } = params;
        let request = match (apply, prune, latest) {
            (Some(apply), ..) => Request::Exactly(apply.artifacts),
            (None, true, latest) => Request::Pruning(PruneParams { latest, plugins: Vec::new() }),
            (None, false, true) => Request::Latest,
            (None, false, false) => Request::Changed,
        };
        self.expect_outside_load("plan")?;
        let state = self.lock_loads();
        load::plan(&self.load_context(), &state, request)
    }

    /// Loads, with `data` for the plugins, or with the data of the last load.
    pub fn load_as(
        &self,
        request: Request,
        data: Option<Data>,
        callback: Option<&mut Callback<'_>>,
    ) -> Result<ReloadReport, EngineError> {
        self.expect_outside_load("reload")?;
        let mut state = self.lock_loads();
        let result = self.load_locked(&mut state, request, data, callback);
        if self.is_shut_down() {
            // A shutdown that was requested inside the load could not wait for the load.
            self.retire_all();
        }
        result
    }

    /// Patches the version of a plugin that serves, before the artifact with this code is linked. After it is
    /// linked, records which build has the code.
    pub fn patch(&self, params: PatchParams) -> Result<ReloadReport, EngineError> {
        let PatchParams { plugin, patch: path, build_phases } = params;
        let read = load::patch::read(&path);
        let patch = read.map_err(|why| EngineError::load(&plugin, crate::Step::Open, why))?;
        if !patch.is_early() {
            self.expect_outside_load("reload")?;
            let _state = self.lock_loads();
            return load::patch::settle(&self.current(), &plugin, &patch, &path);
        }
        let patch = Box::new(patch);
        self.load_as(Request::Patch { plugin, patch, build_phases }, None, None)
    }

    /// Refuses an action `what` that would wait for a load, if that load waits for the caller.
    fn expect_outside_load(&self, what: &'static str) -> Result<(), EngineError> {
        if self.is_inside_load() { Err(EngineError::InsideLoad { what }) } else { Ok(()) }
    }

    /// Whether a load waits for this thread.
    fn is_inside_load(&self) -> bool {
        steps::is_inside_load_of(self.id())
    }

    fn load_locked(
        &self,
        state: &mut LoadState,
        request: Request,
        data: Option<Data>,
        callback: Option<&mut Callback<'_>>,
    ) -> Result<ReloadReport, EngineError> {
        if self.is_shut_down() {
            return Err(EngineError::ShutDown);
        }
        let socket = self.listener.locked().as_ref().map(Listener::renewed);
        if let Some(socket) = socket {
            socket.renew();
        }
        // If a patch is refused, its artifact is loaded when it is linked. That load is reported, and not the
        // refusal.
        let is_early = matches!(request, Request::Patch { .. });
        let started = Event::ReloadStarted { at_ms: now_ms() };
        if !is_early {
            self.events.send(started.clone());
        }
        let before = self.current().generation();
        let result = load::reload(&self.load_context(), state, request, data, callback);
        *self.rolled_back.locked() = state.rolled_back().cloned().collect();
        match &result {
            Ok(report) => {
                if is_early {
                    self.events.send(started);
                }
                if report.generation > before {
                    self.loads.fetch_add(1, Ordering::Relaxed);
                }
                tracing::info!(generation = report.generation, "loaded: {}", report.summary());
                self.record_end(ReloadEnd::Report(report.clone()));
            }
            Err(error) if is_early => tracing::debug!("not patched before it is linked: {error}"),
            Err(error) => {
                tracing::error!("load refused: {error}");
                self.record_end(ReloadEnd::Error(error.to_wire()));
            }
        }
        result
    }

    /// Keeps the outcome of a load in the list of the last loads, and sends an event about it.
    fn record_end(&self, end: ReloadEnd) {
        let reload = PastReload { at_ms: now_ms(), end };
        let mut reloads = self.reloads.locked();
        if reloads.len() >= MAX_RELOADS {
            reloads.pop_front();
        }
        reloads.push_back(reload.clone());
        drop(reloads);
        self.events.send(reload.into());
    }

    pub fn is_shut_down(&self) -> bool {
        self.is_shut_down.load(Ordering::Acquire)
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
        let lease = lease.map(|lease| lease.facing(version.faces.serving()));
        lease.map(LoadedPlugin).ok_or_else(|| self.unknown(target))
    }

    pub fn free(&self, target: &str) -> Result<FreeResult, EngineError> {
        let refuse = |why| EngineError::NotFreeable { target: target.to_owned(), why };
        if self.versions.all().iter().any(|version| version.name().is(target)) {
            return Err(refuse("name one of its versions: NAME@VERSION or NAME@BUILD-ID"));
        }
        let version = self.version(target)?;
        match version.state() {
            VersionState::Active => {
                return Err(refuse("it serves; a reload that replaces it retires it"));
            }
            VersionState::Loading => return Err(refuse("it is being loaded")),
            _ => {
                version.cancel_tasks();
                version.free_without_delay();
                // The version may wait for the calling thread.
                checkpoint();
                if !self.reaper.is_here() {
                    self.reaper.wait(&version, FREE_PATIENCE);
                }
            }
        }
        let info = version.info();
        Ok(FreeResult {
            plugin: version.name().to_string(),
            version: version.ordinal,
            state: info.state,
            detail: info.detail,
            holders: info.holders,
            held_by: info.held_by,
        })
    }

    /// The version that a target names.
    fn version(&self, target: &str) -> Result<Arc<Version>, EngineError> {
        let wanted = target.rsplit_once('@');
        let wanted = wanted.and_then(|(name, version)| Some((name, version.parse().ok()?)));
        let found = wanted
            .and_then(|(name, version): (&str, VersionRef)| self.versions.find(name, &version));
        found.ok_or_else(|| self.unknown(target))
    }

    fn unknown(&self, target: &str) -> EngineError {
        EngineError::UnknownPlugin { name: target.to_owned(), known: self.versions.callable() }
    }

    pub fn snapshot(&self) -> Snapshot {
        let current = self.current();
        let mut versions = self.versions.all();
        // Plugins that serve come in load order, then the others by name. The versions of a plugin come
        // newest first.
        let place = |version: &Version| {
            let mut serving = current.versions.iter().map(Lease::version);
            serving.position(|other| other.name() == version.name()).unwrap_or(usize::MAX)
        };
        versions.sort_by_cached_key(|version| {
            (place(version), version.name().clone(), std::cmp::Reverse(version.ordinal))
        });
        let of_one_plugin = versions.chunk_by(|a, b| a.name() == b.name());
        let rolled_back = self.rolled_back.locked().clone();
        let mut left = MAX_DESCRIBED;
        let plugins = of_one_plugin
            .map(|versions| plugin_info(versions, &current, &rolled_back, &mut left))
            .collect();
        Snapshot {
            host: self.host(),
            generation: current.generation(),
            plugins,
            vault_changes: self.vault_contents.changes(),
        }
    }

    pub fn vault_snapshot(&self) -> VaultSnapshot {
        // Reading values runs code of their owners, so it must not keep the whole generation in use.
        let (generation, extension) = {
            let current = self.current();
            (current.generation(), current.extension.clone())
        };
        // This comes first, so that whatever changes meanwhile is read again.
        let changes = self.vault_contents.changes();
        let (data_bag, data_bag_len) = self.vault_contents.data_bag_infos();
        let (slots, slots_len) = self.vault_contents.registration_infos();
        let (json, cuts) = extension.preview(PREVIEW_BOUNDS);
        VaultSnapshot {
            generation,
            changes,
            data_bag,
            data_bag_len,
            extension: json,
            extension_cuts: cuts.into_iter().map(cut_to_wire).collect(),
            extension_type: extension.type_name().to_owned(),
            slots,
            slots_len,
        }
    }

    pub fn live_snapshot(&self) -> LiveSnapshot {
        let current = self.current();
        current.live.snapshot(current.generation())
    }

    pub fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        let deadline = crate::event::after(Instant::now(), timeout);
        self.is_shut_down.store(true, Ordering::Release);
        let mut ended = self.events.subscribe();
        self.events.send(Event::ShuttingDown { at_ms: now_ms() });
        // A running load ends first, and is not published any more. No load begins afterwards.
        let patience = if self.is_inside_load() { Instant::now() } else { deadline };
        let Some(loads) = self.lock_loads_until(patience) else {
            return ShutdownReport { held: vec![Leftover::Load] };
        };
        self.retire_all();
        drop(loads);
        for version in self.versions.unfinished() {
            version.cancel_tasks();
            version.free_without_delay();
        }
        checkpoint();
        // The steps of a version's end are not waited for on the reaper's own thread.
        while !self.versions.unfinished().is_empty() && !self.reaper.is_here() {
            let left = deadline.saturating_duration_since(Instant::now());
            match ended.recv_timeout(left) {
                Ok(_) if !left.is_zero() => {}
                Ok(_) | Err(RecvTimeoutError::Timeout) => break,
                // Too many events came at once.
                Err(RecvTimeoutError::Disconnected) => ended = self.events.subscribe(),
            }
            checkpoint();
        }
        let mapped = self.versions.unfinished();
        let listener = self.listener.locked().take();
        drop(listener);
        if mapped.is_empty() {
            self.end_reaper();
            // The directory is removed here, and not when the engine is dropped: a console's request may keep
            // the engine until the process is gone.
            self.staging.remove();
        }
        let held = mapped.iter().map(|version| Leftover::Version {
            plugin: version.name().to_string(),
            version: version.ordinal,
            holders: version.holders(),
        });
        ShutdownReport { held: held.collect() }
    }

    /// Locks the loads, once the running load has ended. Until the lock is released, this thread must request no
    /// load, nor a plan; code of the host that runs meanwhile, such as the subscriber of its log, may try to.
    fn lock_loads(&self) -> Loads<'_> {
        self.mark_loading(self.load_state.locked())
    }

    fn mark_loading<'a>(&'a self, state: MutexGuard<'a, LoadState>) -> Loads<'a> {
        Loads { _inside: steps::begin_load(self.id()), state }
    }

    fn lock_loads_until(&self, deadline: Instant) -> Option<Loads<'_>> {
        /// How often to check whether the load has ended; there is no event for it.
        const POLL_INTERVAL: Duration = Duration::from_millis(5);
        loop {
            match self.load_state.try_lock() {
                Ok(state) => return Some(self.mark_loading(state)),
                Err(TryLockError::Poisoned(state)) => {
                    return Some(self.mark_loading(state.into_inner()));
                }
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return None,
                Err(TryLockError::WouldBlock) => thread::sleep(POLL_INTERVAL),
            }
        }
    }

    fn retire_all(&self) {
        let current = self.current();
        if current.versions.is_empty() {
            return;
        }
        let (extension, live) = (current.extension.clone(), Arc::<LiveTable>::default());
        let number = current.number.next();
        let view = View::for_host(&self.vault_contents);
        let empty = Generation::new(number, Vec::new(), live.clone(), extension, view);
        drop(current);
        self.vault_contents.set_live(live);
        let old = self.current.publish(Arc::new(empty));
        let versions: Vec<_> = old.versions.iter().map(|lease| lease.version().clone()).collect();
        versions.iter().rev().for_each(|version| self.vault_contents.retire(version));
        retire_together(&versions);
    }

    fn end_reaper(&self) {
        self.reaper.stop();
        // A shutdown that a log event of the reaper requests cannot wait for the reaper.
        let thread = self.lock_reaper_thread().take();
        if let Some(thread) = thread.filter(|_| !self.reaper.is_here()) {
            let _ = thread.join();
        }
    }

    fn lock_reaper_thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.reaper_thread.locked()
    }
}

/// The lock of the loads. The thread that has it is marked as the one that loads.
struct Loads<'a> {
    // Dropped before the lock is released.
    _inside: Vec<Inside>,
    state: MutexGuard<'a, LoadState>,
}

impl Deref for Loads<'_> {
    type Target = LoadState;

    fn deref(&self) -> &LoadState {
        &self.state
    }
}

impl DerefMut for Loads<'_> {
    fn deref_mut(&mut self) -> &mut LoadState {
        &mut self.state
    }
}

impl Drop for Inner {
    /// Retires the versions that a shutdown left serving because it could not wait for the load.
    fn drop(&mut self) {
        self.retire_all();
    }
}

impl Served for Inner {
    fn host_info(&self) -> HostInfo {
        self.host()
    }

    fn accept_agent(&self, agent: &HostAgent) -> Result<(), HostAgent> {
        let mut host = self.lock_host();
        match &host.agent {
            Some(other) => Err(other.as_ref().clone()),
            None => {
                host.agent = Some(Box::new(agent.clone()));
                Ok(())
            }
        }
    }

    fn end_agent(&self, agent: &HostAgent) {
        let mut host = self.lock_host();
        host.agent.take_if(|it| **it == *agent);
    }

    fn subscribe(&self) -> Events {
        self.events.subscribe()
    }

    fn send_event(&self, event: Event) {
        self.events.send(event);
    }

    fn pins(&self) -> Arc<Pins> {
        self.pins.clone()
    }

    fn snapshot(&self) -> Snapshot {
        self.snapshot()
    }

    fn reloads(&self) -> Reloads {
        Reloads { reloads: self.reloads.locked().iter().cloned().collect() }
    }

    fn vault_snapshot(&self) -> VaultSnapshot {
        self.vault_snapshot()
    }

    fn live_snapshot(&self) -> LiveSnapshot {
        self.live_snapshot()
    }

    fn plugin(&self, target: &str) -> Result<LoadedPlugin, EngineError> {
        self.plugin(target)
    }

    fn reload(&self, latest: bool) -> Result<ReloadReport, EngineError> {
        self.load_as(if latest { Request::Latest } else { Request::Changed }, None, None)
    }

    fn prune(&self, prune: PruneParams) -> Result<ReloadReport, EngineError> {
        self.load_as(Request::Pruning(prune), None, None)
    }

    fn plan(&self, plan: PlanParams) -> Result<ReloadPlan, EngineError> {
        self.plan(plan)
    }

    fn apply(&self, apply: ApplyParams) -> Result<ReloadReport, EngineError> {
        if self.is_statically_linked() {
            return Err(EngineError::StaticallyLinked);
        }
        self.load_as(Request::Exactly(apply.artifacts), None, None)
    }

    fn patch(&self, params: PatchParams) -> Result<ReloadReport, EngineError> {
        self.patch(params)
    }

    fn offer(&self, offer: &OfferParams) -> OfferAnswer {
        self.hooks.offer(offer)
    }

    fn rollback(&self, target: &str) -> Result<ReloadReport, EngineError> {
        self.rollback(target)
    }

    fn free(&self, target: &str) -> Result<FreeResult, EngineError> {
        self.free(target)
    }
}

/// A plugin as consoles show it, in an answer with room for `left` bytes of docs and schemas. `versions` are its
/// versions, newest first.
fn plugin_info(
    versions: &[Arc<Version>],
    current: &Generation,
    rolled_back: &HashSet<PluginName>,
    left: &mut usize,
) -> PluginInfo {
    let newest = versions.first();
    let active = newest.and_then(|newest| current.lease(newest.name())).map(Lease::version);
    let imports = active.map(|active| active.imports());
    PluginInfo {
        name: active.or(newest).map(|version| version.name().to_string()).unwrap_or_default(),
        versions: versions.iter().map(|version| version.info()).collect(),
        imports: imports.into_iter().flatten().map(|import| import.plugin.clone()).collect(),
        functions: active.map(|active| active.function_infos(left)).unwrap_or_default(),
        is_rolled_back: active.is_some_and(|active| rolled_back.contains(active.name())),
    }
}
