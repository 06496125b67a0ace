//! Calls by name.

use std::sync::{Arc, Mutex};

use hotswap_engine::{
    Value, args,
    protocol::{ErrorKind, Event},
};
use tracing::field::Field;
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use crate::{
    allocations,
    support::{Host, in_own_process},
};

#[test]
fn a_call_returns_the_result_of_the_function() {
    let host = Host::with(&["echo"]);
    let echo = host.engine.plugin("echo").unwrap();
    assert_eq!(echo.invoke::<i32>("add", args![2, -5]).unwrap(), -3);
    let list = vec![Some("ä".to_owned()), None];
    assert_eq!(echo.invoke::<Vec<Option<String>>>("repeat", args![list.clone()]).unwrap(), list);
}

#[test]
fn a_call_with_scalars_allocates_nothing() {
    let host = Host::with(&["measured"]);
    let measured = host.engine.plugin("measured").unwrap();
    let func = host.engine.func::<fn(u64, u64) -> u64>("measured", "add").unwrap();
    let live = host.engine.live_funcs::<fn(u64, u64) -> u64>();
    let call = || {
        assert_eq!(measured.invoke::<u64>("add", args![1_u64, 2_u64]).unwrap(), 3);
        assert_eq!(host.engine.invoke::<u64>("measured", "add", args![1_u64, 2_u64]).unwrap(), 3);
        assert_eq!(func.call(1, 2).unwrap(), 3);
        assert_eq!(live.call("live_add", (1, 2)).unwrap(), 3);
    };
    // The first calls allocate the counters of calls.
    call();
    let before = allocations::of_this_thread();
    (0..5000).for_each(|_| call());
    assert_eq!(allocations::of_this_thread() - before, 0);
}

#[test]
fn plugins_are_found_without_regard_to_case() {
    let host = Host::with(&["echo"]);
    assert_eq!(host.engine.current().plugin("ECHO").unwrap().name(), "echo");
}

#[test]
fn an_unknown_plugin_is_an_error_that_lists_the_loaded_plugins() {
    let host = Host::with(&["echo"]);
    let error = host.engine.plugin("ecco").unwrap_err();
    insta::assert_snapshot!(error, @"no plugin `ecco`; loaded: echo");
    let error = host.engine.plugin("echo@7").unwrap_err();
    insta::assert_snapshot!(error, @"no plugin `echo@7`; loaded: echo@1");
}

#[test]
fn an_unknown_function_is_an_error_that_lists_the_functions() {
    let host = Host::with(&["echo", "by-hand"]);
    let error = host.engine.plugin("echo").unwrap().invoke::<()>("ad", args![]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownFunction);
    insta::assert_snapshot!(error, @"echo v1: no function named `ad`; it has add, explode, fail, hold, post, repeat, revision");
    let error = host.engine.plugin("by-hand").unwrap().invoke::<()>("ad", args![]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownFunction);
    insta::assert_snapshot!(error, @"by-hand v1: what is `ad`?; it declares no functions");
}

#[test]
fn wrong_arguments_are_refused_before_the_function_runs() {
    let host = Host::with(&["echo"]);
    let echo = host.engine.plugin("echo").unwrap();
    let error = echo.invoke::<i32>("add", args!["two", 5]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadArgument);
    insta::assert_snapshot!(error, @"echo v1: add: argument 1 (`a`): invalid type: string \"two\", expected i32");
    let error = echo.invoke::<i32>("add", args![1]).unwrap_err();
    insta::assert_snapshot!(error, @"echo v1: add: expected 2 arguments, found 1: (a: i32, b: i32) -> i32");
    let error = echo.invoke::<i32>("add", args![1, 3_000_000_000_u32]).unwrap_err();
    insta::assert_snapshot!(error, @"echo v1: add: argument 2 (`b`): invalid value: integer `3000000000`, expected i32");
}

#[test]
fn an_error_keeps_its_causes() {
    let host = Host::with(&["echo"]);
    let error = host.engine.plugin("echo").unwrap().invoke::<()>("fail", args![]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PluginError);
    insta::assert_snapshot!(error, @"echo v1: fail: reading the answer");
    assert_eq!(error.causes(), ["invalid digit found in string"]);
}

#[test]
fn a_panic_ends_in_the_plugin_and_is_an_error_of_the_call() {
    let host = Host::with(&["echo"]);
    let echo = host.engine.plugin("echo").unwrap();
    let error = echo.invoke::<()>("explode", args!["oh no"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panic);
    let message = error.message();
    assert!(message.starts_with("panicked at ") && message.contains("lib.rs:"), "{message}");
    assert!(message.ends_with(": oh no"), "{message}");
    let failures = host.info("echo", 1).unwrap().failures;
    let first = failures.first_failure.expect("the panic");
    assert_eq!((first.function.as_str(), first.message.as_str()), ("explode", message));
    assert_eq!(echo.invoke::<i32>("add", args![1, 1]).unwrap(), 2);
}

#[test]
fn errors_and_panics_of_every_kind_of_call_are_counted_by_function_and_version() {
    let host = Host::with(&["echo", "nests"]);
    let counted = |plugin: &str, function: &str| {
        let snapshot = host.engine.snapshot();
        let plugin = snapshot.plugins.into_iter().find(|it| it.name == plugin).unwrap();
        let function = plugin.functions.into_iter().find(|it| it.name == function).unwrap();
        (function.calls, function.failures.errors, function.failures.panics)
    };
    let echo = host.engine.plugin("echo").unwrap();
    echo.invoke::<()>("fail", args![]).unwrap_err();
    host.engine.func::<fn() -> ()>("echo", "fail").unwrap().call().unwrap_err();
    echo.invoke::<()>("explode", args!["boom"]).unwrap_err();
    host.engine
        .func::<fn(String) -> ()>("echo", "explode")
        .unwrap()
        .call("boom".into())
        .unwrap_err();
    // A wrong call is no failure of the function.
    echo.invoke::<i32>("add", args!["two", 5]).unwrap_err();
    assert_eq!(counted("echo", "fail"), (2, 2, 0));
    assert_eq!(counted("echo", "explode"), (2, 0, 2));
    assert_eq!(counted("echo", "add").1, 0);
    let nests = host.engine.plugin("nests").unwrap();
    nests.invoke::<u32>("call_nobody_later", args![]).unwrap_err();
    host.engine.live_funcs::<fn() -> u32>().call("live_failure", ()).unwrap_err();
    assert_eq!(counted("nests", "call_nobody_later").1, 1);
    assert_eq!(counted("nests", "live_failure").1, 1);

    let failures = host.info("echo", 1).unwrap().failures;
    assert_eq!((failures.errors, failures.panics), (2, 2));
    let first = failures.first_failure.unwrap();
    assert_eq!((first.function.as_str(), first.message.as_str()), ("fail", "reading the answer"));
    host.plugins.install("echo", 2);
    host.reload();
    assert_eq!(counted("echo", "fail"), (0, 0, 0));
    assert_eq!(host.info("echo", 1).unwrap().failures.errors, 2);
}

#[test]
fn the_first_failure_of_a_version_is_an_event() {
    let host = Host::with(&["echo"]);
    let events = host.engine.subscribe();
    let explode = || host.engine.invoke::<()>("echo", "explode", args!["boom"]).unwrap_err();
    explode();
    explode();
    host.engine.invoke::<()>("echo", "fail", args![]).unwrap_err();
    let reported: Vec<_> = events
        .try_iter()
        .filter_map(|event| match event {
            Event::FirstFailure { plugin, version, failure, .. } => {
                Some((plugin, version, failure.function))
            }
            _ => None,
        })
        .collect();
    assert_eq!(reported, [("echo".to_owned(), 1, "explode".to_owned())]);
}

#[test]
fn latencies_are_reported_as_a_histogram_that_adds_up() {
    let host = Host::with(&["echo"]);
    for _ in 0..50 {
        host.engine.invoke::<u32>("echo", "revision", &[]).unwrap();
    }
    let snapshot = host.engine.snapshot();
    let function = |name| snapshot.plugins[0].functions.iter().find(|it| it.name == name).unwrap();
    assert!(function("add").latency_buckets.is_empty());
    let buckets = &function("revision").latency_buckets;
    assert_eq!(buckets.last().unwrap().calls, 50);
    assert!(buckets.is_sorted_by(|a, b| a.up_to_ns < b.up_to_ns && a.calls < b.calls));
}

#[test]
fn a_panic_in_a_thread_of_a_plugin_ends_only_that_thread() {
    let host = Host::with(&["threads"]);
    let threads = host.engine.plugin("threads").unwrap();
    assert!(threads.invoke::<bool>("start_and_panic", args![]).unwrap());
}

#[test]
fn a_plugin_may_answer_by_hand() {
    let host = Host::with(&["by-hand"]);
    let by_hand = host.engine.plugin("by-hand").unwrap();
    assert_eq!(by_hand.invoke::<usize>("count", args![1, "two", 3.5]).unwrap(), 3);
}

#[test]
fn a_call_of_every_plugin_skips_plugins_without_the_function() {
    let host = Host::with(&["echo", "by-hand", "shares"]);
    let current = host.engine.current();
    let answers = current.invoke_each("count", args![]);
    let answers: Vec<_> =
        answers.into_iter().map(|(name, answer)| (name, answer.unwrap())).collect();
    let expected =
        [("by-hand".to_owned(), Value::from(0_u32)), ("shares".to_owned(), Value::from(1_u32))];
    assert_eq!(answers, expected);
    let backward = current.invoke_each_backward("count", args![]);
    let names: Vec<_> = backward.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["shares", "by-hand"]);
}

#[test]
fn a_call_of_every_plugin_goes_on_after_a_panic() {
    let host = Host::with(&["echo", "by-hand"]);
    let answers = host.engine.current().invoke_each("explode", args!["boom"]);
    assert_eq!(answers.len(), 1, "by-hand has no such function: {answers:?}");
    assert_eq!(answers[0].1.as_ref().unwrap_err().kind(), ErrorKind::Panic);
}

#[test]
fn an_error_of_a_nested_call_becomes_a_failure_of_the_function() {
    let host = Host::with(&["nests"]);
    let nests = host.engine.plugin("nests").unwrap();
    for function in ["call_nobody", "call_nobody_later", "call_wrongly"] {
        let error = nests.invoke::<u32>(function, args![]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PluginError, "{error}");
        let answers = host.engine.current().invoke_each(function, args![]);
        assert_eq!(answers.len(), 1, "`invoke_each` left out the failing {function}");
        let answers = host.engine.current().invoke_each_backward(function, args![]);
        assert_eq!(answers.len(), 1, "`invoke_each` left out the failing {function}");
    }
    let error = nests.invoke::<u32>("call_nobody", args![]).unwrap_err();
    insta::assert_snapshot!(error, @"nests v1: call_nobody: no live function named `nobody`; there is live_answer, live_failure");
    for with_context in [false, true] {
        let error = nests.invoke::<()>("refuse", args![with_context]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PluginError, "{error}");
    }
    let error = nests.invoke::<()>("refuse", args![7]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadArgument, "{error}");

    let call = host.engine.func::<fn(bool) -> ()>("nests", "refuse").unwrap();
    assert_eq!(call.call(true).unwrap_err().kind(), ErrorKind::PluginError);
    let live = host.engine.live_funcs::<fn() -> u32>();
    assert_eq!(live.call("live_failure", ()).unwrap_err().kind(), ErrorKind::PluginError);
    let error = live.call("live_nothing", ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownFunction, "{error}");
    // The error that one plugin gets when another one's live function fails.
    assert_eq!(nests.invoke::<String>("call_what_fails", args![]).unwrap(), "Failed");
}

/// Keeps the messages of errors.
#[derive(Clone, Default)]
struct Errors(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Errors {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::ERROR {
            let mut keep = |_: &Field, value: &dyn std::fmt::Debug| {
                self.0.lock().unwrap().push(format!("{value:?}"));
            };
            event.record(&mut keep);
        }
    }
}

#[test]
fn an_error_in_one_plugin_is_logged_and_the_others_still_run() {
    // `tracing` decides for the whole process whether any subscriber wants the records of a callsite.
    let end = in_own_process(|| {
        let errors = Errors::default();
        tracing_subscriber::registry().with(errors.clone()).init();
        let host = Host::with(&["by-hand", "shares"]);
        // The value has another type than the plugin expects, so that one of the two plugins fails.
        host.engine.vault().data_bag().set("count", String::new()).unwrap();
        let answers = host.engine.current().invoke_each_backward("count", args![]);
        let reported = answers.iter().map(|(name, answer)| format!("{name}: {}", answer.is_ok()));
        assert_eq!(reported.collect::<Vec<_>>(), ["shares: false", "by-hand: true"]);
        let logged = errors.0.lock().unwrap().join("\n");
        insta::assert_snapshot!(logged, @"shares v1: count: `count` of host has another type: found `alloc::string::String`, expected `u64`");
    });
    assert!(end.status.success(), "{}", end.output);
}

#[test]
fn a_console_sees_signatures_docs_and_schemas() {
    let host = Host::with(&["echo"]);
    let functions = host.engine.snapshot().plugins.remove(0).functions;
    let add = functions.iter().find(|function| function.name == "add").unwrap();
    assert_eq!(add.signature, "(a: i32, b: i32) -> i32");
    assert_eq!(add.doc, "Adds two numbers.\n\nA second line.");
    assert_eq!(add.params[0].name, "a");
    assert_eq!(add.params[0].type_name, "i32");
    assert_eq!(add.params[0].schema["type"], "integer");
    let repeat = functions.iter().find(|function| function.name == "repeat").unwrap();
    assert_eq!(repeat.signature, "(list: Vec<Option<String>>) -> Vec<Option<String>>");
    assert_eq!(repeat.returns["type"], "array");
}
