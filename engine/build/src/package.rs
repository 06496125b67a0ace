//! Hosts and plugins as cargo packages.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use cargo_metadata::{Package, Target, TargetKind};
use hotswap_protocol::same_plugin;

use crate::host_metadata::HostMetadata;
use crate::included::IncludedFiles;
use crate::replay::{configuration_files, toolchain_files};
use crate::store::Store;
use crate::workspace::{
    Workspace, compiles, depends_on_plugin_api, find_manifest, list, other_api_path,
    reaches_plugin_api,
};
use crate::{BuildError, cargo};

/// A host: a package with a program, whose manifest names its plugins.
///
/// ```toml
/// [package.metadata.hotswap]
/// # Names of packages in the workspace, or paths relative to this manifest.
/// plugins = ["world", "../plugins/cat"]
/// # Optional: a path relative to this manifest.
/// plugin-dir = "plugins"
/// # Optional: more flags for cargo.
/// cargo-flags = ["--features", "more"]
/// ```
#[derive(Clone, Debug)]
pub struct HostPackage {
    /// The package's name.
    pub name: String,
    /// Cargo's full id of the package. Other packages may have the same name.
    pub package_id: String,
    /// The program or example that cargo's flags choose; else the manifest's `default-run`, the package's only
    /// program, or the program that is named like the package.
    pub program: Program,
    /// The directory of its manifest.
    pub dir: PathBuf,
    /// The path of its `Cargo.toml`.
    pub manifest_path: PathBuf,
    /// The root directory of its workspace; its own directory if it is not part of a workspace.
    pub workspace_root: PathBuf,
    /// The workspace's target directory.
    pub target_dir: PathBuf,
    /// The directory from which the host loads its artifacts: the manifest's `plugin-dir`, or else
    /// `<target>/hotswap/plugins/<program's name>`, which is also the program's own default. If the target
    /// directory is not inside the workspace, several workspaces may share it; then a suffix distinguishes
    /// them.
    pub plugin_dir: PathBuf,
    /// Its plugins, in the order of the manifest.
    pub plugins: Vec<PluginPackage>,
    /// The directories of the package and of all its path dependencies, sorted.
    pub source_dirs: Vec<PathBuf>,
    /// The files with cargo's configuration that the flag `--config` names.
    pub configurations: Vec<PathBuf>,
    /// The manifest's `cargo-flags`: more flags for cargo, one argument each. Callers that build the host add
    /// them to [`BuildOptions`](crate::BuildOptions).
    pub cargo_flags: Vec<String>,
    /// The largest number of packages that a build of it compiles, itself included.
    pub package_count: usize,
}

/// The flag of cargo that chooses a program.
const BIN: &str = "--bin";
/// The flag of cargo that chooses an example.
const EXAMPLE: &str = "--example";

/// What cargo builds and runs as a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A program of the package, by its name.
    Bin(String),
    /// An example of the package, by its name.
    Example(String),
}

impl Program {
    /// The name of the program or example.
    pub fn name(&self) -> &str {
        let (Self::Bin(name) | Self::Example(name)) = self;
        name
    }

    /// The flags with which cargo builds or runs only this target.
    pub fn flags(&self) -> [&str; 2] {
        [self.flag(), self.name()]
    }

    fn flag(&self) -> &'static str {
        match self {
            Self::Bin(_) => BIN,
            Self::Example(_) => EXAMPLE,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Bin(_) => "program",
            Self::Example(_) => "example",
        }
    }

    fn kind(&self) -> TargetKind {
        match self {
            Self::Bin(_) => TargetKind::Bin,
            Self::Example(_) => TargetKind::Example,
        }
    }

    /// Whether this is a target of a package.
    pub(crate) fn is(&self, target: &Target) -> bool {
        target.name == self.name() && target.kind.contains(&self.kind())
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.word(), self.name())
    }
}

/// A plugin: a package with a library that depends on `hotswap-plugin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginPackage {
    /// The package's name.
    pub name: String,
    /// Cargo's full id of the package. Other packages may have the same name.
    pub package_id: String,
    /// The directory of its manifest.
    pub dir: PathBuf,
    /// The path of its `Cargo.toml`.
    pub manifest_path: PathBuf,
    /// The root directory of its workspace; its own directory if it is not part of a workspace.
    pub workspace_root: PathBuf,
    /// The workspace's target directory. Plugins are built in its subdirectory `hotswap`.
    pub target_dir: PathBuf,
    /// The directories of the package and of all its path dependencies, sorted. Dependencies that
    /// only tests need are left out.
    pub source_dirs: Vec<PathBuf>,
    /// Which files of the package count as its sources, besides Rust sources.
    pub included: IncludedFiles,
    /// The files with cargo's configuration that the flag `--config` names.
    pub configurations: Vec<PathBuf>,
    /// The largest number of packages that a build of it compiles, itself included.
    pub package_count: usize,
    /// The path by which its code reaches the crate `hotswap_plugin`, if its macros do not find the crate by that name.
    pub api_path: Option<String>,
}

impl HostPackage {
    /// Reads the manifest in `dir` and finds the plugins that it names.
    ///
    /// # Errors
    /// [`Setup`](crate::BuildErrorKind::Setup) if `dir` is not a package with a program, if its
    /// manifest names no plugins or one that cannot be found, or if the package depends on one of
    /// its plugins.
    pub fn open(dir: &Path) -> Result<Self, BuildError> {
        Self::open_with(dir, &[])
    }

    /// Opens the package like [`open`](Self::open), with the `cargo_flags` of the builds. So cargo finds the
    /// packages in the same way as in these builds, with `--locked`, `--offline` and `--config`, and with the
    /// flags in the manifest.
    ///
    /// # Errors
    /// As for [`open`](Self::open), and [`Setup`](crate::BuildErrorKind::Setup) if the lock file must not
    /// change and does not fit the manifests.
    pub fn open_with(dir: &Path, cargo_flags: &[String]) -> Result<Self, BuildError> {
        let manifest_path = find_manifest(dir)?;
        let flags = [HostMetadata::cargo_flags_in(&manifest_path), cargo_flags.to_vec()].concat();
        let workspace = Workspace::load(&manifest_path, &flags)?;
        let Some(package) = workspace.member_at(&manifest_path) else {
            return Err(no_package(&workspace, &manifest_path));
        };
        let metadata = plugins_named(&workspace, package)?;
        let plugins = open_plugins(&workspace, package, &metadata.plugins, &flags)?;
        refuse_plugin_dependency(
            &workspace,
            package,
            "a host must not depend on its plugins, except in a feature for static linking that is off \
             by default",
        )?;

        let dir = dir_of(package);
        let target_dir = workspace.target_dir();
        let root = workspace.root();
        let program = program(package, &flags)?;
        let default_plugin_dir = || default_plugin_dir(&target_dir, &root, program.name());
        let plugin_dir = metadata.plugin_dir.map_or_else(default_plugin_dir, |path| dir.join(path));
        let compiled = match &program {
            Program::Bin(_) => workspace.dependencies(package),
            Program::Example(_) => workspace.dependencies_of_examples(package),
        };
        Ok(Self {
            name: package.name.to_string(),
            package_id: package.id.repr.clone(),
            configurations: cargo::given_files(&flags),
            cargo_flags: metadata.cargo_flags,
            plugin_dir,
            dir,
            manifest_path: package.manifest_path.clone().into(),
            workspace_root: root.clone(),
            plugins,
            source_dirs: source_dirs(package, &compiled),
            package_count: 1 + compiled.len(),
            program,
            target_dir,
        })
    }

    /// Makes a package that lets a [`Watcher`](crate::Watcher) watch the host's own sources, too. Their
    /// changes are reported under `name`, which must differ from the names of the plugins.
    pub fn watched_as(&self, name: &str) -> PluginPackage {
        PluginPackage {
            name: name.to_owned(),
            package_id: self.package_id.clone(),
            dir: self.dir.clone(),
            manifest_path: self.manifest_path.clone(),
            workspace_root: self.workspace_root.clone(),
            target_dir: self.target_dir.clone(),
            source_dirs: self.source_dirs.clone(),
            included: IncludedFiles::default(),
            configurations: self.configurations.clone(),
            package_count: self.package_count,
            api_path: None,
        }
    }

    /// The files that decide how cargo compiles the host, beside its sources: the manifests of the package, of its path
    /// dependencies and of the workspace, the lock file, and the files with cargo's configuration and with the toolchain.
    /// Files that do not exist are included.
    pub fn setting_files(&self) -> Vec<PathBuf> {
        let dirs = self.source_dirs.iter().chain([&self.workspace_root]);
        let mut files: Vec<PathBuf> = dirs.map(|dir| dir.join("Cargo.toml")).collect();
        files.push(self.workspace_root.join("Cargo.lock"));
        files.extend(configuration_files(&self.dir, &self.configurations));
        files.extend(toolchain_files(&self.dir));
        files
    }
}

/// The default plugin directory. Two checkouts of one workspace may share a target directory, but neither
/// must load the other's artifacts.
fn default_plugin_dir(target_dir: &Path, workspace_root: &Path, program: &str) -> PathBuf {
    let plugins = target_dir.join("hotswap/plugins");
    if target_dir.starts_with(workspace_root) {
        return plugins.join(program);
    }
    let mut hasher = DefaultHasher::new();
    workspace_root.hash(&mut hasher);
    plugins.join(format!("{program}-{:016x}", hasher.finish()))
}

/// The directories of a package and of those of its `dependencies` that are path dependencies, sorted.
fn source_dirs(package: &Package, dependencies: &[&Package]) -> Vec<PathBuf> {
    let local = dependencies.iter().filter(|package| package.source.is_none());
    let mut dirs: BTreeSet<_> = local.map(|package| dir_of(package)).collect();
    dirs.insert(dir_of(package));
    dirs.into_iter().collect()
}

impl PluginPackage {
    /// Reads the manifest in `dir`.
    ///
    /// ```no_run
    /// use hotswap_build::PluginPackage;
    ///
    /// # fn main() -> Result<(), hotswap_build::BuildError> {
    /// let plugin = PluginPackage::open("sample-plugins/world".as_ref())?;
    /// for build in plugin.store()?.list(&plugin.name)? {
    ///     println!("{} has {} bytes", build.build_id, build.size_bytes);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Setup`](crate::BuildErrorKind::Setup) if `dir` is not a package with a library that depends
    /// on `hotswap-plugin`, or if the package depends on another plugin.
    pub fn open(dir: &Path) -> Result<Self, BuildError> {
        Self::open_with(dir, &[])
    }

    /// Opens the package like [`open`](Self::open), with the `cargo_flags` of the builds. So cargo finds the
    /// packages in the same way as in these builds, with `--locked`, `--offline` and `--config`.
    ///
    /// # Errors
    /// As for [`open`](Self::open), and [`Setup`](crate::BuildErrorKind::Setup) if the lock file must not
    /// change and does not fit the manifests.
    pub fn open_with(dir: &Path, cargo_flags: &[String]) -> Result<Self, BuildError> {
        let manifest_path = find_manifest(dir)?;
        let workspace = Workspace::load(&manifest_path, cargo_flags)?;
        match workspace.member_at(&manifest_path) {
            Some(package) => Self::of(&workspace, package, cargo_flags),
            None => Err(BuildError::setup(format!(
                "{} is a workspace without a package of its own; give the directory of one of \
                 its plugins: {}",
                dir.display(),
                workspace.plugin_candidates()
            ))),
        }
    }

    /// The target directory in which plugins are built, separate from that of the author's own builds.
    pub(crate) fn cargo_target_dir(&self) -> PathBuf {
        self.target_dir.join("hotswap")
    }

    /// Opens the store for the artifacts of this workspace, and creates it if there is none.
    ///
    /// # Errors
    /// [`Artifact`](crate::BuildErrorKind::Artifact) if its directory cannot be created.
    pub fn store(&self) -> Result<Store, BuildError> {
        Store::open(&self.target_dir.join("hotswap/store"))
    }

    /// The files that count as its sources besides Rust sources, with paths relative to the package.
    pub fn included_files(&self) -> Vec<PathBuf> {
        self.included.files(&self.dir)
    }

    fn of(
        workspace: &Workspace,
        package: &Package,
        cargo_flags: &[String],
    ) -> Result<Self, BuildError> {
        let has_library = package.targets.iter().any(|target| target.kind.iter().any(is_library));
        let has_api = reaches_plugin_api(workspace, package);
        if !(has_library && has_api)
            && let Ok(Some(HostMetadata { plugins, .. })) = HostMetadata::of(package)
            && !plugins.is_empty()
        {
            return Err(BuildError::setup(format!(
                "`{}` is a host and no plugin; its plugins are {}: give the directory of one of them",
                package.name,
                list(plugins.iter().map(String::as_str))
            )));
        }
        if !has_library {
            return Err(BuildError::setup(format!(
                "`{}` cannot be a plugin, since it has no library: add a src/lib.rs to {}",
                package.name,
                dir_of(package).display()
            )));
        }
        if !has_api {
            return Err(BuildError::setup(format!(
                "`{}` is not a plugin, since it does not depend on `hotswap-plugin`: add that to \
                 [dependencies] in {}",
                package.name, package.manifest_path
            )));
        }
        refuse_plugin_dependency(workspace, package, "a plugin must not depend on another plugin")?;

        let dependencies = workspace.dependencies(package);
        Ok(Self {
            name: package.name.to_string(),
            package_id: package.id.repr.clone(),
            dir: dir_of(package),
            manifest_path: package.manifest_path.clone().into(),
            workspace_root: workspace.root(),
            target_dir: workspace.target_dir(),
            source_dirs: source_dirs(package, &dependencies),
            included: IncludedFiles::of(package)?,
            configurations: cargo::given_files(cargo_flags),
            package_count: 1 + dependencies.len(),
            api_path: other_api_path(package),
        })
    }
}

/// The error for a manifest that has only a `[workspace]`.
fn no_package(workspace: &Workspace, manifest_path: &Path) -> BuildError {
    let (shown, advice) = (manifest_path.display(), hosts_of(workspace));
    BuildError::setup(format!("{shown} is a workspace without a package of its own; {advice}"))
}

/// The advice for a user who has named something that is not a host.
fn hosts_of(workspace: &Workspace) -> String {
    let members = workspace.members();
    let hosts = members.iter().filter(|member| HostMetadata::is_in(member));
    let hosts: Vec<_> =
        hosts.map(|host| format!("{} (`{}`)", dir_of(host).display(), host.name)).collect();
    if hosts.is_empty() {
        "none of the workspace's members is a host: a host has a [package.metadata.hotswap]"
            .to_owned()
    } else {
        format!("give the directory of a host of the workspace: {}", hosts.join(", "))
    }
}

fn plugins_named(workspace: &Workspace, package: &Package) -> Result<HostMetadata, BuildError> {
    let problem = match HostMetadata::of(package)? {
        Some(metadata) if !metadata.plugins.is_empty() => return Ok(metadata),
        Some(_) => "names no plugins",
        None if depends_on_plugin_api(package) && targets(package, &TargetKind::Bin).is_empty() => {
            let (name, advice) = (&package.name, hosts_of(workspace));
            return Err(BuildError::setup(format!("`{name}` is a plugin and no host; {advice}")));
        }
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
    cargo_flags: &[String],
) -> Result<Vec<PluginPackage>, BuildError> {
    let mut plugins: Vec<PluginPackage> = Vec::new();
    for entry in entries {
        let plugin = open_plugin(workspace, host, entry, cargo_flags)?;
        if let Some(other) = plugins.iter().find(|other| same_plugin(&other.name, &plugin.name)) {
            let problem = match other.name == plugin.name {
                true => format!("names the plugin `{}` twice", plugin.name),
                false => format!(
                    "names the plugins `{}` and `{}`, but upper and lower case do not distinguish plugins: rename \
                     one of the packages",
                    other.name, plugin.name
                ),
            };
            return Err(BuildError::setup(format!("{} {problem}", host.manifest_path)));
        }
        plugins.push(plugin);
    }
    Ok(plugins)
}

/// Opens the plugin that `entry` names: the name of a workspace member, or else a path, which may lead into
/// another workspace.
fn open_plugin(
    workspace: &Workspace,
    host: &Package,
    entry: &str,
    cargo_flags: &[String],
) -> Result<PluginPackage, BuildError> {
    if let Some(package) = workspace.member(entry).or_else(|| workspace.member_in(host, entry)) {
        return PluginPackage::of(workspace, package, cargo_flags);
    }
    let dir = dir_of(host).join(entry);
    if dir.exists() {
        return PluginPackage::open_with(&dir, cargo_flags);
    }
    Err(BuildError::setup(format!(
        "{} names the plugin `{entry}`, which is neither a package of this workspace nor a \
         directory relative to the manifest; packages of this workspace: {}",
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
    let dependencies = workspace.dependencies(package);
    let mut depended = dependencies.iter().filter(is_plugin);
    match depended.find(|plugin| compiles(package, plugin)) {
        None => Ok(()),
        Some(plugin) => Err(BuildError::setup(format!(
            "`{}` depends on the plugin `{}`, but {rule}: move the types that both use into a \
             crate of their own",
            package.name, plugin.name
        ))),
    }
}

/// The program that is the host: the one that cargo's `flags` choose, or else the one that `cargo run` chooses, or the
/// one with the package's name.
fn program(package: &Package, flags: &[String]) -> Result<Program, BuildError> {
    let (bins, examples) =
        (targets(package, &TargetKind::Bin), targets(package, &TargetKind::Example));
    let default = package.default_run.as_ref().map(|name| Program::Bin(name.clone()));
    if let Some(chosen) = chosen_program(flags).or(default) {
        if package.targets.iter().any(|target| chosen.is(target)) {
            return Ok(chosen);
        }
        let others = match &chosen {
            Program::Bin(_) => &bins,
            Program::Example(_) => &examples,
        };
        if !others.is_empty() {
            return Err(BuildError::setup(format!(
                "`{}` has no {chosen}, but {}: choose one of these with `{}`",
                package.name,
                list(others.iter().copied()),
                chosen.flag()
            )));
        }
        if let Program::Example(name) = &chosen {
            let dir = dir_of(package);
            return Err(BuildError::setup(format!(
                "`{}` has no examples: add an examples/{name}.rs to {}, or leave out `--example`",
                package.name,
                dir.display()
            )));
        }
    }
    match bins.as_slice() {
        [name] => Ok(Program::Bin((*name).to_owned())),
        names if names.contains(&package.name.as_str()) => {
            Ok(Program::Bin(package.name.to_string()))
        }
        [] if !examples.is_empty() => Err(BuildError::setup(format!(
            "`{}` has no program, but examples, {}: choose one with `--example`, or add a \
             src/main.rs to {}",
            package.name,
            list(examples.iter().copied()),
            dir_of(package).display()
        ))),
        [] => Err(BuildError::setup(format!(
            "`{}` cannot be a host, since it has no program: add a src/main.rs to {}",
            package.name,
            dir_of(package).display()
        ))),
        names => Err(BuildError::setup(format!(
            "`{}` has several programs, {}: choose one with `--bin`, or with `default-run` in {}",
            package.name,
            list(names.iter().copied()),
            package.manifest_path
        ))),
    }
}

/// The names of a package's targets of one kind.
fn targets<'a>(package: &'a Package, kind: &TargetKind) -> Vec<&'a str> {
    let targets = package.targets.iter().filter(|target| target.kind.contains(kind));
    targets.map(|target| target.name.as_str()).collect()
}

/// The program or example that cargo's flags choose; if several do, the last one counts.
fn chosen_program(flags: &[String]) -> Option<Program> {
    let name_after = |at: usize, flag: &str| match flags[at].strip_prefix(flag)? {
        "" => flags.get(at + 1).cloned(),
        joined => joined.strip_prefix('=').map(str::to_owned),
    };
    (0..flags.len()).rev().find_map(|at| {
        let bin = name_after(at, BIN).map(Program::Bin);
        bin.or_else(|| name_after(at, EXAMPLE).map(Program::Example))
    })
}

fn is_library(kind: &TargetKind) -> bool {
    use TargetKind::{CDyLib, DyLib, Lib, RLib, StaticLib};
    matches!(kind, Lib | RLib | DyLib | CDyLib | StaticLib)
}

fn dir_of(package: &Package) -> PathBuf {
    // A manifest path always has a parent.
    package.manifest_path.parent().unwrap_or(".".as_ref()).into()
}
