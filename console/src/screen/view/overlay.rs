//! The overlays: help, details, questions, and the report on a host that ended.

use ratatui::Frame;
use ratatui::layout::{Margin, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear};

use super::plugins::row_of;
use super::text::{cut, pad, wrap};
use super::theme::Theme;
use super::{crash, diff, fleet, palette, pins};
use crate::format;
use crate::screen::layout::boxes;
use crate::screen::model::State;
use crate::screen::model::help::{self, HelpRow};
use crate::screen::model::overlay::{HostInput, Overlay};
use crate::screen::model::preview::PreviewCard;
use crate::screen::model::rollback::Rollback;

/// The maximum width of a line for the host.
const INPUT_WIDTH: usize = 72;

pub(super) fn draw(frame: &mut Frame<'_>, state: &State, theme: &Theme) {
    match &state.overlay {
        None => {}
        Some(Overlay::Help { top }) => draw_help(frame, *top, state, theme),
        Some(Overlay::Details { title, lines, top }) => {
            let lines = text_lines(lines, frame.area().width);
            let hint = "y copies   Esc closes";
            draw_box(frame, title, lines, *top, hint, theme.focused_border, theme);
        }
        Some(Overlay::Confirm { question, lines, cancels, .. }) => {
            let lines = text_lines(lines, frame.area().width);
            let hint = match cancels {
                true => "c cancels the call and frees   y frees when it ends   Esc no",
                false => "y yes   Esc no",
            };
            draw_box(frame, question, lines, 0, hint, theme.warning, theme);
        }
        Some(Overlay::FleetQuestion { question, lines, .. }) => {
            let lines = text_lines(lines, frame.area().width);
            draw_box(frame, question, lines, 0, "y yes   Esc no", theme.warning, theme);
        }
        Some(Overlay::Releases(choice)) => {
            let top = choice.selected.saturating_sub(usize::from(frame.area().height / 2));
            let lines = fleet::releases_in_box(choice, theme);
            let hint = "↑ ↓ choose   Enter goes on   Esc closes";
            draw_box(frame, &choice.title(), lines, top, hint, theme.focused_border, theme);
        }
        Some(Overlay::Palette(palette)) => palette::draw(frame, palette, state, theme),
        Some(Overlay::Input(input)) => draw_input(frame, input, theme),
        Some(Overlay::Preview(card)) => draw_preview(frame, card, theme),
        Some(Overlay::Rollback(rollback)) => {
            let width = usize::from(frame.area().width).saturating_sub(6);
            let title = format!("Roll {} back to", rollback.plugin);
            let top = rollback.selected.saturating_sub(usize::from(frame.area().height / 2));
            let lines = rollback_lines(rollback, width, state.now_ms, theme);
            let hint = match rollback.choices.is_empty() {
                true => "Esc closes",
                false => "↑ ↓ choose   Enter rolls back   Esc closes",
            };
            draw_box(frame, &title, lines, top, hint, theme.focused_border, theme);
        }
        Some(Overlay::Pins(list)) => {
            let width = usize::from(frame.area().width).saturating_sub(6);
            let top = list.selected.saturating_sub(usize::from(frame.area().height / 2));
            let lines = pins::lines_in_box(state, list.selected, width, theme);
            let hint = "Enter shows both answers   x unpins   Esc closes";
            draw_box(frame, "Pinned calls", lines, top, hint, theme.focused_border, theme);
        }
        Some(Overlay::HostEnded(card)) => {
            let lines = crash::lines(card, state, frame.area(), theme);
            draw_box(frame, "The host ended", lines, 0, crash::hint(card), theme.bad, theme);
        }
    }
}

/// A text in a box on a screen of this width, in full.
fn text_lines(lines: &[String], screen_width: u16) -> Vec<Line<'static>> {
    boxes::details(lines, screen_width).into_iter().map(Line::raw).collect()
}

fn draw_input(frame: &mut Frame<'_>, input: &HostInput, theme: &Theme) {
    let width = usize::from(frame.area().width).saturating_sub(6).min(INPUT_WIDTH);
    let lines = vec![Line::styled(pad(&format!("> {}", input.line.value()), width), theme.strong)];
    let (title, hint) = ("A line for the host", "Enter sends it   Esc closes");
    let area = draw_box(frame, title, lines, 0, hint, theme.focused_border, theme);
    palette::set_cursor(frame, area, &input.line);
}

fn draw_preview(frame: &mut Frame<'_>, card: &PreviewCard, theme: &Theme) {
    let (lines, hint) = match &card.lines {
        None => {
            let text = "Opening the new artifacts in a process of their own …";
            (vec![Line::raw(text)], "Esc closes")
        }
        Some(_) => {
            let hint = match (card.can_reload, card.can_replay()) {
                (true, true) => "r reloads   a makes pinned calls in both   y copies   Esc closes",
                (true, false) => "r reloads   y copies   Esc closes",
                (false, _) => "y copies   Esc closes",
            };
            (diff::in_box(&card.all_lines(), frame.area().width, theme), hint)
        }
    };
    draw_box(frame, "What a reload changes", lines, card.top, hint, theme.focused_border, theme);
}

fn draw_help(frame: &mut Frame<'_>, top: usize, state: &State, theme: &Theme) {
    let (_, width) = boxes::help_columns(state.size.0);
    let lines =
        help::rows(state).into_iter().map(|columns| help_line(columns, width, theme)).collect();
    let hint = "↑ ↓ scroll   Esc closes";
    draw_box(frame, "Keys that do something here", lines, top, hint, theme.focused_border, theme);
}

fn help_line(columns: Vec<HelpRow>, width: usize, theme: &Theme) -> Line<'static> {
    let mut line = Line::default();
    for (position, row) in columns.into_iter().enumerate() {
        if position > 0 {
            let start = position * (width + usize::from(boxes::COLUMN_GAP));
            line.push_span(" ".repeat(start.saturating_sub(line.width())));
        }
        if row.is_heading {
            line.push_span(Span::styled(row.text, theme.strong));
        } else if !row.text.is_empty() {
            let keys = pad(&row.keys, help::KEYS_WIDTH);
            line.push_span(Span::styled(keys, theme.key));
            line.push_span(Span::raw(row.text));
        }
    }
    line
}

/// The lines of the choice of a rollback: `  v2  freed   2c0ffee0  12:03:07 UTC, 4m ago  b135eab0 main*`
fn rollback_lines(
    rollback: &Rollback,
    width: usize,
    now_ms: u64,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let choices = rollback.choices.iter().enumerate().map(|(position, choice)| {
        let version = choice.version.map_or_else(String::new, |version| format!("v{version}"));
        let source = choice.source.as_ref().map_or_else(String::new, |source| {
            let dirty = if source.dirty { "*" } else { "" };
            format!("{} {}{dirty}", source.commit.get(..8).unwrap_or_default(), source.branch)
        });
        let text = format!(
            "{version:<4} {:<8} {}  {}  {:<16}  {source}",
            choice.state,
            format::short_build_id(&choice.build_id),
            format::clock(choice.at_ms),
            format!("{} ago", format::duration(now_ms.saturating_sub(choice.at_ms))),
        );
        let style = if position == rollback.selected { theme.selected } else { theme.plain };
        Line::styled(cut(text.trim_end(), width), style)
    });
    let mut lines: Vec<Line<'_>> = choices.collect();
    if lines.is_empty() {
        lines.push(Line::raw("There is no other version, and no other build is stored."));
    }
    if let Some(problem) = &rollback.problem {
        lines.push(Line::default());
        lines.extend(wrap(problem, width).into_iter().map(|line| Line::styled(line, theme.bad)));
    }
    lines
}

/// Draws a centred box as large as its text, if the screen is large enough, and returns the area of the text.
pub(super) fn draw_box(
    frame: &mut Frame<'_>,
    title: &str,
    lines: Vec<Line<'_>>,
    top: usize,
    hint: &str,
    border: Style,
    theme: &Theme,
) -> Rect {
    let screen = frame.area();
    let widest = lines.iter().map(Line::width).max().unwrap_or(0);
    let widest = widest.max(format::width(hint)).max(format::width(title)) + 6;
    let width = u16::try_from(widest).unwrap_or(u16::MAX).min(screen.width);
    let height = u16::try_from(lines.len() + 4).unwrap_or(u16::MAX).min(screen.height);
    let area =
        Rect { x: (screen.width - width) / 2, y: (screen.height - height) / 2, width, height };
    frame.render_widget(Clear, area);
    let block = Block::bordered()
        .border_style(border)
        .title(Span::styled(format!(" {title} "), theme.strong))
        .title_bottom(Line::styled(format!(" {hint} "), theme.dim).right_aligned());
    frame.render_widget(block, area);
    let inner = area.inner(Margin::new(3, 2));
    let page = usize::from(inner.height);
    let top = top.min(lines.len().saturating_sub(page));
    for (offset, line) in lines.into_iter().skip(top).take(page).enumerate() {
        frame.render_widget(line, row_of(inner, offset));
    }
    inner
}
