//! The artifacts and patches of a plugin directory.

use std::env::consts::DLL_SUFFIX;
use std::fs;
use std::path::{Path, PathBuf};

use hotswap_artifact::layout::PATCH_EXTENSION;
use hotswap_artifact::patch::Patch;
use hotswap_build::BuildId;
use hotswap_protocol::same_plugin;

/// The artifact of a plugin in a plugin directory; `None` if there is none.
pub(crate) fn artifact(plugin_dir: &Path, plugin: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(plugin_dir).ok()?.flatten().map(|entry| entry.path());
    let is_its = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.strip_suffix(DLL_SUFFIX))
            .is_some_and(|it| same_plugin(it, plugin))
    };
    entries.into_iter().find(is_its)
}

/// The path of the patch beside an artifact.
pub(crate) fn patch_beside(artifact: &Path) -> PathBuf {
    artifact.with_extension(PATCH_EXTENSION)
}

/// Removes the artifact of a plugin and the patch beside it. Errors are ignored.
pub(crate) fn remove(plugin_dir: &Path, plugin: &str) {
    if let Some(artifact) = artifact(plugin_dir, plugin) {
        let _ = fs::remove_file(patch_beside(&artifact));
        let _ = fs::remove_file(artifact);
    }
}

/// Removes the patches, so that all artifacts are loaded as a whole. Errors are ignored.
pub(crate) fn remove_patches(plugin_dir: &Path) {
    let entries = fs::read_dir(plugin_dir).into_iter().flatten().flatten();
    let is_patch = |path: &PathBuf| path.extension().is_some_and(|it| it == PATCH_EXTENSION);
    entries.map(|entry| entry.path()).filter(is_patch).for_each(|it| drop(fs::remove_file(it)));
}

/// The build for which a patch of a plugin would be made: the build of its artifact in the plugin directory, or
/// the base of the patch beside it. `None` if there is no readable artifact.
pub(crate) fn base(plugin_dir: &Path, plugin: &str) -> Option<BuildId> {
    let artifact = artifact(plugin_dir, plugin)?;
    let patch =
        hotswap_artifact::read(&patch_beside(&artifact)).ok().and_then(|it| Patch::read(&it).ok());
    let of_artifact = || hotswap_artifact::inspect(&hotswap_artifact::read(&artifact).ok()?).ok();
    patch.map(|patch| patch.header.base).or_else(|| of_artifact().map(|facts| facts.build_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_removed_with_its_patch() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["world", "dog"].map(|plugin| {
            let artifact = dir.path().join(format!("{plugin}{DLL_SUFFIX}"));
            [patch_beside(&artifact), artifact]
        });
        files.iter().flatten().for_each(|file| fs::write(file, "").unwrap());
        remove(dir.path(), "world");
        assert_eq!(files.map(|of| of.map(|file| file.exists())), [[false; 2], [true; 2]]);
    }

    #[test]
    fn a_file_that_is_no_artifact_has_no_patch() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(base(dir.path(), "world"), None);
        fs::write(dir.path().join(format!("world{DLL_SUFFIX}")), "no artifact").unwrap();
        assert!(artifact(dir.path(), "world").is_some());
        assert_eq!(base(dir.path(), "world"), None);
    }
}
