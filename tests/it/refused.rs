//! Broken artifacts and failing steps are refused with a message, and nothing is lost.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use hotswap_engine::{args, protocol::VersionState};
use insta::assert_snapshot;

use crate::support::{self, Host, PluginDir, artifact};

/// A host that keeps serving `echo`, whatever is put beside it or in its place.
struct Serving(Host);

impl Serving {
    fn new() -> Self {
        Self(Host::with(&["echo"]))
    }

    /// Installs a bad file, and returns the error of the reload.
    fn refusal_of(&self, name: &str, content: &[u8]) -> String {
        self.0.plugins.write(name, content);
        self.refusal()
    }

    fn refusal(&self) -> String {
        let refusal = self.0.refused_reload();
        let echo = self.0.engine.plugin("echo").unwrap();
        assert_eq!(echo.invoke::<i32>("add", args![1, 2]).unwrap(), 3);
        assert_eq!(echo.version(), 1);
        assert_eq!(self.0.engine.current().generation(), 1);
        refusal
    }
}

#[test]
fn files_that_are_no_plugins_are_refused() {
    let host = Serving::new();
    let garbage: Vec<u8> = (0..9999_u32).map(|n| (n * n % 251) as u8).collect();
    assert_snapshot!(host.refusal_of("bad", b""), @"bad.so: inspect: not a shared library for this machine: Invalid ELF header size or alignment");
    assert_snapshot!(host.refusal_of("bad", &garbage), @"bad.so: inspect: not a shared library for this machine: Unsupported ELF header");
    let executable = fs::read("/proc/self/exe").unwrap();
    let refusal = host.refusal_of("bad", &executable);
    assert!(refusal.contains("not a Hotswap plugin"), "{refusal}");
}

#[test]
fn files_of_another_machine_or_cut_short_are_refused() {
    let host = Serving::new();
    let whole = artifact("by-hand");
    let mut foreign = whole.clone();
    foreign[18..20].copy_from_slice(&40_u16.to_le_bytes());
    assert_snapshot!(host.refusal_of("bad", &foreign), @"bad.so: inspect: not a shared library for this machine: it was built for ELF machine 40, and this is 62");

    for pages in (0..whole.len() / 4096).step_by(97) {
        let refusal = host.refusal_of("bad", &whole[..pages * 4096]);
        assert!(refusal.starts_with("bad.so: inspect: "), "{pages} pages: {refusal}");
    }
}

/// To open a pipe waits until another program opens it.
#[test]
fn nobody_waits_for_a_pipe_in_the_place_of_a_file() {
    let host = Serving::new();
    let pipe = |name: &str| {
        let path = host.0.plugins.path().join(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    };
    let artifact = pipe("bad.so");
    assert_snapshot!(host.refusal(), @"bad.so: find: it is not a regular file");
    fs::remove_file(artifact).unwrap();

    pipe("echo.patch");
    host.0.plugins.install("echo", 2);
    let report = host.0.reload();
    let patched = report.plugins[0].not_patched.as_deref().unwrap_or_default();
    assert_snapshot!(patched, @"the patch cannot be read: it is not a regular file");
    assert_eq!(host.0.engine.plugin("echo").unwrap().version(), 2);
}

#[test]
fn a_file_that_was_changed_after_its_build_is_refused() {
    let host = Serving::new();
    let whole = artifact("by-hand");
    for part in 1..20 {
        let mut damaged = whole.clone();
        damaged[whole.len() / 20 * part] ^= 0x10;
        let refusal = host.refusal_of("bad", &damaged);
        assert!(refusal.starts_with("bad.so: inspect: "), "part {part}: {refusal}");
    }
}

/// The offset of a text in an artifact's descriptor.
fn find(file: &[u8], text: &[u8]) -> usize {
    let magic = support::find(file, b"HOTSWAP-PLUGIN\r\n").unwrap();
    magic + support::find(&file[magic..], text).unwrap()
}

/// An artifact that claims to be built by another compiler.
pub fn of_another_toolchain(plugin: &str) -> Vec<u8> {
    let mut foreign = artifact(plugin);
    let release = find(&foreign, b"1.");
    foreign[release..release + 3].copy_from_slice(b"0.9");
    hotswap_engine::artifact::stamp(&mut foreign, None).unwrap();
    foreign
}

#[test]
fn another_toolchain_is_named_on_both_sides() {
    let host = Serving::new();
    let refusal = host.refusal_of("by-hand", &of_another_toolchain("by-hand"));
    assert!(refusal.contains("built with another rustc: the plugin has rustc 0.9"), "{refusal}");
    assert!(refusal.ends_with("build both with the same toolchain"), "{refusal}");
}

#[test]
fn another_abi_is_refused_before_anything_else_is_read() {
    let host = Serving::new();
    let mut foreign = artifact("by-hand");
    let magic = find(&foreign, b"HOTSWAP-PLUGIN");
    foreign[magic + 16] = 99;
    let refusal = host.refusal_of("bad", &foreign);
    assert!(refusal.contains("built with another ABI: the plugin has version 99"), "{refusal}");
}

#[test]
fn a_file_that_was_not_finished_by_a_build_is_refused() {
    let host = Serving::new();
    let mut unfinished = artifact("by-hand");
    let stamp = find(&unfinished, b"by-hand") + 96 + 32;
    unfinished[stamp..stamp + 240].fill(0);
    let refusal = host.refusal_of("bad", &unfinished);
    assert!(refusal.contains("not stamped"), "{refusal}");
}

#[test]
fn files_that_cannot_be_read_are_refused() {
    let host = Serving::new();
    let path = host.0.plugins.file("bad");
    fs::create_dir(&path).unwrap();
    assert_snapshot!(host.refusal(), @"bad.so: find: it is not a regular file");
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("/nowhere", &path).unwrap();
    assert_snapshot!(host.refusal(), @"bad.so: find: No such file or directory (os error 2)");
    fs::remove_file(&path).unwrap();
    // Root may read everything.
    // SAFETY: the call has no precondition.
    if unsafe { libc::geteuid() } != 0 {
        host.0.plugins.install("by-hand", 1);
        let by_hand = host.0.plugins.file("by-hand");
        fs::set_permissions(&by_hand, fs::Permissions::from_mode(0o000)).unwrap();
        let refusal = host.refusal();
        assert!(refusal.contains("Permission denied"), "{refusal}");
    }
}

#[test]
fn a_missing_plugin_directory_is_an_error() {
    let plugins = PluginDir::empty();
    let missing = plugins.path().join("missing");
    let engine = hotswap_engine::Engine::builder(&missing).build().unwrap();
    let error = engine.reload().unwrap_err().to_string();
    assert!(error.starts_with("find: cannot read the plugin directory /"), "{error}");
    assert!(
        error.contains("missing: No such file or directory (os error 2); `hotswap build"),
        "{error}"
    );
}

#[test]
fn two_artifacts_with_the_same_name_are_refused() {
    let host = Serving::new();
    let refusal = host.refusal_of("copy-of-echo", &artifact("echo"));
    assert_snapshot!(refusal, @"echo: find: two artifacts have this name: copy-of-echo.so and echo.so; remove one");
}

#[test]
fn a_panic_in_on_load_undoes_the_load_of_all() {
    let host = Serving::new();
    host.0.plugins.install("echo", 2);
    host.0.plugins.install("panic-on-load", 1);
    let refusal = host.refusal();
    assert!(
        refusal.starts_with("panic-on-load: on_load: panicked at tests/fixtures/"),
        "{refusal}"
    );
    assert!(refusal.ends_with(": no good morning"), "{refusal}");
    for (plugin, version) in [("echo", 2), ("panic-on-load", 1)] {
        let info = host.0.wait_for(plugin, version, VersionState::Failed);
        assert!(info.detail.contains("no good morning"), "{}", info.detail);
    }
    while host.0.mapped().len() > 1 {
        std::thread::yield_now();
    }
    host.0.plugins.remove("panic-on-load");
    assert_snapshot!(host.0.reload(), @"echo: ok");
}

#[test]
fn an_error_in_on_init_keeps_its_causes_and_leaves_nothing_behind() {
    let host = Serving::new();
    host.0.plugins.install("fail-on-init", 1);
    assert_snapshot!(host.refusal(), @r"
    fail-on-init: on_init: reading the settings
      caused by: invalid digit found in string
    ");
    let keys = host.0.engine.current().vault().data_bag().keys().unwrap();
    assert_eq!(keys, Vec::<String>::new());
}
