//! The palette: every command, found by a few of its letters.

use hotswap_protocol::{PinParams, VersionState};
use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};
use tui_input::Input;

use super::State;
use super::rollback::Rollback;
use crate::host::operation::{Operation, shell_line};
use crate::screen::input::action::{Action, COMMANDS, Command};
use crate::screen::layout::Tab;

/// The palette.
#[derive(Debug, Clone, Default)]
pub struct Palette {
    /// What was typed.
    pub input: Input,
    /// Which of the commands that match is selected.
    pub selected: usize,
}

impl PartialEq for Palette {
    fn eq(&self, other: &Self) -> bool {
        (self.input.value(), self.selected) == (other.input.value(), other.selected)
    }
}

impl Palette {
    /// The commands that match what was typed, the best first; all in their order when nothing was.
    pub fn matches(&self) -> Vec<&'static Command> {
        let mut matcher = Matcher::new(Config::DEFAULT);
        let pattern =
            Pattern::parse(self.input.value(), CaseMatching::Ignore, Normalization::Smart);
        let mut buffer = Vec::new();
        let mut scored: Vec<(u32, &Command)> = COMMANDS
            .iter()
            // One does not look in the palette for the palette.
            .filter(|command| command.action != Action::Palette)
            .filter_map(|command| {
                let text = format!("{} {}", command.hint, command.name);
                let score = pattern.score(Utf32Str::new(&text, &mut buffer), &mut matcher)?;
                Some((score, command))
            })
            .collect();
        scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        scored.into_iter().map(|(_, command)| command).collect()
    }

    /// The selected command.
    pub fn chosen(&self) -> Option<&'static Command> {
        self.matches().get(self.selected).copied()
    }
}

/// The command line that does what this action does now; none where only a screen has it.
pub fn command_line(state: &State, action: &Action) -> Option<String> {
    let plugins = &state.plugins;
    match action {
        Action::Build => {
            let dir = state.host.package_dir(state.selected_package()?)?.display().to_string();
            let plugin_dir = state.host.plugin_dir.as_ref()?.display().to_string();
            Some(shell_line(["hotswap", "build", &dir, &plugin_dir]))
        }
        Action::Operate(operation) => Some(operation.command_line()),
        Action::Prune => Some(Operation::prune().command_line()),
        Action::Preview => Some("hotswap reload --dry-run".into()),
        Action::NextWatch => {
            let dir = state.host.dir.as_ref()?.display().to_string();
            let watch = format!("--watch={}", state.host.watch.next().as_argument());
            Some(shell_line(["hotswap", "run", &dir, &watch]))
        }
        Action::Invoke => invocation(state),
        Action::Free => {
            let row = plugins.selected()?;
            let is_replaced = row.version.state != VersionState::Active;
            let free = || Operation::free(&row.plugin.name, row.version.version);
            is_replaced.then(|| free().command_line())
        }
        Action::RollBack => {
            let row = plugins.selected()?;
            let rollback = Rollback::beginning_at(row.plugin, row.version);
            Some(Operation::rollback(rollback.target()?).command_line())
        }
        Action::Pin => pinning(state),
        Action::ListPins => Some(Operation::Pins.command_line()),
        Action::Details => Some(Operation::Status.command_line()),
        Action::Show(Tab::Live) => Some(Operation::Live.command_line()),
        Action::Show(Tab::Vault) => Some(Operation::Vault.command_line()),
        Action::ToggleFollow => Some("hotswap logs --follow".into()),
        Action::CopyAll => Some("hotswap logs".into()),
        _ => None,
    }
}

/// What pins the call that was made last.
fn pinning(state: &State) -> Option<String> {
    let last = state.functions.results.front()?.sides.first()?;
    let Operation::Invoke(call) = &last.operation else { return None };
    let plugin = call.plugin.split('@').next()?.to_owned();
    let (function, args) = (call.function.clone(), call.args.clone());
    let pin = PinParams { plugin, function, args, lenient: call.lenient };
    Some(Operation::Pin(pin).command_line())
}

/// The call that the form makes, or else one with its parameters' names for arguments.
fn invocation(state: &State) -> Option<String> {
    if let Some(call) = state.functions.form.as_ref().and_then(|form| form.call().ok()) {
        return Some(call.command_line());
    }
    let functions = state.plugins.functions();
    let function = functions.get(state.functions.selected).or(functions.first())?;
    let arguments = function.params.iter().map(|it| it.name.to_uppercase()).collect();
    let target = state.plugins.selected_target()?;
    Some(Operation::invoke(target, function.name.clone(), arguments).command_line())
}
