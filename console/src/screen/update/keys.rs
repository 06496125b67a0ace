//! Keys. Their meaning depends on what has the keyboard.

use crossterm::event::{Event as TerminalEvent, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tui_input::backend::crossterm::EventHandler;

use super::{Effect, act, calls, fleet, logs, operations, pins, places, preview};
use crate::screen::input::action::{Action, Command, Scope};
use crate::screen::input::key::Key;
use crate::screen::input::keymap::Found;
use crate::screen::layout::boxes;
use crate::screen::model::State;
use crate::screen::model::form::one_line;
use crate::screen::model::help;
use crate::screen::model::overlay::{HostInput, Overlay};
use crate::screen::model::palette::{Choice, Palette, command_line};
use crate::session::Order;

pub(super) fn press(state: &mut State, key: KeyEvent) -> Vec<Effect> {
    if key.kind == KeyEventKind::Release {
        return Vec::new();
    }
    // These keys work in all panels and overlays, and no configuration changes the first one.
    if Key::from(key) == Key::INTERRUPT {
        if state.form_has_keyboard() && state.functions.has_running_calls() {
            return calls::cancel(state);
        }
        return act(state, Action::Quit);
    }
    if key.modifiers.contains(KeyModifiers::CONTROL)
        && let Found::Action(Action::Suspend) = state.keymap.find(&[key.into()], state.scopes())
    {
        return act(state, Action::Suspend);
    }
    if let Some(overlay) = state.overlay.take() {
        return in_overlay(state, overlay, key);
    }
    if state.searching.is_some() {
        logs::press(state, key);
        return Vec::new();
    }
    if state.form_has_keyboard() {
        return in_form(state, key);
    }
    in_panels(state, key)
}

pub(super) fn paste(state: &mut State, text: &str) {
    let type_in = |input: &mut tui_input::Input| {
        for c in one_line(text).chars() {
            input.handle(tui_input::InputRequest::InsertChar(c));
        }
    };
    if let Some(Overlay::Palette(palette)) = &mut state.overlay {
        type_in(&mut palette.input);
        palette.selected = 0;
    } else if let Some(Overlay::Input(input)) = &mut state.overlay {
        type_in(&mut input.line);
    } else if let Some(input) = &mut state.searching {
        type_in(input);
        let typed = input.value().to_owned();
        logs::apply(state, &typed);
    } else if state.overlay.is_none()
        && state.form_has_keyboard()
        && let Some(form) = &mut state.functions.form
    {
        form.paste(text);
    }
}

fn in_panels(state: &mut State, key: KeyEvent) -> Vec<Effect> {
    match asked(state, key) {
        Some(action) => act(state, action),
        None => Vec::new(),
    }
}

/// The action of this key together with the keys that were pressed before it.
pub(super) fn asked(state: &mut State, key: KeyEvent) -> Option<Action> {
    let mut pressed = std::mem::take(&mut state.pending_keys);
    pressed.push(key.into());
    let mut found = state.keymap.find(&pressed, state.scopes());
    if found == Found::Nothing && pressed.len() > 1 {
        // The key does not continue the sequence, but may have a meaning by itself.
        pressed = vec![key.into()];
        found = state.keymap.find(&pressed, state.scopes());
    }
    match found {
        Found::Action(action) => return Some(action),
        Found::Beginning => state.pending_keys = pressed,
        Found::Nothing => {}
    }
    None
}

fn in_form(state: &mut State, key: KeyEvent) -> Vec<Effect> {
    let of_form = &[Scope::Form];
    if let Found::Action(action) = state.keymap.find(&[key.into()], of_form) {
        return act(state, action);
    }
    let host = state.host.name.clone();
    let Some(form) = &mut state.functions.form else { return Vec::new() };
    match key.code {
        KeyCode::Esc => calls::leave_form(state),
        KeyCode::Enter if form.is_begun() || key.modifiers.contains(KeyModifiers::ALT) => {
            form.break_line();
        }
        KeyCode::Enter => return calls::submit_form(state),
        KeyCode::Tab => form.focus(true),
        KeyCode::BackTab => form.focus(false),
        KeyCode::Up if !form.has_line(true) => state.functions.recall(&host, true),
        KeyCode::Down if !form.has_line(false) => state.functions.recall(&host, false),
        KeyCode::F(1) => return act(state, Action::Help),
        _ => {
            form.press(key);
        }
    }
    Vec::new()
}

fn in_overlay(state: &mut State, overlay: Overlay, key: KeyEvent) -> Vec<Effect> {
    match overlay {
        Overlay::Confirm { order, cancels: true, .. } if key.code == KeyCode::Char('c') => {
            vec![Effect::Order(Order::CancelCalls), Effect::Order(order)]
        }
        Overlay::Confirm { order, .. } => {
            if !matches!(key.code, KeyCode::Char('y' | 'Y') | KeyCode::Enter) {
                return Vec::new();
            }
            state.quitting |= order == Order::End;
            vec![Effect::Order(order)]
        }
        Overlay::FleetQuestion { order, .. } => {
            match matches!(key.code, KeyCode::Char('y' | 'Y') | KeyCode::Enter) {
                true => vec![Effect::Fleet(order)],
                false => Vec::new(),
            }
        }
        Overlay::Releases(choice) => {
            let action = asked(state, key);
            fleet::press(state, choice, action);
            Vec::new()
        }
        Overlay::HostEnded(card) => match key.code {
            KeyCode::Char('H') => match card.good {
                Some(good) => vec![Effect::Order(Order::RestartWith(good.builds))],
                None => act(state, Action::Restart),
            },
            KeyCode::Char('A') => act(state, Action::Restart),
            KeyCode::Char('q') => act(state, Action::Quit),
            KeyCode::Esc | KeyCode::Enter => Vec::new(),
            // The keys of the panels work, so that one can look at the log behind the card.
            _ => in_panels(state, key),
        },
        Overlay::Palette(palette) => in_palette(state, palette, key),
        Overlay::Input(input) => in_input(state, input, key),
        Overlay::Rollback(mut rollback) => {
            match asked(state, key) {
                Some(Action::Details) => operations::ask_to_roll_back(state, &rollback),
                Some(Action::Back | Action::Quit | Action::RollBack) => {}
                other => {
                    if let Some(Action::Move(motion)) = other {
                        rollback.move_by(motion, state.size.1.into());
                    }
                    state.overlay = Some(Overlay::Rollback(rollback));
                }
            }
            Vec::new()
        }
        Overlay::Pins(list) => {
            let action = asked(state, key);
            pins::press(state, list, action)
        }
        Overlay::Preview(card) => preview::press(state, card, key),
        Overlay::Help { top } => {
            let row_count = help::rows(state).len();
            state.overlay = scrolled(state, key, top, row_count).map(|top| Overlay::Help { top });
            Vec::new()
        }
        Overlay::Details { title, lines, top } => {
            if key.code == KeyCode::Char('y') {
                let text = lines.join("\n");
                state.notify_done("copied");
                state.overlay = Some(Overlay::Details { title, lines, top });
                return vec![Effect::Copy(text)];
            }
            let row_count = boxes::details(&lines, state.size.0).len();
            state.overlay = scrolled(state, key, top, row_count).map(|top| Overlay::Details {
                title,
                lines,
                top,
            });
            Vec::new()
        }
    }
}

fn in_input(state: &mut State, mut input: HostInput, key: KeyEvent) -> Vec<Effect> {
    match key.code {
        KeyCode::Esc => Vec::new(),
        KeyCode::Enter => operations::send_line(state, input.line.value()),
        _ => {
            input.line.handle_event(&TerminalEvent::Key(key));
            state.overlay = Some(Overlay::Input(input));
            Vec::new()
        }
    }
}

fn in_palette(state: &mut State, mut palette: Palette, key: KeyEvent) -> Vec<Effect> {
    let last = palette.matches().len().saturating_sub(1);
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Esc => return Vec::new(),
        KeyCode::Enter => {
            return match palette.chosen() {
                None => Vec::new(),
                Some(Choice::Command(command)) => act(state, command.action.clone()),
                Some(Choice::Destination(place)) => places::open(state, place),
            };
        }
        KeyCode::Up => palette.selected = palette.selected.saturating_sub(1),
        KeyCode::Down => palette.selected = (palette.selected + 1).min(last),
        // In typed text it is a letter like any other.
        KeyCode::Char('y') if is_control || palette.input.value().is_empty() => {
            let command = match palette.chosen() {
                Some(Choice::Command(command)) => Some(command),
                _ => None,
            };
            state.overlay = Some(Overlay::Palette(palette));
            return copy_command_line(state, command);
        }
        _ => {
            palette.input.handle_event(&TerminalEvent::Key(key));
            palette.selected = 0;
        }
    }
    state.overlay = Some(Overlay::Palette(palette));
    Vec::new()
}

fn copy_command_line(state: &mut State, command: Option<&Command>) -> Vec<Effect> {
    let Some(line) = command.and_then(|command| command_line(state, &command.action)) else {
        state.notify_failure("no command line does that");
        return Vec::new();
    };
    state.notify_done(format!("copied: {line}"));
    vec![Effect::Copy(line)]
}

/// The first visible row of a text after this key; `None` if the key closes the text.
fn scrolled(state: &mut State, key: KeyEvent, top: usize, row_count: usize) -> Option<usize> {
    let page = boxes::page(state.size.1);
    match asked(state, key) {
        Some(Action::Move(motion)) => {
            let stops = row_count.saturating_sub(page) + 1;
            crate::screen::model::plugins::step(motion, top, stops, page).or(Some(top))
        }
        Some(Action::Back | Action::Quit | Action::Help | Action::Details) => None,
        _ => Some(top),
    }
}
