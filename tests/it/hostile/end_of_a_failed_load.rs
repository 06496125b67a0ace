//! The end of a version of a failed load waits for no other version: each version drops its own objects.

use std::time::Duration;

use hotswap_engine::protocol::VersionState::Freed;

use crate::support::{Gate, Host, PluginDir};

/// Fails a load in which `migrates-slowly` stays in its `on_init`, where it reads a migrated value. `others`
/// are loaded too. Meanwhile another plugin is freed.
fn fail_load_with(others: &[&str]) {
    let gate = Gate::new();
    let plugins = PluginDir::of(&["echo", "migrates-slowly"]);
    let host = Host::new(plugins, |b| b.step_timeout(Duration::from_millis(500)));
    host.engine.load(gate.path()).unwrap();
    host.plugins.install("migrates-slowly", 2);
    others.iter().for_each(|plugin| host.plugins.install(plugin, 1));
    let refused = host.engine.load(gate.path()).unwrap_err().to_string();
    assert!(refused.starts_with("migrates-slowly: on_init: did not return"), "{refused}");
    let waiting = gate.arrival();
    host.plugins.install("migrates-slowly", 1);
    others.iter().for_each(|plugin| host.plugins.remove(plugin));
    host.plugins.install("echo", 2);
    host.engine.load(gate.path()).unwrap();
    host.wait_for("echo", 1, Freed);
    waiting.release();
}

#[test]
fn a_version_that_is_stuck_beside_another_holds_up_nobody() {
    fail_load_with(&["by-hand"]);
}

#[test]
fn a_version_that_is_stuck_alone_holds_up_nobody() {
    fail_load_with(&[]);
}
