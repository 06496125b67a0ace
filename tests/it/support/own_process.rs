//! What cannot be shown in the process of the other tests: it may end it.

use std::{
    any::type_name,
    env,
    process::{Command, ExitStatus, exit},
};

use super::plugins::{KEPT, kept_dir};

const IS_OWN: &str = "HOTSWAP_TEST_IN_OWN_PROCESS";

/// How a process of a test's own ended.
pub struct End {
    pub status: ExitStatus,
    /// What it wrote to either stream.
    pub output: String,
}

/// Runs the rest of a test, which is what is handed over here, in a process of its own.
pub fn in_own_process<F: FnOnce()>(rest: F) -> End {
    if env::var_os(IS_OWN).is_some() {
        rest();
        exit(0);
    }
    let closure = type_name::<F>();
    let test = closure.split_once("::").and_then(|(_, path)| path.strip_suffix("::{{closure}}"));
    let test = test.unwrap_or_else(|| panic!("{closure} is no closure of a test"));
    let mut command = Command::new(env::current_exe().expect("the path of this test"));
    command.args(["--exact", test, "--nocapture"]).env(IS_OWN, "1").env_remove("RUST_BACKTRACE");
    command.env(KEPT, kept_dir());
    let output = command.output().expect("run this test once more");
    let text = [output.stdout, output.stderr].concat();
    End { status: output.status, output: String::from_utf8_lossy(&text).into_owned() }
}
