//! Artifacts whose opening could do harm are first opened in another process.

use std::{
    env,
    fs::File,
    thread,
    time::{Duration, Instant},
};

use hotswap_engine::{ConsoleSocket, args, artifact, protocol::in_flight::calls_in_flight};

use crate::support::{Host, PATIENCE, PluginDir, artifact as built, in_own_process};

fn set_constructor(way: &str) {
    // SAFETY: the process is a test's own; plugins read through the engine's lock.
    unsafe { env::set_var("HOTSWAP_TEST_CONSTRUCTOR", way) };
}

#[test]
fn artifacts_that_may_do_harm_when_opened_are_recognised() {
    let facts = |plugin: &str| artifact::inspect(&built(plugin)).unwrap();
    assert!(!facts("echo").may_harm_by_opening());
    assert!(!facts("statics").may_harm_by_opening());
    assert!(facts("crashes-on-open").may_harm_by_opening());
    assert!(facts("constructs").has_constructors);
}

#[test]
fn a_constructor_that_crashes_leaves_the_host_as_it_is() {
    let end = in_own_process(|| {
        let plugins = PluginDir::of(&["crashes-on-open", "echo"]);
        let host = Host::new(plugins, |builder| builder.step_timeout(Duration::from_millis(1500)));
        host.reload();
        let answer = || {
            let answer = host.engine.invoke::<u32>("crashes-on-open", "answer", args![]);
            assert_eq!(answer.unwrap(), 42);
        };
        answer();
        for (version, way) in (2..).zip(["abort", "exit", "hang"]) {
            set_constructor(way);
            host.plugins.install("crashes-on-open", version);
            println!("{}", host.refused_reload());
            answer();
            // The loader is not blocked.
            host.plugins.install("crashes-on-open", 1);
            host.plugins.install("echo", version);
            host.reload();
        }
        set_constructor("");
        host.plugins.install("crashes-on-open", 9);
        host.reload();
        answer();
        println!("done");
    });
    assert!(end.output.contains("done"), "{:?} {}", end.status, end.output);
    for how in [
        "the process ended with SIGABRT: a",
        "exited with status 3: a",
        "did not return within 1.5 s",
    ] {
        assert!(end.output.contains(how), "{how}: {}", end.output);
    }
}

/// A console reads the record if a host has died in a constructor. In this test, the constructor does not return,
/// but only in the host and not in the process that tries the artifact.
#[test]
fn an_artifact_is_recorded_while_it_is_being_opened() {
    let end = in_own_process(|| {
        let plugins = PluginDir::of(&["crashes-on-open"]);
        let console = Some(ConsoleSocket::at(plugins.path().join("socket")));
        let host = Host::new(plugins, |builder| builder.console(console));
        let calls = File::open(host.engine.snapshot().host.calls_file.unwrap()).unwrap();
        set_constructor(&std::process::id().to_string());
        let engine = host.engine.clone();
        thread::spawn(move || engine.reload());
        let deadline = Instant::now() + PATIENCE;
        let expected = ("crashes-on-open", Some("open"));
        let is_seen = || {
            let running = calls_in_flight(&calls).unwrap();
            running.iter().any(|call| (call.plugin.as_str(), call.function.as_deref()) == expected)
        };
        while !is_seen() {
            assert!(Instant::now() < deadline, "{:?}", calls_in_flight(&calls));
            thread::yield_now();
        }
        println!("done");
        // The stuck constructor holds the loader's lock for ever, and an ordinary exit would wait for that lock.
        // SAFETY: nothing is to be done at the end.
        unsafe { libc::_exit(0) };
    });
    assert!(end.output.contains("done"), "{:?} {}", end.status, end.output);
}
