//! The command line of `hotswap-console`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::cli::{self, Failure, WatchArguments};
use crate::session::{Options, Target};
use crate::socket::HostChoice;
use crate::{app, config, linear, picker, probe, terminal};

/// The name this program gives itself when it says hello.
const CLIENT_NAME: &str = "hotswap-console";

/// See and steer a host and its plugins: build, reload, invoke, free, read its log.
#[derive(Debug, Parser)]
#[command(name = "hotswap-console", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// The host: a cargo package directory, or an executable together with `--plugins`.
    host: Option<PathBuf>,
    /// The directory of artifacts; by default what the host's package says.
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    #[command(flatten)]
    watch: WatchArguments,
    /// One line an event instead of a screen.
    #[arg(long)]
    plain: bool,
    /// Arguments for the host.
    #[arg(last = true, value_name = "HOST ARGS")]
    host_arguments: Vec<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Attach to a host that runs already; without an argument, to the only one or the one picked.
    Attach {
        /// The host's process id or socket.
        #[arg(value_name = "PID|SOCKET")]
        host: Option<HostChoice>,
        /// One line an event instead of a screen.
        #[arg(long)]
        plain: bool,
    },
}

/// The command line of `hotswap-console`, for its man page.
pub(crate) fn command() -> clap::Command {
    Arguments::command()
}

/// Runs `hotswap-console` with the arguments of this process.
pub fn main() -> ExitCode {
    if let Some(code) = probe::serve() {
        return code;
    }
    let arguments = Arguments::parse();
    terminal::restore_on_panic();
    let outcome = cli::runtime().and_then(|runtime| {
        let outcome = runtime.block_on(perform(arguments));
        // A blocked read of the terminal must not keep the finished program alive.
        runtime.shutdown_background();
        outcome
    });
    cli::exit_code(outcome, false)
}

async fn perform(arguments: Arguments) -> Result<(), Failure> {
    let is_screen = |plain: bool| !plain && std::io::stdout().is_terminal();
    let (config, problem) =
        config::path().map_or_else(Default::default, |path| config::load(&path));
    let (target, plain) = match arguments.command {
        Some(Command::Attach { host: Some(host), plain }) => (Target::Running(host), plain),
        Some(Command::Attach { host: None, plain }) if is_screen(plain) => {
            match picker::pick(&config, CLIENT_NAME).await? {
                Some(host) => (Target::Running(host), plain),
                None => return Ok(()),
            }
        }
        Some(Command::Attach { host: None, .. }) => return cli::list_hosts().await,
        None => match arguments.host {
            Some(host) => (Target::at(host)?, arguments.plain),
            None => {
                cli::list_hosts().await?;
                eprintln!("\n{}", Arguments::command().render_usage());
                return Ok(());
            }
        },
    };
    let options = Options {
        target,
        plugin_dir: arguments.plugins,
        host_arguments: arguments.host_arguments,
        watch: arguments.watch.mode(),
        client_name: CLIENT_NAME,
        prober: probe::Prober::this_program(),
    };
    if is_screen(plain) {
        return app::run(options, config, problem).await;
    }
    linear::run(options, false).await
}
