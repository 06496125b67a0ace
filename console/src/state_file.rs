//! Files that outlive a console, below `$XDG_STATE_HOME/hotswap`. Several consoles may write them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where a file of this name is kept; none for a user without a home.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    let directories = etcetera::base_strategy::Xdg::new().ok()?;
    Some(directories.state_dir()?.join("hotswap").join(name))
}

/// Reads a file of JSON that has so many bytes at most; one that is not there is an empty one.
pub(crate) fn load<T: DeserializeOwned + Default>(path: &Path, longest: u64) -> io::Result<T> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(longest).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// Replaces a file as a whole. Nobody else may read it: what was typed may be nobody else's business.
pub(crate) fn store(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    let fresh = path.with_extension(format!("json.{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(&serde_json::to_vec(content)?)?;
    fs::rename(&fresh, path)
}
