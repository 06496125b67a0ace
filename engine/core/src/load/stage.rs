//! Copies artifacts into a private directory, from where alone they are loaded.
//!
//! The loader answers with the old image when it knows a path or an inode, and a file that is
//! overwritten while it is mapped kills the process. So every load gets a copy of its own, under a
//! name that was never used before in this process. That copy is what is inspected: what was checked
//! is what is loaded, whatever becomes of the file it came from.

use std::{
    env, fs,
    fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use hotswap_protocol::PluginName;
use memmap2::MmapOptions;

use crate::{
    EngineError, LoadCause, Step,
    artifact::{self, Facts},
    image::{Copied, Named},
    load::find::{Found, file_name},
    runtime_dir::runtime_dir,
};

/// No plugin is larger; a larger file is a mistake, and not worth the memory to find out.
const MAX_FILE_BYTES: u64 = 2 << 30;

/// The name of the file in a staging directory that its owner keeps locked while it lives.
const LOCK: &str = "owner.lock";

/// This process's staging directory. Dropping it removes it.
pub(crate) struct Staging {
    dir: PathBuf,
    lock: File,
}

/// A copy of an artifact, of which nothing is known yet.
pub(crate) struct Staged {
    found: Found,
    copy: Copied,
    content: File,
}

/// An artifact whose copy was inspected.
pub(crate) struct Inspected {
    pub found: Found,
    pub facts: Facts,
    copy: Copied,
}

impl Staging {
    /// Makes a directory for this process, and removes those whose owners are gone.
    pub fn new() -> Result<Self, EngineError> {
        let parent = runtime_dir(Some("stage"))?;
        remove_orphans(&parent);
        let made = make_own(&parent).map_err(|error| EngineError::Setup {
            what: "cannot make a staging directory in".into(),
            path: parent.clone(),
            error,
        });
        made.map(|(dir, lock)| Self { dir, lock })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Removes the directory, if it still is the one that was made; nothing is staged or mapped any more.
    pub fn remove(&self) {
        if is_at(&self.lock, &self.dir.join(LOCK)) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    /// Copies an artifact.
    pub fn stage(&self, found: Found) -> Result<Staged, EngineError> {
        let failed = |what: &str, error: io::Error| {
            let message = format!("cannot {what}: {error}");
            let refused = EngineError::load(file_name(&found.path), Step::Stage, message);
            refused.because(LoadCause::Io(error))
        };
        let source = open(&found).map_err(|error| failed("read it", error))?;
        let copied = self.copy(source, found.identity.size);
        let (copy, content) = copied
            .map_err(|error| failed(&format!("copy it into {}", self.dir.display()), error))?;
        Ok(Staged { found, copy, content })
    }

    fn copy(&self, source: File, size: u64) -> io::Result<(Copied, File)> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let copy = Copied::at(self.dir.join(format!("{count}.copy")));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let mut file = options.open(copy.path())?;
        // One byte more than there was says that there is more now.
        let copied = io::copy(&mut source.take(size + 1), &mut file)?;
        if copied != size {
            return Err(io::Error::other("it is being written to"));
        }
        Ok((copy, file))
    }

    /// Gives the copy the name that version `version` will be loaded by; it starts with the plugin's.
    pub fn name(&self, inspected: &Inspected, version: u32) -> Result<Named, EngineError> {
        let Inspected { facts, copy, .. } = inspected;
        let named = self.dir.join(format!(
            "{}-v{version}-{:.8}.{}",
            facts.name,
            facts.build_id.to_string(),
            env::consts::DLL_EXTENSION
        ));
        if let Err(error) = fs::rename(copy.path(), &named) {
            let message = format!("cannot rename its copy to {}: {error}", named.display());
            let refused = EngineError::load(&facts.name, Step::Stage, message);
            return Err(refused.because(LoadCause::Io(error)));
        }
        Ok(Named { copy: Copied::at(named), facts: facts.clone(), stored: None })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Staged {
    /// Checks the copy without running it.
    pub fn inspect(self) -> Result<Inspected, EngineError> {
        let Self { found, copy, content } = self;
        let file = file_name(&found.path);
        // SAFETY: nobody writes to the copy, which lies where only this user can come.
        let content = unsafe { MmapOptions::new().populate().map(&content) };
        let content = content.map_err(|error| {
            let message = format!("cannot map its copy: {error}");
            EngineError::load(&file, Step::Inspect, message).because(LoadCause::Io(error))
        })?;
        let facts =
            artifact::inspect(&content).map_err(|error| EngineError::artifact(&file, error))?;
        let toolchain = facts.toolchain.expect_host();
        toolchain.map_err(|error| EngineError::artifact(facts.name.as_str(), error))?;
        Ok(Inspected { found, facts, copy })
    }
}

/// The name that a file gives itself, of which nothing is checked; `None` if it gives none.
pub(crate) fn claimed_name(found: &Found) -> Option<PluginName> {
    let mut content = Vec::new();
    open(found).ok()?.take(MAX_FILE_BYTES).read_to_end(&mut content).ok()?;
    artifact::claims(&content).map(|facts| facts.name)
}

fn open(found: &Found) -> io::Result<File> {
    let size = found.identity.size;
    if size > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it has {size} bytes")));
    }
    File::open(&found.path)
}

/// Makes a staging directory that nobody else has, and locks it.
///
/// A process of the same id may have one of the same name, where two containers share the directory; and
/// one that died here may have left one. Neither is touched: the next name is taken.
fn make_own(parent: &Path) -> io::Result<(PathBuf, File)> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("{}-{count}", process::id()));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made?,
        }
        if let Some(lock) = lock_own(&dir)? {
            return Ok((dir, lock));
        }
    }
}

/// Locks a directory that was just made; `None` if a host that starts at the same moment has taken it for
/// an orphan.
fn lock_own(dir: &Path) -> io::Result<Option<File>> {
    let path = dir.join(LOCK);
    let lock = match File::create_new(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        made => made?,
    };
    match lock.try_lock() {
        Ok(()) if is_at(&lock, &path) => Ok(Some(lock)),
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether a file is what a path leads to.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let there = fs::symlink_metadata(path).ok().map(place);
    there.is_some() && there == file.metadata().ok().map(place)
}

/// Removes the staging directories of processes that were killed: nobody holds their lock. What has
/// another name, or is no directory, is nobody's staging directory.
fn remove_orphans(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_dir = entry.file_type().is_ok_and(|file| file.is_dir());
        if is_dir && entry.file_name().to_str().is_some_and(is_staging_name) {
            remove_orphan(&entry.path());
        }
    }
}

/// `4125-0`
fn is_staging_name(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.split_once('-').is_some_and(|(pid, count)| is_number(pid) && is_number(count))
}

fn remove_orphan(dir: &Path) {
    let path = dir.join(LOCK);
    match File::open(&path) {
        // The lock is held until the directory is gone.
        Ok(lock) if lock.try_lock().is_ok() && is_at(&lock, &path) => {
            let _ = fs::remove_dir_all(dir);
        }
        Ok(_) => {}
        // Its owner died before it made the lock, or is about to; then it makes another directory. With
        // anything in it, it stays.
        Err(_) => {
            let _ = fs::remove_dir(dir);
        }
    }
}
