//! Whether the loaded plugins match the disk: the sources of each plugin, its last build, and the artifacts in the
//! plugin directory.

use std::collections::BTreeMap;

use hotswap_protocol::{PluginInfo, same_plugin};

/// The known state of the sources and builds of all plugins.
#[derive(Debug, Default)]
pub struct Disk {
    packages: Vec<(String, Package)>,
    /// The build ids of the artifacts in the plugin directory, by plugin.
    installed: BTreeMap<String, String>,
    /// Why the file of a plugin in the plugin directory is not a complete artifact.
    unusable: BTreeMap<String, String>,
}

/// The known state of a plugin's sources and its last build.
#[derive(Debug, Default)]
struct Package {
    stage: Stage,
    /// The number of errors of the running or last build.
    errors: usize,
    /// The number of warnings of the last successful build.
    warnings: usize,
}

/// The state of the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// They have not changed since the last build, as far as is known.
    #[default]
    Built,
    /// They were saved after the last build.
    Changed,
    /// They are being built.
    Building,
    /// They do not compile.
    Failed,
}

/// The loaded version of a plugin, compared with the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskState {
    /// The state of the disk is unknown.
    Unknown,
    /// The disk has what is loaded.
    Same,
    /// The sources were saved and are not built.
    Changed,
    /// The sources are being built.
    Building,
    /// The sources do not compile. The number of errors, or 0 if they were not counted.
    Broken(usize),
    /// The plugin directory has this build, which is not loaded.
    NotLoaded(String),
    /// A rollback keeps it at an earlier build.
    RolledBack,
    /// The plugin directory has a file of the plugin that cannot be loaded, for this reason.
    Unusable(String),
    /// The plugin directory has no artifact of the plugin.
    Missing,
}

impl Disk {
    /// Notes that the sources of a package were saved.
    pub fn saved(&mut self, package: &str) {
        self.package(package).stage = Stage::Changed;
    }

    /// Notes that a build of a package begins.
    pub fn build_began(&mut self, package: &str) {
        let package = self.package(package);
        (package.stage, package.errors) = (Stage::Building, 0);
    }

    /// Notes that the compiler found an error in a package.
    pub fn error_found(&mut self, package: &str) {
        self.package(package).errors += 1;
    }

    /// Notes that a plugin compiled with this number of warnings, and that this build is in the plugin directory.
    pub fn built(&mut self, plugin: &str, build_id: &str, warnings: usize) {
        self.package(plugin).warnings = warnings;
        self.installed.insert(plugin.to_owned(), build_id.to_owned());
    }

    /// Notes that a build of a package succeeded.
    pub fn build_succeeded(&mut self, package: &str) {
        self.end_build(package, Stage::Built);
    }

    /// Notes that a build of a package failed.
    pub fn build_failed(&mut self, package: &str) {
        self.end_build(package, Stage::Failed);
    }

    /// Notes that a build of a package was cancelled.
    pub fn build_cancelled(&mut self, package: &str) {
        self.end_build(package, Stage::Changed);
    }

    /// Ends a build, unless a save came meanwhile: that still has to be built.
    fn end_build(&mut self, package: &str, stage: Stage) {
        let package = self.package(package);
        if package.stage == Stage::Building {
            package.stage = stage;
        }
    }

    /// Takes the build ids of the artifacts in the plugin directory, and the files that are no artifacts.
    pub fn installed(
        &mut self,
        builds: BTreeMap<String, String>,
        unusable: BTreeMap<String, String>,
    ) {
        (self.installed, self.unusable) = (builds, unusable);
    }

    /// The number of warnings of a plugin's last build.
    pub fn warnings(&self, plugin: &str) -> usize {
        self.find(plugin).map_or(0, |package| package.warnings)
    }

    /// The number of warnings of all plugins' last builds.
    pub fn all_warnings(&self) -> usize {
        self.packages.iter().map(|(_, package)| package.warnings).sum()
    }

    /// Compares the loaded version of a plugin with the disk.
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
        let of_plugin = |files: &BTreeMap<String, String>| {
            let mut files = files.iter();
            files.find(|(name, _)| same_plugin(name, &plugin.name)).map(|(_, of)| of.clone())
        };
        match (of_plugin(&self.installed), active) {
            _ if self.installed.is_empty() && self.unusable.is_empty() => DiskState::Unknown,
            (None, _) => of_plugin(&self.unusable).map_or(DiskState::Missing, DiskState::Unusable),
            (Some(build_id), Some(active)) if build_id == active.build_id => DiskState::Same,
            (Some(build_id), _) => DiskState::NotLoaded(build_id),
        }
    }

    /// The state of the disk for a package that the host has not loaded.
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

    /// The entry of the package with this name, or of the plugin with this name.
    fn package(&mut self, name: &str) -> &mut Package {
        let known = self.packages.iter().position(|(other, _)| same_plugin(other, name));
        let position = known.unwrap_or_else(|| {
            self.packages.push((name.to_owned(), Package::default()));
            self.packages.len() - 1
        });
        &mut self.packages[position].1
    }
}
