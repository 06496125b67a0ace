//! The Fleet tab: what a channel declares, the progress of its rollout, and the states of its hosts.

use std::collections::BTreeMap;
use std::fmt;

use hotswap_fleet::{Arm, Channel, HostReport, HostState, Id, Phase, Rollout};

use super::plugins::step;
use crate::format;
use crate::host::operation::shell_line;
use crate::screen::input::action::{FleetAction, Motion};

/// A snapshot of a fleet.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetSnapshot {
    /// Its name.
    pub fleet: Id,
    /// Whether releases have to be signed.
    pub is_signed: bool,
    /// The channel's declaration.
    pub channel: Channel,
    /// The channel's last rollout.
    pub rollout: Option<Rollout>,
    /// The reports of the channel's hosts.
    pub hosts: Vec<HostReport>,
    /// The reports that cannot be read.
    pub unreadable: Vec<String>,
}

/// An order for a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FleetOrder {
    /// An order for the rollout that is under way.
    Rollout(hotswap_fleet::Order),
    /// Declare this release for all hosts; if `None`, the one before.
    RollBack(Option<Id>),
    /// Pin a host to a release.
    Pin(Id, Id),
    /// Remove the pin of a host, so that it runs the release that is declared for all.
    Unpin(Id),
    /// List the releases.
    ListReleases,
}

/// The result of reading a fleet's state, or of an order.
#[derive(Debug)]
pub enum FleetNews {
    /// A snapshot of the fleet.
    FleetSnapshot(Box<FleetSnapshot>),
    /// The fleet's state cannot be read, for this reason.
    Trouble(String),
    /// The order was carried out; a sentence for people.
    Done(String),
    /// The order failed; a sentence for people.
    Failed(String),
    /// The releases of the fleet.
    Releases(Vec<Id>),
}

/// The Fleet tab.
#[derive(Default)]
pub struct FleetTab {
    /// The arguments that name the fleet and the channel on a command line; `None` if no fleet is known.
    named: Option<Vec<String>>,
    seen: Option<FleetSnapshot>,
    trouble: Option<String>,
    selected: Option<Id>,
}

/// The health of a host, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It crashed, refused a release, or panics.
    Bad,
    /// It is lost or has died, or at least one call in a hundred returns an error.
    Doubtful,
    /// It is applying a release.
    Moving,
    /// It serves without such problems.
    Good,
}

/// A row of the list of hosts.
#[derive(Debug, Clone, Copy)]
pub struct HostRow<'a> {
    /// The host's report.
    pub host: &'a HostReport,
    /// The host's health.
    pub health: Health,
    /// The host's state, or that it is lost.
    pub state: &'static str,
    /// The results of the calls of all its plugins.
    pub arm: Arm,
    /// The release that this host is pinned to.
    pub pinned: Option<&'a Id>,
}

/// The results of a plugin's calls in all hosts that run one release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side<'a> {
    /// The plugin.
    pub plugin: &'a str,
    /// The release; `None` for the hosts' own plugin directories.
    pub release: Option<&'a Id>,
    /// Whether it is the release of the rollout, and not the base.
    pub is_tried: bool,
    /// The number of hosts that run it.
    pub hosts: usize,
    /// The results of the calls.
    pub arm: Arm,
}

/// A build of a plugin, and the hosts that run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build<'a> {
    /// The plugin.
    pub plugin: &'a str,
    /// The build id.
    pub build_id: &'a str,
    /// The releases from which hosts have it; empty if they have it only from their own plugin directories.
    pub releases: Vec<&'a Id>,
    /// The number of hosts that run it.
    pub hosts: u64,
}

impl FleetTab {
    /// The tab of the fleet that these arguments name on a command line.
    pub fn of(named: Vec<String>) -> Self {
        Self { named: Some(named), ..Self::default() }
    }

    /// Whether there is a fleet to show.
    pub fn is_known(&self) -> bool {
        self.named.is_some()
    }

    /// The last snapshot of the fleet.
    pub fn seen(&self) -> Option<&FleetSnapshot> {
        self.seen.as_ref()
    }

    /// The reason why the fleet's state cannot be read now.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Takes a new snapshot.
    pub fn take(&mut self, seen: FleetSnapshot) {
        self.seen = Some(seen);
        self.trouble = None;
    }

    /// Notes that the fleet's state cannot be read. The last snapshot stays.
    pub fn fail(&mut self, trouble: String) {
        self.trouble = Some(trouble);
    }

    /// The rollout that is under way.
    pub fn active(&self) -> Option<&Rollout> {
        self.seen.as_ref()?.rollout.as_ref().filter(|rollout| !rollout.phase.is_over())
    }

    /// Whether somebody has to look after the fleet: its rollout is paused or rolls back, or its state cannot be read.
    pub fn needs_attention(&self) -> bool {
        let waits = |rollout: &Rollout| matches!(rollout.phase, Phase::Paused | Phase::RollingBack);
        self.trouble.is_some() || self.active().is_some_and(waits)
    }

    /// The rows of the hosts, worst first.
    pub fn hosts(&self, now_ms: u64) -> Vec<HostRow<'_>> {
        let Some(seen) = &self.seen else { return Vec::new() };
        let row = |host| HostRow::of(host, seen.channel.pins.get(&host.id), now_ms);
        let mut rows: Vec<HostRow<'_>> = seen.hosts.iter().map(row).collect();
        rows.sort_by(|a, b| (a.health, &a.host.id).cmp(&(b.health, &b.host.id)));
        rows
    }

    /// The index of the selected row.
    pub fn selected(&self, now_ms: u64) -> usize {
        let rows = self.hosts(now_ms);
        let is_selected = |row: &HostRow<'_>| Some(&row.host.id) == self.selected.as_ref();
        rows.iter().position(is_selected).unwrap_or(0)
    }

    /// The selected host.
    pub fn selected_host(&self, now_ms: u64) -> Option<HostRow<'_>> {
        self.hosts(now_ms).get(self.selected(now_ms)).copied()
    }

    /// Selects the host in this row. It stays selected when its row moves.
    pub fn select(&mut self, row: usize, now_ms: u64) {
        self.selected = self.hosts(now_ms).get(row).map(|row| row.host.id.clone());
    }

    /// Moves the selection.
    pub fn move_by(&mut self, motion: Motion, page: usize, now_ms: u64) {
        let count = self.hosts(now_ms).len();
        if let Some(to) = step(motion, self.selected(now_ms), count, page) {
            self.select(to, now_ms);
        }
    }

    /// The results of calls of each plugin that the rollout changes: in the hosts that run the new release, and in
    /// those that run the base.
    pub fn evidence(&self) -> Vec<Side<'_>> {
        let (Some(seen), Some(rollout)) = (&self.seen, self.active()) else { return Vec::new() };
        let tried = Some(&rollout.release);
        let sides = rollout.changed.iter().flat_map(|plugin| {
            [tried, rollout.base.as_ref()].map(|release| {
                let is_on =
                    |host: &&HostReport| host.state.is_there() && host.release.as_ref() == release;
                let on = seen.hosts.iter().filter(is_on);
                let arms = on.clone().filter_map(|host| host.health.get(plugin).copied());
                let arm = arms.fold(Arm::default(), Arm::and);
                let is_tried = release == tried;
                Side { plugin, release, is_tried, hosts: on.count(), arm }
            })
        });
        sides.collect()
    }

    /// The builds that hosts run, sorted by plugin, then by the number of hosts, most first.
    pub fn builds(&self) -> Vec<Build<'_>> {
        let mut builds: BTreeMap<(&str, &str), Build<'_>> = BTreeMap::new();
        let hosts = self.seen.iter().flat_map(|seen| &seen.hosts);
        for host in hosts.filter(|host| host.state.is_there()) {
            for (plugin, build_id) in &host.builds {
                let new = Build { plugin, build_id, releases: Vec::new(), hosts: 0 };
                let build = builds.entry((plugin, build_id)).or_insert(new);
                build.hosts += 1;
                if let Some(release) = &host.release
                    && !build.releases.contains(&release)
                {
                    build.releases.push(release);
                }
            }
        }
        let mut builds: Vec<Build<'_>> = builds.into_values().collect();
        builds.sort_by_key(|build| (build.plugin, std::cmp::Reverse(build.hosts)));
        builds
    }

    /// Whether an action is possible now.
    pub fn can(&self, action: FleetAction, now_ms: u64) -> bool {
        let active = self.active();
        let is_paused = active.is_some_and(|rollout| rollout.phase == Phase::Paused);
        let host = self.selected_host(now_ms);
        match action {
            FleetAction::Promote | FleetAction::Abort => active.is_some(),
            FleetAction::Pause => active.is_some() && !is_paused,
            FleetAction::Resume => is_paused,
            FleetAction::RollBack => self.seen.is_some(),
            FleetAction::Pin | FleetAction::Describe => host.is_some(),
            FleetAction::Open => host.is_some_and(|row| row.host.state.is_there()),
            FleetAction::Unpin => host.is_some_and(|row| row.pinned.is_some()),
        }
    }

    /// A command line of `hotswap fleet` about this fleet.
    pub fn command(&self, words: &[&str]) -> String {
        let named = self.named.iter().flatten().map(String::as_str);
        shell_line(["hotswap", "fleet"].into_iter().chain(words.iter().copied()).chain(named))
    }

    /// The command line for this action; `None` if it needs an argument that is missing.
    pub fn command_line(&self, action: FleetAction, now_ms: u64) -> Option<String> {
        let host = self.selected_host(now_ms).map(|row| row.host.id.as_str());
        Some(match (action, host) {
            (FleetAction::Promote, _) => self.command(&["promote"]),
            (FleetAction::Pause, _) => self.command(&["pause"]),
            (FleetAction::Resume, _) => self.command(&["resume"]),
            (FleetAction::Abort, _) => self.command(&["abort"]),
            (FleetAction::RollBack, _) => self.command(&["rollback"]),
            (FleetAction::Describe, _) => self.command(&["hosts"]),
            (FleetAction::Unpin, Some(host)) => self.command(&["unpin", host]),
            (FleetAction::Open, Some(host)) => {
                let named = self.named.iter().flatten().map(String::as_str);
                shell_line(["hotswap-console", "attach", host].into_iter().chain(named))
            }
            (FleetAction::Pin | FleetAction::Unpin | FleetAction::Open, _) => return None,
        })
    }
}

impl<'a> HostRow<'a> {
    fn of(host: &'a HostReport, pinned: Option<&'a Id>, now_ms: u64) -> Self {
        let arm = host.health.values().copied().fold(Arm::default(), Arm::and);
        let is_lost = host.is_lost(now_ms);
        let health = match host.state {
            HostState::Crashed | HostState::Refused => Health::Bad,
            _ if host.state.is_there() && arm.panics > 0 => Health::Bad,
            HostState::Died => Health::Doubtful,
            _ if is_lost || fails_often(arm) => Health::Doubtful,
            HostState::Applying => Health::Moving,
            HostState::Serving => Health::Good,
        };
        let state = if is_lost { "lost" } else { host.state.as_str() };
        Self { host, health, state, arm, pinned }
    }

    /// The release that the host runs, and the one that is staged if it differs.
    pub fn release(&self) -> String {
        let runs = name_of(self.host.release.as_ref());
        match (&self.host.staged, self.pinned) {
            (_, Some(_)) => format!("{runs} ⚓"),
            (Some(staged), None) if Some(staged) != self.host.release.as_ref() => {
                format!("{runs}, {staged} staged")
            }
            _ => runs.to_owned(),
        }
    }

    /// The last problem of the host; empty if there is none.
    pub fn problem(&self) -> &'a str {
        self.host.problem.as_ref().map_or("", |problem| &problem.message)
    }

    /// The text of the row, for searches.
    pub fn text(&self) -> String {
        format!("{} {} {} {}", self.host.id, self.state, self.release(), self.problem())
    }
}

/// Whether at least one call in a hundred returned an error.
fn fails_often(arm: Arm) -> bool {
    arm.errors > 0 && arm.errors.saturating_mul(100) >= arm.calls
}

/// The name of a release; `own` if a host runs its own plugins because none is declared.
pub fn name_of(release: Option<&Id>) -> &str {
    release.map_or("own", Id::as_str)
}

/// The fraction `part` of `all` in percent, with one decimal: `0.2 %`.
pub fn rate(part: u64, all: u64) -> String {
    if all == 0 {
        return "–".to_owned();
    }
    let per_mille = u128::from(part) * 1000 / u128::from(all);
    match per_mille {
        0 if part > 0 => "<0.1 %".to_owned(),
        0 => "0 %".to_owned(),
        per_mille => format!("{}.{} %", per_mille / 10, per_mille % 10),
    }
}

/// The choice of a release of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseChoice {
    /// The host that will run it; `None` for all hosts.
    pub host: Option<Id>,
    /// The releases.
    pub releases: Vec<Id>,
    /// The index of the selected release.
    pub selected: usize,
}

impl ReleaseChoice {
    /// A choice among the releases that the channel names: for one host, the candidate and the base; then the earlier
    /// ones, latest first. All others are added later.
    pub fn of(host: Option<Id>, channel: &Channel) -> Self {
        let mut choice = Self { host, releases: Vec::new(), selected: 0 };
        let earlier = channel.earlier.iter().rev().flatten();
        let known = [&channel.candidate, &channel.base].into_iter().flatten();
        // Rolling all hosts back to what they run already would change nothing.
        let known = known.filter(|_| choice.host.is_some()).chain(earlier);
        let known: Vec<Id> = known
            .filter(|it| choice.host.is_some() || Some(*it) != channel.base.as_ref())
            .cloned()
            .collect();
        choice.add(known);
        choice
    }

    /// Adds the releases that are not in the list yet.
    pub fn add(&mut self, releases: Vec<Id>) {
        for release in releases {
            if !self.releases.contains(&release) {
                self.releases.push(release);
            }
        }
    }

    /// Moves the selection.
    pub fn move_by(&mut self, motion: Motion, page: usize) {
        let to = step(motion, self.selected, self.releases.len(), page);
        self.selected = to.unwrap_or(self.selected);
    }

    /// The selected release.
    pub fn chosen(&self) -> Option<&Id> {
        self.releases.get(self.selected)
    }

    /// The purpose of the choice.
    pub fn title(&self) -> String {
        match &self.host {
            Some(host) => format!("Have {host} run"),
            None => "Roll all hosts back to".to_owned(),
        }
    }
}

impl fmt::Display for FleetOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use hotswap_fleet::Order;
        match self {
            Self::Rollout(Order::Promote) => f.write_str("promote"),
            Self::Rollout(Order::Pause) => f.write_str("pause"),
            Self::Rollout(Order::Resume) => f.write_str("resume"),
            Self::Rollout(Order::Abort) => f.write_str("abort"),
            Self::Rollout(Order::Supersede) => f.write_str("supersede"),
            Self::RollBack(release) => write!(f, "roll back to {}", name_of(release.as_ref())),
            Self::Pin(host, release) => write!(f, "pin {host} to {release}"),
            Self::Unpin(host) => write!(f, "unpin {host}"),
            Self::ListReleases => f.write_str("list the releases"),
        }
    }
}

/// The progress of a rollout: `r3 is being judged in step 1 of 4`.
pub fn progress(rollout: &Rollout) -> String {
    let step = match rollout.phase {
        Phase::Activating | Phase::Baking | Phase::Paused => {
            format!(" in step {} of {}", rollout.step + 1, rollout.steps())
        }
        _ => String::new(),
    };
    format!("{} {}{step}", rollout.release, format::rollout_phase(rollout.phase))
}
