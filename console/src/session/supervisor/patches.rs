//! Loads builds as patches into running versions if only bodies of functions changed.

use std::collections::HashMap;

use hotswap_build::{BuildId, Built};
use hotswap_protocol::{Event, Outcome, Snapshot, same_plugin};

use super::Supervisor;
use crate::session::event::SessionEvent;
use crate::session::plugin_dir;

/// The state for patches.
#[derive(Debug, Default)]
pub(super) struct Patches {
    /// Whether patches are made.
    pub are_made: bool,
    /// The builds that were loaded as a whole and serve, by plugin.
    bases: HashMap<String, BuildId>,
    /// Why the last build of a plugin cannot be loaded as a patch.
    reasons: HashMap<String, String>,
}

impl Patches {
    pub(super) fn new(are_made: bool) -> Self {
        Self { are_made, ..Self::default() }
    }

    /// Records what serves.
    pub(super) fn look(&mut self, snapshot: &Snapshot) {
        self.bases.clear();
        for plugin in &snapshot.plugins {
            let base = plugin.active().map(|it| it.base_build_id.as_ref().unwrap_or(&it.build_id));
            if let Some(base) = base.and_then(|base| base.parse().ok()) {
                self.bases.insert(plugin.name.clone(), base);
            }
        }
    }

    /// The build for which a patch of this package should be made.
    pub(super) fn base(&self, package: &str) -> Option<BuildId> {
        let mut bases = self.bases.iter().filter(|_| self.are_made);
        bases.find(|(plugin, _)| same_plugin(plugin, package)).map(|(_, base)| *base)
    }

    /// Records why a build cannot be loaded as a patch; `None` if it can, or if no patch was requested.
    pub(super) fn built(&mut self, plugin: String, why: Option<String>) {
        match why {
            Some(why) => self.reasons.insert(plugin, why),
            None => self.reasons.remove(&plugin),
        };
    }

    /// Adds to a reload's report why plugins were loaded as a whole, which only this session knows.
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
    /// Turns patches on or off. If they are off, builds that are already installed are loaded as a whole, too.
    pub(super) async fn patch(&mut self, on: bool) {
        self.patches.are_made = on;
        self.load_whole_unless_patching();
        self.tell(SessionEvent::Patching { on }).await;
    }

    /// Removes the patches from the plugin directory if patches are off, even if another console left them there.
    pub(super) fn load_whole_unless_patching(&self) {
        if let Some(dir) = self.plugin_dir.as_ref().filter(|_| !self.patches.are_made) {
            plugin_dir::remove_patches(dir);
        }
    }
}

/// Why a build cannot be loaded as a patch; `None` if it can, or if no patch was requested.
pub(super) fn not_patched(built: &Built) -> Option<String> {
    built.patch.as_ref()?.as_ref().err().map(ToString::to_string)
}
