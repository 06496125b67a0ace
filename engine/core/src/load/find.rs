//! Finds the artifacts in the plugin directory.

use std::{
    env::consts::DLL_EXTENSION,
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use hotswap_protocol::same_plugin;

use crate::{EngineError, LoadCause, Step};

/// A file in the plugin directory with the name of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub path: PathBuf,
    pub identity: FileIdentity,
}

/// Tells whether a file is still the one that was read, without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
    pub size: u64,
    pub modified: Option<SystemTime>,
    changed: (i64, i64),
}

/// Lists the files whose names end like the name of a shared library, sorted by name. Hidden files are left out,
/// since files that are being written have such names. If the host asks for some plugins `only`, a name that is
/// not a file is an error only if it is the name of such a plugin.
pub(crate) fn find(dir: &Path, only: Option<&[String]>) -> Result<Vec<Found>, EngineError> {
    let refuse = |error: io::Error| {
        let advice = match error.kind() {
            io::ErrorKind::NotFound => {
                "; `hotswap build PLUGIN DIR` puts artifacts into a directory, and `hotswap run HOST` \
                 starts a host with its plugins built"
            }
            _ => "",
        };
        let message =
            format!("cannot read the plugin directory {}: {error}{advice}", dir.display());
        EngineError::load_of_all(Step::Find, message).because(LoadCause::Io(error))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(refuse)? {
        let path = entry.map_err(refuse)?.path();
        let name = path.file_name().map(|name| name.as_encoded_bytes());
        let hidden = name.is_none_or(|name| name.starts_with(b"."));
        if hidden || path.extension().is_none_or(|extension| extension != DLL_EXTENSION) {
            continue;
        }
        match Found::regular(&path) {
            Ok(file) => found.push(file),
            Err(refused) if only.is_none_or(|only| is_named_after_one(&path, only)) => {
                return Err(refused);
            }
            Err(_) => {}
        }
    }
    // All files are in one directory, so their whole paths are compared as text: this is faster than
    // comparing paths part by part.
    found.sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
    Ok(found)
}

/// The artifacts at these paths. There must be at least one, so that a lost list does not make a host retire
/// all plugins.
pub(super) fn named(paths: &[PathBuf]) -> Result<Vec<Found>, EngineError> {
    if paths.is_empty() {
        return Err(EngineError::load_of_all(Step::Find, "the request names no artifact"));
    }
    if let Some(relative) = paths.iter().find(|path| !path.is_absolute()) {
        let message = "the request names it by a relative path; an absolute path is expected";
        return Err(EngineError::load(relative.display().to_string(), Step::Find, message));
    }
    paths.iter().map(|path| Found::regular(path)).collect()
}

/// Whether the file has the name of one of these plugins: `world.so`.
pub(super) fn is_named_after_one(path: &Path, plugins: &[String]) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    stem.is_some_and(|stem| plugins.iter().any(|plugin| same_plugin(stem, plugin)))
}

impl Found {
    /// A file in the plugin directory.
    fn regular(path: &Path) -> Result<Self, EngineError> {
        let metadata = fs::metadata(path).map_err(|error| {
            let refused = EngineError::load(file_name(path), Step::Find, &error);
            refused.because(LoadCause::Io(error))
        })?;
        if !metadata.is_file() {
            return Err(EngineError::load(file_name(path), Step::Find, "it is not a regular file"));
        }
        Ok(Self { path: path.to_owned(), identity: FileIdentity::of(&metadata) })
    }

    /// The artifact at a known path.
    pub fn at(path: &Path) -> Result<Self, EngineError> {
        let metadata = fs::metadata(path).map_err(|error| {
            let message = format!("cannot read it: {error}");
            let refused = EngineError::load(file_name(path), Step::Find, message);
            refused.because(LoadCause::Io(error))
        })?;
        Ok(Self { path: path.to_owned(), identity: FileIdentity::of(&metadata) })
    }
}

/// The path that leads to an open file of a process, which is `self` or a number.
pub(super) fn path_of(file: &File, process: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{process}/fd/{}", file.as_raw_fd()))
}

/// The last part of a path, for messages.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

impl FileIdentity {
    fn of(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: metadata.modified().ok(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
