//! The search in the Build, Timeline, Diff and Fleet tabs.

use super::State;
use crate::format;
use crate::screen::layout::{Panel, Tab};

/// The direction of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From the selected line, which may match itself.
    Here,
    /// After the selected line.
    Forward,
    /// Before the selected line.
    Backward,
}

/// Selects a line that contains the search text, wraps around, and reports the number of the match.
pub(super) fn find(state: &mut State, way: Way) {
    if state.sought.is_empty() {
        return;
    }
    let places = places(state);
    let from = selected(state);
    let found = match way {
        Way::Here => places.iter().position(|it| *it >= from).unwrap_or(0),
        Way::Forward => places.iter().position(|it| *it > from).unwrap_or(0),
        Way::Backward => {
            let earlier = places.iter().rposition(|it| *it < from);
            earlier.unwrap_or(places.len().saturating_sub(1))
        }
    };
    let Some(place) = places.get(found) else {
        return state.notify_info(format!("no line contains “{}”", state.sought));
    };
    select(state, *place);
    let [which, count] = [found + 1, places.len()].map(|it| format::thousands(it as u64));
    state.notify_info(format!("{which} of {count}"));
}

/// The positions of the lines that contain the search text, without regard to case.
fn places(state: &State) -> Vec<usize> {
    let sought = state.sought.to_lowercase();
    let has = |text: &str| text.to_lowercase().contains(&sought);
    let texts: Vec<String> = match state.tab {
        Tab::Build => {
            let lines = state.builds.lines().iter();
            lines.map(|line| strip_ansi_escapes::strip_str(&line.text)).collect()
        }
        Tab::Diff => {
            let lines = state.diff.lines().unwrap_or_default().iter();
            lines.map(|line| line.text.clone()).collect()
        }
        Tab::Timeline => {
            let reloads = state.timeline.reloads().iter();
            let text = |reload: &crate::screen::model::timeline::Reload| match &reload.result {
                Ok(done) => format!("{} {}", reload.title(), done.summary),
                Err(error) => format!("{} {error}", reload.title()),
            };
            reloads.map(text).collect()
        }
        Tab::Fleet => {
            let hosts = state.fleet.hosts(state.now_ms);
            hosts.iter().map(|host| host.text()).collect()
        }
        Tab::Functions | Tab::Vault | Tab::Live => Vec::new(),
    };
    (0..texts.len()).filter(|it| has(&texts[*it])).collect()
}

fn selected(state: &State) -> usize {
    match state.tab {
        Tab::Build => state.builds.selected().unwrap_or(0),
        Tab::Diff => state.diff.selected(),
        Tab::Fleet => state.fleet.selected(state.now_ms),
        _ => state.timeline.selected(),
    }
}

fn select(state: &mut State, line: usize) {
    let page = state.layout().page(Panel::Tabs);
    match state.tab {
        Tab::Build => state.builds.select(line, page),
        Tab::Diff => state.diff.select(line, page),
        Tab::Fleet => state.fleet.select(line, state.now_ms),
        _ => state.timeline.select(line),
    }
}
