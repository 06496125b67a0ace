//! Patches: new code for some functions of a version that serves.
//!
//! The tests make the patches by hand, because they test the engine and not the build.

use std::{
    fs::{self, File},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use hotswap_engine::{
    ConsoleSocket, EngineError, Generation, Guard, args,
    artifact::{
        BuildId,
        patch::{Patch, Target},
    },
    protocol::{
        Event, Holder, HolderKind, Outcome, PatchParams, PluginOutcome, ReloadReport, VersionState,
        in_flight::calls_in_flight, version_label,
    },
};
use insta::assert_snapshot;

use crate::support::{
    Gate, Host, PATIENCE, PluginDir, build_of, code_without_file, in_own_process, patch, revision,
};

impl Host {
    /// Installs a revision of a plugin, and a patch to it.
    fn install_patch(&self, plugin: &str, number: u32, functions: &[(&str, &str)]) {
        let build = revision(plugin, number);
        self.write_patch(plugin, &patch(&revision(plugin, 1), &build, functions));
        self.plugins.install(plugin, number);
    }

    /// Installs a revision for which a build made no patch. Such a build removes an earlier patch.
    fn install_whole(&self, plugin: &str, number: u32) {
        fs::remove_file(self.plugins.path().join(format!("{plugin}.patch"))).unwrap();
        self.plugins.install(plugin, number);
    }

    fn write_patch(&self, plugin: &str, patch: &Patch) {
        self.write_patch_bytes(plugin, &patch.to_bytes().unwrap());
    }

    fn write_patch_bytes(&self, plugin: &str, bytes: &[u8]) {
        fs::write(self.plugins.path().join(format!("{plugin}.patch")), bytes).unwrap();
    }

    /// Loads a patch whose artifact is not linked yet.
    fn load_early(&self, plugin: &str, early: &Patch) -> Result<ReloadReport, EngineError> {
        let patch = self.plugins.path().join(".early");
        fs::write(&patch, early.to_bytes().unwrap()).unwrap();
        let plugin = plugin.into();
        self.engine.patch(PatchParams { plugin, patch, build_phases: Vec::new() })
    }

    fn number(&self, plugin: &str, function: &str) -> u32 {
        self.engine.invoke(plugin, function, &[]).unwrap()
    }

    /// The number of the plugin's newest version that serves, and of its patch.
    fn serving(&self, plugin: &str) -> (u32, Option<u32>) {
        let version = self.engine.plugin(plugin).unwrap().version();
        (version, self.info(plugin, version).unwrap().patch)
    }
}

/// The patch as it is before its artifact is linked.
fn as_early_patch(linked: &Patch) -> Patch {
    let mut early = linked.clone();
    early.header.build = early.code_id();
    early
}

fn outcome(report: &ReloadReport, plugin: &str) -> PluginOutcome {
    report.plugins.iter().find(|outcome| outcome.name == plugin).unwrap().clone()
}

#[test]
fn a_patch_changes_the_code_of_the_serving_version_and_keeps_its_state() {
    let host = Host::with(&["statics"]);
    let count = host.engine.func::<fn() -> u32>("statics", "count").unwrap();
    assert_eq!((count.call().unwrap(), host.number("statics", "count")), (1, 2));
    let visits = host.number("statics", "visit");
    let (held, plugin) = (host.engine.current(), host.engine.plugin("statics").unwrap());

    host.install_patch("statics", 2, &[("count", "visit")]);
    let plan = host.engine.plan(false).unwrap();
    assert_eq!(plan.plugins[0].outcome, Outcome::Patched);
    assert_eq!(host.serving("statics"), (1, None));
    let report = host.reload();
    assert_snapshot!(report, @"statics: patched (v1+1)");
    let outcome = outcome(&report, "statics");
    assert_eq!((outcome.version, outcome.patch), (Some(1), Some(1)));
    assert_eq!(outcome.patched_functions, ["count"]);
    assert_eq!(host.serving("statics"), (1, Some(1)));
    let info = host.info("statics", 1).unwrap();
    assert_eq!(info.build_id, build_of(&revision("statics", 2)).to_string());
    assert_eq!(info.patched_functions, ["count"]);

    // Calls by type, by name, and through a handle.
    assert_eq!(count.call().unwrap(), visits + 1);
    assert_eq!(host.number("statics", "count"), visits + 2);
    assert_eq!(host.number("statics", "visit"), visits + 3);
    let new = host.engine.plugin("statics@1").unwrap();
    assert_eq!(new.invoke::<u32>("count", args![]).unwrap(), visits + 4);
    assert_snapshot!(format!("{new:?}"), @"LoadedPlugin(statics v1+1)");
    assert_eq!((new.patch(), plugin.patch()), (Some(1), None));
    // A held generation keeps its code.
    let counted = held.plugin("statics").unwrap().invoke::<u32>("count", args![]).unwrap();
    assert_eq!(counted, 3);
    assert_eq!(plugin.invoke::<u32>("count", args![]).unwrap(), 4);
    assert_snapshot!(host.reload(), @"statics: unchanged");

    // The edit is undone.
    host.plugins.install("statics", 1);
    assert_snapshot!(host.reload(), @"statics: patched (v1)");
    assert_eq!((count.call().unwrap(), host.number("statics", "count")), (5, 6));
    assert_eq!(host.serving("statics"), (1, None));
}

#[test]
fn a_patch_serves_before_its_artifact_is_linked() {
    let host = Host::with(&["statics"]);
    assert_eq!(host.number("statics", "count"), 1);
    let linked = patch(&revision("statics", 1), &revision("statics", 2), &[("count", "visit")]);
    let early = as_early_patch(&linked);
    let load_early = |patch: &Patch| host.load_early("Statics", patch);
    let visits = host.number("statics", "visit");
    assert_snapshot!(load_early(&early).unwrap(), @"statics: patched (v1+1)");
    assert_eq!(host.number("statics", "count"), visits + 1);
    let info = || host.info("statics", 1).unwrap();
    assert_eq!((info().is_early, info().build_id), (true, early.code_id().to_string()));
    assert!(load_early(&early).unwrap_err().to_string().contains("has this code already"));

    // When the artifact comes, nothing is published again, and the build gets its name.
    let generation = host.engine.current().generation();
    host.install_patch("statics", 2, &[("count", "visit")]);
    assert_snapshot!(host.reload(), @"statics: unchanged");
    assert_eq!(host.engine.current().generation(), generation);
    let build = build_of(&revision("statics", 2)).to_string();
    assert_eq!((info().is_early, info().build_id, info().patch), (false, build, Some(1)));

    // An early patch is refused for the same reasons as a linked one, and no event reports it.
    let mut other = early.clone();
    other.header.base = BuildId::from_bytes([7; 16]);
    other.header.build = other.code_id();
    let events = host.engine.subscribe();
    assert!(load_early(&other).unwrap_err().to_string().contains("is for a version of build"));
    assert!(load_early(&linked).unwrap_err().to_string().contains("other code"));
    let _before = host.engine.plugin("statics").unwrap();
    host.plugins.install("statics", 3);
    host.reload();
    host.engine.rollback("statics@1").unwrap();
    assert!(load_early(&early).is_err());
    let failed = |event: &Event| matches!(event, Event::ReloadFailed { .. });
    assert!(!std::iter::from_fn(|| events.try_recv().ok()).any(|event| failed(&event)));
}

#[test]
fn the_artifact_of_a_patch_that_already_serves_only_names_its_build() {
    let host = Host::with(&["statics"]);
    let linked = patch(&revision("statics", 1), &revision("statics", 2), &[("count", "visit")]);
    let early = as_early_patch(&linked);
    let path = host.plugins.path().join("statics.patch");
    let load_early = |patch: &Patch| {
        fs::write(&path, patch.to_bytes().unwrap()).unwrap();
        let (plugin, patch) = ("statics".into(), path.clone());
        host.engine.patch(PatchParams { plugin, patch, build_phases: Vec::new() }).unwrap()
    };
    let published = load_early(&early).generation;
    host.plugins.install("statics", 2);
    let events = host.engine.subscribe();
    assert_eq!(load_early(&linked).generation, published);
    assert!(
        events.try_recv().is_err(),
        "the linked artifact has the same code, so there is no reload"
    );
    let info = host.info("statics", 1).unwrap();
    assert_eq!((info.is_early, info.build_id), (false, linked.header.build.to_string()));
}

#[test]
fn a_live_function_runs_the_code_of_the_patch() {
    let base = revision("lives", 5);
    let host = Host::new(PluginDir::empty(), |builder| builder);
    host.plugins.write("lives", &base);
    host.reload();
    let by_type = host.engine.live_funcs::<fn() -> u32>();
    let by_vault = |generation: &Generation| -> u32 {
        generation.vault().live().call("task_count", &[]).unwrap().to().unwrap()
    };
    let by_generation = |generation: &Generation| -> u32 {
        generation.plugin("lives").unwrap().invoke("task_count", args![]).unwrap()
    };
    let before = host.engine.current();
    assert_eq!(by_type.call("task_count", ()).unwrap(), 1);
    assert_eq!(by_vault(&before), 1);

    let build = revision("lives", 6);
    host.write_patch("lives", &patch(&base, &build, &[("task_count", "revision")]));
    host.plugins.write("lives", &build);
    assert_snapshot!(host.reload(), @"lives: patched (v1+1)");
    // The data is that of the base.
    assert_eq!(by_type.call("task_count", ()).unwrap(), 5);
    let after = host.engine.current();
    assert_eq!((by_vault(&after), by_generation(&after)), (5, 5));
    assert_eq!(by_generation(&before), 1);
}

#[test]
fn an_async_call_ends_in_the_code_in_which_it_began() {
    let host = Host::with(&["waits"]);
    let at_once = host.engine.async_func::<fn(String) -> String>("waits", "at_once").unwrap();
    let functions = [("at_once", "at_once"), ("later", "live_later")];
    let gate = Gate::new();
    thread::scope(|scope| {
        let begin = || {
            let (waits, path) = (host.engine.plugin("waits").unwrap(), gate.path().to_owned());
            let call = scope.spawn(move || waits.invoke::<u32>("later", args![path]).unwrap());
            (call, gate.arrival())
        };
        let first = begin();
        host.install_patch("waits", 2, &functions);
        assert_snapshot!(host.reload(), @"waits: patched (v1+1)");
        let second = begin();
        host.plugins.install("waits", 1);
        assert_snapshot!(host.reload(), @"waits: patched (v1)");
        for (call, waiting) in [first, second] {
            waiting.release();
            assert_eq!(call.join().unwrap(), 1);
        }
    });
    host.plugins.install("waits", 2);
    host.reload();
    let answer = futures::executor::block_on(at_once.call("typed".into())).unwrap();
    assert_eq!(answer, "typed of revision 1");
}

#[test]
fn a_panic_unwinds_through_the_code_of_a_patch() {
    let host = Host::with(&["echo"]);
    let explode = host.engine.func::<fn(String) -> ()>("echo", "explode").unwrap();
    host.install_patch("echo", 2, &[("explode", "explode"), ("fail", "fail")]);
    assert_snapshot!(host.reload(), @"echo: patched (v1+1)");
    for _ in 0..2 {
        let by_name = host.engine.invoke::<()>("echo", "explode", args!["boom"]).unwrap_err();
        let typed = explode.call("boom".into()).unwrap_err();
        for error in [by_name, typed] {
            insta::allow_duplicates! { assert_snapshot!(error, @"echo v1+1: explode: panicked at tests/fixtures/echo/src/lib.rs:52:5: boom"); }
        }
    }
    let error = host.engine.invoke::<()>("echo", "fail", args![]).unwrap_err();
    assert_snapshot!(error, @"echo v1+1: fail: reading the answer");
}

#[test]
fn reports_about_calls_name_the_patch() {
    let host = Host::with(&["echo"]);
    let events = host.engine.subscribe();
    let base = host.engine.plugin("echo").unwrap();
    let call = |function| drop(base.invoke_value(function, args!["boom"]));
    ["repeat", "explode", "post"].into_iter().for_each(call);
    host.install_patch("echo", 2, &[("explode", "explode"), ("post", "post")]);
    assert_snapshot!(host.reload(), @"echo: patched (v1+1)");
    // Later calls of the version as it was loaded are not first calls of the patch.
    ["post", "explode"].into_iter().for_each(call);
    let post = host.engine.func::<fn(String) -> String>("echo", "post").unwrap();
    for _ in 0..2 {
        assert_eq!(post.call("typed".into()).unwrap(), "typed");
        host.engine.invoke::<()>("echo", "explode", args!["boom"]).unwrap_err();
    }
    let reported: Vec<String> = events
        .try_iter()
        .filter_map(|event| match event {
            Event::FirstCall { version, patch, function, .. } => {
                Some(format!("called {}: {function}", version_label(version, patch)))
            }
            Event::FirstFailure { version, patch, failure, .. } => {
                assert_eq!(failure.patch, patch);
                Some(format!("failed {}: {}", version_label(version, patch), failure.function))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        reported,
        ["called v1: repeat", "failed v1: explode", "called v1+1: post", "failed v1+1: explode"]
    );
    let failures = host.info("echo", 1).unwrap().failures;
    assert_eq!((failures.panics, failures.first_failure.unwrap().patch), (4, Some(1)));
    let error = base.invoke::<()>("explode", args!["boom"]).unwrap_err().to_string();
    assert!(error.starts_with("echo v1: explode: panicked at "), "{error}");
}

#[test]
fn the_log_names_the_patch_whose_code_ran() {
    let end = in_own_process(|| {
        tracing_subscriber::fmt().with_ansi(false).without_time().init();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (handle, plugins) = (runtime.handle().clone(), PluginDir::of(&["threads", "tasks"]));
        let host = Host::new(plugins, |builder| builder.tokio(handle));
        host.reload();
        let log = || {
            host.engine.invoke::<String>("threads", "use_std", args![]).unwrap();
            host.engine.invoke::<()>("tasks", "log", args![]).unwrap();
        };
        log();
        host.install_patch("threads", 2, &[("use_std", "use_std")]);
        host.install_patch("tasks", 2, &[("log", "log")]);
        assert_snapshot!(host.reload(), @"tasks: patched (v1+1), threads: patched (v1+1)");
        log();
    });
    let logged = end.output.lines().filter_map(|line| line.split_once("logged by a plugin "));
    let reported: Vec<&str> = logged.map(|(_, reported)| reported).collect();
    assert_eq!(
        reported,
        [
            r#"plugin="threads" version=1"#,
            r#"plugin="tasks" version=1"#,
            r#"plugin="threads" version=1 patch=1"#,
            r#"plugin="tasks" version=1 patch=1"#,
        ],
        "{}",
        end.output
    );
}

#[test]
fn a_thread_belongs_to_the_patch_whose_code_started_it() {
    let end = in_own_process(|| {
        tracing_subscriber::fmt().with_ansi(false).without_time().init();
        let host = Host::with(&["threads"]);
        let panic = || host.engine.invoke::<bool>("threads", "start_and_panic", args![]).unwrap();
        assert!(panic());
        let (base, build) = (revision("threads", 1), revision("threads", 2));
        let functions = [("start_and_panic", "start_and_panic"), ("start", "start")];
        host.write_patch("threads", &patch(&base, &build, &functions));
        host.plugins.install("threads", 2);
        assert_snapshot!(host.reload(), @"threads: patched (v1+1)");
        assert!(panic());
        let gate = Gate::new();
        host.engine.invoke::<()>("threads", "start", args![gate.path()]).unwrap();
        let waiting = gate.arrival();
        host.plugins.install("threads", 3);
        host.reload();
        let is_thread = |holder: &&Holder| holder.kind == HolderKind::Thread;
        let held =
            host.wait_until("threads", 1, |info| info.held_by.iter().any(|it| is_thread(&it)));
        let thread = held.held_by.iter().find(is_thread).unwrap();
        assert_eq!(thread.patch, Some(1), "{thread:?}");
        waiting.release();
    });
    let reported = end.output.lines().filter(|line| line.contains("a thread of a plugin"));
    let reported: Vec<_> = reported.map(|line| line.contains("version=1 patch=1")).collect();
    assert_eq!(reported, [false, true], "{}", end.output);
}

#[test]
fn calls_go_on_while_versions_are_patched_and_replaced() {
    let host = Host::with(&["statics"]);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let engine = &host.engine;
                let count = engine.func::<fn() -> u32>("statics", "count").unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    assert!(count.call().unwrap() > 0);
                    assert!(engine.invoke::<u32>("statics", "count", &[]).unwrap() > 0);
                    let held = engine.plugin("statics").unwrap();
                    assert!(held.invoke::<u32>("count", &[]).unwrap() > 0);
                }
            });
        }
        let _over = SetWhenDropped(&is_over);
        let mut base = revision("statics", 1);
        for round in 1..=8 {
            for number in [3 * round, 3 * round + 1] {
                let build = revision("statics", number);
                host.write_patch("statics", &patch(&base, &build, &[("count", "visit")]));
                host.plugins.write("statics", &build);
                let report = host.reload();
                assert_eq!(outcome(&report, "statics").outcome, Outcome::Patched, "{report}");
            }
            host.plugins.write("statics", &base);
            let report = host.reload();
            assert_eq!(outcome(&report, "statics").outcome, Outcome::Patched, "{report}");
            base = revision("statics", 3 * round + 2);
            host.plugins.write("statics", &base);
            assert_eq!(outcome(&host.reload(), "statics").outcome, Outcome::Ok);
        }
    });
    host.wait_until("statics", 9, |_| host.mapped().len() == 1);
}

/// Ends the threads of a test, even if it fails.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A console reads this after the host has died in a patch, so that it does not load the build again.
#[test]
fn a_call_is_recorded_with_the_build_of_the_patch() {
    let end = in_own_process(|| {
        let plugins = PluginDir::of(&["echo"]);
        let console = Some(ConsoleSocket::at(plugins.path().join("socket")));
        let host = Host::new(plugins, |builder| builder.console(console));
        host.reload();
        host.install_patch("echo", 2, &[("hold", "hold")]);
        host.reload();
        let calls = File::open(host.engine.snapshot().host.calls_file.unwrap()).unwrap();
        let gate = Gate::new();
        thread::scope(|scope| {
            let hold = || host.engine.invoke::<u32>("echo", "hold", args![gate.path()]).unwrap();
            let call = scope.spawn(hold);
            let waiting = gate.arrival();
            let noted = calls_in_flight(&calls).unwrap();
            waiting.release();
            assert_eq!(call.join().unwrap(), 1);
            let [call] = noted.as_slice() else { panic!("{noted:?}") };
            assert_eq!((call.version, call.function.as_deref()), (1, Some("hold")));
            let build = build_of(&revision("echo", 2)).to_string();
            assert_eq!(call.build_id.as_deref(), Some(build.as_str()));
            assert!(call.to_string().starts_with("echo v1+1: hold on "), "{call}");

            // A call that still runs in the patch is recorded as such while another patch serves, and while none does.
            let held = scope.spawn(hold);
            let waiting = gate.arrival();
            host.plugins.install("echo", 1);
            assert_snapshot!(host.reload(), @"echo: patched (v1)");
            let noted = calls_in_flight(&calls).unwrap();
            assert_eq!(noted[0].build_id.as_deref(), Some(build.as_str()));
            host.plugins.install("echo", 3);
            host.reload();
            let holders = host.wait_until("echo", 1, |info| !info.held_by.is_empty()).held_by;
            let call = holders.iter().find(|holder| holder.kind == HolderKind::Call).unwrap();
            assert_eq!((call.function.as_deref(), call.patch), (Some("hold"), Some(1)));
            waiting.release();
            held.join().unwrap();
        });
    });
    assert!(end.status.success(), "{}", end.output);
}

#[test]
fn patches_go_with_their_version() {
    // Other tests of this process have patches too.
    let end = in_own_process(|| {
        let host = Host::with(&["statics"]);
        let before = code_without_file();
        for number in 2..=4 {
            host.install_patch("statics", number, &[("count", "visit"), ("visit", "count")]);
            host.reload();
            assert_eq!(host.serving("statics"), (1, Some(number - 1)));
        }
        assert_eq!(code_without_file().len(), before.len() + 3);
        // A handle to any generation with the version keeps all its patches.
        let held = host.engine.current();
        host.install_whole("statics", 5);
        assert_eq!(host.reload().to_string(), "statics: ok");
        let visit = held.plugin("statics").unwrap().invoke::<u32>("visit", args![]).unwrap();
        assert_eq!(visit, 1);
        assert_eq!(code_without_file().len(), before.len() + 3);
        drop(held);
        host.wait_for("statics", 1, VersionState::Freed);
        assert_eq!(code_without_file(), before);
    });
    assert!(end.status.success(), "{}", end.output);
}

#[test]
fn a_build_that_cannot_be_a_patch_is_loaded_as_a_whole() {
    let host = Host::with(&["statics"]);
    let [first, second] = [1, 2].map(|number| revision("statics", number));
    let good = patch(&first, &second, &[("count", "visit")]);

    let mut damaged = good.to_bytes().unwrap();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    host.write_patch_bytes("statics", &damaged);
    host.plugins.install("statics", 2);
    assert_snapshot!(host.reload(), @"statics: ok (as a whole: the patch cannot be loaded: it is damaged: its content does not match its hash)");

    // The patch is made for a version that does not serve.
    host.plugins.install("statics", 3);
    host.write_patch("statics", &patch(&first, &revision("statics", 3), &[("count", "visit")]));
    let report = host.reload();
    let why = outcome(&report, "statics").not_patched.unwrap();
    assert!(why.starts_with("the patch is for a version of build "), "{why}");
    assert_eq!(host.serving("statics"), (3, None));

    // The patch describes a function differently.
    host.plugins.install("statics", 1);
    fs::remove_file(host.plugins.path().join("statics.patch")).unwrap();
    assert_snapshot!(host.reload(), @"statics: ok");
    host.install_patch("statics", 2, &[("count", "text")]);
    assert_snapshot!(host.reload(), @"statics: ok (as a whole: count has another signature, schema or doc in the patch than in the version that serves)");

    // An address in the patch points outside of its base.
    host.plugins.install("statics", 1);
    host.reload();
    for target in [Target::Base(1 << 40), Target::Bound(u64::MAX - 3), Target::Base(u64::MAX)] {
        let mut outside = good.clone();
        outside.header.fixups[0].target = target;
        host.write_patch("statics", &outside);
        host.plugins.install("statics", 2);
        let report = host.reload();
        let why = outcome(&report, "statics").not_patched.unwrap();
        assert!(
            why.contains("which does not exist in its base or lacks the needed access rights"),
            "{why}"
        );
        host.plugins.install("statics", 1);
        host.reload();
    }

    // The patch was left by another build.
    host.write_patch("statics", &good);
    host.plugins.install("statics", 7);
    let report = host.reload();
    let why = outcome(&report, "statics").not_patched.as_deref().unwrap_or_default().to_owned();
    assert!(why.starts_with("the patch beside it makes build "), "{why}");
    assert_eq!(outcome(&report, "statics").outcome, Outcome::Ok);
}

#[test]
fn a_load_that_fails_patches_nothing() {
    let host = Host::with(&["statics", "echo"]);
    host.install_patch("statics", 2, &[("count", "visit")]);
    host.plugins.write("fail-on-init", &revision("fail-on-init", 1));
    host.plugins.install("echo", 2);
    host.refused_reload();
    assert_eq!((host.number("statics", "count"), host.number("echo", "revision")), (1, 1));
    assert_eq!(host.serving("statics"), (1, None));

    // One load that patches one plugin, and loads another.
    host.plugins.remove_file_of("fail-on-init");
    let visits = host.number("statics", "visit");
    assert_snapshot!(host.reload(), @"echo: ok, statics: patched (v1+1)");
    assert_eq!((host.number("statics", "count"), host.number("echo", "revision")), (visits + 1, 2));
}

#[test]
fn a_version_has_a_maximum_of_patches() {
    let host = Host::with(&["statics"]);
    for number in 2..34 {
        host.install_patch("statics", number, &[("count", "visit")]);
        assert_eq!(outcome(&host.reload(), "statics").outcome, Outcome::Patched, "{number}");
    }
    host.install_patch("statics", 34, &[("count", "visit")]);
    assert_snapshot!(host.reload(), @"statics: ok (as a whole: the version has the allowed maximum of patches: 32 patches or 1024 KiB)");
    assert_eq!(host.serving("statics"), (2, None));
}

#[test]
fn a_rollback_removes_a_patch_and_holds_the_plugin_there() {
    let host = Host::with(&["statics"]);
    host.install_patch("statics", 2, &[("count", "visit")]);
    host.reload();
    assert_eq!(host.serving("statics"), (1, Some(1)));
    let report = host.engine.rollback("statics").unwrap();
    assert_snapshot!(report, @"statics: patched (v1)");
    assert_eq!(report.rolled_back.as_deref(), Some("statics"));
    assert_eq!((host.serving("statics"), host.number("statics", "count")), ((1, None), 1));
    assert_snapshot!(host.reload(), @"statics: held");
    // A build that was a patch before needs no new patch file.
    fs::remove_file(host.plugins.path().join("statics.patch")).unwrap();
    assert_snapshot!(host.engine.reload_latest().unwrap(), @"statics: patched (v1+1)");
    assert_snapshot!(host.engine.rollback("statics@1").unwrap(), @"statics: patched (v1)");
}

#[test]
fn the_guard_rolls_a_patch_back() {
    let guard = Guard::panics(3);
    let host = Host::new(PluginDir::of(&["echo"]), |builder| builder.guard(guard));
    host.reload();
    host.install_patch("echo", 2, &[("explode", "explode")]);
    host.reload();
    let events = host.engine.subscribe();
    for _ in 0..3 {
        host.engine.invoke::<()>("echo", "explode", args!["boom"]).unwrap_err();
    }
    let mut trips = 0;
    loop {
        match events.recv_timeout(PATIENCE).unwrap() {
            Event::GuardTripped(trip) => {
                assert_eq!((trip.version, trip.back_to), (1, Some(1)));
                trips += 1;
            }
            Event::ReloadFinished { report, .. } => {
                assert_snapshot!(report, @"echo: patched (v1)");
                break;
            }
            _ => {}
        }
    }
    assert_eq!((trips, host.serving("echo")), (1, (1, None)));
    assert_snapshot!(host.reload(), @"echo: held");
}

#[test]
fn a_patch_that_was_rolled_back_before_it_was_linked_stays_rolled_back() {
    let host = &Host::new(PluginDir::of(&["echo"]), |builder| builder.guard(Guard::panics(3)));
    host.reload();
    let [one, other] = [&[("explode", "explode")][..], &[("explode", "explode"), ("fail", "fail")]];
    let load_early = |base, number, functions| {
        let linked = patch(&revision("echo", base), &revision("echo", number), functions);
        let report = host.load_early("echo", &as_early_patch(&linked)).unwrap();
        // The artifact comes after the rollback.
        (report, move || {
            host.write_patch("echo", &linked);
            host.plugins.install("echo", number);
            host.reload()
        })
    };

    // A person rolls back.
    let (report, link) = load_early(1, 2, one);
    assert_snapshot!(report, @"echo: patched (v1+1)");
    assert_snapshot!(host.engine.rollback("echo").unwrap(), @"echo: patched (v1)");
    assert_snapshot!(link(), @"echo: held");
    assert_eq!(host.serving("echo"), (1, None));
    // Another edit is not held back.
    host.install_patch("echo", 3, other);
    assert_snapshot!(host.reload(), @"echo: patched (v1+2)");

    // The guard rolls back, and does not go further back when the artifact comes.
    host.install_whole("echo", 4);
    assert_snapshot!(host.reload(), @"echo: ok");
    let (report, link) = load_early(4, 5, one);
    assert_snapshot!(report, @"echo: patched (v2+1)");
    let events = host.engine.subscribe();
    for _ in 0..3 {
        host.engine.invoke::<()>("echo", "explode", args!["boom"]).unwrap_err();
    }
    while !matches!(events.recv_timeout(PATIENCE).unwrap(), Event::ReloadFinished { .. }) {}
    assert_eq!(host.serving("echo"), (2, None));
    assert_snapshot!(link(), @"echo: held");
    assert_eq!(host.serving("echo"), (2, None));
}

#[test]
fn a_patched_plugin_keeps_its_newest_code_when_its_import_changes() {
    let host = Host::with(&["gives", "takes"]);
    host.install_patch("takes", 2, &[("taken", "taken")]);
    assert_snapshot!(host.reload(), @"gives: unchanged, takes: patched (v1+1)");
    host.plugins.install("gives", 2);
    assert_snapshot!(host.reload(), @"gives: ok, takes: rebound");
    let build = |number| build_of(&revision("takes", number)).to_string();
    assert_eq!(host.info("takes", 2).unwrap().build_id, build(2));
    let taken: (u32, Option<u32>) = host.engine.invoke("takes", "taken", args![]).unwrap();
    assert_eq!(taken, (2, None));

    // The plugin is loaded instead of patched, since it has to be rebound.
    host.write_patch("takes", &patch(&revision("takes", 2), &revision("takes", 3), &[]));
    host.plugins.install("takes", 3);
    host.plugins.install("gives", 3);
    assert_snapshot!(host.reload(), @"gives: ok, takes: ok (as a whole: a plugin that it imports changes)");
    assert_eq!(host.info("takes", 3).unwrap().build_id, build(3));
}
