//! The command line of `hotswap-console`.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use super::args::{CargoArguments, PlaceArguments, WatchArguments};
use crate::host::socket::HostChoice;

/// Watch and control a host and its plugins: build, reload, invoke, free, read its log.
#[derive(Debug, Parser)]
#[command(name = "hotswap-console", version, subcommand_precedence_over_arg = true)]
pub(crate) struct Arguments {
    /// The host: a cargo package directory, or an executable together with `--plugins`.
    pub host: Option<PathBuf>,
    /// The directory of artifacts; by default the one that the host's package names.
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    #[command(flatten)]
    pub watch: WatchArguments,
    #[command(flatten)]
    pub cargo: CargoArguments,
    /// Print one line for each event instead of showing a screen.
    #[arg(long, global = true)]
    pub plain: bool,
    /// The fleet of the Fleet tab. Without a host, only the fleet is shown.
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
    /// Attach to a running host. Without an argument, attach to the only one, or choose one from a list.
    ///
    /// The sources are neither watched nor built. Builds of the session that started the host, or of `hotswap
    /// build PLUGIN DIR`, are loaded with `r` or `hotswap reload`.
    Attach {
        /// The host's name, process id or socket. With a fleet, also its name there (`hotswap fleet hosts`).
        #[arg(value_name = "NAME|PID|SOCKET")]
        host: Option<HostChoice>,
    },
}

/// The command line of `hotswap-console`, for its man page and its usage line.
pub(crate) fn command() -> clap::Command {
    Arguments::command()
}

/// The arguments of this process. Arguments that say how to start a host are refused for a running host.
pub(crate) fn parse() -> Arguments {
    let mut command = Arguments::command();
    let matches = command.get_matches_mut();
    let is_given = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let of_start = ["host", "plugins", "watch", "no_watch", "poll", "host_arguments"];
    if let (Some(subcommand), Some(_)) =
        (matches.subcommand_name(), of_start.iter().find(|id| is_given(id)))
    {
        let problem = format!(
            "`{subcommand}` starts no host, so it takes only `--plain` and the options that name a fleet"
        );
        command.error(ErrorKind::ArgumentConflict, problem).exit();
    }
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}
