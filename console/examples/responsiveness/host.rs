//! A host that writes as many log lines a second as it is told, half of them on stdout.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hotswap_engine::{ConsoleSocket, Engine, console_layer};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// The first argument of the process that is the host.
pub const NAME: &str = "flooding-host";
/// Lines come in bursts this far apart.
const BURST: Duration = Duration::from_millis(2);

/// The arguments of a host that writes so many lines a second, and so many in all.
pub fn arguments(rate: u64, count: Option<u64>) -> Vec<String> {
    let count = count.unwrap_or(u64::MAX);
    vec![NAME.into(), rate.to_string(), count.to_string()]
}

/// Serves, and writes, until a signal ends it.
pub fn run(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let mut number = || arguments.next().and_then(|it| it.parse().ok()).unwrap_or(0);
    let (rate, count): (u64, u64) = (number(), number());
    // Nothing but the flood, so that its lines can be counted.
    let only_flood = Targets::new().with_target(NAME, tracing::Level::INFO);
    tracing_subscriber::registry().with(console_layer().with_filter(only_flood)).init();
    let plugins = tempfile::tempdir().expect("a directory without plugins");
    let engine = Engine::builder(plugins.path())
        .console(ConsoleSocket::from_env())
        .build()
        .expect("an engine");
    engine.load(()).expect("a load of nothing");
    write(rate, count);
    loop {
        std::thread::park();
    }
}

fn write(rate: u64, count: u64) {
    let began = Instant::now();
    let mut written = 0;
    let mut text = String::new();
    while rate > 0 && written < count {
        let due = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX) * rate / 1_000_000;
        text.clear();
        for number in written..due.min(count) {
            if number % 2 == 0 {
                tracing::info!(target: NAME, number, "a line of the flood");
            } else {
                text.push_str(&format!("line {number} of the flood\n"));
            }
        }
        written = due.min(count);
        // A reader that is gone ends this process too.
        if std::io::stdout().write_all(text.as_bytes()).is_err() {
            return;
        }
        std::thread::sleep(BURST);
    }
}
