//! The layout of the screen, for any size.

pub mod boxes;
mod panel;

use ratatui::layout::{Constraint, Layout as Split, Margin, Position, Rect};

pub use panel::{Panel, Tab};

/// Below this size only a status line is shown.
const LEAST_PANEL: (u16, u16) = (40, 10);
/// Below this size only the focused panel is shown.
const LEAST_PANELS: (u16, u16) = (80, 20);
/// Below this size the plugins panel is a strip.
const LEAST_COLUMNS: (u16, u16) = (100, 28);
/// From this number of columns on, two tabs are side by side.
const LEAST_FOR_TWO_TABS: u16 = 160;
/// The minimum number of lines for the hosts in the Fleet tab: a rule, the column names, and hosts.
const LEAST_FLEET_LIST: u16 = 5;
/// The maximum number of lines above them, for the rollout and the builds.
const MOST_ABOVE_HOSTS: u16 = 14;
/// The number of lines that are kept for the result of a call below a form that is longer than its panel.
const RESULT_LINES_KEPT: u16 = 4;
/// The number of lines of the table that are kept above an open form if the screen is large enough: the column names
/// and some functions.
const TABLE_LINES_KEPT: usize = 4;
/// The number of lines that the log keeps when a tab takes its room, with its border; fewer on a small screen.
const LOG_LINES_KEPT: u16 = 5;
const LOG_LINES_KEPT_IN_STRIP: u16 = 3;

/// The areas of the screen; `None` for a part that is not shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    /// The line about the host.
    pub header: Rect,
    /// The plugins panel, its border included.
    pub plugins: Option<Rect>,
    /// The tabs panel, its border included.
    pub tabs: Option<Rect>,
    /// The second tab, on a wide screen, its border included.
    pub second_tab: Option<Rect>,
    /// The logs panel, its border included.
    pub logs: Option<Rect>,
    /// The line of the running job and the notice.
    pub job: Rect,
    /// The line of keys.
    pub footer: Rect,
    /// The only line of a screen that is too small for anything else.
    pub status: Option<Rect>,
}

impl Layout {
    /// The layout of a screen of this size. `lines` is the number of lines that the tab needs. If its share is smaller,
    /// it takes lines from the log, unless the log has the keyboard.
    pub fn of(
        (width, height): (u16, u16),
        focus: Panel,
        (tab, lines): (Tab, usize),
        zoomed: bool,
    ) -> Self {
        let screen = Rect::new(0, 0, width, height);
        let smaller_than = |least: (u16, u16)| width < least.0 || height < least.1;
        if smaller_than(LEAST_PANEL) {
            let status = Rect { height: height.min(1), ..screen };
            return Self { status: Some(status), ..Self::default() };
        }
        let [header, middle, job, footer] = Split::vertical([
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(1),
            Constraint::Length(1),
        ])
        .areas(screen);
        let mut layout = Self { header, job, footer, ..Self::default() };
        if zoomed || smaller_than(LEAST_PANELS) {
            *layout.of_panel(focus) = Some(middle);
        } else if smaller_than(LEAST_COLUMNS) {
            let [plugins, mut tabs, mut logs] =
                Split::vertical([Constraint::Length(5), Constraint::Fill(3), Constraint::Fill(2)])
                    .areas(middle);
            if focus != Panel::Logs {
                make_room(&mut tabs, &mut logs, lines, LOG_LINES_KEPT_IN_STRIP);
            }
            layout.set(plugins, tabs, logs);
        } else {
            let [mut top, mut logs] =
                Split::vertical([Constraint::Fill(3), Constraint::Fill(2)]).areas(middle);
            if focus != Panel::Logs {
                make_room(&mut top, &mut logs, lines, LOG_LINES_KEPT);
            }
            let [plugins, tabs] = Split::horizontal([
                Constraint::Length(plugins_width(width, tab)),
                Constraint::Fill(1),
            ])
            .areas(top);
            let (tabs, second) = match width >= LEAST_FOR_TWO_TABS {
                true => {
                    let halves = Split::horizontal([Constraint::Fill(1), Constraint::Fill(1)]);
                    let [tabs, second] = halves.areas(tabs);
                    (tabs, Some(second))
                }
                false => (tabs, None),
            };
            layout.set(plugins, tabs, logs);
            layout.second_tab = second;
        }
        layout
    }

    fn set(&mut self, plugins: Rect, tabs: Rect, logs: Rect) {
        self.plugins = Some(plugins);
        self.tabs = Some(tabs);
        self.logs = Some(logs);
    }

    fn of_panel(&mut self, panel: Panel) -> &mut Option<Rect> {
        match panel {
            Panel::Plugins => &mut self.plugins,
            Panel::Tabs => &mut self.tabs,
            Panel::Logs => &mut self.logs,
        }
    }

    /// The panel at a position of the screen.
    pub fn panel_at(&self, place: Position) -> Option<(Panel, Rect)> {
        let panels =
            [(Panel::Plugins, self.plugins), (Panel::Tabs, self.tabs), (Panel::Logs, self.logs)];
        let shown = panels.into_iter().filter_map(|(panel, area)| Some((panel, area?)));
        shown.into_iter().find(|(_, area)| area.contains(place))
    }

    /// The number of lines inside a panel's border.
    pub fn page(mut self, panel: Panel) -> usize {
        self.of_panel(panel).map_or(0, |area| area.height.saturating_sub(2).into())
    }
}

/// Grows a panel to `lines` lines inside its border. The log below it shrinks, but to no less than `kept` lines.
fn make_room(panel: &mut Rect, logs: &mut Rect, lines: usize, kept: u16) {
    let wanted = as_u16(lines).saturating_add(2).saturating_sub(panel.height);
    let taken = wanted.min(logs.height.saturating_sub(kept));
    panel.height += taken;
    logs.y += taken;
    logs.height -= taken;
}

/// The width of the plugins panel. The functions get as much as possible. A tab with lines of output gets even more:
/// then the plugins keep only their first columns.
fn plugins_width(width: u16, tab: Tab) -> u16 {
    match tab {
        Tab::Build | Tab::Diff | Tab::Fleet => 36,
        _ if width < LEAST_FOR_ALL_COLUMNS => 42,
        _ => 52,
    }
}

/// With fewer columns, the plugins panel does without errors and heap.
const LEAST_FOR_ALL_COLUMNS: u16 = 116;
/// With fewer lines, the plugins panel has no column names.
const LEAST_FOR_NAMES: u16 = 6;
/// The minimum width of a column in a strip of plugins.
const LEAST_STRIP_COLUMN: u16 = 38;
/// With fewer lines, the plugins panel has no details of a version.
const LEAST_FOR_DETAILS: u16 = 12;
/// The minimum and the maximum number of lines of the details. They shrink for a longer tree.
const LEAST_DETAIL_LINES: u16 = 4;
const DETAIL_LINES: u16 = 7;

/// A panel without its border.
pub fn inside(panel: Rect) -> Rect {
    panel.inner(Margin::new(1, 1))
}

/// The first visible line of `page`: as near to the top as the selected line allows.
pub fn first_visible(selected: usize, page: usize) -> usize {
    (selected + 1).saturating_sub(page)
}

/// The parts of the plugins panel: the column names, the tree of `lines` lines, the line below it, and the details of a
/// version.
pub fn of_plugins(inside: Rect, lines: usize) -> [Rect; 4] {
    let has_details = inside.height >= LEAST_FOR_DETAILS;
    let head = u16::from(inside.height >= LEAST_FOR_NAMES);
    let left = inside.height.saturating_sub(head + 1).saturating_sub(as_u16(lines));
    let details = left.clamp(LEAST_DETAIL_LINES, DETAIL_LINES);
    Split::vertical([
        Constraint::Length(head),
        Constraint::Fill(1),
        Constraint::Length(u16::from(has_details)),
        Constraint::Length(if has_details { details } else { 0 }),
    ])
    .areas(inside)
}

/// The columns of the tree of plugins. A strip has several; they are filled one after the other.
pub fn of_tree(tree: Rect) -> Vec<Rect> {
    let is_strip = tree.height < LEAST_FOR_NAMES && tree.width >= 2 * LEAST_STRIP_COLUMN;
    let count = if is_strip { tree.width / LEAST_STRIP_COLUMN } else { 1 };
    Split::horizontal(vec![Constraint::Fill(1); count.into()]).spacing(1).split(tree).to_vec()
}

/// The number of visible lines of the tree of plugins.
pub fn tree_page(tree: Rect) -> usize {
    of_tree(tree).len() * usize::from(tree.height)
}

/// The parts of the Functions tab: the table of the functions, the form with its `form_lines` lines, and the results if
/// there are any.
pub fn of_functions(
    inside: Rect,
    functions: usize,
    form_lines: Option<usize>,
    has_results: bool,
) -> [Rect; 3] {
    // Even below a long form, some lines of the result stay visible.
    let results_height = if has_results { (inside.height / 4).min(RESULT_LINES_KEPT) } else { 0 };
    // A rule is above the form, and the command below it.
    let form_height = form_lines.map_or(0, |lines| {
        as_u16(lines).saturating_add(2).min(inside.height.saturating_sub(results_height))
    });
    // The table shrinks for the form and the result, because these are what a person looks at.
    let least_below = if form_height > 0 { form_height + 3 } else { 3 };
    let table_height = as_u16(functions + 1).min(inside.height.saturating_sub(least_below));
    let table_height = match table_height {
        // The column names alone would be useless.
        0 | 1 if form_height > 0 => 0,
        height => height.max(1),
    };
    Split::vertical([
        Constraint::Length(table_height),
        Constraint::Length(form_height),
        Constraint::Fill(1),
    ])
    .areas(inside)
}

/// The number of lines that the Functions tab needs for a table of functions and a form below it.
pub fn lines_of_form(functions: usize, form_lines: usize) -> usize {
    (functions + 1).min(TABLE_LINES_KEPT) + form_lines + 2 + usize::from(RESULT_LINES_KEPT)
}

/// The number of lines for the list in the Timeline tab, which has this number of rows.
pub fn timeline_list_height(inside: Rect, rows: usize) -> u16 {
    as_u16(rows).min((inside.height / 3).max(1))
}

/// The parts of the Fleet tab: the rollout with the builds, and the hosts. Their sizes do not depend on their contents.
pub fn of_fleet(inside: Rect) -> [Rect; 2] {
    let above = (inside.height * 9 / 20).min(MOST_ABOVE_HOSTS);
    let above = above.min(inside.height.saturating_sub(LEAST_FLEET_LIST));
    Split::vertical([Constraint::Length(above), Constraint::Fill(1)]).areas(inside)
}

/// The number of visible hosts, below a rule and the column names.
pub fn fleet_page(hosts: Rect) -> usize {
    usize::from(hosts.height).saturating_sub(2)
}

fn as_u16(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX - 2)
}
