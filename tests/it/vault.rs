//! The Vault: values and registrations, and the effects of reloads on them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use hotswap_engine::{args, protocol::VersionState};
use insta::assert_snapshot;
use sample_api::Animal;

use crate::support::{Host, PluginDir};

#[test]
fn host_and_plugin_share_values() {
    let host = Host::with(&["shares"]);
    let shares = host.engine.plugin("shares").unwrap();
    shares.invoke::<u64>("count", args![]).unwrap();
    let current = host.engine.current();
    let bag = current.vault().data_bag();
    assert_eq!(bag.get::<u64>("count").unwrap(), Some(1));
    bag.set("host text", String::from("hello")).unwrap();
    assert_eq!(shares.invoke::<String>("shout", args![]).unwrap(), "HELLO");
    assert_eq!(bag.keys().unwrap(), ["count", "empty", "host text"]);
    assert!(bag.remove("host text").unwrap());
    assert_eq!(shares.invoke::<Option<String>>("shout", args![]).unwrap(), None);
}

#[test]
fn a_wrong_type_is_an_error_that_names_both() {
    let host = Host::with(&["shares"]);
    let shares = host.engine.plugin("shares").unwrap();
    let error = shares.invoke::<Option<String>>("confuse", args![]).unwrap_err();
    assert_snapshot!(error, @"shares v1: confuse: `count` of shares v1 has another type: found `u64`, expected `alloc::string::String`");
}

#[test]
fn a_value_in_use_by_the_same_thread_is_an_error_instead_of_a_deadlock() {
    let host = Host::with(&["shares"]);
    let shares = host.engine.plugin("shares").unwrap();
    let error = shares.invoke::<Option<u64>>("nest", args![]).unwrap_err();
    assert_snapshot!(error, @"shares v1: nest: this thread is using `count` already; finish that use before the next one");
    assert_eq!(
        shares.invoke::<u64>("count", args![]).unwrap(),
        1,
        "the refused use has not left the value locked"
    );
}

#[test]
fn a_panic_in_a_closure_leaves_the_value_usable() {
    let host = Host::with(&["shares"]);
    let current = host.engine.current();
    let bag = current.vault().data_bag();
    let update = || bag.update("count", || 0_u64, |_| panic!("in the closure"));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(update));
    assert!(panic.is_err());
    assert_eq!(bag.update("count", || 0_u64, |count| *count).unwrap(), 0);
}

#[test]
fn values_of_the_host_and_of_unchanged_plugins_survive_a_reload() {
    let host = Host::with(&["echo", "shares"]);
    let shares = host.engine.plugin("shares").unwrap();
    shares.invoke::<u64>("count", args![]).unwrap();
    host.engine.current().vault().data_bag().set("host text", String::from("stays")).unwrap();
    host.plugins.install("echo", 2);
    host.reload();
    assert_eq!(shares.invoke::<u64>("count", args![]).unwrap(), 2);
    assert_eq!(shares.invoke::<String>("shout", args![]).unwrap(), "STAYS");
    assert_eq!(host.engine.current().registered::<dyn Animal>().unwrap().len(), 1);
}

#[test]
fn values_of_a_replaced_version_are_dropped_with_it() {
    let host = Host::with(&["shares"]);
    let old = host.engine.plugin("shares").unwrap();
    old.invoke::<u64>("count", args![]).unwrap();
    host.plugins.install("shares", 2);
    host.reload();
    let bag_owner = |host: &Host| host.engine.vault_snapshot().data_bag.remove(0).owner;
    assert_eq!(bag_owner(&host), "shares v2");
    assert_eq!(
        old.invoke::<u64>("count", args![]).unwrap(),
        2,
        "a call of the old version still uses its own value"
    );
    let new = host.engine.plugin("shares").unwrap();
    assert_eq!(new.invoke::<u64>("count", args![]).unwrap(), 1);
    drop(old);
    host.wait_for("shares", 1, VersionState::Freed);
    let animals = host.engine.current().registered::<dyn Animal>().unwrap();
    assert_eq!(
        animals.iter().map(|animal| animal.owner.as_str()).collect::<Vec<_>>(),
        ["shares v2"]
    );
}

#[test]
fn an_empty_map_outlives_the_version_that_made_it() {
    let host = Host::with(&["shares"]);
    let current = host.engine.current();
    let map: HashMap<String, u32> = current.vault().data_bag().get("empty").unwrap().unwrap();
    drop(current);
    host.plugins.remove("shares");
    host.prune();
    host.wait_for("shares", 1, VersionState::Freed);
    assert!(host.mapped().is_empty());
    assert_eq!(map.get("nothing"), None);
    let mut map = map;
    map.insert("one".into(), 1);
    assert_eq!(map.len(), 1);
}

#[test]
fn the_host_calls_objects_that_plugins_registered() {
    let host = Host::with(&["shares"]);
    let animals = host.engine.current().registered::<dyn Animal>().unwrap();
    let parrot = &animals[0];
    assert_eq!((parrot.name.as_str(), parrot.owner.as_str()), ("parrot", "shares v1"));
    assert_eq!(parrot.object.speak(2), "squawk squawk");

    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| parrot.object.speak(100)));
    let payload = panic.unwrap_err();
    let message = payload.downcast_ref::<String>().unwrap();
    assert!(message.starts_with("the parrot is tired (at tests/fixtures/shares/"), "{message}");
}

/// An animal of the host.
struct Bear;

impl Animal for Bear {
    fn speak(&self, times: u32) -> String {
        assert!(times > 0, "the bear sleeps");
        "growl ".repeat(times as usize).trim().to_owned()
    }
}

#[test]
fn a_plugin_calls_objects_that_the_host_and_plugins_registered() {
    let host = Host::with(&["shares"]);
    let ask = |name: &str, times: u32| {
        let shares = host.engine.plugin("shares").unwrap();
        shares.invoke::<Option<String>>("ask", args![name, times])
    };
    assert_eq!(ask("bear", 1).unwrap(), None);
    host.engine.vault().extension().register::<dyn Animal, _>("bear", Bear).unwrap();
    for number in 2..=3 {
        let shares = host.engine.plugin("shares").unwrap();
        let names: Vec<String> = shares.invoke("animals", args![]).unwrap();
        assert_eq!(names, ["bear", "parrot"]);
        assert_eq!(ask("bear", 2).unwrap().as_deref(), Some("growl growl"));
        assert_eq!(ask("parrot", 1).unwrap().as_deref(), Some("squawk"));
        drop(shares);
        // Registrations of the host stay.
        host.plugins.install("shares", number);
        host.reload();
        host.wait_for("shares", number - 1, VersionState::Freed);
    }
    let error = ask("bear", 0).unwrap_err();
    assert!(error.message().contains("the bear sleeps (at "), "{}", error.message());
    assert_eq!(ask("bear", 1).unwrap().as_deref(), Some("growl"));
}

#[test]
fn the_extension_is_made_for_each_generation() {
    #[derive(serde::Serialize)]
    struct Generations(Vec<usize>);

    let host = Host::new(PluginDir::of(&["echo"]), |builder| {
        builder.extension(|previous: Option<&Generations>| {
            let mut seen = previous.map(|previous| previous.0.clone()).unwrap_or_default();
            seen.push(seen.len());
            Generations(seen)
        })
    });
    host.reload();
    host.plugins.install("echo", 2);
    host.reload();
    let current = host.engine.current();
    assert_eq!(current.extension::<Generations>().unwrap().0, [0, 1, 2]);
    let snapshot = host.engine.vault_snapshot();
    assert_eq!(snapshot.extension, serde_json::json!([0, 1, 2]));
    assert!(snapshot.extension_type.ends_with("Generations"), "{}", snapshot.extension_type);
}

/// An animal of the host that records its drop.
struct Wolf(u32, Arc<AtomicU32>);

impl Animal for Wolf {
    fn speak(&self, _: u32) -> String {
        format!("howl {}", self.0)
    }
}

impl Drop for Wolf {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_host_replaces_and_unregisters_its_objects() {
    let host = Host::with(&["shares"]);
    let vault = host.engine.vault();
    let extension = vault.extension();
    let dropped = Arc::new(AtomicU32::new(0));
    let ask = || {
        let shares = host.engine.plugin("shares").unwrap();
        shares.invoke::<Option<String>>("ask", args!["wolf", 1]).unwrap()
    };
    extension.replace::<dyn Animal, _>("wolf", Wolf(1, dropped.clone())).unwrap();
    let first = extension.find::<dyn Animal>("wolf").unwrap().unwrap();
    extension.replace::<dyn Animal, _>("wolf", Wolf(2, dropped.clone())).unwrap();
    assert_eq!(ask().unwrap(), "howl 2");
    // A handle to the old object still works.
    assert_eq!((first.speak(1).as_str(), dropped.load(Ordering::Relaxed)), ("howl 1", 0));
    drop(first);
    assert_eq!(dropped.load(Ordering::Relaxed), 1);

    assert!(extension.unregister::<dyn Animal>("wolf").unwrap());
    assert_eq!(dropped.load(Ordering::Relaxed), 2);
    assert_eq!(ask(), None);
    assert!(!extension.unregister::<dyn Animal>("wolf").unwrap());
    extension.register::<dyn Animal, _>("wolf", Wolf(3, dropped.clone())).unwrap();
    assert_eq!(ask().unwrap(), "howl 3");

    // The host cannot replace or unregister an object of a plugin.
    let error = extension.unregister::<dyn Animal>("parrot").unwrap_err();
    insta::assert_snapshot!(error, @"`parrot` of `sample_api::Animal` belongs to shares v1");
    let error = extension.replace::<dyn Animal, _>("parrot", Wolf(4, dropped.clone())).unwrap_err();
    insta::assert_snapshot!(error, @"shares v1 has already registered `parrot` of `sample_api::Animal`");
    assert_eq!(dropped.load(Ordering::Relaxed), 3);
}
