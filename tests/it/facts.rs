//! Facts that a host or a console gets as data, in addition to the text.

use std::{error::Error, io, thread, time::Duration};

use hotswap_engine::{
    EngineBuilder, EngineError, LoadCause, PluginManager, Step,
    artifact::{ArtifactError, Misfit, ToolchainPart},
    protocol::{CauseKind, HolderKind, Owner, VersionState},
};
use serde_json::{Value, json};

use crate::{
    refused::of_another_toolchain,
    support::{Gate, Host, PluginDir, renamed},
};

/// A callback's error.
fn refuse(_: &PluginManager, _: &PluginManager) -> Result<(), io::Error> {
    Err(io::Error::other("not today"))
}

fn refusal(
    plugins: PluginDir,
    settings: impl FnOnce(EngineBuilder) -> EngineBuilder,
) -> EngineError {
    Host::new(plugins, settings).engine.reload().unwrap_err()
}

fn cause(error: &EngineError) -> &LoadCause {
    error.source().and_then(|cause| cause.downcast_ref()).expect("a cause")
}

/// The step and the cause that a console receives.
fn step_and_cause(error: &EngineError) -> (Step, CauseKind) {
    let wire = error.to_wire();
    (wire.step.expect("a step"), wire.cause.expect("a cause"))
}

#[test]
fn a_file_that_does_not_fit_has_another_cause_than_one_that_is_no_artifact() {
    let plugins = PluginDir::empty();
    plugins.write("by-hand", &of_another_toolchain("by-hand"));
    let error = refusal(plugins, |builder| builder);
    let is_toolchain = matches!(
        cause(&error),
        LoadCause::Artifact(ArtifactError::Toolchain(Misfit { part: ToolchainPart::Rustc, .. }))
    );
    assert!(is_toolchain, "{error:?}");
    assert_eq!(step_and_cause(&error), (Step::Inspect, CauseKind::Toolchain));

    let plugins = PluginDir::empty();
    plugins.write("bad", b"no library");
    let error = refusal(plugins, |builder| builder);
    let is_none = matches!(cause(&error), LoadCause::Artifact(ArtifactError::NotALibrary(_)));
    assert!(is_none, "{error:?}");
    assert_eq!(step_and_cause(&error), (Step::Inspect, CauseKind::Artifact));
}

#[test]
fn a_failed_step_has_a_cause_that_says_how_the_plugin_failed() {
    let error = refusal(PluginDir::of(&["panic-on-load"]), |builder| builder);
    let LoadCause::Panic { message, location: Some(location) } = cause(&error) else {
        panic!("{error:?}");
    };
    assert_eq!(message, "no good morning");
    assert!(location.starts_with("tests/fixtures/panic-on-load/"), "{location}");
    assert_eq!(step_and_cause(&error), (Step::OnLoad, CauseKind::Panic));

    let error = refusal(PluginDir::of(&["fail-on-init"]), |builder| builder);
    let LoadCause::Plugin(own) = cause(&error) else { panic!("{error:?}") };
    assert_eq!(own.message(), "reading the settings");
    assert_eq!(own.causes(), ["invalid digit found in string"]);
    assert_eq!(step_and_cause(&error), (Step::OnInit, CauseKind::Plugin));

    let timeout = Duration::from_millis(200);
    let plugins = PluginDir::of(&["stuck-on-init"]);
    let host = Host::new(plugins, |builder| builder.step_timeout(timeout));
    let gate = Gate::new();
    let error = host.engine.load(gate.path()).unwrap_err();
    assert!(
        matches!(cause(&error), LoadCause::TimedOut { after } if *after == timeout),
        "{error:?}"
    );
    assert_eq!(step_and_cause(&error), (Step::OnInit, CauseKind::TimedOut));
    gate.arrival().release();
}

#[test]
fn failures_outside_of_plugins_have_causes_too() {
    let error = refusal(PluginDir::of(&["takes"]), |builder| builder);
    assert!(matches!(cause(&error), LoadCause::Import { from } if from == "gives"), "{error:?}");
    assert_eq!(step_and_cause(&error), (Step::Import, CauseKind::Import));

    let error = refusal(PluginDir::of(&["echo"]), |builder| builder.only(["ghost"]));
    assert!(matches!(cause(&error), LoadCause::Refused), "{error:?}");
    assert_eq!(step_and_cause(&error), (Step::Find, CauseKind::Refused));

    let host = Host::new(PluginDir::empty(), |builder| builder);
    host.engine.set_plugin_dir("/nowhere");
    let error = host.engine.reload().unwrap_err();
    let is_missing =
        matches!(cause(&error), LoadCause::Io(why) if why.kind() == io::ErrorKind::NotFound);
    assert!(is_missing, "{error:?}");
    assert_eq!(step_and_cause(&error), (Step::Find, CauseKind::Io));

    let error = refusal(PluginDir::of(&["echo"]), |builder| builder.on_reload(refuse));
    let LoadCause::Callback(own) = cause(&error) else { panic!("{error:?}") };
    assert!(own.downcast_ref::<io::Error>().is_some(), "{own:?}");
    assert_eq!(step_and_cause(&error), (Step::Callback, CauseKind::Callback));
}

#[test]
fn a_callback_that_fails_blames_no_plugin_not_even_one_of_that_name() {
    let plugins = PluginDir::of(&["echo"]);
    plugins.write("callback", &renamed("gives-number", "callback"));
    let host = Host::new(plugins, |builder| builder.on_reload(refuse));
    host.engine.reload().unwrap_err();
    for plugin in ["callback", "echo"] {
        let version = host.wait_for(plugin, 1, VersionState::Failed);
        assert_eq!(version.detail, "failed: callback: not today");
        let version = serde_json::to_value(&version).unwrap();
        assert_eq!(version["remark"], "callback: not today");
        assert_eq!(
            version["failure"],
            json!({ "step": "callback", "cause": "callback", "message": "not today" })
        );
    }
}

#[test]
fn every_version_of_a_failed_load_names_the_plugin_that_failed() {
    let host = Host::new(PluginDir::of(&["echo", "fail-on-init"]), |builder| builder);
    host.engine.reload().unwrap_err();
    let version = host.wait_for("echo", 1, VersionState::Failed);
    let failure = version.failure.unwrap();
    assert_eq!(version.detail, format!("failed: {failure}"));
    assert_eq!(failure.plugin.as_deref(), Some("fail-on-init"));
    assert_eq!((failure.step, failure.cause), (Some(Step::OnInit), CauseKind::Plugin));
    assert_eq!(failure.causes, ["invalid digit found in string"]);
}

#[test]
fn holders_of_a_version_are_reported_as_text_and_as_data() {
    let host = Host::with(&["echo"]);
    let gate = Gate::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let call = host.engine.plugin("echo").unwrap();
            call.invoke::<u32>("hold", &[gate.path().into()]).unwrap()
        });
        let waiting = gate.arrival();
        host.plugins.install("echo", 2);
        host.reload();
        let answer = serde_json::to_value(host.engine.free("echo@1").unwrap()).unwrap();
        let [call, handle] = answer["held_by"].as_array().unwrap().as_slice() else {
            panic!("{answer}");
        };
        assert_eq!((&call["kind"], &call["function"]), (&json!("call"), &json!("hold")));
        assert!(call["since_ms"].is_u64() && call["thread_id"].is_i64(), "{call}");
        assert_eq!(call["is_at_least"], true);
        assert_eq!(handle, &json!({ "kind": "handle", "count": 1 }));
        let texts: Vec<&str> =
            answer["holders"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(texts[0].starts_with("call of hold on \""), "{texts:?}");
        assert_eq!(texts[1..], ["1 handle"]);
        waiting.release();
    });
    host.wait_for("echo", 1, VersionState::Freed);
}

#[test]
fn registrations_are_reported_with_their_owner_and_as_holders() {
    let host = Host::with(&["shares"]);
    let slot = host.engine.vault_snapshot().slots.remove(0);
    assert_eq!(slot.owner, "shares v1");
    assert_eq!(slot.owned_by, Some(Owner::Version { plugin: "shares".into(), version: 1 }));
    let parrot = host.engine.current().registered::<dyn sample_api::Animal>().unwrap().remove(0);
    host.plugins.install("shares", 2);
    host.reload();
    let held = host.info("shares", 1).unwrap().held_by;
    let [holder] = held.as_slice() else { panic!("{held:?}") };
    assert_eq!(holder.kind, HolderKind::Value);
    assert_eq!(holder.key.as_deref(), Some("parrot"));
    assert_eq!(holder.interface.as_deref(), Some("sample_api::Animal"));
    drop(parrot);
    host.wait_for("shares", 1, VersionState::Freed);
}
