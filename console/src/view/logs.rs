//! The logs panel. Only the lines in sight are looked at, wrapped and drawn.

use hotswap_protocol::LogLevel;
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::plugins::row_of;
use super::text::{cut, cut_front, pad, wrap};
use super::theme::Theme;
use super::{draw_empty, panel};
use crate::action::Panel;
use crate::format;
use crate::state::State;
use crate::state::logs::{LogRow, Logs, Origin};

/// So many columns tell who wrote a line.
const WRITER_WIDTH: usize = 14;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let logs = &state.logs;
    let has_focus = state.focus == Panel::Logs;
    let inner = panel(frame, area, title(state, has_focus, theme), has_focus, theme);
    draw_mode(frame, area, logs, theme);
    if let Some(input) = &state.searching {
        // Behind `3 Logs  /` in the title.
        let column = "3 Logs  /".len() + input.visual_cursor() + 1;
        let x = area.x.saturating_add(u16::try_from(column).unwrap_or(u16::MAX));
        let x = x.min(area.right().saturating_sub(1));
        frame.set_cursor_position(Position::new(x, area.y));
    }
    if logs.passing() == 0 {
        let text = match logs.is_empty() {
            true => "no log yet: lines appear here once the host runs",
            false => "no line passes the filter\nEsc clears it, l changes the level",
        };
        return draw_empty(frame, inner, text, theme);
    }
    let width = usize::from(inner.width);
    for (offset, line) in
        visible_lines(logs, width, inner.height.into(), has_focus, theme).into_iter().enumerate()
    {
        frame.render_widget(line, row_of(inner, offset));
    }
}

/// `3 Logs  /vel  ≥ WARN  214 of 18,042`
fn title(state: &State, has_focus: bool, theme: &Theme) -> Line<'static> {
    let logs = &state.logs;
    let mut line = Line::from(Span::styled(
        "3 Logs",
        if has_focus { theme.title } else { theme.title_elsewhere },
    ));
    if state.searching.is_some() || !logs.pattern().is_empty() {
        let style = if state.searching.is_some() { theme.input } else { theme.strong };
        line.push_span(Span::raw("  /"));
        line.push_span(Span::styled(logs.pattern().to_owned(), style));
    }
    if let Some(level) = logs.level() {
        line.push_span(Span::styled(format!("  ≥ {}", level.as_str()), theme.strong));
    }
    let counts = if logs.passing() == logs.len() {
        format!("  {}", format::grouped(logs.len()))
    } else {
        format!("  {} of {}", format::grouped(logs.passing()), format::grouped(logs.len()))
    };
    line.push_span(Span::styled(counts, theme.dim));
    line
}

/// `FOLLOW`, or how many lines came meanwhile.
fn draw_mode(frame: &mut Frame<'_>, area: Rect, logs: &Logs, theme: &Theme) {
    let (text, style) = match (logs.follows(), logs.behind()) {
        (true, _) => (" FOLLOW ".to_owned(), theme.dim),
        (false, 0) => (" PAUSED ".to_owned(), theme.warning),
        (false, behind) => (format!(" PAUSED  {} below ", format::grouped(behind)), theme.warning),
    };
    let width = u16::try_from(format::width(&text)).unwrap_or(u16::MAX);
    if area.width > width + 34 {
        let x = area.right() - width - 1;
        frame.render_widget(Line::styled(text, style), Rect { x, width, height: 1, ..area });
    }
}

/// The lines that fit, so that the newest or the selected one is among them.
fn visible_lines(
    logs: &Logs,
    width: usize,
    height: usize,
    has_focus: bool,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let draw = |position: usize| {
        let Some(row) = logs.row(position) else { return Vec::new() };
        let selected = logs.cursor() == Some(position);
        let style = match (selected, has_focus) {
            (true, true) => Some(theme.selected),
            (true, false) => Some(theme.selected_elsewhere),
            (false, _) => None,
        };
        lines_of(row, logs, width, style, theme)
    };
    let mut lines = Vec::new();
    if let Some(cursor) = logs.cursor() {
        let mut cursor_is_visible = false;
        for position in logs.top()..logs.passing() {
            lines.extend(draw(position));
            cursor_is_visible |= position == cursor && lines.len() <= height;
            if lines.len() >= height {
                break;
            }
        }
        lines.truncate(height);
        if cursor_is_visible {
            return lines;
        }
    }
    // From the newest line, or the selected one, upwards.
    let last = logs.cursor().unwrap_or(logs.passing() - 1);
    let mut upwards = Vec::new();
    for position in (0..=last).rev() {
        upwards.extend(draw(position).into_iter().rev());
        if upwards.len() >= height {
            break;
        }
    }
    upwards.truncate(height);
    upwards.reverse();
    upwards
}

fn lines_of(
    row: &LogRow,
    logs: &Logs,
    width: usize,
    selected: Option<Style>,
    theme: &Theme,
) -> Vec<Line<'static>> {
    if row.origin == Origin::Marker {
        let text = cut(&format!("──── {} ", row.text), width);
        let rest = "─".repeat(width.saturating_sub(format::width(&text)));
        return vec![Line::styled(text + &rest, selected.unwrap_or(theme.marker))];
    }
    let lead = lead(row, theme);
    let lead_width: usize = lead.iter().map(Span::width).sum();
    let text_width = width.saturating_sub(lead_width);
    let parts = match logs.wrap {
        true => wrap(&row.text, text_width),
        false => vec![cut(&row.text, text_width)],
    };
    let mut lines = Vec::with_capacity(parts.len());
    for (position, part) in parts.into_iter().enumerate() {
        let mut spans = match position {
            0 => lead.clone(),
            _ => vec![Span::raw(" ".repeat(lead_width.min(width)))],
        };
        spans.extend(with_matches(&part, logs, theme));
        let mut line = Line::from(spans);
        if let Some(style) = selected {
            for span in &mut line.spans {
                span.style = span.style.patch(style);
            }
            let missing = width.saturating_sub(line.width());
            line.push_span(Span::styled(" ".repeat(missing), style));
        }
        lines.push(line);
    }
    lines
}

/// `12:03:07 WARN  world@v3         `
fn lead(row: &LogRow, theme: &Theme) -> Vec<Span<'static>> {
    let time = Span::styled(format!("{} ", format::clock(row.at_ms)), theme.dim);
    let (level, level_style, writer_style) = match &row.origin {
        Origin::Record { level, .. } => {
            let style = match level {
                LogLevel::Error => theme.bad,
                LogLevel::Warn => theme.warning,
                LogLevel::Info => theme.good,
                LogLevel::Debug | LogLevel::Trace => theme.dim,
            };
            (level.as_str(), style, theme.writer)
        }
        Origin::Output(_) | Origin::Marker => ("", theme.dim, theme.dim),
    };
    // The end of a target tells more than its beginning.
    let writer = pad(&cut_front(row.origin.writer(), WRITER_WIDTH), WRITER_WIDTH);
    vec![
        time,
        Span::styled(format!("{level:<5} "), level_style),
        Span::styled(format!("{writer} "), writer_style),
    ]
}

fn with_matches(text: &str, logs: &Logs, theme: &Theme) -> Vec<Span<'static>> {
    let Some(matcher) = logs.matcher() else { return vec![Span::raw(text.to_owned())] };
    let mut spans = Vec::new();
    let mut end = 0;
    for found in matcher.find_iter(text).filter(|found| !found.is_empty()) {
        spans.push(Span::raw(text[end..found.start()].to_owned()));
        spans.push(Span::styled(found.as_str().to_owned(), theme.matched));
        end = found.end();
    }
    spans.push(Span::raw(text[end..].to_owned()));
    spans
}
