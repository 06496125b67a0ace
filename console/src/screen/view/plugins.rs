//! The plugins panel: a tree of versions, and what there is to know of the selected one.

use hotswap_protocol::{VersionInfo, VersionState, same_plugin};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::text::{cut, pad, pad_left};
use super::theme::Theme;
use super::{draw_empty, panel};
use crate::format;
use crate::screen::layout::{self, Panel};
use crate::screen::model::plugins::PluginRow;
use crate::screen::model::{Phase, State};
use crate::session::Job;

/// A count of calls has at most so many columns.
const COUNT_WIDTH: usize = 5;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let has_focus = state.focus == Panel::Plugins;
    let title =
        Span::styled("1 Plugins", if has_focus { theme.title } else { theme.title_elsewhere });
    let inner = panel(frame, area, title.into(), has_focus, theme);
    let rows = state.plugins.rows();
    let missing = not_loaded(state);
    if rows.is_empty() && missing.is_empty() {
        return draw_empty(frame, inner, empty_text(state), theme);
    }
    let [tree, rule, below] = layout::of_plugins(inner);
    draw_tree(frame, tree, &rows, &missing, state, theme);
    if let Some(row) = state.plugins.selected().filter(|_| below.height > 0) {
        let line = "─".repeat(rule.width.into());
        frame.render_widget(Line::styled(line, theme.border), rule);
        draw_details(frame, below, row, state, theme);
    }
}

fn empty_text(state: &State) -> &'static str {
    match state.host.phase {
        Phase::Preparing if state.job.is_some() => "no plugins yet: building …",
        Phase::Preparing | Phase::Starting => "no plugins yet: the host has not answered",
        Phase::Ended => "the host has ended\nH starts it again",
        Phase::Connected | Phase::Disconnected => {
            "no plugins: nothing in the plugin directory could be loaded"
        }
    }
}

/// Packages whose plugin the host has not loaded.
fn not_loaded(state: &State) -> Vec<&str> {
    let loaded =
        |package: &str| state.plugins.list().iter().any(|it| same_plugin(&it.name, package));
    state.host.packages.iter().map(String::as_str).filter(|package| !loaded(package)).collect()
}

fn draw_tree(
    frame: &mut Frame<'_>,
    area: Rect,
    rows: &[PluginRow<'_>],
    missing: &[&str],
    state: &State,
    theme: &Theme,
) {
    let height = usize::from(area.height);
    let width = usize::from(area.width);
    let selected = state.plugins.selected_index().unwrap_or(0);
    let top = layout::first_visible(selected, height);
    let names = rows.iter().map(|row| row.plugin.name.as_str()).chain(missing.iter().copied());
    let name_width = names.map(format::width).max().unwrap_or(0);
    let name_width = name_width.clamp(6, width.saturating_sub(22).max(6));
    let versions = rows.iter().enumerate().map(|(position, row)| {
        let mut line = version_line(row, state, name_width, width, theme);
        if position == selected {
            let has_focus = state.focus == Panel::Plugins;
            line = if has_focus {
                emphasised(line, theme.selected)
            } else {
                emphasised(line, theme.selected_elsewhere)
            };
        }
        line
    });
    let others = missing.iter().map(|package| {
        let job = Job::BuildPlugin((*package).to_owned());
        let (mark, why, style) = match state.host.phase {
            _ if state.builds.failed(&job) => ('✖', "does not compile", theme.bad),
            Phase::Connected => (' ', "not loaded", theme.dim),
            _ => (' ', "waiting", theme.dim),
        };
        Line::styled(format!("{mark} {} {why}", pad(package, name_width)), style)
    });
    for (offset, line) in versions.chain(others).skip(top).take(height).enumerate() {
        frame.render_widget(line, row_of(area, offset));
    }
}

/// The selection is to be seen over the whole line, whatever its parts look like.
fn emphasised(mut line: Line<'static>, style: Style) -> Line<'static> {
    if style.bg.is_some() || style.add_modifier.contains(ratatui::style::Modifier::REVERSED) {
        for span in &mut line.spans {
            span.style = style;
        }
    }
    line.patch_style(style)
}

/// `● world  v3 active  ▁▂▅  1.2k` or `  ├ v2 retired  2 calls`
fn version_line(
    row: &PluginRow<'_>,
    state: &State,
    name_width: usize,
    width: usize,
    theme: &Theme,
) -> Line<'static> {
    let version = row.version;
    let mark = mark(version);
    let (lead, lead_style) = if row.is_first {
        (format!("{mark} {} ", pad(&row.plugin.name, name_width)), theme.plain)
    } else {
        let branch = if row.is_last { '└' } else { '├' };
        (pad(&format!("  {branch}"), name_width + 3), theme.dim)
    };
    let word = format!("v{:<3}{:<8}", version.version, version.state.as_str());
    let used = format::width(&lead) + word.len();
    let right = width.saturating_sub(used);
    let tail = match version.state {
        VersionState::Active => {
            let sparkline = state.plugins.sparkline(&row.plugin.name);
            let failed = version.failures.errors + version.failures.panics;
            let failed =
                if failed > 0 { format!(" ✖{}", format::count(failed)) } else { String::new() };
            // Of the rate as much of the latest as there is room for.
            let room = right.saturating_sub(COUNT_WIDTH + 2 + format::width(&failed));
            let skipped = sparkline.chars().count().saturating_sub(room);
            let latest: String = sparkline.chars().skip(skipped).collect();
            format!("{latest}{failed} {:>COUNT_WIDTH$}", format::count(version.calls))
        }
        VersionState::Freed => format::bytes(version.size_bytes),
        VersionState::Failed => "!".into(),
        _ => match version.holders.len() {
            0 => String::new(),
            count => format::counted(count as u64, "holder", "holders"),
        },
    };
    let state_style = style(version, theme);
    Line::from(vec![
        Span::styled(lead, if row.is_first { state_style } else { lead_style }),
        Span::styled(word, state_style),
        Span::styled(pad_left(&format!(" {tail}"), right), theme.dim),
    ])
}

/// What is seen of a version at a glance; one that serves and panics does not look well.
fn mark(version: &VersionInfo) -> char {
    match version.state {
        VersionState::Active if version.failures.panics > 0 => '✖',
        VersionState::Active => '●',
        VersionState::Loading => '◌',
        VersionState::Failed => '✖',
        VersionState::Freed => '·',
        _ => '○',
    }
}

fn style(version: &VersionInfo, theme: &Theme) -> Style {
    match version.state {
        VersionState::Active if version.failures.panics > 0 => theme.bad,
        VersionState::Active if version.failures.errors > 0 => theme.warning,
        VersionState::Active => theme.plain,
        VersionState::Failed => theme.bad,
        VersionState::Freed => theme.dim,
        _ => theme.warning,
    }
}

/// Whether this console keeps the version loaded.
fn is_held(row: PluginRow<'_>, state: &State) -> bool {
    state.functions.held.contains(&format!("{}@{}", row.plugin.name, row.version.version))
}

fn draw_details(
    frame: &mut Frame<'_>,
    area: Rect,
    row: PluginRow<'_>,
    state: &State,
    theme: &Theme,
) {
    let version = row.version;
    let mut lines = vec![
        ("build", build(version)),
        ("commit", commit(version)),
        ("size", size(version)),
        ("loaded", loaded(version, state.now_ms)),
    ];
    if is_held(row, state) {
        lines.push(("kept", "by this console".into()));
    }
    let has_more = version.remark.as_ref().unwrap_or(&version.detail);
    if !has_more.is_empty() {
        lines.push(("state", version.detail.clone()));
    }
    let holders = format::holders(&version.held_by, &version.holders, state.now_ms);
    for (position, holder) in holders.into_iter().enumerate() {
        lines.push((if position == 0 { "holders" } else { "" }, holder));
    }
    let width = usize::from(area.width).saturating_sub(9);
    for (offset, (name, value)) in lines.into_iter().take(area.height.into()).enumerate() {
        let line = Line::from(vec![
            Span::styled(format!(" {name:<8}"), theme.dim),
            Span::raw(cut(&value, width)),
        ]);
        frame.render_widget(line, row_of(area, offset));
    }
}

fn build(version: &VersionInfo) -> String {
    format!("{}, crate {}", format::short_build_id(&version.build_id), version.crate_version)
}

fn size(version: &VersionInfo) -> String {
    let heap = version.heap_bytes.map(|heap| format!(", heap {}", format::bytes(heap)));
    format!("{}{}", format::bytes(version.size_bytes), heap.unwrap_or_default())
}

fn commit(version: &VersionInfo) -> String {
    match &version.source {
        Some(source) => {
            let commit = source.commit.get(..8).unwrap_or(&source.commit);
            let dirty = if source.dirty { " + changes" } else { "" };
            format!("{commit} {}{dirty}", source.branch)
        }
        None => "no git repository".into(),
    }
}

fn loaded(version: &VersionInfo, now_ms: u64) -> String {
    let age_ms = now_ms.saturating_sub(version.loaded_at_ms);
    if age_ms < 60_000 {
        return format!("{} UTC", format::clock(version.loaded_at_ms));
    }
    let age = format::duration(age_ms);
    format!("{} UTC, {age} ago", format::clock(version.loaded_at_ms))
}

/// The line of an area at this offset from its top.
pub(super) fn row_of(area: Rect, offset: usize) -> Rect {
    let offset = u16::try_from(offset).unwrap_or(u16::MAX);
    Rect { y: area.y.saturating_add(offset), height: 1, ..area }.intersection(area)
}
