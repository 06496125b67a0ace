//! Clicks and the wheel.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::{Position, Rect};

use super::{Effect, act, keys, move_in, show_tab};
use crate::screen::input::action::{Action, Motion};
use crate::screen::layout::{self, Panel, Tab};
use crate::screen::model::State;
use crate::screen::model::form::Form;
use crate::screen::model::logs::in_sight;
use crate::screen::model::timeline::Row;
use crate::screen::model::tree::TreeTab as _;

/// The number of lines that one step of the wheel scrolls.
const WHEEL_LINES: usize = 3;

pub(super) fn handle(state: &mut State, event: MouseEvent) -> Vec<Effect> {
    let place = Position::new(event.column, event.row);
    let mut effects = match event.kind {
        MouseEventKind::ScrollUp => scroll(state, place, true),
        MouseEventKind::ScrollDown => scroll(state, place, false),
        MouseEventKind::Down(MouseButton::Left) => click(state, place),
        _ => return Vec::new(),
    };
    effects.push(Effect::Draw);
    effects
}

/// Scrolls the panel under the pointer, without giving it the keyboard.
fn scroll(state: &mut State, place: Position, up: bool) -> Vec<Effect> {
    if state.overlay.is_some() {
        let code = if up { KeyCode::Up } else { KeyCode::Down };
        let key = KeyEvent::new(code, KeyModifiers::NONE);
        return (0..WHEEL_LINES).flat_map(|_| keys::press(state, key)).collect();
    }
    let motion = if up { Motion::Up } else { Motion::Down };
    match state.layout().panel_at(place) {
        Some((Panel::Logs, area)) => {
            state.logs.scroll(WHEEL_LINES, up, usize::from(layout::inside(area).height));
            Vec::new()
        }
        Some((Panel::Tabs, area)) if state.tab == Tab::Build => {
            state.builds.scroll(WHEEL_LINES, up, usize::from(layout::inside(area).height));
            Vec::new()
        }
        Some((Panel::Tabs, area)) if state.tab == Tab::Diff => {
            state.diff.scroll(WHEEL_LINES, up, usize::from(layout::inside(area).height));
            Vec::new()
        }
        Some((Panel::Tabs, _)) if state.tab == Tab::Functions && state.functions.form.is_some() => {
            Vec::new()
        }
        // Another selection would close the form, and lose what was typed.
        Some((Panel::Plugins, _)) if state.functions.form.is_some() => Vec::new(),
        Some((panel, _)) => (0..WHEEL_LINES).flat_map(|_| move_in(state, panel, motion)).collect(),
        None => Vec::new(),
    }
}

/// Gives a panel the keyboard, and selects the row under the pointer. A row that was selected already is opened.
fn click(state: &mut State, place: Position) -> Vec<Effect> {
    if state.overlay.is_some() {
        return Vec::new();
    }
    let second = state.layout().second_tab.is_some_and(|area| area.contains(place));
    if second {
        // The second tab comes to the front and gets the keyboard.
        state.searching = None;
        state.focus = Panel::Tabs;
        return show_tab(state, state.second_tab);
    }
    let Some((panel, area)) = state.layout().panel_at(place) else { return Vec::new() };
    // The filter keeps the typed text.
    state.searching = None;
    state.focus = panel;
    let inside = layout::inside(area);
    if !inside.contains(place) {
        let is_title = panel == Panel::Tabs && place.y == area.y;
        return match is_title.then(|| tab_at(state, area, place.x)).flatten() {
            Some(tab) => show_tab(state, tab),
            None => Vec::new(),
        };
    }
    let row = usize::from(place.y - inside.y);
    match (panel, state.tab) {
        (Panel::Plugins, _) => {
            let lines = state.plugins.rows().len() + state.not_loaded().len();
            let [_, tree, ..] = layout::of_plugins(inside, lines);
            click_plugin(state, tree, place)
        }
        (Panel::Logs, _) => click_line(state, inside, row),
        (Panel::Tabs, Tab::Functions) => click_functions(state, inside, place),
        (Panel::Tabs, Tab::Vault | Tab::Live) => click_tree(state, inside, row),
        (Panel::Tabs, Tab::Timeline) => click_reload(state, inside, row),
        (Panel::Tabs, Tab::Build) => click_build(state, inside, row),
        (Panel::Tabs, Tab::Diff) => click_difference(state, inside, row),
        (Panel::Tabs, Tab::Fleet) => click_fleet(state, inside, row),
    }
}

/// The tab whose title is in this column.
fn tab_at(state: &State, area: Rect, x: u16) -> Option<Tab> {
    // The titles begin after the corner and the panel's number.
    let mut end = usize::from(area.x) + 2;
    state.tab_titles().find_map(|(tab, title)| {
        let start = end;
        end += crate::format::width(&title);
        (start..end).contains(&usize::from(x)).then_some(tab)
    })
}

fn click_plugin(state: &mut State, tree: Rect, place: Position) -> Vec<Effect> {
    let columns = layout::of_tree(tree);
    let column = columns.iter().position(|column| column.contains(place));
    let Some(column) = column else { return Vec::new() };
    let row = column * usize::from(tree.height) + usize::from(place.y - tree.y);
    let before = state.plugins.selected_index().unwrap_or(0);
    let index = row + layout::first_visible(before, layout::tree_page(tree));
    if index >= state.plugins.rows().len() {
        return Vec::new();
    }
    if index == before {
        return act(state, Action::Details);
    }
    state.plugins.select_index(index);
    super::plugin_selected(state);
    Vec::new()
}

fn click_line(state: &mut State, inside: Rect, row: usize) -> Vec<Effect> {
    let rows = in_sight::rows(&state.logs, inside);
    let Some(position) = rows.get(row).map(|row| row.position) else { return Vec::new() };
    if state.logs.cursor() == Some(position) {
        return act(state, Action::Details);
    }
    state.logs.select(position, inside.height.into());
    Vec::new()
}

fn click_reload(state: &mut State, inside: Rect, row: usize) -> Vec<Effect> {
    let rows = state.timeline.rows();
    let page = usize::from(layout::timeline_list_height(inside, rows.len()));
    let selected = state.timeline.selected_row(&rows);
    let index = layout::first_visible(selected, page) + row;
    let Some(Row::Reload(reload)) = rows.get(index).filter(|_| row < page) else {
        return Vec::new();
    };
    if index == selected {
        return act(state, Action::Details);
    }
    state.timeline.select(*reload);
    Vec::new()
}

fn click_fleet(state: &mut State, inside: Rect, row: usize) -> Vec<Effect> {
    let [above, hosts] = layout::of_fleet(inside);
    let selected = state.fleet.selected(state.now_ms);
    let first = layout::first_visible(selected, layout::fleet_page(hosts));
    let Some(row) = row.checked_sub(usize::from(above.height) + 2) else { return Vec::new() };
    let index = first + row;
    if index == selected {
        return act(state, Action::Details);
    }
    if index < state.fleet.hosts(state.now_ms).len() {
        state.fleet.select(index, state.now_ms);
    }
    Vec::new()
}

fn click_build(state: &mut State, inside: Rect, row: usize) -> Vec<Effect> {
    let page = usize::from(inside.height);
    let line = state.builds.top(page) + row;
    if line >= state.builds.lines().len() {
        return Vec::new();
    }
    if state.builds.selected() == Some(line) {
        return act(state, Action::Details);
    }
    state.builds.select(line, page);
    Vec::new()
}

fn click_difference(state: &mut State, inside: Rect, row: usize) -> Vec<Effect> {
    let page = usize::from(inside.height);
    let line = state.diff.top(page) + row;
    if line < state.diff.lines().map_or(0, <[_]>::len) {
        state.diff.select(line, page);
    }
    Vec::new()
}

fn click_functions(state: &mut State, inside: Rect, place: Position) -> Vec<Effect> {
    let count = state.plugins.functions().len();
    let form_lines = state.functions.form.as_ref().map(|form| form.line_count());
    let has_results = !state.functions.results.is_empty();
    let [table, form_area, _] = layout::of_functions(inside, count, form_lines, has_results);
    if form_area.contains(place) {
        // The area has a rule above the lines and the command below them.
        let page = usize::from(form_area.height).saturating_sub(2).max(1);
        let row = usize::from(place.y - form_area.y);
        if let Some(form) = &mut state.functions.form
            && (1..=page).contains(&row)
        {
            form.focused = match form.is_json() {
                true => json_at(form, page, row - 1),
                false => {
                    let line = layout::first_visible(form.focused, page) + row - 1;
                    line.min(form.rows().len().saturating_sub(1))
                }
            };
        }
        return Vec::new();
    }
    if !table.contains(place) || place.y == table.y {
        return Vec::new();
    }
    let page = usize::from(table.height).saturating_sub(1);
    let selected = state.functions.selected.min(count.saturating_sub(1));
    let index = layout::first_visible(selected, page) + usize::from(place.y - table.y) - 1;
    if index >= count {
        return Vec::new();
    }
    if index == selected {
        return act(state, Action::Invoke);
    }
    state.functions.form = None;
    state.functions.selected = index;
    Vec::new()
}

/// The parameter whose name or JSON is on a line of the form.
fn json_at(form: &Form, page: usize, line: usize) -> usize {
    let mut end = 0;
    let in_sight = form.json_in_sight(page).into_iter();
    let mut there = in_sight.filter(|(_, lines)| {
        end += 1 + lines;
        line < end
    });
    there.next().map_or(form.focused, |(index, _)| index)
}

fn click_tree(state: &mut State, inside: Rect, row: usize) -> Vec<Effect> {
    // The column names are above the rows.
    let Some(row) = row.checked_sub(1) else { return Vec::new() };
    let page = usize::from(inside.height).saturating_sub(1);
    let (rows, selected) = match state.tab {
        Tab::Vault => {
            let rows = state.vault.rows();
            (rows.len(), state.vault.selected(&rows))
        }
        _ => {
            let rows = state.live.rows();
            (rows.len(), state.live.selected(&rows))
        }
    };
    let index = layout::first_visible(selected, page) + row;
    if index >= rows {
        return Vec::new();
    }
    if index == selected {
        return act(state, Action::Details);
    }
    match state.tab {
        Tab::Vault => state.vault.select(index),
        _ => state.live.select(index),
    }
    Vec::new()
}
