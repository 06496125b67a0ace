//! A small HTTP service whose answers come from plugins, which can be replaced while it runs.
//!
//! The plugin `world` answers `GET /greet/{name}?times=N`, and the animals that plugins have registered in
//! the host's Extension answer `GET /animals`. `POST /jobs/{name}` queues a job: for a live function of that name,
//! or of a live type, which the function that is named after it does.
//! SIGUSR1 reloads the plugins; SIGINT and SIGTERM end the service.

mod heartbeat;
mod http;
mod jobs;
mod yard;

use std::{env, io::IsTerminal as _, net::Ipv4Addr, time::Duration};

use clap::Parser;
use eyre::{Result, WrapErr};
use hotswap_engine::{
    ConsoleSocket, Engine, console_layer, plugin_dir_from_env, protocol::env::CONSOLE,
    store_dir_from_env,
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Handle},
    signal::unix::{Signal, SignalKind, signal},
};
use tracing_subscriber::{EnvFilter, prelude::*};

use jobs::Jobs;
use yard::Yard;

/// Counts how much memory each version of a plugin has on the heap.
#[global_allocator]
static ALLOCATOR: hotswap_engine::Allocator = hotswap_engine::Allocator::new();

/// How long the service waits for running calls when it ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// The time from one job of the queue to the next.
const JOB_PERIOD: Duration = Duration::from_secs(1);

/// A small HTTP service whose answers come from plugins.
#[derive(Debug, Parser)]
struct Arguments {
    /// The port to listen on, on the loopback interface; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,

    /// The directory of the plugins' artifacts; a console sets HOTSWAP_PLUGIN_DIR instead
    #[arg(long)]
    plugins: Option<std::path::PathBuf>,

    /// Seconds between two heartbeats
    #[arg(long, default_value_t = 5)]
    heartbeat: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    install_log();
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .on_thread_park(hotswap_engine::checkpoint)
        .build()?;
    runtime.block_on(runtime.spawn(serve(arguments)))?
}

async fn serve(arguments: Arguments) -> Result<()> {
    let plugin_dir = match arguments.plugins {
        Some(dir) => dir,
        None => plugin_dir_from_env("target/hotswap/plugins/sample-host"),
    };
    let engine = Engine::builder(plugin_dir)
        .store(store_dir_from_env("target/hotswap/store"))
        .extension(Yard::next)
        .console(ConsoleSocket::from_env())
        .tokio(Handle::current())
        .build()?;
    // The service runs without its plugins too; the next reload may load them.
    if let Err(error) = load(&engine).await {
        tracing::error!("serving without plugins: {error}");
    }

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port))
        .await
        .wrap_err_with(|| format!("cannot listen on port {}", arguments.port))?;
    let address = listener.local_addr()?;
    // Before the address is printed: whoever reads it may send signals.
    let ends = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    let reload_signals = signal(SignalKind::user_defined1())?;
    tracing::info!("listening on http://{address}");
    println!("listening on http://{address}");

    let heartbeat =
        heartbeat::start(engine.clone(), Duration::from_secs(arguments.heartbeat.max(1)));
    let jobs = Jobs::default();
    let worker = jobs.clone().start(engine.clone(), JOB_PERIOD);
    let reloads = tokio::spawn(reload_on_signal(engine.clone(), reload_signals));
    axum::serve(listener, http::router(engine.clone(), jobs))
        .with_graceful_shutdown(wait_for_end_signal(ends))
        .await?;
    heartbeat.abort();
    worker.abort();
    reloads.abort();

    let report = tokio::task::spawn_blocking(move || engine.shutdown(SHUTDOWN_TIMEOUT)).await?;
    for held in report.held {
        tracing::warn!("still in use at the end: {held}");
    }
    tracing::info!("ended");
    Ok(())
}

/// Sends the log to consoles and, if no console has started the host, to stderr.
fn install_log() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,world=debug,cat=debug"));
    let to_stderr = env::var_os(CONSOLE).is_none();
    let stderr = to_stderr.then(|| {
        let colours = std::io::stderr().is_terminal();
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours)
    });
    tracing_subscriber::registry().with(filter).with(console_layer()).with(stderr).init();
}

/// Loads what changed, on a blocking thread: a load takes as long as the plugins' steps.
async fn load(engine: &Engine) -> Result<()> {
    let engine = engine.clone();
    tokio::task::spawn_blocking(move || engine.reload()).await??;
    Ok(())
}

async fn reload_on_signal(engine: Engine, mut signals: Signal) {
    while signals.recv().await.is_some() {
        // The engine logs the result.
        let _ = load(&engine).await;
    }
}

async fn wait_for_end_signal([mut interrupt, mut terminate]: [Signal; 2]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
