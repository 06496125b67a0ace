//! The versions that an engine knows: those that are loaded, and the last ones that have ended.

use std::sync::{Arc, Mutex, MutexGuard};

use hotswap_protocol::{VersionRef, VersionState};

use super::Version;
use crate::lock::Lock as _;

/// How many ended versions of a plugin stay in the list.
const ENDED_LISTED: usize = 16;

/// The versions that an engine knows, in the order in which they were loaded.
#[derive(Default)]
pub(crate) struct VersionList(Mutex<Vec<Arc<Version>>>);

impl VersionList {
    /// Adds a version that is being loaded. Of the ended versions of its plugin, only the newest stay.
    pub fn add(&self, version: &Arc<Version>) {
        let mut versions = self.lock();
        versions.push(version.clone());
        let ended: Vec<_> = versions
            .iter()
            .filter(|other| other.name() == version.name() && other.is_finished())
            .map(Arc::as_ptr)
            .collect();
        let surplus = ended.len().saturating_sub(ENDED_LISTED);
        versions.retain(|other| !ended[..surplus].contains(&Arc::as_ptr(other)));
    }

    /// All versions in the list.
    pub fn all(&self) -> Vec<Arc<Version>> {
        self.lock().clone()
    }

    /// The version that a target names. If several have the build, it is the oldest.
    pub fn find(&self, plugin: &str, version: &VersionRef) -> Option<Arc<Version>> {
        let is_it = |other: &&Arc<Version>| {
            let is_version = match version {
                VersionRef::Ordinal(ordinal) => other.ordinal == *ordinal,
                VersionRef::Build(_) => {
                    version.is_build(other.build_of(other.faces.serving()))
                        || version.is_build(other.facts.build_id)
                }
            };
            is_version && other.name().is(plugin)
        };
        self.lock().iter().find(is_it).cloned()
    }

    /// The versions that can be called, as targets: `world@2`.
    pub fn callable(&self) -> Vec<String> {
        let callable = [VersionState::Active, VersionState::Retired];
        let versions = self.lock();
        let loaded = versions.iter().filter(|version| callable.contains(&version.state()));
        loaded.map(|version| format!("{}@{}", version.name(), version.ordinal)).collect()
    }

    /// The versions whose images are mapped and may still be unmapped.
    pub fn unfinished(&self) -> Vec<Arc<Version>> {
        self.lock().iter().filter(|version| !version.is_finished()).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Version>>> {
        self.0.locked()
    }
}
