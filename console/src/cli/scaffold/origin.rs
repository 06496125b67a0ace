//! The origin of Hotswap's crates in a project.

use std::path::{Path, PathBuf};

use cargo_metadata::Dependency;
use toml_edit::{InlineTable, Value};

use super::super::args::ScaffoldArguments;
use super::refuse;
use crate::failure::Failure;

/// The origin of Hotswap's crates in a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A directory: a checkout, or a package of the workspace.
    Checkout { dir: PathBuf },
    /// A repository.
    Repository(String),
    /// The registry.
    Version(String),
    /// The registry, with features.
    Features(String, &'static [&'static str]),
}

impl Origin {
    /// The origin that the command line chooses; `None` if it chooses none.
    pub fn chosen(options: &ScaffoldArguments) -> Result<Option<Self>, Failure> {
        match (&options.path, &options.git) {
            (Some(dir), _) => Self::checkout(dir).map(Some),
            (None, Some(url)) => Ok(Some(Self::Repository(url.clone()))),
            (None, None) => Ok(None),
        }
    }

    /// The origin of `serde`, with its derives.
    pub fn serde() -> Self {
        Self::Features("1".into(), &["derive"])
    }

    /// The checkout that this program was built from, or else this program's version in the registry.
    pub fn default_one() -> Result<Self, Failure> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        match std::fs::canonicalize(dir) {
            Ok(dir) if is_checkout(&dir) => Ok(Self::Checkout { dir }),
            _ => Ok(Self::Version(env!("CARGO_PKG_VERSION").into())),
        }
    }

    /// The origin of a crate of Hotswap in a package that depends on it.
    pub fn of(dependency: &Dependency) -> Option<Self> {
        if let Some(path) = &dependency.path {
            // `<checkout>/engine/plugin`
            let dir = path.as_std_path().ancestors().nth(2)?.to_owned();
            return is_checkout(&dir).then_some(Self::Checkout { dir });
        }
        match dependency.source.as_ref().and_then(|source| source.repr.strip_prefix("git+")) {
            Some(url) => {
                let url = url.split(['?', '#']).next().unwrap_or(url);
                Some(Self::Repository(url.to_owned()))
            }
            None => Some(Self::Version(dependency.req.to_string().trim_start_matches('^').into())),
        }
    }

    fn checkout(given: &Path) -> Result<Self, Failure> {
        let dir = std::fs::canonicalize(given)
            .map_err(|error| refuse(format!("--path {}: {error}", given.display())))?;
        if !is_checkout(&dir) {
            return Err(refuse(format!(
                "--path {}: not a checkout of Hotswap: it has no engine/plugin/Cargo.toml",
                given.display()
            )));
        }
        Ok(Self::Checkout { dir })
    }

    /// The dependency on one of the crates, for a manifest in a directory.
    pub fn dependency(&self, krate: &str, manifest_dir: &Path) -> Value {
        match self {
            Self::Checkout { dir } => at_path(&dir.join(directory_of(krate)), manifest_dir),
            Self::Repository(url) => table([("git", url.clone())]),
            Self::Version(version) => version.clone().into(),
            Self::Features(version, features) => {
                let mut table = InlineTable::new();
                table.insert("version", version.clone().into());
                table.insert("features", features.iter().copied().collect());
                Value::InlineTable(table)
            }
        }
    }
}

/// A dependency on the package in a directory. The path is relative to the manifest, unless both have only the
/// root of the file system in common.
pub(super) fn at_path(dir: &Path, manifest_dir: &Path) -> Value {
    let root = |path: &Path| {
        path.components().take(2).map(|it| it.as_os_str().to_owned()).collect::<Vec<_>>()
    };
    let is_near = root(dir) == root(manifest_dir);
    let relative = is_near.then(|| pathdiff::diff_paths(dir, manifest_dir)).flatten();
    let dir = relative.unwrap_or_else(|| dir.to_owned());
    table([("path", dir.to_string_lossy().into_owned())])
}

fn table<const N: usize>(entries: [(&str, String); N]) -> Value {
    Value::InlineTable(entries.into_iter().collect::<InlineTable>())
}

/// The directory of one of the crates in a checkout.
fn directory_of(krate: &str) -> &'static str {
    if krate == "hotswap-engine" { "engine/core" } else { "engine/plugin" }
}

fn is_checkout(dir: &Path) -> bool {
    dir.join(directory_of("hotswap-plugin")).join("Cargo.toml").is_file()
}
