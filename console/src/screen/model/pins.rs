//! The pinned calls: what is called again in each new version of its plugin.

use hotswap_protocol::{InvokeParams, PinParams, PinnedCall, PluginInfo};

use super::plugins::step;
use crate::screen::input::action::Motion;

/// The pinned calls of the host.
#[derive(Default)]
pub struct Pins {
    list: Vec<PinnedCall>,
    /// Those of a process that has ended, until their plugin serves in the next one.
    from_before: Vec<PinnedCall>,
}

/// The list of pinned calls that lies over the panels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PinList {
    /// Which of them is selected.
    pub selected: usize,
}

impl Pins {
    /// Takes all of them as the host has them.
    pub fn set(&mut self, pins: Vec<PinnedCall>) {
        self.list = pins;
    }

    /// Takes one that was made.
    pub fn called(&mut self, pin: PinnedCall) {
        match self.list.iter_mut().find(|it| it.id == pin.id) {
            Some(known) => *known = pin,
            None => self.list.push(pin),
        }
    }

    /// One is not made any more; gives what it was.
    pub fn removed(&mut self, id: u64) -> Option<PinnedCall> {
        let position = self.list.iter().position(|it| it.id == id)?;
        Some(self.list.remove(position))
    }

    /// Another process counts anew, and has none of them.
    pub fn another_process(&mut self) {
        self.from_before.append(&mut self.list);
    }

    /// Those of the process before whose plugins serve now, to be pinned again.
    pub fn take_back(&mut self, plugins: &[PluginInfo]) -> Vec<PinParams> {
        let serves = |pin: &PinnedCall| {
            plugins.iter().any(|it| it.name == pin.plugin && it.active().is_some())
        };
        let (back, rest) = std::mem::take(&mut self.from_before).into_iter().partition(serves);
        self.from_before = rest;
        let back: Vec<PinnedCall> = back;
        back.into_iter().map(|pin| pin.params()).collect()
    }

    /// Those that give something else than before come first, and then the others, the oldest first.
    pub fn in_order(&self) -> Vec<&PinnedCall> {
        let mut pins: Vec<&PinnedCall> = self.list.iter().collect();
        pins.sort_by_key(|pin| pin.is_same != Some(false));
        pins
    }

    /// The pin of this call.
    pub fn of_call(&self, call: &InvokeParams) -> Option<&PinnedCall> {
        let plugin = call.plugin.split('@').next().unwrap_or_default();
        let is_it = |pin: &&PinnedCall| {
            (pin.plugin.as_str(), &pin.function, &pin.args) == (plugin, &call.function, &call.args)
        };
        self.list.iter().find(is_it)
    }
}

impl PinList {
    /// Moves the selection among so many.
    pub fn go(&mut self, motion: Motion, count: usize, page: usize) {
        if let Some(to) = step(motion, self.selected, count, page) {
            self.selected = to;
        }
    }
}
