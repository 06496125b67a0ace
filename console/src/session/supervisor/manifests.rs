//! Keeps the list of plugins up to date with the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use hotswap_build::{BuildError, HostPackage, PluginPackage};
use hotswap_protocol::{PruneParams, same_plugin};

use super::{Report, Supervisor, outdated};
use crate::session::cargo_flags::CargoFlags;
use crate::session::event::SessionEvent;
use crate::session::job::Job;
use crate::session::plugin_dir;

/// The file with the names of the plugins that a session has installed, one on each line.
const INSTALLED: &str = ".hotswap-installed";

/// The contents of manifests; `None` for a missing one.
type Contents = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// The manifests that a host's package was read from, and the reading of those that have changed since.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    contents: Contents,
    /// Whether they are being read. Builds wait for it, because they need the names, ids and directories of packages
    /// as the manifests have them now.
    is_reading: bool,
    /// The contents that could not be used, with the reason that was reported.
    refused: Option<(Contents, String)>,
}

impl Manifests {
    pub fn of(package: &HostPackage) -> Self {
        Self { contents: contents_of(package), ..Self::default() }
    }

    /// Whether a manifest has changed since they were read.
    fn have_changed(&self) -> bool {
        has_changed(&self.contents)
    }

    /// Whether the manifests have changed since they were last read, no matter whether that state was applied or
    /// refused.
    fn are_unread(&self) -> bool {
        match &self.refused {
            Some((refused, _)) => has_changed(refused),
            None => self.have_changed(),
        }
    }
}

fn has_changed(contents: &Contents) -> bool {
    contents.iter().any(|(file, content)| fs::read(file).ok() != *content)
}

fn read<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Contents {
    files.map(|file| (file.clone(), fs::read(file).ok())).collect()
}

fn contents_of(package: &HostPackage) -> Contents {
    let mut dirs: Vec<&PathBuf> = vec![&package.workspace_root];
    dirs.extend(&package.source_dirs);
    for plugin in &package.plugins {
        dirs.extend([&plugin.workspace_root, &plugin.dir]);
        dirs.extend(&plugin.source_dirs);
    }
    let files: BTreeSet<_> = dirs.into_iter().map(|dir| dir.join("Cargo.toml")).collect();
    read(files.iter())
}

/// A host's package that was read again, and the contents of the manifests from before that.
pub(super) struct Reopened {
    before: Contents,
    package: Result<HostPackage, BuildError>,
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
        // What cannot be removed is loaded again at the next start; the running host unloads it now.
        plugin_dir::remove(&package.plugin_dir, plugin);
    }
    let names: String = package.plugins.iter().map(|it| format!("{}\n", it.name)).collect();
    // Without the list, such an artifact stays, like one that was put there by hand.
    let _ = fs::create_dir_all(&package.plugin_dir).and_then(|()| fs::write(&file, names));
}

impl Supervisor {
    /// Reads the manifests again in the background, if one has changed.
    pub(super) fn read_changed_manifests(&mut self) {
        let Some(package) = self.package.clone() else { return };
        if self.manifests.is_reading {
            return;
        }
        if !self.manifests.have_changed() {
            self.manifests.refused = None;
            return;
        }
        self.manifests.is_reading = true;
        let (report, flags) = (self.report.clone(), self.options.cargo_flags.clone());
        let files: Vec<PathBuf> = self.manifests.contents.keys().cloned().collect();
        tokio::task::spawn_blocking(move || {
            // A file that is written while cargo reads it counts as changed.
            let before = read(files.iter());
            let reopened = Reopened { before, package: reopen(&package, &flags) };
            // The session is over when this fails.
            let _ = report.blocking_send(Report::Reopened(Box::new(reopened)));
        });
    }

    /// Whether the next job is a build that has to wait until changed manifests are read.
    pub(super) fn waits_for_manifests(&mut self) -> bool {
        if !self.queue.front().is_some_and(Job::is_build) {
            return false;
        }
        if self.manifests.are_unread() {
            self.read_changed_manifests();
        }
        self.manifests.is_reading
    }

    /// Applies the changes of the manifests: builds and loads added plugins, and unloads removed ones.
    pub(super) async fn apply_manifests(&mut self, reopened: Reopened) {
        self.manifests.is_reading = false;
        let Reopened { before, package } = reopened;
        let (Some(old), None) = (&self.package, &self.ending) else { return };
        let package = match package {
            Ok(package) => package,
            Err(error) => return self.refuse_manifests(before, error.to_string()).await,
        };
        self.manifests = Manifests::of(&package);
        for (file, content) in &mut self.manifests.contents {
            before.get(file).inspect(|before| content.clone_from(before));
        }
        let flags = CargoFlags::for_package(&package, &self.options.cargo_flags);
        let flags_before = std::mem::replace(&mut self.flags, flags);
        let mut added = missing_in(&old.plugins, &package.plugins);
        let removed = missing_in(&package.plugins, &old.plugins);
        let is_watched_otherwise =
            old.plugins != package.plugins || old.source_dirs != package.source_dirs;
        self.queue.retain(|job| !matches!(job, Job::BuildPlugin(name) if removed.contains(name)));
        remove_unlisted(&package);
        let plugins = package.plugins.iter().map(|it| it.name.clone()).collect();
        let plugin_packages = package.plugins.iter().map(|it| it.dir.clone()).collect();
        let watched = outdated::watched(&package);
        let names = package.plugins.iter().map(|it| it.name.clone()).collect();
        self.package = Some(package);
        if is_watched_otherwise
            && let Some(Err(error)) = self.watcher.as_ref().map(|it| it.watch(&watched))
        {
            let (on, mode, error) = (true, self.watch, Some(error.to_string()));
            self.send_event(SessionEvent::Watching { on, mode, error, file_system: None }).await;
        }
        if !added.is_empty() || !removed.is_empty() {
            let (added, removed) = (added.clone(), removed.clone());
            let event = SessionEvent::PluginsChanged { added, removed, plugins, plugin_packages };
            self.send_event(event).await;
        }
        if flags_before.plugins != self.flags.plugins {
            added = names;
        }
        if !added.is_empty() || !removed.is_empty() {
            self.queue_plugin_changes(added, removed);
        }
    }

    /// Reports why changed manifests cannot be used. They are read again after the next save.
    async fn refuse_manifests(&mut self, contents: Contents, error: String) {
        let is_reported =
            self.manifests.refused.as_ref().is_some_and(|(_, reported)| *reported == error);
        self.manifests.refused = Some((contents, error.clone()));
        if !is_reported {
            self.send_event(SessionEvent::ManifestsRefused { error }).await;
        }
    }

    /// Builds new plugins before the host is started or reloads, and makes it unload removed ones.
    fn queue_plugin_changes(&mut self, new: Vec<String>, gone: Vec<String>) {
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
