//! Measures how long callers wait while consoles read large values, and while the type of the values changes.
//!
//! `cargo run --release -p hotswap-tests --example large_values`

#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "this uses a part of what the tests share")]
mod support;

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use hotswap_engine::{
    ConsoleSocket, args,
    protocol::{PROTOCOL_VERSION, quantile},
};
use support::{Host, PluginDir, artifact, renamed};

/// The duration and the number of the rounds with and without readers.
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;

fn main() {
    measure_previews();
    for players in [1_000, 8_000, 64_000] {
        measure_migrations(players);
    }
}

/// Callers without readers, with as many reads as by ten consoles, and with reads without a pause.
///
/// A console reads at most once a second, and only if something in the Vault changed.
fn measure_previews() {
    let dir = tempfile::tempdir().expect("make a directory");
    let socket = dir.path().join("socket");
    let host = Host::new(PluginDir::of(&["shares"]), |builder| {
        builder.console(Some(ConsoleSocket::at(&socket)))
    });
    host.reload();
    let vault = host.engine.vault();
    let bag = vault.data_bag();
    let scores: HashMap<String, u64> = (0..100_000).map(|n| (format!("player {n}"), n)).collect();
    bag.set("scores", scores).expect("set a value");
    bag.set("image", vec![7_u8; 50_000_000]).expect("set a value");
    bag.set("text", "x".repeat(45_000_000)).expect("set a value");
    let before = resident_kib();
    let paces = [None, Some(Duration::from_millis(100)), Some(Duration::ZERO)];
    let (mut took, mut looks) = ([const { Vec::new() }; 3], [0; 3]);
    let mut most = before;
    for _ in 0..ROUNDS {
        for (at, pace) in paces.iter().enumerate() {
            let stop = AtomicBool::new(false);
            let (socket, stop_looking) = (&socket, &stop);
            thread::scope(|scope| {
                let looking = pace.map(|pause| {
                    scope.spawn(move || request_previews(socket, stop_looking, pause))
                });
                took[at].extend(time_calls(&host));
                most = most.max(resident_kib());
                stop.store(true, Ordering::Relaxed);
                looks[at] +=
                    looking.map_or(0, |looking| looking.join().expect("looking goes well"));
            });
        }
    }
    println!("100 MB in the DataBag, {:?} each, in turn", ROUND * ROUNDS as u32);
    let [alone, paced, busy] = took.map(quantiles);
    for (what, looks, (p50, p999)) in [
        ("nobody looks", looks[0], alone),
        ("10 looks a second, as of ten consoles", looks[1], paced),
        ("looks without a pause", looks[2], busy),
    ] {
        let ratio = p999.as_secs_f64() / alone.1.as_secs_f64();
        println!("  {what} ({looks} looks): p50 {p50:?}, p99.9 {p999:?}, {ratio:.2} x");
    }
    println!("  the host + {:.1} MiB at most", most.saturating_sub(before) as f64 / 1024.0);
}

/// The time of each call that changes the values which are read.
fn time_calls(host: &Host) -> Vec<Duration> {
    let (vault, end) = (host.engine.vault(), Instant::now() + ROUND);
    let mut took = Vec::new();
    while Instant::now() < end {
        let begun = Instant::now();
        host.engine.invoke::<u64>("shares", "count", args![]).expect("no call fails");
        vault
            .data_bag()
            .modify("image", |image: &mut Vec<u8>| image[77] ^= 1)
            .expect("no change fails");
        took.push(begun.elapsed());
        thread::sleep(Duration::from_micros(20));
    }
    took
}

/// Requests the Vault repeatedly, with a pause after each answer.
fn request_previews(socket: &Path, stop: &AtomicBool, pause: Duration) -> usize {
    let mut stream = UnixStream::connect(socket).expect("connect");
    let mut answers = BufReader::new(stream.try_clone().expect("the other half"));
    let mut ask = |id: usize, rest: &str| {
        writeln!(stream, r#"{{"jsonrpc":"2.0","id":{id},{rest}}}"#).expect("ask");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("an answer");
        assert!(answer.contains("result"), "{answer}");
    };
    let hello = format!(
        r#""method":"hello","params":{{"protocol":{PROTOCOL_VERSION},"client":"large_values"}}"#
    );
    ask(0, &hello);
    let mut looks = 0;
    while !stop.load(Ordering::Relaxed) {
        looks += 1;
        ask(looks, r#""method":"vault""#);
        thread::sleep(pause);
    }
    looks
}

/// Adds a field to the type of a map with this many entries, while calls change the map.
fn measure_migrations(players: u64) {
    let host = Host::with(&["grows"]);
    host.engine.invoke::<()>("grows", "fill", args![players]).expect("fill");
    let grown = [renamed("grows-more", "grows"), artifact("grows")];
    let (mut worst, mut reloads) = (Vec::new(), Vec::new());
    let stop = AtomicBool::new(false);
    let longest = std::sync::Mutex::new(Duration::ZERO);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let begun = Instant::now();
                host.engine.invoke::<()>("grows", "hit", args![number]).expect("no call fails");
                let mut longest = longest.lock().expect("no panic");
                *longest = begun.elapsed().max(*longest);
                drop(longest);
                thread::sleep(Duration::from_micros(500));
            }
        });
        thread::sleep(Duration::from_millis(200));
        let alone = std::mem::take(&mut *longest.lock().expect("no panic"));
        for round in 0..6 {
            host.plugins.write("grows", &grown[round % 2]);
            let begun = Instant::now();
            host.reload();
            reloads.push(begun.elapsed());
            worst.push(std::mem::take(&mut *longest.lock().expect("no panic")));
        }
        stop.store(true, Ordering::Relaxed);
        worst.sort();
        reloads.sort();
        println!(
            "a field added to a map and a list of {players}: the longest call {:?} (median of 6, most \
             {:?}; {alone:?} without a reload), the reload {:?}",
            worst[3], worst[5], reloads[3]
        );
    });
}

/// The median and the 99.9th percentile.
fn quantiles(mut took: Vec<Duration>) -> (Duration, Duration) {
    took.sort();
    let at = |per_mille| quantile(&took, per_mille).expect("a call was timed");
    (at(500), at(999))
}

/// The memory of this process.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("read the status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a figure");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}
