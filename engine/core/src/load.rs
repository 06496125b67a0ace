//! A load or reload: a transaction from the plugin directory to the published generation.

// What there is to load.
mod candidate;
pub(crate) mod earlier;
pub(crate) mod find;
pub(crate) mod linked;
pub(crate) mod stage;

// What is to be done, and doing it.
mod context;
mod dependency;
mod dry_run;
mod hand_over;
pub(crate) mod patch;
mod plan;
mod services;
mod transaction;

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    fs::File,
    path::PathBuf,
    time::Instant,
};

use hotswap_plugin::Data;
use hotswap_protocol::{
    BuildId, PhaseKind, PhaseTiming, PluginName, PruneParams, ReloadReport, clock::micros,
};
use rustc_hash::FxBuildHasher;

use crate::{
    EngineError, LoadCause, Step,
    artifact::patch::Patch,
    serve::generation::{Generation, GenerationNumber},
    version::{face::FaceNumber, steps::Steps},
};
pub(crate) use context::{LoadContext, OnReload, Settings};
pub(crate) use dry_run::plan;
pub(crate) use transaction::{keep_export, open_version};

use find::{FileIdentity, Found, path_of};
use plan::Plan;
use stage::{Inspected, Staging};
use transaction::{Load, Waited};

/// What a load is asked to do.
pub(crate) enum Request {
    /// Load what changed, but for plugins that a rollback holds.
    Changed,
    /// Load what changed, and let nothing hold it.
    Latest,
    /// Load what changed, and retire plugins whose file is gone.
    Pruning(PruneParams),
    /// Load exactly these artifacts, wherever they lie, and retire other plugins.
    Exactly(Vec<PathBuf>),
    /// Give the version of a plugin that serves the code of this patch, whose artifact is still being linked.
    Patch {
        plugin: String,
        patch: Box<Patch>,
        /// How long each phase of making it took.
        build_phases: Vec<PhaseTiming>,
    },
    /// Load one plugin from this artifact, and leave the others.
    Rollback {
        artifact: Box<Inspected>,
        /// Only if this face of this version of it serves; `None` if any may.
        replacing: Option<(u32, FaceNumber)>,
    },
}

impl Request {
    /// Whether what a rollback holds is loaded too.
    fn is_latest(&self) -> bool {
        match self {
            Self::Latest | Self::Exactly(_) => true,
            Self::Pruning(prune) => prune.latest,
            Self::Changed | Self::Patch { .. } | Self::Rollback { .. } => false,
        }
    }

    /// Whether the plugin is to be retired if its file is gone.
    fn prunes(&self, plugin: &PluginName) -> bool {
        match self {
            Self::Pruning(prune) => {
                prune.plugins.is_empty() || prune.plugins.iter().any(|name| plugin.is(name))
            }
            Self::Exactly(_) => true,
            Self::Changed | Self::Latest | Self::Patch { .. } | Self::Rollback { .. } => false,
        }
    }
}

/// Called with the new and the old generation before the new one is published; an error undoes the
/// load.
pub(crate) type Callback<'a> = dyn FnMut(&Generation, &Generation) -> Result<(), BoxError> + 'a;

/// What a callback may fail with.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the engine remembers from load to load; the lock around it lets one load run at a time.
#[derive(Default)]
pub(crate) struct LoadState {
    /// The files that were read, by path, and what they were.
    files: HashMap<OsString, KnownFile, FxBuildHasher>,
    /// How often each plugin was loaded.
    ordinals: HashMap<PluginName, u32>,
    /// The builds that each plugin was rolled back from, which are not loaded again unasked.
    held: HashMap<PluginName, HashSet<BuildId>>,
    /// What the guard goes back to, and the builds between which it has gone: it leaves these alone.
    spares: HashMap<PluginName, Spare>,
    taken_back: HashMap<PluginName, HashSet<BuildId>>,
    /// What plugins are handed where a load has no data of its own.
    data: Option<Data>,
}

/// The version that was replaced last, for the guard to go back to. It may be freed meanwhile, and no store
/// need have it.
pub(crate) struct Spare {
    pub ordinal: u32,
    build_id: BuildId,
    /// The copy that it was loaded from, under no name any more.
    file: File,
}

struct KnownFile {
    identity: FileIdentity,
    plugin: PluginName,
    build_id: BuildId,
}

/// Loads what changed, or undoes everything.
pub(crate) fn reload(
    context: &LoadContext<'_>,
    state: &mut LoadState,
    request: Request,
    data: Option<Data>,
    callback: Option<&mut Callback<'_>>,
) -> Result<ReloadReport, EngineError> {
    let given = data.clone();
    let data = data.or_else(|| state.data.clone()).map_or_else(|| load_data(&()), Ok)?;
    let is_first = context.current.load().number.get() == 0;
    let result = reload_with(context, state, request, &data, callback);
    // A load that was refused is undone, its data too. A first one may be tried again by a console.
    if result.is_ok() || is_first {
        state.data = given.or(state.data.take());
    }
    result
}

fn reload_with(
    context: &LoadContext<'_>,
    state: &mut LoadState,
    mut request: Request,
    data: &Data,
    callback: Option<&mut Callback<'_>>,
) -> Result<ReloadReport, EngineError> {
    let begun = Instant::now();
    let mut phases = Phases::default();
    let current = context.current.load();
    let mut steps = context.steps();
    let early = match &mut request {
        Request::Patch { build_phases, .. } => std::mem::take(build_phases),
        _ => Vec::new(),
    };
    let mut plan = Plan::make(context, state, request, &current, &mut steps, &mut phases)?;
    plan.load_patches(&current, &mut steps, &mut phases)?;
    plan.rebind_dependents(&current, context.staging, &mut steps, &mut phases)?;
    let (generation, data_bag, waits) = if plan.changes_nothing() {
        (current.number, Vec::new(), Vec::new())
    } else {
        let load = Load::run(context, state, &plan, data, steps.thread()?, &mut phases)?;
        phases.time(Step::Publish, None, || load.publish(context, &plan, &current, callback))?
    };
    // Not a part of the load: others waited meanwhile.
    let waits = waits.iter().map(|(version, waited): &Waited| {
        PhaseTiming::new(PhaseKind::CallsWaited, Some(version.name().as_str()), *waited)
    });
    state.remember(&plan);
    if context.services.guard.is_some() {
        state.keep_spares(&plan, &current);
    }
    for plugin in plan.missing() {
        tracing::warn!(
            "{plugin} stays loaded, but its artifact is gone from {}; \
             `hotswap reload --prune` unloads it",
            context.plugin_dir.display()
        );
    }
    Ok(ReloadReport {
        generation: generation.get(),
        plugins: plan.outcomes(&context.current.load(), &phases),
        elapsed_us: micros(begun.elapsed()),
        phases: phases.0.into_iter().chain(waits).collect(),
        build_phases: match context.store_dir() {
            // What is loaded first was built for no reload, and maybe long ago.
            _ if !early.is_empty() => early,
            Some(store) if current.number > GenerationNumber::NONE => plan.build_phases(store),
            _ => Vec::new(),
        },
        data_bag,
        rolled_back: plan.rolled_back_from().map(|(plugin, _)| plugin.to_string()),
    })
}

impl Spare {
    /// The artifact, staged and inspected anew.
    pub(crate) fn inspected(&self, staging: &Staging) -> Result<Inspected, EngineError> {
        staging.stage(Found::at(&path_of(&self.file, "self"))?)?.inspect()
    }
}

impl LoadContext<'_> {
    /// The thread of this load, which is started when it is first asked for.
    fn steps(&self) -> Steps {
        Steps::new(self.settings.step_timeout, self.services.engine)
    }
}

impl LoadState {
    /// Keeps what was read, so that it need not be read again while it stays as it is; and what the
    /// plugins were rolled back from.
    fn remember(&mut self, plan: &Plan) {
        if let Some((plugin, build_id)) = plan.rolled_back_from() {
            self.held.entry(plugin.clone()).or_default().insert(build_id);
            return;
        }
        if plan.is_of_plugin_dir() {
            self.files.clear();
            for (found, plugin, build_id) in plan.known_files() {
                let (identity, plugin) = (found.identity.clone(), plugin.clone());
                self.files
                    .insert(found.path.clone().into(), KnownFile { identity, plugin, build_id });
            }
        }
        for plugin in plan.newly_loaded() {
            self.held.remove(plugin);
        }
    }

    /// What a file is that was read before and has not changed since.
    fn known(&self, found: &Found) -> Option<&KnownFile> {
        self.files.get(found.path.as_os_str()).filter(|known| known.identity == found.identity)
    }

    /// Whether a rollback holds this plugin against this build.
    fn holds(&self, plugin: &PluginName, build_id: BuildId) -> bool {
        self.held.get(plugin).is_some_and(|held| held.contains(&build_id))
    }

    /// Whether a rollback keeps this plugin at an earlier build.
    fn is_rolled_back(&self, plugin: &PluginName) -> bool {
        self.held.contains_key(plugin)
    }

    /// The plugins that a rollback keeps at an earlier build.
    pub(crate) fn rolled_back(&self) -> impl Iterator<Item = &PluginName> {
        self.held.keys()
    }

    /// Keeps the files of the versions that a load has replaced.
    fn keep_spares(&mut self, plan: &Plan, replaced: &Generation) {
        for version in plan.ending() {
            let file = replaced.lease(version.name()).and_then(|lease| lease.image().file());
            if let Some(file) = file.and_then(|path| File::open(path).ok()) {
                let (ordinal, build_id) = (version.ordinal, version.facts.build_id);
                self.spares.insert(version.name().clone(), Spare { ordinal, build_id, file });
            }
        }
    }

    /// What the guard may go back to from a build of a plugin: once, until there is a build that is neither.
    pub(crate) fn take_back(&mut self, plugin: &PluginName, from: BuildId) -> Option<&Spare> {
        let spare = self.spares.get(plugin).filter(|spare| spare.build_id != from)?;
        let left_alone = self.taken_back.entry(plugin.clone()).or_default();
        if left_alone.contains(&from) {
            return None;
        }
        left_alone.extend([from, spare.build_id]);
        Some(spare)
    }

    fn next_ordinal(&mut self, plugin: &PluginName) -> u32 {
        let ordinal = self.ordinals.entry(plugin.clone()).or_default();
        *ordinal += 1;
        *ordinal
    }
}

/// How long each part of a load took.
#[derive(Default)]
pub(crate) struct Phases(Vec<PhaseTiming>);

impl Phases {
    fn time<T>(
        &mut self,
        phase: impl Into<PhaseKind>,
        plugin: Option<&PluginName>,
        f: impl FnOnce() -> T,
    ) -> T {
        let begun = Instant::now();
        let result = f();
        self.0.push(PhaseTiming::new(
            phase.into(),
            plugin.map(PluginName::as_str),
            begun.elapsed(),
        ));
        result
    }

    /// The time that one plugin's own steps took.
    fn of(&self, plugin: &PluginName) -> u64 {
        let is_own = |timing: &&PhaseTiming| timing.plugin.as_deref() == Some(plugin.as_str());
        self.0.iter().filter(is_own).map(|timing| timing.elapsed_us).sum()
    }
}

/// What a host gives to `load`, wrapped for the plugins.
pub(crate) fn load_data<T: serde::Serialize>(data: &T) -> Result<Data, EngineError> {
    Data::from_serialize(data).map_err(|error| {
        let message = format!("the data for the plugins does not serialise: {error}");
        let refused = EngineError::load_of_all(Step::OnLoad, message);
        refused.with_causes(error.causes().to_vec()).because(LoadCause::Other)
    })
}
