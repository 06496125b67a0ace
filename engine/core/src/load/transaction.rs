//! The new versions of a running load, from opening to publishing.

use std::{sync::Arc, time::Duration};

use hotswap_plugin::{__private::DescribedFunction, Data, LiveTypeDescription, abi::Answer};
use hotswap_protocol::{CauseKind, Failure, PhaseKind};

use super::{
    Callback, LoadContext, LoadState, Phases,
    dependency::{object_for, resolve},
    earlier,
    find::FileIdentity,
    hand_over::{self, HandOver},
    linked::Linked,
    plan::{Action, Plan},
    stage::Inspected,
};
use crate::{
    EngineError, Step,
    image::{Image, heap::HeapUse, step_thread::StepThread},
    log,
    reclaim::reaper::Readable as _,
    serve::{
        generation::{Generation, GenerationNumber},
        live::LiveTable,
    },
    vault::{Overlay, ValueOutcomes, View},
    version::{
        Origin, Owner, Version,
        declared::{Declared, Functions},
        expectations::Offer,
        lease::{Lease, LeaseKind},
        registration::Registration,
        turn::{leave_together, retire_together},
    },
};

/// A version that handed over, and the longest time that a call of it waited.
pub(super) type Waited = (Arc<Version>, Duration);

/// The new versions of a running load. Dropping this before the publish undoes the load.
pub(super) struct Load<'steps> {
    steps: &'steps StepThread,
    versions: Vec<Lease>,
    /// All versions of the new generation, dependencies first.
    order: Vec<Arc<Version>>,
    live: Arc<LiveTable>,
    overlay: Arc<Overlay>,
    /// The versions that have handed over to new ones.
    handed_over: Vec<HandOver>,
    /// Why it failed; `None` if it has not.
    failure: Option<Failure>,
    published: bool,
}

impl<'steps> Load<'steps> {
    pub fn run(
        context: &LoadContext<'_>,
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
            live: Arc::default(),
            overlay: Overlay::new(&plan.ending()),
            handed_over: Vec::new(),
            failure: None,
            published: false,
        };
        let done = load.run_steps(context, state, plan, data, phases);
        done.inspect_err(|error| load.failure = Some(error.failure()))?;
        Ok(load)
    }

    fn run_steps(
        &mut self,
        context: &LoadContext<'_>,
        state: &mut LoadState,
        plan: &Plan,
        data: &Data,
        phases: &mut Phases,
    ) -> Result<(), EngineError> {
        self.open(context, state, plan, phases)?;
        self.declare(phases)?;
        self.bind(context, plan, phases)?;
        let steps = self.steps;
        self.each(phases, Step::OnLoad, |lease| {
            let data = data.clone();
            steps.run(lease, Step::OnLoad, move |image| image.on_load(&data))
        })?;
        self.hand_over(context, plan, phases)?;
        // This comes before every `on_init`, which may call live functions of plugins whose own `on_init`
        // runs later.
        self.each(phases, Step::OnInit, |lease| {
            let vault = View::for_version(context.vault_contents, lease.version(), &self.overlay);
            let context = steps.run(lease, Step::OnInit, move |image| image.prepare(vault))?;
            lease.version().set_context(context);
            Ok(())
        })?;
        self.each(phases, Step::OnInit, |lease| {
            steps.run(lease, Step::OnInit, |image| image.on_init())
        })?;
        // Checks what the versions have registered in their steps.
        self.meet_expectations(context, true)
    }

    /// Refuses a load that breaks expectations of the host's own code. Registrations are known only after the
    /// steps have run.
    fn meet_expectations(
        &self,
        context: &LoadContext<'_>,
        are_registered: bool,
    ) -> Result<(), EngineError> {
        let current = context.current.load();
        let serving: Vec<_> =
            current.versions.iter().map(|lease| lease.version().clone()).collect();
        let (now, then) = (
            View::for_host(context.vault_contents),
            View::for_callbacks(context.vault_contents, &self.overlay),
        );
        let none = |_: &str| Vec::new();
        let (registered_now, registered_then) = (
            |interface: &str| now.registrations(interface),
            |interface: &str| then.registrations(interface),
        );
        let before = Offer { versions: &serving, registrations: &registered_now };
        let after = Offer {
            versions: &self.order,
            registrations: if are_registered { &registered_then } else { &none },
        };
        let broken = context.services.expectations.broken(&before, &after);
        if context.settings.publish_breaking {
            for broken in broken.iter().filter(|_| are_registered) {
                tracing::warn!(plugin = broken.by, "published although {broken}");
            }
            return Ok(());
        }
        match EngineError::host_expects(broken) {
            Some(refused) => Err(refused),
            None => Ok(()),
        }
    }

    /// Makes replaced versions hand over, if they have a resource that only one version may have.
    fn hand_over(
        &mut self,
        context: &LoadContext<'_>,
        plan: &Plan,
        phases: &mut Phases,
    ) -> Result<(), EngineError> {
        let current = context.current.load();
        let mut hand_over = Vec::new();
        for old in plan.ending() {
            let is_replaced = self.versions.iter().any(|new| new.version().name() == old.name());
            let Some(lease) = current.lease(old.name()).filter(|_| is_replaced) else { continue };
            let ask = || hand_over::is_wanted(lease, self.steps);
            if phases.time(Step::HandOver, Some(old.name()), ask)? {
                hand_over.push(lease);
            }
        }
        if hand_over.is_empty() {
            return Ok(());
        }
        let begin = || hand_over::hold_calls_up(context, &hand_over, self.steps.timeout());
        for held_up in phases.time(Step::HandOver, None, begin)? {
            let name = held_up.plugin().clone();
            let let_go = || held_up.let_go(self.steps);
            self.handed_over.push(phases.time(Step::HandOver, Some(&name), let_go)?);
        }
        Ok(())
    }

    /// Maps the images of all versions.
    fn open(
        &mut self,
        context: &LoadContext<'_>,
        state: &mut LoadState,
        plan: &Plan,
        phases: &mut Phases,
    ) -> Result<(), EngineError> {
        for planned in plan.plugins() {
            let mut next = || state.next_ordinal(&planned.name);
            let opened = match (&planned.action, planned.artifact()) {
                (_, Some(artifact)) => {
                    open_version(context, artifact, next(), (self.steps, phases))?
                }
                (Action::Link(linked), None) => link_version(context, linked, next(), phases)?,
                (_, None) => continue,
            };
            self.versions.push(opened);
        }
        Ok(())
    }

    /// Asks each version for its functions, exports and imports.
    fn declare(&self, phases: &mut Phases) -> Result<(), EngineError> {
        let steps = self.steps;
        let created =
            self.each(phases, Step::Create, |lease| steps.run(lease, Step::Create, create))?;
        let reloadable = self.each(phases, Step::Reloadable, |lease| {
            steps.run(lease, Step::Reloadable, |image| image.reloadable())
        })?;
        self.each(phases, Step::Export, |lease| {
            let exporter = lease.version().clone();
            steps.run(lease, Step::Export, move |image| keep_export(image, &exporter))
        })?;
        let imports = self.each(phases, Step::Import, |lease| {
            steps.run(lease, Step::Import, |image| image.requests())
        })?;
        let answers = created.iter().zip(reloadable).zip(&imports);
        for (lease, (((functions, live_types), is_reloadable), imports)) in
            self.versions.iter().zip(answers)
        {
            let declared = Declared {
                functions: Functions::new(functions),
                live_types: live_types.to_vec(),
                imports: imports.to_vec(),
                is_reloadable,
            };
            lease.version().declare(declared, functions);
        }
        Ok(())
    }

    /// Runs one step of each version.
    fn each<T>(
        &self,
        phases: &mut Phases,
        phase: Step,
        mut step: impl FnMut(&Lease) -> Result<T, EngineError>,
    ) -> Result<Vec<T>, EngineError> {
        let timed =
            |lease: &Lease| phases.time(phase, Some(lease.version().name()), || step(lease));
        self.versions.iter().map(timed).collect()
    }

    /// Checks all imports, sorts the versions into load order, and hands the imported objects over.
    fn bind(
        &mut self,
        context: &LoadContext<'_>,
        plan: &Plan,
        phases: &mut Phases,
    ) -> Result<(), EngineError> {
        let ending = plan.ending();
        let current = context.current.load();
        let staying = current.versions.iter().map(|lease| lease.version().clone());
        let staying = staying.filter(|version| !ending.iter().any(|old| Arc::ptr_eq(old, version)));
        let all: Vec<_> =
            staying.chain(self.versions.iter().map(|lease| lease.version().clone())).collect();
        let services = &context.settings.services;
        self.order = resolve(&all, services)?;
        self.live =
            Arc::new(LiveTable::of(&self.order, |version| plan.face_of(version, &current))?);
        self.overlay.set_live(self.live.clone());
        let place = |version: &Arc<Version>| {
            self.order.iter().position(|other| Arc::ptr_eq(other, version))
        };
        self.versions.sort_by_cached_key(|lease| place(lease.version()));
        for lease in &self.versions {
            let imports = lease.version().imports().iter();
            let objects = imports.map(|it| object_for(&self.order, services, it)).collect();
            phases.time(PhaseKind::Bind, Some(lease.version().name()), || {
                self.steps.run(lease, Step::Import, move |image| image.bind(objects))
            })?;
        }
        self.meet_expectations(context, false)
    }

    /// Remembers why the load failed.
    fn record_failure(&mut self, error: EngineError) -> EngineError {
        self.failure = Some(error.failure());
        error
    }

    /// Makes the new versions serve. Returns the generation, and the outcomes of the values in the DataBag.
    pub fn publish(
        mut self,
        context: &LoadContext<'_>,
        plan: &Plan,
        current: &Arc<Generation>,
        callback: Option<&mut Callback<'_>>,
    ) -> Result<(GenerationNumber, ValueOutcomes, Vec<Waited>), EngineError> {
        if context.is_shut_down() {
            return Err(EngineError::ShutDown);
        }
        let ending = in_load_order(plan.ending(), current);
        let loaded: Vec<_> = self.versions.iter().map(|lease| lease.version().clone()).collect();
        let number = current.number.next();
        let extension =
            context.make_extension(current).map_err(|error| self.record_failure(error))?;
        let versions = self.all_versions(plan, current, &ending);
        let view = View::for_callbacks(context.vault_contents, &self.overlay);
        let new = Generation::new(number, versions, self.live.clone(), extension, view);
        let call_back = || context.call_back(&new, current, callback);
        hand_over::call_back(&self.handed_over, self.steps.timeout(), call_back)
            .map_err(|error| self.record_failure(error))?;
        // A callback may have taken so long that a shutdown has given up waiting, or it may itself have shut
        // the engine down.
        if context.is_shut_down() {
            return Err(self.record_failure(EngineError::ShutDown));
        }
        let (overlay, steps) = (self.overlay.clone(), self.steps);
        let serve = || {
            self.published = true;
            context.vault_contents.set_live(self.live.clone());
            let old = context.current.publish(Arc::new(new));
            let linked =
                if context.settings.linked.is_some() { "linked into this program" } else { "" };
            for version in &loaded {
                version.serve(linked);
            }
            plan.faces().for_each(|(version, face)| version.serve_face(face));
            // This comes before the old generation is dropped: from then on the reaper may free these
            // versions.
            retire_together(&ending);
            move || old.is_read()
        };
        let published = context.vault_contents.publish(&overlay, &loaded, &ending, steps, serve);
        let mut published = published.map_err(|error| self.record_failure(error))?;
        let waits = self.handed_over.drain(..).map(HandOver::pass).collect();
        let values = std::mem::take(&mut published.values);
        if let Some(drops) = published.into_drops() {
            context.reaper.drop_later(drops);
        }
        Ok((number, values, waits))
    }

    /// The versions of the new generation in load order: the new ones, and those that stay.
    fn all_versions(
        &self,
        plan: &Plan,
        current: &Generation,
        ending: &[Arc<Version>],
    ) -> Vec<Lease> {
        let stays = |lease: &&Lease| !ending.iter().any(|old| Arc::ptr_eq(old, lease.version()));
        let staying = current.versions.iter().filter(stays);
        let all = staying.chain(&self.versions).map(|lease| {
            let face = plan.face_of(lease.version(), current);
            lease.another(LeaseKind::Handle).facing(face)
        });
        let mut versions: Vec<Lease> = all.collect();
        let place = |version: &Arc<Version>| {
            self.order.iter().position(|other| Arc::ptr_eq(other, version))
        };
        versions.sort_by_cached_key(|lease| place(lease.version()));
        versions
    }
}

/// Sorts versions of a generation into the order in which the generation loaded them.
fn in_load_order(mut versions: Vec<Arc<Version>>, generation: &Generation) -> Vec<Arc<Version>> {
    let place = |version: &Arc<Version>| {
        generation.versions.iter().position(|lease| Arc::ptr_eq(lease.version(), version))
    };
    versions.sort_by_cached_key(place);
    versions
}

/// Makes the instance, and asks for the functions and the live types.
fn create(image: &Image) -> Answer<(Vec<DescribedFunction>, Vec<LiveTypeDescription>)> {
    image.create().then(|()| {
        image.describe().then(|functions| image.describe_types().map(|types| (functions, types)))
    })
}

/// Makes a version from an artifact: names its copy, and opens it.
pub(crate) fn open_version(
    context: &LoadContext<'_>,
    inspected: &Inspected,
    ordinal: u32,
    (steps, phases): (&StepThread, &mut Phases),
) -> Result<Lease, EngineError> {
    let facts = inspected.facts.clone();
    let name = facts.name.clone();
    let mut named = context.staging.name(inspected, ordinal)?;
    named.stored = earlier::keep_stored(context.store_dir(), &facts);
    let FileIdentity { size: size_bytes, modified, .. } = inspected.found.identity;
    let origin = Origin { size_bytes, modified };
    let (version, opened) = phases.time(Step::Open, Some(&name), || {
        let (heap, services) = (HeapUse::new(), context.services.clone());
        Version::open(facts, ordinal, origin, heap, services, |version| {
            Image::open(named, version, steps)
        })
    });
    list_version(context, &version, opened)
}

/// Makes a version of a plugin that is linked into this program.
fn link_version(
    context: &LoadContext<'_>,
    linked: &Linked,
    ordinal: u32,
    phases: &mut Phases,
) -> Result<Lease, EngineError> {
    let (facts, plugin) = (linked.facts.clone(), linked.plugin);
    let (version, opened) = phases.time(Step::Open, Some(&linked.facts.name), || {
        // The plugin allocates like the program into which it is linked.
        let origin = Origin { size_bytes: 0, modified: None };
        Version::open(facts, ordinal, origin, None, context.services.clone(), |version| {
            Image::link(plugin, version)
        })
    });
    if opened.is_ok() {
        log::plugin_is_linked(plugin, &version);
    }
    list_version(context, &version, opened)
}

/// Adds a version to the list of versions. Returns its first lease if it was opened.
fn list_version(
    context: &LoadContext<'_>,
    version: &Arc<Version>,
    opened: Result<(), EngineError>,
) -> Result<Lease, EngineError> {
    context.versions.add(version);
    match opened {
        Ok(()) => Ok(Lease::first(version)),
        Err(error) => {
            version.end_unopened(error.failure());
            Err(error)
        }
    }
}

/// Asks for the export of a version, and keeps it with the version, even if nobody waits for it any more.
pub(crate) fn keep_export(image: &Image, version: &Arc<Version>) -> Answer<()> {
    image.export().then(|object| {
        let Some(object) = object else { return Answer::Ok(()) };
        let export = Registration::export(Owner::Version(Arc::downgrade(version)), object);
        Answer::from_result(export.map(|export| version.set_export(Arc::new(export))))
    })
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        self.overlay.undo();
        let failure = self.failure.take().unwrap_or_else(|| Failure {
            plugin: None,
            step: None,
            cause: CauseKind::Other,
            message: "the load was abandoned".into(),
            causes: Vec::new(),
        });
        // In reverse order: a version that was loaded later may use one that was loaded earlier.
        let versions: Vec<_> = self.versions.iter().map(|lease| lease.version().clone()).collect();
        leave_together(&versions);
        while let Some(lease) = self.versions.pop() {
            lease.version().fail(failure.clone());
        }
        while let Some(handed_over) = self.handed_over.pop() {
            handed_over.undo(&versions, self.steps);
        }
    }
}
