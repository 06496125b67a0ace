//! Where everything is on the screen, for any size of it.

pub mod boxes;
mod panel;

use ratatui::layout::{Constraint, Layout as Split, Margin, Position, Rect};

pub use panel::{Panel, Tab};

/// Below this size only one line says what goes on.
const LEAST_PANEL: (u16, u16) = (40, 10);
/// Below this size the focused panel is alone.
const LEAST_PANELS: (u16, u16) = (80, 20);
/// Below this size the plugins are a strip.
const LEAST_COLUMNS: (u16, u16) = (100, 28);
/// On screens of so many columns two tabs stand side by side.
const LEAST_FOR_TWO_TABS: u16 = 160;
/// So many lines of the Fleet tab are for its hosts at least: a rule, the names of the columns, and hosts.
const LEAST_FLEET_LIST: u16 = 5;
/// So many lines above them are for the rollout and the builds at most.
const MOST_ABOVE_HOSTS: u16 = 14;
/// So many lines of what a call gave are kept free below a form that is longer than its panel.
const RESULT_LINES_KEPT: u16 = 4;
/// So many lines of the table are kept above an open form, where the screen has room for them: the names of the
/// columns, and some functions.
const TABLE_LINES_KEPT: usize = 4;
/// So many lines of the log stay where a tab takes its room, its border included; fewer on a small screen.
const LOG_LINES_KEPT: u16 = 5;
const LOG_LINES_KEPT_IN_STRIP: u16 = 3;

/// Where everything is; what has no place is not shown.
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
    /// The line about the running job and what happened last.
    pub job: Rect,
    /// The line of keys.
    pub footer: Rect,
    /// The only line of a screen that is too small for anything else.
    pub status: Option<Rect>,
}

impl Layout {
    /// Where everything is on a screen of this size that shows a tab, which needs so many lines: for more than its
    /// share it takes the room of the log, unless that has the keyboard.
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

    /// The panel at a place of the screen.
    pub fn panel_at(&self, place: Position) -> Option<(Panel, Rect)> {
        let panels =
            [(Panel::Plugins, self.plugins), (Panel::Tabs, self.tabs), (Panel::Logs, self.logs)];
        let shown = panels.into_iter().filter_map(|(panel, area)| Some((panel, area?)));
        shown.into_iter().find(|(_, area)| area.contains(place))
    }

    /// How many lines of a panel are visible inside its border.
    pub fn page(mut self, panel: Panel) -> usize {
        self.of_panel(panel).map_or(0, |area| area.height.saturating_sub(2).into())
    }
}

/// Lets a panel have so many lines inside its border, of which the log below it gives what it has beyond `kept`.
fn make_room(panel: &mut Rect, logs: &mut Rect, lines: usize, kept: u16) {
    let wanted = as_u16(lines).saturating_add(2).saturating_sub(panel.height);
    let taken = wanted.min(logs.height.saturating_sub(kept));
    panel.height += taken;
    logs.y += taken;
    logs.height -= taken;
}

/// The plugins take a part of the screen that leaves the functions the most; where the tab shows lines that
/// others wrote, they keep what they say first.
fn plugins_width(width: u16, tab: Tab) -> u16 {
    match tab {
        Tab::Build | Tab::Diff | Tab::Fleet => 36,
        _ if width < LEAST_FOR_ALL_COLUMNS => 42,
        _ => 52,
    }
}

/// With fewer columns than this the plugins do without errors and heap.
const LEAST_FOR_ALL_COLUMNS: u16 = 116;
/// With fewer lines than this the plugins have no names above their columns.
const LEAST_FOR_NAMES: u16 = 6;
/// The columns of a strip of plugins are at least so wide.
const LEAST_STRIP_COLUMN: u16 = 38;
/// With fewer lines than this the details of a version have no place beside the tree.
const LEAST_FOR_DETAILS: u16 = 12;
/// The least and the largest number of lines of the details: they give way to a longer tree.
const LEAST_DETAIL_LINES: u16 = 4;
const DETAIL_LINES: u16 = 7;

/// A panel without its border.
pub fn inside(panel: Rect) -> Rect {
    panel.inner(Margin::new(1, 1))
}

/// The first visible of some lines, so that the selected one is visible too.
pub fn first_visible(selected: usize, page: usize) -> usize {
    (selected + 1).saturating_sub(page)
}

/// The parts of the plugins panel: the names of the columns, the tree of so many lines, the line below it, and
/// the details of a version.
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

/// The columns of the tree of plugins: a strip has several, and is filled one column after the other.
pub fn of_tree(tree: Rect) -> Vec<Rect> {
    let is_strip = tree.height < LEAST_FOR_NAMES && tree.width >= 2 * LEAST_STRIP_COLUMN;
    let count = if is_strip { tree.width / LEAST_STRIP_COLUMN } else { 1 };
    Split::horizontal(vec![Constraint::Fill(1); count.into()]).spacing(1).split(tree).to_vec()
}

/// How many lines of the tree of plugins are in sight.
pub fn tree_page(tree: Rect) -> usize {
    of_tree(tree).len() * usize::from(tree.height)
}

/// The parts of the Functions tab: the table of so many functions, the form of so many lines, and
/// the results, where there are any.
pub fn of_functions(
    inside: Rect,
    functions: usize,
    form_lines: Option<usize>,
    has_results: bool,
) -> [Rect; 3] {
    // However long the form is, it is seen that its call gave something.
    let results_height = if has_results { (inside.height / 4).min(RESULT_LINES_KEPT) } else { 0 };
    // A rule above the form, and the command below it.
    let form_height = form_lines.map_or(0, |lines| {
        as_u16(lines).saturating_add(2).min(inside.height.saturating_sub(results_height))
    });
    // An open form is what one looks at, and what its call gives; the table gives way to both.
    let least_below = if form_height > 0 { form_height + 3 } else { 3 };
    let table_height = as_u16(functions + 1).min(inside.height.saturating_sub(least_below));
    let table_height = match table_height {
        // The names of the columns alone say nothing.
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

/// How many lines the Functions tab needs with a form of so many lines below a table of so many functions.
pub fn lines_of_form(functions: usize, form_lines: usize) -> usize {
    (functions + 1).min(TABLE_LINES_KEPT) + form_lines + 2 + usize::from(RESULT_LINES_KEPT)
}

/// How many lines of the Timeline tab are for the list of so many reloads and hosts.
pub fn timeline_list_height(inside: Rect, rows: usize) -> u16 {
    as_u16(rows).min((inside.height / 3).max(1))
}

/// The parts of the Fleet tab, which stay where they are whatever there is to say: the rollout with the builds, and
/// the hosts.
pub fn of_fleet(inside: Rect) -> [Rect; 2] {
    let above = (inside.height * 9 / 20).min(MOST_ABOVE_HOSTS);
    let above = above.min(inside.height.saturating_sub(LEAST_FLEET_LIST));
    Split::vertical([Constraint::Length(above), Constraint::Fill(1)]).areas(inside)
}

/// How many hosts are in sight there, below a rule and the names of the columns.
pub fn fleet_page(hosts: Rect) -> usize {
    usize::from(hosts.height).saturating_sub(2)
}

fn as_u16(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX - 2)
}
