//! The Functions tab: the functions, the form, and the results of calls.

use hotswap_protocol::{Failures, FunctionInfo};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::plugins::{emphasised, row_of};
use super::text::{cut, pad, pad_left, pad_name};
use super::theme::Theme;
use super::{draw_empty, draw_rule, form, pins, results, signature};
use crate::format;
use crate::screen::layout::{self, Panel};
use crate::screen::model::changes::{self, Before, FunctionChange, Speed};
use crate::screen::model::{Phase, State, help, in_flight};

/// The width before the name: a blank, a mark and a blank.
const MARK_WIDTH: usize = 3;
/// The minimum width of a signature. Columns are left out for it.
const LEAST_SIGNATURE: usize = 18;
/// The maximum number of calls in progress that are listed.
const CALLS_SHOWN: usize = 4;
/// The maximum number of functions that are listed as removed by the last reload.
const GONE_SHOWN: usize = 3;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let functions = state.plugins.functions();
    if functions.is_empty() {
        let text = match state.plugins.selected() {
            Some(_) if !state.plugins.all_functions().is_empty() => {
                "no function has this in its name\nEsc shows all".into()
            }
            Some(row) => format!("{} has no functions that a console can call", row.plugin.name),
            None => "no plugin is selected".into(),
        };
        return draw_empty(frame, area, &text, theme);
    }
    let form_lines = state.functions.form.as_ref().map(|form| form.line_count());
    let has_results = !state.functions.results.is_empty();
    let [table, form_area, results_area] =
        layout::of_functions(area, functions.len(), form_lines, has_results);
    draw_table(frame, table, &functions, state, theme);
    match &state.functions.form {
        Some(open) => {
            form::draw(frame, form_area, open, state, theme);
            results::draw(frame, results_area, state, theme);
        }
        None => {
            let results_area = draw_gone(frame, results_area, state, theme);
            let results_area = draw_in_flight(frame, results_area, state, theme);
            let results_area = pins::draw(frame, results_area, state, theme);
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
            let failed = selected.and_then(|it| format::failures(&it.failures));
            let timed = selected.and_then(|it| format::timed(it));
            let below =
                failed.map(|text| (text, theme.bad)).or(timed.map(|text| (text, theme.dim)));
            if let Some((text, style)) = below {
                let text = format!(" {}", cut(&text, area.width.saturating_sub(2).into()));
                frame.render_widget(Line::styled(text, style), row_of(doc_area, 2));
            }
            let height = results_area.height.saturating_sub(1);
            let steps_area = Rect { y: results_area.bottom() - height, height, ..results_area };
            draw_first_steps(frame, steps_area, state, theme);
            results::draw(frame, results_area, state, theme);
        }
    }
}

/// Draws the first steps for a new user, if nothing was called yet.
fn draw_first_steps(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let steps = help::first_steps(state);
    let width = usize::from(area.width).saturating_sub(2);
    let lines = steps.iter().flat_map(|step| format::wrap_words(step, width));
    for (offset, line) in lines.take(area.height.into()).enumerate() {
        frame.render_widget(Line::styled(format!(" {line}"), theme.dim), row_of(area, offset));
    }
}

/// The widths of the table's columns. A column of width 0 is left out.
struct Columns {
    name: usize,
    signature: usize,
    now: usize,
    calls: usize,
    failures: usize,
    p50: usize,
    p99: usize,
    speed: usize,
}

impl Columns {
    /// The columns of a table of this width for these functions; with a column for the change of speed if
    /// `is_compared`.
    fn of(width: usize, functions: &[&FunctionInfo], is_compared: bool) -> Self {
        let longest = |of: fn(&FunctionInfo) -> &str| {
            functions.iter().map(|it| format::width(of(it))).max().unwrap_or(0)
        };
        let (names, signatures) = (longest(|it| &it.name), longest(|it| &it.signature));
        let name = names.clamp(8, width / 3 + 8);
        let mut signature = width.saturating_sub(MARK_WIDTH + name + 1);
        let mut column = |wanted: usize, least: usize| {
            let fits = signature >= wanted + least;
            signature -= if fits { wanted } else { 0 };
            (if fits { wanted } else { 0 }, signature)
        };
        let mut take = |wanted| column(wanted, LEAST_SIGNATURE).0;
        let (calls, failures, p50) = (take(6), take(5), take(8));
        let speed = if is_compared { take(7) } else { 0 };
        let (now, left) = column(4, LEAST_SIGNATURE);
        // This column does not shorten a signature that fits completely.
        let least = if left < signatures { LEAST_SIGNATURE } else { signatures };
        let is_told = functions.iter().any(|it| format::p99_us(it).is_some());
        let (p99, signature) = if is_told { column(8, least) } else { (0, left) };
        Self { name, signature, now, calls, failures, p50, p99, speed }
    }
}

/// Cells: texts in their styles, each right-aligned in its width.
fn cells<const N: usize>(cells: [(&str, usize, Style); N]) -> impl Iterator<Item = Span<'static>> {
    cells.map(|(text, width, style)| Span::styled(pad_left(text, width), style)).into_iter()
}

fn draw_table(
    frame: &mut Frame<'_>,
    area: Rect,
    functions: &[&FunctionInfo],
    state: &State,
    theme: &Theme,
) {
    if area.height == 0 {
        return;
    }
    let before = before_of(state);
    let columns = Columns::of(area.width.into(), functions, before.is_some());
    frame.render_widget(head_line(&columns, before, theme), row_of(area, 0));
    let page = usize::from(area.height).saturating_sub(1);
    let selected = state.functions.selected.min(functions.len() - 1);
    let top = layout::first_visible(selected, page);
    for (offset, function) in functions.iter().skip(top).take(page).enumerate() {
        let mut line = function_line(function, &columns, state, theme);
        if top + offset == selected {
            let has_focus = state.focus == Panel::Tabs && state.functions.form.is_none();
            line = emphasised(line, theme.selection(has_focus));
        }
        frame.render_widget(line, row_of(area, offset + 1));
    }
}

fn head_line(columns: &Columns, before: Option<&Before>, theme: &Theme) -> Line<'static> {
    let speed = before.map_or_else(String::new, |before| format!("Δ {}", before.face.label()));
    let lead = format!(
        "{}{} {}",
        " ".repeat(MARK_WIDTH),
        pad("name", columns.name),
        pad("signature", columns.signature)
    );
    let titles = [
        ("now", columns.now, theme.dim),
        ("calls", columns.calls, theme.dim),
        ("err", columns.failures, theme.dim),
        ("p50", columns.p50, theme.dim),
        ("p99", columns.p99, theme.dim),
        (&speed, columns.speed, theme.dim),
    ];
    let mut line = Line::from(Span::styled(lead, theme.dim));
    line.extend(cells(titles));
    line
}

fn function_line(
    function: &FunctionInfo,
    columns: &Columns,
    state: &State,
    theme: &Theme,
) -> Line<'static> {
    let row = state.plugins.selected();
    let serving = row.and_then(|row| state.plugins.version_of(&row.plugin.name));
    let now = row
        .zip(serving)
        .map_or(0, |(row, version)| in_flight::count(row.plugin, version, &function.name));
    let before = before_of(state);
    let change = before.map_or(FunctionChange::Same, |before| before.change_of(function));
    let earlier = before.and_then(|before| before.function(&function.name));
    let signature = match (change, earlier) {
        (FunctionChange::Changed, Some(earlier)) => {
            signature::changed(earlier, function, columns.signature)
        }
        _ => signature::shortened(function, columns.signature),
    };
    let (mark, style) = match change {
        _ if before.is_none_or(|before| before.is_seen) => (' ', theme.plain),
        FunctionChange::New => ('+', theme.good),
        FunctionChange::Changed | FunctionChange::Body => ('~', theme.warning),
        FunctionChange::Same => (' ', theme.plain),
    };
    let name = pad_name(&function.name, columns.name);
    let lead = format!(" {mark} {name} {}", pad(&signature, columns.signature));
    let (failed, failed_style) = failures(&failures_of(function, before), theme);
    let p50 = match before {
        Some(before) => before.median_us_since(function),
        None => changes::median_us(function),
    };
    let p50 = p50.map_or_else(|| "–".to_owned(), format::fractional_microseconds);
    let p99 =
        format::p99_us(function).map_or_else(|| "–".to_owned(), format::fractional_microseconds);
    let (speed, speed_style) = speed(function, before, theme);
    let mut line = Line::from(Span::styled(lead, style));
    line.extend(cells([
        (&format::count(now), columns.now, if now > 0 { theme.plain } else { theme.dim }),
        (&format::count(function.calls), columns.calls, theme.plain),
        (&failed, columns.failures, failed_style),
        (&p50, columns.p50, theme.plain),
        (&p99, columns.p99, theme.plain),
        (&speed, columns.speed, speed_style),
    ]));
    line
}

/// The failed calls of a function in the code that serves.
fn failures_of(function: &FunctionInfo, before: Option<&Before>) -> Failures {
    before.map_or_else(|| function.failures.clone(), |it| it.failures_of_since(function))
}

/// The code of the selected plugin that served before.
fn before_of(state: &State) -> Option<&Before> {
    state.plugins.before(&state.plugins.selected()?.plugin.name)
}

/// The change of speed: `+8%` if a function takes longer than in the version before.
fn speed(function: &FunctionInfo, before: Option<&Before>, theme: &Theme) -> (String, Style) {
    let Some(before) = before else { return (String::new(), theme.dim) };
    match (before.change_of(function), before.speed_of(function)) {
        (FunctionChange::New, _) => ("new".into(), theme.good),
        (_, Speed::Unknown) => ("–".into(), theme.dim),
        (_, Speed::Same) => ("=".into(), theme.dim),
        (_, Speed::Percent(percent)) if percent > 0 => (format!("+{percent}%"), theme.warning),
        (_, Speed::Percent(percent)) => (format!("−{}%", percent.unsigned_abs()), theme.good),
    }
}

/// Draws the functions that the last reload removed: ` − greetings  gone in v5, was called 14 times`
fn draw_gone(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) -> Rect {
    let Some(before) = before_of(state).filter(|before| !before.is_seen) else { return area };
    let gone: Vec<_> = before.gone(state.plugins.all_functions()).collect();
    let shown = gone.len().min(GONE_SHOWN).min(usize::from(area.height / 3));
    let width = usize::from(area.width);
    for (offset, function) in gone.iter().take(shown).enumerate() {
        let version = before.face.label();
        let called = match function.calls {
            0 => format!("{version} had it, and nothing called it"),
            calls => {
                let times = format::counted(calls, "time", "times");
                format!("in {version} it was called {times}")
            }
        };
        let text = format!(" − {}  is gone; {called}", function.name);
        frame.render_widget(Line::styled(cut(&text, width), theme.bad), row_of(area, offset));
    }
    let height = u16::try_from(shown).unwrap_or(u16::MAX);
    Rect { y: area.y + height, height: area.height - height, ..area }
}

/// The failed calls: `✖12` if some panicked, `3` if they returned errors.
pub(super) fn failures(failures: &Failures, theme: &Theme) -> (String, Style) {
    let count = failures.errors + failures.panics;
    match (count, failures.panics) {
        (0, _) => ("–".to_owned(), theme.dim),
        (_, 0) => (format::count(count), theme.warning),
        _ => (format!("✖{}", format::count(count)), theme.bad),
    }
}

/// Draws the calls that have run for a while, below a rule, and returns the area that is left:
/// `◌ cat v1  nap      31.4 s  "http-3"`
fn draw_in_flight(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) -> Rect {
    let calls = match state.host.phase {
        Phase::Ended => Vec::new(),
        _ => in_flight::long_calls(state.plugins.list(), state.now_ms),
    };
    let shown = calls.len().min(CALLS_SHOWN).min(usize::from(area.height / 2));
    if shown == 0 {
        return area;
    }
    let more = match calls.len() - shown {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    draw_rule(frame, row_of(area, 0), &format!("in flight{more}"), theme);
    for (offset, call) in calls.iter().take(shown).enumerate() {
        let target = format!("{} v{}", call.plugin, call.version);
        let least = if call.holder.is_at_least { "≥ " } else { "" };
        let age = format!("{least}{}", format::seconds(call.age_ms(state.now_ms)));
        let thread = call.holder.thread.as_deref().unwrap_or_default();
        let text = format!(
            "{}  {}  {}  {thread}",
            pad_name(&target, 12),
            pad_name(call.name(), 16),
            pad_left(&age, 9)
        );
        let mut line = Line::from(Span::styled(" ◌ ", theme.warning));
        line.push_span(Span::raw(cut(&text, usize::from(area.width).saturating_sub(4))));
        frame.render_widget(line, row_of(area, offset + 1));
    }
    let height = u16::try_from(shown + 1).unwrap_or(u16::MAX);
    Rect { y: area.y + height, height: area.height - height, ..area }
}
