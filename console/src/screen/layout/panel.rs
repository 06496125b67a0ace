//! The parts of the screen.

use serde::{Deserialize, Serialize};

/// A part of the screen that can have the keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Panel {
    /// The plugins and their versions.
    Plugins,
    /// The tabs.
    Tabs,
    /// The host's log.
    Logs,
}

/// A tab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tab {
    /// The selected plugin's functions.
    Functions,
    /// The Vault.
    Vault,
    /// The live functions and types, which are found by name alone.
    Live,
    /// The output of cargo.
    Build,
    /// The reloads and the lives of the versions.
    Timeline,
    /// The differences between versions.
    Diff,
    /// The hosts of a fleet, and its rollout.
    Fleet,
}

impl Tab {
    /// All tabs, in their order on the screen.
    pub const ALL: [Self; 7] = [
        Self::Functions,
        Self::Vault,
        Self::Live,
        Self::Build,
        Self::Timeline,
        Self::Diff,
        Self::Fleet,
    ];

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Functions => "Functions",
            Self::Vault => "Vault",
            Self::Live => "Live",
            Self::Build => "Build",
            Self::Timeline => "Timeline",
            Self::Diff => "Diff",
            Self::Fleet => "Fleet",
        }
    }

    /// The next one of these tabs, or the previous one; wraps around.
    pub fn beside(self, tabs: &[Self], forward: bool) -> Self {
        let place = tabs.iter().position(|tab| *tab == self).unwrap_or_default();
        let step = if forward { 1 } else { tabs.len().saturating_sub(1) };
        tabs.get((place + step) % tabs.len().max(1)).copied().unwrap_or(self)
    }
}
