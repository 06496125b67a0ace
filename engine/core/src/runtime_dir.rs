//! The private directories of this user: the one where hosts and consoles meet, and those where artifacts are
//! staged.

use std::path::{Path, PathBuf};

use hotswap_protocol::RuntimeDir;

use crate::{EngineError, os};

/// A directory of this user that no other user can enter.
pub(crate) fn runtime_dir(within: Option<&str>) -> Result<PathBuf, EngineError> {
    let dir = RuntimeDir::of(os::user_id());
    if let Some(why) = dir.passed_over() {
        tracing::warn!("{why}; {} is used instead", dir.path().display());
    }
    make(&dir, within, "cannot use the runtime directory")
}

/// The directory that the host names for its copies of artifacts.
pub(crate) fn named_dir(path: &Path) -> Result<PathBuf, EngineError> {
    let dir = RuntimeDir::at(path.to_owned(), os::user_id());
    make(&dir, None, "cannot use the directory for copies of artifacts")
}

fn make(dir: &RuntimeDir, within: Option<&str>, failed: &str) -> Result<PathBuf, EngineError> {
    dir.make(within).map_err(|error| EngineError::Setup {
        what: failed.into(),
        path: dir.path().to_owned(),
        error,
    })
}
