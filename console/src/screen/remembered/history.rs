//! The file with the arguments of earlier calls: `$XDG_STATE_HOME/hotswap/history.json`.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::screen::model::history::History;

/// The maximum size of the file, in bytes. A longer one is not read.
const LONGEST: u64 = 64 * 1024 * 1024;

/// The path of the history; `None` for a user without a home directory.
pub fn path() -> Option<PathBuf> {
    super::path("history.json")
}

/// Reads the history; a missing file gives an empty one.
pub fn load(path: &Path) -> io::Result<History> {
    super::load(path, LONGEST)
}

/// Adds a call to the history. The file is read again, because other consoles may have added calls. A broken file is
/// replaced.
pub fn remember(path: &Path, key: &str, args: Vec<Value>) -> io::Result<()> {
    let mut history = load(path).unwrap_or_default();
    history.remember(key, args);
    super::store(path, &history)
}
