//! The effects of an artifact and of a reload, found out in another process.

use std::fs;

use serde_json::{Value, json};

use super::{Serving, sample, world};
use crate::support::{Gate, Place, PluginDir, artifact as fixture, renamed};

/// The changes, one on each line, with a mark on breaking ones.
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
fn inspect_opens_an_artifact_in_another_process_and_shows_its_declarations() {
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
fn an_artifact_that_crashes_ends_only_the_process_that_opens_it() {
    let (place, plugins) = (Place::new(), PluginDir::of(&["aborts"]));
    let file = plugins.file("aborts");
    let error = place.refusal(1, &["inspect", "--open", file.to_str().unwrap()]);
    let text = "aborts.so ended the process that opened it, with SIGABRT (signal 6); no host was \
                touched";
    assert_eq!((&error["step"], &error["message"]), (&json!("open"), &json!(text)));
    let last_words = error["chain"][0].as_str().unwrap();
    assert!(last_words.contains("these are no good times"), "{error}");

    let serving = Serving::with_samples();
    serving.plugins.write("aborts", &fixture("aborts"));
    let error = serving.refusal(&["reload", "--dry-run"]);
    assert_eq!((&error["plugin"], &error["step"]), (&json!("aborts"), &json!("open")));
    assert_eq!(serving.session.get("/greet/Ada"), "Hello, Ada!\n");
}

#[test]
fn a_dry_run_shows_what_a_reload_would_change_and_changes_nothing() {
    let serving = Serving::with_samples();
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
fn a_dry_run_shows_that_a_rolled_back_plugin_stays_held() {
    let serving = Serving::with_samples();
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
    let serving = Serving::with_samples();
    serving.plugins.write("world", &sample("world")[..100_000]);
    let planned = serving.refusal(&["reload", "--dry-run"]);
    let refused = serving.refused_reload();
    assert_eq!(planned, refused);
}

/// The replay of a function: whether both results are the same, the result of the serving build, and that of the
/// new build.
fn replayed_call(preview: &Value, function: &str) -> (Value, Value, Value) {
    let calls = preview["replay"]["calls"].as_array().unwrap_or_else(|| panic!("{preview}"));
    let call = calls.iter().find(|call| call["function"] == function).expect("the call");
    (call["is_same"].clone(), call["old"].clone(), call["new"].clone())
}

#[test]
fn pinned_calls_are_made_in_the_new_build_before_it_is_loaded() {
    let serving = Serving::with_samples();
    serving.plugins.write("replays", &fixture("replays"));
    serving.json(&["reload"]);
    let gate = Gate::new();
    for call in [&["count"][..], &["greet", "Ada"], &["explode"], &["end"], &["hold", gate.path()]]
    {
        serving.json(&[&["pin", "add", "replays"], call].concat());
    }
    serving.json(&["pin", "add", "world", "greet", "Ada", "2"]);
    serving.plugins.install("replays", 2);

    let preview = serving.json(&["reload", "--dry-run", "--replay"]);
    let (is_same, old, new) = replayed_call(&preview, "explode");
    assert_eq!((is_same, &old["value"]), (json!(false), &json!(null)));
    assert_eq!(new["error"]["kind"], "panic");
    assert!(new["error"]["message"].as_str().unwrap().contains("no good times"), "{new}");
    let (is_same, _, new) = replayed_call(&preview, "end");
    assert_eq!((is_same, &new["ended"]["signal"]), (json!(false), &json!(6)));
    let (is_same, _, new) = replayed_call(&preview, "hold");
    assert_eq!((is_same, new), (json!(false), json!({"runs_on": 5000})));
    // The host's Vault has counted one more call, but the calls of a preview have an empty Vault.
    let (is_same, old, new) = replayed_call(&preview, "count");
    assert_eq!((is_same, &old["value"], &new["value"]), (json!(true), &json!(1), &json!(1)));
    let calls = preview["replay"]["calls"].as_array().unwrap();
    let greet: Vec<&Value> = calls.iter().filter(|call| call["function"] == "greet").collect();
    assert_eq!((&greet[0]["plugin"], &greet[0]["is_same"]), (&json!("replays"), &json!(false)));
    assert_eq!(greet[0]["old"]["value"], "Hello, Ada!");
    assert_eq!(greet[0]["new"]["value"], "HELLO, ADA!");
    assert_eq!((&greet[1]["plugin"], &greet[1]["is_same"]), (&json!("world"), &json!(true)));

    let words = serving.place.hotswap(&["reload", "--dry-run", "--replay"]);
    let build = greet[0]["build_id"].as_str().unwrap().get(..8).unwrap();
    let reported = "≠ replays greet(\"Ada\")\n      v1              \"Hello, Ada!\"  ";
    assert!(words.stdout.contains(reported), "{words:?}");
    assert!(
        words.stdout.contains(&format!("\n      build {build}  \"HELLO, ADA!\"  ")),
        "{words:?}"
    );
    assert!(words.stdout.contains("  ended its process, with SIGABRT (signal 6)\n"), "{words:?}");
    let same = words.stdout.lines().find(|line| line.starts_with("= world greet("));
    assert!(same.is_some_and(|it| it.contains("\"Hello, Ada! Hello, Ada!\"  ")), "{words:?}");

    assert_eq!(serving.json(&["status"])["generation"], 2, "nothing was loaded");
    assert_eq!(
        serving.json(&["invoke", "replays", "count"])["value"],
        2,
        "the host was not called"
    );
}

#[test]
fn a_function_with_effects_is_not_called_in_the_new_build() {
    let plugins = PluginDir::of(&["echo"]);
    plugins.write("world", &sample("world"));
    let serving = Serving::of(plugins);
    serving.json(&["pin", "add", "echo", "explode", "now"]);
    serving.plugins.write("echo", &renamed("adds-otherwise", "echo"));
    let preview = serving.json(&["reload", "--dry-run", "--replay"]);
    let (is_same, old, new) = replayed_call(&preview, "explode");
    assert_eq!((is_same, &old["error"]["kind"]), (json!(null), &json!("panic")));
    assert_eq!(new["not_called"]["kind"], "pin", "{new}");
}

#[test]
fn no_pinned_call_is_made_if_the_builds_cannot_be_loaded_without_the_host() {
    let serving = Serving::with_samples();
    serving.json(&["pin", "add", "world", "greet", "Ada", "2"]);
    serving.plugins.write("fail-on-init", &fixture("fail-on-init"));
    let replay = serving.json(&["reload", "--dry-run", "--replay"])["replay"].clone();
    assert_eq!(
        (&replay["calls"], &replay["error"]["plugin"]),
        (&json!([]), &json!("fail-on-init"))
    );
    let message = replay["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("the new builds cannot be loaded in a process without the host"));
}

#[test]
fn an_artifact_that_is_not_loaded_is_called_beside_the_serving_build() {
    let serving = Serving::with_samples();
    serving.plugins.write("replays", &fixture("replays"));
    serving.json(&["reload"]);
    let other = PluginDir::empty();
    other.write("replays", &fixture("replays"));
    other.install("replays", 2);
    let file = other.file("replays");
    let beside = ["--beside-artifact", file.to_str().unwrap(), "--repeat", "3"];
    let both = serving.json(&[&["invoke", "replays", "greet", "Ada"], &beside[..]].concat());
    assert_eq!((&both["value"], &both["version"]), (&json!("Hello, Ada!"), &json!(1)));
    assert_eq!(both["beside"]["result"]["value"], "HELLO, ADA!");
    assert_eq!(both["beside"]["result"]["latencies"]["calls"], 3);
    let count = serving.json(&[&["invoke", "replays", "count"], &beside[..]].concat());
    assert_eq!((&count["value"], &count["beside"]["result"]["value"]), (&json!(3), &json!(3)));
    let ended = serving.json(&[&["invoke", "replays", "end"], &beside[..]].concat());
    let message = ended["beside"]["error"]["message"].as_str().unwrap();
    assert_eq!(message, "the call ended its process, with SIGABRT (signal 6)");
    assert_eq!(
        serving.json(&["invoke", "replays", "count"])["value"],
        1,
        "the host was not called"
    );
}
