//! The Functions tab: the functions, the form, and what the calls gave.

use hotswap_protocol::FunctionInfo;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;

use super::plugins::row_of;
use super::text::{cut, pad, pad_left};
use super::theme::Theme;
use super::{draw_empty, form, results};
use crate::format;
use crate::screen::layout::{self, Panel};
use crate::screen::model::State;

const CALLS_WIDTH: usize = 7;
const VERSION_WIDTH: usize = 7;
const LATENCY_WIDTH: usize = 8;
/// A narrower table does without version and latencies.
const LEAST_FOR_ALL: usize = 66;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let functions = state.plugins.functions();
    if functions.is_empty() {
        let text = match state.plugins.selected() {
            Some(row) => format!("{} has no functions that a console can call", row.plugin.name),
            None => "no plugin is selected".into(),
        };
        return draw_empty(frame, area, &text, theme);
    }
    let form_lines = state.functions.form.as_ref().map(|form| form.line_count());
    let has_results = !state.functions.results.is_empty();
    let [table, form_area, results_area] =
        layout::of_functions(area, functions.len(), form_lines, has_results);
    draw_table(frame, table, functions, state, theme);
    match &state.functions.form {
        Some(open) => {
            form::draw(frame, form_area, open, state, theme);
            results::draw(frame, results_area, state, theme);
        }
        None => {
            let doc = functions.get(state.functions.selected).map_or("", |it| it.doc.as_str());
            let [doc_area, results_area] =
                Layout::vertical([Constraint::Length(3), Constraint::Fill(1)]).areas(results_area);
            let doc = doc.lines().next().unwrap_or_default();
            let doc = Line::styled(
                format!(" {}", cut(doc, area.width.saturating_sub(2).into())),
                theme.dim,
            );
            frame.render_widget(doc, row_of(doc_area, 1));
            let selected = functions.get(state.functions.selected);
            if let Some(failed) = selected.and_then(|it| format::failures(&it.failures)) {
                let text = format!(" {}", cut(&failed, area.width.saturating_sub(2).into()));
                frame.render_widget(Line::styled(text, theme.bad), row_of(doc_area, 2));
            }
            results::draw(frame, results_area, state, theme);
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
    if area.height == 0 {
        return;
    }
    let width = usize::from(area.width).saturating_sub(2);
    let names = functions.iter().map(|it| format::width(&it.name)).max().unwrap_or(0);
    let name_width = names.clamp(8, width / 3 + 8);
    let has_all = width >= LEAST_FOR_ALL;
    let right_width = if has_all { VERSION_WIDTH + 2 * LATENCY_WIDTH } else { 0 };
    let signature_width = width.saturating_sub(name_width + CALLS_WIDTH + right_width + 2);
    let columns =
        |name: &str, signature: &str, version: &str, calls: &str, p50: &str, p99: &str| {
            let left = format!(" {}  {}", pad(name, name_width), pad(signature, signature_width));
            let calls = pad_left(calls, CALLS_WIDTH);
            if has_all {
                let version = pad_left(version, VERSION_WIDTH);
                let (p50, p99) = (pad_left(p50, LATENCY_WIDTH), pad_left(p99, LATENCY_WIDTH));
                format!("{left}{version}{calls}{p50}{p99} ")
            } else {
                format!("{left}{calls} ")
            }
        };
    let header = columns("name", "signature", "version", "calls", "p50", "p99");
    frame.render_widget(Line::styled(header, theme.dim), row_of(area, 0));
    let plugin = state.plugins.selected().map_or("", |row| row.plugin.name.as_str());
    let version = state.plugins.version_of(plugin);
    let version = version.map_or_else(String::new, |version| format!("v{version}"));
    let latency =
        |us: Option<f64>| us.map_or_else(|| "–".to_owned(), format::fractional_microseconds);
    let page = usize::from(area.height).saturating_sub(1);
    let selected = state.functions.selected.min(functions.len() - 1);
    let top = layout::first_visible(selected, page);
    for (offset, function) in functions.iter().skip(top).take(page).enumerate() {
        let text = columns(
            &function.name,
            &function.signature,
            &version,
            &format::count(function.calls),
            &latency(function.latency_us_p50),
            &latency(function.latency_us_p99),
        );
        let style = match (top + offset == selected, state.focus) {
            (true, Panel::Tabs) if state.functions.form.is_none() => theme.selected,
            (true, _) => theme.selected_elsewhere,
            (false, _) => theme.plain,
        };
        frame.render_widget(Line::styled(text, style), row_of(area, offset + 1));
    }
}
