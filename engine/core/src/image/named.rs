//! The file that an image is opened from.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use crate::artifact::Facts;

/// A copy that was inspected, and may be opened under its name.
pub(crate) struct Named {
    pub copy: Copied,
    pub facts: Facts,
    /// Keeps the artifact in the store, if it is there, as long as its copy is of use.
    pub stored: Option<File>,
}

/// A copy of an artifact in the staging directory, removed when dropped.
pub(crate) struct Copied(PathBuf);

impl Copied {
    /// The copy at a path, which is there.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Copied {
    /// The copy goes with the image; on Linux a mapped file may be unlinked, but whoever looks
    /// into the directory should see what is loaded.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
