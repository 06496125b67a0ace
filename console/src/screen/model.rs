//! The state of the screen. Only [`crate::screen::update`] changes it; views only read it.

pub mod build;
pub mod changes;
pub mod crash;
pub mod diff;
pub mod disk;
pub mod face;
pub mod fleet;
pub mod form;
pub mod functions;
pub mod help;
pub mod history;
pub mod in_flight;
pub mod leads;
pub mod live;
pub mod logs;
pub mod memory;
mod notice;
pub mod overlay;
pub mod palette;
pub mod picker;
pub mod pins;
mod place;
pub mod plugins;
pub mod preview;
mod program;
pub mod rates;
pub mod rollback;
pub mod selection;
pub mod timeline;
pub mod tree;
pub mod vault;

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use hotswap_protocol::{HostInfo, same_plugin};
use serde::{Deserialize, Serialize};

pub use notice::{Notice, NoticeSort};
pub use place::Place;
pub use program::Program;

use crate::screen::input::action::{Action, COMMANDS, LeadKind, Scope};
use crate::screen::input::key::Key;
use crate::screen::input::keymap::Keymap;
use crate::screen::layout::{self, Layout, Panel, Tab};
use crate::session::{Job, Watch};
use build::Builds;
use crash::Serving;
use diff::Diff;
use disk::Disk;
use fleet::FleetTab;
use functions::Functions;
use leads::Lead;
use live::Live;
use logs::Logs;
use memory::Memory;
use overlay::Overlay;
use pins::Pins;
use plugins::Plugins;
use timeline::Timeline;
use tree::TreeTab as _;
use vault::Vault;

/// The state of the screen.
pub struct State {
    /// The time of the last event, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    /// The host.
    pub host: Host,
    /// The plugins panel.
    pub plugins: Plugins,
    /// How the loaded plugins compare with the sources and the builds on disk.
    pub disk: Disk,
    /// The tab in front.
    pub tab: Tab,
    /// The tab beside it on a wide screen: the tab that was in front before.
    pub second_tab: Tab,
    /// The tab that was in front before the console itself put the Build tab there.
    pub tab_to_return_to: Option<Tab>,
    /// The Functions tab.
    pub functions: Functions,
    /// The pinned calls.
    pub pins: Pins,
    /// The Vault tab.
    pub vault: Vault,
    /// The Live tab.
    pub live: Live,
    /// The Build tab.
    pub builds: Builds,
    /// The Timeline tab.
    pub timeline: Timeline,
    /// The holder that was shown last, and its version.
    pub last_holder: Option<LastHolder>,
    /// The lead that was shown last: a function worth a look.
    pub last_lead: Option<(LeadKind, Lead)>,
    /// The Diff tab.
    pub diff: Diff,
    /// The Fleet tab.
    pub fleet: FleetTab,
    /// Which versions serve together, and since when.
    pub serving: Serving,
    /// The logs panel.
    pub logs: Logs,
    /// The filter text that is being typed; `None` if no filter is.
    pub searching: Option<tui_input::Input>,
    /// The filter that is being typed.
    pub searching_in: SearchField,
    /// The search text of the Build, Timeline, Diff and Fleet tabs.
    pub sought: String,
    /// The job that runs.
    pub job: Option<RunningJob>,
    /// The notice in the status line: the newest, unless an earlier one has not been shown long enough.
    pub notice: Option<Notice>,
    /// The notices to show after it, in this order.
    pub waiting_notices: VecDeque<Notice>,
    /// Whether the current event is a person's input, so that new notices are answers to it.
    pub is_answering: bool,
    /// All notices that are kept, oldest first.
    pub notices: VecDeque<Notice>,
    /// The programs that a notice has already named for writing over the screen.
    pub others_told: BTreeSet<String>,
    /// The panel that has the keyboard.
    pub focus: Panel,
    /// Whether this panel fills the screen.
    pub zoomed: bool,
    /// The overlay above the panels.
    pub overlay: Option<Overlay>,
    /// The theme in use.
    pub look: Look,
    /// The theme that a person chose; `None` if nobody has chosen one.
    pub chosen_look: Option<Look>,
    /// Whether the terminal reports clicks and the wheel to the console.
    pub mouse: bool,
    /// The keys and their actions.
    pub keymap: Keymap,
    /// The keys that were pressed and may be the start of a sequence.
    pub pending_keys: Vec<Key>,
    /// What the console remembers of hosts that it showed before.
    pub memory: Memory,
    /// Whether the session is being ended.
    pub quitting: bool,
}

/// The holder of a version that was shown last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastHolder {
    /// The plugin.
    pub plugin: String,
    /// The version.
    pub version: u32,
    /// The index of the holder among the version's holders.
    pub place: usize,
    /// What was selected after the holder was shown.
    pub selected: Option<String>,
}

impl LastHolder {
    /// Whether the holder is one of this version.
    pub fn is_of(&self, plugin: &str, version: u32) -> bool {
        (self.plugin.as_str(), self.version) == (plugin, version)
    }
}

/// The host.
#[derive(Default)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The directory of its package; `None` if it was not started from one.
    pub dir: Option<PathBuf>,
    /// The directory of its artifacts.
    pub plugin_dir: Option<PathBuf>,
    /// The package names of its plugins, if it is a package.
    pub packages: Vec<String>,
    /// The directories of these packages, in the same order.
    pub package_dirs: Vec<PathBuf>,
    /// What it is doing.
    pub phase: Phase,
    /// Its process id.
    pub pid: Option<u32>,
    /// Whether the console started it, and will end it.
    pub is_ours: bool,
    /// Whether it is older than its sources.
    pub is_outdated: bool,
    /// What the host says about itself; `None` before it has answered.
    pub info: Option<HostInfo>,
    /// The generation that serves.
    pub generation: u64,
    /// What the console does when a file is saved.
    pub watch: Watch,
    /// Whether builds are always loaded as whole versions, and never as patches for the running version.
    pub loads_whole: bool,
}

impl Host {
    /// The directory of this plugin package.
    pub fn package_dir(&self, package: &str) -> Option<&Path> {
        let position = self.packages.iter().position(|name| name == package)?;
        self.package_dirs.get(position).map(PathBuf::as_path)
    }
}

/// What the host is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// It has not been started yet.
    #[default]
    Preparing,
    /// There is no host: the console shows a fleet.
    Absent,
    /// Its process runs, but does not answer yet.
    Starting,
    /// It answers.
    Connected,
    /// Its process runs, but the connection is lost.
    Disconnected,
    /// Its process ended.
    Ended,
}

impl Phase {
    /// Whether there is a host, and it has answered.
    pub fn has_host(self) -> bool {
        matches!(self, Self::Connected | Self::Disconnected)
    }
}

/// A filter that a person can type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SearchField {
    /// The pattern of the log: text that lines contain.
    #[default]
    Pattern,
    /// The writers of the log's lines.
    Writers,
    /// Text that the names of plugins contain.
    Plugins,
    /// Text that the names of functions contain.
    Functions,
    /// Text in rows of the Vault or of the live tables, whichever tab is in front.
    Tree,
    /// The search text of the Build, Timeline, Diff or Fleet tab, whichever is in front.
    Lines,
}

/// A theme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// For dark backgrounds.
    #[default]
    Dark,
    /// For light backgrounds.
    Light,
    /// Without colours.
    Plain,
}

impl Look {
    /// The next theme; after the last, the first.
    pub fn next(self) -> Self {
        match self {
            Self::Dark => Self::Light,
            Self::Light => Self::Plain,
            Self::Plain => Self::Dark,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dark => "dark",
            Self::Light => "light",
            Self::Plain => "without colours",
        }
    }
}

/// The job that runs.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningJob {
    /// The job, or the parallel builds that have not ended.
    pub jobs: Vec<Job>,
    /// When it began, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// The units compiled so far, and the total if it is known.
    pub progress: Option<(usize, Option<usize>)>,
}

impl std::fmt::Display for RunningJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.jobs.as_slice() {
            [] => Ok(()),
            [job] => write!(f, "{job}"),
            [job, others @ ..] => write!(f, "{job} and {} more", others.len()),
        }
    }
}

impl State {
    /// The state of a console that has just started.
    pub fn new(size: (u16, u16)) -> Self {
        Self {
            now_ms: 0,
            size,
            host: Host::default(),
            plugins: Plugins::default(),
            disk: Disk::default(),
            tab: Tab::Functions,
            second_tab: Tab::Timeline,
            tab_to_return_to: None,
            functions: Functions::default(),
            pins: Pins::default(),
            vault: Vault::default(),
            live: Live::default(),
            builds: Builds::default(),
            timeline: Timeline::default(),
            last_holder: None,
            last_lead: None,
            diff: Diff::default(),
            fleet: FleetTab::default(),
            serving: Serving::default(),
            logs: Logs::default(),
            searching: None,
            searching_in: SearchField::default(),
            sought: String::new(),
            job: None,
            notice: None,
            waiting_notices: VecDeque::new(),
            is_answering: false,
            notices: VecDeque::new(),
            others_told: BTreeSet::new(),
            focus: Panel::Plugins,
            zoomed: false,
            overlay: None,
            look: Look::default(),
            chosen_look: None,
            mouse: false,
            keymap: Keymap::default(),
            pending_keys: Vec::new(),
            memory: Memory::default(),
            quitting: false,
        }
    }

    /// The packages whose plugins the host has not loaded, as far as the filter shows them.
    pub fn not_loaded(&self) -> Vec<&str> {
        let loaded =
            |package: &str| self.plugins.list().iter().any(|it| same_plugin(&it.name, package));
        let packages = self.host.packages.iter().map(String::as_str);
        packages.filter(|package| !loaded(package) && self.plugins.shows(package)).collect()
    }

    /// The place of each panel on the screen.
    pub fn layout(&self) -> Layout {
        Layout::of(self.size, self.focus, (self.tab, self.lines_needed()), self.zoomed)
    }

    /// The number of lines that the tab in front gets before the log does: those of an open form or of a failed build.
    fn lines_needed(&self) -> usize {
        match (self.tab, &self.functions.form) {
            (Tab::Functions, Some(form)) => {
                layout::lines_of_form(self.plugins.functions().len(), form.line_count())
            }
            (Tab::Build, _) if !self.builds.all_well() => self.builds.lines().len(),
            _ => 0,
        }
    }

    /// The tab that a wide screen shows beside the one in front.
    pub fn second_tab(&self) -> Option<Tab> {
        self.layout().second_tab.map(|_| self.second_tab)
    }

    /// Whether a tab is visible.
    pub fn shows(&self, tab: Tab) -> bool {
        let layout = self.layout();
        let is_second = layout.second_tab.is_some() && self.second_tab == tab;
        is_second || self.tab == tab && layout.tabs.is_some()
    }

    /// The tabs with their titles, as the panel's frame shows them after the panel's number.
    pub fn tab_titles(&self) -> impl Iterator<Item = (Tab, String)> {
        self.titles().map(|(tab, title)| match tab == self.tab {
            true => (tab, format!(" [{title}]")),
            false => (tab, format!("  {title} ")),
        })
    }

    /// The tabs with their titles.
    pub fn titles(&self) -> impl Iterator<Item = (Tab, String)> {
        self.tabs().into_iter().map(|tab| (tab, format!("{}{}", tab.title(), self.mark_of(tab))))
    }

    /// The tabs that exist. The Fleet tab exists only if a fleet is known.
    pub fn tabs(&self) -> Vec<Tab> {
        let is_there = |tab: &Tab| *tab != Tab::Fleet || self.fleet.is_known();
        Tab::ALL.into_iter().filter(is_there).collect()
    }

    /// The mark after a tab's title: ` !` for a failed build or a fleet that needs attention, `▲2` for two warnings.
    fn mark_of(&self, tab: Tab) -> String {
        if tab == Tab::Fleet {
            return if self.fleet.needs_attention() { " !".to_owned() } else { String::new() };
        }
        match (tab, self.builds.all_well(), self.disk.all_warnings()) {
            (Tab::Build, false, _) => " !".to_owned(),
            (Tab::Build, true, 1..) => format!("▲{}", self.disk.all_warnings()),
            _ => String::new(),
        }
    }

    /// The scopes of the keys that apply now, narrowest first.
    pub fn scopes(&self) -> &'static [Scope] {
        match (self.focus, self.tab) {
            (Panel::Logs, _) => {
                &[Scope::Logs, Scope::Text, Scope::Source, Scope::Plugin, Scope::Anywhere]
            }
            (Panel::Tabs, Tab::Build) => {
                &[Scope::Source, Scope::Text, Scope::Plugin, Scope::Anywhere]
            }
            (Panel::Tabs, Tab::Diff) => &[Scope::Source, Scope::Plugin, Scope::Anywhere],
            (Panel::Tabs, Tab::Fleet) => &[Scope::Fleet, Scope::Anywhere],
            (Panel::Tabs | Panel::Plugins, _) => &[Scope::Plugin, Scope::Anywhere],
        }
    }

    /// The filter of the panel that has the keyboard.
    pub fn filtered_here(&self) -> SearchField {
        match (self.focus, self.tab) {
            (Panel::Plugins, _) => SearchField::Plugins,
            (Panel::Tabs, Tab::Functions) => SearchField::Functions,
            (Panel::Tabs, Tab::Vault | Tab::Live) => SearchField::Tree,
            (Panel::Tabs, Tab::Build | Tab::Timeline | Tab::Diff | Tab::Fleet) => {
                SearchField::Lines
            }
            (Panel::Logs, _) => SearchField::Pattern,
        }
    }

    /// The text of a filter.
    pub fn filter(&self, field: SearchField) -> &str {
        match (field, self.tab) {
            (SearchField::Pattern, _) => self.logs.pattern(),
            (SearchField::Writers, _) => self.logs.writer_filter(),
            (SearchField::Lines, _) => &self.sought,
            (SearchField::Plugins, _) => self.plugins.filter(),
            (SearchField::Functions, _) => self.plugins.function_filter(),
            (SearchField::Tree, Tab::Live) => &self.live.tree().filter,
            (SearchField::Tree, _) => &self.vault.tree().filter,
        }
    }

    /// Whether the form that calls a function has the keyboard.
    pub fn form_has_keyboard(&self) -> bool {
        self.functions.form.is_some() && self.tab == Tab::Functions && self.focus == Panel::Tabs
    }

    /// Whether a job or a call runs, whose elapsed time is shown.
    pub fn is_working(&self) -> bool {
        self.job.is_some() || self.functions.has_running_calls()
    }

    /// Whether the picture changes with time, without an event.
    pub fn changes_by_itself(&self) -> bool {
        self.is_working() || !self.waiting_notices.is_empty()
    }

    /// Whether somebody else started the host, so that the console does not know its sources.
    pub fn is_attached(&self) -> bool {
        !self.host.is_ours && self.host.packages.is_empty() && self.host.phase.has_host()
    }

    /// Whether the console can restart the host.
    pub fn can_restart(&self) -> bool {
        self.host.is_ours || !self.host.packages.is_empty()
    }

    /// The package of the selected plugin. Its name may differ from the plugin's.
    pub fn selected_package(&self) -> Option<&str> {
        let plugin = &self.plugins.selected()?.plugin.name;
        let packages = self.host.packages.iter().map(String::as_str);
        packages.into_iter().find(|package| same_plugin(package, plugin))
    }

    /// The key for this action, as people write it; without a key, the command to search for in the palette.
    pub(crate) fn key_of(&self, action: &Action) -> String {
        let name = || COMMANDS.iter().find(|it| it.action == *action).map(|it| it.name);
        let key = self.keymap.label_of(action);
        key.or_else(|| Some(format!("`{}`", name()?))).unwrap_or_default()
    }
}
