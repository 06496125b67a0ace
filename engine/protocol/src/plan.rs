//! What a reload would do.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Outcome, Source};

/// What a reload would do, as far as can be told without opening an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadPlan {
    /// The generation that serves.
    pub generation: u64,
    /// One entry a plugin, in load order; new plugins last.
    pub plugins: Vec<PlannedPlugin>,
}

/// What a reload would do with one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPlugin {
    /// The plugin.
    pub name: String,
    /// What would become of it, if all goes well.
    pub outcome: Outcome,
    /// What serves now; none of a new plugin.
    pub loaded: Option<LoadedArtifact>,
    /// What would be loaded, where that is another build.
    pub new: Option<NewArtifact>,
}

/// The artifact that a version was loaded from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedArtifact {
    /// The version.
    pub version: u32,
    /// Its build id.
    pub build_id: String,
    /// The copy that it was loaded from; none when somebody removed it.
    pub path: Option<PathBuf>,
    /// The source it was built from; none outside a git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// An artifact that would be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewArtifact {
    /// Where it lies.
    pub path: PathBuf,
    /// Its build id.
    pub build_id: String,
    /// The plugin crate's version.
    pub crate_version: String,
    /// The source it was built from; none outside a git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}
