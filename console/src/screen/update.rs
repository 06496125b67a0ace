//! Turns events into changes of the state, and into effects.
//!
//! [`update`] is pure: it neither reads a clock nor does any input or output.

mod calls;
mod details;
mod fleet;
mod holders;
mod keys;
mod leads;
mod logs;
mod mouse;
mod operations;
mod pins;
mod places;
mod preview;
mod reloads;
mod session;
mod sought;
mod sources;

use std::collections::BTreeSet;

use crossterm::event::{KeyEvent, MouseEvent};
use hotswap_protocol::WireError;

use crate::host::operation::Operation;
use crate::screen::input::action::{Action, Motion};
use crate::screen::layout::{self, Panel, Tab};
use crate::screen::model::fleet::{FleetNews, FleetOrder};
use crate::screen::model::overlay::Overlay;
use crate::screen::model::palette::Palette;
use crate::screen::model::tree::TreeTab as _;
use crate::screen::model::{Place, Program, State};
use crate::session::{LogLine, Order, SessionEvent};

/// An event.
#[derive(Debug)]
pub struct Event {
    /// The time, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The input.
    pub input: Input,
}

/// An input.
#[derive(Debug)]
pub enum Input {
    /// A key was pressed.
    Key(KeyEvent),
    /// The mouse was clicked or scrolled.
    Mouse(MouseEvent),
    /// Text was pasted.
    Paste(String),
    /// The terminal was resized to this number of columns and rows.
    Resize(u16, u16),
    /// An event of the session.
    Session(Box<SessionEvent>),
    /// News of the fleet.
    Fleet(Box<FleetNews>),
    /// Another program has written over the screen. These programs use the same terminal.
    WrittenOver(Vec<Program>),
    /// The host wrote these lines.
    Logs(Vec<LogLine>),
    /// A file was written, or could not be; a sentence for people.
    FileResult(Result<String, String>),
    /// Nothing else has to be done, and the log's filter still has to check lines.
    Scan,
    /// Time has passed while a job or a call runs, or a notice waits.
    Tick,
    /// A signal asks the console to end.
    Terminate,
}

/// An effect, for the application to carry out.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Draw the screen, because something visible has changed.
    Draw,
    /// Send an order to the session.
    Order(Order),
    /// Send an order to the fleet.
    Fleet(FleetOrder),
    /// Open the console of this host of the fleet, and give it the terminal meanwhile.
    Attach(String),
    /// Save the arguments of a call for later runs.
    Remember {
        /// The key of the function's history.
        key: String,
        /// The arguments.
        args: Vec<serde_json::Value>,
    },
    /// Write a text to a new file whose name begins with this one.
    Export {
        /// The name.
        name: String,
        /// The text.
        text: String,
    },
    /// Take clicks and the wheel from the terminal, or leave them to it.
    CaptureMouse(bool),
    /// Put this text into the clipboard.
    Copy(String),
    /// Open this place in the editor, and give it the terminal meanwhile.
    Edit(Place),
    /// Draw the whole screen again, over whatever other programs wrote.
    Redraw,
    /// Stop the process, as Ctrl-Z does.
    Suspend,
    /// Leave the console; an error is printed in the terminal.
    Exit(Option<WireError>),
}

/// Applies an event to the state, and returns the effects.
pub fn update(state: &mut State, event: Event) -> Vec<Effect> {
    let tab_before = state.tab;
    let mut effects = apply_event(state, event);
    if state.tab != tab_before {
        state.second_tab = tab_before;
    }
    effects.extend(preview::refresh(state));
    effects
}

fn apply_event(state: &mut State, event: Event) -> Vec<Effect> {
    let uptime_before = uptime_minutes(state);
    state.now_ms = event.at_ms;
    state.is_answering = matches!(event.input, Input::Key(_) | Input::Mouse(_) | Input::Paste(_));
    let has_ended = end_notice(state, &event.input);
    let in_front = functions_in_front(state);
    let effects = dispatch(state, event);
    if let Some(plugin) = in_front.filter(|it| functions_in_front(state).as_ref() != Some(it)) {
        state.plugins.mark_seen(&plugin);
    }
    let has_new_minute = uptime_minutes(state) != uptime_before;
    with_draw(effects, has_new_minute || has_ended)
}

/// Adds a drawing of the screen if something visible has changed.
fn with_draw(mut effects: Vec<Effect>, has_changed: bool) -> Vec<Effect> {
    if has_changed && !effects.contains(&Effect::Draw) {
        effects.push(Effect::Draw);
    }
    effects
}

/// Ends the notice if its time is over: at a key or after a while. A notice that nobody may have seen stays until the
/// second key.
fn end_notice(state: &mut State, input: &Input) -> bool {
    match input {
        Input::Key(_) | Input::Mouse(_) => {
            state.record_user_activity(matches!(input, Input::Key(_)));
            false
        }
        _ => state.end_notice(),
    }
}

/// The plugin whose functions somebody is looking at, because they have the keyboard.
fn functions_in_front(state: &State) -> Option<String> {
    let is_there = state.tab == Tab::Functions && state.focus == Panel::Tabs;
    let row = state.plugins.selected().filter(|_| is_there)?;
    Some(row.plugin.name.clone())
}

fn dispatch(state: &mut State, event: Event) -> Vec<Effect> {
    match event.input {
        Input::Key(key) => {
            let mut effects = keys::press(state, key);
            effects.push(Effect::Draw);
            effects
        }
        Input::Mouse(event) => mouse::handle(state, event),
        Input::Paste(text) => {
            keys::paste(state, &text);
            vec![Effect::Draw]
        }
        Input::Resize(width, height) => {
            state.size = (width, height);
            vec![Effect::Draw]
        }
        Input::Session(event) => session::handle(state, *event),
        Input::Fleet(news) => {
            fleet::handle_news(state, *news);
            vec![Effect::Draw]
        }
        Input::Logs(lines) => {
            for line in lines {
                state.logs.push_line(line, event.at_ms);
            }
            vec![Effect::Draw]
        }
        Input::WrittenOver(programs) => {
            written_over(state, &programs);
            vec![Effect::Redraw, Effect::Draw]
        }
        Input::Scan => {
            state.logs.scan();
            vec![Effect::Draw]
        }
        Input::FileResult(outcome) => {
            match outcome {
                Ok(text) => state.notify_done(text),
                Err(text) => state.notify_failure(text),
            }
            vec![Effect::Draw]
        }
        Input::Tick if state.is_working() => vec![Effect::Draw],
        Input::Tick => Vec::new(),
        Input::Terminate => {
            state.quitting = true;
            vec![Effect::Order(Order::End), Effect::Draw]
        }
    }
}

/// Reports programs that write over the screen, each of them once.
fn written_over(state: &mut State, programs: &[Program]) {
    let names = programs.iter().map(|program| program.name.as_str());
    // A program without a name has ended.
    let mut names: BTreeSet<&str> = names.collect();
    if names.is_empty() {
        names.insert("");
    }
    if names.iter().all(|name| state.others_told.contains(*name)) {
        return;
    }
    state.others_told.extend(names.into_iter().map(str::to_owned));
    let who: Vec<_> = programs.iter().map(|it| format!("{} (pid {})", it.name, it.pid)).collect();
    let wrote = match who.as_slice() {
        [] => "a program that has ended wrote".to_owned(),
        here => format!("{} may have written", here.join(", ")),
    };
    let text = format!("{wrote} over the screen: it is drawn again");
    state.logs.push_marker(state.now_ms, text.clone());
    state.notify_warning(text);
}

/// The uptime in minutes, which the header shows. It changes without any event.
fn uptime_minutes(state: &State) -> Option<u64> {
    let started_ms = state.host.info.as_ref()?.started_at_ms;
    Some(state.now_ms.saturating_sub(started_ms) / 60_000)
}

/// Carries out an action.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    match action {
        Action::Quit => return operations::quit(state),
        Action::Palette => state.overlay = Some(Overlay::Palette(Palette::of(state))),
        Action::Help => state.overlay = Some(Overlay::Help { top: 0 }),
        Action::Back => back(state),
        Action::Details => return details::show(state),
        Action::FocusNext => state.focus = beside(state.focus, true),
        Action::FocusPrevious => state.focus = beside(state.focus, false),
        Action::Focus(panel) => state.focus = panel,
        Action::NextTab => return show_tab(state, state.tab.beside(&state.tabs(), true)),
        Action::PreviousTab => return show_tab(state, state.tab.beside(&state.tabs(), false)),
        Action::Show(Tab::Fleet) if !state.fleet.is_known() => fleet::note_how_to_start(state),
        Action::Fleet(action) => return fleet::act(state, action),
        Action::Show(tab) => {
            state.focus = Panel::Tabs;
            return show_tab(state, tab);
        }
        Action::Move(motion) => return move_by(state, motion),
        Action::Zoom => state.zoomed = !state.zoomed,
        Action::Build => return operations::build(state),
        Action::Operate(operation) => return vec![Effect::Order(Order::Operate(operation))],
        Action::Prune => operations::ask_to_prune(state),
        Action::TypeLine => operations::type_line(state),
        Action::NextWatch => return operations::next_watch(state),
        Action::TogglePatches => return operations::toggle_patches(state),
        Action::GoToHolder => return holders::open(state),
        Action::GoTo(kind) => return leads::open(state, kind),
        Action::Preview => return preview::open(state),
        Action::CompareWith => preview::choose_base(state),
        Action::Invoke => return calls::open_form(state),
        Action::Compare => return calls::compare(state),
        Action::Repeat | Action::ToggleJson | Action::AddItem | Action::RemoveItem => {
            calls::change_form(state, &action);
        }
        Action::ShowResult => calls::show_result(state),
        Action::ToggleHold => return calls::toggle_hold(state),
        Action::Free => operations::ask_to_free(state),
        Action::RollBack => return operations::choose_rollback(state),
        Action::Cancel => return operations::cancel(state),
        Action::Redraw => return vec![Effect::Redraw],
        Action::CallAgain => return calls::again(state),
        Action::CancelCall => return calls::cancel(state),
        Action::Pin => return pins::toggle(state),
        Action::ListPins => pins::list(state),
        Action::Messages => details::show_messages(state),
        Action::Restart => return operations::restart(state),
        Action::NextTheme => {
            state.look = state.look.next();
            state.chosen_look = Some(state.look);
            state.notify_info(format!("theme: {}", state.look.as_str()));
        }
        Action::ToggleMouse => {
            state.mouse = !state.mouse;
            state.notify_info(match state.mouse {
                true => "mouse on: click and scroll; hold Shift to select text",
                false => "mouse off: the terminal selects text",
            });
            return vec![Effect::CaptureMouse(state.mouse)];
        }
        Action::Edit => return sources::edit(state),
        Action::Suspend => return vec![Effect::Suspend],
        action => return logs::act(state, &action),
    }
    Vec::new()
}

fn beside(panel: Panel, forward: bool) -> Panel {
    match (panel, forward) {
        (Panel::Plugins, true) | (Panel::Logs, false) => Panel::Tabs,
        (Panel::Tabs, true) | (Panel::Plugins, false) => Panel::Logs,
        (Panel::Logs, true) | (Panel::Tabs, false) => Panel::Plugins,
    }
}

/// Shows a tab on request of a person.
fn show_tab(state: &mut State, tab: Tab) -> Vec<Effect> {
    state.tab = tab;
    state.tab_to_return_to = None;
    match tab {
        Tab::Vault => vec![Effect::Order(Order::Operate(Operation::Vault))],
        Tab::Live => vec![Effect::Order(Order::Operate(Operation::Live))],
        Tab::Diff => {
            state.diff.outdate();
            Vec::new()
        }
        Tab::Functions | Tab::Build | Tab::Timeline | Tab::Fleet => Vec::new(),
    }
}

fn back(state: &mut State) {
    if state.zoomed {
        state.zoomed = false;
    } else if state.focus == Panel::Logs && logs::clear_one(state) {
        // Each key press clears one filter, the last one in the title first.
    } else if logs::clear_filter(state) {
        // All is shown again.
    } else {
        state.dismiss_notices();
    }
}

fn move_by(state: &mut State, motion: Motion) -> Vec<Effect> {
    move_in(state, state.focus, motion)
}

fn move_in(state: &mut State, panel: Panel, motion: Motion) -> Vec<Effect> {
    let page = state.layout().page(panel);
    match panel {
        Panel::Plugins => {
            let before = state.plugins.selected_target();
            match motion {
                Motion::Left | Motion::Right => drop(state.plugins.fold(motion == Motion::Left)),
                motion => state.plugins.move_by(motion, page),
            }
            if before != state.plugins.selected_target() {
                plugin_selected(state);
            }
        }
        Panel::Logs => {
            let inside = state.layout().logs.map(layout::inside).unwrap_or_default();
            state.logs.move_in(motion, inside);
        }
        Panel::Tabs => match (motion, state.tab) {
            // One line of these tabs is for the column names.
            (motion, Tab::Vault) => state.vault.move_by(motion, page.saturating_sub(1)),
            (motion, Tab::Live) => state.live.move_by(motion, page.saturating_sub(1)),
            (Motion::Left, tab) => return show_tab(state, tab.beside(&state.tabs(), false)),
            (Motion::Right, tab) => return show_tab(state, tab.beside(&state.tabs(), true)),
            (motion, Tab::Functions) => {
                let count = state.plugins.functions().len();
                let from = state.functions.selected;
                if let Some(to) = crate::screen::model::plugins::step(motion, from, count, page) {
                    state.functions.selected = to;
                }
            }
            (motion, Tab::Build) => state.builds.move_by(motion, page),
            (motion, Tab::Timeline) => state.timeline.move_by(motion, page),
            (motion, Tab::Diff) => state.diff.move_by(motion, page),
            (motion, Tab::Fleet) => {
                let inside = state.layout().tabs.map(layout::inside).unwrap_or_default();
                let page = layout::fleet_page(layout::of_fleet(inside)[1]);
                state.fleet.move_by(motion, page, state.now_ms);
            }
        },
    }
    Vec::new()
}

/// Reacts to the selection of another version: the form for the last one is closed.
fn plugin_selected(state: &mut State) {
    state.functions.selected = 0;
    state.functions.form = None;
}
