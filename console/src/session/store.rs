//! The earlier builds of plugins, in the artifact store.

use std::collections::HashMap;
use std::env::consts::DLL_SUFFIX;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use hotswap_artifact as artifact;
use hotswap_build::{BuildError, HostPackage, Store, StoredFile};
use hotswap_protocol::{
    Activity, ErrorKind, InFlightCall, InvalidBuildId, Source, WireError, same_plugin,
    version_label,
};
use serde::Serialize;

/// How many of a plugin's stored builds are read, the newest first.
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
    /// The source that it was built from; `None` outside a git repository.
    pub source: Option<Source>,
}

/// A stored build that a user has chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChoice {
    /// The plugin.
    pub plugin: String,
    /// The build id.
    pub build_id: String,
}

/// An artifact that the host cannot load.
pub(super) struct Refused {
    /// The plugin, by the name of its file.
    pub plugin: String,
    /// The problem.
    pub reason: String,
    /// The build that has replaced it.
    pub instead: Option<String>,
}

/// The artifacts with which a host is about to start.
pub(super) struct Artifacts {
    pub plugin_dir: PathBuf,
    pub store_dir: PathBuf,
    /// The last build of each plugin that served.
    pub good: HashMap<String, String>,
    /// The steps of loads during which the host ended.
    pub fatal_calls: Vec<InFlightCall>,
}

impl Artifacts {
    /// Replaces incomplete artifacts.
    pub fn mend(&self) -> Vec<Refused> {
        let broken = self
            .files()
            .into_iter()
            .filter_map(|(path, plugin)| Some(self.replaced(plugin, inspect(&path).err()?)));
        broken.collect()
    }

    /// Replaces the artifacts that ended the host during a load. If there is no replacement, the artifact is
    /// removed; the store still has it.
    pub fn leave_out(&self) -> Vec<Refused> {
        let left_out = self.files().into_iter().filter_map(|(path, _)| {
            let facts = inspect(&path).ok()?;
            let plugin = facts.name.to_string();
            let fatal = self.fatal_call(&plugin, &facts.build_id.to_string())?;
            let activity = fatal.activity.map_or("its load", Activity::as_str);
            let version = version_label(fatal.version, fatal.patch);
            let reason = format!("the host ended in {activity} of {version}");
            let refused = self.replaced(plugin, reason);
            if refused.instead.is_none() {
                // An artifact that cannot be removed is loaded again.
                let _ = std::fs::remove_file(&path);
            }
            Some(refused)
        });
        left_out.collect()
    }

    /// The files in the plugin directory, with their plugins' names.
    fn files(&self) -> Vec<(PathBuf, String)> {
        let entries = std::fs::read_dir(&self.plugin_dir).into_iter().flatten().flatten();
        let files = entries.filter_map(|entry| {
            let path = entry.path();
            let name = path.file_name()?.to_string_lossy().into_owned();
            let plugin = name.strip_suffix(DLL_SUFFIX).filter(|_| !name.starts_with('.'))?;
            Some((path.clone(), plugin.to_owned()))
        });
        files.collect()
    }

    /// Replaces a plugin's artifact by the last build that served, or else by the newest stored build.
    fn replaced(&self, plugin: String, reason: String) -> Refused {
        let served = self.good.iter().find(|(name, _)| same_plugin(name, &plugin));
        let served = served.map(|(_, build_id)| build_id.clone());
        let stored = || builds(&self.store_dir, &plugin).unwrap_or_default().into_iter();
        let candidates = served.into_iter().chain(stored().map(|build| build.build_id));
        let build_id = candidates.into_iter().find(|id| self.fatal_call(&plugin, id).is_none());
        let instead = build_id.filter(|build_id| {
            let choice = StoredChoice { plugin: plugin.clone(), build_id: build_id.clone() };
            install(&self.plugin_dir, &self.store_dir, &[choice]).is_ok()
        });
        Refused { plugin, reason, instead }
    }

    /// The step in which the host ended while it loaded this build.
    fn fatal_call(&self, plugin: &str, build_id: &str) -> Option<&InFlightCall> {
        let is_of_build = |call: &&InFlightCall| {
            same_plugin(&call.plugin, plugin) && call.build_id.as_deref() == Some(build_id)
        };
        self.fatal_calls.iter().find(is_of_build)
    }
}

fn inspect(path: &Path) -> Result<artifact::Facts, String> {
    let bytes = artifact::read(path).map_err(|error| error.to_string())?;
    artifact::inspect(&bytes).map_err(|error| error.to_string())
}

/// Copies stored builds into the plugin directory, in place of the present ones.
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

/// The path of a stored build, if it is complete.
pub(super) fn file_of(store_dir: &Path, build: &StoredChoice) -> Result<PathBuf, WireError> {
    let wrong = |text: String| WireError::new(ErrorKind::Build, text);
    let store = Store::open(store_dir).map_err(|error| wrong(error.to_string()))?;
    let StoredChoice { plugin, build_id } = build;
    let id = build_id.parse().map_err(|error: InvalidBuildId| wrong(error.to_string()))?;
    let stored = store.get(plugin, id).map_err(|error| wrong(error.to_string()))?;
    let gone = || wrong(format!("build {build_id} of {plugin} is not stored any more"));
    stored.map(|stored| stored.path).ok_or_else(gone)
}

/// The directory of the builds of a host's plugins. The host gets its path for rollbacks.
pub(super) fn directory(package: &HostPackage) -> PathBuf {
    package.target_dir.join("hotswap/store")
}

/// The newest complete stored builds of a plugin, the newest first.
pub(super) fn builds(store_dir: &Path, plugin: &str) -> Result<Vec<StoredBuild>, BuildError> {
    let store = Store::open(store_dir)?;
    let files = store.list(plugin)?;
    let whole = files.into_iter().take(BUILDS_LISTED).filter_map(|file| {
        // A damaged build is left out.
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
