//! The compatibility check for types that were compiled on two sides and cross between them.

use std::collections::HashMap;

use hotswap_engine::{
    args,
    protocol::{ErrorKind, ValueChange, VersionState},
};
use insta::assert_snapshot;
use types::{Checked, List, Measure, Path, Point, Tree};

use crate::support::{Host, PluginDir, built_with, renamed};

type Maps = HashMap<String, HashMap<String, Vec<u32>>>;

fn path() -> Path {
    let labels = HashMap::from([("here".to_owned(), vec!["a".to_owned()])]);
    Path { points: vec![Point { x: 1, y: 2 }, Point { x: 3, y: 4 }], labels }
}

fn tree(depth: u32) -> Tree {
    let children = if depth == 0 { Vec::new() } else { vec![tree(depth - 1), tree(depth - 1)] };
    Tree { weight: depth, children }
}

/// A host whose plugin `shapes` was built with other types of the same size.
fn host_with_other_types() -> Host {
    let plugins = PluginDir::of(&["shapes"]);
    let host = Host::new(plugins, |builder| builder.publish_breaking(true));
    host.reload();
    host.plugins.write("shapes", &renamed("shapes-otherwise", "shapes"));
    host
}

#[test]
fn recursive_types_cross() {
    let host = Host::with(&["shapes"]);
    let grow = host.engine.func::<fn(Tree) -> Tree>("shapes", "grow").unwrap();
    let grown = grow.call(tree(6)).unwrap();
    assert_eq!((grown.weight, grown.children[1].children[0].weight), (7, 5));
    let list = host.engine.func::<fn(u32) -> List>("shapes", "list").unwrap();
    let mut numbers = Vec::new();
    let mut rest = list.call(1000).unwrap();
    while let List::Item(number, next) = rest {
        numbers.push(number);
        rest = *next;
    }
    assert_eq!(numbers, (1..=1000).collect::<Vec<_>>());
}

#[test]
fn a_changed_field_type_of_the_same_size_is_reported() {
    let host = host_with_other_types();
    let keep = host.engine.func::<fn(Path) -> usize>("shapes", "keep").unwrap();
    let grow = host.engine.func::<fn(Tree) -> Tree>("shapes", "grow").unwrap();
    let list = host.engine.func::<fn(u32) -> List>("shapes", "list").unwrap();
    assert_eq!(keep.call(path()).unwrap(), 1);
    host.reload();
    let error = keep.call(path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Signature);
    assert_snapshot!(error, @"shapes v2: keep: its signature is `(path: Path) -> usize`, but `fn(types::Path) -> usize` is expected: `types::Point` differs: found `x: f32`, expected `x: u32`");
    assert_snapshot!(grow.call(tree(1)).unwrap_err(), @"shapes v2: grow: its signature is `(tree: Tree) -> Tree`, but `fn(types::Tree) -> types::Tree` is expected: `types::Tree` differs: found `weight: f32`, expected `weight: u32`");
    assert_snapshot!(list.call(3).unwrap_err(), @"shapes v2: list: its signature is `(last: u32) -> List`, but `fn(u32) -> types::List` is expected: `types::List::Item` differs: found `0: i32`, expected `0: u32`");
}

#[test]
fn a_type_that_differs_between_profiles_is_reported() {
    let host = Host::with(&["shapes"]);
    let check = || host.engine.func::<fn(Checked) -> Checked>("shapes", "check");
    assert_eq!(check().unwrap().call(Checked::default()).unwrap(), Checked::default());
    // The artifact is built as for a host with another profile.
    let other = !cfg!(debug_assertions);
    let setting = format!("profile.hotswap.package.types.debug-assertions={other}");
    let plugin = built_with("shapes", vec!["--config".into(), setting]);
    host.plugins.write("shapes", &plugin);
    let refused = host.refused_reload();
    let is_told = if other { "is unexpected" } else { "is missing" };
    let reported = format!(
        "`types::Checked` differs: `checks: alloc::vec::Vec<alloc::string::String>` {is_told}"
    );
    assert!(refused.contains(&reported), "{refused}");
}

#[test]
fn an_interface_is_compared_down_to_the_fields_of_its_types() {
    let host = Host::with(&["measures", "shapes"]);
    let first = host.engine.func::<fn(Path) -> Option<Point>>("measures", "first_of").unwrap();
    assert_eq!(first.call(path()).unwrap(), Some(Point { x: 1, y: 2 }));
    let grown = host.engine.func::<fn(Tree) -> (Tree, usize)>("measures", "grown").unwrap();
    let (grown, maps) = grown.call(tree(3)).unwrap();
    assert_eq!((grown.weight, maps), (4, 2));
    host.plugins.write("shapes", &renamed("shapes-otherwise", "shapes"));
    assert_snapshot!(host.refused_reload(), @"measures: import: the export of shapes v2 does not fit: `types::Measure::first` differs: `types::Point` differs: found `x: f32`, expected `x: u32`; build both against the same source");
    assert_eq!(first.call(path()).unwrap(), Some(Point { x: 1, y: 2 }));
}

#[test]
fn a_value_of_another_type_of_the_same_size_is_reported() {
    let host = host_with_other_types();
    let vault = host.engine.vault();
    let set = host.engine.func::<fn(Path) -> ()>("shapes", "set_path").unwrap();
    set.call(path()).unwrap();
    assert_eq!(vault.data_bag().get::<Path>("path").unwrap(), Some(path()));
    // Serde reads one kind of number as the other, so the value is migrated. The host still has the old type.
    let report = host.reload();
    let change = report.data_bag.iter().find(|value| value.key == "path").unwrap();
    assert_eq!(change.change, ValueChange::Migrated);
    assert_snapshot!(vault.data_bag().get::<Path>("path").unwrap_err(), @"`path` of shapes v2 has another type: `types::Point` differs: found `x: f32`, expected `x: u32`");
}

#[test]
fn maps_outlive_the_version_that_returned_them() {
    let host = Host::with(&["shapes"]);
    let maps = host.engine.func::<fn() -> Maps>("shapes", "maps").unwrap();
    let empty = host.engine.func::<fn() -> HashMap<String, u32>>("shapes", "empty").unwrap();
    let (by_func, nothing) = (maps.call().unwrap(), empty.call().unwrap());
    let current = host.engine.current();
    let by_object = current.registered::<dyn Measure>().unwrap()[0].object.maps();
    drop(current);
    host.plugins.remove("shapes");
    host.prune();
    host.wait_for("shapes", 1, VersionState::Freed);
    assert!(host.mapped().is_empty());
    for mut maps in [by_func, by_object] {
        assert_eq!(maps["full"]["one"], [1]);
        assert_eq!(maps["empty"].get("nothing"), None);
        maps.get_mut("empty").unwrap().insert("now".into(), vec![2]);
        maps.get_mut("full").unwrap().get_mut("none").unwrap().push(3);
        maps.insert("new".into(), HashMap::new());
        assert_eq!(maps.len(), 3);
    }
    assert_eq!(nothing.get("nothing"), None);
    let mut nothing = nothing;
    nothing.insert("something".into(), 1);
}

#[test]
fn maps_outlive_the_versions_that_carried_them() {
    let host = Host::with(&["shapes"]);
    let count = |kind: &str| -> Option<u64> {
        host.engine.plugin("shapes").unwrap().invoke("count", args![kind]).unwrap()
    };
    assert_eq!(count("circle"), Some(1));
    for number in 2..=6 {
        host.plugins.install("shapes", number);
        let report = host.reload();
        let change = report.data_bag.iter().find(|value| value.key == "counters").unwrap();
        assert_eq!(change.change, ValueChange::Shared);
        host.wait_for("shapes", number - 1, VersionState::Freed);
        assert_eq!(count("circle"), Some(u64::from(number)));
        assert_eq!(count(&format!("kind {number}")), Some(1));
    }
    assert_eq!(host.mapped().len(), 1);
}

#[test]
fn memory_that_one_side_allocates_is_freed_by_the_other() {
    let host = Host::with(&["shapes"]);
    let keep = host.engine.func::<fn(Path) -> usize>("shapes", "keep").unwrap();
    for kept in 1..=100 {
        assert_eq!(keep.call(path()).unwrap(), kept);
    }
    let grow = host.engine.func::<fn(Tree) -> Tree>("shapes", "grow").unwrap();
    let grown = (0..10).fold(tree(8), |tree, _| grow.call(tree).unwrap());
    // The plugin drops the host's paths when it ends. The host drops the plugin's tree afterwards.
    host.plugins.remove("shapes");
    host.prune();
    host.wait_for("shapes", 1, VersionState::Freed);
    assert_eq!(grown.weight, 18);
    drop(grown);
}

#[test]
fn an_opaque_value_is_shown_without_its_content() {
    let host = Host::with(&["shapes"]);
    host.engine.plugin("shapes").unwrap().invoke::<u64>("count", args!["circle"]).unwrap();
    let bag = host.engine.vault_snapshot().data_bag;
    let counters = bag.iter().find(|entry| entry.key == "counters").unwrap();
    assert_eq!((&*counters.type_name, &*counters.owner), ("shapes::Counters", "shapes v1"));
    assert_eq!((&counters.value, counters.size_bytes), (&None, None));
    let path = bag.iter().find(|entry| entry.key == "path").unwrap();
    assert_eq!(path.value, Some(serde_json::json!({"labels": {}, "points": []})));
    assert_eq!(path.size_bytes, Some(r#"{"points":[],"labels":{}}"#.len() as u64));
}
