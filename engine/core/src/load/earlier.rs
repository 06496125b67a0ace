//! Earlier artifacts for rollbacks, from images that are still mapped and from the store of builds.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use hotswap_protocol::{
    BuildId, InvalidName, InvalidVersion, PhaseTiming, PluginName, VersionRef, VersionState,
};

use super::{
    find::Found,
    plan::file_of,
    stage::{Inspected, Staging},
};
use crate::{
    EngineError, Step,
    artifact::{Facts, layout},
    version::{
        Version,
        lease::{Lease, LeaseKind},
    },
};

/// The directory in which `hotswap build` keeps artifacts: the value of `HOTSWAP_STORE`, which a console sets
/// for the host that it starts, or otherwise `default`.
pub fn store_dir_from_env(default: impl Into<PathBuf>) -> PathBuf {
    env::var_os(hotswap_protocol::env::STORE_DIR).map_or_else(|| default.into(), PathBuf::from)
}

/// Finds the artifact that a target with a version names.
pub(crate) fn find_earlier(
    target: &str,
    versions: &[Arc<Version>],
    store: Option<&Path>,
    staging: &Staging,
) -> Result<Inspected, EngineError> {
    let Some((plugin, wanted)) = target.rsplit_once('@') else {
        let message = "name the version to go back to: NAME@VERSION or NAME@BUILD-ID";
        return Err(EngineError::load(target, Step::Find, message));
    };
    let refuse = |message: String| EngineError::load(plugin, Step::Find, message);
    let wanted: VersionRef =
        wanted.parse().map_err(|error: InvalidVersion| refuse(error.to_string()))?;
    let of_plugin: Vec<_> = versions.iter().filter(|version| version.name().is(plugin)).collect();
    let build = match named_by(&wanted, &of_plugin) {
        Some(version) => {
            let build = version.facts.build_id;
            let same_build = of_plugin.iter().filter(|other| other.facts.build_id == build);
            if let Some(artifact) = same_build.into_iter().find_map(|it| still_mapped(it, staging))
            {
                return artifact;
            }
            VersionRef::Build(build.to_string())
        }
        None if matches!(wanted, VersionRef::Ordinal(_)) => {
            return Err(refuse(not_loaded(&wanted, versions, &of_plugin)));
        }
        None => wanted,
    };
    let name = match of_plugin.first() {
        Some(version) => version.name().clone(),
        None => plugin.parse().map_err(|error: InvalidName| refuse(error.to_string()))?,
    };
    from_store(&name, &build, store, staging).map_err(refuse)?
}

/// The version of a plugin that `wanted` names.
fn named_by<'a>(wanted: &VersionRef, of_plugin: &[&'a Arc<Version>]) -> Option<&'a Arc<Version>> {
    let is_it = |version: &&&Arc<Version>| match wanted {
        VersionRef::Ordinal(ordinal) => version.ordinal == *ordinal,
        VersionRef::Build(_) => wanted.is_build(version.facts.build_id),
    };
    of_plugin.iter().find(is_it).copied()
}

/// Why no version has this number.
fn not_loaded(
    wanted: &VersionRef,
    versions: &[Arc<Version>],
    of_plugin: &[&Arc<Version>],
) -> String {
    if of_plugin.is_empty() {
        let known: BTreeSet<_> = versions.iter().map(|version| version.name().as_str()).collect();
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        return format!("no plugin of this name was loaded; there are {known}");
    }
    let known: Vec<_> = of_plugin.iter().map(|version| format!("v{}", version.ordinal)).collect();
    format!("this host has no {wanted} of it; there are {}", known.join(", "))
}

/// How long each phase of a build took, as its store says; empty if that makes no sense.
pub(crate) fn build_phases(store: &Path, facts: &Facts) -> Vec<PhaseTiming> {
    let stored = layout::stored_path(store, &facts.name, facts.build_id);
    let phases = hotswap_artifact::open(&layout::stored_phases(&stored)).map(layout::read_phases);
    let own = |phase| PhaseTiming { plugin: Some(facts.name.to_string()), ..phase };
    phases.unwrap_or_default().into_iter().map(own).collect()
}

/// Keeps programs that clean up the store from removing this build while the result is open: they remove only
/// builds that they can lock. `None` if the build is not in the store.
pub(crate) fn keep_stored(store: Option<&Path>, facts: &Facts) -> Option<File> {
    let stored = layout::stored_path(store?, &facts.name, facts.build_id);
    if !stored.exists() {
        return None;
    }
    let lock = layout::stored_lock(&stored);
    let lock = File::options().create(true).truncate(false).write(true).open(lock).ok()?;
    lock.try_lock_shared().ok()?;
    // A program that cleans up holds the lock until the build is removed.
    stored.exists().then_some(lock)
}

/// The artifact of a version whose image is mapped: the copy from which it was loaded.
fn still_mapped(
    version: &Arc<Version>,
    staging: &Staging,
) -> Option<Result<Inspected, EngineError>> {
    if !matches!(version.state(), VersionState::Active | VersionState::Retired) {
        return None;
    }
    let lease = Lease::try_new(version, LeaseKind::Handle)?;
    Some(file_of(&lease).and_then(|found| {
        let path = found.path.clone();
        let inspected = staging.stage(found)?.inspect()?;
        expect_build(inspected, version.name(), version.facts.build_id, &path)
    }))
}

/// The artifact in the store whose build id begins with `wanted`; otherwise the text of an error.
fn from_store(
    plugin: &PluginName,
    wanted: &VersionRef,
    store: Option<&Path>,
    staging: &Staging,
) -> Result<Result<Inspected, EngineError>, String> {
    let store = store.ok_or("the host has no artifact store (`EngineBuilder::store`)")?;
    let dir = layout::store_dir(store, plugin);
    let entries = fs::read_dir(&dir)
        .map_err(|error| format!("no build of {plugin} is stored in {}: {error}", dir.display()))?;
    // The locks of loaded builds lie beside them.
    let builds = entries.filter_map(|entry| stored_build(entry.ok()?.path()));
    let mut found: Vec<_> = builds.filter(|(_, id)| wanted.is_build(*id)).collect();
    match (found.pop(), found.is_empty()) {
        (Some((path, id)), true) => {
            let inspected = Found::at(&path).and_then(|found| staging.stage(found)?.inspect());
            Ok(inspected.and_then(|inspected| expect_build(inspected, plugin, id, &path)))
        }
        (Some(_), false) => Err(format!("more than one build of {plugin} begins with {wanted}")),
        (None, _) => Err(format!("build {wanted} of {plugin} is not in {}", dir.display())),
    }
}

/// A file in a store that is named after a build.
fn stored_build(path: PathBuf) -> Option<(PathBuf, BuildId)> {
    layout::stored_id(&path).map(|id| (path, id))
}

/// Refuses a file that contains another build than its name says.
fn expect_build(
    inspected: Inspected,
    plugin: &PluginName,
    expected: BuildId,
    path: &Path,
) -> Result<Inspected, EngineError> {
    let (name, found) = (&inspected.facts.name, inspected.facts.build_id);
    if name == plugin && found == expected {
        return Ok(inspected);
    }
    let message = format!(
        "{} should be build {expected} of {plugin} by its name, but it contains {found} of {name}; remove \
         the file and build that version again",
        path.display()
    );
    Err(EngineError::load(plugin, Step::Inspect, message))
}
