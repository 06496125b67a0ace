//! Panics in the code of a plugin end on the plugin's own side, with any payload, even if the drop of the payload
//! panics.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::{Context, Waker},
};

use hotswap_engine::{
    Data, Value, args,
    protocol::{ErrorKind, VersionState::Freed},
};
use sample_api::Animal;

use crate::support::{Host, PATIENCE, in_own_process};

fn panics_in_calls(host: &Host) {
    for function in ["throw", "fail", "log", "throw_error", "throw_later"] {
        let error = host.engine.invoke::<()>("bombs", function, args![]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panic, "{error}");
    }
    assert!(host.engine.invoke::<bool>("bombs", "throw_error_elsewhere", args![]).unwrap());
    for function in ["throw", "fail", "log", "throw_error"] {
        let func = host.engine.func::<fn() -> ()>("bombs", function).unwrap();
        assert_eq!(func.call().unwrap_err().kind(), ErrorKind::Panic);
    }
    let live = host.engine.live_funcs::<fn() -> ()>();
    assert_eq!(live.call("live_throw", ()).unwrap_err().kind(), ErrorKind::Panic);
    host.engine.vault().live().call("live_throw", args![]).unwrap_err();
    let data = Data::named("LiveBomb", Value::Null);
    host.engine.vault().live().renew(&data).unwrap_err();
}

fn large_texts(host: &Host) {
    let call = |function: &str, much: usize| {
        host.engine.invoke::<Value>("bombs", function, args![much]).map_err(|it| it.to_string())
    };
    let error = call("resume", 0);
    assert_eq!(error.unwrap_err(), "bombs v1: resume: expected 0 arguments, found 1: () -> ()");
    let error = host.engine.invoke::<()>("bombs", "resume", args![]).unwrap_err();
    assert!(error.message().starts_with("panicked at an unknown place: "), "{error}");
    // A caller gets the whole text. The state of the host has only the beginning.
    assert!(call("throw_much", 6_000_000).unwrap_err().len() > 6_000_000);
    let error = call("name_much", 2_000_000).unwrap_err();
    assert!(error.contains("a name can have at most 1024 bytes: `xxx"), "{error}");
    let reported = serde_json::to_string(&host.engine.snapshot()).unwrap();
    assert!(reported.len() < 100_000 && reported.contains("… (6000"), "{} bytes", reported.len());
    // A value that is nested too deeply for the stack is refused before it can end the process.
    call("nest", 90).unwrap();
    let error = call("nest", 1_000_000).unwrap_err();
    assert_eq!(error, "bombs v1: nest: it is nested more than 100 levels deep");
    let error = host.engine.invoke::<Value>("bombs", "overflow", args![]).unwrap_err().to_string();
    assert!(error.starts_with("bombs v1: overflow: it takes more than 1024 MiB; "), "{error}");
}

fn dropped_future(host: &Host) {
    let bombs = host.engine.plugin("bombs").unwrap();
    let mut call = Box::pin(bombs.invoke_async::<()>("wait", args![]));
    let poll = pin!(call.as_mut()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll.is_pending());
}

fn panic_of_an_object(host: &Host) {
    let objects = host.engine.current().registered::<dyn Animal>().unwrap();
    let speak = || objects[0].object.speak(1);
    catch_unwind(AssertUnwindSafe(speak))
        .expect_err("a panic of an object's method reaches the caller");
}

#[test]
fn every_end_of_a_plugin_may_panic() {
    let end = in_own_process(|| {
        tracing_subscriber::fmt().init();
        let host = Host::with(&["bombs"]);
        panics_in_calls(&host);
        large_texts(&host);
        dropped_future(&host);
        panic_of_an_object(&host);
        let vault = host.engine.vault_snapshot();
        assert_eq!(
            vault.data_bag.len(),
            1,
            "a value that cannot be serialised is listed without its contents"
        );
        host.plugins.install("bombs", 2);
        host.reload();
        host.wait_for("bombs", 1, Freed);
        assert!(host.engine.shutdown(PATIENCE).held.is_empty());
        println!("the host continues");
    });
    assert!(end.output.contains("the host continues"), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("last words of 1 place(s)"), "{}", end.output);
    let dropped = "its drop panicked at tests/fixtures/bombs/src/lib.rs:";
    assert!(end.output.contains(dropped), "{}", end.output);
}

/// The host's own code may panic in the engine with any payload.
#[test]
fn the_hosts_code_may_panic_with_anything() {
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in the drop of a bomb");
        }
    }

    let end = in_own_process(|| {
        let host = Host::with(&["echo"]);
        host.plugins.install("echo", 2);
        let error = host
            .engine
            .reload_with((), |_, _| -> Result<(), std::fmt::Error> { std::panic::panic_any(Bomb) });
        println!("{}", error.unwrap_err());
        host.reload();
        println!("the host continues");
    });
    assert!(end.output.contains("the host's callback panicked: "), "{}", end.output);
    assert!(end.output.contains("the host continues"), "{:?} {}", end.status, end.output);
}
