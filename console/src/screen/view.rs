//! Draws the state. Nothing here changes the state, or knows the protocol of hosts.

mod ascii;
mod builds;
mod crash;
mod diff;
mod fleet;
mod footer;
mod form;
mod functions;
mod header;
mod live;
mod logs;
mod overlay;
mod palette;
mod picker;
mod pins;
mod plugins;
mod results;
mod signature;
mod text;
mod theme;
mod timeline;
mod tree;
mod vault;

use ratatui::Frame;
use ratatui::layout::{Margin, Position, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};

pub use picker::draw_picker;
pub(crate) use theme::StyleChanges;
pub use theme::{Theme, Themes};

use crate::screen::layout::{Panel, Tab};
use crate::screen::model::{SearchField, State};

/// Draws the whole screen.
pub fn draw(frame: &mut Frame<'_>, state: &State, theme: &Theme) {
    draw_all(frame, state, theme);
    if theme.is_ascii {
        ascii::replace(frame.buffer_mut());
    }
}

fn draw_all(frame: &mut Frame<'_>, state: &State, theme: &Theme) {
    let layout = state.layout();
    if let Some(status) = layout.status {
        return header::draw_status(frame, status, state, theme);
    }
    header::draw(frame, layout.header, state, theme);
    if let Some(area) = layout.plugins {
        plugins::draw(frame, area, state, theme);
    }
    if let Some(area) = layout.tabs {
        draw_tabs(frame, area, state, theme);
    }
    if let Some((area, tab)) = layout.second_tab.zip(state.second_tab()) {
        draw_second_tab(frame, area, tab, state, theme);
    }
    if let Some(area) = layout.logs {
        logs::draw(frame, area, state, theme);
    }
    footer::draw_job(frame, layout.job, state, theme);
    footer::draw_keys(frame, layout.footer, state, theme);
    overlay::draw(frame, state, theme);
}

fn draw_tabs(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let mut title = tab_titles(state, theme);
    match state.tab {
        Tab::Functions => {
            push_filter(frame, area, &mut title, SearchField::Functions, state, theme)
        }
        Tab::Vault | Tab::Live => {
            push_filter(frame, area, &mut title, SearchField::Tree, state, theme);
        }
        Tab::Build | Tab::Timeline | Tab::Diff | Tab::Fleet => {
            push_filter(frame, area, &mut title, SearchField::Lines, state, theme);
        }
    }
    let inner = panel(frame, area, title, state.focus == Panel::Tabs, theme);
    draw_tab(frame, inner, state.tab, state, theme);
}

/// Draws the tab beside the one in front. It never has the keyboard.
fn draw_second_tab(frame: &mut Frame<'_>, area: Rect, tab: Tab, state: &State, theme: &Theme) {
    let title = state.titles().find(|(it, _)| *it == tab).map(|(_, title)| title);
    let title = Line::styled(title.unwrap_or_default(), theme.title_elsewhere);
    let inner = panel(frame, area, title, false, theme);
    let theme = Theme { selected: theme.selected_elsewhere, ..*theme };
    draw_tab(frame, inner, tab, state, &theme);
}

fn draw_tab(frame: &mut Frame<'_>, inner: Rect, tab: Tab, state: &State, theme: &Theme) {
    match tab {
        Tab::Functions => functions::draw(frame, inner, state, theme),
        Tab::Vault => vault::draw(frame, inner, state, theme),
        Tab::Live => live::draw(frame, inner, state, theme),
        Tab::Build => builds::draw(frame, inner, state, theme),
        Tab::Timeline => timeline::draw(frame, inner, state, theme),
        Tab::Diff => diff::draw(frame, inner, state, theme),
        Tab::Fleet => fleet::draw(frame, inner, state, theme),
    }
}

/// Adds a panel's filter to its title, ` /wor`. While the filter is typed, the cursor is there.
fn push_filter(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &mut Line<'static>,
    field: SearchField,
    state: &State,
    theme: &Theme,
) {
    let typed = state.searching.as_ref().filter(|_| state.searching_in == field);
    let text = state.filter(field).to_owned();
    if typed.is_none() && text.is_empty() {
        return;
    }
    title.push_span(Span::raw(" /"));
    if let Some(input) = typed {
        let column = 1 + title.width() + input.visual_cursor();
        let x = area.x.saturating_add(u16::try_from(column).unwrap_or(u16::MAX));
        let x = x.min(area.right().saturating_sub(1));
        frame.set_cursor_position(Position::new(x, area.y));
    }
    title.push_span(Span::styled(text, if typed.is_some() { theme.input } else { theme.strong }));
}

/// The titles of the tabs: `2 [Functions] Vault  Build`
fn tab_titles(state: &State, theme: &Theme) -> Line<'static> {
    let style = if state.focus == Panel::Tabs { theme.title } else { theme.title_elsewhere };
    let mut line = Line::default();
    line.push_span(Span::styled("2", style));
    for (tab, title) in state.tab_titles() {
        let style = if tab == state.tab { style } else { theme.dim };
        let span = Span::styled(title, style);
        line.push_span(span);
    }
    line
}

/// Draws a panel's border, and returns the area inside it.
fn panel(
    frame: &mut Frame<'_>,
    area: Rect,
    title: Line<'static>,
    has_focus: bool,
    theme: &Theme,
) -> Rect {
    let border = if has_focus { theme.focused_border } else { theme.border };
    let mut title = title;
    title.push_span(" ");
    let block = Block::bordered().border_style(border).title(title);
    frame.render_widget(block, area);
    area.inner(Margin::new(1, 1))
}

/// Draws a rule with a title: `── reload 12 ─────────`
fn draw_rule(frame: &mut Frame<'_>, area: Rect, title: &str, theme: &Theme) {
    let width = usize::from(area.width);
    let title = text::cut(&format!("── {title} "), width);
    let rest = "─".repeat(width.saturating_sub(crate::format::width(&title)));
    let spans = vec![Span::styled(title, theme.strong), Span::styled(rest, theme.border)];
    frame.render_widget(Line::from(spans), area);
}

/// Draws a text in a panel that has nothing to show.
fn draw_empty(frame: &mut Frame<'_>, area: Rect, text: &str, theme: &Theme) {
    let area = area.inner(Margin::new(1, 0));
    let lines: Vec<Line<'_>> = text.lines().map(|line| Line::styled(line, theme.dim)).collect();
    let paragraph = Paragraph::new(lines).wrap(ratatui::widgets::Wrap { trim: true });
    frame.render_widget(paragraph, area);
}
