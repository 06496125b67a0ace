//! 9: what a replaced version sets is lost without a word.

use hotswap_engine::args;

use crate::support::{Host, PluginDir, renamed};

fn score(host: &Host) -> u64 {
    host.engine.plugin("carries").unwrap().invoke("score", args![]).unwrap()
}

fn playing() -> Host {
    let host = Host::new(PluginDir::of(&["carries"]), |builder| builder);
    host.reload();
    score(&host);
    score(&host);
    host
}

#[test]
fn a_replaced_version_sets_a_shared_value() {
    let host = playing();
    let old = host.engine.plugin("carries").unwrap();
    host.plugins.install("carries", 2);
    host.reload();
    if old.invoke::<()>("reset", args![]).is_err() {
        return;
    }
    let (by_old, by_new) = (old.invoke::<u64>("score", args![]).unwrap(), score(&host));
    assert_eq!(
        (by_old, by_new),
        (1, 2),
        "what the old and then the new version counts after a reset"
    );
}

#[test]
fn a_replaced_version_sets_a_superseded_value() {
    let host = playing();
    let old = host.engine.plugin("carries").unwrap();
    host.plugins.write("carries", &renamed("carries-more", "carries"));
    host.reload();
    println!("score: {:?}", old.invoke::<u64>("score", args![]).map_err(|e| e.to_string()));
    let reset = old.invoke::<()>("reset", args![]);
    println!("reset: {reset:?}");
    println!("score: {:?}", old.invoke::<u64>("score", args![]).map_err(|e| e.to_string()));
    assert!(reset.is_err(), "{:?}", host.engine.vault_snapshot().data_bag);
}

/// What a version answers, and what the host then reads.
fn replaced(call: &str, args: &[hotswap_engine::Value]) -> (String, Option<String>) {
    let host = Host::with(&["puts"]);
    let vault = host.engine.vault();
    vault.data_bag().set("text", String::from("before")).unwrap();
    let old = host.engine.plugin("puts").unwrap();
    host.plugins.install("puts", 2);
    host.reload();
    let answer = format!("{:?}", old.invoke_value(call, args).map_err(|error| error.to_string()));
    let add = old.invoke::<()>("add", args!["text", "+"]);
    println!("then add: {:?}", add.map_err(|error| error.to_string()));
    let seen = old.invoke::<Option<String>>("get", args!["text"]).unwrap();
    println!("the old version reads {seen:?}");
    (answer, vault.data_bag().get("text").unwrap())
}

#[test]
fn a_replaced_version_sets_a_value_of_the_hosts() {
    let (answer, text) = replaced("put", args!["text", "after"]);
    assert!(answer.starts_with("Err") || text.as_deref() == Some("after+"), "{answer} {text:?}");
}

#[test]
fn a_replaced_version_removes_a_value_of_the_hosts() {
    let (answer, text) = replaced("remove", args!["text"]);
    assert!(answer.starts_with("Err") || text.as_deref() == Some("+"), "{answer} {text:?}");
}
