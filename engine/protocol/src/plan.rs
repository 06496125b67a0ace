//! The plan of a reload.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Expectation, Outcome, Source, version_label};

/// The effects that a reload would have, as far as they can be known without opening an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadPlan {
    /// The generation that serves.
    pub generation: u64,
    /// One entry per plugin, in load order; new plugins come last.
    pub plugins: Vec<PlannedPlugin>,
    /// What the host's own code expects from plugins. A reload that would break an expectation is refused.
    #[serde(default)]
    pub host_expects: Vec<Expectation>,
}

/// The effects of a reload on one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPlugin {
    /// The plugin.
    pub name: String,
    /// What would happen to it, if nothing fails.
    pub outcome: Outcome,
    /// The artifact that serves now; `None` for a new plugin.
    pub loaded: Option<LoadedArtifact>,
    /// The artifact that would be loaded; `None` if the build that serves would stay.
    pub new: Option<NewArtifact>,
}

/// The artifact that a version was loaded from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedArtifact {
    /// The version.
    pub version: u32,
    /// The number of its patch that serves; `None` if it is as it was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<u32>,
    /// Its build id.
    pub build_id: String,
    /// The artifact with the code that the version runs: the copy that it was loaded from, or the build that a
    /// patch makes, which the host has open. `None` if the file was removed.
    pub path: Option<PathBuf>,
    /// The source that it was built from; `None` outside a git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

impl LoadedArtifact {
    /// The version's name with its patch: `v3`, or `v3+2` with its second patch.
    pub fn label(&self) -> String {
        version_label(self.version, self.patch)
    }
}

/// An artifact that would be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewArtifact {
    /// The path of the artifact.
    pub path: PathBuf,
    /// Its build id.
    pub build_id: String,
    /// The plugin crate's version.
    pub crate_version: String,
    /// The source that it was built from; `None` outside a git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}
