//! 27 (new): a thread of a plugin that ends with `pthread_exit`, as C code may.

use std::{thread, time::Duration};

use hotswap_engine::{args, protocol::VersionState::Freed};

use crate::support::{Host, in_own_process};

#[test]
fn a_thread_may_end_with_pthread_exit() {
    let end = in_own_process(|| {
        let host = Host::with(&["exits-thread"]);
        println!("{:?}", host.engine.invoke::<i32>("exits-thread", "start", args![]));
        host.plugins.install("exits-thread", 2);
        host.reload();
        thread::sleep(Duration::from_secs(1));
        let info = host.info("exits-thread", 1).unwrap();
        println!("{:?} {} {:?}", info.state, info.detail, info.holders);
        println!("{}", if info.state == Freed { "freed" } else { "held for ever" });
        std::process::exit(0);
    });
    assert!(end.output.contains("\nfreed"), "{:?} {}", end.status, end.output);
}
