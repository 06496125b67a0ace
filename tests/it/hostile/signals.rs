//! Signal handlers form chains: a handler keeps the one before it, and may call it.

use std::{ffi::c_int, time::Duration};

use hotswap_engine::{
    args,
    protocol::{
        VersionInfo,
        VersionState::{Freed, Kept},
    },
};

use crate::support::{Host, in_own_process};

fn call(host: &Host, function: &str) {
    host.engine.invoke::<()>("handles-signal", function, args![]).unwrap();
}

/// Replaces the plugin's version, and returns its state at the end.
fn replace_version(host: &Host) -> VersionInfo {
    let version = host.engine.plugin("handles-signal").unwrap().version();
    host.plugins.install("handles-signal", version + 1);
    host.reload();
    let is_over = |info: &VersionInfo| matches!(info.state, Freed | Kept);
    host.wait_until("handles-signal", version, is_over)
}

/// Sets a handler of the host, and returns the one before.
fn set_handler(handler: libc::sighandler_t) -> libc::sighandler_t {
    // SAFETY: the handlers of these tests may run at any time.
    unsafe { libc::signal(libc::SIGWINCH, handler) }
}

extern "C" fn handler_of_host(_: c_int) {}

fn host_handler() -> libc::sighandler_t {
    let handler: extern "C" fn(c_int) = handler_of_host;
    handler as libc::sighandler_t
}

#[test]
fn a_version_whose_handler_another_one_may_call_is_kept() {
    let end = in_own_process(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let host = Host::with(&["handles-signal"]);
        call(&host, "handle");
        // Tokio's handler calls the previous handler.
        let _inside = runtime.enter();
        let changes = tokio::signal::unix::SignalKind::window_change();
        let _changes = tokio::signal::unix::signal(changes).unwrap();
        println!("{}", replace_version(&host).detail);
        // SAFETY: the signal has a handler.
        unsafe { libc::raise(libc::SIGWINCH) };
        // The same holds if the version restores the system's default action.
        call(&host, "handle");
        let before = set_handler(host_handler());
        call(&host, "reset");
        println!("{}", replace_version(&host).detail);
        set_handler(before);
        // SAFETY: as above.
        unsafe { libc::raise(libc::SIGWINCH) };
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("kept: the handler of SIGWINCH lies in it; a"), "{}", end.output);
    let chained = "kept: other code has replaced its handler of SIGWINCH";
    assert!(end.output.contains(chained), "{}", end.output);
}

#[test]
fn a_version_that_restores_the_previous_handler_is_freed() {
    let end = in_own_process(|| {
        set_handler(host_handler());
        let host = Host::with(&["handles-signal"]);
        for _ in 0..2 {
            call(&host, "handle_and_keep");
            call(&host, "put_back");
            println!("{}", replace_version(&host).detail);
        }
        assert_eq!(set_handler(libc::SIG_DFL), host_handler());
        println!("put back");
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("put back"), "{}", end.output);
    assert!(!end.output.contains("kept: "), "{}", end.output);
}

fn set_by_system_call(host: &Host, with_libc: bool) {
    host.engine.invoke::<()>("handles-signal", "handle_by_itself", args![with_libc]).unwrap();
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_handler_that_is_set_without_libc_is_found_at_the_end() {
    let end = in_own_process(|| {
        let host = Host::with(&["handles-signal"]);
        set_by_system_call(&host, false);
        println!("{}", replace_version(&host).detail);
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("kept: the handler of SIGWINCH lies in it"), "{}", end.output);
}

/// The handler that comes later calls the one before.
#[test]
fn a_version_that_sets_a_handler_by_a_system_call_is_kept_even_if_it_was_replaced() {
    let end = in_own_process(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let host = Host::with(&["handles-signal"]);
        set_by_system_call(&host, true);
        let _inside = runtime.enter();
        let changes = tokio::signal::unix::SignalKind::window_change();
        let _changes = tokio::signal::unix::signal(changes).unwrap();
        println!("{}", replace_version(&host).detail);
        // SAFETY: the signal has a handler.
        unsafe { libc::raise(libc::SIGWINCH) };
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    let reason = "kept: it has set a handler of SIGWINCH with a system call";
    assert!(end.output.contains(reason), "{}", end.output);
}

/// By default, the signal of a timer ends the process.
#[test]
fn the_timer_of_a_version_that_has_ended_does_not_end_the_process() {
    let end = in_own_process(|| {
        let host = Host::with(&["handles-signal"]);
        call(&host, "profile");
        println!("{}", replace_version(&host).detail);
        let used = || {
            let mut used = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: the system writes the time there.
            unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut used) };
            Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
        };
        let begun = used();
        // The timer expires many times.
        while used() < begun + Duration::from_millis(100) {
            std::hint::spin_loop();
        }
        println!("still here");
    });
    assert!(end.output.contains("still here"), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("kept: the handler of SIGPROF lies in it"), "{}", end.output);
}
