//! The agent. It loads the plugins that a channel of a fleet declares into the hosts of this user on this machine,
//! and reports the state of these hosts to the fleet.
//!
//! The agent is a process of its own and talks to hosts through their console sockets: new code may end the
//! process of a host, and the agent has to report that. Each host has one task, which does one thing after the
//! other. The tasks share the declaration of the channel and the ledger on disk.

pub(crate) mod changes;
mod files;
mod host;
mod ledger;
mod metrics;
mod troubles;

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
use tokio::task::AbortHandle;
use tokio_util::task::AbortOnDropHandle;

use crate::compare::probe::Prober;
use crate::host::socket::{self, HostChoice};

use changes::WatchedDirs;
use files::Files;
use ledger::Ledger;
use metrics::Measured;
use troubles::{Task, Troubles};

/// How often the agent looks for new hosts and, if no server announces changes, for changed files.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How often it does so if the system reports changes of the directories with these files and with the sockets.
const WATCHED_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// How often it does so, and takes steps of the rollout, while a rollout is underway.
const ROLLOUT_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// About how often the agent reads the channel although nothing announced a change, since an announcement can be lost.
const REREAD_INTERVAL: Duration = Duration::from_secs(30);
/// About how long the agent waits after an error before it reads the channel again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// How long the report of a process that ended badly is kept.
const REMEMBERED_MS: u64 = 600_000;

/// The settings of an agent.
pub struct Options {
    /// The fleet that it serves.
    pub store: Store,
    /// The channel that it follows.
    pub channel: Id,
    /// The hosts that it serves; `None` for all.
    pub hosts: Option<HostChoice>,
    /// The directory of the state that outlasts the agent.
    pub state_dir: PathBuf,
    /// The name of the agent in the audit log.
    pub by: String,
    /// The name that it sends to hosts when it connects.
    pub client_name: &'static str,
    /// Opens artifacts in a process of its own.
    pub prober: Prober,
    /// Whether builds that crashed a host may be loaded again.
    pub pardon: bool,
    /// Labels for its hosts. A label that a host sets itself takes precedence.
    pub labels: BTreeMap<String, String>,
    /// Whether consoles of other machines may attach to its hosts through it.
    pub allows_attach: bool,
    /// The listener for requests of metrics; `None` if the agent offers none.
    pub metrics: Option<TcpListener>,
}

/// Announcements of an agent.
pub enum AgentEvent {
    /// The state of a host has changed.
    Host(Box<HostReport>),
    /// Something cannot be read or written. The agent continues with what it knew before, and says nothing until it
    /// has recovered, or the cause is another one.
    Trouble(FleetError),
    /// This error is over.
    Recovered(FleetError),
}

/// The state that all tasks of an agent share.
struct Shared {
    store: Store,
    channel: Id,
    /// The name of this machine, if other machines report to the same fleet.
    machine: Option<String>,
    allows_attach: bool,
    hosts: Option<HostChoice>,
    client_name: &'static str,
    prober: Prober,
    labels: BTreeMap<String, String>,
    ledger: Mutex<Ledger>,
    files: Files,
    reports: Mutex<BTreeMap<Id, Reported>>,
    /// The plugins that serve in each host, with the figures for metrics.
    measured: Mutex<BTreeMap<Id, Vec<Measured>>>,
    troubles: Mutex<Troubles>,
    events: mpsc::Sender<AgentEvent>,
}

/// The last report of a host.
struct Reported {
    report: HostReport,
    /// Whether the store has accepted it. The store may have lost it since.
    is_kept: bool,
    /// The lock for writing the report of this host: whoever holds it writes the newest report, so no older one
    /// overwrites it.
    turn: Arc<Mutex<()>>,
}

/// What the agent has not handled yet: announcements of a server, and changes of directories.
#[derive(Default)]
struct Announcements {
    changed: Arc<Notify>,
    declared: std::sync::Mutex<Option<Declaration>>,
    must_refresh: AtomicBool,
    is_connected: AtomicBool,
}

impl Announcements {
    fn note(&self, change: Change) {
        match change {
            Change::Declared(declaration) => *self.declared() = Some(declaration),
            Change::Keys => self.must_refresh.store(true, Ordering::Relaxed),
            Change::Connected => {
                self.must_refresh.store(true, Ordering::Relaxed);
                self.is_connected.store(true, Ordering::Relaxed);
            }
        }
        self.changed.notify_one();
    }

    fn declared(&self) -> std::sync::MutexGuard<'_, Option<Declaration>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The declaration that the agent trusts.
#[derive(Clone)]
struct Declared {
    channel: Channel,
    keys: Option<Keys>,
}

/// The directory of the state that the agent of a fleet keeps.
pub fn state_dir(states: &Path, store: &Store) -> PathBuf {
    let fleet = store.fleet();
    states.join(format!("hotswap/agent/{}-{}", fleet.id, fleet.made_at_ms))
}

/// Serves the hosts and sends announcements of them until the receiver is dropped.
///
/// # Errors
/// If another agent serves this fleet, or the state of the agent cannot be read.
pub async fn run(options: Options, events: mpsc::Sender<AgentEvent>) -> Result<(), FleetError> {
    let mut ledger = Ledger::open(&options.state_dir)?;
    if options.pardon {
        ledger.clear_quarantine()?;
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
        allows_attach: options.allows_attach,
        hosts: options.hosts,
        client_name: options.client_name,
        prober: options.prober,
        labels: options.labels,
        ledger: Mutex::new(ledger),
        reports: Mutex::default(),
        measured: Mutex::default(),
        troubles: Mutex::default(),
        events,
    });
    let metrics = options.metrics.map(|it| tokio::spawn(metrics::serve(it, Arc::clone(&shared))));
    let _ends_with_this = metrics.map(AbortOnDropHandle::new);
    let first = shared.first_declared().await?;
    shared.files.clean(&first).await;
    match shared.forget_the_dead(&first).await {
        // When the server is back, it announces its documents again, and expires old reports by itself.
        Err(error) if error.is_unreachable() => shared.note(Task::Read, Err(error)).await,
        forgotten => forgotten?,
    }
    let mut cleaned_for = first.channel.base.clone();
    let (declare, declared) = watch::channel(first);
    let mut serving: HashMap<PathBuf, AbortHandle> = HashMap::new();
    let announcements = Arc::new(Announcements::default());
    let is_announced = shared.watch(Arc::clone(&announcements)).await?;
    // A directory that is there can be watched. Without it, hosts are looked for again and again.
    let _ = socket::make_directory();
    let dirs = shared.store.directories(&shared.channel).into_iter().chain([socket::directory()]);
    let changed = Arc::clone(&announcements.changed);
    let mut watched = WatchedDirs::new(dirs, move || changed.notify_one());
    let mut refresh_at = Instant::now();
    let mut glance = None;
    loop {
        // What changes from here on ends the next pause.
        let is_watched = watched.renew();
        serve_new_hosts(&mut serving, &shared, &declared, &announcements.changed);
        if announcements.is_connected.swap(false, Ordering::Relaxed) {
            shared.reports.lock().await.values_mut().for_each(|reported| reported.is_kept = false);
        }
        let mut must_refresh = shared.apply_announcements(&announcements, &declare).await;
        if !is_announced {
            let seen = shared.glance().await;
            must_refresh |= seen.is_none() || seen != glance;
            glance = seen;
        }
        if must_refresh || refresh_at <= Instant::now() {
            let turns = !is_announced && shared.store(Store::may_declare).await.unwrap_or(false);
            let refreshed = shared.refresh(&declare, turns.then_some(&options.by)).await;
            refresh_at = Instant::now()
                + match &refreshed {
                    Ok(Progress::Underway) => Duration::ZERO,
                    Ok(Progress::Over) => jittered(REREAD_INTERVAL),
                    Err(_) => jittered(RETRY_PAUSE),
                };
            shared.note(Task::Read, refreshed.map(drop)).await;
        }
        let now = declared.borrow().clone();
        if now.channel.candidate.is_none() && now.channel.base != cleaned_for {
            shared.files.clean(&now).await;
            cleaned_for = now.channel.base;
        }
        let stored = shared.store_pending_reports().await;
        shared.note(Task::Report, stored).await;
        let pause = match is_watched && !shared.is_cut_off().await {
            // While a rollout is underway, the channel is read again at once.
            _ if refresh_at <= Instant::now() => ROLLOUT_POLL_INTERVAL,
            true => WATCHED_POLL_INTERVAL.min(refresh_at.saturating_duration_since(Instant::now())),
            false => POLL_INTERVAL,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = announcements.changed.notified() => {}
            () = shared.events.closed() => return Ok(()),
        }
    }
}

/// Starts a task for each host that has opened a socket and is not served yet. `changed` is notified when a task ends.
fn serve_new_hosts(
    serving: &mut HashMap<PathBuf, AbortHandle>,
    shared: &Arc<Shared>,
    declared: &watch::Receiver<Declared>,
    changed: &Arc<Notify>,
) {
    serving.retain(|_, task| !task.is_finished());
    for path in socket::sockets() {
        let (shared, declared) = (Arc::clone(shared), declared.clone());
        let changed = Arc::clone(changed);
        serving.entry(path.clone()).or_insert_with(|| {
            let served = tokio::spawn(host::serve(shared, path, declared));
            let task = served.abort_handle();
            tokio::spawn(async move {
                // The host may have to be served again, once this task counts as finished.
                let _ = served.await;
                changed.notify_one();
            });
            task
        });
    }
}

/// Whether the agent has to continue a rollout soon.
enum Progress {
    /// The agent takes the next steps of a rollout as time passes and hosts report.
    Underway,
    /// There is no rollout for the agent to continue.
    Over,
}

/// Passes the declaration on to the hosts, if it is a new one.
fn pass_on(declare: &watch::Sender<Declared>, new: Declared) {
    declare.send_if_modified(|declared| {
        let is_new = declared.channel != new.channel || declared.keys != new.keys;
        *declared = new;
        is_new
    });
}

/// The name of this machine.
///
/// # Errors
/// If the system does not report it.
pub fn machine() -> Result<String, FleetError> {
    const PATH: &str = "/proc/sys/kernel/hostname";
    let name = std::fs::read_to_string(PATH);
    let name = name.map_err(|error| FleetError::new(format!("{PATH}: {error}")))?;
    Ok(name.trim().to_owned())
}

/// The pause before a server that does not answer is asked again. It is random within limits, so that many agents
/// do not ask at once.
pub fn pause_before_retry() -> Duration {
    jittered(RETRY_PAUSE)
}

/// A random time between half of `time` and one and a half times `time`.
fn jittered(time: Duration) -> Duration {
    let dice = RandomState::new().hash_one(0_u8) % 1024;
    time / 2 + time * u32::try_from(dice).unwrap_or_default() / 1024
}

/// Runs a function that may block on a thread of its own, so that it does not delay other tasks.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FleetError> + Send + 'static,
) -> Result<T, FleetError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(FleetError::new(format!("the agent failed: {error}"))))
}

/// Takes the steps that the rollout can take now.
pub async fn turn_now(
    store: &Store,
    channel: &Id,
    order: Option<Order>,
    by: &str,
) -> Result<Option<Rollout>, FleetError> {
    let (store, channel, by) = (store.clone(), channel.clone(), by.to_owned());
    blocking(move || turn(&store, &channel, order, &by)).await
}

impl Shared {
    /// The name of a host in the fleet.
    fn id_of(&self, host: &HostInfo) -> Id {
        Id::of_host(&host.name, self.machine.as_deref(), host.pid)
    }

    /// Notes the result of a task, and announces it if it is news.
    async fn note(&self, task: Task, result: Result<(), FleetError>) {
        let event = self.troubles.lock().await.note(task, result);
        if let Some(event) = event {
            let _ = self.events.send(event).await;
        }
    }

    /// Notes whether something was stored in the ledger.
    async fn note_stored(&self, stored: Result<(), FleetError>) {
        if stored.is_err() || self.ledger.lock().await.is_stored() {
            self.note(Task::Remember, stored).await;
        }
    }

    /// Whether the agent fails to read or to report.
    async fn is_cut_off(&self) -> bool {
        self.troubles.lock().await.is_cut_off()
    }

    /// Subscribes to changes of the channel. Returns whether the fleet announces any.
    async fn watch(&self, announcements: Arc<Announcements>) -> Result<bool, FleetError> {
        let channel = self.channel.clone();
        let on_change = Box::new(move |change| announcements.note(change));
        self.store(move |store| store.watch(&channel, on_change)).await
    }

    /// Runs an operation of the store, which may block.
    async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, FleetError> + Send + 'static,
    ) -> Result<T, FleetError> {
        let store = self.store.clone();
        blocking(move || work(&store)).await
    }

    /// Reads the declaration, and takes steps of the rollout if this agent may do so.
    async fn refresh(
        &self,
        declare: &watch::Sender<Declared>,
        turn_by: Option<&String>,
    ) -> Result<Progress, FleetError> {
        let turned = match turn_by {
            Some(by) => turn_now(&self.store, &self.channel, None, by).await,
            None => Ok(None),
        };
        pass_on(declare, self.declared().await?);
        self.forget_old_reports().await?;
        Ok(match turned? {
            Some(rollout) if !rollout.phase.is_over() => Progress::Underway,
            _ => Progress::Over,
        })
    }

    /// The state of the files of the channel, as in [`Store::glance`].
    async fn glance(&self) -> Option<Glance> {
        let channel = self.channel.clone();
        self.store(move |store| Ok(store.glance(&channel))).await.ok().flatten()
    }

    /// Applies what was announced since the last call. Returns whether the channel has to be read nevertheless.
    async fn apply_announcements(
        &self,
        announcements: &Announcements,
        declare: &watch::Sender<Declared>,
    ) -> bool {
        let declaration = announcements.declared().take();
        let must_refresh = announcements.must_refresh.swap(false, Ordering::Relaxed);
        let Some(declaration) = declaration else { return must_refresh };
        // An announcement that cannot be trusted leads to a read of the channel. After an error, everything is
        // read, since the place may hold another fleet now.
        let must_read =
            self.is_cut_off().await || self.accept_announced(declare, declaration).await.is_err();
        must_refresh || must_read
    }

    /// Uses a declaration that a server announced, without a request.
    async fn accept_announced(
        &self,
        declare: &watch::Sender<Declared>,
        announced: Declaration,
    ) -> Result<(), FleetError> {
        let keys = declare.borrow().keys.clone();
        let name = self.channel.clone();
        let channel = self.store(move |store| store.verify_announced(&name, &announced)).await?;
        pass_on(declare, self.accept(channel, keys).await?);
        Ok(())
    }

    /// Reads the declaration. It must not be older than the last one, whatever happened to the store, and must
    /// have the signatures that the fleet requires.
    async fn declared(&self) -> Result<Declared, FleetError> {
        let name = self.channel.clone();
        let (channel, keys) =
            self.store(move |store| Ok((store.channel(&name)?, store.keys()?))).await?;
        if keys.is_none() && self.store.is_of_many_machines() {
            return Err(FleetError::distrusted(self.store.place(), Distrust::NoKeys));
        }
        self.accept(channel, keys).await
    }

    /// Stores a declaration that was read. Refuses one that is older than the last one.
    async fn accept(&self, channel: Channel, keys: Option<Keys>) -> Result<Declared, FleetError> {
        let mut ledger = self.ledger.lock().await;
        if let Some(accepted) = ledger.channel(&self.channel)
            && !channel.declares_like(accepted)
            && channel.mark <= accepted.mark
        {
            let distrust = Distrust::WentBack { from: accepted.mark, to: channel.mark };
            return Err(FleetError::distrusted(format_args!("channel {}", self.channel), distrust));
        }
        let stored = ledger.accept(keys.clone(), &channel);
        drop(ledger);
        // A full disk must not keep hosts from going back.
        self.note_stored(stored).await;
        Ok(Declared { keys, channel })
    }

    /// The declaration now, or else the one that the last agent has kept. If there is none, this waits until the
    /// server answers and the declaration has the required signatures.
    async fn first_declared(&self) -> Result<Declared, FleetError> {
        loop {
            let error = match self.declared().await {
                Ok(declared) => {
                    self.note(Task::Read, Ok(())).await;
                    return Ok(declared);
                }
                Err(error) => error,
            };
            let known = self.kept_declaration().await;
            if known.is_none() && !error.is_unreachable() && error.distrust().is_none() {
                return Err(error);
            }
            self.note(Task::Read, Err(error)).await;
            if let Some(known) = known {
                return Ok(known);
            }
            tokio::select! {
                () = tokio::time::sleep(pause_before_retry()) => {}
                () = self.events.closed() => return Err(FleetError::new("nobody listens")),
            }
        }
    }

    /// The declaration that the last agent has kept.
    async fn kept_declaration(&self) -> Option<Declared> {
        let ledger = self.ledger.lock().await;
        let channel = ledger.channel(&self.channel)?.clone();
        Some(Declared { channel, keys: ledger.keys().cloned() })
    }

    /// Stores the report of a host, now or as soon as the store accepts it.
    async fn report(&self, report: HostReport) {
        let id = report.id.clone();
        self.report_soon(report).await;
        // A report that was not stored is sent again later.
        let _ = self.store_report(&id).await;
    }

    /// Stores the report of a host, unless a newer one follows within a moment.
    async fn report_soon(&self, report: HostReport) {
        let mut reports = self.reports.lock().await;
        let turn = reports.get(&report.id).map(|reported| Arc::clone(&reported.turn));
        let turn = turn.unwrap_or_default();
        reports.insert(report.id.clone(), Reported { report, is_kept: false, turn });
    }

    /// Sends the last report of a host to the store, unless the store has it.
    async fn store_report(&self, host: &Id) -> Result<(), FleetError> {
        // A report is of no use to another fleet.
        if self.troubles.lock().await.is_replaced() {
            return Ok(());
        }
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

    /// Sends all reports that the store has not accepted, or may have lost.
    async fn store_pending_reports(&self) -> Result<(), FleetError> {
        let is_left = |(_, reported): &(&Id, &Reported)| !reported.is_kept;
        let left: Vec<Id> = {
            let reports = self.reports.lock().await;
            reports.iter().filter(is_left).map(|(host, _)| host.clone()).collect()
        };
        for host in left {
            self.store_report(&host).await?;
        }
        Ok(())
    }

    async fn forget(&self, host: &Id) -> Result<(), FleetError> {
        let reported = self.reports.lock().await.remove(host);
        self.measured.lock().await.remove(host);
        // This waits until a report of the host that is being written is stored.
        let turn = reported.map(|reported| reported.turn).unwrap_or_default();
        let _turn = turn.lock().await;
        let host = host.clone();
        self.store(move |store| store.forget(&host)).await
    }

    async fn reported(&self) -> Result<Vec<HostReport>, FleetError> {
        let channel = self.channel.clone();
        self.store(move |store| Ok(store.hosts(&channel)?.0)).await
    }

    /// Removes the hosts that the last agent knew and that do not exist any more. If the process of a host ended
    /// while the agent loaded a release into it, the release is blamed.
    async fn forget_the_dead(&self, declared: &Declared) -> Result<(), FleetError> {
        // Other agents report the hosts of other machines.
        let mine = self.ledger.lock().await.hosts();
        let hosts = match self.reported().await {
            Ok(hosts) => hosts,
            Err(error) => {
                self.note(Task::Read, Err(error)).await;
                return Ok(());
            }
        };
        for host in hosts {
            if self.store.is_of_many_machines() && !mine.contains(&host.id) {
                continue;
            }
            let has_socket = host.socket.as_ref().is_some_and(|socket| socket.exists());
            // After a restart of the machine, another process may have the process id, but there is no socket.
            let lives = has_socket && socket::process_lives(host.pid);
            if !host.state.is_there() || lives {
                continue;
            }
            let note = self.ledger.lock().await.note(&host.id);
            match note.and_then(|note| note.applying) {
                Some(release) => self.blame(host, &release, None, declared).await,
                None => {
                    let forgotten = self.ledger.lock().await.forget(&host.id);
                    self.note_stored(forgotten).await;
                    // A host that ends in good order removes its socket.
                    match has_socket && host.release.is_some() {
                        true => self.died(host).await,
                        false => self.forget(&host.id).await?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Reports that the process of a host ended, and that the reason is not known.
    async fn died(&self, mut report: HostReport) {
        (report.state, report.at_ms, report.problem) = (HostState::Died, now_ms(), None);
        self.report(report.clone()).await;
        let _ = self.events.send(AgentEvent::Host(Box::new(report))).await;
    }

    /// Reports that a host crashed, and quarantines its builds of the release. If it ended during the load of a
    /// release that others run, and no call of it was under way, the first such end counts as an accident.
    async fn blame(
        &self,
        mut report: HostReport,
        release: &Id,
        call: Option<&hotswap_protocol::InFlightCall>,
        declared: &Declared,
    ) {
        let plugin = call.map(|call| call.plugin.clone());
        // A release that all hosts ought to run was tried before.
        let is_tried = declared.channel.candidate.as_ref() == Some(release);
        let stored = {
            let mut ledger = self.ledger.lock().await;
            if call.is_none() && !is_tried && ledger.note_unexplained_end(&report.id) {
                let forgotten = ledger.forget(&report.id);
                drop(ledger);
                self.note_stored(forgotten).await;
                return self.died(report).await;
            }
            let quarantined = ledger.quarantine(&report.id, release, plugin.as_deref());
            quarantined.and(ledger.forget(&report.id))
        };
        self.note_stored(stored).await;
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
        self.report(report.clone()).await;
        let _ = self.events.send(AgentEvent::Host(Box::new(report))).await;
    }

    /// Removes the reports of hosts that ended a while ago: all of them in a directory, and on a server only those
    /// of this machine.
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
