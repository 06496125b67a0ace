//! Functions that are worth a look: those that the last reload changed, and slow ones.

use std::cmp::Reverse;

use hotswap_protocol::{FunctionInfo, LatencyBucket, PluginInfo};

use super::changes::{Before, FunctionChange};
use super::face::Face;
use super::{Phase, State, in_flight};
use crate::format;
use crate::screen::input::action::{Action, LeadKind};
use crate::screen::layout::Tab;

/// A plugin, or a function of it, that is worth a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lead {
    /// The plugin.
    pub plugin: String,
    /// Its function; `None` if the lead is about the plugin, or about a function that it no longer has.
    pub function: Option<String>,
    /// The reason.
    pub text: String,
}

/// The leads of a kind, in the order in which to look at them.
pub fn leads(state: &State, kind: LeadKind) -> Vec<Lead> {
    match kind {
        LeadKind::Changed => changed(state),
        LeadKind::Slow => slow(state),
    }
}

/// The changes of the last reload that made something serve.
fn changed(state: &State) -> Vec<Lead> {
    let plugins = || state.plugins.list().iter();
    let mut reloads = state.timeline.reloads().iter();
    let last = reloads.find(|reload| plugins().any(|it| reload.has_published(&it.name)));
    let is_of_last = |it: &&PluginInfo| last.is_none_or(|reload| reload.has_published(&it.name));
    plugins().filter(is_of_last).flat_map(|plugin| changed_of(plugin, state)).collect()
}

fn changed_of(plugin: &PluginInfo, state: &State) -> Vec<Lead> {
    let Some(before) = state.plugins.before(&plugin.name) else { return Vec::new() };
    let Some(now) = plugin.active().map(Face::of) else { return Vec::new() };
    let since = before.face.label();
    let lead = |function: Option<&FunctionInfo>, text: String| Lead {
        plugin: plugin.name.clone(),
        function: function.map(|it| it.name.clone()),
        text,
    };
    let changed = plugin.functions.iter().filter_map(|function| {
        let how = change_text(before, function)?;
        let name = &function.name;
        Some(lead(Some(function), format!("{name} of {} {how} {since}", plugin.name)))
    });
    let gone = before.gone(&plugin.functions);
    let gone = gone
        .map(|it| lead(None, format!("{} of {} is gone; {since} had it", it.name, plugin.name)));
    let leads: Vec<Lead> = changed.chain(gone).collect();
    if !leads.is_empty() {
        return leads;
    }
    let (name, now) = (&plugin.name, now.label());
    let diff = state.key_of(&Action::Show(Tab::Diff));
    let text = match state.plugins.rolled_back_to(name) {
        Some(version) => format!("{name} {now} is rolled back to the build of v{version}"),
        None => format!(
            "{name} {since} → {now}: no function that can be called is known to differ; {diff} compares"
        ),
    };
    vec![lead(None, text)]
}

/// The change of a function in the code that serves; `None` if none is known.
fn change_text(before: &Before, function: &FunctionInfo) -> Option<&'static str> {
    match before.change_of(function) {
        FunctionChange::New => Some("is new since"),
        FunctionChange::Changed => Some("has another signature than in"),
        FunctionChange::Body => Some("has another body than in"),
        FunctionChange::Same => None,
    }
}

/// The functions with calls that have run for long, longest first; then those whose calls took longest, by the 99th
/// percentile.
fn slow(state: &State) -> Vec<Lead> {
    if state.host.phase == Phase::Ended {
        return Vec::new();
    }
    let plugins = state.plugins.list();
    let mut leads: Vec<Lead> = Vec::new();
    for call in in_flight::long_calls(plugins, state.now_ms) {
        let function = call.holder.function.clone();
        let age = format::seconds(call.age_ms(state.now_ms));
        let (plugin, version) = (call.plugin, call.version);
        let text = format!("{} of {plugin} v{version} has run for {age}", call.name());
        push_new(&mut leads, Lead { plugin: plugin.to_owned(), function, text });
    }
    let functions =
        plugins.iter().flat_map(|plugin| plugin.functions.iter().map(move |it| (plugin, it)));
    let timed = functions.filter_map(|(plugin, function)| {
        Some((LatencyBucket::quantile(&function.latency_buckets, 990)?, plugin, function))
    });
    let mut timed: Vec<_> = timed.collect();
    timed.sort_by_key(|(slowest_ns, ..)| Reverse(*slowest_ns));
    for (_, plugin, function) in timed {
        let times = format::timed(function).unwrap_or_default();
        let text = format!("{} of {}, {times}", function.name, plugin.name);
        let (plugin, function) = (plugin.name.clone(), Some(function.name.clone()));
        push_new(&mut leads, Lead { plugin, function, text });
    }
    leads
}

/// Adds a lead, unless there is one to the same function.
fn push_new(leads: &mut Vec<Lead>, lead: Lead) {
    let leads_there = |it: &Lead| (&it.plugin, &it.function) == (&lead.plugin, &lead.function);
    if !leads.iter().any(leads_there) {
        leads.push(lead);
    }
}
