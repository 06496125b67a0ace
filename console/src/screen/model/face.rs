//! The code of a plugin that serves: a version, and its patch.

use hotswap_protocol::{VersionInfo, version_label};

/// A version and its patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Face {
    /// The version.
    pub version: u32,
    /// The number of its patch; `None` for the version as loaded.
    pub patch: Option<u32>,
}

impl Face {
    /// The version and its present patch.
    pub fn of(version: &VersionInfo) -> Self {
        Self { version: version.version, patch: version.patch }
    }

    /// The label: `v3`, or `v3+2` with the second patch.
    pub fn label(self) -> String {
        version_label(self.version, self.patch)
    }
}
