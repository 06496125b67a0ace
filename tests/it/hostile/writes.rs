//! A write is seen by every later reader, or returns an error. This also holds for a write by a replaced version,
//! to a superseded value, or to a key of the host.

use hotswap_engine::{LoadedPlugin, Value, args};
use insta::assert_snapshot;

use crate::support::{Host, renamed};

fn score(host: &Host) -> u64 {
    host.engine.plugin("carries").unwrap().invoke("score", args![]).unwrap()
}

/// A host whose score is two, and the version that counted.
fn host_with_score() -> (Host, LoadedPlugin) {
    let host = Host::with(&["carries"]);
    assert_eq!((score(&host), score(&host)), (1, 2));
    let old = host.engine.plugin("carries").unwrap();
    (host, old)
}

#[test]
fn a_replaced_version_sets_a_value_that_it_shares() {
    let (host, old) = host_with_score();
    host.plugins.install("carries", 2);
    host.reload();
    old.invoke::<()>("reset", args![]).unwrap();
    assert_eq!((old.invoke::<u64>("score", args![]).unwrap(), score(&host)), (1, 2));
}

#[test]
fn a_replaced_version_cannot_set_a_value_that_was_superseded() {
    let (host, old) = host_with_score();
    host.plugins.write("carries", &renamed("carries-more", "carries"));
    host.reload();
    let refused = |call| old.invoke_value(call, args![]).unwrap_err().to_string();
    assert_snapshot!(refused("score"), @"carries v1: score: `score` was superseded: carries v2 has taken it over with another type");
    assert_snapshot!(refused("reset"), @"carries v1: reset: `score` was superseded: carries v2 has taken it over with another type");
}

/// A host that owns `text` and `number`, and a replaced version of `puts`, which has put `own`.
fn host_with_replaced_plugin() -> (Host, LoadedPlugin) {
    let host = Host::with(&["puts"]);
    host.engine.vault().data_bag().set("text", String::from("host")).unwrap();
    host.engine.vault().data_bag().set("number", 7_u64).unwrap();
    let old = host.engine.plugin("puts").unwrap();
    old.invoke::<()>("put", args!["own", "before"]).unwrap();
    host.plugins.install("puts", 2);
    host.reload();
    (host, old)
}

fn text(host: &Host, key: &str) -> Option<String> {
    host.engine.vault().data_bag().get(key).unwrap()
}

fn call_error(old: &LoadedPlugin, call: &str, args: &[Value]) -> String {
    old.invoke_value(call, args).unwrap_err().to_string()
}

#[test]
fn a_value_of_the_host_that_a_replaced_version_sets_is_seen_by_all() {
    let (host, old) = host_with_replaced_plugin();
    old.invoke::<()>("put", args!["text", "after"]).unwrap();
    old.invoke::<()>("add", args!["text", "+"]).unwrap();
    assert_eq!(text(&host, "text").as_deref(), Some("after+"));
    // The value still belongs to the host, and outlives the version.
    drop(old);
    host.wait_for("puts", 1, hotswap_engine::protocol::VersionState::Freed);
    assert_eq!(text(&host, "text").as_deref(), Some("after+"));
}

#[test]
fn a_replaced_version_cannot_remove_or_retype_values_of_others() {
    let (host, old) = host_with_replaced_plugin();
    assert_snapshot!(call_error(&old, "remove", args!["text"]), @"puts v1: remove: `text` belongs to host; a version that was replaced can remove only its own values");
    assert_snapshot!(call_error(&old, "put", args!["number", "text"]), @"puts v1: put: `number` of host has another type: found `u64`, expected `alloc::string::String`");
    assert_eq!(text(&host, "text").as_deref(), Some("host"));
}

#[test]
fn a_replaced_version_keeps_its_own_values() {
    let (host, old) = host_with_replaced_plugin();
    assert_eq!(text(&host, "own"), None);
    old.invoke::<()>("add", args!["own", "+"]).unwrap();
    assert_eq!(old.invoke::<Option<String>>("get", args!["own"]).unwrap().unwrap(), "before+");
    old.invoke::<()>("put", args!["own", "after"]).unwrap();
    assert_eq!(old.invoke::<Option<String>>("get", args!["own"]).unwrap().unwrap(), "after");
    assert!(old.invoke::<bool>("remove", args!["own"]).unwrap());
    // A running call can also set a key that nobody else has.
    old.invoke::<()>("put", args!["new", "value"]).unwrap();
    assert_eq!(old.invoke::<Option<String>>("get", args!["new"]).unwrap().unwrap(), "value");
}
