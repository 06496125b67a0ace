//! Pinned calls: calls that the host repeats in each new version of their plugin, to compare the outcomes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{WireError, version_label};

/// The largest number of calls that a host keeps pinned.
pub const MAX_PINS: usize = 32;

/// The largest size, in bytes of JSON, of a pinned call's arguments and of each of its outcomes.
pub const MAX_PINNED_BYTES: usize = 8 * 1024;

/// Parameters of `pin`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinParams {
    /// The plugin whose serving version is called.
    pub plugin: String,
    /// The function.
    pub function: String,
    /// The arguments in the order of the parameters.
    #[serde(default)]
    pub args: Vec<Value>,
    /// The same as [`InvokeParams::lenient`](crate::InvokeParams::lenient).
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

/// A call that the host repeats in each new version of its plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinnedCall {
    /// The number of the pin, which `unpin` takes.
    pub id: u64,
    /// The plugin.
    pub plugin: String,
    /// The function.
    pub function: String,
    /// The arguments in the order of the parameters.
    pub args: Vec<Value>,
    /// The same as [`PinParams::lenient`].
    #[serde(default)]
    pub lenient: bool,
    /// The outcome in the version that serves.
    pub now: PinnedAnswer,
    /// The outcome in the version that was called before; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<PinnedAnswer>,
    /// Whether both outcomes are the same; `None` if there is nothing to compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_same: Option<bool>,
}

impl PinnedCall {
    /// The parameters of a `pin` that would pin the same call.
    pub fn params(&self) -> PinParams {
        PinParams {
            plugin: self.plugin.clone(),
            function: self.function.clone(),
            args: self.args.clone(),
            lenient: self.lenient,
        }
    }
}

/// The outcome of a pinned call in one version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinnedAnswer {
    /// The version.
    pub version: u32,
    /// The number of the patch that served; `None` if the version served as it was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<u32>,
    /// When it was called, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How long the call took, in nanoseconds; `None` if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elapsed_ns: Option<u64>,
    /// The outcome of the call.
    #[serde(flatten)]
    pub outcome: PinnedOutcome,
}

impl PinnedAnswer {
    /// The name of the version: `v3`, or `v3+2` with its second patch.
    pub fn label(&self) -> String {
        version_label(self.version, self.patch)
    }
}

/// The outcome of a pinned call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinnedOutcome {
    /// The function returned this.
    Value(Value),
    /// The function returned a value that is not kept, since its JSON has this many bytes.
    LargeValue(u64),
    /// The call failed, or was not made because the function has effects now.
    Error(WireError),
}
