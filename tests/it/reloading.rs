//! Reloads: all changed plugins are replaced, or none.

use std::{
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use hotswap_engine::{
    Generation, args,
    protocol::{Event, Outcome, VersionState},
};
use sample_api::Animal;

use crate::support::{self, Gate, Host, PluginDir, artifact, held_by};

fn revision(host: &Host) -> u32 {
    host.engine.plugin("echo").unwrap().invoke("revision", args![]).unwrap()
}

#[test]
fn a_changed_plugin_is_replaced_and_the_others_stay() {
    let host = Host::new(PluginDir::of(&["echo", "shares"]), |builder| builder);
    insta::assert_snapshot!(host.reload(), @"echo: added, shares: added");
    assert_eq!(revision(&host), 1);

    host.plugins.install("echo", 2);
    let report = host.reload();
    insta::assert_snapshot!(report, @"echo: ok, shares: unchanged");
    assert_eq!(report.generation, 2);
    assert_eq!(revision(&host), 2);
    assert_eq!(host.info("shares", 1).unwrap().state, VersionState::Active);
}

#[test]
fn the_first_call_of_each_version_is_reported_once() {
    let host = Host::with(&["echo"]);
    let events = host.engine.subscribe();
    let echo = host.engine.plugin("echo").unwrap();
    let call = |function| echo.invoke_value(function, args![]);
    assert!(call("fail").is_err());
    call("revision").unwrap();
    host.plugins.install("echo", 2);
    host.reload();
    call("revision").unwrap();
    assert_eq!(revision(&host), 2);
    // The event comes before all later events.
    host.engine.free("echo@1").unwrap();
    drop(echo);
    host.wait_for("echo", 1, VersionState::Freed);
    let reported = events.try_iter().filter_map(|event| match event {
        Event::FirstCall { plugin, version, function, .. } => Some((plugin, version, function)),
        _ => None,
    });
    let first = |version, function: &str| ("echo".to_owned(), version, function.to_owned());
    assert_eq!(reported.collect::<Vec<_>>(), [first(1, "fail"), first(2, "revision")]);
}

#[test]
fn nothing_changed_means_no_new_generation() {
    let host = Host::with(&["echo"]);
    insta::assert_snapshot!(host.reload(), @"echo: unchanged");
    // The same artifact is written again.
    host.plugins.install("echo", 1);
    let report = host.reload();
    insta::assert_snapshot!(report, @"echo: unchanged");
    assert_eq!(report.generation, 1);
}

#[test]
fn a_held_generation_calls_its_own_code_and_shares_the_current_vault() {
    let host = Host::with(&["echo", "gives", "lives", "shares", "takes"]);
    let old = host.engine.current();
    for plugin in ["echo", "gives", "lives", "shares"] {
        host.plugins.install(plugin, 2);
    }
    insta::assert_snapshot!(host.reload(), @"echo: ok, gives: ok, lives: ok, shares: ok, takes: rebound");

    // Calls through the old generation run its own versions, also through imports.
    let revision: u32 = old.plugin("echo").unwrap().invoke("revision", args![]).unwrap();
    let taken = |generation: &Generation| -> (u32, Option<u32>) {
        generation.plugin("takes").unwrap().invoke("taken", args![]).unwrap()
    };
    assert_eq!((revision, taken(&old).0, taken(&host.engine.current()).0), (1, 1, 2));

    // The Vault belongs to no generation, so its content is the current one.
    let vault = old.vault();
    assert_eq!(vault.live().call("revision", args![]).unwrap().to::<u32>().unwrap(), 2);
    assert_eq!(old.registered::<dyn Animal>().unwrap()[0].owner, "shares v2");
    host.engine.vault().data_bag().set("later", 7_u32).unwrap();
    assert_eq!(vault.data_bag().get::<u32>("later").unwrap(), Some(7));
}

#[test]
fn an_earlier_artifact_may_come_back() {
    let host = Host::with(&["echo"]);
    for number in [2, 1, 2, 1] {
        host.plugins.install("echo", number);
        insta::allow_duplicates! { insta::assert_snapshot!(host.reload(), @"echo: ok"); }
        assert_eq!(revision(&host), number);
    }
}

#[test]
fn plugins_come_and_go() {
    let host = Host::with(&["echo"]);
    host.plugins.install("by-hand", 1);
    insta::assert_snapshot!(host.reload(), @"by-hand: added, echo: unchanged");
    host.plugins.remove("echo");
    insta::assert_snapshot!(host.prune(), @"by-hand: unchanged, echo: removed");
    assert!(host.engine.plugin("echo").is_err());
    host.wait_for("echo", 1, VersionState::Freed);
    host.plugins.install("echo", 1);
    insta::assert_snapshot!(host.reload(), @"by-hand: unchanged, echo: added");
    assert_eq!(host.engine.plugin("echo").unwrap().version(), 2);
}

#[test]
fn a_plugin_whose_file_vanishes_stays_until_it_is_pruned() {
    let host = Host::with(&["echo", "by-hand"]);
    ["echo", "by-hand"].iter().for_each(|plugin| host.plugins.remove_file_of(plugin));
    let planned = host.engine.plan(false).unwrap().plugins;
    assert!(planned.iter().all(|plugin| plugin.outcome == Outcome::Missing), "{planned:?}");
    insta::assert_snapshot!(host.reload(), @"by-hand: missing, echo: missing");
    assert_eq!(host.engine.snapshot().generation, 1);
    assert_eq!(revision(&host), 1);

    // A new build replaces the version that has served all the time.
    host.plugins.install("echo", 2);
    insta::assert_snapshot!(host.reload(), @"by-hand: missing, echo: ok");
    assert_eq!(revision(&host), 2);
    insta::assert_snapshot!(host.prune(), @"echo: unchanged, by-hand: removed");
    assert!(host.engine.plugin("by-hand").is_err());
}

#[test]
fn a_chosen_plugin_that_serves_may_lose_its_file() {
    let host = Host::new(PluginDir::of(&["echo", "by-hand"]), |builder| builder.only(["echo"]));
    insta::assert_snapshot!(host.reload(), @"echo: added");
    host.plugins.remove_file_of("echo");
    insta::assert_snapshot!(host.reload(), @"echo: missing");
}

#[test]
fn a_plugin_without_a_file_is_rebound_to_its_changed_import() {
    let host = Host::with(&["gives", "takes"]);
    host.plugins.remove_file_of("takes");
    host.plugins.install("gives", 2);
    insta::assert_snapshot!(host.reload(), @"gives: ok, takes: rebound");
    let takes = host.engine.plugin("takes").unwrap();
    assert_eq!(takes.version(), 2);
}

#[test]
fn a_running_call_ends_on_the_version_on_which_it_began() {
    let host = Host::with(&["echo"]);
    let gate = Gate::new();
    thread::scope(|scope| {
        let call = scope.spawn(|| {
            let echo = host.engine.plugin("echo").unwrap();
            echo.invoke::<u32>("hold", args![gate.path()]).unwrap()
        });
        let waiting = gate.arrival();
        host.plugins.install("echo", 2);
        host.reload();
        assert_eq!(revision(&host), 2);
        let old: u32 = host.engine.plugin("echo@1").unwrap().invoke("revision", args![]).unwrap();
        assert_eq!(old, 1);
        waiting.release();
        assert_eq!(call.join().unwrap(), 1);
    });
    host.wait_for("echo", 1, VersionState::Freed);
}

#[test]
fn a_plugin_that_is_not_reloadable_is_not_replaced() {
    let host = Host::with(&["not-reloadable"]);
    host.plugins.install("not-reloadable", 2);
    for _ in 0..2 {
        insta::allow_duplicates! {
            insta::assert_snapshot!(host.reload(), @"not-reloadable: not reloadable");
        }
    }
    assert_eq!(host.engine.current().generation(), 1);
}

#[test]
fn the_host_may_choose_its_plugins() {
    let plugins = PluginDir::of(&["echo", "by-hand"]);
    let host = Host::new(plugins, |builder| builder.only(["Echo"]));
    insta::assert_snapshot!(host.reload(), @"echo: added");

    let plugins = PluginDir::of(&["echo", "by-hand"]);
    let host = Host::new(plugins, |builder| builder.only(["ghost"]));
    insta::assert_snapshot!(host.refused_reload(), @"ghost: find: the host asks for it; found: by-hand, echo");
}

#[test]
fn other_files_beside_the_chosen_plugins_are_ignored() {
    let plugins = PluginDir::of(&["echo", "by-hand"]);
    plugins.write("broken", b"no library");
    plugins.write("empty", b"");
    let mut damaged = artifact("by-hand");
    damaged.truncate(damaged.len() / 2);
    plugins.write("by-hand", &damaged);
    fs::create_dir(plugins.file("directory")).unwrap();
    symlink("nowhere", plugins.file("dangling")).unwrap();
    let host = Host::new(plugins, |builder| builder.only(["echo"]));
    insta::assert_snapshot!(host.reload(), @"echo: added");
    host.plugins.install("echo", 2);
    insta::assert_snapshot!(host.reload(), @"echo: ok");

    // A broken file of a chosen plugin is an error.
    let plugins = PluginDir::of(&["echo"]);
    plugins.write("by-hand", b"no library");
    let host = Host::new(plugins, |builder| builder.only(["echo", "by-hand"]));
    assert!(host.refused_reload().starts_with("by-hand.so: inspect: "));
}

#[test]
fn a_chosen_plugin_is_found_in_a_file_of_another_name() {
    let plugins = PluginDir::empty();
    plugins.write("libecho", &artifact("echo"));
    plugins.write("broken", b"no library");
    let host = Host::new(plugins, |builder| builder.only(["echo"]));
    insta::assert_snapshot!(host.reload(), @"echo: added");
    host.plugins.write("libecho", &support::revision("echo", 2));
    insta::assert_snapshot!(host.reload(), @"echo: ok");
    insta::assert_snapshot!(host.reload(), @"echo: unchanged");

    // The file with its name is another plugin.
    let plugins = PluginDir::of(&["echo"]);
    plugins.write("ghost", &artifact("by-hand"));
    let host = Host::new(plugins, |builder| builder.only(["by-hand"]));
    insta::assert_snapshot!(host.reload(), @"by-hand: added");
}

#[test]
fn the_error_lists_all_missing_chosen_plugins() {
    let plugins = PluginDir::of(&["echo", "by-hand"]);
    plugins.write("broken", b"no library");
    let host = Host::new(plugins, |builder| builder.only(["ghost", "echo", "spook"]));
    insta::assert_snapshot!(host.refused_reload(), @"ghost: find: the host asks for ghost, spook; found: by-hand, echo; not recognised as plugins: broken.so");
    let host = Host::new(PluginDir::empty(), |builder| builder.only(["ghost"]));
    insta::assert_snapshot!(host.refused_reload(), @"ghost: find: the host asks for it; found: no plugin");
}

#[test]
fn the_hosts_data_reaches_the_plugins() {
    let plugins = PluginDir::of(&["stuck-on-init"]);
    let host = Host::new(plugins, |builder| builder);
    let gate = Gate::new();
    thread::scope(|scope| {
        let load = scope.spawn(|| host.engine.load(gate.path()));
        gate.arrival().release();
        assert_eq!(load.join().unwrap().unwrap().to_string(), "stuck-on-init: added");
    });
}

#[test]
fn a_step_that_does_not_return_fails_the_load_and_holds_its_version() {
    let plugins = PluginDir::of(&["echo", "stuck-on-init"]);
    let host = Host::new(plugins, |builder| builder.step_timeout(Duration::from_millis(200)));
    let gate = Gate::new();
    let error = host.engine.load(gate.path()).unwrap_err();
    insta::assert_snapshot!(error, @"stuck-on-init: on_init: did not return within 0.2 s; its thread stays behind, and keeps the version in use");
    let stuck = host.wait_for("stuck-on-init", 1, VersionState::Failed);
    assert!(held_by(&stuck.holders, &["call of on_init, "]), "{:?}", stuck.holders);
    assert!(host.mapped().iter().any(|file| file.starts_with("stuck-on-init-v1-")));

    gate.arrival().release();
    while host.mapped().iter().any(|file| file.starts_with("stuck-on-init")) {
        thread::yield_now();
    }
}

#[test]
fn calls_from_many_threads_never_fail_while_plugins_are_replaced() {
    let host = Host::with(&["echo"]);
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (engine, stop) = (host.engine.clone(), stop.clone());
            thread::spawn(move || {
                let mut newest = 0;
                while !stop.load(Ordering::Relaxed) {
                    let echo = engine.plugin("echo").unwrap();
                    let revision: u32 = echo.invoke("revision", args![]).unwrap();
                    assert!(
                        revision >= newest,
                        "revision {revision} answers after revision {newest}"
                    );
                    newest = revision;
                    let version = echo.version();
                    assert_eq!(revision, version, "a handle always calls the same version");
                }
            })
        })
        .collect();
    for number in 2..=40 {
        host.plugins.install("echo", number);
        host.reload();
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.join().unwrap();
    }
    host.wait_for("echo", 39, VersionState::Freed);
    while host.mapped().len() > 1 {
        thread::yield_now();
    }
    assert!(host.mapped().iter().all(|file| file.starts_with("echo-v40-")), "{:?}", host.mapped());
}
