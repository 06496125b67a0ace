//! The lock by which only one build at a time uses a target directory, even among several processes.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::{BuildError, BuildMessage, Cancel};

/// How often a waiting build checks whether it was cancelled. No other thread could end a blocking
/// wait for the lock.
const WAITING_STEP: Duration = Duration::from_millis(20);

/// The lock of a target directory. A build holds it until it has read the library and updated the record, so
/// that no other build replaces them earlier.
///
/// Cargo's own lock ends with cargo, and two consoles that watch the same workspace always build at the same
/// moment. The system releases this lock together with the file, even if the process dies.
pub(super) struct BuildLock {
    _file: File,
}

impl BuildLock {
    pub(super) fn acquire(
        target_dir: &Path,
        plugin: &str,
        cancel: &Cancel,
        on_message: &mut dyn FnMut(BuildMessage),
    ) -> Result<Self, BuildError> {
        mark(target_dir);
        let path = target_dir.join("build.lock");
        let failed = |error: io::Error| {
            BuildError::setup(format!(
                "`{plugin}`: cannot lock {}: {error}; make the target directory writable, or set another one with \
                 `CARGO_TARGET_DIR`",
                path.display()
            ))
            .because(error)
        };
        let file = open(&path).map_err(failed)?;
        let mut waiting = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => return Err(no_locks(plugin, &path, error)),
                Err(TryLockError::WouldBlock) if cancel.is_cancelled() => {
                    return Err(BuildError::cancelled(plugin));
                }
                Err(TryLockError::WouldBlock) => {}
            }
            if !waiting {
                waiting = true;
                let text =
                    format!("`{plugin}` waits for another build in {}", target_dir.display());
                on_message(BuildMessage::Output(text));
            }
            thread::sleep(WAITING_STEP);
        }
    }
}

/// The error for a directory whose file system does not support locks.
fn no_locks(plugin: &str, path: &Path, error: io::Error) -> BuildError {
    BuildError::setup(format!(
        "`{plugin}`: cannot lock {}: {error}; on a mount without locks (`flock`), such as some NFS and FUSE mounts, builds \
         would disturb each other: set a target directory on another mount with `CARGO_TARGET_DIR`",
        path.display()
    ))
    .because(error)
}

/// Marks a directory of cargo's builds in the way in which cargo marks the directories that it creates, so
/// that backups and searches for sources skip it. The directory above is used by the workspace's own builds.
fn mark(target_dir: &Path) {
    const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
                       # This file is a cache directory tag; see https://bford.info/cachedir/\n";
    for dir in target_dir.parent().into_iter().chain([target_dir]) {
        // The build works without it.
        let _ = fs::create_dir_all(dir).and_then(|()| {
            let mut tag =
                File::options().write(true).create_new(true).open(dir.join("CACHEDIR.TAG"))?;
            tag.write_all(TAG.as_bytes())
        });
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    File::options().create(true).write(true).truncate(false).open(path)
}
