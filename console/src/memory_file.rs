//! The file that keeps what the console looked like: `$XDG_STATE_HOME/hotswap/screens.json`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::state::State;
use crate::state::memory::Memory;

/// A longer file is not ours.
const LONGEST: u64 = 1024 * 1024;

/// Where it is kept; none for a user without a home.
pub fn path() -> Option<PathBuf> {
    let directories = etcetera::base_strategy::Xdg::new().ok()?;
    Some(directories.state_dir()?.join("hotswap/screens.json"))
}

/// Reads it; a file that is not there is an empty one.
pub fn load(path: &Path) -> io::Result<Memory> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Memory::default()),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// Keeps what the screen looks like now. Other consoles may have kept theirs meanwhile, so the file
/// is read anew; a broken one is replaced.
pub fn keep(path: &Path, state: &State) -> io::Result<()> {
    let mut memory = load(path).unwrap_or_default();
    memory.keep(state);
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    let fresh = path.with_extension(format!("json.{}", std::process::id()));
    // What somebody looks for may be nobody else's business.
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(&serde_json::to_vec_pretty(&memory)?)?;
    fs::rename(&fresh, path)
}
