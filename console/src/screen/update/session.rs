//! The events of the session.

use hotswap_build::SourceChanges;
use hotswap_protocol::{HostInfo, InFlightCall, Snapshot};

use super::{Effect, calls, reloads};
use crate::format;
use crate::host::operation::Operation;
use crate::host::{HostExit, signal_name};
use crate::screen::input::action::Action;
use crate::screen::layout::Tab;
use crate::screen::model::crash::CrashCard;
use crate::screen::model::diff::Diff;
use crate::screen::model::memory::Memory;
use crate::screen::model::overlay::Overlay;
use crate::screen::model::preview::PreviewCard;
use crate::screen::model::{Phase, RunningJob, State};
use crate::session::{BuildEffect, BuildLine, Job, JobOutcome, Order, SessionEvent};

/// The maximum numbers of changed functions, and of other changed items, that are named for one build: in the tab and in
/// a notice.
const MOST_CHANGES_IN_TAB: usize = 20;
const MOST_CHANGES_IN_NOTICE: usize = 2;

pub(super) fn handle(state: &mut State, event: SessionEvent) -> Vec<Effect> {
    let mut effects = vec![Effect::Draw];
    match event {
        event @ SessionEvent::Opened { .. } => opened(state, event),
        SessionEvent::JobStarted { job } => job_started(state, job),
        SessionEvent::JobProgress { done, total, .. } => {
            if let Some(job) = &mut state.job {
                job.progress = Some((done, total));
            }
        }
        SessionEvent::Build { package, line } => {
            if let BuildLine::Diagnostic { level: "error", .. } = &line {
                state.disk.error_found(&package);
            }
            state.builds.push_line(&package, &line);
        }
        SessionEvent::Installed { builds, unusable } => state.disk.installed(builds, unusable),
        event @ SessionEvent::Built { .. } => effects.extend(plugin_built(state, event)),
        SessionEvent::ArtifactRefused { plugin, reason, instead } => {
            artifact_refused(state, &plugin, &reason, instead.as_deref());
        }
        SessionEvent::JobFinished { job, outcome, elapsed_ms } => {
            job_finished(state, &job, outcome, elapsed_ms);
        }
        SessionEvent::HostStarted { pid } => {
            state.host.pid = Some(pid);
            state.host.is_ours = true;
            state.host.is_outdated = false;
            state.host.phase = Phase::Starting;
            another_process(state, state.now_ms, pid);
            marker(state, format!("host started, pid {pid}"));
        }
        SessionEvent::Connected { host } => effects.extend(connected(state, host)),
        SessionEvent::Disconnected { reason } => {
            if state.host.phase == Phase::Connected {
                state.host.phase = Phase::Disconnected;
                state.functions.let_go = std::mem::take(&mut state.functions.held);
                state.notify_failure(format!("connection lost: {reason}"));
            }
        }
        SessionEvent::HostExited { exit, expected, calls } => {
            host_exited(state, exit, expected, calls);
        }
        SessionEvent::SourcesChanged { plugins, saved_at_ms } => {
            for plugin in &plugins {
                state.disk.saved(plugin);
                if state.host.watch.reloads() {
                    state.timeline.saved(plugin, saved_at_ms);
                }
            }
            state.notify_info(format!("sources of {} changed", plugins.join(", ")));
            state.diff.outdate();
        }
        SessionEvent::HostSilent { waited_ms } => warn(state, format::silent_host(waited_ms)),
        SessionEvent::HostStopped { signal } => {
            warn(state, format!("{} stopped the host: it does nothing", signal_name(signal)))
        }
        SessionEvent::HostContinued => {
            marker(state, "the host continues".into());
            state.notify_done("the host continues");
        }
        SessionEvent::HostTerminated { reason } => marker(state, format!("{reason}: SIGTERM")),
        SessionEvent::HostKilled { reason } => warn(state, format!("{reason}: SIGKILL")),
        SessionEvent::HostOutdated { plugins } => {
            state.host.is_outdated = true;
            let shared = match plugins.as_slice() {
                [] => String::new(),
                plugins => format!(", with {}", plugins.join(", ")),
            };
            let restart = state.key_of(&Action::Restart);
            let text = format!(
                "the host is older than its sources{shared}: {restart} builds and restarts it"
            );
            warn(state, text);
        }
        SessionEvent::HostCurrent => {
            state.host.is_outdated = false;
            marker(state, format::HOST_CURRENT.into());
            state.notify_done(format::HOST_CURRENT);
        }
        SessionEvent::ReplayDisagreed { plugin, missed, .. } => {
            warn(state, format::disagreement(&plugin, &missed))
        }
        SessionEvent::EarlyDropped { plugin } => warn(state, format::early_dropped(&plugin)),
        SessionEvent::ReloadWaits { plugins } => reload_waits(state, &plugins),
        SessionEvent::PluginsChanged { added, removed, plugins, plugin_packages } => {
            state.host.packages = plugins;
            state.host.package_dirs = plugin_packages;
            let changes = [("added", added), ("taken off", removed)];
            for (what, names) in changes.iter().filter(|(_, names)| !names.is_empty()) {
                let text = format!("{} {what} in the host's manifest", names.join(", "));
                marker(state, text.clone());
                state.notify_done(text);
            }
        }
        SessionEvent::ManifestsRefused { error } => warn(state, format::manifests_refused(&error)),
        SessionEvent::Watching { mode, error, file_system, .. } => {
            state.host.watch = mode;
            let silent = file_system.map(|kind| {
                format!("the sources are watched; {}", format::silent_file_system(&kind))
            });
            if let Some(text) = error.or(silent) {
                state.notify_warning(text);
            }
        }
        SessionEvent::Patching { on } => patching(state, on),
        SessionEvent::Snapshot(snapshot) => return take_snapshot(state, *snapshot),
        SessionEvent::SameSnapshot => return take_same_snapshot(state),
        SessionEvent::Vault(contents) => {
            let changed = state.vault.update(contents);
            if !changed || !state.shows(Tab::Vault) {
                return Vec::new();
            }
        }
        SessionEvent::Live(contents) => {
            let changed = state.live.update(contents);
            if !changed || !state.shows(Tab::Live) {
                return Vec::new();
            }
        }
        SessionEvent::Preview(preview) => {
            let build = state.key_of(&Action::Build);
            let hint = (!state.host.packages.is_empty())
                .then(|| format!("{build} first builds what was edited since the last build"));
            if let Some(Overlay::Preview(card)) = &mut state.overlay {
                card.take(preview, hint.as_deref());
            }
        }
        SessionEvent::Reloads(reloads) => state.timeline.earlier(reloads.reloads),
        SessionEvent::Replayed(replay) => {
            if let Some(Overlay::Preview(card)) = &mut state.overlay {
                card.take_replay(replay);
            }
        }
        SessionEvent::Difference(difference) => Diff::take(state, &difference),
        SessionEvent::InvokedInBoth { operation, answers } => {
            state.functions.answered_in_both(&operation, *answers);
        }
        SessionEvent::StoredBuilds { plugin, builds } => {
            calls::stored_builds(state, plugin.clone(), &builds);
            if let Some(Overlay::Rollback(rollback)) = &mut state.overlay
                && rollback.plugin == plugin
            {
                rollback.add_stored(builds);
            }
        }
        SessionEvent::Invoked { operation, answer } => {
            effects.extend(calls::answered(state, operation, answer));
        }
        SessionEvent::Pins(Ok(pins)) => state.pins.set(pins.pins),
        // A host of an earlier release has no pins.
        SessionEvent::Pins(Err(_)) => {}
        SessionEvent::NotPinned(error) => {
            state.notify_failure(format!("not pinned: {}", error.message))
        }
        SessionEvent::CallGoesOn { reason } => {
            state.notify_failure(format!("not cancelled: {reason}"))
        }
        SessionEvent::Held { target, answer } => calls::held(state, target, answer),
        SessionEvent::Engine(event) => {
            if let hotswap_protocol::Event::ReloadStarted { .. } = &event {
                // Fetch the Vault from before the reload, to compare later snapshots with it.
                effects.push(Effect::Order(Order::Operate(Operation::Vault)));
            }
            reloads::handle(state, event);
        }
        SessionEvent::Ended { error } => effects.push(Effect::Exit(error)),
    }
    effects
}

fn opened(state: &mut State, event: SessionEvent) {
    let SessionEvent::Opened { name, package_dir, plugin_dir, plugins, plugin_packages } = event
    else {
        return;
    };
    state.host.name = name;
    state.host.dir = package_dir;
    state.host.plugin_dir = plugin_dir;
    state.host.packages = plugins;
    state.host.package_dirs = plugin_packages;
    if !state.host.packages.is_empty() {
        state.tab = Tab::Build;
        state.tab_to_return_to = Some(Tab::Functions);
    }
    Memory::recall(state);
}

fn plugin_built(state: &mut State, event: SessionEvent) -> Option<Effect> {
    let SessionEvent::Built {
        plugin,
        build_id,
        warnings,
        effect,
        changes,
        patchable,
        not_patched,
        is_served,
        phases,
        ..
    } = event
    else {
        return None;
    };
    let changes = changes.unwrap_or_default();
    let functions = changes.functions.iter().map(|function| function.name.as_str());
    state.plugins.built(&plugin, functions, is_served);
    let all = format::source_changes(&changes, MOST_CHANGES_IN_TAB);
    if !all.is_empty() {
        state.builds.push_note(&plugin, &format!("changed: {all}"));
    }
    if let Some(patch) = format::patchable(patchable, not_patched.as_deref()) {
        state.builds.push_note(&plugin, &patch);
    }
    state.disk.built(&plugin, &build_id, warnings);
    state.timeline.built(&plugin, &build_id);
    // If the build serves already, the report of the reload says more.
    if !is_served {
        let notice = build_notice(state, &plugin, &build_id, effect, warnings, &changes);
        state.notify_done(notice);
    }
    state.diff.outdate();
    if effect != BuildEffect::NewCode || is_served {
        return None;
    }
    state.timeline.timed(&plugin, phases);
    matches!(state.overlay, Some(Overlay::Preview(_))).then_some(Effect::Order(Order::Preview))
}

/// For example `world built (7f3a90, 2 warnings; changed: greet); p preview, r reload`.
fn build_notice(
    state: &State,
    plugin: &str,
    build_id: &str,
    effect: BuildEffect,
    warnings: usize,
    changes: &SourceChanges,
) -> String {
    let done = match effect {
        BuildEffect::NewCode => "built",
        BuildEffect::SameCode if state.plugins.serves(plugin, build_id) => {
            "saved, same machine code, nothing to reload"
        }
        // Somebody else has just made the same build.
        BuildEffect::SameCode | BuildEffect::UpToDate => "is up to date",
    };
    let build_id = format::short_build_id(build_id);
    let warnings = match warnings {
        0 => String::new(),
        count => format!(", {}", format::counted(count as u64, "warning", "warnings")),
    };
    let changed = match format::source_changes(changes, MOST_CHANGES_IN_NOTICE) {
        changes if changes.is_empty() => changes,
        changes => format!("; changed: {changes}"),
    };
    let offer = match effect {
        BuildEffect::NewCode if !state.host.watch.reloads() => offer_to_reload(state),
        _ => String::new(),
    };
    format!("{plugin} {done} ({build_id}{warnings}{changed}){offer}")
}

fn artifact_refused(state: &mut State, plugin: &str, reason: &str, instead: Option<&str>) {
    let what_next = match instead {
        Some(build_id) => {
            format!("build {} is there instead", format::short_build_id(build_id))
        }
        None => format!("{} builds it", state.key_of(&Action::Build)),
    };
    let text = format!("the artifact of {plugin} was refused; {what_next}");
    marker(state, text.clone());
    for line in reason.lines() {
        marker(state, format!("  {line}"));
    }
    state.notify_warning(text);
}

fn connected(state: &mut State, host: HostInfo) -> Vec<Effect> {
    if state.host.phase == Phase::Ended {
        another_process(state, host.started_at_ms, host.pid);
        marker(state, format!("host came back, pid {}", host.pid));
        state.notify_done(format!("{} came back, pid {}", host.name, host.pid));
    }
    state.host.phase = Phase::Connected;
    state.logs.await_records(state.now_ms);
    state.host.pid = Some(host.pid);
    state.host.info = Some(host);
    return_to_tab(state);
    // The new connection holds nothing yet.
    let holds = std::mem::take(&mut state.functions.let_go).into_iter().map(Order::Hold);
    let orders = holds.chain([Order::Operate(Operation::Pins)]);
    orders.map(Effect::Order).collect()
}

fn reload_waits(state: &mut State, plugins: &[String]) {
    let [preview, reload] =
        [Action::Preview, Action::Operate(Operation::Reload)].map(|action| state.key_of(&action));
    let text = format!(
        "{} would break code that uses it, so the reload waits: {preview} shows what breaks, {reload} reloads",
        plugins.join(", ")
    );
    warn(state, text);
    // A person who types or looks at something is not interrupted.
    let is_free = state.overlay.is_none() && state.searching.is_none();
    if is_free && state.functions.form.is_none() {
        state.overlay = Some(Overlay::Preview(PreviewCard::default()));
    }
}

fn patching(state: &mut State, on: bool) {
    let was_whole = std::mem::replace(&mut state.host.loads_whole, !on);
    match on {
        false => state.notify_info("patches off: each build is loaded as a whole"),
        true if was_whole => {
            state.notify_info(
                "patches on: a version is patched if only bodies of functions changed",
            );
        }
        true => {}
    }
}

/// Shows a warning as a notice, and keeps it in the log.
fn warn(state: &mut State, text: String) {
    marker(state, text.clone());
    state.notify_warning(text);
}

/// The keys that use a build which is not reloaded automatically: `; p preview, r reload`
fn offer_to_reload(state: &State) -> String {
    let keys = [(Action::Preview, "preview"), (Action::Operate(Operation::Reload), "reload")];
    let offers = keys
        .iter()
        .filter_map(|(action, hint)| Some(format!("{} {hint}", state.keymap.label_of(action)?)));
    let offers: Vec<_> = offers.collect();
    if state.host.phase != Phase::Connected || offers.is_empty() {
        return String::new();
    }
    format!("; {}", offers.join(", "))
}

fn job_started(state: &mut State, job: Job) {
    if let Job::BuildPlugin(package) = &job {
        state.disk.build_began(package);
    }
    if let Job::BuildHost | Job::BuildPlugin(_) = &job {
        let title = match &job {
            Job::BuildPlugin(package) => format!("build {package}"),
            _ => format!("build {}", state.host.name),
        };
        state.builds.begin(&job, &title);
    }
    match &mut state.job {
        Some(running) if job.is_plugin_build() && running.jobs.iter().all(Job::is_plugin_build) => {
            running.jobs.push(job);
        }
        _ => {
            let started_ms = state.now_ms;
            state.job = Some(RunningJob { jobs: vec![job], started_ms, progress: None });
        }
    }
}

/// Removes the job that ended; parallel ones go on.
fn remove_job(state: &mut State, job: &Job) {
    let Some(running) = &mut state.job else { return };
    if running.jobs.first() == Some(job) {
        running.progress = None;
    }
    running.jobs.retain(|other| other != job);
    if running.jobs.is_empty() {
        state.job = None;
    }
}

fn job_finished(state: &mut State, job: &Job, outcome: JobOutcome, elapsed_ms: u64) {
    remove_job(state, job);
    let elapsed = format::microseconds(elapsed_ms * 1000);
    if let Job::BuildPlugin(package) = job {
        match outcome {
            JobOutcome::Done { .. } => state.disk.build_succeeded(package),
            JobOutcome::Failed { .. } => state.disk.build_failed(package),
            JobOutcome::Cancelled => state.disk.build_cancelled(package),
        }
    }
    if let Job::BuildHost | Job::BuildPlugin(_) = job {
        let failed = matches!(outcome, JobOutcome::Failed { .. });
        let end = match &outcome {
            JobOutcome::Done { .. } => format!("{job}: done in {elapsed}"),
            JobOutcome::Failed { error } => {
                let error = format::in_one_line(&error.to_string());
                format!("{job}: failed after {elapsed}: {error}")
            }
            JobOutcome::Cancelled => format!("{job}: cancelled after {elapsed}"),
        };
        state.builds.end(job, &end, failed);
        if failed && state.functions.form.is_none() && state.tab != Tab::Build {
            state.tab_to_return_to = Some(state.tab);
            state.tab = Tab::Build;
        } else if state.host.phase == Phase::Connected {
            return_to_tab(state);
        }
    }
    match outcome {
        JobOutcome::Failed { error } => {
            // The engine sends its own event for a load that failed in a step.
            let lines = error.to_string();
            for line in lines.lines().filter(|_| error.step.is_none()) {
                marker(state, line.to_owned());
            }
            state.notify_failure(format!("{job} failed: {}", error.message));
        }
        JobOutcome::Cancelled => state.notify_info(format!("{job} cancelled")),
        JobOutcome::Done { summary } => match job {
            Job::Free(_) => state.notify_done(summary),
            Job::BuildHost => state.notify_done(format!("{} built in {elapsed}", state.host.name)),
            // The events of these jobs say more.
            _ => {}
        },
    }
}

/// Leaves the Build tab again, if the console itself showed it and all builds succeeded.
fn return_to_tab(state: &mut State) {
    if state.builds.all_well()
        && let Some(tab) = state.tab_to_return_to.take()
    {
        state.tab = tab;
    }
}

/// Forgets the state of the last process: versions of the new one count from 1.
fn another_process(state: &mut State, began_ms: u64, pid: u32) {
    state.plugins.clear();
    state.timeline.host_began(began_ms, pid);
    state.functions.held.clear();
    state.functions.let_go.clear();
    state.pins.keep_for_new_process();
    state.vault.clear();
    state.live.clear();
    state.serving.forget();
    state.diff.outdate();
    state.overlay = state.overlay.take().filter(|it| !matches!(it, Overlay::HostEnded(_)));
}

fn host_exited(
    state: &mut State,
    exit: HostExit,
    expected: bool,
    calls: Option<Vec<InFlightCall>>,
) {
    state.host.phase = Phase::Ended;
    state.host.info = None;
    let pid = state.host.pid.take();
    marker(state, format!("host ended: {exit}"));
    if expected {
        state.plugins.clear();
    } else if !state.quitting {
        state.functions.form = None;
        state.overlay = Some(Overlay::HostEnded(CrashCard::of(state, exit, pid, calls)));
        state.plugins.end();
        state.notify_failure(format!("the host ended: {exit}"));
    }
}

fn take_snapshot(state: &mut State, snapshot: Snapshot) -> Vec<Effect> {
    let mut effects = request_live_tables(state);
    let generation_changed = state.host.generation != snapshot.generation;
    // The Vault of each generation is fetched once, so that there is one to compare with.
    let is_outdated = state.shows(Tab::Vault) && state.vault.is_outdated(snapshot.vault_changes);
    if is_outdated || generation_changed {
        effects.push(Effect::Order(Order::Operate(Operation::Vault)));
    }
    state.host.generation = snapshot.generation;
    if let Some(host) = &mut state.host.info
        && host.agent != snapshot.host.agent
    {
        host.agent = snapshot.host.agent;
        effects.push(Effect::Draw);
    }
    let pins = state.pins.take_pins_to_restore(&snapshot.plugins).into_iter();
    effects.extend(pins.map(|pin| Effect::Order(Order::Operate(Operation::Pin(pin)))));
    state.timeline.record_snapshot(state.now_ms, &snapshot.plugins);
    state.serving.record_snapshot(state.now_ms, &snapshot.plugins);
    let function = selected_function(state);
    if state.plugins.update(state.now_ms, snapshot.plugins) || generation_changed {
        effects.push(Effect::Draw);
    }
    select_function(state, function);
    effects
}

fn take_same_snapshot(state: &mut State) -> Vec<Effect> {
    let mut effects = request_live_tables(state);
    if state.plugins.sample(state.now_ms) {
        effects.push(Effect::Draw);
    }
    effects
}

/// Fetches the live tables if they are in sight. The engine's state does not say whether they changed.
fn request_live_tables(state: &State) -> Vec<Effect> {
    let request = state.shows(Tab::Live).then(|| Effect::Order(Order::Operate(Operation::Live)));
    request.into_iter().collect()
}

fn selected_function(state: &State) -> Option<String> {
    let functions = state.plugins.functions();
    functions.get(state.functions.selected).map(|function| function.name.clone())
}

/// Selects a function by its name, because another version may have other functions before it.
fn select_function(state: &mut State, name: Option<String>) {
    let functions = state.plugins.functions();
    if let Some(place) = functions.iter().position(|function| Some(&function.name) == name.as_ref())
    {
        state.functions.selected = place;
    }
}

fn marker(state: &mut State, text: String) {
    state.logs.push_marker(state.now_ms, text);
}
