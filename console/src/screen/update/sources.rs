//! Jumps to places in the sources.

use super::Effect;
use crate::screen::input::action::Action;
use crate::screen::layout::{Panel, Tab};
use crate::screen::model::State;

/// Opens the place of the selected line of a difference, of a build's output or of the log.
pub(super) fn edit(state: &mut State) -> Vec<Effect> {
    let place = match state.tab {
        _ if state.focus == Panel::Logs => state.logs.selected().and_then(|row| row.origin.place()),
        Tab::Diff => state.diff.place(),
        _ => state.builds.diagnostic().and_then(|it| it.place.as_ref()),
    };
    let Some(place) = place.cloned() else {
        state.notify_info(why_nowhere(state));
        return Vec::new();
    };
    vec![Effect::Edit(place)]
}

fn why_nowhere(state: &State) -> String {
    if state.focus == Panel::Logs {
        return "it is not known where the sources write this line".into();
    }
    if state.tab == Tab::Diff {
        return "no line of a source file is selected".into();
    }
    if state.builds.diagnostic().is_some() {
        return "the compiler names no file for this".into();
    }
    let key = state.key_of(&Action::NextError);
    format!("no diagnostic is selected; {key} goes to the next error")
}
