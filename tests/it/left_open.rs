//! What a version leaves open is counted and named, and what it took from the host is restored.

use std::fs;

use hotswap_engine::{
    args,
    protocol::{Ending, Freed, VersionState},
};

use crate::support::{Host, in_own_process};

fn call(host: &Host, function: &str, args: &[hotswap_engine::Value]) {
    host.engine.invoke::<Option<String>>("leaves-open", function, args).unwrap();
}

/// Replaces the version, and waits until it is freed. Returns what it has left open, as data and as text.
fn replace_and_free(host: &Host) -> (Freed, String) {
    let version = host.engine.plugin("leaves-open").unwrap().version();
    host.plugins.install("leaves-open", version + 1);
    host.reload();
    let version = host.wait_for("leaves-open", version, VersionState::Freed);
    let Some(Ending::Freed(freed)) = version.ending else { panic!("{version:?}") };
    (freed, version.detail)
}

#[test]
fn descriptors_are_counted_and_named() {
    let host = Host::with(&["leaves-open"]);
    let address: String = host.engine.invoke("leaves-open", "listen", args![]).unwrap();
    let open = host.info("leaves-open", 1).unwrap().descriptors;
    let open: Vec<_> = open.iter().map(ToString::to_string).collect();
    assert_eq!(open, [format!("tcp {address}")]);
    let (freed, detail) = replace_and_free(&host);
    assert!(detail.ends_with(&format!(", left 1 descriptor: tcp {address}")), "{detail}");
    assert_eq!(freed.descriptors[0].name, address);

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a file").canonicalize().unwrap_or(dir.path().join("a file"));
    fs::write(&file, "text").unwrap();
    let path = file.display().to_string();
    call(&host, "open", args![path.clone()]);
    call(&host, "pair", args![]);
    let (freed, detail) = replace_and_free(&host);
    assert_eq!(freed.descriptors.len(), 4);
    let expected = format!(", left 4 descriptors: file {path}, file {path}, unix, …");
    assert!(detail.ends_with(&expected), "{detail}");

    assert!(host.engine.invoke::<bool>("leaves-open", "run_child", args![]).unwrap());
    call(&host, "renumber", args![path.clone(), 900]);
    call(&host, "watch", args![]);
    let (_, detail) = replace_and_free(&host);
    let expected = [format!("inotify, file {path}"), format!("file {path}, inotify")];
    assert!(
        expected.iter().any(|left| detail.ends_with(&format!(", left 2 descriptors: {left}"))),
        "{detail}"
    );

    call(&host, "open", args![path]);
    call(&host, "listen", args![]);
    call(&host, "pair", args![]);
    call(&host, "close", args![]);
    let (freed, _) = replace_and_free(&host);
    assert!(freed.descriptors.is_empty() && freed.heap_bytes == 0, "{freed:?}");
}

#[test]
fn descriptors_that_libc_opens_for_a_version_are_named_too() {
    let host = Host::with(&["leaves-open"]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    let path = path.to_str().unwrap();
    let file = format!("{path}/a file");
    fs::write(&file, "text").unwrap();
    let new = format!("{path}/XXXXXX");
    let is_in_dir = |name: &str| name.starts_with(path);

    call(&host, "read_dir", args![path]);
    let (freed, detail) = replace_and_free(&host);
    assert!(detail.ends_with(&format!(", left 1 descriptor: file {path}")), "{detail}");
    assert_eq!(freed.descriptors.len(), 1);

    call(&host, "open_as_c", args![file.clone(), new]);
    let (freed, _) = replace_and_free(&host);
    let names: Vec<_> = freed.descriptors.iter().map(|left| left.name.as_str()).collect();
    assert!(names.len() == 2 && names.contains(&file.as_str()), "{names:?}");
    assert!(names.into_iter().all(is_in_dir));

    call(&host, "pipe_as_c", args![]);
    let (freed, _) = replace_and_free(&host);
    let mut kinds: Vec<_> = freed.descriptors.iter().map(|left| left.kind.as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["file", "file", "file", "pipe"], "{freed:?}");

    call(&host, "read_dir", args![path]);
    call(&host, "close", args![]);
    assert!(replace_and_free(&host).0.descriptors.is_empty());
}

#[test]
fn descriptors_of_system_calls_and_from_sockets_are_named_too() {
    let host = Host::with(&["leaves-open"]);
    let path = fs::canonicalize("Cargo.toml").unwrap().to_str().unwrap().to_owned();
    for function in ["open_by_system_call", "receive"] {
        call(&host, function, args![path.clone()]);
        let (_, detail) = replace_and_free(&host);
        let left = format!(", left 1 descriptor: file {path}");
        assert!(detail.ends_with(&left), "{function}: {detail}");
    }
}

/// Nothing in the process distinguishes such a descriptor from the host's own, which would be named wrongly.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_descriptor_that_is_opened_without_libc_is_not_ascribed_to_any_version() {
    let host = Host::with(&["leaves-open"]);
    let path = fs::canonicalize("Cargo.toml").unwrap().to_str().unwrap().to_owned();
    call(&host, "open_by_instruction", args![path]);
    assert!(replace_and_free(&host).0.descriptors.is_empty());
}

/// All event counters have the same inode.
#[test]
fn a_descriptor_of_the_host_with_the_number_of_a_closed_one_is_not_named() {
    let end = in_own_process(|| {
        let host = Host::with(&["leaves-open"]);
        let number: i32 = host.engine.invoke("leaves-open", "count_events", args![]).unwrap();
        // SAFETY: the number is free, or at least nobody relies on it.
        unsafe {
            let counter = libc::eventfd(0, 0);
            assert_eq!(libc::dup2(counter, number), number);
        }
        println!("left: {:?}", replace_and_free(&host).0.descriptors);
    });
    assert!(end.output.contains("left: []"), "{:?} {}", end.status, end.output);
}

#[test]
fn memory_that_a_version_has_mapped_is_counted() {
    const MIB: usize = 1 << 20;
    let host = Host::with(&["leaves-open"]);
    call(&host, "map", args![8 * MIB, 0]);
    let (freed, detail) = replace_and_free(&host);
    assert_eq!(freed.mapped_bytes, 8 << 20);
    assert!(detail.ends_with(", 8.0 MiB left mapped"), "{detail}");
    call(&host, "map", args![8 * MIB, 2 * MIB]);
    assert_eq!(replace_and_free(&host).0.mapped_bytes, 6 << 20);
    call(&host, "read_dir", args!["/"]);
    assert_eq!(replace_and_free(&host).0.mapped_bytes, 0);
    call(&host, "remap", args![vec![2 * MIB, 16 * MIB, 6 * MIB]]);
    assert_eq!(replace_and_free(&host).0.mapped_bytes, 6 << 20);
}

/// What a version has mapped of its own file is unmapped with it, and nothing that has come in its place.
#[test]
fn memory_at_a_place_that_a_version_has_left_stays() {
    const PAGE: usize = 4096;
    let end = in_own_process(|| {
        let host = Host::with(&["leaves-open"]);
        let left: usize = host.engine.invoke("leaves-open", "map_own_file", args![]).unwrap();
        // SAFETY: nothing is at the place.
        let own = unsafe {
            let place = std::ptr::with_exposed_provenance_mut(left);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            libc::mmap(place, PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0).cast::<u8>()
        };
        assert_eq!(own.addr(), left);
        // SAFETY: the page is writable.
        unsafe { own.write(7) };
        replace_and_free(&host);
        // SAFETY: nobody has unmapped the page.
        println!("read {}", unsafe { own.read_volatile() });
    });
    assert!(end.output.contains("read 7"), "{:?} {}", end.status, end.output);
}

extern "C" fn handler_of_host(_: std::ffi::c_int) {}

/// The handler of `SIGWINCH` now.
fn current_handler() -> libc::sighandler_t {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action, the call only writes the present one.
    unsafe {
        libc::sigaction(libc::SIGWINCH, std::ptr::null(), action.as_mut_ptr());
        action.assume_init().sa_sigaction
    }
}

#[test]
fn the_hosts_signal_handler_is_restored_when_the_version_ends() {
    let end = in_own_process(|| {
        tracing_subscriber::fmt().with_ansi(false).without_time().init();
        let own: extern "C" fn(std::ffi::c_int) = handler_of_host;
        // SAFETY: the handler does nothing.
        unsafe { libc::signal(libc::SIGWINCH, own as libc::sighandler_t) };
        let host = Host::with(&["handles-signal"]);
        let handle = || host.engine.invoke::<()>("handles-signal", "handle", args![]).unwrap();
        handle();
        // The next version finds the handler of the first.
        host.plugins.install("handles-signal", 2);
        let first = host.engine.plugin("handles-signal").unwrap();
        host.reload();
        handle();
        drop(first);
        host.wait_for("handles-signal", 1, VersionState::Kept);
        assert_ne!(current_handler(), own as libc::sighandler_t);
        host.plugins.install("handles-signal", 3);
        host.reload();
        host.wait_for("handles-signal", 2, VersionState::Kept);
        assert_eq!(current_handler(), own as libc::sighandler_t);
        println!("done");
    });
    assert!(end.output.contains("done"), "{:?} {}", end.status, end.output);
    let reported = "the plugin handles SIGWINCH in place of the host until it ends";
    assert_eq!(end.output.matches(reported).count(), 2, "{}", end.output);
}

#[test]
fn the_hosts_signal_handler_is_restored_even_if_the_waiting_thread_never_ends() {
    let end = in_own_process(|| {
        let own: extern "C" fn(std::ffi::c_int) = handler_of_host;
        // SAFETY: the handler does nothing.
        unsafe { libc::signal(libc::SIGWINCH, own as libc::sighandler_t) };
        let host = Host::with(&["handles-signal"]);
        host.engine.invoke::<()>("handles-signal", "handle", args![]).unwrap();
        host.engine.invoke::<()>("handles-signal", "wait_for_signals", args![]).unwrap();
        assert_ne!(current_handler(), own as libc::sighandler_t);
        host.plugins.install("handles-signal", 2);
        host.reload();
        host.wait_until("handles-signal", 1, |version| {
            version.state == VersionState::Retired && current_handler() == own as libc::sighandler_t
        });
        println!("done");
        // The thread still runs.
        std::process::exit(0);
    });
    assert!(end.output.contains("done"), "{:?} {}", end.status, end.output);
}
