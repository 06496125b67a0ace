//! A value is taken over once, and before its load is published, whichever threads try to.

use hotswap_engine::protocol::VersionState::Freed;
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{Gate, Host, in_own_process};

/// A value as a console sees it.
fn value(host: &Host, key: &str) -> Option<Value> {
    let bag = host.engine.vault_snapshot().data_bag;
    bag.into_iter().find(|entry| entry.key == key)?.value
}

#[test]
fn a_value_is_taken_over_by_one_thread_and_before_the_publish() {
    let end = in_own_process(|| {
        tracing_subscriber::fmt().init();
        let host = Host::with(&["carries-at-once"]);
        host.plugins.install("carries-at-once", 2);
        host.reload();
        let answers = json!(["Migrated", "`score` was set or carried by this load already"]);
        assert_eq!(value(&host, "answers"), Some(answers));
        assert_eq!(value(&host, "score"), Some(json!({"points": 7})));
        host.wait_for("carries-at-once", 1, Freed);

        let gate = Gate::new();
        host.engine.vault().data_bag().set("gate", gate.path().to_owned()).unwrap();
        host.plugins.install("carries-at-once", 3);
        host.reload();
        gate.arrival().release();
        assert_snapshot!(gate.message(), @"`score` cannot be taken over any more: the load is being published, or has ended; call `carry` in `on_init`, and let `on_init` wait for it");
        assert_eq!(value(&host, "score"), None);
        host.wait_for("carries-at-once", 2, Freed);
        println!("the host continues");
    });
    assert!(end.output.contains("the host continues"), "{:?} {}", end.status, end.output);
    assert!(!end.output.contains("left behind"), "{}", end.output);
}
