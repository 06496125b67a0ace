//! What a reload would do, told without doing it.

use hotswap_protocol::{LoadedArtifact, NewArtifact, Outcome, PlannedPlugin, ReloadPlan};

use super::{LoadState, Phases, Request, plan::Plan};
use crate::{
    EngineError,
    engine::Inner,
    lease::Lease,
    lifecycle::Steps,
    manager::{PluginManager, same_name},
};

/// Looks what there is in the plugin directory and asks the running versions whether they may be
/// replaced. Nothing is opened, and nothing is remembered.
pub(crate) fn plan(
    engine: &Inner,
    state: &LoadState,
    request: Request,
) -> Result<ReloadPlan, EngineError> {
    let current = engine.current();
    let (mut steps, mut phases) = (Steps::new(engine), Phases::default());
    let plan = Plan::make(engine, state, request, &current, &mut steps, &mut phases)?;
    let mut plugins: Vec<_> = current.versions.iter().map(|lease| plan.of_loaded(lease)).collect();
    plugins.extend(plan.of_added(&current));
    Ok(ReloadPlan { generation: current.generation, plugins })
}

impl Plan {
    fn of_loaded(&self, running: &Lease) -> PlannedPlugin {
        let version = running.version();
        let name = version.name();
        let outcome = if self.removed.iter().any(|old| same_name(old.name(), name)) {
            Outcome::Removed
        } else {
            self.outcome_of(name)
        };
        let loaded = LoadedArtifact {
            version: version.ordinal,
            build_id: version.facts.build_id.to_string(),
            path: running.image().staged_file().ok().map(|found| found.path),
            source: version.facts.source.clone(),
        };
        // What is rebound is loaded from the very artifact that runs.
        let new = (outcome == Outcome::Ok).then(|| self.new_artifact(name)).flatten();
        PlannedPlugin { name: name.to_owned(), outcome, loaded: Some(loaded), new }
    }

    fn of_added(&self, current: &PluginManager) -> impl Iterator<Item = PlannedPlugin> {
        let is_loaded = |name: &str| {
            current.versions.iter().any(|lease| same_name(lease.version().name(), name))
        };
        let names = self.changed.iter().map(|new| new.facts.name.as_str());
        names.filter(move |name| !is_loaded(name)).map(|name| PlannedPlugin {
            name: name.to_owned(),
            outcome: Outcome::Added,
            loaded: None,
            new: self.new_artifact(name),
        })
    }

    fn new_artifact(&self, name: &str) -> Option<NewArtifact> {
        let new = self.changed.iter().find(|new| same_name(&new.facts.name, name))?;
        Some(NewArtifact {
            path: new.found.path.clone(),
            build_id: new.facts.build_id.to_string(),
            crate_version: new.facts.crate_version.clone(),
            source: new.facts.source.clone(),
        })
    }
}
