//! The type of large values changes while they are in use: no call fails, and no change is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use hotswap_engine::args;

use crate::support::{Host, renamed};

/// Starts a thread that calls `hit` until `stop` is set; the thread returns the number of calls.
fn start_hits(host: &Host, stop: &Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    let (engine, stop) = (host.engine.clone(), stop.clone());
    thread::spawn(move || {
        let numbers = (0..).take_while(|_| !stop.load(Ordering::Relaxed));
        let hit = |number: u64| engine.invoke::<()>("grows", "hit", args![number]).expect("a hit");
        numbers.map(hit).count() as u64
    })
}

#[test]
fn no_change_is_lost_and_no_call_fails_while_a_type_changes() {
    let host = Host::with(&["grows"]);
    host.engine.invoke::<()>("grows", "fill", args![5_000_u64]).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let hitting = start_hits(&host, &stop);
    let (grows, more) = (crate::support::artifact("grows"), renamed("grows-more", "grows"));
    for file in [&more, &grows, &more] {
        host.plugins.write("grows", file);
        let report = host.reload();
        assert!(report.to_string().contains("grows: ok"), "{report}");
    }
    stop.store(true, Ordering::Relaxed);
    let hits = hitting.join().expect("no call fails");
    let sums: Vec<u64> = host.engine.invoke("grows", "sums", args![]).unwrap();
    let [map, players, log, _, world, tick, _, names] = sums[..] else { panic!("{sums:?}") };
    assert!(hits > 0);
    // Hits of the map and of the world always stay, but the last hits of the log may be popped.
    assert_eq!((map, world, tick), (hits, hits, hits));
    assert_eq!((players, names), (5_000 + hits.min(7), hits.min(7)));
    assert!(log <= hits);
}

#[test]
fn a_single_change_during_a_migration_is_not_lost() {
    let host = Host::with(&["grows"]);
    let hit = |number: u64| host.engine.invoke::<()>("grows", "hit", args![number]).unwrap();
    host.engine.invoke::<()>("grows", "fill", args![1_000_u64]).unwrap();
    hit(2);
    host.plugins.write("grows", &renamed("grows-more", "grows"));
    let reload = host.engine.reload_with((), |_, old| {
        // This call removes what the first one added, and shortens the list.
        old.plugin("grows").unwrap().invoke::<()>("hit", args![9_u64])
    });
    reload.unwrap();
    let sums: Vec<u64> = host.engine.invoke("grows", "sums", args![]).unwrap();
    let [map, players, log, entries, world, tick, hits, names] = sums[..] else {
        panic!("{sums:?}")
    };
    assert_eq!((map, log, world, tick, hits), (2, 2, 2, 2, 0));
    assert_eq!((players, entries, names), (1_001, 1_000, 1));
}
