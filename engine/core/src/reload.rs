//! A load or reload: a transaction from the plugin directory to the published generation.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use hotswap_plugin::{Data, abi as plugin_abi};
use hotswap_protocol::{Outcome, PhaseTiming, PluginOutcome, ReloadReport, VersionState};

use crate::{
    EngineError, Step,
    artifact::BuildId,
    dependency::{dependents, provider, resolve},
    engine::Inner,
    find::{FileIdentity, Found, file_name, find},
    image::Image,
    lease::{Lease, LeaseKind},
    lifecycle::StepThread,
    manager::{PluginManager, same_name},
    stage::{Inspected, inspect},
    vault::{Bag, Overlay, Slot, View},
    version::{Dependencies, Owner, Version},
};

/// What the engine remembers from load to load; the lock around it lets one load run at a time.
#[derive(Default)]
pub(crate) struct LoadState {
    /// The files that were read, and what they were.
    files: HashMap<PathBuf, KnownFile>,
    /// How often each plugin was loaded.
    ordinals: HashMap<String, u32>,
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
    data: &Data,
) -> Result<ReloadReport, EngineError> {
    let begun = Instant::now();
    let mut phases = Phases::default();
    let current = engine.current();
    let plan = Plan::make(engine, state, &current, &mut phases)?;
    let generation = if plan.changes_nothing() {
        current.generation
    } else {
        let load = Load::run(engine, state, &plan, data, &mut phases)?;
        phases.time("publish", None, || load.publish(engine, &plan, &current))
    };
    state.remember(&plan);
    Ok(plan.report(engine, generation, phases, begun.elapsed()))
}

/// What is to be done with each plugin.
struct Plan {
    changed: Vec<Inspected>,
    /// Artifacts that are loaded already, with what they are.
    unchanged: Vec<(Found, String, BuildId)>,
    /// Artifacts of plugins that may not be replaced.
    not_reloadable: Vec<String>,
    removed: Vec<Arc<Version>>,
    replaced: Vec<Arc<Version>>,
    /// The plugins that did not change, but import one that did.
    rebound: Vec<String>,
}

impl Plan {
    fn make(
        engine: &Inner,
        state: &LoadState,
        current: &PluginManager,
        phases: &mut Phases,
    ) -> Result<Self, EngineError> {
        let found = phases.time("find", None, || find(&engine.plugin_dir()))?;
        let candidates = phases.time("inspect", None, || candidates(state, found))?;
        let candidates = select(engine.only(), candidates)?;
        expect_distinct(&candidates)?;

        let mut plan = Self {
            changed: Vec::new(),
            unchanged: Vec::new(),
            not_reloadable: Vec::new(),
            removed: Vec::new(),
            replaced: Vec::new(),
            rebound: Vec::new(),
        };
        for lease in &current.versions {
            let version = lease.version();
            if !candidates.iter().any(|candidate| same_name(candidate.name(), version.name())) {
                plan.removed.push(version.clone());
            }
        }
        let mut steps = None;
        for candidate in candidates {
            let running = current
                .versions
                .iter()
                .find(|lease| same_name(lease.version().name(), candidate.name()));
            plan.sort_in(engine, candidate, running, &mut steps)?;
        }
        plan.rebind_dependents(current)?;
        Ok(plan)
    }

    /// Loads anew what imports a plugin that changes, from its own unchanged artifact.
    fn rebind_dependents(&mut self, current: &PluginManager) -> Result<(), EngineError> {
        let running: Vec<_> =
            current.versions.iter().map(|lease| lease.version().clone()).collect();
        let new = self.changed.iter().map(|new| new.facts.name.clone());
        let changes = new.chain(self.removed.iter().map(|old| old.name().to_owned()));
        for name in dependents(&running, &changes.collect::<Vec<_>>()) {
            let at = self.unchanged.iter().position(|(_, plugin, _)| same_name(plugin, &name));
            let Some(at) = at else { continue };
            let (found, ..) = self.unchanged.remove(at);
            self.changed.push(inspect(found)?);
            self.replaced.extend(provider(&running, &name).cloned());
            self.rebound.push(name);
        }
        Ok(())
    }

    fn sort_in(
        &mut self,
        engine: &Inner,
        candidate: Candidate,
        running: Option<&Lease>,
        steps: &mut Option<StepThread>,
    ) -> Result<(), EngineError> {
        let Some(running) = running else {
            self.changed.push(candidate.inspected()?);
            return Ok(());
        };
        if running.version().facts.build_id == candidate.build_id() {
            let (name, build_id) = (candidate.name().to_owned(), candidate.build_id());
            self.unchanged.push((candidate.into_found(), name, build_id));
            return Ok(());
        }
        if steps.is_none() {
            *steps = Some(StepThread::start(engine.step_timeout())?);
        }
        let reloadable = match steps {
            Some(steps) => steps.run(running, Step::Reloadable, |image| image.reloadable())?,
            None => true,
        };
        if reloadable {
            self.replaced.push(running.version().clone());
            self.changed.push(candidate.inspected()?);
        } else {
            self.not_reloadable.push(running.version().name().to_owned());
        }
        Ok(())
    }

    fn changes_nothing(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    /// The versions that end with this load.
    fn ending(&self) -> Vec<Arc<Version>> {
        self.replaced.iter().chain(&self.removed).cloned().collect()
    }

    fn report(
        &self,
        engine: &Inner,
        generation: u64,
        phases: Phases,
        elapsed: Duration,
    ) -> ReloadReport {
        let mut plugins = Vec::new();
        for lease in &engine.current().versions {
            let version = lease.version();
            let name = version.name();
            let outcome = if self.rebound.iter().any(|other| same_name(other, name)) {
                Outcome::Rebound
            } else if self.not_reloadable.iter().any(|other| other == name) {
                Outcome::NotReloadable
            } else if self.replaced.iter().any(|old| same_name(old.name(), name)) {
                Outcome::Ok
            } else if self.changed.iter().any(|new| new.facts.name == name) {
                Outcome::Added
            } else {
                Outcome::Unchanged
            };
            plugins.push(PluginOutcome {
                name: name.to_owned(),
                outcome,
                version: Some(version.ordinal),
                elapsed_us: phases.of(name),
            });
        }
        plugins.extend(self.removed.iter().map(|version| PluginOutcome {
            name: version.name().to_owned(),
            outcome: Outcome::Removed,
            version: None,
            elapsed_us: 0,
        }));
        ReloadReport { generation, plugins, elapsed_us: micros(elapsed), phases: phases.0 }
    }
}

impl LoadState {
    /// Keeps what was read, so that it need not be read again while it stays as it is.
    fn remember(&mut self, plan: &Plan) {
        let unchanged =
            plan.unchanged.iter().map(|(found, name, build_id)| (found, name, *build_id));
        let changed =
            plan.changed.iter().map(|new| (&new.found, &new.facts.name, new.facts.build_id));
        let known = unchanged.chain(changed).map(|(found, plugin, build_id)| {
            let identity = found.identity.clone();
            (found.path.clone(), KnownFile { identity, plugin: plugin.clone(), build_id })
        });
        self.files = known.collect();
    }

    fn next_ordinal(&mut self, plugin: &str) -> u32 {
        let ordinal = self.ordinals.entry(plugin.to_lowercase()).or_default();
        *ordinal += 1;
        *ordinal
    }
}

/// A file in the plugin directory, read only where it is not known.
enum Candidate {
    Known { found: Found, plugin: String, build_id: BuildId },
    Read(Box<Inspected>),
}

impl Candidate {
    fn name(&self) -> &str {
        match self {
            Self::Known { plugin, .. } => plugin,
            Self::Read(inspected) => &inspected.facts.name,
        }
    }

    fn build_id(&self) -> BuildId {
        match self {
            Self::Known { build_id, .. } => *build_id,
            Self::Read(inspected) => inspected.facts.build_id,
        }
    }

    fn found(&self) -> &Found {
        match self {
            Self::Known { found, .. } => found,
            Self::Read(inspected) => &inspected.found,
        }
    }

    fn into_found(self) -> Found {
        match self {
            Self::Known { found, .. } => found,
            Self::Read(inspected) => inspected.found,
        }
    }

    /// The file, read now if it was not.
    fn inspected(self) -> Result<Inspected, EngineError> {
        match self {
            Self::Known { found, .. } => inspect(found),
            Self::Read(inspected) => Ok(*inspected),
        }
    }
}

fn candidates(state: &LoadState, found: Vec<Found>) -> Result<Vec<Candidate>, EngineError> {
    let candidate = |found: Found| match state.files.get(&found.path) {
        Some(known) if known.identity == found.identity => {
            Ok(Candidate::Known { plugin: known.plugin.clone(), build_id: known.build_id, found })
        }
        _ => inspect(found).map(|inspected| Candidate::Read(Box::new(inspected))),
    };
    let mut candidates = found.into_iter().map(candidate).collect::<Result<Vec<_>, _>>()?;
    candidates.sort_by_key(|candidate| candidate.name().to_lowercase());
    Ok(candidates)
}

/// Leaves out plugins that the host did not ask for; one that it asked for must be there.
fn select(
    only: Option<&[String]>,
    candidates: Vec<Candidate>,
) -> Result<Vec<Candidate>, EngineError> {
    let Some(only) = only else { return Ok(candidates) };
    let missing =
        only.iter().find(|name| !candidates.iter().any(|found| same_name(found.name(), name)));
    if let Some(name) = missing {
        let found: Vec<_> = candidates.iter().map(Candidate::name).collect();
        let message = format!("the host asks for it, but there is only: {}", found.join(", "));
        return Err(EngineError::load(name, Step::Find, message));
    }
    let wanted = |candidate: &Candidate| only.iter().any(|name| same_name(candidate.name(), name));
    Ok(candidates.into_iter().filter(wanted).collect())
}

/// Refuses two artifacts of one name; the candidates are sorted by name.
fn expect_distinct(candidates: &[Candidate]) -> Result<(), EngineError> {
    let twin = candidates.windows(2).find(|pair| same_name(pair[0].name(), pair[1].name()));
    let Some([a, b]) = twin else { return Ok(()) };
    let (first, second) = (file_name(&a.found().path), file_name(&b.found().path));
    let message = format!("two artifacts have this name: {first} and {second}; remove one");
    Err(EngineError::load(a.name(), Step::Find, message))
}

/// The new versions of a load that is under way. Dropping it before the publish undoes it.
struct Load {
    versions: Vec<Lease>,
    /// All versions of the generation to be, dependencies first.
    order: Vec<Arc<Version>>,
    overlay: Arc<Overlay>,
    /// Why it failed, if it did.
    failure: Option<String>,
    published: bool,
}

impl Load {
    fn run(
        engine: &Inner,
        state: &mut LoadState,
        plan: &Plan,
        data: &Data,
        phases: &mut Phases,
    ) -> Result<Self, EngineError> {
        let mut load = Self {
            versions: Vec::new(),
            order: Vec::new(),
            overlay: Overlay::new(&plan.ending()),
            failure: None,
            published: false,
        };
        let done = load.run_steps(engine, state, plan, data, phases);
        done.inspect_err(|error| load.failure = Some(error.to_string()))?;
        Ok(load)
    }

    fn run_steps(
        &mut self,
        engine: &Inner,
        state: &mut LoadState,
        plan: &Plan,
        data: &Data,
        phases: &mut Phases,
    ) -> Result<(), EngineError> {
        for inspected in &plan.changed {
            self.open(engine, state, inspected, phases)?;
        }
        let steps = StepThread::start(engine.step_timeout())?;
        for lease in &self.versions {
            let version = lease.version();
            phases.time("create", Some(version.name()), || {
                steps.run(lease, Step::Create, |image| image.create())?;
                let functions = steps.run(lease, Step::Create, |image| image.describe())?;
                version.set_functions(functions);
                Ok(())
            })?;
        }
        self.ask_dependencies(&steps, phases)?;
        self.bind(engine, plan, &steps, phases)?;
        for lease in &self.versions {
            let data = data.clone();
            phases.time("on_load", Some(lease.version().name()), || {
                steps.run(lease, Step::OnLoad, move |image| image.on_load(&data))
            })?;
        }
        for lease in &self.versions {
            let vault = View::for_version(engine.store(), lease.version());
            phases.time("on_init", Some(lease.version().name()), || {
                steps.run(lease, Step::OnInit, move |image| image.on_init(vault))
            })?;
        }
        Ok(())
    }

    /// Asks what each version gives and takes.
    fn ask_dependencies(&self, steps: &StepThread, phases: &mut Phases) -> Result<(), EngineError> {
        let mut asked = Vec::new();
        for lease in &self.versions {
            phases.time("reloadable", Some(lease.version().name()), || {
                let reloadable = steps.run(lease, Step::Reloadable, |image| image.reloadable())?;
                asked.push(Dependencies { reloadable, ..Dependencies::default() });
                Ok(())
            })?;
        }
        for (lease, dependencies) in self.versions.iter().zip(&mut asked) {
            let owner = Owner::Version(Arc::downgrade(lease.version()));
            phases.time("export", Some(lease.version().name()), || {
                let export =
                    steps.run(lease, Step::Export, move |image| export_of(image, owner))?;
                dependencies.export = export;
                Ok(())
            })?;
        }
        for (lease, mut dependencies) in self.versions.iter().zip(asked) {
            phases.time("import", Some(lease.version().name()), || {
                dependencies.imports = steps.run(lease, Step::Import, |image| image.requests())?;
                lease.version().set_dependencies(dependencies);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Checks what everybody imports, brings the versions into load order, and hands over.
    fn bind(
        &mut self,
        engine: &Inner,
        plan: &Plan,
        steps: &StepThread,
        phases: &mut Phases,
    ) -> Result<(), EngineError> {
        let ending = plan.ending();
        let current = engine.current();
        let staying = current.versions.iter().map(|lease| lease.version().clone());
        let staying = staying.filter(|version| !ending.iter().any(|old| Arc::ptr_eq(old, version)));
        let all: Vec<_> =
            staying.chain(self.versions.iter().map(|lease| lease.version().clone())).collect();
        self.order = resolve(&all)?;
        let place = |version: &Arc<Version>| {
            self.order.iter().position(|other| Arc::ptr_eq(other, version))
        };
        self.versions.sort_by_key(|lease| place(lease.version()));
        for lease in &self.versions {
            let imports = &lease.version().dependencies().imports;
            let objects = imports.iter().map(|import| {
                provider(&self.order, &import.plugin)?.dependencies().export.as_ref()?.lend_raw()
            });
            let objects = objects.collect();
            phases.time("bind", Some(lease.version().name()), || {
                steps.run(lease, Step::Import, move |image| image.bind(objects))
            })?;
        }
        Ok(())
    }

    fn open(
        &mut self,
        engine: &Inner,
        state: &mut LoadState,
        inspected: &Inspected,
        phases: &mut Phases,
    ) -> Result<(), EngineError> {
        let facts = inspected.facts.clone();
        let name = facts.name.clone();
        let ordinal = state.next_ordinal(&name);
        let staged =
            phases.time("stage", Some(&name), || engine.staging().stage(inspected, ordinal))?;
        let size_bytes = inspected.found.identity.size;
        let (version, opened) = phases.time("open", Some(&name), || {
            Version::open(
                facts,
                ordinal,
                size_bytes,
                engine.reaper().clone(),
                engine.events().clone(),
                Bag::loading(self.overlay.clone()),
                |version| Image::open(staged, version),
            )
        });
        engine.register(&version);
        match opened {
            Ok(()) => {
                self.versions.push(Lease::new(&version, LeaseKind::Handle));
                Ok(())
            }
            Err(why) => {
                let error = EngineError::load(&name, Step::Open, why);
                version.fail(error.to_string());
                version.finish();
                version.enter(VersionState::Failed, format!("failed: {error}"));
                Err(error)
            }
        }
    }

    /// Makes the new versions serve; returns the generation.
    fn publish(mut self, engine: &Inner, plan: &Plan, current: &Arc<PluginManager>) -> u64 {
        self.published = true;
        let ending = plan.ending();
        let loaded: Vec<_> = self.versions.iter().map(|lease| lease.version().clone()).collect();
        let stays = |lease: &&Lease| !ending.iter().any(|old| Arc::ptr_eq(old, lease.version()));
        let staying = current.versions.iter().filter(stays);
        let mut versions: Vec<Lease> =
            staying.map(|lease| lease.another(LeaseKind::Handle)).collect();
        versions.append(&mut self.versions);
        let place = |version: &Arc<Version>| {
            self.order.iter().position(|other| Arc::ptr_eq(other, version))
        };
        versions.sort_by_key(|lease| place(lease.version()));

        let generation = current.generation + 1;
        let new = engine.make_manager(generation, versions, Some(current));
        engine.store().publish(&self.overlay, &loaded, &ending);
        let old = engine.publish(new);
        for version in &loaded {
            version.enter(VersionState::Active, "active".into());
        }
        // Before the old generation goes: the reaper may free these as soon as it does.
        for version in &ending {
            version.enter(VersionState::Retired, "retired".into());
        }
        drop(old);
        generation
    }
}

/// What a version exports, as the engine keeps it.
fn export_of(image: &Image, owner: Owner) -> plugin_abi::Outcome<Option<Arc<Slot>>> {
    use plugin_abi::Outcome;
    match image.export() {
        Outcome::Ok(None) => Outcome::Ok(None),
        Outcome::Ok(Some(object)) => {
            let slot = Slot::new("export", owner, object);
            Outcome::from_result(slot.map(|slot| Some(Arc::new(slot))))
        }
        Outcome::Err(error) => Outcome::Err(error),
        Outcome::Panic(report) => Outcome::Panic(report),
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        let failure = self.failure.take().unwrap_or_else(|| "the load was abandoned".into());
        // The last one first: what was loaded later may use what was loaded earlier.
        while let Some(lease) = self.versions.pop() {
            lease.version().fail(failure.clone());
            lease.version().enter(VersionState::Failed, format!("failed: {failure}"));
        }
    }
}

/// How long each part of a load took.
#[derive(Default)]
struct Phases(Vec<PhaseTiming>);

impl Phases {
    fn time<T>(&mut self, phase: &str, plugin: Option<&str>, f: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = f();
        self.0.push(PhaseTiming {
            phase: phase.to_owned(),
            plugin: plugin.map(ToOwned::to_owned),
            elapsed_us: micros(begun.elapsed()),
        });
        result
    }

    /// The time that one plugin's own steps took.
    fn of(&self, plugin: &str) -> u64 {
        let own = self.0.iter().filter(|timing| timing.plugin.as_deref() == Some(plugin));
        own.map(|timing| timing.elapsed_us).sum()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What a host gives to `load`, wrapped for the plugins.
pub(crate) fn load_data<T: serde::Serialize>(data: &T) -> Result<Data, EngineError> {
    Data::wrap(data).map_err(|error| EngineError::Load {
        plugin: None,
        step: Step::OnLoad,
        message: format!("the data for the plugins does not serialise: {error}"),
        causes: error.causes().to_vec(),
    })
}
