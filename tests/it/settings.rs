//! The settings and callbacks of a host.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hotswap_engine::{
    Engine, Generation, args,
    plugin::Error,
    protocol::{HostHealth, VersionState},
};
use insta::assert_snapshot;

use crate::support::{Host, PATIENCE, PluginDir, in_own_process};

/// A callback's error.
fn refuse(_: &Generation, _: &Generation) -> Result<(), &'static str> {
    Err("not today")
}

#[test]
fn a_version_may_be_kept_for_a_while_and_freed_on_request() {
    let plugins = PluginDir::of(&["echo"]);
    let hour = Duration::from_secs(3600);
    let host = Host::new(plugins, |builder| builder.free_delay(hour));
    host.reload();
    host.plugins.install("echo", 2);
    host.reload();
    assert_eq!(host.info("echo", 1).unwrap().state, VersionState::Retired);
    assert_eq!(host.mapped().len(), 2);
    // The answer has the new state.
    assert_eq!(host.engine.free("echo@1").unwrap().state, VersionState::Freed);
    assert_eq!(host.mapped().len(), 1);
    // A version that is kept for a while can still be called. The shutdown does not wait for it.
    host.plugins.install("echo", 3);
    host.reload();
    let kept = host.engine.plugin("echo@2").unwrap();
    assert_eq!(kept.invoke::<u32>("revision", args![]).unwrap(), 2);
    drop(kept);
    assert_eq!(host.engine.shutdown(hour).held, []);
}

#[test]
fn the_health_of_a_host_may_follow_from_the_state_of_its_plugins() {
    let end = in_own_process(|| {
        let engine = Arc::new(OnceLock::<Engine>::new());
        let before = Arc::new(Mutex::new(None));
        let (asked, seen) = (engine.clone(), before.clone());
        let host = Host::new(PluginDir::of(&["echo"]), |builder| {
            builder.health(move || {
                let snapshot = asked.get().map(Engine::snapshot);
                *seen.lock().unwrap() = snapshot.as_ref().and_then(|it| it.host.health.clone());
                match snapshot.is_some_and(|it| it.plugins.is_empty()) {
                    true => HostHealth::unwell("no plugins"),
                    false => HostHealth::well(),
                }
            })
        });
        assert!(engine.set(host.engine.clone()).is_ok());
        let health = || host.engine.snapshot().host.health;
        let unwell = Some(HostHealth::unwell("no plugins"));
        assert_eq!((health(), before.lock().unwrap().take()), (unwell.clone(), None));
        host.reload();
        assert_eq!((health(), before.lock().unwrap().take()), (Some(HostHealth::well()), unwell));
        println!("the host continues");
    });
    assert!(end.output.contains("the host continues"), "{:?} {}", end.status, end.output);
}

#[test]
fn a_reload_inside_a_reload_is_refused() {
    let host = Host::with(&["echo"]);
    host.plugins.install("echo", 2);
    let error = host.engine.reload_with((), |_, _| host.engine.reload().map(drop)).unwrap_err();
    assert_snapshot!(error, @"callback: code that a load waits for requested a reload, which would wait for that load: a step, thread or task of a plugin that does not serve yet, or a callback of the host; request it again after the load has ended");
}

#[test]
fn the_host_is_called_back_before_the_publish() {
    let seen = Arc::new(AtomicU64::new(0));
    let count = seen.clone();
    let host = Host::new(PluginDir::of(&["echo"]), |builder| {
        builder.on_reload(move |new, old| {
            count.fetch_add(1, Ordering::Relaxed);
            assert_eq!(new.generation(), old.generation() + 1);
            Ok::<_, Infallible>(())
        })
    });
    host.reload();
    assert_eq!(host.engine.reload_count(), 0);
    host.plugins.install("echo", 2);
    let report = host.engine.reload_with((), |new, old| {
        let revision = |manager: &Generation| -> u32 {
            manager.plugin("echo").unwrap().invoke("revision", args![]).unwrap()
        };
        assert_eq!((revision(new), revision(old)), (2, 1));
        Ok::<_, Infallible>(())
    });
    assert_snapshot!(report.unwrap(), @"echo: ok");
    assert_eq!(seen.load(Ordering::Relaxed), 2);
    assert_eq!(host.engine.reload_count(), 1);
    assert!(host.engine.shutdown(PATIENCE).held.is_empty());
    assert_eq!(host.engine.reload_count(), 1);
}

#[test]
fn a_reload_without_a_change_runs_no_callback_and_is_not_counted() {
    let seen = Arc::new(AtomicU64::new(0));
    let count = seen.clone();
    let host = Host::new(PluginDir::of(&["echo"]), |builder| {
        builder.on_reload(move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(())
        })
    });
    host.reload();
    for _ in 0..2 {
        let report = host.engine.reload_with("other data", |_, _| Err("it is not called")).unwrap();
        assert_eq!((report.to_string().as_str(), report.generation), ("echo: unchanged", 1));
    }
    assert_eq!((seen.load(Ordering::Relaxed), host.engine.reload_count()), (1, 0));

    // A load that is undone is not counted either.
    host.plugins.install("echo", 2);
    host.engine.reload_with((), refuse).unwrap_err();
    assert_eq!(host.engine.reload_count(), 0);
    host.reload();
    assert_eq!(host.engine.reload_count(), 1);
}

#[test]
fn a_callback_that_fails_or_panics_undoes_the_reload() {
    let host = Host::with(&["echo"]);
    host.plugins.install("echo", 2);
    let error = host.engine.reload_with((), refuse).unwrap_err();
    assert_snapshot!(error, @"callback: not today");
    let error = host.engine.reload_with((), |_, _| -> Result<(), Infallible> { panic!("no") });
    assert_snapshot!(error.unwrap_err(), @"callback: the host's callback panicked: no");
    let panics: [(fn(), &str); 4] = [
        (|| panic!("at {}", 3), "at 3"),
        (|| std::panic::panic_any("text".to_owned()), "text"),
        (|| std::panic::panic_any(Error::msg("an error")), "an error"),
        (|| std::panic::panic_any(Box::<str>::from("boxed")), "boxed"),
    ];
    for (panic, text) in panics {
        let error = host.engine.reload_with((), |_, _| -> Result<(), Infallible> {
            panic();
            Ok(())
        });
        let error = error.unwrap_err().to_string();
        assert_eq!(error, format!("callback: the host's callback panicked: {text}"));
    }
    let echo = host.engine.plugin("echo").unwrap();
    assert_eq!(echo.invoke::<u32>("revision", args![]).unwrap(), 1);
    host.wait_for("echo", 7, VersionState::Failed);
    assert_snapshot!(host.reload(), @"echo: ok");
}

#[test]
fn the_plugin_directory_may_change() {
    let host = Host::with(&["echo"]);
    let elsewhere = PluginDir::of(&["by-hand"]);
    host.engine.set_plugin_dir(elsewhere.path());
    assert_snapshot!(host.reload(), @"by-hand: added, echo: missing");
    assert_snapshot!(host.prune(), @"by-hand: unchanged, echo: removed");
}

#[test]
fn a_handle_describes_its_version() {
    let host = Host::with(&["echo", "not-reloadable"]);
    assert!(!host.engine.is_statically_linked());
    let echo = host.engine.plugin("echo").unwrap();
    assert!(echo.is_reloadable());
    assert!(!host.engine.plugin("not-reloadable").unwrap().is_reloadable());
    assert!(echo.file().unwrap().starts_with(host.staging_dir()));
    assert_eq!(echo.note(), "");
    host.plugins.install("echo", 2);
    host.reload();
    assert_eq!(echo.note(), "1 handle");
}
