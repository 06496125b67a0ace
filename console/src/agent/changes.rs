//! Notices of the system that a directory has changed, so that nobody need look again and again.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use tokio::net::unix::pipe::Receiver;
use tokio_util::task::AbortOnDropHandle;

/// The size of the buffer for events, in bytes. Their content does not matter.
const EVENTS: usize = 4096;

/// A directory was moved or removed.
const ITSELF: WatchFlags =
    WatchFlags::MOVE_SELF.union(WatchFlags::DELETE_SELF).union(WatchFlags::ONLYDIR);
/// A file in a directory was changed. Reads do not count.
const CONTENT: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB);

/// Directories that are watched. Files below their subdirectories do not count.
pub(crate) struct WatchedDirs {
    dirs: Vec<PathBuf>,
    /// The directories that were there when the watch began.
    watched: Vec<Option<Identity>>,
    on_change: Arc<dyn Fn() + Send + Sync>,
    /// Waits for notices; `None` if the system has no more watchers.
    waits: Option<AbortOnDropHandle<()>>,
}

/// The device and the inode of a directory.
type Identity = (u64, u64);

impl WatchedDirs {
    /// Watches directories, and calls `on_change` after changes of one of them, also if it was moved or replaced
    /// together with a directory that contains it.
    pub fn new(
        dirs: impl IntoIterator<Item = PathBuf>,
        on_change: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let absolute = |dir: PathBuf| std::path::absolute(&dir).unwrap_or(dir);
        let mut watched = Self {
            dirs: dirs.into_iter().map(absolute).collect(),
            watched: Vec::new(),
            on_change: Arc::new(on_change),
            waits: None,
        };
        watched.renew();
        watched
    }

    /// Watches directories that have appeared, or that have replaced a watched one. Returns whether all are watched:
    /// if not, their content has to be looked at again soon.
    pub fn renew(&mut self) -> bool {
        let there: Vec<Option<Identity>> = self.dirs.iter().map(|dir| identity(dir)).collect();
        if self.waits.is_none() || self.watched != there {
            self.waits = self.watch().ok();
            self.watched = there;
        }
        self.waits.is_some() && self.watched.iter().all(Option::is_some)
    }

    fn watch(&self) -> io::Result<AbortOnDropHandle<()>> {
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        for dir in &self.dirs {
            match add_watch(&inotify, dir, ITSELF | CONTENT | WatchFlags::MASK_ADD) {
                Err(rustix::io::Errno::NOENT) => {}
                added => drop(added?),
            }
            for outer in dir.ancestors().skip(1) {
                // A directory that this user may not list is not watched.
                let _ = add_watch(&inotify, outer, ITSELF | WatchFlags::MASK_ADD);
            }
        }
        let notices = Receiver::from_owned_fd_unchecked(inotify)?;
        let on_change = Arc::clone(&self.on_change);
        let waits = tokio::spawn(async move {
            while notices.readable().await.is_ok() {
                match notices.try_read(&mut [0; EVENTS]) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                    Ok(_) => on_change(),
                }
            }
        });
        Ok(AbortOnDropHandle::new(waits))
    }
}

fn identity(dir: &Path) -> Option<Identity> {
    let dir = fs::metadata(dir).ok()?;
    Some((dir.dev(), dir.ino()))
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;

    /// A directory two levels below another one, and the notices of its changes.
    fn watched() -> (tempfile::TempDir, PathBuf, WatchedDirs, Arc<Notify>) {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("outer/dir");
        let changed = Arc::new(Notify::new());
        let notify = Arc::clone(&changed);
        let watched = WatchedDirs::new([dir.clone()], move || notify.notify_one());
        (top, dir, watched, changed)
    }

    #[tokio::test]
    async fn a_directory_is_watched_again_after_it_was_replaced() {
        let (top, dir, mut watched, changed) = watched();
        assert!(!watched.renew(), "the directory does not exist");
        for name in ["one", "two"] {
            fs::create_dir_all(&dir).unwrap();
            assert!(watched.renew());
            fs::write(dir.join(name), "").unwrap();
            changed.notified().await;
            fs::rename(&dir, top.path().join(name)).unwrap();
            assert!(!watched.renew());
        }
    }

    #[tokio::test]
    async fn a_directory_is_noticed_that_moves_with_the_one_around_it() {
        let (top, dir, mut watched, changed) = watched();
        fs::create_dir_all(&dir).unwrap();
        assert!(watched.renew());
        fs::rename(top.path().join("outer"), top.path().join("away")).unwrap();
        changed.notified().await;
        assert!(!watched.renew());
    }
}
