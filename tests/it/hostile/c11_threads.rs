//! 8: threads that libc starts otherwise than through `pthread_create` are not seen.

use std::{thread, time::Duration};

use hotswap_engine::{
    args,
    protocol::VersionState::{Freed, Kept},
};

use crate::support::{Host, PluginDir, in_own_process};

fn starts_and_is_replaced(function: &str) {
    let host = Host::new(PluginDir::of(&["c11-thread"]), |builder| builder);
    if let Err(error) = host.engine.reload() {
        return println!("refused: {error}");
    }
    let runs = host.engine.invoke::<u32>("c11-thread", function, args![]).unwrap();
    println!("runs {runs}");
    host.plugins.install("c11-thread", 2);
    host.reload();
    let info = host.wait_until("c11-thread", 1, |info| matches!(info.state, Freed | Kept));
    println!("{:?} {}", info.state, info.detail);
    thread::sleep(Duration::from_millis(300));
    println!("alive");
}

#[test]
fn a_thread_of_c11_keeps_its_version() {
    let end = in_own_process(|| starts_and_is_replaced("start"));
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
}

#[test]
fn a_timer_with_a_thread_keeps_its_version() {
    let end = in_own_process(|| starts_and_is_replaced("start_timer"));
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
}
