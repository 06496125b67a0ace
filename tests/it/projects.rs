//! Projects of other people: `hotswap run` in a workspace outside the repository.

use std::{fs, path::Path};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Process, Project};

fn event(run: &mut Process, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    run.wait_for_json(name, |value| value["event"] == name && wanted(value))
}

fn text(run: &mut Process, beginning: &str) -> String {
    let line = run.wait_for_json(beginning, |value| {
        value["event"] == "output"
            && value["text"].as_str().is_some_and(|text| text.starts_with(beginning))
    });
    line["text"].as_str().unwrap()[beginning.len()..].to_owned()
}

fn number(project: &Project, plugin: &str) -> Value {
    project.place().json(&["invoke", plugin, "number"])["value"].clone()
}

#[test]
fn the_list_of_plugins_is_followed_while_the_host_runs() {
    let project = Project::new(&["one", "two"], &["one", "two", "three"]);
    let mut run = project.run(&[]);
    event(&mut run, "connected", |_| true);
    text(&mut run, "child=");
    assert_eq!(number(&project, "two"), 2);

    project.list(&["one", "three"]);
    let changed = event(&mut run, "plugins_changed", |_| true);
    assert_eq!(changed["added"], serde_json::json!(["three"]));
    assert_eq!(changed["removed"], serde_json::json!(["two"]));
    event(&mut run, "version_changed", |it| it["plugin"] == "two" && it["state"] == "freed");
    assert_eq!((number(&project, "three"), number(&project, "one")), (3.into(), 1.into()));
    let error = project.place().refusal(1, &["invoke", "two", "number"]);
    assert_eq!(error["kind"], "unknown_plugin");

    // Artifacts that vanish unload nothing, and are built anew beside what is saved.
    let host = project.place().json(&["status"])["host"].clone();
    let plugin_dir = Path::new(host["plugin_dir"].as_str().unwrap());
    let name = plugin_dir.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("app-"), "others may share the target directory: {name}");
    for entry in fs::read_dir(plugin_dir).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    project.edit("one/src/lib.rs", "    1\n", "    10\n");
    event(&mut run, "reload_finished", |it| {
        let plugins = it["report"]["plugins"].as_array().unwrap();
        plugins.iter().any(|it| it["name"] == "one" && it["outcome"] == "ok")
            && plugins.iter().any(|it| it["name"] == "three" && it["outcome"] == "unchanged")
    });
    assert_eq!((number(&project, "one"), number(&project, "three")), (10.into(), 3.into()));

    // The host's own sources are told, once they differ from what it was compiled from.
    project.edit("app/src/main.rs", "no more to read", "nothing to read");
    event(&mut run, "host_outdated", |_| true);
    run.signal(Signal::INT);
    run.finish();

    // What was taken off is not loaded by the next start either.
    let mut run = project.run(&["--no-watch"]);
    event(&mut run, "connected", |_| true);
    text(&mut run, "child=");
    let plugins = project.place().json(&["status"])["plugins"].clone();
    let names: Vec<_> = plugins.as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["one", "three"]);
}

#[test]
fn a_host_that_does_not_compile_is_built_again_by_the_next_save() {
    let project = Project::new(&["one"], &["one"]);
    project.edit("app/src/main.rs", "fn main() {", "fn main() { nothing;");
    let mut run = project.run(&[]);
    let failed = event(&mut run, "job_finished", |it| it["job"] == "build host");
    assert_eq!(failed["outcome"], "failed");
    event(&mut run, "job_finished", |it| it["job"] == "build one");
    project.edit("app/src/main.rs", "fn main() { nothing;", "fn main() {");
    event(&mut run, "connected", |_| true);
    text(&mut run, "child=");
    assert_eq!(number(&project, "one"), 1);
}

#[test]
fn the_host_runs_as_cargo_runs_it_and_ends_with_all_that_it_started() {
    let project = Project::new(&["one"], &["one"]);
    // A runner that does not make way for the host.
    let runner = project.root().join("runner");
    fs::write(&runner, "#!/bin/sh\nRUNNER=yes \"$@\"\nexit $?\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&runner, mode).unwrap();
    project.write(
        "app/.cargo/config.toml",
        &format!("[env]\nGREETING = \"hello\"\n\n[target.'cfg(unix)']\nrunner = {runner:?}\n"),
    );
    let mut run = project.run(&["--features", "loud"]);
    event(&mut run, "connected", |_| true);
    assert_eq!(text(&mut run, "CARGO_PKG_VERSION="), "1.2.3");
    let manifest_dir = project.root().canonicalize().unwrap().join("app");
    assert_eq!(text(&mut run, "CARGO_MANIFEST_DIR="), manifest_dir.display().to_string());
    assert_eq!(text(&mut run, "GREETING="), "hello");
    assert_eq!(text(&mut run, "RUNNER="), "yes");
    assert_eq!(text(&mut run, "loud="), "true");
    let root = project.root().canonicalize().unwrap();
    assert_eq!(text(&mut run, "directory="), root.display().to_string());
    let child = text(&mut run, "child=");

    run.type_line("what is typed");
    assert_eq!(text(&mut run, "read "), "what is typed");
    run.signal(Signal::INT);
    run.finish();
    let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "the host's child lives: {stat}");
}

#[test]
fn the_host_of_the_current_project_is_meant() {
    let project = Project::new(&["one"], &["one"]);
    let mut run = project.run(&[]);
    text(&mut run, "child=");
    let echo = crate::support::PluginDir::of(&["echo"]);
    let mut other = Process::start(crate::support::host_command(project.place(), &echo));
    other.wait_for_text("listening on");

    let status = |args: &[&str]| {
        let mut command = project.command("hotswap");
        command.args(["status", "--json"]).args(args);
        let answer = Process::start(command).finish();
        assert_eq!(answer.code, Some(0), "{answer:?}");
        answer.json()
    };
    assert_eq!(status(&[])["host"]["name"], "app");
    assert_eq!(status(&["--host", "app"])["host"]["name"], "app");
    assert_eq!(status(&["--host", "sample-host"])["host"]["name"], "sample-host");
}

#[test]
fn cargo_has_the_last_word_in_quiet_moments() {
    let project = Project::new(&["one"], &["one"]);
    // The script reads more than it says, which no record can know.
    project.write(
        "one/build.rs",
        "fn main() {\n    println!(\"cargo::rerun-if-changed=when\");\n    \
         let number = std::fs::read_to_string(\"number\").unwrap();\n    \
         println!(\"cargo::rustc-env=NUMBER={number}\");\n}\n",
    );
    project.write("one/when", "");
    project.write("one/number", "1");
    project.edit("one/src/lib.rs", "    1\n", "    env!(\"NUMBER\").parse().unwrap()\n");
    let mut command = project.command("hotswap");
    command.args(["run", "--json", "./app", "--offline"]).env("HOTSWAP_REVIEW", "0");
    let mut run = Process::start_reading(command);
    event(&mut run, "connected", |_| true);
    event(&mut run, "reload_finished", |_| true);
    assert_eq!(project.place().json(&["status"])["replay_disagreements"], 0);

    project.write("one/number", "2");
    project.write("one/when", "");
    project.edit("one/src/lib.rs", ".unwrap()", ".expect(\"a number\")");
    let disagreed = event(&mut run, "replay_disagreed", |_| true);
    assert_eq!(disagreed["plugin"], "one");
    event(&mut run, "reload_finished", |it| {
        it["report"]["plugins"][0]["build_id"] == disagreed["build_id"]
            || it["report"]["plugins"][0]["outcome"] == "ok"
    });
    assert_eq!(number(&project, "one"), 2);
    assert_eq!(project.place().json(&["status"])["replay_disagreements"], 1);
}
