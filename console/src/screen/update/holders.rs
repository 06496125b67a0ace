//! From a version that something holds to what holds it.

use hotswap_protocol::{PluginInfo, VersionInfo, VersionState, same_plugin};

use super::{Effect, act};
use crate::screen::input::action::Action;
use crate::screen::layout::{Panel, Tab};
use crate::screen::model::State;
use crate::screen::model::tree::TreeTab as _;

/// Shows what holds the selected version, or else another one that was replaced; once more shows the
/// next that holds it.
pub(super) fn go(state: &mut State) -> Vec<Effect> {
    let Some((plugin, version, holders)) = held(state) else {
        state.say("nothing holds a version that was replaced");
        return Vec::new();
    };
    let place = match &state.last_holder {
        Some((name, number, place)) if (name, *number) == (&plugin, version) => place + 1,
        _ => 0,
    };
    let place = place % holders.len();
    state.last_holder = Some((plugin.clone(), version, place));
    let holder = &holders[place];
    let which = match holders.len() {
        1 => String::new(),
        count => format!(" ({} of {count})", place + 1),
    };
    let target = format!("{plugin} v{version}");
    state.say(format!("{target} is held by: {holder}{which}"));
    show(state, &plugin, &target, holder)
}

fn held(state: &State) -> Option<(String, u32, Vec<String>)> {
    let found = |plugin: &PluginInfo, version: &VersionInfo| {
        (plugin.name.clone(), version.version, version.holders.clone())
    };
    let is_held = |version: &VersionInfo| {
        version.state != VersionState::Active && !version.holders.is_empty()
    };
    let rows = state.plugins.rows();
    let last = state.last_holder.as_ref();
    // Where a jump led to another plugin, the next one still is about the version it began at.
    let is_last = |plugin: &PluginInfo, version: &VersionInfo| {
        last.is_some_and(|(name, number, _)| *name == plugin.name && *number == version.version)
    };
    let selected = state.plugins.selected().filter(|row| is_held(row.version));
    let selected = selected.or_else(|| {
        rows.iter().find(|row| is_held(row.version) && is_last(row.plugin, row.version)).copied()
    });
    let row = selected.or_else(|| rows.iter().find(|row| is_held(row.version)).copied())?;
    Some(found(row.plugin, row.version))
}

/// Brings to the front what there is to see of a holder.
fn show(state: &mut State, plugin: &str, target: &str, holder: &str) -> Vec<Effect> {
    if holder.contains("value") {
        let effects = act(state, Action::Show(Tab::Vault));
        let rows = state.vault.rows();
        let is_owned = |cells: &Vec<String>| cells.iter().any(|cell| cell == target);
        if let Some(row) = rows.iter().position(|row| is_owned(&row.cells)) {
            state.vault.select(row);
        }
        return effects;
    }
    if let Some(function) = holder.strip_prefix("call of ") {
        let function = function.split([' ', ',']).next().unwrap_or_default();
        state.plugins.select(plugin);
        if let Some(place) = state.plugins.functions().iter().position(|it| it.name == function) {
            state.functions.selected = place;
        }
        return act(state, Action::Show(Tab::Functions));
    }
    if holder.contains("handle") {
        let imports_it =
            |it: &&PluginInfo| it.imports.iter().any(|import| same_plugin(import, plugin));
        if let Some(importer) = state.plugins.list().iter().find(imports_it) {
            let importer = importer.name.clone();
            state.plugins.select(&importer);
            state.focus = Panel::Plugins;
        }
        return Vec::new();
    }
    // Threads and tasks are seen by what they write.
    state.focus = Panel::Logs;
    state.logs.set_writer_filter(&target.replacen(" v", "@v", 1));
    Vec::new()
}
