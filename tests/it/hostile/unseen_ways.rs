//! An image stays mapped if libc may keep a pointer into it in a way that no hook sees.

use hotswap_engine::{
    args, artifact,
    protocol::{
        KeepKind, VersionInfo,
        VersionState::{Freed, Kept},
    },
};

use crate::support::{Host, find, in_own_process, revision};

/// Makes libc run code of a version, replaces the version, and continues while that code runs. This is done twice,
/// since the reason is the same each time.
fn replace_while_libc_calls(function: &str) {
    let host = Host::with(&["leaves-with-libc"]);
    let mut reasons = Vec::new();
    for version in [1, 2] {
        host.engine.invoke::<()>("leaves-with-libc", function, args![]).unwrap();
        host.plugins.install("leaves-with-libc", version + 1);
        host.reload();
        reasons.push(host.wait_for("leaves-with-libc", version, Kept).detail);
    }
    assert_eq!(reasons[0], reasons[1]);
    println!("{}", reasons[0]);
    // The code that runs each millisecond would have ended the process by now.
    host.plugins.install("leaves-with-libc", 4);
    host.reload();
    host.engine.invoke::<()>("leaves-with-libc", function, args![]).unwrap();
}

#[test]
fn a_thread_of_c11_keeps_its_version() {
    let end = in_own_process(|| replace_while_libc_calls("start"));
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    let reason = "kept: it uses `thrd_create`, which starts a thread that the engine cannot see; start it with \
                  `std::thread` or `pthread_create`";
    assert!(end.output.contains(reason), "{}", end.output);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_thread_of_a_system_call_keeps_its_version() {
    let end = in_own_process(|| {
        let host = Host::with(&["leaves-open"]);
        host.engine.invoke::<()>("leaves-open", "start_by_system_call", args![]).unwrap();
        host.plugins.install("leaves-open", 2);
        host.reload();
        let is_over = |info: &VersionInfo| matches!(info.state, Freed | Kept);
        println!("{}", host.wait_until("leaves-open", 1, is_over).detail);
        // The code that runs each millisecond would have ended the process by now.
        host.plugins.install("leaves-open", 3);
        host.reload();
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("kept: it uses `clone`, which starts a thread"), "{}", end.output);
}

#[test]
fn a_timer_with_a_thread_keeps_its_version() {
    let end = in_own_process(|| replace_while_libc_calls("start_timer"));
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
}

/// The artifact is changed as if it had been built so: `echo` imports a weak symbol.
#[test]
fn each_such_function_is_reported_by_name() {
    for function in [
        "timer_create",
        "tss_create",
        "mq_notify",
        "getaddrinfo_a",
        "aio_read",
        "aio_write64",
        "lio_listio64",
        "on_exit",
        "at_quick_exit",
        "sigset",
        "sysv_signal",
        "openlog",
        "setstate",
        "fopencookie",
        "fmemopen",
        "clone",
    ] {
        let mut file = revision("echo", 1);
        let name = b"\0__gmon_start__\0";
        let at = find(&file, name).unwrap() + 1;
        file[at..at + name.len() - 2].fill(0);
        file[at..at + function.len()].copy_from_slice(function.as_bytes());
        artifact::stamp(&mut file, None).expect("stamp a change");
        let reason = artifact::inspect(&file).unwrap().keep_reason.expect("a reason");
        let about = (reason.kind, reason.symbol.as_deref());
        assert_eq!(about, (KeepKind::UnseenFunction, Some(function)));
    }
}

/// Ordinary code uses none of these functions: a plugin with plain `std`, one with threads, and one with tokio.
#[test]
fn an_ordinary_plugin_uses_no_such_function() {
    for plugin in ["echo", "threads", "own-tokio", "shares", "tasks"] {
        let facts = artifact::inspect(&revision(plugin, 1)).unwrap();
        assert_eq!((plugin, facts.keep_reason), (plugin, None));
    }
}
