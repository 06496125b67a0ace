//! All actions of a person, and the commands that name them.

use crate::host::operation::Operation;
use crate::screen::layout::{Panel, Tab};

/// An action. Keys and tests make it.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Leave the console; asks first if that would end something.
    Quit,
    /// List the keys.
    Help,
    /// Search for a command by its name.
    Palette,
    /// Close the topmost overlay, or leave what was entered.
    Back,
    /// Show the details of the selection.
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
    /// Show this tab.
    Show(Tab),
    /// Draw the whole screen again.
    Redraw,
    /// Repeat the last call.
    CallAgain,
    /// Pin the last call, so that it is repeated in each new version of its plugin, or remove its pin.
    Pin,
    /// List the pinned calls.
    ListPins,
    /// Move in the focused panel.
    Move(Motion),
    /// Let the focused panel fill the screen, or show all panels again.
    Zoom,
    /// Build the selected plugin.
    Build,
    /// Send an operation to the host.
    Operate(Operation),
    /// Unload plugins whose artifacts are gone; asks first.
    Prune,
    /// Type a line for the host's standard input.
    TypeLine,
    /// Choose whether a save is built and reloaded, only built, or ignored.
    NextWatch,
    /// Choose whether builds are loaded as patches of running versions, if possible, or always as whole versions.
    TogglePatches,
    /// Open the form that calls the selected function.
    Invoke,
    /// Show what a reload would change, without reloading.
    Preview,
    /// Make the selected version the base of comparisons, or stop comparing with it.
    CompareWith,
    /// In the form: choose another version to call as well, or none.
    Compare,
    /// In the form: call ten times as often; after the maximum, once.
    Repeat,
    /// In the form: type the arguments as JSON, or in fields again.
    ToggleJson,
    /// In the form: add an item to a list.
    AddItem,
    /// In the form: remove an item or an optional value.
    RemoveItem,
    /// Show the whole newest result.
    ShowResult,
    /// Keep the selected version loaded for calls, or let it go.
    ToggleHold,
    /// Go to what keeps the selected version in use, or to the next thing that does.
    GoToHolder,
    /// Go to the first function that is worth a look for this reason, or to the next one.
    GoTo(LeadKind),
    /// Free the selected version; asks first.
    Free,
    /// Choose an earlier version or build to roll back to.
    RollBack,
    /// Cancel the running job.
    Cancel,
    /// Cancel the running calls.
    CancelCall,
    /// Show the last notices.
    Messages,
    /// Restart the host; asks first while it runs.
    Restart,
    /// Follow new log lines, or stop following.
    ToggleFollow,
    /// Stop following the log, or follow it again.
    Pause,
    /// Type the pattern that log lines must match.
    Search,
    /// Type a search text; lines that do not match stay visible.
    Find,
    /// Type the filter by writer: plugins, versions, targets.
    FilterWriters,
    /// Hide the lines that match instead of the others, or the other way round.
    Invert,
    /// Go to the next line that matches.
    NextMatch,
    /// Go to the previous line that matches.
    PreviousMatch,
    /// Raise the lowest level that is shown; after the highest level, show all.
    NextLevel,
    /// Go to the next error.
    NextError,
    /// Go to the previous error.
    PreviousError,
    /// Switch between wrapping long lines and cutting them.
    ToggleWrap,
    /// Mark the selected line, or remove its mark.
    Mark,
    /// Go to the next marked line.
    NextMark,
    /// Begin a selection of several lines, or end it.
    Select,
    /// Write all lines that pass the filter to a file.
    Export,
    /// Open the source of the selected line of a build, a difference or the log.
    Edit,
    /// Copy the selected lines.
    CopyLine,
    /// Copy all lines that pass the filter.
    CopyAll,
    /// Use the next theme: dark, light, without colours.
    NextTheme,
    /// Switch between taking clicks and the wheel, and leaving them to the terminal.
    ToggleMouse,
    /// Suspend the console, and give the terminal back to the shell.
    Suspend,
    /// Carry out this action on the fleet.
    Fleet(FleetAction),
}

/// A reason to look at functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeadKind {
    /// The last reload changed the functions.
    Changed,
    /// Calls of the functions take long, or took long.
    Slow,
}

/// An action on a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FleetAction {
    /// Open the console of the selected host.
    Open,
    /// Show the details of the selected host.
    Describe,
    /// Make the release of the rollout the base of all hosts; asks first.
    Promote,
    /// Pause the rollout.
    Pause,
    /// Resume a paused rollout; asks first.
    Resume,
    /// End the rollout, and roll all hosts back to the base; asks first.
    Abort,
    /// Choose an earlier release for all hosts.
    RollBack,
    /// Choose a release for the selected host.
    Pin,
    /// Remove the pin of the selected host, so that it runs the release that is declared for all; asks first.
    Unpin,
}

impl Action {
    /// The action that ends a rollback: a reload of all changes, also of those that the rollback keeps back.
    pub const LET_GO: Self = Self::Operate(Operation::ReloadLatest);
}

/// A way to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// One line up.
    Up,
    /// One line down.
    Down,
    /// To the left.
    Left,
    /// To the right.
    Right,
    /// To the first line.
    First,
    /// To the last line.
    Last,
    /// One page up.
    PageUp,
    /// One page down.
    PageDown,
}

/// The place where a key applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    Anywhere,
    /// Where the plugins or parts of one plugin have the keyboard.
    Plugin,
    /// In the form that calls a function.
    Form,
    /// In the log.
    Logs,
    /// In the log and in the output of builds.
    Text,
    /// Where a place in the sources can be selected: in the output of builds, in a difference, and in the log.
    Source,
    /// In the list of a fleet's hosts.
    Fleet,
}

/// A named action.
#[derive(Debug)]
pub struct Command {
    /// Its name in the configuration.
    pub name: &'static str,
    /// The action.
    pub action: Action,
    /// A description in a word or two.
    pub hint: &'static str,
    /// A description in a sentence.
    pub help: &'static str,
    /// The scope of its keys.
    pub scope: Scope,
    /// Its default keys.
    pub keys: &'static [&'static str],
}

const fn command(
    scope: Scope,
    name: &'static str,
    action: Action,
    hint: &'static str,
    keys: &'static [&'static str],
    help: &'static str,
) -> Command {
    Command { name, action, hint, help, scope, keys }
}

/// All commands. Within a scope the most useful ones come first, because the footer shows as many as fit.
pub static COMMANDS: &[Command] = {
    use Action as A;
    use FleetAction as F;
    use Scope::{Anywhere, Fleet, Form, Logs, Plugin, Source, Text};
    &[
        command(
            Plugin,
            "build",
            A::Build,
            "build",
            &["b"],
            "Build the selected plugin, and those that did not compile.",
        ),
        command(
            Plugin,
            "reload",
            A::Operate(Operation::Reload),
            "reload",
            &["r"],
            "Reload every plugin whose artifact has changed.",
        ),
        command(
            Plugin,
            "preview",
            A::Preview,
            "preview",
            &["p"],
            "Show what a reload would change, before it is done.",
        ),
        command(
            Plugin,
            "invoke",
            A::Invoke,
            "invoke",
            &["i"],
            "Open the form that calls the selected function.",
        ),
        command(
            Plugin,
            "changes",
            A::GoTo(LeadKind::Changed),
            "what changed",
            &["d"],
            "Go to what the last reload changed; again: to the next function that it changed.",
        ),
        command(
            Plugin,
            "roll-back",
            A::RollBack,
            "roll back",
            &["R"],
            "Choose an earlier version or build to go back to.",
        ),
        command(
            Plugin,
            "holder",
            A::GoToHolder,
            "who holds it",
            &["u"],
            "Show what keeps the selected version in use.",
        ),
        command(
            Plugin,
            "slowest",
            A::GoTo(LeadKind::Slow),
            "slowest call",
            &["s"],
            "Go to the call that runs longest, or to the slowest function; again: to the next.",
        ),
        command(
            Plugin,
            "free",
            A::Free,
            "free",
            &["D"],
            "Free the selected version, which another one has replaced.",
        ),
        command(
            Plugin,
            "watch",
            A::NextWatch,
            "watch mode",
            &["w"],
            "Choose what a save does: reload, ask if breaking, build only, or nothing.",
        ),
        command(
            Plugin,
            "compare",
            A::CompareWith,
            "compare with…",
            &["c"],
            "Compare other versions with the selected one.",
        ),
        command(
            Plugin,
            "reload-latest",
            A::LET_GO,
            "let go of a rollback",
            &["L"],
            "End a rollback, and load the newest build.",
        ),
        command(
            Plugin,
            "prune",
            A::Prune,
            "unload what has no artifact",
            &["P"],
            "Unload plugins whose artifact is gone.",
        ),
        command(
            Plugin,
            "patches",
            A::TogglePatches,
            "patches on/off",
            &["B"],
            "Patch versions that run, or load each build as a whole.",
        ),
        command(
            Fleet,
            "fleet-open",
            A::Fleet(F::Open),
            "open its console",
            &["Enter"],
            "Open the console of the selected host.",
        ),
        command(
            Fleet,
            "fleet-promote",
            A::Fleet(F::Promote),
            "promote",
            &["P"],
            "Make all hosts run the release that is being tried, whatever the evidence.",
        ),
        command(Fleet, "fleet-pause", A::Fleet(F::Pause), "pause", &["p"], "Let the rollout wait."),
        command(
            Fleet,
            "fleet-resume",
            A::Fleet(F::Resume),
            "resume",
            &["r"],
            "Let a paused rollout go on.",
        ),
        command(
            Fleet,
            "fleet-abort",
            A::Fleet(F::Abort),
            "abort",
            &["a"],
            "End the rollout: all hosts go back to the base.",
        ),
        command(
            Fleet,
            "fleet-roll-back",
            A::Fleet(F::RollBack),
            "roll back",
            &["R"],
            "Choose an earlier release for all hosts.",
        ),
        command(
            Fleet,
            "fleet-pin",
            A::Fleet(F::Pin),
            "pin the host",
            &["K"],
            "Choose a release for the selected host alone.",
        ),
        command(
            Fleet,
            "fleet-unpin",
            A::Fleet(F::Unpin),
            "unpin the host",
            &["U"],
            "Let the selected host run what is declared for all.",
        ),
        command(
            Fleet,
            "fleet-host",
            A::Fleet(F::Describe),
            "about the host",
            &["i"],
            "Show all details of the selected host.",
        ),
        command(Form, "json", A::ToggleJson, "JSON", &["F4"], "Type the arguments as JSON."),
        command(
            Form,
            "beside",
            A::Compare,
            "A/B with another",
            &["F5"],
            "Call another version too, and compare both.",
        ),
        command(
            Form,
            "repeat",
            A::Repeat,
            "repeat",
            &["F6"],
            "Call ten times as often, up to a limit, then once again.",
        ),
        command(Form, "add-item", A::AddItem, "add item", &["Ctrl-N"], "Add an item to the list."),
        command(
            Form,
            "remove-item",
            A::RemoveItem,
            "remove item",
            &["Ctrl-X"],
            "Remove the item, or the optional value.",
        ),
        command(
            Anywhere,
            "filter",
            A::Search,
            "filter",
            &["/"],
            "Show only what contains a text. In the Build, Diff and Timeline tabs, go to it.",
        ),
        command(
            Logs,
            "level",
            A::NextLevel,
            "level",
            &["l"],
            "Raise the least level that is shown; after the highest, show all.",
        ),
        command(
            Logs,
            "follow",
            A::ToggleFollow,
            "follow",
            &["f"],
            "Show new lines as they come, or stay.",
        ),
        command(Logs, "pause", A::Pause, "pause", &["Space"], "Stay at these lines, or go on."),
        command(
            Source,
            "edit",
            A::Edit,
            "edit the source",
            &["o"],
            "Open the source of the selected line in your editor.",
        ),
        command(Text, "next-error", A::NextError, "next error", &["e"], "Go to the next error."),
        command(
            Text,
            "previous-error",
            A::PreviousError,
            "previous error",
            &["E"],
            "Go to the previous error.",
        ),
        command(
            Logs,
            "target",
            A::FilterWriters,
            "plugin, version, target",
            &["t"],
            "Show only lines of these plugins, versions or targets.",
        ),
        command(
            Logs,
            "search",
            A::Find,
            "search",
            &["s"],
            "Mark the lines that contain a text; the others stay.",
        ),
        command(
            Anywhere,
            "next-match",
            A::NextMatch,
            "next match",
            &["n"],
            "Go to the next line that matches.",
        ),
        command(
            Anywhere,
            "previous-match",
            A::PreviousMatch,
            "previous match",
            &["N"],
            "Go to the previous line that matches.",
        ),
        command(
            Logs,
            "invert",
            A::Invert,
            "invert the filter",
            &["!"],
            "Hide the lines that match, or the others.",
        ),
        command(
            Logs,
            "mark",
            A::Mark,
            "mark",
            &["m"],
            "Mark the selected line, or remove the mark.",
        ),
        command(Logs, "next-mark", A::NextMark, "next mark", &["M"], "Go to the next marked line."),
        command(
            Logs,
            "select",
            A::Select,
            "select lines",
            &["v"],
            "Begin to select several lines, or end it.",
        ),
        command(
            Logs,
            "export",
            A::Export,
            "write to a file",
            &["X"],
            "Write all lines that are shown to a file.",
        ),
        command(Logs, "wrap", A::ToggleWrap, "wrap", &["W"], "Wrap long lines, or cut them."),
        command(Logs, "copy-line", A::CopyLine, "copy", &["y"], "Copy the selected lines."),
        command(
            Logs,
            "copy-all",
            A::CopyAll,
            "copy all shown",
            &["Y"],
            "Copy all lines that are shown.",
        ),
        command(
            Anywhere,
            "result",
            A::ShowResult,
            "last result",
            &["o"],
            "Show the newest result in full.",
        ),
        command(
            Anywhere,
            "hold",
            A::ToggleHold,
            "keep loaded",
            &["K"],
            "Keep the selected version loaded, or let it go.",
        ),
        command(Anywhere, "again", A::CallAgain, "call again", &["."], "Make the last call again."),
        command(
            Anywhere,
            "pin",
            A::Pin,
            "pin the last call",
            &["a"],
            "Repeat the last call after every reload, or stop repeating it.",
        ),
        command(
            Anywhere,
            "pins",
            A::ListPins,
            "pinned calls",
            &["A"],
            "List the calls that are repeated after every reload.",
        ),
        command(Anywhere, "cancel", A::Cancel, "cancel job", &["x"], "Cancel the running job."),
        command(
            Anywhere,
            "cancel-call",
            A::CancelCall,
            "cancel call",
            &["C"],
            "Cancel the calls that run.",
        ),
        command(Anywhere, "messages", A::Messages, "messages", &["M"], "Show the latest messages."),
        command(
            Anywhere,
            "input",
            A::TypeLine,
            "type for the host",
            &[">"],
            "Type a line for the host's standard input.",
        ),
        command(
            Anywhere,
            "restart",
            A::Restart,
            "restart host",
            &["H"],
            "Build the host and start it again.",
        ),
        command(Anywhere, "palette", A::Palette, "commands", &[":"], "Find a command by its name."),
        command(
            Anywhere,
            "zoom",
            A::Zoom,
            "zoom",
            &["z"],
            "Show only this panel, or all panels again.",
        ),
        command(
            Anywhere,
            "quit",
            A::Quit,
            "quit",
            &["q", "Ctrl-C"],
            "Quit; the host ends too, if it was started here.",
        ),
        command(Anywhere, "help", A::Help, "help", &["?", "F1"], "Show this help."),
        command(
            Anywhere,
            "details",
            A::Details,
            "details",
            &["Enter"],
            "Show all details of the selection.",
        ),
        command(
            Anywhere,
            "back",
            A::Back,
            "back",
            &["Esc"],
            "Close what is on top, or clear a filter.",
        ),
        command(
            Anywhere,
            "next-panel",
            A::FocusNext,
            "next panel",
            &["Tab"],
            "Go to the next panel.",
        ),
        command(
            Anywhere,
            "previous-panel",
            A::FocusPrevious,
            "previous panel",
            &["Shift-Tab"],
            "Go to the previous panel.",
        ),
        command(
            Anywhere,
            "plugins",
            A::Focus(Panel::Plugins),
            "plugins",
            &["1"],
            "Go to the plugins.",
        ),
        command(Anywhere, "tabs", A::Focus(Panel::Tabs), "tabs", &["2"], "Go to the tabs."),
        command(Anywhere, "logs", A::Focus(Panel::Logs), "logs", &["3"], "Go to the log."),
        command(Anywhere, "next-tab", A::NextTab, "next tab", &["]"], "Show the next tab."),
        command(
            Anywhere,
            "previous-tab",
            A::PreviousTab,
            "previous tab",
            &["["],
            "Show the previous tab.",
        ),
        command(
            Anywhere,
            "functions",
            A::Show(Tab::Functions),
            "show the functions",
            &["Alt-1"],
            "Show the functions.",
        ),
        command(
            Anywhere,
            "vault",
            A::Show(Tab::Vault),
            "show the Vault",
            &["Alt-2"],
            "Show the Vault.",
        ),
        command(
            Anywhere,
            "live",
            A::Show(Tab::Live),
            "show the live tables",
            &["Alt-3"],
            "Show the live functions and types.",
        ),
        command(
            Anywhere,
            "builds",
            A::Show(Tab::Build),
            "show the builds",
            &["Alt-4"],
            "Show what the builds printed.",
        ),
        command(
            Anywhere,
            "timeline",
            A::Show(Tab::Timeline),
            "show the timeline",
            &["Alt-5"],
            "Show the reloads, and how long each step took.",
        ),
        command(
            Anywhere,
            "diff",
            A::Show(Tab::Diff),
            "show the differences",
            &["Alt-6"],
            "Show how versions differ.",
        ),
        command(
            Anywhere,
            "fleet",
            A::Show(Tab::Fleet),
            "show the fleet",
            &["Alt-7"],
            "Show the hosts of the fleet, and how its rollout goes.",
        ),
        command(Anywhere, "up", A::Move(Motion::Up), "up", &["Up", "k"], "Go up."),
        command(Anywhere, "down", A::Move(Motion::Down), "down", &["Down", "j"], "Go down."),
        command(
            Anywhere,
            "left",
            A::Move(Motion::Left),
            "left",
            &["Left", "h"],
            "Go left, or close a row.",
        ),
        command(
            Anywhere,
            "right",
            A::Move(Motion::Right),
            "right",
            &["Right", "l"],
            "Go right, or open a row.",
        ),
        command(
            Anywhere,
            "page-up",
            A::Move(Motion::PageUp),
            "a page up",
            &["PgUp"],
            "Go a page up.",
        ),
        command(
            Anywhere,
            "page-down",
            A::Move(Motion::PageDown),
            "a page down",
            &["PgDn"],
            "Go a page down.",
        ),
        command(
            Anywhere,
            "first",
            A::Move(Motion::First),
            "to the start",
            &["Home", "g g"],
            "Go to the first line.",
        ),
        command(
            Anywhere,
            "last",
            A::Move(Motion::Last),
            "to the end",
            &["End", "G"],
            "Go to the last line.",
        ),
        command(
            Anywhere,
            "theme",
            A::NextTheme,
            "next theme",
            &["T"],
            "Use the next theme: dark, light, without colours.",
        ),
        command(
            Anywhere,
            "mouse",
            A::ToggleMouse,
            "mouse on/off",
            &["F2"],
            "Take clicks and the wheel, or leave them to the terminal.",
        ),
        command(
            Anywhere,
            "redraw",
            A::Redraw,
            "draw again",
            &["Ctrl-L"],
            "Draw the whole screen again.",
        ),
        command(
            Anywhere,
            "suspend",
            A::Suspend,
            "suspend",
            &["Ctrl-Z"],
            "Give the terminal back to the shell for a while.",
        ),
    ]
};
