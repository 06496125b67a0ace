//! Many hosts of a fleet on one real NATS server. Each has a connection of its own and the client of an agent. All
//! hosts connect, fetch and verify a release of 2 MB, follow releases that are declared by one write each, report,
//! and reconnect after the server was killed.
//!
//! `cargo run --release -p hotswap-tests --example fleet_thousand [HOSTS]`, by default 1,000; the server is that of
//! `.ci/tools`, or HOTSWAP_NATS_SERVER names another.

#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "it uses a part of what the tests share")]
mod support;

use std::{
    fs,
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit, setrlimit};
use support::{ManyHosts, many_hosts::Times};

/// The size of the artifact.
const ARTIFACT: usize = 2 << 20;
/// The time over which the starts of the fetches are spread.
const SPREAD: Duration = Duration::from_secs(5);
/// The number of declarations.
const ROUNDS: usize = 20;
/// The number of reports of each host whose cost is measured.
const REPORTS: u32 = 5;

fn main() {
    let count = std::env::args().nth(1).map_or(1000, |number| number.parse().expect("a number"));
    allow_many_files();
    let began = Instant::now();
    let (mut many, _) = ManyHosts::connect(count, ARTIFACT);
    println!("{count} hosts, nats-server {}", nats_version());
    println!("connected, the fleet made and pushed: {:.2?} in all", began.elapsed());
    let server = many.server.pid();
    print_memory("with all connected", server);

    let (began, used) = (Instant::now(), cpu_of(server));
    let times = many.fetch(SPREAD);
    println!(
        "fetched and verified 2 MB each: {:.2?} in all, starts spread over {SPREAD:?}",
        began.elapsed()
    );
    print_results("  each", &times);
    println!("  the server's CPU: {:.2?}", cpu_of(server) - used);
    print_memory("after it", server);

    let (mut p50, mut p99, mut worst) = (Vec::new(), Vec::new(), Vec::new());
    let used = cpu_of(server);
    for round in 0..ROUNDS {
        let release = ["r1", "r2"][round % 2];
        let times = many.declare(release);
        assert_eq!(many.running(release), count, "all tell that they run it");
        p50.push(times.percentile(50));
        p99.push(times.percentile(99));
        worst.push(times.worst());
    }
    for times in [&mut p50, &mut p99, &mut worst] {
        times.sort_unstable();
    }
    println!("one write until all have reported that they run it, {ROUNDS} rounds:");
    println!(
        "  p50 {:.0?}, p99 {:.0?} in the median round; the last host {:.0?} in the worst",
        p50[ROUNDS / 2],
        p99[ROUNDS / 2],
        worst[ROUNDS - 1]
    );
    println!("  the server's CPU: {:.1?} a round", (cpu_of(server) - used) / ROUNDS as u32);

    let used = cpu_of(server);
    for _ in 0..REPORTS {
        many.report();
    }
    let each = (cpu_of(server) - used) / REPORTS / u32::try_from(count).expect("a count");
    println!(
        "what a host tells: {each:.1?} of the server's CPU; every 5 s by {count}: {:.2} % of a core",
        each.as_secs_f64() * count as f64 / 5.0 * 100.0
    );

    let away = Duration::from_secs(3);
    let times = many.lose_server(away);
    println!(
        "the server killed, and back after {away:?}: all have reported anew {:.2?} after its start",
        times.worst()
    );
    print_results("  each", &times);
    println!("memory of its store: all {} reports are there", many.running("r2"));
    print_memory("in the end", many.server.pid());
}

fn print_results(what: &str, times: &Times) {
    println!(
        "{what}: p50 {:.0?}, p99 {:.0?}, the last {:.0?}",
        times.percentile(50),
        times.percentile(99),
        times.worst()
    );
}

/// Raises the limit of descriptors, since each host needs a few.
fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("allow many open files");
}

fn nats_version() -> String {
    let output = std::process::Command::new(support::nats_server()).arg("--version").output();
    let output = output.expect("ask the server for its version").stdout;
    String::from_utf8_lossy(&output).trim().trim_start_matches("nats-server: v").to_owned()
}

fn print_memory(when: &str, pid: u32) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read its status");
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("KiB") / 1024
    };
    println!("  the server's memory {when}: {} MiB, at most {} so far", of("VmRSS:"), of("VmHWM:"));
}

/// The time that a process has used.
fn cpu_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("read what it has used");
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().expect("a number of ticks"))
        .sum();
    Duration::from_secs(ticks)
        / u32::try_from(rustix::param::clock_ticks_per_second()).expect("ticks")
}
