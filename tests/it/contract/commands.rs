//! The answers of each command of `hotswap`.

use std::{collections::BTreeSet, fs, path::Path};

use hotswap_engine::artifact;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Serving, host_command, outcomes, sample, version, world};
use crate::support::{Gate, Place, PluginDir, Process, post};

#[test]
fn a_build_prints_the_path_of_the_artifact_last() {
    let place = Place::new();
    let out = tempfile::tempdir().unwrap();
    let out_dir = out.path().join("made/by/the/build");
    // A first build can take longer than a test waits.
    sample("world");
    let answer = place.hotswap(&["build", "sample-plugins/world", out_dir.to_str().unwrap()]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let path = Path::new(answer.stdout.lines().last().unwrap());
    assert_eq!(path, out_dir.join("world.so"));
    assert_eq!(artifact::inspect(&fs::read(path).unwrap()).unwrap().name, "world");
}

#[test]
fn a_verbose_build_reports_each_step_and_keeps_temporary_files_on_request() {
    let place = Place::new();
    let out_dir = tempfile::tempdir().unwrap();
    let shown = out_dir.path().to_str().unwrap();
    let checked = place.hotswap(&["build", "--cargo-build=false", "sample-plugins/world", shown]);
    assert_eq!((checked.code, checked.stdout.as_str()), (Some(0), ""), "{checked:?}");
    assert!(
        fs::read_dir(out_dir.path()).unwrap().next().is_none(),
        "`--cargo-build=false` compiles nothing"
    );

    let flags = ["-v", "--include", "Cargo.toml$", "--exclude", "^target/", "--leave-temps"];
    let answer = place.hotswap(&[&["build", "sample-plugins/world", shown], &flags[..]].concat());
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(answer.stdout, format!("{shown}/world.so\n"));
    let lines: Vec<&str> = answer.stderr.lines().collect();
    for beginning in
        ["build ", "commit ", "fn         greet(", "file ", "check ", "stamp ", "store "]
    {
        assert!(lines.iter().any(|line| line.starts_with(beginning)), "{beginning}: {answer:?}");
    }
    // Another test may have built the same sources before.
    let notes = "the notes of compiler calls are in ";
    let kept = [notes, "the compiler calls of this build are in ", "nothing was compiled, so "];
    let is_kept = |line: &&&str| kept.iter().any(|text| line.starts_with(text));
    let said = lines.iter().find(is_kept).unwrap_or_else(|| panic!("{answer:?}"));
    if let Some((_, dir)) = said.split_once(" in ") {
        assert!(Path::new(dir).is_dir(), "{dir}");
        fs::remove_dir_all(dir).unwrap();
    }

    for prefix in ["", "_", "job-"] {
        let refused = place.hotswap(&["build", "--live-prefix", prefix, "/nowhere", shown]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("--live-prefix"), "{refused:?}");
    }
    let wrong = place.hotswap(&["build", "--include", "(", "sample-plugins/world", shown]);
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    let traced = place.hotswap(&["build", "--debug", "/nowhere", shown]);
    assert!(traced.stderr.contains("it arose here:") && traced.stderr.contains("/nowhere"));
}

#[test]
fn a_plugin_is_linked_into_a_crate_for_its_host_and_taken_out_again() {
    let place = Place::new();
    let out = tempfile::tempdir().unwrap();
    let crate_dir = out.path().join("static-plugins");
    let shown = crate_dir.to_str().unwrap();
    for plugin in ["sample-plugins/dog", "sample-plugins/world"] {
        let answer = place.hotswap(&["build", "--static-linking", plugin, shown]);
        assert_eq!((answer.code, answer.stdout.trim_end()), (Some(0), shown), "{answer:?}");
    }
    let source = fs::read_to_string(crate_dir.join("src/lib.rs")).unwrap();
    assert!(
        source.contains("&dog::__HOTSWAP_PLUGIN") && source.contains("&world::__HOTSWAP_PLUGIN")
    );
    let clean = |plugin| place.hotswap(&["build", "--static-linking", "--clean", plugin, shown]);
    let answer = clean("sample-plugins/dog");
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stderr.starts_with("`static-plugins` links world\n"), "{answer:?}");
    assert_eq!(clean("sample-plugins/dog").code, Some(1), "the plugin is not linked any more");
    assert_eq!(clean("sample-plugins/world").code, Some(0));
    assert!(!crate_dir.exists());
}

#[test]
fn status_shows_the_host_and_its_plugins() {
    let serving = Serving::with_samples();
    let status = serving.json(&["status"]);
    let host = &status["host"];
    assert_eq!(host["pid"], serving.session.host);
    assert_eq!(host["plugin_dir"], serving.plugins.path().to_str().unwrap());
    assert!(Path::new(host["staging_dir"].as_str().unwrap()).is_dir(), "{host}");
    assert_eq!(status["generation"], 1);
    let names: Vec<_> =
        status["plugins"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["cat", "world"]);
    let world = version(&status, "world", 1);
    assert_eq!(world["state"], "active");
    let build_id = artifact::inspect(&sample("world")).unwrap().build_id;
    assert_eq!(world["build_id"], build_id.to_string());
}

#[test]
fn an_argument_is_json_or_else_a_bare_string() {
    let serving = Serving::with_samples();
    let answer = serving.json(&["invoke", "world", "greet", "Ada", "2"]);
    assert_eq!(answer["value"], "Hello, Ada! Hello, Ada!");
    assert_eq!(answer["plugin"], "world");
    assert_eq!(answer["version"], 1);
    assert!(answer["elapsed_us"].is_u64(), "{answer}");
    for (argument, name) in [("42", "42"), ("\"42\"", "42"), ("Ada Lovelace", "Ada Lovelace")] {
        let answer = serving.json(&["invoke", "world@1", "greet", argument, "1"]);
        assert_eq!(answer["value"], format!("Hello, {name}!"));
    }
    let greetings = serving.json(&["invoke", "WORLD", "greetings"]);
    assert_eq!(greetings["value"], 5);
}

#[test]
fn a_panic_on_a_thread_of_a_plugin_is_logged_with_its_place() {
    let serving = Serving::of(PluginDir::of(&["foreign-ways"]));
    serving.json(&["invoke", "foreign-ways", "panics_on_thread"]);
    let logs = serving.place.hotswap(&["logs", "--json"]).stdout;
    let records = logs.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let is_panic = |record: &Value| record["message"].as_str().unwrap().contains("not caught");
    let record = records.into_iter().find(is_panic).expect("a line about the panic");
    let (file, line) = (record["file"].as_str().unwrap(), record["line"].as_u64().unwrap());
    assert!(file.ends_with("foreign-ways/src/lib.rs"), "{record}");
    let message = record["message"].as_str().unwrap();
    assert!(message.contains(&format!("{file}:{line}:")), "{record}");
}

#[test]
fn a_panic_is_reported_with_its_place_and_with_how_to_have_a_backtrace() {
    let serving = Serving::of(PluginDir::of(&["foreign-ways"]));
    let failed = serving.place.hotswap(&["invoke", "foreign-ways", "panics"]);
    let lines: Vec<&str> = failed.stderr.lines().collect();
    let [panic, advice] = lines.as_slice() else { panic!("{failed:?}") };
    assert!(panic.contains("foreign-ways/src/lib.rs:") && panic.ends_with(": caught"), "{panic}");
    assert!(advice.contains("if the host runs with `RUST_BACKTRACE=1`"), "{advice}");
    serving.place.hotswap(&["invoke", "foreign-ways", "panics"]);
    let logs = serving.place.hotswap(&["logs"]).stdout;
    let advised = logs.matches("start the host with `RUST_BACKTRACE=1`").count();
    assert_eq!(advised, 1, "{logs}");
}

#[test]
fn numbers_that_json_cannot_represent_can_be_passed_and_are_shown() {
    let serving = Serving::of(PluginDir::of(&["foreign-ways"]));
    let value = |args: &[&str]| {
        serving.json(&[&["invoke", "foreign-ways"], args].concat())["value"].clone()
    };
    let numbers = value(&["numbers", r#"["NaN", "-inf", 0.5]"#, "Infinity"]);
    assert_eq!(numbers, json!([["NaN", "-Infinity", 0.5], "Infinity"]));
    let (least, most) = (i128::MIN.to_string(), u128::MAX.to_string());
    assert_eq!(value(&["wide", &least, &most]), json!([least, most]));
    assert_eq!(value(&["bytes", "[0, 255]"]), json!([0, 255]));
}

#[test]
fn a_reload_replaces_what_changed_and_the_old_image_is_unmapped() {
    let mut serving = Serving::with_samples();
    serving.plugins.write("world", &world(2));
    let report = serving.json(&["reload"]);
    assert_eq!(report["generation"], 2);
    assert_eq!(outcomes(&report), [("cat", "unchanged"), ("world", "ok")]);
    assert_eq!(serving.session.get("/greet/Ada?times=2"), "Hello02Ada! Hello02Ada!\n");
    assert_eq!(serving.json(&["invoke", "world", "greet", "Ada", "1"])["version"], 2);

    serving.session.wait_until_freed("world", 1);
    let status = serving.json(&["status"]);
    assert_eq!(version(&status, "world", 1)["state"], "freed");
    assert_eq!(version(&status, "world", 2)["state"], "active");
    let mapped = serving.session.mapped();
    let staged: BTreeSet<_> = fs::read_dir(&serving.session.staging_dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".so"))
        .collect();
    assert_eq!(mapped, staged);
    let plugins: Vec<_> = mapped.iter().map(|name| name.split('-').next().unwrap()).collect();
    assert_eq!(plugins, ["cat", "world"]);

    assert_eq!(
        outcomes(&serving.json(&["reload"])),
        [("cat", "unchanged"), ("world", "unchanged")]
    );
    assert_eq!(serving.json(&["status"])["generation"], 2);
}

#[test]
fn plugins_are_added_and_removed() {
    let mut serving = Serving::with_samples();
    serving.plugins.install("echo", 1);
    serving.plugins.remove("cat");
    let preview = serving.json(&["reload", "--dry-run", "--prune"]);
    let expected = BTreeSet::from([("cat", "removed"), ("echo", "added"), ("world", "unchanged")]);
    assert_eq!(BTreeSet::from_iter(outcomes(&preview)), expected);
    let report = serving.json(&["reload"]);
    let kept = BTreeSet::from([("cat", "missing"), ("echo", "added"), ("world", "unchanged")]);
    assert_eq!(BTreeSet::from_iter(outcomes(&report)), kept);
    assert!(serving.session.get("/animals").contains("meow"));
    let words = serving.place.hotswap(&["reload", "--dry-run"]).stdout;
    assert!(words.contains("\nstays loaded, though its artifact is gone: cat\n"), "{words}");
    let report = serving.json(&["reload", "--prune"]);
    let pruned =
        BTreeSet::from([("cat", "removed"), ("echo", "unchanged"), ("world", "unchanged")]);
    assert_eq!(BTreeSet::from_iter(outcomes(&report)), pruned);
    serving.session.wait_until_freed("cat", 1);
    assert_eq!(serving.session.get("/animals"), "");
    assert_eq!(serving.json(&["invoke", "echo", "add", "2", "-3"])["value"], -1);
}

#[test]
fn a_version_in_use_can_be_named_and_its_holders_are_shown() {
    let plugins = PluginDir::of(&["echo"]);
    let mut serving = Serving::of(plugins);
    let gate = Gate::new();
    let mut call = serving.place.command("hotswap");
    call.args(["invoke", "echo", "hold", gate.path(), "--json"]);
    let call = Process::start(call);
    let waiting = gate.arrival();
    serving.plugins.install("echo", 2);
    assert_eq!(outcomes(&serving.json(&["reload"])), [("echo", "ok")]);

    let old = serving.json(&["invoke", "echo@1", "revision"]);
    assert_eq!((&old["value"], &old["version"]), (&json!(1), &json!(1)));
    assert_eq!(serving.json(&["invoke", "echo", "revision"])["value"], 2);
    assert_eq!(version(&serving.json(&["status"]), "echo", 1)["state"], "retired");
    let held = serving.place.hotswap(&["free", "echo@1", "--json"]);
    assert_eq!(held.code, Some(1), "{held:?}");
    let held = held.json();
    assert_eq!(held["state"], "retired");
    let holder = held["holders"][0].as_str().unwrap();
    assert!(holder.starts_with("call of hold on \""), "{held}");
    assert_eq!(serving.session.mapped().len(), 2);

    waiting.release();
    assert_eq!(call.finish().json()["value"], 1);
    serving.session.wait_until_freed("echo", 1);
    assert_eq!(serving.session.mapped().len(), 1);
    assert_eq!(serving.json(&["free", "echo@1"])["state"], "freed");
    assert_eq!(serving.refusal(&["invoke", "echo@1", "revision"])["kind"], "unknown_plugin");
    assert_eq!(serving.refusal(&["free", "echo@2"])["kind"], "not_freeable");
}

#[test]
fn the_last_reloads_can_be_read_later() {
    let serving = Serving::with_samples();
    serving.plugins.write("cat", &sample("cat")[..100_000]);
    let refused = serving.refusal(&["reload"]);
    serving.plugins.write("cat", &sample("cat"));
    serving.plugins.write("world", &world(7));
    let report = serving.json(&["reload"]);
    let reloads = serving.json(&["reloads"])["reloads"].clone();
    assert_eq!(reloads.as_array().unwrap().len(), 3, "{reloads}");
    assert_eq!(
        reloads[0]["report"]["generation"], 1,
        "the list includes the load at the host's start"
    );
    assert_eq!(reloads[1]["error"], refused);
    assert_eq!(reloads[2]["report"], report);
    let words = serving.place.hotswap(&["reloads"]).stdout;
    assert!(words.lines().last().unwrap().ends_with("  world: ok"), "{words}");
}

#[test]
fn the_vault_shows_values_the_extension_and_registrations() {
    let serving = Serving::with_samples();
    serving.session.get("/greet/Ada?times=3");
    let vault = serving.json(&["vault"]);
    assert_eq!(vault["generation"], 1);
    let greetings =
        vault["data_bag"].as_array().unwrap().iter().find(|it| it["key"] == "greetings");
    let greetings = greetings.expect("the number of greetings");
    assert_eq!(greetings["type"], "u64");
    assert_eq!(greetings["owner"], "world v1");
    assert_eq!(greetings["value"], 3);
    assert!(vault["extension"]["name"].is_string(), "{vault}");
    let tom = &vault["slots"][0];
    assert_eq!((&tom["name"], &tom["owner"]), (&json!("tom"), &json!("cat v1")));
    assert_eq!(serving.session.get("/animals?times=2"), "tom (cat v1): meow meow\n");
}

#[test]
fn a_job_is_made_from_the_name_of_a_live_type_and_run_by_its_live_function() {
    let plugins = PluginDir::empty();
    plugins.write("guardian", &sample("guardian"));
    let serving = Serving::of(plugins);
    let mut follow = serving.place.command("hotswap");
    follow.args(["logs", "--follow"]);
    let mut logs = Process::start(follow);
    let post = |path: &str, body: &str| post(serving.session.address, path, body).unwrap();
    let (status, answer) = post("/jobs/LiveFire", "{\"rounds\": 2}");
    assert_eq!((status, answer.ends_with(" jobs wait\n")), (200, true), "{answer}");
    logs.wait_for_text("job done: Bang! Bang!");
    assert_eq!(post("/jobs/live_roll_call", "{\"name\": \"Ada\"}").0, 200);
    logs.wait_for_text("job done: Ada! Present.");

    let unknown = "no live type named `LiveWater`; there is LiveFire, LiveRollCall\n";
    assert_eq!(post("/jobs/LiveWater", "{}"), (400, unknown.to_owned()));
    let (status, misfit) = post("/jobs/LiveFire", "{\"shots\": 2}");
    assert_eq!(status, 400);
    assert!(misfit.starts_with("`LiveFire` does not fit `LiveFire` of guardian v1: "), "{misfit}");
}

#[test]
fn the_log_is_followed_until_the_host_ends() {
    let serving = Serving::with_samples();
    let mut follow = serving.place.command("hotswap");
    follow.args(["logs", "--follow"]);
    let mut logs = Process::start(follow);
    logs.wait_for_text("world@v1 the world is ready");
    serving.session.get("/greet/Ada?times=7");
    let line = logs.wait_for_text("world@v1 greeting");
    assert!(line.contains("DEBUG") && line.contains("times=7"), "{line}");

    let with_json = serving.place.hotswap(&["logs", "--json"]);
    let records = with_json.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let is_it = |record: &Value| record["plugin"] == "world" && record["message"] == "greeting";
    let greeting = records.into_iter().find(is_it).expect("the record");
    assert_eq!((&greeting["version"], &greeting["level"]), (&json!(1), &json!("debug")));

    serving.session.signal(Signal::TERM);
    let end = logs.finish();
    assert_eq!(end.code, Some(0), "{end:?}");
}

#[test]
fn several_hosts_are_listed_and_one_is_chosen() {
    let serving = Serving::with_samples();
    let echo = PluginDir::of(&["echo"]);
    let mut other = Process::start(host_command(&serving.place, &echo));
    other.wait_for_text("listening on");
    let mut pids = vec![serving.session.host, other.pid()];
    pids.sort_unstable();
    let hosts = serving.json(&["hosts"]);
    let listed: Vec<_> = hosts.as_array().unwrap().iter().map(|host| &host["pid"]).collect();
    assert_eq!(listed, pids);

    let error = serving.place.refusal(3, &["status"]);
    assert_eq!(error["kind"], "no_host");
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("2 hosts run: sample-host (pid "), "{message}");
    assert!(message.ends_with("choose one with --host PID"), "{message}");
    let socket = serving.session.socket.to_str().unwrap();
    for choice in [serving.session.host.to_string().as_str(), socket] {
        assert_eq!(
            serving.json(&["--host", choice, "status"])["host"]["pid"],
            serving.session.host
        );
        let answer = serving.json(&["invoke", "world", "greetings", "--host", choice]);
        assert_eq!(answer["plugin"], "world");
    }
    let other = other.pid().to_string();
    assert_eq!(serving.json(&["--host", &other, "status"])["plugins"][0]["name"], "echo");
}
