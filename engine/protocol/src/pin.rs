//! Pinned calls: a call that the host makes again in each new version of its plugin, to compare what it gives.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{WireError, version_label};

/// The largest number of calls that a host keeps pinned.
pub const MAX_PINS: usize = 32;

/// The largest size of a pinned call's arguments, and of each of its values that are kept, as JSON in bytes.
pub const MAX_PINNED_BYTES: usize = 8 * 1024;

/// Parameters of `pin`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinParams {
    /// The plugin; the version of it that serves is called.
    pub plugin: String,
    /// The function.
    pub function: String,
    /// The arguments in the order of the parameters.
    #[serde(default)]
    pub args: Vec<Value>,
    /// As of `invoke`: whether arguments are text from a command line.
    #[serde(default)]
    pub lenient: bool,
}

/// Parameters of `unpin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpinParams {
    /// The number of the pin.
    pub id: u64,
}

/// Answer of `pins`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Pins {
    /// The pinned calls, the oldest first.
    pub pins: Vec<PinnedCall>,
}

/// A call that is made again in each new version of its plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinnedCall {
    /// Its number, by which it is unpinned.
    pub id: u64,
    /// The plugin.
    pub plugin: String,
    /// The function.
    pub function: String,
    /// The arguments in the order of the parameters.
    pub args: Vec<Value>,
    /// As of `pin`: whether arguments are text from a command line.
    #[serde(default)]
    pub lenient: bool,
    /// What it gave in the version that serves.
    pub now: PinnedAnswer,
    /// What it gave in the version that was called before; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<PinnedAnswer>,
    /// Whether both gave the same; `None` if there is nothing to compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_same: Option<bool>,
}

impl PinnedCall {
    /// What pins it.
    pub fn params(&self) -> PinParams {
        PinParams {
            plugin: self.plugin.clone(),
            function: self.function.clone(),
            args: self.args.clone(),
            lenient: self.lenient,
        }
    }
}

/// What one version gave for a pinned call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinnedAnswer {
    /// The version.
    pub version: u32,
    /// The number of its patch that served; `None` if it was as it was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<u32>,
    /// When it was called, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How long the call took, in nanoseconds; `None` if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elapsed_ns: Option<u64>,
    /// What it gave.
    #[serde(flatten)]
    pub outcome: PinnedOutcome,
}

impl PinnedAnswer {
    /// What gave it: `v3`, or `v3+2` with its second patch.
    pub fn label(&self) -> String {
        version_label(self.version, self.patch)
    }
}

/// What a pinned call gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinnedOutcome {
    /// The function returned this.
    Value(Value),
    /// The function returned a value whose JSON has so many bytes, more than are kept.
    LargeValue(u64),
    /// The call failed, or was not made since the function has effects now.
    Error(WireError),
}
