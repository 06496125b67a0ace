//! The Functions tab: the functions, the form, and what the calls gave.

use hotswap_protocol::FunctionInfo;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::text::{Line, Span};

use super::plugins::row_of;
use super::text::{cut, pad, pad_left, wrap};
use super::theme::Theme;
use super::{draw_empty, draw_rule};
use crate::action::Panel;
use crate::format;
use crate::state::State;
use crate::state::form::{Field, Form};
use crate::state::functions::CallResult;

const CALLS_WIDTH: usize = 7;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let functions = state.plugins.functions();
    if functions.is_empty() {
        let text = match state.plugins.selected() {
            Some(row) => format!("{} has no functions that a console can call", row.plugin.name),
            None => "no plugin is selected".into(),
        };
        return draw_empty(frame, area, &text, theme);
    }
    let form_height = state.functions.form.as_ref().map_or(0, form_height);
    let table_height = u16::try_from(functions.len() + 1).unwrap_or(u16::MAX);
    // An open form is what one looks at; the table gives way to it.
    let least_below = if form_height > 0 { form_height + 1 } else { 3 };
    let table_height = table_height.min(area.height.saturating_sub(least_below)).max(1);
    let [table, form, results] = Layout::vertical([
        Constraint::Length(table_height),
        Constraint::Length(form_height),
        Constraint::Fill(1),
    ])
    .areas(area);
    draw_table(frame, table, functions, state, theme);
    match &state.functions.form {
        Some(open) => {
            draw_form(frame, form, open, state, theme);
            draw_results(frame, results, state, theme);
        }
        None => {
            let doc = functions.get(state.functions.selected).map_or("", |it| it.doc.as_str());
            let [doc_area, results] =
                Layout::vertical([Constraint::Length(3), Constraint::Fill(1)]).areas(results);
            let doc = doc.lines().next().unwrap_or_default();
            let doc = Line::styled(
                format!(" {}", cut(doc, area.width.saturating_sub(2).into())),
                theme.dim,
            );
            frame.render_widget(doc, row_of(doc_area, 1));
            draw_results(frame, results, state, theme);
        }
    }
}

fn draw_table(
    frame: &mut Frame<'_>,
    area: Rect,
    functions: &[FunctionInfo],
    state: &State,
    theme: &Theme,
) {
    let width = usize::from(area.width).saturating_sub(2);
    let names = functions.iter().map(|it| format::width(&it.name)).max().unwrap_or(0);
    let name_width = names.clamp(8, width / 3 + 8);
    let signature_width = width.saturating_sub(name_width + CALLS_WIDTH + 2);
    let columns = |name: &str, signature: &str, calls: &str| {
        format!(
            " {}  {}{} ",
            pad(name, name_width),
            pad(signature, signature_width),
            pad_left(calls, CALLS_WIDTH)
        )
    };
    let header = columns("name", "signature", "calls");
    frame.render_widget(Line::styled(header, theme.dim), row_of(area, 0));
    let page = usize::from(area.height).saturating_sub(1);
    let selected = state.functions.selected.min(functions.len() - 1);
    let top = (selected + 1).saturating_sub(page);
    for (offset, function) in functions.iter().skip(top).take(page).enumerate() {
        let text = columns(&function.name, &function.signature, &format::count(function.calls));
        let style = match (top + offset == selected, state.focus) {
            (true, Panel::Tabs) if state.functions.form.is_none() => theme.selected,
            (true, _) => theme.selected_elsewhere,
            (false, _) => theme.plain,
        };
        frame.render_widget(Line::styled(text, style), row_of(area, offset + 1));
    }
}

/// A rule, a line a field, and the command that does the same.
fn form_height(form: &Form) -> u16 {
    u16::try_from(form.fields.len()).unwrap_or(u16::MAX).saturating_add(2)
}

fn draw_form(frame: &mut Frame<'_>, area: Rect, form: &Form, state: &State, theme: &Theme) {
    let width = usize::from(area.width);
    draw_rule(frame, row_of(area, 0), &format!("{}.{}", form.target, form.function), theme);
    let names = form.fields.iter().map(|it| format::width(&it.name)).max().unwrap_or(0);
    let name_width = names.clamp(4, 16);
    let page = usize::from(area.height).saturating_sub(2);
    let top = (form.focused + 1).saturating_sub(page);
    let has_keyboard = state.form_has_keyboard() && state.overlay.is_none();
    for (offset, field) in form.fields.iter().skip(top).take(page).enumerate() {
        let is_focused = has_keyboard && top + offset == form.focused;
        draw_field(frame, row_of(area, offset + 1), field, name_width, is_focused, theme);
    }
    if let Ok(call) = form.call() {
        let command = cut(&format!(" $ {}", call.command_line()), width);
        let last = usize::from(area.height).saturating_sub(1);
        frame.render_widget(Line::styled(command, theme.dim), row_of(area, last));
    }
}

/// `  times [ 2            ] ✓ u32`
fn draw_field(
    frame: &mut Frame<'_>,
    area: Rect,
    field: &Field,
    name_width: usize,
    is_focused: bool,
    theme: &Theme,
) {
    let width = usize::from(area.width);
    let input_width = (width.saturating_sub(name_width) * 2 / 5).clamp(4, 32);
    let scroll = field.input.visual_scroll(input_width.saturating_sub(1));
    let shown: String = visible_part(field.input.value(), scroll, input_width);
    let (mark, note, note_style) = match field.value() {
        Ok(_) => ("✓", field.type_name.clone(), theme.dim),
        // An empty field is not a mistake yet.
        Err(_) if field.input.value().is_empty() => {
            (" ", format!("{}: {}", field.type_name, field.expected()), theme.dim)
        }
        Err(wrong) => ("✗", wrong, theme.bad),
    };
    let mark_style = if mark == "✗" { theme.bad } else { theme.good };
    let name_style = if is_focused { theme.title } else { theme.plain };
    let lead = if is_focused { "▸ " } else { "  " };
    let used = 2 + name_width + 3 + input_width + 5;
    let line = Line::from(vec![
        Span::styled(lead, name_style),
        Span::styled(pad(&field.name, name_width), name_style),
        Span::styled(" [", theme.dim),
        Span::styled(format!(" {shown}"), theme.input),
        Span::styled("]", theme.dim),
        Span::styled(format!(" {mark} "), mark_style),
        Span::styled(cut(&note, width.saturating_sub(used)), note_style),
    ]);
    frame.render_widget(line, area);
    if is_focused && area.width > 0 {
        let cursor = field.input.visual_cursor().saturating_sub(scroll).min(input_width);
        let column = u16::try_from(2 + name_width + 3 + cursor).unwrap_or(u16::MAX);
        let x = area.x.saturating_add(column).min(area.right().saturating_sub(1));
        frame.set_cursor_position(Position::new(x, area.y));
    }
}

/// `width` columns of the text, from column `scroll` on.
fn visible_part(text: &str, scroll: usize, width: usize) -> String {
    let mut column = 0;
    let from = text.char_indices().find(|(_, c)| {
        let is_there = column >= scroll;
        column += unicode_width::UnicodeWidthChar::width(*c).unwrap_or(0);
        is_there
    });
    let start = from.map_or(text.len(), |(start, _)| start);
    let rest = wrap(&text[start..], width).swap_remove(0);
    pad(&rest, width)
}

fn draw_results(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let width = usize::from(area.width).saturating_sub(4);
    let lines =
        state.functions.results.iter().flat_map(|result| result_lines(result, width, theme));
    for (offset, line) in lines.take(area.height.into()).enumerate() {
        frame.render_widget(line, row_of(area, offset));
    }
}

/// `✔ greet("Ada", 2)  world v3  8 µs` and the value below.
fn result_lines(result: &CallResult, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let (mark, style, facts, body) = match &result.answer {
        Ok(answer) => (
            "✔",
            theme.good,
            format!(
                "  {} v{}  {}",
                answer.plugin,
                answer.version,
                format::microseconds(answer.elapsed_us)
            ),
            format!("{:#}", answer.value),
        ),
        Err(error) => ("✘", theme.bad, String::new(), error.to_string()),
    };
    let call_width = width.saturating_sub(format::width(&facts));
    let mut lines = vec![Line::from(vec![
        Span::styled(format!(" {mark} "), style),
        Span::raw(cut(&result.call, call_width)),
        Span::styled(facts, theme.dim),
    ])];
    let body_style = if result.answer.is_ok() { theme.plain } else { theme.bad };
    for line in body.lines().flat_map(|line| wrap(line, width)) {
        lines.push(Line::styled(format!("   {line}"), body_style));
    }
    lines
}
