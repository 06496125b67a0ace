//! The lists of files that builds have read. Each build leaves one for watchers.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{PluginPackage, atomic_file};

/// The directory of the lists. Plugins that share a target directory share it.
pub(crate) fn dir(plugin: &PluginPackage) -> PathBuf {
    plugin.target_dir.join("hotswap/read")
}

/// The path of the plugin's list.
pub(crate) fn list(plugin: &PluginPackage) -> PathBuf {
    let manifest = plugin.manifest_path.as_os_str().as_encoded_bytes();
    let hash = blake3::hash(manifest).to_hex();
    dir(plugin).join(format!("{}-{}.json", plugin.name, &hash[..8]))
}

/// The files and directories that a build has read, each with the hash of its content; `None` if that is not
/// known.
pub(crate) type Reads = BTreeMap<PathBuf, Option<String>>;

/// Replaces the plugin's list. An unchanged list is not written.
pub(crate) fn write(plugin: &PluginPackage, reads: &Reads) -> io::Result<()> {
    // A path that is not UTF-8 cannot be written; such a file is not watched.
    let reads = reads.iter().filter_map(|(path, hash)| Some((path.to_str()?, hash)));
    let text = serde_json::to_vec(&reads.collect::<BTreeMap<_, _>>())?;
    atomic_file::write(&list(plugin), &text)
}

/// Stands for the hash of a missing file.
pub(crate) const ABSENT: &str = "absent";

/// Adds files to the plugin's list.
pub(crate) fn add(plugin: &PluginPackage, files: Reads) -> io::Result<()> {
    let mut reads = read(&list(plugin));
    reads.extend(files);
    write(plugin, &reads)
}

/// The list at `path`; an empty one if there is none yet.
pub(crate) fn read(path: &Path) -> Reads {
    let bytes = fs::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
