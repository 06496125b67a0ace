//! Remembers the content of files as a compiler read it.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use walkdir::{DirEntry, WalkDir};

/// File systems round times down to the kernel's tick. A change whose time is at most this long before a
/// moment may have happened after that moment.
const TICK: Duration = Duration::from_millis(12);

/// A directory with more entries than this is not compared: it always counts as changed.
const MOST_ENTRIES: usize = 20_000;

/// The time when something began, on the system clock, which can be set, and on the steady clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    at: SystemTime,
    measured: Instant,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { at: SystemTime::now(), measured: Instant::now() }
    }

    /// How long ago it was.
    pub(crate) fn elapsed(self) -> Duration {
        self.measured.elapsed()
    }

    /// When it began, to compare with the times of files.
    pub(crate) fn at(self) -> SystemTime {
        self.if_steady(self.at)
    }

    /// Returns `since`, a time after this moment, if the system clock was not set back meanwhile. Otherwise
    /// files that changed since can have older times. Then it returns the Unix epoch, so every file may have
    /// changed since.
    pub(super) fn if_steady(self, since: SystemTime) -> SystemTime {
        let measured = self.measured.elapsed();
        // The system may slow down a clock that is slightly ahead.
        let is_steady = |by_clock: Duration| by_clock + TICK + measured / 1000 >= measured;
        if self.at.elapsed().is_ok_and(is_steady) { since } else { UNIX_EPOCH }
    }
}

/// A file's times, size and inode, which can be compared without reading the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stat {
    modified_ns: i64,
    /// When anything about the file changed last, including its times and its name. No program can set this
    /// time.
    changed_ns: i64,
    size_bytes: u64,
    inode: u64,
}

impl Stat {
    /// `None` if there is no file.
    pub(super) fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|metadata| Self::from(&metadata))
    }

    /// Whether both belong to the same compiled file. `changed_ns` is ignored, since another hard link to the
    /// file changes it. The inode is ignored as well: a copy that keeps the time is the same output.
    pub(super) fn is_same_output(self, other: Self) -> bool {
        self.modified_ns == other.modified_ns && self.size_bytes == other.size_bytes
    }

    /// Whether the file has certainly not changed at `moment` or later.
    fn is_older_than(self, moment: SystemTime) -> bool {
        let moment = moment.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(TICK);
        i128::from(self.changed_ns) < moment.as_nanos() as i128
    }
}

impl From<&Metadata> for Stat {
    fn from(metadata: &Metadata) -> Self {
        let in_ns = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            modified_ns: in_ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: in_ns(metadata.ctime(), metadata.ctime_nsec()),
            size_bytes: metadata.size(),
            inode: metadata.ino(),
        }
    }
}

/// A file, or a directory with everything below it, with its content at some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Input {
    pub path: PathBuf,
    content: Content,
    /// While the file has this, its content is the same. `None` if the content must be read to see that.
    stat: Option<Stat>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Content {
    /// The file did not exist.
    Absent,
    /// The hash of the content.
    Hash(String),
    /// The content could not be determined.
    Unknown,
}

impl Input {
    /// Reads the content that `path` has now.
    pub(super) fn read(path: &Path) -> Self {
        let path = path.to_owned();
        let began = SystemTime::now();
        let Ok(metadata) = fs::metadata(&path) else {
            return Self { path, content: Content::Absent, stat: None };
        };
        if metadata.is_dir() {
            let content = tree_hash(&path).map_or(Content::Unknown, Content::Hash);
            return Self { path, content, stat: None };
        }
        let Ok(bytes) = fs::read(&path) else {
            return Self { path, content: Content::Unknown, stat: None };
        };
        let content = Content::Hash(blake3::hash(&bytes).to_string());
        let stat = Some(Stat::from(&metadata)).filter(|stat| stat.is_older_than(began));
        Self { path, content, stat }
    }

    /// The current content of the file. It is read only if its [`Stat`] has changed.
    pub(crate) fn reread(&self) -> Self {
        match self.stat {
            Some(stat) if Stat::of(&self.path) == Some(stat) => self.clone(),
            _ => Self::read(&self.path),
        }
    }

    /// The hash of a file's content; `None` if there is no file, or if its content is unknown.
    pub(super) fn hash(&self) -> Option<&str> {
        match &self.content {
            Content::Hash(hash) => Some(hash),
            Content::Absent | Content::Unknown => None,
        }
    }

    /// Whether there was no file.
    pub(super) fn is_absent(&self) -> bool {
        self.content == Content::Absent
    }

    /// Whether the content could not be determined.
    pub(crate) fn is_unknown(&self) -> bool {
        self.content == Content::Unknown
    }

    /// Whether both have the same content. Unknown content is never the same.
    pub(crate) fn has_same_content(&self, other: &Self) -> bool {
        self.content == other.content && self.content != Content::Unknown
    }

    /// The content that a process has read from `path`. The process began at `began` and has ended. The result is
    /// the current content if the file cannot have changed since `began`. Otherwise it is unknown, unless the file
    /// still has the content `seen`, which it had just before the process began, and did not change later.
    pub(crate) fn read_since(path: &Path, began: SystemTime, seen: Option<&Self>) -> Self {
        let now = match seen {
            Some(seen) => seen.reread(),
            None => Self::read(path),
        };
        let was_there = seen.is_some_and(|seen| seen.has_same_content(&now));
        // No process reads a file, and sees it change twice, within one tick.
        let latest = if was_there { began + TICK } else { began };
        let is_older = Stat::of(path).is_none_or(|stat| stat.is_older_than(latest));
        if is_older { now } else { Self { content: Content::Unknown, stat: None, ..now } }
    }
}

/// A hash of the names, sizes and times of all files below `dir`, also behind links, without those of editors, and
/// without hidden directories and those that cargo made. `None` if there are too many, or if one cannot be read.
fn tree_hash(dir: &Path) -> Option<String> {
    let mut hasher = blake3::Hasher::new();
    let entries = WalkDir::new(dir).min_depth(1).follow_links(true).sort_by_file_name();
    for (count, entry) in entries.into_iter().filter_entry(is_compared).enumerate() {
        let entry = match entry {
            _ if count == MOST_ENTRIES => return None,
            Ok(entry) => entry,
            Err(error) if leads_nowhere(&error) => continue,
            Err(_) => return None,
        };
        let path = entry.path();
        let Ok(metadata) = fs::metadata(path) else { continue };
        if !metadata.is_dir() {
            let Stat { modified_ns, size_bytes, inode, .. } = Stat::from(&metadata);
            hasher.update(path.as_os_str().as_encoded_bytes());
            hasher.update(format!(":{modified_ns}:{size_bytes}:{inode}\n").as_bytes());
        }
    }
    Some(hasher.finalize().to_string())
}

/// Whether an entry of a directory is a link to nothing, or to a directory around it. Cargo does not count such a link.
fn leads_nowhere(error: &walkdir::Error) -> bool {
    error.loop_ancestor().is_some() || error.path().is_some_and(Path::is_symlink)
}

fn is_compared(entry: &DirEntry) -> bool {
    let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
    if entry.file_type().is_dir() {
        return !is_hidden && !entry.path().join("CACHEDIR.TAG").exists();
    }
    !is_of_editor(entry.file_name())
}

/// Whether a file with this name is one that editors keep beside the file that they edit: `.#a`, `.a.swp`.
pub(crate) fn is_of_editor(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    let is_swap = || {
        Path::new(OsStr::from_bytes(name)).extension().is_some_and(|it| {
            matches!(it.as_encoded_bytes(), [b's', b'w', _] | [b's', b'w', _, b'x'])
        })
    };
    name.ends_with(b"~") || name.starts_with(b".#") || (name.starts_with(b".") && is_swap())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn times_before_a_change_of_the_clock_are_not_trusted() {
        let (hour, now) = (Duration::from_secs(3600), Moment::now());
        assert_eq!(now.at(), now.at);
        assert_eq!(now.if_steady(now.at + hour), now.at + hour);
        // The clock was an hour ahead then.
        let ahead = Moment { at: now.at + hour, ..now };
        assert_eq!(ahead.at(), UNIX_EPOCH);
        let slow = Moment { measured: now.measured - hour, at: now.at - hour / 2 };
        assert_eq!(slow.at(), UNIX_EPOCH);
    }

    #[test]
    fn a_file_with_its_earlier_content_counts_as_unchanged() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("lib.rs");
        fs::write(&file, "one").unwrap();
        let first = Input::read(&file);
        fs::write(&file, "two").unwrap();
        assert!(!first.has_same_content(&first.reread()));
        fs::write(&file, "one").unwrap();
        assert!(first.has_same_content(&first.reread()));
        fs::remove_file(&file).unwrap();
        assert!(!first.has_same_content(&first.reread()));
    }

    #[test]
    fn an_old_time_does_not_hide_a_change() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("lib.rs");
        fs::write(&file, "one").unwrap();
        let old = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let set_old = || fs::File::options().write(true).open(&file).unwrap().set_modified(old);
        set_old().unwrap();
        let first = Input::read(&file);
        // Another file under the name, as a version control system leaves it.
        fs::rename(&file, dir.path().join("kept")).unwrap();
        fs::write(&file, "two").unwrap();
        set_old().unwrap();
        assert!(!first.has_same_content(&first.reread()));
    }

    #[test]
    fn a_file_that_may_have_changed_during_a_read_has_unknown_content() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("lib.rs");
        fs::write(&file, "one").unwrap();
        let seen = Input::read(&file);
        let just_after = SystemTime::now();
        let known = Input::read_since(&file, just_after, Some(&seen));
        assert!(
            known.has_same_content(&seen),
            "a file that has not been written since it was read is unchanged"
        );
        let before = just_after - Duration::from_secs(1);
        let written_back = Input::read_since(&file, before, Some(&seen));
        assert!(
            !written_back.has_same_content(&seen),
            "a file that was written since may have had another content in between"
        );
        fs::write(&file, "two").unwrap();
        let unknown = Input::read_since(&file, before, Some(&seen));
        assert!(!unknown.has_same_content(&unknown.reread()));
        let later = SystemTime::now() + Duration::from_secs(1);
        assert!(Input::read_since(&file, later, None).has_same_content(&Input::read(&file)));
    }

    #[test]
    fn a_file_below_a_directory_is_part_of_it() {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("deep")).unwrap();
        fs::write(dir.path().join("deep/one"), "one").unwrap();
        let first = Input::read(dir.path());
        assert!(first.has_same_content(&first.reread()));
        fs::write(dir.path().join("deep/two"), "").unwrap();
        assert!(!first.has_same_content(&first.reread()));
    }
}
