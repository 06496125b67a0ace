//! What a reload does with each plugin.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use hotswap_plugin::StaticPlugin;
use hotswap_protocol::{BuildId, Outcome, PhaseTiming, PluginName, PluginOutcome};

use super::{
    LoadContext, LoadState, Phases, Request,
    candidate::{Candidate, candidates, expect_distinct, inspect, may_be_wanted},
    dependency::dependents,
    earlier,
    find::{Found, find, named, path_of},
    linked::{self, Linked},
    patch::{self, NotPatched, Way},
    stage::{Inspected, Staging},
};
use crate::{
    EngineError, Step,
    artifact::patch::Patch,
    serve::generation::Generation,
    version::{
        Version,
        face::{Face, FaceNumber},
        lease::Lease,
        steps::Steps,
    },
};

/// What a load does with each plugin. A plugin that is not in the plan is left unchanged.
pub(super) struct Plan {
    plugins: Vec<Planned>,
    /// Where the artifacts come from.
    from: From,
}

/// The origin of the artifacts of a plan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    PluginDir,
    /// From an earlier version or from the store.
    Earlier,
    /// From the paths in the request.
    Named,
    /// Nowhere: there is a patch, and its artifact is still being linked.
    Patch,
}

/// What a load does with one plugin.
pub(super) struct Planned {
    pub name: PluginName,
    /// The version that serves; `None` if none does.
    pub running: Option<Running>,
    pub action: Action,
    /// Why it is loaded as a whole although there is a patch for it.
    pub not_patched: Option<NotPatched>,
}

/// A version that serves, and the face of it that serves.
pub(super) struct Running {
    pub version: Arc<Version>,
    face: FaceNumber,
}

impl Running {
    fn of(lease: &Lease) -> Self {
        Self { version: lease.version().clone(), face: lease.face() }
    }

    fn build_id(&self) -> BuildId {
        self.version.build_of(self.face)
    }
}

/// An action for one plugin.
pub(super) enum Action {
    /// Load it from this artifact, and retire the version that serves.
    Load(Box<Inspected>),
    /// Give the version that serves the code that this artifact has, without loading it; `None` if it is not
    /// linked yet.
    Patch { artifact: Option<Box<Inspected>>, by: Way },
    /// Load it once more from the very artifact that runs, since it imports a plugin that changes.
    Rebind {
        artifact: Box<Inspected>,
        /// The file in the plugin directory, if that is the artifact that runs.
        found: Option<Found>,
    },
    /// Attach it, since it is linked into this program.
    Link(Box<Linked>),
    /// Do nothing: this file in the plugin directory is the artifact that runs.
    Keep(Found),
    /// Do nothing: a rollback keeps the plugin back.
    Hold,
    /// Do nothing: the version that serves refuses to be replaced.
    Refuse,
    /// Retire the version that serves: its file is gone, and the request asked for this.
    Remove,
    /// Do nothing: its file is gone, but this alone does not unload a plugin.
    Miss,
}

impl Planned {
    /// The outcome of the plugin in the report.
    pub fn outcome(&self) -> Outcome {
        match (&self.action, &self.running) {
            (Action::Load(_), Some(_)) => Outcome::Ok,
            (Action::Load(_), None) | (Action::Link(_), _) => Outcome::Added,
            (Action::Patch { .. }, _) => Outcome::Patched,
            (Action::Rebind { .. }, _) => Outcome::Rebound,
            (Action::Keep(_), _) => Outcome::Unchanged,
            (Action::Hold, _) => Outcome::Held,
            (Action::Refuse, _) => Outcome::NotReloadable,
            (Action::Remove, _) => Outcome::Removed,
            (Action::Miss, _) => Outcome::Missing,
        }
    }

    /// The artifact to load; `None` if there is none.
    pub fn artifact(&self) -> Option<&Inspected> {
        match &self.action {
            Action::Load(artifact) | Action::Rebind { artifact, .. } => Some(artifact),
            _ => None,
        }
    }

    /// The artifact, if it is another build than the one that runs.
    pub fn new_artifact(&self) -> Option<&Inspected> {
        match &self.action {
            Action::Load(artifact) | Action::Patch { artifact: Some(artifact), .. } => {
                Some(artifact)
            }
            _ => None,
        }
    }

    /// Changes how a planned patch makes the version's face.
    fn set_way(&mut self, way: Way) {
        if let Action::Patch { by, .. } = &mut self.action {
            *by = way;
        }
    }

    /// Turns patching the plugin into loading it as a whole, if that is possible.
    fn load_whole(&mut self, why: NotPatched) -> Result<(), EngineError> {
        self.action = match std::mem::replace(&mut self.action, Action::Hold) {
            Action::Patch { artifact: Some(artifact), .. } => Action::Load(artifact),
            Action::Patch { artifact: None, .. } => return Err(why.refused(&self.name)),
            other => other,
        };
        self.not_patched = Some(why);
        Ok(())
    }

    /// The version that ends with this load; `None` if none does.
    fn ending(&self) -> Option<&Arc<Version>> {
        match self.action {
            Action::Load(_) | Action::Rebind { .. } | Action::Remove => {
                self.running.as_ref().map(|running| &running.version)
            }
            Action::Link(_)
            | Action::Patch { .. }
            | Action::Keep(_)
            | Action::Hold
            | Action::Refuse
            | Action::Miss => None,
        }
    }
}

impl Plan {
    pub fn make(
        context: &LoadContext<'_>,
        state: &LoadState,
        request: Request,
        current: &Generation,
        steps: &mut Steps,
        phases: &mut Phases,
    ) -> Result<Self, EngineError> {
        if let Some(plugins) = &context.settings.linked {
            return Self::linked(context, plugins, current);
        }
        match request {
            Request::Rollback { artifact, replacing } => {
                Self::rollback(artifact, replacing, current, steps)
            }
            Request::Patch { plugin, patch, .. } => {
                Self::early(state, &plugin, *patch, current, steps)
            }
            request => Self::reload(context, state, &request, current, steps, phases),
        }
    }

    /// Loads the patches that this plan publishes. A plugin that cannot be patched is loaded as a whole.
    pub fn load_patches(
        &mut self,
        current: &Generation,
        steps: &mut Steps,
        phases: &mut Phases,
    ) -> Result<(), EngineError> {
        for planned in &mut self.plugins {
            let Action::Patch { artifact, by: Way::Patch(patch) } = &planned.action else {
                continue;
            };
            let Some(running) = current.lease(&planned.name) else { continue };
            let steps = steps.thread()?;
            let load = || patch::load(running, patch, artifact.as_deref(), steps);
            match phases.time(Step::Open, Some(&planned.name), load) {
                Ok(face) => planned.set_way(Way::Face(face)),
                Err(why) => planned.load_whole(why)?,
            }
        }
        Ok(())
    }

    /// The new faces of versions that keep serving.
    pub fn faces(&self) -> impl Iterator<Item = (&Arc<Version>, FaceNumber)> {
        self.plugins.iter().filter_map(|planned| match (&planned.action, &planned.running) {
            (Action::Patch { by: Way::Face(face), .. }, Some(running)) => {
                Some((&running.version, *face))
            }
            _ => None,
        })
    }

    /// The face that a version has after this plan is published.
    pub fn face_of(&self, version: &Version, current: &Generation) -> FaceNumber {
        let planned = self.faces().find(|(other, _)| std::ptr::eq(Arc::as_ptr(other), version));
        let serving = current.versions.iter().find(|it| std::ptr::eq(&**it.version(), version));
        let face = planned.map(|(_, face)| face);
        face.or_else(|| serving.map(Lease::face)).unwrap_or(FaceNumber::BASE)
    }

    /// Plans the first load of the plugins that are linked into this program.
    fn linked(
        context: &LoadContext<'_>,
        plugins: &[&'static StaticPlugin],
        current: &Generation,
    ) -> Result<Self, EngineError> {
        if !current.versions.is_empty() {
            return Err(EngineError::StaticallyLinked);
        }
        let linked = linked::select(plugins, context.only())?.into_iter().map(|linked| Planned {
            name: linked.facts.name.clone(),
            running: None,
            action: Action::Link(Box::new(linked)),
            not_patched: None,
        });
        Ok(Self { plugins: linked.collect(), from: From::PluginDir })
    }

    /// Plans to load one plugin from an earlier artifact.
    fn rollback(
        artifact: Box<Inspected>,
        replacing: Option<(u32, FaceNumber)>,
        current: &Generation,
        steps: &mut Steps,
    ) -> Result<Self, EngineError> {
        let mut plan = Self { plugins: Vec::new(), from: From::Earlier };
        let name = artifact.facts.name.clone();
        let running = current.lease(&name);
        if let Some(running) = running {
            let serves = (running.version().ordinal, running.face());
            let is_replaced = replacing.is_none_or(|it| it == serves);
            if running.build_id() == artifact.facts.build_id || !is_replaced {
                return Ok(plan);
            }
            if !is_reloadable(running, steps)? {
                return Err(not_reloadable(&name));
            }
        }
        let face = running
            .and_then(|running| running.version().faces.of_build(artifact.facts.build_id))
            .map(Way::Face);
        let action = match face {
            Some(by) => Action::Patch { artifact: Some(artifact), by },
            None => Action::Load(artifact),
        };
        let running = running.map(Running::of);
        plan.plugins.push(Planned { name, running, action, not_patched: None });
        Ok(plan)
    }

    /// Patches one plugin, whose artifact is still being linked.
    fn early(
        state: &LoadState,
        plugin: &str,
        patch: Patch,
        current: &Generation,
        steps: &mut Steps,
    ) -> Result<Self, EngineError> {
        let running = current.versions.iter().find(|lease| lease.version().name().is(plugin));
        let Some(running) = running else {
            return Err(EngineError::load(plugin, Step::Find, "no version of it serves"));
        };
        let name = running.version().name().clone();
        if state.is_rolled_back(&name) {
            return Err(EngineError::load(&name, Step::Find, "a rollback keeps it back"));
        }
        if !is_reloadable(running, steps)? {
            return Err(not_reloadable(&name));
        }
        if running.version().faces.has_code(running.face(), patch.code_id()) {
            return Err(EngineError::load(&name, Step::Find, "it has this code already"));
        }
        let by = patch::way_by(running, patch).map_err(|why| why.refused(&name))?;
        let action = Action::Patch { artifact: None, by };
        let running = Some(Running::of(running));
        let planned = Planned { name, running, action, not_patched: None };
        Ok(Self { plugins: vec![planned], from: From::Patch })
    }

    /// Loads what changed in the plugin directory.
    fn reload(
        context: &LoadContext<'_>,
        state: &LoadState,
        request: &Request,
        current: &Generation,
        steps: &mut Steps,
        phases: &mut Phases,
    ) -> Result<Self, EngineError> {
        let only = context.only();
        let (from, found) = phases.time(Step::Find, None, || match request {
            Request::Exactly(paths) => Ok((From::Named, named(paths)?)),
            _ => Ok((From::PluginDir, find(&context.plugin_dir, only)?)),
        })?;
        let is_new = |found: &Found| {
            let is_wanted = only.is_none_or(|only| may_be_wanted(state, found, only));
            is_wanted && state.known(found).is_none()
        };
        if found.iter().any(is_new) {
            // The thread for steps starts while the files are inspected, as there are probably steps to run.
            steps.thread()?;
        }
        let candidates = candidates(state, found, only, current, context.staging, phases)?;
        expect_distinct(&candidates)?;

        let is_there = |name: &PluginName| candidates.iter().any(|found| found.name() == name);
        let gone = current.versions.iter().filter(|lease| !is_there(lease.version().name()));
        let gone = gone.map(|lease| Planned {
            name: lease.version().name().clone(),
            running: Some(Running::of(lease)),
            action: match request.prunes(lease.version().name()) {
                true => Action::Remove,
                false => Action::Miss,
            },
            not_patched: None,
        });
        let mut plugins: Vec<Planned> = gone.collect();
        for candidate in candidates {
            let name = candidate.name().clone();
            let holds = !request.is_latest() && is_held(state, &candidate);
            let running = current.lease(&name);
            let (action, not_patched) =
                action(candidate, holds, running, context.staging, steps, phases)?;
            if from == From::Named && matches!(action, Action::Refuse) {
                return Err(not_reloadable(&name));
            }
            let running = running.map(Running::of);
            plugins.push(Planned { name, running, action, not_patched });
        }
        Ok(Self { plugins, from })
    }

    /// Plans to load again the plugins that import a changed plugin, from the artifacts that run.
    pub fn rebind_dependents(
        &mut self,
        current: &Generation,
        staging: &Staging,
        steps: &mut Steps,
        phases: &mut Phases,
    ) -> Result<(), EngineError> {
        let running: Vec<_> =
            current.versions.iter().map(|lease| lease.version().clone()).collect();
        let changes = self
            .plugins
            .iter()
            .filter(|planned| matches!(planned.action, Action::Load(_) | Action::Remove));
        let changes: Vec<PluginName> = changes.map(|planned| planned.name.clone()).collect();
        for name in dependents(&running, &changes) {
            let Some(dependent) = current.lease(&name) else { continue };
            let at = self.plugins.iter().position(|planned| planned.name == name);
            if at.is_some_and(|at| self.plugins[at].ending().is_some()) {
                continue;
            }
            if !is_reloadable(dependent, steps)? {
                let message = "it imports a plugin that changes, but its running version refuses to be replaced";
                return Err(EngineError::load(&name, Step::Reloadable, message));
            }
            let found = match at.map(|at| self.plugins.swap_remove(at).action) {
                Some(Action::Patch { artifact: Some(artifact), .. }) => {
                    self.plugins.push(Planned {
                        name,
                        running: Some(Running::of(dependent)),
                        action: Action::Load(artifact),
                        not_patched: Some(NotPatched::ImportsChange),
                    });
                    continue;
                }
                Some(Action::Keep(found)) => Some(found),
                _ => None,
            };
            let artifact = inspect(artifact_of(dependent)?, staging, phases)?;
            if artifact.facts.build_id != dependent.build_id() {
                let message = format!(
                    "it imports a plugin that changes, so it must be loaded again, but its build {} is gone: build \
                     it again",
                    dependent.build_id()
                );
                return Err(EngineError::load(&name, Step::Find, message));
            }
            let action = Action::Rebind { artifact: Box::new(artifact), found };
            let running = Some(Running::of(dependent));
            self.plugins.push(Planned { name, running, action, not_patched: None });
        }
        Ok(())
    }

    pub fn changes_nothing(&self) -> bool {
        self.plugins.iter().all(|planned| match planned.action {
            Action::Load(_)
            | Action::Patch { .. }
            | Action::Rebind { .. }
            | Action::Link(_)
            | Action::Remove => false,
            Action::Keep(_) | Action::Hold | Action::Refuse | Action::Miss => true,
        })
    }

    pub fn plugins(&self) -> &[Planned] {
        &self.plugins
    }

    /// The plan for a plugin; `None` if it is left unchanged.
    pub fn of(&self, name: &PluginName) -> Option<&Planned> {
        self.plugins.iter().find(|planned| planned.name == *name)
    }

    /// The versions that end with this load: those that are replaced, and those that are removed.
    pub fn ending(&self) -> Vec<Arc<Version>> {
        self.plugins.iter().filter_map(Planned::ending).cloned().collect()
    }

    /// The outcome of each plugin, given the generation that serves now.
    pub fn outcomes(&self, serving: &Generation, phases: &Phases) -> Vec<PluginOutcome> {
        let serving = serving.versions.iter().map(|lease| {
            let (version, planned) = (lease.version(), self.of(lease.version().name()));
            let outcome = planned.map_or(Outcome::Unchanged, Planned::outcome);
            let patched_functions = match outcome {
                Outcome::Patched => version.changed_by(lease.face()).to_vec(),
                _ => Vec::new(),
            };
            let not_patched = planned.and_then(|planned| planned.not_patched.as_ref());
            PluginOutcome {
                name: version.name().to_string(),
                outcome,
                version: Some(version.ordinal),
                build_id: Some(lease.build_id().to_string()),
                elapsed_us: phases.of(version.name()),
                patch: lease.face().patch_number(),
                patched_functions,
                not_patched: not_patched.map(ToString::to_string),
            }
        });
        let removed = self.plugins.iter().filter(|it| matches!(it.action, Action::Remove));
        let removed = removed.map(|planned| PluginOutcome {
            name: planned.name.to_string(),
            outcome: Outcome::Removed,
            version: None,
            build_id: None,
            elapsed_us: 0,
            patch: None,
            patched_functions: Vec::new(),
            not_patched: None,
        });
        serving.chain(removed).collect()
    }

    /// The plugins that stay although their file is gone.
    pub fn missing(&self) -> impl Iterator<Item = &PluginName> {
        let missing = self.plugins.iter().filter(|it| matches!(it.action, Action::Miss));
        missing.map(|planned| &planned.name)
    }

    /// The plugin that this load rolls back, and the build from which it rolls back; `None` if this is not a
    /// rollback.
    pub fn rolled_back_from(&self) -> Option<(&PluginName, BuildId)> {
        let is_it = |planned: &&Planned| planned.new_artifact().is_some();
        let planned = self.plugins.iter().find(is_it).filter(|_| self.from == From::Earlier)?;
        Some((&planned.name, planned.running.as_ref()?.build_id()))
    }

    /// Whether the artifacts are from the plugin directory.
    pub fn is_of_plugin_dir(&self) -> bool {
        self.from == From::PluginDir
    }

    /// The files in the plugin directory that contain the builds that run, with their plugins and builds.
    pub fn known_files(&self) -> impl Iterator<Item = (&Found, &PluginName, BuildId)> {
        self.plugins.iter().filter_map(|Planned { name, running, action, .. }| match action {
            Action::Load(new) | Action::Patch { artifact: Some(new), .. } => {
                Some((&new.found, name, new.facts.build_id))
            }
            Action::Keep(found) | Action::Rebind { found: Some(found), .. } => {
                Some((found, name, running.as_ref()?.build_id()))
            }
            _ => None,
        })
    }

    /// The plugins that were loaded from another build.
    pub fn newly_loaded(&self) -> impl Iterator<Item = &PluginName> {
        self.new_artifacts().map(|new| &new.facts.name)
    }

    /// How long building the newly loaded artifacts took. An artifact from an earlier build was not built for
    /// this load.
    pub fn build_phases(&self, store: &Path) -> Vec<PhaseTiming> {
        let built = self.new_artifacts().filter(|_| self.from == From::PluginDir);
        built.flat_map(|new| earlier::build_phases(store, &new.facts)).collect()
    }

    fn new_artifacts(&self) -> impl Iterator<Item = &Inspected> {
        self.plugins.iter().filter_map(Planned::new_artifact)
    }
}

/// The action for a plugin whose file is in the plugin directory.
fn action(
    candidate: Candidate,
    holds: bool,
    running: Option<&Lease>,
    staging: &Staging,
    steps: &mut Steps,
    phases: &mut Phases,
) -> Result<(Action, Option<NotPatched>), EngineError> {
    if let Some(running) = running {
        if running.build_id() == candidate.build_id() {
            return Ok((Action::Keep(candidate.into_found()), None));
        } else if holds {
            return Ok((Action::Hold, None));
        } else if !is_reloadable(running, steps)? {
            return Ok((Action::Refuse, None));
        }
    }
    let artifact = Box::new(candidate.inspected(staging, phases)?);
    Ok(match running.map(|running| patch::way_to(running, &artifact)) {
        // It was patched before this artifact was linked.
        Some(Ok(Some(Way::Face(face)))) if running.is_some_and(|it| it.face() == face) => {
            (Action::Keep(artifact.found), None)
        }
        Some(Ok(Some(by))) => (Action::Patch { artifact: Some(artifact), by }, None),
        Some(Err(why)) => (Action::Load(artifact), Some(why)),
        Some(Ok(None)) | None => (Action::Load(artifact), None),
    })
}

/// Whether a rollback keeps a plugin from a file: it went back from this build, or from its code before the build
/// was linked.
fn is_held(state: &LoadState, candidate: &Candidate) -> bool {
    let (name, build) = (candidate.name(), candidate.build_id());
    let code = || patch::code_of(candidate.found(), build);
    let is_early_held =
        || state.is_rolled_back(name) && code().is_some_and(|it| state.holds(name, it));
    state.holds(name, build) || is_early_held()
}

fn not_reloadable(name: &PluginName) -> EngineError {
    let message = "its running version refuses to be replaced";
    EngineError::load(name, Step::Reloadable, message)
}

fn is_reloadable(running: &Lease, steps: &mut Steps) -> Result<bool, EngineError> {
    steps.thread()?.run(running, Step::Reloadable, |image| image.reloadable())
}

/// The artifact with the code of a version, to load it as a whole.
fn artifact_of(running: &Lease) -> Result<Found, EngineError> {
    let face = running.version().faces.get(running.face());
    match face.and_then(Face::artifact) {
        Some(file) => Found::at(&path_of(file, "self")),
        None => file_of(running),
    }
}

/// The path by which another process can open the artifact with the code of a version; `None` if the plugin
/// is linked into this program.
pub(super) fn file_for_others(running: &Lease) -> Option<PathBuf> {
    let face = running.version().faces.get(running.face());
    match face.and_then(Face::artifact) {
        Some(file) => Some(path_of(file, &std::process::id().to_string())),
        // The artifact with the code of this face is not linked yet.
        None if running.face() != FaceNumber::BASE => None,
        None => running.image().file().map(ToOwned::to_owned),
    }
}

/// The file from which a version was loaded, to load it again.
pub(super) fn file_of(running: &Lease) -> Result<Found, EngineError> {
    Found::at(running.image().file().ok_or(EngineError::StaticallyLinked)?)
}
