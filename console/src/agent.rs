//! The agent: brings the hosts of this user on this machine to what a channel of a fleet declares, and reports
//! them.
//!
//! It talks to hosts through their console sockets, from outside: new code may end the process that it runs in,
//! and somebody has to tell of it. A task a host does one thing after the other; what all share is what the
//! channel declares, and the ledger on disk.

mod files;
mod host;
mod ledger;
mod metrics;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use hotswap_fleet::{
    Change, Channel, Declaration, Distrust, FleetError, Glance, HostReport, HostState, Id, Keys,
    Order, Rollout, Store, turn,
};
use hotswap_protocol::HostInfo;
use hotswap_protocol::clock::now_ms;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::compare::probe::Prober;
use crate::host::socket::{self, HostChoice};

use files::Files;
use ledger::Ledger;
use metrics::Measured;

/// How often it looks for new hosts and, where no server tells of changes, for changed files and at a rollout.
const LOOK: Duration = Duration::from_millis(250);
/// About how often it looks at what the channel declares although nothing has told of a change.
const LOOK_TOLD: Duration = Duration::from_secs(30);
/// About how often it looks where that failed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
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
    /// What distinguishes its hosts from those of other agents; a host's own labels are worth more.
    pub labels: BTreeMap<String, String>,
    /// Whether consoles of other machines may attach to its hosts through it.
    pub lets_attach: bool,
    /// Where whoever connects is told metrics.
    pub metrics: Option<TcpListener>,
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
    /// What this machine is called, where hosts of others report, too.
    machine: Option<String>,
    lets_attach: bool,
    hosts: Option<HostChoice>,
    client_name: &'static str,
    prober: Prober,
    labels: BTreeMap<String, String>,
    ledger: Mutex<Ledger>,
    files: Files,
    reports: Mutex<BTreeMap<Id, Reported>>,
    /// What serves in each of them, as far as metrics tell it.
    measured: Mutex<BTreeMap<Id, Vec<Measured>>>,
    told: mpsc::Sender<Told>,
}

/// What was last known of a host.
struct Reported {
    report: HostReport,
    /// Whether the store has taken it. It may have lost it since.
    is_kept: bool,
    /// Whoever has it writes to the store what is known then, so that nothing older comes after it.
    turn: Arc<Mutex<()>>,
}

/// What a server has told and nobody has looked at yet.
#[derive(Default)]
struct News {
    is_there: Notify,
    declared: std::sync::Mutex<Option<Declaration>>,
    has_to_look: AtomicBool,
    is_connected: AtomicBool,
}

impl News {
    fn note(&self, change: Change) {
        match change {
            Change::Declared(declaration) => *self.declared() = Some(declaration),
            Change::Keys => self.has_to_look.store(true, Ordering::Relaxed),
            Change::Connected => {
                self.has_to_look.store(true, Ordering::Relaxed);
                self.is_connected.store(true, Ordering::Relaxed);
            }
        }
        self.is_there.notify_one();
    }

    fn declared(&self) -> std::sync::MutexGuard<'_, Option<Declaration>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is declared, as the agent believes it.
#[derive(Clone)]
struct Declared {
    channel: Channel,
    keys: Option<Keys>,
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
    if let Some(keys) = ledger.keys() {
        options.store.believe(keys.clone());
    }
    let machine = options.store.is_of_many_machines().then(machine).transpose()?;
    let shared = Arc::new(Shared {
        files: Files::new(&options.store, &options.state_dir)?,
        store: options.store,
        channel: options.channel,
        machine,
        lets_attach: options.lets_attach,
        hosts: options.hosts,
        client_name: options.client_name,
        prober: options.prober,
        labels: options.labels,
        ledger: Mutex::new(ledger),
        reports: Mutex::default(),
        measured: Mutex::default(),
        told,
    });
    let metrics = options.metrics.map(|it| tokio::spawn(metrics::serve(it, Arc::clone(&shared))));
    let _ends_with_this = metrics.map(AbortOnDropHandle::new);
    let first = shared.first_declared().await?;
    shared.files.clean(&first).await;
    match shared.forget_the_dead().await {
        // It is told anew what there is, and forgets the others by itself.
        Err(error) if error.is_unreachable() => {
            let _ = shared.told.send(Told::Trouble(error)).await;
        }
        forgotten => forgotten?,
    }
    let (declare, declared) = watch::channel(first);
    let mut serving: HashMap<PathBuf, tokio::task::JoinHandle<()>> = HashMap::new();
    let mut last_trouble = None;
    let news = Arc::new(News::default());
    let is_told = shared.watch(Arc::clone(&news)).await?;
    let mut look_at = Instant::now();
    let mut glance = None;
    loop {
        serving.retain(|_, task| !task.is_finished());
        for path in socket::sockets() {
            let (shared, declared) = (Arc::clone(&shared), declared.clone());
            serving
                .entry(path.clone())
                .or_insert_with(|| tokio::spawn(host::serve(shared, path, declared)));
        }
        if news.is_connected.swap(false, Ordering::Relaxed) {
            shared.reports.lock().await.values_mut().for_each(|reported| reported.is_kept = false);
        }
        let mut trouble = None;
        let declaration = news.declared().take();
        let mut has_to_look = news.has_to_look.swap(false, Ordering::Relaxed);
        if let Some(declaration) = declaration {
            // What cannot be believed as it was told is read; and all is, where something is wrong: it may be another
            // fleet by now.
            has_to_look |=
                last_trouble.is_some() || shared.take(&declare, declaration).await.is_err();
        }
        if !is_told {
            let seen = shared.glance().await;
            has_to_look |= seen != glance;
            glance = seen;
        }
        if has_to_look || look_at <= Instant::now() {
            let turns = !is_told && shared.store(Store::may_declare).await.unwrap_or(false);
            let looked = shared.look(&declare, turns.then_some(&options.by)).await;
            look_at = Instant::now()
                + match &looked {
                    Ok(Progress::Underway) => Duration::ZERO,
                    Ok(Progress::Over) => jittered(LOOK_TOLD),
                    Err(_) => jittered(LOOK_AGAIN),
                };
            trouble = looked.err();
        } else if look_at > Instant::now() && last_trouble.is_some() {
            // What is wrong is so until it was looked at again.
            trouble.clone_from(&last_trouble);
        }
        let trouble = shared.report_again().await.err().or(trouble);
        if let Some(trouble) = trouble.clone().filter(|it| last_trouble.as_ref() != Some(it)) {
            let _ = shared.told.send(Told::Trouble(trouble)).await;
        }
        last_trouble = trouble;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = news.is_there.notified() => {}
            () = shared.told.closed() => return Ok(()),
        }
    }
}

/// Whether this agent has to look at a rollout again soon.
enum Progress {
    /// It takes the next steps of a rollout, as time passes and hosts report.
    Underway,
    /// There is none for it to bring on.
    Over,
}

/// Tells the hosts what is declared, if that is something new.
fn change(declare: &watch::Sender<Declared>, new: Declared) {
    declare.send_if_modified(|declared| {
        let is_new = declared.channel != new.channel || declared.keys != new.keys;
        *declared = new;
        is_new
    });
}

/// What this machine is called.
///
/// # Errors
/// If the system does not say it.
pub fn machine() -> Result<String, FleetError> {
    const PATH: &str = "/proc/sys/kernel/hostname";
    let name = std::fs::read_to_string(PATH);
    let name = name.map_err(|error| FleetError::new(format!("{PATH}: {error}")))?;
    Ok(name.trim().to_owned())
}

/// A pause before a server that does not answer is asked again: with jitter, so that many agents do not ask at once.
pub fn pause_before_retry() -> Duration {
    jittered(LOOK_AGAIN)
}

/// A time between a half and one and a half of this.
fn jittered(time: Duration) -> Duration {
    let dice = RandomState::new().hash_one(0_u8) % 1024;
    time / 2 + time * u32::try_from(dice).unwrap_or_default() / 1024
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
    blocking(move || turn(&store, &channel, order, &by, store.now_ms()?)).await
}

impl Shared {
    /// What a host is called among all that report there.
    fn id_of(&self, host: &HostInfo) -> Id {
        let HostInfo { name, pid, .. } = host;
        match &self.machine {
            Some(machine) => Id::made_of(&format!("{name:.20}-{machine:.30}-{pid}")),
            None => Id::made_of(&format!("{name}-{pid}")),
        }
    }

    /// Has changes of the channel told; whether somebody tells them.
    async fn watch(&self, news: Arc<News>) -> Result<bool, FleetError> {
        let channel = self.channel.clone();
        let told = Box::new(move |change| news.note(change));
        self.store(move |store| store.watch(&channel, told)).await
    }

    /// Does something with the store, which may take a while.
    async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, FleetError> + Send + 'static,
    ) -> Result<T, FleetError> {
        let store = self.store.clone();
        blocking(move || work(&store)).await
    }

    /// Looks at what is declared, and brings the rollout on for whom it is given.
    async fn look(
        &self,
        declare: &watch::Sender<Declared>,
        turn_by: Option<&String>,
    ) -> Result<Progress, FleetError> {
        let turned = match turn_by {
            Some(by) => turn_now(&self.store, &self.channel, None, by).await,
            None => Ok(None),
        };
        change(declare, self.declared().await?);
        self.forget_old_reports().await?;
        Ok(match turned? {
            Some(rollout) if !rollout.phase.is_over() => Progress::Underway,
            _ => Progress::Over,
        })
    }

    /// The state of the files of the channel.
    async fn glance(&self) -> Option<Glance> {
        let channel = self.channel.clone();
        self.store(move |store| Ok(store.glance(&channel))).await.ok().flatten()
    }

    /// Goes by what a server has told, without a question.
    async fn take(
        &self,
        declare: &watch::Sender<Declared>,
        told: Declaration,
    ) -> Result<(), FleetError> {
        let keys = declare.borrow().keys.clone();
        let name = self.channel.clone();
        let channel = self.store(move |store| store.told(&name, &told)).await?;
        change(declare, self.accepted(channel, keys).await?);
        Ok(())
    }

    /// What is declared now. Nothing goes back, whatever has become of the store, and nothing is believed that is not
    /// signed as the fleet wants it.
    async fn declared(&self) -> Result<Declared, FleetError> {
        let name = self.channel.clone();
        let (channel, keys) =
            self.store(move |store| Ok((store.channel(&name)?, store.keys()?))).await?;
        if keys.is_none() && self.store.is_of_many_machines() {
            return Err(FleetError::distrusted(self.store.place(), Distrust::NoKeys));
        }
        self.accepted(channel, keys).await
    }

    /// What is declared, unless it is older than what was declared before.
    async fn accepted(&self, channel: Channel, keys: Option<Keys>) -> Result<Declared, FleetError> {
        let mut ledger = self.ledger.lock().await;
        if let Some(accepted) = ledger.channel(&self.channel)
            && channel != *accepted
            && channel.mark <= accepted.mark
        {
            let distrust = Distrust::WentBack { from: accepted.mark, to: channel.mark };
            return Err(FleetError::distrusted(format_args!("channel {}", self.channel), distrust));
        }
        ledger.accept(keys.clone(), &channel)?;
        Ok(Declared { keys, channel })
    }

    /// What is declared now, or was when the last agent looked. Where nothing is known, a server that does not answer
    /// is waited for, and so is somebody who signs what it has.
    async fn first_declared(&self) -> Result<Declared, FleetError> {
        let mut last_trouble = None;
        loop {
            let error = match self.declared().await {
                Ok(declared) => return Ok(declared),
                Err(error) => error,
            };
            let known = self.known().await;
            if known.is_none() && !error.is_unreachable() && error.distrust().is_none() {
                return Err(error);
            }
            if last_trouble.as_ref() != Some(&error) {
                let _ = self.told.send(Told::Trouble(error.clone())).await;
                last_trouble = Some(error);
            }
            if let Some(known) = known {
                return Ok(known);
            }
            tokio::select! {
                () = tokio::time::sleep(pause_before_retry()) => {}
                () = self.told.closed() => return Err(FleetError::new("nobody listens")),
            }
        }
    }

    /// What was declared when the last agent looked.
    async fn known(&self) -> Option<Declared> {
        let ledger = self.ledger.lock().await;
        let channel = ledger.channel(&self.channel)?.clone();
        Some(Declared { channel, keys: ledger.keys().cloned() })
    }

    /// Keeps what is known of a host, at once or as soon as the store takes it.
    async fn report(&self, report: HostReport) {
        let id = report.id.clone();
        self.report_soon(report).await;
        // What is left is told again.
        let _ = self.keep(&id).await;
    }

    /// Keeps what is known of a host, unless something newer is known a moment later.
    async fn report_soon(&self, report: HostReport) {
        let mut reports = self.reports.lock().await;
        let turn = reports.get(&report.id).map(|reported| Arc::clone(&reported.turn));
        let turn = turn.unwrap_or_default();
        reports.insert(report.id.clone(), Reported { report, is_kept: false, turn });
    }

    /// Has the store keep what is known of a host, unless it does.
    async fn keep(&self, host: &Id) -> Result<(), FleetError> {
        let turn = self.reports.lock().await.get(host).map(|reported| Arc::clone(&reported.turn));
        let Some(turn) = turn else { return Ok(()) };
        let _turn = turn.lock().await;
        let left = {
            let reports = self.reports.lock().await;
            reports.get(host).filter(|reported| !reported.is_kept).map(|it| it.report.clone())
        };
        let Some(report) = left else { return Ok(()) };
        let kept = report.clone();
        self.store(move |store| store.report(&kept)).await?;
        if let Some(reported) = self.reports.lock().await.get_mut(host)
            && reported.report == report
        {
            reported.is_kept = true;
        }
        Ok(())
    }

    /// Tells what the store has not taken, or may have lost.
    async fn report_again(&self) -> Result<(), FleetError> {
        let is_left = |(_, reported): &(&Id, &Reported)| !reported.is_kept;
        let left: Vec<Id> = {
            let reports = self.reports.lock().await;
            reports.iter().filter(is_left).map(|(host, _)| host.clone()).collect()
        };
        for host in left {
            self.keep(&host).await?;
        }
        Ok(())
    }

    async fn forget(&self, host: &Id) -> Result<(), FleetError> {
        let reported = self.reports.lock().await.remove(host);
        self.measured.lock().await.remove(host);
        // What is being written of it is written before.
        let turn = reported.map(|reported| reported.turn).unwrap_or_default();
        let _turn = turn.lock().await;
        let host = host.clone();
        self.store(move |store| store.forget(&host)).await
    }

    async fn reported(&self) -> Result<Vec<HostReport>, FleetError> {
        let channel = self.channel.clone();
        self.store(move |store| Ok(store.hosts(&channel)?.0)).await
    }

    /// Forgets the hosts that were there when the last agent ended, and are not there any more. One that ended
    /// while it was being given a release has ended for it.
    async fn forget_the_dead(&self) -> Result<(), FleetError> {
        // Those of other machines are told of there.
        let mine = self.ledger.lock().await.hosts();
        let hosts = match self.reported().await {
            Ok(hosts) => hosts,
            Err(error) => {
                let _ = self.told.send(Told::Trouble(error)).await;
                return Ok(());
            }
        };
        for host in hosts {
            if self.store.is_of_many_machines() && !mine.contains(&host.id) {
                continue;
            }
            if !host.state.is_there() || socket::process_lives(host.pid) {
                continue;
            }
            let note = self.ledger.lock().await.note(&host.id);
            match note.and_then(|note| note.applying) {
                Some(release) => self.blame(host, &release, None).await?,
                None => {
                    self.ledger.lock().await.forget(&host.id)?;
                    // A host that ends in good order takes its socket along.
                    let is_left = host.socket.as_ref().is_some_and(|socket| socket.exists());
                    match is_left && host.release.is_some() {
                        true => self.died(host).await,
                        false => self.forget(&host.id).await?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Reports that a host's process ended, and nobody knows why.
    async fn died(&self, mut report: HostReport) {
        (report.state, report.at_ms, report.problem) = (HostState::Died, now_ms(), None);
        self.report(report.clone()).await;
        let _ = self.told.send(Told::Host(Box::new(report))).await;
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
        self.report(report.clone()).await;
        let _ = self.told.send(Told::Host(Box::new(report))).await;
        Ok(())
    }

    /// Forgets hosts that have ended a while ago: all in a directory, and on a server those of this machine.
    async fn forget_old_reports(&self) -> Result<(), FleetError> {
        let hosts = if self.store.is_of_many_machines() {
            let reports = self.reports.lock().await;
            reports.values().map(|reported| reported.report.clone()).collect()
        } else {
            self.reported().await?
        };
        let is_old = |host: &&HostReport| {
            !host.state.is_there() && now_ms().saturating_sub(host.at_ms) > REMEMBERED_MS
        };
        for host in hosts.iter().filter(is_old) {
            self.forget(&host.id).await?;
        }
        Ok(())
    }
}
