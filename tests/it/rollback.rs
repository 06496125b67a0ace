//! Rollbacks to an earlier artifact without a build.

use std::{collections::BTreeSet, fs::File, time::SystemTime};

use hotswap_build::{Store, StoreLimits};
use hotswap_engine::{
    args,
    artifact::{self, BuildId},
    protocol::VersionState,
};
use insta::assert_snapshot;

use crate::support::{Host, PluginDir, revision};

fn answer(host: &Host) -> u32 {
    host.engine.plugin("echo").unwrap().invoke("revision", args![]).unwrap()
}

/// A store with these revisions of `echo`, as builds would leave them.
fn store_of(numbers: &[u32]) -> (tempfile::TempDir, Vec<BuildId>) {
    let store = tempfile::tempdir().unwrap();
    let dir = artifact::layout::store_dir(store.path(), &"echo".parse().unwrap());
    std::fs::create_dir(&dir).unwrap();
    let ids = numbers.iter().map(|number| {
        let file = revision("echo", *number);
        let id = artifact::inspect(&file).unwrap().build_id;
        std::fs::write(dir.join(format!("{id}.so")), file).unwrap();
        id
    });
    let ids = ids.collect();
    (store, ids)
}

fn host_with_store(store: &tempfile::TempDir) -> Host {
    let host =
        Host::new(PluginDir::of(&["echo", "by-hand"]), |builder| builder.store(store.path()));
    host.reload();
    host
}

#[test]
fn a_rollback_loads_the_earlier_artifact_and_holds_the_plugin_there() {
    let (store, _) = store_of(&[1, 2]);
    let host = host_with_store(&store);
    host.plugins.install("echo", 2);
    host.reload();
    host.wait_for("echo", 1, VersionState::Freed);

    let report = host.engine.rollback("echo@1").unwrap();
    assert_snapshot!(report, @"by-hand: unchanged, echo: ok");
    assert_eq!(report.rolled_back.as_deref(), Some("echo"));
    assert_eq!(answer(&host), 1);
    assert_eq!(host.engine.plugin("echo").unwrap().version(), 3);
    for _ in 0..2 {
        insta::allow_duplicates! { assert_snapshot!(host.reload(), @"by-hand: unchanged, echo: held"); }
    }
    assert_eq!(answer(&host), 1);
    let is_rolled_back = || {
        let plugins = host.engine.snapshot().plugins;
        plugins.iter().any(|plugin| plugin.name == "echo" && plugin.is_rolled_back)
    };
    assert!(is_rolled_back());
    assert_snapshot!(host.engine.reload_latest().unwrap(), @"by-hand: unchanged, echo: ok");
    assert_eq!(answer(&host), 2);
    assert!(!is_rolled_back());
    assert_snapshot!(host.reload(), @"by-hand: unchanged, echo: unchanged");
}

#[test]
fn a_newer_artifact_ends_the_hold() {
    let (store, _) = store_of(&[1, 2]);
    let host = host_with_store(&store);
    host.plugins.install("echo", 2);
    host.reload();
    host.engine.rollback("echo@v1").unwrap();
    host.plugins.install("echo", 3);
    assert_snapshot!(host.reload(), @"by-hand: unchanged, echo: ok");
    assert_eq!(answer(&host), 3);
}

#[test]
fn two_rollbacks_hold_the_plugin_against_both_newer_builds() {
    let (store, _) = store_of(&[1, 2, 3]);
    let host = host_with_store(&store);
    for number in [2, 3] {
        host.plugins.install("echo", number);
        host.reload();
    }
    host.engine.rollback("echo@2").unwrap();
    host.engine.rollback("echo@1").unwrap();
    assert_eq!(answer(&host), 1);
    assert_snapshot!(host.reload(), @"by-hand: unchanged, echo: held");
}

#[test]
fn a_build_can_be_named_by_the_beginning_of_its_id() {
    let (store, ids) = store_of(&[7]);
    let host = host_with_store(&store);
    host.engine.rollback(&format!("echo@{:.8}", ids[0].to_string())).unwrap();
    assert_eq!(answer(&host), 7);
}

#[test]
fn a_version_that_is_still_mapped_needs_no_store() {
    let host = Host::with(&["echo"]);
    let handle = host.engine.current();
    host.plugins.install("echo", 2);
    host.reload();
    host.engine.rollback("echo@1").unwrap();
    assert_eq!(answer(&host), 1);
    drop(handle);
}

#[test]
fn a_rollback_to_a_missing_version_is_an_error_that_says_what_is_there() {
    let (store, ids) = store_of(&[1]);
    let host = host_with_store(&store);
    let refusal = |target: &str| host.engine.rollback(target).unwrap_err().to_string();
    assert_snapshot!(refusal("echo"), @"echo: find: name the version to go back to: NAME@VERSION or NAME@BUILD-ID");
    assert_snapshot!(refusal("echo@9"), @"echo: find: this host has no v9 of it; there are v1");
    assert_snapshot!(refusal("ghost@1"), @"ghost: find: no plugin of this name was loaded; there are by-hand, echo");
    assert!(refusal("echo@00000000").contains("build 00000000 of echo is not in /"));
    assert!(refusal("ghost@00000000").contains("no build of ghost is stored in /"));

    let file = artifact::layout::store_dir(store.path(), &"echo".parse().unwrap())
        .join(format!("{}.so", ids[0]));
    let mut content = std::fs::read(&file).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::write(file, content).unwrap();
    host.plugins.install("echo", 2);
    host.reload();
    host.wait_for("echo", 1, VersionState::Freed);
    let refusal = refusal("echo@1");
    assert!(refusal.contains("damaged or half written"), "{refusal}");
    assert_eq!(answer(&host), 2);
}

#[test]
fn a_rollback_to_a_stored_build_without_a_store_is_an_error() {
    let host = Host::with(&["echo"]);
    host.plugins.install("echo", 2);
    host.reload();
    host.wait_for("echo", 1, VersionState::Freed);
    let error = host.engine.rollback("echo@1").unwrap_err();
    assert_snapshot!(error, @"echo: find: the host has no artifact store (`EngineBuilder::store`)");
}

#[test]
fn a_build_that_is_loaded_stays_in_the_store() {
    let (store, ids) = store_of(&[1, 2, 3]);
    let host = host_with_store(&store);
    let builds = Store::open(store.path()).unwrap();
    let none = StoreLimits { count: 1, size_bytes: 0 };
    let stored = || {
        let files = builds.list("echo").unwrap().into_iter().map(|file| file.build_id);
        let stored: BTreeSet<_> = files.collect();
        ids.iter().map(|id| stored.contains(id)).collect::<Vec<_>>()
    };
    let artifact = artifact::layout::store_dir(store.path(), &"echo".parse().unwrap())
        .join(format!("{}.so", ids[2]));
    File::options().write(true).open(artifact).unwrap().set_modified(SystemTime::now()).unwrap();
    builds.prune("echo", none).unwrap();
    assert_eq!(
        stored(),
        [true, false, true],
        "the first build is loaded, and the third is the newest"
    );

    host.plugins.install("echo", 3);
    host.reload();
    host.wait_for("echo", 1, VersionState::Freed);
    builds.prune("echo", none).unwrap();
    assert_eq!(stored(), [false, false, true]);
}
