//! The runtime directory, in which the hosts and consoles of one user find each other. Nobody else can
//! enter it.
//!
//! A user who can change the directory could make a host load another library, or connect a console to another
//! host. So the directory is checked before it is used, and nothing is removed that may belong to another
//! user.

use std::{
    env,
    ffi::OsString,
    fs::{self, DirBuilder, Metadata, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use crate::SocketPath;

/// The environment variable that names a directory for this user only.
const VARIABLE: &str = "XDG_RUNTIME_DIR";

/// The permission bits that let other users change the content of a directory.
const OTHERS_WRITE: u32 = 0o022;
/// The permission bits that let other users do anything.
const OTHERS: u32 = 0o077;
/// The permission bit by which only the owner of a file in the directory can rename or remove it.
const STICKY: u32 = 0o1000;

/// The runtime directory of a user: `$XDG_RUNTIME_DIR/hotswap`, or `hotswap-UID` in the directory of
/// temporary files if the variable does not name a directory of this user's.
///
/// ```no_run
/// use hotswap_protocol::RuntimeDir;
///
/// # fn main() -> std::io::Result<()> {
/// let dir = RuntimeDir::of(1000);
/// dir.make(None)?;
/// let socket = dir.path().join(format!("{}.sock", std::process::id()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeDir {
    path: PathBuf,
    uid: u32,
    passed_over: Option<String>,
}

impl RuntimeDir {
    /// The directory of the user `uid`, who must be the user of this process. Nothing is created yet.
    pub fn of(uid: u32) -> Self {
        Self::among(uid, env::var_os(VARIABLE), env::temp_dir())
    }

    fn among(uid: u32, named: Option<OsString>, temporary: PathBuf) -> Self {
        let named = named.map(PathBuf::from).filter(|dir| dir.is_absolute());
        // A link can be changed later, so the directory that it leads to now is used.
        let named = named.and_then(|dir| fs::canonicalize(dir).ok()).filter(|dir| dir.is_dir());
        let passed_over = named.as_deref().and_then(|dir| expect_owner(dir, uid).err());
        match named {
            Some(dir) if passed_over.is_none() => {
                Self { path: dir.join("hotswap"), uid, passed_over: None }
            }
            _ => Self {
                path: temporary.join(format!("hotswap-{uid}")),
                uid,
                passed_over: passed_over.map(|error| format!("{VARIABLE} is not used: {error}")),
            },
        }
    }

    /// Uses the directory at `path`, with the same checks.
    pub fn at(path: PathBuf, uid: u32) -> Self {
        Self { path, uid, passed_over: None }
    }

    /// The path of the directory, which may not exist yet.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why the directory that `XDG_RUNTIME_DIR` names is not used; `None` if it is used, or if the variable
    /// does not name a directory.
    pub fn passed_over(&self) -> Option<&str> {
        self.passed_over.as_deref()
    }

    /// Checks that the directory exists, and that no other user can change what is in it.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) if it does not exist. If another user can change it, the
    /// message says how, and what to do.
    pub fn check(&self) -> io::Result<()> {
        self.check_parent()?;
        self.check_own(&self.path)
    }

    /// Creates the directory, and the subdirectory `within` if one is given, with permissions for this
    /// user only. Returns the path of the innermost one. Directories that exist already are checked.
    ///
    /// # Errors
    /// As [`check`](Self::check), or if a directory cannot be created.
    pub fn make(&self, within: Option<&str>) -> io::Result<PathBuf> {
        self.check_parent()?;
        self.make_own(&self.path)?;
        let Some(within) = within else { return Ok(self.path.clone()) };
        let dir = self.path.join(within);
        self.make_own(&dir)?;
        Ok(dir)
    }

    fn make_own(&self, dir: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => self.check_own(dir)?,
        }
        if fs::symlink_metadata(dir)?.mode() & OTHERS != 0 {
            fs::set_permissions(dir, Permissions::from_mode(0o700))?;
        }
        Ok(())
    }

    /// Checks the parent directory: a user who can change it can replace this directory.
    fn check_parent(&self) -> io::Result<()> {
        let parent = self.path.parent().unwrap_or(&self.path);
        let metadata = fs::metadata(parent)?;
        let (owner, mode) = (metadata.uid(), metadata.mode());
        if owner != 0 && owner != self.uid {
            return Err(untrusted(parent, &format!("belongs to user {owner}"), self.uid));
        }
        if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
            return Err(untrusted(parent, &others_write(mode), self.uid));
        }
        Ok(())
    }

    fn check_own(&self, dir: &Path) -> io::Result<()> {
        // Among the temporary files, another user may have created the directory first.
        let metadata = fs::symlink_metadata(dir)?;
        if !metadata.is_dir() {
            let what = if metadata.is_symlink() { "is a link" } else { "is not a directory" };
            return Err(untrusted(dir, what, self.uid));
        }
        expect_owned(dir, &metadata, self.uid)?;
        if metadata.mode() & OTHERS_WRITE != 0 {
            return Err(untrusted(dir, &others_write(metadata.mode()), self.uid));
        }
        Ok(())
    }
}

/// Checks that the user owns the directory `dir`, or the directory to which the link `dir` leads.
fn expect_owner(dir: &Path, uid: u32) -> io::Result<()> {
    expect_owned(dir, &fs::metadata(dir)?, uid)
}

fn expect_owned(dir: &Path, metadata: &Metadata, uid: u32) -> io::Result<()> {
    match metadata.uid() {
        owner if owner == uid => Ok(()),
        owner => Err(untrusted(dir, &format!("belongs to user {owner}"), uid)),
    }
}

fn others_write(mode: u32) -> String {
    format!("can be changed by others (mode {:04o})", mode & 0o7777)
}

fn untrusted(dir: &Path, what: &str, uid: u32) -> io::Error {
    io::Error::other(format!(
        "{} {what}, and this process runs as user {uid}: set {VARIABLE} to a directory of this user that \
         nobody else can enter (mode 0700)",
        dir.display()
    ))
}

/// Removes the socket at `path` if it belongs to this user and no process listens at it any more. Returns
/// whether it was removed.
///
/// Anything else at that path stays: a file, a link, another user's socket, a socket of another kind, or a
/// socket at which a process listens.
pub fn remove_dead_socket(path: &Path, uid: u32) -> bool {
    let is_own = |file: &Metadata| file.file_type().is_socket() && file.uid() == uid;
    if !fs::symlink_metadata(path).as_ref().is_ok_and(is_own) {
        return false;
    }
    let answer = SocketPath::of(path).and_then(|short| UnixStream::connect(short.path()));
    let is_dead = answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    is_dead && fs::remove_file(path).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::{
        fs::symlink,
        net::{UnixDatagram, UnixListener},
    };

    use super::*;

    /// A directory that is removed at the end, and the user id of the test.
    struct Place(PathBuf, u32);

    impl Place {
        fn new(name: &str) -> Self {
            let dir = env::temp_dir().join(format!("hotswap-test-{name}-{}", std::process::id()));
            DirBuilder::new().mode(0o700).create(&dir).unwrap();
            let uid = fs::metadata(&dir).unwrap().uid();
            Self(fs::canonicalize(dir).unwrap(), uid)
        }

        fn mode(&self, mode: u32) {
            fs::set_permissions(&self.0, Permissions::from_mode(mode)).unwrap();
        }

        fn named(&self, uid: u32) -> RuntimeDir {
            RuntimeDir::among(uid, Some(self.0.clone().into()), env::temp_dir())
        }

        fn temporary(&self, uid: u32) -> RuntimeDir {
            RuntimeDir::among(uid, None, self.0.clone())
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_directory_of_the_users_own_is_used() {
        let place = Place::new("own");
        let dir = place.named(place.1);
        assert_eq!((dir.path(), dir.passed_over()), (&*place.0.join("hotswap"), None));
        assert_eq!(dir.check().unwrap_err().kind(), io::ErrorKind::NotFound);
        let made = dir.make(Some("stage")).unwrap();
        assert_eq!(fs::metadata(made).unwrap().mode() & 0o777, 0o700);
        dir.check().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        dir.make(None).unwrap();
        assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_directory_of_another_user_is_skipped() {
        let place = Place::new("other");
        let dir = place.named(place.1 + 1);
        assert_eq!(dir.path(), env::temp_dir().join(format!("hotswap-{}", place.1 + 1)));
        let why = dir.passed_over().unwrap();
        assert!(why.contains(&format!("belongs to user {}", place.1)), "{why}");
        for nothing in ["", "relative", "/does/not/exist"] {
            let dir = RuntimeDir::among(place.1, Some(nothing.into()), env::temp_dir());
            assert_eq!(dir.passed_over(), None);
        }
    }

    #[test]
    fn a_directory_that_others_can_change_is_refused() {
        let place = Place::new("open");
        place.mode(0o777);
        for dir in [place.named(place.1), place.temporary(place.1)] {
            let refused = dir.make(None).unwrap_err().to_string();
            assert!(refused.contains("can be changed by others (mode 0777)"), "{refused}");
            assert!(refused.contains("set XDG_RUNTIME_DIR to "), "{refused}");
            assert!(!dir.path().exists());
        }
        place.mode(0o1777);
        let dir = place.temporary(place.1);
        dir.make(None).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o770)).unwrap();
        assert!(dir.make(None).unwrap_err().to_string().contains("(mode 0770)"));
    }

    #[test]
    fn a_path_that_another_user_made_before_is_refused() {
        let place = Place::new("made");
        let dir = place.temporary(place.1);
        let elsewhere = place.0.join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, dir.path()).unwrap();
        assert!(dir.make(Some("stage")).unwrap_err().to_string().contains("is a link"));
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        fs::remove_file(dir.path()).unwrap();
        fs::write(dir.path(), "").unwrap();
        assert!(dir.make(None).unwrap_err().to_string().contains("is not a directory"));
        // Another user's directory.
        fs::remove_file(dir.path()).unwrap();
        dir.make(None).unwrap();
        let of_other = RuntimeDir { uid: place.1 + 1, ..dir };
        assert!(of_other.check().unwrap_err().to_string().contains("belongs to user"));
    }

    #[test]
    fn only_a_dead_socket_is_removed() {
        let place = Place::new("socket");
        let at = |name: &str| place.0.join(name);
        drop(UnixListener::bind(at("dead")).unwrap());
        drop(UnixListener::bind(at("led-to")).unwrap());
        let _lives = UnixListener::bind(at("lives")).unwrap();
        let _other = UnixDatagram::bind(at("datagrams")).unwrap();
        fs::write(at("file"), "years of work").unwrap();
        fs::create_dir(at("directory")).unwrap();
        symlink(at("led-to"), at("link")).unwrap();
        assert!(!remove_dead_socket(&at("dead"), place.1 + 1));
        assert!(remove_dead_socket(&at("dead"), place.1));
        for name in ["lives", "datagrams", "file", "directory", "link", "nothing"] {
            assert!(!remove_dead_socket(&at(name), place.1), "{name}");
        }
        assert!(at("led-to").exists() && at("link").exists() && !at("dead").exists());
    }
}
