//! Jumps to the places that the palette finds.

use super::{Effect, plugin_selected, show_tab};
use crate::screen::layout::{Panel, Tab};
use crate::screen::model::State;
use crate::screen::model::palette::Destination;
use crate::screen::model::tree::TreeTab as _;

/// Brings a place to the front and selects it.
pub(super) fn open(state: &mut State, destination: &Destination) -> Vec<Effect> {
    match destination {
        Destination::Plugin(plugin) => {
            state.plugins.select(plugin);
            plugin_selected(state);
            state.focus = Panel::Plugins;
            Vec::new()
        }
        Destination::Function(plugin, function) => {
            state.plugins.select(plugin);
            plugin_selected(state);
            let functions = state.plugins.functions();
            let place = functions.iter().position(|it| it.name == *function);
            state.functions.selected = place.unwrap_or(0);
            state.focus = Panel::Tabs;
            show_tab(state, Tab::Functions)
        }
        Destination::Value(path, _) => {
            state.focus = Panel::Tabs;
            let effects = show_tab(state, Tab::Vault);
            state.vault.tree_mut().filter.clear();
            let rows = state.vault.rows();
            if let Some(row) = rows.iter().position(|row| row.path == *path) {
                state.vault.select(row);
            }
            effects
        }
        Destination::Reload(place, _) => {
            state.focus = Panel::Tabs;
            state.timeline.select(*place);
            show_tab(state, Tab::Timeline)
        }
    }
}
