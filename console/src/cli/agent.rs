//! `hotswap agent`

use std::io::{self, Write};
use std::net::SocketAddr;

use hotswap_fleet::{FleetError, HostReport, HostState, Store};
use hotswap_protocol::OfferAnswer;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::args::AgentArguments;
use super::{CLIENT_NAME, fleet, print_json};
use crate::agent::{self, AgentEvent, Options};
use crate::compare::probe::Prober;
use crate::failure::Failure;
use crate::host::socket::HostChoice;

/// The number of news that wait to be printed.
const EVENT_QUEUE: usize = 256;

pub(super) async fn agent(
    hosts: Option<&HostChoice>,
    arguments: AgentArguments,
) -> Result<(), Failure> {
    let store = open(&arguments).await?;
    let channel = arguments.place.channel;
    let json = arguments.output.json;
    if !json {
        let place = store.place();
        writeln!(io::stdout(), "serves channel {channel} of the fleet in {place}")?;
    }
    let metrics = match arguments.metrics {
        Some(address) => Some(listen(address, json).await?),
        None => None,
    };
    let (sender, mut events) = mpsc::channel(EVENT_QUEUE);
    let options = Options {
        state_dir: agent::state_dir(&fleet::states()?, &store),
        store,
        channel,
        hosts: hosts.cloned(),
        by: format!("agent of {}", fleet::user()),
        client_name: CLIENT_NAME,
        prober: Prober::this_program(),
        pardon: arguments.pardon,
        labels: arguments.label.into_iter().collect(),
        allows_attach: arguments.attach,
        metrics,
    };
    let agent = agent::run(options, sender);
    let print = async {
        while let Some(event) = events.recv().await {
            print(&event, json)?;
        }
        Ok::<(), io::Error>(())
    };
    tokio::select! {
        ended = agent => Ok(ended?),
        printed = print => Ok(printed?),
    }
}

/// Opens the fleet. If a server does not answer, this waits: it may be started later than its agents, and its
/// hosts keep running without it.
async fn open(arguments: &AgentArguments) -> Result<Store, Failure> {
    let mut last_trouble = None;
    loop {
        let place = arguments.place.clone();
        let opened = tokio::task::spawn_blocking(move || fleet::open(&place)).await;
        match opened.unwrap_or_else(|error| Err(FleetError::new(error.to_string()))) {
            Err(error) if error.is_unreachable() => {
                if last_trouble.as_ref() != Some(&error) {
                    print(&AgentEvent::Trouble(error.clone()), arguments.output.json)?;
                    last_trouble = Some(error);
                }
                tokio::time::sleep(agent::pause_before_retry()).await;
            }
            opened => return Ok(opened?),
        }
    }
}

/// Listens for requests of metrics, and prints the address.
async fn listen(address: SocketAddr, json: bool) -> Result<TcpListener, Failure> {
    let wrong = |error: io::Error| FleetError::new(format!("--metrics {address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    let url = format!("http://{}/metrics", listener.local_addr().map_err(wrong)?);
    match json {
        true => print_json(&json!({ "metrics": url }))?,
        false => writeln!(io::stdout(), "metrics are at {url}")?,
    }
    Ok(listener)
}

fn print(event: &AgentEvent, json: bool) -> io::Result<()> {
    match event {
        AgentEvent::Host(report) if json => print_json(report),
        AgentEvent::Host(report) => writeln!(io::stdout(), "{}", in_words(report)),
        AgentEvent::Trouble(trouble) if json => {
            print_json(&json!({ "trouble": trouble.to_string() }))
        }
        AgentEvent::Trouble(trouble) => writeln!(io::stderr(), "hotswap: {trouble}"),
        AgentEvent::Recovered(trouble) if json => {
            print_json(&json!({ "recovered": trouble.to_string() }))
        }
        AgentEvent::Recovered(trouble) => {
            writeln!(io::stderr(), "hotswap: {}", recovered_in_words(trouble))
        }
    }
}

fn recovered_in_words(trouble: &FleetError) -> String {
    match trouble.place() {
        Some(place) if trouble.is_replaced() => format!("{place}: the fleet is back"),
        Some(place) if trouble.is_unreachable() => format!("{place}: the server answers again"),
        _ => format!("this is over: {trouble}"),
    }
}

fn in_words(report: &HostReport) -> String {
    let HostReport { id, state, .. } = report;
    let runs = match &report.release {
        Some(release) => format!("release {release}"),
        None => "its own plugins".to_owned(),
    };
    let staged =
        report.staged.as_ref().filter(|_| state.is_there() && report.staged != report.release);
    let staged = staged.map(|staged| format!(", {staged} is staged")).unwrap_or_default();
    let problem = report.problem.as_ref().map(|problem| format!(": {}", problem.message));
    let problem = problem.filter(|_| *state != HostState::Serving).unwrap_or_default();
    let offer = report.more.offer.as_ref().and_then(in_words_of_offer).unwrap_or_default();
    format!("{id} {}, {runs}{staged}{offer}{problem}", state.as_str())
}

fn in_words_of_offer(offer: &OfferAnswer) -> Option<String> {
    match offer {
        OfferAnswer::Later { reason } => Some(format!(", wants to wait: {reason}")),
        OfferAnswer::No { reason } => Some(format!(", does not want it: {reason}")),
        _ => None,
    }
}
