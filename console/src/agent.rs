//! The agent: brings the hosts of this user on this machine to what a channel of a fleet declares, and reports
//! them.
//!
//! It talks to hosts through their console sockets, from outside: new code may end the process that it runs in,
//! and somebody has to tell of it. A task a host does one thing after the other; what all share is what the
//! channel declares, and the ledger on disk.

mod files;
mod host;
mod ledger;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hotswap_fleet::{
    Channel, FleetError, HostReport, HostState, Id, Keys, Order, Rollout, Store, turn,
};
use hotswap_protocol::clock::now_ms;
use tokio::sync::{Mutex, mpsc, watch};

use crate::compare::probe::Prober;
use crate::host::socket::{self, HostChoice};

use files::Files;
use ledger::Ledger;

/// How often it looks at what the channel declares, and for new hosts.
const LOOK: Duration = Duration::from_millis(250);
/// How long what is known of a process that has ended badly is kept.
const REMEMBERED_MS: u64 = 600_000;

/// What an agent is to do.
pub struct Options {
    /// The fleet.
    pub store: Store,
    /// The channel.
    pub channel: Id,
    /// Which hosts it serves; all if `None`.
    pub hosts: Option<HostChoice>,
    /// Where it keeps what it must not forget.
    pub state_dir: PathBuf,
    /// Who it is, for the audit.
    pub by: String,
    /// How it says hello.
    pub client_name: &'static str,
    /// Opens artifacts in a process of its own.
    pub prober: Prober,
    /// Whether builds that crashed a host may be loaded again.
    pub pardon: bool,
}

/// What an agent tells.
pub enum Told {
    /// A host is not what it was.
    Host(Box<HostReport>),
    /// Something cannot be read or written; what was known goes on.
    Trouble(FleetError),
}

/// What all hosts of an agent share.
struct Shared {
    store: Store,
    channel: Id,
    hosts: Option<HostChoice>,
    client_name: &'static str,
    prober: Prober,
    ledger: Mutex<Ledger>,
    files: Files,
    told: mpsc::Sender<Told>,
}

/// What is declared, as the agent believes it.
#[derive(Clone)]
struct Declared {
    channel: Channel,
    keys: Vec<String>,
}

/// Where the agent of a fleet keeps what it must not forget.
pub fn state_dir(states: &Path, store: &Store) -> PathBuf {
    let fleet = store.fleet();
    states.join(format!("hotswap/agent/{}-{}", fleet.id, fleet.made_at_ms))
}

/// Serves the hosts, and tells of them, until nobody listens any more.
///
/// # Errors
/// If another agent serves this fleet, or what it must not forget cannot be read.
pub async fn run(options: Options, told: mpsc::Sender<Told>) -> Result<(), FleetError> {
    let mut ledger = Ledger::open(&options.state_dir)?;
    if options.pardon {
        ledger.pardon()?;
    }
    let shared = Arc::new(Shared {
        files: Files::new(&options.store, &options.state_dir)?,
        store: options.store,
        channel: options.channel,
        hosts: options.hosts,
        client_name: options.client_name,
        prober: options.prober,
        ledger: Mutex::new(ledger),
        told,
    });
    let first = shared.declared(None).await?;
    shared.files.clean(&first);
    shared.forget_the_dead().await?;
    let (declare, declared) = watch::channel(first);
    let mut serving: HashMap<PathBuf, tokio::task::JoinHandle<()>> = HashMap::new();
    let mut last_trouble = None;
    loop {
        serving.retain(|_, task| !task.is_finished());
        for path in socket::sockets() {
            let (shared, declared) = (Arc::clone(&shared), declared.clone());
            serving
                .entry(path.clone())
                .or_insert_with(|| tokio::spawn(host::serve(shared, path, declared)));
        }
        let trouble = shared.look(&declare, &options.by).await.err();
        if let Some(trouble) = trouble.clone().filter(|it| last_trouble.as_ref() != Some(it)) {
            let _ = shared.told.send(Told::Trouble(trouble)).await;
        }
        last_trouble = trouble;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shared.told.closed() => return Ok(()),
        }
    }
}

/// Whatever may take a while, away from those that answer others.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FleetError> + Send + 'static,
) -> Result<T, FleetError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(FleetError::new(format!("the agent failed: {error}"))))
}

/// Takes the steps that a rollout can take now.
pub async fn turn_now(
    store: &Store,
    channel: &Id,
    order: Option<Order>,
    by: &str,
) -> Result<Option<Rollout>, FleetError> {
    let (store, channel, by) = (store.clone(), channel.clone(), by.to_owned());
    blocking(move || turn(&store, &channel, order, &by, now_ms())).await
}

impl Shared {
    /// Looks at what is declared, and at the rollout.
    async fn look(&self, declare: &watch::Sender<Declared>, by: &str) -> Result<(), FleetError> {
        let turned = turn_now(&self.store, &self.channel, None, by).await;
        let known = declare.borrow().clone();
        let new = self.declared(Some(&known)).await?;
        declare.send_if_modified(|declared| {
            let is_new = declared.channel != new.channel || declared.keys != new.keys;
            *declared = new;
            is_new
        });
        self.forget_old_reports()?;
        turned.map(drop)
    }

    /// What is declared now. Nothing goes back, whatever has become of the store.
    async fn declared(&self, known: Option<&Declared>) -> Result<Declared, FleetError> {
        let mut ledger = self.ledger.lock().await;
        let keys = self.store.keys_after(ledger.keys())?;
        let channel = self.store.channel(&self.channel)?;
        if let Some(accepted) = ledger.channel(&self.channel)
            && channel.mark < accepted.mark
        {
            let error = FleetError::new(format!(
                "channel {} went back from {} to {} changes; what it declared before still holds",
                self.channel, accepted.mark.seq, channel.mark.seq
            ));
            return match known {
                Some(_) => Err(error),
                None => {
                    let _ = self.told.send(Told::Trouble(error)).await;
                    Ok(Declared { channel: accepted.clone(), keys: keys_of(keys.as_ref()) })
                }
            };
        }
        let declared = Declared { keys: keys_of(keys.as_ref()), channel };
        ledger.accept(keys, &declared.channel)?;
        Ok(declared)
    }

    /// Forgets the hosts that were there when the last agent ended, and are not there any more. One that ended
    /// while it was being given a release has ended for it.
    async fn forget_the_dead(&self) -> Result<(), FleetError> {
        let (hosts, _) = self.store.hosts(&self.channel)?;
        for host in hosts {
            if !host.state.is_there() || socket::process_lives(host.pid) {
                continue;
            }
            let note = self.ledger.lock().await.note(&host.id);
            match note.and_then(|note| note.applying) {
                Some(release) => self.blame(host, &release, None).await?,
                None => {
                    self.ledger.lock().await.forget(&host.id)?;
                    self.store.forget(&host.id)?;
                }
            }
        }
        Ok(())
    }

    /// Reports that a host crashed, and keeps its builds of the release from all others.
    async fn blame(
        &self,
        mut report: HostReport,
        release: &Id,
        call: Option<&hotswap_protocol::InFlightCall>,
    ) -> Result<(), FleetError> {
        let mut ledger = self.ledger.lock().await;
        let plugin = call.map(|call| call.plugin.clone());
        ledger.quarantine(&report.id, release, plugin.as_deref())?;
        report.state = HostState::Crashed;
        report.at_ms = now_ms();
        report.problem = Some(hotswap_fleet::Problem {
            kind: hotswap_fleet::ProblemKind::Crash,
            release: Some(release.clone()),
            plugin,
            message: match call {
                Some(call) => format!("its process ended in {call}"),
                None => format!("its process ended while it loaded release {release}"),
            },
        });
        ledger.forget(&report.id)?;
        self.store.report(&report)?;
        let _ = self.told.send(Told::Host(Box::new(report))).await;
        Ok(())
    }

    fn forget_old_reports(&self) -> Result<(), FleetError> {
        let (hosts, _) = self.store.hosts(&self.channel)?;
        let is_old = |host: &&HostReport| {
            !host.state.is_there() && now_ms().saturating_sub(host.at_ms) > REMEMBERED_MS
        };
        for host in hosts.iter().filter(is_old) {
            self.store.forget(&host.id)?;
        }
        Ok(())
    }
}

fn keys_of(keys: Option<&Keys>) -> Vec<String> {
    keys.map(|keys| keys.keys.clone()).unwrap_or_default()
}
