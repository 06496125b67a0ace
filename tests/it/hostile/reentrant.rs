//! Code of a plugin calls the engine, or never returns, at each place where it can run. The engine answers at
//! once, and nothing else is affected.

use std::{
    collections::BTreeMap,
    env,
    ffi::{CStr, c_char},
    fs,
    sync::{Mutex, OnceLock, PoisonError, mpsc::channel},
    thread,
    time::Duration,
};

use hostile_api::Text;
use hotswap_engine::{Engine, EngineError, args, protocol::VersionState};

use crate::support::{End, Host, PATIENCE, PluginDir, in_own_process, revision};

/// The places where code of the plugin runs, and lets the host act.
const PLACES: [&str; 21] = [
    "constructor",
    "create",
    "reloadable",
    "export",
    "import",
    "on_load",
    "on_init",
    "thread",
    "log event",
    "serialise",
    "modify",
    "waker",
    "task",
    "call",
    "interface",
    "drop of a value",
    "drop of an object",
    "on_free",
    "drop of the plugin",
    "finaliser",
    "callback",
];

/// The action at a place.
type Act = Box<dyn Fn(&'static str) + Send + Sync>;

static ACT: OnceLock<Act> = OnceLock::new();

extern "C" fn act(place: *const c_char) {
    // SAFETY: the plugin passes a text.
    let place = unsafe { CStr::from_ptr(place) }.to_str().unwrap_or_default();
    act_at(place);
}

fn act_at(place: &str) {
    let place = PLACES.iter().find(|known| **known == place);
    if let (Some(act), Some(place)) = (ACT.get(), place) {
        act(place);
    }
}

/// Makes the plugin call `then` at each of the places.
fn call_at_places(then: impl Fn(&'static str) + Send + Sync + 'static) {
    assert!(ACT.set(Box::new(then)).is_ok());
    let address = (act as extern "C" fn(*const c_char)) as usize;
    // SAFETY: nothing else runs in this process yet.
    unsafe { env::set_var("HOSTILE_ACT", address.to_string()) };
}

/// A subscriber that acts at each log event of the plugin.
struct Acting;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Acting {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if event.metadata().target().starts_with("acts") {
            act_at("log event");
        }
    }
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        use tracing_subscriber::layer::SubscriberExt as _;
        let _ =
            tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Acting));
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_time().build().expect("a runtime")
    })
}

fn host() -> Host {
    let handle = runtime().handle().clone();
    let host = Host::new(PluginDir::of(&["echo"]), |builder| {
        let builder = builder.tokio(handle).step_timeout(Duration::from_millis(500));
        builder.on_reload(|_, _| {
            act_at("callback");
            Ok::<_, std::convert::Infallible>(())
        })
    });
    host.reload();
    host.plugins.install("acts", 1);
    host
}

/// Takes the host through the whole life of a plugin, and ignores errors.
fn run_whole_life(engine: &Engine, install: impl Fn(u32)) {
    if engine.load(()).is_err() {
        return;
    }
    for function in ["modify", "arm", "start_task", "call", "touch", "replace"] {
        let _ = engine.invoke::<()>("acts", function, args![]);
    }
    let text = engine.vault().extension().find::<dyn Text>("acts text");
    if let Ok(Some(text)) = text {
        text.text();
    }
    drop(engine.vault_snapshot());
    for revision in [2, 3] {
        install(revision);
        if engine.reload().is_err() {
            return;
        }
    }
}

/// What the answer says, without its text.
fn describe_answer<T>(answer: Result<T, EngineError>) -> &'static str {
    match answer {
        Ok(_) => "works",
        Err(EngineError::InsideLoad { .. }) => "is inside a load",
        Err(_) => "is refused",
    }
}

/// Asks once at every place, and returns the answers by place.
fn answers_by_place(ask: fn(&Engine) -> &'static str) -> BTreeMap<&'static str, &'static str> {
    static ENGINE: Mutex<Option<Engine>> = Mutex::new(None);
    static ANSWERS: Mutex<BTreeMap<&str, &str>> = Mutex::new(BTreeMap::new());
    let answers = || ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    call_at_places(move |place| {
        let Some(engine) = ENGINE.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            return;
        };
        if answers().contains_key(place) {
            return;
        }
        answers().insert(place, "never answers");
        let answer = ask(&engine);
        answers().insert(place, answer);
    });
    let host = host();
    answers().clear();
    *ENGINE.lock().unwrap() = Some(host.engine.clone());
    let (done, is_done) = channel();
    thread::spawn(move || {
        run_whole_life(&host.engine, |revision| host.plugins.install("acts", revision));
        host.wait_until("acts", 1, |info| info.state == VersionState::Freed);
        let _ = done.send(());
    });
    is_done.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no progress: {:?}", answers()));
    answers().clone()
}

/// The places with an unexpected answer.
fn unexpected_answers(
    answers: &BTreeMap<&'static str, &'static str>,
    expected: impl Fn(&str) -> &'static str,
) -> Vec<String> {
    let reported =
        PLACES.iter().map(|place| (place, answers.get(place).unwrap_or(&"was not reached")));
    let wrong = reported.filter(|(place, answer)| expected(place) != **answer);
    wrong.map(|(place, answer)| format!("{place}: {answer}")).collect()
}

/// The expected answer to a request for a load. At the first places, a load waits for the code that makes the
/// request, or for the loader's lock, which is held there.
fn answer_in_load(place: &str) -> &'static str {
    match place {
        "constructor" | "finaliser" | "create" | "reloadable" | "export" | "import" | "on_load"
        | "on_init" | "thread" | "log event" | "callback" => "is inside a load",
        _ => "works",
    }
}

/// Ends the process of a test that has reached its end, without finalisers: they may wait for something that never
/// returns.
fn exit_at_end_of_test() {
    println!("it came to its end");
    // SAFETY: the call has no precondition.
    unsafe { libc::_exit(0) };
}

fn expect_end_of_test(end: &End) {
    let came = end.output.contains("it came to its end");
    assert!(end.status.success() && came, "{:?} {}", end.status, end.output);
}

#[test]
fn a_reload_that_is_requested_anywhere_is_answered() {
    let end = in_own_process(|| {
        let answers = answers_by_place(|engine| describe_answer(engine.reload()));
        assert_eq!(unexpected_answers(&answers, answer_in_load), [""; 0]);
        exit_at_end_of_test();
    });
    expect_end_of_test(&end);
}

#[test]
fn a_plan_that_is_requested_anywhere_is_answered() {
    let end = in_own_process(|| {
        let answers = answers_by_place(|engine| describe_answer(engine.plan(false)));
        assert_eq!(unexpected_answers(&answers, answer_in_load), [""; 0]);
        exit_at_end_of_test();
    });
    expect_end_of_test(&end);
}

#[test]
fn a_rollback_that_is_requested_anywhere_is_answered() {
    let end = in_own_process(|| {
        // There is no such version. The engine says so wherever it gets as far as looking for the version.
        let answers = answers_by_place(|engine| describe_answer(engine.rollback("echo@77")));
        let expected = |place: &str| match answer_in_load(place) {
            "works" => "is refused",
            inside => inside,
        };
        assert_eq!(unexpected_answers(&answers, expected), [""; 0]);
        exit_at_end_of_test();
    });
    expect_end_of_test(&end);
}

#[test]
fn a_free_that_is_requested_anywhere_is_answered() {
    let end = in_own_process(|| {
        let answers = answers_by_place(|engine| match engine.free("acts@1") {
            Ok(_) | Err(EngineError::NotFreeable { .. } | EngineError::UnknownPlugin { .. }) => {
                "works"
            }
            Err(_) => "is refused",
        });
        assert_eq!(unexpected_answers(&answers, |_| "works"), [""; 0]);
        exit_at_end_of_test();
    });
    expect_end_of_test(&end);
}

#[test]
fn a_shutdown_that_is_requested_anywhere_is_answered() {
    let end = in_own_process(|| {
        static NOW: Mutex<Option<(&str, Engine)>> = Mutex::new(None);
        let now = || NOW.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, is_asked) = channel();
        call_at_places(move |place| {
            let Some((_, engine)) = now().take_if(|(at, _)| *at == place) else { return };
            engine.shutdown(Duration::from_millis(200));
            let _ = asked.send(place);
        });
        for place in PLACES {
            let host = host();
            *now() = Some((place, host.engine.clone()));
            let (done, is_done) = channel();
            thread::spawn(move || {
                run_whole_life(&host.engine, |revision| host.plugins.install("acts", revision));
                let _ = done.send(host.engine.shutdown(PATIENCE).held);
            });
            assert_eq!(is_asked.recv_timeout(PATIENCE), Ok(place));
            let held = is_done.recv_timeout(PATIENCE);
            assert_eq!(held, Ok(Vec::new()), "{place}");
        }
        exit_at_end_of_test();
    });
    expect_end_of_test(&end);
}

#[test]
fn a_reload_that_a_load_of_another_engine_requests_is_answered() {
    let end = in_own_process(|| {
        static ASKED: Mutex<Option<(&str, Vec<Engine>)>> = Mutex::new(None);
        let asked = || ASKED.lock().unwrap_or_else(PoisonError::into_inner);
        let (answer, answers) = channel();
        // The load of the first engine waits for that of the second one, which asks the first one for a load.
        call_at_places(move |at| {
            let next = asked().as_mut().filter(|(place, _)| *place == at).and_then(|it| it.1.pop());
            if let Some(engine) = next {
                let _ = answer.send(describe_answer(engine.reload()));
            }
        });
        let (first, second) = (host(), host());
        for (revision, place) in (1..).zip(["on_init", "thread", "callback"]) {
            first.plugins.install("acts", revision);
            second.plugins.install("acts", revision);
            *asked() = Some((place, vec![first.engine.clone(), second.engine.clone()]));
            first.reload();
            let answers: Vec<_> = answers.try_iter().collect();
            assert_eq!(answers, ["is inside a load", "works"], "{place}");
        }
        exit_at_end_of_test();
    });
    expect_end_of_test(&end);
}

/// Stays at `place` for ever. Another plugin is reloaded and freed all the same, and the engine shuts down.
fn stay_at_place(place: &'static str) {
    let (reached, is_reached) = channel();
    call_at_places(move |at| {
        if at == place {
            let _ = reached.send(());
            loop {
                thread::park();
            }
        }
    });
    let host = host();
    let engine = host.engine.clone();
    let (file, newer) = (host.plugins.file("acts"), revision("acts", 2));
    thread::spawn(move || {
        run_whole_life(&engine, |_| {
            let new = file.with_extension("new");
            fs::write(&new, &newer).and_then(|()| fs::rename(&new, &file)).expect("write a plugin");
        });
    });
    is_reached.recv_timeout(PATIENCE).expect("the callback reaches this step");
    let (done, is_done) = channel();
    thread::spawn(move || {
        host.plugins.install("echo", 2);
        loop {
            // Another load of this plugin could have to wait at that place again.
            let _ = fs::remove_file(host.plugins.file("acts"));
            if host.engine.reload().is_ok() && host.info("echo", 2).is_some() {
                break;
            }
        }
        host.wait_for("echo", 1, VersionState::Freed);
        host.engine.shutdown(Duration::from_millis(100));
        let _ = done.send(());
    });
    is_done.recv_timeout(PATIENCE).expect("other plugins are freed meanwhile");
    exit_at_end_of_test();
}

#[test]
fn a_load_whose_constructor_never_returns_is_refused_and_calls_go_on() {
    let end = in_own_process(|| {
        call_at_places(|at| {
            if at == "constructor" {
                loop {
                    thread::park();
                }
            }
        });
        let host = host();
        // The artifact is opened in a process of its own first, so the host's loader is free for the second load.
        for _ in 0..2 {
            let refused = host.refused_reload();
            let expected = "; a constructor did not return within 0.5 s";
            assert!(
                refused.starts_with("acts: open: ") && refused.ends_with(expected),
                "{refused}"
            );
            assert_eq!(host.engine.invoke::<i32>("echo", "add", args![1, 2]).unwrap(), 3);
        }
        exit_at_end_of_test();
    });
    expect_end_of_test(&end);
}

macro_rules! never_left {
    ($($name:ident: $place:literal),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                let end = in_own_process(|| stay_at_place($place));
                expect_end_of_test(&end);
            }
        )*
    };
}

never_left! {
    create_never_returns: "create",
    reloadable_never_returns: "reloadable",
    export_never_returns: "export",
    import_never_returns: "import",
    on_load_never_returns: "on_load",
    on_init_never_returns: "on_init",
    a_thread_that_a_step_waits_for_never_ends: "thread",
    serialising_a_value_never_returns: "serialise",
    changing_a_value_never_returns: "modify",
    a_waker_never_returns: "waker",
    a_task_never_returns: "task",
    a_call_never_returns: "call",
    a_method_never_returns: "interface",
    the_drop_of_a_value_never_returns: "drop of a value",
    the_drop_of_an_object_never_returns: "drop of an object",
    on_free_never_returns: "on_free",
    the_drop_of_the_plugin_never_returns: "drop of the plugin",
}
