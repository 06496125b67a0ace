//! Notices of the system that a directory has changed, so that nobody need look again and again.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// Directories that are watched. Files below their subdirectories do not count.
pub(crate) struct WatchedDirs {
    /// `None` if the system has no more watchers.
    watcher: Option<RecommendedWatcher>,
    dirs: Vec<WatchedDir>,
}

struct WatchedDir {
    path: PathBuf,
    /// The device and the inode of the directory that is watched; `None` if none is.
    watched: Option<(u64, u64)>,
}

impl WatchedDirs {
    /// Watches directories, and calls `on_change` at each change of one of them.
    pub fn new(
        dirs: impl IntoIterator<Item = PathBuf>,
        on_change: impl Fn() + Send + 'static,
    ) -> Self {
        // Reads of the files do not count.
        let is_change = |kind: EventKind| kind.is_create() || kind.is_modify() || kind.is_remove();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| is_change(event.kind)) {
                on_change();
            }
        });
        let dirs = dirs.into_iter().map(|path| WatchedDir { path, watched: None });
        let mut watched = Self { watcher: watcher.ok(), dirs: dirs.collect() };
        watched.renew();
        watched
    }

    /// Watches directories that have appeared, or that have replaced a watched one. Returns whether all are watched:
    /// if not, their content has to be looked at again soon.
    pub fn renew(&mut self) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        for WatchedDir { path, watched } in &mut self.dirs {
            let there = identity(path);
            if *watched != there {
                if watched.take().is_some() {
                    // The watch of a directory that is gone may be gone, too.
                    let _ = watcher.unwatch(path);
                }
                *watched =
                    there.filter(|_| watcher.watch(path, RecursiveMode::NonRecursive).is_ok());
            }
        }
        self.dirs.iter().all(|dir| dir.watched.is_some())
    }
}

fn identity(dir: &Path) -> Option<(u64, u64)> {
    let dir = fs::metadata(dir).ok()?;
    Some((dir.dev(), dir.ino()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_directory_is_watched_again_after_it_was_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("dir");
        let changed = Arc::new(Notify::new());
        let notify = Arc::clone(&changed);
        let mut watched = WatchedDirs::new([dir.clone()], move || notify.notify_one());
        assert!(!watched.renew(), "the directory does not exist");
        for name in ["one", "two"] {
            fs::create_dir(&dir).unwrap();
            assert!(watched.renew());
            fs::write(dir.join(name), "").unwrap();
            changed.notified().await;
            fs::rename(&dir, parent.path().join(name)).unwrap();
            assert!(!watched.renew());
        }
    }
}
