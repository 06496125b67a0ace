//! What each reload did and how long it took, and the life of each version.

use std::collections::{HashMap, VecDeque};

use hotswap_protocol::{
    ErrorKind, Outcome, PastReload, PhaseKind, PhaseTiming, PluginInfo, PluginOutcome, ReloadEnd,
    ReloadReport, VersionState, WireError, same_plugin, version_label,
};

use super::face::Face;
use crate::screen::input::action::Motion;

/// How many reloads are kept.
const RELOADS_KEPT: usize = 200;
/// How many versions are kept, those that are gone included.
const LIVES_KEPT: usize = 200;

/// The Timeline tab.
#[derive(Default)]
pub struct Timeline {
    /// Newest first.
    reloads: VecDeque<Reload>,
    /// The selected reload, counted from the first ever, so that it stays when another comes.
    selected: Option<usize>,
    /// How many reloads have been forgotten.
    forgotten: usize,
    /// What was built since the last reload.
    built: Vec<Phase>,
    /// What serves of each plugin, as of the last reload. What the host says that it has loaded may be ahead of
    /// what it has told of reloads.
    serving: HashMap<String, Face>,
    /// The processes of the host, the latest last.
    starts: Vec<Start>,
    /// The latest beginning last.
    lives: VecDeque<Life>,
    /// When the saves were noticed that are to be built and reloaded, by package name.
    saves: HashMap<String, u64>,
    /// The same of those that are built.
    built_saves: HashMap<String, u64>,
    /// The same of those that somebody else has built, by plugin, with the build.
    others_saves: HashMap<String, (u64, String)>,
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
    /// What is below it was in an earlier process than this.
    Start(Start),
}

/// A reload.
#[derive(Debug, Clone, PartialEq)]
pub struct Reload {
    /// In which process of the host it was, counted from the first that is known.
    process: usize,
    /// When it ended, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How long it took in the host, in microseconds; unknown of one that failed.
    pub elapsed_us: Option<u64>,
    /// How long after the save it published, in milliseconds; none where no save led to it.
    pub live_ms: Option<u64>,
    /// The builds before it, in their order.
    pub before: Vec<Phase>,
    /// Its own phases, in their order.
    pub phases: Vec<Phase>,
    /// What served before it and no longer after it.
    pub replaced: Vec<(String, Face)>,
    /// What came of it afterwards, counted from its end: the first call that a new version answered,
    /// and when a replaced one was freed.
    pub after: Vec<Phase>,
    /// What came of it.
    pub result: Result<Done, WireError>,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// `world v2 → v3, cat v2`
    pub summary: String,
    /// All of it.
    pub report: ReloadReport,
}

/// A part of a reload, or what came before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// Which part it is.
    pub kind: Part,
    /// Its plugin; none where it concerns all.
    pub plugin: Option<String>,
    /// Microseconds.
    pub elapsed_us: u64,
}

/// Which part of a reload something is, or what came of the reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A phase of the reload, or of a build before it.
    Of(PhaseKind),
    /// A new version returned from its first call.
    FirstCall,
    /// A version that was replaced was freed.
    Freed,
}

impl Part {
    /// `compile`, `stage`, `on_load`
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
    /// What it entered and when, in milliseconds since the Unix epoch; the oldest first.
    pub stages: Vec<(u64, VersionState)>,
    /// Its last state in words.
    pub detail: String,
    /// The patch of it that returned from its first call last, or itself, and how long after that began to
    /// serve, in microseconds.
    pub first_call_us: Option<(Option<u32>, u64)>,
    /// The end that the log tells of.
    told_end: Option<VersionState>,
}

impl Reload {
    /// Its number: that of the generation it made.
    pub fn title(&self) -> String {
        match &self.result {
            Ok(done) => format!("reload {}", done.report.generation),
            Err(_) => "reload failed".into(),
        }
    }

    /// The builds before it and its own phases, those of one name added up, in the order of their
    /// first.
    pub fn phases_by_name(&self) -> Vec<(&Part, u64)> {
        sums(self.before.iter().chain(&self.phases))
    }

    /// What of this plugin it made serve.
    fn published(&self, plugin: &str) -> Option<Face> {
        let outcome = self.outcome(plugin)?;
        let is_new = matches!(
            outcome.outcome,
            Outcome::Ok | Outcome::Patched | Outcome::Added | Outcome::Rebound
        );
        face_of(outcome).filter(|_| is_new)
    }

    /// The version of this plugin that it loaded.
    fn loaded(&self, plugin: &str) -> Option<u32> {
        let outcome = self.outcome(plugin)?;
        let is_new = matches!(outcome.outcome, Outcome::Ok | Outcome::Added | Outcome::Rebound);
        outcome.version.filter(|_| is_new)
    }

    /// Whether it took a plugin back to an earlier build.
    pub fn is_rollback(&self) -> bool {
        self.result.as_ref().is_ok_and(|done| done.report.rolled_back.is_some())
    }

    /// Whether it loaded nothing as a whole, but patches.
    pub fn is_patch(&self) -> bool {
        let plugins = self.result.iter().flat_map(|done| &done.report.plugins);
        let made: Vec<_> = plugins.filter(|it| self.published(&it.name).is_some()).collect();
        !made.is_empty() && made.iter().all(|it| it.outcome == Outcome::Patched)
    }

    fn outcome(&self, plugin: &str) -> Option<&PluginOutcome> {
        let report = &self.result.as_ref().ok()?.report;
        report.plugins.iter().find(|it| it.name == plugin)
    }

    /// Whether it patched this plugin, or the plugin of this package, and knows how the patch was made.
    fn has_patched(&self, package: &str) -> bool {
        let plugins = self.result.iter().flat_map(|done| &done.report.plugins);
        let is_it =
            |it: &PluginOutcome| same_plugin(&it.name, package) && it.outcome == Outcome::Patched;
        !self.before.is_empty() && plugins.into_iter().any(is_it)
    }

    /// Whether it made a new build serve of this plugin, or of the plugin of this package.
    pub fn has_published(&self, package: &str) -> bool {
        let plugins = self.result.iter().flat_map(|done| &done.report.plugins);
        plugins
            .into_iter()
            .any(|it| same_plugin(&it.name, package) && self.published(&it.name).is_some())
    }

    /// Whether another version serves since then.
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

/// What serves of a plugin since a reload.
fn face_of(outcome: &PluginOutcome) -> Option<Face> {
    outcome.version.map(|version| Face { version, patch: outcome.patch })
}

/// `world v2 → v3`; none where the reload did nothing to the plugin.
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

/// Why which plugins were loaded as a whole, and not patched: `world as a whole: fn greet was changed`.
pub fn not_patched(report: &ReloadReport) -> impl Iterator<Item = String> {
    let loaded = report.plugins.iter().filter(|plugin| plugin.outcome == Outcome::Ok);
    loaded.filter_map(|plugin| {
        Some(format!("{} as a whole: {}", plugin.name, plugin.not_patched.as_ref()?))
    })
}

/// `world v3+2 (patched: greet)`, or `world v3 (as it was loaded)`.
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

/// Takes what serves after a reload; gives what did before it and no longer does.
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

/// The phases with those of one name added up, in the order of their first.
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
    /// What the version is in, or was in at last.
    pub fn state(&self) -> VersionState {
        self.stages.last().map_or(VersionState::Loading, |(_, state)| *state)
    }

    /// What it was in at a moment; none before it was loaded.
    pub fn state_at(&self, at_ms: u64) -> Option<VersionState> {
        let entered = self.stages.iter().rev().find(|(since, _)| *since <= at_ms);
        entered.map(|(_, state)| *state)
    }

    /// When it was loaded.
    pub fn began_ms(&self) -> u64 {
        self.stages.first().map_or(0, |(at_ms, _)| *at_ms)
    }
}

impl Timeline {
    /// The sources of a package were saved, and are built and reloaded.
    pub fn saved(&mut self, package: &str, at_ms: u64) {
        self.saves.insert(package.to_owned(), at_ms);
    }

    /// What was last saved of a plugin is a build that was there before this console came to it: by another
    /// console or in a shell, or because the save changed no code.
    pub fn built_before(&mut self, plugin: &str, build_id: &str) {
        let saves = self.saves.extract_if(|package, _| same_plugin(package, plugin));
        if let Some(saved_ms) = saves.map(|(_, saved_ms)| saved_ms).max() {
            self.others_saves.insert(plugin.to_owned(), (saved_ms, build_id.to_owned()));
        }
    }

    /// The reloads that made a build serve which somebody else has made of a save tell how long after the save.
    pub fn find_saves_of_others(&mut self, plugins: &[PluginInfo]) {
        let process = self.process();
        for plugin in plugins {
            let serves = plugin.active().map(|it| it.build_id.as_str());
            let Some((saved_ms, build_id)) = self.others_saves.get(&plugin.name) else { continue };
            if serves != Some(build_id) {
                continue;
            }
            let of_process = self.reloads.iter_mut().filter(|it| it.process == process);
            let mut published = of_process.filter(|it| it.published(&plugin.name).is_some());
            if let Some(reload) = published.next().filter(|it| it.at_ms >= *saved_ms) {
                reload.live_ms = reload.live_ms.or(Some(reload.at_ms - saved_ms));
            }
            self.others_saves.remove(&plugin.name);
        }
    }

    /// A plugin was built; the next reload is where that leads to.
    pub fn built(&mut self, plugin: String, phases: Vec<PhaseTiming>) {
        let saved = self.saves.extract_if(|package, _| same_plugin(package, &plugin));
        self.built_saves.extend(saved);
        // Built again before a reload: only the last build is loaded.
        self.built.retain(|phase| phase.plugin.as_deref() != Some(plugin.as_str()));
        let of_plugin = |timing| Phase { plugin: Some(plugin.clone()), ..Phase::from(timing) };
        self.built.extend(phases.iter().map(of_plugin));
    }

    /// Takes what the host remembers of the reloads before it was connected, the oldest first. What is known
    /// already is known better: what was built before it, and what came after it.
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
    }

    /// Puts a reload in its place by time, unless it is known or would be forgotten at once.
    fn insert(&mut self, reload: Reload) {
        if self.reloads.len() >= RELOADS_KEPT || self.knows(&reload) {
            return;
        }
        let later = self.reloads.iter().take_while(|it| it.at_ms >= reload.at_ms).count();
        // The selection is counted from the first.
        if self.selected.is_some() && self.selected() < later {
            self.selected = self.selected.map(|number| number + 1);
        }
        self.reloads.insert(later, reload);
    }

    fn knows(&self, reload: &Reload) -> bool {
        self.reloads.iter().any(|it| it.at_ms == reload.at_ms && it.title() == reload.title())
    }

    /// A reload was published.
    pub fn finished(&mut self, at_ms: u64, summary: String, report: ReloadReport) -> &Reload {
        let replaced = replace(&mut self.serving, &report);
        let mut before = std::mem::take(&mut self.built);
        // What is patched may serve before its build has ended.
        let is_early = before.is_empty();
        if is_early {
            // Somebody else built it, and the host tells how.
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
        let is_served = |package: &str, _: &mut u64| reload.has_published(package);
        let saves = self.built_saves.extract_if(|package, saved| is_served(package, saved));
        let mut saves: Vec<u64> = saves.map(|(_, saved_ms)| saved_ms).collect();
        let is_served = |package: &str, _: &mut u64| is_early && reload.has_patched(package);
        let early = self.saves.extract_if(|package, saved| is_served(package, saved));
        saves.extend(early.map(|(_, saved_ms)| saved_ms));
        let is_rollback = reload.is_rollback();
        let is_served =
            |plugin: &str, _: &mut (u64, String)| !is_rollback && reload.has_published(plugin);
        let others = self.others_saves.extract_if(|plugin, saved| is_served(plugin, saved));
        let saved_ms = others.map(|(_, (saved_ms, _))| saved_ms).chain(saves).min();
        reload.live_ms = saved_ms.map(|saved_ms| at_ms.saturating_sub(saved_ms));
        for life in &self.lives {
            // It may have been called, and the old one be gone, before the host told of the reload.
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
        self.push(reload)
    }

    /// A reload was undone.
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

    fn push(&mut self, reload: Reload) -> &Reload {
        // The host may have told of it among those of before.
        self.reloads.retain(|it| it.at_ms != reload.at_ms || it.title() != reload.title());
        self.reloads.push_front(reload);
        if self.reloads.len() > RELOADS_KEPT {
            self.reloads.pop_back();
            self.forgotten += 1;
        }
        &self.reloads[0]
    }

    /// A version, or a patch of it, answered its first call, so long after it began to serve.
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

    /// A version entered a state.
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
            // Its end may be told before what was seen earlier.
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
                    told_end: None,
                });
                if self.lives.len() > LIVES_KEPT {
                    self.lives.pop_front();
                }
            }
        }
    }

    /// Whether the log has yet to tell that this version ended so; from now on it has.
    pub fn tells_end(&mut self, plugin: &str, version: u32, state: VersionState) -> bool {
        let life = self.life_mut(plugin, version);
        life.is_none_or(|life| life.told_end.replace(state) != Some(state))
    }

    fn life_mut(&mut self, plugin: &str, version: u32) -> Option<&mut Life> {
        self.lives.iter_mut().find(|life| life.plugin == plugin && life.version == version)
    }

    /// Learns of versions that were there before the console, and of what it missed.
    pub fn seen(&mut self, at_ms: u64, plugins: &[PluginInfo]) {
        for plugin in plugins {
            let active = plugin.active();
            if let Some(active) = active {
                self.serving.entry(plugin.name.clone()).or_insert(Face::of(active));
            }
            for version in plugin.versions.iter().rev() {
                let name = (plugin.name.as_str(), version.version);
                let is_known = self.lives.iter().any(|it| (it.plugin.as_str(), it.version) == name);
                // What failed never served.
                if !is_known && version.state != VersionState::Failed {
                    let began_ms = version.loaded_at_ms.min(at_ms);
                    self.version_changed(began_ms, name, VersionState::Active, "");
                }
                self.version_changed(at_ms, name, version.state, &version.detail);
            }
        }
    }

    /// A process of the host begins. The versions of the one before are forgotten; their numbers begin anew.
    pub fn host_began(&mut self, at_ms: u64, pid: u32) {
        self.starts.push(Start { at_ms, pid });

        self.lives.clear();
        self.serving.clear();
        self.built.clear();
        self.saves.clear();
        self.built_saves.clear();
        self.others_saves.clear();
    }

    /// What serves of this plugin, as of the last reload.
    pub fn serving(&self, plugin: &str) -> Option<Face> {
        self.serving.get(plugin).copied()
    }

    /// The last reload that made the one serve of a plugin instead of the other.
    pub fn between(&self, plugin: &str, from: Face, to: Face) -> Option<&Reload> {
        let is_from = |(name, old): &(String, Face)| name == plugin && *old == from;
        let is_between = |it: &&Reload| {
            it.process == self.process()
                && it.published(plugin) == Some(to)
                && it.replaced.iter().any(is_from)
        };
        self.reloads.iter().find(is_between)
    }

    /// The last reload that replaced the one version of a plugin with the other, whatever their patches.
    pub fn between_versions(&self, plugin: &str, from: u32, to: u32) -> Option<&Reload> {
        let is_between = |it: &&Reload| {
            it.process == self.process()
                && it.loaded(plugin) == Some(to)
                && it.has_replaced(plugin, from)
        };
        self.reloads.iter().find(is_between)
    }

    /// Which process of the host runs, or ran last.
    fn process(&self) -> usize {
        self.starts.len()
    }

    /// The lines of the list, the newest first: between the reloads of two processes stands when the later one
    /// began.
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

    /// In which of these lines the selected reload is.
    pub fn selected_row(&self, rows: &[Row]) -> usize {
        let selected = Row::Reload(self.selected());
        rows.iter().position(|row| *row == selected).unwrap_or(0)
    }

    /// The reloads, newest first.
    pub fn reloads(&self) -> &VecDeque<Reload> {
        &self.reloads
    }

    /// How long after the save the last reloads published, the newest last; none for one that failed.
    /// Those that no save led to are left out.
    pub fn live_times(&self, most: usize) -> Vec<Option<u64>> {
        let of_saves = self.reloads.iter().filter(|it| it.live_ms.is_some() || it.result.is_err());
        let mut times: Vec<_> = of_saves.map(|it| it.live_ms).take(most).collect();
        times.reverse();
        times
    }

    /// How long after the save the last reload published that a save led to, in milliseconds.
    pub fn last_live_ms(&self) -> Option<u64> {
        self.reloads.iter().find_map(|it| it.live_ms)
    }

    /// The lives of the versions, the latest first.
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

    /// Moves the selection; the newest stays selected until another is.
    pub fn go(&mut self, motion: Motion, page: usize) {
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
