//! The Timeline tab: the reloads, the phases of the selected one as bars, and the life of each version.

use hotswap_protocol::{PhaseKind, VersionState};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::plugins::row_of;
use super::text::{cut, pad, pad_left, pad_name, wrap};
use super::theme::Theme;
use super::{draw_empty, draw_rule};
use crate::format;
use crate::screen::layout::{self, Panel};
use crate::screen::model::timeline::{Life, Part, Phase, Reload, Row, Start, Timeline, sums};
use crate::screen::model::{self, State};

const TITLE_WIDTH: usize = 13;
/// The maximum numbers of lines for the builds before a reload, and for its steps. The details have all of them.
const BUILDS_SHOWN: usize = 3;
const STEPS_SHOWN: usize = 5;
/// The number of lines that are kept for the lives of the versions, if there is room.
const LIVES_HEIGHT: u16 = 4;
const ELAPSED_WIDTH: usize = 7;
/// The width of `live 12.3 s`.
const LIVE_WIDTH: usize = 11;
/// The number of reloads whose times from save to publication are shown.
const TIMES_SHOWN: usize = 12;
/// With fewer times, there is no median.
const LEAST_FOR_MEDIAN: usize = 3;
/// The ends of a bar, in eighths of a column.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let reloads = state.timeline.reloads();
    let selected = state.timeline.selected();
    let Some(reload) = reloads.get(selected) else {
        return draw_empty(frame, area, "no reload yet\nr reloads what changed", theme);
    };
    let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    let list_rows = state.timeline.rows();
    let list_height = layout::timeline_list_height(area, list_rows.len());
    let for_steps = area.height.saturating_sub(list_height + 1);
    let for_steps = if for_steps > 2 * LIVES_HEIGHT { for_steps - LIVES_HEIGHT } else { for_steps };
    let lines = |has_scales| step_lines(reload, area.width.into(), has_scales, theme);
    // Scales are left out if they would take the room of bars.
    let scaled = lines(true);
    let steps = if scaled.len() <= for_steps.into() { scaled } else { lines(false) };
    let steps_height = rows(steps.len()).min(for_steps);
    let [list, rule, below, lives] = Layout::vertical([
        Constraint::Length(list_height),
        Constraint::Length(1),
        Constraint::Length(steps_height),
        Constraint::Fill(1),
    ])
    .areas(area);
    draw_list(frame, list, &list_rows, state, theme);
    draw_rule(frame, rule, &rule_title(reload, &state.timeline), theme);
    for (offset, line) in steps.into_iter().take(below.height.into()).enumerate() {
        frame.render_widget(line, row_of(below, offset));
    }
    if lives.height > 1 {
        draw_rule(frame, row_of(lives, 0), "versions", theme);
        draw_lives(frame, Rect { y: lives.y + 1, height: lives.height - 1, ..lives }, state, theme);
    }
}

/// Draws the list of reloads, ` reload 12     12:03:07  world v2 → v3                      41 ms `, and the starts of
/// the host's processes, `── host started at 12:02:40, pid 4122 ──`.
fn draw_list(frame: &mut Frame<'_>, area: Rect, rows: &[Row], state: &State, theme: &Theme) {
    let page = usize::from(area.height);
    let selected = state.timeline.selected_row(rows);
    let top = layout::first_visible(selected, page);
    let width = usize::from(area.width).saturating_sub(TITLE_WIDTH + LIVE_WIDTH + 14);
    for (offset, row) in rows.iter().skip(top).take(page).enumerate() {
        let reload = match row {
            Row::Reload(position) => &state.timeline.reloads()[*position],
            Row::Start(Start { at_ms, pid }) => {
                let title = format!("host started at {}, pid {pid}", format::clock(*at_ms));
                draw_rule(frame, row_of(area, offset), &title, theme);
                continue;
            }
        };
        let (text, style) = match &reload.result {
            Ok(done) => (done.summary.as_str(), theme.plain),
            Err(error) => (error.message.as_str(), theme.bad),
        };
        let reloaded = reload.elapsed_us.map(format::microseconds).unwrap_or_default();
        let elapsed = reload.live_ms.map_or(reloaded, |ms| format!("live {}", format::seconds(ms)));
        let outcome = match elapsed.as_str() {
            "" => pad(text, width + LIVE_WIDTH + 1),
            elapsed => format!("{} {}", pad(text, width), pad_left(elapsed, LIVE_WIDTH)),
        };
        let (title, at) = (pad(&reload.title(), TITLE_WIDTH), format::clock(reload.at_ms));
        let line = format!(" {title} {at}  {outcome} ");
        let style = match (top + offset == selected, state.focus) {
            (true, Panel::Tabs) => theme.selected,
            (true, _) => theme.selected_elsewhere,
            (false, _) => style,
        };
        frame.render_widget(Line::styled(line, style), row_of(area, offset));
    }
}

/// The title of the rule: `reload 12  live 0.9 s after save; the last 5 ▂▃▂▅▂, median 0.8 s`
fn rule_title(reload: &Reload, timeline: &Timeline) -> String {
    let mut title = reload.title();
    if let Some(live_ms) = reload.live_ms {
        title.push_str(&format!("  {}", format::live_after_save(live_ms)));
    }
    let times = timeline.live_times(TIMES_SHOWN);
    let mut known: Vec<u64> = times.iter().copied().flatten().collect();
    known.sort_unstable();
    if known.len() > 1 {
        let line = format::live_times(&times);
        title.push_str(&format!("; the last {} {line}", times.len()));
    }
    if known.len() >= LEAST_FOR_MEDIAN {
        let median = format::seconds(known[known.len() / 2]);
        title.push_str(&format!(", median {median}"));
    }
    title
}

/// The whole error, and the phases as bars.
fn step_lines(
    reload: &Reload,
    width: usize,
    has_scales: bool,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Err(error) = &reload.result {
        if let Some(step) = &error.step {
            let plugin = error.plugin.as_deref().unwrap_or("the reload");
            lines.push(Line::styled(format!(" {plugin} failed in {step}"), theme.strong));
        }
        let text = error.to_string();
        let wrapped = text.lines().flat_map(|line| wrap(line, width.saturating_sub(2)));
        lines.extend(wrapped.map(|line| Line::styled(format!(" {line}"), theme.bad)));
    }
    let of_one = reload.after.windows(2).all(|pair| pair[0].plugin == pair[1].plugin);
    let after: Vec<Bar> = reload.after.iter().map(|phase| after_bar(phase, of_one)).collect();
    // Each group has its own scale: beside a build, the steps of a reload would be too short to see.
    let groups = [
        (
            "build",
            longest_bars(consecutive_bars(sums(reload.before.iter())), BUILDS_SHOWN),
            theme.dim,
        ),
        (
            if reload.is_patch() { "patch" } else { "reload" },
            longest_bars(consecutive_bars(sums(reload.phases.iter())), STEPS_SHOWN),
            theme.bar,
        ),
        ("since then", after, theme.dim),
    ];
    for (title, group, style) in groups.into_iter().filter(|(_, group, _)| !group.is_empty()) {
        if has_scales {
            lines.push(scale(title, whole_us(&group), width, theme));
        }
        lines.extend(bars(&group, width, style, theme));
    }
    lines
}

/// A phase as a bar.
struct Bar {
    name: String,
    begun_us: u64,
    elapsed_us: u64,
    /// Its duration: `41 ms`
    text: String,
    /// Whether it is one span of time, and not a sum.
    is_drawn: bool,
}

/// The bars of phases that follow one another.
fn consecutive_bars(phases: Vec<(&Part, u64)>) -> Vec<Bar> {
    let mut begun_us = 0;
    let phases = phases.into_iter().map(|(part, elapsed_us)| {
        let text = format::microseconds(elapsed_us);
        let name = part.as_str().to_owned();
        let bar = Bar { name, begun_us, elapsed_us, text, is_drawn: true };
        begun_us += elapsed_us;
        bar
    });
    phases.collect()
}

/// The longest bars in their order, with the one for making a patch, and a sum of the others; `count` lines in all.
fn longest_bars(bars: Vec<Bar>, count: usize) -> Vec<Bar> {
    if bars.len() <= count {
        return bars;
    }
    let is_patch = |bar: &Bar| bar.name == PhaseKind::Patch.as_str();
    let weight = |bar: &Bar| (is_patch(bar), bar.elapsed_us);
    let mut weights: Vec<_> = bars.iter().map(weight).collect();
    weights.sort_unstable_by(|a, b| b.cmp(a));
    let least = weights[count - 2];
    let mut left = count - 1;
    let (mut shown, others): (Vec<_>, Vec<_>) = bars.into_iter().partition(|bar| {
        let is_shown = weight(bar) >= least && left > 0;
        left -= usize::from(is_shown);
        is_shown
    });
    let elapsed_us = others.iter().map(|bar| bar.elapsed_us).sum();
    shown.push(Bar {
        name: format!("{} more steps", others.len()),
        begun_us: 0,
        elapsed_us,
        text: format::microseconds(elapsed_us),
        is_drawn: false,
    });
    shown
}

/// The bar of an event after a reload. It names the plugin unless `of_one`.
fn after_bar(phase: &Phase, of_one: bool) -> Bar {
    let plugin = phase.plugin.as_deref().unwrap_or_default();
    let text = format::microseconds(phase.elapsed_us);
    let name = match &phase.kind {
        part if of_one => part.as_str().to_owned(),
        Part::FirstCall => format!("{plugin} called"),
        part => format!("{plugin} {}", part.as_str()),
    };
    Bar { name, begun_us: 0, elapsed_us: phase.elapsed_us, text, is_drawn: true }
}

/// The time from the start of the first bar to the end of the last one.
fn whole_us(bars: &[Bar]) -> u64 {
    bars.iter().map(|bar| bar.begun_us + bar.elapsed_us).max().unwrap_or(0)
}

fn bar_width(width: usize) -> usize {
    width.saturating_sub(TITLE_WIDTH + ELAPSED_WIDTH + 4)
}

/// The scale of the bars below, with a mark at its half: ` reload        ├────────────────┼────────────────┤  41 ms`
fn scale(title: &str, whole_us: u64, width: usize, theme: &Theme) -> Line<'static> {
    let bar_width = bar_width(width);
    let ticks = (0..bar_width).map(|column| match column {
        0 => '├',
        column if column + 1 == bar_width => '┤',
        column if column == bar_width / 2 => '┼',
        _ => '─',
    });
    let ticks: String = ticks.collect();
    Line::from(vec![
        Span::styled(format!(" {} ", pad(title, TITLE_WIDTH)), theme.strong),
        Span::styled(ticks, theme.border),
        Span::styled(
            format!(" {}", pad_left(&format::microseconds(whole_us), ELAPSED_WIDTH)),
            theme.dim,
        ),
    ])
}

fn bars(bars: &[Bar], width: usize, style: Style, theme: &Theme) -> Vec<Line<'static>> {
    let (whole_us, bar_width) = (whole_us(bars), bar_width(width));
    let line = |bar: &Bar| {
        let drawn = if bar.is_drawn { blocks(bar, whole_us, bar_width) } else { String::new() };
        Line::from(vec![
            Span::styled(format!(" {} ", pad_name(&bar.name, TITLE_WIDTH)), theme.dim),
            Span::styled(pad(&drawn, bar_width), style),
            Span::raw(format!(" {}", pad_left(&bar.text, ELAPSED_WIDTH))),
        ])
    };
    bars.iter().map(line).collect()
}

/// The blocks of a bar at its position. A duration greater than 0 gets at least the thinnest block.
fn blocks(bar: &Bar, whole_us: u64, width: usize) -> String {
    if whole_us == 0 || width == 0 {
        return String::new();
    }
    let eighths = |us: u64| {
        let eighths = u128::from(us) * (width as u128 * 8) / u128::from(whole_us);
        usize::try_from(eighths).unwrap_or(usize::MAX).min(width * 8)
    };
    let column = (eighths(bar.begun_us) / 8).min(width - 1);
    let length = eighths(bar.elapsed_us).clamp(1, (width - column) * 8);
    " ".repeat(column) + &"█".repeat(length / 8) + EIGHTHS[length % 8]
}

/// Draws the lives of the versions: ` world v2  ▁▁████▒▒▒▒····  freed: 4.3 MiB unmapped`
fn draw_lives(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let lives: Vec<&Life> = state.timeline.lives().take(area.height.into()).collect();
    let name = |life: &Life| format!("{} v{}", life.plugin, life.version);
    let name_width = lives.iter().map(|life| format::width(&name(life))).max().unwrap_or(0);
    let name_width = name_width.clamp(6, 20);
    let width = usize::from(area.width).saturating_sub(name_width + 4);
    let bar_width = width / 2;
    let began_ms = lives.iter().map(|life| life.began_ms()).min().unwrap_or(0);
    for (offset, life) in lives.into_iter().enumerate() {
        let mut line = Line::raw(format!(" {} ", pad_name(&name(life), name_width)));
        line.push_span(Span::styled(
            life_bar(life, (began_ms, state.now_ms), bar_width),
            theme.bar,
        ));
        let detail = if life.detail.is_empty() { life.state().as_str() } else { &life.detail };
        let is_over = matches!(life.state(), VersionState::Freed | VersionState::Failed);
        let detail = match state.host.phase {
            model::Phase::Ended if !is_over => "ended with its host",
            _ => detail,
        };
        line.push_span(Span::styled(format!("  {}", cut(detail, width - bar_width)), theme.dim));
        frame.render_widget(line, row_of(area, offset));
    }
}

/// The life of a version, one sign for each part of the time: full while it served, half while it was still in use.
fn life_bar(life: &Life, (from_ms, to_ms): (u64, u64), width: usize) -> String {
    let span_ms = to_ms.saturating_sub(from_ms).max(1);
    let columns = width.max(1) as u64;
    // The end of a column's time. The column shows the state at this time.
    let end_of = |column: u64| from_ms + span_ms.saturating_mul(column + 1) / columns;
    let signs = (0..columns).map(|column| match life.state_at(end_of(column)) {
        None => ' ',
        Some(VersionState::Active | VersionState::Loading) => '█',
        Some(VersionState::Freed | VersionState::Failed) => '·',
        Some(_) => '▒',
    });
    signs.take(width).collect()
}
