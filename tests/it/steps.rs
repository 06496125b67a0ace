//! The steps of a plugin's life: their order, and steps that never return.

use std::{
    convert::Infallible,
    env, fs,
    path::PathBuf,
    process,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use hotswap_engine::{Generation, args, protocol::VersionState};
use insta::{allow_duplicates, assert_snapshot};
use serde_json::json;

use crate::support::{Gate, Host, PATIENCE, PluginDir, renamed, with_revision};

/// A file whose path the plugins of this process know. One test uses it at a time.
struct Known(PathBuf, #[allow(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Known {
    fn file(name: &str) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let path = env::temp_dir().join(format!("hotswap-{name}-{}", process::id()));
        fs::write(&path, "").unwrap();
        Self(path, alone)
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }

    /// The text that was written since the last call.
    fn take_text(&self) -> String {
        let text = fs::read_to_string(&self.0).unwrap();
        self.write("");
        text
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_plugin_lives_through_its_functions_in_order() {
    let steps = Known::file("steps");
    let host = Host::new(PluginDir::of(&["notes-steps"]), |builder| builder);
    host.plugins.write("notes", &with_revision(renamed("notes-steps", "notes"), 2));
    host.engine.load("hello").unwrap();
    // `import` is called twice: for the requests, and to store the objects.
    assert_snapshot!(steps.take_text(), @r"
    2 reloadable
    1 reloadable
    2 export
    1 export
    2 import
    1 import
    2 import
    1 import
    2 on_load(hello)
    1 on_load(hello)
    2 on_init(0 keys)
    1 on_init(0 keys)
    ");

    let notes = host.engine.plugin("notes").unwrap();
    notes.invoke_value("anything", args![1, "two"]).unwrap();
    drop(notes);
    assert_snapshot!(steps.take_text(), @"2 invoke_func(anything, 2)");

    host.plugins.install("notes-steps", 3);
    host.reload();
    host.wait_for("notes-steps", 1, VersionState::Freed);
    assert_snapshot!(steps.take_text(), @r"
    1 reloadable
    3 reloadable
    3 export
    3 import
    3 import
    3 on_load(hello)
    3 on_init(0 keys)
    1 on_free
    1 drop
    ");

    host.engine.shutdown(PATIENCE);
    let mut ended: Vec<_> = steps.take_text().lines().map(ToOwned::to_owned).collect();
    ended.sort();
    assert_eq!(ended, ["2 drop", "2 on_free", "3 drop", "3 on_free"]);
}

#[test]
fn a_step_may_block_anywhere() {
    let stuck = Known::file("stuck");
    let settings =
        |plugins| Host::new(plugins, |builder| builder.step_timeout(Duration::from_millis(500)));
    let mut refusals = Vec::new();
    for step in
        ["default", "reloadable", "export", "import", "requests", "bind", "on_load", "on_init"]
    {
        let host = settings(PluginDir::of(&["echo", "stuck"]));
        let gate = Gate::new();
        stuck.write(&format!("{step} {}", gate.path()));
        refusals.push(host.refused_reload());
        let waiting = gate.arrival();
        stuck.write("");
        let held = host.wait_for("stuck", 1, VersionState::Failed);
        assert_eq!(held.holders.len(), 1, "{step}: {:?}", held.holders);
        assert!(host.mapped().iter().any(|file| file.starts_with("stuck-v1-")), "{step}");
        // The next load does not wait for the blocked step.
        allow_duplicates! { assert_snapshot!(host.reload(), @"echo: added, stuck: added"); }
        waiting.release();
        while host.mapped().iter().any(|file| file.starts_with("stuck-v1-")) {
            thread::yield_now();
        }
    }
    assert_snapshot!(refusals.join("\n"), @r"
    stuck: create: did not return within 0.5 s; its thread stays behind, and keeps the version in use
    stuck: reloadable: did not return within 0.5 s; its thread stays behind, and keeps the version in use
    stuck: export: did not return within 0.5 s; its thread stays behind, and keeps the version in use
    stuck: import: did not return within 0.5 s; its thread stays behind, and keeps the version in use
    stuck: import: did not return within 0.5 s; its thread stays behind, and keeps the version in use
    stuck: import: did not return within 0.5 s; its thread stays behind, and keeps the version in use
    stuck: on_load: did not return within 0.5 s; its thread stays behind, and keeps the version in use
    stuck: on_init: did not return within 0.5 s; its thread stays behind, and keeps the version in use
    ");

    // `reloadable` of the serving version may block, too.
    let host = settings(PluginDir::of(&["echo", "stuck"]));
    host.reload();
    host.plugins.install("stuck", 2);
    let gate = Gate::new();
    stuck.write(&format!("reloadable {}", gate.path()));
    assert_snapshot!(host.refused_reload(), @"stuck: reloadable: did not return within 0.5 s; its thread stays behind, and keeps the version in use");
    let waiting = gate.arrival();
    stuck.write("");
    assert_eq!(host.info("stuck", 1).unwrap().state, VersionState::Active);
    assert_snapshot!(host.reload(), @"echo: unchanged, stuck: ok");
    waiting.release();
    host.wait_for("stuck", 1, VersionState::Freed);
}

#[test]
fn a_version_that_blocks_at_its_end_is_reported_and_loads_go_on() {
    let stuck = Known::file("stuck");
    let steps = [("on_free", "its on_free"), ("drop", "the drop of the plugin")];
    for (step, holder) in steps {
        let host = Host::with(&["echo", "stuck"]);
        let gate = Gate::new();
        stuck.write(&format!("{step} {}", gate.path()));
        host.plugins.install("stuck", 2);
        host.reload();
        let waiting = gate.arrival();
        stuck.write("");
        let held = host.info("stuck", 1).unwrap();
        assert_eq!(held.holders, [format!("{holder}, which has not returned")]);
        assert!(host.mapped().iter().any(|file| file.starts_with("stuck-v1-")));
        host.plugins.install("echo", 2);
        allow_duplicates! { assert_snapshot!(host.reload(), @"echo: ok, stuck: unchanged"); }
        assert_eq!(
            host.engine.plugin("echo").unwrap().invoke::<u32>("revision", args![]).unwrap(),
            2
        );
        let report = host.engine.shutdown(Duration::from_millis(10));
        let reported = format!("stuck v1: {holder}");
        assert!(report.held.iter().any(|left| left.to_string().starts_with(&reported)), "{report}");
        waiting.release();
        assert_eq!(host.engine.shutdown(PATIENCE).held, []);
    }
}

#[test]
fn a_value_that_gets_stuck_while_it_is_migrated_fails_the_reload() {
    let stuck = Known::file("stuck");
    let host = host_with_revision(1);
    host.plugins.install("stuck-on-carry", 2);
    let gate = Gate::new();
    // By then, the value has been read once during `on_init`; later changes are read before the publish.
    let get_stuck = |_: &Generation, old: &Generation| {
        let old = old.plugin("stuck-on-carry").unwrap();
        old.invoke::<()>("touch", args![]).unwrap();
        stuck.write(&format!("deserialize {}", gate.path()));
        Ok::<_, Infallible>(())
    };
    let error = host.engine.reload_with((), get_stuck).unwrap_err();
    assert_snapshot!(error, @"stuck-on-carry: publish: `score`: did not return within 0.5 s; its thread stays behind, and keeps the version in use");
    let waiting = gate.arrival();
    stuck.write("");
    // The old version still serves, and has its values again.
    assert_eq!((revision(&host), points(&host)), (1, json!(7)));
    waiting.release();
    host.wait_for("stuck-on-carry", 2, VersionState::Failed);
    while host.mapped().iter().any(|file| file.starts_with("stuck-on-carry-v2-")) {
        thread::yield_now();
    }
    assert_eq!(add_name(&host), 1);
    host.reload();
    assert_eq!((revision(&host), points(&host), add_name(&host)), (2, json!(7), 1));
}

#[test]
fn a_value_that_gets_stuck_while_it_is_rehomed_fails_the_reload_and_is_lost() {
    let stuck = Known::file("stuck");
    let host = host_with_revision(2);
    assert_eq!(add_name(&host), 1);
    host.plugins.install("stuck-on-carry", 3);
    let gate = Gate::new();
    stuck.write(&format!("hash {}", gate.path()));
    assert_snapshot!(host.refused_reload(), @"stuck-on-carry: publish: `names` is lost: did not return within 0.5 s; its thread stays behind, and keeps the version in use");
    let waiting = gate.arrival();
    stuck.write("");
    // The stuck thread still has the value, so the old version starts with a new one.
    assert_eq!((revision(&host), points(&host), add_name(&host)), (2, json!(7), 1));
    host.reload();
    assert_eq!((revision(&host), points(&host)), (3, json!(7)));
    for version in [1, 2] {
        let held = host.info("stuck-on-carry", version).unwrap();
        assert_ne!(held.holders, Vec::<String>::new(), "v{version}");
    }
    waiting.release();
    host.wait_for("stuck-on-carry", 1, VersionState::Freed);
}

/// A host that runs this revision of `stuck-on-carry`.
fn host_with_revision(revision: u32) -> Host {
    let plugins = PluginDir::empty();
    plugins.install("stuck-on-carry", revision);
    let host = Host::new(plugins, |builder| builder.step_timeout(Duration::from_millis(500)));
    host.reload();
    host
}

fn revision(host: &Host) -> u32 {
    host.engine.plugin("stuck-on-carry").unwrap().invoke("revision", args![]).unwrap()
}

fn add_name(host: &Host) -> usize {
    host.engine.plugin("stuck-on-carry").unwrap().invoke("add", args!["Ada"]).unwrap()
}

fn points(host: &Host) -> serde_json::Value {
    let bag = host.engine.vault_snapshot().data_bag;
    let score = bag.into_iter().find(|entry| entry.key == "score").unwrap();
    score.value.unwrap()["points"].clone()
}
