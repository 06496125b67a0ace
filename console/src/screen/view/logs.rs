//! The logs panel. Only the visible lines are wrapped and drawn.

use ansi_to_tui::IntoText;
use hotswap_protocol::LogLevel;
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::plugins::row_of;
use super::text::{cut, cut_front, cut_spans, pad, selected, wrap_spans_at_words};
use super::theme::Theme;
use super::{draw_empty, panel};
use crate::format;
use crate::screen::layout::Panel;
use crate::screen::model::logs::{LogRow, Logs, Origin, in_sight};
use crate::screen::model::{SearchField, State};

/// The width of the column of writers. The time, a mark and the level come before it.
const WRITER_WIDTH: usize = in_sight::LEAD_WIDTH - 16;

/// With fewer columns, the panel does not show the time zone.
const LEAST_FOR_ZONE: u16 = 80;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let logs = &state.logs;
    let has_focus = state.focus == Panel::Logs;
    let (title, typed_at) = title(state, has_focus, theme);
    let title_width = u16::try_from(title.width()).unwrap_or(u16::MAX);
    let before: usize = title.spans[..typed_at].iter().map(Span::width).sum();
    let inner = panel(frame, area, title, has_focus, theme);
    draw_mode(frame, area, title_width, logs, theme);
    let is_of_log = matches!(state.searching_in, SearchField::Pattern | SearchField::Writers);
    if let Some(input) = state.searching.as_ref().filter(|_| is_of_log) {
        let column = before + input.visual_cursor() + 1;
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
    let rows = in_sight::rows(logs, inner);
    let mut offset = 0;
    for rows in rows.chunk_by(|a, b| a.position == b.position) {
        let Some(row) = logs.row(rows[0].position) else { continue };
        let is_replaced = is_replaced(row, state);
        let style = logs.is_selected(row).then_some(theme.selection(has_focus));
        let lines = lines_of(row, logs, inner.width.into(), (style, is_replaced), theme);
        for line in lines.into_iter().skip(rows[0].part).take(rows.len()) {
            frame.render_widget(line, row_of(inner, offset));
            offset += 1;
        }
    }
}

/// The title, `3 Logs  ≥ WARN  of world@3  /vel  214 of 18,042`, and the index of the part that is being typed.
fn title(state: &State, has_focus: bool, theme: &Theme) -> (Line<'static>, usize) {
    let logs = &state.logs;
    let mut line = Line::from(Span::styled(
        "3 Logs",
        if has_focus { theme.title } else { theme.title_elsewhere },
    ));
    let mut typed_at = 0;
    if let Some(level) = logs.level() {
        line.push_span(Span::styled(format!("  ≥ {}", level.as_str()), theme.strong));
    }
    let is_typed = |field| state.searching.is_some() && state.searching_in == field;
    // Room is kept for the number of lines that pass.
    let widest = usize::from(state.size.0) / 4;
    let mut part = |field, lead: String, text: &str| {
        let typed = is_typed(field);
        if typed || !text.is_empty() {
            line.push_span(Span::raw(lead));
            if typed {
                typed_at = line.spans.len();
            }
            let style = if typed { theme.input } else { theme.strong };
            let text = if typed { text.to_owned() } else { cut(text, widest) };
            line.push_span(Span::styled(text, style));
        }
    };
    part(SearchField::Writers, "  of ".into(), logs.writer_filter());
    let lead = match (logs.is_inverted(), logs.shows_others()) {
        (true, _) => "  not /",
        (false, true) => "  search /",
        (false, false) => "  /",
    };
    part(SearchField::Pattern, lead.into(), logs.pattern());
    let more = if logs.is_scanning() { "…" } else { "" };
    let counts = if logs.passing() == logs.len() {
        format!("  {}", format::thousands(logs.len() as u64))
    } else {
        let passing = format::thousands(logs.passing() as u64);
        format!("  {passing}{more} of {}", format::thousands(logs.len() as u64))
    };
    line.push_span(Span::styled(counts, theme.dim));
    (line, typed_at)
}

/// Draws the mode: `FOLLOW`, or `PAUSED` with the number of lines below the selected one.
fn draw_mode(frame: &mut Frame<'_>, area: Rect, title_width: u16, logs: &Logs, theme: &Theme) {
    let (mode, style) = match (logs.follows(), logs.behind()) {
        (true, _) => (" FOLLOW ".to_owned(), theme.dim),
        (false, 0) => (" PAUSED ".to_owned(), theme.warning),
        (false, behind) => {
            (format!(" PAUSED  {} below ", format::thousands(behind as u64)), theme.warning)
        }
    };
    let text = match area.width >= LEAST_FOR_ZONE {
        true => format!(" {} {mode}", format::zone()),
        false => mode,
    };
    let width = u16::try_from(format::width(&text)).unwrap_or(u16::MAX);
    // Two corners, and a blank on each side.
    if area.width >= title_width.saturating_add(width + 4) {
        let x = area.right() - width - 1;
        frame.render_widget(Line::styled(text, style), Rect { x, width, height: 1, ..area });
    }
}

/// Whether the line's writer is a version that no longer serves.
fn is_replaced(row: &LogRow, state: &State) -> bool {
    let Origin::Record { writer, .. } = &row.origin else { return false };
    let Some((plugin, version)) = &writer.version else { return false };
    state.plugins.version_of(plugin).is_some_and(|serving| serving != *version)
}

fn lines_of(
    row: &LogRow,
    logs: &Logs,
    width: usize,
    (selected_style, is_replaced): (Option<Style>, bool),
    theme: &Theme,
) -> Vec<Line<'static>> {
    if row.origin.is_marker() {
        let text = cut(&format!("──── {} ", row.text), width);
        let rest = "─".repeat(width.saturating_sub(format::width(&text)));
        let style = match row.origin {
            Origin::Dropped(_) => theme.warning,
            _ => theme.marker,
        };
        return vec![Line::styled(text + &rest, selected_style.unwrap_or(style))];
    }
    let mark = match logs.is_marked(row) {
        true => Span::styled("◆", theme.warning),
        false => Span::raw(" "),
    };
    let lead = lead(row, mark, theme);
    let text_width = in_sight::text_width(width);
    let mut text = spans_of(row, theme);
    if is_replaced {
        text.iter_mut().for_each(|span| span.style = span.style.patch(theme.dim));
    }
    let text = with_matches(text, logs, theme);
    let parts = match logs.wrap {
        true => wrap_spans_at_words(text, text_width),
        false => vec![cut_spans(text, text_width)],
    };
    let mut lines = Vec::with_capacity(parts.len());
    for (position, part) in parts.into_iter().enumerate() {
        let mut spans = match position {
            0 => lead.clone(),
            _ => vec![Span::raw(" ".repeat(width - text_width))],
        };
        spans.extend(part);
        let line = Line::from(spans);
        lines.push(match selected_style {
            Some(style) => selected(line, width, style),
            None => line,
        });
    }
    lines
}

/// The text of a line, in the colours that the host gave it.
fn spans_of(row: &LogRow, theme: &Theme) -> Vec<Span<'static>> {
    let coloured = row.coloured.as_deref().filter(|_| theme.has_colours);
    let parsed = coloured.and_then(|text| text.into_text().ok());
    let Some(line) = parsed.and_then(|text| text.lines.into_iter().next()) else {
        return vec![Span::raw(row.text.clone())];
    };
    let printable = |span: Span<'_>| {
        let text: String = span.content.chars().filter(|c| !c.is_control()).collect();
        Span::styled(text, span.style)
    };
    line.spans.into_iter().map(printable).collect()
}

/// The beginning of a line: `12:03:07 WARN  world@v3         `
fn lead(row: &LogRow, mark: Span<'static>, theme: &Theme) -> Vec<Span<'static>> {
    let time = Span::styled(format::clock(row.at_ms), theme.dim);
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
        Origin::Output(_) | Origin::Marker | Origin::Dropped(_) => ("", theme.dim, theme.dim),
    };
    // A long target is cut at its beginning, because its end says more.
    let writer = pad(&cut_front(row.origin.writer(), WRITER_WIDTH), WRITER_WIDTH);
    vec![
        time,
        mark,
        Span::styled(format!("{level:<5} "), level_style),
        Span::styled(format!("{writer} "), writer_style),
    ]
}

/// Highlights the matches of the filter in spans.
fn with_matches(spans: Vec<Span<'static>>, logs: &Logs, theme: &Theme) -> Vec<Span<'static>> {
    let Some(matcher) = logs.matcher() else { return spans };
    let text: String = spans.iter().map(|span| span.content.as_ref()).collect();
    let matches = matcher.find_iter(&text).filter(|found| !found.is_empty());
    let matches: Vec<(usize, usize)> = matches.map(|found| (found.start(), found.end())).collect();
    let mut parts = Vec::new();
    let mut start = 0;
    for span in spans {
        let end = start + span.content.len();
        let mut from = start;
        for (first, last) in matches.iter().map(|(a, b)| (*a.max(&start), *b.min(&end))) {
            if first < last {
                parts.push(Span::styled(text[from..first].to_owned(), span.style));
                let style = span.style.patch(theme.matched);
                parts.push(Span::styled(text[first..last].to_owned(), style));
                from = last;
            }
        }
        parts.push(Span::styled(text[from..end].to_owned(), span.style));
        start = end;
    }
    parts.retain(|span| !span.content.is_empty());
    parts
}
