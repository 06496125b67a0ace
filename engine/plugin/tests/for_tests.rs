//! The Vault for tests: a function under test sees the same as with an engine.

use hotswap_plugin::{Carried, Vault, interface};

/// Something that rings.
#[interface]
pub trait Bell {
    /// Rings this many times.
    fn ring(&self, times: u32) -> String;
}

struct Brass;

impl Bell for Brass {
    fn ring(&self, times: u32) -> String {
        "ding ".repeat(times as usize)
    }
}

#[test]
fn values_are_kept_by_name_and_type() {
    let vault = Vault::for_tests();
    let bag = vault.data_bag();
    assert_eq!(bag.get::<u64>("visits").unwrap(), None);
    bag.update("visits", || 1_u64, |visits| *visits += 1).unwrap();
    assert_eq!(bag.get::<u64>("visits").unwrap(), Some(2));
    let error = bag.get::<String>("visits").unwrap_err();
    assert!(error.message().starts_with("`visits` has another type: "), "{error}");
    assert_eq!(bag.keys().unwrap(), ["visits"]);
    assert!(bag.remove("visits").unwrap() && !bag.remove("visits").unwrap());
    // Another Vault has other values; a clone has the same.
    vault.clone().data_bag().set("name", String::from("Ada")).unwrap();
    assert_eq!(vault.data_bag().get::<String>("name").unwrap().as_deref(), Some("Ada"));
    assert_eq!(Vault::for_tests().data_bag().keys().unwrap(), Vec::<String>::new());
}

#[test]
fn a_value_is_carried_that_the_test_has_set() {
    let vault = Vault::for_tests();
    let bag = vault.data_bag();
    assert_eq!(bag.carry("scores", || vec![0_u32]).unwrap(), Carried::New);
    assert_eq!(bag.carry("scores", || vec![1_u32]).unwrap(), Carried::Kept);
    assert_eq!(bag.get::<Vec<u32>>("scores").unwrap(), Some(vec![0]));
    bag.carry("scores", String::new).unwrap_err();
}

#[test]
fn a_closure_that_uses_its_own_value_gets_an_error() {
    let vault = Vault::for_tests();
    let bag = vault.data_bag();
    bag.set("x", 1_u32).unwrap();
    let inner = bag.modify("x", |_: &mut u32| bag.get::<u32>("x")).unwrap().expect("a value");
    assert_eq!(inner.unwrap_err().message(), "`x` is being used by a closure on this thread");
    bag.modify("x", |_: &mut u32| bag.set("x", 2_u32)).unwrap().expect("a value").unwrap_err();
    assert_eq!(bag.get::<u32>("x").unwrap(), Some(1));
}

#[test]
fn objects_are_found_by_interface_and_name() {
    let vault = Vault::for_tests();
    let extension = vault.extension();
    extension.register::<dyn Bell, _>("door", Brass).unwrap();
    extension.register::<dyn Bell, _>("door", Brass).unwrap_err();
    extension.replace::<dyn Bell, _>("door", Brass).unwrap();
    let bell = extension.find::<dyn Bell>("door").unwrap().expect("a bell");
    assert!(extension.unregister::<dyn Bell>("door").unwrap());
    assert_eq!(
        (bell.ring(2).as_str(), extension.names::<dyn Bell>().unwrap().len()),
        ("ding ding ", 0)
    );
    assert!(extension.find::<dyn Bell>("door").unwrap().is_none());
    vault.live().call("live_fire", &[]).unwrap_err();
}
