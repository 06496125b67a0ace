//! A finaliser registers something while its image is unmapped, which would be called after the image is gone.

use std::{os::unix::process::CommandExt as _, process::Command, time::Duration};

use hotswap_engine::{args, protocol::VersionState::Freed};

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

/// Without the library, libc would call them at the end of the process, and at each fork until then.
#[test]
fn what_a_version_registers_for_the_end_and_for_forks_is_called_until_it_is_freed() {
    let end = in_own_process(|| {
        let fork = || {
            let mut child = Command::new("true");
            // SAFETY: the function does nothing. It makes std fork the child.
            unsafe { child.pre_exec(|| Ok(())) };
            assert!(child.status().unwrap().success());
        };
        let host = Host::with(&["finalises"]);
        host.engine.invoke::<()>("finalises", "register", args![]).unwrap();
        fork();
        host.plugins.install("finalises", 2);
        host.reload();
        println!("{}", host.wait_for("finalises", 1, Freed).detail);
        fork();
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    let count = |text: &str| end.output.matches(text).count();
    let called = (count("called at a fork"), count("called at the end"));
    assert_eq!(called, (1, 1), "{}", end.output);
}
