//! A small host: it calls one plugin, which can be replaced from one call to the next.
//!
//! Try: run it with the commands below, change the greeting in `sample-plugins/world/src/lib.rs`, run the first
//! command again in another terminal, and press Enter here. Or reload by a signal: `kill -USR1 PID`.
//!
//! `cargo run -p hotswap-console --bin hotswap -- build sample-plugins/world target/hotswap/plugins/hello`
//! `cargo run -p sample-host --example hello`
//!
//! It shows a heartbeat, which calls every plugin that has such a function; a callback, which sees a reload before
//! it is published, and can refuse it; the number of reloads; and the end of a version: the engine keeps it for a
//! while after it was replaced (`free_delay`), and then calls its `on_free`, which logs that.

use std::{
    io::{self, stdin},
    process,
    sync::mpsc::{Sender, channel},
    thread,
    time::Duration,
};

use eyre::Result;
use hotswap_engine::{Engine, Generation, args};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

/// The time from one heartbeat to the next.
const HEARTBEAT_PERIOD: Duration = Duration::from_secs(5);

/// The events that the host waits for.
enum Request {
    Reload,
    End,
}

fn main() -> Result<()> {
    // This also prints what the plugin logs.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(io::stdout)
        .with_ansi(false)
        .without_time()
        .init();
    let engine = Engine::builder("target/hotswap/plugins/hello")
        .only(["world"])
        .free_delay(Duration::from_secs(1))
        .on_reload(check_reload)
        .build()?;
    println!("{}", engine.load(())?);
    let caller = engine.clone();
    thread::spawn(move || call_heartbeats(&caller));

    let (sender, requests) = channel();
    let runtime = Runtime::new()?;
    request_on_signal(&runtime, sender.clone())?;
    thread::spawn(move || request_on_lines(&sender));
    loop {
        let greeting: String = engine.plugin("world")?.invoke("greet", args!["Ada", 2])?;
        println!("{greeting}");
        println!("Enter or SIGUSR1 (kill -USR1 {}) reloads, Ctrl-D ends", process::id());
        match requests.recv()? {
            Request::Reload => reload(&engine),
            Request::End => break,
        }
    }
    for held in engine.shutdown(Duration::from_secs(5)).held {
        println!("still in use: {held}");
    }
    Ok(())
}

/// Checks a reload before it is published. An error refuses it.
fn check_reload(new: &Generation, old: &Generation) -> Result<()> {
    let greetings: u64 = new.plugin("world")?.invoke("greetings", args![])?;
    let (old, new) = (old.generation(), new.generation());
    println!("callback: from generation {old} to {new}, with {greetings} greetings");
    Ok(())
}

fn reload(engine: &Engine) {
    // If the reload is refused, the old version keeps serving.
    match engine.reload() {
        Ok(report) => println!("{report}; reloads so far: {}", engine.reload_count()),
        Err(error) => println!("refused: {error}"),
    }
}

/// Calls `heartbeat` of every plugin that has it, again and again.
fn call_heartbeats(engine: &Engine) {
    for number in 0_u64.. {
        engine.current().invoke_each("heartbeat", args![number]);
        thread::sleep(HEARTBEAT_PERIOD);
    }
}

/// Requests a reload for each SIGUSR1.
fn request_on_signal(runtime: &Runtime, sender: Sender<Request>) -> Result<()> {
    let mut signal = runtime.block_on(async { signal(SignalKind::user_defined1()) })?;
    runtime.spawn(async move {
        while signal.recv().await.is_some() {
            send(&sender, Request::Reload);
        }
    });
    Ok(())
}

/// Requests a reload for each line of stdin, and the end after the last line.
fn request_on_lines(sender: &Sender<Request>) {
    stdin().lines().map_while(io::Result::ok).for_each(|_| send(sender, Request::Reload));
    send(sender, Request::End);
}

fn send(sender: &Sender<Request>, request: Request) {
    // An error means that the host ends and receives nothing more.
    let _ = sender.send(request);
}
