//! A duration that means "for ever" never overflows when it is added to a time.

use std::{sync::mpsc::channel, thread, time::Duration};

use hotswap_engine::protocol::VersionState::{Freed, Retired};

use crate::support::{Host, PluginDir};

#[test]
fn versions_are_kept_for_ever_and_freed_on_request() {
    let host = Host::new(PluginDir::of(&["echo"]), |builder| builder.free_delay(Duration::MAX));
    host.reload();
    host.plugins.install("echo", 2);
    host.reload();
    assert_eq!(host.info("echo", 1).unwrap().state, Retired);
    assert_eq!(host.engine.free("echo@1").unwrap().state, Freed);
}

#[test]
fn a_step_may_take_for_ever() {
    let host =
        Host::new(PluginDir::of(&["carries"]), |builder| builder.step_timeout(Duration::MAX));
    host.reload();
    // A value that the new version takes over may also take for ever.
    host.plugins.install("carries", 2);
    host.reload();
    assert_eq!(host.engine.plugin("carries").unwrap().version(), 2);
}

#[test]
fn a_shutdown_waits_for_ever() {
    let host = Host::with(&["echo"]);
    assert_eq!(host.engine.shutdown(Duration::MAX).held, []);
}

#[test]
fn each_of_many_threads_that_wait_for_a_free_gets_an_answer() {
    let host = Host::new(PluginDir::of(&["echo"]), |builder| builder.free_delay(Duration::MAX));
    host.reload();
    host.plugins.install("echo", 2);
    host.reload();
    let (answer, answers) = channel();
    thread::scope(|scope| {
        for _ in 0..8 {
            let (engine, answer) = (&host.engine, answer.clone());
            scope.spawn(move || answer.send(engine.free("echo@1").unwrap().state).unwrap());
        }
    });
    drop(answer);
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), [Freed; 8]);
}
