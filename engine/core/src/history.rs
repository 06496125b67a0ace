//! Earlier artifacts, for rollbacks: images that are still mapped, and the store of builds.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use hotswap_protocol::{PhaseTiming, VersionState};

use crate::{
    EngineError, Step,
    artifact::{self, BuildId, Facts},
    find::Found,
    lease::{Lease, LeaseKind},
    manager::same_name,
    stage::{Inspected, Staging},
    version::Version,
};

/// The directory where `hotswap build` keeps artifacts: that of `HOTSWAP_STORE`, which a console sets
/// for the host it starts, or else `default`.
pub fn store_dir_from_env(default: impl Into<PathBuf>) -> PathBuf {
    env::var_os(hotswap_protocol::STORE_DIR_ENV).map_or_else(|| default.into(), PathBuf::from)
}

/// Finds the artifact that `name@version` or `name@build-id` names; a build id may be cut short.
pub(crate) fn find_earlier(
    target: &str,
    versions: &[Arc<Version>],
    store: Option<&Path>,
    staging: &Staging,
) -> Result<Inspected, EngineError> {
    let Some((plugin, wanted)) = target.rsplit_once('@') else {
        let message = "say what to go back to: NAME@VERSION or NAME@BUILD-ID";
        return Err(EngineError::load(target, Step::Find, message));
    };
    let refuse = |message: String| EngineError::load(plugin, Step::Find, message);
    let of_plugin: Vec<_> =
        versions.iter().filter(|version| same_name(version.name(), plugin)).collect();
    let ordinal = ordinal(wanted);
    let loaded = of_plugin.iter().find(|version| match ordinal {
        Some(ordinal) => version.ordinal == ordinal,
        None => is_prefix(wanted, version.facts.build_id),
    });
    let same_build = of_plugin.iter().filter(|version| {
        loaded.is_some_and(|loaded| version.facts.build_id == loaded.facts.build_id)
    });
    let mut mapped = same_build.into_iter();
    if let Some(artifact) = mapped.find_map(|version| still_mapped(version, staging)) {
        return artifact;
    }
    let wanted = match (loaded, ordinal) {
        (Some(version), _) => version.facts.build_id.to_string(),
        (None, Some(_)) if of_plugin.is_empty() => {
            let known: BTreeSet<_> = versions.iter().map(|version| version.name()).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(refuse(format!("no plugin of this name was loaded; there are {known}")));
        }
        (None, Some(ordinal)) => {
            let known: Vec<_> =
                of_plugin.iter().map(|version| format!("v{}", version.ordinal)).collect();
            let known = known.join(", ");
            return Err(refuse(format!(
                "there is no v{ordinal} of it in this host; there are {known}"
            )));
        }
        (None, None) => wanted.to_owned(),
    };
    let name = of_plugin.first().map_or(plugin, |version| version.name());
    if !artifact::is_name(name) {
        return Err(refuse(format!("`{name}` is no plugin's name")));
    }
    from_store(name, &wanted, store, staging).map_err(refuse)?
}

/// How long each phase of a build took, as its store tells: nothing where that does not make sense.
pub(crate) fn build_phases(store: &Path, facts: &Facts) -> Vec<PhaseTiming> {
    let stored = artifact::stored_path(store, &facts.name, facts.build_id);
    let told = File::open(artifact::stored_phases(&stored)).map(artifact::read_phases);
    let own = |phase| PhaseTiming { plugin: Some(facts.name.clone()), ..phase };
    told.unwrap_or_default().into_iter().map(own).collect()
}

/// Keeps whoever cleans up the store from removing this build, as long as the file is open: they
/// remove only what they can lock for themselves. Nothing where the build is not in the store.
pub(crate) fn keep_stored(store: Option<&Path>, facts: &Facts) -> Option<File> {
    let stored = artifact::stored_path(store?, &facts.name, facts.build_id);
    if !stored.exists() {
        return None;
    }
    let lock = artifact::stored_lock(&stored);
    let lock = File::options().create(true).truncate(false).write(true).open(lock).ok()?;
    lock.try_lock_shared().ok()?;
    // Whoever cleaned up had the lock until the build was gone.
    stored.exists().then_some(lock)
}

/// The artifact of a version whose image is mapped: the copy that it was loaded from.
fn still_mapped(
    version: &Arc<Version>,
    staging: &Staging,
) -> Option<Result<Inspected, EngineError>> {
    if !matches!(version.state(), VersionState::Active | VersionState::Retired) {
        return None;
    }
    let lease = Lease::try_new(version, LeaseKind::Handle)?;
    Some(lease.image().staged_file().and_then(|found| {
        let path = found.path.clone();
        let inspected = staging.stage(found)?.inspect()?;
        expect_build(inspected, version.name(), version.facts.build_id, &path)
    }))
}

/// The artifact in the store whose build id begins so; the error in words when there is none.
fn from_store(
    plugin: &str,
    wanted: &str,
    store: Option<&Path>,
    staging: &Staging,
) -> Result<Result<Inspected, EngineError>, String> {
    let store = store.ok_or("the host has no artifact store (`EngineBuilder::store`)")?;
    let dir = artifact::store_dir(store, plugin);
    let entries = fs::read_dir(&dir)
        .map_err(|error| format!("no build of {plugin} is stored in {}: {error}", dir.display()))?;
    // The locks of builds that are loaded lie beside them.
    let builds = entries.filter_map(|entry| stored_build(entry.ok()?.path()));
    let mut found: Vec<_> = builds.filter(|(_, id)| is_prefix(wanted, *id)).collect();
    match (found.pop(), found.is_empty()) {
        (Some((path, id)), true) => {
            let inspected = Found::at(&path).and_then(|found| staging.stage(found)?.inspect());
            Ok(inspected.and_then(|inspected| expect_build(inspected, plugin, id, &path)))
        }
        (Some(_), false) => Err(format!("more than one build of {plugin} begins with {wanted}")),
        (None, _) => Err(format!("build {wanted} of {plugin} is not in {}", dir.display())),
    }
}

/// A file in a store that is named as a build.
fn stored_build(path: PathBuf) -> Option<(PathBuf, BuildId)> {
    artifact::stored_id(&path).map(|id| (path, id))
}

/// Refuses a file that is another build than the one it was found as: its name alone says nothing.
fn expect_build(
    inspected: Inspected,
    plugin: &str,
    expected: BuildId,
    path: &Path,
) -> Result<Inspected, EngineError> {
    let (name, found) = (&inspected.facts.name, inspected.facts.build_id);
    if same_name(name, plugin) && found == expected {
        return Ok(inspected);
    }
    let message = format!(
        "{} is not build {expected} of {plugin}, as its name says: it holds {found} of {name}; remove \
         the file and build that version again",
        path.display()
    );
    Err(EngineError::load(plugin, Step::Inspect, message))
}

/// The fewest digits that name a build.
const SHORTEST_ID: usize = 6;

/// The version that a text names: `3` or `v3`. A longer number is the beginning of a build id.
fn ordinal(text: &str) -> Option<u32> {
    match text.strip_prefix('v') {
        Some(number) => number.parse().ok(),
        None => text.parse().ok().filter(|_| text.len() < SHORTEST_ID),
    }
}

/// Whether a text is a build id, or enough of its beginning.
fn is_prefix(text: &str, id: BuildId) -> bool {
    text.len() >= SHORTEST_ID && id.to_string().starts_with(&text.to_lowercase())
}
