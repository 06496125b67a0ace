//! Old versions are freed, and never too early.

use std::{
    fs, iter,
    sync::{atomic::Ordering, mpsc::channel},
    thread,
    time::Duration,
};

use hotswap_engine::{
    Events, LoadedPlugin, args, checkpoint,
    protocol::{Ending, Event, VersionState},
};

use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use crate::support::{
    Gate, Host, PATIENCE, PluginDir, built_with, held_by, in_own_process, with_revision,
};

#[test]
fn a_replaced_version_is_unmapped_and_its_copy_is_removed() {
    let host = Host::with(&["echo"]);
    assert_eq!(host.mapped(), host.staged());
    host.plugins.install("echo", 2);
    host.reload();
    let freed = host.wait_for("echo", 1, VersionState::Freed);
    assert!(freed.detail.contains("unmapped after"), "{}", freed.detail);
    let mapped = host.mapped();
    assert_eq!(mapped.len(), 1, "{mapped:?}");
    assert!(mapped.iter().all(|file| file.starts_with("echo-v2-")), "{mapped:?}");
    assert_eq!(mapped, host.staged());
}

#[test]
fn each_version_has_statics_of_its_own() {
    let host = Host::with(&["statics"]);
    let count = |plugin: &LoadedPlugin| plugin.invoke::<u32>("count", args![]).unwrap();
    let first = host.engine.plugin("statics").unwrap();
    assert_eq!((count(&first), count(&first)), (1, 2));
    host.plugins.install("statics", 2);
    host.reload();
    let second = host.engine.plugin("statics").unwrap();
    assert_eq!((count(&second), count(&first)), (1, 3));
}

#[test]
fn host_and_plugins_have_separate_statics_of_a_shared_crate() {
    let host = Host::with(&["statics"]);
    let visit = |plugin: &LoadedPlugin| plugin.invoke::<u32>("visit", args![]).unwrap();
    let first = host.engine.plugin("statics").unwrap();
    assert_eq!(types::VISITS.fetch_add(10, Ordering::Relaxed), 0);
    assert_eq!((visit(&first), visit(&first)), (1, 2));
    host.plugins.install("statics", 2);
    host.reload();
    assert_eq!(visit(&host.engine.plugin("statics").unwrap()), 1);
    assert_eq!(visit(&first), 3);
    assert_eq!(types::VISITS.load(Ordering::Relaxed), 10);
}

#[test]
fn memory_that_a_version_leaves_on_the_heap_is_reported() {
    let host = Host::with(&["statics"]);
    let heap = |ordinal| host.wait_until("statics", ordinal, |_| true).heap_bytes.unwrap();
    let text = host.engine.func::<fn(u32) -> String>("statics", "text").unwrap();
    let keep = host.engine.func::<fn(u32)>("statics", "keep").unwrap();
    keep.call(100_000).unwrap();
    let given = text.call(20_000).unwrap();
    host.plugins.install("statics", 2);
    host.reload();
    let freed = host.wait_for("statics", 1, VersionState::Freed);
    assert!(freed.detail.ends_with(" KiB left on the heap"), "{}", freed.detail);
    let Some(Ending::Freed(left)) = freed.ending else { panic!("{freed:?}") };
    let with_given = heap(1);
    assert_eq!((left.heap_bytes, left.unmapped_bytes), (with_given, freed.size_bytes));
    // The host frees the memory that it got from the plugin, so it no longer counts for the version.
    drop(given);
    assert_eq!(with_given - heap(1), 20_000);
    // The value in its static and the state of `tracing` are left, but none of the image's descriptions of itself.
    assert!((100_000..100_500).contains(&heap(1)), "{}", heap(1));
    assert!(heap(2) < 500, "{}", heap(2));
}

#[test]
fn the_output_of_a_plugin_is_flushed_before_it_is_freed() {
    let end = in_own_process(|| {
        let host = Host::with(&["statics"]);
        host.engine.invoke::<()>("statics", "print", args!["no end of a line"]).unwrap();
        host.plugins.install("statics", 2);
        host.reload();
        host.wait_for("statics", 1, VersionState::Freed);
    });
    assert!(end.status.success(), "{}", end.output);
    assert!(end.output.contains("no end of a line"), "{}", end.output);
}

#[test]
fn a_call_keeps_its_version_mapped() {
    let host = Host::with(&["echo"]);
    let gate = Gate::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            host.engine.plugin("echo").unwrap().invoke::<u32>("hold", args![gate.path()]).unwrap()
        });
        let waiting = gate.arrival();
        host.plugins.install("echo", 2);
        host.reload();
        let answer = host.engine.free("echo@1").unwrap();
        assert_eq!(answer.state, VersionState::Retired);
        let expected = ["call of hold on \"", "1 handle"];
        assert!(held_by(&answer.holders, &expected), "{:?}", answer.holders);
        assert_eq!(answer.detail, "retired: 1 call, 1 handle");
        assert_eq!(host.mapped().len(), 2);
        waiting.release();
    });
    host.wait_for("echo", 1, VersionState::Freed);
    assert_eq!(host.mapped().len(), 1);
}

#[test]
fn a_handle_to_a_generation_keeps_its_versions_mapped() {
    let host = Host::with(&["echo"]);
    let handle = host.engine.current();
    host.plugins.install("echo", 2);
    host.reload();
    assert_eq!(host.info("echo", 1).unwrap().detail, "retired: 1 handle");
    let old: u32 = handle.plugin("echo").unwrap().invoke("revision", args![]).unwrap();
    assert_eq!(old, 1);
    drop(handle);
    host.wait_for("echo", 1, VersionState::Freed);
}

#[test]
fn a_registered_object_in_use_keeps_its_version_mapped() {
    let host = Host::with(&["shares"]);
    let mut animals = host.engine.current().registered::<dyn sample_api::Animal>().unwrap();
    let parrot = animals.remove(0);
    host.plugins.install("shares", 2);
    host.reload();
    let held = host.info("shares", 1).unwrap();
    assert_eq!(held.detail, "retired: 1 value");
    assert_eq!(held.holders, ["value `parrot` of `sample_api::Animal`"]);
    assert_eq!(sample_api::Animal::speak(&parrot.object, 2), "squawk squawk");
    drop(parrot);
    host.wait_for("shares", 1, VersionState::Freed);
}

#[test]
fn a_thread_of_the_plugin_keeps_it_mapped_until_it_ends() {
    let host = Host::with(&["threads"]);
    let gate = Gate::new();
    host.engine.plugin("threads").unwrap().invoke::<()>("start", args![gate.path()]).unwrap();
    let waiting = gate.arrival();
    host.plugins.install("threads", 2);
    host.reload();
    let info =
        host.wait_until("threads", 1, |info| held_by(&info.holders, &["thread \"of-a-plugin\" ("]));
    assert_eq!(info.state, VersionState::Retired);
    waiting.release();
    host.wait_for("threads", 1, VersionState::Freed);
    assert_eq!(host.mapped().len(), 1);
}

#[test]
fn a_thread_local_is_dropped_on_its_thread_at_a_checkpoint() {
    let host = Host::with(&["threads"]);
    let gate = Gate::new();
    let (proceed, wait) = channel::<()>();
    let engine = host.engine.clone();
    let path = gate.path().to_owned();
    let (touched, was_touched) = channel();
    let worker = thread::Builder::new().name("worker-7".into()).spawn(move || {
        let threads = engine.plugin("threads").unwrap();
        threads.invoke::<()>("touch", args![path]).unwrap();
        threads.invoke::<String>("use_std", args![]).unwrap();
        drop(threads);
        touched.send(()).unwrap();
        wait.recv().unwrap();
        checkpoint();
        wait.recv().unwrap();
    });
    let worker = worker.unwrap();
    was_touched.recv().unwrap();
    host.plugins.install("threads", 2);
    host.reload();
    let pinned = host.wait_for("threads", 1, VersionState::Pinned);
    assert_eq!(pinned.detail, "pinned: thread-local on \"worker-7\"");
    assert_eq!(host.mapped().len(), 2);
    proceed.send(()).unwrap();
    assert_eq!(gate.message(), "dropped on worker-7");
    host.wait_for("threads", 1, VersionState::Freed);
    assert_eq!(host.mapped().len(), 1);
    proceed.send(()).unwrap();
    worker.join().unwrap();
}

#[test]
fn a_thread_local_is_dropped_at_the_end_of_its_thread() {
    let host = Host::with(&["threads"]);
    let gate = Gate::new();
    let engine = host.engine.clone();
    let path = gate.path().to_owned();
    let worker = thread::Builder::new().name("short".into()).spawn(move || {
        let threads = engine.plugin("threads").unwrap();
        threads.invoke::<()>("touch", args![path]).unwrap();
        threads.invoke::<String>("use_std", args![]).unwrap();
    });
    assert_eq!(gate.message(), "dropped on short");
    worker.unwrap().join().unwrap();
    host.plugins.install("threads", 2);
    host.reload();
    host.wait_for("threads", 1, VersionState::Freed);
}

#[test]
fn workers_of_tokio_are_woken_to_drop_their_thread_locals() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().unwrap();
    let handle = runtime.handle().clone();
    let host = Host::new(PluginDir::of(&["threads"]), |builder| builder.tokio(handle));
    host.reload();
    let engine = host.engine.clone();
    let calls = (0..16).map(|_| {
        let engine = engine.clone();
        runtime.spawn(async move {
            engine.plugin("threads").unwrap().invoke::<String>("use_std", args![]).unwrap()
        })
    });
    for call in calls.collect::<Vec<_>>() {
        runtime.block_on(call).unwrap();
    }
    host.plugins.install("threads", 2);
    host.reload();
    host.wait_for("threads", 1, VersionState::Freed);
    assert_eq!(host.mapped().len(), 1);
}

#[test]
fn loads_do_not_use_up_the_thread_local_keys_of_the_process() {
    let host = Host::with(&["threads"]);
    for number in 2..=1100 {
        // Some loads run on new threads, so that the ends of threads are covered too.
        let engine = host.engine.clone();
        let call = move || {
            engine.plugin("threads").unwrap().invoke::<String>("use_std", args![]).unwrap();
        };
        if number % 10 == 0 {
            thread::spawn(call).join().unwrap()
        } else {
            call()
        }
        host.plugins.install("threads", number);
        host.reload();
        checkpoint();
    }
    checkpoint();
    while host.mapped().len() > 1 {
        checkpoint();
        thread::yield_now();
    }
}

#[test]
fn a_pthread_key_of_a_plugin_is_handled_like_a_thread_local() {
    let host = Host::with(&["keys"]);
    let gate = Gate::new();
    // At the end of its thread.
    thread::scope(|scope| {
        let keys = host.engine.plugin("keys").unwrap();
        let user = thread::Builder::new().name("short".into());
        let path = gate.path();
        let user = user.spawn_scoped(scope, move || {
            keys.invoke::<()>("set", args![path]).unwrap();
            assert!(keys.invoke::<bool>("is_set", args![]).unwrap());
        });
        assert_eq!(gate.message(), "destroyed on short");
        user.unwrap().join().unwrap();
    });
    assert!(!host.engine.invoke::<bool>("keys", "is_set", args![]).unwrap());
    // At a checkpoint of a thread that lives on.
    thread::scope(|scope| {
        let (set, was_set) = channel();
        let (proceed, wait) = channel::<()>();
        let (engine, path) = (&host.engine, gate.path());
        let user = thread::Builder::new().name("long".into());
        let user = user.spawn_scoped(scope, move || {
            engine.invoke::<()>("keys", "set", args![path]).unwrap();
            set.send(()).unwrap();
            wait.recv().unwrap();
            checkpoint();
        });
        was_set.recv().unwrap();
        host.plugins.install("keys", 2);
        host.reload();
        let pinned = host.wait_for("keys", 1, VersionState::Pinned);
        assert_eq!(pinned.detail, "pinned: thread-local on \"long\"");
        proceed.send(()).unwrap();
        assert_eq!(gate.message(), "destroyed on long");
        user.unwrap().join().unwrap();
    });
    host.wait_for("keys", 1, VersionState::Freed);
    assert_eq!(host.mapped().len(), 1);
}

#[test]
fn a_backtrace_of_a_plugin_leaves_no_mapping_behind() {
    let host = Host::with(&["backtraces"]);
    let backtrace = host.engine.invoke::<String>("backtraces", "backtrace", args![]).unwrap();
    assert!(backtrace.contains("backtraces::backtrace"), "{backtrace}");
    host.plugins.install("backtraces", 2);
    host.reload();
    host.wait_for("backtraces", 1, VersionState::Freed);
    let mapped = host.mapped();
    assert!(mapped.iter().all(|file| file.starts_with("backtraces-v2-")), "{mapped:?}");
}

#[test]
fn a_panic_is_logged_with_its_backtrace_if_the_environment_asks_for_it() {
    let end = in_own_process(|| {
        // SAFETY: the process belongs to this test, and no other thread reads its environment yet.
        unsafe { std::env::set_var("RUST_BACKTRACE", "1") };
        tracing_subscriber::fmt().with_ansi(false).without_time().init();
        let host = Host::with(&["backtraces"]);
        host.engine.invoke::<()>("backtraces", "panics", args![]).unwrap_err();
    });
    let logged = end.output;
    assert!(logged.contains("the panic at tests/fixtures/backtraces/src/lib.rs:"), "{logged}");
    assert!(logged.contains("backtraces::fails_deep_within"), "{logged}");
    assert!(!logged.contains("<unknown>"), "{logged}");
    assert!(logged.contains(" frames outside of the plugin)"), "{logged}");
}

#[test]
fn a_backtrace_has_files_and_lines_if_there_is_debug_information() {
    let settings = [
        "profile.hotswap.package.backtraces.debug=\"line-tables-only\"",
        "profile.hotswap.strip=\"none\"",
    ];
    let flags = settings.iter().flat_map(|it| ["--config".to_owned(), (*it).to_owned()]);
    let artifact = built_with("backtraces", flags.collect());
    let plugins = PluginDir::empty();
    plugins.write("backtraces", &artifact);
    let host = Host::new(plugins, |builder| builder);
    host.reload();
    let backtrace = host.engine.invoke::<String>("backtraces", "backtrace", args![]).unwrap();
    assert!(backtrace.contains("fixtures/backtraces/src/lib.rs:"), "{backtrace}");
    host.plugins.write("backtraces", &with_revision(artifact, 2));
    host.reload();
    host.wait_for("backtraces", 1, VersionState::Freed);
    let mapped = host.mapped();
    assert!(mapped.iter().all(|file| file.starts_with("backtraces-v2-")), "{mapped:?}");
}

#[test]
fn a_backtrace_of_the_host_through_a_plugin_keeps_the_file_mapped_but_not_the_image() {
    /// A subscriber that makes a backtrace at each log record.
    struct Backtraces;

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Backtraces {
        fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            std::hint::black_box(std::backtrace::Backtrace::force_capture().to_string());
        }
    }

    let end = in_own_process(|| {
        tracing_subscriber::registry().with(Backtraces).init();
        let host = Host::with(&["threads"]);
        host.engine.invoke::<String>("threads", "use_std", args![]).unwrap();
        host.plugins.install("threads", 2);
        host.reload();
        checkpoint();
        host.wait_for("threads", 1, VersionState::Freed);
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let old: Vec<_> = maps.lines().filter(|line| line.contains("/threads-v1-")).collect();
        assert!(matches!(old[..], [one] if one.contains(" r--p ")), "{old:?}");
    });
    assert!(end.status.success(), "{}", end.output);
}

#[test]
fn an_active_version_is_not_freed() {
    let host = Host::with(&["echo"]);
    let error = host.engine.free("echo@1").unwrap_err();
    insta::assert_snapshot!(error, @"echo@1 cannot be freed: it serves; a reload that replaces it retires it");
    let error = host.engine.free("echo").unwrap_err();
    insta::assert_snapshot!(error, @"echo cannot be freed: name one of its versions: NAME@VERSION or NAME@BUILD-ID");
    assert!(host.engine.free("echo@2").is_err());
    assert!(host.engine.free("nonsense").is_err());
}

#[test]
fn a_shutdown_frees_everything_and_reports_what_it_could_not_free() {
    let host = Host::with(&["echo", "shares"]);
    let handle = host.engine.plugin("echo").unwrap();
    let staging = host.staging_dir();
    let report = host.engine.shutdown(Duration::from_millis(300));
    assert_eq!(report.to_string(), "echo v1: 1 handle");
    insta::assert_snapshot!(host.refused_reload(), @"the engine was shut down");
    drop(handle);
    assert_eq!(host.engine.shutdown(PATIENCE).held, []);
    assert!(host.mapped().is_empty());
    drop(host);
    assert!(!staging.exists());
}

/// The first `count` versions that are freed, in order.
fn freed_in_order(events: &Events, count: usize) -> Vec<String> {
    let freed =
        iter::from_fn(|| events.recv_timeout(PATIENCE).ok()).filter_map(|event| match event {
            Event::VersionChanged { plugin, version, state: VersionState::Freed, .. } => {
                Some(format!("{plugin} v{version}"))
            }
            _ => None,
        });
    freed.take(count).collect()
}

#[test]
fn versions_that_leave_together_end_in_the_reverse_of_their_load_order() {
    let all = ["by-hand", "echo", "gives", "notes-steps", "takes"];
    let host = Host::with(&all);
    let events = host.engine.subscribe();
    for plugin in ["echo", "gives", "takes"] {
        host.plugins.install(plugin, 2);
    }
    host.reload();
    // `takes` keeps `gives` in use until `takes` has ended.
    assert_eq!(freed_in_order(&events, 3), ["takes v1", "gives v1", "echo v1"]);

    host.plugins.remove("by-hand");
    host.plugins.remove("echo");
    host.reload();
    assert_eq!(freed_in_order(&events, 2), ["echo v2", "by-hand v1"]);

    host.engine.shutdown(PATIENCE);
    assert_eq!(freed_in_order(&events, 3), ["takes v2", "notes-steps v1", "gives v2"]);
}

#[test]
fn a_version_in_use_does_not_delay_versions_that_were_loaded_earlier() {
    let host = Host::with(&["by-hand", "echo"]);
    let handle = host.engine.plugin("echo").unwrap();
    let report = host.engine.shutdown(Duration::from_millis(300));
    assert_eq!(report.to_string(), "echo v1: 1 handle");
    drop(handle);
    assert!(host.engine.shutdown(PATIENCE).held.is_empty());
}

#[test]
fn an_image_that_handles_a_signal_is_kept_and_the_reason_is_reported() {
    let host = Host::with(&["handles-signal"]);
    host.engine.invoke::<()>("handles-signal", "handle", args![]).unwrap();
    host.plugins.install("handles-signal", 2);
    host.reload();
    let kept = host.wait_for("handles-signal", 1, VersionState::Kept);
    let why = "lies in it; a plugin that sets a handler must restore the previous one in `on_free`";
    assert_eq!(kept.detail, format!("kept: the handler of SIGWINCH {why}"));
    assert_eq!(host.mapped().len(), 2);

    // The second version leaves no handler, and is freed.
    host.engine.invoke::<()>("handles-signal", "reset", args![]).unwrap();
    host.plugins.install("handles-signal", 3);
    host.reload();
    host.wait_for("handles-signal", 2, VersionState::Freed);
}

#[test]
fn calls_nested_deeper_than_the_slots_of_a_thread_keep_their_version_in_use() {
    let host = Host::with(&["stressed"]);
    assert_eq!(host.engine.invoke::<u32>("stressed", "live_dive", args![40]).unwrap(), 40);
    host.plugins.install("stressed", 2);
    host.reload();
    host.wait_for("stressed", 1, VersionState::Freed);
}
