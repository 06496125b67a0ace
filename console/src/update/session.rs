//! What the session tells.

use hotswap_protocol::{Event as EngineEvent, Outcome, ReloadReport, Snapshot, VersionState};

use super::Effect;
use crate::format;
use crate::operation::Operation;
use crate::session::{HostExit, Job, JobOutcome, Order, SessionEvent};
use crate::state::overlay::Overlay;
use crate::state::{Phase, RunningJob, State, Tab};

/// A marker in the log has one line; this many phases fit on it.
const PHASES_TOLD: usize = 3;

pub(super) fn happened(state: &mut State, event: SessionEvent) -> Vec<Effect> {
    let mut effects = vec![Effect::Draw];
    match event {
        SessionEvent::Opened { name, plugin_dir, plugins } => {
            state.host.name = name;
            state.host.plugin_dir = plugin_dir;
            state.host.packages = plugins;
            if !state.host.packages.is_empty() {
                state.tab = Tab::Build;
                state.tab_to_return_to = Some(Tab::Functions);
            }
        }
        SessionEvent::JobStarted { job } => job_started(state, job),
        SessionEvent::JobProgress { done, total, .. } => {
            if let Some(job) = &mut state.job {
                job.progress = Some((done, total));
            }
        }
        SessionEvent::Build { line, .. } => state.builds.push_line(&line),
        SessionEvent::Built { plugin, build_id, warnings, .. } => {
            let build_id = format::short_build_id(&build_id);
            let warnings = match warnings {
                0 => String::new(),
                1 => ", 1 warning".into(),
                count => format!(", {count} warnings"),
            };
            state.say(format!("{plugin} built ({build_id}{warnings})"));
        }
        SessionEvent::JobFinished { job, outcome, elapsed_ms } => {
            job_finished(state, &job, outcome, elapsed_ms);
        }
        SessionEvent::HostStarted { pid } => {
            state.host.pid = Some(pid);
            state.host.is_ours = true;
            state.host.phase = Phase::Starting;
            state.plugins.clear();
            state.overlay =
                state.overlay.take().filter(|it| !matches!(it, Overlay::HostEnded { .. }));
            marker(state, format!("host started, pid {pid}"));
        }
        SessionEvent::Connected { host } => {
            state.host.phase = Phase::Connected;
            state.host.pid = Some(host.pid);
            state.host.info = Some(host);
            return_to_tab(state);
        }
        SessionEvent::Disconnected { reason } => {
            if state.host.phase == Phase::Connected {
                state.host.phase = Phase::Disconnected;
                state.complain(format!("connection lost: {reason}"));
            }
        }
        SessionEvent::HostExited { exit, expected } => host_exited(state, exit, expected),
        SessionEvent::SourcesChanged { plugins } => {
            state.say(format!("sources of {} changed", plugins.join(", ")));
        }
        SessionEvent::Watching { on, error } => {
            state.host.watching = on;
            if let Some(error) = error {
                state.complain(error);
            }
        }
        SessionEvent::Snapshot(snapshot) => return take_snapshot(state, *snapshot),
        SessionEvent::Vault(contents) => {
            if state.vault.contents.as_ref() == Some(&contents) {
                return Vec::new();
            }
            state.vault.contents = Some(contents);
        }
        SessionEvent::StoredBuilds { plugin, builds } => {
            if let Some(Overlay::Rollback(rollback)) = &mut state.overlay
                && rollback.plugin == plugin
            {
                rollback.add_stored(builds);
            }
        }
        SessionEvent::Invoked { operation, answer } => {
            state.functions.answered(&operation, answer);
        }
        SessionEvent::Engine(event) => engine_event(state, event),
        SessionEvent::Ended { error } => effects.push(Effect::Exit(error)),
    }
    effects
}

fn job_started(state: &mut State, job: Job) {
    if let Job::BuildHost | Job::BuildPlugin(_) = &job {
        let title = match &job {
            Job::BuildPlugin(package) => format!("build {package}"),
            _ => format!("build {}", state.host.name),
        };
        state.builds.begin(&job, &title);
    }
    state.job = Some(RunningJob { job, started_ms: state.now_ms, progress: None });
}

fn job_finished(state: &mut State, job: &Job, outcome: JobOutcome, elapsed_ms: u64) {
    state.job = None;
    let elapsed = format::microseconds(elapsed_ms * 1000);
    if let Job::BuildHost | Job::BuildPlugin(_) = job {
        let failed = matches!(outcome, JobOutcome::Failed { .. });
        let end = match &outcome {
            JobOutcome::Done { .. } => format!("done in {elapsed}"),
            JobOutcome::Failed { error } => format!("failed after {elapsed}: {error}"),
            JobOutcome::Cancelled => format!("cancelled after {elapsed}"),
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
            for line in error.to_string().lines() {
                marker(state, line.to_owned());
            }
            state.complain(format!("{job} failed: {}", error.message));
        }
        JobOutcome::Cancelled => state.say(format!("{job} cancelled")),
        JobOutcome::Done { summary } => match job {
            Job::Free(_) => state.say(summary),
            Job::BuildHost => state.say(format!("{} built in {elapsed}", state.host.name)),
            // The event that each of these causes says more.
            _ => {}
        },
    }
}

/// Leaves the Build tab again, where it came to the front by itself and all is well.
fn return_to_tab(state: &mut State) {
    if state.builds.all_well()
        && let Some(tab) = state.tab_to_return_to.take()
    {
        state.tab = tab;
    }
}

fn host_exited(state: &mut State, exit: HostExit, expected: bool) {
    state.host.phase = Phase::Ended;
    state.host.info = None;
    let pid = state.host.pid.take();
    marker(state, format!("host ended: {exit}"));
    if expected {
        state.plugins.clear();
    } else if !state.quitting {
        state.functions.form = None;
        state.overlay = Some(Overlay::HostEnded { exit, pid });
        state.complain(format!("the host ended: {exit}"));
    }
}

fn take_snapshot(state: &mut State, snapshot: Snapshot) -> Vec<Effect> {
    let mut effects = Vec::new();
    if state.tab == Tab::Vault && state.layout().tabs.is_some() {
        effects.push(Effect::Order(Order::Operate(Operation::Vault)));
    }
    let generation_changed = state.host.generation != snapshot.generation;
    state.host.generation = snapshot.generation;
    if state.plugins.update(snapshot.plugins) || generation_changed {
        effects.push(Effect::Draw);
    }
    effects
}

fn engine_event(state: &mut State, event: EngineEvent) {
    match event {
        EngineEvent::ReloadFinished { at_ms, report } => {
            let changes = changes(state, &report);
            if changes.is_empty() {
                return state.say("reloaded: nothing changed");
            }
            let first = report.plugins.iter().all(|plugin| plugin.outcome == Outcome::Added);
            let verb = if first { "loaded" } else { "reloaded" };
            state.say(format!("{verb}: {}", changes.join(", ")));
            let elapsed = format::microseconds(report.elapsed_us);
            let text = format!(
                "generation {}  {}  {elapsed}{}",
                report.generation,
                changes.join(", "),
                phases(&report)
            );
            state.logs.push_marker(at_ms, text);
        }
        EngineEvent::ReloadFailed { at_ms, error } => {
            state.complain(format!("reload failed: {}", error.message));
            for line in format!("reload failed: {error}").lines() {
                state.logs.push_marker(at_ms, line.to_owned());
            }
        }
        EngineEvent::VersionChanged {
            at_ms,
            plugin,
            version,
            state: VersionState::Freed | VersionState::Kept | VersionState::Failed,
            detail,
        } => state.logs.push_marker(at_ms, format!("{plugin} v{version}  {detail}")),
        EngineEvent::ShuttingDown { at_ms } => {
            state.logs.push_marker(at_ms, "the engine shuts down".into());
        }
        _ => {}
    }
}

/// `world v2 → v3`, for each plugin that the reload did something to.
fn changes(state: &State, report: &ReloadReport) -> Vec<String> {
    let before = |name: &str| {
        let plugin = state.plugins.list().iter().find(|plugin| plugin.name == name)?;
        let active = plugin.versions.iter().find(|it| it.state == VersionState::Active)?;
        Some(active.version)
    };
    let changed = report.plugins.iter().filter(|plugin| plugin.outcome != Outcome::Unchanged);
    changed
        .map(|plugin| match (plugin.outcome, plugin.version) {
            (Outcome::Ok | Outcome::Rebound, Some(now)) => match before(&plugin.name) {
                Some(old) if old != now => format!("{} v{old} → v{now}", plugin.name),
                _ => format!("{} v{now}", plugin.name),
            },
            (Outcome::Added, Some(now)) => format!("{} v{now}", plugin.name),
            (outcome, _) => format!("{} {outcome}", plugin.name),
        })
        .collect()
}

/// `  (stage 2 ms, open 300 µs)`: the phases that took longest, over all plugins.
fn phases(report: &ReloadReport) -> String {
    let mut sums: Vec<(&str, u64)> = Vec::new();
    for timing in &report.phases {
        match sums.iter_mut().find(|(phase, _)| *phase == timing.phase) {
            Some((_, sum)) => *sum += timing.elapsed_us,
            None => sums.push((&timing.phase, timing.elapsed_us)),
        }
    }
    sums.sort_by_key(|(_, elapsed_us)| std::cmp::Reverse(*elapsed_us));
    let told: Vec<String> = sums
        .into_iter()
        .take(PHASES_TOLD)
        .map(|(phase, elapsed_us)| format!("{phase} {}", format::microseconds(elapsed_us)))
        .collect();
    if told.is_empty() { String::new() } else { format!("  ({})", told.join(", ")) }
}

fn marker(state: &mut State, text: String) {
    state.logs.push_marker(state.now_ms, text);
}
