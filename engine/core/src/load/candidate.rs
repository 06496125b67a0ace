//! Artifacts that a reload may load.

use hotswap_protocol::{BuildId, PluginName};

use super::{
    LoadState, Phases,
    find::{Found, file_name},
    stage::{Inspected, Staging},
};
use crate::{EngineError, Step, serve::generation::Generation};

/// A file in the plugin directory, read only where it is not known.
pub(super) enum Candidate {
    Known { found: Found, plugin: PluginName, build_id: BuildId },
    Read(Box<Inspected>),
}

impl Candidate {
    pub fn name(&self) -> &PluginName {
        match self {
            Self::Known { plugin, .. } => plugin,
            Self::Read(inspected) => &inspected.facts.name,
        }
    }

    pub fn build_id(&self) -> BuildId {
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

    pub fn into_found(self) -> Found {
        match self {
            Self::Known { found, .. } => found,
            Self::Read(inspected) => inspected.found,
        }
    }

    /// The file, read now if it was not.
    pub fn inspected(
        self,
        staging: &Staging,
        phases: &mut Phases,
    ) -> Result<Inspected, EngineError> {
        match self {
            Self::Known { found, .. } => inspect(found, staging, phases),
            Self::Read(inspected) => Ok(*inspected),
        }
    }
}

/// Copies a file and checks the copy.
pub(super) fn inspect(
    found: Found,
    staging: &Staging,
    phases: &mut Phases,
) -> Result<Inspected, EngineError> {
    let staged = phases.time("stage", None, || staging.stage(found))?;
    phases.time("inspect", None, || staged.inspect())
}

pub(super) fn candidates(
    state: &LoadState,
    found: Vec<Found>,
    staging: &Staging,
    phases: &mut Phases,
) -> Result<Vec<Candidate>, EngineError> {
    let candidate = |found: Found| match state.known(&found) {
        Some(known) => {
            Ok(Candidate::Known { plugin: known.plugin.clone(), build_id: known.build_id, found })
        }
        None => {
            inspect(found, staging, phases).map(|inspected| Candidate::Read(Box::new(inspected)))
        }
    };
    let mut candidates = found.into_iter().map(candidate).collect::<Result<Vec<_>, _>>()?;
    candidates.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(candidates)
}

/// Leaves out plugins that the host did not ask for; one that it asked for must be there, or serve
/// already.
pub(super) fn select(
    only: Option<&[String]>,
    candidates: Vec<Candidate>,
    current: &Generation,
) -> Result<Vec<Candidate>, EngineError> {
    let Some(only) = only else { return Ok(candidates) };
    let is_there = |name: &str| {
        candidates.iter().any(|found| found.name().is(name))
            || current.versions.iter().any(|lease| lease.version().name().is(name))
    };
    let missing = only.iter().find(|name| !is_there(name));
    if let Some(name) = missing {
        let found: Vec<_> = candidates.iter().map(|found| found.name().as_str()).collect();
        let message = format!("the host asks for it, but there is only: {}", found.join(", "));
        return Err(EngineError::load(name, Step::Find, message));
    }
    let wanted = |candidate: &Candidate| only.iter().any(|name| candidate.name().is(name));
    Ok(candidates.into_iter().filter(wanted).collect())
}

/// Refuses two artifacts of one name; the candidates are sorted by name.
pub(super) fn expect_distinct(candidates: &[Candidate]) -> Result<(), EngineError> {
    let twin = candidates.windows(2).find(|pair| pair[0].name() == pair[1].name());
    let Some([a, b]) = twin else { return Ok(()) };
    let (first, second) = (file_name(&a.found().path), file_name(&b.found().path));
    let message = format!("two artifacts have this name: {first} and {second}; remove one");
    Err(EngineError::load(a.name(), Step::Find, message))
}
