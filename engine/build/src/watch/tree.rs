//! The watched directories, which are kept in step with those that exist.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::watch::sources::Sources;

/// One watch for each directory. A recursive watch would include target directories, which have
/// thousands of subdirectories, and would miss files that are written into a new directory before it
/// is watched.
pub(super) struct Tree {
    watcher: RecommendedWatcher,
    sources: Sources,
    watched: BTreeSet<PathBuf>,
}

impl Tree {
    pub(super) fn new(watcher: RecommendedWatcher, sources: Sources) -> Self {
        Self { watcher, sources, watched: BTreeSet::new() }
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
        }
        Ok(())
    }

    /// Updates the watches after changes, and returns the plugins whose sources changed.
    ///
    /// `paths` says of each changed path whether it was saved. The sources whose save is not finished
    /// are kept in `open`.
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

    /// Called when `dir` appeared, possibly in place of another directory. Returns the plugins whose
    /// sources it contains.
    fn enter(&mut self, dir: &Path) -> BTreeSet<String> {
        let packages: Vec<_> = self.sources.packages_below(dir).map(Path::to_owned).collect();
        if !packages.is_empty() {
            self.watch_again();
            return packages.iter().flat_map(|dir| self.sources.owners_of_dir(dir)).collect();
        }
        // A directory beside the packages of a workspace, or in a directory that is not watched,
        // belongs to no plugin.
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

    /// Called when the watched directory `dir` is gone. Returns the plugins whose sources it contained.
    fn leave(&mut self, dir: &Path) -> BTreeSet<String> {
        let is_below = |path: &&PathBuf| path.starts_with(dir);
        for gone in self.watched.iter().filter(is_below).cloned().collect::<Vec<_>>() {
            // The system drops the watch of a removed directory, but not that of a moved one.
            let _ = self.watcher.unwatch(&gone);
            self.watched.remove(&gone);
        }
        self.watch_again();
        self.sources.owners_of_dir(dir)
    }

    /// Watches what is not watched yet. An error cannot be reported to anybody from here; the next
    /// change tries again.
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
            // It was removed just now, which the watch of its parent reports.
            Err(_) if !dir.exists() => Ok(()),
            Err(error) => Err(error),
        }
    }
}
