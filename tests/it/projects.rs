//! Projects of users: `hotswap run` in a workspace outside the repository.

use std::{fs, path::Path};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Answer, Process, Project, cargo, repository, succeed};

fn number(project: &Project, plugin: &str) -> Value {
    project.place().json(&["invoke", plugin, "number"])["value"].clone()
}

#[test]
fn the_list_of_plugins_is_followed_while_the_host_runs() {
    let project = Project::new(&["one", "two"], &["one", "two", "three"]);
    project.edit("one/src/lib.rs", "#[invoke]", "fn unused() {}\n\n#[invoke]");
    let mut run = project.run(&[]);
    run.wait_for_event("build", |it| it["package"] == "one" && it["level"] == "warning");
    run.wait_for_event("connected", |_| true);
    run.wait_for_host("child=");
    assert_eq!(project.place().json(&["status"])["host_outdated"], false);
    assert_eq!(number(&project, "two"), 2);

    project.write_host_manifest(&["one", "three"]);
    let changed = run.wait_for_event("plugins_changed", |_| true);
    assert_eq!(changed["added"], serde_json::json!(["three"]));
    assert_eq!(changed["removed"], serde_json::json!(["two"]));
    run.wait_for_event("version_changed", |it| it["plugin"] == "two" && it["state"] == "freed");
    assert_eq!((number(&project, "three"), number(&project, "one")), (3.into(), 1.into()));
    let error = project.place().refusal(1, &["invoke", "two", "number"]);
    assert_eq!(error["kind"], "unknown_plugin");

    // Artifacts that vanish unload nothing. The next save also builds them again.
    let host = project.place().json(&["status"])["host"].clone();
    let plugin_dir = Path::new(host["plugin_dir"].as_str().unwrap());
    let name = plugin_dir.file_name().unwrap().to_str().unwrap();
    assert!(
        name.starts_with("app-"),
        "hosts that share a target directory have plugin directories of their own: {name}"
    );
    for entry in fs::read_dir(plugin_dir).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    project.edit("one/src/lib.rs", "    1\n", "    10\n");
    run.wait_for_event("reload_finished", |it| {
        let plugins = it["report"]["plugins"].as_array().unwrap();
        plugins.iter().any(|it| it["name"] == "one" && it["outcome"] == "ok")
            && plugins.iter().any(|it| it["name"] == "three" && it["outcome"] == "unchanged")
    });
    assert_eq!((number(&project, "one"), number(&project, "three")), (10.into(), 3.into()));

    // A change of the host's own sources is reported.
    project.edit("app/src/main.rs", "no more to read", "nothing to read");
    run.wait_for_event("host_outdated", |_| true);
    assert_eq!(project.place().json(&["status"])["host_outdated"], true);
    let reported = project.place().hotswap(&["status"]).stdout;
    assert!(reported.contains("\nthe host is older than its sources: "), "{reported}");
    project.edit("app/src/main.rs", "nothing to read", "no more to read");
    run.wait_for_event("host_current", |_| true);
    assert_eq!(project.place().json(&["status"])["host_outdated"], false);
    run.signal(Signal::INT);
    run.finish();

    // The next start does not load the removed plugin either.
    let mut run = project.run(&["--no-watch"]);
    run.wait_for_event("connected", |_| true);
    run.wait_for_host("child=");
    let plugins = project.place().json(&["status"])["plugins"].clone();
    let names: Vec<_> = plugins.as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["one", "three"]);
    // Warnings of a plugin that is up to date are not repeated.
    run.signal(Signal::INT);
    let said = run.finish().stdout;
    assert!(said.contains("up_to_date") && !said.contains("\"level\":\"warning\""), "{said}");
}

#[test]
fn a_save_is_built_as_the_manifests_say_by_then() {
    let project = Project::new(&["one", "two"], &["one", "two"]);
    let mood = "    option_env!(\"MOOD\").map_or(1, |it| it.len() as u32)\n";
    project.edit("one/src/lib.rs", "    1\n", mood);
    let mut run = project.run(&[]);
    run.wait_for_event("connected", |_| true);
    run.wait_for_host("child=");
    let has = |it: &Value, name: &str, outcome: &str| {
        let plugins = it["report"]["plugins"].as_array().unwrap();
        plugins.iter().any(|it| it["name"] == name && it["outcome"] == outcome)
    };

    // Cargo finds the package under another id now.
    project.edit("one/Cargo.toml", "1.2.3", "1.2.4");
    project.edit("one/src/lib.rs", "map_or(1,", "map_or(10,");
    run.wait_for_event("reload_finished", |it| has(it, "one", "ok"));
    assert_eq!(number(&project, "one"), 10);

    // A list that cannot be read is reported, and changes nothing.
    project.write_host_manifest(&["one", "two", "nowhere"]);
    let refused = run.wait_for_event("manifests_refused", |_| true);
    let error = refused["error"].as_str().unwrap();
    assert!(error.contains("names the plugin `nowhere`, which is neither"), "{error}");
    assert_eq!(number(&project, "two"), 2);

    // A plugin under another name is another plugin; its saves are those of the new one.
    project.edit("two/Cargo.toml", "\"two\"", "\"zwei\"");
    project.write_host_manifest(&["one", "zwei"]);
    let changed = run.wait_for_event("plugins_changed", |_| true);
    assert_eq!(changed["added"], serde_json::json!(["zwei"]));
    assert_eq!(changed["removed"], serde_json::json!(["two"]));
    run.wait_for_event("reload_finished", |it| has(it, "zwei", "added"));
    project.edit("two/src/lib.rs", "    2\n", "    20\n");
    run.wait_for_event("reload_finished", |it| has(it, "zwei", "ok"));
    assert_eq!(number(&project, "zwei"), 20);

    // Flags that a manifest has for cargo count from then on.
    let plugins = "plugins = [";
    // The path is relative to the manifest, for the plugins, too.
    project.write("app/mood.toml", "[env]\nMOOD = \"good\"\n");
    let flags = "cargo-flags = [\"--config\", \"mood.toml\"]\nplugins = [";
    project.edit("app/Cargo.toml", plugins, flags);
    run.wait_for_event("reload_finished", |it| {
        it["report"]["generation"] != 2 && has(it, "one", "ok")
    });
    assert_eq!(number(&project, "one"), 4);
}

#[test]
fn an_example_that_is_a_host_is_built_again_by_the_next_save_if_it_does_not_compile() {
    let project = Project::new(&["one"], &["one"]);
    let app = project.root().join("app");
    fs::create_dir(app.join("examples")).unwrap();
    fs::rename(app.join("src/main.rs"), app.join("examples/tour.rs")).unwrap();
    project.edit("app/examples/tour.rs", "fn main() {", "fn main() { nothing;");
    let mut run = project.run(&["--example", "tour"]);
    let error = run.wait_for_event("build", |it| it["level"] == "error");
    let rendered = error["rendered"].as_str().unwrap();
    assert!(rendered.contains("nothing;") && !rendered.contains('\u{1b}'), "{rendered:?}");
    let failed = run.wait_for_event("job_finished", |it| it["job"] == "build host");
    assert_eq!(failed["outcome"], "failed");
    run.wait_for_event("job_finished", |it| it["job"] == "build one");
    project.edit("app/examples/tour.rs", "fn main() { nothing;", "fn main() {");
    run.wait_for_event("connected", |_| true);
    run.wait_for_host("child=");
    assert_eq!(number(&project, "one"), 1);
}

#[test]
fn a_project_is_served_although_build_scripts_write_sources_in_each_build() {
    let project = Project::new(&["one"], &["one"]);
    let script = "fn main() {\n    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();\n    \
                  let text = format!(\"pub const TIME: &str = \\\"{now:?}\\\";\\n\");\n    \
                  std::fs::write(\"src/stamp.rs\", text).unwrap();\n    \
                  println!(\"cargo::rerun-if-changed=never\");\n}\n";
    for package in ["app", "one"] {
        project.write(&format!("{package}/build.rs"), script);
        project.write(&format!("{package}/src/stamp.rs"), "");
    }
    let stamp = "mod stamp;\n\n#[invoke]\nfn time() -> String {\n    stamp::TIME.into()\n}\n\n#[invoke]\nfn number";
    project.edit("one/src/lib.rs", "#[invoke]\nfn number", stamp);
    let main = "mod stamp;\n\nfn main() {\n    println!(\"time={}\", stamp::TIME);";
    project.edit("app/src/main.rs", "fn main() {", main);
    let mut run = project.run(&[]);
    run.wait_for_event("connected", |_| true);
    run.wait_for_host("time=");
    run.wait_for_event("host_outdated", |_| true);
    project.edit("one/src/lib.rs", "    1\n", "    10\n");
    // The host may have begun before the first build of its plugin was finished.
    let number = || project.place().hotswap(&["invoke", "one", "number", "--json"]);
    while number().json()["value"] != 10 {
        run.wait_for_event("reload_finished", |_| true);
    }
}

#[test]
fn the_host_runs_as_cargo_runs_it_and_ends_with_all_that_it_started() {
    let project = Project::new(&["one"], &["one"]);
    // A runner that stays as a process beside the host.
    let runner = project.root().join("runner");
    fs::write(&runner, "#!/bin/sh\nRUNNER=yes \"$@\"\nexit $?\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&runner, mode).unwrap();
    project.write(
        "app/.cargo/config.toml",
        &format!("[env]\nGREETING = \"hello\"\n\n[target.'cfg(unix)']\nrunner = {runner:?}\n"),
    );
    let mut run = project.run(&["--features", "loud"]);
    // No host reads this line yet.
    run.type_line("early words");
    run.wait_for_event("connected", |_| true);
    assert_eq!(run.wait_for_host("CARGO_PKG_VERSION="), "1.2.3");
    let manifest_dir = project.root().canonicalize().unwrap().join("app");
    assert_eq!(run.wait_for_host("CARGO_MANIFEST_DIR="), manifest_dir.display().to_string());
    assert_eq!(run.wait_for_host("GREETING="), "hello");
    assert_eq!(run.wait_for_host("RUNNER="), "yes");
    assert_eq!(run.wait_for_host("loud="), "true");
    let root = project.root().canonicalize().unwrap();
    assert_eq!(run.wait_for_host("directory="), root.display().to_string());
    let child = run.wait_for_host("child=");

    // Only the runner gets the system's notice that the host has stopped.
    let host = project.place().json(&["status"])["host"]["pid"].as_i64().unwrap();
    let host = Pid::from_raw(host.try_into().unwrap()).unwrap();
    for stop in [Signal::TTIN, Signal::STOP] {
        kill_process(host, stop).unwrap();
        run.wait_for_event("host_stopped", |it| it["signal"] == stop.as_raw());
        kill_process(host, Signal::CONT).unwrap();
        run.wait_for_event("host_continued", |_| true);
    }

    assert_eq!(run.wait_for_host("read early "), "words");
    run.type_line("what is typed");
    assert_eq!(run.wait_for_host("read what "), "is typed");
    run.signal(Signal::INT);
    run.finish();
    let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "the host's child still runs: {stat}");
}

#[test]
fn commands_use_the_host_of_the_current_project() {
    let project = Project::new(&["one"], &["one"]);
    let mut run = project.run(&[]);
    run.wait_for_host("child=");
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
fn cargo_reviews_the_builds_when_no_save_follows() {
    let project = Project::new(&["one", "two"], &["one", "two"]);
    let plugins = [("one", 1), ("two", 2)];
    let out = tempfile::tempdir().unwrap();
    for (name, number) in plugins {
        // The script reads a file that it does not declare, so no record can know of it.
        let script = "fn main() {\n    println!(\"cargo::rerun-if-changed=when\");\n    \
             let number = std::fs::read_to_string(\"../number\").unwrap();\n    \
             println!(\"cargo::rustc-env=NUMBER={number}\");\n}\n";
        project.write(&format!("{name}/build.rs"), script);
        project.write(&format!("{name}/when"), "");
        let reads = "    env!(\"NUMBER\").parse().unwrap()\n";
        project.edit(&format!("{name}/src/lib.rs"), &format!("    {number}\n"), reads);
    }
    project.write("number", "1");
    for (name, _) in plugins {
        build(&project, &["--offline", name, out.path().to_str().unwrap()]);
    }

    // All files are written before the host runs, so no save interrupts the review by cargo.
    let change = |number: &str, from: &str, to: &str| {
        project.write("number", number);
        for (name, _) in plugins {
            project.write(&format!("{name}/when"), "");
            project.edit(&format!("{name}/src/lib.rs"), from, to);
        }
    };
    let run = || {
        let mut command = project.command("hotswap");
        command.args(["run", "--json", "./app", "--offline"]).env("HOTSWAP_REVIEW", "0");
        Process::start_reading(command)
    };
    change("2", ".unwrap()", ".expect(\"a number\")");
    let mut first = run();
    for (name, _) in plugins {
        first.wait_for_event("replay_disagreed", |it| it["plugin"] == name);
    }
    let finished = first.wait_for_event("reload_finished", |it| it["report"]["generation"] == 2);
    let outcomes = finished["report"]["plugins"].as_array().unwrap();
    assert!(outcomes.iter().all(|it| it["outcome"] == "ok"), "one reload for both: {finished}");
    assert_eq!((number(&project, "one"), number(&project, "two")), (2.into(), 2.into()));
    assert_eq!(project.place().json(&["status"])["replay_disagreements"], 2);
    first.signal(Signal::INT);
    first.finish();

    // If cargo can no longer build the sources, the review is reported as a failed build.
    change("3", ".expect(\"a number\")", ".unwrap()");
    fs::remove_file(project.root().join("number")).unwrap();
    let mut second = run();
    second.wait_for_event("connected", |_| true);
    for (name, _) in plugins {
        let job = format!("build {name}");
        second.wait_for_event("job_finished", |it| it["job"] == job && it["outcome"] == "failed");
    }
    assert_eq!(number(&project, "one"), 2, "the version that served still serves");
}

/// A host that provides a configuration, and a plugin that needs it.
#[test]
fn the_hosts_data_is_passed_to_plugins_at_each_requested_reload() {
    let project = Project::new(&["one"], &["one"]);
    project.edit("app/src/main.rs", "engine.load(())", "engine.load(vec![\"configuration\"])");
    project.edit(
        "one/src/lib.rs",
        "impl Plugin for It {}",
        "impl Plugin for It {\n    fn on_load(&self, data: &Data) -> Result<()> {\n        \
         assert_eq!(data.unwrap::<Vec<String>>().unwrap(), [\"configuration\"]);\n        \
         Ok(())\n    }\n}",
    );
    let mut run = project.run(&["--no-watch"]);
    run.wait_for_event("connected", |_| true);
    run.wait_for_host("child=");
    assert_eq!(number(&project, "one"), 1);

    project.edit("one/src/lib.rs", "    1\n", "    10\n");
    let host = project.place().json(&["status"])["host"].clone();
    let mut build = project.command("hotswap");
    build.args(["build", "--offline", "one", host["plugin_dir"].as_str().unwrap()]);
    succeed(build);
    let outcome = |args: &[&str]| project.place().json(args)["plugins"][0]["outcome"].clone();
    assert_eq!(outcome(&["reload"]), "ok");
    assert_eq!(number(&project, "one"), 10);
    assert_eq!(outcome(&["rollback", "one@1"]), "ok");
    assert_eq!(number(&project, "one"), 1);
}

/// Runs `hotswap build` in the project's root, which must succeed.
fn build(project: &Project, args: &[&str]) -> Answer {
    let mut command = project.command("hotswap");
    command.arg("build").args(args);
    let answer = Process::start(command).finish();
    assert_eq!(answer.code, Some(0), "{answer:?}");
    answer
}

/// A live function in a marked module, one without a mark, and one that only tests have.
const LIVE: &str = "
pub fn live_forgotten() {}

#[live]
mod jobs {
    pub fn live_fire() -> u32 {
        8
    }
    pub fn job_fire() -> u32 {
        7
    }
}

#[cfg(test)]
mod tests {
    fn live_in_tests() {}
}
";

#[test]
fn a_verbose_build_reports_items_with_a_live_name_that_are_not_live() {
    let project = Project::new(&["one"], &["one"]);
    let source = fs::read_to_string(project.root().join("one/src/lib.rs")).unwrap();
    project.write("one/src/lib.rs", &format!("{source}{LIVE}"));
    let root = project.root().canonicalize().unwrap();
    let root = root.to_str().unwrap();
    let reported = |args: &[&str]| {
        let answer = build(&project, &[&["one", "out"], args].concat());
        let stderr = answer.stderr.replace(root, "[root]");
        let is_told = |line: &&str| {
            ["fn ", "live ", "not ", "plugin "].iter().any(|kind| line.starts_with(kind))
        };
        stderr.lines().filter(is_told).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(reported(&["-v", "--offline"]), @"
    live fn    live_fire() -> u32
    fn         number() -> u32
    not live   live_forgotten  [root]/one/src/lib.rs:14: put #[live] on it, or on its module
    ");
    insta::assert_snapshot!(reported(&["-v", "--offline", "--live-prefix", "job_"]), @"
    live fn    job_fire() -> u32
    fn         number() -> u32
    ");
    insta::assert_snapshot!(reported(&["-v", "--cargo-build=false"]), @"
    plugin     It  [root]/one/src/lib.rs:7
    fn         number  [root]/one/src/lib.rs:10
    live fn    live_fire  [root]/one/src/lib.rs:18
    not live   live_forgotten  [root]/one/src/lib.rs:14: put #[live] on it, or on its module
    ");
    assert_eq!(reported(&["--cargo-build=false"]), "");

    let checked = build(&project, &["one", "out", "--cargo-build=false", "--json"]).json();
    assert_eq!(checked["plugin"], "one");
    assert_eq!(checked["manifest"], format!("{root}/one/Cargo.toml"));
    let declared = checked["declared"].as_array().unwrap().iter();
    let kinds: Vec<_> = declared.map(|it| (it["kind"].as_str(), it["name"].as_str())).collect();
    let expected = [
        ("plugin", "It"),
        ("function", "number"),
        ("not_live", "live_forgotten"),
        ("live_function", "live_fire"),
    ];
    assert_eq!(kinds, expected.map(|(kind, name)| (Some(kind), Some(name))));
}

/// Prints the live functions of the plugins that are linked into it.
const LINKED_HOST: &str = r#"fn main() {
    let plugins = static_plugins::plugins();
    let engine = hotswap_engine::Engine::builder_static(plugins).build().unwrap();
    engine.load(()).unwrap();
    for live in engine.live_snapshot().functions {
        println!("{} of {}", live.function.name, live.plugin);
    }
}
"#;

#[test]
fn a_live_prefix_applies_to_linked_plugins_too() {
    let project = Project::new(&["one"], &["one"]);
    let source = fs::read_to_string(project.root().join("one/src/lib.rs")).unwrap();
    project.write("one/src/lib.rs", &format!("{source}{LIVE}"));
    let link = ["--static-linking", "one", "app/static-plugins"];
    build(&project, &link);
    let manifest = fs::read_to_string(project.root().join("app/Cargo.toml")).unwrap();
    let dependency = "[dependencies]\nstatic-plugins = { path = \"static-plugins\" }\n";
    project.write("app/Cargo.toml", &manifest.replace("[dependencies]\n", dependency));
    project.write("app/src/main.rs", LINKED_HOST);
    let live = || {
        let mut run = cargo();
        run.args(["run", "--offline", "--package", "app", "--target-dir"]);
        run.arg(project.target_dir()).current_dir(project.root()).env_remove("HOTSWAP_LIVE_PREFIX");
        let output = run.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(live(), "live_fire of one\n");
    let linked = build(&project, &[&link[..], &["-v", "--live-prefix", "job_"]].concat());
    assert!(linked.stderr.contains("\nlive fn    job_fire  "), "{linked:?}");
    assert!(linked.stderr.contains("\nprefix     job_  "), "{linked:?}");
    assert_eq!(live(), "job_fire of one\n");
    let linked = build(&project, &[&link[..], &["--json", "--live-prefix", "live_"]].concat());
    assert_eq!(linked.json()["live_prefix"], "live_");
    assert_eq!(live(), "live_fire of one\n");
}

#[test]
fn a_host_may_depend_on_the_crate_that_links_its_plugins_before_it_is_there() {
    let project = Project::new(&["one"], &["one"]);
    let manifest = fs::read_to_string(project.root().join("app/Cargo.toml")).unwrap();
    let dependency = "[dependencies]\nstatic-plugins = { path = \"static-plugins\" }\n";
    project.write("app/Cargo.toml", &manifest.replace("[dependencies]\n", dependency));
    let crate_dir = project.root().join("app/static-plugins");
    // If a package cannot be linked, the files that were made for it are removed again.
    let mut wrong = project.command("hotswap");
    wrong.args(["build", "--static-linking", "nothing", "app/static-plugins"]);
    let end = Process::start(wrong).finish();
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stderr.contains("nothing") && !crate_dir.exists(), "{end:?}");
    for of in ["one", "app"] {
        let linked = build(&project, &["--static-linking", of, "app/static-plugins", "--json"]);
        assert_eq!(linked.json()["plugins"], json!(["one"]), "{linked:?}");
        let clean = ["--static-linking", "--clean", "one", "app/static-plugins"];
        build(&project, &clean);
        assert!(!crate_dir.exists());
    }
}

#[test]
fn a_host_is_outdated_once_its_manifest_says_something_else_about_its_code() {
    let project = Project::new(&["one"], &["one", "two"]);
    let mut run = project.run(&[]);
    run.wait_for_event("connected", |_| true);
    run.wait_for_host("child=");
    let is_outdated = || project.place().json(&["status"])["host_outdated"] == true;
    // The list of plugins, the workspace's members, and comments change no code of the host.
    project.write_host_manifest(&["one", "two"]);
    run.wait_for_event("plugins_changed", |_| true);
    let manifest = project.root().join("app/Cargo.toml");
    let before = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, format!("# The host.\n{before}")).unwrap();
    assert!(!is_outdated());
    fs::write(&manifest, format!("{before}\n[features]\ndefault = [\"more\"]\nmore = []\n"))
        .unwrap();
    run.wait_for_event("host_outdated", |_| true);
    assert!(is_outdated());
    fs::write(&manifest, &before).unwrap();
    run.wait_for_event("host_current", |_| true);
    assert!(!is_outdated(), "the manifest is again as it was when the host was built");
    let config = project.root().join(".cargo/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    let of_config = fs::read_to_string(&config).unwrap_or_default();
    fs::write(
        &config,
        format!("{of_config}\n[profile.hotswap]\ndebug = 1\n[alias]\nb = \"build\"\n"),
    )
    .unwrap();
    assert!(!is_outdated(), "plugins have this profile");
    fs::write(&config, format!("{of_config}\n[profile.dev]\ndebug-assertions = false\n")).unwrap();
    run.wait_for_event("host_outdated", |_| true);
    assert!(is_outdated());
}

/// The files in a text: each is a code block after a line with its path.
fn files_in(text: &str) -> Vec<(&str, &str)> {
    let blocks = text.split("\n```\n").filter_map(|part| {
        let (before, block) = part.rsplit_once("\n```")?;
        let path = before.trim_end().rsplit('\n').next()?.strip_prefix('`')?.strip_suffix("`:")?;
        Some((path, block.split_once('\n')?.1))
    });
    blocks.collect()
}

#[test]
fn the_readme_works_word_for_word() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let project = Project::empty();
    let engine = repository().join("engine").display().to_string();
    let files = files_in(&readme);
    let paths: Vec<_> = files.iter().map(|(path, _)| *path).collect();
    assert_eq!(paths, ["Cargo.toml", "src/main.rs", "world/Cargo.toml", "world/src/lib.rs"]);
    for (path, text) in files {
        let text = text.replace("../../hotswap/engine", &engine);
        project.write(path, &(text.replace("../hotswap/engine", &engine) + "\n"));
    }
    project.build_once("world");

    let mut command = project.command("hotswap");
    command.args(["run", "--json", ".", "--offline"]);
    let mut run = Process::start_reading(command);
    run.wait_for_event("connected", |_| true);
    run.type_line("Ada");
    assert_eq!(run.wait_for_host("Hello, "), "Ada! Hello, Ada!");
    project.edit("world/src/lib.rs", "Hello, {name}!", "Welcome, {name}!");
    run.wait_for_event("reload_finished", |it| it["report"]["generation"] == 2);
    run.type_line("Ada");
    assert_eq!(run.wait_for_host("Welcome, "), "Ada! Welcome, Ada!");
}

#[test]
fn a_panic_ends_a_host_with_panic_abort_and_the_plugin_is_named() {
    let project = Project::new(&["one"], &["one"]);
    let workspace = fs::read_to_string(project.root().join("Cargo.toml")).unwrap();
    project.write("Cargo.toml", &format!("{workspace}\n[profile.dev]\npanic = \"abort\"\n"));
    let panics = "#[invoke]\nfn fall() -> u32 {\n    panic!(\"gone\")\n}\n\n#[invoke]\nfn number";
    project.edit("one/src/lib.rs", "#[invoke]\nfn number", panics);
    project.build_once("one");
    let mut run = project.run(&[]);
    run.wait_for_event("connected", |_| true);
    run.wait_for_host("child=");
    assert_eq!(number(&project, "one"), 1);

    // The artifact has the panic strategy of the host, and `inspect` compares it with that host.
    let host = project.place().json(&["status"])["host"].clone();
    let artifact = Path::new(host["plugin_dir"].as_str().unwrap()).join("one.so");
    let inspected = project.place().json(&["inspect", artifact.to_str().unwrap()]);
    assert_eq!(inspected["toolchain"]["panic_strategy"], "abort");
    assert_eq!(
        (&inspected["fits"], &inspected["judged_by"]["host"]),
        (&true.into(), &"app".into())
    );

    project.place().refusal(3, &["invoke", "one", "fall"]);
    let ended = run.wait_for_event("host_exited", |_| true);
    assert_eq!((&ended["signal"], &ended["expected"]), (&6.into(), &false.into()));
    let call = &ended["calls"][0];
    assert_eq!((&call["plugin"], &call["function"]), (&"one".into(), &"fall".into()));
}
