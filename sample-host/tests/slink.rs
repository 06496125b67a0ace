//! Runs the example `slink`, whose plugins are linked into it, alone and in a debugger.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// The example's program. Cargo has built it, unless it was asked to build only this test.
fn slink() -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let dir = test.ancestors().nth(2).expect("a directory of the profile");
    let program = dir.join("examples/slink");
    if !program.exists() {
        let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "-p", "sample-host", "--example", "slink", "--target-dir"]);
        build.arg(dir.parent().expect("a target directory"));
        assert!(build.status().expect("run cargo").success(), "slink does not build");
    }
    program
}

fn run(command: &mut Command) -> String {
    let Output { stdout, stderr, .. } =
        command.stdin(Stdio::null()).output().expect("run a program");
    format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
}

#[test]
fn it_calls_the_plugins_that_are_linked_into_it() {
    let said = run(&mut Command::new(slink()));
    let expected = "dog: added, guardian: added, world: added; statically linked: true\n\
                    Hello, Ada! Hello, Ada!\n\
                    woof woof woof (3 in all)\n\
                    Bang! Bang! Bang!\n\
                    Enter reloads, Ctrl-D ends\n";
    assert_eq!(said, expected);
}

#[test]
fn a_debugger_stops_in_a_plugins_function() {
    if Command::new("gdb").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: there is no gdb");
        return;
    }
    let source = "sample-plugins/dog/src/lib.rs";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(source);
    let text = fs::read_to_string(path).expect("the plugin's source");
    let line = text.lines().position(|line| line.contains("let barks = ")).expect("a line") + 1;
    let mut gdb = Command::new("gdb");
    gdb.args(["-batch", "-nx", "-ex", "set breakpoint pending off"]);
    gdb.args(["-ex", &format!("break {source}:{line}"), "-ex", "run", "-ex", "backtrace 1"]);
    let said = run(gdb.arg(slink()));
    if said.contains("ptrace: Operation not permitted") {
        eprintln!("skipped: debugging is not permitted here");
        return;
    }
    assert!(said.contains("hit Breakpoint 1"), "{said}");
    assert!(said.contains(&format!("bark () at {source}:{line}")), "{said}");
}
