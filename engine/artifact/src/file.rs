//! Opens the files of artifacts and patches, whoever wrote them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a file to read it.
///
/// # Errors
/// Also if it is not a regular file. To open a pipe would wait until another program opens it.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        Ok(file)
    } else if kind.is_dir() {
        Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}

/// Reads a whole file, which [`open`] opens.
///
/// # Errors
/// Those of [`open`], and if it cannot be read or is larger than the memory.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    let mut content = Vec::new();
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    content.try_reserve_exact(size)?;
    file.read_to_end(&mut content)?;
    Ok(content)
}
