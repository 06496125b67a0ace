//! Builds are made into patches for the versions that run, where only bodies of functions changed.

use std::collections::HashMap;

use hotswap_build::{BuildId, Built};
use hotswap_protocol::{Event, Outcome, Snapshot, same_plugin};

use super::Supervisor;
use crate::session::event::SessionEvent;
use crate::session::plugin_dir;

/// What is known for patches.
#[derive(Debug, Default)]
pub(super) struct Patches {
    /// Whether they are made.
    pub are_made: bool,
    /// The builds that were loaded as a whole and serve, by plugin.
    bases: HashMap<String, BuildId>,
    /// Why the last build of a plugin is no patch.
    reasons: HashMap<String, String>,
}

impl Patches {
    pub(super) fn new(are_made: bool) -> Self {
        Self { are_made, ..Self::default() }
    }

    /// Notes what serves.
    pub(super) fn look(&mut self, snapshot: &Snapshot) {
        self.bases.clear();
        for plugin in &snapshot.plugins {
            let base = plugin.active().map(|it| it.base_build_id.as_ref().unwrap_or(&it.build_id));
            if let Some(base) = base.and_then(|base| base.parse().ok()) {
                self.bases.insert(plugin.name.clone(), base);
            }
        }
    }

    /// The build for which a patch of this package is to be made.
    pub(super) fn base(&self, package: &str) -> Option<BuildId> {
        let mut bases = self.bases.iter().filter(|_| self.are_made);
        bases.find(|(plugin, _)| same_plugin(plugin, package)).map(|(_, base)| *base)
    }

    /// Notes why a build is no patch; `None` if it is one, or none was asked for.
    pub(super) fn built(&mut self, plugin: String, why: Option<String>) {
        match why {
            Some(why) => self.reasons.insert(plugin, why),
            None => self.reasons.remove(&plugin),
        };
    }

    /// Adds to what the host tells of a reload why a plugin was loaded as a whole, which is known here.
    pub(super) fn explain(&mut self, event: &mut Event) {
        let Event::ReloadFinished { report, .. } = event else { return };
        for plugin in &mut report.plugins {
            let why = self.reasons.remove(&plugin.name);
            if plugin.outcome == Outcome::Ok && plugin.not_patched.is_none() {
                plugin.not_patched = why;
            }
        }
    }
}

impl Supervisor {
    /// Turns patches on, or off: then what is built already is loaded as a whole, too.
    pub(super) async fn patch(&mut self, on: bool) {
        self.patches.are_made = on;
        self.load_whole_unless_patching();
        self.tell(SessionEvent::Patching { on }).await;
    }

    /// Without patches, what is in the plugin directory is loaded as a whole, even if another console left a patch
    /// beside it.
    pub(super) fn load_whole_unless_patching(&self) {
        if let Some(dir) = self.plugin_dir.as_ref().filter(|_| !self.patches.are_made) {
            plugin_dir::remove_patches(dir);
        }
    }
}

/// Why a build is no patch for the version that runs; `None` if it is one, or none was asked for.
pub(super) fn not_patched(built: &Built) -> Option<String> {
    built.patch.as_ref()?.as_ref().err().map(ToString::to_string)
}
