//! Copies artifacts into a private directory. Artifacts are only loaded from there.
//!
//! If the loader knows a path or an inode already, it returns the old image. And if a file is overwritten
//! while it is mapped, the process crashes. So every load gets a copy of its own, under a name that was never
//! used before in this process. The copy is inspected, and exactly this copy is loaded, whatever happens to
//! the original file.
//!
//! If there is no such directory, no room in it, or if code of its files must not run, the copy is a sealed
//! file in memory.

use std::{
    env,
    ffi::CString,
    fs,
    fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use hotswap_protocol::PluginName;
use memmap2::MmapOptions;

use crate::{
    EngineError, LoadCause, Step,
    artifact::{self, ArtifactError, Facts, Toolchain, own_toolchain},
    image::{Copied, Named},
    load::find::{Found, file_name},
    lock::Lock as _,
    os,
    runtime_dir::{named_dir, runtime_dir},
};

/// The largest file that is read. No plugin is larger; a larger file is a mistake, and should not fill the
/// memory.
const MAX_FILE_BYTES: u64 = 2 << 30;

/// The name of the file in a staging directory that its owner keeps locked as long as it lives.
const LOCK: &str = "owner.lock";

/// The place where this process stages. Dropping it removes the directory.
pub(crate) struct Staging {
    /// The directory that the host names for this; `None` if it names none.
    parent: Option<PathBuf>,
    /// The directory of this process; `None` if it cannot have one.
    own: Mutex<Option<Own>>,
    /// Whether the log already says that copies are kept in memory.
    has_warned: AtomicBool,
}

/// The staging directory of this process.
struct Own {
    dir: PathBuf,
    lock: File,
}

/// A copy of an artifact that was not inspected yet.
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
    /// Makes a directory for this process, in `parent` or in the runtime directory, and removes directories
    /// whose owners are gone. If there can be no directory, copies are kept in memory.
    pub fn new(parent: Option<PathBuf>) -> Self {
        let staging = Self { parent, own: Mutex::default(), has_warned: AtomicBool::new(false) };
        if let Err(why) = staging.own_dir() {
            staging.warn_once(&why);
        }
        staging
    }

    /// The directory with the copies, for information.
    pub fn dir(&self) -> PathBuf {
        let own = self.own.locked();
        let in_memory = || PathBuf::from(format!("/proc/{}/fd", process::id()));
        own.as_ref().map_or_else(in_memory, |own| own.dir.clone())
    }

    /// Removes the directory, if it is still the one that was made. Nothing must be staged or mapped any
    /// more.
    pub fn remove(&self) {
        if let Some(own) = self.own.locked().as_ref().filter(|own| own.is_there()) {
            let _ = fs::remove_dir_all(&own.dir);
        }
    }

    /// Copies an artifact.
    pub fn stage(&self, found: Found) -> Result<Staged, EngineError> {
        let failed = |message: String, error: io::Error| {
            let refused = EngineError::load(file_name(&found.path), Step::Stage, message);
            refused.because(LoadCause::Io(error))
        };
        let source =
            open(&found).map_err(|error| failed(format!("cannot read it: {error}"), error))?;
        let size = found.identity.size;
        let why = match self.copy(&source, size) {
            Ok((copy, content)) => return Ok(Staged { found, copy, content }),
            Err(NotCopied::Changes(error)) => {
                return Err(failed(format!("cannot copy it: {error}"), error));
            }
            Err(NotCopied::NoPlace(why)) => why,
        };
        match copy_into_memory(&source, size, &file_name(&found.path)) {
            Ok((copy, content)) => {
                self.warn_once(&why);
                Ok(Staged { found, copy, content })
            }
            Err(error) => {
                let message = format!(
                    "cannot copy it: {why}; nor can it be copied into memory: {error}; {WAY_OUT}"
                );
                Err(failed(message, error))
            }
        }
    }

    fn copy(&self, source: &File, size: u64) -> Result<(Copied, File), NotCopied> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = self.own_dir().map_err(NotCopied::NoPlace)?;
        let no_place = |error: io::Error| {
            NotCopied::NoPlace(format!("cannot write into {}: {error}", dir.display()))
        };
        if os::is_noexec(&dir) {
            let why = format!("{} is mounted noexec, so no code in it can run", dir.display());
            return Err(NotCopied::NoPlace(why));
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let path = dir.join(format!("{count}.copy"));
        let mut file = options.open(&path).map_err(no_place)?;
        let copy = Copied::at(path);
        match copy_content(source, size, &mut file) {
            Ok(()) => Ok((copy, file)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(NotCopied::Changes(error))
            }
            Err(error) => Err(no_place(error)),
        }
    }

    /// The directory of this process. It is made again if it was removed.
    fn own_dir(&self) -> Result<PathBuf, String> {
        if let Some(dir) = self.present_dir() {
            return Ok(dir);
        }
        // Code of the host runs in here, without the lock: the subscriber of its log.
        let made = Own::make(self.parent.as_deref()).map_err(|error| error.to_string())?;
        if let Some(dir) = self.present_dir() {
            // Another thread was faster.
            let _ = fs::remove_dir_all(&made.dir);
            return Ok(dir);
        }
        let dir = made.dir.clone();
        let gone = self.own.locked().replace(made);
        if let Some(gone) = gone {
            let (gone, dir) = (gone.dir.display(), dir.display());
            tracing::warn!("{gone} was removed; artifacts are staged in {dir} from now on");
        }
        Ok(dir)
    }

    /// The directory of this process, if it is there.
    fn present_dir(&self) -> Option<PathBuf> {
        let own = self.own.locked();
        own.as_ref().filter(|own| own.is_there()).map(|own| own.dir.clone())
    }

    /// Logs once that copies are kept in memory.
    fn warn_once(&self, why: &str) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!("artifacts are staged in memory, since {why}; {WAY_OUT}");
        }
    }

    /// Gives the copy the name by which version `version` is loaded. The name begins with the name of the plugin.
    pub fn name(&self, inspected: &Inspected, version: u32) -> Result<Named, EngineError> {
        let Inspected { facts, copy, .. } = inspected;
        let file = format!(
            "{}-v{version}-{:.8}.{}",
            facts.name,
            facts.build_id.to_string(),
            env::consts::DLL_EXTENSION
        );
        // The new name is beside the copy, since the directory may have been made again meanwhile.
        let named = copy.path().with_file_name(file);
        match copy.renamed(&named) {
            Ok(copy) => Ok(Named { copy, facts: facts.clone(), stored: None }),
            Err(error) => {
                let message = format!("cannot rename its copy to {}: {error}", named.display());
                let refused = EngineError::load(&facts.name, Step::Stage, message);
                Err(refused.because(LoadCause::Io(error)))
            }
        }
    }
}

/// What to do if there is no usable directory for staging.
const WAY_OUT: &str = "set another directory with `EngineBuilder::stage_in`";

/// Why an artifact was not copied into the staging directory.
enum NotCopied {
    /// The file is being written to.
    Changes(io::Error),
    /// There is no directory for the copy, or no room in it. The text says which.
    NoPlace(String),
}

fn copy_into_memory(source: &File, size: u64, name: &str) -> io::Result<(Copied, File)> {
    let name = CString::new(name).unwrap_or_default();
    let mut file = os::code_file(&name)?;
    copy_content(source, size, &mut file)?;
    os::keep_length(&file)?;
    let copy = Copied::in_memory(file.try_clone()?);
    if !copy.path().exists() {
        return Err(io::Error::other("`/proc` is not mounted, through which it would be opened"));
    }
    Ok((copy, file))
}

/// Copies a file of `size` bytes. The error has the kind `InvalidData` if the file has another size.
fn copy_content(source: &File, size: u64, copy: &mut File) -> io::Result<()> {
    let mut source = source;
    source.seek(SeekFrom::Start(0))?;
    // If one byte more than expected can be read, the file has grown.
    match io::copy(&mut source.take(size + 1), copy)? {
        copied if copied == size => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it is being written to")),
    }
}

impl Own {
    fn make(parent: Option<&Path>) -> Result<Self, EngineError> {
        let parent = match parent {
            Some(named) => named_dir(named)?,
            None => runtime_dir(Some("stage"))?,
        };
        remove_orphans(&parent);
        let made = make_own(&parent).map_err(|error| EngineError::Setup {
            what: "cannot make a staging directory in".into(),
            path: parent.clone(),
            error,
        });
        made.map(|(dir, lock)| Self { dir, lock })
    }

    /// Whether the directory is still the one that was made.
    fn is_there(&self) -> bool {
        is_at(&self.lock, &self.dir.join(LOCK))
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
        let inspected = self.read()?;
        inspected.expect_fits(&own_toolchain())?;
        if inspected.facts.toolchain.panic_strategy == ABORT {
            let plugin = inspected.facts.name.as_str();
            tracing::warn!(
                plugin,
                "{plugin} is built with `panic = \"abort\"`, like this host: a panic in it ends the host; \
                 remove that setting from the profiles of both"
            );
        }
        Ok(inspected)
    }

    /// Inspects like [`inspect`](Self::inspect), for a process in which a panic may end the process.
    pub fn inspect_for_reading(self) -> Result<Inspected, EngineError> {
        let inspected = self.read()?;
        let panic_strategy = inspected.facts.toolchain.panic_strategy.clone();
        inspected.expect_fits(&Toolchain { panic_strategy, ..own_toolchain() })?;
        Ok(inspected)
    }

    fn read(self) -> Result<Inspected, EngineError> {
        let Self { found, copy, content } = self;
        let file = file_name(&found.path);
        // SAFETY: nobody writes to the copy, which only this user can reach.
        let content = unsafe { MmapOptions::new().populate().map(&content) };
        let content = content.map_err(|error| {
            let message = format!("cannot map its copy: {error}");
            EngineError::load(&file, Step::Inspect, message).because(LoadCause::Io(error))
        })?;
        let facts =
            artifact::inspect(&content).map_err(|error| EngineError::artifact(&file, error))?;
        Ok(Inspected { found, facts, copy })
    }
}

impl Inspected {
    /// Refuses a file that was built with another toolchain than this program.
    fn expect_fits(&self, toolchain: &Toolchain) -> Result<(), EngineError> {
        match self.facts.toolchain.misfit(toolchain) {
            Some(misfit) => {
                let error = ArtifactError::Toolchain(misfit);
                Err(EngineError::artifact(self.facts.name.as_str(), error))
            }
            None => Ok(()),
        }
    }
}

/// The panic strategy with which panics cannot be caught.
const ABORT: &str = "abort";

/// The name in the file, without any check; `None` if it has none.
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
    artifact::open(&found.path)
}

/// Makes a staging directory that no other process has, and locks it.
///
/// Another process with the same id may have a directory of this name, if two containers share the parent. A
/// process that died may also have left one. Neither is touched: the next name is taken.
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

/// Locks a directory that was just made; `None` if another host that starts at the same moment has removed it
/// as an orphan.
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

/// Whether the path leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let there = fs::symlink_metadata(path).ok().map(place);
    there.is_some() && there == file.metadata().ok().map(place)
}

/// Removes the staging directories of processes that were killed: their locks are free. Entries with other
/// names, and entries that are not directories, are left alone.
fn remove_orphans(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_dir = entry.file_type().is_ok_and(|file| file.is_dir());
        if is_dir && entry.file_name().to_str().is_some_and(is_staging_name) {
            remove_orphan(&entry.path());
        }
    }
}

/// Whether the name has the form `4125-0`.
fn is_staging_name(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.split_once('-').is_some_and(|(pid, count)| is_number(pid) && is_number(count))
}

fn remove_orphan(dir: &Path) {
    let path = dir.join(LOCK);
    match artifact::open(&path) {
        // The lock is held until the directory is removed.
        Ok(lock) if lock.try_lock().is_ok() && is_at(&lock, &path) => {
            let _ = fs::remove_dir_all(dir);
        }
        Ok(_) => {}
        // Its owner died before it made the lock, or is about to make it; in the latter case the owner makes
        // another directory. A directory that is not empty stays.
        Err(_) => {
            let _ = fs::remove_dir(dir);
        }
    }
}
