//! The artifacts built so far, by plugin and build id.

use std::env::consts::DLL_SUFFIX;
use std::fs::{self, DirEntry, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hotswap_artifact::{self as artifact, BuildId, Facts, layout};
use hotswap_protocol::{PhaseTiming, PluginName};

use crate::{BuildError, atomic_file};

/// A directory of artifacts, `<plugin>/<build id>.so`, that any number of processes may use at
/// the same time: a file appears as a whole, and the same code always has the same name.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

/// An artifact in the store, read and found whole.
#[derive(Clone, Debug)]
pub struct StoredArtifact {
    /// Where it lies.
    pub path: PathBuf,
    /// What it says of itself.
    pub facts: Facts,
}

/// A file in the store that nobody has looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The build id in its name.
    pub build_id: BuildId,
    /// Its size.
    pub size_bytes: u64,
    /// When it was stored.
    pub stored_at: SystemTime,
}

/// How much a store keeps of one plugin. The newest build is always kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// How many builds.
    pub count: usize,
    /// How large they may be together.
    pub size_bytes: u64,
}

impl Default for StoreLimits {
    /// 20 builds of 512 MiB together.
    fn default() -> Self {
        Self { count: 20, size_bytes: 512 << 20 }
    }
}

impl Store {
    /// The store in `dir`, which is created where there is none.
    pub fn open(dir: &Path) -> Result<Self, BuildError> {
        fs::create_dir_all(dir).map_err(|error| {
            BuildError::artifact(format!(
                "the artifact store {} cannot be created: {error}",
                dir.display()
            ))
        })?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Keeps a stamped artifact under what it says of itself, as the newest of its plugin. One that
    /// differs from a kept one in its git facts only takes that one's place.
    pub fn put(&self, artifact: &[u8]) -> Result<StoredArtifact, BuildError> {
        let facts = artifact::inspect(artifact).map_err(|error| {
            BuildError::artifact(format!("this is no artifact that can be stored: {error}"))
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
        })?;
        Ok(StoredArtifact { path, facts })
    }

    /// The artifact with this build id, after checking that it is what its name says: `None`
    /// where it was never stored, an error where it is damaged.
    pub fn get(
        &self,
        plugin: &str,
        build_id: BuildId,
    ) -> Result<Option<StoredArtifact>, BuildError> {
        let path = self.path(plugin, build_id)?;
        let damaged = |reason: &dyn std::fmt::Display| {
            BuildError::artifact(format!(
                "`{plugin}` {build_id} in the store is damaged: {}: {reason}; remove the file and \
                 build that version again",
                path.display()
            ))
        };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(damaged(&error)),
        };
        let facts = expect_build(&bytes, plugin, build_id).map_err(|why| damaged(&why))?;
        Ok(Some(StoredArtifact { path, facts }))
    }

    /// What is stored of this plugin, the newest first. Nothing is read but the directory.
    pub fn list(&self, plugin: &str) -> Result<Vec<StoredFile>, BuildError> {
        let dir = self.plugin_dir(plugin)?;
        let failed = |error: io::Error| {
            BuildError::artifact(format!("{} cannot be listed: {error}", dir.display()))
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

    /// Removes the oldest builds of a plugin beyond the limits, but for those that a host has
    /// loaded; answers which.
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

    fn plugin_dir(&self, plugin: &str) -> Result<PathBuf, BuildError> {
        let plugin = plugin.parse::<PluginName>();
        let plugin = plugin.map_err(|error| BuildError::artifact(error.to_string()))?;
        Ok(layout::store_dir(&self.dir, &plugin))
    }
}

impl StoredArtifact {
    /// Brings the artifact into a host's plugin directory as `<plugin>.so` and returns its path, as
    /// [`Built::install`](crate::Built::install) does.
    pub fn install(&self, out_dir: &Path) -> Result<PathBuf, BuildError> {
        install(self.facts.name.as_str(), self.facts.build_id, &self.path, out_dir)
    }
}

/// A host that has it loaded keeps the file beside it locked; one that is about to finds it locked until
/// all is gone. What cannot be removed now is found again the next time.
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

/// What an artifact says of itself, where that is what its name says; an error in words otherwise.
fn expect_build(artifact: &[u8], plugin: &str, build_id: BuildId) -> Result<Facts, String> {
    let facts = artifact::inspect(artifact).map_err(|error| error.to_string())?;
    if facts.build_id == build_id && facts.name.is(plugin) {
        return Ok(facts);
    }
    Err(format!("it holds `{}` {}", facts.name, facts.build_id))
}

/// Writes down beside a stored artifact how long each phase of building it took.
pub(crate) fn keep_phases(stored: &Path, phases: &[PhaseTiming]) -> io::Result<()> {
    atomic_file::write(&layout::stored_phases(stored), &serde_json::to_vec(phases)?)
}

/// Brings a stored artifact into a plugin directory, if it still is that build.
pub(crate) fn install(
    plugin: &str,
    build_id: BuildId,
    artifact: &Path,
    out_dir: &Path,
) -> Result<PathBuf, BuildError> {
    let path = out_dir.join(format!("{plugin}{DLL_SUFFIX}"));
    let installed = fs::read(artifact).and_then(|bytes| {
        expect_build(&bytes, plugin, build_id).map_err(io::Error::other)?;
        atomic_file::write_executable(&path, &bytes)
    });
    installed.map_err(|error| {
        BuildError::artifact(format!(
            "`{plugin}` is built as {}, but could not be installed as {}: {error}",
            artifact.display(),
            path.display()
        ))
    })?;
    Ok(path)
}

/// `None` for what is not ours, and for what somebody has removed since.
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
