//! When an image opens a library or looks up a symbol at run time, the engine notices it at once.

use hotswap_engine::{
    args,
    protocol::{
        KeepKind, VersionInfo,
        VersionState::{Freed, Kept},
    },
};

use crate::support::{Host, PluginDir, held_by, in_own_process, keep_reason};

/// Calls a function of the serving version, and replaces the version. Returns the version's state at its end.
fn call_and_replace(host: &Host, function: &str, args: &[hotswap_engine::Value]) -> VersionInfo {
    let version = host.engine.plugin("opens-library").map_or(0, |plugin| plugin.version());
    assert!(host.engine.invoke::<bool>("opens-library", function, args).unwrap());
    host.plugins.install("opens-library", version + 1);
    host.reload();
    let is_over = |info: &VersionInfo| matches!(info.state, Freed | Kept);
    host.wait_until("opens-library", version, is_over)
}

#[test]
fn a_library_that_runs_code_of_the_image_keeps_it() {
    let end = in_own_process(|| {
        let host = Host::with(&["opens-library"]);
        host.engine.invoke::<()>("opens-library", "start", args![]).unwrap();
        host.plugins.install("opens-library", 2);
        host.reload();
        println!("{}", host.wait_for("opens-library", 1, Kept).detail);
        // The library's thread runs on meanwhile.
        host.engine.invoke::<()>("opens-library", "start", args![]).unwrap();
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    assert!(
        end.output.contains("kept: it has opened libopened.so itself, which"),
        "{}",
        end.output
    );
}

#[test]
fn opening_a_library_is_reported_with_advice() {
    let host = Host::with(&["opens-library"]);
    let kept = call_and_replace(&host, "open", args![]);
    assert_eq!(kept.state, Kept);
    assert!(kept.detail.ends_with("`EngineBuilder::trust_library(\"libopened.so\")`"), "{kept:?}");
    let reason = keep_reason(&kept);
    let about = (reason.kind, reason.library.as_deref());
    assert_eq!(about, (KeepKind::OpenedLibrary, Some("libopened.so")));
    // The reason is the same each time, and also for the other function.
    assert_eq!(call_and_replace(&host, "open", args![]).detail, kept.detail);
    assert_eq!(call_and_replace(&host, "open_in", args![]).detail, kept.detail);
    // A version that imports the loader's functions but opens nothing is freed.
    let unused = args!["getpid"];
    assert_eq!(call_and_replace(&host, "look_up", unused).state, Freed);
}

#[test]
fn a_library_that_the_host_trusts_may_be_opened() {
    let plugins = PluginDir::of(&["opens-library"]);
    let host = Host::new(plugins, |builder| builder.trust_library("libopened.so"));
    host.reload();
    assert_eq!(call_and_replace(&host, "open", args![]).state, Freed);
}

#[test]
fn an_image_that_opens_itself_is_kept() {
    let host = Host::with(&["opens-library"]);
    let kept = call_and_replace(&host, "open_itself", args![]);
    assert_eq!(keep_reason(&kept).kind, KeepKind::OpenedItself);
    assert_eq!(call_and_replace(&host, "open_itself", args![]).detail, kept.detail);
}

#[test]
fn a_lookup_of_a_function_that_no_hook_sees_keeps_the_image() {
    let host = Host::with(&["opens-library"]);
    let kept = call_and_replace(&host, "look_up", args!["timer_create"]);
    assert_eq!(keep_reason(&kept).symbol.as_deref(), Some("timer_create"));
    let kept = call_and_replace(&host, "look_up_version", args!["on_exit", "GLIBC_2.2.5"]);
    assert_eq!(keep_reason(&kept).symbol.as_deref(), Some("on_exit"));
    // Functions that common crates look up do not keep the image.
    for harmless in ["getrandom", "__pthread_get_minstack", "gnu_get_libc_version"] {
        assert_eq!(call_and_replace(&host, "look_up", args![harmless]).state, Freed, "{harmless}");
    }
}

#[test]
fn a_lookup_of_a_hooked_function_finds_the_hook() {
    let host = Host::with(&["opens-library"]);
    let (reader, writer) = std::io::pipe().expect("make a pipe");
    let pipe = std::os::fd::AsRawFd::as_raw_fd(&reader);
    host.engine.invoke::<()>("opens-library", "start_looked_up", args![pipe]).unwrap();
    host.plugins.install("opens-library", 2);
    host.reload();
    host.wait_until("opens-library", 1, |info| held_by(&info.holders, &["thread"]));
    drop(writer);
    host.wait_for("opens-library", 1, Freed);
}

#[test]
fn an_image_whose_memory_libc_keeps_is_kept() {
    let end = in_own_process(|| {
        let host = Host::with(&["opens-library"]);
        host.engine.invoke::<()>("opens-library", "take_buffer", args![]).unwrap();
        host.plugins.install("opens-library", 2);
        host.reload();
        println!("{}", host.wait_for("opens-library", 1, Freed).detail);
        host.engine.invoke::<()>("opens-library", "give_buffer", args![]).unwrap();
        host.plugins.install("opens-library", 3);
        host.reload();
        println!("{}", host.wait_for("opens-library", 2, Kept).detail);
        // SAFETY: libc writes it to the buffer of its standard output.
        unsafe { libc::puts(c"written through the buffer".as_ptr()) };
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("memory of its own with `setvbuf`"), "{}", end.output);
    assert!(end.output.contains("written through the buffer"), "{}", end.output);
}
