//! The file from which an image is opened.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use crate::{artifact::Facts, os};

/// A copy that was inspected, and that can be opened under its name.
pub(crate) struct Named {
    pub copy: Copied,
    pub facts: Facts,
    /// Locks the stored build, if the artifact is in the store, as long as its copy is used.
    pub stored: Option<File>,
}

/// A copy of an artifact, in the staging directory or in memory. A file in the directory is removed when this
/// is dropped.
pub(crate) struct Copied {
    path: PathBuf,
    /// The file, if it is in memory. The path leads through its descriptor.
    in_memory: Option<File>,
}

impl Copied {
    /// The copy at `path`, which exists.
    pub fn at(path: PathBuf) -> Self {
        Self { path, in_memory: None }
    }

    /// The copy in a memory file.
    pub fn in_memory(file: File) -> Self {
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Self { path, in_memory: Some(file) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same copy under the name `named`. A memory file has no name, and gets another path.
    pub fn renamed(&self, named: &Path) -> io::Result<Self> {
        match &self.in_memory {
            Some(file) => file.try_clone().map(Self::in_memory),
            None => fs::rename(&self.path, named).map(|()| Self::at(named.to_owned())),
        }
    }

    /// Notes that nothing is written to the copy any more.
    pub fn is_written(&self) {
        if let Some(file) = &self.in_memory {
            let _ = os::keep_content(file);
        }
    }
}

impl Drop for Copied {
    /// The copy is removed with its image. On Linux, a mapped file could be unlinked earlier, but the
    /// directory should show what is loaded.
    fn drop(&mut self) {
        if self.in_memory.is_none() {
            let _ = fs::remove_file(&self.path);
        }
    }
}
