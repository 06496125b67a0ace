//! The command line of `hotswap`.

use clap::{Args, Parser, Subcommand};

use crate::socket::HostChoice;

/// Reload native plugins inside a running host, from scripts.
#[derive(Debug, Parser)]
#[command(
    name = "hotswap",
    version,
    after_help = "Exit codes: 0 done, 1 the operation failed, 2 the command line is wrong, \
                  3 no host runs, or several do and --host chose none."
)]
pub struct Arguments {
    /// The host to talk to, when several run: its process id or its socket.
    #[arg(long, global = true, value_name = "PID|SOCKET")]
    pub host: Option<HostChoice>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the hosts that run.
    Hosts(OutputArguments),
    /// Show the plugins and versions of a host.
    Status(OutputArguments),
    /// Reload the plugins whose artifact changed.
    Reload(OutputArguments),
    /// Call a function of a plugin.
    Invoke(InvokeArguments),
    /// Show the contents of the Vault.
    Vault(OutputArguments),
    /// Print the host's log.
    Logs(LogsArguments),
    /// Free a retired version.
    Free(FreeArguments),
}

impl Command {
    /// Whether failures are to be told as JSON too.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Hosts(output)
            | Self::Status(output)
            | Self::Reload(output)
            | Self::Vault(output) => output.json,
            Self::Invoke(invoke) => invoke.output.json,
            Self::Logs(logs) => logs.output.json,
            Self::Free(free) => free.output.json,
        }
    }
}

/// How to print the answer.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArguments {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `hotswap invoke`.
#[derive(Debug, Args)]
pub struct InvokeArguments {
    /// The plugin, or `plugin@version` for a version that is still loaded.
    pub plugin: String,
    /// The function.
    pub function: String,
    /// The arguments in order. A String parameter takes the text as it is, any other reads JSON.
    #[arg(allow_negative_numbers = true)]
    pub args: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArguments,
}

/// Arguments of `hotswap logs`.
#[derive(Debug, Args)]
pub struct LogsArguments {
    /// Go on printing as records come.
    #[arg(long, short)]
    pub follow: bool,
    /// How many earlier records to print first.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub backlog: usize,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArguments,
}

/// Arguments of `hotswap free`.
#[derive(Debug, Args)]
pub struct FreeArguments {
    /// `plugin@version`, such as `world@1`.
    pub target: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArguments,
}
