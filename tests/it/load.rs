//! The data of a load, and what plugins and callbacks can do during a load.

use std::error::Error as StdError;

use hotswap_engine::{Engine, Generation, args, plugin::Error, protocol::VersionState};
use insta::assert_snapshot;
use sample_api::Animal;

use crate::support::{Host, PluginDir};

fn host_with_configuration(plugins: &[&str]) -> Host {
    let host = Host::new(PluginDir::of(plugins), |builder| builder);
    host.engine.load(vec!["first"]).unwrap();
    host
}

fn configuration(engine: &Engine) -> Vec<String> {
    engine.invoke("configured", "configuration", args![]).unwrap()
}

fn seen_by_on_init(engine: &Engine) -> Option<u32> {
    engine.vault().data_bag().get::<Option<u32>>("revision of lives").unwrap().flatten()
}

#[test]
fn the_data_of_the_first_load_is_passed_to_each_later_load() {
    let host = host_with_configuration(&["configured"]);
    let first = host.engine.plugin("configured").unwrap();
    host.plugins.install("configured", 2);
    assert_snapshot!(host.engine.reload().unwrap(), @"configured: ok");
    assert_eq!(configuration(&host.engine), ["first"]);

    // There is no store, so the rollback uses a version in memory.
    assert_snapshot!(host.engine.rollback("configured@1").unwrap(), @"configured: ok");
    drop(first);
    assert_eq!(configuration(&host.engine), ["first"]);
    assert_snapshot!(host.engine.reload_latest().unwrap(), @"configured: ok");
    assert_eq!(configuration(&host.engine), ["first"]);
}

#[test]
fn reload_with_replaces_the_data_for_later_loads() {
    let host = host_with_configuration(&["configured"]);
    host.plugins.install("configured", 2);
    host.engine.reload_with(vec!["second"], |_, _| Ok::<_, Error>(())).unwrap();
    assert_eq!(configuration(&host.engine), ["second"]);

    // A load that is undone does not replace the data.
    host.plugins.install("configured", 3);
    host.engine.reload_with(vec!["third"], |_, _| Err(Error::msg("no"))).unwrap_err();
    host.reload();
    assert_eq!(configuration(&host.engine), ["second"]);
}

#[test]
fn a_first_load_that_fails_may_be_tried_again_with_the_same_data() {
    let host = Host::new(PluginDir::of(&["configured", "fail-on-init"]), |builder| builder);
    host.engine.load(vec!["first"]).unwrap_err();
    host.engine.load(vec!["second"]).unwrap_err();
    host.plugins.remove("fail-on-init");
    host.engine.reload().unwrap();
    assert_eq!(
        configuration(&host.engine),
        ["second"],
        "the configuration of the last load is used"
    );
}

#[test]
fn on_init_sees_the_live_functions_of_its_own_load() {
    let host = host_with_configuration(&["configured", "lives"]);
    assert_eq!(seen_by_on_init(&host.engine), Some(1));
    host.plugins.install("configured", 2);
    host.plugins.install("lives", 2);
    host.reload();
    assert_eq!(seen_by_on_init(&host.engine), Some(2));
}

#[test]
fn a_callback_sees_the_values_of_its_load_and_its_writes_are_undone_with_the_load() {
    let host = host_with_configuration(&["configured", "lives"]);
    host.plugins.install("configured", 2);
    host.plugins.install("lives", 2);
    let vault = host.engine.vault();
    let bag = vault.data_bag();
    let look = |fails: bool| {
        host.engine.reload_with(vec!["second"], |new, old| {
            let live = new.vault().live();
            assert_eq!(live.call("revision", &[])?.to::<u32>()?, 2);
            assert_eq!(old.vault().live().call("revision", &[])?.to::<u32>()?, 1);
            let of_new = new.vault().data_bag().get::<Option<u32>>("revision of lives")?;
            assert_eq!(of_new.flatten(), Some(2));
            new.vault().data_bag().set("by the callback", 7_u32)?;
            assert_eq!(new.vault().data_bag().get::<u32>("by the callback")?, Some(7));
            if fails { Err(Error::msg("not now")) } else { Ok(()) }
        })
    };
    assert_snapshot!(look(true).unwrap_err(), @"callback: not now");
    assert_eq!(bag.get::<u32>("by the callback").unwrap(), None);
    assert_eq!(seen_by_on_init(&host.engine), Some(1));

    assert_snapshot!(look(false).unwrap(), @"configured: ok, lives: ok");
    assert_eq!(bag.get::<u32>("by the callback").unwrap(), Some(7));
    assert_eq!(seen_by_on_init(&host.engine), Some(2));
    host.wait_for("lives", 1, VersionState::Freed);
}

#[test]
fn a_load_may_not_change_values_and_registrations_in_place() {
    let host = Host::with(&["echo"]);
    let vault = host.engine.vault();
    vault.data_bag().set("count", 1_u32).unwrap();
    vault.extension().register::<dyn Animal, _>("wolf", Wolf).unwrap();
    let try_it = |action: &dyn Fn(&Generation) -> hotswap_engine::plugin::Result<()>| {
        host.plugins.install("echo", 2);
        host.engine.reload_with((), |new, _| action(new)).unwrap_err().to_string()
    };
    let update =
        |new: &Generation| new.vault().data_bag().update("count", || 0_u32, |count| *count += 1);
    assert_snapshot!(try_it(&update), @"callback: `count` belongs to host: a load can read it or replace it, but not change it in its place, since a load that fails must leave nothing behind; change it after the load is published");
    let remove = |new: &Generation| new.vault().data_bag().remove("count").map(drop);
    assert_snapshot!(try_it(&remove), @"callback: `count` belongs to host; a load that is under way can remove only its own values");
    let replace = |new: &Generation| new.vault().extension().replace::<dyn Animal, _>("wolf", Wolf);
    assert_snapshot!(try_it(&replace), @"callback: `wolf` of `sample_api::Animal` is published: replace it after this load, since a load that fails must change nothing");
    let unregister =
        |new: &Generation| new.vault().extension().unregister::<dyn Animal>("wolf").map(drop);
    assert_snapshot!(try_it(&unregister), @"callback: `wolf` of `sample_api::Animal` is published: unregister it after this load, since a load that fails must change nothing");
    assert_eq!(vault.data_bag().get::<u32>("count").unwrap(), Some(1));

    // A value that the load has set itself may be changed and removed.
    let own = |new: &Generation| {
        let bag = new.vault().data_bag();
        bag.set("count", 10_u32)?;
        bag.update("count", || 0_u32, |count| *count += 1)
    };
    host.engine.reload_with((), |new, _| own(new)).unwrap();
    assert_eq!(vault.data_bag().get::<u32>("count").unwrap(), Some(11));
}

/// An animal of the host.
struct Wolf;

impl Animal for Wolf {
    fn speak(&self, _: u32) -> String {
        "howl".into()
    }
}

#[test]
fn a_callback_finds_registrations_of_its_load_and_its_own_are_undone_with_the_load() {
    let host = Host::with(&["shares"]);
    let owners = |generation: &Generation| -> Vec<String> {
        let animals = generation.registered::<dyn Animal>().unwrap();
        animals.iter().map(|animal| format!("{} of {}", animal.name, animal.owner)).collect()
    };
    let look = |fails: bool| {
        host.engine.reload_with((), |new, old| {
            assert_eq!(owners(old), ["parrot of shares v1"]);
            new.vault().extension().register::<dyn Animal, _>("wolf", Wolf)?;
            let version = new.plugin("shares")?.version();
            let expected = [format!("parrot of shares v{version}"), "wolf of host".to_owned()];
            assert_eq!(owners(new), expected);
            if fails { Err("not now".into()) } else { Ok::<_, Box<dyn StdError + Send + Sync>>(()) }
        })
    };
    host.plugins.install("shares", 2);
    assert_snapshot!(look(true).unwrap_err(), @"callback: not now");
    assert_eq!(owners(&host.engine.current()), ["parrot of shares v1"]);
    assert_snapshot!(look(false).unwrap(), @"shares: ok");
    assert_eq!(owners(&host.engine.current()), ["parrot of shares v3", "wolf of host"]);
}
