//! What a reload is to do with each plugin.

use std::{path::Path, sync::Arc};

use hotswap_plugin::StaticPlugin;
use hotswap_protocol::{Outcome, PhaseTiming, PluginOutcome};

use super::{
    LoadState, Phases, Request,
    candidate::{Candidate, candidates, expect_distinct, inspect, select},
};
use crate::{
    EngineError, Step,
    artifact::BuildId,
    dependency::{dependents, provider},
    engine::Inner,
    find::{Found, find},
    history,
    lease::Lease,
    lifecycle::Steps,
    linked::{self, Linked},
    manager::{PluginManager, same_name},
    stage::{Inspected, Staging},
    version::Version,
};

/// What is to be done with each plugin.
#[derive(Default)]
pub(super) struct Plan {
    /// What is to be loaded.
    pub changed: Vec<Inspected>,
    /// What is to be attached, since it is linked into this program.
    pub linked: Vec<Linked>,
    /// Artifacts that are loaded already, with what they are.
    unchanged: Vec<(Found, String, BuildId)>,
    /// The plugins that may not be replaced, and for those the report's word.
    staying: Vec<(String, Outcome)>,
    pub removed: Vec<Arc<Version>>,
    replaced: Vec<Arc<Version>>,
    /// The plugins that did not change, but import one that did.
    rebound: Vec<String>,
    is_rollback: bool,
}

impl Plan {
    pub fn make(
        engine: &Inner,
        state: &LoadState,
        request: Request,
        current: &PluginManager,
        steps: &mut Steps,
        phases: &mut Phases,
    ) -> Result<Self, EngineError> {
        if let Some(plugins) = engine.linked() {
            return Self::linked(engine, plugins, current);
        }
        let mut plan = match request {
            Request::Rollback(artifact) => Self::rollback(*artifact, current, steps)?,
            Request::Changed => Self::reload(engine, state, false, current, steps, phases)?,
            Request::Latest => Self::reload(engine, state, true, current, steps, phases)?,
        };
        plan.rebind_dependents(current, engine.staging(), steps, phases)?;
        Ok(plan)
    }

    /// Loads what is linked into this program, once.
    fn linked(
        engine: &Inner,
        plugins: &[&'static StaticPlugin],
        current: &PluginManager,
    ) -> Result<Self, EngineError> {
        if !current.versions.is_empty() {
            return Err(EngineError::StaticallyLinked);
        }
        Ok(Self { linked: linked::select(plugins, engine.only())?, ..Self::default() })
    }

    /// Loads one plugin from an earlier artifact.
    fn rollback(
        artifact: Inspected,
        current: &PluginManager,
        steps: &mut Steps,
    ) -> Result<Self, EngineError> {
        let mut plan = Self { is_rollback: true, ..Self::default() };
        let name = artifact.facts.name.clone();
        let mut serving = current.versions.iter();
        let running = serving.find(|lease| same_name(lease.version().name(), &name));
        let Some(running) = running else {
            plan.changed.push(artifact);
            return Ok(plan);
        };
        if running.version().facts.build_id == artifact.facts.build_id {
            return Ok(plan);
        }
        if !is_reloadable(running, steps)? {
            let message = "its running version says that it may not be replaced";
            return Err(EngineError::load(&name, Step::Reloadable, message));
        }
        plan.replaced.push(running.version().clone());
        plan.changed.push(artifact);
        Ok(plan)
    }

    /// Loads what changed in the plugin directory.
    fn reload(
        engine: &Inner,
        state: &LoadState,
        latest: bool,
        current: &PluginManager,
        steps: &mut Steps,
        phases: &mut Phases,
    ) -> Result<Self, EngineError> {
        let found = phases.time("find", None, || find(&engine.plugin_dir()))?;
        if !found.iter().all(|found| state.known(found).is_some()) {
            // There may well be steps to run; the thread starts while the files are inspected.
            steps.thread()?;
        }
        let candidates = candidates(state, found, engine.staging(), phases)?;
        let candidates = select(engine.only(), candidates)?;
        expect_distinct(&candidates)?;

        let mut plan = Self::default();
        for lease in &current.versions {
            let version = lease.version();
            if !candidates.iter().any(|candidate| same_name(candidate.name(), version.name())) {
                plan.removed.push(version.clone());
            }
        }
        for candidate in candidates {
            let holds = !latest && state.holds(candidate.name(), candidate.build_id());
            plan.sort_in(candidate, holds, current, engine.staging(), steps, phases)?;
        }
        Ok(plan)
    }

    /// Loads anew what imports a plugin that changes, from the very artifact that runs.
    fn rebind_dependents(
        &mut self,
        current: &PluginManager,
        staging: &Staging,
        steps: &mut Steps,
        phases: &mut Phases,
    ) -> Result<(), EngineError> {
        let running: Vec<_> =
            current.versions.iter().map(|lease| lease.version().clone()).collect();
        let new = self.changed.iter().map(|new| new.facts.name.clone());
        let changes = new.chain(self.removed.iter().map(|old| old.name().to_owned()));
        for name in dependents(&running, &changes.collect::<Vec<_>>()) {
            if self.ending().iter().any(|ending| same_name(ending.name(), &name)) {
                continue;
            }
            let Some(dependent) =
                current.versions.iter().find(|lease| same_name(lease.version().name(), &name))
            else {
                continue;
            };
            if !is_reloadable(dependent, steps)? {
                let message = "it imports a plugin that changes, but may not be replaced itself";
                return Err(EngineError::load(&name, Step::Reloadable, message));
            }
            self.changed.push(inspect(dependent.image().staged_file()?, staging, phases)?);
            self.replaced.extend(provider(&running, &name).cloned());
            self.rebound.push(name);
        }
        Ok(())
    }

    fn sort_in(
        &mut self,
        candidate: Candidate,
        holds: bool,
        current: &PluginManager,
        staging: &Staging,
        steps: &mut Steps,
        phases: &mut Phases,
    ) -> Result<(), EngineError> {
        let mut serving = current.versions.iter();
        let running = serving.find(|lease| same_name(lease.version().name(), candidate.name()));
        let Some(running) = running else {
            self.changed.push(candidate.inspected(staging, phases)?);
            return Ok(());
        };
        if running.version().facts.build_id == candidate.build_id() {
            let (name, build_id) = (candidate.name().to_owned(), candidate.build_id());
            self.unchanged.push((candidate.into_found(), name, build_id));
        } else if holds {
            self.staying.push((running.version().name().to_owned(), Outcome::Held));
        } else if is_reloadable(running, steps)? {
            self.replaced.push(running.version().clone());
            self.changed.push(candidate.inspected(staging, phases)?);
        } else {
            self.staying.push((running.version().name().to_owned(), Outcome::NotReloadable));
        }
        Ok(())
    }

    pub fn changes_nothing(&self) -> bool {
        self.changed.is_empty() && self.linked.is_empty() && self.removed.is_empty()
    }

    /// The versions that end with this load.
    pub fn ending(&self) -> Vec<Arc<Version>> {
        self.replaced.iter().chain(&self.removed).cloned().collect()
    }

    /// What became of each plugin.
    pub fn outcomes(&self, engine: &Inner, phases: &Phases) -> Vec<PluginOutcome> {
        let mut plugins = Vec::new();
        for lease in &engine.current().versions {
            let version = lease.version();
            let name = version.name();
            plugins.push(PluginOutcome {
                name: name.to_owned(),
                outcome: self.outcome_of(name),
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
        plugins
    }

    /// What becomes of a plugin that stays in the directory.
    pub fn outcome_of(&self, name: &str) -> Outcome {
        let stays = self.staying.iter().find(|(other, _)| other == name);
        if self.is_rebound(name) {
            Outcome::Rebound
        } else if let Some((_, outcome)) = stays {
            *outcome
        } else if self.replaced.iter().any(|old| same_name(old.name(), name)) {
            Outcome::Ok
        } else if self.is_new(name) {
            Outcome::Added
        } else {
            Outcome::Unchanged
        }
    }

    /// The version that a rollback replaced.
    pub fn rolled_back_from(&self) -> Option<&Arc<Version>> {
        let name = &self.changed.first().filter(|_| self.is_rollback)?.facts.name;
        self.replaced.iter().find(|old| same_name(old.name(), name))
    }

    /// The files in the plugin directory that are what runs, with their plugins and builds.
    pub fn known_files(&self) -> impl Iterator<Item = (&Found, &str, BuildId)> {
        let unchanged = self.unchanged.iter();
        let unchanged = unchanged.map(|(found, name, build_id)| (found, name.as_str(), *build_id));
        let changed = self.changed.iter().filter(|new| !self.is_rebound(&new.facts.name));
        let changed = changed.map(|new| (&new.found, new.facts.name.as_str(), new.facts.build_id));
        unchanged.chain(changed)
    }

    /// The plugins of which another build was loaded.
    pub fn newly_loaded(&self) -> impl Iterator<Item = &str> {
        let changed = self.changed.iter().map(|new| new.facts.name.as_str());
        changed.filter(|name| !self.is_rebound(name))
    }

    /// How long building what is newly loaded took. What an earlier build is brought back from was
    /// not built for this.
    pub fn build_phases(&self, store: &Path) -> Vec<PhaseTiming> {
        let built = self
            .changed
            .iter()
            .filter(|new| !self.is_rollback && !self.is_rebound(&new.facts.name));
        built.flat_map(|new| history::build_phases(store, &new.facts)).collect()
    }

    fn is_new(&self, plugin: &str) -> bool {
        let changed = self.changed.iter().map(|new| &new.facts);
        changed.chain(self.linked.iter().map(|new| &new.facts)).any(|facts| facts.name == plugin)
    }

    fn is_rebound(&self, plugin: &str) -> bool {
        self.rebound.iter().any(|rebound| same_name(rebound, plugin))
    }
}

fn is_reloadable(running: &Lease, steps: &mut Steps) -> Result<bool, EngineError> {
    steps.thread()?.run(running, Step::Reloadable, |image| image.reloadable())
}
