//! A host that was started anew and could not load what is in the plugin directory gets the builds
//! that served last.

use hotswap_protocol::{PluginInfo, Snapshot, VersionState};

use super::Supervisor;
use crate::session::event::SessionEvent;
use crate::session::job::Job;
use crate::session::store::StoredChoice;

impl Supervisor {
    /// Notes what serves, so that a host that is started anew can have it again; and where nothing
    /// does since the first load failed, replaces what it failed with.
    pub(super) async fn look_what_serves(&mut self, snapshot: &Snapshot) {
        if snapshot.generation > 0 {
            // A host that is about to end has plugins that serve no longer.
            for plugin in &snapshot.plugins {
                if let Some(build_id) = serving(plugin) {
                    self.good.insert(plugin.name.clone(), build_id.to_owned());
                }
            }
            return;
        }
        let is_idle = self.running.is_none() && self.queue.is_empty();
        if self.package.is_none() || self.process.is_none() || !is_idle {
            return;
        }
        let mut builds = Vec::new();
        for plugin in &snapshot.plugins {
            let Some(failed) = plugin.versions.first() else { continue };
            let good = self.good.get(&plugin.name).filter(|good| **good != failed.build_id);
            if let (VersionState::Failed, Some(good)) = (failed.state, good) {
                let reason = format!("v{} {}", failed.version, failed.detail);
                let (plugin, build_id) = (plugin.name.clone(), good.clone());
                let event = SessionEvent::ArtifactRefused {
                    plugin: plugin.clone(),
                    reason,
                    instead: Some(build_id.clone()),
                };
                self.tell(event).await;
                builds.push(StoredChoice { plugin, build_id });
            }
        }
        if !builds.is_empty() {
            self.queue.extend([Job::Install(builds), Job::Reload]);
        }
    }
}

/// The build that serves.
fn serving(plugin: &PluginInfo) -> Option<&str> {
    let active = plugin.versions.iter().find(|it| it.state == VersionState::Active)?;
    Some(&active.build_id)
}
