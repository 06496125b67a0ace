//! Finding hosts and plugins, and the errors when that fails.

use std::fs;

use hotswap_build::{BuildErrorKind, HostPackage, PluginPackage, Program};

use crate::support::Workspace;

/// Opens the host in this directory of the workspace, and expects an error with all these parts.
#[track_caller]
fn assert_refused(workspace: &Workspace, dir: &str, parts: &[&str]) {
    let error = HostPackage::open(&workspace.path(dir)).expect_err("an error");
    assert_eq!(error.kind(), BuildErrorKind::Setup);
    assert_says(&error.to_string(), parts);
}

#[track_caller]
fn assert_plugin_refused(workspace: &Workspace, dir: &str, parts: &[&str]) {
    let error = PluginPackage::open(&workspace.path(dir)).expect_err("an error");
    assert_eq!(error.kind(), BuildErrorKind::Setup);
    assert_says(&error.to_string(), parts);
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

#[test]
fn a_host_names_its_plugins_by_package_or_path() {
    let workspace = Workspace::new();
    workspace.host("sample", "plugins = [\"world\", \"../cat\"]");
    workspace.plugin("world", "");
    workspace.plugin("cat", "");
    let host = HostPackage::open(&workspace.path("sample")).unwrap();
    assert_eq!(host.name, "sample");
    assert_eq!(host.program, Program::Bin("sample".into()));
    assert_eq!(host.dir, workspace.path("sample"));
    assert_eq!(host.manifest_path, workspace.path("sample/Cargo.toml"));
    assert_eq!(host.workspace_root, workspace.path(""));
    assert_eq!(host.plugin_dir, host.target_dir.join("hotswap/plugins/sample"));
    let names: Vec<_> = host.plugins.iter().map(|plugin| plugin.name.as_str()).collect();
    assert_eq!(names, ["world", "cat"]);
}

/// The program uses this directory by default, although it knows only its own name.
#[test]
fn the_plugin_dir_is_named_by_the_hosts_program() {
    let workspace = Workspace::new();
    workspace
        .host("sample", "plugins = [\"world\"]\n[[bin]]\nname = \"other\"\npath = \"src/main.rs\"");
    workspace.plugin("world", "");
    let host = HostPackage::open(&workspace.path("sample")).unwrap();
    assert_eq!((host.name.as_str(), host.program.name()), ("sample", "other"));
    assert_eq!(host.plugin_dir, host.target_dir.join("hotswap/plugins/other"));
}

#[test]
fn a_host_may_choose_its_plugin_dir() {
    let workspace = Workspace::new();
    workspace.host("sample", "plugins = [\"world\"]\nplugin-dir = \"run/plugins\"");
    workspace.plugin("world", "");
    let host = HostPackage::open(&workspace.path("sample")).unwrap();
    assert_eq!(host.plugin_dir, workspace.path("sample/run/plugins"));
}

#[test]
fn a_plugin_may_live_in_another_workspace() {
    let workspace = Workspace::new();
    let other = Workspace::new();
    other.plugin("guest", "");
    let path = other.path("guest");
    workspace.host("sample", &format!("plugins = [{:?}]", path.to_str().unwrap()));
    let host = HostPackage::open(&workspace.path("sample")).unwrap();
    assert_eq!(host.plugins[0].name, "guest");
    assert_eq!(host.plugins[0].workspace_root, other.path(""));
}

#[test]
fn a_plugins_sources_are_its_own_and_its_path_dependencies() {
    let workspace = Workspace::new();
    workspace.package("types", "", "");
    workspace.package("api", "types.path = \"../types\"", "");
    workspace.package("only-for-tests", "", "");
    workspace.plugin(
        "world",
        "api.path = \"../api\"\n[dev-dependencies]\nonly-for-tests.path = \"../only-for-tests\"",
    );
    let plugin = PluginPackage::open(&workspace.path("world")).unwrap();
    let expected = ["api", "hotswap-plugin", "types", "world"].map(|dir| workspace.path(dir));
    assert_eq!(plugin.source_dirs, expected);
    assert_eq!(plugin.package_count, 4);
}

#[test]
fn a_missing_directory_is_named() {
    assert_refused(&Workspace::new(), "nowhere", &["nowhere", "No such file", "directory of a"]);
}

#[test]
fn a_file_is_no_package() {
    let parts = ["Cargo.toml is a file", "give the directory"];
    assert_refused(&Workspace::new(), "hotswap-plugin/Cargo.toml", &parts);
}

#[test]
fn a_path_that_is_no_text_is_named() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let workspace = Workspace::new();
    workspace.host("sample", "plugins = [\"world\"]");
    let dir = workspace.path("").join(OsStr::from_bytes(b"sample-\xff"));
    std::fs::rename(workspace.path("sample"), &dir).unwrap();
    let error = HostPackage::open(&dir).unwrap_err();
    assert_eq!(error.kind(), BuildErrorKind::Setup);
    assert_says(&error.to_string(), &["sample-", "is not UTF-8", "rename its directories"]);
}

#[test]
fn a_directory_without_a_manifest_is_no_package() {
    let around = "the nearest one around it is in ";
    assert_refused(&Workspace::new(), "hotswap-plugin/src", &["src", "no Cargo.toml", around]);
}

#[test]
fn a_broken_manifest_is_explained_by_cargo() {
    let workspace = Workspace::new();
    workspace.write("broken/Cargo.toml", "[package\nname = 1");
    assert_refused(&workspace, "broken", &["broken/Cargo.toml", "unclosed table"]);
}

#[test]
fn a_virtual_workspace_lists_its_hosts() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    assert_refused(&workspace, "", &["without a package", "none of the workspace's members"]);
    workspace.host("sample", "plugins = [\"world\"]");
    let sample = workspace.path("sample").display().to_string();
    assert_refused(&workspace, "", &["without a package", &sample, "`sample`"]);
}

#[test]
fn the_error_for_a_host_without_plugins_lists_the_plugins_of_the_workspace() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    workspace.package("plain", "", "");
    let parts = ["plain/Cargo.toml", "no [package.metadata.hotswap]", "workspace: `world`"];
    assert_refused(&workspace, "plain", &parts);
    assert_refused(
        &workspace,
        "world",
        &["`world` is a plugin and no host", "none of the workspace's"],
    );
    workspace.host("sample", "plugins = []");
    let sample = workspace.path("sample").display().to_string();
    assert_refused(&workspace, "world", &["`world` is a plugin and no host", &sample]);
    assert_refused(&workspace, "sample", &["names no plugins", "workspace: `world`"]);
}

#[test]
fn an_unknown_plugin_is_named() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    workspace.host("sample", "plugins = [\"wrold\"]");
    let parts = ["sample/Cargo.toml", "`wrold`", "neither", "workspace: `world`"];
    assert_refused(&workspace, "sample", &parts);
}

#[test]
fn a_plugin_named_twice_is_an_error() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    workspace.host("sample", "plugins = [\"world\", \"../world\"]");
    assert_refused(&workspace, "sample", &["`world` twice"]);
    workspace.plugin("World", "");
    workspace.host("sample", "plugins = [\"world\", \"World\"]");
    assert_refused(&workspace, "sample", &["`world` and `World`", "rename one of the packages"]);
}

#[test]
fn unknown_keys_and_wrong_types_are_named() {
    let workspace = Workspace::new();
    workspace.host("sample", "plugin = [\"world\"]");
    let parts = ["sample/Cargo.toml", "unknown field `plugin`", "`plugins`", "`plugin-dir`"];
    assert_refused(&workspace, "sample", &parts);
    workspace.host("sample", "plugins = \"world\"");
    assert_refused(&workspace, "sample", &["sample/Cargo.toml", "expected a sequence"]);
}

#[test]
fn a_plugin_can_be_built_in_a_workspace_with_a_wrong_host() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    workspace.host("sample", "plugin = [\"world\"]");
    assert_eq!(PluginPackage::open(&workspace.path("world")).unwrap().name, "world");
}

#[test]
fn a_host_needs_one_program() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    workspace.package("sample", "", "[package.metadata.hotswap]\nplugins = [\"world\"]");
    assert_refused(&workspace, "sample", &["no program", "src/main.rs"]);
    workspace.write("sample/src/bin/one.rs", "fn main() {}");
    let host = HostPackage::open(&workspace.path("sample")).unwrap();
    assert_eq!(host.program, Program::Bin("one".into()));
    workspace.write("sample/src/bin/two.rs", "fn main() {}");
    assert_refused(&workspace, "sample", &["`one`, `two`", "default-run"]);
}

#[test]
fn a_flag_chooses_the_hosts_program() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    workspace.host("sample", "plugins = [\"world\"]");
    workspace.write("sample/src/bin/other.rs", "fn main() {}\n");
    workspace.write("sample/src/bin/third.rs", "fn main() {}\n");
    workspace.write("sample/examples/tour.rs", "fn main() {}\n");
    let open = |flags: &[&str]| {
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        HostPackage::open_with(&workspace.path("sample"), &flags)
    };
    let (bin, example) = (|name: &str| Program::Bin(name.into()), Program::Example("tour".into()));
    for (flags, program) in [
        (&[][..], bin("sample")),
        (&["--bin", "other"], bin("other")),
        (&["--bin=third", "--offline"], bin("third")),
        (&["--bin=third", "--example", "tour"], example.clone()),
        (&["--example=tour", "--locked"], example),
    ] {
        let host = open(flags).unwrap();
        let name = program.name().to_owned();
        assert_eq!(host.program, program);
        assert!(host.plugin_dir.ends_with(format!("hotswap/plugins/{name}")), "{host:?}");
    }
    let error = open(&["--bin", "fourth"]).unwrap_err().to_string();
    assert!(error.contains("no program `fourth`") && error.contains("`other`"), "{error}");
    let error = open(&["--example", "other"]).unwrap_err().to_string();
    assert!(error.contains("no example `other`") && error.contains("`tour`"), "{error}");
}

#[test]
fn a_package_without_a_program_may_have_examples() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    workspace.package("shared", "", "");
    workspace.package(
        "sample",
        "",
        "[dev-dependencies]\nshared = { path = \"../shared\" }\n\
         [package.metadata.hotswap]\nplugins = [\"world\"]\ncargo-flags = [\"--example\", \"tour\"]",
    );
    assert_refused(&workspace, "sample", &["has no examples", "examples/tour.rs"]);
    workspace.write("sample/examples/tour.rs", "fn main() {}\n");
    let host = HostPackage::open(&workspace.path("sample")).unwrap();
    assert_eq!(host.program, Program::Example("tour".into()));
    assert!(host.source_dirs.contains(&workspace.path("shared")), "{host:?}");
    workspace.package("sample", "", "[package.metadata.hotswap]\nplugins = [\"world\"]");
    assert_refused(&workspace, "sample", &["`tour`", "`--example`"]);
}

#[test]
fn a_plugin_needs_a_library() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    std::fs::rename(workspace.path("world/src/lib.rs"), workspace.path("world/src/main.rs"))
        .unwrap();
    assert_plugin_refused(&workspace, "world", &["`world`", "no library", "src/lib.rs"]);
    workspace.host("sample", "plugins = [\"world\"]");
    let parts = ["`sample` is a host and no plugin", "`world`", "directory of one of them"];
    assert_plugin_refused(&workspace, "sample", &parts);
}

#[test]
fn a_plugin_depends_on_hotswap_plugin() {
    let workspace = Workspace::new();
    workspace.package("plain", "", "");
    let parts = ["`plain`", "does not depend on `hotswap-plugin`", "plain/Cargo.toml"];
    assert_plugin_refused(&workspace, "plain", &parts);
}

#[test]
fn a_workspace_is_no_plugin() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    assert_plugin_refused(&workspace, "", &["without a package", "`world`"]);
}

#[test]
fn nothing_depends_on_a_plugin() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    workspace.package("between", "world.path = \"../world\"", "");
    workspace.plugin("cat", "between.path = \"../between\"");
    workspace.host("sample", "plugins = [\"world\", \"cat\"]");
    let parts = ["`cat` depends on the plugin `world`", "crate of their own"];
    assert_plugin_refused(&workspace, "cat", &parts);
    assert_refused(&workspace, "sample", &parts);

    workspace.plugin("cat", "");
    workspace.package(
        "sample",
        "between.path = \"../between\"",
        "[package.metadata.hotswap]\nplugins = [\"world\", \"cat\"]",
    );
    assert_refused(&workspace, "sample", &["`sample` depends on the plugin `world`"]);
}

/// Another member of the workspace turns on the feature that links the plugin.
#[test]
fn features_that_other_members_turn_on_do_not_concern_the_host() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    workspace.package(
        "sample",
        "world = { path = \"../world\", optional = true }",
        "[features]\nstatic-linking = [\"dep:world\"]\n\
         [package.metadata.hotswap]\nplugins = [\"world\"]",
    );
    workspace.write("sample/src/main.rs", "fn main() {}");
    workspace.package(
        "other",
        "sample = { path = \"../sample\", features = [\"static-linking\"] }",
        "",
    );
    assert_eq!(HostPackage::open(&workspace.path("sample")).unwrap().plugins.len(), 1);
}

/// Reading cargo's metadata would otherwise update the lock file.
#[test]
fn a_locked_lock_file_is_not_changed() {
    let workspace = Workspace::new();
    workspace.host("sample", "plugins = [\"world\"]");
    workspace.plugin("world", "");
    let locked = ["--locked".to_owned()];
    let lock_file = workspace.path("Cargo.lock");
    let refused = || {
        let host = HostPackage::open_with(&workspace.path("sample"), &locked).map(drop);
        let plugin = PluginPackage::open_with(&workspace.path("world"), &locked).map(drop);
        for error in [host, plugin].map(|opened| opened.expect_err("an error")) {
            assert_eq!(error.kind(), BuildErrorKind::Setup);
            assert_says(&error.to_string(), &["Cargo.lock", "--locked"]);
        }
    };
    refused();
    assert!(!lock_file.exists());
    PluginPackage::open(&workspace.path("world")).unwrap();
    PluginPackage::open_with(&workspace.path("world"), &locked).unwrap();
    let lock = fs::read(&lock_file).unwrap();
    workspace.package("cat", "", "");
    refused();
    assert_eq!(fs::read(&lock_file).unwrap(), lock);
    workspace.host("sample", "plugins = [\"world\"]\ncargo-flags = [\"--locked\"]");
    assert_refused(&workspace, "sample", &["Cargo.lock", "--locked"]);
    assert_eq!(fs::read(&lock_file).unwrap(), lock);
}
