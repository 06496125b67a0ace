//! A constructor runs before the engine can attach to the image, and may do what any code of a plugin does.

use std::{sync::mpsc::channel, thread, time::Duration};

use hotswap_engine::{args, protocol::VersionState::Freed};

use crate::support::{Host, PluginDir, in_own_process};

#[test]
fn a_constructor_may_allocate_start_a_thread_and_leave_a_thread_local() {
    let end = in_own_process(|| {
        // SAFETY: no other thread reads the environment yet.
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

/// A constructor's thread-locals must not stay on the thread that requests the load, which may be idle for a long
/// time.
#[test]
fn a_constructor_leaves_nothing_on_the_thread_that_loads() {
    let host = Host::new(PluginDir::of(&["constructs"]), |builder| builder);
    let engine = host.engine.clone();
    let (done, is_done) = channel();
    let (release, released) = channel::<()>();
    let loads = thread::spawn(move || {
        let loaded = engine.load(()).map(drop);
        drop(engine);
        done.send(loaded.map_err(|error| error.to_string())).unwrap();
        // The thread is idle, and never reaches a checkpoint.
        released.recv()
    });
    is_done.recv().unwrap().unwrap();
    host.plugins.install("constructs", 2);
    host.reload();
    host.wait_for("constructs", 1, Freed);
    drop(release);
    assert!(loads.join().unwrap().is_err());
}

/// The file contains the address of the host, which a constructor needs, only while it is opened.
#[test]
fn the_copy_that_was_opened_is_still_the_artifact_that_was_inspected() {
    let host = Host::with(&["echo"]);
    let staged = host.staged().into_iter().next().expect("a copy");
    let copy = std::fs::read(host.staging_dir().join(staged)).expect("read a copy");
    assert!(copy == std::fs::read(host.plugins.file("echo")).expect("read an artifact"));
}

/// For a library that is initialised when it is opened, the opening thread is the main thread, and owns what it
/// allocates first.
#[test]
fn an_allocator_of_the_plugins_own_serves_all_threads_until_its_version_ends() {
    let end = in_own_process(|| {
        let host = Host::with(&["has-allocator"]);
        for revision in 2..6 {
            thread::scope(|scope| {
                let fill =
                    || host.engine.invoke::<usize>("has-allocator", "fill", args![100_usize]);
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(fill)).collect();
                for thread in threads {
                    assert_eq!(thread.join().unwrap().unwrap(), 186_850);
                }
            });
            host.plugins.install("has-allocator", revision);
            host.reload();
            host.wait_for("has-allocator", revision - 1, Freed);
        }
        println!("held: {:?}", host.engine.shutdown(Duration::from_secs(60)).held);
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("held: []"), "{}", end.output);
}
