//! Where the hosts and consoles of one user meet: a directory that nobody else can enter.
//!
//! Whoever can change it can give a host another library to load, and a console another host to talk
//! to. So it is looked at before it is used, and what does not belong there is left alone.

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

/// The environment variable that names a directory of the user's own.
const VARIABLE: &str = "XDG_RUNTIME_DIR";

/// The permission bits that let others change what is in a directory.
const OTHERS_WRITE: u32 = 0o022;
/// The permission bits that let others do anything at all.
const OTHERS: u32 = 0o077;
/// Where it is set, only the owner of a file can rename or remove it.
const STICKY: u32 = 0o1000;

/// The runtime directory of a user: `$XDG_RUNTIME_DIR/hotswap`, or `hotswap-UID` among the temporary
/// files where the variable names no directory of this user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeDir {
    path: PathBuf,
    uid: u32,
    passed_over: Option<String>,
}

impl RuntimeDir {
    /// The directory of the user with this id, who runs this program. Nothing is made yet.
    pub fn of(uid: u32) -> Self {
        Self::among(uid, env::var_os(VARIABLE), env::temp_dir())
    }

    fn among(uid: u32, named: Option<OsString>, temporary: PathBuf) -> Self {
        let named = named.map(PathBuf::from).filter(|dir| dir.is_absolute());
        // Where a link leads to may change; where it leads to now does not.
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

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why the directory that the environment names is not used, if it names one.
    pub fn passed_over(&self) -> Option<&str> {
        self.passed_over.as_deref()
    }

    /// Whether it is there, and nobody else can change what is in it.
    ///
    /// # Errors
    /// When somebody could; the message says who, and what to do. Also when it is not there.
    pub fn check(&self) -> io::Result<()> {
        self.check_parent()?;
        self.check_own(&self.path)
    }

    /// Makes it, or a directory in it, for this user alone.
    ///
    /// # Errors
    /// As [`check`](Self::check).
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

    /// Whoever can change the parent can put another directory in this one's place.
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
        // A directory among everybody's temporary files may have been made by somebody else first.
        let metadata = fs::symlink_metadata(dir)?;
        if !metadata.is_dir() {
            let what = if metadata.is_symlink() { "is a link" } else { "is no directory" };
            return Err(untrusted(dir, what, self.uid));
        }
        expect_owned(dir, &metadata, self.uid)?;
        if metadata.mode() & OTHERS_WRITE != 0 {
            return Err(untrusted(dir, &others_write(metadata.mode()), self.uid));
        }
        Ok(())
    }
}

/// Whether a directory is the user's, wherever a link to it lies.
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
        "{} {what}, and this runs as user {uid}: set {VARIABLE} to a directory of that user's which \
         nobody else can enter (mode 0700)",
        dir.display()
    ))
}

/// Removes a socket of this user's at which nobody listens any more; says whether it did. Anything else
/// at that path stays: a file, a link, somebody else's socket, one of another kind, one that answers.
pub fn remove_dead_socket(path: &Path, uid: u32) -> bool {
    let is_own = |file: &Metadata| file.file_type().is_socket() && file.uid() == uid;
    if !fs::symlink_metadata(path).as_ref().is_ok_and(is_own) {
        return false;
    }
    let answer = UnixStream::connect(path);
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

    /// A directory that is removed in the end, and the id of whoever runs the test.
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
    fn a_directory_of_somebody_elses_is_passed_over() {
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
    fn what_somebody_made_before_is_refused() {
        let place = Place::new("made");
        let dir = place.temporary(place.1);
        let elsewhere = place.0.join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, dir.path()).unwrap();
        assert!(dir.make(Some("stage")).unwrap_err().to_string().contains("is a link"));
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        fs::remove_file(dir.path()).unwrap();
        fs::write(dir.path(), "").unwrap();
        assert!(dir.make(None).unwrap_err().to_string().contains("is no directory"));
        // As another user would find it.
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
