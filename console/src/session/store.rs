//! The earlier builds of the plugins, in the build store.

use std::collections::HashMap;
use std::env::consts::DLL_SUFFIX;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use hotswap_artifact as artifact;
use hotswap_build::{BuildError, HostPackage, Store, StoredFile};
use hotswap_protocol::{ErrorKind, InvalidBuildId, Source, WireError, same_plugin};
use serde::Serialize;

/// Of the stored builds of a plugin so many are looked into, the newest.
const BUILDS_LISTED: usize = 20;

/// A build that a plugin can be rolled back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredBuild {
    /// Its build id.
    pub build_id: String,
    /// When it was stored, in milliseconds since the Unix epoch.
    pub stored_at_ms: u64,
    /// The size of its file in bytes.
    pub size_bytes: u64,
    /// The source it was built from; none outside a git repository.
    pub source: Option<Source>,
}

/// A stored build of a plugin, chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChoice {
    /// The plugin.
    pub plugin: String,
    /// The build id.
    pub build_id: String,
}

/// An artifact that no host can load.
pub(super) struct Refused {
    /// The plugin, as its file is named.
    pub plugin: String,
    /// What is wrong with it.
    pub reason: String,
    /// What was put in its place.
    pub instead: Option<String>,
}

/// Looks whether the artifacts in the plugin directory are whole, and replaces one that is not by
/// the build that served last, or else by the newest that is stored.
pub(super) fn mend(
    plugin_dir: &Path,
    store_dir: &Path,
    good: &HashMap<String, String>,
) -> Vec<Refused> {
    let entries = std::fs::read_dir(plugin_dir).into_iter().flatten().flatten();
    let broken = entries.filter_map(|entry| {
        let path = entry.path();
        let name = path.file_name()?.to_string_lossy().into_owned();
        let plugin = name.strip_suffix(DLL_SUFFIX).filter(|_| !name.starts_with('.'))?;
        let checked = std::fs::read(&path).map_err(|error| error.to_string());
        let checked =
            checked.and_then(|bytes| artifact::inspect(&bytes).map_err(|error| error.to_string()));
        Some((plugin.to_owned(), checked.err()?))
    });
    let mended = broken.map(|(plugin, reason)| {
        let served = good.iter().find(|(name, _)| same_plugin(name, &plugin));
        let build_id = served.map(|(_, build_id)| build_id.clone()).or_else(|| {
            let newest = builds(store_dir, &plugin).ok()?.into_iter().next()?;
            Some(newest.build_id)
        });
        let instead = build_id.filter(|build_id| {
            let choice = StoredChoice { plugin: plugin.clone(), build_id: build_id.clone() };
            install(plugin_dir, store_dir, &[choice]).is_ok()
        });
        Refused { plugin, reason, instead }
    });
    mended.collect()
}

/// Brings stored builds into the plugin directory, in place of what is there.
pub(super) fn install(
    plugin_dir: &Path,
    store_dir: &Path,
    builds: &[StoredChoice],
) -> Result<(), WireError> {
    let wrong = |text: String| WireError::new(ErrorKind::Build, text);
    let store = Store::open(store_dir).map_err(|error| wrong(error.to_string()))?;
    for StoredChoice { plugin, build_id } in builds {
        let id = build_id.parse().map_err(|error: InvalidBuildId| wrong(error.to_string()))?;
        let stored = store.get(plugin, id).map_err(|error| wrong(error.to_string()))?;
        let Some(stored) = stored else {
            return Err(wrong(format!("build {build_id} of {plugin} is not stored any more")));
        };
        stored.install(plugin_dir).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(())
}

/// Where the builds of a host's plugins are kept; the host is told, so that it can go back to one.
pub(super) fn directory(package: &HostPackage) -> PathBuf {
    package.target_dir.join("hotswap/store")
}

/// The newest builds of a plugin that are stored and whole, the newest first.
pub(super) fn builds(store_dir: &Path, plugin: &str) -> Result<Vec<StoredBuild>, BuildError> {
    let store = Store::open(store_dir)?;
    let files = store.list(plugin)?;
    let whole = files.into_iter().take(BUILDS_LISTED).filter_map(|file| {
        // A damaged build is none to go back to.
        let artifact = store.get(plugin, file.build_id).ok()??;
        Some(build(&file, artifact.facts.source))
    });
    Ok(whole.collect())
}

fn build(file: &StoredFile, source: Option<Source>) -> StoredBuild {
    let stored_at = file.stored_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    StoredBuild {
        build_id: file.build_id.to_string(),
        stored_at_ms: u64::try_from(stored_at.as_millis()).unwrap_or(u64::MAX),
        size_bytes: file.size_bytes,
        source,
    }
}
