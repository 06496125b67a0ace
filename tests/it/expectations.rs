//! The expectations of the host's own code, and loads that would break them.

use std::{
    collections::HashMap,
    fs::File,
    time::{Duration, UNIX_EPOCH},
};

use hotswap_engine::{
    EngineError, LoadCause,
    protocol::{CauseKind, ErrorKind, ExpectedItem, Step},
};
use insta::{allow_duplicates, assert_snapshot};
use sample_api::Alpha;
use types::Measure;

use crate::support::{Host, PluginDir, renamed};

/// The error of a reload that is refused because of an expectation.
fn refusal(host: &Host) -> EngineError {
    let error = host.engine.reload().unwrap_err();
    let wire = error.to_wire();
    assert_eq!((wire.kind, wire.cause), (ErrorKind::HostExpects, Some(CauseKind::HostExpects)));
    assert_eq!(wire.step, Some(Step::HostExpects));
    error
}

#[test]
fn a_load_may_not_change_a_function_that_the_host_calls_with_rust_types() {
    let host = Host::with(&["echo"]);
    let add = host.engine.func::<fn(i32, i32) -> i32>("echo", "add").unwrap();
    host.plugins.write("echo", &renamed("adds-otherwise", "echo"));
    let error = refusal(&host);
    assert_snapshot!(error, @"echo: host_expects: the host calls `add` as `fn(i32, i32) -> i32`: found `(u32, i32)`, expected `(i32, i32)`; rebuild and restart the host, or undo the change");
    let EngineError::Load { cause, .. } = &error else { panic!("not a failed load: {error}") };
    let LoadCause::HostExpects(broken) = &**cause else {
        panic!("not an expectation of the host: {cause:?}")
    };
    let expectation = &broken[0].expectation;
    assert_eq!((broken.len(), expectation.item), (1, ExpectedItem::Function));
    assert_eq!((expectation.plugin.as_deref(), &*expectation.name), (Some("echo"), "add"));
    assert_eq!(error.to_wire().broken, *broken);
    assert_eq!(add.call(1, 2).unwrap(), 3, "the earlier version still serves");

    host.plugins.write("echo", &renamed("by-hand", "echo"));
    assert_snapshot!(refusal(&host), @"echo: host_expects: the host calls `add` as `fn(i32, i32) -> i32`: there is no such function, and no other; rebuild and restart the host, or undo the change");
    assert_eq!(add.call(1, 2).unwrap(), 3);

    // A function that the host looks up for each call is an expectation too, although no handle exists in between.
    drop(add);
    refusal(&host);
}

#[test]
fn a_refusal_lists_all_broken_expectations() {
    let host = Host::with(&["shapes"]);
    let tree = host.engine.func::<fn(types::Tree) -> types::Tree>("shapes", "grow").unwrap();
    let list = host.engine.func::<fn(u32) -> types::List>("shapes", "list").unwrap();
    host.plugins.write("shapes", &renamed("shapes-otherwise", "shapes"));
    assert_snapshot!(format!("{:?}", refusal(&host)), @r"
    shapes: host_expects: the host calls `grow` as `fn(types::Tree) -> types::Tree`: `types::Tree` differs: found `weight: f32`, expected `weight: u32`; rebuild and restart the host, or undo the change
      caused by: shapes: the host calls `list` as `fn(u32) -> types::List`: `types::List::Item` differs: found `0: i32`, expected `0: u32`
    ");
    drop((tree, list));
    refusal(&host);
}

#[test]
fn a_live_function_may_be_removed_but_not_change_its_types() {
    let host = Host::with(&["lives"]);
    let numbers = host.engine.live_funcs::<fn() -> u32>();
    host.plugins.write("lives", &renamed("lives-more", "lives"));
    assert_snapshot!(host.reload(), @"lives: ok");
    assert_eq!(numbers.call("revision", ()).unwrap_err().kind(), ErrorKind::Signature);
    host.plugins.install("lives", 1);
    host.reload();

    assert_eq!(numbers.call("revision", ()).unwrap(), 1);
    host.plugins.write("lives", &renamed("lives-more", "lives"));
    assert_snapshot!(refusal(&host), @"lives: host_expects: the host calls the live function `revision` as `fn() -> u32`: found `u64`, expected `u32`; rebuild and restart the host, or undo the change");
    host.plugins.write("lives", &renamed("by-hand", "lives"));
    assert_snapshot!(host.reload(), @"lives: ok");
}

#[test]
fn a_load_may_not_change_an_export_that_the_host_has_used() {
    let host = Host::with(&["gives", "shapes"]);
    let alpha = host.engine.plugin("gives").unwrap().export::<dyn Alpha>().unwrap().unwrap();
    assert_eq!(alpha.one(), 1);
    drop(alpha);
    host.plugins.write("gives", &renamed("gives-more", "gives"));
    assert_snapshot!(refusal(&host), @"gives: host_expects: the host uses its export as `sample_api::Alpha`: found the interface `sample_api::Beta`, expected `sample_api::Alpha`; rebuild and restart the host, or undo the change");
    host.plugins.write("gives", &renamed("by-hand", "gives"));
    assert_snapshot!(refusal(&host), @"gives: host_expects: the host uses its export as `sample_api::Alpha`: it exports nothing; rebuild and restart the host, or undo the change");
    host.plugins.install("gives", 2);
    host.reload();

    host.engine.plugin("shapes").unwrap().export::<dyn Measure>().unwrap();
    host.plugins.write("shapes", &renamed("shapes-otherwise", "shapes"));
    assert_snapshot!(refusal(&host), @"shapes: host_expects: the host uses its export as `types::Measure`: `types::Measure::first` differs: `types::Point` differs: found `x: f32`, expected `x: u32`; rebuild and restart the host, or undo the change");
}

#[test]
fn registrations_are_compared_after_plugins_have_registered() {
    let find = |host: &Host| {
        let vault = host.engine.vault();
        assert!(vault.extension().find::<dyn Measure>("ruler").unwrap().is_some());
    };
    let list = |host: &Host| {
        assert_eq!(host.engine.current().registered::<dyn Measure>().unwrap().len(), 1);
    };
    for use_it in [find, list] {
        let host = Host::with(&["shapes"]);
        use_it(&host);
        host.plugins.write("shapes", &renamed("shapes-otherwise", "shapes"));
        let refusal = refusal(&host);
        allow_duplicates! { assert_snapshot!(refusal, @"shapes: host_expects: the host uses registrations of `types::Measure`: `types::Measure::first` differs: `types::Point` differs: found `x: f32`, expected `x: u32`; rebuild and restart the host, or undo the change"); }
        host.plugins.write("shapes", &renamed("by-hand", "shapes"));
        host.reload();
    }
}

#[test]
fn a_plugin_that_is_unloaded_on_request_breaks_nothing() {
    let host = Host::with(&["echo"]);
    let add = host.engine.func::<fn(i32, i32) -> i32>("echo", "add").unwrap();
    host.plugins.remove("echo");
    assert_snapshot!(host.prune(), @"echo: removed");
    assert_eq!(add.call(1, 2).unwrap_err().kind(), ErrorKind::UnknownPlugin);
    // An expectation that no longer holds cannot be broken by a load.
    host.plugins.write("echo", &renamed("adds-otherwise", "echo"));
    host.reload();
    host.plugins.install("echo", 1);
    host.reload();
    assert_eq!(add.call(1, 2).unwrap(), 3);
}

#[test]
fn a_rollback_may_not_break_an_expectation() {
    let plugins = PluginDir::empty();
    plugins.write("echo", &renamed("adds-otherwise", "echo"));
    let host = Host::new(plugins, |builder| builder);
    host.reload();
    // Without a store, a rollback can use a version that is still mapped.
    let _first = host.engine.plugin("echo").unwrap();
    host.plugins.install("echo", 1);
    host.reload();
    let add = host.engine.func::<fn(i32, i32) -> i32>("echo", "add").unwrap();
    let error = host.engine.rollback("echo@1").unwrap_err();
    assert_eq!(error.to_wire().kind, ErrorKind::HostExpects);
    assert_eq!(add.call(1, 2).unwrap(), 3);
}

#[test]
fn a_host_may_choose_to_publish_breaking_loads() {
    let plugins = PluginDir::of(&["echo"]);
    let host = Host::new(plugins, |builder| builder.publish_breaking(true));
    host.reload();
    let add = host.engine.func::<fn(i32, i32) -> i32>("echo", "add").unwrap();
    host.plugins.write("echo", &renamed("adds-otherwise", "echo"));
    host.reload();
    assert_eq!(add.call(1, 2).unwrap_err().kind(), ErrorKind::Signature);
    assert!(host.engine.plan(false).unwrap().host_expects.is_empty());
}

#[test]
fn a_plan_lists_the_expectations_of_the_host() {
    let host = Host::with(&["echo", "gives"]);
    let add = host.engine.func::<fn(i32, i32) -> i32>("echo", "add").unwrap();
    let numbers = host.engine.live_funcs::<fn() -> u32>();
    numbers.call("revision", ()).unwrap_err();
    host.engine.plugin("gives").unwrap().export::<dyn Alpha>().unwrap();
    let reported = || -> Vec<String> {
        let expected = host.engine.plan(false).unwrap().host_expects;
        expected
            .into_iter()
            .map(|it| format!("{:?} {}: {}", it.item, it.name, it.expected))
            .collect()
    };
    let all = reported();
    assert_snapshot!(all.join("\n"), @r"
    Function add: fn(i32, i32) -> i32
    Export sample_api::Alpha: fn one() -> u32
    ");
    drop(add);
    assert_eq!(reported(), all, "a call by name does not keep a handle, so it expects nothing");
}

/// An object that the host registers.
struct Nothing;

impl Measure for Nothing {
    fn first(&self, _: &types::Path) -> Option<types::Point> {
        None
    }

    fn grown(&self, tree: types::Tree) -> types::Tree {
        tree
    }

    fn maps(&self) -> HashMap<String, HashMap<String, Vec<u32>>> {
        HashMap::new()
    }
}

#[test]
fn the_error_names_the_older_side_which_has_to_be_rebuilt() {
    let plugins = PluginDir::empty();
    let otherwise = renamed("shapes-otherwise", "shapes");
    plugins.write("shapes", &otherwise);
    let host = Host::new(plugins, |builder| builder);
    host.reload();
    host.engine.vault().extension().register::<dyn Measure, _>("of-host", Nothing).unwrap();
    let refusal = || host.engine.invoke::<bool>("shapes", "first_of_host", &[]).unwrap_err();
    assert_snapshot!(refusal(), @"shapes v1: first_of_host: `of-host` of host does not fit: `types::Measure::first` differs: `types::Point` differs: found `x: u32`, expected `x: f32`; the host is older than the plugin: build the host again, and restart it");

    host.plugins.write("shapes", &renamed("by-hand", "shapes"));
    host.reload();
    host.plugins.write("shapes", &otherwise);
    let file = File::options().write(true).open(host.plugins.file("shapes")).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    host.reload();
    assert_snapshot!(refusal(), @"shapes v3: first_of_host: `of-host` of host does not fit: `types::Measure::first` differs: `types::Point` differs: found `x: u32`, expected `x: f32`; the plugin is older than the host: build the plugin again");
}
