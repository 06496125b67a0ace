//! If a restarted host cannot load what is in the plugin directory, it gets the builds that served last.

use std::collections::HashMap;

use hotswap_protocol::{PluginInfo, Snapshot, VersionState};

use super::Supervisor;
use crate::session::event::SessionEvent;
use crate::session::job::Job;
use crate::session::store::StoredChoice;

impl Supervisor {
    /// Records what serves, for a restarted host. If nothing serves because the first load failed, replaces the
    /// builds that failed.
    pub(super) async fn record_serving_builds(&mut self, snapshot: &Snapshot) {
        if snapshot.generation > 0 {
            // The plugins of a host that is about to end do not count.
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
        for (choice, reason) in replacements(&snapshot.plugins, &self.good) {
            let StoredChoice { plugin, build_id } = choice.clone();
            let instead = Some(build_id);
            self.send_event(SessionEvent::ArtifactRefused { plugin, reason, instead }).await;
            builds.push(choice);
        }
        if !builds.is_empty() {
            self.queue.extend([Job::Install(builds), Job::Reload]);
        }
    }
}

/// The builds to replace those that failed, and why each failed. A load fails as a whole, so a plugin that failed
/// only because of another one keeps its build.
fn replacements(
    plugins: &[PluginInfo],
    good: &HashMap<String, String>,
) -> Vec<(StoredChoice, String)> {
    let of_plugin = |plugin: &PluginInfo| {
        let failed = plugin.versions.first().filter(|it| it.state == VersionState::Failed)?;
        let good = good.get(&plugin.name).filter(|good| **good != failed.build_id)?;
        // `None` if no plugin is at fault, but a callback of the host is.
        let blamed = failed.failure.as_ref().and_then(|failure| failure.plugin.as_deref());
        let is_blamed = |other: &PluginInfo| Some(other.name.as_str()) == blamed;
        if !is_blamed(plugin) && plugins.iter().any(is_blamed) {
            return None;
        }
        let choice = StoredChoice { plugin: plugin.name.clone(), build_id: good.clone() };
        Some((choice, format!("v{} {}", failed.version, failed.detail)))
    };
    plugins.iter().filter_map(of_plugin).collect()
}

/// The build that serves; `None` while it is still being linked.
fn serving(plugin: &PluginInfo) -> Option<&str> {
    let active = plugin.active().filter(|active| !active.is_early)?;
    Some(&active.build_id)
}

#[cfg(test)]
mod tests {
    use hotswap_protocol::{CauseKind, Failure, Step};
    use serde_json::json;

    use super::*;

    fn failure(plugin: Option<&str>, step: Step, cause: CauseKind) -> Failure {
        let plugin = plugin.map(ToOwned::to_owned);
        Failure { plugin, step: Some(step), cause, message: "stopped".into(), causes: Vec::new() }
    }

    fn failed(plugin: &str, failure: &Failure) -> PluginInfo {
        let version = json!({
            "version": 1,
            "state": "failed",
            "detail": format!("failed: {failure}"),
            "failure": failure,
            "build_id": format!("{plugin} new"),
            "crate_version": "0.1.0",
            "loaded_at_ms": 0,
            "size_bytes": 0,
            "calls": 0,
        });
        serde_json::from_value(json!({ "name": plugin, "versions": [version] })).unwrap()
    }

    fn replaced(plugins: &[PluginInfo], good: &[(&str, &str)]) -> Vec<String> {
        let good = good.iter().map(|(plugin, build)| ((*plugin).into(), (*build).into()));
        let replaced = replacements(plugins, &good.collect());
        replaced.into_iter().map(|(choice, _)| choice.build_id).collect()
    }

    #[test]
    fn a_plugin_that_failed_with_another_one_keeps_its_build() {
        let failure = failure(Some("world"), Step::OnInit, CauseKind::Plugin);
        let plugins = [failed("cat", &failure), failed("world", &failure)];
        let good = [("cat", "cat old"), ("world", "world old")];
        assert_eq!(replaced(&plugins, &good), ["world old"]);
        assert_eq!(
            replaced(&plugins, &good[..1]),
            [] as [&str; 0],
            "no build of `world` has served"
        );
        assert_eq!(
            replaced(&plugins, &[("world", "world new")]),
            [] as [&str; 0],
            "the build that served last is the one that failed"
        );
    }

    #[test]
    fn if_no_plugin_is_blamed_all_builds_are_replaced() {
        let failure = failure(None, Step::Publish, CauseKind::Refused);
        let plugins = [failed("cat", &failure), failed("world", &failure)];
        let good = [("cat", "cat old"), ("world", "world old")];
        assert_eq!(replaced(&plugins, &good), ["cat old", "world old"]);
    }

    #[test]
    fn a_callback_that_fails_blames_no_plugin_whatever_that_is_called() {
        let failure = failure(None, Step::Callback, CauseKind::Callback);
        let plugins = [failed("callback", &failure), failed("world", &failure)];
        assert_eq!(plugins[0].versions[0].detail, "failed: callback: stopped");
        let good = [("callback", "callback old"), ("world", "world old")];
        assert_eq!(replaced(&plugins, &good), ["callback old", "world old"]);
    }
}
