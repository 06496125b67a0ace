//! The Fleet tab: the rollout with its evidence, the builds with their numbers of hosts, and the hosts.

use hotswap_fleet::{Arm, Phase, Rollout, Verdict, judge};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::plugins::row_of;
use super::text::{cut, pad, pad_left, pad_name, wrap_words};
use super::theme::Theme;
use super::{draw_empty, draw_rule};
use crate::format;
use crate::screen::layout::{self, Panel};
use crate::screen::model::State;
use crate::screen::model::fleet::{
    FleetSnapshot, Health, HostRow, ReleaseChoice, Side, name_of, progress, rate,
};

/// The maximum number of lines of a reason. The messages have the whole text.
const REASON_LINES: usize = 2;
/// The maximum number of plugins in the evidence.
const PLUGINS_SHOWN: usize = 3;
/// The maximum widths of a host's name and of its release.
const WIDEST_NAME: usize = 34;
const WIDEST_RELEASE: usize = 20;
const STATE_WIDTH: usize = 8;
const NUMBER_WIDTH: usize = 7;
const BAR_WIDTH: usize = 24;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let Some(seen) = state.fleet.seen() else {
        let text = state.fleet.trouble().unwrap_or("the fleet was not seen yet");
        return draw_empty(frame, area, text, theme);
    };
    let width = usize::from(area.width);
    let mut lines = vec![headline(seen, state, width, theme)];
    lines.extend(
        state
            .fleet
            .trouble()
            .map(|trouble| Line::styled(cut(&format!(" ✖ {trouble}"), width), theme.bad)),
    );
    match &seen.rollout {
        Some(rollout) => lines.extend(of_rollout(rollout, state, width, theme)),
        None => lines.push(Line::styled(cut(&how_to_begin(state), width), theme.dim)),
    }
    lines.extend(evidence(&state.fleet.evidence(), width, theme));
    let unreadable = seen.unreadable.iter().map(|it| cut(&format!(" ▲ {it}"), width));
    lines.extend(unreadable.take(1).map(|line| Line::styled(line, theme.warning)));
    let [top, hosts] = layout::of_fleet(area);
    let height = usize::from(top.height);
    let described = lines.len().min(height);
    for (offset, line) in lines.into_iter().take(height).enumerate() {
        frame.render_widget(line, row_of(top, offset));
    }
    let builds = builds(state, width, (height - described).saturating_sub(1), theme);
    if !builds.is_empty() {
        draw_rule(frame, row_of(top, described), "builds", theme);
    }
    for (offset, line) in builds.into_iter().enumerate() {
        frame.render_widget(line, row_of(top, described + 1 + offset));
    }
    draw_hosts(frame, hosts, state, theme);
}

/// The headline: ` games/main  base r2  not signed              2 serving, 1 refused`
fn headline(seen: &FleetSnapshot, state: &State, width: usize, theme: &Theme) -> Line<'static> {
    let FleetSnapshot { fleet, channel, .. } = seen;
    let name = format!(" {fleet}/{}", channel.name);
    let base = match &channel.base {
        Some(base) => format!("  base {base}"),
        None => "  no release declared".to_owned(),
    };
    let signed = if seen.is_signed { "" } else { "  not signed" };
    let hosts = state.fleet.hosts(state.now_ms);
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for host in &hosts {
        match counts.iter_mut().find(|(state, _)| *state == host.state) {
            Some((_, count)) => *count += 1,
            None => counts.push((host.state, 1)),
        }
    }
    let counts: Vec<String> =
        counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let counts = match counts.as_slice() {
        [] => "no hosts".to_owned(),
        counts => counts.join(", "),
    };
    let left = width.saturating_sub(format::width(&name) + 1);
    let is_short = format::width(&base) + format::width(signed) + format::width(&counts) < left;
    let base = if is_short { base + signed } else { base };
    let rest = left.saturating_sub(format::width(&base));
    Line::from(vec![
        Span::styled(name, theme.strong),
        Span::raw(base),
        Span::styled(pad_left(&cut(&counts, rest), rest), theme.dim),
    ])
}

fn how_to_begin(state: &State) -> String {
    format!(" no rollout yet: {}", state.fleet.command(&["rollout", "RELEASE"]))
}

/// The rollout: ` ◐ r3 is being judged in step 1 of 4, for 12 s; ada began it 40 s ago`, and the reason why it waits.
fn of_rollout(rollout: &Rollout, state: &State, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let (mark, style) = match rollout.phase {
        Phase::Done => ("✔", theme.good),
        Phase::Paused => ("▲", theme.warning),
        Phase::RollingBack | Phase::RolledBack => ("✖", theme.bad),
        Phase::Superseded => ("–", theme.dim),
        _ => ("●", theme.good),
    };
    let ago = |at_ms| format::duration(state.now_ms.saturating_sub(at_ms));
    let since = match rollout.phase.is_over() {
        true => format!(", {} ago", ago(rollout.since_ms)),
        false => format!(", for {}", ago(rollout.since_ms)),
    };
    let began = format!("; {} began it {} ago", rollout.by, ago(rollout.started_at_ms));
    let text = progress(rollout);
    let left = width.saturating_sub(3);
    // The parts that do not fit completely are left out.
    let fits = |text: &String| format::width(text) <= left;
    let [long, short] = [format!("{text}{since}{began}"), format!("{text}{since}")];
    let text = [long, short].into_iter().find(fits).unwrap_or_else(|| cut(&text, left));
    let mut lines = vec![Line::from(vec![
        Span::styled(format!(" {mark} "), style),
        Span::styled(text, theme.strong),
    ])];
    if let Some(reason) = &rollout.reason {
        let rows = wrap_words(&reason.to_string(), width.saturating_sub(4).max(1));
        let rows = rows.into_iter().take(REASON_LINES);
        lines.extend(rows.map(|row| Line::styled(format!("   {row}"), style)));
    }
    lines
}

/// The results of calls, for each plugin in the new release and in the base.
fn evidence(sides: &[Side<'_>], width: usize, theme: &Theme) -> Vec<Line<'static>> {
    // The line of the new release is above that of the base.
    let pairs = sides.chunks_exact(2).take(PLUGINS_SHOWN);
    let shown = pairs.flat_map(|pair| {
        let verdict = judge(&pair[0].arm, &pair[1].arm);
        pair.iter().map(move |side| (side, verdict))
    });
    let mut lines: Vec<Line<'static>> = shown
        .map(|(side, verdict)| {
            let Arm { calls, errors, panics } = side.arm;
            let hosts = format::counted(side.hosts as u64, "host", "hosts");
            let text = format!(
                "   {} {} {}{}{}{}",
                pad_name(if side.is_tried { side.plugin } else { "" }, 12),
                pad_name(name_of(side.release), 12),
                pad_left(&hosts, 10),
                pad_left(&format!("{} calls", format::count(calls)), 13),
                pad_left(&format!("{} errors", rate(errors, calls)), 14),
                pad_left(&format!("{} panics", format::count(panics)), 10),
            );
            let style = match verdict {
                _ if !side.is_tried => theme.dim,
                Verdict::Panics => theme.bad,
                Verdict::MoreErrors => theme.warning,
                Verdict::Good => theme.plain,
            };
            Line::styled(cut(&text, width), style)
        })
        .collect();
    let more = (sides.len() / 2).saturating_sub(PLUGINS_SHOWN);
    if more > 0 {
        let more = format::counted(more as u64, "more plugin", "more plugins");
        lines.push(Line::styled(format!("   {more} changed"), theme.dim));
    }
    lines
}

/// The builds, in at most `height` lines: `   world        3f2a91c0  r2             2 ▇▇▇▇▇▇▇▇`
fn builds(state: &State, width: usize, height: usize, theme: &Theme) -> Vec<Line<'static>> {
    let builds = state.fleet.builds();
    let most = builds.iter().map(|build| build.hosts).max().unwrap_or(1);
    let shown = if builds.len() > height { height.saturating_sub(1) } else { builds.len() };
    let mut lines = Vec::new();
    let mut before = "";
    for build in builds.iter().take(shown) {
        let plugin = if build.plugin == before { "" } else { build.plugin };
        before = build.plugin;
        let releases: Vec<&str> = build.releases.iter().map(|it| it.as_str()).collect();
        let releases = if releases.is_empty() { "own".to_owned() } else { releases.join(", ") };
        let text = format!(
            "   {} {}  {} {} ",
            pad_name(plugin, 12),
            format::short_build_id(build.build_id),
            pad_name(&releases, 12),
            pad_left(&format::count(build.hosts), 5),
        );
        let room = width.saturating_sub(format::width(&text) + 1).min(BAR_WIDTH);
        let bar = format::bar(build.hosts, most, room);
        lines.push(Line::from(vec![Span::raw(cut(&text, width)), Span::styled(bar, theme.bar)]));
    }
    let more = builds.len() - shown;
    if more > 0 && height > 0 {
        lines.push(Line::styled(format!("   {more} more"), theme.dim));
    }
    lines
}

/// The widths of the columns of the hosts. Columns without room are left out.
struct Columns {
    name: usize,
    release: usize,
    has_numbers: bool,
    problem: usize,
}

impl Columns {
    fn of(rows: &[HostRow<'_>], width: usize) -> Self {
        let widest = |texts: &mut dyn Iterator<Item = usize>, least: usize, most: usize| {
            texts.max().unwrap_or(0).clamp(least, most)
        };
        let name = widest(
            &mut rows.iter().map(|row| row.host.id.as_str().len()),
            "host".len(),
            WIDEST_NAME,
        );
        let release = widest(
            &mut rows.iter().map(|row| format::width(&row.release())),
            "release".len(),
            WIDEST_RELEASE,
        );
        let numbers = 3 * (NUMBER_WIDTH + 1);
        let fixed = 3 + name + 1 + STATE_WIDTH + 1 + release;
        let has_numbers = fixed + numbers < width;
        let taken = fixed + if has_numbers { numbers } else { 0 };
        Self { name, release, has_numbers, problem: width.saturating_sub(taken + 2) }
    }

    fn line(&self, [name, state, release]: [&str; 3], numbers: [&str; 3], problem: &str) -> String {
        let mut line = format!(
            "{} {} {}",
            pad_name(name, self.name),
            pad(state, STATE_WIDTH),
            pad_name(release, self.release)
        );
        if self.has_numbers {
            line.extend(numbers.map(|number| format!(" {}", pad_left(number, NUMBER_WIDTH))));
        }
        if self.problem > 3 && !problem.is_empty() {
            line.push_str(&format!("  {}", cut(problem, self.problem)));
        }
        line
    }
}

fn draw_hosts(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let rows = state.fleet.hosts(state.now_ms);
    draw_rule(frame, row_of(area, 0), "hosts", theme);
    if rows.is_empty() {
        let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        return draw_empty(frame, below, &hotswap_fleet::Reason::NoHosts.to_string(), theme);
    }
    let width = usize::from(area.width);
    let columns = Columns::of(&rows, width);
    let titles =
        columns.line(["host", "state", "release"], ["calls", "errors", "panics"], "problem");
    frame.render_widget(
        Line::styled(cut(&format!("   {titles}"), width), theme.dim),
        row_of(area, 1),
    );
    let page = layout::fleet_page(area);
    let selected = state.fleet.selected(state.now_ms);
    let top = layout::first_visible(selected, page);
    for (offset, row) in rows.iter().skip(top).take(page).enumerate() {
        let (mark, style) = mark_of(row.health, theme);
        let Arm { calls, errors, panics } = row.arm;
        let [calls, errors, panics] = [calls, errors, panics].map(format::count);
        let problem = row.problem().lines().next().unwrap_or_default();
        let release = row.release();
        let text = columns.line(
            [row.host.id.as_str(), row.state, &release],
            [&calls, &errors, &panics],
            problem,
        );
        let line = Line::from(vec![
            Span::styled(format!(" {mark} "), style),
            Span::styled(cut(&text, width.saturating_sub(3)), text_style(row.health, theme)),
        ]);
        let line = match top + offset == selected {
            true => super::text::selected(line, width, theme.selection(state.focus == Panel::Tabs)),
            false => line,
        };
        frame.render_widget(line, row_of(area, offset + 2));
    }
}

fn mark_of(health: Health, theme: &Theme) -> (&'static str, Style) {
    match health {
        Health::Bad => ("✖", theme.bad),
        Health::Doubtful => ("▲", theme.warning),
        Health::Moving => ("◌", theme.warning),
        Health::Good => ("●", theme.good),
    }
}

fn text_style(health: Health, theme: &Theme) -> Style {
    match health {
        Health::Bad => theme.bad,
        Health::Doubtful => theme.warning,
        Health::Moving | Health::Good => theme.plain,
    }
}

/// The lines of the box in which a person chooses a release.
pub(super) fn releases_in_box(choice: &ReleaseChoice, theme: &Theme) -> Vec<Line<'static>> {
    if choice.releases.is_empty() {
        return vec![Line::raw("There is no other release.")];
    }
    let line = |(position, release): (usize, &hotswap_fleet::Id)| {
        let style = if position == choice.selected { theme.selected } else { theme.plain };
        Line::styled(pad_name(release.as_str(), WIDEST_NAME), style)
    };
    choice.releases.iter().enumerate().map(line).collect()
}
