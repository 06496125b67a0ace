//! Hosts and sessions as processes: their signals, how they end, and what they leave behind.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use insta::assert_snapshot;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Serving, host_command, outcomes, run_command, sample, world};
use crate::support::{Answer, Gate, Place, PluginDir, Process, Session, get, mapped_files};

#[test]
fn a_session_prints_one_line_per_event_and_ends_its_host() {
    let place = Place::new();
    let plugins = PluginDir::empty();
    plugins.write("world", &sample("world"));
    let mut run = run_command(&place, &plugins);
    run.args(["--no-watch", "--", "--port", "0"]);
    let mut run = Process::start(run);
    run.wait_for_text("== host started (pid ");
    run.wait_for_text(") answers");
    run.wait_for_text("stdout: listening on http://127.0.0.1:");
    plugins.write("world", &world(2));
    place.json(&["reload"]);
    run.wait_for_text(": world: ok");
    run.wait_for_text("== world v1 freed: ");
    run.signal(Signal::INT);
    let end = run.finish();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stdout.contains("== host ended: exit code 0\n"), "{end:?}");
}

#[test]
fn a_plugin_that_ends_the_process_is_named() {
    let ended_by = |code: &str| {
        let serving = Serving::of(PluginDir::of(&["exits-thread"]));
        serving.place.refusal(3, &["invoke", "exits-thread", "end_process", code]);
        let end = serving.session.finish();
        assert_eq!(end.code, Some(1), "{end:?}");
        let error: Value = serde_json::from_str(end.stdout.lines().last().unwrap()).unwrap();
        assert_eq!(error["error"]["plugin"], "exits-thread");
        error["error"]["message"].as_str().unwrap().to_owned()
    };
    assert_snapshot!(ended_by("0"), @r#"the host ended by itself: exit code 0; exits-thread v1 asked for it (`process::exit`), in end_process on "hotswap-console"; an error or a panic would end the call alone"#);
    assert!(ended_by("3").starts_with("the host ended by itself: exit code 3; "));
}

#[test]
fn an_interrupted_session_leaves_nothing_behind() {
    let Serving { mut session, place, plugins } = Serving::with_samples();
    plugins.write("world", &world(2));
    place.json(&["reload"]);
    session.wait_until_freed("world", 1);
    let (staging, socket) = (session.staging_dir.clone(), session.socket.clone());
    let pid = session.host;
    assert_ends_normally(session);
    assert!(!staging.exists() && !socket.exists());
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_host_that_is_killed_ends_the_session_with_an_error() {
    let Serving { session, .. } = Serving::with_samples();
    kill(session.host, Signal::KILL);
    let end = session.finish();
    assert_eq!(end.code, Some(1), "{end:?}");
    let error: Value = serde_json::from_str(end.stdout.lines().last().unwrap()).unwrap();
    assert_snapshot!(error["error"]["message"].as_str().unwrap(), @"the host was ended from outside: SIGKILL (signal 9); a user sent it, or the system did because memory ran out (`dmesg` shows this)");
}

#[test]
fn a_host_that_dies_leaves_a_record_of_its_running_calls() {
    let Serving { mut session, place, plugins } =
        Serving::of(PluginDir::of(&["echo", "waits", "stuck"]));
    let host = place.json(&["status"])["host"].clone();
    let calls_file = Path::new(host["calls_file"].as_str().unwrap()).to_owned();
    assert_eq!(fs::metadata(&calls_file).unwrap().permissions().mode() & 0o777, 0o600);

    // Two calls, one of them `async`, and a step of a load.
    let (called, awaited, step) = (Gate::new(), Gate::new(), Gate::new());
    let stuck = std::env::temp_dir().join(format!("hotswap-stuck-{}", session.host));
    let start = |args: &[&str]| {
        let mut hotswap = place.command("hotswap");
        hotswap.args(args);
        Process::start(hotswap)
    };
    let _call = start(&["invoke", "echo", "hold", called.path()]);
    let _in_call = called.arrival();
    let _async_call = start(&["invoke", "waits", "block", awaited.path()]);
    let _in_poll = awaited.arrival();
    fs::write(&stuck, format!("on_init {}", step.path())).unwrap();
    plugins.install("stuck", 2);
    let _load = start(&["reload"]);
    let _in_step = step.arrival();

    kill(session.host, Signal::ABORT);
    let exited = session.wait_for("host_exited", |_| true);
    fs::remove_file(stuck).unwrap();
    assert_eq!(exited["signal"], Signal::ABORT.as_raw());
    let calls = exited["calls"].as_array().unwrap().iter();
    let calls: BTreeSet<_> = calls
        .map(|call| {
            assert!(call["thread_id"].as_i64().unwrap() > 0, "{call}");
            let text = |name: &str| call[name].as_str().unwrap().to_owned();
            let (plugin, function, thread) = (text("plugin"), text("function"), text("thread"));
            format!("{plugin} v{} {function} on {thread}", call["version"])
        })
        .collect();
    let expected = [
        "echo v1 hold on hotswap-console",
        "stuck v2 on_init on hotswap-loader",
        "waits v1 block on hotswap-console",
    ];
    assert_eq!(calls, expected.map(String::from).into());
    assert!(!calls_file.exists());
}

#[test]
fn sigusr1_reloads() {
    let mut serving = Serving::with_samples();
    serving.plugins.write("world", &world(2));
    kill(serving.session.host, Signal::USR1);
    let report = serving.session.wait_for_generation(2);
    assert_eq!(outcomes(&report), [("cat", "unchanged"), ("world", "ok")]);
    assert_eq!(serving.session.get("/greet/Ada"), "Hello02Ada!\n");
}

#[test]
fn the_host_runs_without_a_console_and_ends_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let (place, plugins) = (Place::new(), PluginDir::empty());
        plugins.write("world", &sample("world"));
        let mut command = host_command(&place, &plugins);
        command.env_remove("HOTSWAP_CONSOLE");
        let mut host = Process::start(command);
        let listening = "listening on http://";
        let address = host.wait_for(listening, |line| line.strip_prefix(listening)?.parse().ok());
        assert_eq!(get(address, "/greet/Ada?times=1").unwrap(), (200, "Hello, Ada!\n".into()));
        assert_eq!(place.json(&["hosts"]), json!([]));
        for number in 2..=3 {
            plugins.write("world", &world(number));
            host.signal(Signal::USR1);
            host.wait_for("the reload in its log", |line| {
                let is_it = line.contains("loaded: world: ok") && line.contains("generation");
                (is_it && line.ends_with(&number.to_string())).then_some(())
            });
        }
        assert_eq!(get(address, "/greet/Ada").unwrap().1, "Hello03Ada!\n");
        host.signal(signal);
        let end = host.finish();
        assert_eq!(end.code, Some(0), "{end:?}");
        assert!(!end.stderr.contains('\u{1b}'), "colours without a terminal: {}", end.stderr);
    }
}

#[test]
fn the_files_of_a_killed_host_are_removed() {
    let (place, plugins) = (Place::new(), PluginDir::of(&["echo"]));
    let mut killed = Process::start(host_command(&place, &plugins));
    killed.wait_for_text("listening on");
    let host = place.json(&["status"])["host"].clone();
    let path = |name: &str| Path::new(host[name].as_str().unwrap());
    killed.signal(Signal::KILL);
    assert_eq!(killed.finish().code, None);
    assert!(path("staging_dir").exists() && path("socket").exists());

    let mut next = Process::start(host_command(&place, &plugins));
    next.wait_for_text("listening on");
    assert!(!path("staging_dir").exists());
    let hosts = place.json(&["hosts"]);
    assert_eq!(hosts.as_array().unwrap().len(), 1, "{hosts}");
    assert_eq!(hosts[0]["pid"], next.pid());
    assert!(!path("socket").exists());
    let maps = format!("/proc/{}/maps", next.pid());
    let staging = Path::new(hosts[0]["staging_dir"].as_str().unwrap());
    assert_eq!(mapped_files(Path::new(&maps), staging).len(), 1);
}

#[test]
fn no_request_fails_while_plugins_are_replaced_under_load() {
    const RELOADS: u32 = 20;
    const MOST_REQUESTS: usize = 8000;
    let mut serving = Serving::with_samples();
    let address = serving.session.address;
    let done = AtomicBool::new(false);
    let client = || {
        let mut newest = 0;
        for count in 0..MOST_REQUESTS {
            if done.load(Ordering::Relaxed) {
                return (count, newest);
            }
            let (status, body) = get(address, "/greet/Ada").expect("an answer");
            assert_eq!(status, 200, "{body}");
            let number = body.strip_prefix("Hello").and_then(|rest| rest.strip_suffix("Ada!\n"));
            let number = number.unwrap_or_else(|| panic!("another greeting: {body}"));
            let number = number.parse().unwrap_or(1);
            assert!(number >= newest, "{number} came after {newest}");
            newest = number;
        }
        (MOST_REQUESTS, newest)
    };
    thread::scope(|scope| {
        let clients = [scope.spawn(client), scope.spawn(client)];
        for number in 2..=RELOADS + 1 {
            serving.plugins.write("world", &world(number));
            let report = serving.json(&["reload"]);
            assert_eq!(outcomes(&report), [("cat", "unchanged"), ("world", "ok")]);
        }
        done.store(true, Ordering::Relaxed);
        for client in clients {
            let (requests, newest) = client.join().unwrap();
            assert!(requests > 0 && newest > 1, "{requests} requests, the newest of {newest}");
        }
    });
    for replaced in 1..=RELOADS {
        serving.session.wait_until_freed("world", replaced);
    }
    let mapped = serving.session.mapped();
    assert_eq!(mapped.len(), 2, "{mapped:?}");
    assert_ends_normally(serving.session);
}

/// Interrupts a session. The session and its host must end, and not by the signal.
fn assert_ends_normally(session: Session) {
    session.signal(Signal::INT);
    let Answer { code, stdout, .. } = session.finish();
    assert_eq!(code, Some(0), "{stdout}");
    let events: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let exit = events.iter().find(|event| event["event"] == "host_exited").expect("its end");
    assert_eq!((&exit["code"], &exit["signal"]), (&json!(0), &Value::Null));
    assert_eq!(exit["expected"], true);
    assert!(events.iter().any(|event| event["event"] == "ended"), "{stdout}");
}

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}
