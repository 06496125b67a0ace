//! Files that outlive a console, below `$XDG_STATE_HOME/hotswap`. Several consoles may write them.

pub mod history;
pub mod screens;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The path of a file with this name; `None` for a user without a home directory.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    let directories = etcetera::base_strategy::Xdg::new().ok()?;
    Some(directories.state_dir()?.join("hotswap").join(name))
}

/// Reads a JSON file of at most `longest` bytes; a missing file gives the default.
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

/// Replaces a file as a whole. Other users cannot read it, because typed values may be private.
pub(crate) fn store(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    let content = serde_json::to_vec(content)?;
    let (fresh, mut file) = fresh_beside(path)?;
    let written = file.write_all(&content).and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        let _ = fs::remove_file(fresh);
    }
    written
}

/// Creates a file with a name that does not exist yet. An existing file or link is never written to.
fn fresh_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut count = 0;
    loop {
        let fresh = path.with_extension(format!("json.{}-{count}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => count += 1,
            opened => return Ok((fresh, opened?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_and_no_other_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mine) = (dir.path().join("history.json"), dir.path().join("thesis"));
        fs::write(&mine, "years of work").unwrap();
        for name in ["history.json".to_owned(), format!("history.json.{}-0", std::process::id())] {
            symlink(&mine, dir.path().join(name)).unwrap();
        }
        store(&path, &[1, 2]).unwrap();
        assert_eq!(load::<Vec<u32>>(&path, 100).unwrap(), [1, 2]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(mine).unwrap(), "years of work");
    }
}
