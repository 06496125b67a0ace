//! A load or reload: a transaction from the plugin directory to the published generation.

mod candidate;
mod dry_run;
mod load;
mod plan;

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    time::{Duration, Instant},
};

use hotswap_plugin::Data;
use hotswap_protocol::{PhaseTiming, ReloadReport};
use rustc_hash::FxBuildHasher;

use crate::{
    EngineError, PluginManager, Step,
    artifact::BuildId,
    engine::Inner,
    find::{FileIdentity, Found},
    lifecycle::Steps,
    stage::Inspected,
};
pub(crate) use dry_run::plan;
pub(crate) use load::{keep_export, open_version};

use load::Load;
use plan::Plan;

/// What a load is asked to do.
pub(crate) enum Request {
    /// Load what changed, but for plugins that a rollback holds.
    Changed,
    /// Load what changed, and let nothing hold it.
    Latest,
    /// Load one plugin from this artifact, and leave the others.
    Rollback(Box<Inspected>),
}

/// Called with the new and the old generation before the new one is published; an error undoes the
/// load.
pub(crate) type Callback<'a> =
    dyn FnMut(&PluginManager, &PluginManager) -> Result<(), BoxError> + 'a;

/// What a callback may fail with.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the engine remembers from load to load; the lock around it lets one load run at a time.
#[derive(Default)]
pub(crate) struct LoadState {
    /// The files that were read, by path, and what they were.
    files: HashMap<OsString, KnownFile, FxBuildHasher>,
    /// How often each plugin was loaded.
    ordinals: HashMap<String, u32>,
    /// The builds that each plugin was rolled back from, which are not loaded again unasked.
    held: HashMap<String, HashSet<BuildId>>,
}

struct KnownFile {
    identity: FileIdentity,
    plugin: String,
    build_id: BuildId,
}

/// Loads what changed, or undoes everything.
pub(crate) fn reload(
    engine: &Inner,
    state: &mut LoadState,
    request: Request,
    data: &Data,
    callback: Option<&mut Callback<'_>>,
) -> Result<ReloadReport, EngineError> {
    let begun = Instant::now();
    let mut phases = Phases::default();
    let current = engine.current();
    let mut steps = Steps::new(engine);
    let plan = Plan::make(engine, state, request, &current, &mut steps, &mut phases)?;
    let (generation, data_bag) = if plan.changes_nothing() {
        (current.generation, Vec::new())
    } else {
        let load = Load::run(engine, state, &plan, data, steps.thread()?, &mut phases)?;
        phases.time("publish", None, || load.publish(engine, &plan, &current, callback))?
    };
    state.remember(&plan);
    Ok(ReloadReport {
        generation,
        plugins: plan.outcomes(engine, &phases),
        elapsed_us: micros(begun.elapsed()),
        phases: phases.0,
        build_phases: match engine.store_dir() {
            // What is loaded first was built for no reload, and maybe long ago.
            Some(store) if current.generation > 0 => plan.build_phases(store),
            _ => Vec::new(),
        },
        data_bag,
    })
}

impl LoadState {
    /// Keeps what was read, so that it need not be read again while it stays as it is; and what the
    /// plugins were rolled back from.
    fn remember(&mut self, plan: &Plan) {
        if let Some(from) = plan.rolled_back_from() {
            let held = self.held.entry(from.name().to_lowercase()).or_default();
            held.insert(from.facts.build_id);
            return;
        }
        self.files.clear();
        for (found, plugin, build_id) in plan.known_files() {
            let (identity, plugin) = (found.identity.clone(), plugin.to_owned());
            self.files.insert(found.path.clone().into(), KnownFile { identity, plugin, build_id });
        }
        for plugin in plan.newly_loaded() {
            self.held.remove(&plugin.to_lowercase());
        }
    }

    /// What a file is that was read before and has not changed since.
    fn known(&self, found: &Found) -> Option<&KnownFile> {
        self.files.get(found.path.as_os_str()).filter(|known| known.identity == found.identity)
    }

    /// Whether a rollback holds this plugin against this build.
    fn holds(&self, plugin: &str, build_id: BuildId) -> bool {
        self.held.get(&plugin.to_lowercase()).is_some_and(|held| held.contains(&build_id))
    }

    fn next_ordinal(&mut self, plugin: &str) -> u32 {
        let ordinal = self.ordinals.entry(plugin.to_lowercase()).or_default();
        *ordinal += 1;
        *ordinal
    }
}

/// How long each part of a load took.
#[derive(Default)]
pub(crate) struct Phases(Vec<PhaseTiming>);

impl Phases {
    fn time<T>(&mut self, phase: &str, plugin: Option<&str>, f: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = f();
        self.0.push(PhaseTiming::new(phase, plugin, begun.elapsed()));
        result
    }

    /// The time that one plugin's own steps took.
    fn of(&self, plugin: &str) -> u64 {
        let own = self.0.iter().filter(|timing| timing.plugin.as_deref() == Some(plugin));
        own.map(|timing| timing.elapsed_us).sum()
    }
}

/// Whole microseconds, as reports and events tell them.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What a host gives to `load`, wrapped for the plugins.
pub(crate) fn load_data<T: serde::Serialize>(data: &T) -> Result<Data, EngineError> {
    Data::from_serialize(data).map_err(|error| EngineError::Load {
        plugin: None,
        step: Step::OnLoad,
        message: format!("the data for the plugins does not serialise: {error}"),
        causes: error.causes().to_vec(),
    })
}
