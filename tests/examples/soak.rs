//! A thousand reloads under calls: no call fails, memory does not grow, and only live images are mapped.
//!
//! `cargo run --release -p hotswap-tests --example soak [RELOADS]`

#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the soak uses a part of what the tests share")]
mod support;

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use hotswap_engine::{args, checkpoint, protocol::VersionState};
use support::{Host, revision};

/// Counts the heap that each version leaves.
#[global_allocator]
static ALLOCATOR: hotswap_engine::Allocator = hotswap_engine::Allocator::new();

/// The number of reloads after which allocator and caches no longer grow.
const WARM_UP: u32 = 50;

fn main() {
    let reloads = std::env::args().nth(1).map_or(1000, |number| number.parse().expect("a number"));
    let host = Host::with(&["threads"]);
    let stop = AtomicBool::new(false);
    let calls = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let threads = host.engine.plugin("threads").expect("the plugin is there");
                    threads.invoke::<String>("use_std", args![]).expect("no call fails");
                    calls.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_micros(200));
                }
            });
        }
        let artifacts = [revision("threads", 1), revision("threads", 2)];
        let (mut warm, mut half) = (0, 0);
        let begun = Instant::now();
        for number in 0..reloads + WARM_UP {
            host.plugins.write("threads", &artifacts[(number as usize + 1) % 2]);
            host.reload();
            checkpoint();
            if number == WARM_UP {
                warm = resident_kib();
            } else if number == WARM_UP + reloads / 2 {
                half = resident_kib();
            }
        }
        let elapsed = begun.elapsed();
        stop.store(true, Ordering::Relaxed);
        let now = resident_kib();
        println!(
            "{reloads} reloads in {elapsed:.1?}, {} calls, none failed",
            calls.load(Ordering::Relaxed)
        );
        println!("resident: {warm} KiB after {WARM_UP} reloads, {now} KiB at the end");
        let grown = |from: u64, reloads| (now as f64 - from as f64) / f64::from(reloads);
        let (all, last) = (grown(warm, reloads), grown(half, reloads - reloads / 2));
        println!("{all:.2} KiB a reload, {last:.2} in the last half");
    });
    while host.mapped().len() > 1 {
        checkpoint();
        thread::yield_now();
    }
    println!("mapped: {:?}, staged: {:?}", host.mapped(), host.staged());
    println!("left on the heap by the latest freed versions, in bytes: {:?}", heap_left(&host));
}

/// The heap that the listed freed versions have left.
fn heap_left(host: &Host) -> Vec<u64> {
    let snapshot = host.engine.snapshot();
    let versions = snapshot.plugins.iter().flat_map(|plugin| &plugin.versions);
    let freed = versions.filter(|version| version.state == VersionState::Freed);
    freed.filter_map(|version| version.heap_bytes).collect()
}

/// This process's resident memory without files, in KiB.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("read this process's status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number of KiB")
}
