//! Threads of C code may leave their stacks without returning from them, and the destructors of thread-locals may use
//! the engine.

use std::{cell::RefCell, sync::mpsc::channel, thread, time::Duration};

use hotswap_engine::{
    Engine, args,
    protocol::VersionState::{Freed, Pinned},
};

use crate::support::{Host, PluginDir, in_own_process};

#[test]
fn a_thread_that_ends_with_pthread_exit_releases_its_version() {
    let end = in_own_process(|| {
        let host = Host::with(&["exits-thread"]);
        assert_eq!(host.engine.invoke::<i32>("exits-thread", "start", args![]).unwrap(), 0);
        host.plugins.install("exits-thread", 2);
        host.reload();
        println!("{}", host.wait_for("exits-thread", 1, Freed).detail);
        println!("held: {:?}", host.engine.shutdown(Duration::from_secs(10)).held);
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("its thread-local was dropped"), "{}", end.output);
    assert!(end.output.contains("held: []"), "{}", end.output);
}

#[test]
fn a_thread_local_of_a_plugin_may_write_a_value_when_it_is_dropped() {
    let host = Host::with(&["threads"]);
    let vault = host.engine.vault();
    vault.data_bag().set("count", 0_u32).unwrap();
    for number in [1, 3] {
        let engine = host.engine.clone();
        let count = || engine.invoke::<u32>("threads", "count_twice", args![]);
        let counted = thread::scope(|scope| scope.spawn(count).join().expect("the thread ends"));
        assert_eq!(counted.expect("it counts"), number);
    }
    let counted = || vault.data_bag().get::<u32>("count").unwrap();
    assert_eq!(counted(), Some(4));

    // A thread that uses a value does not run such code meanwhile.
    let (replaced, is_replaced) = channel();
    let (used, is_used) = channel();
    thread::scope(|scope| {
        let (vault, engine) = (&vault, &host.engine);
        scope.spawn(move || {
            used.send(engine.invoke::<u32>("threads", "count_twice", args![])).unwrap();
            is_replaced.recv().unwrap();
            let call = |_: &mut u32| engine.invoke::<String>("threads", "use_std", args![]);
            vault.data_bag().update("count", || 0, call).unwrap().unwrap();
        });
        assert_eq!(is_used.recv().unwrap().expect("it counts"), 5);
        host.plugins.install("threads", 2);
        host.reload();
        host.wait_for("threads", 1, Pinned);
        replaced.send(()).unwrap();
    });
    assert_eq!(counted(), Some(6));
}

#[test]
fn a_thread_local_of_a_host_may_use_and_drop_the_engine_when_it_is_dropped() {
    struct AtEnd(Engine);
    impl Drop for AtEnd {
        fn drop(&mut self) {
            let Self(engine) = self;
            println!("call: {:?}", engine.invoke::<String>("threads", "use_std", args![]).is_ok());
            let vault = engine.vault();
            let written = vault.data_bag().update("count", || 0_u32, |count| *count += 1);
            println!("value: {written:?}");
            println!("reload: {:?}", engine.reload().is_ok());
        }
    }
    thread_local! {
        static AT_END: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
    }
    let end = in_own_process(|| {
        let dir = PluginDir::of(&["threads"]);
        let engine = Engine::builder(dir.path()).build().unwrap();
        thread::spawn(|| {
            // The engine's own thread-locals are made after this one, and dropped before it.
            AT_END.with_borrow_mut(|end| *end = Some(AtEnd(engine.clone())));
            engine.load(()).unwrap();
            engine.vault().data_bag().set("count", 1_u32).unwrap();
            drop(engine);
        })
        .join()
        .expect("the thread ends");
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    for line in ["call: true", "value: Ok(())", "reload: true"] {
        assert!(end.output.contains(line), "{line}: {}", end.output);
    }
}
