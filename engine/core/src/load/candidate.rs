//! Artifacts that a reload may load.

use hotswap_protocol::{BuildId, PluginName};

use super::{
    LoadState, Phases,
    find::{Found, file_name, is_named_after_one},
    stage::{Inspected, Staging, claimed_name},
};
use crate::{EngineError, Step, serve::generation::Generation};

/// A file in the plugin directory, which is read only if it is not known yet.
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

    pub fn found(&self) -> &Found {
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

    /// The inspected file. It is read now if it was not read before.
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
    let staged = phases.time(Step::Stage, None, || staging.stage(found))?;
    phases.time(Step::Inspect, None, || staged.inspect())
}

/// The files that a load may use, sorted by name. If the host asks for some plugins `only`, only these are
/// returned, and each must be found or serve already.
pub(super) fn candidates(
    state: &LoadState,
    found: Vec<Found>,
    only: Option<&[String]>,
    current: &Generation,
    staging: &Staging,
    phases: &mut Phases,
) -> Result<Vec<Candidate>, EngineError> {
    let read = |found: Found| candidate(state, found, staging, phases);
    let mut candidates = match only {
        None => found.into_iter().map(read).collect::<Result<Vec<_>, _>>()?,
        Some(only) => wanted_candidates(state, found, only, current, read)?,
    };
    candidates.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(candidates)
}

fn candidate(
    state: &LoadState,
    found: Found,
    staging: &Staging,
    phases: &mut Phases,
) -> Result<Candidate, EngineError> {
    if let Some(known) = state.known(&found) {
        let (plugin, build_id) = (known.plugin.clone(), known.build_id);
        return Ok(Candidate::Known { found, plugin, build_id });
    }
    inspect(found, staging, phases).map(|inspected| Candidate::Read(Box::new(inspected)))
}

/// The files of the plugins that the host asks for. Other files may be broken, or belong to something else:
/// they are read only if no file has the name of such a plugin.
fn wanted_candidates(
    state: &LoadState,
    found: Vec<Found>,
    only: &[String],
    current: &Generation,
    mut read: impl FnMut(Found) -> Result<Candidate, EngineError>,
) -> Result<Vec<Candidate>, EngineError> {
    let (named, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|found| may_be_wanted(state, found, only));
    let mut candidates = named.into_iter().map(&mut read).collect::<Result<Vec<_>, _>>()?;
    let mut there: Vec<String> = candidates.iter().map(|it| it.name().to_string()).collect();
    candidates.retain(|candidate| only.iter().any(|name| candidate.name().is(name)));

    let sought = missing(only, candidates.iter().map(Candidate::name));
    if sought.is_empty() {
        return Ok(candidates);
    }
    let mut passed_over = Vec::new();
    for found in others {
        match claimed_name(&found) {
            Some(name) if sought.iter().any(|sought| name.is(sought)) => {
                candidates.push(read(found)?);
            }
            Some(name) => there.push(name.to_string()),
            None => passed_over.push(file_name(&found.path)),
        }
    }
    there.extend(candidates.iter().map(|it| it.name().to_string()));
    let serves = |name: &str| current.versions.iter().any(|lease| lease.version().name().is(name));
    let mut missing = missing(only, candidates.iter().map(Candidate::name));
    missing.retain(|name| !serves(name));
    match missing.first() {
        None => Ok(candidates),
        Some(first) => {
            let message = missing_text(&missing, there, &passed_over);
            Err(EngineError::load(first, Step::Find, message))
        }
    }
}

/// Whether a file may belong to a plugin that the host asks for, as far as this is known without reading it.
pub(super) fn may_be_wanted(state: &LoadState, found: &Found, only: &[String]) -> bool {
    match state.known(found) {
        Some(known) => only.iter().any(|name| known.plugin.is(name)),
        None => is_named_after_one(&found.path, only),
    }
}

/// The plugins that the host asks for and that are not in `there`.
pub(super) fn missing<'a, 'b>(
    only: &'a [String],
    there: impl Iterator<Item = &'b PluginName> + Clone,
) -> Vec<&'a str> {
    let is_there = |name: &str| there.clone().any(|other| other.is(name));
    only.iter().map(String::as_str).filter(|name| !is_there(name)).collect()
}

/// The missing plugins as an error about the first of them names them: "it", or all names.
pub(super) fn names_in_error(missing: &[&str]) -> String {
    match missing {
        [_] => "it".to_owned(),
        all => all.join(", "),
    }
}

/// The text of the error about the first missing plugin: all that are missing, and all that were found.
fn missing_text(missing: &[&str], mut there: Vec<String>, passed_over: &[String]) -> String {
    there.sort();
    there.dedup();
    let there = if there.is_empty() { "no plugin".to_owned() } else { there.join(", ") };
    let asked = names_in_error(missing);
    let mut text = format!("the host asks for {asked}; found: {there}");
    if !passed_over.is_empty() {
        text += &format!("; not recognised as plugins: {}", passed_over.join(", "));
    }
    text
}

/// Refuses two artifacts of one name; the candidates are sorted by name.
pub(super) fn expect_distinct(candidates: &[Candidate]) -> Result<(), EngineError> {
    let twin = candidates.windows(2).find(|pair| pair[0].name() == pair[1].name());
    let Some([a, b]) = twin else { return Ok(()) };
    let (first, second) = (file_name(&a.found().path), file_name(&b.found().path));
    let message = format!("two artifacts have this name: {first} and {second}; remove one");
    Err(EngineError::load(a.name(), Step::Find, message))
}
