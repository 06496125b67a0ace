//! The file that an image is opened from.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use crate::{artifact::Facts, os};

/// A copy that was inspected, and may be opened under its name.
pub(crate) struct Named {
    pub copy: Copied,
    pub facts: Facts,
    /// Keeps the artifact in the store, if it is there, as long as its copy is of use.
    pub stored: Option<File>,
}

/// A copy of an artifact in the staging directory, removed when dropped; or one in memory.
pub(crate) struct Copied {
    path: PathBuf,
    /// The file, if it is one in memory. The path leads through its descriptor.
    in_memory: Option<File>,
}

impl Copied {
    /// The copy at a path, which is there.
    pub fn at(path: PathBuf) -> Self {
        Self { path, in_memory: None }
    }

    /// The copy in a file in memory.
    pub fn in_memory(file: File) -> Self {
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Self { path, in_memory: Some(file) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same copy under the name `named`. A file in memory has no name, and gets another path.
    pub fn renamed(&self, named: &Path) -> io::Result<Self> {
        match &self.in_memory {
            Some(file) => file.try_clone().map(Self::in_memory),
            None => fs::rename(&self.path, named).map(|()| Self::at(named.to_owned())),
        }
    }

    /// Nothing is written to the copy any more.
    pub fn is_written(&self) {
        if let Some(file) = &self.in_memory {
            let _ = os::keep_content(file);
        }
    }
}

impl Drop for Copied {
    /// The copy goes with the image; on Linux a mapped file may be unlinked, but whoever looks
    /// into the directory should see what is loaded.
    fn drop(&mut self) {
        if self.in_memory.is_none() {
            let _ = fs::remove_file(&self.path);
        }
    }
}
