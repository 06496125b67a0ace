//! Pinned calls.

use hotswap_protocol::{PinParams, PinnedCall, UnpinParams};

use super::Effect;
use crate::format;
use crate::host::operation::Operation;
use crate::screen::input::action::Action;
use crate::screen::model::overlay::Overlay;
use crate::screen::model::pins::PinList;
use crate::screen::model::{Phase, State};
use crate::session::Order;

/// Pins the last call, or removes its pin.
pub(super) fn toggle(state: &mut State) -> Vec<Effect> {
    let last = state.functions.results.front().and_then(|result| result.sides.first());
    let Some(Operation::Invoke(call)) = last.map(|side| &side.operation) else {
        let key = state.key_of(&Action::Invoke);
        state.notify_info(format!("there is no call to pin yet; {key} opens the form"));
        return Vec::new();
    };
    if state.host.phase != Phase::Connected {
        state.notify_failure("no host is connected");
        return Vec::new();
    }
    let operation = match state.pins.of_call(call) {
        Some(pin) => Operation::Unpin(UnpinParams { id: pin.id }),
        None => Operation::Pin(PinParams {
            // A call of one version is pinned for all later versions.
            plugin: call.plugin.split('@').next().unwrap_or_default().to_owned(),
            function: call.function.clone(),
            args: call.args.clone(),
            lenient: call.lenient,
        }),
    };
    vec![Effect::Order(Order::Operate(operation))]
}

/// Shows the list of pinned calls.
pub(super) fn list(state: &mut State) {
    state.overlay = Some(Overlay::Pins(PinList::default()));
}

/// Carries out a key's action in the list.
pub(super) fn press(state: &mut State, mut list: PinList, action: Option<Action>) -> Vec<Effect> {
    let count = state.pins.in_order().len();
    let selected = state.pins.in_order().get(list.selected).copied().cloned();
    let mut effects = Vec::new();
    match (action, selected) {
        (Some(Action::Back | Action::Quit | Action::ListPins), _) => return effects,
        (Some(Action::Details), Some(pin)) => {
            let title = format!("{} {}", pin.plugin, format::call(&pin.function, &pin.args));
            state.overlay = Some(Overlay::Details { title, lines: details(&pin), top: 0 });
            return effects;
        }
        (Some(Action::Pin | Action::Cancel), Some(pin)) => {
            let unpin = Operation::Unpin(UnpinParams { id: pin.id });
            effects.push(Effect::Order(Order::Operate(unpin)));
            list.selected = list.selected.min(count.saturating_sub(2));
        }
        (Some(Action::Move(motion)), _) => list.move_by(motion, count, state.size.1.into()),
        _ => {}
    }
    state.overlay = Some(Overlay::Pins(list));
    effects
}

/// Takes the result of a pinned call, and reports it if it has changed.
pub(super) fn called(state: &mut State, at_ms: u64, pin: PinnedCall) {
    let call = format!("{} {}", pin.plugin, format::call(&pin.function, &pin.args));
    match (&pin.before, pin.is_same) {
        (Some(before), Some(false)) => {
            let [was, is] = [before, &pin.now].map(|it| format::pin_outcome(&it.outcome));
            let (from, to) = (before.label(), pin.now.label());
            let text = format!("{call} gives something else: {from} {was} → {to} {is}");
            state.logs.push_marker(at_ms, text);
            state.notify_warning(format!("pinned {call} gives something else in {to}"));
        }
        (None, _) => {
            state.notify_done(format!("{call} is pinned: it is called again after every reload"))
        }
        _ => {}
    }
    state.pins.called(pin);
}

/// Removes a pinned call from the list.
pub(super) fn unpinned(state: &mut State, id: u64) {
    if let Some(pin) = state.pins.remove(id) {
        let call = format::call(&pin.function, &pin.args);
        state.notify_done(format!("{} {call} is no longer pinned", pin.plugin));
    }
}

/// The full results of both versions.
fn details(pin: &PinnedCall) -> Vec<String> {
    let mut lines = vec![match pin.is_same {
        Some(true) => "It gives the same as in the version before.".to_owned(),
        Some(false) => "It gives something else than in the version before.".to_owned(),
        None => "It was not called in another version yet.".to_owned(),
    }];
    for answer in pin.before.iter().chain([&pin.now]) {
        let elapsed = answer.elapsed_ns.map(format::nanoseconds);
        let elapsed = elapsed.map_or_else(String::new, |elapsed| format!(", {elapsed}"));
        let at = format::clock(answer.at_ms);
        lines.extend([String::new(), format!("{} at {at}{elapsed}", answer.label())]);
        lines.push(format!("  {}", format::pin_outcome(&answer.outcome)));
    }
    lines
}
