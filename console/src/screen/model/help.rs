//! The commands that make sense now, and the help, which lists them.

use std::path::Path;

use hotswap_protocol::{VersionInfo, VersionState};

use super::form::Form;
use super::{Phase, SearchField, State, leads};
use crate::format::wrap_words;
use crate::host::operation::Operation;
use crate::screen::input::action::{Action, Command, Scope};
use crate::screen::layout::{Panel, Tab, boxes};
use crate::session::Watch;

/// The width of the column of keys.
pub const KEYS_WIDTH: usize = 14;

/// A row of one column of the help.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HelpRow {
    /// The keys; empty for a heading, and for the continuation of a sentence.
    pub keys: String,
    /// The meaning of the keys, or the heading.
    pub text: String,
    /// Whether it is a heading.
    pub is_heading: bool,
}

/// Keys, and their meaning.
type Entry = (String, &'static str);

/// The keys of the form that are not commands.
const OF_FORM: &[(&str, &str)] = &[
    ("Enter", "Call the function."),
    ("Tab Shift-Tab", "Go to the next field, or the previous one."),
    ("↑ ↓", "Recall what was typed before."),
    ("Space ← →", "Choose, or add an item."),
    ("Ctrl-C", "Cancel the call."),
    ("Esc", "Close the form; the call goes on."),
];

/// The first steps for a new user: which file to edit, and what that will do. Empty once a function was called or
/// something was reloaded.
pub fn first_steps(state: &State) -> Vec<String> {
    let is_first = state.host.generation <= 1 && state.functions.results.is_empty();
    let plugin = state.plugins.selected().filter(|_| is_first && state.host.phase.has_host());
    let Some(plugin) = plugin.map(|row| &row.plugin.name) else { return Vec::new() };
    let key = |action: Action| state.key_of(&action);
    let mut steps = Vec::new();
    let dir = state.selected_package().and_then(|package| state.host.package_dir(package));
    if let Some(dir) = dir {
        let project = state.host.dir.as_deref().and_then(Path::parent);
        let file = dir.join("src/lib.rs");
        let file = project.and_then(|it| file.strip_prefix(it).ok()).unwrap_or(&file).display();
        let reload = key(Action::Operate(Operation::Reload));
        let then = match state.host.watch {
            Watch::On => format!("{plugin} is built and reloaded while the host runs."),
            Watch::Ask => format!("{plugin} is built, and reloaded if that breaks nothing in use."),
            Watch::Build => {
                let preview = key(Action::Preview);
                format!(
                    "{plugin} is built. {preview} shows what a reload changes, {reload} reloads."
                )
            }
            Watch::Off => {
                let build = key(Action::Build);
                format!("nothing happens by itself. {build} builds {plugin}, {reload} reloads.")
            }
        };
        steps.push(format!("Edit {file} and save: {then}"));
    }
    if !state.plugins.functions().is_empty() {
        steps.push(format!("{} calls the selected function.", key(Action::Invoke)));
    }
    steps.push(format!("{} lists the keys.", key(Action::Help)));
    steps
}

/// The rows of the help on this screen, each with one column or two. The part for the focused panel comes first.
pub fn rows(state: &State) -> Vec<Vec<HelpRow>> {
    let (count, width) = boxes::help_columns(state.size.0);
    let mut rows: Vec<HelpRow> = Vec::new();
    for (heading, entries) in sections(state) {
        if !rows.is_empty() {
            rows.push(HelpRow::default());
        }
        rows.push(HelpRow { text: heading.into(), is_heading: true, ..HelpRow::default() });
        rows.extend(entries.iter().flat_map(|entry| rows_of(entry, width)));
    }
    if count == 1 {
        return rows.into_iter().map(|row| vec![row]).collect();
    }
    // A sentence does not continue in the other column.
    let mut half = rows.len().div_ceil(2);
    while rows.get(half).is_some_and(|row| row.keys.is_empty() && !row.is_heading) {
        half += 1;
    }
    let right = rows.split_off(half.min(rows.len()));
    let right = right.into_iter().map(Some).chain(std::iter::repeat(None));
    rows.into_iter()
        .zip(right)
        .map(|(left, right)| [left].into_iter().chain(right).collect())
        .collect()
}

fn rows_of((keys, text): &Entry, width: usize) -> Vec<HelpRow> {
    let lines = wrap_words(text, width.saturating_sub(KEYS_WIDTH).max(1)).into_iter().enumerate();
    let row = |(position, text)| HelpRow {
        keys: if position == 0 { keys.clone() } else { String::new() },
        text,
        is_heading: false,
    };
    lines.map(row).collect()
}

/// The sections of the help that apply now, narrowest scope first.
fn sections(state: &State) -> Vec<(&'static str, Vec<Entry>)> {
    let mut sections = Vec::new();
    if state.form_has_keyboard() {
        let fixed = OF_FORM.iter().map(|(keys, text)| ((*keys).to_owned(), *text));
        let entries = fixed.chain(of_scope(state, Scope::Form)).collect();
        return vec![("In the form", entries)];
    }
    for scope in state.scopes() {
        let heading = match scope {
            Scope::Plugin => "Plugins and functions",
            Scope::Form => "In the form",
            Scope::Logs => "The log",
            Scope::Text => "Lines",
            Scope::Source => "Places in the sources",
            Scope::Fleet => "The fleet",
            Scope::Anywhere => "Everywhere",
        };
        let entries: Vec<Entry> = of_scope(state, *scope).collect();
        if !entries.is_empty() {
            sections.push((heading, entries));
        }
    }
    sections
}

/// The commands of a scope that have keys and make sense now.
fn of_scope(state: &State, scope: Scope) -> impl Iterator<Item = Entry> {
    let of_scope = state.keymap.labels().filter(move |(command, _)| command.scope == scope);
    let applying =
        of_scope.filter(|(command, labels)| !labels.is_empty() && makes_sense(state, command));
    applying.map(|(command, labels)| (labels.join(" "), command.help))
}

/// Whether the version was replaced but is still there.
fn is_replaced(version: &VersionInfo) -> bool {
    matches!(version.state, VersionState::Retired | VersionState::Pinned | VersionState::Kept)
}

/// Whether a command would have an effect now.
pub fn makes_sense(state: &State, command: &Command) -> bool {
    let phase = state.host.phase;
    let has_packages = !state.host.packages.is_empty();
    let was_called = !state.functions.results.is_empty();
    match command.action {
        Action::Cancel => state.job.is_some(),
        Action::CancelCall => state.functions.has_running_calls(),
        Action::Show(Tab::Fleet) => state.fleet.is_known(),
        Action::Fleet(action) => state.fleet.can(action, state.now_ms),
        Action::Build => has_packages && phase != Phase::Ended,
        Action::NextWatch | Action::TogglePatches => has_packages,
        Action::Restart => state.can_restart(),
        Action::TypeLine => state.host.is_ours && phase != Phase::Ended,
        Action::Free => state.plugins.selected().is_some_and(|row| is_replaced(row.version)),
        Action::GoToHolder => {
            let mut versions = state.plugins.list().iter().flat_map(|plugin| &plugin.versions);
            versions.any(is_replaced)
        }
        Action::GoTo(kind) => !leads::leads(state, kind).is_empty(),
        Action::Edit | Action::NextError | Action::PreviousError
            if (state.focus, state.tab) == (Panel::Tabs, Tab::Build) =>
        {
            state.builds.lines().iter().any(|line| line.diagnostic.is_some())
        }
        Action::AddItem => state.functions.form.as_ref().is_some_and(Form::can_add_item),
        Action::RemoveItem => state.functions.form.as_ref().is_some_and(Form::can_remove_item),
        Action::CallAgain | Action::ShowResult | Action::Pin => was_called,
        ref action if *action == Action::LET_GO => {
            state.plugins.list().iter().any(|plugin| plugin.is_rolled_back)
        }
        Action::NextMatch | Action::PreviousMatch => match state.filtered_here() {
            SearchField::Pattern => true,
            SearchField::Lines => !state.sought.is_empty(),
            _ => false,
        },
        _ => command.scope != Scope::Plugin || phase.has_host(),
    }
}
