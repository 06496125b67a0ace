//! Functions that are called with Rust types, across reloads.

use hotswap_engine::{args, protocol::ErrorKind};
use insta::assert_snapshot;

use crate::support::{Host, PluginDir, renamed};

#[test]
fn a_function_is_called_with_rust_types() {
    let host = Host::with(&["echo"]);
    let add = host.engine.func::<fn(i32, i32) -> i32>("echo", "add").unwrap();
    assert_eq!(add.call(40, 2).unwrap(), 42);
    let repeat = host
        .engine
        .func::<fn(Vec<Option<String>>) -> Vec<Option<String>>>("echo", "repeat")
        .unwrap();
    let list = vec![Some("ä".to_owned()), None];
    assert_eq!(repeat.call(list.clone()).unwrap(), list);
    assert_eq!(repeat.call(Vec::new()).unwrap(), Vec::new());
}

#[test]
fn errors_and_panics_of_a_typed_call_are_those_of_any_call() {
    let host = Host::with(&["echo"]);
    let fail = host.engine.func::<fn() -> ()>("echo", "fail").unwrap();
    let error = fail.call().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PluginError);
    assert_eq!(error.causes(), ["invalid digit found in string"]);
    let explode = host.engine.func::<fn(String) -> ()>("echo", "explode").unwrap();
    let error = explode.call("boom".into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panic);
    assert!(error.message().ends_with(": boom"));
}

#[test]
fn a_typed_function_follows_every_reload() {
    let host = Host::with(&["echo"]);
    let revision = host.engine.func::<fn() -> u32>("echo", "revision").unwrap();
    for number in 1..=20 {
        host.plugins.install("echo", number);
        host.reload();
        assert_eq!(revision.call().unwrap(), number);
    }
}

#[test]
fn a_wrong_signature_is_refused_with_both() {
    let host = Host::with(&["echo", "lives"]);
    let error = host.engine.func::<fn(i32, f32) -> i32>("echo", "add").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Signature);
    assert_snapshot!(error, @"echo v1: add: its signature is `(a: i32, b: i32) -> i32`, but `fn(i32, f32) -> i32` is expected: found `(i32, i32)`, expected `(i32, f32)`");
    let error = host.engine.func::<fn() -> ()>("echo", "ad").unwrap_err();
    assert_snapshot!(error, @"echo v1: ad: there is no such function; there are add, explode, fail, hold, post, repeat, revision");
    let error = host.engine.func::<fn(String) -> String>("lives", "live_fire").unwrap_err();
    assert_snapshot!(error, @"lives v1: live_fire: `live_fire(fire: LiveFire) -> String`: a type of its signature is not `Shared`, or it has more than 8 parameters");
    let error = host.engine.func::<fn() -> ()>("ecco", "add").unwrap_err();
    assert_snapshot!(error, @"ecco: add: no plugin `ecco`; loaded: echo, lives");
}

#[test]
fn a_typed_call_fails_after_a_reload_that_changed_or_removed_the_function() {
    let plugins = PluginDir::of(&["echo"]);
    let host = Host::new(plugins, |builder| builder.publish_breaking(true));
    host.reload();
    let add = host.engine.func::<fn(i32, i32) -> i32>("echo", "add").unwrap();
    host.plugins.write("echo", &renamed("adds-otherwise", "echo"));
    host.reload();
    let error = add.call(1, 2).unwrap_err();
    assert_snapshot!(error, @"echo v2: add: its signature is `(a: u32, b: i32) -> i32`, but `fn(i32, i32) -> i32` is expected: found `(u32, i32)`, expected `(i32, i32)`");
    host.plugins.write("echo", &renamed("by-hand", "echo"));
    host.reload();
    let error = add.call(1, 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Signature);
    host.plugins.install("echo", 1);
    host.reload();
    assert_eq!(add.call(1, 2).unwrap(), 3, "the handle works again once the signature is back");
    host.plugins.remove("echo");
    host.prune();
    assert_eq!(add.call(1, 2).unwrap_err().kind(), ErrorKind::UnknownPlugin);
}

#[test]
fn functions_and_parameters_may_have_any_name() {
    let host = Host::with(&["adds-otherwise"]);
    let plugin = host.engine.plugin("adds-otherwise").unwrap();
    assert_eq!(plugin.invoke::<u64>("seed", args![7]).unwrap(), 7);
    assert_eq!(plugin.invoke::<u64>("context", args!["abc"]).unwrap(), 3);
    assert_eq!(plugin.invoke::<u64>("call", args![1, 2]).unwrap(), 3);
    assert_eq!(plugin.invoke::<u64>("args", args![4]).unwrap(), 4);
    assert_eq!(plugin.invoke::<u64>("probe", args![5]).unwrap(), 5);
    let call = host.engine.func::<fn(u64, u64) -> u64>("adds-otherwise", "call").unwrap();
    assert_eq!(call.call(3, 4).unwrap(), 7);
}
