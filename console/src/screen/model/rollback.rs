//! The choice of a rollback: a plugin's earlier versions, and its stored builds.

use hotswap_protocol::{PluginInfo, Source, VersionInfo, VersionState};

use crate::format;
use crate::screen::input::action::Motion;
use crate::session::StoredBuild;

/// A choice among the versions and builds of one plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollback {
    /// The plugin.
    pub plugin: String,
    /// The version that serves. Rolling back to it would change nothing.
    active: Option<VersionInfo>,
    /// The versions and builds to choose from, newest first.
    pub choices: Vec<Choice>,
    /// The index of the selected one.
    pub selected: usize,
    /// The reason why stored builds are missing; `None` if they are not.
    pub problem: Option<String>,
}

/// A version or a build to roll back to.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The version; `None` for a build that the host has not loaded.
    pub version: Option<u32>,
    /// Its state, or `stored`.
    pub state: &'static str,
    /// Its build id.
    pub build_id: String,
    /// The time when it was loaded or, for a build that is only stored, the time when it was stored; in milliseconds
    /// since the Unix epoch.
    pub at_ms: u64,
    /// The source that it was built from.
    pub source: Option<Source>,
}

impl Rollback {
    /// The choice among the versions that the host knows.
    pub fn of(plugin: &PluginInfo) -> Self {
        let active = plugin.active().cloned();
        let mut rollback = Self {
            plugin: plugin.name.clone(),
            active,
            choices: Vec::new(),
            selected: 0,
            problem: None,
        };
        if let Some(active) = plugin.active().filter(|active| active.patch.is_some()) {
            rollback.add(Choice {
                version: Some(active.version),
                state: "no patch",
                build_id: active.base_build_id.clone().unwrap_or_default(),
                at_ms: active.loaded_at_ms,
                source: active.source.clone(),
            });
        }
        // A version that failed would fail again.
        for version in plugin.versions.iter().filter(|it| it.state != VersionState::Failed) {
            rollback.add(Choice {
                version: Some(version.version),
                state: version.state.as_str(),
                build_id: version.build_id.clone(),
                at_ms: version.loaded_at_ms,
                source: version.source.clone(),
            });
        }
        rollback
    }

    /// The same choice, with this version selected if it is in the list.
    pub fn beginning_at(plugin: &PluginInfo, version: &VersionInfo) -> Self {
        let mut rollback = Self::of(plugin);
        let is_meant = |choice: &Choice| choice.build_id == version.build_id;
        rollback.selected = rollback.choices.iter().position(is_meant).unwrap_or(0);
        rollback
    }

    /// Adds the stored builds.
    pub fn add_stored(&mut self, builds: Result<Vec<StoredBuild>, String>) {
        match builds {
            Ok(builds) => {
                for build in builds {
                    self.add(Choice {
                        version: None,
                        state: "stored",
                        build_id: build.build_id,
                        at_ms: build.stored_at_ms,
                        source: build.source,
                    });
                }
            }
            Err(problem) => self.problem = Some(problem),
        }
    }

    /// Adds a choice, unless the build serves or is in the list already.
    fn add(&mut self, choice: Choice) {
        let same = |build_id: &str| build_id == choice.build_id;
        let is_active = self.active.as_ref().is_some_and(|active| same(&active.build_id));
        if !is_active && !self.choices.iter().any(|known| same(&known.build_id)) {
            self.choices.push(choice);
        }
    }

    /// Moves the selection.
    pub fn move_by(&mut self, motion: Motion, page: usize) {
        let to = super::plugins::step(motion, self.selected, self.choices.len(), page);
        self.selected = to.unwrap_or(self.selected);
    }

    /// The target of a rollback to the selected choice: `world@1`, or `world@<build id>`.
    pub fn target(&self) -> Option<String> {
        let choice = self.choices.get(self.selected)?;
        Some(match choice.version {
            Some(version) => format!("{}@{version}", self.plugin),
            None => format!("{}@{}", self.plugin, choice.build_id),
        })
    }

    /// What to know before the rollback. `lets_go` is the key that ends it.
    pub fn consequences(&self, lets_go: &str) -> Vec<String> {
        let Some(choice) = self.choices.get(self.selected) else { return Vec::new() };
        let then = [
            "Nothing is built. Reloads leave it there until a newer build comes,".to_owned(),
            format!("or until {lets_go} lets go."),
        ];
        let patched = self.active.as_ref().filter(|it| Some(it.version) == choice.version);
        if let Some(active) = patched {
            let (plugin, version, patched) = (&self.plugin, active.version, active.label());
            let text = format!(
                "{plugin} {patched} gets the code of v{version} again, and keeps its state."
            );
            return [text].into_iter().chain(then).collect();
        }
        let name = match choice.version {
            Some(version) => format!("v{version}, build"),
            None => "build".to_owned(),
        };
        let to = format!("{name} {}", format::short_build_id(&choice.build_id));
        let from = self.active.as_ref().map_or_else(String::new, |active| {
            format!(", instead of {} that serves now", active.label())
        });
        let text = format!("{} is loaded again from {to}{from}.", self.plugin);
        [text].into_iter().chain(then).collect()
    }
}
