//! The plugins of the host, as a tree of versions.

use std::collections::{BTreeSet, HashMap};

use hotswap_protocol::{Failures, FunctionInfo, PluginInfo, VersionInfo, VersionState};

use super::changes::Before;
use super::face::Face;
use super::rates::Rates;
use crate::format;
use crate::screen::input::action::Motion;

/// The plugins, and the selected version.
#[derive(Default)]
pub struct Plugins {
    list: Vec<PluginInfo>,
    rates: Rates,
    /// The code that served before the last change, by plugin.
    before: HashMap<String, Before>,
    /// The functions whose bodies changed in builds that do not serve yet, by plugin.
    built: HashMap<String, BTreeSet<String>>,
    /// The selected plugin and version. Names survive a change of the list; positions would not.
    selected: Option<(String, u32)>,
    /// The plugins whose freed and failed versions have one line each.
    unfolded: BTreeSet<String>,
    /// Whether the host has ended. Then each plugin has only its first line.
    is_over: bool,
    /// The filter: text in the names of plugins.
    filter: String,
    /// The filter: text in the names of functions.
    function_filter: String,
}

/// A line of the tree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PluginRow<'a> {
    /// The plugin.
    pub plugin: &'a PluginInfo,
    /// The version; of several that are gone, the newest.
    pub version: &'a VersionInfo,
    /// Whether the line stands for all versions that are gone.
    pub is_fold: bool,
    /// Whether it is the plugin's first line: the version that serves.
    pub is_first: bool,
    /// Whether it is the plugin's last line.
    pub is_last: bool,
}

impl Plugins {
    /// Takes the host's list of plugins; true if the screen changes.
    pub fn update(&mut self, now_ms: u64, list: Vec<PluginInfo>) -> bool {
        let rates_changed = self.rates.sample(now_ms, &list);
        let changed = rates_changed || !look_alike(&self.list, &list);
        // If the version that served was selected, select the one that serves now.
        let on_first = self
            .selected_index()
            .is_some_and(|index| self.rows().get(index).is_some_and(|row| row.is_first));
        self.note_replaced(&list);
        self.list = list;
        if on_first && let Some((name, version)) = &mut self.selected {
            let plugin = self.list.iter().find(|plugin| plugin.name == *name);
            if let Some(first) = plugin.and_then(first_of) {
                *version = first.version;
            }
        }
        changed
    }

    /// Takes a sample of the rates of calls while the list is unchanged; true if a sparkline changed.
    pub fn sample(&mut self, now_ms: u64) -> bool {
        self.rates.sample(now_ms, &self.list)
    }

    /// Keeps the facts about code that the new list replaces.
    fn note_replaced(&mut self, list: &[PluginInfo]) {
        for plugin in list {
            let now = Before::of(plugin);
            let earlier = self.list.iter().find(|it| it.name == plugin.name).and_then(Before::of);
            if let (Some(now), Some(earlier)) = (now, earlier)
                && now.face != earlier.face
            {
                let goes_on = now.face.version == earlier.face.version;
                let built = self.built.remove(&plugin.name).filter(|_| !plugin.is_rolled_back);
                // Of somebody else's builds the host knows the changed functions only if they are patches.
                let patched = plugin.active().filter(|_| goes_on).map(|it| &it.patched_functions);
                let patched = || patched.into_iter().flatten().filter_map(|it| free_function(it));
                let changed_bodies =
                    built.unwrap_or_else(|| patched().map(str::to_owned).collect());
                let before = Before { changed_bodies, goes_on, ..earlier };
                self.before.insert(plugin.name.clone(), before);
            }
        }
    }

    /// Notes that a build changed the bodies of these functions. If `is_served`, it is a patch that serves already.
    pub fn built<'a>(
        &mut self,
        plugin: &str,
        functions: impl IntoIterator<Item = &'a str>,
        is_served: bool,
    ) {
        let named = functions.into_iter().filter_map(free_function).map(str::to_owned);
        match self.before.get_mut(plugin).filter(|_| is_served) {
            Some(before) => before.changed_bodies.extend(named),
            None => self.built.entry(plugin.to_owned()).or_default().extend(named),
        }
    }

    /// The earlier version whose build serves again since a rollback; `None` without a rollback.
    pub fn rolled_back_to(&self, plugin: &str) -> Option<u32> {
        let plugin = self.list.iter().find(|it| it.name == plugin && it.is_rolled_back)?;
        let active = plugin.active()?;
        let is_origin =
            |it: &&VersionInfo| it.version < active.version && it.build_id == active.build_id;
        plugin.versions.iter().find(is_origin).map(|it| it.version)
    }

    /// The code of this plugin that served before the present one.
    pub fn before(&self, plugin: &str) -> Option<&Before> {
        self.before.get(plugin)
    }

    /// The failed calls of the code that serves. Failures from before a patch do not count for the patch.
    pub fn failures(&self, plugin: &PluginInfo) -> Failures {
        match self.before.get(&plugin.name) {
            Some(before) => before.failures_since(plugin),
            None => plugin.active().map(|active| active.failures.clone()).unwrap_or_default(),
        }
    }

    /// Notes that somebody has seen the last reload's changes to this plugin.
    pub fn mark_seen(&mut self, plugin: &str) {
        if let Some(before) = self.before.get_mut(plugin) {
            before.is_seen = true;
        }
    }

    /// Marks the last reload's changes to this plugin as not seen.
    pub fn show_changes(&mut self, plugin: &str) {
        if let Some(before) = self.before.get_mut(plugin) {
            before.is_seen = false;
        }
    }

    /// Forgets the plugins of a host that has ended. The selection stays.
    pub fn clear(&mut self) {
        self.rates.clear();
        self.before.clear();
        self.built.clear();
        self.list.clear();
        self.is_over = false;
    }

    /// Notes that the host has ended by itself. Its plugins stay visible.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// The rate of a plugin's calls as a sparkline.
    pub fn sparkline(&self, plugin: &str) -> &str {
        self.rates.sparkline(plugin)
    }

    /// All plugins.
    pub fn list(&self) -> &[PluginInfo] {
        &self.list
    }

    /// Whether this build of a plugin serves.
    pub fn serves(&self, plugin: &str, build_id: &str) -> bool {
        let plugin = self.list.iter().find(|it| it.name == plugin);
        plugin.and_then(PluginInfo::active).is_some_and(|it| it.build_id == build_id)
    }

    /// The lines of the tree that the filter shows.
    pub fn rows(&self) -> Vec<PluginRow<'_>> {
        let shown = self.list.iter().filter(|plugin| self.shows(&plugin.name));
        let rows = shown.flat_map(|plugin| self.rows_of(plugin));
        rows.filter(|row| row.is_first || !self.is_over).collect()
    }

    fn rows_of<'a>(&self, plugin: &'a PluginInfo) -> Vec<PluginRow<'a>> {
        let Some(first) = first_of(plugin) else { return Vec::new() };
        let others = plugin.versions.iter().filter(|it| it.version != first.version);
        let (mut gone, there): (Vec<_>, Vec<_>) = others.partition(|it| is_gone(it));
        let is_fold = gone.len() > 1 && !self.unfolded.contains(&plugin.name);
        if is_fold {
            gone.truncate(1);
        }
        let count = 1 + there.len() + gone.len();
        let versions = std::iter::once(first).chain(there).chain(gone).enumerate();
        let row = |(position, version)| {
            let is_last = position + 1 == count;
            let is_first = position == 0;
            PluginRow { plugin, version, is_fold: is_fold && is_last, is_first, is_last }
        };
        versions.map(row).collect()
    }

    /// Folds the selected plugin's versions that are gone into one line, or unfolds them; false if nothing changes.
    pub fn fold(&mut self, is_folded: bool) -> bool {
        let Some(row) = self.selected() else { return false };
        let (name, is_fold) = (row.plugin.name.clone(), row.is_fold);
        match is_folded {
            true => self.unfolded.remove(&name),
            false => is_fold && self.unfolded.insert(name),
        }
    }

    /// The index of the selected line.
    pub fn selected_index(&self) -> Option<usize> {
        let rows = self.rows();
        let chosen = self.selected.as_ref().and_then(|(name, version)| {
            let of_plugin = |it: &PluginRow<'_>| it.plugin.name == *name;
            let exactly = |it: &PluginRow<'_>| of_plugin(it) && it.version.version == *version;
            let folds = |it: &PluginRow<'_>| {
                let mut gone = it.plugin.versions.iter().filter(|version| is_gone(version));
                it.is_fold && of_plugin(it) && gone.any(|gone| gone.version == *version)
            };
            let position = rows.iter().position(exactly).or_else(|| rows.iter().position(folds));
            position.or_else(|| rows.iter().position(of_plugin))
        });
        // Without a choice, the first plugin that has functions.
        let has_functions = |row: &PluginRow<'_>| row.is_first && !row.plugin.functions.is_empty();
        let first = || rows.iter().position(has_functions).or((!rows.is_empty()).then_some(0));
        chosen.or_else(first)
    }

    /// The selected line.
    pub fn selected(&self) -> Option<PluginRow<'_>> {
        self.rows().get(self.selected_index()?).copied()
    }

    /// The target of the selection in a call: `world`, or `world@2` for an earlier version.
    pub fn selected_target(&self) -> Option<String> {
        let row = self.selected()?;
        if row.version.state == VersionState::Active {
            return Some(row.plugin.name.clone());
        }
        Some(format!("{}@{}", row.plugin.name, row.version.version))
    }

    /// The functions of the selected plugin that the filter shows.
    pub fn functions(&self) -> Vec<&FunctionInfo> {
        let all = self.all_functions().iter();
        all.filter(|function| contains(&function.name, &self.function_filter)).collect()
    }

    /// All functions of the selected plugin.
    pub fn all_functions(&self) -> &[FunctionInfo] {
        self.selected().map_or(&[], |row| &row.plugin.functions)
    }

    /// The filter by plugin: text in the names.
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// Sets the filter by plugin.
    pub fn set_filter(&mut self, text: &str) {
        self.filter = text.to_owned();
    }

    /// Whether the filter shows a plugin.
    pub fn shows(&self, plugin: &str) -> bool {
        contains(plugin, &self.filter)
    }

    /// The filter by function: text in the names.
    pub fn function_filter(&self) -> &str {
        &self.function_filter
    }

    /// Sets the filter by function.
    pub fn set_function_filter(&mut self, text: &str) {
        self.function_filter = text.to_owned();
    }

    /// The version that a call of `world` or `world@2` would run in.
    pub fn version_of(&self, target: &str) -> Option<u32> {
        if let Some((_, version)) = target.split_once('@') {
            return version.parse().ok();
        }
        self.face_of(target).map(|face| face.version)
    }

    /// The version and patch that such a call would run in.
    pub fn face_of(&self, target: &str) -> Option<Face> {
        let (name, version) = target.split_once('@').unwrap_or((target, ""));
        let plugin = self.list.iter().find(|it| it.name == name)?;
        match version.parse::<u32>() {
            Ok(version) => plugin.versions.iter().find(|it| it.version == version).map(Face::of),
            Err(_) => plugin.active().filter(|_| version.is_empty()).map(Face::of),
        }
    }

    /// Selects the version of this plugin that serves. Filters that hide it or its functions are cleared.
    pub fn select(&mut self, plugin: &str) {
        if !self.shows(plugin) {
            self.filter.clear();
        }
        self.function_filter.clear();
        if let Some(version) = self.version_of(plugin) {
            self.selected = Some((plugin.to_owned(), version));
        }
    }

    /// Selects a line.
    pub fn select_index(&mut self, index: usize) {
        let row = self.rows().get(index).map(|it| (it.plugin.name.clone(), it.version.version));
        self.selected = row.or(self.selected.take());
    }

    /// Moves the selection.
    pub fn move_by(&mut self, motion: Motion, page: usize) {
        let rows = self.rows();
        let Some(from) = self.selected_index() else { return };
        let Some(to) = step(motion, from, rows.len(), page) else { return };
        self.selected = rows.get(to).map(|it| (it.plugin.name.clone(), it.version.version));
    }
}

/// The name of a function without its modules; `None` for a method, which cannot be a function of the plugin.
fn free_function(path: &str) -> Option<&str> {
    let is_free = |module: &str| module.starts_with(|first: char| first.is_lowercase());
    match path.rsplit_once("::") {
        Some((module, name)) => Some(name).filter(|_| module.split("::").all(is_free)),
        None => Some(path),
    }
}

/// Whether a name contains a text, without regard to case.
pub fn contains(name: &str, text: &str) -> bool {
    name.to_lowercase().contains(&text.to_lowercase())
}

/// The version in the first line of a plugin: the one that serves; otherwise one that is still there, or the first.
fn first_of(plugin: &PluginInfo) -> Option<&VersionInfo> {
    let versions = || plugin.versions.iter();
    plugin.active().or_else(|| versions().find(|it| !is_gone(it))).or(plugin.versions.first())
}

/// Whether a version was freed or has failed.
pub fn is_gone(version: &VersionInfo) -> bool {
    matches!(version.state, VersionState::Freed | VersionState::Failed)
}

/// The index after a motion in a list of this length; `None` if the list is empty or the motion is sideways.
pub fn step(motion: Motion, from: usize, length: usize, page: usize) -> Option<usize> {
    let last = length.checked_sub(1)?;
    let page = page.saturating_sub(1).max(1);
    let to = match motion {
        Motion::Up => from.saturating_sub(1),
        Motion::Down => from.saturating_add(1),
        Motion::PageUp => from.saturating_sub(page),
        Motion::PageDown => from.saturating_add(page),
        Motion::First => 0,
        Motion::Last => last,
        Motion::Left | Motion::Right => return None,
    };
    Some(to.min(last))
}

/// Whether both lists look the same on the screen, where counts are rounded.
fn look_alike(before: &[PluginInfo], now: &[PluginInfo]) -> bool {
    before.len() == now.len() && before.iter().zip(now).all(|(a, b)| plugins_look_alike(a, b))
}

fn plugins_look_alike(a: &PluginInfo, b: &PluginInfo) -> bool {
    let versions = a.versions.iter().zip(&b.versions);
    let functions = a.functions.iter().zip(&b.functions);
    (&a.name, &a.imports, a.is_rolled_back) == (&b.name, &b.imports, b.is_rolled_back)
        && (a.versions.len(), a.functions.len()) == (b.versions.len(), b.functions.len())
        && versions.into_iter().all(|(a, b)| versions_look_alike(a, b))
        && functions.into_iter().all(|(a, b)| functions_look_alike(a, b))
}

fn versions_look_alike(a: &VersionInfo, b: &VersionInfo) -> bool {
    let of = |it: &VersionInfo| {
        let heap = it.heap_bytes.map(format::bytes);
        (it.version, it.state, it.loaded_at_ms, it.size_bytes, heap, format::count(it.calls))
    };
    of(a) == of(b)
        && (&a.detail, &a.build_id, &a.holders) == (&b.detail, &b.build_id, &b.holders)
        && (&a.source, &a.failures) == (&b.source, &b.failures)
}

fn functions_look_alike(a: &FunctionInfo, b: &FunctionInfo) -> bool {
    let of = |it: &FunctionInfo| {
        let latency = |us: Option<f64>| us.map(format::fractional_microseconds);
        (format::count(it.calls), latency(it.latency_us_p50), latency(it.latency_us_p99))
    };
    (&a.name, &a.signature, &a.doc) == (&b.name, &b.signature, &b.doc)
        && of(a) == of(b)
        && (&a.params, &a.failures) == (&b.params, &b.failures)
}
