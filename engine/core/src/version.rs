//! One load of a plugin, from its image's opening to its unmapping.

use std::{
    cell::UnsafeCell,
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use hotswap_plugin::{FunctionDescription, ImportRequest};
use hotswap_protocol::{Event, FunctionInfo, ParamInfo, VersionInfo, VersionState};

use crate::{
    artifact::Facts,
    event::{EventHub, now_ms},
    image::{Closed, Image},
    lease::LeaseCounts,
    reaper::ReaperHandle,
    thread::VersionThreads,
    vault::{Bag, Slot},
};

/// One load of a plugin.
pub(crate) struct Version {
    pub facts: Facts,
    pub ordinal: u32,
    pub size_bytes: u64,
    loaded_at_ms: u64,
    image: UnsafeCell<Option<Image>>,
    leases: LeaseCounts,
    pub threads: VersionThreads,
    /// What it sees of the Vault, and what of the Vault is its own.
    pub bag: Bag,
    functions: OnceLock<Functions>,
    dependencies: OnceLock<Dependencies>,
    calls: AtomicU64,
    life: Mutex<Life>,
    on_free_done: AtomicBool,
    finished: AtomicBool,
    reaper: ReaperHandle,
    events: Arc<EventHub>,
}

// SAFETY: the image cell is written before the version is shared (`Version::open`) and emptied by
// the reaper when no lease is left; in between it is only read, and an `Image` is `Sync`.
unsafe impl Sync for Version {}

/// The functions that can be called by number, and how often each was.
struct Functions {
    described: Vec<FunctionDescription>,
    by_name: HashMap<String, usize>,
    calls: Vec<AtomicU64>,
}

/// What a version gives to and takes from others.
#[derive(Default)]
pub(crate) struct Dependencies {
    pub reloadable: bool,
    pub export: Option<Arc<Slot>>,
    pub imports: Vec<ImportRequest>,
}

/// What a version is in, and since when it was not in use.
struct Life {
    state: VersionState,
    detail: String,
    failure: Option<String>,
    retired_at: Option<Instant>,
}

impl Version {
    /// A version that is about to be loaded; `open` makes its image, which may call back already.
    pub fn open(
        facts: Facts,
        ordinal: u32,
        size_bytes: u64,
        reaper: ReaperHandle,
        events: Arc<EventHub>,
        bag: Bag,
        open: impl FnOnce(&Arc<Self>) -> Result<Image, String>,
    ) -> (Arc<Self>, Result<(), String>) {
        let version = Arc::new(Self {
            facts,
            ordinal,
            size_bytes,
            loaded_at_ms: now_ms(),
            image: UnsafeCell::new(None),
            leases: LeaseCounts::default(),
            threads: VersionThreads::default(),
            bag,
            functions: OnceLock::new(),
            dependencies: OnceLock::new(),
            calls: AtomicU64::new(0),
            life: Mutex::new(Life {
                state: VersionState::Loading,
                detail: "loading".into(),
                failure: None,
                retired_at: None,
            }),
            on_free_done: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            reaper,
            events,
        });
        let opened = open(&version).map(|image| {
            // SAFETY: nobody reads the cell before this returns: that takes a lease, and the image's
            // own code, which may run already, has no way to ask for one but a thread's.
            unsafe { *version.image.get() = Some(image) };
        });
        (version, opened)
    }

    /// The open image.
    ///
    /// # Safety
    /// The caller has a lease, or is the reaper.
    pub unsafe fn image(&self) -> &Image {
        // SAFETY: by the caller's promise the reaper does not empty the cell meanwhile.
        let image = unsafe { &*self.image.get() };
        image.as_ref().unwrap_or_else(|| unreachable!("{self} is leased, but has no image"))
    }

    /// Closes the image and says what came of it.
    ///
    /// # Safety
    /// The caller is the reaper, no lease is left and none can come, and no other thread has
    /// destructors of the image to run.
    pub unsafe fn close(self: &Arc<Self>) -> Option<Closed> {
        // SAFETY: by the caller's promise nobody reads the cell.
        let image = unsafe { (*self.image.get()).take() }?;
        // SAFETY: the caller's promise.
        Some(unsafe { image.close(|| self.run_destructors()) })
    }

    pub fn name(&self) -> &str {
        &self.facts.name
    }

    pub fn leases(&self) -> &LeaseCounts {
        &self.leases
    }

    /// Tells the reaper that the last lease ended, or the last thread ran its destructors.
    pub fn unused(self: &Arc<Self>) {
        self.reaper.consider(self);
    }

    /// Whether this is the first call: `on_free` runs once.
    pub fn begin_on_free(&self) -> bool {
        !self.on_free_done.swap(true, Ordering::AcqRel)
    }

    /// Marks the end: the image was closed, or is kept for good.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }

    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Keeps what the image told of its functions.
    pub fn set_functions(&self, described: Vec<FunctionDescription>) {
        let by_name = described.iter().enumerate();
        let by_name = by_name.map(|(at, function)| (function.name.clone(), at)).collect();
        let calls = described.iter().map(|_| AtomicU64::new(0)).collect();
        let _ = self.functions.set(Functions { described, by_name, calls });
    }

    /// Keeps what the image told of its dependencies.
    pub fn set_dependencies(&self, dependencies: Dependencies) {
        let _ = self.dependencies.set(dependencies);
    }

    /// What the version gives and takes; nothing before its steps have told.
    pub fn dependencies(&self) -> &Dependencies {
        static NONE: Dependencies =
            Dependencies { reloadable: true, export: None, imports: Vec::new() };
        self.dependencies.get().unwrap_or(&NONE)
    }

    /// Drops the version's objects in the Vault, and its export.
    ///
    /// The caller is the reaper; no lease is left.
    pub fn destroy_objects(&self) {
        self.bag.destroy();
        if let Some(export) = &self.dependencies().export {
            export.destroy();
        }
    }

    /// The function of a name, counting a call of it.
    pub fn function_to_call(&self, name: &str) -> Option<&FunctionDescription> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let functions = self.functions.get()?;
        let at = *functions.by_name.get(name)?;
        functions.calls[at].fetch_add(1, Ordering::Relaxed);
        functions.described.get(at)
    }

    /// The function of a name.
    pub fn function(&self, name: &str) -> Option<&FunctionDescription> {
        let functions = self.functions.get()?;
        functions.described.get(*functions.by_name.get(name)?)
    }

    /// The names of the functions that can be called by number.
    pub fn function_names(&self) -> Vec<&str> {
        let functions = self.functions.get().into_iter().flat_map(|all| &all.described);
        functions.map(|function| function.name.as_str()).collect()
    }

    /// The functions as a console shows them.
    pub fn function_infos(&self) -> Vec<FunctionInfo> {
        let Some(functions) = self.functions.get() else { return Vec::new() };
        let counted = functions.described.iter().zip(&functions.calls);
        counted.map(|(function, calls)| function_info(function, calls)).collect()
    }

    pub fn state(&self) -> VersionState {
        self.life().state
    }

    /// Enters a state and tells everybody.
    pub fn enter(&self, state: VersionState, detail: String) {
        {
            let mut life = self.life();
            if (life.state, &life.detail) == (state, &detail) {
                return;
            }
            if state == VersionState::Retired && life.retired_at.is_none() {
                life.retired_at = Some(Instant::now());
            }
            (life.state, life.detail) = (state, detail.clone());
        }
        let (plugin, version) = (self.facts.name.clone(), self.ordinal);
        tracing::debug!(plugin, version, "{detail}");
        self.events.send(Event::VersionChanged { at_ms: now_ms(), plugin, version, state, detail });
    }

    /// Remembers why the version never served.
    pub fn fail(&self, why: String) {
        let mut life = self.life();
        life.failure = Some(why);
        life.retired_at = Some(Instant::now());
    }

    /// Why the version never served.
    pub fn failure(&self) -> Option<String> {
        self.life().failure.clone()
    }

    /// How long ago the version was replaced.
    pub fn since_retired(&self) -> Option<std::time::Duration> {
        self.life().retired_at.map(|at| at.elapsed())
    }

    /// The version as a console shows it. What the reaper wrote stands, but for the holders of a
    /// version that is waiting for them: those are as of now.
    pub fn info(&self) -> VersionInfo {
        let (state, mut detail) = {
            let life = self.life();
            (life.state, life.detail.clone())
        };
        let holders = self.holders();
        match state {
            VersionState::Retired if holders.is_empty() => detail = "retired: ending".into(),
            VersionState::Retired => detail = format!("retired: {}", holders.join(", ")),
            VersionState::Pinned => detail = format!("pinned: {}", holders.join(", ")),
            _ => {}
        }
        VersionInfo {
            version: self.ordinal,
            state,
            detail,
            build_id: self.facts.build_id.to_string(),
            crate_version: self.facts.crate_version.clone(),
            source: self.facts.source.clone(),
            loaded_at_ms: self.loaded_at_ms,
            size_bytes: self.size_bytes,
            calls: self.calls.load(Ordering::Relaxed),
            holders: if state == VersionState::Active { Vec::new() } else { holders },
        }
    }

    /// What keeps the version from being unmapped, by name.
    pub fn holders(&self) -> Vec<String> {
        let mut holders = self.leases.holders();
        if holders.is_empty() {
            let threads = self.threads.pinned().into_iter();
            holders.extend(threads.map(|name| format!("thread-local on \"{name}\"")));
        }
        holders
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{}", self.facts.name, self.ordinal)
    }
}

/// Who owns something in the Vault.
#[derive(Clone)]
pub(crate) enum Owner {
    Host,
    Version(Weak<Version>),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Version(version) => match version.upgrade() {
                Some(version) => version.fmt(f),
                None => f.write_str("a version that is gone"),
            },
        }
    }
}

fn function_info(function: &FunctionDescription, calls: &AtomicU64) -> FunctionInfo {
    let schema = |text: &str| serde_json::from_str(text).unwrap_or(serde_json::Value::Bool(true));
    let params = function.params.iter().map(|param| ParamInfo {
        name: param.name.clone(),
        type_name: param.type_name.clone(),
        schema: schema(&param.schema),
    });
    FunctionInfo {
        name: function.name.clone(),
        signature: function.signature.clone(),
        doc: function.doc.clone(),
        params: params.collect(),
        returns: schema(&function.returns),
        calls: calls.load(Ordering::Relaxed),
    }
}
