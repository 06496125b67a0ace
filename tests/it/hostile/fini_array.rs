//! 5: what a finaliser leaves on the reaper's thread is called after the unmapping.

use std::time::Duration;

use hotswap_engine::protocol::VersionState::Freed;

use crate::support::{Host, in_own_process};

#[test]
fn a_finaliser_may_use_a_thread_local() {
    let end = in_own_process(|| {
        let host = Host::with(&["finalises"]);
        host.plugins.install("finalises", 2);
        host.reload();
        host.wait_for("finalises", 1, Freed);
        println!("unmapped");
        println!("{:?}", host.engine.shutdown(Duration::from_secs(5)).held);
        println!("ended");
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
}

/// The same of a task: its future is the image's.
#[test]
fn a_finaliser_may_start_a_task() {
    let end = in_own_process(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        let plugins = crate::support::PluginDir::of(&["finalises-task"]);
        let host = Host::new(plugins, |builder| builder.tokio(handle));
        host.reload();
        host.plugins.install("finalises-task", 2);
        host.reload();
        host.wait_for("finalises-task", 1, Freed);
        println!("unmapped");
        std::thread::sleep(Duration::from_millis(200));
        println!("alive");
        std::process::exit(0);
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
}
