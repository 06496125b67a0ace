//! Builds of a real plugin, and the artifacts in the store.

use std::error::Error as _;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use git2::{IndexAddOption, Repository, Signature};
use hotswap_build::{
    ArtifactError, BuildErrorKind, BuildId, BuildOptions, Built, Cancel, Installed, PluginPackage,
    Store, StoreLimits, build_plugin, build_plugins,
};
use object::{Object, ObjectSection};
use tempfile::TempDir;

use crate::support::{REAL_PLUGIN, Workspace, diagnostics};

fn build(plugin: &PluginPackage) -> Built {
    let mut messages = Vec::new();
    let mut keep = |message| messages.push(message);
    let built = build_plugin(plugin, &BuildOptions::default(), &Cancel::default(), &mut keep);
    built.unwrap_or_else(|error| {
        let rendered = diagnostics(&messages).into_iter().map(|diagnostic| &*diagnostic.rendered);
        panic!("{error}\n{}", rendered.collect::<String>())
    })
}

fn commit_all(dir: &Path) {
    let repository = Repository::init(dir).unwrap();
    let mut index = repository.index().unwrap();
    index.add_all(["."], IndexAddOption::DEFAULT, None).unwrap();
    index.write().unwrap();
    let tree = repository.find_tree(index.write_tree().unwrap()).unwrap();
    let author = Signature::now("Ada", "ada@example.org").unwrap();
    repository.commit(Some("HEAD"), &author, &author, "All", &tree, &[]).unwrap();
}

#[test]
fn the_build_id_follows_the_code_and_not_the_commit() {
    let workspace = Workspace::new();
    let plugin = workspace.real_plugin("follows-code");
    let store = plugin.store().unwrap();

    let first = build(&plugin);
    assert_eq!(first.plugin, "follows-code");
    assert_eq!(first.source, None);
    let phases: Vec<_> = first.phases.iter().map(|timing| timing.phase.as_str()).collect();
    assert_eq!(phases, ["check", "cargo", "stamp", "store"]);
    let stored = store.get("follows-code", first.build_id).unwrap().unwrap();
    assert_eq!(stored.path, first.artifact);
    assert_eq!(stored.facts.crate_version, "0.0.0");
    assert_eq!(stored.facts.source, None);

    commit_all(&workspace.path(""));
    let committed = build(&plugin);
    assert_eq!(committed.build_id, first.build_id);
    let source = committed.source.expect("git facts");
    assert!(!source.dirty);
    let stored = store.get("follows-code", first.build_id).unwrap().unwrap();
    assert_eq!(stored.facts.source, Some(source));

    let edited = REAL_PLUGIN.replace("Ok(text)", "Ok(text + \"!\")");
    workspace.write("follows-code/src/lib.rs", &edited);
    let changed = build(&plugin);
    assert_ne!(changed.build_id, first.build_id);
    assert!(changed.source.expect("git facts").dirty);
    assert!(
        store.get("follows-code", first.build_id).unwrap().is_some(),
        "the earlier build stays stored"
    );
    let listed = store.list("Follows-Code").unwrap();
    assert!(listed.iter().any(|file| file.build_id == first.build_id), "{listed:?}");
    assert!(listed.iter().any(|file| file.path == changed.artifact), "{listed:?}");
}

#[test]
fn plugins_that_are_built_side_by_side_are_installed() {
    let workspaces = [Workspace::new(), Workspace::new()];
    let plugins = [workspaces[0].real_plugin("one"), workspaces[1].real_plugin("another")];
    let plugin_dir = workspaces[0].path("plugins");
    let options = BuildOptions { install_to: Some(plugin_dir.clone()), ..BuildOptions::default() };
    let build = || {
        let mut installed = Vec::new();
        let all: Vec<_> = plugins.iter().map(|plugin| (plugin, &options)).collect();
        build_plugins(&all, &Cancel::default(), &mut |_, _| (), &mut |position, built| {
            let built = built.unwrap();
            assert_eq!(built.plugin, plugins[position].name);
            let Installed { path, is_new } = built.installed.unwrap();
            assert_eq!(fs::read(&path).unwrap(), fs::read(&built.artifact).unwrap());
            installed.push((path, is_new));
        });
        installed
    };
    let places = ["one.so", "another.so"].map(|file| plugin_dir.join(file));
    assert_eq!(build(), places.clone().map(|place| (place, true)));
    assert_eq!(build(), places.clone().map(|place| (place, false)));
    // Unchanged code is new for a directory whose file differs.
    fs::write(&places[0], "damaged").unwrap();
    let is_new: Vec<_> = build().into_iter().map(|(_, is_new)| is_new).collect();
    assert_eq!(is_new, [true, false]);
}

#[test]
fn installing_replaces_the_file_as_a_whole() {
    let workspace = Workspace::new();
    let mut built = build(&workspace.real_plugin("installed"));
    let out_dir = TempDir::new().unwrap();
    let plugin_dir = out_dir.path().join("not/there/yet");

    let path = built.install(&plugin_dir).unwrap();
    assert_eq!(path, plugin_dir.join("installed.so"));
    assert_eq!(fs::read(&path).unwrap(), fs::read(&built.artifact).unwrap());
    let names =
        || Vec::from_iter(fs::read_dir(&plugin_dir).unwrap().map(|e| e.unwrap().file_name()));
    assert_eq!(names(), ["installed.so"], "no temporary file is left");

    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
    let before = inode();
    built.install(&plugin_dir).unwrap();
    assert_eq!(inode(), before, "a file that is the same stays");
    for name in ["INSTALLED.so", "Installed.patch"] {
        fs::write(plugin_dir.join(name), "of the package's earlier name").unwrap();
    }
    built.install(&plugin_dir).unwrap();
    assert_eq!(names(), ["installed.so"], "the plugin has one artifact");

    // A hard link keeps the file, so that the next file gets another inode.
    fs::hard_link(&path, out_dir.path().join("mapped")).unwrap();
    fs::write(&path, "damaged").unwrap();
    built.install(&plugin_dir).unwrap();
    assert_ne!(inode(), before, "a file that differs is replaced, not written over");
    assert_eq!(fs::read(out_dir.path().join("mapped")).unwrap(), b"damaged");

    let error = built.install(&path).unwrap_err().to_string();
    assert!(error.contains("could not be installed as"), "{error}");
}

#[test]
fn a_damaged_artifact_is_noticed() {
    let workspace = Workspace::new();
    let built = build(&workspace.real_plugin("damaged"));
    let artifact = fs::read(&built.artifact).unwrap();
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let stored = store.put(&artifact).unwrap();

    for damaged in [&artifact[..artifact.len() / 2], b"", &flip_last_byte(&artifact)] {
        fs::write(&stored.path, damaged).unwrap();
        let error = store.get("damaged", built.build_id).unwrap_err();
        assert_eq!(error.kind(), BuildErrorKind::Artifact);
        let text = error.to_string();
        assert!(text.contains("in the store is damaged"), "{text}");
        assert!(text.contains(&stored.path.display().to_string()), "{text}");
        store.put(damaged).unwrap_err();
    }
    store.put(&artifact).unwrap();
    assert!(
        store.get("damaged", built.build_id).unwrap().is_some(),
        "an intact artifact replaces the damaged one"
    );
}

#[test]
fn an_error_keeps_its_cause_from_another_library_or_the_system() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let refused = store.put(b"no artifact").unwrap_err();
    let cause = refused.source().and_then(|cause| cause.downcast_ref());
    assert!(matches!(cause, Some(ArtifactError::NotALibrary(_))), "{refused:?}");

    let id = BuildId::from_bytes([7; 16]);
    let stored = dir.path().join(format!("store/echo/{id}.so"));
    fs::create_dir_all(stored.parent().unwrap()).unwrap();
    fs::write(&stored, "no artifact").unwrap();
    let damaged = store.get("echo", id).unwrap_err();
    assert!(damaged.source().unwrap().is::<ArtifactError>(), "{damaged:?}");

    fs::write(dir.path().join("file"), "").unwrap();
    let refused = Store::open(&dir.path().join("file/store")).unwrap_err();
    let cause = refused.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    assert_eq!(cause.unwrap().kind(), io::ErrorKind::NotADirectory);
    assert!(refused.to_string().contains(&cause.unwrap().to_string()), "{refused}");
}

#[test]
fn an_artifact_under_another_name_is_not_taken_for_it() {
    let workspace = Workspace::new();
    let built = build(&workspace.real_plugin("renamed"));
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let stored = store.put(&fs::read(&built.artifact).unwrap()).unwrap();
    let other = "0123456789abcdef0123456789abcdef".parse().unwrap();
    fs::copy(&stored.path, stored.path.with_file_name(format!("{other}.so"))).unwrap();

    let error = store.get("renamed", other).unwrap_err().to_string();
    assert!(error.contains(&format!("it holds `renamed` {}", built.build_id)), "{error}");
}

#[test]
fn a_build_that_was_never_stored_is_not_found() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(&dir.path().join("new")).unwrap();
    let build_id = "0123456789abcdef0123456789abcdef".parse().unwrap();
    assert!(store.get("world", build_id).unwrap().is_none());
    assert!(store.list("world").unwrap().is_empty());
}

#[test]
fn a_name_cannot_lead_out_of_the_store() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for name in ["", "..", "../world", "a/b", "a\0b"] {
        let error = store.list(name).unwrap_err().to_string();
        assert!(error.contains("is not a plugin's name"), "{error}");
    }
}

#[test]
fn only_artifacts_are_listed() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let build_id = "0123456789abcdef0123456789abcdef";
    for name in [&format!("{build_id}.so"), "README.md", "libworld.so", ".hotswap-x.tmp"] {
        let path = dir.path().join("world").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "12345").unwrap();
    }
    let files = store.list("world").unwrap();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(files[0].build_id.to_string(), build_id);
    assert_eq!(files[0].size_bytes, 5);
}

#[test]
fn the_oldest_builds_are_removed_except_loaded_ones() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let plugin_dir = dir.path().join("world");
    fs::create_dir_all(&plugin_dir).unwrap();
    let file = |number: u64| plugin_dir.join(format!("{number:032x}.so"));
    for number in 0..6 {
        fs::write(file(number), [0; 100]).unwrap();
        let stored_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + number);
        File::options().write(true).open(file(number)).unwrap().set_modified(stored_at).unwrap();
    }
    let loaded = File::create(file(0).with_extension("loaded")).unwrap();
    loaded.lock_shared().unwrap();
    fs::write(file(1).with_extension("loaded"), "").unwrap();
    let there = || (0..6).filter(|number| file(*number).exists()).collect::<Vec<_>>();

    let removed = store.prune("World", StoreLimits { count: 4, ..StoreLimits::default() }).unwrap();
    assert_eq!(removed.len(), 1, "{removed:?}");
    assert_eq!(there(), [0, 2, 3, 4, 5], "the oldest build is loaded, so it is not removed");
    assert!(!file(1).with_extension("loaded").exists());
    store.prune("world", StoreLimits { count: 9, size_bytes: 250 }).unwrap();
    assert_eq!(there(), [0, 4, 5]);
    drop(loaded);
    // A process that another test forks also holds the lock, until it executes another program.
    let patience = Instant::now() + Duration::from_secs(600);
    while there() != [5] && Instant::now() < patience {
        store.prune("world", StoreLimits { count: 0, size_bytes: 0 }).unwrap();
    }
    assert_eq!(there(), [5], "the newest build is never removed");
}

fn flip_last_byte(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    *bytes.last_mut().expect("a byte") ^= 1;
    bytes
}

/// Whether a debugger finds lines in an artifact, and whether a backtrace has names.
fn debug_lines_and_names(artifact: &Path) -> (bool, bool) {
    let bytes = fs::read(artifact).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let has = |name| file.section_by_name(name).is_some_and(|section| section.size() > 0);
    (has(".debug_line"), has(".symtab"))
}

#[test]
fn the_profile_omits_debug_information_unless_the_workspace_sets_it() {
    let workspace = Workspace::new();
    let plugin = workspace.real_plugin("profiled");
    assert_eq!(debug_lines_and_names(&build(&plugin).artifact), (false, true));

    let manifest = fs::read_to_string(workspace.path("Cargo.toml")).unwrap();
    let own = "[profile.hotswap]\ninherits = \"dev\"\ndebug = \"line-tables-only\"\n";
    workspace.write("Cargo.toml", &format!("{manifest}{own}"));
    assert_eq!(debug_lines_and_names(&build(&plugin).artifact), (true, true));

    // The profile can also be set where cargo reads it otherwise, and then only in part.
    workspace.write("Cargo.toml", &manifest);
    let debug = "profile.hotswap.debug=\"line-tables-only\"";
    workspace.write(".cargo/config.toml", debug);
    assert_eq!(debug_lines_and_names(&build(&plugin).artifact), (true, true));
    workspace.write(".cargo/config.toml", "");
    assert_eq!(debug_lines_and_names(&build(&plugin).artifact), (false, true));
    let cargo_flags = vec!["--config".into(), debug.into()];
    let options = BuildOptions { cargo_flags, ..BuildOptions::default() };
    let built = build_plugin(&plugin, &options, &Cancel::default(), &mut |_| {}).unwrap();
    assert_eq!(debug_lines_and_names(&built.artifact), (true, true));

    let options = BuildOptions { release: true, ..BuildOptions::default() };
    let built = build_plugin(&plugin, &options, &Cancel::default(), &mut |_| {}).unwrap();
    assert_eq!(debug_lines_and_names(&built.artifact), (false, true));
    assert_eq!(build(&plugin).plugin, "profiled");
}
