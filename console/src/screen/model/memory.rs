//! The remembered look of the console, for each host.

use std::collections::BTreeMap;

use hotswap_protocol::LogLevel;
use serde::{Deserialize, Serialize};

use super::{Host, Look, State, Tab};
use crate::screen::layout::Panel;

/// The number of hosts that are remembered; those left longest ago are forgotten.
const HOSTS_KEPT: usize = 50;

/// The remembered look of the console, by host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Memory(BTreeMap<String, Remembered>);

/// The look of the console when a host was left.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// The time when the host was left, in milliseconds since the Unix epoch.
    at_ms: u64,
    /// The panel that had the keyboard.
    focus: Option<Panel>,
    /// The tab in front.
    tab: Option<Tab>,
    /// Whether one panel filled the screen.
    #[serde(default)]
    zoomed: bool,
    /// The pattern of the log's filter.
    #[serde(default)]
    pattern: String,
    /// The log's filter by writer.
    #[serde(default)]
    writer: String,
    /// The lowest level that the log showed.
    #[serde(default)]
    level: Option<LogLevel>,
    /// Whether long lines were wrapped.
    #[serde(default)]
    wrap: bool,
    /// The chosen theme.
    #[serde(default)]
    look: Option<Look>,
}

impl Memory {
    /// Restores the look that the screen had when this host was last left.
    pub fn recall(state: &mut State) {
        let Some(key) = key(&state.host) else { return };
        let Some(remembered) = state.memory.0.get(&key).cloned() else { return };
        state.focus = remembered.focus.unwrap_or(state.focus);
        state.zoomed = remembered.zoomed;
        // Without packages, the console builds nothing, so the Build tab would be empty.
        let has_something = |tab: &Tab| *tab != Tab::Build || !state.host.packages.is_empty();
        let is_there = |tab: &Tab| state.tabs().contains(tab) && has_something(tab);
        let tab = remembered.tab.filter(is_there).unwrap_or(state.tab);
        // During the first build, the Build tab stays in front.
        match &mut state.tab_to_return_to {
            Some(later) => *later = tab,
            None => state.tab = tab,
        }
        state.logs.set_pattern(&remembered.pattern);
        state.logs.set_writer_filter(&remembered.writer);
        state.logs.set_level(remembered.level);
        state.logs.wrap = remembered.wrap;
        state.chosen_look = remembered.look;
        // If no colours are wanted now, the remembered theme is not used.
        if state.look != Look::Plain {
            state.look = remembered.look.unwrap_or(state.look);
        }
    }

    /// Remembers the present look, and forgets the hosts that were left longest ago.
    pub fn keep(&mut self, state: &State) {
        let Some(key) = key(&state.host) else { return };
        let remembered = Remembered {
            at_ms: state.now_ms,
            focus: Some(state.focus),
            tab: Some(state.tab_to_return_to.unwrap_or(state.tab)),
            zoomed: state.zoomed,
            pattern: state.logs.pattern().to_owned(),
            writer: state.logs.writer_filter().to_owned(),
            level: state.logs.level(),
            wrap: state.logs.wrap,
            look: state.chosen_look,
        };
        self.0.insert(key, remembered);
        while self.0.len() > HOSTS_KEPT {
            let oldest = self.0.iter().min_by_key(|(_, it)| it.at_ms).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.0.remove(&oldest);
            }
        }
    }
}

/// The key of a host: its name and the directory of its artifacts.
fn key(host: &Host) -> Option<String> {
    let plugin_dir = host.plugin_dir.as_ref()?;
    Some(format!("{} {}", host.name, plugin_dir.display()))
}
