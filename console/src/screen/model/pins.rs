//! The pinned calls, which the host repeats in each new version of their plugin.

use hotswap_protocol::{InvokeParams, PinParams, PinnedCall, PluginInfo};

use super::plugins::step;
use crate::screen::input::action::Motion;

/// The pinned calls of the host.
#[derive(Default)]
pub struct Pins {
    list: Vec<PinnedCall>,
    /// The pinned calls of an earlier process, until their plugins serve in the present one.
    from_before: Vec<PinnedCall>,
}

/// The overlay that lists the pinned calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PinList {
    /// The index of the selected call.
    pub selected: usize,
}

impl Pins {
    /// Takes the host's list of pinned calls.
    pub fn set(&mut self, pins: Vec<PinnedCall>) {
        self.list = pins;
    }

    /// Takes a pinned call that the host has just made.
    pub fn called(&mut self, pin: PinnedCall) {
        match self.list.iter_mut().find(|it| it.id == pin.id) {
            Some(known) => *known = pin,
            None => self.list.push(pin),
        }
    }

    /// Removes a pin, and returns it.
    pub fn remove(&mut self, id: u64) -> Option<PinnedCall> {
        let position = self.list.iter().position(|it| it.id == id)?;
        Some(self.list.remove(position))
    }

    /// Keeps the pins for a new process of the host, which has none and numbers its own from the start.
    pub fn keep_for_new_process(&mut self) {
        self.from_before.append(&mut self.list);
    }

    /// Takes the pins of the last process whose plugins serve now, to pin them again.
    pub fn take_pins_to_restore(&mut self, plugins: &[PluginInfo]) -> Vec<PinParams> {
        let serves = |pin: &PinnedCall| {
            plugins.iter().any(|it| it.name == pin.plugin && it.active().is_some())
        };
        let (back, rest) = std::mem::take(&mut self.from_before).into_iter().partition(serves);
        self.from_before = rest;
        let back: Vec<PinnedCall> = back;
        back.into_iter().map(|pin| pin.params()).collect()
    }

    /// The pins: those whose result has changed first, then the others, each oldest first.
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
    /// Moves the selection in a list of `count` calls.
    pub fn move_by(&mut self, motion: Motion, count: usize, page: usize) {
        if let Some(to) = step(motion, self.selected, count, page) {
            self.selected = to;
        }
    }
}
