//! The new versions of a load that is under way, from opening to publishing.

use std::sync::Arc;

use hotswap_plugin::{Data, FunctionDescription, LiveTypeDescription, abi::Outcome};
use hotswap_protocol::{ValueOutcome, VersionState};

use super::{Callback, LoadState, Phases, plan::Plan};
use crate::{
    EngineError, Step,
    dependency::{provider, resolve},
    engine::Inner,
    heap::HeapUse,
    history,
    image::Image,
    lease::{Lease, LeaseKind},
    lifecycle::StepThread,
    linked::Linked,
    live::LiveTable,
    log,
    manager::PluginManager,
    stage::Inspected,
    vault::{Bag, Overlay, Slot, View},
    version::{Owner, Version},
};

/// The new versions of a load that is under way. Dropping it before the publish undoes it.
pub(super) struct Load<'steps> {
    steps: &'steps StepThread,
    versions: Vec<Lease>,
    /// All versions of the generation to be, dependencies first.
    order: Vec<Arc<Version>>,
    live: LiveTable,
    overlay: Arc<Overlay>,
    /// Why it failed, if it did.
    failure: Option<String>,
    published: bool,
}

impl<'steps> Load<'steps> {
    pub fn run(
        engine: &Inner,
        state: &mut LoadState,
        plan: &Plan,
        data: &Data,
        steps: &'steps StepThread,
        phases: &mut Phases,
    ) -> Result<Self, EngineError> {
        let mut load = Self {
            steps,
            versions: Vec::new(),
            order: Vec::new(),
            live: LiveTable::default(),
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
            let ordinal = state.next_ordinal(&inspected.facts.name);
            let bag = Bag::loading(self.overlay.clone());
            self.versions.push(open_version(
                engine,
                inspected,
                ordinal,
                bag,
                (self.steps, phases),
            )?);
        }
        for linked in &plan.linked {
            let ordinal = state.next_ordinal(&linked.facts.name);
            let bag = Bag::loading(self.overlay.clone());
            self.versions.push(link_version(engine, linked, ordinal, bag, phases)?);
        }
        let steps = self.steps;
        for lease in &self.versions {
            let version = lease.version();
            phases.time("create", Some(version.name()), || {
                let (functions, types) = steps.run(lease, Step::Create, create)?;
                version.set_functions(&functions);
                version.set_live_types(&types);
                Ok(())
            })?;
        }
        self.ask_dependencies(phases)?;
        self.bind(engine, plan, phases)?;
        for lease in &self.versions {
            let data = data.clone();
            phases.time("on_load", Some(lease.version().name()), || {
                steps.run(lease, Step::OnLoad, move |image| image.on_load(&data))
            })?;
        }
        for lease in &self.versions {
            let vault = View::for_version(engine.store(), lease.version());
            phases.time("on_init", Some(lease.version().name()), || {
                let init = move |image: &Image| image.on_init(vault).then(|()| image.typed_calls());
                lease.version().set_typed_calls(steps.run(lease, Step::OnInit, init)?);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Asks what each version gives and takes.
    fn ask_dependencies(&self, phases: &mut Phases) -> Result<(), EngineError> {
        let steps = self.steps;
        for lease in &self.versions {
            let version = lease.version();
            phases.time("reloadable", Some(version.name()), || {
                let reloadable = steps.run(lease, Step::Reloadable, |image| image.reloadable())?;
                version.set_reloadable(reloadable);
                Ok(())
            })?;
        }
        for lease in &self.versions {
            let version = lease.version();
            let exporter = version.clone();
            phases.time("export", Some(version.name()), || {
                steps.run(lease, Step::Export, move |image| keep_export(image, &exporter))
            })?;
        }
        for lease in &self.versions {
            let version = lease.version();
            phases.time("import", Some(version.name()), || {
                version.set_imports(&steps.run(lease, Step::Import, |image| image.requests())?);
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
        phases: &mut Phases,
    ) -> Result<(), EngineError> {
        let ending = plan.ending();
        let current = engine.current();
        let staying = current.versions.iter().map(|lease| lease.version().clone());
        let staying = staying.filter(|version| !ending.iter().any(|old| Arc::ptr_eq(old, version)));
        let all: Vec<_> =
            staying.chain(self.versions.iter().map(|lease| lease.version().clone())).collect();
        self.order = resolve(&all)?;
        self.live = LiveTable::of(&self.order)?;
        let place = |version: &Arc<Version>| {
            self.order.iter().position(|other| Arc::ptr_eq(other, version))
        };
        self.versions.sort_by_cached_key(|lease| place(lease.version()));
        for lease in &self.versions {
            let imports = lease.version().imports().iter();
            let objects =
                imports.map(|import| provider(&self.order, &import.plugin)?.export()?.lend_raw());
            let objects = objects.collect();
            phases.time("bind", Some(lease.version().name()), || {
                self.steps.run(lease, Step::Import, move |image| image.bind(objects))
            })?;
        }
        Ok(())
    }

    /// Remembers why the load failed.
    fn failed(&mut self, error: EngineError) -> EngineError {
        self.failure = Some(error.to_string());
        error
    }

    /// Makes the new versions serve; returns the generation, and what became of the DataBag.
    pub fn publish(
        mut self,
        engine: &Inner,
        plan: &Plan,
        current: &Arc<PluginManager>,
        callback: Option<&mut Callback<'_>>,
    ) -> Result<(u64, Vec<ValueOutcome>), EngineError> {
        if engine.is_shut_down() {
            return Err(EngineError::ShutDown);
        }
        let ending = plan.ending();
        let loaded: Vec<_> = self.versions.iter().map(|lease| lease.version().clone()).collect();
        let generation = current.generation + 1;
        let extension = engine.make_extension(current).map_err(|error| self.failed(error))?;
        let new = engine.make_manager(generation, self.all_versions(current, &ending), extension);
        engine.call_back(&new, current, callback).map_err(|error| self.failed(error))?;
        // A callback may have taken so long that a shutdown has given up waiting, or be one.
        if engine.is_shut_down() {
            return Err(self.failed(EngineError::ShutDown));
        }
        let (overlay, steps) = (self.overlay.clone(), self.steps);
        let serve = || {
            self.published = true;
            engine.store().set_live(std::mem::take(&mut self.live));
            let old = engine.publish(new);
            let linked = if plan.linked.is_empty() { "" } else { ": linked into this program" };
            for version in &loaded {
                version.enter(VersionState::Active, format!("active{linked}"));
            }
            // Before the old generation goes: the reaper may free these as soon as it does.
            for version in &ending {
                version.enter(VersionState::Retired, "retired".into());
            }
            old
        };
        let published = engine.store().publish(&overlay, &loaded, &ending, steps, serve);
        let published = published.map_err(|error| self.failed(error))?;
        Ok((generation, published.finish(engine.reaper())))
    }

    /// The versions of the new generation in load order: the new ones, and those that stay.
    fn all_versions(&self, current: &PluginManager, ending: &[Arc<Version>]) -> Vec<Lease> {
        let stays = |lease: &&Lease| !ending.iter().any(|old| Arc::ptr_eq(old, lease.version()));
        let staying = current.versions.iter().filter(stays);
        let all = staying.chain(&self.versions).map(|lease| lease.another(LeaseKind::Handle));
        let mut versions: Vec<Lease> = all.collect();
        let place = |version: &Arc<Version>| {
            self.order.iter().position(|other| Arc::ptr_eq(other, version))
        };
        versions.sort_by_cached_key(|lease| place(lease.version()));
        versions
    }
}

/// Makes the instance, and asks what there is to call.
fn create(image: &Image) -> Outcome<(Vec<FunctionDescription>, Vec<LiveTypeDescription>)> {
    image.create().then(|()| {
        image.describe().then(|functions| image.describe_types().map(|types| (functions, types)))
    })
}

/// Makes a version of an artifact: names its copy, and opens that.
pub(crate) fn open_version(
    engine: &Inner,
    inspected: &Inspected,
    ordinal: u32,
    bag: Bag,
    (steps, phases): (&StepThread, &mut Phases),
) -> Result<Lease, EngineError> {
    let facts = inspected.facts.clone();
    let name = facts.name.clone();
    let mut named = engine.staging().name(inspected, ordinal)?;
    named.stored = history::keep_stored(engine.store_dir(), &facts);
    let size_bytes = inspected.found.identity.size;
    let (version, opened) = phases.time("open", Some(&name), || {
        let (heap, services) = (HeapUse::new(), engine.services());
        Version::open(facts, ordinal, size_bytes, heap, services, bag, |version| {
            Image::open(named, version, steps)
        })
    });
    opened_version(engine, &version, opened)
}

/// Makes a version of a plugin that is linked into this program.
fn link_version(
    engine: &Inner,
    linked: &Linked,
    ordinal: u32,
    bag: Bag,
    phases: &mut Phases,
) -> Result<Lease, EngineError> {
    let (facts, plugin) = (linked.facts.clone(), linked.plugin);
    let (version, opened) = phases.time("open", Some(&linked.facts.name), || {
        // It allocates as the program does that it is linked into.
        Version::open(facts, ordinal, 0, None, engine.services(), bag, |version| {
            Image::link(plugin, version)
        })
    });
    if opened.is_ok() {
        log::plugin_is_linked(plugin, &version);
    }
    opened_version(engine, &version, opened)
}

/// Lists a version, and leases it if it was opened.
fn opened_version(
    engine: &Inner,
    version: &Arc<Version>,
    opened: Result<(), String>,
) -> Result<Lease, EngineError> {
    engine.register(version);
    match opened {
        Ok(()) => Ok(Lease::first(version)),
        Err(why) => {
            let error = EngineError::load(version.name(), Step::Open, why);
            version.fail(error.to_string());
            // It has no image to enter.
            version.leases().close();
            version.finish(VersionState::Failed, format!("failed: {error}"));
            Err(error)
        }
    }
}

/// Asks what a version exports, and keeps it with the version, also when nobody waits any more.
pub(crate) fn keep_export(image: &Image, version: &Arc<Version>) -> Outcome<()> {
    image.export().then(|object| {
        let Some(object) = object else { return Outcome::Ok(()) };
        let slot = Slot::new("export", Owner::Version(Arc::downgrade(version)), object);
        Outcome::from_result(slot.map(|slot| version.set_export(Arc::new(slot))))
    })
}

impl Drop for Load<'_> {
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
