//! The file that keeps what the console looked like: `$XDG_STATE_HOME/hotswap/screens.json`.

use std::io;
use std::path::{Path, PathBuf};

use crate::screen::model::State;
use crate::screen::model::memory::Memory;

/// A longer file is not ours.
const LONGEST: u64 = 1024 * 1024;

/// Where it is kept; none for a user without a home.
pub fn path() -> Option<PathBuf> {
    super::path("screens.json")
}

/// Reads it; a file that is not there is an empty one.
pub fn load(path: &Path) -> io::Result<Memory> {
    super::load(path, LONGEST)
}

/// Keeps what the screen looks like now. Other consoles may have kept theirs meanwhile, so the file
/// is read anew; a broken one is replaced.
pub fn keep(path: &Path, state: &State) -> io::Result<()> {
    let mut memory = load(path).unwrap_or_default();
    memory.keep(state);
    super::store(path, &memory)
}
