//! A socket at which a plugin's function waits, so that a test knows that the function runs, and decides when it
//! ends.

use std::{
    io::Read,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

use tempfile::TempDir;

/// A gate that is closed until it is opened.
pub struct Gate {
    listener: UnixListener,
    path: String,
    _dir: Option<TempDir>,
}

/// A function that waits at a gate.
pub struct Waiting(UnixStream);

impl Gate {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        let mut gate = Self::at(&dir.path().join("gate"));
        gate._dir = Some(dir);
        gate
    }

    /// A gate at a path that the plugin knows.
    pub fn at(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("listen at a gate");
        Self { listener, path: path.display().to_string(), _dir: None }
    }

    /// The path that a plugin connects to.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Waits until a function has arrived.
    pub fn arrival(&self) -> Waiting {
        Waiting(self.listener.accept().expect("accept at a gate").0)
    }

    /// Whether a function has arrived that the test has not waited for.
    pub fn has_arrivals(&self) -> bool {
        self.listener.set_nonblocking(true).expect("make a gate non-blocking");
        let arrival = self.listener.accept();
        self.listener.set_nonblocking(false).expect("make a gate blocking");
        arrival.is_ok()
    }

    /// Waits for a connection, and reads its message.
    pub fn message(&self) -> String {
        let mut text = String::new();
        self.arrival().0.read_to_string(&mut text).expect("read at a gate");
        text
    }
}

impl Waiting {
    /// Lets the function continue.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
