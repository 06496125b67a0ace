//! Plugins that import each other.

use std::{sync::Arc, thread};

use hotswap_engine::{
    EngineBuilder, args,
    protocol::{PhaseKind, Step, VersionState},
};
use insta::assert_snapshot;
use sample_api::{Alpha, Beta};

use crate::support::{Gate, Host, PluginDir, renamed};

fn taken(host: &Host, target: &str) -> (u32, Option<u32>) {
    host.engine.plugin(target).unwrap().invoke("taken", args![]).unwrap()
}

fn refusal_of(plugins: &[&str]) -> String {
    Host::new(PluginDir::of(plugins), |builder| builder).refused_reload()
}

#[test]
fn plugins_load_after_what_they_import() {
    let host = Host::with(&["takes", "gives", "gives-more", "by-hand"]);
    let current = host.engine.current();
    assert_eq!(current.names().collect::<Vec<_>>(), ["by-hand", "gives", "gives-more", "takes"]);
    assert_eq!(taken(&host, "takes"), (1, Some(20)));
    let listed = host.engine.snapshot().plugins;
    let listed = listed.iter().map(|plugin| plugin.name.as_str()).collect::<Vec<_>>();
    assert_eq!(listed, ["by-hand", "gives", "gives-more", "takes"]);
    let takes = host.engine.snapshot().plugins.pop().unwrap();
    assert_eq!(takes.imports, ["gives", "gives-more"]);
}

#[test]
fn dependents_are_rebound_to_a_changed_plugin() {
    let host = Host::with(&["by-hand", "gives", "takes"]);
    assert_eq!(taken(&host, "takes"), (1, None));
    host.plugins.install("gives", 2);
    let report = host.reload();
    assert_snapshot!(report, @"by-hand: unchanged, gives: ok, takes: rebound");
    // A rebound plugin is copied and inspected once more, and the report lists these phases too.
    let staged =
        report.phases.iter().filter(|phase| phase.phase == PhaseKind::Step(Step::Stage)).count();
    assert_eq!(staged, 2);
    assert_eq!(taken(&host, "takes"), (2, None));
    host.wait_for("takes", 1, VersionState::Freed);
    host.wait_for("gives", 1, VersionState::Freed);
    assert_eq!(host.mapped().len(), 3);

    host.plugins.install("takes", 2);
    assert_snapshot!(host.reload(), @"by-hand: unchanged, gives: unchanged, takes: ok");
    assert_eq!(taken(&host, "takes"), (2, None));
}

#[test]
fn an_optional_import_is_bound_when_its_plugin_appears() {
    let host = Host::with(&["gives", "takes"]);
    assert_eq!(taken(&host, "takes"), (1, None));
    host.plugins.install("gives-more", 1);
    assert_snapshot!(host.reload(), @"gives: unchanged, gives-more: added, takes: rebound");
    assert_eq!(taken(&host, "takes"), (1, Some(20)));
    host.plugins.remove("gives-more");
    assert_snapshot!(host.prune(), @"gives: unchanged, takes: rebound, gives-more: removed");
    assert_eq!(taken(&host, "takes"), (1, None));
}

#[test]
fn a_call_in_flight_keeps_the_imports_that_it_began_with() {
    let host = Host::with(&["gives", "takes"]);
    let gate = Gate::new();
    thread::scope(|scope| {
        let call = scope.spawn(|| {
            let takes = host.engine.plugin("takes").unwrap();
            takes.invoke::<u32>("taken_late", args![gate.path()]).unwrap()
        });
        let waiting = gate.arrival();
        host.plugins.install("gives", 2);
        host.reload();
        assert_eq!(taken(&host, "takes"), (2, None));
        assert_eq!(taken(&host, "takes@1"), (1, None));
        assert_eq!(host.info("gives", 1).unwrap().detail, "retired: 1 value");
        waiting.release();
        assert_eq!(call.join().unwrap(), 1);
    });
    host.wait_for("gives", 1, VersionState::Freed);
}

#[test]
fn an_import_of_a_missing_plugin_is_refused() {
    assert_snapshot!(refusal_of(&["takes", "by-hand"]), @"takes: import: it imports `gives`, but there is no such plugin; there are by-hand, takes");
    let host = Host::with(&["gives", "takes"]);
    host.plugins.remove("gives");
    let refused = host.engine.reload_pruning().unwrap_err();
    assert_snapshot!(refused, @"takes: import: it imports `gives`, but there is no such plugin; there are takes");
    assert_eq!(taken(&host, "takes"), (1, None));
}

#[test]
fn plugins_that_import_one_another_in_a_circle_are_refused() {
    assert_snapshot!(refusal_of(&["gives-more", "in-circle"]), @"gives-more: import: these plugins import one another in a circle: gives-more → in-circle → gives-more");
}

#[test]
fn an_export_that_does_not_fit_is_refused() {
    assert_snapshot!(refusal_of(&["gives", "takes-wrongly"]), @"takes-wrongly: import: the export of gives v1 does not fit: `sample_api::Alpha` differs: found `fn one() -> u32`, expected `fn one() -> String`; build both against the same source");
}

#[test]
fn an_export_of_another_interface_or_of_none_is_refused() {
    let refusal = |export: &str| {
        let plugins = PluginDir::of(&["takes"]);
        plugins.write("gives", &renamed(export, "gives"));
        Host::new(plugins, |builder| builder).refused_reload()
    };
    assert_snapshot!(refusal("gives-more"), @"takes: import: it imports `sample_api::Alpha` of gives v1, which exports `sample_api::Beta`");
    assert_snapshot!(refusal("by-hand"), @"takes: import: it imports `sample_api::Alpha` of gives v1, which exports nothing");
}

#[test]
fn a_plugin_that_is_not_reloadable_may_not_import_one_that_is() {
    assert_snapshot!(refusal_of(&["gives", "takes-and-stays"]), @"takes-and-stays: import: it is not reloadable, but imports gives v1, which is; a reload of gives v1 would leave it with the old version");
}

/// The plugins in load order.
fn load_order(host: &Host) -> Vec<String> {
    host.engine.current().names().map(ToOwned::to_owned).collect()
}

#[test]
fn a_plugin_may_load_after_one_that_exports_nothing() {
    let host = Host::with(&["follows", "lives"]);
    assert_eq!(load_order(&host), ["lives", "follows"]);

    // It has no object of the other plugin, so it stays when that plugin changes.
    host.plugins.install("lives", 2);
    assert_snapshot!(host.reload(), @"lives: ok, follows: unchanged");
    assert_eq!(load_order(&host), ["lives", "follows"]);
    host.plugins.remove("lives");
    let refused = host.engine.reload_pruning().unwrap_err();
    assert_snapshot!(refused, @"follows: import: it loads after `lives`, but there is no such plugin; there are follows");
}

#[test]
fn a_plugin_may_load_after_an_exporting_plugin_without_importing_from_it() {
    let plugins = PluginDir::of(&["follows"]);
    plugins.write("gives", &renamed("gives-more", "lives"));
    let host = Host::new(plugins, |builder| builder);
    host.reload();
    assert_eq!(load_order(&host), ["lives", "follows"]);
}

#[test]
fn the_host_can_use_the_export_of_a_plugin() {
    let host = Host::with(&["by-hand", "gives"]);
    let gives = host.engine.plugin("gives").unwrap();
    assert_eq!(gives.export::<dyn Alpha>().unwrap().unwrap().one(), 1);
    let error = gives.export::<dyn Beta>().err().unwrap();
    assert_snapshot!(error, @"gives v1: found the interface `sample_api::Alpha`, expected `sample_api::Beta`; build plugin and host against the same source");
    assert!(host.engine.plugin("by-hand").unwrap().export::<dyn Alpha>().unwrap().is_none());
}

/// A service of the host.
struct One(#[allow(dead_code, reason = "counted")] Arc<()>);

impl Alpha for One {
    fn one(&self) -> u32 {
        1000
    }
}

#[test]
fn a_service_of_the_host_is_imported_like_the_export_of_a_plugin() {
    let there = Arc::new(());
    let provide =
        |builder: EngineBuilder| builder.provide::<dyn Alpha, _>("gives", One(there.clone()));
    let host = Host::new(PluginDir::of(&["takes", "gives-more"]), provide);
    host.reload();
    assert_eq!(taken(&host, "takes"), (1000, Some(20)));

    host.plugins.install("gives", 1);
    assert_snapshot!(host.refused_reload(), @"gives: import: the host provides a service of this name; rename one of the two");
    host.plugins.remove("gives");
    host.plugins.write("takes", &renamed("takes-wrongly", "takes"));
    assert_snapshot!(host.refused_reload(), @"takes: import: `gives` of the host does not fit: `sample_api::Alpha` differs: found `fn one() -> u32`, expected `fn one() -> String`; the host is older than the plugin: build the host again, and restart it");
    drop(host);
    assert_eq!(Arc::strong_count(&there), 1, "the engine drops the host's service when it ends");

    let provide =
        |builder: EngineBuilder| builder.provide::<dyn Alpha, _>("gave", One(there.clone()));
    let host = Host::new(PluginDir::of(&["takes"]), provide);
    assert_snapshot!(host.refused_reload(), @"takes: import: it imports `gives`, but there is no such plugin; there are takes, gave");
}
