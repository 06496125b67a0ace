//! The table `[package.metadata.hotswap]`, in which a host's manifest names its plugins.

use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::Package;
use serde::Deserialize;

use crate::{BuildError, cargo};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct HostMetadata {
    /// Names of packages of the workspace, or paths relative to the manifest.
    #[serde(default)]
    pub plugins: Vec<String>,
    /// Relative to the manifest.
    pub plugin_dir: Option<PathBuf>,
    /// Flags of cargo for the host. Those that apply to any package are used for its plugins, too. Paths are
    /// relative to the manifest.
    #[serde(default)]
    pub cargo_flags: Vec<String>,
}

impl HostMetadata {
    /// Whether `package` is meant to be a host, even if its table has errors.
    pub(crate) fn is_in(package: &Package) -> bool {
        package.metadata.get("hotswap").is_some_and(|table| {
            // Only a plugin's table has these keys.
            table.get("include").or_else(|| table.get("exclude")).is_none()
        })
    }

    /// The `cargo-flags` of the manifest at `manifest_path`, for callers that have not asked cargo yet. Cargo
    /// reports errors in the manifest.
    pub(crate) fn cargo_flags_in(manifest_path: &Path) -> Vec<String> {
        let manifest = fs::read_to_string(manifest_path).ok();
        let manifest = manifest.and_then(|text| text.parse::<toml::Table>().ok());
        let table = || manifest?.get("package")?.get("metadata")?.get("hotswap").cloned();
        let metadata = table().and_then(|table| Self::deserialize(table).ok());
        metadata.map(|metadata| metadata.in_manifest(manifest_path).cargo_flags).unwrap_or_default()
    }

    /// The table with absolute paths in its flags, which are relative to the manifest.
    fn in_manifest(mut self, manifest_path: &Path) -> Self {
        if let Some(dir) = manifest_path.parent() {
            self.cargo_flags = cargo::with_absolute_paths(&self.cargo_flags, dir);
        }
        self
    }

    /// Reads the table of `package`; `None` if it has none.
    pub(crate) fn of(package: &Package) -> Result<Option<Self>, BuildError> {
        let Some(table) = package.metadata.get("hotswap") else { return Ok(None) };
        let metadata = Self::deserialize(table);
        metadata.map(|it| Some(it.in_manifest(package.manifest_path.as_std_path()))).map_err(|error| {
            BuildError::setup(format!(
                "{}: [package.metadata.hotswap]: {error}; its keys are `plugins`, a list of package \
                 names or paths, `plugin-dir`, a path, and `cargo-flags`, a list",
                package.manifest_path
            ))
            .because(error)
        })
    }
}
