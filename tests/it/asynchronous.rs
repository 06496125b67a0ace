//! Calls of `async` functions.

use std::thread;

use hotswap_engine::{
    args,
    protocol::{ErrorKind, VersionState},
};

use insta::assert_snapshot;

use crate::support::{Gate, Host, PATIENCE, PluginDir, held_by, renamed};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

#[test]
fn an_async_function_can_be_awaited_or_called_blocking() {
    let host = Host::with(&["waits"]);
    let waits = host.engine.plugin("waits").unwrap();
    let answer: String = waits.invoke("at_once", args!["waited for"]).unwrap();
    assert_eq!(answer, "waited for of revision 1");
    let awaited = runtime().block_on(waits.invoke_async("at_once", args!["awaited"]));
    let answer: String = awaited.unwrap();
    assert_eq!(answer, "awaited of revision 1");
}

#[test]
fn the_time_of_an_async_call_lasts_until_its_future_ends() {
    let host = Host::with(&["waits"]);
    let p50 = || {
        let waits = host.engine.snapshot().plugins.remove(0);
        let later = waits.functions.into_iter().find(|function| function.name == "later");
        later.unwrap().latency_us_p50
    };
    let gate = Gate::new();
    thread::scope(|scope| {
        let waits = host.engine.plugin("waits").unwrap();
        let path = gate.path().to_owned();
        scope.spawn(move || waits.invoke::<u32>("later", args![path]).unwrap());
        let waiting = gate.arrival();
        assert_eq!(p50(), None, "a call that has not ended is not timed");
        waiting.release();
    });
    assert!(p50().is_some());
}

#[test]
fn a_call_ends_on_the_version_on_which_it_began() {
    let host = Host::with(&["waits"]);
    let gate = Gate::new();
    let runtime = runtime();
    let (engine, path) = (host.engine.clone(), gate.path().to_owned());
    let call = runtime.spawn(async move {
        let waits = engine.plugin("waits").unwrap();
        waits.invoke_async::<u32>("later", args![path]).await.unwrap()
    });
    let waiting = gate.arrival();
    host.plugins.install("waits", 2);
    host.reload();
    let old = host.wait_for("waits", 1, VersionState::Retired);
    assert!(held_by(&old.holders[..1], &["call of later, "]), "{:?}", old.holders);
    waiting.release();
    assert_eq!(runtime.block_on(call).unwrap(), 1);
    drop(runtime);
    host.wait_for("waits", 1, VersionState::Freed);
}

#[test]
fn a_live_call_ends_on_the_version_on_which_it_began() {
    let host = Host::with(&["waits"]);
    let live_later = |gate: &Gate| {
        let answer = host.engine.vault().live().call("live_later", args![gate.path()]);
        answer.unwrap().to::<u32>().unwrap()
    };
    let (before, after) = (Gate::new(), Gate::new());
    thread::scope(|scope| {
        let old = scope.spawn(|| live_later(&before));
        let waiting = before.arrival();
        host.plugins.install("waits", 2);
        host.reload();
        host.wait_for("waits", 1, VersionState::Retired);
        let new = scope.spawn(|| live_later(&after));
        after.arrival().release();
        assert_eq!(new.join().unwrap(), 2);
        waiting.release();
        assert_eq!(old.join().unwrap(), 1);
    });
    host.wait_for("waits", 1, VersionState::Freed);
}

#[test]
fn a_call_that_is_dropped_is_cancelled() {
    let host = Host::with(&["waits"]);
    let gate = Gate::new();
    let runtime = runtime();
    let (engine, path) = (host.engine.clone(), gate.path().to_owned());
    let call = runtime.spawn(async move {
        let waits = engine.plugin("waits").unwrap();
        waits.invoke_async::<u32>("later", args![path]).await
    });
    let waiting = gate.arrival();
    call.abort();
    assert!(runtime.block_on(call).unwrap_err().is_cancelled());
    host.plugins.install("waits", 2);
    host.reload();
    // The thread that the call started still runs.
    let old = host.wait_until("waits", 1, |info| held_by(&info.holders, &["thread \""]));
    assert_eq!(old.state, VersionState::Retired);
    waiting.release();
    drop(runtime);
    host.wait_for("waits", 1, VersionState::Freed);
}

#[test]
fn a_blocking_caller_waits_for_the_end() {
    let host = Host::with(&["waits"]);
    let gate = Gate::new();
    thread::scope(|scope| {
        let call = scope.spawn(|| {
            let waits = host.engine.plugin("waits").unwrap();
            waits.invoke::<u32>("later", args![gate.path()]).unwrap()
        });
        gate.arrival().release();
        assert_eq!(call.join().unwrap(), 1);
    });
}

#[test]
fn a_panic_in_a_poll_ends_in_the_plugin() {
    let host = Host::with(&["waits"]);
    let waits = host.engine.plugin("waits").unwrap();
    let error = runtime().block_on(waits.invoke_async::<()>("explode", args!["boom"])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panic);
    assert!(error.message().ends_with(": boom"), "{}", error.message());
    let error = host.engine.vault().live().call("explode", args!["live boom"]).unwrap_err();
    assert!(error.message().ends_with(": live boom"), "{}", error.message());
}

#[test]
fn an_async_function_is_called_with_rust_types() {
    let host = Host::with(&["waits", "echo"]);
    let at_once = host.engine.async_func::<fn(String) -> String>("waits", "at_once").unwrap();
    let runtime = runtime();
    let answer = runtime.block_on(at_once.call("Ada".into())).unwrap();
    assert_eq!(answer, "Ada of revision 1");
    // The handle can be used on another thread, and follows each reload.
    let spawned = runtime.spawn(at_once.call("Bob".into()));
    assert_eq!(runtime.block_on(spawned).unwrap().unwrap(), "Bob of revision 1");
    host.plugins.install("waits", 2);
    host.reload();
    assert_eq!(runtime.block_on(at_once.call("Ada".into())).unwrap(), "Ada of revision 2");

    let error = host.engine.func::<fn(String) -> String>("waits", "at_once").unwrap_err();
    assert_snapshot!(error, @"waits v2: at_once: `at_once(name: String) -> String`: it is async; call it with `Engine::async_func`");
    let error = host.engine.async_func::<fn(i32, i32) -> i32>("echo", "add").unwrap_err();
    assert_snapshot!(error, @"echo v1: add: `add(a: i32, b: i32) -> i32`: it is not async; call it with `Engine::func`");
    let error = host.engine.async_func::<fn(u32) -> String>("waits", "at_once").unwrap_err();
    assert_snapshot!(error, @"waits v2: at_once: its signature is `(name: String) -> String`, but `fn(u32) -> alloc::string::String` is expected: found `(alloc::string::String,)`, expected `(u32,)`");
    host.plugins.write("waits", &renamed("by-hand", "waits"));
    assert_snapshot!(host.refused_reload(), @"waits: host_expects: the host calls `at_once` as `async fn(String) -> String`: there is no such function, and no other; rebuild and restart the host, or undo the change");
}

#[test]
fn a_typed_call_ends_on_the_version_on_which_it_began_and_then_releases_it() {
    let host = Host::with(&["waits"]);
    let later = host.engine.async_func::<fn(String) -> u32>("waits", "later").unwrap();
    let (gate, runtime) = (Gate::new(), runtime());
    let path = gate.path().to_owned();
    let call = runtime.spawn(later.call(path));
    let waiting = gate.arrival();
    host.plugins.install("waits", 2);
    host.reload();
    let old = host.wait_for("waits", 1, VersionState::Retired);
    assert!(held_by(&old.holders[..1], &["call of later, "]), "{:?}", old.holders);
    waiting.release();
    assert_eq!(runtime.block_on(call).unwrap().unwrap(), 1);
    drop(runtime);
    host.wait_for("waits", 1, VersionState::Freed);

    // A call holds its version as soon as it is created, even before it is polled.
    let call = later.call("nowhere".into());
    host.plugins.install("waits", 3);
    host.reload();
    let old = host.wait_for("waits", 2, VersionState::Retired);
    assert!(held_by(&old.holders, &["call of later, "]), "{:?}", old.holders);
    drop(call);
    host.wait_for("waits", 2, VersionState::Freed);
}

#[test]
fn a_typed_async_call_reports_errors_like_a_call_by_name() {
    let host = Host::with(&["waits"]);
    let explode = host.engine.async_func::<fn(String) -> ()>("waits", "explode").unwrap();
    let later = host.engine.async_func::<fn(String) -> u32>("waits", "later").unwrap();
    let runtime = runtime();
    let error = runtime.block_on(explode.call("boom".into())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panic);
    assert!(error.message().ends_with(": boom"), "{}", error.message());
    let error = runtime.block_on(later.call("/nowhere/at/all".into())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PluginError);
    let failures = host.info("waits", 1).unwrap().failures;
    assert_eq!((failures.errors, failures.panics), (1, 1));
    host.plugins.remove("waits");
    host.prune();
    let error = runtime.block_on(later.call("/nowhere".into())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownPlugin);
}

#[test]
fn tasks_run_on_the_hosts_runtime_and_are_cancelled_with_their_version() {
    let runtime = runtime();
    let handle = runtime.handle().clone();
    let host = Host::new(PluginDir::of(&["tasks"]), |builder| builder.tokio(handle));
    host.reload();
    let tasks = host.engine.plugin("tasks").unwrap();
    tasks.invoke::<()>("started", args![]).unwrap();
    let said: String = tasks.invoke("sleep_and_say", args!["hello"]).unwrap();
    assert_eq!(said, "hello, slept");
    let ticks = || host.engine.vault().data_bag().get::<u64>("ticks").unwrap().unwrap_or_default();
    while ticks() < 3 {
        thread::yield_now();
    }
    drop(tasks);
    host.plugins.install("tasks", 2);
    host.reload();
    host.wait_for("tasks", 1, VersionState::Freed);
    assert_eq!(host.mapped().len(), 1);
}

#[test]
fn a_task_that_panics_or_blocks_affects_no_other_task() {
    let runtime = runtime();
    let handle = runtime.handle().clone();
    let host = Host::new(PluginDir::of(&["tasks"]), |builder| builder.tokio(handle));
    host.reload();
    let tasks = host.engine.plugin("tasks").unwrap();
    let error = tasks.invoke::<()>("panic_in_task", args![]).unwrap_err();
    assert_eq!(error.message(), "the task was cancelled or panicked");

    let gate = Gate::new();
    tasks.invoke::<()>("block", args![gate.path()]).unwrap();
    let waiting = gate.arrival();
    drop(tasks);
    host.plugins.install("tasks", 2);
    host.reload();
    host.wait_until("tasks", 1, |info| held_by(&info.holders, &["task "]));
    waiting.release();
    host.wait_for("tasks", 1, VersionState::Freed);
}

#[test]
fn without_a_runtime_tasks_are_an_error() {
    let host = Host::with(&["tasks"]);
    let tasks = host.engine.plugin("tasks").unwrap();
    let error = tasks.invoke::<()>("started", args![]).unwrap_err();
    assert_eq!(
        error.message(),
        "the host has given its engine no runtime (`EngineBuilder::tokio`)"
    );
}

#[test]
fn a_plugin_may_have_its_own_tokio_runtime() {
    let host = Host::with(&["own-tokio"]);
    let beats = || host.engine.vault().data_bag().get::<u64>("beats").unwrap().unwrap();
    while beats() < 3 {
        thread::yield_now();
    }
    let gate = Gate::new();
    thread::scope(|scope| {
        let call = scope.spawn(|| {
            let own = host.engine.plugin("own-tokio").unwrap();
            own.invoke::<String>("read", args![gate.path()]).unwrap()
        });
        let waiting = gate.arrival();
        host.plugins.install("own-tokio", 2);
        host.reload();
        // Two workers, and the call that waits until one of them has read.
        let old = host.wait_for("own-tokio", 1, VersionState::Retired);
        let threads = old.holders.iter().filter(|holder| holder.contains("tokio-rt-worker"));
        assert_eq!(threads.count(), 2, "{:?}", old.holders);
        waiting.release();
        assert_eq!(call.join().unwrap(), "");
    });
    host.wait_for("own-tokio", 1, VersionState::Freed);
    assert_eq!(host.mapped().len(), 1);
    let before = beats();
    while beats() == before {
        thread::yield_now();
    }
    let report = host.engine.shutdown(PATIENCE);
    assert_eq!(report.held, []);
}
