//! Jumps to functions that are worth a look.

use super::{Effect, places};
use crate::screen::input::action::LeadKind;
use crate::screen::model::State;
use crate::screen::model::leads::{self, Lead};
use crate::screen::model::palette::Destination;

/// Selects the first lead of this kind and reports its reason; repeated, the next lead.
pub(super) fn open(state: &mut State, kind: LeadKind) -> Vec<Effect> {
    let leads = leads::leads(state, kind);
    if leads.is_empty() {
        state.notify_info(match kind {
            LeadKind::Changed => "no reload has changed anything since this console started",
            LeadKind::Slow => "no call was timed yet, and none has run for a second",
        });
        return Vec::new();
    }
    let last = state.last_lead.take().filter(|(of, lead)| *of == kind && is_selected(state, lead));
    // The text may have changed since then.
    let leads_there = |it: &Lead, to: &Lead| {
        let is_there = (&it.plugin, &it.function) == (&to.plugin, &to.function);
        is_there && (it.function.is_some() || it.text == to.text)
    };
    let place = last.and_then(|(_, last)| leads.iter().position(|it| leads_there(it, &last)));
    let place = place.map_or(0, |place| (place + 1) % leads.len());
    let lead = leads[place].clone();
    let which = match leads.len() {
        1 => String::new(),
        count => format!(" ({} of {count})", place + 1),
    };
    state.notify_info(format!("{}{which}", lead.text));
    if kind == LeadKind::Changed {
        state.plugins.show_changes(&lead.plugin);
    }
    let function = lead.function.clone().unwrap_or_default();
    let effects = places::open(state, &Destination::Function(lead.plugin.clone(), function));
    state.last_lead = Some((kind, lead));
    effects
}

/// Whether the lead's function or plugin is selected.
fn is_selected(state: &State, lead: &Lead) -> bool {
    let is_plugin = state.plugins.selected().is_some_and(|row| row.plugin.name == lead.plugin);
    let functions = state.plugins.functions();
    let selected = functions.get(state.functions.selected).map(|it| &it.name);
    is_plugin && (lead.function.is_none() || lead.function.as_ref() == selected)
}
