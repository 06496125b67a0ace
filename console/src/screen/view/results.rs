//! The results of calls, newest first; two versions side by side.

use hotswap_protocol::InvokeResult;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use serde_json::Value;

use super::plugins::row_of;
use super::text::{cut, pad, wrap, wrap_words};
use super::theme::Theme;
use crate::format;
use crate::screen::model::State;
use crate::screen::model::functions::{CallResult, Side};

/// The maximum number of lines of a value. `o` shows the whole newest result.
const MOST_LINES: usize = 200;
/// With fewer calls, their times are not compared.
const LEAST_COMPARED: u64 = 20;
/// The note about a comparison with a stored build, which cannot be called in the host.
const IN_PROCESSES: &str = "   each in a process of its own, with an empty Vault";
/// A smaller ratio counts as the same speed.
const LEAST_RATIO: f64 = 1.1;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let width = usize::from(area.width).saturating_sub(1);
    let results = state.functions.results.iter();
    let lines = results.flat_map(|result| lines_of(result, width, state.now_ms, theme));
    for (offset, line) in lines.take(area.height.into()).enumerate() {
        frame.render_widget(line, row_of(area, offset));
    }
}

fn lines_of(result: &CallResult, width: usize, now_ms: u64, theme: &Theme) -> Vec<Line<'static>> {
    match result.sides.as_slice() {
        [one] => of_one(&result.call, one, width, now_ms, theme),
        _ => of_several(result, width, now_ms, theme),
    }
}

/// A call of one version: `✔ greet("Ada", 2)  world v3  8 µs`, and the value below.
fn of_one(call: &str, side: &Side, width: usize, now_ms: u64, theme: &Theme) -> Vec<Line<'static>> {
    let (mark, style) = mark(side, theme);
    let facts = format!("  {}", facts(side, now_ms));
    let call_width = width.saturating_sub(format::width(&facts) + 3);
    let mut lines = vec![Line::from(vec![
        Span::styled(format!(" {mark} "), style),
        Span::raw(cut(call, call_width)),
        Span::styled(facts, theme.dim),
    ])];
    let style = body_style(side, theme);
    let body = body(side, width.saturating_sub(3));
    lines.extend(body.into_iter().map(|line| Line::styled(format!("   {line}"), style)));
    lines
}

/// A call of several versions: each result is in a column of its own.
fn of_several(result: &CallResult, width: usize, now_ms: u64, theme: &Theme) -> Vec<Line<'static>> {
    let sides = &result.sides;
    let verdict = verdict(sides);
    let call_width = width.saturating_sub(format::width(&verdict) + 5);
    let mut lines = vec![Line::from(vec![
        Span::raw(format!("   {}", cut(&result.call, call_width))),
        Span::styled(format!("  {verdict}"), theme.strong),
    ])];
    if result.stored.is_some() {
        lines.push(Line::styled(cut(IN_PROCESSES, width), theme.dim));
    }
    let column = (width / sides.len().max(1)).saturating_sub(3);
    let columns: Vec<(Vec<String>, &Side)> = sides
        .iter()
        .map(|side| {
            let mut lines = vec![facts(side, now_ms)];
            lines.extend(body(side, column));
            (lines, side)
        })
        .collect();
    let height = columns.iter().map(|(lines, _)| lines.len()).max().unwrap_or(0);
    for offset in 0..height {
        let mut spans = Vec::new();
        for (lines, side) in &columns {
            let text = pad(lines.get(offset).map_or("", String::as_str), column);
            let (mark, mark_style) = mark(side, theme);
            let mark = if offset == 0 { mark } else { '│' };
            let style = if offset == 0 { theme.dim } else { body_style(side, theme) };
            spans.push(Span::styled(
                format!(" {mark} "),
                if offset == 0 { mark_style } else { theme.border },
            ));
            spans.push(Span::styled(text, style));
        }
        lines.push(Line::from(spans));
    }
    lines
}

/// The comparison: `same result, world v2 1.4 × as long`; without the time if there were few calls.
fn verdict(sides: &[Side]) -> String {
    let answers: Vec<&InvokeResult> =
        sides.iter().filter_map(|side| side.answer.as_ref()?.as_ref().ok()).collect();
    let ([first, second], [_, _]) = (answers.as_slice(), sides) else { return String::new() };
    let same = if first.value == second.value { "same result" } else { "results differ" };
    if answers.iter().any(|answer| calls(answer) < LEAST_COMPARED) {
        return same.to_owned();
    }
    let (a, b) = (typical_ns(first), typical_ns(second));
    let (slow, ratio) = if a >= b { (&sides[0], a / b) } else { (&sides[1], b / a) };
    if ratio < LEAST_RATIO {
        return format!("{same}, same speed");
    }
    format!("{same}, {} {ratio:.1} × as long", slow.name())
}

/// The number of calls in an answer.
fn calls(answer: &InvokeResult) -> u64 {
    answer.latencies.as_ref().map_or(1, |latencies| latencies.calls)
}

/// The time of a call; of several calls the median.
fn typical_ns(answer: &InvokeResult) -> f64 {
    let several = answer.latencies.as_ref().map(|latencies| latencies.p50_ns);
    several.unwrap_or(answer.elapsed_ns).max(1) as f64
}

fn mark(side: &Side, theme: &Theme) -> (char, Style) {
    match &side.answer {
        Some(Ok(_)) => ('✔', theme.good),
        Some(Err(_)) => ('✘', theme.bad),
        None => ('◌', theme.warning),
    }
}

/// The facts about a call: `world v3  12:03:07  8.2 µs`
fn facts(side: &Side, now_ms: u64) -> String {
    let who = side.name();
    let at =
        side.began_ms.map_or_else(String::new, |began_ms| format!("  {}", format::clock(began_ms)));
    match (&side.answer, side.began_ms) {
        (Some(Ok(answer)), _) => {
            let elapsed = match &answer.latencies {
                Some(latencies) if latencies.calls >= LEAST_COMPARED => {
                    format!("p50 {}", format::nanoseconds(latencies.p50_ns))
                }
                Some(latencies) => format!("{} calls", latencies.calls),
                None => format::nanoseconds(answer.elapsed_ns),
            };
            format!("{who}{at}  {elapsed}")
        }
        (Some(Err(_)), _) => format!("{who}{at}"),
        (None, Some(began_ms)) => {
            let elapsed_ms = now_ms.saturating_sub(began_ms);
            let (seconds, tenths) = (elapsed_ms / 1000, elapsed_ms / 100 % 10);
            format!("{who}  runs {seconds}.{tenths} s")
        }
        (None, None) => format!("{who}  waits"),
    }
}

fn body_style(side: &Side, theme: &Theme) -> Style {
    if matches!(side.answer, Some(Err(_))) { theme.bad } else { theme.plain }
}

/// The value or the error, and the histogram, in lines of this width.
fn body(side: &Side, width: usize) -> Vec<String> {
    let text = match &side.answer {
        Some(Ok(answer)) => match &answer.value {
            Value::String(text) => format!("{text:?}"),
            value => format!("{value:#}"),
        },
        Some(Err(error)) => error.to_string(),
        None => String::new(),
    };
    let lines = text.lines().flat_map(|line| wrap(line, width));
    let mut lines: Vec<String> = lines.take(MOST_LINES).collect();
    if let Some(Ok(answer)) = &side.answer
        && let Some(latencies) = &answer.latencies
    {
        lines.extend(wrap_words(&format::latencies(latencies), width));
        lines.extend(format::histogram(latencies, width.min(60)));
    }
    lines
}
