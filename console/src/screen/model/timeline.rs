//! The reloads with their durations, and the life of each version.

use std::collections::{HashMap, VecDeque};

use hotswap_protocol::{
    ErrorKind, Outcome, PastReload, PhaseKind, PhaseTiming, PluginInfo, PluginOutcome, ReloadEnd,
    ReloadReport, VersionState, WireError, same_plugin, version_label,
};

use super::face::Face;
use crate::screen::input::action::Motion;

/// The number of reloads that are kept.
const RELOADS_KEPT: usize = 200;
/// The number of versions that are kept, freed ones included.
const LIVES_KEPT: usize = 200;

/// The Timeline tab.
#[derive(Default)]
pub struct Timeline {
    /// The reloads, newest first.
    reloads: VecDeque<Reload>,
    /// The selected reload, counted from the first one ever, so that new reloads do not move the selection.
    selected: Option<usize>,
    /// The number of reloads that have been forgotten.
    forgotten: usize,
    /// The phases of the builds since the last reload.
    built: Vec<Phase>,
    /// The version and patch of each plugin that serve since the last reload. The host's list of plugins may be
    /// newer: it can change before the report of the reload arrives.
    serving: HashMap<String, Face>,
    /// The processes of the host, oldest first.
    starts: Vec<Start>,
    /// The lives of the versions, in the order in which they began.
    lives: VecDeque<Life>,
    /// The last save of each package that no reload has published yet.
    saves: HashMap<String, Save>,
}

/// A save of a package's sources.
#[derive(Debug, Clone)]
struct Save {
    /// When it was, in milliseconds since the Unix epoch.
    at_ms: u64,
    /// The build that has its code; `None` as long as it is not known.
    build_id: Option<String>,
}

/// A process of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// When it began, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Its process id.
    pub pid: u32,
}

/// A line of the list of reloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// A reload, by its position counted from the newest.
    Reload(usize),
    /// The start of a process. The rows below it belong to earlier processes.
    Start(Start),
}

/// A reload.
#[derive(Debug, Clone, PartialEq)]
pub struct Reload {
    /// The process of the host in which it happened, counted from the first known one.
    process: usize,
    /// When it ended, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Its duration in the host, in microseconds; `None` if it failed.
    pub elapsed_us: Option<u64>,
    /// The time from the save to the publication, in milliseconds; `None` if no save led to the reload.
    pub live_ms: Option<u64>,
    /// The phases of the builds before it, in order.
    pub before: Vec<Phase>,
    /// Its own phases, in order.
    pub phases: Vec<Phase>,
    /// The version and patch of each plugin that it replaced.
    pub replaced: Vec<(String, Face)>,
    /// Later events, timed from its end: the first call that a new version answered, and the moment when a replaced
    /// version was freed.
    pub after: Vec<Phase>,
    /// Its result.
    pub result: Result<Done, WireError>,
}

/// The result of a successful reload.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// A summary: `world v2 → v3, cat v2`
    pub summary: String,
    /// The whole report.
    pub report: ReloadReport,
}

/// A phase of a reload or of a build before it, or a later event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// The phase or event.
    pub kind: Part,
    /// Its plugin; `None` if it concerns all plugins.
    pub plugin: Option<String>,
    /// Its duration in microseconds; of a later event, the time since the reload.
    pub elapsed_us: u64,
}

/// The kind of a phase, or of an event after the reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A phase of the reload, or of a build before it.
    Of(PhaseKind),
    /// A new version returned from its first call.
    FirstCall,
    /// A replaced version was freed.
    Freed,
}

impl Part {
    /// The name: `compile`, `stage`, `on_load`
    pub fn as_str(&self) -> &str {
        match self {
            Self::Of(phase) => phase.as_str(),
            Self::FirstCall => "first call",
            Self::Freed => "freed",
        }
    }
}

/// The life of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// The plugin.
    pub plugin: String,
    /// The version.
    pub version: u32,
    /// The states that it entered, each with the time in milliseconds since the Unix epoch; oldest first.
    pub stages: Vec<(u64, VersionState)>,
    /// A description of its last state.
    pub detail: String,
    /// The patch that last returned from its first call (`None` for the version as loaded), and the time in
    /// microseconds from the moment when that code began to serve.
    pub first_call_us: Option<(Option<u32>, u64)>,
    /// The end that the log has already reported.
    reported_end: Option<VersionState>,
}

impl Reload {
    /// Its number: that of the generation it made.
    pub fn title(&self) -> String {
        match &self.result {
            Ok(done) => format!("reload {}", done.report.generation),
            Err(_) => "reload failed".into(),
        }
    }

    /// The phases of its builds and its own phases. Phases of one name are summed, and stand where the first
    /// of them was.
    pub fn phases_by_name(&self) -> Vec<(&Part, u64)> {
        sums(self.before.iter().chain(&self.phases))
    }

    /// The version and patch of this plugin that it made serve; `None` if it made nothing new serve.
    fn published(&self, plugin: &str) -> Option<Face> {
        let outcome = self.outcome(plugin)?;
        let is_new = matches!(
            outcome.outcome,
            Outcome::Ok | Outcome::Patched | Outcome::Added | Outcome::Rebound
        );
        face_of(outcome).filter(|_| is_new)
    }

    /// The version of this plugin that it loaded; `None` if it loaded none.
    fn loaded(&self, plugin: &str) -> Option<u32> {
        let outcome = self.outcome(plugin)?;
        let is_new = matches!(outcome.outcome, Outcome::Ok | Outcome::Added | Outcome::Rebound);
        outcome.version.filter(|_| is_new)
    }

    /// Whether it rolled a plugin back to an earlier build.
    pub fn is_rollback(&self) -> bool {
        self.result.as_ref().is_ok_and(|done| done.report.rolled_back.is_some())
    }

    /// Whether it only patched versions, and loaded none as a whole.
    pub fn is_patch(&self) -> bool {
        let plugins = self.result.iter().flat_map(|done| &done.report.plugins);
        let made: Vec<_> = plugins.filter(|it| self.published(&it.name).is_some()).collect();
        !made.is_empty() && made.iter().all(|it| it.outcome == Outcome::Patched)
    }

    /// Whether it was the first that had this build of the package's plugin serve, other than by a rollback.
    fn has_brought(&self, package: &str, build_id: &str) -> bool {
        let plugins = self.result.iter().flat_map(|done| &done.report.plugins);
        let mut of_build = plugins.filter(|it| it.build_id.as_deref() == Some(build_id));
        let is_new = |it: &PluginOutcome| {
            same_plugin(&it.name, package)
                && matches!(it.outcome, Outcome::Ok | Outcome::Patched | Outcome::Added)
        };
        !self.is_rollback() && of_build.any(is_new)
    }

    fn outcome(&self, plugin: &str) -> Option<&PluginOutcome> {
        let report = &self.result.as_ref().ok()?.report;
        report.plugins.iter().find(|it| it.name == plugin)
    }

    /// Whether it patched this plugin (or this package's plugin), and the phases of the patch's build are known.
    fn has_patched(&self, package: &str) -> bool {
        let plugins = self.result.iter().flat_map(|done| &done.report.plugins);
        let is_it =
            |it: &PluginOutcome| same_plugin(&it.name, package) && it.outcome == Outcome::Patched;
        !self.before.is_empty() && plugins.into_iter().any(is_it)
    }

    /// Whether it made a new version or patch of this plugin (or of this package's plugin) serve.
    pub fn has_published(&self, package: &str) -> bool {
        let plugins = self.result.iter().flat_map(|done| &done.report.plugins);
        plugins
            .into_iter()
            .any(|it| same_plugin(&it.name, package) && self.published(&it.name).is_some())
    }

    /// Whether it replaced this version of the plugin by another version.
    fn has_replaced(&self, plugin: &str, version: u32) -> bool {
        let now = self.outcome(plugin).and_then(|outcome| outcome.version);
        let is_it = |(name, old): &(String, Face)| name == plugin && old.version == version;
        now != Some(version) && self.replaced.iter().any(is_it)
    }

    fn happened_after(&mut self, kind: Part, plugin: &str, elapsed_us: u64) {
        let is_told = |it: &Phase| it.kind == kind && it.plugin.as_deref() == Some(plugin);
        if !self.after.iter().any(is_told) {
            let plugin = Some(plugin.to_owned());
            self.after.push(Phase { kind, plugin, elapsed_us });
        }
    }
}

/// The version and patch of a plugin that serve after a reload.
fn face_of(outcome: &PluginOutcome) -> Option<Face> {
    outcome.version.map(|version| Face { version, patch: outcome.patch })
}

/// The change of a plugin: `world v2 → v3`; `None` if the reload did nothing to the plugin.
pub fn change(plugin: &PluginOutcome, serving: impl Fn(&str) -> Option<Face>) -> Option<String> {
    let name = &plugin.name;
    match (plugin.outcome, plugin.version) {
        (Outcome::Unchanged | Outcome::Held | Outcome::NotReloadable | Outcome::Missing, _) => None,
        (Outcome::Ok | Outcome::Rebound | Outcome::Added, Some(now)) => {
            let before = serving(name).filter(|before| before.version != now);
            let before = before.map_or_else(String::new, |it| format!("{} → ", it.label()));
            Some(format!("{name} {before}v{now}"))
        }
        (Outcome::Patched, Some(version)) => Some(patched(plugin, version)),
        (outcome, _) => Some(format!("{name} {outcome}")),
    }
}

/// The plugins that were loaded as a whole and not patched, with reasons: `world as a whole: fn greet was changed`.
pub fn not_patched(report: &ReloadReport) -> impl Iterator<Item = String> {
    let loaded = report.plugins.iter().filter(|plugin| plugin.outcome == Outcome::Ok);
    loaded.filter_map(|plugin| {
        Some(format!("{} as a whole: {}", plugin.name, plugin.not_patched.as_ref()?))
    })
}

/// The change of a patched plugin: `world v3+2 (patched: greet)`, or `world v3 (as it was loaded)`.
fn patched(plugin: &PluginOutcome, version: u32) -> String {
    let how = match &plugin.patched_functions[..] {
        _ if plugin.patch.is_none() => "as it was loaded".to_owned(),
        [] => "patched: no function has other code".to_owned(),
        functions => format!("patched: {}", functions.join(", ")),
    };
    format!("{} {} ({how})", plugin.name, version_label(version, plugin.patch))
}

impl From<&PhaseTiming> for Phase {
    fn from(timing: &PhaseTiming) -> Self {
        let PhaseTiming { phase, plugin, elapsed_us } = timing.clone();
        Self { kind: Part::Of(phase), plugin, elapsed_us }
    }
}

/// Updates `serving` to what serves after a reload, and returns what the reload replaced.
fn replace(serving: &mut HashMap<String, Face>, report: &ReloadReport) -> Vec<(String, Face)> {
    let mut replaced = Vec::new();
    for plugin in &report.plugins {
        let now = face_of(plugin);
        let before = serving.get(&plugin.name).copied().filter(|before| now != Some(*before));
        replaced.extend(before.map(|before| (plugin.name.clone(), before)));
        match now {
            Some(now) => serving.insert(plugin.name.clone(), now),
            None => serving.remove(&plugin.name),
        };
    }
    replaced
}

/// Sums the phases of each name, in the order in which the names first occur.
pub fn sums<'a>(phases: impl Iterator<Item = &'a Phase>) -> Vec<(&'a Part, u64)> {
    let mut sums: Vec<(&Part, u64)> = Vec::new();
    for phase in phases {
        match sums.iter_mut().find(|(kind, _)| **kind == phase.kind) {
            Some((_, sum)) => *sum += phase.elapsed_us,
            None => sums.push((&phase.kind, phase.elapsed_us)),
        }
    }
    sums
}

impl Life {
    /// The current state of the version, or its last one.
    pub fn state(&self) -> VersionState {
        self.stages.last().map_or(VersionState::Loading, |(_, state)| *state)
    }

    /// The state of the version at this time; `None` before it was loaded.
    pub fn state_at(&self, at_ms: u64) -> Option<VersionState> {
        let entered = self.stages.iter().rev().find(|(since, _)| *since <= at_ms);
        entered.map(|(_, state)| *state)
    }

    /// The time when it was loaded.
    pub fn began_ms(&self) -> u64 {
        self.stages.first().map_or(0, |(at_ms, _)| *at_ms)
    }
}

impl Timeline {
    /// Notes that the sources of a package were saved, and are being built and reloaded.
    pub fn saved(&mut self, package: &str, at_ms: u64) {
        self.saves.insert(package.to_owned(), Save { at_ms, build_id: None });
    }

    /// Notes which build has the code of a plugin's last save, whoever made it. Its reload may have been reported before.
    pub fn built(&mut self, plugin: &str, build_id: &str) {
        for (package, save) in &mut self.saves {
            if same_plugin(package, plugin) {
                save.build_id = Some(build_id.to_owned());
            }
        }
        self.find_saves();
    }

    /// Notes how long the phases of a plugin's build took, which the next reload loads.
    pub fn timed(&mut self, plugin: &str, phases: Vec<PhaseTiming>) {
        // After several builds, only the last one is loaded.
        self.built.retain(|phase| phase.plugin.as_deref() != Some(plugin));
        let of_plugin = |timing| Phase { plugin: Some(plugin.to_owned()), ..Phase::from(timing) };
        self.built.extend(phases.iter().map(of_plugin));
    }

    /// Finds the reloads that published the builds of saves, and sets the time from the save to each.
    ///
    /// Reports of saves, builds and reloads come in any order: from the sources, from cargo or another console's
    /// build, and from the host.
    fn find_saves(&mut self) {
        let process = self.process();
        let reloads = &mut self.reloads;
        self.saves.retain(|package, save| {
            let Some(build_id) = &save.build_id else { return true };
            let has_it = |it: &Reload| {
                it.process == process && it.at_ms >= save.at_ms && it.has_brought(package, build_id)
            };
            let Some(reload) = reloads.iter_mut().rfind(|it| has_it(it)) else { return true };
            let live_ms = reload.at_ms - save.at_ms;
            // Of several saves, the first waited longest.
            reload.live_ms = reload.live_ms.max(Some(live_ms));
            false
        });
    }

    /// Adds the reloads that the host remembers from before the connection, oldest first. A reload that is already
    /// known is skipped: its entry also has its builds and later events.
    pub fn earlier(&mut self, reloads: Vec<PastReload>) {
        let mut serving = HashMap::new();
        for PastReload { at_ms, end } in reloads {
            let mut reload = Reload {
                process: self.process(),
                at_ms,
                elapsed_us: None,
                live_ms: None,
                before: Vec::new(),
                phases: Vec::new(),
                replaced: Vec::new(),
                after: Vec::new(),
                result: Err(WireError::new(ErrorKind::Reload, "")),
            };
            match end {
                ReloadEnd::Report(report) => {
                    let changes = report.plugins.iter();
                    let changes: Vec<String> = changes
                        .filter_map(|plugin| change(plugin, |name| serving.get(name).copied()))
                        .collect();
                    reload.replaced = replace(&mut serving, &report);
                    if changes.is_empty() {
                        continue;
                    }
                    reload.elapsed_us = Some(report.elapsed_us);
                    reload.before.extend(report.build_phases.iter().map(Phase::from));
                    reload.phases.extend(report.phases.iter().map(Phase::from));
                    reload.result = Ok(Done { summary: changes.join(", "), report });
                }
                ReloadEnd::Error(error) => reload.result = Err(error),
            }
            self.insert(reload);
        }
        self.find_saves();
    }

    /// Inserts a reload by its time, unless it is known already or would be forgotten at once.
    fn insert(&mut self, reload: Reload) {
        if self.reloads.len() >= RELOADS_KEPT || self.knows(&reload) {
            return;
        }
        let later = self.reloads.iter().take_while(|it| it.at_ms >= reload.at_ms).count();
        // Selections are counted from the first reload, so they shift.
        if self.selected.is_some() && self.selected() < later {
            self.selected = self.selected.map(|number| number + 1);
        }
        self.reloads.insert(later, reload);
    }

    fn knows(&self, reload: &Reload) -> bool {
        self.reloads.iter().any(|it| it.at_ms == reload.at_ms && it.title() == reload.title())
    }

    /// Notes that a reload was published.
    pub fn finished(&mut self, at_ms: u64, summary: String, report: ReloadReport) -> &Reload {
        let replaced = replace(&mut self.serving, &report);
        let mut before = std::mem::take(&mut self.built);
        // A patch may serve before its build has ended.
        let is_early = before.is_empty();
        if is_early {
            // Somebody else built it; the host reports the phases.
            before.extend(report.build_phases.iter().map(Phase::from));
        }
        let mut reload = Reload {
            process: self.process(),
            at_ms,
            elapsed_us: Some(report.elapsed_us),
            live_ms: None,
            before,
            phases: report.phases.iter().map(Phase::from).collect(),
            replaced,
            after: Vec::new(),
            result: Ok(Done { summary, report }),
        };
        let is_over = |package: &str| match reload.is_rollback() {
            true => reload.has_published(package),
            false => is_early && reload.has_patched(package),
        };
        let over: Vec<_> = self.saves.extract_if(|package, _| is_over(package)).collect();
        if !reload.is_rollback() {
            let longest = over.iter().map(|(_, save)| at_ms.saturating_sub(save.at_ms)).max();
            reload.live_ms = longest;
        }
        for life in &self.lives {
            // The first call and the end of the old version may come before the host's report of the reload.
            if let Some((patch, elapsed_us)) = life.first_call_us
                && reload.published(&life.plugin) == Some(Face { version: life.version, patch })
            {
                reload.happened_after(Part::FirstCall, &life.plugin, elapsed_us);
            }
            if reload.has_replaced(&life.plugin, life.version)
                && life.state() == VersionState::Freed
            {
                reload.happened_after(Part::Freed, &life.plugin, 0);
            }
        }
        self.push(reload);
        self.find_saves();
        &self.reloads[0]
    }

    /// Notes that a reload failed and was undone.
    pub fn failed(&mut self, at_ms: u64, error: WireError) {
        let before = std::mem::take(&mut self.built);
        self.push(Reload {
            process: self.process(),
            at_ms,
            elapsed_us: None,
            live_ms: None,
            before,
            phases: Vec::new(),
            replaced: Vec::new(),
            after: Vec::new(),
            result: Err(error),
        });
    }

    fn push(&mut self, mut reload: Reload) {
        // The host may already have listed it among the earlier reloads.
        let is_it = |it: &Reload| it.at_ms == reload.at_ms && it.title() == reload.title();
        if let Some(place) = self.reloads.iter().position(is_it) {
            let listed = self.reloads.remove(place);
            reload.live_ms = reload.live_ms.max(listed.and_then(|listed| listed.live_ms));
        }
        self.reloads.push_front(reload);
        if self.reloads.len() > RELOADS_KEPT {
            self.reloads.pop_back();
            self.forgotten += 1;
        }
    }

    /// Notes that a version, or a patch of it, answered its first call, `elapsed_us` after it began to serve.
    pub fn first_called(
        &mut self,
        plugin: &str,
        (version, patch): (u32, Option<u32>),
        elapsed_us: u64,
    ) {
        if let Some(life) = self.life_mut(plugin, version) {
            life.first_call_us = Some((patch, elapsed_us));
        }
        let published = |it: &&mut Reload| it.published(plugin) == Some(Face { version, patch });
        if let Some(reload) = self.reloads.iter_mut().find(published) {
            reload.happened_after(Part::FirstCall, plugin, elapsed_us);
        }
    }

    /// Notes that a version entered a state.
    pub fn version_changed(
        &mut self,
        at_ms: u64,
        (plugin, version): (&str, u32),
        state: VersionState,
        detail: &str,
    ) {
        if state == VersionState::Freed {
            let mut reloads = self.reloads.iter_mut();
            if let Some(reload) = reloads.find(|it| it.has_replaced(plugin, version)) {
                let elapsed_us = at_ms.saturating_sub(reload.at_ms).saturating_mul(1000);
                reload.happened_after(Part::Freed, plugin, elapsed_us);
            }
        }
        match self.life_mut(plugin, version) {
            // The end may be reported before earlier states.
            Some(life) if matches!(life.state(), VersionState::Freed | VersionState::Failed) => {}
            Some(life) => {
                if life.state() != state {
                    life.stages.push((at_ms, state));
                }
                detail.clone_into(&mut life.detail);
            }
            None => {
                self.lives.push_back(Life {
                    plugin: plugin.to_owned(),
                    version,
                    stages: vec![(at_ms, state)],
                    detail: detail.to_owned(),
                    first_call_us: None,
                    reported_end: None,
                });
                if self.lives.len() > LIVES_KEPT {
                    self.lives.pop_front();
                }
            }
        }
    }

    /// Returns whether the log has not yet reported this end of the version, and marks it as reported.
    pub fn is_new_end(&mut self, plugin: &str, version: u32, state: VersionState) -> bool {
        let life = self.life_mut(plugin, version);
        life.is_none_or(|life| life.reported_end.replace(state) != Some(state))
    }

    fn life_mut(&mut self, plugin: &str, version: u32) -> Option<&mut Life> {
        self.lives.iter_mut().find(|life| life.plugin == plugin && life.version == version)
    }

    /// Adds versions that are older than the console, and states that it missed.
    pub fn record_snapshot(&mut self, at_ms: u64, plugins: &[PluginInfo]) {
        for plugin in plugins {
            let active = plugin.active();
            if let Some(active) = active {
                self.serving.entry(plugin.name.clone()).or_insert(Face::of(active));
            }
            for version in plugin.versions.iter().rev() {
                let name = (plugin.name.as_str(), version.version);
                let is_known = self.lives.iter().any(|it| (it.plugin.as_str(), it.version) == name);
                // A version that failed never served.
                if !is_known && version.state != VersionState::Failed {
                    let began_ms = version.loaded_at_ms.min(at_ms);
                    self.version_changed(began_ms, name, VersionState::Active, "");
                }
                self.version_changed(at_ms, name, version.state, &version.detail);
            }
        }
    }

    /// Notes that a process of the host began, and forgets the versions of the last one: version numbers restart.
    pub fn host_began(&mut self, at_ms: u64, pid: u32) {
        self.starts.push(Start { at_ms, pid });

        self.lives.clear();
        self.serving.clear();
        self.built.clear();
        self.saves.clear();
    }

    /// The version and patch of this plugin that serve since the last reload.
    pub fn serving(&self, plugin: &str) -> Option<Face> {
        self.serving.get(plugin).copied()
    }

    /// The last reload of this process that replaced `from` of a plugin with `to`.
    pub fn between(&self, plugin: &str, from: Face, to: Face) -> Option<&Reload> {
        let is_from = |(name, old): &(String, Face)| name == plugin && *old == from;
        let is_between = |it: &&Reload| {
            it.process == self.process()
                && it.published(plugin) == Some(to)
                && it.replaced.iter().any(is_from)
        };
        self.reloads.iter().find(is_between)
    }

    /// The last reload of this process that replaced version `from` of a plugin with version `to`, with any patches.
    pub fn between_versions(&self, plugin: &str, from: u32, to: u32) -> Option<&Reload> {
        let is_between = |it: &&Reload| {
            it.process == self.process()
                && it.loaded(plugin) == Some(to)
                && it.has_replaced(plugin, from)
        };
        self.reloads.iter().find(is_between)
    }

    /// The number of the host's current process, or of its last one.
    fn process(&self) -> usize {
        self.starts.len()
    }

    /// The rows of the list, newest first. Between the reloads of two processes is a row with the start of the later
    /// process.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut process = self.process();
        for (position, reload) in self.reloads.iter().enumerate() {
            let later = (reload.process < process).then_some(process);
            let start = later.and_then(|later| self.starts.get(later - 1));
            rows.extend(start.copied().map(Row::Start));
            rows.push(Row::Reload(position));
            process = reload.process;
        }
        rows
    }

    /// The index of the row with the selected reload.
    pub fn selected_row(&self, rows: &[Row]) -> usize {
        let selected = Row::Reload(self.selected());
        rows.iter().position(|row| *row == selected).unwrap_or(0)
    }

    /// The reloads, newest first.
    pub fn reloads(&self) -> &VecDeque<Reload> {
        &self.reloads
    }

    /// The times from save to publication of the last reloads, at most `most` of them, newest last; `None` for a reload
    /// that failed. Successful reloads without a save are left out.
    pub fn live_times(&self, most: usize) -> Vec<Option<u64>> {
        let of_saves = self.reloads.iter().filter(|it| it.live_ms.is_some() || it.result.is_err());
        let mut times: Vec<_> = of_saves.map(|it| it.live_ms).take(most).collect();
        times.reverse();
        times
    }

    /// The time from save to publication of the last reload that a save led to, in milliseconds.
    pub fn last_live_ms(&self) -> Option<u64> {
        self.reloads.iter().find_map(|it| it.live_ms)
    }

    /// The lives of the versions, latest first.
    pub fn lives(&self) -> impl DoubleEndedIterator<Item = &Life> {
        self.lives.iter().rev()
    }

    /// The position of the selected reload, counted from the newest.
    pub fn selected(&self) -> usize {
        let last = self.reloads.len().saturating_sub(1);
        match self.selected {
            Some(number) => last.saturating_sub(number.saturating_sub(self.forgotten)),
            None => 0,
        }
    }

    /// Moves the selection. While nothing is selected, the newest reload is.
    pub fn move_by(&mut self, motion: Motion, page: usize) {
        let count = self.reloads.len();
        if let Some(to) = super::plugins::step(motion, self.selected(), count, page) {
            self.select(to);
        }
    }

    /// Selects a reload by its position, counted from the newest.
    pub fn select(&mut self, to: usize) {
        let last = self.reloads.len().saturating_sub(1);
        self.selected = (to > 0).then(|| self.forgotten + last.saturating_sub(to));
    }
}
