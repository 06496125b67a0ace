//! What the engine tells of reloads and of versions.

use hotswap_protocol::{Event, Outcome, ReloadReport, VersionState};

use crate::format;
use crate::state::State;
use crate::state::timeline::Reload;

/// A marker in the log has one line; this many phases fit on it.
const PHASES_TOLD: usize = 4;

pub(super) fn happened(state: &mut State, event: Event) {
    match event {
        Event::ReloadFinished { at_ms, report } => finished(state, at_ms, report),
        Event::ReloadFailed { at_ms, error } => {
            state.complain(format!("reload failed: {}", error.message));
            let step = error.step.as_ref().map_or_else(String::new, |step| format!(" in {step}"));
            for line in format!("reload failed{step}: {error}").lines() {
                state.logs.push_marker(at_ms, line.to_owned());
            }
            state.timeline.failed(at_ms, error);
        }
        Event::VersionChanged { at_ms, plugin, version, state: entered, detail } => {
            let name = (plugin.as_str(), version);
            state.timeline.version_changed(at_ms, name, entered, &detail);
            if matches!(entered, VersionState::Freed | VersionState::Kept | VersionState::Failed) {
                state.logs.push_marker(at_ms, format!("{plugin} v{version}  {detail}"));
            }
        }
        Event::ShuttingDown { at_ms } => {
            state.logs.push_marker(at_ms, "the engine shuts down".into());
        }
        _ => {}
    }
}

fn finished(state: &mut State, at_ms: u64, report: ReloadReport) {
    let changes = changes(state, &report);
    if changes.is_empty() {
        return state.say("reloaded: nothing changed");
    }
    let summary = changes.join(", ");
    let first = report.plugins.iter().all(|plugin| plugin.outcome == Outcome::Added);
    let verb = if first { "loaded" } else { "reloaded" };
    state.say(format!("{verb}: {summary}"));
    let text = marker(state.timeline.finished(at_ms, summary, report));
    state.logs.push_marker(at_ms, text);
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

/// `reload 12  world v2 → v3  41 ms  (build 170 ms, stage 2.0 ms, open 3.1 ms)`
fn marker(reload: &Reload) -> String {
    let summary = reload.result.as_ref().map_or("", |done| done.summary.as_str());
    let elapsed = reload.elapsed_us.map(format::microseconds).unwrap_or_default();
    let phases = reload.phases_by_name();
    // The longest of them, in their order.
    let mut longest: Vec<u64> = phases.iter().map(|(_, elapsed_us)| *elapsed_us).collect();
    longest.sort_unstable_by(|a, b| b.cmp(a));
    let least = longest.get(PHASES_TOLD - 1).copied().unwrap_or(0);
    let told: Vec<String> = phases
        .iter()
        .filter(|(_, elapsed_us)| *elapsed_us >= least)
        .take(PHASES_TOLD)
        .map(|(name, elapsed_us)| format!("{name} {}", format::microseconds(*elapsed_us)))
        .collect();
    let told = if told.is_empty() { String::new() } else { format!("  ({})", told.join(", ")) };
    format!("{}  {summary}  {elapsed}{told}", reload.title())
}
