//! An engine with a directory of plugins, and its state as seen from outside.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hotswap_engine::{
    Engine, EngineBuilder, Events,
    protocol::{Ending, KeepReason, ReloadReport, VersionInfo, VersionState},
};

use super::{PATIENCE, PluginDir};

/// How long to wait for an event before looking again.
const RECHECK_INTERVAL: Duration = Duration::from_millis(20);

/// A host in this process.
pub struct Host {
    pub engine: Engine,
    pub plugins: PluginDir,
    events: Events,
}

impl Host {
    /// A host that has loaded these plugins.
    pub fn with(plugins: &[&str]) -> Self {
        let host = Self::new(PluginDir::of(plugins), |builder| builder);
        host.reload();
        host
    }

    /// A host that has loaded nothing yet.
    pub fn new(plugins: PluginDir, settings: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Self {
        let engine = settings(Engine::builder(plugins.path())).build().expect("make an engine");
        let events = engine.subscribe();
        Self { engine, plugins, events }
    }

    /// Reloads, and unloads the plugins that were taken out. The reload must succeed.
    pub fn reload(&self) -> ReloadReport {
        if self.plugins.take_prune_request() {
            return self.prune();
        }
        self.engine.reload().unwrap_or_else(|error| panic!("the reload failed: {error}"))
    }

    /// Reloads, and unloads plugins without an artifact. The reload must succeed.
    pub fn prune(&self) -> ReloadReport {
        self.engine.reload_pruning().unwrap_or_else(|error| panic!("the reload failed: {error}"))
    }

    /// Reloads, which must be refused, and returns why.
    pub fn refused_reload(&self) -> String {
        match self.engine.reload() {
            Ok(report) => panic!("the reload was not refused: {report}"),
            Err(error) => {
                let wire = error.to_wire();
                wire.to_string()
            }
        }
    }

    /// Waits until a version enters a state.
    pub fn wait_for(&self, plugin: &str, version: u32, state: VersionState) -> VersionInfo {
        self.wait_until(plugin, version, |info| info.state == state)
    }

    /// Waits until a version is as expected. It checks at each event and also from time to time, because a holder
    /// that ends while others stay causes no event.
    pub fn wait_until(
        &self,
        plugin: &str,
        version: u32,
        expected: impl Fn(&VersionInfo) -> bool,
    ) -> VersionInfo {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(info) = self.info(plugin, version).filter(&expected) {
                return info;
            }
            if Instant::now() > deadline {
                panic!(
                    "{plugin} v{version} has not reached the expected state: {:#?}",
                    self.engine.snapshot()
                );
            }
            let _ = self.events.recv_timeout(RECHECK_INTERVAL);
        }
    }

    /// The engine's information about a version.
    pub fn info(&self, plugin: &str, version: u32) -> Option<VersionInfo> {
        let plugins = self.engine.snapshot().plugins.into_iter();
        let mut versions = plugins.filter(|info| info.name == plugin).flat_map(|p| p.versions);
        versions.find(|info| info.version == version)
    }

    /// The mapped files of the engine's staging directory, as the system lists them.
    pub fn mapped(&self) -> BTreeSet<String> {
        mapped_files(Path::new("/proc/self/maps"), &self.staging_dir())
    }

    /// The plugins' files in the engine's staging directory.
    pub fn staged(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.staging_dir()).expect("read the staging directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names.filter_map(|name| name.into_string().ok()).filter(|n| n.ends_with(".so")).collect()
    }

    pub fn staging_dir(&self) -> PathBuf {
        self.engine.snapshot().host.staging_dir
    }
}

/// Whether a version has exactly these holders: each text begins with the expected one.
pub fn held_by(holders: &[String], expected: &[&str]) -> bool {
    holders.len() == expected.len()
        && holders.iter().zip(expected).all(|(holder, begins)| holder.starts_with(begins))
}

/// Why a version is kept.
pub fn keep_reason(version: &VersionInfo) -> &KeepReason {
    match &version.ending {
        Some(Ending::Kept(reason)) => reason,
        other => panic!("the version is not kept: {other:?}"),
    }
}

/// The names of the files below a directory that a process has mapped.
pub fn mapped_files(maps: &Path, dir: &Path) -> BTreeSet<String> {
    let maps = fs::read_to_string(maps).expect("read a process's maps");
    let prefix = format!("{}/", dir.display());
    let paths = maps.lines().filter_map(|line| line.split_once('/').map(|(_, path)| path));
    let files = paths.filter_map(|path| format!("/{path}").strip_prefix(&prefix).map(Into::into));
    files.collect()
}
