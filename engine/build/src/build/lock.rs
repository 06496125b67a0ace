//! One build in a target directory at a time, whoever asks for it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::{BuildError, BuildMessage, Cancel};

/// How often a build that has to wait looks whether it was cancelled. A lock cannot be waited for
/// in a way that another thread could end.
const WAITING_STEP: Duration = Duration::from_millis(20);

/// Keeps what was made from being replaced until it has been read, and what is remembered of it
/// with it.
///
/// Cargo's own lock ends with cargo, and two consoles that watch one workspace build at the same
/// moment by nature. The system releases the lock with the file, also when the process dies.
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
        let path = target_dir.join("build.lock");
        let failed = |error: io::Error| {
            BuildError::setup(format!("`{plugin}`: cannot lock {}: {error}", path.display()))
        };
        let file = open(&path).map_err(failed)?;
        let mut waiting = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
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

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    File::options().create(true).write(true).truncate(false).open(path)
}
