//! What a plugin was built from: each build leaves a list of the files that it read, for watchers.

use std::collections::BTreeSet;
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

/// Replaces the plugin's list by `files`, which can be directories. An unchanged list is not written.
pub(crate) fn write(plugin: &PluginPackage, files: &BTreeSet<PathBuf>) -> io::Result<()> {
    // A path that is not UTF-8 cannot be written; such a file is not watched.
    let files: Vec<&str> = files.iter().filter_map(|file| file.to_str()).collect();
    let text = serde_json::to_vec(&files)?;
    atomic_file::write(&list(plugin), &text)
}

/// The files of the list at `path`; none if there is no list yet.
pub(crate) fn read(path: &Path) -> Vec<PathBuf> {
    let bytes = fs::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
