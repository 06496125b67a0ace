//! A load or reload: a transaction from the plugin directory to the published generation.

// The artifacts that can be loaded.
mod candidate;
pub(crate) mod earlier;
pub(crate) mod find;
pub(crate) mod linked;
pub(crate) mod stage;

// The plan of a load, and carrying it out.
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
    vault::ValueOutcomes,
    version::{face::FaceNumber, steps::Steps},
};
pub(crate) use context::{LoadContext, OnReload, Settings};
pub(crate) use dry_run::plan;
pub(crate) use transaction::{keep_export, open_version};

use find::{FileIdentity, Found, path_of};
use plan::Plan;
use stage::{Inspected, Staging};
use transaction::{Load, Waited};

/// What a load has to do.
pub(crate) enum Request {
    /// Load what changed, except plugins that a rollback keeps back.
    Changed,
    /// Load what changed, including plugins that a rollback keeps back.
    Latest,
    /// Load what changed, and retire plugins whose file is gone.
    Pruning(PruneParams),
    /// Load exactly these artifacts, wherever they are, and retire all other plugins.
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
        /// Do this only if this face of this version serves; `None` for any version.
        replacing: Option<(u32, FaceNumber)>,
    },
}

impl Request {
    /// Whether plugins that a rollback keeps back are loaded too.
    fn is_latest(&self) -> bool {
        match self {
            Self::Latest | Self::Exactly(_) => true,
            Self::Pruning(prune) => prune.latest,
            Self::Changed | Self::Patch { .. } | Self::Rollback { .. } => false,
        }
    }

    /// Whether the plugin is retired if its file is gone.
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

/// A function that gets the new and the old generation before the new one is published. An error undoes the
/// load.
pub(crate) type Callback<'a> = dyn FnMut(&Generation, &Generation) -> Result<(), BoxError> + 'a;

/// The error of a callback.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the engine remembers from load to load. The lock around it makes loads run one at a time.
#[derive(Default)]
pub(crate) struct LoadState {
    /// The files that were read, by path, with the identity, the plugin and the build of each.
    files: HashMap<OsString, KnownFile, FxBuildHasher>,
    /// How often each plugin was loaded.
    ordinals: HashMap<PluginName, u32>,
    /// The builds from which each plugin was rolled back. They are loaded again only on request.
    held: HashMap<PluginName, HashSet<BuildId>>,
    /// For each plugin, the version to which the guard goes back, and the builds between which the guard went
    /// back, which it leaves alone.
    spares: HashMap<PluginName, Spare>,
    taken_back: HashMap<PluginName, HashSet<BuildId>>,
    /// The data for plugins in loads that have no data of their own.
    data: Option<Data>,
}

/// The version that was replaced last, to which the guard can go back. The version may be freed by then, and its
/// artifact need not be in a store.
pub(crate) struct Spare {
    pub ordinal: u32,
    build_id: BuildId,
    /// The copy from which it was loaded, which has no name any more.
    file: File,
}

struct KnownFile {
    identity: FileIdentity,
    plugin: PluginName,
    build_id: BuildId,
}

/// Loads what changed. If that fails, everything is undone.
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
    // If a load was refused, its data is discarded too. The data of a first load is kept, because a console
    // may repeat that load.
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
    let (generation, values, waits) = if plan.changes_nothing() {
        (current.number, ValueOutcomes::default(), Vec::new())
    } else {
        let load = Load::run(context, state, &plan, data, steps.thread()?, &mut phases)?;
        phases.time(Step::Publish, None, || load.publish(context, &plan, &current, callback))?
    };
    // This is not part of the load, since other loads can run meanwhile.
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
            // The artifacts of a first load were not built for a reload, and maybe long ago.
            _ if !early.is_empty() => early,
            Some(store) if current.number > GenerationNumber::NONE => plan.build_phases(store),
            _ => Vec::new(),
        },
        data_bag: values.listed,
        data_bag_omitted: values.omitted,
        rolled_back: plan.rolled_back_from().map(|(plugin, _)| plugin.to_string()),
    })
}

impl Spare {
    /// Stages and inspects the artifact again.
    pub(crate) fn inspected(&self, staging: &Staging) -> Result<Inspected, EngineError> {
        staging.stage(Found::at(&path_of(&self.file, "self"))?)?.inspect()
    }
}

impl LoadContext<'_> {
    /// The thread of this load, which is started when it is first needed.
    fn steps(&self) -> Steps {
        Steps::new(self.settings.step_timeout, self.services.loads.clone())
    }
}

impl LoadState {
    /// Keeps the facts that were read of each file until the file changes, and the builds from which plugins were
    /// rolled back.
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

    /// What was read of a file that has not changed since.
    fn known(&self, found: &Found) -> Option<&KnownFile> {
        self.files.get(found.path.as_os_str()).filter(|known| known.identity == found.identity)
    }

    /// Whether a rollback keeps the plugin from this build.
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
            if let Some(file) = file.and_then(|path| hotswap_artifact::open(path).ok()) {
                let (ordinal, build_id) = (version.ordinal, version.facts.build_id);
                self.spares.insert(version.name().clone(), Spare { ordinal, build_id, file });
            }
        }
    }

    /// The version to which the guard may go back from a build of a plugin. It goes back once, and again only
    /// after a build that is neither of the two.
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

    /// The time that the steps of one plugin took, in microseconds.
    fn of(&self, plugin: &PluginName) -> u64 {
        let is_own = |timing: &&PhaseTiming| timing.plugin.as_deref() == Some(plugin.as_str());
        self.0.iter().filter(is_own).map(|timing| timing.elapsed_us).sum()
    }
}

/// Wraps the data that a host passes to `load`.
pub(crate) fn load_data<T: serde::Serialize>(data: &T) -> Result<Data, EngineError> {
    Data::from_serialize(data).map_err(|error| {
        let message = format!("the data for the plugins cannot be serialised: {error}");
        let refused = EngineError::load_of_all(Step::OnLoad, message);
        refused.with_causes(error.causes().to_vec()).because(LoadCause::Other)
    })
}
