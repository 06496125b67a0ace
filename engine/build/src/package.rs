//! Hosts and plugins as cargo packages.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cargo_metadata::{Package, TargetKind};

use crate::BuildError;
use crate::host_metadata::HostMetadata;
use crate::included::IncludedFiles;
use crate::store::Store;
use crate::workspace::{Workspace, depends_on_plugin_api, find_manifest, list};

/// A host: a package with a program, whose manifest names its plugins.
///
/// ```toml
/// [package.metadata.hotswap]
/// plugins = ["world", "../plugins/cat"] # packages of the workspace, or paths from here
/// plugin-dir = "plugins"                # optional, a path from here
/// ```
#[derive(Clone, Debug)]
pub struct HostPackage {
    /// The package's name.
    pub name: String,
    /// The name of the program: `default-run`, or the package's only one, or the one of its name.
    pub bin: String,
    /// The directory of its manifest.
    pub dir: PathBuf,
    /// Its `Cargo.toml`.
    pub manifest_path: PathBuf,
    /// The directory of the workspace it belongs to; its own where it belongs to no other.
    pub workspace_root: PathBuf,
    /// The workspace's target directory.
    pub target_dir: PathBuf,
    /// Where the host finds its artifacts: `plugin-dir`, or else
    /// `<target>/hotswap/plugins/<package name>`.
    pub plugin_dir: PathBuf,
    /// Its plugins, in the order of the manifest.
    pub plugins: Vec<PluginPackage>,
    /// How many packages a build of it compiles at most.
    pub package_count: usize,
}

/// A plugin: a package with a library that depends on `hotswap-plugin`.
#[derive(Clone, Debug)]
pub struct PluginPackage {
    /// The package's name.
    pub name: String,
    /// The directory of its manifest.
    pub dir: PathBuf,
    /// Its `Cargo.toml`.
    pub manifest_path: PathBuf,
    /// The directory of the workspace it belongs to; its own where it belongs to no other.
    pub workspace_root: PathBuf,
    /// The workspace's target directory. Plugins are built below it, in `hotswap`.
    pub target_dir: PathBuf,
    /// Its own directory and those of the path dependencies it is built from.
    pub source_dirs: Vec<PathBuf>,
    /// Which files besides Rust sources are its sources too.
    pub included: IncludedFiles,
    /// How many packages a build of it compiles at most.
    pub package_count: usize,
}

impl HostPackage {
    /// Reads the manifest in `dir` and finds the plugins that it names.
    pub fn open(dir: &Path) -> Result<Self, BuildError> {
        let manifest_path = find_manifest(dir)?;
        let workspace = Workspace::load(&manifest_path)?;
        let Some(package) = workspace.member_at(&manifest_path) else {
            return Err(no_package(&workspace, &manifest_path));
        };
        let metadata = plugins_named(&workspace, package)?;
        let plugins = open_plugins(&workspace, package, &metadata.plugins)?;
        refuse_plugin_dependency(
            &workspace,
            package,
            "a host never depends on its plugins, unless in a feature for static linking that is off by \
             default",
        )?;

        let dir = dir_of(package);
        let target_dir = workspace.target_dir();
        let default_plugin_dir = || target_dir.join("hotswap/plugins").join(package.name.as_str());
        Ok(Self {
            name: package.name.to_string(),
            bin: program(package)?,
            plugin_dir: metadata.plugin_dir.map_or_else(default_plugin_dir, |path| dir.join(path)),
            dir,
            manifest_path: package.manifest_path.clone().into(),
            workspace_root: workspace.root(),
            plugins,
            package_count: 1 + workspace.dependencies(package).len(),
            target_dir,
        })
    }
}

impl PluginPackage {
    /// Reads the manifest in `dir`.
    pub fn open(dir: &Path) -> Result<Self, BuildError> {
        let manifest_path = find_manifest(dir)?;
        let workspace = Workspace::load(&manifest_path)?;
        match workspace.member_at(&manifest_path) {
            Some(package) => Self::of(&workspace, package),
            None => Err(BuildError::setup(format!(
                "{} is a workspace without a package of its own; give the directory of one of \
                 its plugins: {}",
                dir.display(),
                workspace.plugin_candidates()
            ))),
        }
    }

    /// The store that artifacts of this workspace are kept in.
    pub fn store(&self) -> Result<Store, BuildError> {
        Store::open(&self.target_dir.join("hotswap/store"))
    }

    fn of(workspace: &Workspace, package: &Package) -> Result<Self, BuildError> {
        if !package.targets.iter().any(|target| target.kind.iter().any(is_library)) {
            return Err(BuildError::setup(format!(
                "`{}` cannot be a plugin, since it has no library: add a src/lib.rs to {}",
                package.name,
                dir_of(package).display()
            )));
        }
        if !depends_on_plugin_api(package) {
            return Err(BuildError::setup(format!(
                "`{}` is not a plugin, since it does not depend on `hotswap-plugin`: add that to \
                 [dependencies] in {}",
                package.name, package.manifest_path
            )));
        }
        refuse_plugin_dependency(workspace, package, "a plugin never depends on another one")?;

        let dependencies = workspace.dependencies(package);
        let local = dependencies.iter().filter(|package| package.source.is_none());
        let mut source_dirs: BTreeSet<_> = local.map(|package| dir_of(package)).collect();
        source_dirs.insert(dir_of(package));
        Ok(Self {
            name: package.name.to_string(),
            dir: dir_of(package),
            manifest_path: package.manifest_path.clone().into(),
            workspace_root: workspace.root(),
            target_dir: workspace.target_dir(),
            source_dirs: source_dirs.into_iter().collect(),
            included: IncludedFiles::of(package)?,
            package_count: 1 + dependencies.len(),
        })
    }
}

/// What to say about a manifest that has only a `[workspace]`.
fn no_package(workspace: &Workspace, manifest_path: &Path) -> BuildError {
    let members = workspace.members();
    let hosts = members.iter().filter(|member| HostMetadata::is_in(member));
    let hosts: Vec<_> =
        hosts.map(|host| format!("{} (`{}`)", dir_of(host).display(), host.name)).collect();
    let advice = if hosts.is_empty() {
        "none of its members has a [package.metadata.hotswap] that would make it a host".to_owned()
    } else {
        format!("give the directory of one of its hosts: {}", hosts.join(", "))
    };
    let shown = manifest_path.display();
    BuildError::setup(format!("{shown} is a workspace without a package of its own; {advice}"))
}

fn plugins_named(workspace: &Workspace, package: &Package) -> Result<HostMetadata, BuildError> {
    let problem = match HostMetadata::of(package)? {
        Some(metadata) if !metadata.plugins.is_empty() => return Ok(metadata),
        Some(_) => "names no plugins",
        None => "has no [package.metadata.hotswap], so it names no plugins",
    };
    Err(BuildError::setup(format!(
        "{} {problem}: add them there as `[package.metadata.hotswap] plugins = [\"…\"]`; packages \
         of this workspace: {}",
        package.manifest_path,
        workspace.plugin_candidates()
    )))
}

fn open_plugins(
    workspace: &Workspace,
    host: &Package,
    entries: &[String],
) -> Result<Vec<PluginPackage>, BuildError> {
    let mut plugins: Vec<PluginPackage> = Vec::new();
    for entry in entries {
        let plugin = open_plugin(workspace, host, entry)?;
        if plugins.iter().any(|other| other.name == plugin.name) {
            return Err(BuildError::setup(format!(
                "{} names the plugin `{}` twice",
                host.manifest_path, plugin.name
            )));
        }
        plugins.push(plugin);
    }
    Ok(plugins)
}

/// A name of a member, or else a path, which may lead into another workspace.
fn open_plugin(
    workspace: &Workspace,
    host: &Package,
    entry: &str,
) -> Result<PluginPackage, BuildError> {
    if let Some(package) = workspace.member(entry).or_else(|| workspace.member_in(host, entry)) {
        return PluginPackage::of(workspace, package);
    }
    let dir = dir_of(host).join(entry);
    if dir.exists() {
        return PluginPackage::open(&dir);
    }
    Err(BuildError::setup(format!(
        "{} names the plugin `{entry}`, which is neither a package of this workspace nor a \
         directory beside the manifest; packages of this workspace: {}",
        host.manifest_path,
        workspace.plugin_candidates()
    )))
}

fn refuse_plugin_dependency(
    workspace: &Workspace,
    package: &Package,
    rule: &str,
) -> Result<(), BuildError> {
    let plugins = workspace.declared_plugins();
    let is_plugin = |other: &&&Package| plugins.iter().any(|plugin| plugin.id == other.id);
    match workspace.dependencies(package).iter().find(is_plugin) {
        None => Ok(()),
        Some(plugin) => Err(BuildError::setup(format!(
            "`{}` depends on the plugin `{}`, but {rule}: move the types that both use into a \
             crate of their own",
            package.name, plugin.name
        ))),
    }
}

fn program(package: &Package) -> Result<String, BuildError> {
    let is_program = |kind: &TargetKind| *kind == TargetKind::Bin;
    let programs = package.targets.iter().filter(|target| target.kind.iter().any(is_program));
    let names: Vec<&str> = programs.map(|target| target.name.as_str()).collect();
    match (&package.default_run, names.as_slice()) {
        (Some(name), _) => Ok(name.clone()),
        (None, [name]) => Ok((*name).to_owned()),
        (None, names) if names.contains(&package.name.as_str()) => Ok(package.name.to_string()),
        (None, []) => Err(BuildError::setup(format!(
            "`{}` cannot be a host, since it has no program: add a src/main.rs to {}",
            package.name,
            dir_of(package).display()
        ))),
        (None, names) => Err(BuildError::setup(format!(
            "`{}` has several programs, {}: name the host with `default-run` in {}",
            package.name,
            list(names.iter().copied()),
            package.manifest_path
        ))),
    }
}

fn is_library(kind: &TargetKind) -> bool {
    use TargetKind::{CDyLib, DyLib, Lib, RLib, StaticLib};
    matches!(kind, Lib | RLib | DyLib | CDyLib | StaticLib)
}

fn dir_of(package: &Package) -> PathBuf {
    // A manifest path always has a parent; without one the package would be where we are.
    package.manifest_path.parent().unwrap_or(".".as_ref()).into()
}
