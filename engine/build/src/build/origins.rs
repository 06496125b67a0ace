//! Records, for each compiled file in a target directory, the workspace and the sources that it was compiled from.
//!
//! Cargo compares modification times, so it can take a file for up to date that is not. A source may have an old time
//! (`mv`, `cp -p`, `rsync -t`). And if two checkouts share a target directory, cargo can mistake a file of one checkout
//! for a file of the other, because it names a compiled file after the path of its package within the workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cargo_metadata::Artifact;
use serde::{Deserialize, Serialize};

use super::compile::Run;
use crate::atomic_file;
use crate::real_path::{real, resolved};
use crate::replay::{self, Input, Moment, Output, Seen, is_local};

/// The file of the origins, in the target directory.
const ORIGINS: &str = "hotswap-origins.json";

/// The origins of the files in a target directory, as seen from one workspace.
pub(super) struct Origins<'a> {
    file: PathBuf,
    workspace_root: &'a Path,
    /// Whether other workspaces may use the target directory, because it is not inside this one.
    is_shared: bool,
    /// By the path of the file without links: a link in each of several workspaces may lead to the directory.
    known: BTreeMap<PathBuf, Origin>,
    /// The content of the known sources before cargo runs.
    seen: Seen,
}

/// A compiled file, or the output of a build script.
#[derive(Serialize, Deserialize)]
struct Origin {
    /// The root of the workspace of its sources.
    root: PathBuf,
    output: Output,
    /// The sources as they were read, or the files for which the build script asks.
    inputs: Vec<Input>,
}

/// The files that cargo takes for up to date and that are not.
#[derive(Default)]
pub(super) struct Mistaken {
    /// The names of crates that another workspace has compiled.
    pub of_others: BTreeSet<String>,
    /// The names of crates whose sources, or whose build script's files, have changed.
    pub changed: BTreeSet<String>,
    artifacts: Vec<Artifact>,
    scripts: Vec<PathBuf>,
}

impl<'a> Origins<'a> {
    pub fn open(target_dir: &Path, workspace_root: &'a Path) -> Self {
        let file = target_dir.join(ORIGINS);
        let known = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let known: BTreeMap<PathBuf, Origin> = known.unwrap_or_default();
        let is_shared = !real(target_dir).starts_with(real(workspace_root));
        let mut seen = Seen::new();
        let own = known.values().filter(|origin| origin.root == workspace_root);
        for input in own.flat_map(|origin| &origin.inputs) {
            seen.entry(input.path.clone()).or_insert_with(|| input.reread());
        }
        Self { file, workspace_root, is_shared, known, seen }
    }

    /// Notes what a run of cargo, which began at `began`, compiled. Returns what it did not compile and should have.
    pub fn settle(&mut self, run: &Run, began: Moment) -> io::Result<Mistaken> {
        let mut mistaken = Mistaken::default();
        for artifact in run.artifacts.iter().filter(|artifact| is_local(artifact)) {
            let files: Vec<PathBuf> =
                artifact.filenames.iter().map(|path| resolved(path.as_std_path())).collect();
            let is_inside = artifact.manifest_path.starts_with(self.workspace_root);
            if artifact.fresh && is_inside && !files.iter().all(|path| self.is_own(path)) {
                mistaken.of_others.insert(artifact.target.name.clone());
                mistaken.artifacts.push(artifact.clone());
                continue;
            }
            if artifact.fresh && files.iter().any(|path| self.has_changed(path)) {
                mistaken.changed.insert(artifact.target.name.clone());
                mistaken.artifacts.push(artifact.clone());
                continue;
            }
            let sources = replay::sources_of(self.workspace_root, artifact);
            let inputs = self.inputs(sources.iter().filter(|path| !path.is_dir()), began);
            files.iter().for_each(|path| self.note(path, inputs.clone()));
        }
        for mut script in replay::asking_scripts(run) {
            script.output = resolved(&script.output);
            if self.has_changed(&script.output) {
                mistaken.changed.insert(script.package);
                mistaken.scripts.push(script.output);
                continue;
            }
            let inputs = self.inputs(script.paths.iter(), began);
            self.note(&script.output, inputs);
        }
        self.known.retain(|path, _| path.exists());
        atomic_file::write(&self.file, &serde_json::to_vec(&self.known)?)?;
        Ok(mistaken)
    }

    fn note(&mut self, path: &Path, inputs: Vec<Input>) {
        let root = self.workspace_root.to_owned();
        let origin = Origin { root, output: Output::of(path), inputs };
        self.known.insert(path.to_owned(), origin);
    }

    /// The content of these files as a process has read it that began at `began`.
    fn inputs<'p>(&self, paths: impl Iterator<Item = &'p PathBuf>, began: Moment) -> Vec<Input> {
        let paths = paths.filter(|path| !replay::is_downloaded(path));
        paths.map(|path| Input::read_since(path, began.at(), self.seen.get(path))).collect()
    }

    /// Whether a file may have been compiled for this workspace.
    fn is_own(&self, path: &Path) -> bool {
        let known = self.known.get(path).filter(|origin| origin.output.is_whole());
        known.map_or(!self.is_shared, |origin| origin.root == self.workspace_root)
    }

    /// Whether the sources of a file have another content than when it was compiled. `false` if another program has
    /// compiled it since, or if they changed while they were read: then cargo is right.
    fn has_changed(&self, path: &Path) -> bool {
        let known = self.known.get(path).filter(|origin| origin.output.is_whole());
        let inputs = known.into_iter().flat_map(|origin| &origin.inputs);
        let mut known = inputs.filter(|input| !input.is_unknown());
        known.any(|input| !input.has_same_content(&input.reread()))
    }
}

impl Mistaken {
    pub fn is_empty(&self) -> bool {
        self.artifacts.is_empty() && self.scripts.is_empty()
    }

    /// Removes the files, so that cargo makes them again.
    pub fn remove(&self, run: &Run) {
        self.artifacts.iter().for_each(|artifact| remove(artifact, &run.artifacts));
        for output in &self.scripts {
            // If it cannot be removed, cargo does not run the script again.
            let _ = fs::remove_file(output);
        }
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
