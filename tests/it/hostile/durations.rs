//! 11: "for ever" as a duration.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use hotswap_engine::{args, protocol::VersionState};

use crate::support::{Host, PluginDir, in_own_process};

#[test]
fn free_delay_for_ever() {
    let end = in_own_process(|| {
        let host = Host::new(PluginDir::of(&["echo"]), |b| b.free_delay(Duration::MAX));
        host.reload();
        host.plugins.install("echo", 2);
        host.reload();
        let (done, was_done) = std::sync::mpsc::channel();
        let engine = host.engine.clone();
        thread::spawn(move || {
            let freed = catch_unwind(AssertUnwindSafe(|| engine.free("echo@1").map(|f| f.state)));
            println!("free: {freed:?}");
            done.send(()).unwrap();
        });
        println!("free returned: {:?}", was_done.recv_timeout(Duration::from_secs(5)));
        println!("echo v1: {:?}", host.info("echo", 1).map(|info| info.state));
        let began = Instant::now();
        let held = host.engine.shutdown(Duration::from_secs(3)).held;
        println!("shutdown: {held:?} after {:?}", began.elapsed());
        std::process::exit(0);
    });
    assert!(end.output.contains("echo v1: Some(Freed)"), "{:?} {}", end.status, end.output);
}

#[test]
fn step_timeout_for_ever() {
    let end = in_own_process(|| {
        let host = Host::new(PluginDir::of(&["echo"]), |b| b.step_timeout(Duration::MAX));
        println!("{}", host.engine.load(()).unwrap());
        println!("loaded");
    });
    assert!(end.output.contains("\nloaded"), "{:?} {}", end.status, end.output);
}

#[test]
fn shutdown_for_ever() {
    let end = in_own_process(|| {
        let host = Host::with(&["echo"]);
        println!("held: {:?}", host.engine.shutdown(Duration::MAX).held);
    });
    assert!(end.output.contains("held: []"), "{:?} {}", end.status, end.output);
}
