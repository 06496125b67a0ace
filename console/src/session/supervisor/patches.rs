//! Loads builds as patches into running versions if only bodies of functions changed.

use std::collections::HashMap;

use hotswap_build::{BuildId, Built};
use hotswap_protocol::{Event, Outcome, ReloadReport, Snapshot, same_plugin};

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
    /// The generation to which these builds belong.
    generation: u64,
    /// The last build of each plugin, until it is loaded.
    built: HashMap<String, LastBuild>,
}

/// A build that may be loaded as a whole.
#[derive(Debug)]
pub(super) struct LastBuild {
    pub build_id: String,
    /// Why it is loaded as a whole, unless the host has another reason.
    pub why_whole: String,
}

impl LastBuild {
    pub(super) fn of(built: &Built) -> Self {
        let why_whole = match &built.patch {
            Some(Err(why)) => why.to_string(),
            Some(Ok(_)) => "its patch was not beside it in the plugin directory".to_owned(),
            None => "no patch was made, because no other build of it served when this one began"
                .to_owned(),
        };
        Self { build_id: built.build_id.to_string(), why_whole }
    }
}

impl Patches {
    pub(super) fn new(are_made: bool) -> Self {
        Self { are_made, ..Self::default() }
    }

    /// Forgets what served in another host.
    pub(super) fn connected(&mut self) {
        self.bases.clear();
        self.generation = 0;
    }

    /// Records what serves, unless a later reload was already reported.
    pub(super) fn record_snapshot(&mut self, snapshot: &Snapshot) {
        if snapshot.generation < self.generation {
            return;
        }
        self.generation = snapshot.generation;
        self.bases.clear();
        for plugin in &snapshot.plugins {
            let base = plugin.active().map(|it| it.base_build_id.as_ref().unwrap_or(&it.build_id));
            if let Some(base) = base.and_then(|base| base.parse().ok()) {
                self.bases.insert(plugin.name.clone(), base);
            }
        }
    }

    /// Records what a reload loaded, unless a later state is known: the next save may come before the next snapshot.
    pub(super) fn reloaded(&mut self, report: &ReloadReport) {
        if report.generation <= self.generation {
            return;
        }
        self.generation = report.generation;
        for plugin in &report.plugins {
            let is_whole =
                matches!(plugin.outcome, Outcome::Ok | Outcome::Added | Outcome::Rebound);
            let build = plugin.build_id.as_ref().filter(|_| is_whole);
            if let Some(build) = build.and_then(|build| build.parse().ok()) {
                self.bases.insert(plugin.name.clone(), build);
            }
        }
    }

    /// The build for which a patch of this package should be made.
    pub(super) fn base(&self, package: &str) -> Option<BuildId> {
        let mut bases = self.bases.iter().filter(|_| self.are_made);
        bases.find(|(plugin, _)| same_plugin(plugin, package)).map(|(_, base)| *base)
    }

    /// Records the last build of a plugin.
    pub(super) fn built(&mut self, plugin: String, build: LastBuild) {
        self.built.insert(plugin, build);
    }

    /// Records what a reload loaded, and adds to its report why plugins were loaded as a whole, which only this
    /// session knows. Other reloads than that of the last build leave the reason.
    pub(super) fn handle_event(&mut self, event: &mut Event) {
        let Event::ReloadFinished { report, .. } = event else { return };
        self.reloaded(report);
        for plugin in &mut report.plugins {
            let is_it = |last: &mut LastBuild| Some(&last.build_id) == plugin.build_id.as_ref();
            let last = self.built.extract_if(|name, last| *name == plugin.name && is_it(last));
            if let Some((_, last)) = last.last()
                && self.are_made
                && plugin.outcome == Outcome::Ok
            {
                plugin.not_patched.get_or_insert(last.why_whole);
            }
        }
    }
}

impl Supervisor {
    /// Turns patches on or off. If they are off, builds that are already installed are loaded as a whole, too.
    pub(super) async fn patch(&mut self, on: bool) {
        self.patches.are_made = on;
        self.load_whole_unless_patching();
        self.send_event(SessionEvent::Patching { on }).await;
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn snapshot(generation: u64, build: u64) -> Snapshot {
        let version = json!({
            "version": 1, "state": "active", "detail": "active", "build_id": format!("{build:032x}"),
            "crate_version": "0.1.0", "loaded_at_ms": 0, "size_bytes": 0, "calls": 0,
        });
        let host = json!({
            "name": "app", "pid": 1, "started_at_ms": 0, "plugin_dir": "", "staging_dir": "", "socket": "",
            "engine_version": "0.1.0", "toolchain": "",
        });
        let plugins = json!([{ "name": "one", "versions": [version] }]);
        let snapshot = json!({ "host": host, "generation": generation, "plugins": plugins });
        serde_json::from_value(snapshot).unwrap()
    }

    fn finished(generation: u64, outcome: Outcome, build: u64) -> Event {
        let build_id = format!("{build:032x}");
        let plugins = json!([{ "name": "one", "outcome": outcome, "build_id": build_id }]);
        let report = json!({ "generation": generation, "plugins": plugins });
        Event::ReloadFinished { at_ms: 0, report: serde_json::from_value(report).unwrap() }
    }

    #[test]
    fn the_bases_of_patches_follow_reloads_and_snapshots_in_any_order() {
        let mut patches = Patches::new(true);
        let base = |patches: &Patches| patches.base("one").map(|id| id.to_string());
        let id = |build: u64| Some(format!("{build:032x}"));
        assert_eq!(base(&patches), None);
        patches.handle_event(&mut finished(1, Outcome::Added, 1));
        assert_eq!(base(&patches), id(1), "before the first snapshot");
        patches.record_snapshot(&snapshot(0, 9));
        assert_eq!(base(&patches), id(1), "the snapshot was taken before the reload");
        patches.handle_event(&mut finished(2, Outcome::Patched, 2));
        assert_eq!(base(&patches), id(1), "a patch does not change what was loaded");
        patches.record_snapshot(&snapshot(4, 4));
        patches.handle_event(&mut finished(3, Outcome::Ok, 3));
        assert_eq!(base(&patches), id(4), "the report is older than the snapshot");
        patches.connected();
        assert_eq!(base(&patches), None);
        patches.record_snapshot(&snapshot(1, 5));
        assert_eq!(base(&patches), id(5), "another host counts its generations from 1");
    }
}
