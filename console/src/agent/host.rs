//! One host of an agent: from its socket to the end of its process.

use std::collections::BTreeMap;
use std::path::PathBuf;
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
use super::{Declared, Shared, Told};
use crate::compare::preview::{PluginPreview, Preview};
use crate::host::client::Client;
use crate::host::last_calls::LastCalls;
use crate::host::socket::{self, HostChoice};

/// How often a host is asked how it does while a release is tried.
const LOOK: Duration = Duration::from_millis(500);
/// How often otherwise.
const LOOK_IDLE: Duration = Duration::from_secs(5);
/// After how long something that was refused is tried again. The pause doubles each time, up to the longest: what
/// hangs in a load leaves a thread and a version behind.
const AGAIN: Duration = Duration::from_secs(5);
const LONGEST_AGAIN: Duration = Duration::from_secs(300);
/// After how long a host that has another agent is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// How long a process may take to end after it has closed its socket.
const END: Duration = Duration::from_secs(2);

/// Serves the host at a socket for as long as it listens there.
pub(super) async fn serve(shared: Arc<Shared>, path: PathBuf, declared: watch::Receiver<Declared>) {
    let choice = HostChoice::Socket(path.clone());
    let connected = choice.connect(shared.client_name).await;
    let Some((client, notifications)) = connected.ok().filter(|(client, _)| {
        shared.hosts.as_ref().is_none_or(|hosts| hosts.is_meant(client.host()))
    }) else {
        // Not at once: whoever is asked for is not another one a moment later.
        return tokio::time::sleep(AGAIN / 5).await;
    };
    let mut host = Host::new(Arc::clone(&shared), client, notifications, declared).await;
    if let Err(error) = host.take_charge().await {
        let _ = shared.told.send(Told::Trouble(error)).await;
        return tokio::time::sleep(ASK_AGAIN).await;
    }
    let attach = || shared.store.let_attach(&host.id, path.clone());
    let _attachable = shared.lets_attach.then(attach).flatten();
    let trouble = host.go_on().await.err();
    // A host that ends in good order takes its socket along. Of another one, the next client removes it.
    let is_left = path.exists();
    let trouble = trouble.or(host.end(is_left).await.err());
    if let Some(trouble) = trouble {
        let _ = shared.told.send(Told::Trouble(trouble)).await;
        tokio::time::sleep(AGAIN).await;
    }
}

struct Host {
    shared: Arc<Shared>,
    client: Client,
    /// Nothing that it tells is asked for: they end with the connection.
    notifications: mpsc::Receiver<Notification>,
    id: Id,
    info: HostInfo,
    built_by: Option<Toolchain>,
    last_calls: Option<LastCalls>,
    declared: watch::Receiver<Declared>,
    /// The release that it was given; `None` for what its own plugin directory has.
    applied: Option<Id>,
    applying: Option<Id>,
    staged: Option<Id>,
    problem: Option<Problem>,
    /// When what was refused is tried again.
    refused: Option<BackOff>,
    /// What it says to what it is to run, while it does not.
    offer: Option<Offer>,
    /// The release that is tried, and since when that is known here.
    tried: Option<(Id, Instant)>,
    snapshot: Snapshot,
    looked_at: Instant,
    /// When the fleet was told of it last.
    told_at: Option<Instant>,
    reported: Option<HostReport>,
}

/// A pause before something that was refused is tried again.
#[derive(Debug, Clone, Copy)]
struct BackOff {
    since: Instant,
    pause: Duration,
}

impl BackOff {
    /// The next one: twice as long as the one before.
    fn after(before: Option<Self>, now: Instant) -> Self {
        let pause = before.map_or(AGAIN, |before| before.pause * 2);
        Self { since: now, pause: pause.min(LONGEST_AGAIN) }
    }

    fn is_over(self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= self.pause
    }
}

/// A release that a host was offered, and does not take, or not yet.
struct Offer {
    release: Id,
    answer: OfferAnswer,
    asked_at: Instant,
}

/// Why a host cannot be brought on.
enum Stop {
    /// It is not there any more.
    Gone,
    /// Something is wrong with what it is to run.
    Refused(Problem),
    /// The agent cannot go on with it.
    Trouble(FleetError),
}

impl From<FleetError> for Stop {
    fn from(error: FleetError) -> Self {
        Self::Trouble(error)
    }
}

impl From<WireError> for Stop {
    /// Whatever else a host answers to a question, it will be asked again.
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
            looked_at: Instant::now(),
            told_at: None,
            reported: None,
            shared,
            client,
            notifications,
            id,
            info,
            declared,
        }
    }

    /// Tells it who brings it to what is declared: two agents of two fleets would each undo what the other does.
    async fn take_charge(&self) -> Result<(), FleetError> {
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
            // One that does not know the request takes what it is given.
            _ => Ok(()),
        }
    }

    /// Brings it to what is declared, again and again, until it is gone.
    async fn go_on(&mut self) -> Result<(), FleetError> {
        if self.look().await.is_err() {
            return Ok(());
        }
        loop {
            let declared = self.declared.borrow_and_update().clone();
            match self.bring(&declared).await {
                Ok(()) => {}
                Err(Stop::Gone) => return Ok(()),
                Err(Stop::Trouble(error)) => return Err(error),
                Err(Stop::Refused(problem)) => {
                    self.problem = Some(problem);
                    self.refused = Some(BackOff::after(self.refused, Instant::now()));
                }
            }
            self.report(&declared).await;
            let is_tried =
                declared.channel.candidate.is_some() || self.applied != self.wanted(&declared);
            let pause = if is_tried { LOOK } else { LOOK_IDLE };
            tokio::select! {
                () = tokio::time::sleep(pause.saturating_sub(self.looked_at.elapsed())) => {
                    if self.look().await.is_err() {
                        return Ok(());
                    }
                }
                () = ended(&mut self.notifications) => return Ok(()),
                // The agent goes on as long as it has hosts.
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

    /// Whether it has tried to load what it is to run. That is not tried more often because something else is declared
    /// besides.
    fn has_failed_to_load(&self, declared: &Declared) -> bool {
        let problem = self.problem.as_ref().filter(|problem| problem.kind == ProblemKind::Load);
        problem.is_some_and(|problem| problem.release == self.wanted(declared))
    }

    fn stratum(&self) -> String {
        let built_by = self.built_by.as_ref().map(Toolchain::to_string);
        stratum(built_by.as_ref().unwrap_or(&self.info.toolchain), &self.labels())
    }

    /// What distinguishes it from others: what it says itself is worth more than what its agent was told.
    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.shared.labels.clone();
        labels.extend(self.info.labels.clone());
        labels
    }

    async fn look(&mut self) -> Result<(), WireError> {
        self.looked_at = Instant::now();
        self.snapshot = self.client.ask(Request::Snapshot).await?;
        Ok(())
    }

    /// Waits for something that may take long, and tells meanwhile how it is: whoever is silent counts as lost, and
    /// another host is given what it was to try.
    async fn telling<T>(
        &mut self,
        declared: &Declared,
        work: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                looked = self.look_later(declared) => looked?,
            }
        }
    }

    async fn look_later(&mut self, declared: &Declared) -> Result<(), Stop> {
        tokio::time::sleep(LOOK_IDLE).await;
        self.look().await?;
        self.report(declared).await;
        Ok(())
    }

    async fn bring(&mut self, declared: &Declared) -> Result<(), Stop> {
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
                self.went_back(&applied)?;
            }
        }
        if self.offer.as_ref().is_some_and(|offer| Some(&offer.release) != wanted.as_ref()) {
            self.offer = None;
        }
        if self.applied != wanted && self.takes(wanted.as_ref(), declared).await? {
            // A load is not held up for it, and is over before anybody reads it, most often.
            let report = self.state(declared);
            self.shared.report_soon(report.clone()).await;
            self.tell(report).await;
            match &wanted {
                Some(release) => self.apply(release, declared).await?,
                None => self.apply_own(declared).await?,
            }
        }
        if let Some(candidate) = &declared.channel.candidate
            && wanted.as_ref() != Some(candidate)
        {
            self.stage(candidate, declared).await?;
        }
        // What was refused before is not what it is to run or stage any more.
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

    /// Whether it takes now what it is to run. Whoever goes back is not asked: what is bad is gone at once.
    async fn takes(&mut self, wanted: Option<&Id>, declared: &Declared) -> Result<bool, Stop> {
        let channel = &declared.channel;
        let Some(wanted) = wanted else { return Ok(true) };
        // To what is tried, or from a base before to that of now.
        let goes_on = channel.candidate.as_ref() == Some(wanted)
            || channel.earlier.contains(&self.applied) && channel.base.as_ref() == Some(wanted);
        if !goes_on {
            return Ok(true);
        }
        let is_asked_again = |offer: &Offer| match offer.answer {
            OfferAnswer::No { .. } => false,
            _ => offer.asked_at.elapsed() >= AGAIN,
        };
        if self.offer.as_ref().is_some_and(|offer| !is_asked_again(offer)) {
            return Ok(false);
        }
        // Whatever is offered is here by then.
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
            // One that does not know the question takes what it is given.
            Err(_) => OfferAnswer::Now,
        };
        let takes = answer == OfferAnswer::Now;
        let release = wanted.clone();
        self.offer = (!takes).then(|| Offer { release, answer, asked_at: Instant::now() });
        Ok(takes)
    }

    /// It runs something else than it was given. Where it is kept back there, by its guard or by a rollback, it
    /// stays so; else it is brought back.
    fn went_back(&mut self, from: &Id) -> Result<(), Stop> {
        let kept = self.snapshot.plugins.iter().find(|plugin| plugin.is_rolled_back);
        let Some(kept) = kept else {
            self.applied = None;
            return Ok(());
        };
        let message = format!(
            "{} was taken back to another build in this host, by its guard or by `hotswap rollback`",
            kept.name
        );
        Err(Stop::Refused(problem(ProblemKind::TakenBack, from, Some(&kept.name), message)))
    }

    async fn release(&self, id: &Id, declared: &Declared) -> Result<Arc<Release>, Stop> {
        self.shared.files.release(id, declared.keys.as_ref()).await.map_err(|error| {
            Stop::Refused(problem(ProblemKind::Release, id, None, error.to_string()))
        })
    }

    /// What it runs, by plugin.
    fn builds(&self) -> BTreeMap<String, String> {
        let active = self.snapshot.plugins.iter().filter_map(|plugin| {
            plugin.active().map(|active| (plugin.name.clone(), active.build_id.clone()))
        });
        active.collect()
    }

    /// Whether it runs a release: a host that asks for some plugins only has no others.
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

    /// Fetches a release and verifies it; returns where its artifacts lie, and their builds by plugin.
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
                "its hotswap-engine {} does not tell what built it; build the host with a newer one",
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
            let path = self.telling(declared, shared.files.artifact(id, plugin, artifact)).await?;
            let path = path
                .map_err(|error| refuse(ProblemKind::Artifact, Some(plugin), error.to_string()))?;
            paths.push(path);
            builds.insert(plugin.to_owned(), artifact.build_id.clone());
        }
        Ok((paths, builds))
    }

    /// Whether it is not its turn yet to fetch what is tried: not all hosts ask a server at once.
    fn is_to_wait(&mut self, id: &Id, declared: &Declared) -> bool {
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

    /// Fetches a release, and finds out without loading it whether it would load.
    async fn stage(&mut self, id: &Id, declared: &Declared) -> Result<(), Stop> {
        if self.staged.as_ref() == Some(id) || self.is_to_wait(id, declared) {
            return Ok(());
        }
        let (artifacts, builds) = self.fetch(id, declared).await?;
        let asked = PlanParams {
            apply: Some(ApplyParams { artifacts: artifacts.clone() }),
            ..PlanParams::default()
        };
        let (client, shared) = (self.client.clone(), Arc::clone(&self.shared));
        let preview = Preview::make(&client, &shared.prober, asked);
        let preview = self.telling(declared, preview).await?;
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
            if !is_of(plugin, &artifacts, &builds) {
                let message = format!(
                    "hotswap-engine {} of the host does not know `apply`; build the host with a newer one",
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
        if !self.runs(&*self.release(id, declared).await?) {
            let (artifacts, builds) = self.fetch(id, declared).await?;
            let serving = self.builds();
            let is_new = |(plugin, build): &(String, String)| serving.get(plugin) != Some(build);
            let builds = builds.into_iter().filter(is_new).collect();
            self.note(Some(id.clone()), builds).await?;
            self.load(Request::Apply(ApplyParams { artifacts }), Some(id), declared).await?;
        }
        self.applied = Some(id.clone());
        let note = self.shared.ledger.lock().await.note(&self.id);
        self.note(None, note.map(|note| note.builds).unwrap_or_default()).await
    }

    /// Loads what its own plugin directory has.
    async fn apply_own(&mut self, declared: &Declared) -> Result<(), Stop> {
        let prune = PruneParams { latest: true, plugins: Vec::new() };
        self.load(Request::Prune(prune), None, declared).await?;
        self.applied = None;
        self.note(None, BTreeMap::new()).await
    }

    async fn load(
        &mut self,
        request: Request,
        release: Option<&Id>,
        declared: &Declared,
    ) -> Result<(), Stop> {
        let client = self.client.clone();
        let loaded: Result<ReloadReport, WireError> =
            self.telling(declared, client.ask(request)).await?;
        match loaded {
            Ok(_) => Ok(self.look().await?),
            Err(error) if error.kind == ErrorKind::NoHost => Err(Stop::Gone),
            Err(error) => {
                self.note(None, BTreeMap::new()).await?;
                Err(Stop::Refused(Problem {
                    kind: ProblemKind::Load,
                    release: release.cloned(),
                    plugin: error.plugin.clone(),
                    message: error.to_string(),
                }))
            }
        }
    }

    /// Writes down what it has, and what it is being given.
    async fn note(
        &mut self,
        applying: Option<Id>,
        builds: BTreeMap<String, String>,
    ) -> Result<(), Stop> {
        self.applying.clone_from(&applying);
        let note = Note {
            started_at_ms: self.info.started_at_ms,
            release: self.applied.clone(),
            applying,
            builds,
        };
        Ok(self.shared.ledger.lock().await.set_note(&self.id, note)?)
    }

    /// What there is to say of it now.
    fn state(&self, declared: &Declared) -> HostReport {
        let arm = |plugin: &hotswap_protocol::PluginInfo| {
            plugin.active().map(|active| {
                // Those of functions that it does not have are its calls too, and tell nothing of it.
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
        if self.is_known(&report, declared) {
            return;
        }
        self.told_at = Some(Instant::now());
        self.shared.report(report.clone()).await;
        self.tell(report).await;
    }

    /// Whether the fleet knows all of this but how often it was called meanwhile: a server is told that only now and
    /// then, and no faster than a rollout goes.
    fn is_known(&self, report: &HostReport, declared: &Declared) -> bool {
        let pause = Duration::from_millis(declared.channel.spread_ms).min(LOOK_IDLE);
        self.shared.store.is_of_many_machines()
            && self.told_at.is_some_and(|at| at.elapsed() < pause)
            && self.reported.as_ref().is_some_and(|it| but_for_calls(it) == but_for_calls(report))
    }

    /// Tells whoever watches the agent how it is, if that is something new.
    async fn tell(&mut self, report: HostReport) {
        let is_told = |before: &HostReport| {
            let (at_ms, health, seen) = (report.at_ms, report.health.clone(), report.seen);
            let latencies = report.more.latencies.clone();
            let more = MoreOfHost { latencies, ..before.more.clone() };
            HostReport { at_ms, health, seen, more, ..before.clone() } == report
        };
        let is_new = !self.reported.as_ref().is_some_and(is_told);
        let measured = Measured::of(&self.snapshot);
        self.shared.measured.lock().await.insert(self.id.clone(), measured);
        self.reported = Some(report.clone());
        if is_new {
            let _ = self.shared.told.send(Told::Host(Box::new(report))).await;
        }
    }

    /// It closed its socket, which may be left at its path: finds out why.
    async fn end(&mut self, is_left: bool) -> Result<(), FleetError> {
        let Some(report) = self.reported.take() else { return Ok(()) };
        let deadline = Instant::now() + END;
        while socket::process_lives(self.info.pid) {
            if Instant::now() > deadline {
                // It lives, and may listen again.
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let calls = self.last_calls.take().and_then(|calls| calls.read()).unwrap_or_default();
        let release = self.applying.clone().or_else(|| self.applied.clone());
        let call = calls.iter().rev().find(|call| self.is_of_what_it_was_given(call));
        if let Some(release) = release.filter(|_| self.applying.is_some() || call.is_some()) {
            return self.shared.blame(report, &release, call).await;
        }
        self.shared.ledger.lock().await.forget(&self.id)?;
        if !is_left {
            return self.shared.forget(&self.id).await;
        }
        self.shared.died(report).await;
        Ok(())
    }

    /// Whether a call is one of a version that it was given, or is being given.
    fn is_of_what_it_was_given(&self, call: &InFlightCall) -> bool {
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

/// A report without the numbers that grow with each call that came off.
fn but_for_calls(report: &HostReport) -> HostReport {
    let panics =
        |(name, arm): (&String, &Arm)| (name.clone(), Arm { panics: arm.panics, ..Arm::default() });
    let more = MoreOfHost { latencies: BTreeMap::new(), ..report.more.clone() };
    let health = report.health.iter().map(panics).collect();
    HostReport { at_ms: 0, health, more, ..report.clone() }
}

/// Whether a plan is about these artifacts: what is new is one of them, and what stays is of the same build.
fn is_of(plugin: &PluginPreview, artifacts: &[PathBuf], builds: &BTreeMap<String, String>) -> bool {
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
    fn what_is_refused_again_is_tried_again_after_twice_the_pause() {
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
