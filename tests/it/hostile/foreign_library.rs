//! A library that an image needs may keep pointers into the image, no matter who has loaded the library.

use std::{
    ffi::CString,
    path::{Path, PathBuf},
};

use hotswap_engine::{
    args,
    protocol::VersionState::{Freed, Kept},
};

use crate::support::{Host, PluginDir, find, in_own_process};

#[test]
fn each_version_with_a_library_is_kept_and_for_the_same_reason() {
    let end = in_own_process(|| {
        let host = Host::with(&["foreign-thread"]);
        check_versions_are_kept(&host);
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("kept: it needs libhelper.so, which may"), "{}", end.output);
}

#[test]
fn a_version_is_kept_even_if_the_host_has_loaded_its_library() {
    let end = in_own_process(|| {
        let host = Host::new(PluginDir::of(&["foreign-thread"]), |builder| builder);
        load_helper(&host.plugins.file("foreign-thread"));
        host.reload();
        check_versions_are_kept(&host);
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
}

/// The host can declare that a library keeps no pointers.
#[test]
fn a_host_may_declare_a_library_as_trusted() {
    let plugins = PluginDir::of(&["foreign"]);
    let host = Host::new(plugins, |builder| builder.trust_library("libresolv.so.2"));
    host.reload();
    let date = args!["19900101000000"];
    assert_eq!(host.engine.invoke::<u32>("foreign", "seconds", date).unwrap(), 631_152_000);
    host.plugins.install("foreign", 2);
    host.reload();
    host.wait_for("foreign", 1, Freed);
    assert_eq!(host.mapped().len(), 1);
}

/// Makes the library run code of two versions while they are replaced.
fn check_versions_are_kept(host: &Host) {
    let mut reasons = Vec::new();
    for version in [1, 2] {
        host.engine.invoke::<()>("foreign-thread", "start", args![]).unwrap();
        wait_until_library_runs(host);
        host.plugins.install("foreign-thread", version + 1);
        host.reload();
        reasons.push(host.wait_for("foreign-thread", version, Kept).detail);
    }
    println!("{}", reasons[0]);
    assert_eq!(reasons[0], reasons[1]);
    // The library's threads have run code of both versions all the time.
    host.engine.invoke::<()>("foreign-thread", "start", args![]).unwrap();
    wait_until_library_runs(host);
}

fn wait_until_library_runs(host: &Host) {
    while host.engine.invoke::<u32>("foreign-thread", "runs", args![]).unwrap() == 0 {
        std::thread::yield_now();
    }
}

/// Loads the library of a plugin's run path.
fn load_helper(plugin: &Path) {
    let file = std::fs::read(plugin).unwrap();
    let begin = find(&file, b"/foreign-thread-").expect("a run path");
    let start = file[..begin].iter().rposition(|byte| *byte == 0).unwrap() + 1;
    let end = begin + file[begin..].iter().position(|byte| *byte == 0).unwrap();
    let dir = PathBuf::from(String::from_utf8_lossy(&file[start..end]).into_owned());
    let path =
        CString::new(dir.join("libhelper.so").into_os_string().into_encoded_bytes()).unwrap();
    // SAFETY: the library has no constructors.
    assert!(!unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) }.is_null());
}
