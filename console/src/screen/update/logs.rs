//! The log, and the output of builds.

use crossterm::event::{Event as TerminalEvent, KeyCode, KeyEvent};
use tui_input::Input;
use tui_input::backend::crossterm::EventHandler;

use super::{Effect, sought};
use crate::format;
use crate::screen::input::action::Action;
use crate::screen::layout::{Panel, Tab};
use crate::screen::model::tree::TreeTab as _;
use crate::screen::model::{SearchField, State};

/// The maximum size of a copied text, in bytes. Terminals do not accept more into the clipboard, and some accept less.
const MOST_COPIED_BYTES: usize = 1024 * 1024;

pub(super) fn act(state: &mut State, action: &Action) -> Vec<Effect> {
    let page = state.layout().page(Panel::Logs);
    match action {
        Action::ToggleFollow | Action::Pause if !state.logs.follows() => state.logs.follow(),
        Action::ToggleFollow | Action::Pause => state.logs.hold(page),
        Action::Search => match state.filtered_here() {
            SearchField::Pattern => type_pattern(state, false),
            field => {
                state.searching = Some(Input::new(state.filter(field).to_owned()));
                state.searching_in = field;
            }
        },
        Action::Find => type_pattern(state, true),
        Action::FilterWriters => {
            state.focus = Panel::Logs;
            state.searching = Some(Input::new(state.logs.writer_filter().to_owned()));
            state.searching_in = SearchField::Writers;
        }
        Action::Invert if state.logs.pattern().is_empty() => {
            state.notify_info("there is no filter to invert; / sets one");
        }
        Action::Invert => state.logs.invert(),
        Action::NextMatch | Action::PreviousMatch => {
            go_to_match(state, *action == Action::NextMatch);
        }
        Action::NextLevel => state.logs.raise_level(),
        Action::NextError | Action::PreviousError => {
            go_to_error(state, *action == Action::NextError, page);
        }
        Action::ToggleWrap => state.logs.wrap = !state.logs.wrap,
        Action::Mark => {
            let marked = state.logs.toggle_mark();
            note_unless(marked, state, "no line to mark");
        }
        Action::NextMark => {
            let found = state.logs.go_to_mark(page);
            note_unless(found, state, "no line is marked");
        }
        Action::Select => state.logs.toggle_selection(page),
        Action::CopyLine => return copy_selection(state),
        Action::CopyAll => {
            let (text, count) = (state.logs.passing_text(), state.logs.passing());
            return copy(state, text, count);
        }
        Action::Export => return export(state),
        _ => {}
    }
    Vec::new()
}

fn type_pattern(state: &mut State, shows_others: bool) {
    // The log gets the keyboard, so that keys do not act where nobody sees it.
    state.focus = Panel::Logs;
    state.searching = Some(Input::new(state.logs.pattern().to_owned()));
    state.searching_in = SearchField::Pattern;
    state.logs.set_shows_others(shows_others);
}

/// Selects the next match or the previous one, and wraps around.
fn go_to_match(state: &mut State, forward: bool) {
    if state.filtered_here() == SearchField::Lines {
        let way = if forward { sought::Way::Forward } else { sought::Way::Backward };
        return sought::find(state, way);
    }
    let page = state.layout().page(Panel::Logs);
    let text = match state.logs.go_to_match(forward, page) {
        Some((place, count)) => {
            let [place, count] = [place, count].map(|it| format::thousands(it as u64));
            format!("{place} of {count}")
        }
        None => "no line matches".to_owned(),
    };
    state.notify_info(text);
}

fn go_to_error(state: &mut State, forward: bool, page: usize) {
    let found = if state.focus == Panel::Logs {
        state.logs.go_to_error(forward, page)
    } else {
        state.builds.go_to_error(forward)
    };
    note_unless(found, state, if forward { "no later error" } else { "no earlier error" });
}

fn note_unless(done: bool, state: &mut State, text: &str) {
    if !done {
        state.notify_info(text);
    }
}

fn copy_selection(state: &mut State) -> Vec<Effect> {
    let Some((text, count)) = state.logs.selected_text() else {
        state.notify_info("no line to copy");
        return Vec::new();
    };
    if state.logs.has_selection() {
        state.logs.toggle_selection(0);
    }
    copy(state, text, count)
}

fn copy(state: &mut State, text: String, count: usize) -> Vec<Effect> {
    if text.len() > MOST_COPIED_BYTES {
        let size = format::bytes(text.len() as u64);
        let export = state.key_of(&Action::Export);
        state
            .notify_failure(format!("{size} are too much to copy; {export} writes them to a file"));
        return Vec::new();
    }
    let lines = format::counted(count as u64, "line", "lines");
    state.notify_done(format!("{lines} copied"));
    vec![Effect::Copy(text)]
}

/// Writes all lines that pass the filter to a file.
fn export(state: &mut State) -> Vec<Effect> {
    if state.logs.passing() == 0 {
        state.notify_info("no line to write");
        return Vec::new();
    }
    let host = if state.host.name.is_empty() { "host" } else { &state.host.name };
    let host: String =
        host.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let time = format::clock(state.now_ms).replace(':', "");
    let text = state.logs.passing_text() + "\n";
    let lines = format::counted(state.logs.passing() as u64, "line", "lines");
    state.notify_info(format!("writing {lines} …"));
    vec![Effect::Export { name: format!("{host}-{time}"), text }]
}

/// Clears the last filter that the title names; false if there is none.
pub(super) fn clear_one(state: &mut State) -> bool {
    let logs = &mut state.logs;
    if logs.has_selection() {
        logs.toggle_selection(0);
    } else if !logs.pattern().is_empty() {
        logs.set_pattern("");
        logs.set_shows_others(false);
    } else if !logs.writer_filter().is_empty() {
        logs.set_writer_filter("");
    } else if logs.level().is_some() {
        logs.set_level(None);
    } else {
        return false;
    }
    true
}

/// Handles a key while a filter is typed.
pub(super) fn press(state: &mut State, key: KeyEvent) {
    let Some(input) = &mut state.searching else { return };
    match (key.code, state.searching_in) {
        (KeyCode::Enter, field) => {
            state.searching = None;
            let searches = field == SearchField::Pattern && state.logs.shows_others();
            if searches && !state.logs.pattern().is_empty() {
                // While the newest lines are in sight, the nearest match is above.
                go_to_match(state, !state.logs.follows());
            }
        }
        (KeyCode::Esc, _) => {
            state.searching = None;
            apply(state, "");
        }
        (KeyCode::Tab, SearchField::Pattern) => {
            let shows_others = state.logs.shows_others();
            state.logs.set_shows_others(!shows_others);
        }
        (KeyCode::Tab, SearchField::Writers) => {
            if let Some(completed) = complete(input.value(), &state.logs.writer_labels()) {
                state.searching = Some(Input::new(completed.clone()));
                apply(state, &completed);
            }
        }
        (KeyCode::Tab, _) => {}
        _ => {
            input.handle_event(&TerminalEvent::Key(key));
            let text = input.value().to_owned();
            apply(state, &text);
        }
    }
}

/// Applies the typed text to the filter.
pub(super) fn apply(state: &mut State, text: &str) {
    match state.searching_in {
        SearchField::Pattern if text != state.logs.pattern() => state.logs.set_pattern(text),
        SearchField::Writers if text != state.logs.writer_filter() => {
            state.logs.set_writer_filter(text);
        }
        SearchField::Pattern | SearchField::Writers => {}
        SearchField::Lines => {
            state.sought = text.to_owned();
            sought::find(state, sought::Way::Here);
        }
        SearchField::Plugins => {
            let before = state.plugins.selected_target();
            state.plugins.set_filter(text);
            if before != state.plugins.selected_target() {
                super::plugin_selected(state);
            }
        }
        SearchField::Functions => {
            state.plugins.set_function_filter(text);
            state.functions.selected = 0;
        }
        SearchField::Tree if state.tab == Tab::Live => {
            state.live.tree_mut().filter = text.to_owned();
        }
        SearchField::Tree => state.vault.tree_mut().filter = text.to_owned(),
    }
}

/// Clears the filter of the panel with the keyboard, unless that is the log; false if there is none.
pub(super) fn clear_filter(state: &mut State) -> bool {
    let field = state.filtered_here();
    if field == SearchField::Pattern || state.filter(field).is_empty() {
        return false;
    }
    state.searching_in = field;
    apply(state, "");
    true
}

/// Completes the last word to a writer that contains it; if it is a writer already, replaces it by the next one.
fn complete(text: &str, labels: &[&str]) -> Option<String> {
    let start = text.rfind([' ', ',', '-']).map_or(0, |it| it + 1);
    let (before, word) = text.split_at(start);
    let next = match labels.iter().position(|label| *label == word) {
        Some(position) => labels[(position + 1) % labels.len()],
        None => labels.iter().find(|it| it.to_lowercase().contains(&word.to_lowercase()))?,
    };
    Some(format!("{before}{next}"))
}
