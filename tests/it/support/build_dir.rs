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
const DIRS_OF_A_KIND: usize = 2;

/// A directory that no other test uses until this is dropped.
pub struct BuildDir {
    pub dir: PathBuf,
    /// Its target directory.
    pub target_dir: PathBuf,
    lock: File,
}

/// While this lives, no other directory is built for the first time in this run.
pub struct FirstBuild {
    _lock: MutexGuard<'static, ()>,
}

impl BuildDir {
    /// Takes a directory of this kind; waits while other tests use all of them.
    pub fn take(kind: &str) -> Self {
        let build_dir = Self::take_free(kind);
        seed(&build_dir.target_dir);
        build_dir
    }

    /// Waits until no other directory is built for the first time, and copies what the others have compiled. `None` if
    /// this directory was built in this run already.
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

    fn take_free(kind: &str) -> Self {
        static WAITING: AtomicUsize = AtomicUsize::new(0);
        let parent = target_dir().join("e2e");
        fs::create_dir_all(&parent).expect("make a directory");
        let build_dir = |number| {
            let dir = parent.join(format!("{kind}-{number}"));
            let lock = File::create(dir.with_extension("lock")).expect("make a lock");
            Self { target_dir: dir.join("target"), dir, lock }
        };
        for number in 0..DIRS_OF_A_KIND {
            let build_dir = build_dir(number);
            match build_dir.lock.try_lock() {
                Ok(()) => return build_dir,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => panic!("lock a directory: {error}"),
            }
        }
        let build_dir = build_dir(WAITING.fetch_add(1, Ordering::Relaxed) % DIRS_OF_A_KIND);
        build_dir.lock.lock().expect("lock a directory");
        build_dir
    }
}
