//! Plugins with popular crates: each is loaded, called, reloaded five times, and freed, or kept for a correct
//! reason.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use hotswap_engine::{
    args, artifact,
    protocol::{Ending, HolderKind, VersionState},
};

use crate::support::{Host, artifact as built, in_own_process};

const RELOADS: u32 = 5;

/// Reloads five times: calls each version, and waits until the version before it has this state.
fn reload(host: &Host, plugin: &str, state: VersionState, call: impl Fn()) {
    call();
    for version in 2..=RELOADS + 1 {
        host.plugins.install(plugin, version);
        host.reload();
        call();
        host.wait_for(plugin, version - 1, state);
    }
}

#[test]
fn a_version_with_a_dropped_rayon_pool_is_freed() {
    let host = Host::with(&["uses-rayon"]);
    reload(&host, "uses-rayon", VersionState::Freed, || {
        let sum =
            host.engine.invoke::<u64>("uses-rayon", "sum_in_own_pool", args![vec![1_u64; 100]]);
        assert_eq!(sum.unwrap(), 100);
    });
}

#[test]
fn threads_of_the_global_rayon_pool_keep_their_version_in_use() {
    let host = Host::with(&["uses-rayon"]);
    reload(&host, "uses-rayon", VersionState::Retired, || {
        let sum = host.engine.invoke::<u64>("uses-rayon", "sum", args![vec![1_u64; 100]]);
        assert_eq!(sum.unwrap(), 100);
    });
    let held_by = host.info("uses-rayon", 1).unwrap().held_by;
    assert!(held_by.iter().all(|holder| holder.kind == HolderKind::Thread), "{held_by:?}");
    let advice: BTreeSet<_> = held_by.iter().filter_map(|holder| holder.advice()).collect();
    let advice: Vec<_> = advice.into_iter().collect();
    assert!(advice.len() == 1 && advice[0].contains("rayon"), "{advice:?}");
}

#[test]
fn the_thread_of_ctrlc_is_reported_with_advice() {
    let end = in_own_process(|| {
        let host = Host::with(&["uses-ctrlc"]);
        let interrupts = || {
            let interrupts = host.engine.invoke::<u32>("uses-ctrlc", "interrupts", args![]);
            assert_eq!(interrupts.unwrap(), 0);
        };
        reload(&host, "uses-ctrlc", VersionState::Retired, interrupts);
        let held_by = host.info("uses-ctrlc", 1).unwrap().held_by;
        let [thread] = held_by.as_slice() else { panic!("{held_by:?}") };
        println!("{:?}: {}", thread.thread, thread.advice().unwrap_or_default());
    });
    assert!(
        end.output.contains("Some(\"ctrl-c\"): handle signals in the host"),
        "{:?} {}",
        end.status,
        end.output
    );
}

#[test]
fn a_global_in_cpp_is_constructed_and_destroyed_with_each_version() {
    let host = Host::with(&["uses-cpp"]);
    let answer = || host.engine.invoke::<Option<i32>>("uses-cpp", "answer", args![]).unwrap();
    if answer().is_none() {
        // This bypasses the test harness, which hides the output of tests that pass.
        let _ = writeln!(std::io::stderr(), "skipped: this machine has no compiler of C++ (`c++`)");
        return;
    }
    assert!(artifact::inspect(&built("uses-cpp")).unwrap().has_constructors);
    let words = host.plugins.path().join("words");
    reload(&host, "uses-cpp", VersionState::Freed, || {
        assert_eq!(answer(), Some(42));
        let words = words.to_str().unwrap().to_owned();
        host.engine.invoke::<()>("uses-cpp", "tell_in", args![words]).unwrap();
    });
    assert_eq!(fs::read_to_string(words).unwrap(), "destroyed\n".repeat(RELOADS as usize));
}

#[test]
fn a_version_with_rustls_and_ring_is_freed() {
    let host = Host::with(&["uses-rustls"]);
    reload(&host, "uses-rustls", VersionState::Freed, || {
        let hello =
            host.engine.invoke::<Vec<u8>>("uses-rustls", "client_hello", args!["example.com"]);
        // The record type of a TLS handshake.
        assert_eq!(hello.unwrap()[..2], [22, 3]);
    });
}

/// Gets a page from a server. The connection stays open.
fn get(server: &str) -> (String, TcpStream) {
    let mut server = TcpStream::connect(server).unwrap();
    server.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").unwrap();
    let (mut answer, mut bytes) = (Vec::new(), [0; 1024]);
    while !answer.ends_with(b"page") {
        let read = server.read(&mut bytes).unwrap();
        assert_ne!(read, 0, "the server has closed the connection");
        answer.extend(&bytes[..read]);
    }
    (String::from_utf8(answer).unwrap(), server)
}

#[test]
fn a_version_with_hyper_on_a_runtime_of_its_own_is_freed() {
    let host = Host::with(&["uses-hyper"]);
    let clients = RefCell::new(Vec::new());
    reload(&host, "uses-hyper", VersionState::Freed, || {
        let server = host.engine.invoke::<String>("uses-hyper", "address", args![]).unwrap();
        let (answer, client) = get(&server);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        clients.borrow_mut().push(client);
    });
    let end = host.info("uses-hyper", 1).unwrap().ending;
    let Some(Ending::Freed(freed)) = end else { panic!("{end:?}") };
    // With its feature `signal`, tokio keeps a pair of sockets in a static. Everything else is closed.
    assert!(freed.descriptors.iter().all(|left| left.kind == "unix"), "{freed:?}");
}

#[test]
fn static_thread_locals_are_reported_and_refused_if_there_is_no_room() {
    const PLUGIN: &str = "uses-static-tls";
    assert!(artifact::inspect(&built(PLUGIN)).unwrap().has_static_tls);
    let end = in_own_process(|| {
        let host = Host::with(&[PLUGIN]);
        let refusal = (2..200).find_map(|version| {
            assert!(host.engine.invoke::<i32>(PLUGIN, "count", args![]).unwrap() > 0);
            host.plugins.install(PLUGIN, version);
            host.engine.reload().err()
        });
        println!("{}", refusal.expect("the room suffices for few loads only"));
        let counted = host.engine.invoke::<i32>(PLUGIN, "count", args![]).unwrap();
        println!("the old one serves on: {}", counted > 0);
    });
    assert!(
        end.output.contains("compile that code with `-ftls-model=global-dynamic`"),
        "{}",
        end.output
    );
    assert!(end.output.contains("the old one serves on: true"), "{:?} {}", end.status, end.output);
}
