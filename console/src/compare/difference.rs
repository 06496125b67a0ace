//! The differences between two versions of a plugin, or between a version and the work tree.

use std::path::{Path, PathBuf};

use hotswap_artifact as artifact;
use hotswap_build::{BuildId, SourceDiff, Store, source_diff};
use hotswap_protocol::{
    ArtifactChange, ErrorKind, HostInfo, InvalidBuildId, Source, VersionInfo, WireError,
    version_label,
};

use super::probe::Prober;

/// A request to compare two versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffRequest {
    /// The plugin.
    pub plugin: String,
    /// The first version.
    pub from: DiffVersion,
    /// The second version; `None` for the work tree, and the artifact in the plugin directory.
    pub to: Option<DiffVersion>,
}

/// A version to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffVersion {
    /// Its number.
    pub version: u32,
    /// The number of its patch; `None` for the version as loaded.
    pub patch: Option<u32>,
    /// Its build id.
    pub build_id: String,
    /// The source that it was built from; `None` outside a git repository.
    pub source: Option<Source>,
}

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The request.
    pub request: DiffRequest,
    /// The differences between the declarations of the artifacts; `None` if both are the same build.
    pub declared: Result<Option<DeclaredDiff>, WireError>,
    /// The differences between the sources, or why they are not known.
    pub source: Result<SourceDiff, String>,
}

/// The differences between the declarations of two artifacts.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredDiff {
    /// The build id of the second artifact.
    pub build_id: String,
    /// What changed.
    pub changes: Vec<ArtifactChange>,
}

/// The places of artifacts and sources.
pub(crate) struct Places {
    pub host: Option<HostInfo>,
    pub plugin_dir: Option<PathBuf>,
    pub store_dir: Option<PathBuf>,
    /// The directories from which the plugin is built; empty if they are not known.
    pub source_dirs: Vec<PathBuf>,
}

impl From<&VersionInfo> for DiffVersion {
    fn from(version: &VersionInfo) -> Self {
        Self {
            version: version.version,
            patch: version.patch,
            build_id: version.build_id.clone(),
            source: version.source.clone(),
        }
    }
}

impl DiffVersion {
    /// The label: `v3`, or `v3+2` with the second patch.
    pub fn label(&self) -> String {
        version_label(self.version, self.patch)
    }
}

/// Compares two versions, which takes a while.
pub(crate) async fn compare(request: DiffRequest, places: Places, prober: &Prober) -> Difference {
    let asked = request.clone();
    let found = tokio::task::spawn_blocking(move || {
        let artifacts = places.artifacts(&asked);
        (artifacts, places.sources(&asked))
    });
    let (artifacts, source) = match found.await {
        Ok(found) => found,
        Err(panic) => (Err(wrong(&request.plugin, panic.to_string())), Err(panic.to_string())),
    };
    let declared = match artifacts {
        Ok(Some((from, to))) => prober.compare(&from, &to).await.map(|compared| {
            Some(DeclaredDiff { build_id: compared.new.build_id, changes: compared.changes })
        }),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    Difference { request, declared, source }
}

impl Places {
    /// The artifacts of both versions; `None` if they are the same build.
    fn artifacts(&self, request: &DiffRequest) -> Result<Option<(PathBuf, PathBuf)>, WireError> {
        let to = match &request.to {
            Some(version) if version.build_id == request.from.build_id => return Ok(None),
            Some(version) => self.of_version(&request.plugin, version)?,
            None => match self.installed(&request.plugin)? {
                (_, build_id) if build_id == request.from.build_id => return Ok(None),
                (path, _) => path,
            },
        };
        Ok(Some((self.of_version(&request.plugin, &request.from)?, to)))
    }

    /// The artifact of a version: the copy that the host loaded if it still exists, or else the stored build.
    fn of_version(&self, plugin: &str, version: &DiffVersion) -> Result<PathBuf, WireError> {
        let build_id = &version.build_id;
        if let (Some(host), Some(short)) = (&self.host, build_id.get(..8)) {
            let name =
                format!("{plugin}-v{}-{short}{}", version.version, std::env::consts::DLL_SUFFIX);
            let copy = host.staging_dir.join(name);
            if copy.is_file() {
                return Ok(copy);
            }
        }
        let id: BuildId =
            build_id.parse().map_err(|error: InvalidBuildId| wrong(plugin, error.to_string()))?;
        let Some(store) = &self.store_dir else {
            let what = format!(
                "the artifact of {} was removed with it, and no store of builds is known: a host names \
                 it with `EngineBuilder::store`",
                version.label()
            );
            return Err(wrong(plugin, what));
        };
        let stored = Store::open(store).and_then(|store| store.get(plugin, id));
        match stored.map_err(|error| wrong(plugin, error.to_string()))? {
            Some(artifact) => Ok(artifact.path),
            None => {
                let what = format!("the artifact of {} is not stored any more", version.label());
                Err(wrong(plugin, what))
            }
        }
    }

    /// The artifact in the plugin directory, and its build id.
    fn installed(&self, plugin: &str) -> Result<(PathBuf, String), WireError> {
        let Some(dir) = &self.plugin_dir else {
            return Err(wrong(plugin, "its plugin directory is not known".to_owned()));
        };
        let usual = dir.join(format!("{plugin}{}", std::env::consts::DLL_SUFFIX));
        let others = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|it| it.path());
        let is_library = |path: &PathBuf| {
            path.extension().is_some_and(|it| it == std::env::consts::DLL_EXTENSION)
        };
        let candidates = std::iter::once(usual).chain(others.filter(is_library));
        let found = candidates.filter_map(|path| build_of(plugin, &path).map(|id| (path, id)));
        found.into_iter().next().ok_or_else(|| {
            wrong(plugin, format!("{} has no complete artifact of it", dir.display()))
        })
    }

    fn sources(&self, request: &DiffRequest) -> Result<SourceDiff, String> {
        let no_git = |version: &DiffVersion| {
            format!("{} was not built in a git repository", version.label())
        };
        if self.source_dirs.is_empty() {
            return Err("no host knows where its sources are;\n\
                        start the console with the host's package directory to compare them"
                .into());
        }
        let from = request.from.source.as_ref().ok_or_else(|| no_git(&request.from))?;
        let to = match &request.to {
            Some(version) => Some(version.source.as_ref().ok_or_else(|| no_git(version))?),
            None => None,
        };
        let to = to.map(|source| source.commit.as_str());
        source_diff(&self.source_dirs, &from.commit, to).map_err(|error| error.to_string())
    }
}

/// The build id of the artifact at this path, if it is a complete artifact of the plugin.
fn build_of(plugin: &str, path: &Path) -> Option<String> {
    let facts = artifact::inspect(&artifact::read(path).ok()?).ok()?;
    facts.name.is(plugin).then(|| facts.build_id.to_string())
}

fn wrong(plugin: &str, what: String) -> WireError {
    WireError {
        plugin: Some(plugin.to_owned()),
        ..WireError::new(ErrorKind::Build, format!("{plugin}: {what}"))
    }
}
