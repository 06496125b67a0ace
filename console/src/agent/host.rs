//! One host of an agent, from the connection to its socket until the end of its process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hotswap_fleet::{
    Arm, FleetError, Histogram, HostReport, HostState, Id, MoreOfHost, Place, Problem, ProblemKind,
    Release, stratum,
};
use hotswap_protocol::clock::now_ms;
use hotswap_protocol::{
    ApplyParams, ErrorKind, HostAgent, HostInfo, InFlightCall, Notification, OfferAnswer,
    OfferParams, PlanParams, PruneParams, ReloadReport, Request, Snapshot, Toolchain, WireError,
    same_plugin,
};
use tokio::sync::{mpsc, watch};

use super::ledger::Note;
use super::metrics::Measured;
use super::{AgentEvent, Declared, Shared, Task};
use crate::compare::preview::{PluginPreview, Preview};
use crate::host::client::Client;
use crate::host::last_calls::LastCalls;
use crate::host::socket::{self, HostChoice};

/// How often the agent reads the state of a host during a rollout.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How often it does so otherwise.
const IDLE_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// The pause before a refused load is tried again. It doubles each time, up to a limit, because a load that hangs
/// leaves a thread and a version behind.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_RETRY_PAUSE: Duration = Duration::from_secs(300);
/// The pauses between attempts to connect to a host.
const CONNECT_PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(200)];
/// The pause before the agent tries again to register with a host that has another agent.
const OTHER_AGENT_PAUSE: Duration = Duration::from_secs(30);
/// How long a process may take to end after it has closed its socket.
const END: Duration = Duration::from_secs(2);

/// Serves the host at a socket until it closes the socket.
pub(super) async fn serve(shared: Arc<Shared>, path: PathBuf, declared: watch::Receiver<Declared>) {
    let connected = connect(&path, shared.client_name).await;
    let Some((client, notifications)) = connected.filter(|(client, _)| {
        shared.hosts.as_ref().is_none_or(|hosts| hosts.is_meant(client.host()))
    }) else {
        shared.troubles.lock().await.forget(path);
        // The agent pauses before it connects again to a host that it does not serve.
        return tokio::time::sleep(RETRY_PAUSE / 5).await;
    };
    let mut host = Host::new(Arc::clone(&shared), client, notifications, declared).await;
    let serve = Task::Serve(path.clone());
    if let Err(error) = host.register().await {
        shared.note(serve, Err(error)).await;
        return tokio::time::sleep(OTHER_AGENT_PAUSE).await;
    }
    let attach = || shared.store.allow_attach(&host.id, path.clone());
    let _attachable = shared.allows_attach.then(attach).flatten();
    let trouble = host.run().await.err();
    // A host that ends in good order removes its socket. Otherwise the next client removes it.
    let is_left = path.exists();
    let trouble = trouble.or(host.end(is_left).await.err());
    match trouble {
        Some(trouble) => {
            shared.note(serve, Err(trouble)).await;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        None => shared.troubles.lock().await.forget(path),
    }
}

/// Connects to the host at a socket. A socket that has just appeared may not listen yet.
async fn connect(path: &Path, client_name: &str) -> Option<(Client, mpsc::Receiver<Notification>)> {
    let choice = HostChoice::Socket(path.to_owned());
    for pause in CONNECT_PAUSES {
        match choice.connect(client_name).await {
            Ok(connected) => return Some(connected),
            Err(_) => tokio::time::sleep(pause).await,
        }
    }
    choice.connect(client_name).await.ok()
}

struct Host {
    shared: Arc<Shared>,
    client: Client,
    /// The agent subscribes to nothing; the channel closes when the connection ends.
    notifications: mpsc::Receiver<Notification>,
    id: Id,
    info: HostInfo,
    built_by: Option<Toolchain>,
    last_calls: Option<LastCalls>,
    declared: watch::Receiver<Declared>,
    /// The release that was loaded into the host; `None` for the builds of its own plugin directory.
    applied: Option<Id>,
    applying: Option<Id>,
    /// Whether it ran plugins of its own before it loaded the first release.
    had_plugins: bool,
    staged: Option<Id>,
    problem: Option<Problem>,
    /// When to try again what was refused.
    refused: Option<BackOff>,
    /// The host's answer to the offer of its declared release, until it accepts.
    offer: Option<Offer>,
    /// The candidate, and the time since which the agent has known it.
    tried: Option<(Id, Instant)>,
    snapshot: Snapshot,
    snapshot_at: Instant,
    /// When the last report was sent to the fleet.
    reported_at: Option<Instant>,
    reported: Option<HostReport>,
}

/// The pause before a refused load is tried again.
#[derive(Debug, Clone, Copy)]
struct BackOff {
    since: Instant,
    pause: Duration,
}

impl BackOff {
    /// The next pause: twice as long as the one before.
    fn after(before: Option<Self>, now: Instant) -> Self {
        let pause = before.map_or(RETRY_PAUSE, |before| before.pause * 2);
        Self { since: now, pause: pause.min(LONGEST_RETRY_PAUSE) }
    }

    fn is_over(self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= self.pause
    }
}

/// A release that a host was offered and has not accepted.
struct Offer {
    release: Id,
    answer: OfferAnswer,
    asked_at: Instant,
}

/// Why the agent cannot continue with a host.
enum Stop {
    /// The host has gone.
    Gone,
    /// There is a problem with the release that it should run.
    Refused(Problem),
    /// The server does not answer, which says nothing about the release.
    Unreachable,
    /// The agent itself has an error.
    Trouble(FleetError),
}

impl Stop {
    /// A release, or one of its artifacts, cannot be fetched.
    fn refused(kind: ProblemKind, release: &Id, plugin: Option<&str>, error: &FleetError) -> Self {
        match error.is_unreachable() {
            true => Self::Unreachable,
            false => Self::Refused(problem(kind, release, plugin, error.to_string())),
        }
    }
}

impl From<WireError> for Stop {
    /// Any other error of a host leads to another attempt.
    fn from(error: WireError) -> Self {
        match error.kind {
            ErrorKind::NoHost => Self::Gone,
            _ => Self::Trouble(FleetError::new(error.to_string())),
        }
    }
}

impl Host {
    async fn new(
        shared: Arc<Shared>,
        client: Client,
        notifications: mpsc::Receiver<Notification>,
        declared: watch::Receiver<Declared>,
    ) -> Self {
        let info = client.host().clone();
        let id = shared.id_of(&info);
        let note = shared.ledger.lock().await.note(&id);
        let note = note.filter(|note| note.started_at_ms == info.started_at_ms);
        Self {
            last_calls: LastCalls::of(&info),
            built_by: info.built_by.clone(),
            had_plugins: note.as_ref().is_none_or(|note| note.had_plugins),
            applied: note.and_then(|note| note.release),
            applying: None,
            staged: None,
            problem: None,
            refused: None,
            offer: None,
            tried: None,
            snapshot: Snapshot {
                host: info.clone(),
                generation: 0,
                plugins: Vec::new(),
                vault_changes: 0,
            },
            snapshot_at: Instant::now(),
            reported_at: None,
            reported: None,
            shared,
            client,
            notifications,
            id,
            info,
            declared,
        }
    }

    /// Registers as the agent of this host. Otherwise the agents of two fleets could undo each other's loads.
    async fn register(&self) -> Result<(), FleetError> {
        let agent = HostAgent {
            fleet: self.shared.store.place(),
            channel: self.shared.channel.to_string(),
            host: self.id.to_string(),
            pid: std::process::id(),
        };
        match self.client.request(Request::Agent(agent)).await {
            Err(error) if error.kind == ErrorKind::Fleet => {
                Err(FleetError::new(format!("{}: {error}", self.id)))
            }
            // An older host, which does not know the request, accepts loads without it.
            _ => Ok(()),
        }
    }

    /// Keeps the host at its declared release until it has gone.
    async fn run(&mut self) -> Result<(), FleetError> {
        if self.update_snapshot().await.is_err() {
            return Ok(());
        }
        loop {
            let declared = self.declared.borrow_and_update().clone();
            match self.apply_declaration(&declared).await {
                Ok(()) => {}
                Err(Stop::Gone) => return Ok(()),
                Err(Stop::Trouble(error)) => return Err(error),
                Err(Stop::Refused(problem)) => {
                    self.problem = Some(problem);
                    self.refused = Some(BackOff::after(self.refused, Instant::now()));
                }
                // The agent tells the user, and the next look is the next attempt.
                Err(Stop::Unreachable) => {}
            }
            self.shared.note(Task::Serve(self.info.socket.clone()), Ok(())).await;
            self.report(&declared).await;
            let is_tried =
                declared.channel.candidate.is_some() || self.applied != self.wanted(&declared);
            let pause = if is_tried { POLL_INTERVAL } else { IDLE_POLL_INTERVAL };
            tokio::select! {
                () = tokio::time::sleep(pause.saturating_sub(self.snapshot_at.elapsed())) => {
                    if self.update_snapshot().await.is_err() {
                        return Ok(());
                    }
                }
                () = ended(&mut self.notifications) => return Ok(()),
                // The agent continues as long as it has hosts.
                changed = self.declared.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let declared = self.declared.borrow().clone();
                    self.refused = self.refused.filter(|_| self.has_failed_to_load(&declared));
                }
            }
        }
    }

    fn wanted(&self, declared: &Declared) -> Option<Id> {
        declared.channel.wants(&self.id, &self.stratum()).cloned()
    }

    /// Whether a load of the declared release has failed. The next attempt then waits for its time, even if other
    /// parts of the declaration change.
    fn has_failed_to_load(&self, declared: &Declared) -> bool {
        let problem = self.problem.as_ref().filter(|problem| problem.kind == ProblemKind::Load);
        problem.is_some_and(|problem| problem.release == self.wanted(declared))
    }

    fn stratum(&self) -> String {
        let built_by = self.built_by.as_ref().map(Toolchain::to_string);
        stratum(built_by.as_ref().unwrap_or(&self.info.toolchain), &self.labels())
    }

    /// The labels of the host. A label of its own takes precedence over a label of the agent.
    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.shared.labels.clone();
        labels.extend(self.info.labels.clone());
        labels
    }

    async fn update_snapshot(&mut self) -> Result<(), WireError> {
        self.snapshot_at = Instant::now();
        self.snapshot = self.client.ask(Request::Snapshot).await?;
        Ok(())
    }

    /// Waits for an operation that may take long, and sends reports meanwhile: a silent host counts as lost, and
    /// the rollout would choose another host in its place.
    async fn with_reports<T>(
        &mut self,
        declared: &Declared,
        work: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                refreshed = self.report_later(declared) => refreshed?,
            }
        }
    }

    async fn report_later(&mut self, declared: &Declared) -> Result<(), Stop> {
        tokio::time::sleep(IDLE_POLL_INTERVAL).await;
        self.update_snapshot().await?;
        self.report(declared).await;
        Ok(())
    }

    async fn apply_declaration(&mut self, declared: &Declared) -> Result<(), Stop> {
        if self.refused.is_some_and(|refused| !refused.is_over(Instant::now())) {
            return Ok(());
        }
        if self.staged != declared.channel.candidate {
            self.staged = None;
        }
        let wanted = self.wanted(declared);
        if let Some(applied) = self.applied.clone().filter(|_| self.applied == wanted) {
            let release = self.release(&applied, declared).await?;
            if !self.runs(&release) {
                self.handle_rollback_in_host(&applied)?;
            }
        }
        if self.offer.as_ref().is_some_and(|offer| Some(&offer.release) != wanted.as_ref()) {
            self.offer = None;
        }
        if self.applied != wanted && self.host_accepts(wanted.as_ref(), declared).await? {
            // The report is sent in the background, since a load is usually over before anybody reads it.
            let report = self.state(declared);
            self.shared.report_soon(report.clone()).await;
            self.publish(report).await;
            match &wanted {
                Some(release) => self.apply(release, declared).await?,
                None => self.load_plugin_dir(declared).await?,
            }
        }
        if let Some(candidate) = &declared.channel.candidate
            && wanted.as_ref() != Some(candidate)
        {
            self.stage(candidate, declared).await?;
        }
        // A problem with a release that is neither declared for the host nor the candidate is not reported any
        // more.
        let is_of_interest = |problem: &Problem| {
            problem.release == wanted && self.applied != wanted
                || problem.release.is_some()
                    && problem.release == declared.channel.candidate
                    && self.staged != declared.channel.candidate
        };
        self.problem = self.problem.take().filter(is_of_interest);
        self.refused = None;
        Ok(())
    }

    /// Whether the host accepts its declared release now. A host is not asked before it goes back, since a bad
    /// release must go at once.
    async fn host_accepts(
        &mut self,
        wanted: Option<&Id>,
        declared: &Declared,
    ) -> Result<bool, Stop> {
        let channel = &declared.channel;
        let Some(wanted) = wanted else { return Ok(true) };
        // The host goes forward to the candidate, or from an earlier base to the present one.
        let goes_on = channel.candidate.as_ref() == Some(wanted)
            || channel.earlier.contains(&self.applied) && channel.base.as_ref() == Some(wanted);
        if !goes_on {
            return Ok(true);
        }
        let is_asked_again = |offer: &Offer| match offer.answer {
            OfferAnswer::No { .. } => false,
            _ => offer.asked_at.elapsed() >= RETRY_PAUSE,
        };
        if self.offer.as_ref().is_some_and(|offer| !is_asked_again(offer)) {
            return Ok(false);
        }
        // A release is offered only after it is staged.
        if channel.candidate.as_ref() == Some(wanted) && self.staged.as_ref() != Some(wanted) {
            self.stage(wanted, declared).await?;
            if self.staged.as_ref() != Some(wanted) {
                return Ok(false);
            }
        }
        let release = self.release(wanted, declared).await?;
        let serving = self.builds();
        let is_new = |name: &String| {
            let plugin = release.plugins.iter().find(|plugin| plugin.name == *name);
            let artifacts = plugin.into_iter().flat_map(|plugin| &plugin.artifacts);
            { artifacts }.all(|it| serving.get(name) != Some(&it.build_id))
        };
        let plugins = release.names().into_iter().filter(is_new).collect();
        let offer = OfferParams { release: wanted.to_string(), plugins };
        let answer = match self.client.ask(Request::Offer(offer)).await {
            Ok(answer) => answer,
            Err(error) if error.kind == ErrorKind::NoHost => return Err(Stop::Gone),
            // An older host, which does not know the question, accepts every load.
            Err(_) => OfferAnswer::Now,
        };
        let takes = answer == OfferAnswer::Now;
        let release = wanted.clone();
        self.offer = (!takes).then(|| Offer { release, answer, asked_at: Instant::now() });
        Ok(takes)
    }

    /// The host runs another build than the agent has loaded. If its guard or a rollback keeps the plugin at an
    /// earlier build, it stays there and a problem is reported. Otherwise the release is loaded again.
    fn handle_rollback_in_host(&mut self, from: &Id) -> Result<(), Stop> {
        let kept = self.snapshot.plugins.iter().find(|plugin| plugin.is_rolled_back);
        let Some(kept) = kept else {
            self.applied = None;
            return Ok(());
        };
        let message = format!(
            "{} was rolled back to another build in this host, by its guard or by `hotswap rollback`",
            kept.name
        );
        Err(Stop::Refused(problem(ProblemKind::TakenBack, from, Some(&kept.name), message)))
    }

    async fn release(&self, id: &Id, declared: &Declared) -> Result<Arc<Release>, Stop> {
        let release = self.shared.files.release(id, declared.keys.as_ref()).await;
        release.map_err(|error| Stop::refused(ProblemKind::Release, id, None, &error))
    }

    /// The build ids that serve in it, by plugin.
    fn builds(&self) -> BTreeMap<String, String> {
        let active = self.snapshot.plugins.iter().filter_map(|plugin| {
            plugin.active().map(|active| (plugin.name.clone(), active.build_id.clone()))
        });
        active.collect()
    }

    /// Whether it runs a release. If a host loads only some plugins, only these count.
    fn runs(&self, release: &Release) -> bool {
        let builds = self.builds();
        let is_of_release = |(name, build): (&String, &String)| {
            let plugin = release.plugins.iter().find(|plugin| same_plugin(&plugin.name, name));
            let artifacts = plugin.into_iter().flat_map(|plugin| &plugin.artifacts);
            { artifacts }
                .any(|it| it.build_id == *build && Some(&it.built_by) == self.built_by.as_ref())
        };
        !builds.is_empty() && builds.iter().all(is_of_release)
    }

    /// Whether it runs a release with all its plugins.
    fn runs_all_of(&self, release: &Release) -> bool {
        self.runs(release) && self.builds().len() == release.plugins.len()
    }

    /// Fetches and verifies a release. Returns the paths of its artifacts, and its build ids by plugin.
    async fn fetch(
        &mut self,
        id: &Id,
        declared: &Declared,
    ) -> Result<(Vec<PathBuf>, BTreeMap<String, String>), Stop> {
        let refuse = |kind, plugin: Option<&str>, message: String| {
            Stop::Refused(problem(kind, id, plugin, message))
        };
        let release = self.release(id, declared).await?;
        let built_by = self.built_by.clone().ok_or_else(|| {
            let message = format!(
                "its hotswap-engine {} does not report its toolchain; build the host with a newer hotswap-engine",
                self.info.engine_version
            );
            refuse(ProblemKind::Toolchain, None, message)
        })?;
        let artifacts = release
            .for_host(&built_by)
            .map_err(|error| refuse(ProblemKind::Toolchain, None, error.to_string()))?;
        let (mut paths, mut builds) = (Vec::new(), BTreeMap::new());
        for (plugin, artifact) in artifacts {
            if let Some(crash) = self.shared.ledger.lock().await.crash(&artifact.build_id) {
                let message = format!(
                    "build {} of {plugin} is not loaded: in release {} it crashed {}; \
                     `hotswap agent --pardon` lets it be loaded again",
                    artifact.build_id, crash.release, crash.host
                );
                return Err(refuse(ProblemKind::Quarantined, Some(plugin), message));
            }
            let shared = Arc::clone(&self.shared);
            let path =
                self.with_reports(declared, shared.files.artifact(id, plugin, artifact)).await?;
            let refuse = |error| Stop::refused(ProblemKind::Artifact, id, Some(plugin), &error);
            paths.push(path.map_err(refuse)?);
            builds.insert(plugin.to_owned(), artifact.build_id.clone());
        }
        Ok((paths, builds))
    }

    /// Whether the host has to wait before it fetches the candidate: hosts fetch at different times, to spread the
    /// load of the server.
    fn must_wait(&mut self, id: &Id, declared: &Declared) -> bool {
        if !self.shared.store.is_of_many_machines() || declared.channel.spread_ms == 0 {
            return false;
        }
        let since = match &self.tried {
            Some((tried, since)) if tried == id => *since,
            _ => self.tried.insert((id.clone(), Instant::now())).1,
        };
        let pause = Place::pause_of(&self.id, declared.channel.spread_ms);
        since.elapsed() < Duration::from_millis(pause)
    }

    /// Fetches a release, and finds out by a dry run whether the host would load it.
    async fn stage(&mut self, id: &Id, declared: &Declared) -> Result<(), Stop> {
        if self.staged.as_ref() == Some(id) || self.must_wait(id, declared) {
            return Ok(());
        }
        let (artifacts, builds) = self.fetch(id, declared).await?;
        let asked = PlanParams {
            apply: Some(ApplyParams { artifacts: artifacts.clone() }),
            ..PlanParams::default()
        };
        let (client, shared) = (self.client.clone(), Arc::clone(&self.shared));
        let preview = Preview::make(&client, &shared.prober, asked);
        let preview = self.with_reports(declared, preview).await?;
        let refuse = |plugin: Option<&str>, message: String| {
            Stop::Refused(problem(ProblemKind::DryRun, id, plugin, message))
        };
        let preview = preview.map_err(|error| match error.kind {
            ErrorKind::NoHost => Stop::Gone,
            _ => refuse(error.plugin.as_deref(), error.to_string()),
        })?;
        for plugin in &preview.plugins {
            if let Some(error) = &plugin.error {
                return Err(refuse(Some(&plugin.name), error.to_string()));
            }
            if let Some(broken) = plugin.host_expects.first() {
                return Err(refuse(Some(&plugin.name), broken.to_string()));
            }
            if !is_about(plugin, &artifacts, &builds) {
                let message = format!(
                    "hotswap-engine {} of the host does not know `apply`; build the host with a newer hotswap-engine",
                    self.info.engine_version
                );
                return Err(refuse(Some(&plugin.name), message));
            }
        }
        self.staged = Some(id.clone());
        Ok(())
    }

    /// Loads a release.
    async fn apply(&mut self, id: &Id, declared: &Declared) -> Result<(), Stop> {
        let note = self.shared.ledger.lock().await.note(&self.id);
        if self.applied.is_none() && note.is_none_or(|note| note.release.is_none()) {
            self.had_plugins = !self.builds().is_empty();
        }
        // If a plugin is missing, only the host knows whether it ought to have that plugin.
        if !self.runs_all_of(&*self.release(id, declared).await?) {
            let (artifacts, builds) = self.fetch(id, declared).await?;
            let serving = self.builds();
            let is_new = |(plugin, build): &(String, String)| serving.get(plugin) != Some(build);
            let builds = builds.into_iter().filter(is_new).collect();
            self.note(Some(id.clone()), builds).await;
            self.load(Request::Apply(ApplyParams { artifacts }), Some(id), declared).await?;
            let cleared = self.shared.ledger.lock().await.clear_suspected(&self.builds());
            self.shared.note_stored(cleared).await;
        }
        self.applied = Some(id.clone());
        let note = self.shared.ledger.lock().await.note(&self.id);
        self.note(None, note.map(|note| note.builds).unwrap_or_default()).await;
        Ok(())
    }

    /// Loads the builds of the host's own plugin directory.
    async fn load_plugin_dir(&mut self, declared: &Declared) -> Result<(), Stop> {
        if !self.had_plugins {
            // Without the directory, the host would keep the release: it does not unload plugins because a directory
            // was lost. If this fails, the host says why it cannot read the directory.
            let _ = std::fs::create_dir_all(&self.info.plugin_dir);
        }
        let prune = PruneParams { latest: true, plugins: Vec::new() };
        self.load(Request::Prune(prune), None, declared).await?;
        self.applied = None;
        self.note(None, BTreeMap::new()).await;
        Ok(())
    }

    async fn load(
        &mut self,
        request: Request,
        release: Option<&Id>,
        declared: &Declared,
    ) -> Result<(), Stop> {
        let client = self.client.clone();
        let loaded: Result<ReloadReport, WireError> =
            self.with_reports(declared, client.ask(request)).await?;
        match loaded {
            Ok(_) => Ok(self.update_snapshot().await?),
            Err(error) if error.kind == ErrorKind::NoHost => Err(Stop::Gone),
            Err(error) => {
                self.note(None, BTreeMap::new()).await;
                Err(Stop::Refused(Problem {
                    kind: ProblemKind::Load,
                    release: release.cloned(),
                    plugin: error.plugin.clone(),
                    message: error.to_string(),
                }))
            }
        }
    }

    /// Records in the ledger what the host runs, and what is being loaded into it.
    async fn note(&mut self, applying: Option<Id>, builds: BTreeMap<String, String>) {
        self.applying.clone_from(&applying);
        let note = Note {
            started_at_ms: self.info.started_at_ms,
            release: self.applied.clone(),
            applying,
            builds,
            had_plugins: self.had_plugins,
        };
        let noted = self.shared.ledger.lock().await.set_note(&self.id, note);
        self.shared.note_stored(noted).await;
    }

    /// The report of the host's present state.
    fn state(&self, declared: &Declared) -> HostReport {
        let arm = |plugin: &hotswap_protocol::PluginInfo| {
            plugin.active().map(|active| {
                // Calls of functions that the plugin does not have are counted too, but say nothing about the
                // code.
                let calls = plugin.functions.iter().map(|function| function.calls).sum();
                let failures = &active.failures;
                (
                    plugin.name.clone(),
                    Arm { calls, errors: failures.errors, panics: failures.panics },
                )
            })
        };
        let wanted = self.wanted(declared);
        let latencies = |plugin: &hotswap_protocol::PluginInfo| {
            let mut all = Histogram::default();
            let functions = plugin.functions.iter();
            functions.for_each(|function| all.add_cumulative(&function.latency_buckets));
            (all.calls() > 0).then(|| (plugin.name.clone(), all))
        };
        HostReport {
            id: self.id.clone(),
            channel: self.shared.channel.clone(),
            name: self.info.name.clone(),
            pid: self.info.pid,
            machine: self.shared.machine.clone(),
            socket: Some(self.info.socket.clone()),
            at_ms: now_ms(),
            stratum: self.stratum(),
            state: match (&self.problem, self.applied == wanted) {
                (Some(_), _) => HostState::Refused,
                (None, true) => HostState::Serving,
                (None, false) => HostState::Applying,
            },
            release: self.applied.clone(),
            builds: self.builds(),
            staged: self.staged.clone(),
            problem: self.problem.clone(),
            seen: declared.channel.mark,
            health: self.snapshot.plugins.iter().filter_map(arm).collect(),
            more: MoreOfHost {
                built_by: self.built_by.clone(),
                labels: self.labels(),
                offer: self.offer.as_ref().map(|offer| offer.answer.clone()),
                own_health: self.snapshot.host.health.clone(),
                latencies: self.snapshot.plugins.iter().filter_map(latencies).collect(),
            },
        }
    }

    async fn report(&mut self, declared: &Declared) {
        let report = self.state(declared);
        if self.is_reported(&report, declared) {
            return;
        }
        self.reported_at = Some(Instant::now());
        self.shared.report(report.clone()).await;
        self.publish(report).await;
    }

    /// Whether the fleet already knows everything in this report except newer counts of calls, and need not get the
    /// counts yet: a server gets them only at intervals, as often as the steps of a rollout need them.
    fn is_reported(&self, report: &HostReport, declared: &Declared) -> bool {
        let pause = Duration::from_millis(declared.channel.spread_ms).min(IDLE_POLL_INTERVAL);
        self.shared.store.is_of_many_machines()
            && self.reported_at.is_some_and(|at| at.elapsed() < pause)
            && self
                .reported
                .as_ref()
                .is_some_and(|it| without_call_counts(it) == without_call_counts(report))
    }

    /// Sends an event with the report, unless only figures have changed since the last one.
    async fn publish(&mut self, report: HostReport) {
        let is_unchanged = |before: &HostReport| {
            let (at_ms, health, seen) = (report.at_ms, report.health.clone(), report.seen);
            let latencies = report.more.latencies.clone();
            let more = MoreOfHost { latencies, ..before.more.clone() };
            HostReport { at_ms, health, seen, more, ..before.clone() } == report
        };
        let is_new = !self.reported.as_ref().is_some_and(is_unchanged);
        let measured = Measured::of(&self.snapshot);
        self.shared.measured.lock().await.insert(self.id.clone(), measured);
        self.reported = Some(report.clone());
        if is_new {
            let _ = self.shared.events.send(AgentEvent::Host(Box::new(report))).await;
        }
    }

    /// Called when the host has closed its socket, whose file may still exist. Finds out why.
    async fn end(&mut self, is_left: bool) -> Result<(), FleetError> {
        let Some(report) = self.reported.take() else { return Ok(()) };
        let deadline = Instant::now() + END;
        while socket::process_lives(self.info.pid) {
            if Instant::now() > deadline {
                // The process is alive and may listen again.
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let calls = self.last_calls.take().and_then(|calls| calls.read()).unwrap_or_default();
        let release = self.applying.clone().or_else(|| self.applied.clone());
        let call = calls.iter().rev().find(|call| self.runs_given_code(call));
        if let Some(release) = release.filter(|_| self.applying.is_some() || call.is_some()) {
            let declared = self.declared.borrow().clone();
            self.shared.blame(report, &release, call, &declared).await;
            return Ok(());
        }
        let forgotten = self.shared.ledger.lock().await.forget(&self.id);
        self.shared.note_stored(forgotten).await;
        if !is_left {
            return self.shared.forget(&self.id).await;
        }
        self.shared.died(report).await;
        Ok(())
    }

    /// Whether a call runs code of a version that the agent has loaded or is loading.
    fn runs_given_code(&self, call: &InFlightCall) -> bool {
        let known =
            self.snapshot.plugins.iter().find(|known| same_plugin(&known.name, &call.plugin));
        let active = known.and_then(|known| known.active()).map(|active| active.version);
        match (active, &self.applying) {
            (Some(active), Some(_)) => call.version > active,
            (Some(active), None) => self.applied.is_some() && call.version >= active,
            (None, _) => true,
        }
    }
}

/// Waits until a connection has ended.
async fn ended(notifications: &mut mpsc::Receiver<Notification>) {
    while notifications.recv().await.is_some() {}
}

/// The report without the counts that grow with each successful call.
fn without_call_counts(report: &HostReport) -> HostReport {
    let panics =
        |(name, arm): (&String, &Arm)| (name.clone(), Arm { panics: arm.panics, ..Arm::default() });
    let more = MoreOfHost { latencies: BTreeMap::new(), ..report.more.clone() };
    let health = report.health.iter().map(panics).collect();
    HostReport { at_ms: 0, health, more, ..report.clone() }
}

/// Whether the plan of a plugin is about these artifacts: a new build is one of them, and an unchanged plugin has
/// the same build.
fn is_about(
    plugin: &PluginPreview,
    artifacts: &[PathBuf],
    builds: &BTreeMap<String, String>,
) -> bool {
    let build = builds.iter().find(|(name, _)| same_plugin(name, &plugin.name));
    match (&plugin.new, &plugin.loaded, build) {
        (Some(new), _, _) => artifacts.contains(&new.path),
        (None, Some(loaded), Some((_, build))) => loaded.build_id == *build,
        (None, _, None) => plugin.outcome == hotswap_protocol::Outcome::Removed,
        (None, None, Some(_)) => false,
    }
}

fn problem(kind: ProblemKind, release: &Id, plugin: Option<&str>, message: String) -> Problem {
    Problem { kind, release: Some(release.clone()), plugin: plugin.map(str::to_owned), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_doubles_the_pause_before_the_next_attempt() {
        let now = Instant::now();
        let mut last = None;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let next = BackOff::after(last, now);
            assert!(!next.is_over(now + next.pause - Duration::from_millis(1)));
            assert!(next.is_over(now + next.pause));
            pauses.push(next.pause.as_secs());
            last = Some(next);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    }
}
