//! Versions that end badly, or while others still write. Nothing of them stays, and no code uses them after they
//! were unmapped.

use std::{
    collections::BTreeSet,
    fs::File,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use hotswap_engine::{
    ConsoleSocket, Leftover, args,
    protocol::{VersionState, in_flight::calls_in_flight},
};

use crate::support::{Gate, Host, PATIENCE, PluginDir, in_own_process};

#[test]
fn a_version_that_sets_values_and_starts_threads_at_its_end_is_freed() {
    let host = Host::with(&["dies-hard"]);
    thread::scope(|scope| {
        scope.spawn(|| {
            let plugin = host.engine.clone().plugin("dies-hard").unwrap();
            plugin.invoke::<()>("leave_last_words", args![]).unwrap();
        });
    });
    for number in 2..=20 {
        host.plugins.install("dies-hard", number);
        host.reload();
        host.wait_for("dies-hard", number - 1, VersionState::Freed);
    }
    assert_eq!(host.mapped().len(), 1);
    assert_eq!(host.engine.current().vault().data_bag().keys().unwrap(), Vec::<String>::new());
}

#[test]
fn a_value_that_is_set_while_its_version_is_replaced_is_dropped_with_it() {
    let host = Host::with(&["dies-hard"]);
    let stop = AtomicBool::new(false);
    let engine = &host.engine;
    thread::scope(|scope| {
        for caller in 0..3 {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let plugin = engine.plugin("dies-hard").unwrap();
                    let key = format!("{caller} of v{}", plugin.version());
                    plugin.invoke::<()>("set", args![key]).unwrap();
                }
            });
        }
        for number in 2..=200 {
            host.plugins.install("dies-hard", number);
            host.reload();
        }
        stop.store(true, Ordering::Relaxed);
    });
    host.plugins.remove("dies-hard");
    host.prune();
    assert_eq!(host.engine.current().vault().data_bag().keys().unwrap(), Vec::<String>::new());
    while !host.mapped().is_empty() {
        hotswap_engine::checkpoint();
        thread::yield_now();
    }
}

#[test]
fn registrations_are_never_missing_during_a_reload() {
    let host = Host::with(&["shares"]);
    let stop = AtomicBool::new(false);
    let engine = &host.engine;
    thread::scope(|scope| {
        let asker = scope.spawn(|| {
            let mut owners = BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                let animals = engine.current().registered::<dyn sample_api::Animal>().unwrap();
                assert!(animals.len() <= 1);
                owners.extend(animals.into_iter().map(|animal| animal.owner));
                let keys = engine.current().vault().data_bag().keys().unwrap();
                assert_eq!(keys, ["count", "empty"]);
            }
            owners
        });
        for number in 2..=100 {
            host.plugins.install("shares", number);
            host.reload();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(!asker.join().unwrap().is_empty());
    });
}

#[test]
fn an_export_that_comes_too_late_is_dropped_before_its_image() {
    let path = std::env::temp_dir().join(format!("hotswap-slow-export-{}", std::process::id()));
    let gate = Gate::at(&path);
    let plugins = PluginDir::of(&["slow-export"]);
    let host = Host::new(plugins, |builder| builder.step_timeout(Duration::from_millis(100)));
    let refusal = host.refused_reload();
    assert!(refusal.starts_with("slow-export: export: did not return within"), "{refusal}");
    gate.arrival().release();
    while !host.mapped().is_empty() {
        thread::yield_now();
    }
}

#[test]
fn a_shutdown_waits_for_a_load_only_for_a_limited_time() {
    let host = Host::new(PluginDir::of(&["stuck-on-init"]), |builder| builder);
    let gate = Gate::new();
    thread::scope(|scope| {
        let load = scope.spawn(|| host.engine.load(gate.path()));
        let waiting = gate.arrival();
        let report = host.engine.shutdown(Duration::from_millis(100));
        assert_eq!(report.held, [Leftover::Load]);
        assert_eq!(report.to_string(), "a load that has not ended");
        waiting.release();
        let error = load.join().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the engine was shut down");
    });
    assert_eq!(host.engine.shutdown(PATIENCE).held, []);
    assert!(host.mapped().is_empty());
}

#[test]
fn a_version_that_is_being_loaded_or_failed_cannot_be_called() {
    let host = Host::new(PluginDir::of(&["stuck-on-init"]), |builder| builder);
    let gate = Gate::new();
    thread::scope(|scope| {
        let load = scope.spawn(|| host.engine.load(gate.path()));
        let waiting = gate.arrival();
        assert!(host.engine.plugin("stuck-on-init@1").is_err());
        waiting.release();
        load.join().unwrap().unwrap();
    });
    assert!(host.engine.plugin("stuck-on-init@1").is_ok());
}

#[test]
fn a_forked_child_calls_plugins_without_effect_on_its_parent() {
    let end = in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        let socket = ConsoleSocket::at(dir.path().join("socket"));
        let host = Host::new(PluginDir::of(&["echo"]), |builder| builder.console(Some(socket)));
        host.reload();
        let hold = |gate: &Gate| host.engine.invoke::<u32>("echo", "hold", args![gate.path()]);
        let calls = File::open(host.engine.snapshot().host.calls_file.unwrap()).unwrap();
        let gate = Gate::new();
        // SAFETY: the child uses only memory that no other thread was changing, and then ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let revision = hold(&gate).unwrap_or(0);
            // SAFETY: the call has no precondition.
            unsafe { libc::_exit(revision.cast_signed()) };
        }
        let waiting = gate.arrival();
        assert_eq!(calls_in_flight(&calls).unwrap(), [], "the child's call is not its parent's");
        host.plugins.install("echo", 2);
        host.reload();
        host.wait_for("echo", 1, VersionState::Freed);
        waiting.release();
        let mut status = 0;
        // SAFETY: the pointer is to a local.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(libc::WEXITSTATUS(status), 1, "{status}");
    });
    assert!(end.status.success(), "{}", end.output);
}
