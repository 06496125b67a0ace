//! `hotswap`: everything the console does, for scripts.
//!
//! Exit codes: 0 done, 1 the operation failed, 2 the command line is wrong, 3 there is no host,
//! or several run and none was chosen, 4 a rollout is paused or cannot be judged, 5 it was rolled back.
//!
//! With `--json` each command prints one object on one line. `hosts` prints an array, and `logs`, `run`, `agent`,
//! `fleet status --watch` and `fleet rollout --follow` print an object on each line. Fields may be added to these
//! shapes; none is removed. `assets/json.md` shows each shape.
//!
//! | command | shape |
//! |---|---|
//! | `new`, `init` | `{"root", "new", "changed", "written", "advice", "next"}` |
//! | `build` | `{"plugin", "build_id", "path", "stored", "source", "warnings", "effect", "phases"}` |
//! | `build --cargo-build=false` | `{"plugin", "manifest", "source_dirs", "included", "declared": [{"kind", "name", "file", "line"}], "unread"}` |
//! | `build --static-linking` | `{"name", "dir", "plugins", "live_prefix", "cargo_config"}` |
//! | `hosts` | `[{"pid", "name", "socket", "plugin_dir", "staging_dir"}]` |
//! | `status` | [`Snapshot`](hotswap_protocol::Snapshot): `{"host", "generation", "plugins": [{"name", "versions": [{"version", "state", "build_id", …}]}]}` |
//! | `reload`, `rollback` | [`ReloadReport`](hotswap_protocol::ReloadReport): `{"generation", "plugins": [{"name", "outcome", …}], …}` |
//! | `reloads` | [`Reloads`](hotswap_protocol::Reloads): `{"reloads": [{"at_ms", "report" or "error"}]}` |
//! | `invoke` | [`InvokeResult`](hotswap_protocol::InvokeResult): `{"value", "plugin", "version", "elapsed_us", "elapsed_ns"}`, and `"latencies"` with `--repeat` |
//! | `pin list` | [`Pins`](hotswap_protocol::Pins): `{"pins": [{"id", "plugin", "function", "args", "now": {"version", "at_ms", "elapsed_ns", "value"}, "before", "is_same"}]}` |
//! | `pin add`, `pin remove` | [`PinnedCall`](hotswap_protocol::PinnedCall), one of these |
//! | `vault` | [`VaultSnapshot`](hotswap_protocol::VaultSnapshot): `{"generation", "data_bag", "extension", …}` |
//! | `live` | [`LiveSnapshot`](hotswap_protocol::LiveSnapshot): `{"generation", "functions": [{"plugin", "version", "name", …}], "types": […]}` |
//! | `free` | [`FreeResult`](hotswap_protocol::FreeResult): `{"plugin", "version", "state", "detail", "holders"}` |
//! | `inspect` | `{"path", "size_bytes", "name", "crate_version", "build_id", "source", "toolchain": {"rustc", "target", "panic_strategy", "hotswap_plugin"}, "fits", "misfit", "judged_by": {"host", "pid", "toolchain"}, "keep_reason"}`; with `--open` also `"contents"`, an [`ArtifactContents`](hotswap_protocol::ArtifactContents) |
//! | `reload --dry-run` | [`Preview`](crate::compare::preview::Preview): `{"generation", "is_breaking", "plugins": [{"name", "outcome", "loaded", "new", "changes", "data_bag", "imported_by", "is_breaking"}]}` |
//! | `reload --dry-run --replay` | the same, and `"replay"`: a [`Replay`](crate::compare::replay::Replay): `{"calls": [{"plugin", "function", "args", "version", "build_id", "old", "new", "is_same"}], "error"}` |
//! | `logs` | [`LogRecord`](hotswap_protocol::LogRecord), or `{"dropped": 3}` for records that were lost |
//! | `run` | [`SessionEvent`](crate::session::SessionEvent) and [`LogLine`](crate::session::LogLine), distinguished by `"event"` |
//! | `agent` | [`HostReport`](hotswap_fleet::HostReport), `{"trouble": "…"}`, `{"recovered": "…"}`, or the address of the metrics: `{"metrics": "http://…"}` |
//! | `fleet init`, `status`, `rollout`, `promote`, `pause`, `resume`, `abort`, `rollback`, `pin`, `unpin` | `{"fleet", "signed", "channel", "release", "candidate", "pins", "rollout": {"release", "state", "step", "steps", "reason", "cause", …} or null, "outdated", "hosts": [{"id", "state", "release", "builds", …}], "unreadable"}` |
//! | `fleet push`, `verify` | [`Release`](hotswap_fleet::Release), and `"new"`, `"signatures"` and `"needed"` after `push` |
//! | `fleet sign` | `{"release", "signatures", "needed"}`, or without a release what `status` prints |
//! | `fleet releases` | `[{"id", "pushed_at_ms", "by", "plugins", "problem"}]` |
//! | `fleet hosts` | the `"hosts"` of `fleet status` |
//! | `fleet keys` | `{"serial", "keys", "threshold", "directors", "retired"}`; with `--generate` `{"key"}` |
//! | `fleet audit` | [`AuditEntry`](hotswap_fleet::AuditEntry), an array |
//! | any failure | `{"error": {"kind", "message", …}}`, a [`WireError`] |

mod agent;
mod args;
mod build;
mod clean;
pub(crate) mod console;
pub(crate) mod fleet;
mod generate;
mod host;
mod inspect;
pub(crate) mod linear;
mod logs;
mod run;
mod scaffold;
mod text;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::FromArgMatches;
use hotswap_protocol::{ErrorKind, WireError};
use serde::Serialize;

use crate::compare::probe;
use crate::failure::Failure;
use crate::format;

pub use args::{Arguments, Command};
pub(crate) use clean::without_cargo;

/// The client name that this program sends to hosts.
pub const CLIENT_NAME: &str = "hotswap";

/// How many threads run the tasks of a program, beside its first thread.
pub(crate) const WORKERS: usize = 2;

/// Runs `hotswap` as `cargo hotswap`. Cargo passes its own name for the program as the first argument.
pub fn main_of_cargo() -> ExitCode {
    let is_name = |(place, argument): &(usize, OsString)| *place == 1 && argument == "hotswap";
    let arguments = env::args_os().enumerate().filter(|argument| !is_name(argument));
    run(arguments.map(|(_, argument)| argument), "cargo hotswap")
}

/// Runs `hotswap` with the arguments of this process.
pub fn main() -> ExitCode {
    run(env::args_os(), CLIENT_NAME)
}

/// Runs `hotswap`. Its usage texts name it `name`.
fn run(arguments: impl Iterator<Item = OsString>, name: &'static str) -> ExitCode {
    if let Some(code) = probe::serve() {
        return code;
    }
    if let Some(code) = without_cargo() {
        return code;
    }
    format::use_local_time();
    let matches = Arguments::described().bin_name(name).get_matches_from(arguments);
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let json = arguments.command.wants_json();
    // An agent is idle most of its life. With one worker, fewer threads wake each other.
    let workers = if matches!(arguments.command, Command::Agent(_)) { 1 } else { WORKERS };
    let outcome = runtime(workers).and_then(|runtime| {
        let outcome = runtime.block_on(perform(arguments));
        // A blocked read of a file or a pipe must not keep a finished command alive.
        runtime.shutdown_background();
        outcome
    });
    exit_code(outcome, json)
}

async fn perform(arguments: Arguments) -> Result<(), Failure> {
    let host = arguments.host.as_ref();
    match arguments.command {
        Command::New(new) => scaffold::new(new),
        Command::Init(init) => scaffold::init(init),
        Command::Build(build) => build::build(build).await,
        Command::Run(arguments) => run::run(arguments).await,
        Command::Hosts(output) => host::hosts(output).await,
        Command::Status(output) => host::status(host, output).await,
        Command::Reload(reload) => host::reload(host, reload).await,
        Command::Rollback(rollback) => host::rollback(host, rollback).await,
        Command::Invoke(invoke) => host::invoke(host, invoke).await,
        Command::Pin { command } => host::pin(host, command).await,
        Command::Vault(output) => host::vault(host, output).await,
        Command::Live(output) => host::live(host, output).await,
        Command::Reloads(output) => host::reloads(host, output).await,
        Command::Free(free) => host::free(host, free).await,
        Command::Inspect(arguments) => inspect::inspect(host, &arguments).await,
        Command::Agent(arguments) => agent::agent(host, arguments).await,
        Command::Fleet(arguments) => fleet::fleet(arguments).await,
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { dir } => generate::man(&dir),
        Command::Logs(logs) => logs::logs(host, logs).await,
    }
}

/// A failure, as `--json` prints it.
#[derive(Serialize)]
struct FailureLine<'a> {
    error: &'a WireError,
}

/// Prints a value as one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> io::Result<()> {
    let line = serde_json::to_string(value).map_err(io::Error::other)?;
    writeln!(io::stdout(), "{line}")
}

/// Prints words.
pub(crate) fn print_words(words: &str) -> io::Result<()> {
    write!(io::stdout(), "{}", plain(words))
}

/// A text in which nothing is an order to the terminal. The names of keys and threads, and the words of errors, may
/// have come to a host or a fleet from anywhere.
fn plain(words: &str) -> String {
    let is_order = |c: char| {
        let turns_lines_around = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        turns_lines_around || c.is_control() && !matches!(c, '\n' | '\t')
    };
    words.replace(is_order, "\u{fffd}")
}

/// Prints the running hosts as text.
pub(crate) async fn list_hosts() -> Result<(), Failure> {
    host::hosts(args::OutputArguments { json: false }).await
}

/// The asynchronous runtime of both programs.
pub(crate) fn runtime(workers: usize) -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?)
}

/// How to see where a panic came from.
const HOW_TO_TRACE: &str =
    "\nif the host runs with `RUST_BACKTRACE=1`, `hotswap logs` has a backtrace of the panic";

/// Reports a failure, and turns an outcome into the program's exit code.
pub(crate) fn exit_code(outcome: Result<(), Failure>, json: bool) -> ExitCode {
    let error = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        // The reader has closed the pipe, because it has read enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            return ExitCode::SUCCESS;
        }
        Err(Failure::Output(error)) => {
            WireError::new(ErrorKind::Internal, format!("cannot write the output: {error}"))
        }
        Err(Failure::Reported) => return ExitCode::FAILURE,
        Err(Failure::Ended(code)) => return ExitCode::from(code),
        Err(Failure::Operation(error)) => error,
    };
    // If this cannot be written either, the exit code still reports the failure.
    let _ = if json {
        print_json(&FailureLine { error: &error })
    } else {
        let advice = if error.kind == ErrorKind::Panic { HOW_TO_TRACE } else { "" };
        writeln!(io::stderr(), "hotswap: {}{advice}", plain(&error.to_string()))
    };
    if error.kind == ErrorKind::NoHost { ExitCode::from(3) } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_from_anywhere_are_no_orders_to_the_terminal() {
        let words = plain("key \u{1b}[2J\u{202e}yek\0\r\n\tö");
        assert_eq!(words, "key \u{fffd}[2J\u{fffd}yek\u{fffd}\u{fffd}\n\tö");
    }
}
