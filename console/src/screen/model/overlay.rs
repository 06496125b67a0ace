//! The overlays above the panels.

use crate::screen::model::crash::CrashCard;
use crate::screen::model::fleet::{FleetOrder, ReleaseChoice};
use crate::screen::model::palette::Palette;
use crate::screen::model::pins::PinList;
use crate::screen::model::preview::PreviewCard;
use crate::screen::model::rollback::Rollback;
use crate::session::Order;

/// An overlay above the panels. It has the keyboard.
#[derive(Debug, Clone, PartialEq)]
pub enum Overlay {
    /// The help: all keys.
    Help {
        /// The first visible row.
        top: usize,
    },
    /// All commands, found by some of their letters.
    Palette(Palette),
    /// A text that scrolls.
    Details {
        /// Its title.
        title: String,
        /// The text.
        lines: Vec<String>,
        /// The first visible row.
        top: usize,
    },
    /// A question: `y` gives the order, any other key drops it.
    Confirm {
        /// The question.
        question: String,
        /// What to know before answering.
        lines: Vec<String>,
        /// The order.
        order: Order,
        /// Whether `c` cancels the calls of this console first.
        cancels: bool,
    },
    /// A question about a fleet.
    FleetQuestion {
        /// The question.
        question: String,
        /// What to know before answering.
        lines: Vec<String>,
        /// The order.
        order: FleetOrder,
    },
    /// A choice among the releases of a fleet.
    Releases(ReleaseChoice),
    /// A line that is typed for the host's standard input.
    Input(HostInput),
    /// The preview of a reload.
    Preview(PreviewCard),
    /// The choice of a version or build to roll a plugin back to.
    Rollback(Box<Rollback>),
    /// The pinned calls.
    Pins(PinList),
    /// A report that the host's process ended by itself.
    HostEnded(CrashCard),
}

/// A line that is being typed for the host.
#[derive(Debug, Clone, Default)]
pub struct HostInput {
    /// The text so far.
    pub line: tui_input::Input,
}

impl PartialEq for HostInput {
    fn eq(&self, other: &Self) -> bool {
        self.line.value() == other.line.value()
    }
}

impl Overlay {
    /// A report about an invalid configuration.
    pub fn bad_configuration(problem: String) -> Self {
        let mut lines: Vec<String> = problem.lines().map(str::to_owned).collect();
        lines.extend([String::new(), "The default keys and colours are used.".into()]);
        Self::Details { title: "The configuration is wrong".into(), lines, top: 0 }
    }
}
