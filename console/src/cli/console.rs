//! The command line of `hotswap-console`.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use super::args::{CargoArguments, PlaceArguments, WatchArguments};
use crate::host::socket::HostChoice;

/// See and steer a host and its plugins: build, reload, invoke, free, read its log.
#[derive(Debug, Parser)]
#[command(name = "hotswap-console", version, subcommand_precedence_over_arg = true)]
pub(crate) struct Arguments {
    /// The host: a cargo package directory, or an executable together with `--plugins`.
    pub host: Option<PathBuf>,
    /// The directory of artifacts; by default what the host's package says.
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    #[command(flatten)]
    pub watch: WatchArguments,
    #[command(flatten)]
    pub cargo: CargoArguments,
    /// One line an event instead of a screen.
    #[arg(long, global = true)]
    pub plain: bool,
    /// The fleet of the Fleet tab. Without a host, nothing but the fleet is shown.
    #[command(flatten)]
    pub place: PlaceArguments,
    /// Arguments for the host.
    #[arg(last = true, value_name = "HOST ARGS")]
    pub host_arguments: Vec<String>,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Attach to a host that runs already; without an argument, to the only one or the one picked.
    ///
    /// The sources are neither watched nor built. What the session that started the host has built, or `hotswap
    /// build PLUGIN DIR`, is loaded with `r`, or with `hotswap reload`.
    Attach {
        /// The host's name, process id or socket; with a fleet, also its name there, as `hotswap fleet hosts` lists
        /// it.
        #[arg(value_name = "NAME|PID|SOCKET")]
        host: Option<HostChoice>,
    },
}

/// The command line of `hotswap-console`, for its man page and its usage line.
pub(crate) fn command() -> clap::Command {
    Arguments::command()
}

/// The arguments of this process. Those that say how to start a host are none for one that runs.
pub(crate) fn parse() -> Arguments {
    let mut command = Arguments::command();
    let matches = command.get_matches_mut();
    let is_given = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let of_start = ["host", "plugins", "watch", "no_watch", "poll", "host_arguments"];
    if let (Some(subcommand), Some(_)) =
        (matches.subcommand_name(), of_start.iter().find(|id| is_given(id)))
    {
        let problem = format!(
            "`{subcommand}` starts no host: only `--plain` and what names a fleet go with it"
        );
        command.error(ErrorKind::ArgumentConflict, problem).exit();
    }
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}
