//! A thousand reloads of the sample host's `world` while two clients send HTTP requests: no request
//! fails, memory does not grow, only live images are mapped, and the next host removes the files of
//! a killed one.
//!
//! `cargo run --release -p hotswap-tests --example soak_http [RELOADS]`

#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the soak uses a part of what the tests share")]
mod support;

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use support::{Place, PluginDir, Process, get, host_command, mapped_files, world};

/// The number of reloads after which allocator and caches no longer grow.
const WARM_UP: u32 = 50;

fn main() {
    let reloads = std::env::args().nth(1).map_or(1000, |number| number.parse().expect("a number"));
    let (place, plugins) = (Place::new(), PluginDir::empty());
    plugins.write("world", &world(0));
    let (host, address) = start(&place, &plugins);
    let staging = staging_dir(&place);
    let (stop, requests) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| send_requests(address, &stop, &requests));
        }
        let (mut warm, mut half) = (0, 0);
        let begun = Instant::now();
        for number in 1..=reloads + WARM_UP {
            plugins.write("world", &world(number));
            let report = place.json(&["reload"]);
            assert_eq!(report["plugins"][0]["outcome"], "ok", "{report}");
            if number == WARM_UP {
                warm = resident_kib(host.pid());
            } else if number == WARM_UP + reloads / 2 {
                half = resident_kib(host.pid());
            }
        }
        let elapsed = begun.elapsed();
        stop.store(true, Ordering::Relaxed);
        let now = resident_kib(host.pid());
        let requests = requests.load(Ordering::Relaxed);
        println!("{reloads} reloads in {elapsed:.1?}, {requests} requests meanwhile, none failed");
        println!("resident: {warm} KiB after {WARM_UP} reloads, {now} KiB at the end");
        let grown = |from: u64, reloads| (now as f64 - from as f64) / f64::from(reloads);
        let (all, last) = (grown(warm, reloads), grown(half, reloads - reloads / 2));
        println!("{all:.2} KiB a reload, {last:.2} in the last half");
    });
    let mapped = mapped_after_freeing(host.pid(), &staging);
    println!("mapped: {mapped:?}, staged: {:?}", staged_artifacts(&staging));
    println!("left on the heap by the latest freed versions, in bytes: {:?}", heap_left(&place));

    host.signal(Signal::KILL);
    host.finish();
    let (next, _) = start(&place, &plugins);
    println!(
        "after kill -9 and another start, its staging directory is there: {}",
        staging.exists()
    );
    next.signal(Signal::TERM);
    let end = next.finish();
    println!("the next host ended with exit code {:?}", end.code);
}

/// Starts the host; returns its address.
fn start(place: &Place, plugins: &PluginDir) -> (Process, SocketAddr) {
    let mut command = host_command(place, plugins);
    command.args(["--port", "0"]);
    let mut host = Process::start(command);
    let listening = "listening on http://";
    let address = host.wait_for(listening, |line| line.strip_prefix(listening)?.parse().ok());
    (host, address)
}

/// Sends requests until it is stopped; every answer must be a greeting.
fn send_requests(address: SocketAddr, stop: &AtomicBool, requests: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let (status, body) = get(address, "/greet/Ada").expect("an answer");
        assert!(status == 200 && body.starts_with("Hello"), "{status}: {body}");
        requests.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_micros(200));
    }
}

fn staging_dir(place: &Place) -> PathBuf {
    let status = place.json(&["status"]);
    PathBuf::from(status["host"]["staging_dir"].as_str().expect("a directory"))
}

/// The mapped files after the replaced versions were freed.
fn mapped_after_freeing(pid: u32, staging: &Path) -> BTreeSet<String> {
    let maps = PathBuf::from(format!("/proc/{pid}/maps"));
    loop {
        let mapped = mapped_files(&maps, staging);
        if mapped.len() <= 1 {
            return mapped;
        }
        thread::yield_now();
    }
}

/// The heap that the listed freed versions of `world` have left.
fn heap_left(place: &Place) -> Vec<u64> {
    let status = place.json(&["status"]);
    let versions = status["plugins"][0]["versions"].as_array().expect("versions");
    let freed = versions.iter().filter(|version| version["state"] == "freed");
    freed.filter_map(|version| version["heap_bytes"].as_u64()).collect()
}

fn staged_artifacts(staging: &Path) -> Vec<String> {
    let entries = fs::read_dir(staging).expect("read the staging directory");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".so")).collect()
}

/// The host's resident memory without files, in KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the host's status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number of KiB")
}
