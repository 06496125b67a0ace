//! The guard: a version that fails repeatedly is rolled back.

use std::time::Duration;

use hotswap_engine::{
    Guard, args,
    protocol::{Event, GuardTrip, VersionState},
};
use insta::assert_snapshot;

use crate::support::{Host, PATIENCE, PluginDir};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3600);

/// A host with this guard and the first revision of `echo`.
fn host_with_guard(guard: Guard) -> Host {
    let host = Host::new(PluginDir::of(&["echo"]), |builder| builder.guard(guard));
    host.reload();
    host
}

fn explode(host: &Host, times: usize) {
    for _ in 0..times {
        host.engine.invoke::<()>("echo", "explode", args!["boom"]).unwrap_err();
    }
}

/// The next reaction of the guard.
fn next_trip(events: &hotswap_engine::Events) -> GuardTrip {
    loop {
        match events.recv_timeout(PATIENCE).unwrap() {
            Event::GuardTripped(trip) => return trip,
            _ => continue,
        }
    }
}

fn revision(host: &Host) -> u32 {
    host.engine.invoke("echo", "revision", &[]).unwrap()
}

#[test]
fn a_version_that_panics_repeatedly_is_rolled_back_and_held() {
    let host = host_with_guard(Guard::panics(3).within(LONG));
    host.plugins.install("echo", 2);
    host.reload();
    let events = host.engine.subscribe();
    explode(&host, 2);
    host.engine.invoke::<()>("echo", "fail", &[]).unwrap_err();
    assert_eq!(revision(&host), 2, "errors are not panics");
    explode(&host, 1);
    let reported = next_trip(&events);
    assert_eq!(
        (reported.plugin.as_str(), reported.version, reported.back_to),
        ("echo", 2, Some(1))
    );
    assert_eq!((reported.failures, reported.within_ms), (3, 3_600_000));
    host.wait_for("echo", 3, VersionState::Active);
    assert_eq!(revision(&host), 1);
    assert_snapshot!(host.reload(), @"echo: held");

    // The guard never goes back and forth between the same two builds.
    explode(&host, 4);
    assert_eq!(next_trip(&events).back_to, None);
    assert_eq!(revision(&host), 1);
    host.engine.reload_latest().unwrap();
    explode(&host, 3);
    assert_eq!((next_trip(&events).back_to, revision(&host)), (None, 2));

    host.plugins.install("echo", 3);
    host.reload();
    assert_eq!(revision(&host), 3);
    explode(&host, 3);
    assert_eq!((next_trip(&events).back_to, revision_after_trip(&host, 6)), (Some(4), 2));
}

/// Waits until `version`, which the guard has loaded, serves. Returns its revision.
fn revision_after_trip(host: &Host, version: u32) -> u32 {
    host.wait_for("echo", version, VersionState::Active);
    revision(host)
}

#[test]
fn errors_count_if_the_guard_is_set_to_and_wrong_calls_never_do() {
    let host = host_with_guard(Guard::failures(3).within(LONG));
    host.plugins.install("echo", 2);
    host.reload();
    let events = host.engine.subscribe();
    for _ in 0..4 {
        host.engine.invoke::<()>("echo", "add", args!["one"]).unwrap_err();
    }
    host.engine.invoke::<()>("echo", "fail", &[]).unwrap_err();
    explode(&host, 1);
    assert_eq!(revision(&host), 2);
    let fail = host.engine.func::<fn() -> ()>("echo", "fail").unwrap();
    fail.call().unwrap_err();
    assert_eq!(next_trip(&events).back_to, Some(1));
    assert_eq!(revision_after_trip(&host, 3), 1);
}

#[test]
fn the_first_version_stays_because_there_is_none_before_it() {
    let host = host_with_guard(Guard::panics(1));
    let events = host.engine.subscribe();
    explode(&host, 1);
    assert_eq!(next_trip(&events).back_to, None);
    assert_eq!(revision(&host), 1);
}

#[test]
fn the_guard_ignores_a_version_that_is_already_replaced() {
    let host = host_with_guard(Guard::panics(1));
    host.plugins.install("echo", 2);
    host.reload();
    let second = host.engine.plugin("echo").unwrap();
    host.plugins.install("echo", 3);
    host.reload();
    let events = host.engine.subscribe();
    second.invoke::<()>("explode", args!["boom"]).unwrap_err();
    drop(second);
    host.wait_for("echo", 2, VersionState::Freed);
    assert!(!events.try_iter().any(|event| matches!(event, Event::GuardTripped(_))));
    assert_eq!(revision(&host), 3);
}
