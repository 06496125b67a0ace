//! Directories that outlive a run, so that their content is compiled only once. Each is used by one test at a
//! time. There are two of each kind, so two tests can run at a time.

use std::{
    fs::{self, File, TryLockError},
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::process::target_dir;

/// How many directories of each kind exist. Each is compiled separately.
pub const SLOTS: usize = 2;

/// A directory that is in use until this is dropped.
pub struct Slot {
    pub number: usize,
    pub dir: PathBuf,
    lock: File,
}

impl Slot {
    /// Waits for a directory of this kind.
    pub fn of(kind: &str) -> Self {
        static WAITING: AtomicUsize = AtomicUsize::new(0);
        let parent = target_dir().join("e2e");
        fs::create_dir_all(&parent).expect("make a directory");
        let slot = |number| {
            let dir = parent.join(format!("{kind}-{number}"));
            let lock = File::create(dir.with_extension("lock")).expect("make a lock");
            Self { number, dir, lock }
        };
        for number in 0..SLOTS {
            let slot = slot(number);
            match slot.lock.try_lock() {
                Ok(()) => return slot,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => panic!("lock a directory: {error}"),
            }
        }
        let slot = slot(WAITING.fetch_add(1, Ordering::Relaxed) % SLOTS);
        slot.lock.lock().expect("lock a directory");
        slot
    }
}
