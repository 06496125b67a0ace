//! The directories that are watched, kept in step with those that exist.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::watch::sources::Sources;

/// One watch for each directory. Watching recursively would take in target directories, with
/// their thousands of directories, and miss what is written into a new directory before its
/// watch is there.
pub(super) struct Tree {
    watcher: RecommendedWatcher,
    sources: Sources,
    watched: BTreeSet<PathBuf>,
}

impl Tree {
    pub(super) fn new(watcher: RecommendedWatcher, sources: Sources) -> Self {
        Self { watcher, sources, watched: BTreeSet::new() }
    }

    /// Watches whatever there is to watch and is not watched yet.
    ///
    /// In place of a package that is not there, as while another branch is checked out, its
    /// nearest ancestor is watched.
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
        }
        Ok(())
    }

    /// Takes note of what changed, and whether it was saved, and answers which plugins that
    /// concerns. The sources of those that are in the middle of a save are kept in `open`.
    pub(super) fn absorb(
        &mut self,
        paths: BTreeMap<PathBuf, bool>,
        overflow: bool,
        open: &mut BTreeSet<PathBuf>,
    ) -> BTreeSet<String> {
        let mut owners = BTreeSet::new();
        for (path, is_saved) in paths {
            if path.is_dir() {
                owners.extend(self.enter(&path));
                continue;
            }
            let owners_of_path = match self.watched.contains(&path) {
                true => self.leave(&path),
                false => self.sources.owners_of_file(&path),
            };
            if is_saved {
                open.remove(&path);
            } else if !owners_of_path.is_empty() {
                open.insert(path);
            }
            owners.extend(owners_of_path);
        }
        if overflow {
            self.watch_again();
            owners.extend(self.sources.all_owners());
        }
        owners
    }

    /// A directory appeared, or another one in its place.
    fn enter(&mut self, dir: &Path) -> BTreeSet<String> {
        let packages: Vec<_> = self.sources.packages_below(dir).map(Path::to_owned).collect();
        if !packages.is_empty() {
            self.watch_again();
            return packages.iter().flat_map(|dir| self.sources.owners_of_dir(dir)).collect();
        }
        // What lies in a workspace beside its packages, or in a directory that is not watched
        // itself, belongs to nobody.
        let owners = self.sources.owners_of_dir(dir);
        let is_beside_sources = dir.parent().is_some_and(|parent| self.watched.contains(parent));
        if owners.is_empty() || !is_beside_sources || !self.sources.enters(dir) {
            return BTreeSet::new();
        }
        match self.watch_below(dir) {
            Ok(true) => owners,
            _ => BTreeSet::new(),
        }
    }

    /// A watched directory is gone, with all its sources.
    fn leave(&mut self, dir: &Path) -> BTreeSet<String> {
        let is_below = |path: &&PathBuf| path.starts_with(dir);
        for gone in self.watched.iter().filter(is_below).cloned().collect::<Vec<_>>() {
            // The system has dropped the watch of a removed directory, not that of a moved one.
            let _ = self.watcher.unwatch(&gone);
            self.watched.remove(&gone);
        }
        self.watch_again();
        self.sources.owners_of_dir(dir)
    }

    /// Once running, there is nobody to tell that a directory could not be watched; the next
    /// change beside it tries again.
    fn watch_again(&mut self) {
        let _ = self.watch_all();
    }

    /// Watches a directory and those below it that belong to the same package, and answers
    /// whether there are sources in them.
    fn watch_below(&mut self, dir: &Path) -> notify::Result<bool> {
        let mut has_sources = false;
        // Links may make a directory reachable twice, or from itself.
        let mut seen = HashSet::new();
        let mut open = vec![dir.to_owned()];
        while let Some(dir) = open.pop() {
            if !fs::canonicalize(&dir).is_ok_and(|real| seen.insert(real)) {
                continue;
            }
            // Only a watched directory can be read without missing what comes next.
            self.watch(&dir)?;
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    open.extend(Some(path).filter(|path| self.sources.enters(path)));
                } else {
                    has_sources |= !self.sources.owners_of_file(&path).is_empty();
                }
            }
        }
        Ok(has_sources)
    }

    fn watch(&mut self, dir: &Path) -> notify::Result<()> {
        match self.watcher.watch(dir, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(dir.to_owned());
                Ok(())
            }
            // It was removed just now, and its parent's watch has told or will tell.
            Err(_) if !dir.exists() => Ok(()),
            Err(error) => Err(error),
        }
    }
}
