//! A subscriber of the host's log may ask the engine whatever it wants: the engine logs without a lock of its own.

use std::{
    cell::Cell,
    collections::BTreeSet,
    env, fs,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError, mpsc::channel},
    thread,
    time::Duration,
};

use hotswap_engine::{ConsoleSocket, Engine, args, protocol::VersionState::Freed};
use tracing_subscriber::prelude::*;

use crate::support::{Host, PATIENCE, PluginDir, in_own_process};

static ENGINE: Mutex<Option<Engine>> = Mutex::new(None);

/// The places of the engine's events, and those at which it is being asked.
static EVENTS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn events() -> MutexGuard<'static, BTreeSet<String>> {
    EVENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks the engine at each event of the engine.
struct Asking;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Asking {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        thread_local! {
            static IS_ASKING: Cell<bool> = const { Cell::new(false) };
        }
        if !event.metadata().target().starts_with("hotswap_engine") || IS_ASKING.replace(true) {
            return;
        }
        let engine = ENGINE.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(engine) = engine {
            let place = event.metadata().name();
            events().insert(format!("{place} never answers"));
            call_engine(&engine);
            events().remove(&format!("{place} never answers"));
            events().insert(place.to_owned());
        }
        IS_ASKING.set(false);
    }
}

fn call_engine(engine: &Engine) {
    drop(engine.snapshot());
    drop(engine.vault_snapshot());
    drop(engine.live_snapshot());
    let _ = engine.vault().data_bag().keys();
    let _ = engine.current().plugins();
    let _ = engine.plan(false);
    let _ = engine.reload();
    let _ = engine.rollback("echo@77");
    let _ = engine.free("echo@1");
    let _ = engine.invoke::<String>("echo", "echo", args!["x"]);
}

/// Makes a host log events of all kinds.
fn cause_all_events(root: &Path) {
    let plugins = PluginDir::of(&["echo", "bombs"]);
    let host = Host::new(plugins, |builder| {
        builder.console(Some(ConsoleSocket::in_runtime_dir())).step_timeout(Duration::from_secs(5))
    });
    *ENGINE.lock().unwrap() = Some(host.engine.clone());
    host.reload();
    fs::remove_dir_all(root.join("hotswap")).unwrap();
    host.plugins.install("echo", 2);
    host.reload();
    let _ = host.engine.invoke::<()>("bombs", "throw", args![]);
    host.plugins.install("bombs", 2);
    host.reload();
    host.wait_for("bombs", 1, Freed);
    host.plugins.install("fail-on-init", 1);
    host.refused_reload();
    host.plugins.remove_file_of("echo");
    let _ = host.engine.reload();
    host.engine.shutdown(PATIENCE);
    *ENGINE.lock().unwrap() = None;
}

#[test]
fn the_engine_may_be_asked_at_each_of_its_log_events() {
    let end = in_own_process(|| {
        tracing_subscriber::registry().with(Asking).init();
        let root = tempfile::tempdir().unwrap();
        // SAFETY: nothing else runs in this process yet.
        unsafe { env::set_var("XDG_RUNTIME_DIR", root.path()) };
        let (done, is_done) = channel();
        thread::spawn(move || {
            cause_all_events(root.path());
            let _ = done.send(());
        });
        let ended = is_done.recv_timeout(PATIENCE);
        println!("{:#?}", events());
        ended.expect("the host comes to its end");
        println!("done");
    });
    assert!(end.output.contains("done"), "{:?} {}", end.status, end.output);
    for file in ["engine/inner.rs", "load/stage.rs", "server/listener.rs"] {
        assert!(end.output.contains(file), "{}", end.output);
    }
}
