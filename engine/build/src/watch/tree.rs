//! The watched directories. They are kept up to date with the directories that exist.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use notify::{RecursiveMode, Watcher};

use crate::reads;
use crate::real_path::resolved;
use crate::watch::sources::Sources;

/// One watch for each directory. A recursive watch would include target directories, which have
/// thousands of subdirectories, and would miss files that are written into a new directory before it
/// is watched.
pub(super) struct Tree {
    watcher: Box<dyn Watcher + Send>,
    rewatch: Rewatch,
    sources: Sources,
    watched: BTreeSet<PathBuf>,
    /// Whether a build has written its list of read files, which was not read yet.
    has_new_lists: bool,
    /// The hash of each source when it was last read, by its path without links; `None` if there is no file.
    known: HashMap<PathBuf, Option<blake3::Hash>>,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("watched", &self.watched).finish_non_exhaustive()
    }
}

/// Whether to watch a directory again that is already watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rewatch {
    /// Another directory may have replaced it, and the system watches directories, not paths.
    Always,
    /// Its path is scanned at intervals. Starting again would lose the changes since the last scan.
    Never,
}

/// The sources and directories that a burst of changes has touched.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// The plugins with directories that were added or removed.
    pub owners: BTreeSet<String>,
    /// The sources that were written, with the plugins that are built from them. Their content may be the
    /// same as before.
    pub files: BTreeMap<PathBuf, BTreeSet<String>>,
}

impl Touched {
    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty() && self.files.is_empty()
    }

    pub(super) fn extend(&mut self, more: Self) {
        self.owners.extend(more.owners);
        self.files.extend(more.files);
    }
}

impl Tree {
    pub(super) fn new(
        watcher: Box<dyn Watcher + Send>,
        rewatch: Rewatch,
        sources: Sources,
    ) -> Self {
        Self {
            watcher,
            rewatch,
            sources,
            watched: BTreeSet::new(),
            has_new_lists: false,
            known: HashMap::new(),
        }
    }

    /// From now on, files belong to the plugins of `sources`. What belonged to other plugins stays watched, and
    /// belongs to none.
    pub(super) fn replace_sources(&mut self, sources: Sources) {
        self.sources = sources;
    }

    /// The plugins that have to be built again when the file at `path` changes.
    pub(super) fn owners_of(&self, path: &Path) -> BTreeSet<String> {
        self.sources.owners_of_file(path)
    }

    /// Whether the sources of the plugin with this name are watched.
    pub(super) fn is_watched_for(&self, name: &str) -> bool {
        self.sources.has_plugin(name)
    }

    /// Watches all directories of sources that are not watched yet.
    ///
    /// In place of a package that does not exist, as while another branch is checked out, its nearest
    /// existing ancestor is watched.
    pub(super) fn watch_all(&mut self) -> notify::Result<()> {
        let packages: Vec<_> = self.sources.packages().map(Path::to_owned).collect();
        for dir in packages {
            if dir.is_dir() {
                self.watch_below(&dir)?;
            } else if let Some(ancestor) = dir.ancestors().find(|ancestor| ancestor.is_dir()) {
                self.watch(ancestor)?;
            }
        }
        let workspaces: Vec<_> = self.sources.workspaces().map(Path::to_owned).collect();
        for dir in workspaces.iter().filter(|dir| dir.is_dir()) {
            self.watch(dir)?;
            for name in ["Cargo.toml", "Cargo.lock"] {
                self.remember_content(&dir.join(name));
            }
        }
        self.watch_read()
    }

    /// Watches the files that builds have read, and the lists of these files.
    fn watch_read(&mut self) -> notify::Result<()> {
        let lists: BTreeSet<_> = self.sources.list_dirs().map(Path::to_owned).collect();
        for dir in lists.iter().filter(|dir| dir.is_dir()) {
            self.watch(dir)?;
        }
        let links: BTreeSet<_> = self.sources.links().filter_map(Path::parent).collect();
        let links: Vec<_> = links.into_iter().map(Path::to_owned).collect();
        for dir in links.iter().filter(|dir| dir.is_dir()) {
            self.watch(dir)?;
        }
        for path in self.sources.read().map(Path::to_owned).collect::<Vec<_>>() {
            if path.is_dir() {
                self.watch_below(&path)?;
            } else if let Some(dir) = path.ancestors().skip(1).find(|dir| dir.is_dir()) {
                self.watch(dir)?;
                if path.parent() == Some(dir) {
                    self.remember_content(&path);
                }
            }
        }
        Ok(())
    }

    /// Reads the content of a source, if it is not known yet.
    fn remember_content(&mut self, path: &Path) {
        self.known.entry(resolved(path)).or_insert_with_key(|path| content(path));
    }

    /// Whether the content of a source differs from when it was last read.
    pub(super) fn has_changed(&mut self, path: &Path) -> bool {
        let now = content(path);
        let before = self.known.insert(path.to_owned(), now);
        before.flatten() != now
    }

    /// Updates the watches after changes, and returns what they touched.
    ///
    /// `paths` says of each changed path whether it was saved. The sources whose save is not finished
    /// are kept in `open`.
    pub(super) fn apply(
        &mut self,
        paths: BTreeMap<PathBuf, bool>,
        overflow: bool,
        open: &mut BTreeSet<PathBuf>,
    ) -> Touched {
        let mut touched = Touched::default();
        for (path, is_saved) in paths {
            let real = resolved(&path);
            if let Some(owners) = self.sources.owners_of_link(&real) {
                touched.owners.extend(owners.iter().cloned());
                // What is reached through the link may be elsewhere now.
                self.has_new_lists = true;
            }
            if self.sources.is_list(&real) {
                self.has_new_lists = true;
            } else if path.is_dir() {
                touched.files.extend(self.read_in(&real));
                touched.owners.extend(self.enter(&path));
            } else if self.watched.contains(&path) {
                touched.owners.extend(self.leave(&path));
            } else {
                let mut owners = self.sources.owners_of_file(&real);
                owners.extend(self.sources.owners_of_file(&path));
                if is_saved {
                    open.remove(&real);
                } else if !owners.is_empty() {
                    open.insert(real.clone());
                }
                if !owners.is_empty() {
                    touched.files.insert(real, owners);
                }
            }
        }
        if overflow {
            self.watch_again();
            touched.owners.extend(self.sources.all_owners());
        }
        touched
    }

    /// Whether lists of read files wait to be read.
    pub(super) fn has_new_lists(&self) -> bool {
        self.has_new_lists
    }

    /// Reads the lists of read files again, and watches the files. Returns those that may have changed since.
    pub(super) fn reread_lists(&mut self) -> Touched {
        self.has_new_lists = false;
        self.sources.read_lists();
        let touched = self.compare_with_reads();
        self.watch_again();
        touched
    }

    /// Called when `dir` appeared. Returns the files in it that a build has looked for. While `dir` was
    /// missing, it could not be watched.
    fn read_in(&mut self, dir: &Path) -> BTreeMap<PathBuf, BTreeSet<String>> {
        let read = self.sources.read().filter(|path| path.parent() == Some(dir));
        let read: Vec<_> = read.map(Path::to_owned).collect();
        for path in &read {
            self.known.entry(path.clone()).or_insert(None);
        }
        if !read.is_empty() {
            self.watch_again();
        }
        let owned = read.into_iter().map(|path| {
            let owners = self.sources.owners_of_file(&path);
            (path, owners)
        });
        owned.collect()
    }

    /// The files that a build has read and that were not watched yet, so they may have changed since. Watched
    /// files are not compared, because their changes are reported.
    fn compare_with_reads(&mut self) -> Touched {
        let mut touched = Touched::default();
        let hashes = self.sources.hashes().filter(|(path, _)| !self.known.contains_key(*path));
        let new: Vec<_> = hashes
            .filter_map(|(path, hash)| {
                let hash = match hash {
                    reads::ABSENT => None,
                    hash => Some(blake3::Hash::from_hex(hash).ok()?),
                };
                Some((path.to_owned(), hash))
            })
            .filter(|(path, _)| !path.is_dir())
            .collect();
        for (path, hash) in new {
            touched.files.insert(path.clone(), self.sources.owners_of_file(&path));
            self.known.insert(path, hash);
        }
        touched
    }

    /// Called when `dir` appeared, possibly in place of another directory. Returns the plugins whose
    /// sources it contains.
    fn enter(&mut self, dir: &Path) -> BTreeSet<String> {
        let packages: Vec<_> = self.sources.packages_below(dir).map(Path::to_owned).collect();
        if !packages.is_empty() {
            self.known.retain(|path, _| !path.starts_with(dir));
            self.watch_again();
            return packages.iter().flat_map(|dir| self.sources.owners_of_dir(dir)).collect();
        }
        // A directory beside the packages of a workspace, or in a directory that is not watched,
        // belongs to no plugin.
        let mut owners = self.sources.owners_of_dir(dir);
        owners.extend(self.sources.owners_of_read_dir(dir));
        let is_beside_sources = dir.parent().is_some_and(|parent| self.watched.contains(parent));
        if owners.is_empty() || !is_beside_sources || !self.sources.enters(dir) {
            return BTreeSet::new();
        }
        self.known.retain(|path, _| !path.starts_with(dir));
        match self.watch_below(dir) {
            Ok(true) => owners,
            _ => BTreeSet::new(),
        }
    }

    /// Called when the watched directory `dir` is gone. Returns the plugins whose sources, and whose files that a build
    /// has read, it contained.
    fn leave(&mut self, dir: &Path) -> BTreeSet<String> {
        let is_below = |path: &&PathBuf| path.starts_with(dir);
        for gone in self.watched.iter().filter(is_below).cloned().collect::<Vec<_>>() {
            // The system drops the watch of a removed directory, but not that of a moved one.
            let _ = self.watcher.unwatch(&gone);
            self.watched.remove(&gone);
        }
        let mut owners = self.sources.owners_of_dir(dir);
        owners.extend(self.sources.owners_of_read_dir(dir));
        let gone =
            self.known.iter().filter(|(path, content)| path.starts_with(dir) && content.is_some());
        owners.extend(gone.flat_map(|(path, _)| self.sources.owners_of_file(path)));
        self.known.retain(|path, _| !path.starts_with(dir));
        self.watch_again();
        owners
    }

    /// Watches everything that is not watched yet. An error cannot be reported from here; the next change
    /// tries again.
    fn watch_again(&mut self) {
        let _ = self.watch_all();
    }

    /// Watches `dir` and the directories below it that belong to the same package. Returns whether
    /// they contain sources.
    fn watch_below(&mut self, dir: &Path) -> notify::Result<bool> {
        let mut has_sources = false;
        // Links can lead to a directory twice, or from a directory to itself.
        let mut seen = HashSet::new();
        let mut open = vec![dir.to_owned()];
        while let Some(dir) = open.pop() {
            if !fs::canonicalize(&dir).is_ok_and(|real| seen.insert(real)) {
                continue;
            }
            // The watch comes first, so that no file that appears after reading is missed.
            self.watch(&dir)?;
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    open.extend(Some(path).filter(|path| self.sources.enters(path)));
                } else if !self.sources.owners_of_file(&path).is_empty() {
                    has_sources = true;
                    self.remember_content(&path);
                }
            }
        }
        Ok(has_sources)
    }

    fn watch(&mut self, dir: &Path) -> notify::Result<()> {
        if self.rewatch == Rewatch::Never && self.watched.contains(dir) {
            return Ok(());
        }
        match self.watcher.watch(dir, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(dir.to_owned());
                Ok(())
            }
            // The directory was removed just now, which the watch of its parent reports.
            Err(_) if !dir.exists() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The hash of a file's content; `None` if there is no file that can be read.
fn content(path: &Path) -> Option<blake3::Hash> {
    fs::read(path).ok().map(|bytes| blake3::hash(&bytes))
}
