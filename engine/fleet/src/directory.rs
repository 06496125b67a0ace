//! A fleet in a directory.
//!
//! | file | what | written |
//! |---|---|---|
//! | `fleet.json` | the identity of the fleet | once |
//! | `keys.json`, `keys.json.minisig` | the keys that may sign | under the lock `lock` |
//! | `keys.N.json`, `keys.N.json.minisig` | the keys before each change | once |
//! | `blobs/SHA256.so` | artifacts | once |
//! | `releases/ID.json`, `releases/ID.json.minisig` | releases | once |
//! | `channels/C.json`, `rollouts/C.json` | declarations and rollouts | under the lock, if they have not changed since they were read |
//! | `hosts/ID.json` | the reports of hosts | by their agents |
//! | `audit.jsonl` | the audit log | appended to |
//!
//! Where channels and rollouts are signed, the signature follows the JSON in the same file. A file is written
//! under a temporary name and then renamed, so no reader sees a partial file. A reader accepts only regular files,
//! no links, up to a size.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Digest, FleetError, Id,
    backend::{
        Backend, Content, Document, FileStamp, Glance, IsAsRead, IsIt, LARGEST_DOCUMENT, Report,
        parse, to_json,
    },
};

/// A temporary file that is older than this has no writer any more.
const LONGEST_WRITE: Duration = Duration::from_secs(3600);

/// The number of bytes that are read at the end of the audit log.
const READ_OF_AUDIT: u64 = 1 << 20;
/// The number of bytes at the end of the audit log in which a line is looked for.
const SEARCHED_OF_AUDIT: u64 = 64 << 20;

/// A fleet in a directory.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
}

impl Directory {
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn path(&self, document: Document<'_>) -> PathBuf {
        let in_folder =
            |folder: &str, name: &Id| self.root.join(folder).join(format!("{name}.json"));
        match document {
            Document::Fleet => self.root.join("fleet.json"),
            Document::Keys => self.root.join("keys.json"),
            Document::EarlierKeys(serial) => self.root.join(format!("keys.{serial}.json")),
            Document::Release(name) => in_folder("releases", name),
            Document::Channel(name) => in_folder("channels", name),
            Document::Rollout(name) => in_folder("rollouts", name),
            Document::Host(name) => in_folder("hosts", name),
        }
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(format!("{digest}.so"))
    }

    /// The bytes of a document's file. If the signature has a file of its own, this writes that file first, so
    /// whoever sees the document sees its signature too.
    fn prepared(document: Document<'_>, path: &Path, new: &Content) -> Result<Vec<u8>, FleetError> {
        match &new.signature {
            Some(signature) if has_signature_file(document) => {
                atomic_write(&signature_path(path), signature.as_bytes())?;
                Ok(new.json.clone())
            }
            _ => Ok(new.to_bytes()),
        }
    }

    /// Takes the lock that writers of documents share.
    fn lock(&self) -> Result<File, FleetError> {
        let path = self.root.join("lock");
        let mut options = OpenOptions::new();
        let lock = open(&path, "lock", options.create(true).truncate(false).write(true))?;
        let locked = lock.lock().map(|()| lock);
        locked.map_err(|error| FleetError::io(&path, "lock", &error))
    }
}

impl Backend for Directory {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn at(&self, document: Document<'_>) -> String {
        self.path(document).display().to_string()
    }

    fn blob_at(&self, digest: &Digest) -> String {
        self.blob_path(digest).display().to_string()
    }

    fn prepare(&self) -> Result<(), FleetError> {
        for dir in ["blobs", "releases", "channels", "rollouts", "hosts"] {
            let dir = self.root.join(dir);
            let mut builder = fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(&dir);
            made.map_err(|error| FleetError::io(&dir, "make", &error))?;
            remove_left(&dir);
        }
        remove_left(&self.root);
        Ok(())
    }

    fn read(&self, document: Document<'_>) -> Result<Option<Content>, FleetError> {
        let path = self.path(document);
        if !is_there(&path)? {
            return Ok(None);
        }
        let bytes = read_bounded(&path, LARGEST_DOCUMENT)?;
        if !has_signature_file(document) {
            return Ok(Some(Content::of_bytes(&bytes)));
        }
        let signature = signature_path(&path);
        let signature = match is_there(&signature)? {
            true => Some(read_bounded(&signature, LARGEST_DOCUMENT)?),
            false => None,
        };
        let signature = signature.map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok(Some(Content { json: bytes, signature }))
    }

    fn create(&self, document: Document<'_>, new: &Content) -> Result<bool, FleetError> {
        let path = self.path(document);
        create_only(&path, &Self::prepared(document, &path, new)?)
    }

    fn replace(
        &self,
        document: Document<'_>,
        is_as_read: IsAsRead<'_>,
        new: &Content,
    ) -> Result<(), FleetError> {
        let _lock = self.lock()?;
        let path = self.path(document);
        if !is_as_read(self.read(document)?.as_ref())? {
            return Err(FleetError::changed(path.display()));
        }
        atomic_write(&path, &Self::prepared(document, &path, new)?)
    }

    fn write(&self, document: Document<'_>, json: &[u8]) -> Result<(), FleetError> {
        match document {
            // The agent reports again, so the file need not outlast a crash of the machine.
            Document::Host(_) => replace_file(&self.path(document), json, Outlasts::Program),
            _ => atomic_write(&self.path(document), json),
        }
    }

    fn remove(&self, document: Document<'_>) -> Result<(), FleetError> {
        // An error needs no report: either the file is gone already, or the host stays visible.
        let _ = fs::remove_file(self.path(document));
        Ok(())
    }

    fn releases(&self) -> Result<Vec<Id>, FleetError> {
        names(&self.root.join("releases"))
    }

    fn hosts(&self) -> Result<Vec<Report>, FleetError> {
        let names = names(&self.root.join("hosts"))?.into_iter();
        let hosts = names.filter_map(|name| {
            let path = self.path(Document::Host(&name));
            match read_bounded(&path, LARGEST_DOCUMENT) {
                // The file was removed after the directory was listed.
                Err(_) if is_there(&path).is_ok_and(|it| !it) => None,
                json => Some(Report { host: name, json, kept_at_ms: None }),
            }
        });
        Ok(hosts.collect())
    }

    fn push_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), FleetError> {
        let path = self.blob_path(digest);
        // The file there may have been altered, so it is compared.
        let found = read_bounded(&path, bytes.len());
        if found.is_ok_and(|found| found == bytes) { Ok(()) } else { atomic_write(&path, bytes) }
    }

    fn glance(&self, documents: &[Document<'_>]) -> Option<Glance> {
        let stamp = |document: &Document<'_>| {
            let file = fs::symlink_metadata(self.path(*document)).ok()?;
            Some(FileStamp {
                device: file.dev(),
                inode: file.ino(),
                size_bytes: file.len(),
                changed_at: (file.ctime(), file.ctime_nsec()),
            })
        };
        Some(Glance(documents.iter().map(stamp).collect()))
    }

    fn directories(&self, documents: &[Document<'_>]) -> BTreeSet<PathBuf> {
        let paths = documents.iter().map(|document| self.path(*document));
        paths.filter_map(|path| path.parent().map(Path::to_owned)).collect()
    }

    fn copy_blob(
        &self,
        digest: &Digest,
        size_bytes: u64,
        to: &mut dyn FnMut(&[u8]) -> Result<(), FleetError>,
    ) -> Result<(), FleetError> {
        let path = self.blob_path(digest);
        let mut reader = open_regular(&path)?.take(size_bytes.saturating_add(1));
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = reader.read(&mut buffer);
            match read.map_err(|error| FleetError::io(&path, "read", &error))? {
                0 => return Ok(()),
                read => to(&buffer[..read])?,
            }
        }
    }

    fn audit(&self, line: &[u8], _since_ms: u64, is_it: IsIt<'_>) -> Result<(), FleetError> {
        let path = self.root.join("audit.jsonl");
        let wrong = |error: io::Error| FleetError::io(&path, "read", &error);
        // Somebody who may only read usually finds the line.
        if is_there(&path)? && has_line(&open_regular(&path)?, is_it).map_err(wrong)? {
            return Ok(());
        }
        let mut file =
            open(&path, "write", OpenOptions::new().append(true).read(true).create(true))?;
        let mut write = || {
            // Another program may append the same line.
            file.lock()?;
            if has_line(&file, is_it)? {
                return Ok(());
            }
            // A writer whose disk was full may have left half a line.
            let begin: &[u8] = if ends_with_a_line(&mut file)? { b"" } else { b"\n" };
            // One write, so that the lines of several writers do not mix.
            file.write_all(&[begin, line, b"\n"].concat())
        };
        write().map_err(|error| FleetError::io(&path, "write", &error))
    }

    fn audited(&self) -> Result<Vec<Vec<u8>>, FleetError> {
        let path = self.root.join("audit.jsonl");
        let wrong = |error: io::Error| FleetError::io(&path, "read", &error);
        if !is_there(&path)? {
            return Ok(Vec::new());
        }
        let mut file = open_regular(&path)?;
        let length = file.metadata().map_err(wrong)?.len();
        let from = length.saturating_sub(READ_OF_AUDIT);
        file.seek(SeekFrom::Start(from)).map_err(wrong)?;
        let mut bytes = Vec::new();
        file.take(READ_OF_AUDIT).read_to_end(&mut bytes).map_err(wrong)?;
        // If the log was not read from its beginning, the first line is incomplete.
        let lines = bytes.split(|byte| *byte == b'\n').skip(usize::from(from > 0));
        Ok(lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
    }
}

/// Whether the signatures of a document are in a file of their own, as minisign writes them. This holds for
/// documents that do not change. A document that changes is one file, so that no reader sees a document with the
/// signature of another.
fn has_signature_file(document: Document<'_>) -> bool {
    matches!(document, Document::Keys | Document::EarlierKeys(_) | Document::Release(_))
}

fn signature_path(path: &Path) -> PathBuf {
    path.with_extension("json.minisig")
}

/// Whether something has this path, even if it is a link to nothing.
fn is_there(path: &Path) -> Result<bool, FleetError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(FleetError::io(path, "read", &error)),
    }
}

/// The names of the documents in a directory, sorted.
fn names(dir: &Path) -> Result<Vec<Id>, FleetError> {
    let wrong = |error: io::Error| FleetError::io(dir, "read", &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(wrong)? {
        let name = entry.map_err(wrong)?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
        names.extend(name.and_then(|name| name.parse::<Id>().ok()));
    }
    names.sort();
    Ok(names)
}

/// Whether the audit log has a line.
fn has_line(mut file: &File, is_it: IsIt<'_>) -> io::Result<bool> {
    file.seek(SeekFrom::Start(file.metadata()?.len().saturating_sub(SEARCHED_OF_AUDIT)))?;
    for line in BufReader::new(file).split(b'\n') {
        if is_it(&line?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a file is empty, or ends with a whole line.
fn ends_with_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Opens a regular file to read it.
fn open_regular(path: &Path) -> Result<File, FleetError> {
    open(path, "open", OpenOptions::new().read(true))
}

/// Opens a regular file. It refuses links, and special files such as pipes, which could block.
fn open(path: &Path, what: &str, options: &mut OpenOptions) -> Result<File, FleetError> {
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => FleetError::not_regular(path.display()),
        _ => FleetError::io(path, what, &error),
    })?;
    let metadata = file.metadata().map_err(|error| FleetError::io(path, what, &error))?;
    if !metadata.is_file() {
        return Err(FleetError::not_regular(path.display()));
    }
    Ok(file)
}

pub(crate) fn read_bounded(path: &Path, largest: usize) -> Result<Vec<u8>, FleetError> {
    let mut bytes = Vec::new();
    let read = open_regular(path)?.take(largest as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| FleetError::io(path, "read", &error))?;
    if bytes.len() > largest {
        return Err(FleetError::too_large(path.display(), largest));
    }
    Ok(bytes)
}

/// Reads a JSON document of at most 1 MiB.
///
/// # Errors
/// If it is not a regular file, is larger, or cannot be parsed. The error names the file.
pub fn read_document<T: DeserializeOwned>(path: &Path) -> Result<T, FleetError> {
    parse(&path.display(), &read_bounded(path, LARGEST_DOCUMENT)?)
}

/// Writes a JSON document in one piece.
///
/// # Errors
/// If it cannot be written, or is too large to be read again.
pub fn write_document<T: Serialize>(path: &Path, value: &T) -> Result<(), FleetError> {
    atomic_write(path, &to_json(&path.display(), value)?)
}

/// Makes a temporary file in the directory of `path`, which its caller renames or removes. Errors are about `path`.
pub(crate) fn make_beside(path: &Path) -> Result<(PathBuf, File), FleetError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let beside = path.with_file_name(format!(".{name}.{}.{next}", std::process::id()));
        match options.open(&beside) {
            Ok(file) => return Ok((beside, file)),
            // A process with the same id has left it behind, or is writing it in another container.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(FleetError::io(path, "write", &error)),
        }
    }
}

/// Removes temporary files that killed programs have left behind.
fn remove_left(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_temporary = entry.file_name().as_encoded_bytes().starts_with(b".");
        let modified = entry.metadata().and_then(|file| file.modified()).ok();
        let age = modified.and_then(|modified| modified.elapsed().ok());
        if is_temporary && age.is_some_and(|age| age > LONGEST_WRITE) {
            // A file that stays does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Writes a JSON document in one piece. It outlasts a crash of this program, but not always one of the machine: it
/// is not flushed to the disk.
///
/// # Errors
/// If it cannot be written, or is too large to be read again.
pub fn write_note<T: Serialize>(path: &Path, value: &T) -> Result<(), FleetError> {
    replace_file(path, &to_json(&path.display(), value)?, Outlasts::Program)
}

/// The crash that a written file has to outlast.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outlasts {
    Program,
    Machine,
}

fn write_beside(path: &Path, bytes: &[u8], outlasts: Outlasts) -> Result<PathBuf, FleetError> {
    let (beside, mut file) = make_beside(path)?;
    let written = file.write_all(bytes).and_then(|()| match outlasts {
        Outlasts::Program => Ok(()),
        Outlasts::Machine => file.sync_all(),
    });
    written.map_err(|error| {
        let _ = fs::remove_file(&beside);
        FleetError::io(path, "write", &error)
    })?;
    Ok(beside)
}

/// Writes a file in one piece: a reader sees either the earlier content or these bytes.
///
/// # Errors
/// If it cannot be written.
pub fn atomic_write(path: &Path, bytes: &[u8]) -> Result<(), FleetError> {
    replace_file(path, bytes, Outlasts::Machine)
}

fn replace_file(path: &Path, bytes: &[u8], outlasts: Outlasts) -> Result<(), FleetError> {
    let beside = write_beside(path, bytes, outlasts)?;
    fs::rename(&beside, path).map_err(|error| {
        let _ = fs::remove_file(&beside);
        FleetError::io(path, "write", &error)
    })
}

/// Writes a file in one piece if it does not exist, and returns whether it did so.
fn create_only(path: &Path, bytes: &[u8]) -> Result<bool, FleetError> {
    let beside = write_beside(path, bytes, Outlasts::Machine)?;
    let linked = fs::hard_link(&beside, path);
    let _ = fs::remove_file(&beside);
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(FleetError::io(path, "write", &error)),
    }
}
