//! The cost of a call of a plugin: `cargo bench -p hotswap-benchmarks --bench calls`.
//!
//! With `-- instructions` it counts instructions with valgrind, for machines that are too busy to time calls.

#[path = "../../it/support/plugins.rs"]
#[allow(dead_code, reason = "the benchmarks use a part of it")]
mod plugins;

use std::{
    env,
    hint::black_box,
    path::{Path, PathBuf},
    pin::pin,
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use hotswap_benchmarks::{Case, compare, quantile, with_unit};
use hotswap_engine::{Engine, Value, args};
use plugins::PluginDir;

type Add = fn(u64, u64) -> u64;

/// The directory in which hot-lib-reloader finds the library.
fn hot_reloader_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = tempfile::tempdir().expect("make a directory").keep();
        std::fs::write(dir.join("libmeasured.so"), plugins::artifact("measured"))
            .expect("write a library");
        dir
    })
}

#[hot_lib_reloader::hot_module(dylib = "measured", lib_dir = super::hot_reloader_dir().display().to_string())]
mod hot {
    #[hot_function]
    pub fn raw_add(a: u64, b: u64) -> u64 {}
}

fn main() {
    let dir = PluginDir::of(&["measured"]);
    let engine = Engine::builder(dir.path()).build().expect("make an engine");
    engine.load(()).expect("load the plugin");
    let library = raw_library(&dir);
    // SAFETY: the function is of this type.
    let raw: Add = unsafe { *library.get::<Add>(b"raw_add").expect("the function") };
    let (a, b) = (black_box(3), black_box(4));

    let add = engine.func::<Add>("measured", "add").expect("the function");
    let live = engine.live_funcs::<Add>();
    let plugin = engine.plugin("measured").expect("the plugin");
    let numbers = args![3_u64, 4_u64];
    let mut calls = [
        Case::new("through a raw function pointer", || raw(a, b)),
        Case::new("typed (`Func::call`)", || add.call(a, b).expect("a sum")),
        Case::new("live, typed, found by name (`LiveFuncs::call`)", || {
            live.call("live_add", (a, b)).expect("a sum")
        }),
        Case::new("by name (`LoadedPlugin::invoke_value`)", || {
            plugin.invoke_value("add", black_box(numbers)).expect("a sum")
        }),
        Case::new("by names (`Engine::invoke`)", || {
            engine.invoke::<u64>("measured", "add", black_box(numbers)).expect("a sum")
        }),
        Case::new("hot-lib-reloader 0.8.2", || hot::raw_add(a, b)),
    ];
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["instructions"] => {
            return print_instructions(calls.iter().chain(&large_arguments(&engine)));
        }
        ["only", case, times] => {
            let (case, times) = (case.parse().expect("a case"), times.parse().expect("a number"));
            let mut large = large_arguments(&engine);
            let mut all = calls.iter_mut().chain(&mut large);
            return all.nth(case).expect("a case").run(times);
        }
        _ => {}
    }
    compare("one call", &mut calls);
    compare("64 KiB", &mut large_arguments(&engine));
    compare_threads(&engine);
    compare_beside_reloads(&engine, &dir);
    // SAFETY: nobody calls the function any more.
    let _ = library.close();
    let _ = std::fs::remove_dir_all(hot_reloader_dir());
}

/// The library, opened without the engine, to call its plain function.
fn raw_library(dir: &PluginDir) -> libloading::Library {
    // SAFETY: the library's constructors are std's, and its plain function needs no host.
    unsafe { libloading::Library::new(dir.file("measured")) }.expect("open the library")
}

/// Calls that pass 64 KiB, which each call allocates.
fn large_arguments(engine: &Engine) -> [Case<'_>; 3] {
    let bytes = || black_box(vec![7_u8; 64 << 10]);
    let take = engine.func::<fn(Vec<u8>) -> u64>("measured", "take").expect("the function");
    let later = engine.async_func::<fn(Vec<u8>) -> u64>("measured", "take_later");
    let later = later.expect("the function");
    let plugin = engine.plugin("measured").expect("the plugin");
    [
        Case::new("typed (`Func::call`)", move || take.call(bytes()).expect("a number")),
        Case::new("typed, `async` (`AsyncFunc::call`)", move || {
            poll_once(later.call(bytes())).expect("a number")
        }),
        Case::new("`async`, by name (`LoadedPlugin::invoke_async`)", move || {
            let args = [Value::from_serialize(&bytes()).expect("a value")];
            poll_once(plugin.invoke_async::<u64>("take_later", &args)).expect("a number")
        }),
    ]
}

/// Prints the number of instructions of each case, which does not depend on the load of the machine. This program
/// runs itself in valgrind with one case alone, first a few times and then more often.
fn print_instructions<'a>(cases: impl Iterator<Item = &'a Case<'a>>) {
    println!("| one call | instructions |\n|---|---|");
    for (at, case) in cases.enumerate() {
        let [few, many] = [200, 1_200].map(|times| instructions_of(at, times));
        println!("| {} | {:.1} |", case.name(), (many - few) as f64 / 1_000.0);
    }
}

/// The number of instructions of this program with this number of runs of one case.
fn instructions_of(case: usize, times: u64) -> u64 {
    let program = env::current_exe().expect("the path of this program");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["only", &case.to_string(), &times.to_string()])
        .env(plugins::KEPT, plugins::shared_dir())
        .output();
    let reported = String::from_utf8(run.expect("start valgrind").stderr).expect("text");
    let collected = reported.lines().find_map(|line| line.split_once("Collected : "));
    collected.and_then(|(_, number)| number.trim().parse().ok()).expect("a number of instructions")
}

/// The result of a future that does not wait.
fn poll_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("nothing is waited for"),
    }
}

/// Compares the calls of two threads with those of one.
fn compare_threads(engine: &Engine) {
    let rate = |threads: usize| {
        let stop = AtomicBool::new(false);
        let all = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let add = engine.func::<Add>("measured", "add").expect("the function");
                    let mut calls = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        for _ in 0..1000 {
                            black_box(add.call(black_box(3), 4).expect("a sum"));
                        }
                        calls += 1000;
                    }
                    all.fetch_add(calls, Ordering::Relaxed);
                });
            }
            thread::sleep(Duration::from_millis(200));
            stop.store(true, Ordering::Relaxed);
        });
        all.load(Ordering::Relaxed) as f64 * 5.0
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let rounds: Vec<(f64, f64)> = (0..9).map(|_| (rate(1), rate(cores))).collect();
    let one = quantile(&rounds.iter().map(|(one, _)| *one).collect::<Vec<_>>(), 500);
    let all = quantile(&rounds.iter().map(|(_, all)| *all).collect::<Vec<_>>(), 500);
    println!("\n| typed calls at once | a second | ratio |\n|---|---|---|");
    println!("| 1 thread | {:.0} million | 1.00 × |", one / 1e6);
    println!("| {cores} threads | {:.0} million | {:.2} × |", all / 1e6, all / one);
}

/// The time of single calls while another thread reloads without pause.
fn compare_beside_reloads(engine: &Engine, dir: &PluginDir) {
    let artifacts = [plugins::revision("measured", 2), plugins::revision("measured", 1)];
    let add = engine.func::<Add>("measured", "add").expect("the function");
    let mut p999 = [Vec::new(), Vec::new()];
    let (mut failed, mut reloaded) = (0_u64, 0_u64);
    for round in 0..10 {
        let with_reloads = round % 2 == 1;
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let reloader = scope.spawn(|| {
                let mut count = 0_usize;
                while with_reloads && !stop.load(Ordering::Relaxed) {
                    dir.write("measured", &artifacts[count % 2]);
                    engine.reload().expect("a reload");
                    count += 1;
                }
                count as u64
            });
            let mut took = Vec::with_capacity(2_000_000);
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(500) {
                for _ in 0..100 {
                    let call = Instant::now();
                    failed += u64::from(add.call(black_box(3), 4).is_err());
                    took.push(call.elapsed().as_nanos() as f64);
                }
            }
            stop.store(true, Ordering::Relaxed);
            reloaded += reloader.join().expect("the thread that reloads");
            p999[usize::from(with_reloads)].push(quantile(&took, 999));
        });
    }
    let [without, with] = p999.map(|rounds| quantile(&rounds, 500));
    println!("\n| typed calls, with two readings of the clock | p99.9 | ratio |\n|---|---|---|");
    println!("| no reloads | {} | 1.00 × |", with_unit(without));
    println!(
        "| beside {reloaded} reloads, {failed} failed | {} | {:.2} × |",
        with_unit(with),
        with / without
    );
}
