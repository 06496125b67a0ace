//! Plugins that are linked into the host: the same sources, without artifacts.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use chat_api::{Chat, Listener, Session};
use futures::{StreamExt as _, stream};
use hotswap_engine::{
    ConsoleSocket, Data, Engine, EngineBuilder, EngineError, Leased, Leftover, StaticPlugin, Value,
    args,
    plugin::LeasedStream,
    protocol::{ErrorKind, KeepKind, VersionInfo, VersionState},
    static_plugins,
};
use insta::assert_snapshot;
use sample_api::{Alpha, Animal};
use serde_json::json;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::{
    socket::Client,
    support::{Gate, PATIENCE, keep_reason},
};

/// An engine with linked plugins. Only one exists at a time, because log records of a plugin go to the engine that
/// loaded it last.
struct Linked {
    engine: Engine,
    _alone: MutexGuard<'static, ()>,
}

impl Linked {
    fn with(plugins: impl IntoIterator<Item = &'static StaticPlugin>) -> Self {
        let linked = Self::new(plugins, |builder| builder);
        linked.engine.load(()).unwrap();
        linked
    }

    fn new(
        plugins: impl IntoIterator<Item = &'static StaticPlugin>,
        settings: impl FnOnce(EngineBuilder) -> EngineBuilder,
    ) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let engine = settings(Engine::builder_static(plugins)).build().unwrap();
        Self { engine, _alone: alone }
    }

    fn version(&self, plugin: &str) -> VersionInfo {
        let plugins = self.engine.snapshot().plugins.into_iter();
        let plugin = plugins.into_iter().find(|info| info.name == plugin);
        plugin.expect("the plugin").versions.remove(0)
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        assert_eq!(self.engine.shutdown(PATIENCE).held, []);
    }
}

#[test]
fn linked_plugins_are_called_like_loaded_ones() {
    let host = Linked::with(static_plugins![echo, by_hand]);
    let echo = host.engine.plugin("ECHO").unwrap();
    assert_eq!(echo.invoke::<i32>("add", args![2, -5]).unwrap(), -3);
    let add = host.engine.func::<fn(i32, i32) -> i32>("echo", "add").unwrap();
    assert_eq!(add.call(40, 2).unwrap(), 42);
    let by_hand = host.engine.plugin("by-hand").unwrap();
    assert_eq!(by_hand.invoke::<usize>("count", args![1, "two"]).unwrap(), 2);
    let error = echo.invoke::<()>("fail", args![]).unwrap_err();
    assert_eq!(error.causes(), ["invalid digit found in string"]);
    let answers = host.engine.current().invoke_each("revision", args![]);
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[test]
fn a_panic_is_caught_and_reported_with_its_place() {
    let host = Linked::with(static_plugins![echo]);
    let echo = host.engine.plugin("echo").unwrap();
    let error = echo.invoke::<()>("explode", args!["oh no"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panic);
    let message = error.message();
    assert!(message.starts_with("panicked at tests/fixtures/echo/src/lib.rs:"), "{message}");
    assert!(message.ends_with(": oh no"), "{message}");
    assert_eq!(echo.invoke::<i32>("add", args![1, 1]).unwrap(), 2);
}

#[test]
fn declarations_of_the_plugins_of_one_program_stay_separate() {
    let host = Linked::with(static_plugins![echo, gives, lives, takes]);
    let plugins = host.engine.snapshot().plugins;
    let functions = plugins.iter().map(|plugin| {
        let names = plugin.functions.iter().map(|function| function.name.as_str());
        format!("{}: {}", plugin.name, names.collect::<Vec<_>>().join(", "))
    });
    assert_snapshot!(functions.collect::<Vec<_>>().join("\n"), @r"
    echo: add, explode, fail, hold, post, repeat, revision
    gives: 
    lives: live_fire, relay, revision, task_count
    takes: taken, taken_late
    ");
    let revision = |plugin: &str| {
        host.engine.plugin(plugin).unwrap().invoke::<u32>("revision", args![]).unwrap()
    };
    assert_eq!((revision("echo"), revision("lives")), (1, 1));
    let live = host.engine.live_snapshot();
    let types: Vec<_> = live.types.iter().map(|live| live.name.as_str()).collect();
    assert_eq!(types, ["LiveFire"]);
    let taken: (u32, Option<u32>) =
        host.engine.plugin("takes").unwrap().invoke("taken", args![]).unwrap();
    assert_eq!(taken, (1, None));
}

#[test]
fn linked_plugins_have_the_vault_and_live_functions() {
    let host = Linked::with(static_plugins![lives, shares]);
    let shares = host.engine.plugin("shares").unwrap();
    assert_eq!(shares.invoke::<u64>("count", args![]).unwrap(), 1);
    let vault = host.engine.vault();
    assert_eq!(vault.data_bag().get::<u64>("count").unwrap(), Some(1));
    assert_eq!(host.engine.vault_snapshot().data_bag[0].owner, "shares v1");
    let animals = host.engine.current().registered::<dyn Animal>().unwrap();
    assert_eq!(animals[0].object.speak(1), "squawk");
    let job = Data::named("LiveFire", Value::from(json!({"rounds": 3})));
    let done = vault.live().call("live_fire", &[job.value().clone()]).unwrap();
    assert_eq!(done.to::<String>().unwrap(), "3 rounds");
}

#[test]
fn a_reload_says_that_the_host_runs_statically_linked() {
    let host = Linked::with(static_plugins![echo]);
    let error = host.engine.reload().unwrap_err();
    assert!(matches!(error, EngineError::StaticallyLinked));
    assert_snapshot!(error, @"the plugins of this host are linked into it, so they cannot be replaced; to replace plugins, start the host with a directory of artifacts (`Engine::builder`)");
    assert!(matches!(host.engine.reload_latest(), Err(EngineError::StaticallyLinked)));
    assert!(matches!(host.engine.rollback("echo@1"), Err(EngineError::StaticallyLinked)));
    assert!(matches!(host.engine.plan(false), Err(EngineError::StaticallyLinked)));
    let refused = host.engine.reload_with((), |_, _| Ok::<_, std::convert::Infallible>(()));
    assert!(matches!(refused, Err(EngineError::StaticallyLinked)));
    assert_eq!(host.engine.plugin("echo").unwrap().invoke::<i32>("add", args![1, 2]).unwrap(), 3);
    assert_eq!(host.engine.reload_count(), 0);
    // Its allocations count for the program, and not for the version.
    assert_eq!(host.engine.snapshot().plugins[0].versions[0].heap_bytes, None);
}

#[test]
fn linked_plugins_end_with_their_engine_and_begin_anew_with_another() {
    {
        let host = Linked::with(static_plugins![shares]);
        host.engine.plugin("shares").unwrap().invoke::<u64>("count", args![]).unwrap();
        assert_eq!(host.version("shares").detail, "active: linked into this program");
        assert_eq!(host.engine.shutdown(PATIENCE).held, []);
        let ended = host.version("shares");
        assert_eq!(ended.state, VersionState::Kept);
        assert_eq!(ended.detail, "kept: it is linked into this program");
        assert_eq!(keep_reason(&ended).kind, KeepKind::Linked);
    }
    let host = Linked::with(static_plugins![shares]);
    let shares = host.engine.plugin("shares").unwrap();
    assert_eq!(shares.invoke::<u64>("count", args![]).unwrap(), 1);
}

#[test]
fn each_engine_has_an_instance_of_a_linked_plugin_for_itself() {
    let host = Linked::with(static_plugins![shares]);
    let count = |engine: &Engine| -> u64 {
        engine.invoke("shares", "count", args![]).expect("the plugin serves")
    };
    assert_eq!((count(&host.engine), count(&host.engine)), (1, 2));
    let second = Engine::builder_static(static_plugins![shares]).build().unwrap();
    second.load(()).unwrap();
    assert_eq!((count(&second), count(&host.engine)), (1, 3));
    assert_eq!(second.shutdown(PATIENCE).held, []);
    assert_eq!(count(&host.engine), 4);
}

#[test]
fn a_load_that_fails_is_undone_and_can_be_tried_again() {
    let host = Linked::new(static_plugins![echo, fail_on_init], |builder| builder);
    for _ in 1..=2 {
        let error = host.engine.load(()).unwrap_err();
        insta::allow_duplicates! { assert_snapshot!(error, @"fail-on-init: on_init: reading the settings"); }
        assert_eq!(host.engine.current().names().count(), 0);
        while host.version("echo").state != VersionState::Kept
            || host.version("fail-on-init").state != VersionState::Kept
        {
            thread::yield_now();
        }
    }
}

#[test]
fn the_host_may_choose_among_the_linked_plugins() {
    let host = Linked::new(static_plugins![echo, by_hand], |builder| builder.only(["Echo"]));
    assert_snapshot!(host.engine.load(()).unwrap(), @"echo: added");
    drop(host);
    let host = Linked::new(static_plugins![echo, by_hand], |builder| builder.only(["ghost"]));
    assert_snapshot!(host.engine.load(()).unwrap_err(), @"ghost: find: the host asks for it; this program has only these plugins linked in: echo, by-hand");
    drop(host);
    let host = Linked::new(static_plugins![echo], |builder| builder.only(["ghost", "spook"]));
    assert_snapshot!(host.engine.load(()).unwrap_err(), @"ghost: find: the host asks for ghost, spook; this program has only these plugins linked in: echo");
    drop(host);
    let host = Linked::new(static_plugins![echo, echo], |builder| builder);
    assert_snapshot!(host.engine.load(()).unwrap_err(), @"echo: find: two plugins of this name are linked into this program; rename one, or list it only once");
}

#[test]
fn tasks_belong_to_the_plugin_that_started_them() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let handle = runtime.handle().clone();
    // `waits` is attached last, but the tasks belong to `tasks`.
    let host = Linked::new(static_plugins![tasks, waits], |builder| builder.tokio(handle));
    host.engine.load(()).unwrap();
    let tasks = host.engine.plugin("tasks").unwrap();
    tasks.invoke::<()>("started", args![]).unwrap();
    let said: String = tasks.invoke("sleep_and_say", args!["hello"]).unwrap();
    assert_eq!(said, "hello, slept");
    let error = tasks.invoke::<()>("panic_in_task", args![]).unwrap_err();
    assert_eq!(error.message(), "the task was cancelled or panicked");
    let gate = Gate::new();
    tasks.invoke::<()>("block", args![gate.path()]).unwrap();
    let waiting = gate.arrival();
    drop(tasks);
    // The other tasks are cancelled; the runtime drops them later.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = host.engine.shutdown(Duration::from_millis(1));
        let holders = report.held.iter().flat_map(|left| match left {
            Leftover::Version { holders, .. } => holders.as_slice(),
            _ => &[],
        });
        let tasks: Vec<_> = holders.filter_map(|holder| holder.task.as_deref()).collect();
        if tasks == ["blocking"] {
            break;
        }
        assert!(Instant::now() < deadline, "{report}");
    }
    waiting.release();
}

#[test]
fn tasks_of_calls_with_rust_types_belong_to_the_engine_that_was_called() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let handle = runtime.handle().clone();
    let host = Linked::new(static_plugins![tasks], |builder| builder.tokio(handle));
    host.engine.load(()).unwrap();
    // It is attached last, and has no runtime.
    let second = Engine::builder_static(static_plugins![tasks]).build().unwrap();
    second.load(()).unwrap();
    let say = host.engine.async_func::<fn(String) -> String>("tasks", "sleep_and_say").unwrap();
    assert_eq!(runtime.block_on(say.call("hello".into())).unwrap(), "hello, slept");
    let gate = Gate::new();
    let block = host.engine.func::<fn(String) -> ()>("tasks", "block").unwrap();
    block.call(gate.path().into()).unwrap();
    gate.arrival().release();
    assert_eq!(second.shutdown(PATIENCE).held, []);
}

#[test]
fn a_console_sees_which_plugin_wrote_a_log_record() {
    let dir = tempfile::tempdir().unwrap();
    let socket = ConsoleSocket::at(dir.path().join("socket"));
    let host = Linked::new(static_plugins![threads], |builder| builder.console(Some(socket)));
    host.engine.load(()).unwrap();
    let mut client = Client::greeted(&host.engine.snapshot().host.socket);
    client.ask(2, "subscribe", json!({"logs": true}));
    let log = tracing_subscriber::registry().with(hotswap_engine::console_layer());
    tracing::subscriber::with_default(log, || {
        host.engine.plugin("threads").unwrap().invoke::<String>("use_std", args![]).unwrap();
    });
    let record = std::iter::from_fn(|| client.receive())
        .find(|line| line["params"]["message"] == "logged by a plugin")
        .expect("the record")["params"]
        .take();
    assert_eq!((&record["plugin"], &record["version"]), (&json!("threads"), &json!(1)));
}

/// A listener that ignores every line.
struct Quiet;

impl Listener for Quiet {
    fn hear(&self, _: String) {}
}

#[test]
fn objects_and_services_cross_as_between_images() {
    let linked = Linked::new(static_plugins![chats, takes], |builder| {
        builder.provide::<dyn Alpha, _>("gives", Thousand)
    });
    linked.engine.load(()).unwrap();
    let chat = linked.engine.plugin("chats").unwrap().export::<dyn Chat>().unwrap().unwrap();
    let session = chat.join(Box::new(Quiet));
    assert_eq!(session.say("Good day."), 1);
    let join =
        linked.engine.func::<fn(Leased<dyn Listener>) -> Leased<dyn Session>>("chats", "join");
    let second = join.unwrap().call(Leased::new(Quiet).unwrap()).unwrap();
    assert_eq!(second.again().say("Hello."), 2);
    assert_eq!(chat.greet(&Quiet), "greeted nobody");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(session.lines(2)), 2);
    let count =
        linked.engine.func::<fn(u32, Option<u32>) -> LeasedStream<String>>("chats", "count");
    let numbers: Vec<_> = runtime.block_on(count.unwrap().call(3, None).unwrap().collect());
    assert_eq!(numbers, ["1", "2", "3"]);
    let sum = linked.engine.async_func::<fn(LeasedStream<u64>, u64) -> u64>("chats", "sum");
    let ones = LeasedStream::new(stream::repeat(1)).unwrap();
    assert_eq!(runtime.block_on(sum.unwrap().call(ones, 5)).unwrap(), 5);
    let wrong = linked.engine.func::<fn(u8) -> Leased<dyn Session>>("chats", "join").unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Signature);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(session.explode("boom".into()));
    }));
    assert!(panicked.unwrap_err().downcast::<String>().unwrap().contains("boom"));
    drop((session, second));
    assert_eq!(linked.engine.invoke::<usize>("chats", "listening", &[]).unwrap(), 0);
    let taken = linked.engine.invoke::<(u32, Option<u32>)>("takes", "taken", &[]).unwrap();
    assert_eq!(taken, (1000, None));
    drop(chat);
}

/// A service of the host.
struct Thousand;

impl Alpha for Thousand {
    fn one(&self) -> u32 {
        1000
    }
}
