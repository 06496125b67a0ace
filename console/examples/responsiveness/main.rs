//! Measures how soon a key is on the screen while a host floods its log, and what the console
//! costs while nothing happens (benchmarks 9 and 10):
//!
//! ```text
//! cargo run --release -p hotswap-console --example responsiveness
//! cargo run --release -p hotswap-console --example responsiveness -- ./sample-host
//! ```
//!
//! The console runs as it does for a person, in a pseudo-terminal; the host that floods is this
//! program too. With a host of your own, what the idle console costs is measured with that as well.

mod host;
mod terminal;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hotswap_console::compare::probe::Prober;
use hotswap_console::session::{self, LogLine, Options, Order, Session, Target, Watch};
use hotswap_protocol::quantile;
use terminal::Terminal;

/// How many lines a second the flood has.
const FLOOD: u64 = 50_000;
/// How many keys are pressed for each figure.
const KEYS: usize = 400;
/// How many lines are written to see that none is lost without being counted.
const COUNTED: u64 = 500_000;
/// How long the idle console is looked at.
const IDLE: Duration = Duration::from_secs(60);
/// How long the console may take to settle before that.
const SETTLE: Duration = Duration::from_secs(5);
/// How long it may take to settle with a host that it builds: after some seconds of quiet, cargo reviews the builds.
const SETTLE_AFTER_BUILDS: Duration = Duration::from_secs(60);
/// Set for the process that is the console.
const ROLE: &str = "HOTSWAP_RESPONSIVENESS_ROLE";

/// A key, and what the screen is like when it has been obeyed.
type Step = (&'static str, fn(&str) -> bool);
type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some(host::NAME) {
        return host::run(arguments);
    }
    if std::env::var_os(ROLE).is_some() {
        return hotswap_console::screen::main();
    }
    match measure(first.map(PathBuf::from).as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(own_host: Option<&Path>) -> Outcome<()> {
    let this = std::env::current_exe()?;
    println!("{KEYS} keys each, from the key to the screen in milliseconds:");
    println!("{:<28} {:>7} {:>7} {:>7} {:>7}", "", "p50", "p90", "p99", "most");
    for (name, rate) in [("idle", 0), ("50,000 lines a second", FLOOD), ("idle again", 0)] {
        let mut terminal = Terminal::start(&this, &host::arguments(rate, None))?;
        terminal.wait_for("● ")?;
        terminal.read_for(SETTLE)?;
        let latencies = press_keys(&mut terminal)?;
        let at = |per_mille| quantile(&latencies, per_mille).unwrap_or_default();
        let figures = [500, 900, 990, 1000].map(|per_mille| at(per_mille).as_secs_f64() * 1e3);
        let [p50, p90, p99, most] = figures.map(|it| format!("{it:.1}"));
        println!("{name:<28} {p50:>7} {p90:>7} {p99:>7} {most:>7}");
        terminal.end()?;
    }
    account_for_lines(&this)?;
    println!("\nthe console while nothing happens, for {} s:", IDLE.as_secs());
    println!("{:<28} {:>12} {:>14}", "", "% of a core", "bytes drawn");
    idle("a host without plugins", &this, &host::arguments(0, None), SETTLE)?;
    if let Some(own) = own_host {
        idle(&own.display().to_string(), own, &[], SETTLE_AFTER_BUILDS)?;
    }
    Ok(())
}

/// Presses keys at uneven times, each when the one before is on the screen; sorted.
fn press_keys(terminal: &mut Terminal) -> Outcome<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(KEYS);
    // Zoom and back, help and back.
    let steps: [Step; 4] = [
        ("z", |screen| !screen.contains("3 Logs")),
        ("z", |screen| screen.contains("3 Logs")),
        ("?", |screen| screen.contains("┌ Keys")),
        ("?", |screen| !screen.contains("┌ Keys")),
    ];
    for number in 0..KEYS {
        let (key, is_done) = steps[number % steps.len()];
        // 20 to 80 ms, without a rhythm that the frames could have as well.
        terminal.read_for(Duration::from_millis(20 + (number as u64 * 37) % 61))?;
        latencies.push(terminal.press(key, is_done)?);
    }
    latencies.sort_unstable();
    Ok(latencies)
}

/// Reads a flood as the console does, and holds what was shown and what was counted as lost
/// against what was written.
fn account_for_lines(this: &Path) -> Outcome<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let (shown, dropped) = runtime.block_on(async {
        let Session { orders, mut events, mut logs } = session::start(Options {
            target: Target::Executable(this.to_owned()),
            plugin_dir: None,
            host_arguments: host::arguments(FLOOD, Some(COUNTED)),
            cargo_flags: Vec::new(),
            poll: None,
            patch: true,
            watch: Watch::Off,
            client_name: "responsiveness",
            prober: Prober::this_program(),
            has_screen: false,
        });
        let (mut shown, mut dropped) = (0, 0);
        let give_up = tokio::time::sleep(Duration::from_secs(120));
        tokio::pin!(give_up);
        while shown + dropped < COUNTED {
            tokio::select! {
                Some(line) = logs.recv() => match line {
                    LogLine::Dropped { count } => dropped += count,
                    _ => shown += 1,
                },
                Some(_) = events.recv() => {}
                () = &mut give_up => break,
            }
        }
        orders.send(Order::End).await?;
        while events.recv().await.is_some() {}
        Ok::<_, Box<dyn Error>>((shown, dropped))
    })?;
    println!(
        "\n{COUNTED} lines written: {shown} shown, {dropped} dropped and counted, {} unaccounted for",
        COUNTED.abs_diff(shown + dropped)
    );
    Ok(())
}

/// How much processor the console takes while nobody does anything, and how much it draws.
fn idle(name: &str, host: &Path, arguments: &[String], settle: Duration) -> Outcome<()> {
    let mut terminal = Terminal::start(host, arguments)?;
    terminal.wait_for("● ")?;
    terminal.read_for(settle)?;
    let (began, before, drawn) =
        (Instant::now(), terminal.processor_time()?, terminal.bytes_read());
    terminal.read_for(IDLE)?;
    let used = terminal.processor_time()?.saturating_sub(before);
    let percent = used.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    println!("{name:<28} {percent:>12.2} {:>14}", terminal.bytes_read() - drawn);
    terminal.end()
}
