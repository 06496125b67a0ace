//! Keeps the list of plugins up to date with the manifests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hotswap_build::{BuildError, HostPackage, PluginPackage};
use hotswap_protocol::{PruneParams, same_plugin};

use super::{Report, Supervisor};
use crate::session::cargo_flags::CargoFlags;
use crate::session::event::SessionEvent;
use crate::session::job::Job;
use crate::session::plugin_dir;

/// The file with the names of the plugins that a session has installed, one on each line.
const INSTALLED: &str = ".hotswap-installed";

/// The manifests that a host's package was read from.
#[derive(Debug, Clone, Default)]
pub(super) struct Manifests {
    contents: BTreeMap<PathBuf, Option<Vec<u8>>>,
}

impl Manifests {
    pub fn of(package: &HostPackage) -> Self {
        let mut dirs: Vec<&PathBuf> = vec![&package.workspace_root];
        dirs.extend(&package.source_dirs);
        for plugin in &package.plugins {
            dirs.extend([&plugin.workspace_root, &plugin.dir]);
            dirs.extend(&plugin.source_dirs);
        }
        let files = dirs.into_iter().map(|dir| dir.join("Cargo.toml"));
        let contents = files.map(|file| {
            let content = fs::read(&file).ok();
            (file, content)
        });
        Self { contents: contents.collect() }
    }

    /// Whether a manifest has changed since it was read.
    fn have_changed(&self) -> bool {
        self.contents.iter().any(|(file, content)| fs::read(file).ok() != *content)
    }

    /// The host's package read again, if a manifest has changed.
    pub fn reopened(
        &self,
        package: &HostPackage,
        command_line: &[String],
    ) -> Option<Result<HostPackage, BuildError>> {
        self.have_changed().then(|| reopen(package, command_line))
    }
}

/// Reads a host's package again. Its plugin directory does not change, because the running host uses it.
fn reopen(package: &HostPackage, command_line: &[String]) -> Result<HostPackage, BuildError> {
    let plugin_dir = package.plugin_dir.clone();
    let mut changed = HostPackage::open_with(&package.dir, command_line)?;
    CargoFlags::for_package(&changed, command_line).apply(&mut changed);
    Ok(HostPackage { plugin_dir, ..changed })
}

/// Removes artifacts that an earlier session installed for plugins that the manifest does not name any more. Files
/// from elsewhere stay.
pub(super) fn remove_unlisted(package: &HostPackage) {
    let file = package.plugin_dir.join(INSTALLED);
    let installed = fs::read_to_string(&file).unwrap_or_default();
    let is_listed = |name: &str| package.plugins.iter().any(|it| same_plugin(&it.name, name));
    for plugin in installed.lines().filter(|name| !is_listed(name)) {
        remove_artifact(&package.plugin_dir, plugin);
    }
    let names: String = package.plugins.iter().map(|it| format!("{}\n", it.name)).collect();
    // Without the list, such an artifact stays, like one that was put there by hand.
    let _ = fs::create_dir_all(&package.plugin_dir).and_then(|()| fs::write(&file, names));
}

fn remove_artifact(plugin_dir: &Path, plugin: &str) {
    if let Some(path) = plugin_dir::artifact(plugin_dir, plugin) {
        // An artifact that cannot be removed is loaded again at the next start; the running host unloads it now.
        let _ = fs::remove_file(path);
    }
}

impl Supervisor {
    /// Reads the manifests again in the background, if one has changed.
    pub(super) fn read_changed_manifests(&mut self) {
        let Some(package) = self.package.clone().filter(|_| self.manifests.have_changed()) else {
            return;
        };
        let (report, flags) = (self.report.clone(), self.options.cargo_flags.clone());
        tokio::task::spawn_blocking(move || {
            // The session is over when this fails.
            let _ = report.blocking_send(Report::Reopened(reopen(&package, &flags)));
        });
    }

    /// Applies the changes of the manifests: builds and loads added plugins, and unloads removed ones.
    pub(super) async fn reopened(&mut self, package: Result<HostPackage, BuildError>) {
        let (Ok(package), Some(old), None) = (package, &self.package, &self.ending) else {
            // The manifest is probably being edited; the builds report what is wrong with it.
            return;
        };
        self.manifests = Manifests::of(&package);
        self.flags = CargoFlags::for_package(&package, &self.options.cargo_flags);
        let added = missing_in(&old.plugins, &package.plugins);
        let removed = missing_in(&package.plugins, &old.plugins);
        let sources = |package: &HostPackage| -> Vec<Vec<PathBuf>> {
            package.plugins.iter().map(|it| it.source_dirs.clone()).collect()
        };
        let is_watched_otherwise =
            sources(old) != sources(&package) || old.source_dirs != package.source_dirs;
        self.queue.retain(|job| !matches!(job, Job::BuildPlugin(name) if removed.contains(name)));
        remove_unlisted(&package);
        let plugins = package.plugins.iter().map(|it| it.name.clone()).collect();
        let plugin_packages = package.plugins.iter().map(|it| it.dir.clone()).collect();
        self.package = Some(package);
        if is_watched_otherwise && self.watcher.is_some() {
            self.stop_watching();
            self.watch(self.watch).await;
        }
        if added.is_empty() && removed.is_empty() {
            return;
        }
        let (new, gone) = (added.clone(), removed.clone());
        let event = SessionEvent::PluginsChanged { added, removed, plugins, plugin_packages };
        self.tell(event).await;
        self.take_up(new, gone);
    }

    /// Builds new plugins before the host is started or reloads, and makes it unload removed ones.
    fn take_up(&mut self, new: Vec<String>, gone: Vec<String>) {
        let begins = |job: &Job| matches!(job, Job::StartHost | Job::ReloadIfBuilt);
        let at = self.queue.iter().position(begins).unwrap_or(self.queue.len());
        let builds = new.into_iter().map(Job::BuildPlugin).filter(|job| !self.queue.contains(job));
        for job in builds.collect::<Vec<_>>().into_iter().rev() {
            self.queue.insert(at, job);
        }
        if self.process.is_none() && self.client.is_none() {
            return;
        }
        if self.watch.reloads() && !self.queue.iter().any(begins) {
            self.queue.push_back(Job::ReloadIfBuilt);
        }
        if !gone.is_empty() {
            self.queue.push_back(Job::Prune(PruneParams { latest: false, plugins: gone }));
        }
    }
}

/// The plugins of the second list that are not in the first.
fn missing_in(plugins: &[PluginPackage], others: &[PluginPackage]) -> Vec<String> {
    let is_new = |it: &&PluginPackage| !plugins.iter().any(|plugin| plugin.name == it.name);
    others.iter().filter(is_new).map(|plugin| plugin.name.clone()).collect()
}
