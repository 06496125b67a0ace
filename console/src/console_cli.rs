//! The command line of `hotswap-console`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::cli::{self, Failure, WatchArguments};
use crate::session::{Options, Target};
use crate::socket::HostChoice;
use crate::{app, config, linear, picker, probe, terminal};

/// The name this program gives itself when it says hello.
const CLIENT_NAME: &str = "hotswap-console";

/// See and steer a host and its plugins: build, reload, invoke, free, read its log.
#[derive(Debug, Parser)]
#[command(name = "hotswap-console", version, subcommand_precedence_over_arg = true)]
struct Arguments {
    /// The host: a cargo package directory, or an executable together with `--plugins`.
    host: Option<PathBuf>,
    /// The directory of artifacts; by default what the host's package says.
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    #[command(flatten)]
    watch: WatchArguments,
    /// One line an event instead of a screen.
    #[arg(long, global = true)]
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
    let arguments = parse();
    terminal::restore_on_panic();
    let outcome = cli::runtime().and_then(|runtime| {
        let outcome = runtime.block_on(perform(arguments));
        // A blocked read of the terminal must not keep the finished program alive.
        runtime.shutdown_background();
        outcome
    });
    cli::exit_code(outcome, false)
}

/// The arguments of this process. Those that say how to start a host are none for one that runs.
fn parse() -> Arguments {
    let mut command = Arguments::command();
    let matches = command.get_matches_mut();
    let is_given = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let of_start = ["host", "plugins", "watch", "no_watch", "host_arguments"];
    if let (Some(subcommand), Some(_)) =
        (matches.subcommand_name(), of_start.iter().find(|id| is_given(id)))
    {
        let problem = format!("`{subcommand}` starts no host: only `--plain` goes with it");
        command.error(ErrorKind::ArgumentConflict, problem).exit();
    }
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

async fn perform(arguments: Arguments) -> Result<(), Failure> {
    let is_screen = !arguments.plain && std::io::stdout().is_terminal();
    let (config, problem) =
        config::path().map_or_else(Default::default, |path| config::load(&path));
    let target = match arguments.command {
        Some(Command::Attach { host: Some(host) }) => Target::Running(host),
        Some(Command::Attach { host: None }) => {
            match picker::pick(&config, is_screen, CLIENT_NAME).await? {
                Some(host) => Target::Running(host),
                None => return Ok(()),
            }
        }
        None => match arguments.host {
            Some(host) => Target::at(host)?,
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
    if is_screen {
        return app::run(options, config, problem).await;
    }
    linear::run(options, false).await
}
