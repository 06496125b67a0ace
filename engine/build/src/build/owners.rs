//! Records, for each compiled file in a target directory outside the workspace, the workspace that its sources
//! belong to.
//!
//! Cargo names a compiled file after the path of its package within the workspace, and compares modification
//! times. If two checkouts share a target directory, cargo can therefore mistake a file of one checkout for a file
//! of the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cargo_metadata::Artifact;
use serde::{Deserialize, Serialize};

use crate::atomic_file;
use crate::replay::{Output, is_local};

/// The file of the owners, in the target directory.
const OWNERS: &str = "hotswap-owners.json";

/// The owners of the files in a target directory, as seen from one workspace.
pub(super) struct Owners<'a> {
    file: PathBuf,
    workspace_root: &'a Path,
    /// By the path of the file.
    owned: BTreeMap<PathBuf, Owned>,
}

/// A compiled file, and the root of the workspace of its sources.
#[derive(Serialize, Deserialize)]
struct Owned {
    root: PathBuf,
    output: Output,
}

impl<'a> Owners<'a> {
    /// Opens the owners; `None` if no other workspace uses the target directory, because it is inside this
    /// one.
    pub fn open(target_dir: &Path, workspace_root: &'a Path) -> Option<Self> {
        if target_dir.starts_with(workspace_root) {
            return None;
        }
        let file = target_dir.join(OWNERS);
        let owned = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Some(Self { file, workspace_root, owned: owned.unwrap_or_default() })
    }

    /// Notes what a run of cargo compiled. Removes files that cargo found up to date although they are not
    /// known to belong to this workspace. Returns the names of the crates that cargo has to compile now.
    pub fn settle(&mut self, artifacts: &[Artifact]) -> io::Result<BTreeSet<String>> {
        let is_inside = |artifact: &&Artifact| {
            is_local(artifact) && artifact.manifest_path.starts_with(self.workspace_root)
        };
        let (compiled, found): (Vec<_>, Vec<_>) =
            artifacts.iter().filter(is_inside).partition(|artifact| !artifact.fresh);
        for path in compiled.iter().flat_map(|artifact| &artifact.filenames) {
            let output = Output::of(path.as_std_path());
            let owned = Owned { root: self.workspace_root.to_owned(), output };
            self.owned.insert(path.clone().into(), owned);
        }
        self.owned.retain(|path, _| path.exists());
        atomic_file::write(&self.file, &serde_json::to_vec(&self.owned)?)?;
        let of_others: Vec<_> = found.into_iter().filter(|it| !self.is_own(it)).collect();
        for artifact in &of_others {
            remove(artifact, artifacts);
        }
        Ok(of_others.iter().map(|artifact| artifact.target.name.clone()).collect())
    }

    fn is_own(&self, artifact: &Artifact) -> bool {
        let is_own = |owned: &Owned| owned.root == self.workspace_root && owned.output.is_whole();
        artifact.filenames.iter().all(|path| self.owned.get(path.as_std_path()).is_some_and(is_own))
    }
}

/// Removes the files of an artifact, so that cargo compiles it again. Cargo keeps programs and linked
/// libraries in two places: the second one is the directory `deps`, where the name may end with a hash.
fn remove(artifact: &Artifact, all: &[Artifact]) {
    let parents = |artifact: &'_ Artifact| {
        let parents = artifact.filenames.iter().filter_map(|path| path.parent());
        parents.map(|dir| dir.as_std_path().to_owned()).collect::<Vec<_>>()
    };
    let is_deps = |dir: &PathBuf| dir.ends_with("deps");
    let mut dirs: BTreeSet<PathBuf> = all.iter().flat_map(parents).filter(is_deps).collect();
    dirs.extend(parents(artifact).into_iter().flat_map(|dir| [dir.join("deps"), dir]));
    let is_its =
        |name: &str| artifact.filenames.iter().any(|path| is_named_after(name, path.as_ref()));
    for entry in dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_its) {
            // If it cannot be removed, cargo finds it up to date once more, which is reported as an error.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether `name` is the name of the file at `path`, or that name with a hash: `app-0123456789abcdef`.
fn is_named_after(name: &str, path: &Path) -> bool {
    let text =
        |part: Option<&std::ffi::OsStr>| part.and_then(|it| it.to_str()).unwrap_or("").to_owned();
    let (stem, extension) = (text(path.file_stem()), text(path.extension()));
    let hash = Path::new(name).file_stem().and_then(|it| it.to_str()).and_then(|it| {
        let hash = it.strip_prefix(&stem.replace('-', "_")).or_else(|| it.strip_prefix(&stem))?;
        hash.strip_prefix('-')
    });
    let is_hash = |it: &str| it.len() == 16 && it.bytes().all(|byte| byte.is_ascii_hexdigit());
    name == text(path.file_name())
        || hash.is_some_and(is_hash) && text(Path::new(name).extension()) == extension
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_second_name_of_a_file_is_known() {
        for (name, path, is_it) in [
            ("app", "/t/debug/app", true),
            ("app-0123456789abcdef", "/t/debug/app", true),
            ("my_app-0123456789abcdef", "/t/debug/my-app", true),
            ("app-0123456789abcdef.d", "/t/debug/app", false),
            ("app_two-0123456789abcdef", "/t/debug/app", false),
            ("libworld.so", "/t/debug/libworld.so", true),
            ("libleaf-0123456789abcdef.rlib", "/t/deps/libleaf-0123456789abcdef.rlib", true),
            ("libleaf-fedcba9876543210.rlib", "/t/deps/libleaf-0123456789abcdef.rlib", false),
        ] {
            assert_eq!(is_named_after(name, Path::new(path)), is_it, "{name}");
        }
    }
}
