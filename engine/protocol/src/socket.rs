//! Access to sockets whose paths are longer than the system allows.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

/// The longest path of a socket that Linux allows, in bytes without the terminating zero (`sun_path` in
/// unix(7)).
const MAX_BYTES: usize = 107;

/// A short path to a socket, for binding or connecting, however long the socket's own path is.
///
/// If the socket's own path is too long, the short path leads through an open descriptor of the socket's
/// directory. The descriptor stays open as long as this value lives.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    _directory: Option<File>,
}

impl SocketPath {
    /// Finds a path by which the system can reach `path`.
    ///
    /// # Errors
    /// If the path is too long and there is no short one: its directory cannot be opened, its last component
    /// alone is too long, or `/proc` is not mounted.
    pub fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= MAX_BYTES {
            return Ok(Self { path: path.to_owned(), _directory: None });
        }
        let too_long = || {
            io::Error::other(format!(
                "the path has {} bytes; the path of a socket can have at most {MAX_BYTES}: set \
                 XDG_RUNTIME_DIR to a shorter one",
                path.as_os_str().len()
            ))
        };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(too_long());
        };
        let directory = File::open(parent)?;
        let through = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let short = through.join(name);
        if short.as_os_str().len() > MAX_BYTES || !through.exists() {
            return Err(too_long());
        }
        Ok(Self { path: short, _directory: Some(directory) })
    }

    /// The path to bind or to connect to.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_socket_at_a_long_path_is_reached() {
        let root = std::env::temp_dir().join(format!("hotswap-test-long-{}", std::process::id()));
        let dir = root.join("d".repeat(120));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("4125.sock");
        assert!(UnixListener::bind(&path).is_err());
        let _listener = UnixListener::bind(SocketPath::of(&path).unwrap().path()).unwrap();
        assert!(path.exists());
        UnixStream::connect(SocketPath::of(&path).unwrap().path()).unwrap();
        let message = SocketPath::of(&dir.join("n".repeat(120))).unwrap_err().to_string();
        assert!(message.contains("at most 107"), "{message}");
        std::fs::remove_dir_all(root).unwrap();
    }
}
