//! A socket on which a plugin's function waits, so that a test knows that it runs and when it ends.

use std::{
    io::Read,
    os::unix::net::{UnixListener, UnixStream},
};

use tempfile::TempDir;

/// A gate that is shut until it is opened.
pub struct Gate {
    listener: UnixListener,
    path: String,
    _dir: TempDir,
}

/// Somebody who waits at a gate.
pub struct Waiting(UnixStream);

impl Gate {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        let path = dir.path().join("gate");
        let listener = UnixListener::bind(&path).expect("listen at a gate");
        Self { listener, path: path.display().to_string(), _dir: dir }
    }

    /// What a plugin connects to.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Waits until somebody waits.
    pub fn arrival(&self) -> Waiting {
        Waiting(self.listener.accept().expect("accept at a gate").0)
    }

    /// Waits until somebody says something and leaves.
    pub fn message(&self) -> String {
        let mut text = String::new();
        self.arrival().0.read_to_string(&mut text).expect("read at a gate");
        text
    }
}

impl Waiting {
    /// Lets them go on.
    pub fn release(self) {
        drop(self);
    }
}
