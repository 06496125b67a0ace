//! The palette: all commands and places, found by some of their letters.

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
    /// The text that was typed.
    pub input: Input,
    /// The index of the selected match.
    pub selected: usize,
    /// The places to go to.
    places: Vec<Destination>,
    /// Whether there is a fleet.
    has_fleet: bool,
}

/// A place to go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A plugin.
    Plugin(String),
    /// A function: its plugin and its name.
    Function(String, String),
    /// A row of the Vault: its path and its name.
    Value(String, String),
    /// A reload: its position in the Timeline and its title.
    Reload(usize, String),
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plugin(plugin) => write!(f, "go to plugin {plugin}"),
            Self::Function(plugin, function) => write!(f, "go to {plugin} {function}"),
            Self::Value(_, name) => write!(f, "go to Vault {name}"),
            Self::Reload(_, title) => write!(f, "go to {title}"),
        }
    }
}

/// An entry of the palette.
#[derive(Debug, Clone, Copy)]
pub enum Choice<'a> {
    /// A command to run.
    Command(&'static Command),
    /// A place to go to.
    Destination(&'a Destination),
}

impl Choice<'_> {
    /// A short description.
    pub fn hint(&self) -> String {
        match self {
            Self::Command(command) => command.hint.to_owned(),
            Self::Destination(destination) => destination.to_string(),
        }
    }
}

impl PartialEq for Palette {
    fn eq(&self, other: &Self) -> bool {
        (self.input.value(), self.selected) == (other.input.value(), other.selected)
    }
}

impl Palette {
    /// The palette for the present state.
    pub fn of(state: &State) -> Self {
        let plugins = state.plugins.list().iter();
        let mut places: Vec<Destination> =
            plugins.clone().map(|it| Destination::Plugin(it.name.clone())).collect();
        places.extend(plugins.flat_map(|plugin| {
            let functions = plugin.functions.iter();
            functions.map(|it| Destination::Function(plugin.name.clone(), it.name.clone()))
        }));
        places.extend(state.vault.names().map(|(path, name)| Destination::Value(path, name)));
        let reloads = state.timeline.reloads().iter().enumerate();
        places.extend(reloads.map(|(place, reload)| Destination::Reload(place, reload.title())));
        Self { places, has_fleet: state.fleet.is_known(), ..Self::default() }
    }

    /// The entries that match the typed text, best first; without text, all commands in their order.
    pub fn matches(&self) -> Vec<Choice<'_>> {
        let mut matcher = Matcher::new(Config::DEFAULT);
        let typed = self.input.value();
        let pattern = Pattern::parse(typed, CaseMatching::Ignore, Normalization::Smart);
        // The palette itself is not offered.
        let commands = COMMANDS.iter().filter(|command| match command.action {
            Action::Palette => false,
            Action::Fleet(_) | Action::Show(Tab::Fleet) => self.has_fleet,
            _ => true,
        });
        let commands = commands.map(|command| {
            (format!("{} {}", command.hint, command.name), Choice::Command(command))
        });
        let places = self.places.iter().filter(|_| !typed.is_empty());
        let places = places.map(|place| (place.to_string(), Choice::Destination(place)));
        let mut buffer = Vec::new();
        let scored = commands.chain(places).filter_map(|(text, choice)| {
            let score = pattern.score(Utf32Str::new(&text, &mut buffer), &mut matcher)?;
            Some((score, choice))
        });
        let mut scored: Vec<(u32, Choice<'_>)> = scored.collect();
        scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        scored.into_iter().map(|(_, choice)| choice).collect()
    }

    /// The selected entry.
    pub fn chosen(&self) -> Option<Choice<'_>> {
        self.matches().get(self.selected).copied()
    }
}

/// The command line that does the same as this action; `None` if only the screen can do it.
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
        Action::Fleet(action) => state.fleet.command_line(*action, state.now_ms),
        Action::Show(Tab::Fleet) => {
            state.fleet.is_known().then(|| state.fleet.command(&["status"]))
        }
        Action::ToggleFollow => Some("hotswap logs --follow".into()),
        Action::CopyAll => Some("hotswap logs".into()),
        _ => None,
    }
}

/// The command line that pins the last call.
fn pinning(state: &State) -> Option<String> {
    let last = state.functions.results.front()?.sides.first()?;
    let Operation::Invoke(call) = &last.operation else { return None };
    let plugin = call.plugin.split('@').next()?.to_owned();
    let (function, args) = (call.function.clone(), call.args.clone());
    let pin = PinParams { plugin, function, args, lenient: call.lenient };
    Some(Operation::Pin(pin).command_line())
}

/// The call of the form; without a form, a call with the names of the parameters as arguments.
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
