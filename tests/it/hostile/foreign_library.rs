//! 3: a version that needs a foreign library is unmapped while that library's thread runs its code.

use std::{thread, time::Duration};

use hotswap_engine::{
    args,
    protocol::VersionState::{Freed, Kept},
};

use crate::support::{Host, in_own_process};

#[test]
fn the_second_version_with_a_foreign_library_is_kept_too() {
    let end = in_own_process(|| {
        let host = Host::with(&["foreign-thread"]);
        host.plugins.install("foreign-thread", 2);
        host.reload();
        println!("v1: {}", host.wait_for("foreign-thread", 1, Kept).detail);
        host.engine.invoke::<()>("foreign-thread", "start", args![]).unwrap();
        thread::sleep(Duration::from_millis(50));
        println!("runs {}", host.engine.invoke::<u32>("foreign-thread", "runs", args![]).unwrap());
        host.plugins.install("foreign-thread", 3);
        host.reload();
        let info = host.wait_until("foreign-thread", 2, |info| matches!(info.state, Freed | Kept));
        println!("v2: {:?} {}", info.state, info.detail);
        thread::sleep(Duration::from_millis(500));
        println!("alive");
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
}

/// The exemption as it is meant: the host has loaded the library itself.
#[test]
fn a_version_with_a_foreign_library_that_the_host_has_is_kept_too() {
    let end = in_own_process(|| {
        let host = Host::new(crate::support::PluginDir::of(&["foreign-thread"]), |builder| builder);
        let library = object_needed(&host.plugins.file("foreign-thread"));
        let path = std::ffi::CString::new(library).unwrap();
        // SAFETY: the library has no constructors.
        assert!(!unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) }.is_null());
        host.reload();
        host.engine.invoke::<()>("foreign-thread", "start", args![]).unwrap();
        host.plugins.install("foreign-thread", 2);
        host.reload();
        let info = host.wait_until("foreign-thread", 1, |info| matches!(info.state, Freed | Kept));
        println!("v1: {:?} {}", info.state, info.detail);
        thread::sleep(Duration::from_millis(500));
        println!("alive");
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
}

/// Where the plugin's run path leads.
fn object_needed(plugin: &std::path::Path) -> String {
    let file = std::fs::read(plugin).unwrap();
    let text = String::from_utf8_lossy(&file);
    let at = text.find("/foreign-thread-").expect("a run path");
    let start = text[..at].rfind('\0').unwrap() + 1;
    let end = at + text[at..].find('\0').unwrap();
    format!("{}/libhelper.so", &text[start..end])
}
