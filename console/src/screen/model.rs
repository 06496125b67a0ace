//! All that the screen shows. Only [`crate::screen::update`] changes it, and views only read it.

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

/// All that the screen shows.
pub struct State {
    /// Milliseconds since the Unix epoch, as of the last event.
    pub now_ms: u64,
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    /// The host.
    pub host: Host,
    /// The plugins panel.
    pub plugins: Plugins,
    /// What is known of what lies on disk.
    pub disk: Disk,
    /// The tab in front.
    pub tab: Tab,
    /// The tab that stands beside it on a wide screen: the one that was in front before it.
    pub second_tab: Tab,
    /// The tab that was in front before the Build tab came there by itself.
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
    /// The version whose holders are being gone through.
    pub last_holder: Option<LastHolder>,
    /// The function worth a look that was shown last.
    pub last_lead: Option<(LeadKind, Lead)>,
    /// The Diff tab.
    pub diff: Diff,
    /// The Fleet tab.
    pub fleet: FleetTab,
    /// Which versions serve together, and since when.
    pub serving: Serving,
    /// The logs panel.
    pub logs: Logs,
    /// The text being typed into a filter, while it is.
    pub searching: Option<tui_input::Input>,
    /// Which filter that is.
    pub searching_in: SearchField,
    /// What is looked for in the Build, Timeline, Diff and Fleet tabs.
    pub sought: String,
    /// The job that runs.
    pub job: Option<RunningJob>,
    /// What happened last, or before that and could not be read yet.
    pub notice: Option<Notice>,
    /// What is shown next.
    pub waiting_notices: VecDeque<Notice>,
    /// Whether what happens now is what a person asks for.
    pub is_answering: bool,
    /// What happened, the newest last.
    pub notices: VecDeque<Notice>,
    /// The names of other programs of which was told that they write over the screen.
    pub others_told: BTreeSet<String>,
    /// Which panel has the keyboard.
    pub focus: Panel,
    /// Whether it fills the screen.
    pub zoomed: bool,
    /// What lies over the panels.
    pub overlay: Option<Overlay>,
    /// The theme in use.
    pub look: Look,
    /// The theme that a person chose, if one did.
    pub chosen_look: Option<Look>,
    /// Whether clicks and the wheel come here.
    pub mouse: bool,
    /// Which keys ask for what.
    pub keymap: Keymap,
    /// The keys that were pressed and may become something.
    pub pending_keys: Vec<Key>,
    /// What the console looked like when hosts were last left.
    pub memory: Memory,
    /// Whether the session is being ended.
    pub quitting: bool,
}

/// Which of the holders of a version was shown last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastHolder {
    /// The plugin.
    pub plugin: String,
    /// The version.
    pub version: u32,
    /// Which of its holders.
    pub place: usize,
    /// What was selected once it was shown.
    pub selected: Option<String>,
}

impl LastHolder {
    /// Whether it is a holder of this version.
    pub fn is_of(&self, plugin: &str, version: u32) -> bool {
        (self.plugin.as_str(), self.version) == (plugin, version)
    }
}

/// The host.
#[derive(Default)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its package's directory, where it was started from one.
    pub dir: Option<PathBuf>,
    /// Where its artifacts go.
    pub plugin_dir: Option<PathBuf>,
    /// Its plugins' package names, where it is a package.
    pub packages: Vec<String>,
    /// The directories of these packages, in the same order.
    pub package_dirs: Vec<PathBuf>,
    /// What it is doing.
    pub phase: Phase,
    /// Its process id.
    pub pid: Option<u32>,
    /// Whether the console started it, and ends it.
    pub is_ours: bool,
    /// Who answers, once it has.
    pub info: Option<HostInfo>,
    /// The generation that serves.
    pub generation: u64,
    /// What a save does.
    pub watch: Watch,
    /// Whether each build is loaded as a whole, and none is a patch for the version that runs.
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
    /// There is none: the console shows a fleet.
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
    /// Whether there is a host that has answered.
    pub fn has_host(self) -> bool {
        matches!(self, Self::Connected | Self::Disconnected)
    }
}

/// A filter that is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SearchField {
    /// What the lines contain.
    #[default]
    Pattern,
    /// Who wrote them.
    Writers,
    /// What the names of the plugins contain that are shown.
    Plugins,
    /// The same of functions.
    Functions,
    /// The same of the rows of the Vault or of the live tables, whichever is in front.
    Tree,
    /// What is looked for in the Build, Timeline, Diff or Fleet tab, whichever is in front.
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
    /// The one after this, around the end.
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
    /// The job; or the builds that run side by side, and have not ended.
    pub jobs: Vec<Job>,
    /// When it began, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// Units compiled and in all.
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
    /// The state of a console that has just come up.
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

    /// Packages whose plugin the host has not loaded.
    pub fn not_loaded(&self) -> Vec<&str> {
        let loaded =
            |package: &str| self.plugins.list().iter().any(|it| same_plugin(&it.name, package));
        let packages = self.host.packages.iter().map(String::as_str);
        packages.filter(|package| !loaded(package) && self.plugins.shows(package)).collect()
    }

    /// Where everything is.
    pub fn layout(&self) -> Layout {
        Layout::of(self.size, self.focus, (self.tab, self.lines_needed()), self.zoomed)
    }

    /// How many lines the tab in front is given before the log: those of an open form, or of a build that failed.
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

    /// Whether a tab is in sight.
    pub fn shows(&self, tab: Tab) -> bool {
        let layout = self.layout();
        let is_second = layout.second_tab.is_some() && self.second_tab == tab;
        is_second || self.tab == tab && layout.tabs.is_some()
    }

    /// The tabs as the panel's title names them, behind its number.
    pub fn tab_titles(&self) -> impl Iterator<Item = (Tab, String)> {
        self.titles().map(|(tab, title)| match tab == self.tab {
            true => (tab, format!(" [{title}]")),
            false => (tab, format!("  {title} ")),
        })
    }

    /// The title of each tab.
    pub fn titles(&self) -> impl Iterator<Item = (Tab, String)> {
        self.tabs().into_iter().map(|tab| (tab, format!("{}{}", tab.title(), self.mark_of(tab))))
    }

    /// The tabs that there are: one of a fleet only where a fleet is known.
    pub fn tabs(&self) -> Vec<Tab> {
        let is_there = |tab: &Tab| *tab != Tab::Fleet || self.fleet.is_known();
        Tab::ALL.into_iter().filter(is_there).collect()
    }

    /// What a tab's title says of what is in it: ` !` of a build or a rollout that failed, `▲2` of so many warnings.
    fn mark_of(&self, tab: Tab) -> String {
        if tab == Tab::Fleet {
            return if self.fleet.wants_somebody() { " !".to_owned() } else { String::new() };
        }
        match (tab, self.builds.all_well(), self.disk.all_warnings()) {
            (Tab::Build, false, _) => " !".to_owned(),
            (Tab::Build, true, 1..) => format!("▲{}", self.disk.all_warnings()),
            _ => String::new(),
        }
    }

    /// Which keys apply, the narrowest scope first.
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

    /// What is filtered where the keyboard is.
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

    /// What a filter is.
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

    /// Whether keys are typed into the form that calls a function.
    pub fn form_has_keyboard(&self) -> bool {
        self.functions.form.is_some() && self.tab == Tab::Functions && self.focus == Panel::Tabs
    }

    /// Whether something runs whose time is shown as it passes.
    pub fn is_working(&self) -> bool {
        self.job.is_some() || self.functions.has_running_calls()
    }

    /// Whether what is shown changes as time passes.
    pub fn changes_by_itself(&self) -> bool {
        self.is_working() || !self.waiting_notices.is_empty()
    }

    /// Whether the host was started by somebody else, so that the console knows no sources.
    pub fn is_attached(&self) -> bool {
        !self.host.is_ours && self.host.packages.is_empty() && self.host.phase.has_host()
    }

    /// Whether the console can start the host anew.
    pub fn can_restart(&self) -> bool {
        self.host.is_ours || !self.host.packages.is_empty()
    }

    /// The package of the selected plugin. A package may be named otherwise than its plugin.
    pub fn selected_package(&self) -> Option<&str> {
        let plugin = &self.plugins.selected()?.plugin.name;
        let packages = self.host.packages.iter().map(String::as_str);
        packages.into_iter().find(|package| same_plugin(package, plugin))
    }

    /// The key that asks for this, as people write it; or the command to look for in the palette.
    pub(crate) fn key_of(&self, action: &Action) -> String {
        let name = || COMMANDS.iter().find(|it| it.action == *action).map(|it| it.name);
        let key = self.keymap.label_of(action);
        key.or_else(|| Some(format!("`{}`", name()?))).unwrap_or_default()
    }
}
