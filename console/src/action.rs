//! Everything a person can do, and the keys that do it.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::operation::Operation;

/// Something to do. Keys make these, and so do tests.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Leave; asks first when that would end something.
    Quit,
    /// List the keys.
    Help,
    /// Close what is on top, or leave what was entered.
    Back,
    /// Show all there is to know of the selection.
    Details,
    /// Give the keyboard to the next panel.
    FocusNext,
    /// Give the keyboard to the previous panel.
    FocusPrevious,
    /// Give the keyboard to this panel.
    Focus(Panel),
    /// Show the next tab.
    NextTab,
    /// Show the previous tab.
    PreviousTab,
    /// Move in the focused panel.
    Move(Motion),
    /// Let the focused panel fill the screen, or no longer.
    Zoom,
    /// Build the selected plugin.
    Build,
    /// Ask the host for something.
    Operate(Operation),
    /// Rebuild and reload by itself, or no longer.
    ToggleWatch,
    /// Open the form that calls the selected function.
    Invoke,
    /// Free the selected version; asks first.
    Free,
    /// Choose an earlier version or build to go back to.
    RollBack,
    /// Cancel the running job.
    Cancel,
    /// Start the host anew; asks first while it runs.
    Restart,
    /// Show new log lines as they come, or no longer.
    ToggleFollow,
    /// Hold the log still, or go on.
    Pause,
    /// Type what the log lines must contain.
    Search,
    /// Go to the next line that matches.
    NextMatch,
    /// Go to the previous line that matches.
    PreviousMatch,
    /// Raise the least level that is shown; after the highest, show all.
    NextLevel,
    /// Go to the next error.
    NextError,
    /// Go to the previous error.
    PreviousError,
    /// Wrap long lines, or cut them.
    ToggleWrap,
    /// Copy the selected line.
    CopyLine,
    /// Copy all lines that the filter shows.
    CopyAll,
    /// Give the terminal back to the shell for a while.
    Suspend,
}

/// A part of the screen that can have the keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Panel {
    /// The plugins and their versions.
    Plugins,
    /// The tabs.
    Tabs,
    /// The host's log.
    Logs,
}

/// A way to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// One line up.
    Up,
    /// One line down.
    Down,
    /// To what is on the left.
    Left,
    /// To what is on the right.
    Right,
    /// To the first line.
    First,
    /// To the last line.
    Last,
    /// As many lines up as are visible.
    PageUp,
    /// As many lines down as are visible.
    PageDown,
}

/// Where a key applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    Anywhere,
    /// Where the plugins, or what belongs to one, are in front.
    Plugin,
    /// In the log.
    Logs,
    /// In the log and among a build's output.
    Text,
}

/// A key and what it does.
pub struct Binding {
    /// The key as people write it.
    pub label: &'static str,
    code: KeyCode,
    modifiers: KeyModifiers,
    /// What it does.
    pub action: Action,
    /// What it does, in a word or two.
    pub hint: &'static str,
    /// Where it applies.
    pub scope: Scope,
}

const fn key(
    label: &'static str,
    code: KeyCode,
    action: Action,
    hint: &'static str,
    scope: Scope,
) -> Binding {
    Binding { label, code, modifiers: KeyModifiers::NONE, action, hint, scope }
}

const fn letter(
    letter: char,
    label: &'static str,
    action: Action,
    hint: &'static str,
    scope: Scope,
) -> Binding {
    key(label, KeyCode::Char(letter), action, hint, scope)
}

const fn control(letter: char, label: &'static str, action: Action, hint: &'static str) -> Binding {
    Binding {
        label,
        code: KeyCode::Char(letter),
        modifiers: KeyModifiers::CONTROL,
        action,
        hint,
        scope: Scope::Anywhere,
    }
}

/// All keys; the more telling ones of a scope first, since the footer shows as many as fit.
pub static BINDINGS: &[Binding] = {
    use Action as A;
    use Scope::{Anywhere, Logs, Plugin, Text};
    &[
        letter('b', "b", A::Build, "build", Plugin),
        letter('r', "r", A::Operate(Operation::Reload), "reload", Plugin),
        letter('i', "i", A::Invoke, "invoke", Plugin),
        letter('R', "R", A::RollBack, "roll back", Plugin),
        letter('D', "D", A::Free, "free", Plugin),
        letter('/', "/", A::Search, "filter", Logs),
        letter('l', "l", A::NextLevel, "level", Logs),
        letter('f', "f", A::ToggleFollow, "follow", Logs),
        letter(' ', "Space", A::Pause, "pause", Logs),
        letter('e', "e", A::NextError, "next error", Text),
        letter('E', "E", A::PreviousError, "previous error", Text),
        letter('n', "n", A::NextMatch, "next match", Logs),
        letter('N', "N", A::PreviousMatch, "previous match", Logs),
        letter('W', "W", A::ToggleWrap, "wrap", Logs),
        letter('y', "y", A::CopyLine, "copy line", Logs),
        letter('Y', "Y", A::CopyAll, "copy all shown", Logs),
        letter('w', "w", A::ToggleWatch, "watch on/off", Plugin),
        letter('x', "x", A::Cancel, "cancel job", Anywhere),
        letter('H', "H", A::Restart, "restart host", Anywhere),
        letter('z', "z", A::Zoom, "zoom", Anywhere),
        letter('?', "?", A::Help, "help", Anywhere),
        letter('q', "q", A::Quit, "quit", Anywhere),
        key("Tab", KeyCode::Tab, A::FocusNext, "next panel", Anywhere),
        key("Shift-Tab", KeyCode::BackTab, A::FocusPrevious, "previous panel", Anywhere),
        letter('1', "1", A::Focus(Panel::Plugins), "plugins", Anywhere),
        letter('2', "2", A::Focus(Panel::Tabs), "tabs", Anywhere),
        letter('3', "3", A::Focus(Panel::Logs), "logs", Anywhere),
        letter('[', "[", A::PreviousTab, "previous tab", Anywhere),
        letter(']', "]", A::NextTab, "next tab", Anywhere),
        key("Enter", KeyCode::Enter, A::Details, "details", Anywhere),
        key("Esc", KeyCode::Esc, A::Back, "back", Anywhere),
        key("↑", KeyCode::Up, A::Move(Motion::Up), "up", Anywhere),
        letter('k', "k", A::Move(Motion::Up), "up", Anywhere),
        key("↓", KeyCode::Down, A::Move(Motion::Down), "down", Anywhere),
        letter('j', "j", A::Move(Motion::Down), "down", Anywhere),
        key("←", KeyCode::Left, A::Move(Motion::Left), "left", Anywhere),
        letter('h', "h", A::Move(Motion::Left), "left", Anywhere),
        key("→", KeyCode::Right, A::Move(Motion::Right), "right", Anywhere),
        letter('l', "l", A::Move(Motion::Right), "right", Anywhere),
        key("PgUp", KeyCode::PageUp, A::Move(Motion::PageUp), "a page up", Anywhere),
        key("PgDn", KeyCode::PageDown, A::Move(Motion::PageDown), "a page down", Anywhere),
        key("Home", KeyCode::Home, A::Move(Motion::First), "to the start", Anywhere),
        key("End", KeyCode::End, A::Move(Motion::Last), "to the end", Anywhere),
        letter('G', "G", A::Move(Motion::Last), "to the end", Anywhere),
        key("F1", KeyCode::F(1), A::Help, "help", Anywhere),
        control('c', "Ctrl-C", A::Quit, "quit"),
        control('z', "Ctrl-Z", A::Suspend, "suspend"),
    ]
};

/// The label of `g` `g`, the one key that is pressed twice.
pub const FIRST_LABEL: &str = "g g";

/// What a key does where the keyboard is in `focus`; the narrower scope wins.
pub fn of_key(key: KeyEvent, scopes: &[Scope]) -> Option<Action> {
    // Whether a capital came with Shift told or not differs between terminals.
    let modifiers = key.modifiers - KeyModifiers::SHIFT;
    BINDINGS
        .iter()
        .filter(|binding| binding.code == key.code && binding.modifiers == modifiers)
        .find(|binding| scopes.contains(&binding.scope))
        .map(|binding| binding.action.clone())
}
