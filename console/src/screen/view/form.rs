//! The form that calls a function.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::text::{Line, Span};
use ratatui_textarea::TextArea;
use tui_input::Input;

use super::draw_rule;
use super::plugins::row_of;
use super::text::{cut, pad, pad_name, wrap};
use super::theme::Theme;
use crate::format;
use crate::screen::layout;
use crate::screen::model::State;
use crate::screen::model::form::{Form, FormRow, Look};

/// The maximum width of a name or a value.
const WIDEST_NAME: usize = 24;
const WIDEST_VALUE: usize = 40;
/// The indentation of JSON below the parameter's name.
const JSON_INDENT: u16 = 4;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, form: &Form, state: &State, theme: &Theme) {
    let width = usize::from(area.width);
    draw_rule(frame, row_of(area, 0), &title(form), theme);
    let rows = form.rows();
    let name_width = |row: &FormRow<'_>| format::width(&row.node.name) + 2 * row.depth;
    let names = rows.iter().map(name_width).max().unwrap_or(0);
    let name_width = names.clamp(4, WIDEST_NAME.min(width / 3).max(4));
    let page = usize::from(area.height).saturating_sub(2).max(1);
    let has_keyboard = state.form_has_keyboard() && state.overlay.is_none();
    let focused = has_keyboard.then_some(form.focused);
    if form.is_json() {
        draw_json(frame, area, form, &rows, name_width, focused, theme);
    } else {
        let top = layout::first_visible(form.focused, page);
        for (offset, row) in rows.iter().skip(top).take(page).enumerate() {
            let is_focused = focused == Some(top + offset);
            draw_row(frame, row_of(area, offset + 1), row, name_width, is_focused, theme);
        }
    }
    // The host cannot be asked about a build that is only stored.
    let is_stored =
        form.compared.as_ref().is_some_and(|it| state.functions.stored_of(it).is_some());
    if let Ok(call) = form.call()
        && !is_stored
        && usize::from(area.height) > page + 1
    {
        let command = cut(&format!(" $ {}", call.command_line()), width);
        let last = usize::from(area.height).saturating_sub(1);
        frame.render_widget(Line::styled(command, theme.dim), row_of(area, last));
    }
}

/// The title: `world.greet  as JSON  × 100  and world@2`
fn title(form: &Form) -> String {
    let mut title = format!("{}.{}", form.target, form.function);
    if form.is_async {
        title.push_str("  async");
    }
    if form.is_json() {
        title.push_str("  as JSON");
    }
    if form.repeat > 1 {
        title.push_str(&format!("  × {}", format::thousands(u64::from(form.repeat))));
    }
    if let Some(compared) = &form.compared {
        title.push_str(&format!("  A/B with {compared}"));
    }
    title
}

/// Draws the parameters as JSON: each name, and below it the typed text.
fn draw_json(
    frame: &mut Frame<'_>,
    area: Rect,
    form: &Form,
    rows: &[FormRow<'_>],
    name_width: usize,
    focused: Option<usize>,
    theme: &Theme,
) {
    let page = usize::from(area.height).saturating_sub(2).max(1);
    let mut offset = 1;
    for (index, lines) in form.json_in_sight(page) {
        let Some((row, editor)) = rows.get(index).and_then(|row| Some((row, row.json?))) else {
            return;
        };
        let is_focused = focused == Some(index);
        let style = if is_focused { theme.title } else { theme.plain };
        let mut line = Line::from(vec![
            Span::styled(if is_focused { "▸ " } else { "  " }, style),
            Span::styled(pad_name(&row.node.name, name_width), style),
        ]);
        push_note(&mut line, row, is_focused, usize::from(area.width), theme);
        frame.render_widget(line, row_of(area, offset));
        let text = row_of(area, offset + 1);
        let height = u16::try_from(lines).unwrap_or(u16::MAX);
        let text = Rect { x: text.x + JSON_INDENT, height, ..text }.intersection(area);
        frame.render_widget(editor, text);
        if is_focused && !text.is_empty() {
            let cursor = cursor_in(text, editor);
            frame.buffer_mut().set_style(Rect { y: cursor.y, height: 1, ..text }, theme.input);
            frame.set_cursor_position(cursor);
        }
        offset += 1 + lines;
    }
}

/// The position of the editor's cursor on the screen.
fn cursor_in(area: Rect, editor: &TextArea<'_>) -> Position {
    let (cursor, (top, left)) = (editor.screen_cursor(), editor.scroll_offset());
    let within = |at: usize, from: u16, start: u16, end: u16| {
        let at = u16::try_from(at).unwrap_or(u16::MAX).saturating_sub(from);
        start.saturating_add(at).min(end.saturating_sub(1))
    };
    let x = within(cursor.col, left, area.x, area.right());
    let y = within(cursor.row, top, area.y, area.bottom());
    Position::new(x, y)
}

/// Draws a line of the form: `▸ times [ 2            ] ✓ u32`
fn draw_row(
    frame: &mut Frame<'_>,
    area: Rect,
    row: &FormRow<'_>,
    name_width: usize,
    is_focused: bool,
    theme: &Theme,
) {
    let width = usize::from(area.width);
    let room = width.saturating_sub(name_width);
    let value_width = (room * 2 / 5).clamp(4, WIDEST_VALUE);
    let style = if is_focused { theme.title } else { theme.plain };
    let name = format!("{}{}", "  ".repeat(row.depth), row.node.name);
    let mut line = Line::from(vec![
        Span::styled(if is_focused { "▸ " } else { "  " }, style),
        Span::styled(pad_name(&name, name_width), style),
    ]);
    let cursor = match row.node.look() {
        Look::Text(input) => {
            let (shown, cursor) = window(input, value_width);
            line.push_span(Span::styled(" [", theme.dim));
            line.push_span(Span::styled(format!(" {shown}"), theme.input));
            line.push_span(Span::styled("]", theme.dim));
            Some(line.width() - value_width - 1 + cursor)
        }
        Look::Choice(chosen) => {
            line.push_span(Span::styled(" ‹ ", theme.key));
            line.push_span(Span::styled(cut(&chosen, value_width), style));
            line.push_span(Span::styled(" ›", theme.key));
            None
        }
        Look::Absent => {
            line.push_span(Span::styled("   none", theme.dim));
            None
        }
        Look::Group(text) => {
            line.push_span(Span::styled(format!("   {text}"), theme.dim));
            None
        }
    };
    push_note(&mut line, row, is_focused, width, theme);
    frame.render_widget(line, area);
    if is_focused && let Some(column) = cursor {
        let column = u16::try_from(column).unwrap_or(u16::MAX);
        let x = area.x.saturating_add(column).min(area.right().saturating_sub(1));
        frame.set_cursor_position(Position::new(x, area.y));
    }
}

/// Adds to a line whether the value is valid, in the room that is left.
fn push_note(
    line: &mut Line<'_>,
    row: &FormRow<'_>,
    is_focused: bool,
    width: usize,
    theme: &Theme,
) {
    let (mark, note, note_style) = note(row, is_focused, theme);
    let mark_style = if mark == "✗" { theme.bad } else { theme.good };
    line.push_span(Span::styled(format!(" {mark} "), mark_style));
    let left = width.saturating_sub(line.width());
    line.push_span(Span::styled(cut(&note, left), note_style));
}

/// The mark and the note of a line: whether the value is valid, and a hint.
fn note(
    row: &FormRow<'_>,
    is_focused: bool,
    theme: &Theme,
) -> (&'static str, String, ratatui::style::Style) {
    let node = row.node;
    let is_blank = row.json.map_or(node.is_blank(), TextArea::is_empty);
    let with_hint = |hint: String| match hint.as_str() {
        "" => node.type_name.clone(),
        hint if node.type_name.is_empty() => hint.to_owned(),
        hint if hint == node.type_name => hint.to_owned(),
        hint => format!("{}: {hint}", node.type_name),
    };
    match Form::problem(row) {
        // An empty field is not an error yet.
        Some(_) if is_blank => (" ", with_hint(node.expected()), theme.dim),
        Some(wrong) => ("✗", wrong, theme.bad),
        None if is_focused && row.json.is_none() && !matches!(node.look(), Look::Text(_)) => {
            let hint = match node.look() {
                Look::Absent => "type to give one".into(),
                _ => node.expected(),
            };
            (" ", with_hint(hint), theme.dim)
        }
        None if matches!(node.look(), Look::Text(_)) || row.json.is_some() => {
            ("✓", node.type_name.clone(), theme.dim)
        }
        None => (" ", node.type_name.clone(), theme.dim),
    }
}

/// The part of a text that fits into `width` columns, and the column of the cursor.
fn window(input: &Input, width: usize) -> (String, usize) {
    let scroll = input.visual_scroll(width.saturating_sub(1));
    let text = input.value();
    let mut column = 0;
    let from = text.char_indices().find(|(_, c)| {
        let is_there = column >= scroll;
        column += unicode_width::UnicodeWidthChar::width(*c).unwrap_or(0);
        is_there
    });
    let start = from.map_or(text.len(), |(start, _)| start);
    let rest = wrap(&text[start..], width).swap_remove(0);
    (pad(&rest, width), input.visual_cursor().saturating_sub(scroll).min(width))
}
