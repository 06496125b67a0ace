//! The artifact store, which keeps earlier builds by plugin and build id.

use std::env::consts::DLL_SUFFIX;
use std::fs::{self, DirEntry, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hotswap_artifact::{self as artifact, BuildId, Facts, layout};
use hotswap_protocol::{PhaseTiming, PluginName};

use crate::error::Cause;
use crate::{BuildError, atomic_file};

/// A directory of artifacts, `<plugin>/<build id>.so`.
///
/// Any number of processes can use it at the same time: a file appears as a whole, and the same code
/// always has the same name. Plugins' names are compared without regard to case.
///
/// ```no_run
/// use hotswap_build::Store;
///
/// # fn main() -> Result<(), hotswap_build::BuildError> {
/// let store = Store::open("target/hotswap/store".as_ref())?;
/// // The newest build comes first; go back to the one before it.
/// if let Some(earlier) = store.list("world")?.get(1)
///     && let Some(artifact) = store.get("world", earlier.build_id)?
/// {
///     artifact.install("plugins".as_ref())?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

/// An artifact in the store that was read and checked.
#[derive(Clone, Debug)]
pub struct StoredArtifact {
    /// The path of its file.
    pub path: PathBuf,
    /// What it declares about itself.
    pub facts: Facts,
}

/// A file in the store as the directory lists it. Its content has not been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// The path of the file.
    pub path: PathBuf,
    /// The build id, taken from the file's name.
    pub build_id: BuildId,
    /// The file's size in bytes.
    pub size_bytes: u64,
    /// When it was last stored.
    pub stored_at: SystemTime,
}

/// How many builds of one plugin a store keeps. The newest build is always kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// The largest number of builds.
    pub count: usize,
    /// The largest size of all builds together, in bytes.
    pub size_bytes: u64,
}

impl Default for StoreLimits {
    /// 20 builds, of 512 MiB together.
    fn default() -> Self {
        Self { count: 20, size_bytes: 512 << 20 }
    }
}

impl Store {
    /// Opens the store in `dir`, and creates the directory if there is none.
    ///
    /// # Errors
    /// [`Artifact`](crate::BuildErrorKind::Artifact) if the directory cannot be created.
    pub fn open(dir: &Path) -> Result<Self, BuildError> {
        fs::create_dir_all(dir).map_err(|error| {
            BuildError::artifact(format!(
                "cannot create the artifact store {}: {error}",
                dir.display()
            ))
            .because(error)
        })?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Stores an artifact under the plugin name and build id that it declares, as the newest build of
    /// its plugin. It replaces a stored artifact with the same build id, which can differ from it
    /// only in its git facts.
    ///
    /// # Errors
    /// [`Artifact`](crate::BuildErrorKind::Artifact) if `artifact` is not a stamped artifact, or if
    /// the file cannot be written.
    pub fn put(&self, artifact: &[u8]) -> Result<StoredArtifact, BuildError> {
        let facts = artifact::inspect(artifact).map_err(|error| {
            BuildError::artifact(format!("this file cannot be stored as an artifact: {error}"))
                .because(error)
        })?;
        let path = self.path(facts.name.as_str(), facts.build_id)?;
        let others = self.list(facts.name.as_str())?.into_iter().filter(|file| file.path != path);
        let others = others.map(|file| file.stored_at);
        let stored = atomic_file::write_executable(&path, artifact)
            .and_then(|()| atomic_file::date_as_newest(&path, others));
        stored.map_err(|error| {
            BuildError::artifact(format!(
                "`{}` {} could not be stored as {}: {error}",
                facts.name,
                facts.build_id,
                path.display()
            ))
            .because(error)
        })?;
        Ok(StoredArtifact { path, facts })
    }

    /// Reads and checks the artifact of `plugin` with this build id; `None` if the store does not
    /// have it.
    ///
    /// # Errors
    /// [`Artifact`](crate::BuildErrorKind::Artifact) if the file is damaged or holds another build,
    /// or if `plugin` is not a plugin name.
    pub fn get(
        &self,
        plugin: &str,
        build_id: BuildId,
    ) -> Result<Option<StoredArtifact>, BuildError> {
        let path = self.path(plugin, build_id)?;
        let damaged = |reason: Cause| {
            BuildError::artifact(format!(
                "`{plugin}` {build_id} in the store is damaged: {}: {reason}; remove the file and \
                 build the plugin again",
                path.display()
            ))
            .because(reason)
        };
        let bytes = match artifact::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(damaged(error.into())),
        };
        let facts = expect_build(&bytes, plugin, build_id).map_err(damaged)?;
        Ok(Some(StoredArtifact { path, facts }))
    }

    /// The stored builds of `plugin`, the newest first. Only the directory is read, not the files.
    ///
    /// # Errors
    /// [`Artifact`](crate::BuildErrorKind::Artifact) if the directory cannot be read, or if `plugin`
    /// is not a plugin name.
    pub fn list(&self, plugin: &str) -> Result<Vec<StoredFile>, BuildError> {
        let dir = self.plugin_dir(plugin)?;
        let failed = |error: io::Error| {
            BuildError::artifact(format!("cannot list {}: {error}", dir.display())).because(error)
        };
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            files.extend(stored_file(&entry.map_err(failed)?));
        }
        files.sort_by(|a, b| b.stored_at.cmp(&a.stored_at).then(a.build_id.cmp(&b.build_id)));
        Ok(files)
    }

    /// # Errors
    /// As for [`list`](Self::list). A file that cannot be removed is not an error: it stays.
    pub fn prune(&self, plugin: &str, limits: StoreLimits) -> Result<Vec<StoredFile>, BuildError> {
        let (mut count, mut size_bytes) = (0, 0_u64);
        let mut removed = Vec::new();
        for file in self.list(plugin)? {
            count += 1;
            size_bytes = size_bytes.saturating_add(file.size_bytes);
            let fits = count == 1 || (count <= limits.count && size_bytes <= limits.size_bytes);
            if !fits && remove_unless_loaded(&file.path) {
                count -= 1;
                size_bytes -= file.size_bytes;
                removed.push(file);
            }
        }
        Ok(removed)
    }

    fn path(&self, plugin: &str, build_id: BuildId) -> Result<PathBuf, BuildError> {
        Ok(self.plugin_dir(plugin)?.join(format!("{build_id}{DLL_SUFFIX}")))
    }

    /// The directory of a plugin's builds.
    fn plugin_dir(&self, plugin: &str) -> Result<PathBuf, BuildError> {
        let plugin = plugin.parse::<PluginName>();
        let plugin =
            plugin.map_err(|error| BuildError::artifact(error.to_string()).because(error))?;
        Ok(layout::store_dir(&self.dir, &plugin))
    }
}

impl StoredArtifact {
    /// Copies the artifact into the plugin directory `out_dir` as `<plugin>.so` and returns the path
    /// of that file. See [`Built::install`](crate::Built::install).
    ///
    /// # Errors
    /// [`Artifact`](crate::BuildErrorKind::Artifact) if the stored file is not this build any more,
    /// or if the file cannot be written.
    pub fn install(&self, out_dir: &Path) -> Result<PathBuf, BuildError> {
        install(self.facts.name.as_str(), self.facts.build_id, &self.path, out_dir)
    }
}

/// Removes a stored artifact and the files beside it; `false` if a host has it loaded, or if it cannot be
/// removed now.
///
/// While a host has the artifact loaded, it holds a lock on a file beside it. Here the lock is held until
/// everything is removed, so that no host begins to load the artifact meanwhile.
fn remove_unless_loaded(path: &Path) -> bool {
    let lock = layout::stored_lock(path);
    let file = File::options().create(true).truncate(false).write(true).open(&lock);
    let Ok(_locked) = file.and_then(|file| Ok(file.try_lock().map(|()| file)?)) else {
        return false;
    };
    if fs::remove_file(path).is_err() {
        return false;
    }
    let _ = fs::remove_file(lock);
    let _ = fs::remove_file(layout::stored_phases(path));
    true
}

/// What an artifact declares, if it is the given build of the given plugin.
///
/// # Errors
/// [`ArtifactError`](artifact::ArtifactError) if it is not an artifact; otherwise a text that says which
/// build it is.
fn expect_build(artifact: &[u8], plugin: &str, build_id: BuildId) -> Result<Facts, Cause> {
    let facts = artifact::inspect(artifact)?;
    if facts.build_id == build_id && facts.name.is(plugin) {
        return Ok(facts);
    }
    Err(format!("it holds `{}` {}", facts.name, facts.build_id).into())
}

/// Stores beside an artifact how long each phase of its build took.
pub(crate) fn store_phases(stored: &Path, phases: &[PhaseTiming]) -> io::Result<()> {
    atomic_file::write(&layout::stored_phases(stored), &serde_json::to_vec(phases)?)
}

/// Copies a stored artifact into a plugin directory, if the stored file is still that build.
pub(crate) fn install(
    plugin: &str,
    build_id: BuildId,
    artifact: &Path,
    out_dir: &Path,
) -> Result<PathBuf, BuildError> {
    let path = out_dir.join(format!("{plugin}{DLL_SUFFIX}"));
    let copy = || -> Result<(), Cause> {
        let bytes = artifact::read(artifact)?;
        expect_build(&bytes, plugin, build_id)?;
        Ok(atomic_file::write_executable(&path, &bytes)?)
    };
    copy().map_err(|error| {
        BuildError::artifact(format!(
            "`{plugin}` was built as {}, but could not be installed as {}: {error}",
            artifact.display(),
            path.display()
        ))
        .because(error)
    })?;
    Ok(path)
}

/// The stored build of a directory entry; `None` for any other file, and for a file that was removed just now.
fn stored_file(entry: &DirEntry) -> Option<StoredFile> {
    let path = entry.path();
    let build_id = layout::stored_id(&path)?;
    let metadata = entry.metadata().ok().filter(Metadata::is_file)?;
    Some(StoredFile {
        build_id,
        size_bytes: metadata.len(),
        stored_at: metadata.modified().ok()?,
        path,
    })
}
