//! Copies artifacts into a private directory, from where alone they are loaded.
//!
//! The loader answers with the old image when it knows a path or an inode, and a file that is
//! overwritten while it is mapped kills the process. So every load gets a copy of its own, under a
//! name that was never used before in this process. That copy is what is inspected: what was checked
//! is what is loaded, whatever becomes of the file it came from.

use std::{
    env, fs,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use memmap2::MmapOptions;

use crate::{
    EngineError, Step,
    artifact::{self, Facts},
    find::{Found, file_name},
};

/// No plugin is larger; a larger file is a mistake, and not worth the memory to find out.
const MAX_FILE_BYTES: u64 = 2 << 30;

/// The name of the file in a staging directory that its owner keeps locked while it lives.
const LOCK: &str = "owner.lock";

/// This process's staging directory. Dropping it removes it.
pub(crate) struct Staging {
    dir: PathBuf,
    _lock: File,
}

/// A copy of an artifact in the staging directory, removed when dropped.
pub(crate) struct Copied(PathBuf);

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

/// A copy that was inspected, and may be opened under its name.
pub(crate) struct Named {
    pub copy: Copied,
    pub facts: Facts,
    /// Keeps the artifact in the store, if it is there, as long as its copy is of use.
    pub stored: Option<File>,
}

impl Staging {
    /// Makes a directory for this process, and removes those whose owners are gone.
    pub fn new() -> Result<Self, EngineError> {
        let parent = runtime_dir("stage")?;
        remove_orphans(&parent);
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let next =
            || parent.join(format!("{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let mut dir = next();
        while is_owned(&dir) {
            dir = next();
        }
        let lock = own(&dir).map_err(|error| EngineError::Setup {
            what: "cannot make the staging directory".into(),
            path: dir.clone(),
            error,
        })?;
        Ok(Self { dir, _lock: lock })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Removes the directory; nothing is staged or mapped any more.
    pub fn remove(&self) {
        let _ = fs::remove_dir_all(&self.dir);
    }

    /// Copies an artifact.
    pub fn stage(&self, found: Found) -> Result<Staged, EngineError> {
        let failed = |what: &str, error: io::Error| {
            let message = format!("cannot {what}: {error}");
            EngineError::load(&file_name(&found.path), Step::Stage, message)
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
        let copy = Copied(self.dir.join(format!("{count}.copy")));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let mut file = options.open(&copy.0)?;
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
        if let Err(error) = fs::rename(&copy.0, &named) {
            let message = format!("cannot rename its copy to {}: {error}", named.display());
            return Err(EngineError::load(&facts.name, Step::Stage, message));
        }
        Ok(Named { copy: Copied(named), facts: facts.clone(), stored: None })
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
            EngineError::load(&file, Step::Inspect, format_args!("cannot map its copy: {error}"))
        })?;
        let facts =
            artifact::inspect(&content).map_err(|error| EngineError::artifact(&file, &error))?;
        let toolchain = facts.toolchain.expect_host();
        toolchain.map_err(|error| EngineError::artifact(&facts.name, &error))?;
        Ok(Inspected { found, facts, copy })
    }
}

impl Copied {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Copied {
    /// The copy goes with the image; on Linux a mapped file may be unlinked, but a person who looks
    /// into the directory should see what is loaded.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn open(found: &Found) -> io::Result<File> {
    let size = found.identity.size;
    if size > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it has {size} bytes")));
    }
    File::open(&found.path)
}

/// A directory of this user's for sockets or staging directories, which nobody else can enter:
/// `$XDG_RUNTIME_DIR/hotswap`, or `hotswap-UID` among the temporary files.
pub(crate) fn runtime_dir(purpose: &str) -> Result<PathBuf, EngineError> {
    // SAFETY: the call has no precondition and cannot fail.
    let uid = unsafe { libc::getuid() };
    let xdg = env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|dir| fs::metadata(dir).is_ok_and(|dir| dir.is_dir() && dir.uid() == uid));
    let root = match xdg {
        Some(dir) => dir.join("hotswap"),
        None => env::temp_dir().join(format!("hotswap-{uid}")),
    };
    let dir = if purpose.is_empty() { root.clone() } else { root.join(purpose) };
    let ready = private_dir(&root).and_then(|()| check_owner(&root, uid));
    ready.and_then(|()| private_dir(&dir)).map_err(|error| EngineError::Setup {
        what: "cannot use the runtime directory".into(),
        path: dir.clone(),
        error,
    })?;
    Ok(dir)
}

/// Whether a living process has a directory: one of the same id, elsewhere.
fn is_owned(dir: &Path) -> bool {
    let lock = File::open(dir.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Makes a staging directory and locks it. A host that starts at the same moment may take it for an
/// orphan's before it is locked; then it is made again.
fn own(dir: &Path) -> io::Result<File> {
    loop {
        // A process of the same id may have died here before.
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => private_dir(dir)?,
        }
        let path = dir.join(LOCK);
        let lock = File::create(&path)?;
        lock.lock()?;
        let still_there = fs::metadata(&path).ok().map(|file| file.ino());
        if still_there == Some(lock.metadata()?.ino()) {
            return Ok(lock);
        }
    }
}

/// Makes a directory that only this user can enter.
fn private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// A directory among everybody's temporary files may have been made by somebody else first.
fn check_owner(dir: &Path, uid: u32) -> io::Result<()> {
    let metadata = fs::symlink_metadata(dir)?;
    if !metadata.is_dir() || metadata.uid() != uid {
        return Err(io::Error::other("it belongs to another user, or is no directory"));
    }
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Removes the staging directories of processes that were killed: nobody holds their lock.
fn remove_orphans(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for dir in entries.flatten().map(|entry| entry.path()) {
        let Ok(lock) = File::open(dir.join(LOCK)) else { continue };
        match lock.try_lock() {
            Ok(()) => {
                let _ = fs::remove_dir_all(&dir);
            }
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}
