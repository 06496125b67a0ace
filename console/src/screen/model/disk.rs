//! Whether what runs is what is on disk: the sources of each plugin, its last build, and what lies in
//! the plugin directory.

use std::collections::BTreeMap;

use hotswap_protocol::{PluginInfo, same_plugin};

/// What is known of the sources and the builds of all plugins.
#[derive(Debug, Default)]
pub struct Disk {
    packages: Vec<(String, Package)>,
    /// The build ids of the artifacts in the plugin directory, by plugin.
    installed: BTreeMap<String, String>,
}

/// What is known of a plugin's sources and its last build.
#[derive(Debug, Default)]
struct Package {
    stage: Stage,
    /// The errors of the build that runs or ran last.
    errors: usize,
    /// The warnings of the last build that succeeded.
    warnings: usize,
}

/// How far the sources have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// They are as the last build found them, as far as is known.
    #[default]
    Built,
    /// They were saved since.
    Changed,
    /// They are being built.
    Building,
    /// They do not compile.
    Failed,
}

/// How what runs of a plugin compares with what is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskState {
    /// It is not known what is on disk.
    Unknown,
    /// It is the same.
    Same,
    /// The sources were saved and are not built.
    Changed,
    /// The sources are being built.
    Building,
    /// The sources do not compile: so many errors, where they were counted.
    Broken(usize),
    /// This build is in the plugin directory, and not loaded.
    NotLoaded(String),
    /// A rollback keeps it at an earlier build.
    RolledBack,
    /// The plugin directory has no artifact of it.
    Missing,
}

impl Disk {
    /// The sources of a package were saved.
    pub fn saved(&mut self, package: &str) {
        self.package(package).stage = Stage::Changed;
    }

    /// A build of a package begins.
    pub fn build_began(&mut self, package: &str) {
        let package = self.package(package);
        (package.stage, package.errors) = (Stage::Building, 0);
    }

    /// The compiler found an error in a package.
    pub fn error_found(&mut self, package: &str) {
        self.package(package).errors += 1;
    }

    /// The sources of a plugin compile, with so many warnings, and this build is in the plugin directory.
    pub fn built(&mut self, plugin: &str, build_id: &str, warnings: usize) {
        self.package(plugin).warnings = warnings;
        self.installed.insert(plugin.to_owned(), build_id.to_owned());
    }

    /// A build of a package succeeded.
    pub fn build_succeeded(&mut self, package: &str) {
        self.end_build(package, Stage::Built);
    }

    /// A build of a package failed.
    pub fn build_failed(&mut self, package: &str) {
        self.end_build(package, Stage::Failed);
    }

    /// A build of a package was cancelled.
    pub fn build_cancelled(&mut self, package: &str) {
        self.end_build(package, Stage::Changed);
    }

    /// A save that came while a package was built is still to be built.
    fn end_build(&mut self, package: &str, stage: Stage) {
        let package = self.package(package);
        if package.stage == Stage::Building {
            package.stage = stage;
        }
    }

    /// These artifacts are in the plugin directory.
    pub fn installed(&mut self, builds: BTreeMap<String, String>) {
        self.installed = builds;
    }

    /// How many warnings the last build of a plugin gave.
    pub fn warnings(&self, plugin: &str) -> usize {
        self.find(plugin).map_or(0, |package| package.warnings)
    }

    /// How many warnings the last builds of all plugins gave.
    pub fn all_warnings(&self) -> usize {
        self.packages.iter().map(|(_, package)| package.warnings).sum()
    }

    /// How what runs of a plugin compares with what is on disk.
    pub fn of(&self, plugin: &PluginInfo) -> DiskState {
        let package = self.find(&plugin.name);
        match package.map(|package| package.stage) {
            Some(Stage::Changed) => return DiskState::Changed,
            Some(Stage::Building) => return DiskState::Building,
            Some(Stage::Failed) => return DiskState::Broken(package.map_or(0, |it| it.errors)),
            Some(Stage::Built) | None => {}
        }
        if plugin.is_rolled_back {
            return DiskState::RolledBack;
        }
        let active = plugin.active();
        let mut installed = self.installed.iter();
        let installed = installed.find(|(name, _)| same_plugin(name, &plugin.name));
        match (installed, active) {
            _ if self.installed.is_empty() => DiskState::Unknown,
            (None, _) => DiskState::Missing,
            (Some((_, build_id)), Some(active)) if *build_id == active.build_id => DiskState::Same,
            (Some((_, build_id)), _) => DiskState::NotLoaded(build_id.clone()),
        }
    }

    /// What is on disk of a package that the host has not loaded.
    pub fn of_unloaded(&self, package: &str) -> DiskState {
        match self.find(package).map(|it| (it.stage, it.errors)) {
            Some((Stage::Failed, errors)) => DiskState::Broken(errors),
            Some((Stage::Changed, _)) => DiskState::Changed,
            Some((Stage::Building, _)) => DiskState::Building,
            Some((Stage::Built, _)) | None => DiskState::Unknown,
        }
    }

    fn find(&self, name: &str) -> Option<&Package> {
        let mut packages = self.packages.iter();
        packages.find(|(other, _)| same_plugin(other, name)).map(|(_, package)| package)
    }

    /// The package of this name, or of the plugin of this name.
    fn package(&mut self, name: &str) -> &mut Package {
        let known = self.packages.iter().position(|(other, _)| same_plugin(other, name));
        let position = known.unwrap_or_else(|| {
            self.packages.push((name.to_owned(), Package::default()));
            self.packages.len() - 1
        });
        &mut self.packages[position].1
    }
}
