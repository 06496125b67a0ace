//! A thread of C code may leave its stack without returning from it.

use std::time::Duration;

use hotswap_engine::{args, protocol::VersionState::Freed};

use crate::support::{Host, in_own_process};

#[test]
fn a_thread_that_ends_with_pthread_exit_releases_its_version() {
    let end = in_own_process(|| {
        let host = Host::with(&["exits-thread"]);
        assert_eq!(host.engine.invoke::<i32>("exits-thread", "start", args![]).unwrap(), 0);
        host.plugins.install("exits-thread", 2);
        host.reload();
        println!("{}", host.wait_for("exits-thread", 1, Freed).detail);
        println!("held: {:?}", host.engine.shutdown(Duration::from_secs(10)).held);
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("its thread-local was dropped"), "{}", end.output);
    assert!(end.output.contains("held: []"), "{}", end.output);
}
