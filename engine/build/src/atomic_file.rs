//! Files that are there as a whole or not at all.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Makes `path` hold `contents`, through a temporary file beside it. A file that holds them
/// already stays as it is, so that its inode and times go on saying that nothing changed.
///
/// The temporary file's name ends in `.tmp`: whoever looks for libraries does not see it.
pub(crate) fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    write_with_mode(path, contents, 0o644)
}

/// As `write`, for a program or a library.
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

/// Dates a file so that it is the newest beside `others`, whatever the clock says: it may have been set
/// back since these were written.
pub(crate) fn date_as_newest(
    path: &Path,
    others: impl Iterator<Item = SystemTime>,
) -> io::Result<()> {
    let after = others.max().and_then(|newest| newest.checked_add(Duration::from_millis(1)));
    let now = after.map_or_else(SystemTime::now, |after| after.max(SystemTime::now()));
    File::options().write(true).open(path)?.set_modified(now)
}
