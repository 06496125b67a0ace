//! Bad input leads to a clear message and a useful exit code, and nothing is lost.

use std::{fs, net::TcpListener};

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::{Serving, host_command, outcomes, run_command, sample, world};
use crate::support::{Place, PluginDir, Process, artifact as fixture, get, repository};

#[test]
fn an_invoke_that_fails_says_why() {
    let serving = Serving::with_samples();
    let failure = |args: &[&str]| {
        let error = serving.refusal(&[&["invoke"], args].concat());
        format!("{}: {}", error["kind"].as_str().unwrap(), error["message"].as_str().unwrap())
    };
    assert_snapshot!(failure(&["world", "greet", "Ada", "many"]), @r#"bad_argument: world v1: greet: argument 2 (`times`): invalid type: string "many", expected u32"#);
    assert_snapshot!(failure(&["world", "greet", "Ada", "-1"]), @"bad_argument: world v1: greet: argument 2 (`times`): invalid value: integer `-1`, expected u32");
    assert_snapshot!(failure(&["world", "greet", "Ada"]), @"bad_argument: world v1: greet: expected 2 arguments, found 1: (name: String, times: u32) -> String");
    assert_snapshot!(failure(&["world", "greet", "Ada", "1", "2"]), @"bad_argument: world v1: greet: expected 2 arguments, found 3: (name: String, times: u32) -> String");
    assert_snapshot!(failure(&["world", "greet", "Ada", "1001"]), @"plugin_error: world v1: greet: a thousand greetings are enough");
    assert_snapshot!(failure(&["world", "shout", "Ada"]), @"unknown_function: world v1: no function named `shout`; it has greet, greetings, heartbeat");
    assert_snapshot!(failure(&["dragon", "greet", "Ada"]), @"unknown_plugin: no plugin `dragon`; loaded: cat, world");
    assert_snapshot!(failure(&["world@9", "greet", "Ada"]), @"unknown_plugin: no plugin `world@9`; loaded: cat@1, world@1");
    assert_eq!(serving.session.get("/greet/Ada"), "Hello, Ada!\n");
}

#[test]
fn a_broken_artifact_is_refused_and_the_old_version_serves_on() {
    let serving = Serving::with_samples();
    let mut foreign = sample("world");
    foreign[18..20].copy_from_slice(&40_u16.to_le_bytes());
    let cases: [(&[u8], &str); 4] = [
        (&sample("world")[..100_000], "inspect"),
        (&foreign, "built for ELF machine 40"),
        (b"", "not a shared library"),
        (b"#!/bin/sh\necho Hello\n", "not a shared library"),
    ];
    for (content, part) in cases {
        serving.plugins.write("world", content);
        let error = serving.refused_reload();
        assert_eq!(error["step"], "inspect", "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("world.so: inspect: ") && message.contains(part), "{message}");
    }
    serving.plugins.write("world", &world(2));
    assert_eq!(outcomes(&serving.json(&["reload"])), [("cat", "unchanged"), ("world", "ok")]);
}

#[test]
fn a_plugin_that_panics_in_on_load_is_refused() {
    let serving = Serving::with_samples();
    serving.plugins.write("panic-on-load", &fixture("panic-on-load"));
    let error = serving.refused_reload();
    assert_eq!(error["plugin"], "panic-on-load");
    assert_eq!(error["step"], "on_load");
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("panic-on-load: on_load: panicked at "), "{message}");
    assert!(message.ends_with("no good morning"), "{message}");
    let in_words = serving.place.hotswap(&["reload"]);
    assert_eq!(in_words.code, Some(1));
    assert_eq!(in_words.stderr, format!("hotswap: {message}\n"));
}

#[test]
fn a_host_without_loadable_plugins_serves_and_loads_a_fixed_plugin() {
    let plugins = PluginDir::empty();
    plugins.write("world", &sample("world")[..50_000]);
    let mut serving = Serving::of(plugins);
    let (status, body) = get(serving.session.address, "/greet/Ada").unwrap();
    assert_eq!(status, 503);
    assert!(body.contains("world"), "{body}");
    let why = |event: &Value| event["level"] == "error";
    let why = serving.session.wait_for("log", why)["message"].clone();
    assert!(why.as_str().unwrap().contains("world.so: inspect: "), "{why}");

    serving.plugins.write("world", &sample("world"));
    assert_eq!(outcomes(&serving.json(&["reload"])), [("world", "added")]);
    assert_eq!(serving.session.get("/greet/Ada"), "Hello, Ada!\n");
}

#[test]
fn a_path_that_is_no_host_or_no_plugin_is_an_error_that_says_so() {
    let place = Place::new();
    let empty = tempfile::tempdir().unwrap();
    let shown = empty.path().to_str().unwrap();
    let message = |args: &[&str]| {
        let answer = place.hotswap(args);
        assert_eq!(answer.code, Some(1), "{args:?}: {answer:?}");
        let stderr = answer.stderr.replace(shown, "[empty]");
        stderr.replace(repository().to_str().unwrap(), "[here]")
    };
    assert_snapshot!(message(&["run", "/nowhere"]), @"hotswap: no host at /nowhere: No such file or directory (os error 2)");
    assert_snapshot!(message(&["run", shown]), @"hotswap: [empty] is not a cargo package: it has no Cargo.toml. Name a host's package directory, or an executable together with --plugins DIR");
    assert_snapshot!(message(&["run", "Cargo.toml"]), @"hotswap: Cargo.toml is a file that cannot be executed: name a host's package directory, or an executable together with --plugins DIR");
    let no_plugins = message(&["run", "engine/protocol"]);
    let no_metadata =
        "Cargo.toml has no [package.metadata.hotswap], so it names no plugins: add them";
    assert!(no_plugins.contains(no_metadata), "{no_plugins}");
    assert_snapshot!(message(&["build", "/nowhere", shown]), @"hotswap: /nowhere: No such file or directory (os error 2); give the directory of a cargo package, such as ./sample-host");
    assert_snapshot!(message(&["build", shown, shown]), @"hotswap: [empty] is not a cargo package: there is no Cargo.toml in it");
    assert_snapshot!(message(&["build", "engine/protocol", shown]), @"hotswap: `hotswap-protocol` is not a plugin, since it does not depend on `hotswap-plugin`: add that to [dependencies] in [here]/engine/protocol/Cargo.toml");
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
}

#[test]
fn without_a_host_the_exit_code_is_3() {
    let place = Place::new();
    let commands: [&[&str]; 6] = [
        &["status"],
        &["reload"],
        &["invoke", "world", "greet", "Ada", "2"],
        &["vault"],
        &["free", "world@1"],
        &["logs"],
    ];
    for command in commands {
        let error = place.refusal(3, command);
        assert_eq!(error["kind"], "no_host", "{command:?}");
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("no host runs with a console socket in /"), "{message}");
        assert!(message.ends_with("start one with `hotswap run <host-dir>`"), "{message}");
        let in_words = place.hotswap(command);
        assert_eq!(
            (in_words.code, in_words.stderr.trim_end()),
            (Some(3), &*format!("hotswap: {message}"))
        );
    }
    assert_eq!(place.json(&["hosts"]), json!([]));
    for gone in ["1", "/nowhere/4121.sock"] {
        let error = place.refusal(3, &["--host", gone, "status"]);
        assert!(
            error["message"].as_str().unwrap().contains("`hotswap hosts` lists those that run")
        );
    }
    assert_eq!(place.hotswap(&["stauts"]).code, Some(2));
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (place, plugins) = (Place::new(), PluginDir::of(&["echo"]));
    let mut host = host_command(&place, &plugins);
    host.args(["--port", &port]);
    let end = Process::start(host).finish();
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stderr.contains(&format!("cannot listen on port {port}")), "{end:?}");
    assert!(end.stderr.contains("Address already in use"), "{end:?}");

    let mut run = run_command(&place, &plugins);
    run.args(["--no-watch", "--", "--port", &port]);
    let end = Process::start(run).finish();
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stdout.contains(&format!("cannot listen on port {port}")), "{end:?}");
    assert!(end.stderr.contains("exit code 1"), "{end:?}");
}
