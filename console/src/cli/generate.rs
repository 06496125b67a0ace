//! `hotswap completions` and `hotswap man`: files that are generated from the command lines.

use std::io::{self, Write};
use std::path::Path;

use clap_complete::Shell;
use hotswap_protocol::{ErrorKind, WireError};

use super::{Arguments, console};
use crate::failure::Failure;

/// Prints the script that completes `hotswap` in this shell.
pub(super) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::described(), "hotswap", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

/// Writes a page for `hotswap`, one for each of its commands, and one for `hotswap-console`.
pub(super) fn man(directory: &Path) -> Result<(), Failure> {
    let written = std::fs::create_dir_all(directory).and_then(|()| {
        clap_mangen::generate_to(Arguments::described(), directory)?;
        clap_mangen::generate_to(console::command(), directory)
    });
    written.map_err(|error| {
        let message =
            format!("the man pages cannot be written to {}: {error}", directory.display());
        WireError::new(ErrorKind::Internal, message).into()
    })
}
