//! The engine's events about reloads and versions.

use hotswap_protocol::{Event, Outcome, ReloadReport, VersionState, version_label};

use super::pins;
use crate::format;
use crate::screen::input::action::Action;
use crate::screen::model::State;
use crate::screen::model::timeline::{self, Reload};

/// The number of phases that fit into a marker in the log, which has one line.
const PHASES_IN_MARKER: usize = 4;

pub(super) fn handle(state: &mut State, event: Event) {
    match event {
        Event::ReloadFinished { at_ms, report } => finished(state, at_ms, report),
        Event::ReloadFailed { at_ms, error } => {
            state.notify_failure(format!("reload failed: {}", error.message));
            let step = error.step.as_ref().map_or_else(String::new, |step| format!(" in {step}"));
            for line in format!("reload failed{step}: {error}").lines() {
                state.logs.push_marker(at_ms, line.to_owned());
            }
            state.timeline.failed(at_ms, error);
        }
        Event::VersionChanged { at_ms, plugin, version, state: entered, detail, .. } => {
            let name = (plugin.as_str(), version);
            state.timeline.version_changed(at_ms, name, entered, &detail);
            let is_end =
                matches!(entered, VersionState::Freed | VersionState::Kept | VersionState::Failed);
            // A failed load causes this event twice: when it fails, and when its versions are freed.
            if is_end && state.timeline.is_new_end(&plugin, version, entered) {
                state.logs.push_marker(at_ms, format!("{plugin} v{version}  {detail}"));
            }
        }
        Event::FirstCall { plugin, version, patch, elapsed_us, .. } => {
            state.timeline.first_called(&plugin, (version, patch), elapsed_us);
        }
        Event::FirstFailure { at_ms, plugin, version, patch, failure } => {
            let (function, message) = (failure.function, failure.message);
            let label = version_label(version, patch);
            let text =
                format!("{plugin} {label} failed for the first time, in {function}: {message}");
            state.logs.push_marker(at_ms, text);
        }
        Event::GuardTripped(trip) => {
            let text = format::guard_trip(&trip);
            state.notify_failure(text.clone());
            state.logs.push_marker(trip.at_ms, text);
        }
        Event::PinCalled { at_ms, pin } => pins::called(state, at_ms, *pin),
        Event::Unpinned { id, .. } => pins::unpinned(state, id),
        Event::ShuttingDown { at_ms } => {
            state.logs.push_marker(at_ms, "the engine shuts down".into());
        }
        _ => {}
    }
}

fn finished(state: &mut State, at_ms: u64, report: ReloadReport) {
    state.vault.reloaded(report.generation, &report.data_bag);
    let serving = |plugin: &str| state.timeline.serving(plugin);
    let changes: Vec<String> =
        report.plugins.iter().filter_map(|plugin| timeline::change(plugin, serving)).collect();
    if changes.is_empty() {
        let why = left_alone(state, &report);
        let text = if why.is_empty() { "nothing to reload".to_owned() } else { why.join("; ") };
        return state.notify_info(text);
    }
    let summary = changes.join(", ");
    let first = report.plugins.iter().all(|plugin| plugin.outcome == Outcome::Added);
    let (verb, then) = match (&report.rolled_back, first) {
        (Some(_), _) => ("rolled back", release_hint(state)),
        (None, true) => ("loaded", String::new()),
        (None, false) => ("reloaded", String::new()),
    };
    let mut parts = vec![format!("{verb}: {summary}{then}")];
    parts.extend(timeline::not_patched(&report));
    parts.extend(left_alone(state, &report));
    state.notify_done(parts.join("; "));
    let text = marker(state.timeline.finished(at_ms, summary, report));
    state.logs.push_marker(at_ms, text);
}

/// The plugins that were not reloaded although their artifact is another one or gone, each with what would change that.
fn left_alone(state: &State, report: &ReloadReport) -> Vec<String> {
    let of = |outcome| report.plugins.iter().filter(move |plugin| plugin.outcome == outcome);
    let names = |outcome| {
        let names: Vec<&str> = of(outcome).map(|plugin| plugin.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let mut texts: Vec<String> = of(Outcome::Held)
        .map(|plugin| {
            let to = state.plugins.rolled_back_to(&plugin.name);
            let to = to.map_or_else(String::new, |version| format!(" to v{version}'s build"));
            format!("{} stays rolled back{to}{}", plugin.name, release_hint(state))
        })
        .collect();
    let not_reloadable = names(Outcome::NotReloadable);
    texts.extend(not_reloadable.map(|it| format!("{it} does not allow a reload")));
    let missing = names(Outcome::Missing);
    texts.extend(missing.map(|it| format!("{it} stays, though its artifact is gone")));
    texts
}

/// `, L lets go`: the hint after a rollback.
fn release_hint(state: &State) -> String {
    format!(", {} lets go", state.key_of(&Action::LET_GO))
}

/// The marker of a reload: `reload 12  world v2 → v3  41 ms  (build 170 ms, stage 2.0 ms, open 3.1 ms)`
fn marker(reload: &Reload) -> String {
    let summary = reload.result.as_ref().map_or("", |done| done.summary.as_str());
    let reloaded = reload.elapsed_us.map(format::microseconds).unwrap_or_default();
    let elapsed = reload.live_ms.map_or(reloaded, format::live_after_save);
    let phases = reload.phases_by_name();
    // The longest phases, in their order.
    let mut longest: Vec<u64> = phases.iter().map(|(_, elapsed_us)| *elapsed_us).collect();
    longest.sort_unstable_by(|a, b| b.cmp(a));
    let least = longest.get(PHASES_IN_MARKER - 1).copied().unwrap_or(0);
    let named: Vec<String> = phases
        .iter()
        .filter(|(_, elapsed_us)| *elapsed_us >= least)
        .take(PHASES_IN_MARKER)
        .map(|(part, elapsed_us)| {
            format!("{} {}", part.as_str(), format::microseconds(*elapsed_us))
        })
        .collect();
    let verb = if reload.is_rollback() { "  rolled back" } else { "" };
    let named = if named.is_empty() { String::new() } else { format!("  ({})", named.join(", ")) };
    // The reasons come last, because a narrow screen cuts the end of the line.
    let report = reload.result.as_ref().ok().map(|done| &done.report);
    let why: Vec<String> = report.into_iter().flat_map(timeline::not_patched).collect();
    let why = if why.is_empty() { String::new() } else { format!("  {}", why.join("; ")) };
    format!("{}{verb}  {summary}  {elapsed}{named}{why}", reload.title())
}
