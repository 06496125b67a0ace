//! Decides which files are sources, and of which plugins.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::real_path::{real, resolved};
use crate::replay::is_of_editor;
use crate::{IncludedFiles, PluginPackage, reads};

/// The names of the plugins to which something belongs.
type Owners = BTreeSet<String>;

#[derive(Debug, Default)]
pub(super) struct Sources {
    /// The directories of packages, with the plugins that are built from them.
    packages: BTreeMap<PathBuf, Owners>,
    /// The root directories of workspaces, with their plugins.
    workspaces: BTreeMap<PathBuf, Owners>,
    target_dirs: BTreeSet<PathBuf>,
    /// The included files of each plugin: the plugin's name, its directory, and the expressions.
    included: Vec<(String, PathBuf, IncludedFiles)>,
    /// The files and directories that builds have read, with the plugins that were built from them.
    read: BTreeMap<PathBuf, Owners>,
    /// The links through which packages and read files are reached, with the plugins that are built from these.
    links: BTreeMap<PathBuf, Owners>,
    /// The hashes of the contents that builds have noted.
    hashes: BTreeMap<PathBuf, String>,
    /// The lists of the files that builds have read: the plugin's name, and the path of its list.
    lists: Vec<(String, PathBuf)>,
    /// The links to packages. Those to read files are added when the lists are read.
    package_links: BTreeMap<PathBuf, Owners>,
}

impl Sources {
    pub(super) fn of(plugins: &[PluginPackage]) -> Self {
        let mut sources = Self::default();
        for plugin in plugins {
            let own = |owners: &mut Owners| owners.insert(plugin.name.clone());
            for dir in &plugin.source_dirs {
                own(sources.packages.entry(real(dir)).or_default());
                for link in links_on(dir) {
                    own(sources.package_links.entry(link).or_default());
                }
            }
            own(sources.workspaces.entry(real(&plugin.workspace_root)).or_default());
            sources.target_dirs.insert(real(&plugin.target_dir));
            let included = (plugin.name.clone(), real(&plugin.dir), plugin.included.clone());
            sources.included.push(included);
            sources.lists.push((
                plugin.name.clone(),
                real(&reads::dir(plugin)).join(reads::list(plugin).file_name().unwrap_or_default()),
            ));
        }
        sources.read_lists();
        sources
    }

    /// Reads the lists of the files that builds have read again.
    pub(super) fn read_lists(&mut self) {
        self.read.clear();
        self.hashes.clear();
        self.links.clone_from(&self.package_links);
        let mut links_of_dirs: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
        // Plugins have read mostly the same files.
        let mut places: BTreeMap<PathBuf, [PathBuf; 2]> = BTreeMap::new();
        for (plugin, list) in &self.lists {
            for (path, hash) in reads::read(list) {
                let dir = path.parent().unwrap_or(&path).to_owned();
                // Both a link and its target count.
                let places =
                    places.entry(path).or_insert_with_key(|path| [resolved(path), real(path)]);
                let links = links_of_dirs.entry(dir).or_insert_with_key(|dir| links_on(dir));
                for link in links.iter() {
                    self.links.entry(link.clone()).or_default().insert(plugin.clone());
                }
                for path in places.clone() {
                    self.hashes.extend(hash.clone().map(|hash| (path.clone(), hash)));
                    self.read.entry(path).or_default().insert(plugin.clone());
                }
            }
        }
    }

    /// The files and directories that builds have read.
    pub(super) fn read(&self) -> impl Iterator<Item = &Path> {
        self.read.keys().map(PathBuf::as_path)
    }

    /// The links through which packages and read files are reached.
    pub(super) fn links(&self) -> impl Iterator<Item = &Path> {
        self.links.keys().map(PathBuf::as_path)
    }

    /// The plugins that are built from something that is reached through the link at `path`.
    pub(super) fn owners_of_link(&self, path: &Path) -> Option<&Owners> {
        self.links.get(path)
    }

    /// The files that builds have read, with the hash of what they read.
    pub(super) fn hashes(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.hashes.iter().map(|(path, hash)| (path.as_path(), hash.as_str()))
    }

    /// The directories of the lists.
    pub(super) fn list_dirs(&self) -> impl Iterator<Item = &Path> {
        self.lists.iter().filter_map(|(_, list)| list.parent())
    }

    pub(super) fn has_plugin(&self, name: &str) -> bool {
        self.lists.iter().any(|(plugin, _)| plugin == name)
    }

    pub(super) fn is_list(&self, path: &Path) -> bool {
        self.lists.iter().any(|(_, list)| list == path)
    }

    /// The plugins for which a build has read all files of a directory that contains `path`.
    pub(super) fn owners_of_read_dir(&self, path: &Path) -> Owners {
        let is_inside = |target: &PathBuf| path.starts_with(target);
        let name = path.file_name().unwrap_or_default();
        if is_of_editor(name) || name == "4913" || self.target_dirs.iter().any(is_inside) {
            return Owners::new();
        }
        // A hidden directory does not belong to the directory that it is in, unless it is read itself.
        let mut owners = Owners::new();
        for dir in path.ancestors().skip(1) {
            let read = self.read.get(dir);
            owners.extend(read.into_iter().flatten().cloned());
            if read.is_none() && is_hidden(dir) {
                break;
            }
        }
        owners
    }

    pub(super) fn packages(&self) -> impl Iterator<Item = &Path> {
        self.packages.keys().map(PathBuf::as_path)
    }

    /// The packages in `dir`, including `dir` if it is one itself.
    pub(super) fn packages_below<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = &'a Path> {
        self.packages().filter(move |package| package.starts_with(dir))
    }

    pub(super) fn workspaces(&self) -> impl Iterator<Item = &Path> {
        self.workspaces.keys().map(PathBuf::as_path)
    }

    /// The plugins that have to be built again when the file at `path` changes.
    pub(super) fn owners_of_file(&self, path: &Path) -> Owners {
        let mut owners = Owners::new();
        if is_source_file(path) {
            owners.extend(self.owners_of_dir(path));
        }
        if is_workspace_file(path) {
            let workspace = path.parent().and_then(|dir| self.workspaces.get(dir));
            owners.extend(workspace.into_iter().flatten().cloned());
        }
        owners.extend(self.read.get(path).into_iter().flatten().cloned());
        owners.extend(self.owners_of_read_dir(path));
        for (plugin, dir, included) in &self.included {
            if path.strip_prefix(dir).is_ok_and(|file| included.has(file)) {
                owners.insert(plugin.clone());
            }
        }
        owners
    }

    /// The plugins that are built from the package that contains `path`: the innermost one, if
    /// packages are nested.
    pub(super) fn owners_of_dir(&self, path: &Path) -> Owners {
        let owners = path.ancestors().find_map(|ancestor| self.packages.get(ancestor));
        owners.cloned().unwrap_or_default()
    }

    pub(super) fn all_owners(&self) -> Owners {
        self.packages.values().flatten().cloned().collect()
    }

    /// Whether `dir`, a directory inside a package, is searched for sources of that package.
    pub(super) fn enters(&self, dir: &Path) -> bool {
        let name = dir.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let beside_manifest =
            || dir.parent().is_some_and(|parent| parent.join("Cargo.toml").exists());
        let is_hidden = name.starts_with('.');
        // A module's directory can be called `target` too. Cargo puts the tag into its own.
        let is_target = self.target_dirs.contains(dir)
            || dir.join("CACHEDIR.TAG").exists()
            || (name == "target" && beside_manifest());
        let is_nested_package = dir.join("Cargo.toml").exists();
        !(is_hidden || is_target || is_nested_package)
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Whether a file is a Rust source or a manifest. Temporary files of editors are neither, even if their names
/// end in `.rs`.
fn is_source_file(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(OsStr::to_str) else { return false };
    !is_temporary(path) && (name.ends_with(".rs") || name == "Cargo.toml")
}

/// Whether a file is one that editors create for a moment.
fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.starts_with(['.', '#', '~']) || name.ends_with('~') || name == "4913"
}

/// The links on the way to a directory, itself included. A link whose target leads through other links counts with these.
fn links_on(dir: &Path) -> Vec<PathBuf> {
    let (mut links, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(path) = open.pop() {
        for ancestor in path.ancestors() {
            let Ok(target) = fs::read_link(ancestor) else { continue };
            let link = resolved(ancestor);
            // Links may lead to each other in a circle.
            if !links.contains(&link) {
                open.extend(link.parent().map(|dir| dir.join(target)));
                links.push(link);
            }
        }
    }
    links
}

fn is_workspace_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "Cargo.toml" || name == "Cargo.lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_files_and_manifests_are_sources() {
        for name in ["lib.rs", "build.rs", "Cargo.toml", "größe.rs"] {
            assert!(is_source_file(&Path::new("/plugin/src").join(name)), "{name}");
        }
    }

    #[test]
    fn temporary_files_of_editors_are_no_sources() {
        for name in [
            "lib.rs~",
            ".#lib.rs",
            "#lib.rs#",
            "4913",
            ".lib.rs.swp",
            ".lib.rs.swx",
            "lib.rs.tmp",
            ".lib.rs",
            "lib.rs.bck",
            "notes.md",
            "lib.rs___jb_tmp___",
        ] {
            assert!(!is_source_file(&Path::new("/plugin/src").join(name)), "{name}");
        }
    }

    #[test]
    fn a_file_belongs_to_the_nearest_package() {
        let sources = Sources::of(&[
            plugin("outer", &["/w", "/w/api"]),
            plugin("inner", &["/w/inner", "/w/api"]),
        ]);
        let owners = |path: &str| Vec::from_iter(sources.owners_of_file(Path::new(path)));
        assert_eq!(owners("/w/src/lib.rs"), ["outer"]);
        assert_eq!(owners("/w/inner/src/lib.rs"), ["inner"]);
        assert_eq!(owners("/w/api/src/deep/er.rs"), ["inner", "outer"]);
        assert!(owners("/elsewhere/lib.rs").is_empty());
    }

    #[test]
    fn the_workspaces_manifest_and_lock_file_belong_to_all() {
        let sources = Sources::of(&[plugin("cat", &["/w/cat"]), plugin("world", &["/w/world"])]);
        let owners = |path: &str| Vec::from_iter(sources.owners_of_file(Path::new(path)));
        assert_eq!(owners("/w/Cargo.toml"), ["cat", "world"]);
        assert_eq!(owners("/w/Cargo.lock"), ["cat", "world"]);
        assert_eq!(owners("/w/cat/Cargo.toml"), ["cat"]);
        assert!(owners("/w/cat/Cargo.lock").is_empty());
        assert!(owners("/w/lib.rs").is_empty());
    }

    fn plugin(name: &str, source_dirs: &[&str]) -> PluginPackage {
        PluginPackage {
            name: name.to_owned(),
            package_id: name.to_owned(),
            dir: source_dirs[0].into(),
            manifest_path: Path::new(source_dirs[0]).join("Cargo.toml"),
            workspace_root: "/w".into(),
            target_dir: "/w/target".into(),
            source_dirs: source_dirs.iter().map(PathBuf::from).collect(),
            included: IncludedFiles::default(),
            configurations: Vec::new(),
            package_count: 1,
            api_path: None,
        }
    }
}
