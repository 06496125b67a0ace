//! Directories that outlive a run, so that their content is compiled only once. Each is used by one test at a
//! time. There are two of each kind, so two tests can run at a time.

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{process::target_dir, seed::seed};

/// How many directories of each kind exist. Each is compiled separately.
const SLOTS: usize = 2;

/// A directory that is in use until this is dropped.
pub struct Slot {
    pub dir: PathBuf,
    /// Its target directory.
    pub target_dir: PathBuf,
    lock: File,
}

/// While this lives, no other directory is built for the first time in this run.
pub struct FirstBuild {
    _lock: MutexGuard<'static, ()>,
}

impl Slot {
    /// Waits for a directory of this kind.
    pub fn of(kind: &str) -> Self {
        let slot = Self::free(kind);
        seed(&slot.target_dir);
        slot
    }

    /// `None` if it was built in this run. Each directory takes over what the others have compiled before, instead of
    /// compiling the same beside them.
    pub fn first_build(&self) -> Option<FirstBuild> {
        static BUILT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
        static ONE: Mutex<()> = Mutex::new(());
        let built = || BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        if built().contains(&self.dir) {
            return None;
        }
        let lock = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        built().insert(self.dir.clone());
        seed(&self.target_dir);
        Some(FirstBuild { _lock: lock })
    }

    fn free(kind: &str) -> Self {
        static WAITING: AtomicUsize = AtomicUsize::new(0);
        let parent = target_dir().join("e2e");
        fs::create_dir_all(&parent).expect("make a directory");
        let slot = |number| {
            let dir = parent.join(format!("{kind}-{number}"));
            let lock = File::create(dir.with_extension("lock")).expect("make a lock");
            Self { target_dir: dir.join("target"), dir, lock }
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
