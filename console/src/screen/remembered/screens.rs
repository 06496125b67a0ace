//! The file with the look of the console: `$XDG_STATE_HOME/hotswap/screens.json`.

use std::io;
use std::path::{Path, PathBuf};

use crate::screen::model::State;
use crate::screen::model::memory::Memory;

/// The maximum size of the file, in bytes. A longer one is not read.
const LONGEST: u64 = 1024 * 1024;

/// The path of the file; `None` for a user without a home directory.
pub fn path() -> Option<PathBuf> {
    super::path("screens.json")
}

/// Reads the file; a missing one gives the default.
pub fn load(path: &Path) -> io::Result<Memory> {
    super::load(path, LONGEST)
}

/// Adds the present look to the file. The file is read again, because other consoles may have changed it. A broken file
/// is replaced.
pub fn keep(path: &Path, state: &State) -> io::Result<()> {
    let mut memory = load(path).unwrap_or_default();
    memory.keep(state);
    super::store(path, &memory)
}
