//! The start of `hotswap-console`: from its command line to the screen, or to the linear console.

use std::io::IsTerminal;
use std::process::ExitCode;

use super::{app, config, fleet, picker, terminal};
use crate::cli::console::{Arguments, Command, command, parse};
use crate::cli::fleet::{is_known, is_named};
use crate::cli::{self, linear};
use crate::compare::probe;
use crate::failure::Failure;
use crate::format;
use crate::session::{Options, Target};

/// The name of this program in its greeting to a host.
const CLIENT_NAME: &str = "hotswap-console";

/// Runs `hotswap-console` with the arguments of this process.
pub fn main() -> ExitCode {
    if let Some(code) = probe::serve() {
        return code;
    }
    if let Some(code) = cli::without_cargo() {
        return code;
    }
    format::use_local_time();
    let arguments = parse();
    terminal::restore_on_panic();
    let outcome = cli::runtime(cli::WORKERS).and_then(|runtime| {
        let outcome = runtime.block_on(perform(arguments));
        // A thread that is blocked reading the terminal must not keep the program alive.
        runtime.shutdown_background();
        outcome
    });
    cli::exit_code(outcome, false)
}

async fn perform(arguments: Arguments) -> Result<(), Failure> {
    let is_screen = !arguments.plain && std::io::stdout().is_terminal();
    let (config, problem) =
        config::path().map_or_else(Default::default, |path| config::load(&path));
    let mut _way = None;
    let target = match arguments.command {
        Some(Command::Attach { host: Some(host) }) => {
            let (host, way) = fleet::find(&arguments.place, host)?;
            _way = way;
            Target::Running(host)
        }
        Some(Command::Attach { host: None }) => {
            match picker::pick(&config, is_screen, CLIENT_NAME).await? {
                Some(host) => Target::Running(host),
                None => return Ok(()),
            }
        }
        None => match arguments.host {
            Some(host) => Target::at(host)?,
            None if is_screen && is_named(&arguments.place) => Target::Nothing,
            None => {
                cli::list_hosts().await?;
                eprintln!("\n{}", command().render_usage());
                return Ok(());
            }
        },
    };
    let prober = probe::Prober::this_program();
    let options = Options {
        target,
        plugin_dir: arguments.plugins,
        host_arguments: arguments.host_arguments,
        cargo_flags: arguments.cargo.flags(),
        watch: arguments.watch.mode(),
        poll: arguments.watch.poll(),
        patch: arguments.watch.patch(),
        client_name: CLIENT_NAME,
        prober: if is_screen { prober.without_terminal() } else { prober },
        has_screen: is_screen,
    };
    if is_screen {
        let fleet = is_known(&arguments.place).then_some(arguments.place);
        return app::run(options, fleet, config, problem).await;
    }
    linear::run(options, false).await
}
