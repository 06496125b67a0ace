//! Real runs of cargo, for packages that need only the standard library.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;

use hotswap_build::{
    BuildError, BuildErrorKind, BuildMessage, BuildOptions, Built, Cancel, DiagnosticLevel,
    HostPackage, PluginPackage, build_host, build_plugin,
};

use crate::support::{Workspace, diagnostics};

fn build(plugin: &PluginPackage) -> (Result<Built, BuildError>, Vec<BuildMessage>) {
    let mut messages = Vec::new();
    let mut keep = |message| messages.push(message);
    let result = build_plugin(plugin, &BuildOptions::default(), &Cancel::default(), &mut keep);
    (result, messages)
}

#[test]
fn a_library_without_a_descriptor_compiles_and_is_refused() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    workspace.write("world/src/lib.rs", "fn nobody_calls_me() {}\n");
    let (result, messages) = build(&workspace.open_plugin("world"));

    let error = result.unwrap_err();
    assert_eq!(error.kind(), BuildErrorKind::Artifact);
    assert!(error.to_string().contains("`world` compiles, but"), "{error}");

    let warnings = diagnostics(&messages);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0].level, DiagnosticLevel::Warning);
    assert_eq!(warnings[0].code.as_deref(), Some("dead_code"));
    assert_eq!(warnings[0].file, Some(workspace.path("world/src/lib.rs")));
    assert_eq!((warnings[0].line, warnings[0].column), (Some(1), Some(4)));
    assert!(warnings[0].rendered.contains("\u{1b}["), "{}", warnings[0].rendered);

    let progress = messages.iter().filter_map(|message| match message {
        BuildMessage::Progress { done, total, package } => Some((*done, *total, package.as_str())),
        _ => None,
    });
    let progress: Vec<_> = progress.collect();
    assert_eq!(progress, [(1, Some(2), "hotswap_plugin"), (2, Some(2), "world")]);
    let compiling = |message: &BuildMessage| match message {
        BuildMessage::Output(line) => line.contains("Compiling world"),
        _ => false,
    };
    assert!(messages.iter().any(compiling), "{messages:?}");
}

#[test]
fn the_cdylib_is_compiled_with_its_cfg() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    workspace.write(
        "world/src/lib.rs",
        "#[cfg(hotswap_cdylib)]\ncompile_error!(\"built to be loaded\");\n",
    );
    let (result, messages) = build(&workspace.open_plugin("world"));
    assert_eq!(result.unwrap_err().kind(), BuildErrorKind::Compile);
    assert_eq!(diagnostics(&messages)[0].message, "built to be loaded");
}

#[test]
fn compiler_errors_are_returned_as_data() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    workspace.write("world/src/lib.rs", "pub fn answer() -> u32 {\n    \"42\"\n}\n");
    let (result, messages) = build(&workspace.open_plugin("world"));

    let error = result.unwrap_err();
    assert_eq!(error.kind(), BuildErrorKind::Compile);
    assert_eq!(error.to_string(), "`world` does not compile: 1 error");

    let diagnostics = diagnostics(&messages);
    let first = diagnostics[0];
    assert_eq!(first.level, DiagnosticLevel::Error);
    assert_eq!(first.code.as_deref(), Some("E0308"));
    assert_eq!(first.message, "mismatched types");
    assert_eq!(first.file, Some(workspace.path("world/src/lib.rs")));
    assert_eq!((first.line, first.column), (Some(2), Some(5)));
}

#[test]
fn a_plugin_that_renames_the_crate_of_the_macros_learns_how_to_tell_them() {
    let workspace = Workspace::new();
    let renamed = "h-p = { package = \"hotswap-plugin\", path = \"../hotswap-plugin\" }";
    workspace.package("world", renamed, "");
    workspace.write("world/src/lib.rs", "pub fn expanded() {\n    ::hotswap_plugin::entry()\n}\n");
    let error = build(&workspace.open_plugin("world")).0.unwrap_err().to_string();
    assert!(error.contains("1 error; its code does not reach `hotswap-plugin`"), "{error}");
    assert!(error.contains("`#[plugin(crate = h_p)]`"), "{error}");
}

#[test]
fn an_error_of_cargo_is_passed_on() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    let options = BuildOptions { cargo_flags: vec!["--no-such-flag".into()], ..Default::default() };
    let plugin = workspace.open_plugin("world");
    let error = build_plugin(&plugin, &options, &Cancel::default(), &mut |_| ()).unwrap_err();
    assert_eq!(error.kind(), BuildErrorKind::Setup);
    assert!(error.to_string().contains("--no-such-flag"), "{error}");
}

#[test]
fn a_directory_that_is_gone_is_not_taken_for_a_missing_cargo() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    let plugin = workspace.open_plugin("world");
    std::fs::remove_dir_all(&plugin.dir).unwrap();
    let error = build(&plugin).0.unwrap_err();
    assert_eq!(error.kind(), BuildErrorKind::Setup);
    let gone = format!("`world` cannot be built: its directory {} is gone", plugin.dir.display());
    assert!(error.to_string().starts_with(&gone), "{error}");
    assert!(!workspace.path("target").exists(), "nothing is in the way when it is moved back");
}

#[test]
fn a_target_directory_that_cannot_be_written_is_reported_with_advice() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    let plugin = workspace.open_plugin("world");
    workspace.write("target/hotswap", "no directory");
    let error = build(&plugin).0.unwrap_err();
    assert_eq!(error.kind(), BuildErrorKind::Setup);
    let text = error.to_string();
    assert!(text.contains("cannot lock") && text.contains("`CARGO_TARGET_DIR`"), "{text}");
}

#[test]
fn a_host_is_built_as_a_program() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    workspace.host("sample", "plugins = [\"world\"]");
    let host = HostPackage::open(&workspace.path("sample")).unwrap();
    let host = HostPackage { target_dir: workspace.path("target"), ..host };
    let build =
        || build_host(&host, &BuildOptions::default(), &Cancel::default(), &mut |_| ()).unwrap();
    let program = build();
    let output = Command::new(&program).output().unwrap();
    assert_eq!(output.stdout, b"up\n");
    assert_eq!(build(), program, "a build of an unchanged program succeeds");
}

#[test]
fn several_consoles_build_a_host_at_once_in_a_target_directory_of_many_workspaces() {
    let (workspace, elsewhere) = (Workspace::new(), tempfile::tempdir().unwrap());
    workspace.plugin("world", "");
    workspace.host("sample", "plugins = [\"world\"]");
    let host = HostPackage::open(&workspace.path("sample")).unwrap();
    let host = HostPackage { target_dir: elsewhere.path().to_owned(), ..host };
    let build = || build_host(&host, &BuildOptions::default(), &Cancel::default(), &mut |_| ());
    thread::scope(|scope| {
        let builds: Vec<_> = (0..6).map(|_| scope.spawn(build)).collect();
        for build in builds {
            let program = build.join().unwrap().unwrap();
            assert_eq!(Command::new(program).output().unwrap().stdout, b"up\n");
        }
    });
}

#[test]
fn a_link_in_a_checkout_may_lead_to_the_target_directory_of_another() {
    let hosts = ["of one", "of two"].map(|text| {
        let workspace = Workspace::new();
        workspace.plugin("world", "");
        workspace.host("sample", "plugins = [\"world\"]\n[dependencies]\nleaf.path = \"../leaf\"");
        let manifest = fs::read_to_string(workspace.path("sample/Cargo.toml")).unwrap();
        let (manifest, _) = manifest.rsplit_once("[dependencies]").unwrap();
        workspace.write("sample/Cargo.toml", manifest);
        workspace.write("sample/src/main.rs", "fn main() { print!(\"{}\", leaf::TEXT); }");
        workspace.package("leaf", "", "");
        workspace.write("leaf/src/lib.rs", &format!("pub const TEXT: &str = {text:?};"));
        let host = HostPackage::open(&workspace.path("sample")).unwrap();
        let host = HostPackage { target_dir: workspace.path("target"), ..host };
        (workspace, host, text)
    });
    fs::create_dir(&hosts[0].1.target_dir).unwrap();
    symlink(&hosts[0].1.target_dir, &hosts[1].1.target_dir).unwrap();
    // What cargo compiles for one checkout is newer than the sources of the other.
    for at in [0, 1, 0] {
        let (_workspace, host, text) = &hosts[at];
        let program =
            build_host(host, &BuildOptions::default(), &Cancel::default(), &mut |_| ()).unwrap();
        let output = Command::new(program).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), *text);
    }
}

#[test]
fn a_build_that_was_cancelled_before_does_not_start() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    let cancel = Cancel::default();
    cancel.cancel();
    let plugin = workspace.open_plugin("world");
    let error = build_plugin(&plugin, &BuildOptions::default(), &cancel, &mut |_| ()).unwrap_err();
    assert_eq!(error.kind(), BuildErrorKind::Cancelled);
}

#[test]
fn cancelling_ends_all_processes_of_cargo() {
    let workspace = Workspace::new();
    let endless = EndlessBuild::in_package(&workspace, "world");
    let plugin = workspace.open_plugin("world");
    let cancel = Cancel::default();
    thread::scope(|scope| {
        let build = scope.spawn(|| {
            build_plugin(&plugin, &BuildOptions::default(), &cancel, &mut |_| ()).unwrap_err()
        });
        let script = endless.wait_until_it_runs();
        cancel.cancel();
        let error = build.join().unwrap();
        assert_eq!(error.kind(), BuildErrorKind::Cancelled);
        assert_eq!(error.to_string(), "the build of `world` was cancelled");
        assert_ended(script);
    });
}

#[test]
fn a_caller_that_panics_leaves_nothing_running() {
    let workspace = Workspace::new();
    let endless = EndlessBuild::in_package(&workspace, "world");
    let plugin = workspace.open_plugin("world");
    let (script, scripts) = channel();
    let mut panics = move |message| {
        let BuildMessage::Output(text) = message else { return };
        if text.contains("Compiling world") {
            script.send(endless.wait_until_it_runs()).unwrap();
            panic!("the callback panics");
        }
    };
    let build = thread::spawn(move || {
        build_plugin(&plugin, &BuildOptions::default(), &Cancel::default(), &mut panics)
    });
    assert_ended(scripts.recv().unwrap());
    build.join().unwrap_err();
}

#[test]
fn a_plugin_has_only_one_build_at_a_time() {
    let workspace = Workspace::new();
    let endless = EndlessBuild::in_package(&workspace, "world");
    let plugin = workspace.open_plugin("world");
    let (first, second) = (Cancel::default(), Cancel::default());
    let (said, saying) = channel();
    let options = BuildOptions::default();
    thread::scope(|scope| {
        let running = scope.spawn(|| build_plugin(&plugin, &options, &first, &mut |_| ()));
        let _script = endless.wait_until_it_runs();
        let waiting = scope.spawn(|| {
            build_plugin(&plugin, &options, &second, &mut |message| said.send(message).unwrap())
        });
        let message = saying.recv().unwrap();
        let BuildMessage::Output(text) = message else { panic!("{message:?}") };
        assert!(text.starts_with("`world` waits for another build in "), "{text}");
        second.cancel();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), BuildErrorKind::Cancelled);
        first.cancel();
        assert_eq!(running.join().unwrap().unwrap_err().kind(), BuildErrorKind::Cancelled);
    });
}

/// A plugin whose build script runs until it is killed.
struct EndlessBuild {
    listener: TcpListener,
}

impl EndlessBuild {
    fn in_package(workspace: &Workspace, name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        workspace.plugin(name, "");
        let script = format!(
            "use std::io::Read;\n\
             fn main() {{\n\
                 let mut test = std::net::TcpStream::connect(\"{}\").unwrap();\n\
                 test.read(&mut [0]).unwrap();\n\
             }}\n",
            listener.local_addr().unwrap()
        );
        workspace.write(&format!("{name}/build.rs"), &script);
        Self { listener }
    }

    fn wait_until_it_runs(&self) -> TcpStream {
        self.listener.accept().unwrap().0
    }
}

/// The system closes a connection when the last process with it ends.
fn assert_ended(mut process: TcpStream) {
    let read = process.read(&mut [0]);
    assert!(!matches!(read, Ok(1..)), "{read:?}");
}

/// Another crate of the graph has the plugin's name, and both are in directories with unusual names.
#[test]
fn a_plugin_may_be_named_like_another_crate() {
    let workspace = Workspace::new();
    let api = "hotswap-plugin.path = \"../hotswap-plugin\"\n";
    let manifest = |version: &str, dependencies: &str| {
        format!(
            "[package]\nname = \"itoa\"\nversion = \"{version}\"\nedition = \"2024\"\n\
             [dependencies]\n{dependencies}"
        )
    };
    let elsewhere = Workspace::new();
    elsewhere.write("mit Lücken & #1/Cargo.toml", &manifest("2.0.0", ""));
    elsewhere.write("mit Lücken & #1/src/lib.rs", "");
    let other = elsewhere.path("mit Lücken & #1");
    let other = format!("other = {{ package = \"itoa\", path = {other:?} }}\n");
    workspace.write("größe (1)/Cargo.toml", &manifest("1.0.0", &format!("{api}{other}")));
    workspace.write("größe (1)/src/lib.rs", "");
    let plugin = workspace.open_plugin("größe (1)");
    // In a setting, cargo would take the text in braces for a variable.
    let plugin = PluginPackage { target_dir: workspace.path("target/{x}"), ..plugin };
    let error = build(&plugin).0.unwrap_err();
    assert_eq!(error.kind(), BuildErrorKind::Artifact, "{error}");
}

#[test]
fn a_target_directory_among_the_flags_is_where_builds_go() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    workspace.write("world/.cargo/config.toml", "[build]\nbuild-dir = \"elsewhere\"\n");
    let plugin = workspace.open_plugin("world");
    let here = std::env::current_dir().unwrap();
    let out = tempfile::tempdir_in(&here).unwrap();
    let relative = out.path().strip_prefix(&here).unwrap().to_str().unwrap();
    let cargo_flags = vec!["--target-dir".to_owned(), relative.to_owned()];
    let options = BuildOptions { cargo_flags, ..BuildOptions::default() };
    let built = build_plugin(&plugin, &options, &Cancel::default(), &mut |_| ());
    assert_eq!(built.unwrap_err().kind(), BuildErrorKind::Artifact);
    assert!(out.path().join("hotswap/hotswap/deps").is_dir());
    assert!(!workspace.path("target").exists() && !workspace.path("world/elsewhere").exists());
}
