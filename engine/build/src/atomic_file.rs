//! Writes files that appear as a whole or not at all.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Writes `contents` to `path`, through a temporary file beside it that is renamed. A file that has these
/// contents already is left alone, so that its inode and times show that nothing changed.
///
/// The name of the temporary file ends in `.tmp`, so that it is not mistaken for a library.
pub(crate) fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    write_with_mode(path, contents, 0o644)
}

/// Writes like [`write`], with the permissions of a program or a library.
pub(crate) fn write_executable(path: &Path, contents: &[u8]) -> io::Result<()> {
    write_with_mode(path, contents, 0o755)
}

fn write_with_mode(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    if holds(path, contents) {
        return Ok(());
    }
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut file = tempfile::Builder::new()
        .prefix(".hotswap-")
        .suffix(".tmp")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)?;
    file.write_all(contents)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn holds(path: &Path, contents: &[u8]) -> bool {
    let same_size = fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() == contents.len() as u64);
    same_size && fs::read(path).is_ok_and(|present| present == contents)
}

/// Sets the modification time of `path` to now, or, if the clock was set back, to later than that of all
/// `others`.
pub(crate) fn date_as_newest(
    path: &Path,
    others: impl Iterator<Item = SystemTime>,
) -> io::Result<()> {
    let after = others.max().and_then(|newest| newest.checked_add(Duration::from_millis(1)));
    let now = after.map_or_else(SystemTime::now, |after| after.max(SystemTime::now()));
    File::options().write(true).open(path)?.set_modified(now)
}
