//! A thousand patches under calls. Each version gets the allowed maximum of patches, and then a whole reload
//! follows. No call fails, memory does not grow, and only live code is mapped.
//!
//! `cargo run --release -p hotswap-tests --example soak_patches [PATCHES]`

#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the soak uses a part of what the tests share")]
mod support;

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use hotswap_engine::{args, checkpoint, protocol::Outcome};
use support::{Host, code_without_file, patch, revision};

/// Counts the heap that each version leaves.
#[global_allocator]
static ALLOCATOR: hotswap_engine::Allocator = hotswap_engine::Allocator::new();

/// The number of patches of a version before it is replaced: the allowed maximum.
const OF_A_VERSION: u32 = 32;

/// The number of patches after which allocator and caches no longer grow.
const WARM_UP: u32 = 2 * OF_A_VERSION;

fn main() {
    let patches = std::env::args().nth(1).map_or(1000, |number| number.parse().expect("a number"));
    let host = Host::with(&["threads"]);
    let before = code_without_file().len();
    let (stop, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let engine = &host.engine;
                let typed =
                    engine.func::<fn() -> String>("threads", "use_std").expect("it is there");
                while !stop.load(Ordering::Relaxed) {
                    let threads = engine.plugin("threads").expect("the plugin is there");
                    threads.invoke::<String>("use_std", args![]).expect("no call fails");
                    typed.call().expect("no call fails");
                    calls.fetch_add(2, Ordering::Relaxed);
                    thread::sleep(Duration::from_micros(200));
                }
            });
        }
        let (mut base, mut whole) = (revision("threads", 1), 0);
        let (mut warm, mut half) = (0, 0);
        let begun = Instant::now();
        for number in 0..patches + WARM_UP {
            if number > 0 && number.is_multiple_of(OF_A_VERSION) {
                base = revision("threads", 5000 + number);
                load(&host, &base, Outcome::Ok);
                whole += 1;
            }
            let build = revision("threads", 2 + number);
            let made = patch(&base, &build, &[("use_std", "use_std")]);
            let file = host.plugins.path().join("threads.patch");
            fs::write(file, made.to_bytes().expect("a patch")).expect("write it");
            load(&host, &build, Outcome::Patched);
            if number == WARM_UP {
                warm = resident_kib();
            } else if number == WARM_UP + patches / 2 {
                half = resident_kib();
            }
        }
        let elapsed = begun.elapsed();
        stop.store(true, Ordering::Relaxed);
        let now = resident_kib();
        let calls = calls.load(Ordering::Relaxed);
        println!(
            "{patches} patches and {whole} whole reloads in {elapsed:.1?}, {calls} calls, none failed"
        );
        println!("resident: {warm} KiB after {WARM_UP} patches, {now} KiB at the end");
        let grown = |from: u64, patches| (now as f64 - from as f64) / f64::from(patches);
        let (all, last) = (grown(warm, patches), grown(half, patches - patches / 2));
        println!("{all:.2} KiB a patch, {last:.2} in the last half");
    });
    while host.mapped().len() > 1 {
        checkpoint();
        thread::yield_now();
    }
    let serving = host.engine.plugin("threads").expect("the plugin is there").patch();
    let mapped = code_without_file().len() - before;
    println!("mapped: {:?} and {mapped} patches; patch {serving:?} serves", host.mapped());
}

/// Loads a build as a whole, or as the patch beside it.
fn load(host: &Host, build: &[u8], expected: Outcome) {
    host.plugins.write("threads", build);
    let report = host.reload();
    assert_eq!(report.plugins[0].outcome, expected, "{report}");
    checkpoint();
}

/// This process's resident memory without files, in KiB.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("read this process's status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number of KiB")
}
