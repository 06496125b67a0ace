//! 15: the end of one version of a failed load destroys another one's migrated values, and waits.

use std::{
    thread,
    time::{Duration, Instant},
};

use hotswap_engine::protocol::VersionState::Freed;

use crate::support::{Gate, Host, PluginDir, in_own_process};

#[test]
fn the_end_of_a_failed_load_does_not_wait_for_another_version() {
    let end = in_own_process(|| {
        let gate = Gate::new();
        let plugins = PluginDir::of(&["echo", "migrates-slowly"]);
        let host = Host::new(plugins, |b| b.step_timeout(Duration::from_millis(500)));
        host.engine.load(gate.path()).unwrap();
        host.plugins.install("migrates-slowly", 2);
        // A plugin that has nothing to do with it, and is loaded by the same load.
        host.plugins.install("by-hand", 1);
        println!("{}", host.engine.load(gate.path()).unwrap_err());
        let waiting = gate.arrival();
        thread::sleep(Duration::from_millis(200));
        for plugin in host.engine.snapshot().plugins {
            for info in plugin.versions {
                println!(
                    "{} v{} {:?} {} {:?}",
                    plugin.name, info.version, info.state, info.detail, info.holders
                );
            }
        }
        host.plugins.install("migrates-slowly", 1);
        host.plugins.remove("by-hand");
        host.plugins.install("echo", 2);
        println!("{}", host.engine.load(gate.path()).unwrap());
        let began = Instant::now();
        let freed = || host.info("echo", 1).is_some_and(|info| info.state == Freed);
        while !freed() && began.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(10));
        }
        println!("echo v1 freed while the gate is shut: {}", freed());
        println!(
            "echo v1: {:?}",
            host.info("echo", 1).map(|info| (info.state, info.detail, info.holders))
        );
        waiting.release();
        host.wait_for("echo", 1, Freed);
        println!("and now");
        std::process::exit(0);
    });
    assert!(end.output.contains("shut: true"), "{:?} {}", end.status, end.output);
}

/// Without the other plugin, the same is no problem.
#[test]
fn a_failed_load_of_one_alone_holds_up_nobody() {
    let end = in_own_process(|| {
        let gate = Gate::new();
        let plugins = PluginDir::of(&["echo", "migrates-slowly"]);
        let host = Host::new(plugins, |b| b.step_timeout(Duration::from_millis(500)));
        host.engine.load(gate.path()).unwrap();
        host.plugins.install("migrates-slowly", 2);
        println!("{}", host.engine.load(gate.path()).unwrap_err());
        let waiting = gate.arrival();
        host.plugins.install("migrates-slowly", 1);
        host.plugins.install("echo", 2);
        println!("{}", host.engine.load(gate.path()).unwrap());
        let began = Instant::now();
        let freed = || host.info("echo", 1).is_some_and(|info| info.state == Freed);
        while !freed() && began.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(10));
        }
        println!("echo v1 freed while the gate is shut: {}", freed());
        waiting.release();
        std::process::exit(0);
    });
    assert!(end.output.contains("shut: true"), "{:?} {}", end.status, end.output);
}
