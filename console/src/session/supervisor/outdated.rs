//! Whether the host that runs is older than its sources.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use hotswap_build::{HostPackage, PluginPackage};
use hotswap_protocol::same_plugin;

use super::Supervisor;
use crate::session::event::SessionEvent;
use crate::session::job::Job;

/// What the watcher reports changes of the host's own sources under. No package has this name.
pub(super) const HOST: &str = "(host)";

/// The plugins of a host, and the host itself, for a watcher.
pub(super) fn watched(package: &HostPackage) -> Vec<PluginPackage> {
    package.plugins.iter().cloned().chain([package.watched_as(HOST)]).collect()
}

/// The files that a program was compiled from, and what was in them.
#[derive(Debug, Clone, Default)]
pub(super) struct HostInputs {
    files: BTreeMap<PathBuf, Option<u64>>,
}

impl HostInputs {
    /// Reads the list that cargo keeps beside a program.
    pub fn of(executable: &Path) -> Self {
        let list = fs::read_to_string(executable.with_extension("d")).unwrap_or_default();
        let files = inputs(&list).into_iter().map(|file| {
            let content = content(&file);
            (file, content)
        });
        Self { files: files.collect() }
    }

    /// Whether a file has another content than it had. Nobody knows where there is no list.
    pub fn have_changed(&self) -> bool {
        self.files.is_empty() || self.files.iter().any(|(file, was)| content(file) != *was)
    }
}

fn content(file: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    fs::read(file).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

/// The files after the first colon of a rule for `make`, where a space in a name follows a `\\`.
fn inputs(rule: &str) -> Vec<PathBuf> {
    let line = rule.lines().next().unwrap_or_default();
    let Some((_, files)) = line.split_once(": ") else { return Vec::new() };
    let mut names = vec![String::new()];
    let mut signs = files.chars();
    while let Some(sign) = signs.next() {
        match (sign, names.last_mut()) {
            (' ', _) => names.push(String::new()),
            ('\\', Some(name)) => name.extend(signs.next()),
            (sign, Some(name)) => name.push(sign),
            (_, None) => {}
        }
    }
    names.into_iter().filter(|name| !name.is_empty()).map(PathBuf::from).collect()
}

impl Supervisor {
    /// Builds a host that does not run, and tells that one which runs is older than its sources.
    pub(super) async fn host_sources_changed(&mut self, plugins: &[String]) {
        let is_building = self.runs(&Job::BuildHost);
        if !is_building && self.executable.is_some() && !self.host_inputs.have_changed() {
            return;
        }
        if self.process.is_none() {
            if is_building {
                self.cancel_running();
            }
            self.build_and_start();
        } else if !self.is_outdated || !plugins.is_empty() {
            self.is_outdated = true;
            self.tell(SessionEvent::HostOutdated { plugins: plugins.to_vec() }).await;
        }
    }

    /// Queues what a host needs to run, where it is not queued already.
    fn build_and_start(&mut self) {
        let Some(package) = &self.package else { return };
        let plugins = package.plugins.iter().map(|plugin| Job::BuildPlugin(plugin.name.clone()));
        let jobs: Vec<Job> = [Job::BuildHost].into_iter().chain(plugins).collect();
        self.queue.retain(|job| !jobs.contains(job) && *job != Job::StartHost);
        self.queue.extend(jobs);
        self.queue.push_back(Job::StartHost);
    }

    /// The plugins that served, and whose artifact is not in the plugin directory any more.
    pub(super) fn missing_artifacts(&self) -> Vec<String> {
        let Some(package) = &self.package else { return Vec::new() };
        let has_served = |name: &str| self.good.keys().any(|good| same_plugin(good, name));
        let is_there = |name: &str| super::manifests::artifact(&package.plugin_dir, name).is_some();
        let names = package.plugins.iter().map(|plugin| plugin.name.as_str());
        names.filter(|name| has_served(name) && !is_there(name)).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_lists_files_with_any_name() {
        let rule = "/t/debug/host: /w/src/main.rs /w/with\\ space/größe.rs\n\n/w/src/main.rs:\n";
        assert_eq!(
            inputs(rule),
            [Path::new("/w/src/main.rs"), Path::new("/w/with space/größe.rs")]
        );
        assert!(inputs("").is_empty());
    }
}
