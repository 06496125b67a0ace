//! Everything that keeps a version in use, at the same time, while another thread reloads without pause.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use hotswap_engine::{
    Engine, args, checkpoint,
    protocol::{ErrorKind, VersionState},
};

use crate::support::{Host, PluginDir, revision};

/// The number of reloads; `HOTSWAP_STRESS` sets another one.
const RELOADS: u32 = 60;

/// The number of calling threads.
const CALLERS: u64 = 3;

#[test]
fn every_kind_of_use_beside_reloads_without_pause() {
    let reloads = std::env::var("HOTSWAP_STRESS").map_or(RELOADS, |n| n.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    let plugins = PluginDir::of(&["stressed"]);
    let host = Host::new(plugins, |builder| builder.tokio(runtime.handle().clone()));
    host.reload();
    let stop = AtomicBool::new(false);
    let counted = AtomicU64::new(0);
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (engine, stop, counted) = (&host.engine, &stop, &counted);
            scope.spawn(move || {
                let add = engine.func::<fn(u64, u64) -> u64>("stressed", "add").unwrap();
                let mut round = caller;
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(add.call(round, 1).unwrap(), round + 1);
                    use_once(engine, round, counted);
                    round += 1;
                }
            });
        }
        let artifacts = [revision("stressed", 1), revision("stressed", 2)];
        for number in 1..=reloads {
            host.plugins.write("stressed", &artifacts[number as usize % 2]);
            assert_eq!(host.reload().to_string(), "stressed: ok");
        }
        stop.store(true, Ordering::Relaxed);
    });
    let steps = host.engine.invoke::<u64>("stressed", "count", args![]).unwrap();
    assert_eq!(steps, counted.load(Ordering::Relaxed) + 1);
    checkpoint();
    for number in 1..=reloads {
        host.wait_until("stressed", reloads, |_| {
            checkpoint();
            host.info("stressed", number).is_none_or(|info| info.state == VersionState::Freed)
        });
    }
    assert_eq!(host.mapped().len(), 1);
    assert_eq!(host.mapped(), host.staged());
    drop(host);
    drop(runtime);
}

/// One use of the kind with this number.
fn use_once(engine: &Engine, round: u64, counted: &AtomicU64) {
    match round % 7 {
        0 => {
            engine.invoke::<u64>("stressed", "count", args![]).unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
        }
        1 => assert!(engine.invoke::<usize>("stressed", "remember", args!["text"]).unwrap() > 0),
        2 => {
            let error = engine.invoke::<()>("stressed", "explode", args![]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Panic);
        }
        // Calls that are nested deeper than the slots of a thread.
        3 => {
            let dived = engine.invoke::<u32>("stressed", "live_dive", args![9]).unwrap();
            assert_eq!(dived, 9);
        }
        4 => engine.invoke::<()>("stressed", "start_thread", args![]).unwrap(),
        5 => engine.invoke::<()>("stressed", "start_task", args![]).unwrap(),
        _ => {
            let handle = engine.current();
            let plugin = handle.plugin("stressed").unwrap();
            assert_eq!(plugin.invoke::<u64>("add", args![round, 2]).unwrap(), round + 2);
        }
    }
}
