//! Copies artifacts into a private directory, from where alone they are loaded.
//!
//! The loader answers with the old image when it knows a path or an inode, and a file that is
//! overwritten while it is mapped kills the process. So every load gets a copy of its own, under a
//! name that was never used before in this process.

use std::{
    env, fs,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use memmap2::{MmapMut, MmapOptions};

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

/// A copy of an artifact that was inspected, and may be opened.
pub(crate) struct Staged {
    pub copy: PathBuf,
    pub facts: Facts,
    /// Keeps the artifact in the store, if it is there, as long as its copy is of use.
    pub stored: Option<File>,
}

/// An artifact in memory, inspected, not yet copied.
pub(crate) struct Inspected {
    pub found: Found,
    pub facts: Facts,
    /// In a mapping of its own, which goes back to the system as a whole: an allocator keeps blocks of
    /// this size, and more of them the more threads ask for reloads.
    content: MmapMut,
}

impl Staging {
    /// Makes a directory for this process, and removes those whose owners are gone.
    pub fn new() -> Result<Self, EngineError> {
        let parent = runtime_dir("stage")?;
        remove_orphans(&parent);
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("{}-{count}", process::id()));
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

    /// Writes the copy that version `version` will be loaded from; its name starts with the
    /// plugin's.
    pub fn stage(&self, inspected: &Inspected, version: u32) -> Result<Staged, EngineError> {
        let Inspected { facts, content, .. } = inspected;
        let copy = self.dir.join(format!(
            "{}-v{version}-{:.8}.{}",
            facts.name,
            facts.build_id.to_string(),
            env::consts::DLL_EXTENSION
        ));
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&copy)
            .and_then(|mut file| file.write_all(content));
        if let Err(error) = written {
            let _ = fs::remove_file(&copy);
            let message = format!("cannot write {}: {error}", copy.display());
            return Err(EngineError::load(&facts.name, Step::Stage, message));
        }
        Ok(Staged { copy, facts: facts.clone(), stored: None })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Drop for Staged {
    /// The copy goes with the image; on Linux a mapped file may be unlinked, but a person who looks
    /// into the directory should see what is loaded.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.copy);
    }
}

/// Reads an artifact once, and checks it without running it.
pub(crate) fn inspect(found: Found) -> Result<Inspected, EngineError> {
    let file = file_name(&found.path);
    let content = read(&found).map_err(|error| {
        EngineError::load(&file, Step::Inspect, format_args!("cannot read it: {error}"))
    })?;
    let facts =
        artifact::inspect(&content).map_err(|error| EngineError::artifact(&file, &error))?;
    facts.toolchain.expect_host().map_err(|error| EngineError::artifact(&facts.name, &error))?;
    Ok(Inspected { found, facts, content })
}

fn read(found: &Found) -> io::Result<MmapMut> {
    let size = found.identity.size;
    if size > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it has {size} bytes")));
    }
    let mut content = MmapOptions::new().len(size as usize).populate().map_anon()?;
    let mut file = File::open(&found.path)?;
    let changing = || io::Error::other("it is being written to");
    file.read_exact(&mut content).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => changing(),
        _ => error,
    })?;
    if file.read(&mut [0])? > 0 {
        return Err(changing());
    }
    Ok(content)
}

/// A directory of this user's for sockets or staging directories, which nobody else can enter:
/// `$XDG_RUNTIME_DIR/hotswap`, or `hotswap-UID` among the temporary files.
pub(crate) fn runtime_dir(purpose: &str) -> Result<PathBuf, EngineError> {
    // SAFETY: the call has no precondition and cannot fail.
    let uid = unsafe { libc::getuid() };
    let xdg = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir());
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
