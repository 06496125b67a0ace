//! What lies over the panels.

use crate::screen::model::crash::CrashCard;
use crate::screen::model::fleet::{FleetOrder, ReleaseChoice};
use crate::screen::model::palette::Palette;
use crate::screen::model::pins::PinList;
use crate::screen::model::preview::PreviewCard;
use crate::screen::model::rollback::Rollback;
use crate::session::Order;

/// What lies over the panels, and has the keyboard.
#[derive(Debug, Clone, PartialEq)]
pub enum Overlay {
    /// The keys.
    Help {
        /// The first visible row.
        top: usize,
    },
    /// Every command, found by a few of its letters.
    Palette(Palette),
    /// A text that scrolls.
    Details {
        /// What it is about.
        title: String,
        /// The text.
        lines: Vec<String>,
        /// The first visible row.
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
        /// Whether `c` cancels the calls of this console first.
        cancels: bool,
    },
    /// The same of a fleet.
    FleetQuestion {
        /// The question.
        question: String,
        /// What to know before the answer.
        lines: Vec<String>,
        /// What is ordered.
        order: FleetOrder,
    },
    /// The releases of a fleet, to choose one.
    Releases(ReleaseChoice),
    /// A line that is typed for the host's standard input.
    Input(HostInput),
    /// What a reload would change.
    Preview(PreviewCard),
    /// What a plugin can be rolled back to.
    Rollback(Box<Rollback>),
    /// The pinned calls.
    Pins(PinList),
    /// The host's process ended by itself.
    HostEnded(CrashCard),
}

/// A line that is typed for the host.
#[derive(Debug, Clone, Default)]
pub struct HostInput {
    /// What was typed.
    pub line: tui_input::Input,
}

impl PartialEq for HostInput {
    fn eq(&self, other: &Self) -> bool {
        self.line.value() == other.line.value()
    }
}

impl Overlay {
    /// Tells what is wrong with the configuration.
    pub fn bad_configuration(problem: String) -> Self {
        let mut lines: Vec<String> = problem.lines().map(str::to_owned).collect();
        lines.extend([String::new(), "The default keys and colours are used.".into()]);
        Self::Details { title: "The configuration is wrong".into(), lines, top: 0 }
    }
}
