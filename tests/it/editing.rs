//! Editing plugins while their host runs: the effects of a save, and each step by hand.

use serde_json::{Value, json};

use crate::support::{Session, Workspace};

const WORLD: &str = "sample-plugins/world/src/lib.rs";
const ALPHA: &str = "sample-plugins/alpha/src/lib.rs";

/// The outcome of a plugin in a reload.
fn outcome<'a>(report: &'a Value, plugin: &str) -> &'a str {
    let plugins = report["plugins"].as_array().expect("plugins");
    let plugin = plugins.iter().find(|it| it["name"] == plugin);
    plugin.and_then(|it| it["outcome"].as_str()).unwrap_or_else(|| panic!("not in {report}"))
}

fn versions_of<'a>(status: &'a Value, plugin: &str) -> Option<&'a Vec<Value>> {
    let plugins = status["plugins"].as_array().expect("plugins");
    plugins.iter().find(|it| it["name"] == plugin)?["versions"].as_array()
}

/// The files of a plugin that the host has mapped.
fn mapped(session: &Session, plugin: &str) -> Vec<String> {
    let is_its = |file: &String| file.starts_with(&format!("{plugin}-"));
    session.mapped().into_iter().filter(is_its).collect()
}

#[test]
fn a_save_is_rebuilt_and_reloaded_by_itself() {
    let workspace = Workspace::new();
    let mut session = Session::start(workspace.command_with_host(
        "hotswap",
        &["run", "--json"],
        &["--port", "0"],
    ));
    session.wait_for("watching", |event| event["on"] == true);
    assert_eq!(session.get("/greet/Ada"), "Hello, Ada!\n");

    workspace.edit(WORLD, "Hello, {name}!", "Hello again, {name}!");
    let report = session.wait_for_generation(2);
    assert_eq!(outcome(&report, "world"), "ok");
    assert_eq!(outcome(&report, "cat"), "unchanged");
    let phases = report["build_phases"].as_array().unwrap();
    assert_eq!(
        phases.first().unwrap()["phase"],
        "notice",
        "the first phase is the notice of the save: {phases:?}"
    );
    assert_eq!(session.get("/greet/Ada"), "Hello again, Ada!\n");
    let called =
        session.wait_for("first_call", |event| event["plugin"] == "world" && event["version"] == 2);
    assert_eq!(called["function"], "greet");
    session.wait_until_freed("world", 1);
    let files = mapped(&session, "world");
    assert!(files.len() == 1 && files[0].starts_with("world-v2-"), "{files:?}");

    // A failed build leaves the running version alone.
    workspace.edit(WORLD, "Hello again, {name}!", "Hello, {nobody}!");
    let error = session.wait_for("build", |event| event["level"] == "error");
    assert!(error["message"].as_str().unwrap().contains("nobody"), "{error}");
    assert!(error["file"].as_str().unwrap().ends_with(WORLD), "{error}");
    assert!(error["row"].is_u64() && error["column"].is_u64(), "{error}");
    let failed = session.wait_for("job_finished", |event| event["outcome"] == "failed");
    assert_eq!(failed["job"], "build world");
    assert_eq!(session.get("/greet/Ada"), "Hello again, Ada!\n");
    assert_eq!(workspace.place().json(&["status"])["generation"], 2);

    // After the failed edit is undone, the running version is up to date. The first source becomes a new version.
    workspace.edit(WORLD, "Hello, {nobody}!", "Hello again, {name}!");
    session
        .wait_for("built", |event| event["plugin"] == "world" && event["effect"] == "up_to_date");
    workspace.edit(WORLD, "Hello again, {name}!", "Hello, {name}!");
    assert_eq!(outcome(&session.wait_for_generation(3), "world"), "ok");
    assert_eq!(session.get("/greet/Ada"), "Hello, Ada!\n");
    session.wait_until_freed("world", 2);
    let status = workspace.place().json(&["status"]);
    let versions = versions_of(&status, "world").unwrap();
    assert_eq!(versions[0]["version"], 3);
    assert_eq!(versions[0]["build_id"], versions[2]["build_id"]);
    let files = mapped(&session, "world");
    assert!(files.len() == 1 && files[0].starts_with("world-v3-"), "{files:?}");
}

#[test]
fn a_breaking_save_waits_if_the_session_is_set_to() {
    let workspace = Workspace::new();
    let run = ["run", "--json", "--watch=ask"];
    let mut session =
        Session::start(workspace.command_with_host("hotswap", &run, &["--port", "0"]));
    session.wait_for("watching", |event| event["mode"] == "ask");

    workspace.edit(WORLD, "Hello, {name}!", "Hello again, {name}!");
    let report = session.wait_for_generation(2);
    assert_eq!(
        outcome(&report, "world"),
        "ok",
        "a change that breaks nothing is reloaded without a question"
    );

    workspace.edit(WORLD, "fn greetings(", "fn all_greetings(");
    let waits = session.wait_for("reload_waits", |_| true);
    assert_eq!(waits["plugins"], json!(["world"]));
    session.wait_for("job_finished", |event| event["job"] == "reload");
    assert_eq!(workspace.place().json(&["status"])["generation"], 2);
    assert_eq!(workspace.place().json(&["reload"])["generation"], 3);
}

#[test]
fn dependents_are_rebound_and_a_rollback_holds() {
    let workspace = Workspace::new();
    let place = workspace.place();
    let run = ["run", "--json", "--no-watch"];
    let mut session =
        Session::start(workspace.command_with_host("hotswap", &run, &["--port", "0"]));
    assert_eq!(place.json(&["invoke", "gamma", "sum"])["value"], 3);

    workspace.edit(ALPHA, "        1\n", "        10\n");
    workspace.build("alpha");
    let report = place.json(&["reload"]);
    assert_eq!(report["generation"], 2);
    assert_eq!(outcome(&report, "alpha"), "ok");
    for (plugin, expected) in
        [("beta", "rebound"), ("gamma", "rebound"), ("world", "unchanged"), ("cat", "unchanged")]
    {
        assert_eq!(outcome(&report, plugin), expected, "{plugin}");
    }
    let built = report["build_phases"].as_array().unwrap();
    assert!(
        built.iter().all(|phase| phase["plugin"] == "alpha"),
        "only `alpha` was built: {built:?}"
    );
    let phases: Vec<_> = built.iter().filter_map(|phase| phase["phase"].as_str()).collect();
    let last = ["stamp", "store", "install"];
    assert!(phases.starts_with(&["check"]) && phases.ends_with(&last), "{phases:?}");
    assert_eq!(place.json(&["invoke", "gamma", "sum"])["value"], 30);
    for plugin in ["alpha", "beta", "gamma"] {
        session.wait_until_freed(plugin, 1);
        let files = mapped(&session, plugin);
        assert!(files.len() == 1 && files[0].starts_with(&format!("{plugin}-v2-")), "{files:?}");
    }

    let report = place.json(&["rollback", "alpha@1"]);
    assert_eq!(outcome(&report, "alpha"), "ok");
    assert_eq!(outcome(&report, "gamma"), "rebound");
    assert_eq!(report["build_phases"], json!([]), "a rollback builds nothing");
    assert_eq!(place.json(&["invoke", "gamma", "sum"])["value"], 3);
    for _ in 0..2 {
        let report = place.json(&["reload"]);
        assert_eq!(outcome(&report, "alpha"), "held");
        assert_eq!(outcome(&report, "beta"), "unchanged");
    }
    assert_eq!(place.json(&["invoke", "gamma", "sum"])["value"], 3);

    let refused = place.refusal(1, &["rollback", "alpha@9"]);
    assert_eq!((&refused["kind"], &refused["plugin"]), (&"reload".into(), &"alpha".into()));
    assert!(refused["step"].is_string(), "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("this host has no v9 of it"), "{message}");

    let report = place.json(&["reload", "--latest"]);
    assert_eq!(outcome(&report, "alpha"), "ok");
    assert_eq!(place.json(&["invoke", "gamma", "sum"])["value"], 30);
}

#[test]
fn a_plugin_that_does_not_compile_at_the_start_is_added_when_it_compiles() {
    let workspace = Workspace::new();
    workspace.edit(WORLD, "fn greetings(", "fn greetings(]");
    let mut session = Session::start(workspace.command_with_host(
        "hotswap",
        &["run", "--json"],
        &["--port", "0"],
    ));
    let failed = session.wait_for("job_finished", |event| event["outcome"] == "failed");
    assert_eq!(failed["job"], "build world");
    assert_eq!(failed["error"]["kind"], "build");
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("`world` does not compile: "), "{message}");
    let status = workspace.place().json(&["status"]);
    assert!(versions_of(&status, "world").is_none(), "{status}");
    assert_eq!(versions_of(&status, "cat").unwrap()[0]["state"], "active");
    assert_eq!(session.get("/animals"), "tom (cat v1): meow\n");

    workspace.edit(WORLD, "fn greetings(]", "fn greetings(");
    let report = session.wait_for_generation(2);
    assert_eq!(outcome(&report, "world"), "added");
    assert_eq!(session.get("/greet/Ada"), "Hello, Ada!\n");
}
