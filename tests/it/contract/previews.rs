//! What an artifact and a reload would do, found out in a process of its own.

use std::fs;

use serde_json::{Value, json};

use super::{Serving, sample, world};
use crate::support::{Place, PluginDir, artifact as fixture, renamed};

/// A change a line; what breaks is marked.
fn changes(plugin: &Value) -> Vec<String> {
    let changes = plugin["changes"].as_array().expect("changes").iter();
    let text = |change: &Value| {
        let mark = if change["is_breaking"] == true { "! " } else { "" };
        let part = |name: &str| change[name].as_str().unwrap().to_owned();
        format!("{mark}{} {} {}", part("item"), part("name"), part("change"))
    };
    changes.map(text).collect()
}

#[test]
fn inspect_opens_an_artifact_elsewhere_and_tells_what_it_declares() {
    let (place, plugins) = (Place::new(), PluginDir::of(&["lives"]));
    let file = plugins.file("lives");
    let file = file.to_str().unwrap();
    let facts = place.json(&["inspect", "--open", file]);
    assert_eq!(facts["name"], "lives");
    let contents = &facts["contents"];
    assert_eq!(contents["functions"][0]["name"], "live_fire");
    assert_eq!(contents["functions"][0]["is_live"], true);
    assert_eq!(contents["live_types"][0]["name"], "LiveFire");
    assert!(contents["live_types"][0]["schema"]["properties"].is_object(), "{contents}");
    assert_eq!(place.json(&["inspect", file])["contents"], json!(null));

    let words = place.hotswap(&["inspect", "--open", file]);
    assert_eq!(words.code, Some(0), "{words:?}");
    assert!(
        words.stdout.contains("\n  live fn live_fire(fire: LiveFire) -> String\n"),
        "{words:?}"
    );
    assert!(words.stdout.contains("\nImports\n  (none)\n"), "{words:?}");
}

#[test]
fn an_artifact_that_crashes_takes_nothing_with_it() {
    let (place, plugins) = (Place::new(), PluginDir::of(&["aborts"]));
    let file = plugins.file("aborts");
    let error = place.refusal(1, &["inspect", "--open", file.to_str().unwrap()]);
    let text = "aborts.so ended the process that opened it, with SIGABRT (signal 6); no host was \
                touched";
    assert_eq!((&error["step"], &error["message"]), (&json!("open"), &json!(text)));
    let last_words = error["chain"][0].as_str().unwrap();
    assert!(last_words.contains("these are no good times"), "{error}");

    let serving = Serving::samples();
    serving.plugins.write("aborts", &fixture("aborts"));
    let error = serving.refusal(&["reload", "--dry-run"]);
    assert_eq!((&error["plugin"], &error["step"]), (&json!("aborts"), &json!("open")));
    assert_eq!(serving.session.get("/greet/Ada"), "Hello, Ada!\n");
}

#[test]
fn a_dry_run_tells_what_a_reload_would_change_and_changes_nothing() {
    let serving = Serving::samples();
    let nothing = serving.json(&["reload", "--dry-run"]);
    assert_eq!(nothing["is_breaking"], false);
    assert_eq!(nothing["plugins"][0]["outcome"], "unchanged");
    let words = serving.place.hotswap(&["reload", "--dry-run"]);
    assert_eq!(words.stdout, "A reload would change nothing.\n\nunchanged: cat, world\n");

    serving.plugins.write("world", &world(7));
    serving.plugins.write("cat", &renamed("lives", "cat"));
    serving.plugins.write("echo", &fixture("echo"));
    let preview = serving.json(&["reload", "--dry-run"]);
    let plugin = |name: &str| {
        let plugins = preview["plugins"].as_array().unwrap();
        plugins.iter().find(|it| it["name"] == name).unwrap().clone()
    };
    let world = plugin("world");
    assert_eq!((&world["outcome"], &world["is_breaking"]), (&json!("ok"), &json!(false)));
    assert_eq!(changes(&world), [""; 0]);
    assert_eq!(world["data_bag"][0]["key"], "greetings");
    assert_eq!(world["data_bag"][0]["prospect"], "same");
    let cat = plugin("cat");
    assert_eq!((&cat["outcome"], &cat["is_breaking"]), (&json!("ok"), &json!(true)));
    assert!(changes(&cat).contains(&"function relay added".to_owned()), "{cat}");
    assert!(changes(&cat).iter().any(|change| change.starts_with("! function ")), "{cat}");
    let echo = plugin("echo");
    assert_eq!((&echo["outcome"], &echo["loaded"]), (&json!("added"), &json!(null)));
    assert!(changes(&echo).contains(&"function add added".to_owned()), "{echo}");
    assert_eq!(preview["is_breaking"], true);

    assert_eq!(serving.json(&["status"])["generation"], 1);
    assert_eq!(serving.session.get("/greet/Ada"), "Hello, Ada!\n");
    assert_eq!(fs::read(serving.plugins.file("world")).unwrap(), super::world(7));
}

#[test]
fn a_dry_run_knows_what_a_rollback_holds() {
    let serving = Serving::samples();
    serving.plugins.write("world", &world(7));
    serving.json(&["reload"]);
    serving.json(&["rollback", "world@1"]);
    let outcome = |args: &[&str]| {
        let preview = serving.json(&[&["reload", "--dry-run"], args].concat());
        let plugins = preview["plugins"].as_array().unwrap().clone();
        plugins.iter().find(|it| it["name"] == "world").unwrap()["outcome"].clone()
    };
    assert_eq!(outcome(&[]), "held");
    assert_eq!(outcome(&["--latest"]), "ok");
}

#[test]
fn a_dry_run_fails_where_a_reload_would() {
    let serving = Serving::samples();
    serving.plugins.write("world", &sample("world")[..100_000]);
    let planned = serving.refusal(&["reload", "--dry-run"]);
    let refused = serving.refused_reload();
    assert_eq!(planned, refused);
}
