//! The file that keeps what functions were called with: `$XDG_STATE_HOME/hotswap/history.json`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use serde_json::Value;

use crate::state::history::History;

/// A longer file is not ours.
const LONGEST: u64 = 64 * 1024 * 1024;

/// Where the history is kept; none for a user without a home.
pub fn path() -> Option<PathBuf> {
    let directories = etcetera::base_strategy::Xdg::new().ok()?;
    Some(directories.state_dir()?.join("hotswap/history.json"))
}

/// Reads the history; a file that is not there is an empty one.
pub fn load(path: &Path) -> io::Result<History> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(History::default()),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// Adds a call to what is kept. Other consoles may have added theirs, so the file is read anew; a
/// broken one is replaced.
pub fn remember(path: &Path, key: &str, args: Vec<Value>) -> io::Result<()> {
    let mut history = load(path).unwrap_or_default();
    history.remember(key, args);
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    let fresh = path.with_extension(format!("json.{}", std::process::id()));
    // Arguments may be nobody else's business.
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(&serde_json::to_vec(&history)?)?;
    fs::rename(&fresh, path)
}
