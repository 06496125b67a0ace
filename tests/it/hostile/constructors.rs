//! A constructor runs before anybody can attach to the image, and may do what any code of a plugin
//! does.

use std::time::Duration;

use hotswap_engine::{args, protocol::VersionState::Freed};

use crate::support::{Host, in_own_process};

#[test]
fn a_constructor_may_allocate_start_a_thread_and_leave_a_thread_local() {
    let end = in_own_process(|| {
        // SAFETY: nobody else runs yet that reads the environment.
        unsafe { std::env::set_var("CONSTRUCTS", "a variable") };
        let host = Host::with(&["constructs"]);
        println!("{}", host.engine.invoke::<String>("constructs", "ask", args![]).unwrap());
        for revision in 2..5 {
            host.plugins.install("constructs", revision);
            host.reload();
            host.engine.invoke::<String>("constructs", "ask", args![]).unwrap();
            println!("{}", host.wait_for("constructs", revision - 1, Freed).detail);
        }
        assert_eq!(host.mapped().len(), 1);
        println!("{:?}", host.engine.shutdown(Duration::from_secs(10)).held);
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("constructed with a variable"), "{}", end.output);
    assert!(end.output.contains("\n[]"), "{}", end.output);
}

/// The address of the host that a constructor needs is in the file only while it is opened.
#[test]
fn the_copy_that_was_opened_is_still_the_artifact_that_was_inspected() {
    let host = Host::with(&["echo"]);
    let staged = host.staged().into_iter().next().expect("a copy");
    let copy = std::fs::read(host.staging_dir().join(staged)).expect("read a copy");
    assert!(copy == std::fs::read(host.plugins.file("echo")).expect("read an artifact"));
}
