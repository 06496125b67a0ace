//! Jumps from a version that is kept in use to what keeps it in use.

use hotswap_protocol::{
    FunctionInfo, Holder, HolderKind, Owner, PluginInfo, VersionInfo, VersionState, same_plugin,
};

use super::{Effect, act};
use crate::format;
use crate::screen::input::action::Action;
use crate::screen::layout::{Panel, Tab};
use crate::screen::model::plugins::PluginRow;
use crate::screen::model::tree::TreeTab as _;
use crate::screen::model::vault::{bag_path, registration_path};
use crate::screen::model::{LastHolder, State};

/// A replaced version that is still in use, with its holders.
struct HeldVersion {
    plugin: String,
    version: u32,
    /// The holders as data. An older host sends only their texts.
    holders: Vec<Holder>,
    texts: Vec<String>,
}

/// Reports a holder of the selected version and shows it; repeated, the next holder.
pub(super) fn open(state: &mut State) -> Vec<Effect> {
    let Some(held) = held(state) else {
        let text = why_not_held(state);
        state.notify_info(text);
        return Vec::new();
    };
    let place = match &state.last_holder {
        Some(last) if last.is_of(&held.plugin, held.version) => last.place + 1,
        _ => 0,
    };
    let place = place % held.texts.len();
    let which = match held.texts.len() {
        1 => String::new(),
        count => format!(" ({} of {count})", place + 1),
    };
    let (plugin, version, text) = (&held.plugin, held.version, &held.texts[place]);
    state.notify_info(format!("{plugin} v{version} is held by: {text}{which}"));
    let effects = show(state, &held, held.holders.get(place));
    state.last_holder = Some(LastHolder {
        plugin: held.plugin,
        version: held.version,
        place,
        selected: state.plugins.selected_target(),
    });
    effects
}

/// The selected version, if it has holders; otherwise the one from which the last jump began.
fn held(state: &State) -> Option<HeldVersion> {
    let last = state.last_holder.as_ref();
    let last = last.filter(|last| last.selected == state.plugins.selected_target());
    let rows = state.plugins.rows();
    let is_last = |row: &PluginRow<'_>| {
        last.is_some_and(|last| last.is_of(&row.plugin.name, row.version.version))
    };
    let selected = state.plugins.selected().filter(|row| is_held(row.version));
    let row = selected
        .or_else(|| rows.iter().find(|row| is_held(row.version) && is_last(row)).copied())?;
    let PluginRow { plugin, version, .. } = row;
    Some(HeldVersion {
        plugin: plugin.name.clone(),
        version: version.version,
        holders: version.held_by.clone(),
        texts: format::holders(&version.held_by, &version.holders, state.now_ms),
    })
}

fn is_held(version: &VersionInfo) -> bool {
    let is_told = !version.held_by.is_empty() || !version.holders.is_empty();
    version.state != VersionState::Active && is_told
}

/// The reason why there is no holder to show.
fn why_not_held(state: &State) -> String {
    let Some(PluginRow { plugin, version, .. }) = state.plugins.selected() else {
        return "no version is selected".into();
    };
    let name = format!("{} v{}", plugin.name, version.version);
    let held = plugin.versions.iter().filter(|it| is_held(it));
    let held: Vec<String> = held.map(|it| format!("v{}", it.version)).collect();
    match version.state {
        VersionState::Active if held.is_empty() => {
            format!("{name} serves; no other version of it is held")
        }
        VersionState::Active => {
            format!("{name} serves; select {} to see what holds it", held.join(", "))
        }
        VersionState::Freed => format!("{name} is freed: nothing held it any more"),
        VersionState::Failed => format!("{name} never served: nothing is left of it"),
        _ => format!("nothing is known to hold {name}"),
    }
}

/// Brings the holder to the front. Threads and tasks have nothing to show besides their description.
fn show(state: &mut State, held: &HeldVersion, holder: Option<&Holder>) -> Vec<Effect> {
    match holder.map(|holder| (holder.kind, holder)) {
        Some((HolderKind::Value, holder)) => show_value(state, held, holder),
        Some((HolderKind::Call, holder)) => show_call(state, held, holder),
        Some((HolderKind::Handle, _)) => show_importer(state, held),
        _ => Vec::new(),
    }
}

/// Selects the value in the Vault; for a value without a name, the first that the version owns.
fn show_value(state: &mut State, held: &HeldVersion, holder: &Holder) -> Vec<Effect> {
    let owner = Owner::Version { plugin: held.plugin.clone(), version: held.version };
    let path = match (&holder.key, &holder.interface) {
        (Some(name), Some(interface)) => Some(registration_path(interface, name)),
        (Some(key), None) => Some(bag_path(key)),
        (None, _) => state.vault.path_of_first(&owner),
    };
    let effects = act(state, Action::Show(Tab::Vault));
    let rows = state.vault.rows();
    if let Some(row) = rows.iter().position(|row| Some(&row.path) == path.as_ref()) {
        state.vault.select(row);
    }
    effects
}

fn show_call(state: &mut State, held: &HeldVersion, holder: &Holder) -> Vec<Effect> {
    state.plugins.select(&held.plugin);
    let functions = state.plugins.functions();
    let is_called = |it: &&FunctionInfo| Some(&it.name) == holder.function.as_ref();
    if let Some(place) = functions.iter().position(is_called) {
        state.functions.selected = place;
    }
    act(state, Action::Show(Tab::Functions))
}

/// Selects the first plugin that imports the version's plugin, and so may have a handle to it.
fn show_importer(state: &mut State, held: &HeldVersion) -> Vec<Effect> {
    let imports_it =
        |it: &&PluginInfo| it.imports.iter().any(|import| same_plugin(import, &held.plugin));
    if let Some(importer) = state.plugins.list().iter().find(imports_it) {
        let importer = importer.name.clone();
        state.plugins.select(&importer);
        state.focus = Panel::Plugins;
    }
    Vec::new()
}
