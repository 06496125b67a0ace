//! The lists of files that builds have read. Each build of a plugin or a host leaves one for watchers.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{PluginPackage, atomic_file};

/// The directory of the lists. Packages that share a target directory share it.
pub(crate) fn dir(package: &PluginPackage) -> PathBuf {
    package.target_dir.join("hotswap/read")
}

/// The path of the package's list.
pub(crate) fn list(package: &PluginPackage) -> PathBuf {
    let manifest = package.manifest_path.as_os_str().as_encoded_bytes();
    let hash = blake3::hash(manifest).to_hex();
    let dir_name = package.dir.file_name().unwrap_or_default().to_string_lossy();
    dir(package).join(format!("{dir_name}-{}.json", &hash[..8]))
}

/// The files and directories that a build has read, each with the hash of its content; `None` if that is not
/// known.
pub(crate) type Reads = BTreeMap<PathBuf, Option<String>>;

/// Replaces the package's list. An unchanged list is not written.
pub(crate) fn write(package: &PluginPackage, reads: &Reads) -> io::Result<()> {
    // A path that is not UTF-8 cannot be written; such a file is not watched.
    let reads = reads.iter().filter_map(|(path, hash)| Some((path.to_str()?, hash)));
    let text = serde_json::to_vec(&reads.collect::<BTreeMap<_, _>>())?;
    atomic_file::write(&list(package), &text)
}

/// Stands for the hash of a missing file.
pub(crate) const ABSENT: &str = "absent";

/// Adds the files that an error is about to the package's list. A build that succeeds replaces the list.
pub(crate) fn add(package: &PluginPackage, files: Reads) -> io::Result<()> {
    let mut reads = read(&list(package));
    reads.extend(files);
    write(package, &reads)
}

/// The list at `path`; an empty one if there is none yet.
pub(crate) fn read(path: &Path) -> Reads {
    let bytes = fs::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
