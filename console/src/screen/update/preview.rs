//! Differences, and the preview of a reload.

use crossterm::event::{KeyCode, KeyEvent};

use super::{Effect, act, keys};
use crate::host::operation::Operation;
use crate::screen::input::action::{Action, Motion};
use crate::screen::layout::{Panel, Tab};
use crate::screen::model::diff::Diff;
use crate::screen::model::overlay::Overlay;
use crate::screen::model::preview::{PreviewCard, Replaying};
use crate::screen::model::{Phase, State};
use crate::session::Order;

/// Requests the preview: the new artifacts are opened and compared.
pub(super) fn open(state: &mut State) -> Vec<Effect> {
    if state.host.phase != Phase::Connected {
        state.notify_failure("no host is connected");
        return Vec::new();
    }
    state.overlay = Some(Overlay::Preview(PreviewCard::default()));
    vec![Effect::Order(Order::Preview)]
}

/// Handles a key while the preview is open.
pub(super) fn press(state: &mut State, mut card: PreviewCard, key: KeyEvent) -> Vec<Effect> {
    if key.code == KeyCode::Char('y') && card.lines.is_some() {
        let text = card.text();
        state.notify_done("copied");
        state.overlay = Some(Overlay::Preview(card));
        return vec![Effect::Copy(text)];
    }
    match keys::asked(state, key) {
        Some(Action::Pin) if card.can_replay() => {
            card.replay = Replaying::Runs;
            // The new lines come at the end.
            card.move_by(Motion::Last, state.size);
            state.overlay = Some(Overlay::Preview(card));
            return vec![Effect::Order(Order::Replay)];
        }
        Some(Action::Operate(Operation::Reload)) if card.can_reload => {
            return act(state, Action::Operate(Operation::Reload));
        }
        Some(Action::Back | Action::Quit | Action::Preview | Action::Details) => return Vec::new(),
        Some(Action::Move(motion)) => card.move_by(motion, state.size),
        _ => {}
    }
    state.overlay = Some(Overlay::Preview(card));
    Vec::new()
}

/// Requests the difference for the Diff tab, if it is in sight and not known yet.
pub(super) fn refresh(state: &mut State) -> Option<Effect> {
    if !state.shows(Tab::Diff) || state.host.phase == Phase::Starting {
        return None;
    }
    Diff::ask(state).map(|request| Effect::Order(Order::Compare(request)))
}

/// Makes the selected version the base of comparisons, or removes it as the base.
pub(super) fn choose_base(state: &mut State) {
    let Some(row) = state.plugins.selected() else {
        return state.notify_failure("no version is selected");
    };
    let (plugin, version) = (row.plugin.name.clone(), row.version.version);
    if state.diff.set_base(&plugin, version) {
        state.notify_info(format!(
            "select another version of {plugin} to compare it with v{version}"
        ));
    } else {
        state.notify_info(format!("{plugin} v{version} is no longer compared with"));
    }
    state.tab = Tab::Diff;
    state.tab_to_return_to = None;
    if state.layout().tabs.is_none() {
        state.focus = Panel::Tabs;
    }
}
