//! What serves of a plugin.

use hotswap_protocol::{VersionInfo, version_label};

/// A version, and the patch that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Face {
    /// The version.
    pub version: u32,
    /// The number of its patch; none if it is as it was loaded.
    pub patch: Option<u32>,
}

impl Face {
    /// That of a version as the host has it now.
    pub fn of(version: &VersionInfo) -> Self {
        Self { version: version.version, patch: version.patch }
    }

    /// `v3`, or `v3+2` with its second patch.
    pub fn label(self) -> String {
        version_label(self.version, self.patch)
    }
}
