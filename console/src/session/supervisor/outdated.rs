//! Finds out whether the running host is older than its sources.

use hotswap_build::{HostPackage, PluginPackage};
use hotswap_protocol::same_plugin;

use super::Supervisor;
use super::pace::CANCELLED_IN_A_ROW;
use crate::session::event::SessionEvent;
use crate::session::host_inputs;
use crate::session::job::Job;
use crate::session::plugin_dir;

/// The name for the host's own sources in reports of the watcher. No package has this name.
pub(super) const HOST: &str = "(host)";

/// The builds of the host, until it starts, during which its sources changed. Each such change begins the build again; but
/// a build script may be what writes the sources, and then no build would ever be the last one.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// How many there were in a row.
    count: u32,
    /// Whether the sources have changed since the last build began.
    pub is_changed: bool,
}

/// What to do if the sources of the host change before it has started.
#[derive(Debug, PartialEq, Eq)]
enum Restart {
    /// Cancel the build and begin again.
    AtOnce,
    /// Let the build end, and build once more: if a build script has written the sources, cargo finds nothing to do.
    AtEnd,
    /// Start the host that is built. It is then reported as older than its sources.
    Never,
}

impl Restarts {
    fn next(&mut self) -> Restart {
        self.count += 1;
        self.is_changed = true;
        match self.count {
            ..=CANCELLED_IN_A_ROW => Restart::AtOnce,
            LAST_RESTART => Restart::AtEnd,
            _ => Restart::Never,
        }
    }

    /// Called when a build has ended that was not cancelled.
    pub(super) fn build_ended(&mut self) {
        if !self.is_changed {
            self.count = 0;
        }
    }
}

const LAST_RESTART: u32 = CANCELLED_IN_A_ROW + 1;

/// The plugins of a host, and the host itself, for a watcher.
pub(super) fn watched(package: &HostPackage) -> Vec<PluginPackage> {
    package.plugins.iter().cloned().chain([package.watched_as(HOST)]).collect()
}

impl Supervisor {
    /// Builds the host if it does not run; if it runs, reports whether it is older than its sources.
    pub(super) async fn handle_host_source_change(&mut self, plugins: &[String]) {
        if self.process.is_some() {
            return self.report_age_of_host(plugins).await;
        }
        let is_building = self.runs(&Job::BuildHost);
        if !is_building && self.executable.is_some() && !self.host_inputs.have_changed() {
            return;
        }
        let is_starting = is_building || self.queue.contains(&Job::StartHost);
        let restart = if is_starting { self.restarts.next() } else { Restart::AtOnce };
        if restart == Restart::Never {
            return;
        }
        if is_building && restart == Restart::AtOnce {
            self.cancel_running();
        }
        self.build_and_start();
    }

    /// Reports that the running host is older than its sources, or that it is not any more, since the sources are
    /// again those from which it was built.
    async fn report_age_of_host(&mut self, plugins: &[String]) {
        let was_outdated = self.is_outdated;
        self.is_outdated = self.running_inputs.have_changed();
        if self.is_outdated && !(was_outdated && plugins.is_empty()) {
            self.save_running_inputs();
            self.send_event(SessionEvent::HostOutdated { plugins: plugins.to_vec() }).await;
        } else if was_outdated && !self.is_outdated {
            self.send_event(SessionEvent::HostCurrent).await;
        }
    }

    /// Stores the inputs of the running host, so that every command can find out whether it is older than its
    /// sources.
    pub(super) fn save_running_inputs(&self) {
        if let (Some(package), Some(process)) = (&self.package, &self.process) {
            host_inputs::save(&package.plugin_dir, process.pid, &self.running_inputs);
        }
    }

    /// Queues the jobs that build and start the host, unless they are queued already.
    fn build_and_start(&mut self) {
        let Some(package) = &self.package else { return };
        let plugins = package.plugins.iter().map(|plugin| Job::BuildPlugin(plugin.name.clone()));
        let jobs: Vec<Job> = [Job::BuildHost].into_iter().chain(plugins).collect();
        self.queue.retain(|job| !jobs.contains(job) && *job != Job::StartHost);
        self.queue.extend(jobs);
        self.queue.push_back(Job::StartHost);
    }

    /// The plugins that served and have no artifact in the plugin directory any more.
    pub(super) fn missing_artifacts(&self) -> Vec<String> {
        let Some(package) = &self.package else { return Vec::new() };
        let has_served = |name: &str| self.good.keys().any(|good| same_plugin(good, name));
        let is_there = |name: &str| plugin_dir::artifact(&package.plugin_dir, name).is_some();
        let names = package.plugins.iter().map(|plugin| plugin.name.as_str());
        names.filter(|name| has_served(name) && !is_there(name)).map(str::to_owned).collect()
    }
}
