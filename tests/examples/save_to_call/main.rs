//! The time from a save to the first answer of the new code: benchmark 7.
//!
//! `cargo run --release -p hotswap-tests --example save_to_call [ROUNDS] [world|rich|profiles|dx]`
//!
//! A one-line change of a plugin is saved, and the clock stops when the new code has answered a
//! call. The compared ways take turns in each round. With `profiles`, only the build is timed, with
//! other profiles than that of plugins. With `dx`, both plugins are also compared with Dioxus' `dx serve`, which
//! must be installed.

mod dx;
mod fixture;
mod profiles;
mod way;

use std::time::{Duration, Instant};

use dx::Dx;
use fixture::Fixture;
use hotswap_engine::protocol::quantile;
use way::{Cargo, HotLibReloader, Ours, Reloading, Way};

/// The number of first rounds that are not counted, because they fill caches and incremental state.
const WARM_UP: usize = 2;

fn main() {
    let rounds = std::env::args().nth(1).map_or(15, |number| number.parse().expect("a number"));
    let only = std::env::args().nth(2);
    if only.as_deref() == Some("profiles") {
        return profiles::measure(&Fixture::world(), rounds);
    }
    let with_dx = only.as_deref() == Some("dx");
    for fixture in [Fixture::world(), Fixture::with_dependencies()] {
        if with_dx || only.as_deref().is_none_or(|only| only == fixture.name) {
            measure(&fixture, rounds, with_dx);
        }
    }
}

fn measure(fixture: &Fixture, rounds: usize, with_dx: bool) {
    let mut ways: Vec<Box<dyn Way>> = vec![
        Box::new(Ours::new(fixture.copy("patch"), Reloading::Patch)),
        Box::new(Ours::new(fixture.copy("replay"), Reloading::Whole)),
        Box::new(Ours::new(fixture.copy("no-replay"), Reloading::NoReplay)),
        Box::new(Cargo::new(fixture.copy("cargo"), &[])),
        Box::new(HotLibReloader::new(fixture)),
    ];
    if with_dx {
        ways.push(Box::new(Dx::new(fixture)));
    }
    let times = measure_in_turn(ways.iter_mut().map(|way| &mut **way).collect(), rounds);
    let cargo = median(&times[3]);
    println!("\n{}: {rounds} rounds\n", fixture.title);
    println!("| way | median | quartiles | to `cargo rustc` alone |\n|---|---|---|---|");
    for (way, times) in ways.iter().zip(&times) {
        let ratio = median(times).as_secs_f64() / cargo.as_secs_f64();
        let [first, third] = quartiles(times).map(in_ms);
        let name = way.name();
        println!("| {name} | {} | {first} – {third} | {ratio:.2} |", in_ms(median(times)));
    }
    println!("\n| phase | patched | a new version | replay off |\n|---|---|---|---|");
    let phases = ways.iter().take(3).map(|way| way.phases(WARM_UP)).collect::<Vec<_>>();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in phases.iter().flatten() {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    for name in names {
        let cell = |phases: &Vec<(String, Vec<Duration>)>| {
            let found = phases.iter().find(|(other, _)| other == name);
            found.map_or_else(|| "–".to_owned(), |(_, times)| in_ms(median(times)))
        };
        let [patched, whole, by_cargo] = [0, 1, 2].map(|way| cell(&phases[way]));
        println!("| {name} | {patched} | {whole} | {by_cargo} |");
    }
}

/// The time of each way in each counted round.
fn measure_in_turn(mut ways: Vec<&mut (dyn Way + 'static)>, rounds: usize) -> Vec<Vec<Duration>> {
    let mut times = vec![Vec::new(); ways.len()];
    for round in 0..rounds + WARM_UP {
        for (way, times) in ways.iter_mut().zip(&mut times) {
            let elapsed = time_change(&mut **way, round);
            if round >= WARM_UP {
                times.push(elapsed);
            }
        }
    }
    times
}

fn time_change(way: &mut dyn Way, round: usize) -> Duration {
    let text = format!("answer {round} of {}", way.name());
    way.prepare(&text);
    let saved = Instant::now();
    way.save(saved);
    way.wait_for(&text);
    let elapsed = saved.elapsed();
    way.wait_for_rest();
    elapsed
}

fn median(times: &[Duration]) -> Duration {
    quantile_of(times, 500)
}

fn quartiles(times: &[Duration]) -> [Duration; 2] {
    [250, 750].map(|per_mille| quantile_of(times, per_mille))
}

fn quantile_of(times: &[Duration], per_mille: u16) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    quantile(&times, per_mille).expect("a round was timed")
}

fn in_ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
