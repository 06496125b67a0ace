//! The line about the host.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::footer::notice_style;
use super::theme::Theme;
use crate::format;
use crate::screen::input::action::Action;
use crate::screen::model::overlay::Overlay;
use crate::screen::model::{Host, Phase, State, in_flight};

use crate::session::Watch;

/// The delay of the log from which it is reported as a warning, in milliseconds.
const LONG_LAG_MS: u64 = 1_000;
/// The number of reloads whose times from save to publication are drawn.
const TIMES_SHOWN: usize = 8;
/// The separator between two parts of the line.
const SEPARATOR: &str = " │ ";

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let host = &state.host;
    let name = if host.name.is_empty() { "hotswap" } else { &host.name };
    let mut line = Line::from(vec![Span::styled(format!(" {name} "), theme.strong)]);
    line.push_span(phase(host, theme));
    if let Some(pid) = host.pid {
        line.push_span(Span::raw(format!(" {pid}")));
    }
    if let Some(info) = &host.info {
        let up = format::duration(state.now_ms.saturating_sub(info.started_at_ms));
        // Seconds would change the screen each second.
        let up = if up.ends_with('s') { "<1m".to_owned() } else { up };
        line.push_span(Span::raw(format!(" {up}")));
    }
    let left = usize::from(area.width).saturating_sub(line.width());
    for (text, style) in fitting(parts(state, theme), left, theme) {
        line.push_span(Span::styled(SEPARATOR, theme.dim));
        line.push_span(Span::styled(text, style));
    }
    frame.render_widget(line, area);
}

/// The parts that fit into `left` columns, in their order. Important parts get room first, in their shortest form;
/// longer forms and the other parts get the room that is left.
fn fitting(
    parts: Vec<(Vec<String>, Style)>,
    mut left: usize,
    theme: &Theme,
) -> Vec<(String, Style)> {
    let width = |text: &String| format::width(text) + format::width(SEPARATOR);
    let mut chosen: Vec<Option<String>> = vec![None; parts.len()];
    for matters in [true, false] {
        let of_sort = || {
            parts.iter().enumerate().filter(move |(_, (_, style))| (*style != theme.dim) == matters)
        };
        for is_long in [false, true] {
            for (position, (texts, _)) in of_sort() {
                let freed = chosen[position].as_ref().map_or(0, width);
                let mut wanted = texts.iter().filter(|text| width(text) <= left + freed);
                let wanted = if is_long { wanted.next() } else { wanted.next_back() };
                if let Some(text) = wanted {
                    left = left + freed - width(text);
                    chosen[position] = Some(text.clone());
                }
            }
        }
    }
    let styles = parts.into_iter().map(|(_, style)| style);
    chosen.into_iter().zip(styles).filter_map(|(text, style)| Some((text?, style))).collect()
}

/// The parts of the line after the host, each in several forms, longest first. The most important part comes first.
fn parts(state: &State, theme: &Theme) -> Vec<(Vec<String>, Style)> {
    let (host, logs) = (&state.host, &state.logs);
    let mut parts = Vec::new();
    parts.extend(failures(state, theme));
    parts.extend(outdated(state).map(|texts| (texts, theme.warning)));
    parts.extend(live(state).map(|texts| (texts, theme.strong)));
    if !host.packages.is_empty() {
        let style = match host.watch {
            Watch::On | Watch::Ask => theme.plain,
            Watch::Build => theme.warning,
            Watch::Off => theme.dim,
        };
        let words = [host.watch.as_str(), host.watch.as_argument()];
        let words = words.map(|word| format!("watch {word}"));
        let whole =
            words.iter().filter(|_| host.loads_whole).map(|word| format!("{word}, no patches"));
        parts.push((whole.chain(words.iter().cloned()).collect(), style));
    }
    parts.extend(agent(host).map(|texts| (texts, theme.plain)));
    if logs.dropped > 0 {
        parts.push((vec![format!("dropped {}", format::count(logs.dropped))], theme.warning));
    }
    parts.extend(slow_call(state, theme));
    let lag_ms = logs.lag_ms.filter(|_| host.phase == Phase::Connected);
    let lag = |style| move |ms| (vec![format!("log {} behind", format::milliseconds(ms))], style);
    let is_long = lag_ms.is_some_and(|ms| ms >= LONG_LAG_MS);
    parts.extend(lag_ms.filter(|_| is_long).map(lag(theme.warning)));
    parts.extend(branch(state).map(|branch| (vec![branch], theme.dim)));
    let count = state.plugins.list().len();
    if count > 0 || host.phase.has_host() {
        parts.push((vec![format::counted(count as u64, "plugin", "plugins")], theme.dim));
    }
    if host.generation > 0 {
        parts.push((vec![format!("gen {}", host.generation)], theme.dim));
    }
    parts.extend(lag_ms.filter(|_| !is_long).map(lag(theme.dim)));
    parts
}

/// That the host is older than its sources, and the key that mends this: `▲ host outdated: R restarts it`
fn outdated(state: &State) -> Option<Vec<String>> {
    let is_there = state.host.is_outdated && state.host.phase != Phase::Ended;
    let restart = state.key_of(&Action::Restart);
    let short = "▲ host outdated".to_owned();
    is_there.then(|| vec![format!("{short}: {restart} restarts it"), short])
}

/// The agent of the host: `agent of games, channel main`. It undoes what others load into the host.
fn agent(host: &Host) -> Option<Vec<String>> {
    let agent = host.info.as_ref()?.agent.as_ref()?;
    let fleet = agent.fleet.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let short = format!("agent of {fleet}");
    Some(vec![format!("{short}, channel {}", agent.channel), short, "agent".to_owned()])
}

/// The failures of the versions that serve: `✖ 12 panics in world`
fn failures(state: &State, theme: &Theme) -> Option<(Vec<String>, Style)> {
    let versions = state.plugins.list().iter().filter_map(|plugin| {
        plugin.active()?;
        Some((plugin.name.as_str(), state.plugins.failures(plugin)))
    });
    let panics = counted(versions.clone().map(|(name, failures)| (name, failures.panics)));
    let errors = counted(versions.map(|(name, failures)| (name, failures.errors)));
    let (mark, (count, where_to), one, several, style) = match (panics, errors) {
        (Some(panics), _) => ("✖", panics, "panic", "panics", theme.bad),
        (None, Some(errors)) => ("▲", errors, "error", "errors", theme.warning),
        (None, None) => return None,
    };
    let short = format!("{mark} {}", format::counted(count, one, several));
    Some((
        vec![format!("{short} in {where_to}"), short, format!("{mark}{}", format::count(count))],
        style,
    ))
}

/// The longest call in progress, if it has run for long: `◌ nap of cat 31s`
fn slow_call(state: &State, theme: &Theme) -> Option<(Vec<String>, Style)> {
    if state.host.phase == Phase::Ended {
        return None;
    }
    let calls = in_flight::long_calls(state.plugins.list(), state.now_ms);
    let longest = calls.first()?;
    let age = format::duration(longest.age_ms(state.now_ms));
    let name = longest.name();
    let texts = [format!("◌ {name} of {} {age}", longest.plugin), format!("◌ {name} {age}")];
    Some((texts.into(), theme.warning))
}

/// The sum of the counts, and their plugin or, if there are several, the number of plugins.
fn counted<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> Option<(u64, String)> {
    let found: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
    let place = match found.as_slice() {
        [] => return None,
        [(name, _)] => (*name).to_owned(),
        several => format!("{} plugins", several.len()),
    };
    Some((found.iter().map(|(_, count)| count).sum(), place))
}

/// The time from save to publication: `live 0.9 s after save ▂▃▂▅`
fn live(state: &State) -> Option<Vec<String>> {
    let live_ms = state.timeline.last_live_ms()?;
    let times = format::live_times(&state.timeline.live_times(TIMES_SHOWN));
    let long = format::live_after_save(live_ms);
    let short = format!("live {}", format::seconds(live_ms));
    Some(vec![format!("{long} {times}"), format!("{short} {times}"), short])
}

/// The branch of the selected version's source: `main`, or `main*` if it had uncommitted changes.
fn branch(state: &State) -> Option<String> {
    let source = state.plugins.selected()?.version.source.as_ref()?;
    let name = if source.branch.is_empty() { source.commit.get(..8)? } else { &source.branch };
    Some(format!("{name}{}", if source.dirty { "*" } else { "" }))
}

fn phase(host: &Host, theme: &Theme) -> Span<'static> {
    match host.phase {
        Phase::Preparing => Span::styled("○ not started", theme.dim),
        Phase::Absent => Span::styled("○ no host", theme.dim),
        Phase::Starting => Span::styled("◌ starting", theme.warning),
        Phase::Connected => Span::styled("●", theme.good),
        Phase::Disconnected => Span::styled("◌ reconnecting", theme.warning),
        Phase::Ended => Span::styled("✖ ended", theme.bad),
    }
}

/// Draws the only line of a very small screen.
pub(super) fn draw_status(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    // If something else takes the keys, the line must say so.
    if let Some(what) = has_keyboard(state) {
        let text = format!("{what} ");
        let line = Line::from(vec![Span::styled(text, theme.warning), phase(&state.host, theme)]);
        return frame.render_widget(line, area);
    }
    let mut line = Line::from(vec![Span::styled(
        format!("{} ", if state.host.name.is_empty() { "hotswap" } else { &state.host.name }),
        theme.strong,
    )]);
    line.push_span(phase(&state.host, theme));
    if state.host.generation > 0 {
        line.push_span(Span::raw(format!(" gen {}", state.host.generation)));
    }
    match (&state.job, &state.notice) {
        (Some(job), _) => line.push_span(Span::raw(format!(" {job}"))),
        (None, Some(notice)) => {
            let style = notice_style(notice.sort, theme).1;
            line.push_span(Span::styled(format!(" {}", format::in_one_line(&notice.text)), style));
        }
        (None, None) => {}
    }
    frame.render_widget(line, area);
}

/// The overlay or input that takes the keys, and how to close it; `None` if the panels take them.
fn has_keyboard(state: &State) -> Option<String> {
    match &state.overlay {
        Some(Overlay::Confirm { question, .. } | Overlay::FleetQuestion { question, .. }) => {
            return Some(format!("{question} y/n"));
        }
        Some(Overlay::Releases(choice)) => {
            let chosen = choice.chosen().map_or_else(|| "nothing".to_owned(), ToString::to_string);
            return Some(format!("{} {chosen}?", choice.title()));
        }
        Some(Overlay::Help { .. }) => return Some("help, Esc closes".into()),
        Some(Overlay::Palette(palette)) => {
            let chosen =
                palette.chosen().map_or_else(|| "nothing".to_owned(), |choice| choice.hint());
            return Some(format!(":{} → {chosen}", palette.input.value()));
        }
        Some(Overlay::Input(input)) => return Some(format!("> {}", input.line.value())),
        Some(Overlay::Details { title, .. }) => return Some(format!("{title}, Esc closes")),
        Some(Overlay::Preview(_)) => return Some("preview, Esc closes".into()),
        Some(Overlay::Rollback(rollback)) => {
            let target = rollback.target().unwrap_or_default();
            return Some(format!("roll back to {target}?"));
        }
        Some(Overlay::Pins(_)) => return Some("pinned calls, Esc closes".into()),
        Some(Overlay::HostEnded(_)) => return Some("host ended, H restarts".into()),
        None => {}
    }
    if let Some(input) = &state.searching {
        return Some(format!("/{}", input.value()));
    }
    let form = state.functions.form.as_ref().filter(|_| state.form_has_keyboard())?;
    let rows = form.rows();
    let name = rows.get(form.focused).map_or("", |row| row.node.name.as_str());
    let text = form.texts();
    let typed = text.get(form.focused).map_or_else(String::new, |text| text.replace('\n', " "));
    Some(format!("{} {name}: {typed}", form.function))
}
