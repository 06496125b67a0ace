//! Runs parts of tests in another process, which they may end.

use std::{
    any::type_name,
    env,
    io::Write as _,
    path::PathBuf,
    process::{Command, ExitStatus, exit},
};

use super::plugins::{KEPT, shared_dir};

const IS_OWN: &str = "HOTSWAP_TEST_IN_OWN_PROCESS";

/// The end of such a process.
pub struct End {
    pub status: ExitStatus,
    /// Its output on both streams.
    pub output: String,
}

/// Runs the rest of a test, `rest`, in a process of its own.
pub fn in_own_process<F: FnOnce()>(rest: F) -> End {
    // The process may end without dropping anything. Its files are removed with this directory.
    let scratch = tempfile::tempdir().expect("make a directory");
    let mut command = Command::new(own_program());
    command.env("TMPDIR", scratch.path());
    in_process_of(command, rest)
}

/// Like [`in_own_process`], with mounts that a shell script makes for this process alone. `None`, with a printed
/// remark, if this machine does not allow it.
pub fn in_own_mounts<F: FnOnce()>(script: &str, rest: F) -> Option<End> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c"]);
    if env::var_os(IS_OWN).is_none() {
        let tried = command.arg(script).output();
        if !tried.as_ref().is_ok_and(|output| output.status.success()) {
            // This bypasses the test harness, which hides the output of tests that pass.
            let why =
                format!("skipped: this machine does not let the test do `{script}`: {tried:?}");
            let _ = writeln!(std::io::stderr(), "{why}");
            return None;
        }
    }
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", &format!("{script} && exec \"$0\" \"$@\"")])
        .arg(own_program());
    Some(in_process_of(command, rest))
}

/// The path of this test.
fn own_program() -> PathBuf {
    // Without `/proc`, only the path by which it was started is known.
    let started_as = || env::args_os().next().map(PathBuf::from);
    env::current_exe().ok().or_else(started_as).expect("the path of this test")
}

fn in_process_of<F: FnOnce()>(mut command: Command, rest: F) -> End {
    if env::var_os(IS_OWN).is_some() {
        rest();
        exit(0);
    }
    let closure = type_name::<F>();
    let test = closure.split_once("::").and_then(|(_, path)| path.strip_suffix("::{{closure}}"));
    let test = test.unwrap_or_else(|| panic!("{closure} is not a closure of a test"));
    command.args(["--exact", test, "--nocapture"]).env(IS_OWN, "1").env_remove("RUST_BACKTRACE");
    command.env(KEPT, shared_dir());
    let output = command.output().expect("run this test once more");
    let text = [output.stdout, output.stderr].concat();
    End { status: output.status, output: String::from_utf8_lossy(&text).into_owned() }
}
