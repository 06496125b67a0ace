//! Sessions with correct hosts and with faulty ones.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hotswap_console::compare::difference::{DiffRequest, DiffVersion};
use hotswap_console::compare::probe::Prober;
use hotswap_console::host::operation::Operation;
use hotswap_console::host::socket::HostChoice;
use hotswap_console::session::{
    self, Job, JobOutcome, LogLine, Options, Order, OutputStream, Session, SessionEvent, Target,
    Watch,
};

use hotswap_protocol::{HostInfo, VersionState};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::fake_host::FakeHost;
use crate::support::samples;

fn start(target: Target) -> Session {
    session::start(Options {
        target,
        plugin_dir: None,
        host_arguments: vec!["--flag".into()],
        cargo_flags: Vec::new(),
        poll: None,
        patch: true,
        watch: Watch::On,
        client_name: "test",
        prober: Prober::at(env!("CARGO_BIN_EXE_hotswap")),
        has_screen: false,
    })
}

/// A program for /bin/sh that plays the host.
fn write_script(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("host");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The first event for which `wanted` returns a value.
async fn next<T>(session: &mut Session, wanted: impl Fn(SessionEvent) -> Option<T>) -> T {
    loop {
        let event = session.events.recv().await.expect("the session is still running");
        if let Some(found) = wanted(event) {
            return found;
        }
    }
}

async fn send_order(session: &Session, order: Order) {
    session.orders.send(order).await.unwrap();
}

async fn wait_for_end(session: &mut Session) -> Option<hotswap_protocol::WireError> {
    next(session, |event| match event {
        SessionEvent::Ended { error } => Some(error),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_running_host_is_attached_to_and_left_running() {
    let directory = tempfile::tempdir().unwrap();
    let host = FakeHost::listen(directory.path(), std::process::id());
    let mut session = start(Target::Running(HostChoice::Socket(host.socket.clone())));
    let snapshot = next(&mut session, |event| match event {
        SessionEvent::Snapshot(snapshot) => Some(snapshot),
        _ => None,
    })
    .await;
    assert_eq!(*snapshot, samples::snapshot(std::process::id()));
    assert!(matches!(session.logs.recv().await, Some(LogLine::Log(_))));
    assert_eq!(session.logs.recv().await, Some(LogLine::Dropped { count: 4 }));

    send_order(&session, Order::Operate(Operation::Reload)).await;
    let summary = next(&mut session, |event| match event {
        SessionEvent::JobFinished { job: Job::Reload, outcome, .. } => Some(outcome),
        _ => None,
    })
    .await;
    assert_eq!(summary, JobOutcome::Done { summary: "world: ok, cat: unchanged".into() });

    let call = Operation::invoke("world".into(), "greet".into(), vec!["Ada".into()]);
    send_order(&session, Order::Operate(call.clone())).await;
    let answer = next(&mut session, |event| match event {
        SessionEvent::Invoked { operation, answer } if operation == call => Some(answer),
        _ => None,
    })
    .await;
    assert_eq!(answer, Ok(samples::greeting()));

    send_order(&session, Order::End).await;
    assert_eq!(wait_for_end(&mut session).await, None);
}

#[tokio::test]
async fn the_session_attaches_again_to_a_host_that_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("host.sock");
    let start_process = || std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let mut process = start_process();
    // Both hosts report the same time, as if the clock had been set back. The time must not matter.
    let info = |pid| HostInfo { socket: socket.clone(), ..samples::host(pid) };
    let host = FakeHost::listen_as(socket.clone(), info(process.id()));
    let mut session = start(Target::Running(HostChoice::Socket(socket.clone())));
    let connected = |event| match event {
        SessionEvent::Connected { host } => Some(host.pid),
        _ => None,
    };
    assert_eq!(next(&mut session, connected).await, process.id());

    process.kill().unwrap();
    process.wait().unwrap();
    drop(host);
    next(&mut session, |event| matches!(event, SessionEvent::HostExited { .. }).then_some(()))
        .await;
    let mut later = start_process();
    let _host = FakeHost::listen_as(socket.clone(), info(later.id()));
    assert_eq!(next(&mut session, connected).await, later.id());
    later.kill().unwrap();
    later.wait().unwrap();
    send_order(&session, Order::End).await;
    assert_eq!(wait_for_end(&mut session).await, None);
}

#[tokio::test]
async fn files_of_a_host_on_another_machine_are_not_compared_with_local_files() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("host.sock");
    let info = HostInfo { socket: socket.clone(), ..samples::host(41) };
    let _host = FakeHost::listen_as(socket.clone(), info);
    let mut session = start(Target::Running(HostChoice::Through(socket)));
    let connected = |event| matches!(event, SessionEvent::Connected { .. }).then_some(());
    next(&mut session, connected).await;
    let instead = "`hotswap reload --dry-run --host 41`";
    send_order(&session, Order::Preview).await;
    let preview = |event| match event {
        SessionEvent::Preview(preview) => preview.ok(),
        _ => None,
    };
    // The host itself says which builds it would load.
    let preview = next(&mut session, preview).await;
    let planned = preview.plugins.iter().find(|plugin| plugin.changes_something()).unwrap();
    assert!(planned.new.is_some() && planned.error.is_none(), "{planned:?}");
    let why = planned.not_compared.as_ref().unwrap();
    assert!(why.message.contains(instead), "{why}");

    let from = DiffVersion::from(&samples::version(1, VersionState::Active, ""));
    let request = DiffRequest { plugin: "world".to_owned(), from, to: None };
    send_order(&session, Order::Compare(request)).await;
    let difference = |event| match event {
        SessionEvent::Difference(difference) => difference.source.err(),
        _ => None,
    };
    let error = next(&mut session, difference).await;
    assert!(error.contains(instead), "{error}");
    send_order(&session, Order::End).await;
    assert_eq!(wait_for_end(&mut session).await, None);
}

#[tokio::test]
async fn a_socket_that_is_gone_ends_the_session_with_a_reason() {
    let socket = HostChoice::Socket("/nowhere/9.sock".into());
    let mut session = start(Target::Running(socket));
    let error = wait_for_end(&mut session).await.unwrap();
    assert!(error.message.contains("/nowhere/9.sock"), "{error}");
}

#[tokio::test]
async fn a_host_that_dies_at_the_start_says_how_and_can_be_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let text = "echo \"started with $* $HOTSWAP_CONSOLE\"; echo oh no >&2; exit 3";
    let mut session = start(Target::Executable(write_script(directory.path(), text)));
    for _ in 0..2 {
        let error = next(&mut session, |event| match event {
            SessionEvent::JobFinished {
                job: Job::StartHost,
                outcome: JobOutcome::Failed { error },
                ..
            } => Some(error),
            _ => None,
        })
        .await;
        assert!(error.message.contains("exit code 3"), "{error}");
        send_order(&session, Order::Restart).await;
    }
    let mut lines = Vec::new();
    while lines.len() < 2 {
        match session.logs.recv().await {
            Some(LogLine::Output { stream, text }) => lines.push((stream, text)),
            other => panic!("{other:?}"),
        }
    }
    lines.sort_by_key(|(stream, _)| stream.as_str().to_owned());
    assert!(lines.contains(&(OutputStream::Stdout, "started with --flag 1".into())), "{lines:?}");
}

#[tokio::test]
async fn ending_the_session_ends_the_host_with_a_signal_it_can_catch() {
    let directory = tempfile::tempdir().unwrap();
    let text = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let mut session = start(Target::Executable(write_script(directory.path(), text)));
    let ready = LogLine::Output { stream: OutputStream::Stdout, text: "ready".into() };
    assert_eq!(session.logs.recv().await, Some(ready));
    send_order(&session, Order::End).await;
    let (exit, expected) = next(&mut session, |event| match event {
        SessionEvent::HostExited { exit, expected, .. } => Some((exit, expected)),
        _ => None,
    })
    .await;
    assert_eq!(exit.code, Some(0));
    assert!(expected);
    assert_eq!(wait_for_end(&mut session).await, None);
}

#[tokio::test]
async fn a_start_that_is_cancelled_ends_the_host_and_is_no_failure() {
    let directory = tempfile::tempdir().unwrap();
    let text = "echo ready; while :; do sleep 0.05; done";
    let mut session = start(Target::Executable(write_script(directory.path(), text)));
    let ready = LogLine::Output { stream: OutputStream::Stdout, text: "ready".into() };
    assert_eq!(session.logs.recv().await, Some(ready));
    send_order(&session, Order::Cancel).await;
    let expected = next(&mut session, |event| match event {
        SessionEvent::HostExited { expected, .. } => Some(expected),
        _ => None,
    })
    .await;
    assert!(expected);
    let outcome = next(&mut session, |event| match event {
        SessionEvent::JobFinished { job: Job::StartHost, outcome, .. } => Some(outcome),
        _ => None,
    })
    .await;
    assert_eq!(outcome, JobOutcome::Cancelled);
}

#[tokio::test]
async fn a_stopped_host_is_reported_with_its_signal_and_still_ends() {
    let directory = tempfile::tempdir().unwrap();
    let text = "read line; kill -TTIN $$; read line; kill -STOP $$; while :; do sleep 0.05; done";
    let mut session = start(Target::Executable(write_script(directory.path(), text)));
    let pid = next(&mut session, |event| match event {
        SessionEvent::HostStarted { pid } => Some(pid),
        _ => None,
    })
    .await;
    let stopped = |event| match event {
        SessionEvent::HostStopped { signal } => Some(signal),
        _ => None,
    };
    send_order(&session, Order::Input(b"\n".to_vec())).await;
    assert_eq!(next(&mut session, stopped).await, Signal::TTIN.as_raw());
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, Signal::CONT).unwrap();
    next(&mut session, |event| matches!(event, SessionEvent::HostContinued).then_some(())).await;
    send_order(&session, Order::Input(b"\n".to_vec())).await;
    assert_eq!(next(&mut session, stopped).await, Signal::STOP.as_raw());

    send_order(&session, Order::End).await;
    let reason = next(&mut session, |event| match event {
        SessionEvent::HostTerminated { reason } => Some(reason),
        _ => None,
    })
    .await;
    assert_eq!(reason, "the host is to end");
    let exit = next(&mut session, |event| match event {
        SessionEvent::HostExited { exit, .. } => Some(exit),
        SessionEvent::HostKilled { reason } => panic!("{reason}"),
        _ => None,
    })
    .await;
    assert_eq!(exit.signal, Some(Signal::TERM.as_raw()));
}

#[tokio::test]
async fn a_crash_is_reported_with_its_signal() {
    let directory = tempfile::tempdir().unwrap();
    let mut session = start(Target::Executable(write_script(directory.path(), "kill -SEGV $$")));
    let (exit, expected) = next(&mut session, |event| match event {
        SessionEvent::HostExited { exit, expected, .. } => Some((exit, expected)),
        _ => None,
    })
    .await;
    assert_eq!(exit.to_string(), "SIGSEGV (signal 11)");
    assert!(!expected);
}

#[tokio::test]
async fn output_of_a_host_that_floods_is_drained_and_lost_lines_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let text = "i=0; while [ $i -lt 30000 ]; do echo $i; i=$((i+1)); done; echo last >&2";
    let mut session = start(Target::Executable(write_script(directory.path(), text)));
    // The test reads no log before the host has ended, and the host must not have waited for it.
    next(&mut session, |event| matches!(event, SessionEvent::HostExited { .. }).then_some(()))
        .await;
    send_order(&session, Order::End).await;
    wait_for_end(&mut session).await;
    let mut lines = 0;
    while let Some(line) = session.logs.recv().await {
        if matches!(line, LogLine::Output { .. }) {
            lines += 1;
        }
    }
    assert!(lines < 30_000, "{lines} lines are more than the queue holds");
    assert!(lines > 1_000, "only {lines} lines were delivered");
}

#[test]
fn a_path_that_is_no_host_is_refused_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Target::at(directory.path().join("missing")).unwrap_err();
    assert!(missing.message.contains("missing"), "{missing}");
    let no_package = Target::at(directory.path().into()).unwrap_err();
    assert!(no_package.message.contains("Cargo.toml"), "{no_package}");
    let program = write_script(directory.path(), "exit 0");
    assert_eq!(Target::at(program.clone()), Ok(Target::Executable(program)));
}
