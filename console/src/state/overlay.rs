//! What lies over the panels.

use crate::action::{BINDINGS, FIRST_LABEL, Scope};
use crate::session::{HostExit, Order};
use crate::state::rollback::Rollback;

/// What lies over the panels, and has the keyboard.
#[derive(Debug, Clone, PartialEq)]
pub enum Overlay {
    /// The keys.
    Help {
        /// The first visible line.
        top: usize,
    },
    /// A text that scrolls.
    Details {
        /// What it is about.
        title: String,
        /// The text.
        lines: Vec<String>,
        /// The first visible line.
        top: usize,
    },
    /// A question; `y` orders, anything else forgets it.
    Confirm {
        /// The question.
        question: String,
        /// What to know before the answer.
        lines: Vec<String>,
        /// What is ordered.
        order: Order,
    },
    /// What a plugin can be rolled back to.
    Rollback(Rollback),
    /// The host's process ended by itself.
    HostEnded {
        /// How.
        exit: HostExit,
        /// Its process id.
        pid: Option<u32>,
    },
}

/// A line of the help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelpLine {
    /// Where the keys that follow apply.
    Heading(&'static str),
    /// Keys, and what they do.
    Keys(String, &'static str),
    /// Nothing.
    Blank,
}

/// The keys as they are mapped, those with one meaning on one line.
pub fn help_lines() -> Vec<HelpLine> {
    let mut lines = Vec::new();
    for (scope, heading) in [
        (Scope::Plugin, "Plugins and functions"),
        (Scope::Logs, "Logs"),
        (Scope::Text, "Logs and build output"),
        (Scope::Anywhere, "Everywhere"),
    ] {
        if !lines.is_empty() {
            lines.push(HelpLine::Blank);
        }
        lines.push(HelpLine::Heading(heading));
        let mut told: Vec<(String, &'static str)> = Vec::new();
        for binding in BINDINGS.iter().filter(|binding| binding.scope == scope) {
            match told.iter_mut().find(|(_, hint)| *hint == binding.hint) {
                Some((labels, _)) => {
                    labels.push(' ');
                    labels.push_str(binding.label);
                }
                None => told.push((binding.label.to_owned(), binding.hint)),
            }
        }
        if let Some((labels, _)) = told.iter_mut().find(|(_, hint)| *hint == "to the start") {
            labels.push(' ');
            labels.push_str(FIRST_LABEL);
        }
        lines.extend(told.into_iter().map(|(labels, hint)| HelpLine::Keys(labels, hint)));
    }
    lines.push(HelpLine::Blank);
    lines.push(HelpLine::Heading("In a form"));
    for (keys, hint) in [
        ("Enter", "invoke"),
        ("Tab Shift-Tab", "next and previous field"),
        ("↑ ↓", "what was typed before"),
        ("Esc", "close"),
    ] {
        lines.push(HelpLine::Keys(keys.into(), hint));
    }
    lines
}
