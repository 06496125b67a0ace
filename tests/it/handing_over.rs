//! A resource that only one version can have is handed over: calls wait, and nothing is lost.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    pin::{Pin, pin},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
        mpsc,
    },
    task::{Context, Waker},
    thread,
    time::Duration,
};

use futures::{executor::block_on, join};
use hostile_api::Text;
use hotswap_engine::{
    CallError, Engine, Generation, args,
    protocol::{PhaseKind, ReloadReport, VersionState},
};
use rusqlite::Connection;

use crate::support::{Gate, Host, PluginDir, find, in_own_process, renamed, with_revision};

/// The variable that names the database.
const DATABASE: &str = "HOTSWAP_TEST_DATABASE";

/// The variable that makes `hand_over` call a function of the plugin.
const CALLS: &str = "HOTSWAP_TEST_HAND_OVER_CALLS";

/// The variable that makes `take_back` wait.
const TAKE_BACK_WAITS: &str = "HOTSWAP_TEST_TAKE_BACK_WAITS";

/// The variable that makes `on_init` fail after it has opened the database.
const REFUSE: &str = "HOTSWAP_TEST_REFUSE";

fn set(variable: &str, value: &Path) {
    // SAFETY: the process is a test's own, and reads its environment only through the engine.
    unsafe { env::set_var(variable, value) };
}

fn unset(variable: &str) {
    // SAFETY: as above.
    unsafe { env::remove_var(variable) };
}

fn host(step_timeout: Duration) -> Host {
    let plugins = PluginDir::of(&["has-database"]);
    let host = Host::new(plugins, |builder| builder.step_timeout(step_timeout));
    host.reload();
    host
}

fn add(host: &Host, number: i64) -> u32 {
    host.engine.invoke("has-database", "add", args![number]).unwrap()
}

fn has_waited_for_calls(report: &ReloadReport) -> bool {
    report.phases.iter().any(|timing| {
        timing.phase == PhaseKind::CallsWaited && timing.plugin.as_deref() == Some("has-database")
    })
}

/// The rows of a writer, after the host has closed the database; also checks that the database is intact.
fn count_rows(path: &Path, writer: &str) -> i64 {
    let connection = Connection::open(path).unwrap();
    let whole: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(whole, "ok");
    let count = "SELECT count(*) FROM rows WHERE writer = ?1";
    connection.query_row(count, [writer], |row| row.get(0)).unwrap()
}

/// The second process of the next test runs this. It writes some rows for each byte that it reads; in any other
/// process it does nothing.
#[test]
fn writes_beside_a_host() {
    let Some(path) = env::var_os(DATABASE) else { return };
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(30)).unwrap();
    let mut written = 0;
    for _ in std::io::stdin().lock().bytes() {
        for _ in 0..5 {
            connection.execute("INSERT INTO rows VALUES ('other', ?1)", [written]).unwrap();
            written += 1;
        }
    }
    println!("\nwritten {written}");
}

#[test]
fn a_database_under_load_loses_nothing() {
    const THREADS: i64 = 4;
    const RELOADS: u32 = 100;

    let end = in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = &dir.path().join("rows.db");
        set(DATABASE, path);
        let host = host(Duration::from_secs(30));
        let mut other = Command::new(env::current_exe().unwrap());
        other.args(["--exact", "handing_over::writes_beside_a_host", "--nocapture"]);
        other.env(DATABASE, path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut other = other.spawn().unwrap();
        let added = AtomicI64::new(0);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for by_type in (0..THREADS).map(|number| number % 2 == 0) {
                let (engine, added, is_over) = (&host.engine, &added, &is_over);
                scope.spawn(move || {
                    let typed = engine.func::<fn(i64) -> u32>("has-database", "add").unwrap();
                    while !is_over.load(Ordering::Relaxed) {
                        let number = added.load(Ordering::Relaxed);
                        match by_type {
                            true => typed.call(number).unwrap(),
                            false => engine.invoke("has-database", "add", args![number]).unwrap(),
                        };
                        added.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for version in 2..RELOADS + 2 {
                host.plugins.install("has-database", version);
                // The other process writes during the handover in this one.
                other.stdin.as_mut().unwrap().write_all(b"w").unwrap();
                assert!(has_waited_for_calls(&host.reload()));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        drop(other.stdin.take());
        let output = BufReader::new(other.stdout.take().unwrap());
        let written = output.lines().map(Result::unwrap);
        let written = written.filter_map(|line| line.strip_prefix("written ")?.parse().ok());
        let written: i64 = written.last().expect("the other process has written a number");
        assert!(other.wait().unwrap().success());
        drop(host);
        assert_eq!(
            (count_rows(path, "plugin"), count_rows(path, "other")),
            (added.into_inner(), written)
        );
        assert_eq!(written, i64::from(RELOADS) * 5);
        println!("done");
    });
    assert!(end.output.contains("done"), "{:?} {}", end.status, end.output);
}

#[test]
fn if_the_new_version_fails_the_old_one_takes_its_resource_back() {
    let end = in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.db");
        set(DATABASE, &path);
        let host = host(Duration::from_secs(30));
        assert_eq!(add(&host, 1), 1);
        set(REFUSE, &path);
        host.plugins.install("has-database", 2);
        println!("{}", host.refused_reload());
        assert_eq!(add(&host, 2), 1);
        unset(REFUSE);
        let old = host.engine.plugin("has-database").unwrap();
        host.plugins.install("has-database", 3);
        assert!(host.reload().to_string().contains("; calls of has-database waited for at most "));
        // A handle to the version that has released the database also reaches the version that has it.
        assert_eq!(old.invoke::<u32>("add", args![3]).unwrap(), 3);
        assert_eq!(add(&host, 4), 3);
        drop(old);
        host.wait_for("has-database", 1, VersionState::Freed);
        drop(host);
        assert_eq!(count_rows(&path, "plugin"), 4);
        println!("done");
    });
    assert!(end.output.contains("done"), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("has-database: on_init: the test refuses"), "{}", end.output);
}

/// As long as nobody knows what a version has released, no other version takes it.
#[test]
fn what_is_released_too_late_is_taken_back_all_the_same() {
    let end = in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.db");
        set(DATABASE, &path);
        let host = host(Duration::from_secs(1));
        let (releases, has_taken_back) = (Gate::new(), Gate::new());
        set("HOTSWAP_TEST_HAND_OVER_WAITS", Path::new(releases.path()));
        set(TAKE_BACK_WAITS, Path::new(has_taken_back.path()));
        host.plugins.install("has-database", 2);
        println!("{}", host.refused_reload());
        releases.arrival().release();
        let has_taken_back = has_taken_back.arrival();
        assert_eq!(add(&host, 1), 1);
        println!("{}", host.refused_reload());
        has_taken_back.release();
        unset("HOTSWAP_TEST_HAND_OVER_WAITS");
        unset(TAKE_BACK_WAITS);
        host.reload();
        assert_eq!(add(&host, 2), 2);
        drop(host);
        assert_eq!(count_rows(&path, "plugin"), 2);
        println!("done");
    });
    assert!(end.output.contains("done"), "{:?} {}", end.status, end.output);
    for refused in ["did not return within 1 s", "its calls did not end within 1 s"] {
        let refused = format!("has-database: hand_over: {refused}");
        assert!(end.output.contains(&refused), "{refused}: {}", end.output);
    }
}

#[test]
fn a_version_takes_back_however_long_a_step_may_take() {
    let end = in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.db");
        set(DATABASE, &path);
        let host = host(Duration::MAX);
        set(REFUSE, &path);
        host.plugins.install("has-database", 2);
        host.refused_reload();
        assert_eq!(add(&host, 1), 1);
        println!("done");
    });
    assert!(end.output.contains("done"), "{:?} {}", end.status, end.output);
}

#[test]
fn a_call_that_does_not_end_keeps_a_version_from_handing_over() {
    let end = in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.db");
        set(DATABASE, &path);
        let host = host(Duration::from_millis(300));
        let gate = Gate::new();
        thread::scope(|scope| {
            let (engine, gate_path) = (&host.engine, gate.path());
            let late = scope.spawn(move || {
                engine.invoke::<u32>("has-database", "add_later", args![gate_path, 1]).unwrap()
            });
            let waiting = gate.arrival();
            host.plugins.install("has-database", 2);
            println!("{}", host.refused_reload());
            assert_eq!(add(&host, 2), 1);
            waiting.release();
            assert_eq!(late.join().unwrap(), 1);
        });
        host.reload();
        assert_eq!(add(&host, 3), 2);
        drop(host);
        assert_eq!(count_rows(&path, "plugin"), 3);
        println!("done");
    });
    assert!(end.output.contains("done"), "{:?} {}", end.status, end.output);
    let refused =
        "has-database: hand_over: its calls did not end within 0.3 s, so it cannot hand over";
    assert!(end.output.contains(refused), "{}", end.output);
}

#[test]
fn code_for_which_a_load_waits_is_refused_a_call_that_the_load_holds_up() {
    let end = in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.db");
        set(DATABASE, &path);
        let plugins = PluginDir::of(&["has-database"]);
        let host = Host::new(plugins, |builder| {
            builder.step_timeout(Duration::MAX).on_reload(|new, old| {
                let add = |generation: &Generation| -> Result<u32, CallError> {
                    generation.plugin("has-database").unwrap().invoke("add", args![1])
                };
                if let Ok(old) = old.plugin("has-database") {
                    let refused = old.invoke::<u32>("add", args![1]).unwrap_err();
                    println!("callback: {refused}");
                }
                println!("callback: {}", add(new)?);
                Ok::<(), CallError>(())
            })
        });
        host.reload();
        host.plugins.install("has-database", 2);
        host.reload();

        set(CALLS, &path);
        host.plugins.install("has-database", 3);
        println!("{}", host.refused_reload());
        unset(CALLS);
        assert_eq!(add(&host, 2), 2);
        host.reload();
        assert_eq!(add(&host, 3), 3);
        println!("done");
    });
    assert!(end.output.contains("done"), "{:?} {}", end.status, end.output);
    let refused =
        "the plugin hands over, and the load that holds its calls up waits for this caller";
    for from in ["callback: has-database v1: add: ", "hand_over: has-database v2: live_answer: "] {
        assert!(end.output.contains(&format!("{from}{refused}")), "{}", end.output);
    }
}

#[test]
fn a_reload_that_is_requested_in_a_call_of_a_version_that_hands_over_is_refused_at_once() {
    struct Reloads(Engine);

    impl Text for Reloads {
        fn text(&self) -> String {
            self.0.reload().unwrap_err().to_string()
        }
    }

    let end = in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        set(DATABASE, &dir.path().join("rows.db"));
        let host = host(Duration::MAX);
        let object = Reloads(host.engine.clone());
        host.engine.vault().extension().register::<dyn Text, _>("host", object).unwrap();
        host.plugins.install("has-database", 2);
        let refused: String = host.engine.invoke("has-database", "call_host", args![]).unwrap();
        println!("{refused}");
        assert_eq!(add(&host, 1), 1);
        host.reload();
        assert_eq!(add(&host, 2), 2);
        println!("done");
    });
    assert!(end.output.contains("done"), "{:?} {}", end.status, end.output);
    let refused = "has-database: hand_over: the load was requested in one of its calls";
    assert!(end.output.contains(refused), "{}", end.output);
}

fn answer(engine: &Engine) -> Result<u32, CallError> {
    engine.invoke("has-database", "live_answer", args![])
}

/// Calls a plugin, from a call of a plugin, until the calls of another thread are held up.
struct Asks {
    engine: Engine,
    /// How many calls of the other thread have ended.
    others: Arc<AtomicU32>,
    /// Whether the reload has returned.
    is_over: Arc<AtomicBool>,
}

impl Text for Asks {
    fn text(&self) -> String {
        /// How many calls end here while none of the other thread does, before that one counts as held up.
        const ENOUGH: u32 = 20_000;
        let (mut seen, mut since) = (0, 0);
        while since < ENOUGH && !self.is_over.load(Ordering::Relaxed) {
            if let Err(error) = answer(&self.engine) {
                return error.to_string();
            }
            let others = self.others.load(Ordering::Relaxed);
            since = if others == seen { since + 1 } else { 0 };
            seen = others;
        }
        "all were answered".into()
    }
}

/// Reloads while a function of `caller` runs that calls a plugin which hands over.
fn reload_during_calls(host: &Host, caller: &str) {
    let (others, is_over) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let engine = &host.engine;
    let object = Asks { engine: engine.clone(), others: others.clone(), is_over: is_over.clone() };
    engine.vault().extension().replace::<dyn Text, _>("host", object).unwrap();
    thread::scope(|scope| {
        let calls = scope.spawn(|| engine.invoke::<String>(caller, "call_host", args![]));
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                answer(engine).unwrap();
                others.fetch_add(1, Ordering::Relaxed);
            }
        });
        while others.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        let reloaded = engine.reload();
        is_over.store(true, Ordering::Relaxed);
        println!("{}", reloaded.map_or_else(|error| error.to_string(), |it| it.to_string()));
        println!("{}", calls.join().unwrap().unwrap_or_else(|error| error.to_string()));
    });
}

/// The plugin once more, under another name, with another name for its live function.
fn another(number: u32) -> Vec<u8> {
    const LIVE: &[u8] = b"live_answer";
    let mut file = renamed("has-database", "has-databasf");
    while let Some(at) = find(&file, LIVE) {
        file[at..at + LIVE.len()].copy_from_slice(b"live_answes");
    }
    with_revision(file, number)
}

#[test]
fn a_call_that_makes_a_call_does_not_wait_for_the_load_that_waits_for_it() {
    let end = in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        set(DATABASE, &dir.path().join("rows.db"));
        let host = host(Duration::from_secs(2));
        host.plugins.install("has-database", 2);
        reload_during_calls(&host, "has-database");

        // The call is one of another plugin that hands over at the same time.
        host.plugins.write("has-databasf", &another(1));
        host.reload();
        host.plugins.write("has-databasf", &another(2));
        host.plugins.install("has-database", 3);
        reload_during_calls(&host, "has-databasf");
        println!("done");
    });
    assert!(end.output.contains("done"), "{:?} {}", end.status, end.output);
    let (one, both) = ("has-database: ok; calls of", "has-database: ok, has-databasf: ok");
    for reported in [one, both, "all were answered"] {
        assert!(end.output.contains(reported), "{}", end.output);
    }
}

#[test]
fn calls_wait_until_their_version_has_taken_back_whatever_others_have() {
    let end = in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.db");
        set(DATABASE, &path);
        let host = host(Duration::from_secs(30));
        host.plugins.write("has-databasf", &another(1));
        host.reload();
        let add = |plugin| host.engine.func::<fn(i64) -> u32>(plugin, "add").unwrap();
        let all = ["has-database", "has-databasf"].map(add);
        let (gate, is_added) = (Gate::new(), AtomicBool::new(false));
        set("HOTSWAP_TEST_TAKE_BACK_BEGINS", Path::new(gate.path()));
        set(REFUSE, &path);
        host.plugins.write("has-databasf", &another(2));
        host.plugins.install("has-database", 2);
        thread::scope(|scope| {
            let (go, gone) = mpsc::channel();
            let (ready, is_ready) = mpsc::channel();
            let (all, is_added) = (&all, &is_added);
            let calls = scope.spawn(move || {
                let add = |number| all.iter().try_for_each(|add| add.call(number).map(drop));
                // The first calls of a thread take a longer way.
                (0..100).for_each(|number| add(number).unwrap());
                ready.send(()).unwrap();
                gone.recv().unwrap();
                let added = add(100);
                is_added.store(true, Ordering::Relaxed);
                added
            });
            is_ready.recv().unwrap();
            let engine = &host.engine;
            let reload = scope.spawn(|| engine.reload().unwrap_err().to_string());
            gate.arrival().release();
            // One of the versions has taken back.
            let last = gate.arrival();
            go.send(()).unwrap();
            // Long enough for a call that does not wait.
            let is_waiting = |_: &u32| !is_added.load(Ordering::Relaxed);
            (0..50_000).take_while(is_waiting).for_each(|_| thread::yield_now());
            last.release();
            println!("{}", reload.join().unwrap());
            calls.join().unwrap().unwrap();
        });
        println!("done");
    });
    assert!(end.output.contains("done"), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("has-database: on_init: the test refuses"), "{}", end.output);
}

#[test]
fn an_async_call_that_is_held_up_does_not_block_the_thread_that_other_calls_need() {
    let end = in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        set(DATABASE, &dir.path().join("rows.db"));
        let host = host(Duration::from_secs(2));
        let (engine, gate) = (&host.engine, Gate::new());
        let plugin = engine.plugin("has-database").unwrap();
        let now = engine.async_func::<fn() -> u32>("has-database", "answer_now").unwrap();
        host.plugins.install("has-database", 2);
        thread::scope(|scope| {
            let path = args![gate.path()];
            let mut first = pin!(plugin.invoke_async::<u32>("answer_later", path));
            assert!(is_pending(first.as_mut()));
            let first_waits = gate.arrival();
            let reload = scope.spawn(|| engine.reload().map(|report| report.to_string()));
            // As long as calls are not held up, they end at once.
            let by_name = loop {
                let mut call = Box::pin(plugin.invoke_async::<u32>("answer_now", &[]));
                if is_pending(call.as_mut()) {
                    break call;
                }
                assert!(!reload.is_finished(), "the load waited for a call that could not go on");
            };
            let typed = now.call();
            first_waits.release();
            println!("{:?}", block_on(async { join!(first, by_name, typed) }));
            println!("{:?}", reload.join().unwrap());
        });
        println!("done");
    });
    assert!(end.output.contains("done"), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("(Ok(42), Ok(42), Ok(42))"), "{}", end.output);
    assert!(end.output.contains("has-database: ok"), "{}", end.output);
}

fn is_pending<F: Future>(call: Pin<&mut F>) -> bool {
    call.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[test]
fn a_callback_may_wait_for_a_caller_whose_call_is_held_up() {
    let end = in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        set(DATABASE, &dir.path().join("rows.db"));
        let state = Arc::new(Mutex::new(()));
        let (begun, has_begun) = mpsc::channel();
        let in_callback = state.clone();
        let host = Host::new(PluginDir::of(&["has-database"]), |builder| {
            builder.step_timeout(Duration::from_secs(1)).on_reload(move |_, old| {
                if old.plugin("has-database").is_ok() {
                    begun.send(()).unwrap();
                    drop(in_callback.lock());
                }
                Ok::<(), CallError>(())
            })
        });
        host.reload();
        let engine = &host.engine;
        let now = engine.async_func::<fn() -> u32>("has-database", "answer_now").unwrap();
        let calls: [&dyn Fn() -> Result<u32, CallError>; 3] = [
            &|| engine.invoke("has-database", "add", args![1]),
            &|| block_on(engine.plugin("has-database").unwrap().invoke_async("answer_now", &[])),
            &|| block_on(now.call()),
        ];
        for (call, next) in calls.into_iter().zip(2..) {
            host.plugins.install("has-database", next);
            let held = state.lock().unwrap();
            thread::scope(|scope| {
                let reload = scope.spawn(|| engine.reload().map(|report| report.to_string()));
                has_begun.recv().unwrap();
                println!("{}", call().unwrap_err());
                drop(held);
                println!("{}", reload.join().unwrap().unwrap());
            });
            call().unwrap();
        }
        println!("done");
    });
    assert!(end.output.contains("done"), "{:?} {}", end.status, end.output);
    for call in ["v1: add", "v2: answer_now", "v3: answer_now"] {
        let refused = format!("has-database {call}: the plugin hands over, and a callback of");
        assert!(end.output.contains(&refused), "{}", end.output);
    }
}
