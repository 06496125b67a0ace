//! A value that crosses belongs completely to the image that uses it, or nobody uses it. If the conversion panics,
//! the value is dropped while its maker is still loaded.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use hostile_api::{Fickle, Maps, let_hashes_panic};
use hotswap_engine::{
    Leased, args,
    protocol::{ErrorKind, VersionState::Freed},
};

use crate::support::{Host, in_own_process};

type Map = HashMap<Fickle, HashMap<String, u32>>;

fn free_plugin(host: &Host) {
    host.plugins.remove("fickle");
    host.prune();
    host.wait_for("fickle", 1, Freed);
    assert!(host.mapped().is_empty());
}

fn maps(host: &Host) -> Leased<dyn Maps> {
    host.engine.current().registered::<dyn Maps>().unwrap().remove(0).object
}

#[test]
fn a_value_that_crosses_inside_another_outlives_its_maker() {
    let end = in_own_process(|| {
        let host = Host::with(&["fickle"]);
        let mut made = host.engine.func::<fn() -> Map>("fickle", "make").unwrap().call().unwrap();
        let mut of_object = maps(&host).make();
        let mut within = maps(&host).maybe().unwrap().unwrap();
        free_plugin(&host);
        for map in [&mut made, &mut of_object] {
            let inner = map.get_mut(&Fickle(3)).unwrap();
            assert_eq!(inner.remove("x"), None);
            inner.insert("x".into(), 1);
        }
        within.insert("x".into(), 1);
        println!("used");
    });
    assert!(end.output.contains("used"), "{:?} {}", end.status, end.output);
}

#[test]
fn a_result_that_cannot_be_used_here_is_an_error() {
    let end = in_own_process(|| {
        let host = Host::with(&["fickle"]);
        let make = host.engine.func::<fn() -> Map>("fickle", "make").unwrap();
        make.call().unwrap();
        let_hashes_panic();
        for _ in 0..4 {
            let error = make.call().unwrap_err();
            assert!(error.message().contains("not hashed here"), "{error}");
        }
        let object = maps(&host);
        catch_unwind(AssertUnwindSafe(|| object.make()))
            .expect_err("a panic while the host converts the result reaches the caller");
        drop(object);
        free_plugin(&host);
        println!("freed");
    });
    assert!(end.output.contains("freed"), "{:?} {}", end.status, end.output);
}

#[test]
fn an_argument_that_cannot_be_used_there_is_an_error() {
    let end = in_own_process(|| {
        let host = Host::with(&["fickle"]);
        let take = host.engine.func::<fn(Map) -> u64>("fickle", "take").unwrap();
        let map = || Map::from([(Fickle(1), HashMap::new()), (Fickle(2), HashMap::new())]);
        assert_eq!(take.call(map()).unwrap(), 2);
        let object = maps(&host);
        assert_eq!(object.take("two", map()), 5);
        host.engine.invoke::<()>("fickle", "break_hashes", args![]).unwrap();
        assert_eq!(take.call(map()).unwrap_err().kind(), ErrorKind::Panic);
        catch_unwind(AssertUnwindSafe(|| object.take("", map())))
            .expect_err("a panic while the plugin converts the argument reaches the caller");
        drop(object);
        free_plugin(&host);
        println!("freed");
    });
    assert!(end.output.contains("freed"), "{:?} {}", end.status, end.output);
}

#[test]
fn a_map_keeps_its_capacity() {
    let mut map: HashMap<String, u32> = HashMap::with_capacity(100);
    let room = map.capacity();
    hotswap_plugin::Shared::rehome(&mut map);
    assert_eq!(map.capacity(), room);
    let mut map: Map = HashMap::with_capacity(100);
    map.insert(Fickle(1), HashMap::new());
    hotswap_plugin::Shared::rehome(&mut map);
    assert_eq!((map.capacity() >= 100, map.len()), (true, 1));
}
