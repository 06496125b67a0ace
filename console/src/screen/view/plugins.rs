//! The plugins panel: a tree of versions, and details of the selected one.

use std::collections::BTreeSet;

use hotswap_protocol::{Failures, Holder, PluginInfo, VersionInfo, VersionState};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::functions::failures;
use super::text::{cut, pad, pad_left, pad_name};
use super::theme::Theme;
use super::{draw_empty, panel, push_filter};
use crate::format;
use crate::screen::input::action::Action;
use crate::screen::layout::{self, Panel};
use crate::screen::model::changes::Verdict;
use crate::screen::model::disk::DiskState;
use crate::screen::model::face::Face;
use crate::screen::model::plugins::PluginRow;
use crate::screen::model::{Phase, SearchField, State};

/// The width of a mark, a blank, and a blank after the name.
const LEAD_WIDTH: usize = 3;
const LEAST_RUNS_WIDTH: usize = 5;
const DISK_WIDTH: usize = 16;
/// In a narrower panel, there is no room for warnings in the `disk` column.
const LEAST_FOR_WARNINGS: usize = 48;
/// The minimum number of samples in a sparkline. Fewer are useless.
const LEAST_SPARKLINE: usize = 2;
const MOST_SPARKLINE: usize = 8;
/// The width before a detail's text: a blank and the detail's name.
const DETAIL_LEAD: usize = 9;
/// The maximum number of changes for better or worse that are shown.
const VERDICTS_SHOWN: usize = 3;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let has_focus = state.focus == Panel::Plugins;
    let title =
        Span::styled("1 Plugins", if has_focus { theme.title } else { theme.title_elsewhere });
    let mut title = Line::from(title);
    push_filter(frame, area, &mut title, SearchField::Plugins, state, theme);
    let (rows, missing) = (state.plugins.rows(), state.not_loaded());
    let count = rows.len() + missing.len();
    let [_, tree, ..] = layout::of_plugins(layout::inside(area), count);
    let page = layout::tree_page(tree);
    if count > page {
        title.push_span(Span::styled(format!("  {page} of {count}"), theme.dim));
        let failing = failing_out_of_sight((&rows, &missing), page, state);
        if !failing.is_empty() {
            let text = format!("  ✖ {}", Vec::from_iter(failing).join(", "));
            title.push_span(Span::styled(text, theme.bad));
        }
    }
    let inner = panel(frame, area, title, has_focus, theme);
    if rows.is_empty() && missing.is_empty() {
        return draw_empty(frame, inner, empty_text(state), theme);
    }
    let [head, tree, rule, below] = layout::of_plugins(inner, count);
    let names = rows.iter().map(|row| row.plugin.name.as_str()).chain(missing.iter().copied());
    let names = names.map(format::width).max().unwrap_or(0);
    let labels = rows.iter().filter(|row| row.is_first).map(|row| row.version.label());
    let runs = labels.map(|label| format::width(&label)).max().unwrap_or(0);
    let places = layout::of_tree(tree);
    let column_width = places.iter().map(|place| place.width).min().unwrap_or(0);
    let columns = Columns::of(column_width.into(), names, runs);
    if head.height > 0 {
        frame.render_widget(Line::styled(columns.head(), theme.dim), head);
    }
    draw_tree(frame, tree, (&rows, &missing), &columns, state, theme);
    if let Some(row) = state.plugins.selected().filter(|_| below.height > 0) {
        let line = "─".repeat(rule.width.into());
        frame.render_widget(Line::styled(line, theme.border), rule);
        draw_details(frame, below, row, state, theme);
    }
}

/// The plugins with failures in rows that are not visible, of which `page` are.
fn failing_out_of_sight<'a>(
    (rows, missing): (&[PluginRow<'a>], &[&'a str]),
    page: usize,
    state: &State,
) -> BTreeSet<&'a str> {
    let fails = |row: &PluginRow<'_>| {
        let is_broken = || matches!(state.disk.of(row.plugin), DiskState::Broken(_));
        // A failed load no longer matters if a later load succeeded.
        let is_newest = row.plugin.versions.iter().all(|it| it.version <= row.version.version);
        let mark = mark(row.version, &state.plugins.failures(row.plugin));
        mark == '✖' && (row.is_first || is_newest) || row.is_first && is_broken()
    };
    let versions = rows.iter().map(|row| fails(row).then_some(row.plugin.name.as_str()));
    let others = missing.iter().map(|package| {
        let is_broken = matches!(state.disk.of_unloaded(package), DiskState::Broken(_));
        is_broken.then_some(*package)
    });
    let top = layout::first_visible(state.plugins.selected_index().unwrap_or(0), page);
    let all = versions.chain(others).enumerate();
    all.filter(|(row, _)| !(top..top + page).contains(row)).filter_map(|(_, name)| name).collect()
}

fn empty_text(state: &State) -> &'static str {
    if !state.plugins.filter().is_empty() {
        return "no plugin has this in its name\nEsc shows all";
    }
    match state.host.phase {
        Phase::Preparing if state.job.is_some() => "no plugins yet: building …",
        Phase::Preparing | Phase::Starting => "no plugins yet: the host has not answered",
        Phase::Absent => "no host: the console shows a fleet\nEnter on a host opens its console",
        Phase::Ended => "the host has ended\nH starts it again",
        Phase::Connected | Phase::Disconnected => {
            "no plugins: nothing in the plugin directory could be loaded"
        }
    }
}

fn draw_tree(
    frame: &mut Frame<'_>,
    area: Rect,
    (rows, missing): (&[PluginRow<'_>], &[&str]),
    columns: &Columns,
    state: &State,
    theme: &Theme,
) {
    let places = layout::of_tree(area);
    let width = usize::from(places.iter().map(|place| place.width).min().unwrap_or(0));
    let selected = state.plugins.selected_index().unwrap_or(0);
    let top = layout::first_visible(selected, layout::tree_page(area));
    let versions = rows.iter().enumerate().map(|(position, row)| {
        let mut line = version_line(row, state, columns, width, theme);
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
        let (text, style) = match (state.disk.of_unloaded(package), state.host.phase) {
            (DiskState::Unknown, Phase::Connected) => ("not loaded".into(), theme.dim),
            (DiskState::Unknown, _) => ("waiting".into(), theme.dim),
            (disk, _) => disk_text(&disk, theme),
        };
        let runs = pad("–", columns.runs);
        Line::styled(format!("  {} {runs}{text}", pad_name(package, columns.name)), style)
    });
    let height = usize::from(area.height);
    let rows = places.into_iter().flat_map(|place| (0..height).map(move |row| row_of(place, row)));
    for (row, line) in rows.zip(versions.chain(others).skip(top)) {
        frame.render_widget(line, row);
    }
}

/// Applies a style to the whole line, over the styles of its parts.
pub(super) fn emphasised(mut line: Line<'static>, style: Style) -> Line<'static> {
    if style.bg.is_some() || style.add_modifier.contains(ratatui::style::Modifier::REVERSED) {
        for span in &mut line.spans {
            span.style = style;
        }
    }
    line.patch_style(style)
}

/// The widths of a line's columns, from the left. A column of width 0 is left out.
struct Columns {
    name: usize,
    runs: usize,
    disk: usize,
    sparkline: usize,
    calls: usize,
    failures: usize,
    heap: usize,
}

impl Columns {
    /// The columns for a line of this width; `names` and `versions` are the greatest widths of these texts.
    fn of(width: usize, names: usize, versions: usize) -> Self {
        let disk = if width < LEAST_FOR_WARNINGS { DISK_WIDTH - 3 } else { DISK_WIDTH };
        let runs = LEAST_RUNS_WIDTH.max(versions + 1);
        let fixed = LEAD_WIDTH + runs + disk;
        let name = names.clamp(6, width.saturating_sub(fixed).max(6));
        let mut left = width.saturating_sub(fixed + name);
        let mut take = |wanted: usize| {
            let taken = if wanted <= left { wanted } else { 0 };
            left -= taken;
            taken
        };
        let (failures, calls, heap) = (take(5), take(6), take(6));
        let sparkline = if left > LEAST_SPARKLINE { left.min(MOST_SPARKLINE) } else { 0 };
        Self { name, runs, disk: disk + left - sparkline, sparkline, calls, failures, heap }
    }

    fn head(&self) -> String {
        let title = |text: &str, width: usize| {
            if width > 0 { pad_left(text, width) } else { String::new() }
        };
        format!(
            "  {} {}{}{}{}{}{}",
            pad("plugin", self.name),
            pad("runs", self.runs),
            pad("disk", self.disk),
            " ".repeat(self.sparkline),
            title("calls", self.calls),
            title("err", self.failures),
            title("heap", self.heap),
        )
    }
}

/// The line of a version: `● world  v3   ✓ same       ▁▂▅  1.2k    –  1.9k` for the one that serves, and
/// `  ├ v2  retired: call of greet on "main", 4.0 s` for the others.
fn version_line(
    row: &PluginRow<'_>,
    state: &State,
    columns: &Columns,
    width: usize,
    theme: &Theme,
) -> Line<'static> {
    if row.is_first {
        return first_line(row, state, columns, theme);
    }
    let branch = if row.is_last { '└' } else { '├' };
    let lead = format!("  {branch} ");
    let text = if row.is_fold { fold_text(row.plugin) } else { other_text(row, state) };
    let text = cut(&text, width.saturating_sub(format::width(&lead)));
    let failures = &row.version.failures;
    let style = if row.is_fold { theme.dim } else { style(row.version, failures, theme) };
    Line::from(vec![Span::styled(lead, theme.dim), Span::styled(text, style)])
}

fn first_line(
    row: &PluginRow<'_>,
    state: &State,
    columns: &Columns,
    theme: &Theme,
) -> Line<'static> {
    let version = row.version;
    let has_host = state.host.phase != Phase::Ended;
    let serves = version.state == VersionState::Active && has_host;
    let failed = state.plugins.failures(row.plugin);
    let (mark, style) = match has_host {
        true => (mark(version, &failed), style(version, &failed, theme)),
        false => ('○', theme.dim),
    };
    let runs = match (serves, version.state) {
        (true, _) | (_, VersionState::Loading) => version.label(),
        _ => "–".to_owned(),
    };
    let (disk, disk_style) = disk(row, state, theme);
    let name = pad_name(&row.plugin.name, columns.name);
    let lead = format!("{mark} {name} {}", pad(&runs, columns.runs));
    let mut line = Line::from(Span::styled(lead, style));
    if !serves {
        line.push_span(Span::styled(disk, disk_style));
        return line;
    }
    line.push_span(Span::styled(pad(&disk, columns.disk), disk_style));
    let sparkline = state.plugins.sparkline(&row.plugin.name);
    let skipped = sparkline.chars().count().saturating_sub(columns.sparkline);
    let latest: String = sparkline.chars().skip(skipped).collect();
    line.push_span(Span::styled(pad_left(&latest, columns.sparkline), theme.dim));
    line.push_span(Span::styled(pad_left(&format::count(version.calls), columns.calls), theme.dim));
    let (failed, style) = failures(&failed, theme);
    line.push_span(Span::styled(pad_left(&failed, columns.failures), style));
    let heap = version.heap_bytes.map_or_else(|| "–".to_owned(), format::short_bytes);
    line.push_span(Span::styled(pad_left(&heap, columns.heap), theme.dim));
    line
}

/// The comparison of the loaded version with the disk; if the load failed, the failed step.
fn disk(row: &PluginRow<'_>, state: &State, theme: &Theme) -> (String, Style) {
    let version = row.version;
    let disk = state.disk.of(row.plugin);
    match (version.state, &disk) {
        (
            VersionState::Failed,
            DiskState::Unknown
            | DiskState::NotLoaded(_)
            | DiskState::Unusable(_)
            | DiskState::Missing,
        ) => (format!("✖ v{} {}", version.version, failed_text(version)), theme.bad),
        _ => {
            let (text, style) = disk_text(&disk, theme);
            match state.disk.warnings(&row.plugin.name) {
                0 => (text, style),
                count => (
                    format!("{text} ▲{count}"),
                    if style == theme.bad { style } else { theme.warning },
                ),
            }
        }
    }
}

fn disk_text(disk: &DiskState, theme: &Theme) -> (String, Style) {
    match disk {
        DiskState::Unknown => ("–".into(), theme.dim),
        DiskState::Same => ("✓ same".into(), theme.good),
        DiskState::Changed => ("✎ changed".into(), theme.warning),
        DiskState::Building => ("◌ building".into(), theme.warning),
        DiskState::Broken(0) => ("✖ no build".into(), theme.bad),
        DiskState::Broken(errors) => {
            (format!("✖ {}", format::counted(*errors as u64, "error", "errors")), theme.bad)
        }
        DiskState::NotLoaded(build_id) => {
            let id = format::short_build_id(build_id);
            (format!("▲ built {}", id.get(..4).unwrap_or(id)), theme.warning)
        }
        DiskState::RolledBack => ("↺ rolled back".into(), theme.warning),
        DiskState::Unusable(_) => ("✖ bad file".into(), theme.bad),
        DiskState::Missing => ("▲ no artifact".into(), theme.warning),
    }
}

/// The failed step: `failed in on_load`
fn failed_text(version: &VersionInfo) -> String {
    let step = version.failure.as_ref().and_then(|failure| failure.step);
    step.map_or_else(|| "failed".to_owned(), |step| format!("failed in {step}"))
}

/// The summary of the versions that are gone: `3 freed, 1 failed, 5.7 MiB back`
fn fold_text(plugin: &PluginInfo) -> String {
    let gone = |state| plugin.versions.iter().filter(move |it| it.state == state);
    let (freed, failed) = (gone(VersionState::Freed).count(), gone(VersionState::Failed).count());
    let bytes: u64 = gone(VersionState::Freed).map(|it| it.size_bytes).sum();
    let parts = [
        (freed > 0).then(|| format!("{freed} freed")),
        (failed > 0).then(|| format!("{failed} failed")),
        (freed > 0).then(|| format!("{} back", format::bytes(bytes))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The text of a version that does not serve: `v2  retired: call of greet on "main", 4.0 s`
fn other_text(row: &PluginRow<'_>, state: &State) -> String {
    let version = row.version;
    let what = match version.state {
        VersionState::Freed => format!("freed, {} back", format::bytes(version.size_bytes)),
        VersionState::Failed => failed_text(version),
        _ if is_held(*row, state) => {
            let key = state.key_of(&Action::ToggleHold);
            format!("kept by this console; {key} lets it go")
        }
        other => {
            // The threads are left to the details.
            let unthreaded = |holder: &Holder| match &holder.function {
                Some(_) => Holder { thread: None, thread_id: None, ..holder.clone() },
                None => holder.clone(),
            };
            let held_by: Vec<Holder> = version.held_by.iter().map(unthreaded).collect();
            let holders = format::holders(&held_by, &version.holders, state.now_ms);
            match holders.as_slice() {
                [] => other.to_string(),
                [one] => format!("{other}: {one}"),
                [first, others @ ..] => format!("{other}: {first}, +{} more", others.len()),
            }
        }
    };
    format!("v{:<3} {what}", version.version)
}

/// The mark of a version. A version that serves but has panicked gets the mark of a failure.
fn mark(version: &VersionInfo, failures: &Failures) -> char {
    match version.state {
        VersionState::Active if failures.panics > 0 => '✖',
        VersionState::Active => '●',
        VersionState::Loading => '◌',
        VersionState::Failed => '✖',
        VersionState::Freed => '·',
        _ => '○',
    }
}

fn style(version: &VersionInfo, failures: &Failures, theme: &Theme) -> Style {
    match version.state {
        VersionState::Active if failures.panics > 0 => theme.bad,
        VersionState::Active if failures.errors > 0 => theme.warning,
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
    let verdicts = verdict_lines(row, area.width.into(), state, theme);
    let skipped = verdicts.len().min(usize::from(area.height));
    for (offset, line) in verdicts.into_iter().take(skipped).enumerate() {
        frame.render_widget(line, row_of(area, offset));
    }
    let skipped_rows = u16::try_from(skipped).unwrap_or(u16::MAX);
    let area = Rect { y: area.y + skipped_rows, height: area.height - skipped_rows, ..area };
    let mut lines = vec![
        ("build", build(version)),
        ("commit", commit(version)),
        ("size", size(version)),
        ("loaded", loaded(version, state.now_ms)),
    ];
    if let Some(patched) = format::patched(version) {
        lines.insert(0, ("patch", patched));
    }
    if row.is_first && row.plugin.is_rolled_back {
        let to = state.plugins.rolled_back_to(&row.plugin.name);
        let to = to.map_or_else(|| "to an earlier build".into(), |it| format!("to v{it}'s build"));
        let key = state.key_of(&Action::LET_GO);
        lines.insert(0, ("rolled", format!("back {to}; {key} lets go")));
    }
    if is_held(row, state) {
        let key = state.key_of(&Action::ToggleHold);
        lines.push(("kept", format!("by this console; {key} lets it go")));
    }
    let has_more = version.remark.as_ref().unwrap_or(&version.detail);
    if !has_more.is_empty() {
        lines.push(("state", version.detail.clone()));
    }
    let holders = format::holders(&version.held_by, &version.holders, state.now_ms);
    for (position, holder) in holders.into_iter().enumerate() {
        lines.push((if position == 0 { "holders" } else { "" }, holder));
    }
    let width = usize::from(area.width).saturating_sub(DETAIL_LEAD);
    for (offset, (name, value)) in lines.into_iter().take(area.height.into()).enumerate() {
        let line = Line::from(vec![
            Span::styled(format!(" {name:<8}"), theme.dim),
            Span::raw(cut(&value, width)),
        ]);
        frame.render_widget(line, row_of(area, offset));
    }
}

/// The last reload's change of the version, and its changes for better or worse.
fn verdict_lines(
    row: PluginRow<'_>,
    width: usize,
    state: &State,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let before = state.plugins.before(&row.plugin.name);
    let Some(before) = before.filter(|_| row.is_first) else { return Vec::new() };
    let (from, to) = (before.face, Face::of(row.version));
    let reload = state.timeline.between(&row.plugin.name, from, to);
    let live_ms = reload.and_then(|reload| reload.live_ms);
    let field = |name: &str, text: String, style: Style| {
        Line::from(vec![Span::styled(format!(" {name:<8}"), theme.dim), Span::styled(text, style)])
    };
    let mut change = format!("{} → {}", from.label(), to.label());
    if let Some(live_ms) = live_ms {
        let long = format!(", {}", format::live_after_save(live_ms));
        let fits = format::width(&change) + format::width(&long) + DETAIL_LEAD <= width;
        change += &if fits { long } else { format!(", live {}", format::seconds(live_ms)) };
    }
    let mut lines = vec![field("reload", change, theme.plain)];
    let verdicts = before.verdicts(row.plugin);
    let shown = verdicts.iter().take(VERDICTS_SHOWN).enumerate();
    lines.extend(shown.map(|(position, verdict)| {
        let title = if position == 0 { "since" } else { "" };
        let (text, style) = verdict_text(verdict, state, theme);
        field(title, text, style)
    }));
    let values = state.vault.changes_of(&row.plugin.name);
    if !values.is_empty() {
        let is_lost = values.iter().any(|value| value.is_lost);
        let (mark, style) = if is_lost { ("▲ ", theme.warning) } else { ("", theme.plain) };
        let texts: Vec<&str> = values.iter().map(|value| value.text.as_str()).collect();
        lines.push(field("vault", format!("{mark}{}", texts.join(", ")), style));
    }
    lines
}

/// A change for better or worse: `✖ heartbeat panics 0 → 12, R rolls back`
fn verdict_text(verdict: &Verdict, state: &State, theme: &Theme) -> (String, Style) {
    let style = |bad| if verdict.is_worse() { bad } else { theme.plain };
    match verdict {
        Verdict::Failures { function, what, before, now } => {
            let key = state.key_of(&Action::RollBack);
            let (mark, then, style) = match now {
                0 => ("✔", String::new(), theme.plain),
                now if now > before => ("✖", format!(", {key} rolls back"), theme.bad),
                _ => ("▲", String::new(), theme.warning),
            };
            (format!("{mark} {function} {what} {before} → {now}{then}"), style)
        }
        Verdict::Speed { function, percent } if *percent > 0 => {
            (format!("▲ {function} takes {percent} % longer"), style(theme.warning))
        }
        Verdict::Speed { function, percent } => {
            (format!("✔ {function} takes {} % less", percent.unsigned_abs()), style(theme.plain))
        }
        Verdict::Heap(before, now) => {
            let (before, now) = (format::short_bytes(*before), format::short_bytes(*now));
            let text = if before == now {
                format!("= heap {now}")
            } else {
                format!("heap {before} → {now}")
            };
            (text, style(theme.warning))
        }
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
        return format!("{} {}", format::clock(version.loaded_at_ms), format::zone());
    }
    let age = format::duration(age_ms);
    format!("{} {}, {age} ago", format::clock(version.loaded_at_ms), format::zone())
}

/// The line at this offset from the top of an area.
pub(super) fn row_of(area: Rect, offset: usize) -> Rect {
    let offset = u16::try_from(offset).unwrap_or(u16::MAX);
    Rect { y: area.y.saturating_add(offset), height: 1, ..area }.intersection(area)
}
