//! Projects in unusual places: the project decides where sources, builds and tools are.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::{Component, Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Process, Project, repository};

fn number(project: &Project) -> Value {
    project.place().json(&["invoke", "one", "number"])["value"].clone()
}

/// Saves the plugin `one` with another number, and waits until that serves.
fn change(run: &mut Process, project: &Project, from: &str, to: &str) {
    project.edit("one/src/lib.rs", &format!("    {from}\n"), &format!("    {to}\n"));
    run.wait_for_event("reload_finished", |it| {
        let plugins = it["report"]["plugins"].as_array().unwrap();
        plugins.iter().any(|it| it["name"] == "one" && it["outcome"] == "ok")
    });
    assert_eq!(number(project).to_string(), to);
}

fn run_to_first_answer(project: &Project, command: Command) -> Process {
    let mut run = Process::start_reading(command);
    run.wait_for_event("connected", |_| true);
    run.wait_for_host("child=");
    assert_eq!(number(project), 1);
    run
}

/// A path to `target` that is relative to `dir`.
fn relative(target: &Path, dir: &Path) -> PathBuf {
    let up = dir.components().filter(|it| matches!(it, Component::Normal(_))).map(|_| "..");
    up.collect::<PathBuf>().join(target.strip_prefix("/").unwrap())
}

#[test]
fn names_with_spaces_and_letters_of_any_language_and_links_to_them() {
    let project = Project::called("größe 大 (1)", &["one"], &["one"]);
    project.write("texts/a b ß.txt", "seven");
    project.edit(
        "one/src/lib.rs",
        "    1\n",
        "    include_str!(\"../../texts/a b ß.txt\").len() as u32 - 4\n",
    );
    let link = project.root().with_file_name("link");
    symlink(project.root(), &link).unwrap();
    let mut command = project.command("hotswap");
    command.args(["run", "--json", "./app", "--offline", "--jobs", "2"]).current_dir(&link);
    let mut run = run_to_first_answer(&project, command);
    project.write("texts/a b ß.txt", "another text");
    run.wait_for_event("reload_finished", |it| it["report"]["generation"] == 2);
    assert_eq!(number(&project), 8);
}

#[test]
fn a_host_may_be_named_like_a_crate_that_it_needs() {
    let project = Project::new(&["one"], &["one"]);
    project.edit("app/Cargo.toml", "\"app\"", "\"itoa\"");
    let mut command = project.command("hotswap");
    command.args(["run", "--json", "./app", "--offline"]);
    let mut run = run_to_first_answer(&project, command);
    change(&mut run, &project, "1", "2");
}

#[test]
fn a_relative_target_directory_is_relative_to_the_working_directory() {
    let project = Project::new(&["one"], &["one"]);
    let dir = project.root().canonicalize().unwrap().join("deep/er");
    fs::create_dir_all(&dir).unwrap();
    let mut command = project.command("hotswap");
    command.args(["run", "--json", "../../app", "--offline"]).current_dir(&dir);
    command.env("CARGO_TARGET_DIR", relative(&project.target_dir(), &dir));
    let mut run = run_to_first_answer(&project, command);
    change(&mut run, &project, "1", "10");
    let host = project.place().json(&["status"])["host"].clone();
    let plugin_dir = Path::new(host["plugin_dir"].as_str().unwrap()).canonicalize().unwrap();
    assert!(plugin_dir.starts_with(project.target_dir().canonicalize().unwrap()), "{plugin_dir:?}");
    let targets = ["target", "app/target", "one/target"].map(|name| project.root().join(name));
    assert!(
        targets.iter().all(|dir| !dir.exists()),
        "the console uses the session's target directory: {targets:?}"
    );
}

#[test]
fn two_checkouts_may_share_a_target_directory() {
    let first = Project::new(&["one"], &["one"]);
    let second = first.another(&["one"], &["one"]);
    second.edit("one/src/lib.rs", "    1\n", "    2\n");
    second.edit("app/src/main.rs", "child=", "child of the second=");
    // Libraries that cargo compiles for this checkout are newer than the sources of the other.
    first.edit("app/src/main.rs", "child=", "child of the first=");
    let mut run = first.run(&[]);
    run.wait_for_event("connected", |_| true);
    run.wait_for_host("child of the first=");
    let mut other = second.run(&[]);
    other.wait_for_event("connected", |_| true);
    other.wait_for_host("child of the second=");
    assert_eq!((number(&first), number(&second)), (1.into(), 2.into()));

    second.edit("one/src/lib.rs", "    2\n", "    20\n");
    other.wait_for_event("reload_finished", |it| it["report"]["generation"] == 2);
    assert_eq!((number(&first), number(&second)), (1.into(), 20.into()));
    change(&mut run, &first, "1", "10");
    assert_eq!(number(&second), 20);
}

#[test]
fn a_build_directory_elsewhere_and_a_program_that_requires_features() {
    let project = Project::new(&["one"], &["one"]);
    let elsewhere = project.target_dir().with_file_name("project-elsewhere");
    project.write(
        ".cargo/config.toml",
        &format!("[build]\nbuild-dir = {:?}\n", elsewhere.display().to_string()),
    );
    let manifest = fs::read_to_string(project.root().join("app/Cargo.toml")).unwrap();
    let bin = "\n[[bin]]\nname = \"app\"\npath = \"src/main.rs\"\nrequired-features = [\"loud\"]\n";
    let flags = "cargo-flags = [\"--features\", \"loud\"]\n";
    project.write("app/Cargo.toml", &format!("{manifest}{flags}{bin}"));
    project.build_host(&["--features", "loud"]);
    let mut run = run_to_first_answer(&project, {
        let mut command = project.command("hotswap");
        command.args(["run", "--json", "./app", "--offline"]);
        command
    });
    assert_eq!(run.wait_for_host("loud="), "true");
    change(&mut run, &project, "1", "10");
    project.edit("app/src/main.rs", "no more to read", "nothing to read");
    run.wait_for_event("host_outdated", |_| true);
}

#[test]
fn each_command_builds_as_cargo_does_with_the_variables_of_its_shell() {
    let project = Project::new(&["one"], &["one"]);
    project.write(".cargo/config.toml", "[env]\nWORD = \"of the configuration\"\n");
    let body =
        "    std::hint::black_box(option_env!(\"WORD\").unwrap_or(\"of nobody\")).len() as u32\n";
    project.edit("one/src/lib.rs", "    1\n", body);
    let build = |variables: &[(&str, &[u8])]| {
        let mut command = project.command("hotswap");
        command.args(["build", "one", "out", "--", "--offline"]).current_dir(project.root());
        command.envs(variables.iter().map(|(name, value)| (name, OsStr::from_bytes(value))));
        let answer = Process::start(command).finish();
        assert_eq!(answer.code, Some(0), "{answer:?}");
        answer.stderr
    };
    let has = |text: &str| {
        let artifact = fs::read(project.root().join("out/one.so")).unwrap();
        artifact.windows(text.len()).any(|part| part == text.as_bytes())
    };
    let not_text: &[(&str, &[u8])] = &[("LATIN", b"gr\xfc\xdfe")];
    build(not_text);
    assert!(has("of the configuration"));
    project.edit("one/src/lib.rs", "of nobody", "of nobody at all");
    let output = build(not_text);
    assert!(!output.contains("running cargo"), "{output}");

    // Cargo's configuration does not replace a variable that is set.
    for (variables, word) in [
        (&[("WORD", b"of the shell".as_slice())][..], "of the shell"),
        (&[], "of the configuration"),
        (&[("WORD", b"of another shell")], "of another shell"),
    ] {
        build(variables);
        assert!(has(word), "{word}");
    }

    let wrapper = project.root().join("tools/wrapper");
    project.write("tools/wrapper", "#!/bin/sh\nexec \"$@\"\n");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let output = build(&[("RUSTC_WRAPPER", b"tools/wrapper")]);
    assert!(output.contains("RUSTC_WRAPPER is set"), "{output}");
}

/// Such a host has Rust's standard library as a shared library, which allocates by itself.
#[test]
fn a_host_with_a_library_of_the_type_dylib_finds_it_and_may_count_the_heap() {
    let project = Project::new(&["one"], &["one"]);
    project.write(
        "shared/Cargo.toml",
        "[package]\nname = \"shared\"\nversion = \"1.0.0\"\nedition = \"2024\"\n\n\
         [lib]\ncrate-type = [\"dylib\"]\n",
    );
    project.write(
        "shared/src/lib.rs",
        "pub fn text() -> String {\n    \"of the library\".to_owned()\n}\n",
    );
    project.edit("Cargo.toml", "[\"app\"", "[\"shared\", \"app\"");
    project.edit(
        "app/Cargo.toml",
        "[dependencies]\n",
        "[dependencies]\nshared = { path = \"../shared\" }\n",
    );
    let allocator = "#[global_allocator]\n\
         static ALLOCATOR: hotswap_engine::Allocator = hotswap_engine::Allocator::new();\n\nfn main() {";
    project.edit("app/src/main.rs", "fn main() {", allocator);
    let text = "println!(\"text={}\", shared::text());\n    println!(\"loud=";
    project.edit("app/src/main.rs", "println!(\"loud=", text);
    project.build_host(&[]);
    let mut run = project.run(&[]);
    run.wait_for_event("connected", |_| true);
    assert_eq!(run.wait_for_host("text="), "of the library");
    change(&mut run, &project, "1", "10");
}

#[test]
fn the_toolchain_is_the_one_that_the_project_names() {
    let project = Project::new(&["one"], &["one"]);
    let Some(toolchain) = same_toolchain_by_another_name() else { return };
    let file = format!("[toolchain]\nchannel = {toolchain:?}\n");
    project.write("rust-toolchain.toml", &file);
    let mut command = project.command("hotswap");
    // The variables of the toolchain that runs this test are removed, as in a user's shell.
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    command.args(["run", "--json", "./app", "--offline"]);
    let mut run = run_to_first_answer(&project, command);
    let used = run.wait_for_host("RUSTUP_TOOLCHAIN=");
    assert!(used.starts_with(&toolchain), "{used} was used instead of {toolchain}");
    run.signal(Signal::INT);
    run.finish();

    // The working directory, in which the host runs, has no such file.
    let mut command = project.command("hotswap");
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN").current_dir("/");
    command.args(["run", "--json", "--offline"]).arg(project.root().join("app"));
    let mut run = run_to_first_answer(&project, command);
    let used = run.wait_for_host("RUSTUP_TOOLCHAIN=");
    assert!(used.starts_with(&toolchain), "{used} was used instead of {toolchain}");
}

/// The name of another installed toolchain with the same compiler, preferably not the default one; `None` without
/// rustup.
fn same_toolchain_by_another_name() -> Option<String> {
    let rustup = |args: &[&str]| {
        let mut command = Command::new("rustup");
        command.args(args).env_remove("RUSTUP_TOOLCHAIN").current_dir(repository());
        let output = command.output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let version = |name: &str| rustup(&["run", name, "rustc", "-vV"]);
    let ours = rustup(&["show", "active-toolchain"])?;
    let ours = ours.split_whitespace().next()?.to_owned();
    let list = rustup(&["toolchain", "list"])?;
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let wanted = version(&ours)?;
    let others = names.into_iter().filter(|name| *name != ours);
    let same = others.into_iter().find(|name| version(name).as_ref() == Some(&wanted));
    Some(same.map_or(ours, str::to_owned))
}
