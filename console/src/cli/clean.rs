//! Removes variables that cargo set for this program, so that hosts and builds that it starts do not inherit them.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The prefixes of the variables that cargo sets for a program that it runs.
const OF_PROGRAM: [&str; 6] = [
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_",
    "CARGO_CRATE_NAME",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_TARGET_TMPDIR",
];
/// The variables that choose the toolchain. Cargo sets them for this program if it runs it; otherwise the user has
/// set them.
const OF_TOOLCHAIN: [&str; 4] = ["CARGO", "RUSTUP_TOOLCHAIN", "RUST_RECURSION_COUNT", "RUSTC"];
/// The search path of libraries. Cargo adds the directories of its build at the beginning.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// Starts this program again, with the same process id, without the variables that `cargo run` has set. `None` if
/// there are no such variables; an exit code if the start fails.
pub(crate) fn without_cargo() -> Option<ExitCode> {
    env::var_os("CARGO_MANIFEST_DIR")?;
    let is_ours = env::var_os("CARGO_PKG_NAME").is_some_and(|name| name == env!("CARGO_PKG_NAME"));
    let program = env::current_exe().ok()?;
    let mut arguments = env::args_os();
    let mut command = Command::new(&program);
    command.arg0(arguments.next()?).args(arguments);
    for (name, _) in env::vars_os().filter(|(name, _)| is_cargos(name, is_ours)) {
        command.env_remove(name);
    }
    if let Some(path) = env::var_os(LIBRARY_PATH).filter(|_| is_ours) {
        match library_path(&path, &program) {
            Some(path) => command.env(LIBRARY_PATH, path),
            None => command.env_remove(LIBRARY_PATH),
        };
    }
    let error = command.exec();
    let _ = writeln!(io::stderr(), "hotswap: cannot start {} again: {error}", program.display());
    Some(ExitCode::FAILURE)
}

fn is_cargos(name: &OsStr, is_ours: bool) -> bool {
    let name = name.to_string_lossy();
    OF_PROGRAM.iter().any(|beginning| name.starts_with(beginning))
        || is_ours && OF_TOOLCHAIN.contains(&&*name)
}

/// The library path without the directories of this program's build and of its toolchain; `None` if nothing is
/// left.
fn library_path(path: &OsStr, program: &Path) -> Option<OsString> {
    let target_dir = program.ancestors().nth(2);
    let toolchain = env::var_os("CARGO").map(std::path::PathBuf::from);
    let toolchain = toolchain.as_deref().and_then(|cargo| cargo.ancestors().nth(2));
    let is_cargos = |dir: &std::path::PathBuf| {
        [target_dir, toolchain].into_iter().flatten().any(|place| dir.starts_with(place))
    };
    let others = env::split_paths(path).filter(|dir| !is_cargos(dir));
    env::join_paths(others).ok().filter(|path| !path.is_empty())
}
