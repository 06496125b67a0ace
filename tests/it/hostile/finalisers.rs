//! A finaliser registers something while its image is unmapped, which would be called after the image is gone.

use std::time::Duration;

use hotswap_engine::protocol::VersionState::Freed;

use crate::support::{Host, PluginDir, in_own_process};

#[test]
fn a_finaliser_can_leave_nothing_behind() {
    let end = in_own_process(|| {
        // SAFETY: no other thread reads the environment yet.
        unsafe { std::env::set_var("FINALISES", "is read") };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        let plugins = PluginDir::of(&["finalises", "shares"]);
        let host = Host::new(plugins, |builder| builder.tokio(handle));
        host.reload();
        host.plugins.install("finalises", 2);
        host.reload();
        println!("{}", host.wait_for("finalises", 1, Freed).detail);
        // If the finaliser had left something behind, it would be called now.
        // SAFETY: a signal without a handler does nothing here.
        unsafe { libc::raise(libc::SIGWINCH) };
        host.plugins.remove("finalises");
        host.plugins.install("shares", 2);
        host.reload();
        println!("{}", host.wait_for("shares", 1, Freed).detail);
        println!("held: {:?}", host.engine.shutdown(Duration::from_secs(10)).held);
        drop(runtime);
        println!("ended");
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    for attempt in [
        "thread",
        "task",
        "sleep",
        "value",
        "update",
        "carry",
        "removal",
        "registration",
        "object",
        "signal",
        "key",
        "lookup",
    ] {
        assert!(end.output.contains(&format!("{attempt}: refused")), "{attempt}: {}", end.output);
    }
    assert!(end.output.contains("variable: is read"), "{}", end.output);
    assert!(end.output.contains("held: []\nended"), "{}", end.output);
}
