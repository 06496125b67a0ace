//! The file that keeps what functions were called with: `$XDG_STATE_HOME/hotswap/history.json`.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::screen::model::history::History;

/// A longer file is not ours.
const LONGEST: u64 = 64 * 1024 * 1024;

/// Where the history is kept; none for a user without a home.
pub fn path() -> Option<PathBuf> {
    super::path("history.json")
}

/// Reads the history; a file that is not there is an empty one.
pub fn load(path: &Path) -> io::Result<History> {
    super::load(path, LONGEST)
}

/// Adds a call to what is kept. Other consoles may have added theirs, so the file is read anew; a
/// broken one is replaced.
pub fn remember(path: &Path, key: &str, args: Vec<Value>) -> io::Result<()> {
    let mut history = load(path).unwrap_or_default();
    history.remember(key, args);
    super::store(path, &history)
}
