//! Watchers watch the files that a build has read.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hotswap_build::{
    BuildOptions, Cancel, HostPackage, PluginPackage, Quiet, SourceChange, Watcher, build_host,
};

use crate::closed::exclude;
use crate::replay::{Fixture, output};
use crate::support::{REAL_PLUGIN, Workspace};

/// How long a change may take to be reported on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn watch(fixture: &Fixture) -> (Watcher, Receiver<Vec<String>>) {
    watch_package(&fixture.plugin)
}

fn watch_package(package: &PluginPackage) -> (Watcher, Receiver<Vec<String>>) {
    let (sender, receiver) = channel();
    // The test may have ended and dropped the receiver when the last change is reported.
    let on_change = move |change: SourceChange| drop(sender.send(change.plugins));
    let plugins = std::slice::from_ref(package);
    (Watcher::new(plugins, Quiet::default(), on_change).unwrap(), receiver)
}

#[test]
fn files_that_the_compiler_and_build_scripts_read_are_watched() {
    let fixture = Fixture::new("reads-much");
    let name = [fixture.plugin.name.clone()];
    fixture.workspace.write("texts/one.txt", "text-1");
    fixture.workspace.write("kept/linked.txt", "link-1");
    fixture.workspace.write("texts/two/deep.txt", "deep-1");
    fixture.workspace.write("kept/more/deeper.txt", "deeper-1");
    for (target, link) in [
        ("kept/linked.txt", fixture.plugin.dir.join("link.txt")),
        ("kept/more", fixture.workspace.path("texts/two/more")),
    ] {
        symlink(fixture.workspace.path(target), link).unwrap();
    }
    // Another program may write a file into the target directory.
    let among_builds = fixture.plugin.target_dir.join("reads-much.txt");
    fs::write(&among_builds, "tool-1").unwrap();
    let include = format!(
        "\npub static NOTE: &str =\n    \
         concat!(include_str!(\"../../texts/one.txt\"), include_str!(\"../link.txt\"), \
         include_str!({among_builds:?}));\n\
         #[invoke]\nfn note() -> Result<String> {{ Ok(NOTE.into()) }}\n"
    );
    exclude(&fixture, "apart");
    let (_watcher, changes) = watch(&fixture);
    fixture.write("src/lib.rs", &format!("{REAL_PLUGIN}{include}"));
    fixture.write(
        "leaf/build.rs",
        "fn main() { println!(\"cargo::rerun-if-changed=../../texts/two\"); }\n",
    );
    let root = "[workspace]\nmembers = [\"../apart\"]\n";
    fixture.workspace.write("elsewhere/Cargo.toml", root);
    let package = |name: &str, more: &str| {
        format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n{more}")
    };
    let apart = package("apart", "workspace = \"../elsewhere\"\n");
    fixture.workspace.write("apart/Cargo.toml", &apart);
    fixture.workspace.write("apart/src/lib.rs", "");
    let leaf = package("leaf", "[dependencies]\napart.path = \"../../apart\"\n");
    fixture.write("leaf/Cargo.toml", &leaf);
    let _ = changes.recv().unwrap();
    let made = fixture.build();
    assert!(made.artifact_contains("text-1"), "{}", output(&made.messages));
    // The watcher gets the list of read files before it sees later writes.
    for (path, text) in [
        ("texts/one.txt", "text-2"),
        ("kept/linked.txt", "link-2"),
        ("texts/two/deep.txt", "deep-2"),
        ("texts/two/new.txt", "new"),
        ("texts/two/.hidden", "hidden"),
        ("kept/more/deeper.txt", "deeper-2"),
        ("kept/more/new.txt", "new"),
        ("elsewhere/Cargo.toml", "[workspace]\nmembers = [\"../apart\"]\n# more\n"),
        ("reads-much/.cargo/config.toml", "[env]\nMOOD = \"good\"\n"),
        ("reads-much/leaf/Cargo.toml", "[package]\nname = \"leaf\"\nedition = \"2021\"\n"),
    ] {
        fixture.workspace.write(path, text);
        assert_eq!(changes.recv_timeout(PATIENCE).expect(path), name);
    }
    fs::write(&among_builds, "tool-2").unwrap();
    assert_eq!(changes.recv_timeout(PATIENCE).expect("the tool's file"), name);
    assert!(fixture.build().artifact_contains("text-2link-2tool-2"));
    // Files that the build wrote do not cause another build.
    fixture.workspace.write("texts/one.txt", "text-3");
    assert_eq!(changes.recv().unwrap(), name);
    assert!(changes.try_recv().is_err());
}

/// Cargo reads the settings of the directories around a workspace, too.
#[test]
fn settings_around_the_workspace_are_watched() {
    let mut fixture = Fixture::new("set-from-above");
    let name = [fixture.plugin.name.clone()];
    exclude(&fixture, &name[0]);
    let [manifest, lock] = ["set-from-above/Cargo.toml", "Cargo.lock"]
        .map(|file| fs::read_to_string(fixture.workspace.path(file)).unwrap());
    fixture.write("Cargo.toml", &format!("{manifest}\n[workspace]\n"));
    fixture.write("Cargo.lock", &lock);
    fixture.plugin = fixture.workspace.reopen(&name[0]);
    assert_eq!(fixture.plugin.workspace_root, fixture.plugin.dir);
    fixture.workspace.write(".cargo/config.toml", "include = [\"../moods/one.toml\"]\n");
    fixture.workspace.write("moods/one.toml", "[env]\nMOOD = \"good\"\n");
    fixture
        .workspace
        .write("moods/two.toml", "include = [{ path = \"three.toml\", optional = true }]\n");
    let given = fixture.workspace.path("moods/two.toml").to_str().unwrap().to_owned();
    let cargo_flags = vec!["--config".to_owned(), given];
    let options = BuildOptions { cargo_flags, ..BuildOptions::default() };
    let (_watcher, changes) = watch(&fixture);
    for (file, text) in [
        ("moods/one.toml", "[env]\nMOOD = \"bad\"\n"),
        ("moods/three.toml", "[env]\nTUNE = \"gay\"\n"),
        ("moods/two.toml", "[env]\nTUNE = \"sad\"\n"),
        (".cargo/config.toml", "[env]\nMOOD = \"bad\"\n"),
    ] {
        fixture.build_with(&options);
        fixture.workspace.write(file, text);
        assert_eq!(changes.recv_timeout(PATIENCE).unwrap(), name, "{file}");
    }
    // A directory goes with its files.
    for dir in [".cargo", "moods"] {
        fixture.build_with(&options);
        // When this save is reported, the watcher has read what the build has read.
        fixture.write_plugin(dir);
        assert_eq!(changes.recv_timeout(PATIENCE).unwrap(), name);
        fs::remove_dir_all(fixture.workspace.path(dir)).unwrap();
        assert_eq!(changes.recv_timeout(PATIENCE).unwrap(), name, "{dir}");
    }
}

/// A failed build has no list of the files that the compiler has read.
#[test]
fn files_in_compiler_errors_are_watched() {
    let fixture = Fixture::new("reads-in-vain");
    let name = [fixture.plugin.name.clone()];
    fixture.build();
    let (_watcher, changes) = watch(&fixture);
    let include = "\npub static NOTE: &str = include_str!(\"../../missing/new.txt\");\n\
                   include!(\"../../made/wrong.in\");\n\
                   #[invoke]\nfn note() -> Result<String> { Ok(NOTE.into()) }\n";
    fixture.workspace.write("made/wrong.in", "pub fn wrong() -> u32 { \"text\" }\n");
    fixture.write("src/lib.rs", &format!("{REAL_PLUGIN}{include}"));
    assert_eq!(changes.recv().unwrap(), name);
    let fails = || {
        let (built, messages) = fixture.try_build(&BuildOptions::default(), &mut |_| ());
        built.expect_err(&output(&messages));
    };
    fails();
    fixture.workspace.write("missing/new.txt", "text-1");
    assert_eq!(changes.recv().unwrap(), name);
    fails();
    fixture.workspace.write("made/wrong.in", "pub fn wrong() -> u32 { 1 }\n");
    assert_eq!(changes.recv().unwrap(), name);
    assert!(fixture.build().artifact_contains("text-1"));
}

#[test]
fn files_that_a_host_was_built_from_are_watched() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    workspace.host("sample", "plugins = [\"world\"]");
    workspace.write("page.txt", "page-1");
    workspace.write("sample/data.txt", "data-1");
    let script = |name: &str| {
        format!(
            "fn main() {{\n    println!(\"cargo::rerun-if-changed={name}\");\n    \
             println!(\"cargo::rustc-env=DATA={{}}\", std::fs::read_to_string(\"{name}\").unwrap());\n}}\n"
        )
    };
    workspace.write("sample/build.rs", &script("data.txt"));
    let main =
        "fn main() { println!(\"{} {}\", include_str!(\"../../page.txt\"), env!(\"DATA\")); }";
    workspace.write("sample/src/main.rs", main);
    let host = HostPackage::open(&workspace.path("sample")).unwrap();
    let host = HostPackage { target_dir: workspace.path("target"), ..host };
    let build = || build_host(&host, &BuildOptions::default(), &Cancel::default(), &mut |_| ());
    build().unwrap();
    let (_watcher, changes) = watch_package(&host.watched_as("host"));
    for (path, text) in [
        ("page.txt", "page-2"),
        ("sample/data.txt", "data-2"),
        ("sample/.cargo/config.toml", "[build]\nrustc-wrapper = \"/usr/bin/env\"\n"),
    ] {
        workspace.write(path, text);
        assert_eq!(changes.recv_timeout(PATIENCE).expect(path), ["host"]);
    }

    // Without the file, the script fails. Then the files for which it has asked are watched, and its package.
    workspace.write("sample/build.rs", &script("../more.txt"));
    assert_eq!(changes.recv_timeout(PATIENCE).unwrap(), ["host"]);
    build().expect_err("the script fails");
    workspace.write("more.txt", "more");
    assert_eq!(changes.recv_timeout(PATIENCE).expect("more.txt"), ["host"]);
    workspace.write("sample/other.txt", "");
    assert_eq!(changes.recv_timeout(PATIENCE).expect("other.txt"), ["host"]);
    build().unwrap();
}

#[test]
fn files_for_which_a_failed_build_script_has_asked_are_watched() {
    let fixture = Fixture::new("script-fails");
    let name = [fixture.plugin.name.clone()];
    let script = "fn main() {\n    println!(\"cargo::rerun-if-changed=../../schema.json\");\n    \
                  assert!(std::fs::read_to_string(\"../../schema.json\").unwrap().contains('{'));\n}\n";
    fixture.write("leaf/build.rs", script);
    fixture.workspace.write("schema.json", "[]");
    let (_watcher, changes) = watch(&fixture);
    let (built, messages) = fixture.try_build(&BuildOptions::default(), &mut |_| ());
    built.expect_err(&output(&messages));
    fixture.workspace.write("schema.json", "{}");
    assert_eq!(changes.recv_timeout(PATIENCE).expect("schema.json"), name);
    // The script succeeds now, but what it makes does not compile.
    let script = "fn main() {\n    println!(\"cargo::rerun-if-changed=../../words.txt\");\n    \
                  let made = std::env::var(\"OUT_DIR\").unwrap() + \"/made.rs\";\n    \
                  std::fs::copy(\"../../words.txt\", made).unwrap();\n}\n";
    fixture.write("leaf/build.rs", script);
    let leaf = "include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));\n";
    fixture.workspace.write("words.txt", "pub fn text() -> String { 1 }\n");
    fixture.write("leaf/src/lib.rs", leaf);
    assert_eq!(changes.recv_timeout(PATIENCE).expect("build.rs"), name);
    let (built, messages) = fixture.try_build(&BuildOptions::default(), &mut |_| ());
    built.expect_err(&output(&messages));
    fixture.workspace.write("words.txt", "pub fn text() -> String { \"words\".into() }\n");
    assert_eq!(changes.recv_timeout(PATIENCE).expect("words.txt"), name);
    fixture.build();

    // Also if a compiler wrapper prevents that builds are recorded.
    let config = "[build]\nrustc-wrapper = \"/usr/bin/env\"\n";
    fixture.write(".cargo/config.toml", config);
    assert_eq!(changes.recv_timeout(PATIENCE).expect("the configuration"), name);
    fixture.build();
    fixture.write(".cargo/config.toml", &format!("{config}[env]\nMOOD = \"good\"\n"));
    assert_eq!(changes.recv_timeout(PATIENCE).expect("the configuration"), name);
}

/// Tools that change versions change a link: `current` leads to another directory then.
#[test]
fn a_link_on_the_way_to_a_file_is_watched() {
    let fixture = Fixture::new("reads-through-link");
    let name = [fixture.plugin.name.clone()];
    for version in ["1", "2"] {
        fixture
            .workspace
            .write(&format!("releases/{version}/page.txt"), &format!("page-{version}"));
    }
    let point = |version: &str| {
        let new = fixture.workspace.path("new-link");
        symlink(format!("releases/{version}"), &new).unwrap();
        fs::rename(new, fixture.workspace.path("current")).unwrap();
    };
    point("1");
    let include = "\npub static PAGE: &str = include_str!(\"../../current/page.txt\");\n\
                   #[invoke]\nfn page() -> Result<String> { Ok(PAGE.into()) }\n";
    fixture.write("src/lib.rs", &format!("{REAL_PLUGIN}{include}"));
    assert!(fixture.build().artifact_contains("page-1"));
    let (_watcher, changes) = watch(&fixture);
    point("2");
    assert_eq!(changes.recv_timeout(PATIENCE).expect("the link"), name);
    assert!(fixture.build().artifact_contains("page-2"));
    fixture.workspace.write("releases/2/page.txt", "page-3");
    assert_eq!(changes.recv_timeout(PATIENCE).expect("the file"), name);
    assert!(fixture.build().artifact_contains("page-3"));
}
