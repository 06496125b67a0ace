//! The session's loop, which alone decides what to do next.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

use hotswap_build::{BuildError, Cancel, HostPackage, PluginPackage, Quiet, SourceChange, Watcher};
use hotswap_protocol::{
    ErrorKind, HostInfo, InFlightCall, ReloadReport, WireError, clock::unix_ms, same_plugin,
};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::cargo_flags::CargoFlags;
use super::event::{LogLine, SessionEvent};
use super::host_inputs::HostInputs;
use super::job::{Job, JobOutcome};
use super::link::{self, LinkEvent};
use super::process::{self, HostProcess};
use super::store::StoredChoice;
use super::successor;
use super::{Options, Order, Target, Watch};
use crate::host::HostExit;
use crate::host::client::Client;
use crate::host::last_calls::LastCalls;
use crate::host::operation::Operation;
use crate::host::socket::{self, HostChoice};
use early::ServedEarly;
use installed::{DirContent, Installed};
use manifests::{Manifests, Reopened};
use outdated::Restarts;
use pace::Pace;
use patches::{LastBuild, Patches};
use review::{Reviewed, Reviews};

mod early;
mod installed;
mod manifests;
mod outdated;
mod pace;
mod patches;
mod questions;
mod recovery;
mod review;
mod work;

/// How many reports of background work may wait.
const REPORT_QUEUE: usize = 64;
/// How many bytes of input are kept for a host that has not started yet.
const MOST_EARLY_INPUT: usize = 1 << 20;

/// A report of background work to the loop.
enum Report {
    Opened(Result<HostPackage, BuildError>),
    Finished(JobOutcome, Product),
    /// One of the plugins that are built side by side is built.
    Built(Job, JobOutcome, Product),
    SourcesChanged(SourceChange),
    /// Cargo has reviewed builds without cargo.
    Reviewed(Reviewed),
    /// The plugin directory was read.
    Installed(DirContent),
    /// The manifests were read again.
    Reopened(Box<Reopened>),
    Exited(HostExit),
    /// An attached host is back as another process.
    CameBack(HostInfo),
}

/// The result of a finished job that later work uses.
enum Product {
    Nothing,
    Executable(PathBuf, HostInputs),
    Artifact(NewBuild),
    Reloaded(ReloadReport),
}

/// A plugin that was built and is in the plugin directory.
struct NewBuild {
    plugin: String,
    build: LastBuild,
    /// Whether the directory had no build with this code before.
    is_new: bool,
    /// Whether the host serves it already.
    is_served: bool,
}

struct Supervisor {
    options: Options,
    events: mpsc::Sender<SessionEvent>,
    logs: mpsc::Sender<LogLine>,
    report: mpsc::Sender<Report>,
    report_link: mpsc::Sender<LinkEvent>,
    package: Option<HostPackage>,
    flags: CargoFlags,
    executable: Option<PathBuf>,
    /// Whether the last build of the host made it.
    is_built: bool,
    /// The environment that cargo gave the host in its last run.
    environment: Vec<(OsString, OsString)>,
    /// Input that was typed before there was a host to read it.
    early_input: Vec<u8>,
    /// Whether the host's standard input is closed.
    input_ended: bool,
    /// The manifests as they were read last, and whether they are being read.
    manifests: Manifests,
    /// The sources of the host's program that was built last.
    host_inputs: HostInputs,
    /// The sources of the host's program that was started last.
    running_inputs: HostInputs,
    /// Whether the running host is older than its sources.
    is_outdated: bool,
    plugin_dir: Option<PathBuf>,
    installed: Installed,
    watcher: Option<Watcher>,
    watch: Watch,
    queue: VecDeque<Job>,
    running: Option<RunningJob>,
    /// When the last save was noticed that was not built yet, by plugin package.
    saves: HashMap<String, Instant>,
    paces: HashMap<String, Pace>,
    restarts: Restarts,
    patches: Patches,
    served_early: ServedEarly,
    reviews: Reviews,
    /// Whether an artifact was installed since the last reload.
    built_since_reload: bool,
    process: Option<HostProcess>,
    client: Option<Client>,
    /// The calls in flight of a host that died are read here.
    last_calls: Option<LastCalls>,
    /// Cancels the running calls.
    calls: CancellationToken,
    /// The last build of each plugin that served, as far as the session knows.
    good: HashMap<String, String>,
    /// The steps of loads during which a host of this session ended. Their builds are not loaded again.
    fatal_calls: Vec<InFlightCall>,
    /// The host that was attached to.
    attached: Option<HostInfo>,
    /// Ends the connection, or the wait for one, when dropped.
    link: Option<DropGuard>,
    ending: Option<Option<WireError>>,
}

struct RunningJob {
    /// The running job, or the builds of plugins that run side by side.
    jobs: Vec<Job>,
    started: Instant,
    cancel: Cancel,
}

/// Runs a session until it is told to end or cannot continue.
pub(super) async fn supervise(
    options: Options,
    mut orders: mpsc::Receiver<Order>,
    events: mpsc::Sender<SessionEvent>,
    logs: mpsc::Sender<LogLine>,
) {
    let (report, mut reports) = mpsc::channel(REPORT_QUEUE);
    let (report_link, mut link_events) = mpsc::channel(REPORT_QUEUE);
    let mut session = Supervisor {
        plugin_dir: options.plugin_dir.clone(),
        patches: Patches::new(options.patch),
        served_early: ServedEarly::default(),
        options,
        events,
        logs,
        report,
        report_link,
        package: None,
        flags: CargoFlags::default(),
        executable: None,
        is_built: false,
        environment: Vec::new(),
        early_input: Vec::new(),
        input_ended: false,
        manifests: Manifests::default(),
        host_inputs: HostInputs::default(),
        running_inputs: HostInputs::default(),
        is_outdated: false,
        installed: Installed::default(),
        watcher: None,
        watch: Watch::Off,
        queue: VecDeque::new(),
        running: None,
        saves: HashMap::new(),
        paces: HashMap::new(),
        restarts: Restarts::default(),
        reviews: Reviews::new(),
        built_since_reload: false,
        process: None,
        client: None,
        last_calls: None,
        calls: CancellationToken::new(),
        good: HashMap::new(),
        fatal_calls: Vec::new(),
        attached: None,
        link: None,
        ending: None,
    };
    session.open().await;
    while !session.is_over() {
        let review_at = session.review_at();
        let quiet = tokio::time::sleep_until(review_at.unwrap_or_else(tokio::time::Instant::now));
        tokio::select! {
            order = orders.recv(), if session.ending.is_none() => {
                session.handle_order(order.unwrap_or(Order::End)).await;
            }
            Some(report) = reports.recv() => session.handle_report(report).await,
            Some(event) = link_events.recv() => session.handle_link_event(event).await,
            () = quiet, if review_at.is_some() => session.begin_review(),
        }
        session.begin_next_job().await;
    }
    let error = session.ending.take().flatten();
    session.send_event(SessionEvent::Ended { error }).await;
}

impl Supervisor {
    async fn send_event(&mut self, event: SessionEvent) {
        if self.events.send(event).await.is_err() && self.ending.is_none() {
            // There will be no more orders.
            self.end(None);
        }
    }

    /// Whether the session is ending, no build runs, and the host that it started has ended.
    fn is_over(&self) -> bool {
        self.ending.is_some()
            && self.process.is_none()
            && self.running.is_none()
            && !self.reviews.is_running()
    }

    fn end(&mut self, error: Option<WireError>) {
        self.ending = Some(error);
        self.stop_watching();
        self.queue.clear();
        self.postpone_review();
        self.cancel_running();
        if let Some(process) = &self.process {
            process.stop();
        }
        // Only builds must be waited for: cargo still runs and holds its lock.
        if self.running.as_ref().is_some_and(|running| !running.is_build()) {
            self.running = None;
        }
    }

    async fn open(&mut self) {
        match self.options.target.clone() {
            Target::Package(dir) => {
                let (report, flags) = (self.report.clone(), self.options.cargo_flags.clone());
                tokio::task::spawn_blocking(move || {
                    let opened = HostPackage::open_with(&dir, &flags);
                    let _ = report.blocking_send(Report::Opened(opened));
                });
            }
            Target::Executable(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let plugin_dir = self.plugin_dir.clone();
                self.send_event(SessionEvent::Opened {
                    name,
                    package_dir: None,
                    plugin_dir,
                    plugins: Vec::new(),
                    plugin_packages: Vec::new(),
                })
                .await;
                // A file name without a directory would be searched in PATH.
                self.executable = Some(path.canonicalize().unwrap_or(path));
                self.queue.push_back(Job::StartHost);
                self.begin_next_job().await;
            }
            Target::Running(choice) => self.attach(choice).await,
            Target::Nothing => {}
        }
    }

    async fn handle_opened(&mut self, mut package: HostPackage) {
        self.flags = CargoFlags::for_package(&package, &self.options.cargo_flags);
        self.flags.apply(&mut package);
        if let Some(plugin_dir) = &self.plugin_dir {
            package.plugin_dir.clone_from(plugin_dir);
        }
        self.plugin_dir = Some(package.plugin_dir.clone());
        let plugins: Vec<String> = package.plugins.iter().map(|it| it.name.clone()).collect();
        self.send_event(SessionEvent::Opened {
            name: package.name.clone(),
            package_dir: Some(package.dir.clone()),
            plugin_dir: Some(package.plugin_dir.clone()),
            plugins: plugins.clone(),
            plugin_packages: package.plugins.iter().map(|it| it.dir.clone()).collect(),
        })
        .await;
        self.manifests = Manifests::of(&package);
        manifests::remove_unlisted(&package);
        self.package = Some(package);
        self.queue.push_back(Job::BuildHost);
        self.queue.extend(plugins.into_iter().map(Job::BuildPlugin));
        self.queue.push_back(Job::StartHost);
        self.watch(self.options.watch).await;
        self.send_event(SessionEvent::Patching { on: self.patches.are_made }).await;
    }

    async fn attach(&mut self, choice: HostChoice) {
        match socket::connect(Some(&choice), self.options.client_name).await {
            Ok((client, _)) => {
                let host = client.host().clone();
                // A directory of another machine cannot be read here.
                self.plugin_dir = (!choice.is_elsewhere()).then(|| host.plugin_dir.clone());
                self.send_event(SessionEvent::Opened {
                    name: host.name.clone(),
                    package_dir: None,
                    plugin_dir: self.plugin_dir.clone(),
                    plugins: Vec::new(),
                    plugin_packages: Vec::new(),
                })
                .await;
                self.connect(choice, host.pid);
                self.attached = Some(host);
            }
            Err(error) => self.end(Some(error)),
        }
    }

    fn connect(&mut self, choice: HostChoice, pid: u32) {
        let token = CancellationToken::new();
        let name = self.options.client_name;
        let is_new = self.process.is_some();
        let (report, logs) = (self.report_link.clone(), self.logs.clone());
        let link = link::maintain(choice, pid, name, is_new, link::FIRST_ANSWER, report, logs);
        let ended = token.clone();
        tokio::spawn(async move { ended.run_until_cancelled(link).await });
        self.link = Some(token.drop_guard());
    }

    /// Waits until an attached host is started again by whoever started it before.
    fn wait_for_successor(&mut self) {
        let Some(host) = self.attached.clone() else { return };
        let (name, report) = (self.options.client_name, self.report.clone());
        let token = CancellationToken::new();
        let ended = token.clone();
        let wait = async move {
            let host = successor::wait_for(&host, name).await;
            // The session is over when this fails.
            let _ = report.send(Report::CameBack(host)).await;
        };
        tokio::spawn(async move { ended.run_until_cancelled(wait).await });
        self.link = Some(token.drop_guard());
    }

    async fn handle_order(&mut self, order: Order) {
        match order {
            Order::Build(packages) => self.queue_builds(packages).await,
            Order::Operate(Operation::Reload) => self.queue.push_back(Job::Reload),
            Order::Operate(Operation::ReloadLatest) => self.queue.push_back(Job::ReloadLatest),
            Order::Operate(Operation::Prune(prune)) => self.queue.push_back(Job::Prune(prune)),
            Order::Operate(Operation::Rollback(target)) => {
                self.queue.push_back(Job::Rollback(target));
            }
            Order::Operate(Operation::Free(target)) => self.queue.push_back(Job::Free(target)),
            Order::Operate(operation) => self.send_request(operation),
            Order::Input(bytes) => match &self.process {
                Some(process) => process.write(bytes),
                None => self.keep_early_input(&bytes),
            },
            Order::InvokeInBoth(call, build) => self.invoke_in_both(call, build),
            Order::EndInput => {
                self.input_ended = true;
                if let Some(process) = &mut self.process {
                    process.end_input();
                }
            }
            Order::CancelCalls => {
                std::mem::replace(&mut self.calls, CancellationToken::new()).cancel();
            }
            Order::Hold(target) => self.hold(target, true),
            Order::Release(target) => self.hold(target, false),
            Order::Preview => self.preview(),
            Order::Replay => self.replay(),
            Order::Compare(request) => self.compare(request),
            Order::ListBuilds(plugin) => self.list_builds(plugin),
            Order::Watch(mode) => self.watch(mode).await,
            Order::Patch(on) => self.patch(on).await,
            Order::Cancel => {
                self.queue.clear();
                self.cancel_running();
            }
            Order::Restart => self.restart(Vec::new()),
            Order::RestartWith(builds) => self.restart(builds),
            Order::End => self.end(None),
        }
    }

    async fn queue_builds(&mut self, packages: Vec<String>) {
        let Some(package) = &self.package else { return };
        let known = package.plugins.iter().map(|plugin| &plugin.name);
        let wanted: Vec<Job> = known
            .filter(|name| packages.is_empty() || packages.contains(name))
            .map(|name| Job::BuildPlugin(name.clone()))
            .collect();
        for job in wanted {
            if !self.queue.contains(&job) {
                self.queue.push_back(job);
            }
        }
    }

    fn restart(&mut self, builds: Vec<StoredChoice>) {
        self.queue.clear();
        if self.process.is_some() {
            self.queue.push_back(Job::StopHost);
        }
        if self.package.is_some() {
            self.queue.push_back(Job::BuildHost);
        }
        if let Some(package) = &self.package {
            self.queue.push_back(Job::MendArtifacts);
            let chosen = |name: &str| builds.iter().any(|it| same_plugin(&it.plugin, name));
            let others = package.plugins.iter().filter(|plugin| !chosen(&plugin.name));
            self.queue.extend(others.map(|plugin| Job::BuildPlugin(plugin.name.clone())));
        }
        if !builds.is_empty() {
            self.queue.push_back(Job::Install(builds));
        }
        self.queue_leave_out();
        if self.package.is_some() || self.executable.is_some() {
            self.queue.push_back(Job::StartHost);
        }
    }

    /// Removes builds that ended the host before it loads again.
    fn queue_leave_out(&mut self) {
        if self.package.is_some() && !self.fatal_calls.is_empty() {
            self.queue.retain(|job| *job != Job::LeaveOut);
            self.queue.push_back(Job::LeaveOut);
        }
    }

    async fn watch(&mut self, mode: Watch) {
        let (mut error, mut file_system) = (None, None);
        if mode == Watch::Off {
            self.stop_watching();
        } else if self.watcher.is_none()
            && let Some(package) = &self.package
        {
            let report = self.report.clone();
            let on_change = move |change| {
                // The session is over when this fails.
                let _ = report.blocking_send(Report::SourcesChanged(change));
            };
            let (watched, quiet) = (outdated::watched(package), Quiet::default());
            let watcher = match self.options.poll {
                Some(every) => Watcher::polling(&watched, quiet, every, on_change),
                None => {
                    file_system = Watcher::silent_file_system(&watched);
                    Watcher::new(&watched, quiet, on_change)
                }
            };
            match watcher {
                Ok(watcher) => self.watcher = Some(watcher),
                Err(failure) => error = Some(failure.to_string()),
            }
        }
        let on = self.watcher.is_some();
        self.watch = if on { mode } else { Watch::Off };
        self.send_event(SessionEvent::Watching { on, mode: self.watch, error, file_system }).await;
    }

    /// Dropping a watcher waits for its thread, which may wait for this loop, so it is dropped elsewhere.
    fn stop_watching(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            tokio::task::spawn_blocking(move || drop(watcher));
        }
    }

    async fn handle_report(&mut self, report: Report) {
        match report {
            Report::Opened(Ok(package)) => self.handle_opened(package).await,
            Report::Opened(Err(error)) => {
                self.end(Some(WireError::new(ErrorKind::Build, error.to_string())));
            }
            Report::Finished(outcome, product) => {
                self.record_product(product);
                self.finish(outcome).await;
            }
            Report::Built(job, outcome, product) => {
                self.record_product(product);
                self.undo_early_patch(&job, &outcome).await;
                self.finish_one(job, outcome).await;
            }
            Report::SourcesChanged(change) if self.watcher.is_some() => {
                self.handle_source_change(change).await;
            }
            Report::SourcesChanged(_) => {}
            Report::Installed(content) => self.handle_dir_content(content).await,
            Report::Reviewed(reviewed) => self.handle_review(reviewed).await,
            Report::Reopened(reopened) => self.apply_manifests(*reopened).await,
            Report::Exited(exit) => self.handle_exit(exit).await,
            Report::CameBack(host) if self.ending.is_none() => {
                self.connect(HostChoice::Socket(host.socket.clone()), host.pid);
                self.attached = Some(host);
            }
            Report::CameBack(_) => {}
        }
    }

    /// Keeps input for a host that has not started yet, up to a limit.
    fn keep_early_input(&mut self, bytes: &[u8]) {
        let room = MOST_EARLY_INPUT.saturating_sub(self.early_input.len());
        self.early_input.extend(&bytes[..bytes.len().min(room)]);
    }

    fn record_product(&mut self, product: Product) {
        match product {
            Product::Executable(path, inputs) => {
                self.executable = Some(path);
                self.is_built = true;
                // It is not known which content of a source was compiled that changed meanwhile.
                self.host_inputs =
                    if self.restarts.is_changed { HostInputs::default() } else { inputs };
            }
            Product::Artifact(NewBuild { plugin, build, is_new, is_served }) => {
                if is_new {
                    self.built_since_reload |= !is_served;
                    self.note_own_build(plugin.clone(), build.build_id.clone());
                }
                self.patches.built(plugin, build);
            }
            Product::Reloaded(report) => self.patches.reloaded(&report),
            Product::Nothing => {}
        }
    }

    async fn handle_source_change(&mut self, change: SourceChange) {
        self.postpone_review();
        let SourceChange { mut plugins, noticed, saved } = change;
        let is_hosts = plugins.iter().any(|name| name == outdated::HOST);
        // A change may have been noticed before the manifests gave its plugin another name.
        plugins.retain(|name| self.package.as_ref().is_some_and(|it| find(it, name).is_some()));
        self.read_changed_manifests();
        if is_hosts || !self.is_outdated && self.host_inputs.settings_have_changed() {
            self.handle_host_source_change(&plugins).await;
        } else if self.is_outdated {
            self.handle_host_source_change(&[]).await;
        }
        if plugins.is_empty() {
            return;
        }
        let saved_at_ms = unix_ms(saved);
        self.send_event(SessionEvent::SourcesChanged { plugins: plugins.clone(), saved_at_ms })
            .await;
        let is_due = self.cancel_outdated_build(&plugins);
        self.saves.extend(plugins.iter().map(|plugin| (plugin.clone(), noticed)));
        self.queue.retain(|job| *job != Job::ReloadIfBuilt);
        if is_due && self.watch.reloads() {
            self.queue.push_front(Job::ReloadIfBuilt);
        }
        plugins.extend(self.missing_artifacts());
        self.queue_builds(plugins).await;
        self.queue_leave_out();
        if self.watch.reloads() {
            self.queue.push_back(Job::ReloadIfBuilt);
        }
    }

    async fn handle_exit(&mut self, exit: HostExit) {
        if let Some(process) = self.process.take() {
            // A host that crashed leaves its socket behind.
            let host = self.client.as_ref().map_or(process.pid, |client| client.host().pid);
            socket::remove_left_behind(host);
        }
        self.client = None;
        self.link = None;
        self.served_early = ServedEarly::default();
        let cancelled = self.running.as_ref().is_some_and(|it| it.cancel.is_cancelled());
        let ended_job = match self.running.as_ref().and_then(|running| running.jobs.first()) {
            Some(Job::StopHost) => Some(JobOutcome::done(exit.to_string())),
            Some(Job::StartHost) if cancelled => Some(JobOutcome::Cancelled),
            Some(Job::StartHost) => {
                let message = format!("the host ended before it answered: {exit}");
                Some(JobOutcome::failed(ErrorKind::Internal, message))
            }
            _ => None,
        };
        let was_told_to = !matches!(ended_job, None | Some(JobOutcome::Failed { .. }));
        self.report_exit(exit, was_told_to || self.ending.is_some()).await;
        if let Some(outcome) = ended_job {
            self.finish(outcome).await;
        }
    }

    async fn report_exit(&mut self, exit: HostExit, expected: bool) {
        let last_calls = self.last_calls.take().filter(|_| !expected);
        let calls = last_calls.and_then(|calls| calls.read());
        self.fatal_calls.extend(calls.iter().flatten().filter(|call| call.is_of_load()).cloned());
        self.send_event(SessionEvent::HostExited { exit, expected, calls }).await;
    }

    async fn handle_link_event(&mut self, event: LinkEvent) {
        // A late event of the connection to a host that is gone.
        if self.link.is_none() {
            return;
        }
        match event {
            LinkEvent::Connected(client) => {
                let host = client.host().clone();
                self.client = Some(client);
                self.patches.connected();
                // A host that has just died cannot be opened again.
                self.last_calls = LastCalls::of(&host).or(self.last_calls.take());
                if self.package.is_some() {
                    self.environment = process::environment_of(host.pid);
                }
                let summary = format!("pid {}", host.pid);
                self.send_event(SessionEvent::Connected { host }).await;
                if self.runs(&Job::StartHost) {
                    if self.is_outdated {
                        self.send_event(SessionEvent::HostOutdated { plugins: Vec::new() }).await;
                    }
                    self.finish(JobOutcome::done(summary)).await;
                }
            }
            LinkEvent::Snapshot(snapshot) => {
                self.patches.record_snapshot(&snapshot);
                self.record_serving_builds(&snapshot).await;
                self.check_plugin_dir(&snapshot);
                self.send_event(SessionEvent::Snapshot(Box::new(snapshot))).await;
            }
            LinkEvent::SameSnapshot => {
                self.read_plugin_dir();
                self.send_event(SessionEvent::SameSnapshot).await;
            }
            LinkEvent::Reloads(reloads) => self.send_event(SessionEvent::Reloads(reloads)).await,
            LinkEvent::Engine(mut event) => {
                self.patches.handle_event(&mut event);
                self.send_event(SessionEvent::Engine(event)).await;
            }
            LinkEvent::Lost(reason) => {
                self.client = None;
                let stopping = self.runs(&Job::StopHost);
                if !stopping && self.ending.is_none() {
                    self.send_event(SessionEvent::Disconnected { reason }).await;
                }
            }
            LinkEvent::Silent(waited) => {
                let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
                self.send_event(SessionEvent::HostSilent { waited_ms }).await;
                if self.runs(&Job::StartHost) {
                    self.finish(JobOutcome::done("without an answer yet".to_owned())).await;
                }
            }
            // The end of the process will be reported soon, and says more.
            LinkEvent::GaveUp(_) if self.process.as_ref().is_some_and(|it| !it.lives()) => {}
            LinkEvent::GaveUp(error) => {
                self.link = None;
                if self.runs(&Job::StartHost) {
                    self.finish(JobOutcome::Failed { error }).await;
                } else if self.process.is_none() {
                    self.report_exit(HostExit { code: None, signal: None }, false).await;
                    self.wait_for_successor();
                }
            }
        }
    }
}

/// The plugin package of that name.
fn find<'a>(package: &'a HostPackage, name: &str) -> Option<&'a PluginPackage> {
    package.plugins.iter().find(|plugin| plugin.name == name)
}
