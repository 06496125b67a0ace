//! The commands that send one request to a host.

use std::io::{self, Write};
use std::path::Path;

use hotswap_protocol::{
    Beside, HostAgent, HostInfo, InvokeParams, InvokeResult, PlanParams, PruneParams, Snapshot,
    TargetParams, UnpinParams, VersionState, WireError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::{
    FreeArguments, InvokeArguments, OutputArguments, PinCommand, ReloadArguments, RollbackArguments,
};
use super::{CLIENT_NAME, print_json, print_words, text};
use crate::compare::preview::{Line, Preview, Sort};
use crate::compare::probe::Prober;
use crate::compare::replay::{self, Replay};
use crate::failure::Failure;
use crate::host::operation::Operation;
use crate::host::socket::{self, HostChoice};
use crate::session::{disagreements, host_inputs};

pub(super) async fn hosts(output: OutputArguments) -> Result<(), Failure> {
    let (hosts, silent) = socket::hosts_and_silent(CLIENT_NAME).await;
    for error in &silent {
        writeln!(io::stderr(), "hotswap: {error}")?;
    }
    if output.json {
        let hosts: Vec<HostLine<'_>> = hosts.iter().map(HostLine::of).collect();
        return Ok(print_json(&hosts)?);
    }
    if hosts.is_empty() && silent.is_empty() {
        return Ok(writeln!(io::stderr(), "{}", socket::no_sockets())?);
    }
    Ok(print_words(&text::hosts(&hosts))?)
}

/// A host as `hotswap hosts --json` lists it.
#[derive(Serialize)]
struct HostLine<'a> {
    pid: u32,
    name: &'a str,
    socket: &'a Path,
    plugin_dir: &'a Path,
    staging_dir: &'a Path,
}

impl<'a> HostLine<'a> {
    fn of(host: &'a HostInfo) -> Self {
        Self {
            pid: host.pid,
            name: &host.name,
            socket: &host.socket,
            plugin_dir: &host.plugin_dir,
            staging_dir: &host.staging_dir,
        }
    }
}

pub(super) async fn status(
    host: Option<&HostChoice>,
    output: OutputArguments,
) -> Result<(), Failure> {
    let (client, _notifications) = socket::connect(host, CLIENT_NAME).await?;
    let snapshot = client.ask::<Snapshot>(Operation::Status.request());
    let snapshot = socket::answered(&client, snapshot).await?;
    let host_outdated = host_inputs::is_outdated(&snapshot.host);
    if !output.json {
        return Ok(print_words(&text::status(&snapshot, host_outdated))?);
    }
    let replay_disagreements = disagreements::count(&snapshot.host.plugin_dir);
    Ok(print_json(&StatusLine { snapshot, replay_disagreements, host_outdated })?)
}

/// The output of `hotswap status --json`.
#[derive(Serialize)]
struct StatusLine {
    #[serde(flatten)]
    snapshot: Snapshot,
    /// How often cargo made other code than a build without cargo.
    replay_disagreements: u64,
    /// Whether the host is older than its sources; `None` if no console has built it.
    host_outdated: Option<bool>,
}

pub(super) async fn reload(
    host: Option<&HostChoice>,
    reload: ReloadArguments,
) -> Result<(), Failure> {
    if reload.dry_run {
        return preview(host, reload).await;
    }
    let operation = match (reload.prune, reload.latest) {
        (true, latest) => Operation::Prune(PruneParams { latest, plugins: Vec::new() }),
        (false, true) => Operation::ReloadLatest,
        (false, false) => Operation::Reload,
    };
    perform(host, operation, reload.output, text::reload).await.map(drop)
}

/// Shows what a reload would change. Fails if the reload would most likely be refused.
async fn preview(host: Option<&HostChoice>, reload: ReloadArguments) -> Result<(), Failure> {
    let (client, _notifications) = socket::connect(host, CLIENT_NAME).await?;
    let asked = PlanParams { latest: reload.latest, prune: reload.prune, apply: None };
    let prober = Prober::this_program();
    let preview = Preview::make(&client, &prober, asked.clone());
    let preview = socket::answered(&client, preview).await?;
    let is_replayed = reload.replay && preview.error().is_none();
    let replay = match is_replayed {
        true => {
            let replay = Replay::make(&client, &prober, asked);
            Some(socket::answered(&client, replay).await?)
        }
        false => None,
    };
    if !reload.output.json {
        let of_replay = replay.iter().flat_map(Replay::lines);
        let gap = replay.iter().map(|_| Line::new(Sort::Plain, ""));
        for line in preview.lines().into_iter().chain(gap).chain(of_replay) {
            writeln!(io::stdout(), "{}", line.text.trim_end())?;
        }
    } else if preview.error().is_none() {
        print_json(&PreviewLine { preview: &preview, replay })?;
    }
    match preview.error() {
        Some(error) => Err(error.clone().into()),
        None => Ok(()),
    }
}

/// The output of `hotswap reload --dry-run --json`.
#[derive(Serialize)]
struct PreviewLine<'a> {
    #[serde(flatten)]
    preview: &'a Preview,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<Replay>,
}

pub(super) async fn live(
    host: Option<&HostChoice>,
    output: OutputArguments,
) -> Result<(), Failure> {
    perform(host, Operation::Live, output, text::live).await.map(drop)
}

pub(super) async fn reloads(
    host: Option<&HostChoice>,
    output: OutputArguments,
) -> Result<(), Failure> {
    perform(host, Operation::Reloads, output, text::reloads).await.map(drop)
}

pub(super) async fn rollback(
    host: Option<&HostChoice>,
    rollback: RollbackArguments,
) -> Result<(), Failure> {
    perform(host, Operation::rollback(rollback.target), rollback.output, text::reload)
        .await
        .map(drop)
}

pub(super) async fn invoke(
    host: Option<&HostChoice>,
    invoke: InvokeArguments,
) -> Result<(), Failure> {
    let operation =
        Operation::invoke(invoke.plugin, invoke.function, invoke.args).repeated(invoke.repeat);
    if let (Some(file), Operation::Invoke(call)) = (&invoke.beside_artifact, &operation) {
        return invoke_in_both(host, call, file, invoke.output).await;
    }
    let operation = operation.beside(invoke.beside);
    perform(host, operation, invoke.output, text::invoked).await.map(drop)
}

/// Calls the serving version, and an artifact that no host has loaded.
async fn invoke_in_both(
    host: Option<&HostChoice>,
    call: &InvokeParams,
    file: &Path,
    output: OutputArguments,
) -> Result<(), Failure> {
    let (client, _notifications) = socket::connect(host, CLIENT_NAME).await?;
    let file = std::path::absolute(file)?;
    let prober = Prober::this_program();
    let both = replay::invoke_in_both(&client, &prober, call, &file);
    let both = async { Ok::<_, WireError>(both.await) };
    let [first, second] = socket::answered(&client, both).await?;
    let second = match second {
        Ok(answer) => Beside::Result(answer),
        Err(error) => Beside::Error(error),
    };
    let answer = InvokeResult { beside: Some(Box::new(second)), ..first? };
    match output.json {
        true => print_json(&answer)?,
        false => print_words(&text::invoked(&answer))?,
    }
    Ok(())
}

pub(super) async fn pin(host: Option<&HostChoice>, command: PinCommand) -> Result<(), Failure> {
    match command {
        PinCommand::List(output) => {
            perform(host, Operation::Pins, output, text::pins).await.map(drop)
        }
        PinCommand::Add(pin) => {
            let operation = Operation::pin(pin.plugin, pin.function, pin.args);
            perform(host, operation, pin.output, text::pinned).await.map(drop)
        }
        PinCommand::Remove(pin) => {
            let operation = Operation::Unpin(UnpinParams { id: pin.id });
            perform(host, operation, pin.output, text::unpinned).await.map(drop)
        }
    }
}

pub(super) async fn vault(
    host: Option<&HostChoice>,
    output: OutputArguments,
) -> Result<(), Failure> {
    perform(host, Operation::Vault, output, text::vault).await.map(drop)
}

pub(super) async fn free(host: Option<&HostChoice>, free: FreeArguments) -> Result<(), Failure> {
    let operation = Operation::Free(TargetParams { target: free.target });
    let answer = perform(host, operation, free.output, text::freed).await?;
    match answer.state {
        VersionState::Freed => Ok(()),
        _ => Err(Failure::Reported),
    }
}

/// The arguments that name the agent's fleet to a command.
fn named(agent: &HostAgent) -> String {
    let flag = if agent.fleet.contains("://") { "--store" } else { "--fleet" };
    let channel = Some(&agent.channel).filter(|channel| *channel != "main");
    let channel = channel.map(|channel| format!(" --channel {channel}"));
    format!(" {flag} {}{}", agent.fleet, channel.unwrap_or_default())
}

/// Sends a request and prints the answer, as JSON or as text.
async fn perform<T: DeserializeOwned + Serialize>(
    host: Option<&HostChoice>,
    operation: Operation,
    output: OutputArguments,
    in_words: fn(&T) -> String,
) -> Result<T, Failure> {
    let (client, _notifications) = socket::connect(host, CLIENT_NAME).await?;
    if let Some(agent) = client.host().agent.as_ref().filter(|_| operation.loads()) {
        // This goes to stderr, because scripts read the answer on stdout.
        let _ = writeln!(
            io::stderr(),
            "hotswap: {agent} decides what this host runs, and may undo this; `hotswap fleet pin {} RELEASE{}` keeps \
             another release there",
            agent.host,
            named(agent)
        );
    }
    let answer = client.ask::<T>(operation.request());
    let answer = socket::answered(&client, answer).await?;
    if output.json {
        print_json(&answer)?;
    } else {
        print_words(&in_words(&answer))?;
    }
    Ok(answer)
}
