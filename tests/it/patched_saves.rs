//! Saves that change only bodies of functions, in a project outside the repository: the running version continues
//! with new code.

use std::{
    env, fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command, thread, time::Instant,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{PATIENCE, Process, Project, mapped_files, succeed};

const COUNTER: &str = r#"use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use hotswap_plugin::prelude::*;

static CALLS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static HERE: Cell<u64> = const { Cell::new(0) };
}

#[derive(Default)]
struct Counter {
    names: Mutex<Vec<String>>,
}

#[plugin]
impl Plugin for Counter {}

fn say(name: &str) -> String {
    format!("hello {name}")
}

/// Counts in a static, a thread-local, the plugin and the DataBag.
#[invoke]
fn greet(plugin: &Counter, vault: &Vault, name: String) -> Result<String> {
    let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    HERE.set(HERE.get() + 1);
    let mut names = plugin.names.lock().unwrap();
    names.push(name.clone());
    let stored = vault.data_bag().update("stored", || 0_u64, |count| { *count += 1; *count })?;
    Ok(format!("{} {calls} {} {stored}", say(&name), names.len()))
}
"#;

fn greeting(project: &Project) -> String {
    let answer = project.place().json(&["invoke", "one", "greet", "\"Ada\""]);
    answer["value"].as_str().expect("a text").to_owned()
}

fn outcome_of(finished: &Value, plugin: &str) -> Value {
    let plugins = finished["report"]["plugins"].as_array().unwrap();
    plugins.iter().find(|it| it["name"] == plugin).unwrap().clone()
}

/// The outcome of a plugin in the reload that made this generation.
fn reload(run: &mut Process, generation: u64, plugin: &str) -> Value {
    let is_it = |it: &Value| it["report"]["generation"] == generation;
    outcome_of(&run.wait_for_event("reload_finished", is_it), plugin)
}

fn start_and_wait(project: &Project, args: &[&str]) -> Process {
    let mut run = project.run_patching(args);
    wait_until_it_serves(&mut run);
    run
}

/// Waits until the session knows what serves: an earlier save has no version to patch.
fn wait_until_it_serves(run: &mut Process) {
    run.wait_for_event("reload_finished", |it| it["report"]["generation"] == 1);
}

/// Commits all files of the project.
fn commit(project: &Project) {
    for args in ["init --quiet", "add .", "-c user.name=a -c user.email=a@b commit --quiet -m all"]
    {
        let mut git = Command::new("git");
        git.args(args.split(' ')).current_dir(project.root());
        succeed(git);
    }
}

/// The version of the plugin `one` that serves.
fn version_of_one(project: &Project) -> Value {
    let status = project.place().json(&["status"]);
    let plugins = status["plugins"].as_array().unwrap();
    plugins.iter().find(|it| it["name"] == "one").unwrap()["versions"][0].clone()
}

/// The version of the plugin `one` that serves, once its build is linked.
fn wait_until_linked(project: &Project) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let version = version_of_one(project);
        if version["is_early"] != true {
            return version;
        }
        assert!(Instant::now() < deadline, "the build is not linked: {version}");
    }
}

#[test]
fn a_save_of_a_body_is_served_by_the_same_version_and_all_state_stays() {
    let project = Project::new(&["one", "two"], &["one", "two"]);
    project.write("one/src/lib.rs", COUNTER);
    commit(&project);
    let mut run = start_and_wait(&project, &[]);
    assert_eq!(greeting(&project), "hello Ada 1 1 1");
    assert_eq!(wait_until_linked(&project)["source"]["dirty"], false);

    project.edit("one/src/lib.rs", "hello {name}", "good morning, {}\", name.to_uppercase() + \"");
    let patched = reload(&mut run, 2, "one");
    assert_eq!(
        (&patched["outcome"], &patched["version"], &patched["patch"]),
        (&"patched".into(), &1.into(), &1.into())
    );
    assert_eq!(patched["patched_functions"], serde_json::json!(["say"]));
    assert_eq!(greeting(&project), "good morning, ADA 2 2 2");
    let linked = wait_until_linked(&project);
    assert_eq!((&linked["patch"], &linked["source"]["dirty"]), (&1.into(), &true.into()));

    // The next patch is also made for the version as it was loaded, and not for the previous patch.
    project.edit("one/src/lib.rs", "+ 1;\n", "+ 10;\n");
    let patched = reload(&mut run, 3, "one");
    assert_eq!((&patched["version"], &patched["patch"]), (&1.into(), &2.into()));
    assert_eq!(patched["patched_functions"], serde_json::json!(["greet", "say"]));
    assert_eq!(greeting(&project), "good morning, ADA 12 3 3");
    let one = version_of_one(&project);
    assert_eq!((&one["version"], &one["patch"]), (&1.into(), &2.into()));

    // After the edits are undone, the version as it was loaded serves.
    project.write("one/src/lib.rs", COUNTER);
    let undone = reload(&mut run, 4, "one");
    assert_eq!((&undone["outcome"], &undone["version"]), (&"patched".into(), &1.into()));
    assert_eq!(undone["patch"], Value::Null);
    assert_eq!(greeting(&project), "hello Ada 4 4 4");

    // A change of more than bodies is loaded as a whole, and the report says why.
    project.edit("one/src/lib.rs", "    names: Mutex", "    more: u8,\n    names: Mutex");
    let whole = reload(&mut run, 5, "one");
    assert_eq!((&whole["outcome"], &whole["version"]), (&"ok".into(), &2.into()));
    let why = whole["not_patched"].as_str().expect("the reason");
    assert!(why.contains("struct Counter"), "{why}");
    assert_eq!(greeting(&project), "hello Ada 1 1 1");

    // That version is patched in turn, and a host that is started anew runs what is on disk.
    project.edit("one/src/lib.rs", "hello {name}", "bye {name}");
    let patched = reload(&mut run, 6, "one");
    assert_eq!((&patched["outcome"], &patched["version"]), (&"patched".into(), &2.into()));
    run.signal(Signal::INT);
    run.finish();
    let mut run = start_and_wait(&project, &["--no-patch"]);
    assert_eq!(greeting(&project), "bye Ada 1 1 1");
    project.edit("one/src/lib.rs", "bye {name}", "hello {name}");
    assert_eq!(reload(&mut run, 2, "one")["outcome"], "ok");
}

/// Reloads, and returns why the plugin `one` was loaded as a whole.
fn why_whole(project: &Project, run: &mut Process, generation: u64) -> String {
    project.place().json(&["reload"]);
    let whole = reload(run, generation, "one");
    assert_eq!(whole["outcome"], "ok");
    whole["not_patched"].as_str().expect("the reason").to_owned()
}

#[test]
fn the_report_always_says_why_a_build_was_loaded_as_a_whole() {
    let project = Project::new(&["one"], &["one"]);
    project.write("one/src/lib.rs", COUNTER);
    let mut run = start_and_wait(&project, &["--watch=build"]);

    // After a build that could be patched, a save compiles to the same code, but more than bodies has changed.
    project.edit("one/src/lib.rs", "hello {name}", "bye {name}");
    let first = run.wait_for_event("built", |it| it["patchable"] == true);
    project.edit("one/src/lib.rs", "fn say(", "#[allow(unused)] fn say(");
    let second = run.wait_for_event("built", |it| it["patchable"] == false);
    assert_eq!(first["build_id"], second["build_id"]);
    let why = why_whole(&project, &mut run, 2);
    assert!(why.contains("fn say"), "{why}");

    // Somebody removes the patch.
    project.edit("one/src/lib.rs", "bye {name}", "good evening {name}");
    let is_next = |it: &Value| it["patchable"] == true && it["build_id"] != first["build_id"];
    let built = run.wait_for_event("built", is_next);
    let artifact = Path::new(built["path"].as_str().unwrap());
    fs::remove_file(artifact.with_extension("patch")).unwrap();
    let why = why_whole(&project, &mut run, 3);
    assert!(why.contains("was not beside it"), "{why}");
}

#[test]
fn pinned_calls_are_made_in_the_code_of_patches_before_and_after() {
    let project = Project::new(&["one"], &["one"]);
    project.write("one/src/lib.rs", COUNTER);
    let mut run = start_and_wait(&project, &["--watch=build"]);
    project.place().json(&["pin", "add", "one", "greet", "\"Ada\""]);
    // First a build that is not loaded, then a patch of the serving version.
    let status = project.place().json(&["status"]);
    let mut seen = vec![status["plugins"][0]["versions"][0]["build_id"].clone()];
    let mut before = "hello Ada 1 1 1";
    for greeting in ["good morning", "good evening"] {
        let text = COUNTER.replace("hello {name}", &format!("{greeting} {{name}}"));
        project.write("one/src/lib.rs", &text);
        let is_next = |it: &Value| it["effect"] == "new_code" && !seen.contains(&it["build_id"]);
        let built = run.wait_for_event("built", |it| it["plugin"] == "one" && is_next(it));
        seen.push(built["build_id"].clone());
        let preview = project.place().json(&["reload", "--dry-run", "--replay"]);
        assert_eq!(preview["plugins"][0]["outcome"], "patched", "{preview}");
        let call = &preview["replay"]["calls"][0];
        assert_eq!(call["build_id"], built["build_id"], "{preview}");
        let after = format!("{greeting} Ada 1 1 1");
        let values = (&call["old"]["value"], &call["new"]["value"], &call["is_same"]);
        assert_eq!(values, (&before.into(), &after.clone().into(), &false.into()), "{preview}");
        // The host makes the pinned calls again in the patched version.
        project.place().json(&["reload"]);
        let text = format!("\"{greeting} Ada");
        let called =
            run.wait_for_event("pin_called", |it| it["pin"]["now"].to_string().contains(&text));
        assert_eq!(called["pin"]["is_same"], false, "{called}");
        assert!(called["pin"]["now"]["patch"].is_u64(), "{called}");
        before = after.leak();
    }
}

#[test]
fn two_plugins_that_share_a_package_are_patched_in_one_reload() {
    let project = Project::new(&["one", "two"], &["one", "two", "shared"]);
    project.write("shared/src/lib.rs", "pub fn number() -> u32 {\n    7\n}\n");
    let api = crate::support::repository().join("engine/plugin");
    for name in ["one", "two"] {
        project.write(
            &format!("{name}/Cargo.toml"),
            &format!(
                "[package]\nname = \"{name}\"\nversion = \"1.2.3\"\nedition = \"2024\"\n\n[dependencies]\n\
                 hotswap-plugin = {{ path = {api:?} }}\nshared = {{ path = \"../shared\" }}\n"
            ),
        );
        project.edit(&format!("{name}/src/lib.rs"), "u32 {\n", "u32 {\n    shared::number() +\n");
    }
    let mut run = start_and_wait(&project, &[]);
    let number = |plugin| project.place().json(&["invoke", plugin, "number"])["value"].clone();
    assert_eq!((number("one"), number("two")), (8.into(), 9.into()));
    project.edit("shared/src/lib.rs", "    7\n", "    70\n");
    for name in ["one", "two"] {
        let patched = reload(&mut run, 2, name);
        assert_eq!((&patched["outcome"], &patched["version"]), (&"patched".into(), &1.into()));
    }
    assert_eq!((number("one"), number("two")), (71.into(), 72.into()));
}

#[test]
fn a_build_in_a_shell_says_whether_it_could_be_a_patch_and_makes_none() {
    let project = Project::new(&["one"], &["one"]);
    project.write("one/src/lib.rs", COUNTER);
    let build = |flag: &str| {
        let mut build = project.command("hotswap");
        build.args(["build", flag, "--offline", "one", "out"]);
        let built = Process::start(build).finish();
        assert_eq!(built.code, Some(0), "{built:?}");
        built
    };
    assert_eq!(
        build("--json").json()["patchable"],
        Value::Null,
        "the first build has no artifact to patch"
    );
    project.edit("one/src/lib.rs", "hello {name}", "good morning {name}");
    let built = build("-v");
    assert!(built.stderr.contains("body       say  "), "{built:?}");
    assert!(built.stderr.contains("patch      possible"), "{built:?}");
    project.edit("one/src/lib.rs", "good morning", "good evening");
    let built = build("--json").json();
    assert_eq!((&built["patchable"], &built["not_patched"]), (&true.into(), &Value::Null));
    project.edit("one/src/lib.rs", "    names: Mutex", "    more: u8,\n    names: Mutex");
    let built = build("--json").json();
    assert_eq!(built["patchable"], false, "{built}");
    let why = built["not_patched"].as_str().expect("the reason");
    assert!(why.contains("struct Counter"), "{why}");
    project.edit("one/src/lib.rs", "    more: u8,", "    other: u8,");
    let built = build("-v");
    assert!(built.stderr.contains("patch      not possible: struct Counter"), "{built:?}");
    assert!(
        !project.root().join("out/one.patch").exists(),
        "a build that cannot be patched has no patch file"
    );
}

#[test]
fn the_first_failure_of_each_patch_is_reported() {
    let project = Project::new(&["one"], &["one"]);
    // A lock that a panic has poisoned is state, and stays poisoned.
    let unpoisoned = "lock().unwrap_or_else(|poisoned| poisoned.into_inner())";
    project.write("one/src/lib.rs", &COUNTER.replace("lock().unwrap()", unpoisoned));
    let mut run = start_and_wait(&project, &[]);
    let mut body = "format!(\"hello {name}\")".to_owned();
    for (generation, patch) in [(2, 1), (3, 2)] {
        let failing = format!("panic!(\"no {patch}, {{name}}\")");
        project.edit("one/src/lib.rs", &body, &failing);
        assert_eq!(reload(&mut run, generation, "one")["patch"], patch);
        // Of several failures, only the first is reported.
        for _ in 0..2 {
            let error = project.place().refusal(1, &["invoke", "one", "greet", "\"Ada\""]);
            assert_eq!(error["kind"], "panic", "{error}");
        }
        let failed = run.wait_for_event("first_failure", |it| it["patch"] == patch);
        let message = failed["failure"]["message"].as_str().expect("a message");
        assert!(message.contains(&format!("no {patch}, Ada")), "{failed}");
        body = failing;
    }
}

/// A linker that waits as long as the file `wait` exists beside it, and fails if the file `fail` exists.
const LINKER: &str = r#"#!/bin/sh
here=$(dirname "$0")
while [ -e "$here/wait" ]; do : > "$here/waits"; sleep 0.05; done
if [ -e "$here/fail" ]; then echo "no link today" >&2; exit 1; fi
PATH=${PATH#*:} exec cc "$@"
"#;

/// How many seconds of quiet precede a review.
const REVIEW: &str = "HOTSWAP_REVIEW";

/// A project whose linker waits for the test.
struct HeldUp {
    project: Project,
    run: Process,
}

impl HeldUp {
    fn start() -> Self {
        Self::start_with(REVIEW, "off")
    }

    fn start_with(variable: &str, value: &str) -> Self {
        let project = Project::new(&["one"], &["one"]);
        project.write("one/src/lib.rs", COUNTER);
        project.write("linker/cc", LINKER);
        let linker = project.root().join("linker/cc");
        fs::set_permissions(linker, fs::Permissions::from_mode(0o755)).unwrap();
        let run = Self::run(&project, variable, value);
        Self { project, run }
    }

    fn run(project: &Project, variable: &str, value: &str) -> Process {
        let mut command = project.command("hotswap");
        command.args(["run", "--json", "./app", "--offline"]).env_remove("HOTSWAP_NO_PATCH");
        command.env(variable, value);
        let path = env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", project.root().join("linker").display()));
        let mut run = Process::start_reading(command);
        wait_until_it_serves(&mut run);
        run
    }

    /// Saves another greeting, which is served while the linker waits.
    fn serve_an_early_patch(&mut self, generation: u64) {
        self.save_and_expect_patch(generation);
        assert!(self.greeting().starts_with("good morning Ada"), "{}", self.greeting());
        assert_eq!(self.serving()["is_early"], true);
    }

    fn save_and_expect_patch(&mut self, generation: u64) {
        self.project.write("linker/wait", "");
        self.project.edit("one/src/lib.rs", "hello {name}", "good morning {name}");
        let patched = reload(&mut self.run, generation, "one");
        assert_eq!((&patched["outcome"], &patched["version"]), (&"patched".into(), &1.into()));
        assert!(patched["patch"].is_u64(), "{patched}");
    }

    /// Waits until a linker waits.
    fn wait_for_linker(&self) {
        let waits = self.project.root().join("linker/waits");
        let deadline = Instant::now() + PATIENCE;
        while !waits.exists() {
            assert!(Instant::now() < deadline, "no linker waits for the test");
            thread::yield_now();
        }
    }

    fn let_linker_continue(&self) {
        fs::remove_file(self.project.root().join("linker/wait")).unwrap();
    }

    fn greeting(&self) -> String {
        greeting(&self.project)
    }

    /// The version of the plugin that serves.
    fn serving(&self) -> Value {
        self.project.place().json(&["status"])["plugins"][0]["versions"][0].clone()
    }

    /// The version as it was loaded serves again, with its state.
    fn expect_base(&mut self, generation: u64) {
        let back = reload(&mut self.run, generation, "one");
        assert_eq!((&back["outcome"], &back["version"]), (&"patched".into(), &1.into()));
        assert_eq!(back["patch"], Value::Null);
        assert!(self.greeting().starts_with("hello Ada"), "{}", self.greeting());
        assert_ne!(self.serving()["is_early"], true);
    }
}

#[test]
fn code_that_serves_before_it_is_linked_is_taken_back_if_the_link_fails() {
    let mut held_up = HeldUp::start();
    held_up.serve_an_early_patch(2);
    held_up.project.write("linker/fail", "");
    held_up.let_linker_continue();
    let dropped = held_up.run.wait_for_event("early_dropped", |_| true);
    assert_eq!(dropped["plugin"], "one");
    held_up.expect_base(3);
    // The code of the next save is also served early, and stays.
    fs::remove_file(held_up.project.root().join("linker/fail")).unwrap();
    held_up.project.edit("one/src/lib.rs", "good morning", "good evening");
    assert!(reload(&mut held_up.run, 4, "one")["patch"].is_u64());
    held_up.run.wait_for_event("built", |it| it["is_served"] == true);
    assert!(held_up.greeting().starts_with("good evening Ada"));
    assert_ne!(held_up.serving()["is_early"], true);
}

#[test]
fn code_that_serves_before_it_is_linked_is_taken_back_if_the_edit_is_undone() {
    let mut held_up = HeldUp::start();
    // The build that is being linked is cancelled, unless it has almost ended.
    held_up.save_and_expect_patch(2);
    let first = held_up.run.wait_for_event("sources_changed", |_| true);
    held_up.project.write("one/src/lib.rs", COUNTER);
    let is_next = |it: &Value| it["saved_at_ms"] != first["saved_at_ms"];
    held_up.run.wait_for_event("sources_changed", is_next);
    held_up.let_linker_continue();
    held_up.expect_base(3);
}

#[test]
fn a_rollback_while_the_linker_runs_stays() {
    let mut held_up = HeldUp::start();
    held_up.serve_an_early_patch(2);
    held_up.project.place().json(&["rollback", "one"]);
    held_up.expect_base(3);
    held_up.let_linker_continue();
    let built = held_up
        .run
        .wait_for_event("built", |it| it["effect"] == "new_code" && it["patchable"] == true);
    assert_ne!(built["is_served"], true);
    let is_held = |it: &Value| it["report"]["plugins"][0]["outcome"] == "held";
    held_up.run.wait_for_event("reload_finished", is_held);
    assert!(held_up.greeting().starts_with("hello Ada"));
    // After a request for the newest build, it serves.
    held_up.project.place().json(&["reload", "--latest"]);
    assert!(reload(&mut held_up.run, 4, "one")["patch"].is_u64());
    assert_eq!(held_up.serving()["build_id"], built["build_id"]);
}

#[test]
fn a_host_that_is_killed_while_the_linker_runs_comes_back_with_the_newest_build() {
    let mut held_up = HeldUp::start();
    held_up.serve_an_early_patch(2);
    let connected = held_up.run.wait_for_event("connected", |_| true);
    let pid = i32::try_from(connected["host"]["pid"].as_i64().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    held_up.run.wait_for_event("ended", |_| true);
    held_up.let_linker_continue();
    held_up.run = HeldUp::run(&held_up.project, REVIEW, "off");
    assert_eq!(held_up.greeting(), "good morning Ada 1 1 1");
    assert_eq!(
        (&held_up.serving()["version"], &held_up.serving()["patch"]),
        (&1.into(), &Value::Null)
    );
}

const TRACED: &str = r#"use std::backtrace::Backtrace;
use std::panic::{catch_unwind, set_hook};
use std::sync::Mutex;

use hotswap_plugin::prelude::*;

static LAST: Mutex<String> = Mutex::new(String::new());

#[derive(Default)]
struct Traced;

#[plugin]
impl Plugin for Traced {}

#[inline(never)]
fn inner() -> String {
    let word = "first";
    format!("{word}\n{}", Backtrace::force_capture())
}

#[inline(never)]
fn outer() -> String {
    inner() + "."
}

/// Calls a function that changes, through one that does not.
#[invoke]
fn trace() -> String {
    outer()
}

/// The message of a panic in a function, and its backtrace.
#[invoke]
fn panicked() -> String {
    set_hook(Box::new(|info| {
        *LAST.lock().unwrap() = format!("{info}\n{}", Backtrace::force_capture());
    }));
    let _ = catch_unwind(fails);
    std::mem::take(&mut *LAST.lock().unwrap())
}

#[inline(never)]
fn fails() {
    panic!("as it was");
}
"#;

/// The source locations of a function in a backtrace: empty if the backtrace has only its name, and `None` if it
/// does not have the function.
fn source_locations(backtrace: &str, function: &str) -> Option<Vec<String>> {
    let mut lines = backtrace.lines().map(str::trim).peekable();
    // Debug information with only lines has short names.
    let names = [format!(": one::{function}"), format!(": {function}")];
    lines.find(|line| names.iter().any(|name| line.ends_with(name)))?;
    let places = std::iter::from_fn(|| lines.next_if(|line| line.starts_with("at ")));
    Some(places.map(|place| place["at ".len()..].to_owned()).collect())
}

fn call_traced(project: &Project, function: &str) -> String {
    let answer = project.place().json(&["invoke", "one", function]);
    answer["value"].as_str().expect("a text").to_owned()
}

/// The files of its staging directory that a host has mapped, and all files in that directory.
fn staged(project: &Project) -> (Vec<String>, Vec<String>) {
    let status = project.place().json(&["status"]);
    let (pid, dir) = (&status["host"]["pid"], status["host"]["staging_dir"].as_str().unwrap());
    let mapped = mapped_files(format!("/proc/{pid}/maps").as_ref(), dir.as_ref());
    let mut lie: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("one-"))
        .collect();
    lie.sort();
    (mapped.into_iter().collect(), lie)
}

#[test]
fn a_backtrace_names_the_functions_of_patches() {
    let project = Project::new(&["one"], &["one"]);
    project.write("one/src/lib.rs", TRACED);
    let mut run = start_and_wait(&project, &[]);
    // Code that resolves backtraces lists the images only once, and at that time there is no patch.
    let before = call_traced(&project, "trace");
    assert_eq!(source_locations(&before, "inner"), Some(vec![]), "{before}");

    for (generation, word) in [(2, "second"), (3, "third")] {
        project.write("one/src/lib.rs", &TRACED.replace("first", word).replace("as it was", word));
        assert_eq!(reload(&mut run, generation, "one")["patch"], generation - 1);
        for (function, changed) in [("trace", "inner"), ("panicked", "fails")] {
            let backtrace = call_traced(&project, function);
            assert!(backtrace.contains(word), "{backtrace}");
            for known in [changed, function] {
                assert_eq!(
                    source_locations(&backtrace, known),
                    Some(vec![]),
                    "{known}: {backtrace}"
                );
            }
            assert!(
                backtrace.contains("hotswap_plugin::"),
                "frames of the base are named too: {backtrace}"
            );
        }
    }
    let (mapped, lie) = staged(&project);
    assert_eq!(
        lie.len(),
        3,
        "there is a file for the plugin and for the symbols of each patch: {lie:?}"
    );
    assert_eq!(mapped, lie, "backtraces keep the files mapped");

    // All of it is unmapped and removed with the version.
    project.edit("one/src/lib.rs", "struct Traced;", "struct Traced { _more: u8 }");
    assert_eq!(reload(&mut run, 4, "one")["version"], 2);
    let is_freed = |it: &Value| it["version"] == 1 && it["state"] == "freed";
    run.wait_for_event("version_changed", is_freed);
    let (mapped, lie) = staged(&project);
    assert!(lie.len() == 1 && lie[0].starts_with("one-v2-"), "{lie:?}");
    assert_eq!(mapped, lie);
}

#[test]
fn a_backtrace_has_the_lines_of_patches_if_there_is_debug_information() {
    let project = Project::new(&["one"], &["one"]);
    let manifest = fs::read_to_string(project.root().join("Cargo.toml")).unwrap();
    let profile = "[profile.hotswap]\ninherits = \"dev\"\ndebug = 0\n\n\
                   [profile.hotswap.package.one]\ndebug = \"line-tables-only\"\n";
    project.write("Cargo.toml", &format!("{manifest}\n{profile}"));
    project.write("one/src/lib.rs", TRACED);
    let mut run = start_and_wait(&project, &[]);
    reload(&mut run, 1, "one");
    let text = TRACED.replace("first", "second").replace("as it was", "second");
    // The line is that of the new source.
    let text = text.replace("let word =", "// More lines.\n\n    let word =");
    project.write("one/src/lib.rs", &text);
    assert_eq!(reload(&mut run, 2, "one")["patch"], 1);
    for (function, changed, place) in
        [("trace", "inner", "Backtrace::force_capture())\n"), ("panicked", "fails", "panic!(")]
    {
        let backtrace = call_traced(&project, function);
        let line = text[..text.find(place).unwrap()].lines().count();
        let expected = format!("one/src/lib.rs:{line}:");
        let found = source_locations(&backtrace, changed).unwrap_or_else(|| panic!("{backtrace}"));
        assert!(found.iter().any(|place| place.contains(&expected)), "{expected} {backtrace}");
    }
}

#[test]
fn a_console_without_patches_loads_the_whole_build_beside_a_patch() {
    let project = Project::new(&["one"], &["one"]);
    project.write("one/src/lib.rs", COUNTER);
    let mut run = start_and_wait(&project, &["--watch=build"]);
    // After the first load, the session knows the version to patch.
    reload(&mut run, 1, "one");
    project.edit("one/src/lib.rs", "hello {name}", "good morning {name}");
    let is_patch = |it: &Value| it["effect"] == "new_code" && it["patchable"] == true;
    run.wait_for_event("built", is_patch);
    let status = project.place().json(&["status"]);
    let dir = Path::new(status["host"]["plugin_dir"].as_str().unwrap());
    let files = ["one.patch", "one.so"].map(|name| dir.join(name));
    let kept = tempfile::tempdir().unwrap();
    for file in &files {
        fs::copy(file, kept.path().join(file.file_name().unwrap())).unwrap();
    }
    run.signal(Signal::INT);
    run.finish();

    project.write("one/src/lib.rs", COUNTER);
    let mut run = start_and_wait(&project, &["--no-patch"]);
    assert_eq!(greeting(&project), "hello Ada 1 1 1");
    for file in &files {
        let copy = file.with_extension("copy");
        fs::copy(kept.path().join(file.file_name().unwrap()), &copy).unwrap();
        fs::rename(&copy, file).unwrap();
    }
    let loaded = reload(&mut run, 2, "one");
    assert_eq!((&loaded["outcome"], &loaded["version"]), (&"ok".into(), &2.into()), "{loaded}");
    assert_eq!(greeting(&project), "good morning Ada 1 1 1");
}

#[test]
fn a_save_does_not_wait_for_the_linker_of_a_review() {
    let mut held_up = HeldUp::start_with(REVIEW, "1");
    held_up.project.edit("one/src/lib.rs", "hello {name}", "hallo {name}");
    assert!(reload(&mut held_up.run, 2, "one")["patch"].is_u64());
    held_up.run.wait_for_event("built", |it| it["is_served"] == true);
    held_up.project.write("linker/wait", "");
    held_up.wait_for_linker();
    // The save would wait for ever if it had to wait for the review, which is still linking.
    held_up.project.edit("one/src/lib.rs", "hallo {name}", "good morning {name}");
    assert!(reload(&mut held_up.run, 3, "one")["patch"].is_u64());
    assert!(held_up.greeting().starts_with("good morning Ada"));
    held_up.let_linker_continue();
    held_up.run.wait_for_event("built", |it| it["is_served"] == true && it["plugin"] == "one");
}
