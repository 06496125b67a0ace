//! Paths without links.

use std::fs;
use std::path::{Path, PathBuf};

/// The path without links; `path` itself if nothing exists there.
pub(crate) fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// The path without links in its directory. The file itself may be a link, or missing.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) => real(dir).join(name),
        _ => path.to_owned(),
    }
}
