//! What a reload would do, without doing it.

use hotswap_protocol::{LoadedArtifact, NewArtifact, Outcome, PlannedPlugin, ReloadPlan};

use super::{
    LoadContext, LoadState, Phases, Request,
    plan::{Plan, Planned, file_for_others},
};
use crate::{EngineError, version::lease::Lease};

/// Reads the plugin directory and asks the running versions whether they may be replaced. Nothing is opened,
/// and nothing is remembered.
pub(crate) fn plan(
    context: &LoadContext<'_>,
    state: &LoadState,
    request: Request,
) -> Result<ReloadPlan, EngineError> {
    let current = context.current.load();
    let (mut steps, mut phases) = (context.steps(), Phases::default());
    let mut plan = Plan::make(context, state, request, &current, &mut steps, &mut phases)?;
    plan.rebind_dependents(&current, context.staging, &mut steps, &mut phases)?;
    let mut plugins: Vec<_> =
        current.versions.iter().map(|lease| of_loaded(&plan, lease)).collect();
    let added = plan.plugins().iter().filter(|planned| planned.running.is_none());
    plugins.extend(added.map(|planned| PlannedPlugin {
        name: planned.name.to_string(),
        outcome: planned.outcome(),
        loaded: None,
        new: new_artifact(planned),
    }));
    let host_expects = match context.settings.publish_breaking {
        true => Vec::new(),
        false => context.services.expectations.to_wire(),
    };
    Ok(ReloadPlan { generation: current.number.get(), plugins, host_expects })
}

fn of_loaded(plan: &Plan, running: &Lease) -> PlannedPlugin {
    let version = running.version();
    let planned = plan.of(version.name());
    let loaded = LoadedArtifact {
        version: version.ordinal,
        patch: running.face().patch_number(),
        build_id: running.build_id().to_string(),
        path: file_for_others(running),
        source: version.source_of(running.face()).clone(),
    };
    PlannedPlugin {
        name: version.name().to_string(),
        outcome: planned.map_or(Outcome::Unchanged, Planned::outcome),
        loaded: Some(loaded),
        new: planned.and_then(new_artifact),
    }
}

fn new_artifact(planned: &Planned) -> Option<NewArtifact> {
    let new = planned.new_artifact()?;
    Some(NewArtifact {
        path: new.found.path.clone(),
        build_id: new.facts.build_id.to_string(),
        crate_version: new.facts.crate_version.clone(),
        source: new.facts.source.clone(),
    })
}
