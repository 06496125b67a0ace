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
    /// What is found by name alone.
    Live,
    /// What cargo said.
    Build,
    /// The reloads and the lives of the versions.
    Timeline,
    /// How versions differ.
    Diff,
}

impl Tab {
    /// All tabs, in their order on the screen.
    pub const ALL: [Self; 6] =
        [Self::Functions, Self::Vault, Self::Live, Self::Build, Self::Timeline, Self::Diff];

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Functions => "Functions",
            Self::Vault => "Vault",
            Self::Live => "Live",
            Self::Build => "Build",
            Self::Timeline => "Timeline",
            Self::Diff => "Diff",
        }
    }

    /// The tab beside it, around the ends.
    pub fn beside(self, forward: bool) -> Self {
        let count = Self::ALL.len();
        let step = if forward { 1 } else { count - 1 };
        Self::ALL[(self as usize + step) % count]
    }
}
