//! Begins, cancels and finishes jobs.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime};

use hotswap_build::{
    BuildEffect, BuildError, BuildMessage, BuildOptions, Built, Cancel, DiagnosticLevel,
    PluginPackage, build_host, build_plugins,
};
use hotswap_protocol::{ErrorKind, FreeResult, PlanParams, ReloadReport, VersionState, env};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::early::EarlyLoader;
use super::patches::{LastBuild, not_patched};
use super::{NewBuild, Product, Report, RunningJob, Supervisor, find};
use crate::compare::preview::Preview;
use crate::format;
use crate::host::operation::Operation;
use crate::host::socket::HostChoice;
use crate::session::Watch;
use crate::session::event::{BuildLine, SessionEvent};
use crate::session::host_inputs::HostInputs;
use crate::session::job::{Job, JobOutcome};
use crate::session::process::{self, HostProcess};
use crate::session::store::{self, Artifacts, Refused, StoredChoice};

impl RunningJob {
    pub(super) fn is_build(&self) -> bool {
        self.jobs.first().is_some_and(Job::is_build)
    }
}

impl Supervisor {
    pub(super) async fn begin_next_job(&mut self) {
        while self.running.is_none() && self.ending.is_none() {
            if self.waits_for_manifests() {
                return;
            }
            let Some(job) = self.queue.pop_front() else { return };
            if job == Job::ReloadIfBuilt && !(self.built_since_reload && self.client.is_some()) {
                continue;
            }
            self.postpone_review();
            let cancel = Cancel::default();
            let mut jobs = self.take_parallel_builds(&job);
            jobs.insert(0, job.clone());
            let (started, cancel_it) = (Instant::now(), cancel.clone());
            self.running = Some(RunningJob { jobs: jobs.clone(), started, cancel: cancel_it });
            for job in jobs {
                self.send_event(SessionEvent::JobStarted { job }).await;
            }
            if let Err(outcome) = self.begin(job, cancel) {
                self.finish(outcome).await;
            }
        }
    }

    /// Takes the builds from the queue that run side by side with `job`: the other plugins directly after it.
    fn take_parallel_builds(&mut self, job: &Job) -> Vec<Job> {
        let count = match job.is_plugin_build() {
            true => self.queue.iter().take_while(|job| job.is_plugin_build()).count(),
            false => 0,
        };
        self.queue.drain(..count).collect()
    }

    /// Begins a job in the background. A job that ends at once returns its outcome as an error.
    fn begin(&mut self, job: Job, cancel: Cancel) -> Result<(), JobOutcome> {
        if job.reloads() {
            self.load_whole_unless_patching();
        }
        match job {
            Job::BuildHost => self.begin_host_build(cancel),
            Job::BuildPlugin(_) => self.begin_plugin_builds(cancel),
            Job::MendArtifacts => self.begin_mending(|dirs| dirs.mend()),
            Job::LeaveOut => self.begin_mending(|dirs| dirs.leave_out()),
            Job::Install(builds) => self.begin_install(builds),
            Job::StartHost => self.begin_start(),
            Job::StopHost => match &self.process {
                Some(process) => {
                    process.stop();
                    Ok(())
                }
                None => Err(JobOutcome::done("no host runs")),
            },
            Job::ReloadIfBuilt if self.watch == Watch::Ask => {
                self.built_since_reload = false;
                self.begin_careful_reload()
            }
            Job::Reload | Job::ReloadIfBuilt => {
                self.built_since_reload = false;
                self.begin_request(&job, reloaded)
            }
            Job::ReloadLatest | Job::Prune(_) | Job::Rollback(_) => {
                self.begin_request(&job, reloaded)
            }
            Job::Free(_) => self.begin_request(&job, freed),
        }
    }

    fn begin_host_build(&mut self, cancel: Cancel) -> Result<(), JobOutcome> {
        let Some(package) = self.package.clone() else {
            return Err(JobOutcome::failed(ErrorKind::Build, "this host has no package to build"));
        };
        self.is_built = false;
        self.restarts.is_changed = false;
        let (events, report) = (self.events.clone(), self.report.clone());
        let cargo_flags = self.flags.host.clone();
        tokio::task::spawn_blocking(move || {
            let mut on_message = |message| send_build_message(&events, &package.name, message);
            let options = BuildOptions { cargo_flags, ..BuildOptions::default() };
            let began = SystemTime::now();
            let built = build_host(&package, &options, &cancel, &mut on_message);
            let (outcome, product) = match built {
                Ok(path) => {
                    let inputs = HostInputs::of(&path, &package, began);
                    let summary = path.display().to_string();
                    (JobOutcome::done(summary), Product::Executable(path, inputs))
                }
                Err(error) => (error.into(), Product::Nothing),
            };
            // The session is over when this fails.
            let _ = report.blocking_send(Report::Finished(outcome, product));
        });
        Ok(())
    }

    fn begin_plugin_builds(&mut self, cancel: Cancel) -> Result<(), JobOutcome> {
        let (Some(package), Some(running)) = (self.package.clone(), &self.running) else {
            return Err(JobOutcome::failed(ErrorKind::Build, "this host has no package to build"));
        };
        let (report, early) = (self.report.clone(), self.early_loader());
        let (mut builds, mut unknown) = (Vec::new(), Vec::new());
        for job in &running.jobs {
            let Job::BuildPlugin(name) = job else { continue };
            let cargo_flags = self.flags.plugins.clone();
            match find(&package, name) {
                Some(plugin) => {
                    let noticed = self.saves.remove(name);
                    let options = BuildOptions {
                        noticed,
                        cargo_flags,
                        patch_base: self.patches.base(name),
                        on_early_patch: early.as_ref().map(|early| early.on_patch(name)),
                        install_to: Some(package.plugin_dir.clone()),
                        keep_compiler: true,
                        ..BuildOptions::default()
                    };
                    builds.push((plugin.clone(), options));
                }
                None => unknown.push(job.clone()),
            }
        }
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || {
            for job in unknown {
                let message = format!("the host's package does not name this plugin: {job}");
                let outcome = JobOutcome::failed(ErrorKind::Build, message);
                // The session is over when this fails.
                let _ = report.blocking_send(Report::Built(job, outcome, Product::Nothing));
            }
            run_plugin_builds(&builds, early.as_ref(), &cancel, &events, &report);
        });
        Ok(())
    }

    fn begin_mending(&self, mend: fn(&Artifacts) -> Vec<Refused>) -> Result<(), JobOutcome> {
        let Some(package) = self.package.clone() else {
            return Err(JobOutcome::failed(
                ErrorKind::Build,
                "the directory of stored builds is not known",
            ));
        };
        let (events, report) = (self.events.clone(), self.report.clone());
        let artifacts = Artifacts {
            store_dir: store::directory(&package),
            plugin_dir: package.plugin_dir,
            good: self.good.clone(),
            fatal_calls: self.fatal_calls.clone(),
        };
        tokio::task::spawn_blocking(move || {
            let refused = mend(&artifacts);
            let count = refused.len();
            for Refused { plugin, reason, instead } in refused {
                let event = SessionEvent::ArtifactRefused { plugin, reason, instead };
                // The session is over when this fails.
                let _ = events.blocking_send(event);
            }
            let outcome = JobOutcome::done(format!("{count} replaced"));
            let _ = report.blocking_send(Report::Finished(outcome, Product::Nothing));
        });
        Ok(())
    }

    fn begin_install(&self, builds: Vec<StoredChoice>) -> Result<(), JobOutcome> {
        let Some(package) = self.package.clone() else {
            return Err(JobOutcome::failed(
                ErrorKind::Build,
                "the directory of stored builds is not known",
            ));
        };
        let report = self.report.clone();
        tokio::task::spawn_blocking(move || {
            let outcome =
                match store::install(&package.plugin_dir, &store::directory(&package), &builds) {
                    Ok(()) => JobOutcome::done("the artifacts are in the plugin directory"),
                    Err(error) => JobOutcome::Failed { error },
                };
            // The session is over when this fails.
            let _ = report.blocking_send(Report::Finished(outcome, Product::Nothing));
        });
        Ok(())
    }

    fn begin_start(&mut self) -> Result<(), JobOutcome> {
        let failed = |message| Err(JobOutcome::failed(ErrorKind::Internal, message));
        let Some(executable) = &self.executable else {
            return failed("the host is not built".to_owned());
        };
        let store_dir = self.package.as_ref().map(store::directory);
        let directories =
            [(env::PLUGIN_DIR, self.plugin_dir.as_deref()), (env::STORE_DIR, store_dir.as_deref())];
        let mut command = match self.package.as_ref().filter(|_| self.is_built) {
            Some(package) => process::cargo_run(package, &self.flags.host),
            None => process::direct(executable, &self.environment),
        };
        command.args(&self.options.host_arguments);
        for (name, directory) in directories {
            if let Some(directory) = directory {
                command.env(name, directory);
            }
        }
        let place = match self.options.has_screen {
            true => process::Place::Session,
            false => process::Place::Group,
        };
        let mut started = HostProcess::start(command, place, executable, &self.events, &self.logs);
        if let Ok((process, _)) = &mut started {
            process.write(std::mem::take(&mut self.early_input));
            if self.input_ended {
                process.end_input();
            }
        }
        let (process, exit) = match started {
            Ok(started) => started,
            Err(error) => {
                return failed(format!("cannot start {}: {error}", executable.display()));
            }
        };
        let (events, report) = (self.events.clone(), self.report.clone());
        let pid = process.pid;
        tokio::spawn(async move {
            let _ = events.send(SessionEvent::HostStarted { pid }).await;
            if let Ok(exit) = exit.await {
                let _ = report.send(Report::Exited(exit)).await;
            }
        });
        self.process = Some(process);
        self.is_outdated = std::mem::take(&mut self.restarts).is_changed;
        self.running_inputs = self.host_inputs.clone();
        self.save_running_inputs();
        // The start itself loads what is in the plugin directory.
        self.built_since_reload = false;
        self.connect(HostChoice::Started(pid), pid);
        Ok(())
    }

    /// Reloads unless that would break something that is in use; then a person decides.
    fn begin_careful_reload(&self) -> Result<(), JobOutcome> {
        let Some(client) = self.client.clone() else {
            return Err(JobOutcome::failed(ErrorKind::NoHost, "no host is connected"));
        };
        let (events, report) = (self.events.clone(), self.report.clone());
        let prober = self.options.prober.clone();
        tokio::spawn(async move {
            let (outcome, product) = match Preview::make(&client, &prober, PlanParams::default())
                .await
            {
                Ok(preview) if preview.is_breaking => {
                    let breaking = preview.plugins.iter().filter(|plugin| plugin.is_breaking);
                    let plugins = breaking.map(|plugin| plugin.name.clone()).collect();
                    // The session is over when these fail.
                    let _ = events.send(SessionEvent::ReloadWaits { plugins }).await;
                    let _ = events.send(SessionEvent::Preview(Ok(preview))).await;
                    let outcome = JobOutcome::done("it waits, because it would break something");
                    (outcome, Product::Nothing)
                }
                // The host refuses builds that cannot be compared, and reports why.
                _ => match client.ask(Operation::Reload.request()).await {
                    Ok(report) => reloaded(report),
                    Err(error) => (JobOutcome::Failed { error }, Product::Nothing),
                },
            };
            // The session is over when this fails.
            let _ = report.send(Report::Finished(outcome, product)).await;
        });
        Ok(())
    }

    fn begin_request<T: DeserializeOwned + 'static>(
        &self,
        job: &Job,
        end_of: fn(T) -> (JobOutcome, Product),
    ) -> Result<(), JobOutcome> {
        let (Some(client), Some(operation)) = (self.client.clone(), job.operation()) else {
            return Err(JobOutcome::failed(ErrorKind::NoHost, "no host is connected"));
        };
        let report = self.report.clone();
        tokio::spawn(async move {
            let (outcome, product) = match client.ask(operation.request()).await {
                Ok(answer) => end_of(answer),
                Err(error) => (JobOutcome::Failed { error }, Product::Nothing),
            };
            // The session is over when this fails.
            let _ = report.send(Report::Finished(outcome, product)).await;
        });
        Ok(())
    }

    /// Whether this job is running.
    pub(super) fn runs(&self, job: &Job) -> bool {
        self.running.as_ref().is_some_and(|running| running.jobs.contains(job))
    }

    pub(super) fn cancel_running(&mut self) {
        let Some(running) = &self.running else { return };
        running.cancel.cancel();
        if running.jobs == [Job::StartHost]
            && let Some(process) = &self.process
        {
            process.stop();
        }
    }

    /// Called when one of the builds that run side by side has ended.
    pub(super) async fn finish_one(&mut self, job: Job, outcome: JobOutcome) {
        let Some(running) = &mut self.running else { return };
        let elapsed = running.started.elapsed();
        running.jobs.retain(|other| *other != job);
        if running.jobs.is_empty() {
            self.running = None;
        }
        self.job_finished(job, outcome, elapsed).await;
    }

    /// Called when the running job has ended.
    pub(super) async fn finish(&mut self, outcome: JobOutcome) {
        let Some(RunningJob { jobs, started, .. }) = self.running.take() else { return };
        for job in jobs {
            self.job_finished(job, outcome.clone(), started.elapsed()).await;
        }
    }

    async fn job_finished(&mut self, job: Job, outcome: JobOutcome, elapsed: Duration) {
        // Without a program of the host there is nothing to start; an earlier one is enough. A save builds it
        // again.
        if job == Job::BuildHost
            && self.executable.is_none()
            && !self.queue.contains(&Job::BuildHost)
        {
            self.queue.retain(|waiting| *waiting != Job::StartHost);
        }
        if job == Job::BuildHost && outcome != JobOutcome::Cancelled {
            self.restarts.build_ended();
        }
        // The host must not start without the requested builds.
        if let (Job::Install(_), JobOutcome::Failed { .. }) = (&job, &outcome) {
            self.queue.retain(|waiting| !matches!(waiting, Job::StartHost | Job::Reload));
        }
        if matches!(outcome, JobOutcome::Done { .. }) {
            self.schedule_review(&job);
        }
        self.record_build_time(&job, &outcome, elapsed);
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.send_event(SessionEvent::JobFinished { job, outcome, elapsed_ms }).await;
    }
}

/// The next build must know what serves, even if the answer comes before the event.
fn reloaded(report: ReloadReport) -> (JobOutcome, Product) {
    (JobOutcome::done(report.to_string()), Product::Reloaded(report))
}

/// A version that was not freed is a failure.
fn freed(result: FreeResult) -> (JobOutcome, Product) {
    let outcome = if result.state == VersionState::Freed {
        JobOutcome::done(format!("{} v{} {}", result.plugin, result.version, result.detail))
    } else {
        let holders = match result.holders.is_empty() {
            true => String::new(),
            false => format!(", held by {}", result.holders.join(", ")),
        };
        JobOutcome::failed(ErrorKind::NotFreeable, format!("it is {}{holders}", result.detail))
    };
    (outcome, Product::Nothing)
}

/// Builds plugins side by side, and reports each when it is in the plugin directory.
fn run_plugin_builds(
    builds: &[(PluginPackage, BuildOptions)],
    early: Option<&EarlyLoader>,
    cancel: &Cancel,
    events: &mpsc::Sender<SessionEvent>,
    report: &mpsc::Sender<Report>,
) {
    let plugins: Vec<_> = builds.iter().map(|(plugin, options)| (plugin, options)).collect();
    let name = |position: usize| &builds[position].0.name;
    // Warnings from an earlier compilation are not shown again for a plugin that is up to date, which is known
    // only at the end.
    let warnings = RefCell::new(vec![Vec::<BuildMessage>::new(); builds.len()]);
    let mut on_message = |position: usize, message| match message {
        BuildMessage::Diagnostic(diagnostic) if diagnostic.level != DiagnosticLevel::Error => {
            warnings.borrow_mut()[position].push(BuildMessage::Diagnostic(diagnostic));
        }
        message => send_build_message(events, name(position), message),
    };
    let mut on_built = |position, built: Result<Built, BuildError>| {
        let warnings: Vec<BuildMessage> = std::mem::take(&mut warnings.borrow_mut()[position]);
        if !matches!(&built, Ok(Built { effect: BuildEffect::UpToDate, .. })) {
            for warning in warnings {
                send_build_message(events, name(position), warning);
            }
        }
        let is_served = early.is_some_and(|early| {
            built.as_ref().is_ok_and(|built| early.confirm_build(name(position), built))
        });
        let (outcome, product) = match built {
            Ok(built) => {
                let build_id = built.build_id.to_string();
                let product = product_of(&built, is_served);
                // The session is over when this fails.
                let _ = events.blocking_send(built_event(built, is_served));
                let summary = format!("build {}", format::short_build_id(&build_id));
                (JobOutcome::done(summary), product)
            }
            Err(error) => (error.into(), Product::Nothing),
        };
        let job = Job::BuildPlugin(name(position).clone());
        let _ = report.blocking_send(Report::Built(job, outcome, product));
    };
    build_plugins(&plugins, cancel, &mut on_message, &mut on_built);
}

/// The artifact of a build in the plugin directory.
fn product_of(built: &Built, is_served: bool) -> Product {
    let Some(installed) = &built.installed else { return Product::Nothing };
    Product::Artifact(NewBuild {
        plugin: built.plugin.to_string(),
        build: LastBuild::of(built),
        is_new: installed.is_new,
        is_served,
    })
}

fn built_event(built: Built, is_served: bool) -> SessionEvent {
    SessionEvent::Built {
        not_patched: not_patched(&built),
        path: built.installed.as_ref().map_or(&built.artifact, |it| &it.path).clone(),
        plugin: built.plugin,
        build_id: built.build_id.to_string(),
        warnings: built.warnings,
        effect: built.effect,
        changes: built.changes,
        patchable: built.patch.as_ref().map(Result::is_ok),
        is_served,
        phases: built.phases,
    }
}

/// Sends a message of a build. Waits if events are not read as fast.
fn send_build_message(events: &mpsc::Sender<SessionEvent>, package: &str, message: BuildMessage) {
    let event = match message {
        BuildMessage::Progress { done, total, package } => {
            SessionEvent::JobProgress { done, total, package }
        }
        message => match BuildLine::of(message) {
            Some(line) => SessionEvent::Build { package: package.to_owned(), line },
            None => return,
        },
    };
    // The session is over when this fails; the build ends by itself.
    let _ = events.blocking_send(event);
}
