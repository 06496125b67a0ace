//! A cargo workspace as `cargo metadata` describes it, and how to find hosts and plugins in it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{
    DependencyKind, Error, Metadata, MetadataCommand, Node, NodeDep, Package, PackageId, TargetKind,
};

use crate::host_metadata::HostMetadata;
use crate::{BuildError, cargo, process};

/// The package that every plugin depends on.
const PLUGIN_API: &str = "hotswap-plugin";

#[derive(Debug)]
pub(crate) struct Workspace {
    metadata: Metadata,
    /// The arguments with which cargo was asked.
    options: Vec<String>,
}

/// The absolute path of the manifest in `dir`. The user may have typed `dir`, so it can be any path.
pub(crate) fn find_manifest(dir: &Path) -> Result<PathBuf, BuildError> {
    let shown = dir.display();
    if dir.is_file() {
        return Err(BuildError::setup(format!(
            "{shown} is a file, not the directory of a cargo package: give the directory that \
             has the Cargo.toml"
        )));
    }
    let dir = fs::canonicalize(dir).map_err(|error| {
        BuildError::setup(format!(
            "{shown}: {error}; give the directory of a cargo package, such as ./sample-host"
        ))
        .because(error)
    })?;
    if dir.to_str().is_none() {
        return Err(BuildError::setup(format!(
            "the path {} is not UTF-8, and cargo describes no package with such a path: rename its directories",
            dir.display()
        )));
    }
    let manifest_path = dir.join("Cargo.toml");
    if !manifest_path.is_file() {
        let around = dir.ancestors().skip(1).find(|dir| dir.join("Cargo.toml").is_file());
        let advice =
            around.map(|dir| format!("; the nearest one around it is in {}", dir.display()));
        return Err(BuildError::setup(format!(
            "{shown} is not a cargo package: there is no Cargo.toml in it{}",
            advice.unwrap_or_default()
        )));
    }
    Ok(manifest_path)
}

impl Workspace {
    /// Asks cargo about the workspace of the manifest at `manifest_path`, with those of cargo's `flags` that
    /// decide how cargo gets the packages. Without `--locked`, cargo would update the lock file here.
    pub(crate) fn load(manifest_path: &Path, flags: &[String]) -> Result<Self, BuildError> {
        let mut chosen = Vec::new();
        let flags = cargo::with_paths_from_current_dir(flags);
        let mut flags = flags.iter().map(String::as_str);
        while let Some(flag) = flags.next() {
            match flag {
                "--locked" | "--offline" | "--frozen" => chosen.push(flag),
                "--config" => chosen.extend([flag].into_iter().chain(flags.next())),
                _ if flag.starts_with("--config=") => chosen.push(flag),
                _ => {}
            }
        }
        Self::load_for(manifest_path, &chosen)
    }

    /// Asks cargo about the workspace of the manifest at `manifest_path`, as a build with the arguments
    /// `args` sees it.
    pub(crate) fn load_for(manifest_path: &Path, args: &[&str]) -> Result<Self, BuildError> {
        let mut command = MetadataCommand::new();
        command.manifest_path(manifest_path);
        let options = metadata_options(args);
        command.other_options(options.clone());
        for (name, path) in cargo::absolute_paths() {
            command.env(name, path);
        }
        if let Some(dir) = manifest_path.parent() {
            command.current_dir(dir);
        }
        let metadata = run(&command).map_err(|error| {
            let reason = match &error {
                Error::CargoMetadata { stderr } => stderr.trim_end().to_owned(),
                other => other.to_string(),
            };
            BuildError::setup(format!("{}: {reason}", manifest_path.display())).because(error)
        })?;
        Ok(Self { metadata, options })
    }

    /// Whether cargo would give the same information for a build of another member with the arguments `args`.
    /// Features are chosen for one member.
    pub(crate) fn is_for_all_members(&self, args: &[&str]) -> bool {
        let chooses = |option: &String| option.contains("-features") || option.starts_with("-F");
        self.options == metadata_options(args) && !self.options.iter().any(chooses)
    }

    /// The directories of the packages whose manifests cargo has read and that the author can edit.
    pub(crate) fn local_dirs(&self) -> BTreeSet<PathBuf> {
        let local = self.metadata.packages.iter().filter(|package| package.source.is_none());
        local.filter_map(|package| Some(package.manifest_path.parent()?.into())).collect()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.metadata.workspace_root.clone().into()
    }

    pub(crate) fn target_dir(&self) -> PathBuf {
        self.metadata.target_directory.clone().into()
    }

    pub(crate) fn members(&self) -> Vec<&Package> {
        self.metadata.workspace_packages()
    }

    pub(crate) fn member(&self, name: &str) -> Option<&Package> {
        self.members().into_iter().find(|package| package.name.as_str() == name)
    }

    /// The member with this manifest; `None` if the manifest has only a `[workspace]`.
    pub(crate) fn member_at(&self, manifest_path: &Path) -> Option<&Package> {
        let is_it = |package: &&Package| {
            fs::canonicalize(&package.manifest_path).is_ok_and(|path| path == manifest_path)
        };
        self.members().into_iter().find(is_it)
    }

    /// The names that a host's list of plugins can contain: the members that depend on
    /// `hotswap-plugin`, or all members if none does.
    pub(crate) fn plugin_candidates(&self) -> String {
        let members = self.members();
        let has_api = |package: &&&Package| depends_on_plugin_api(package);
        let mut candidates: Vec<_> = members.iter().filter(has_api).collect();
        if candidates.is_empty() {
            candidates = members.iter().collect();
        }
        list(candidates.into_iter().map(|package| package.name.as_str()))
    }

    /// The members that hosts of this workspace name as their plugins. A host with errors in its
    /// table is skipped, so that other packages can still be built; opening that host reports them.
    pub(crate) fn declared_plugins(&self) -> Vec<&Package> {
        let mut plugins = Vec::new();
        for host in self.members() {
            let Ok(Some(metadata)) = HostMetadata::of(host) else { continue };
            for entry in &metadata.plugins {
                plugins.extend(self.member(entry).or_else(|| self.member_in(host, entry)));
            }
        }
        plugins
    }

    /// The member at `path`, which is relative to the manifest of `package`.
    pub(crate) fn member_in(&self, package: &Package, path: &str) -> Option<&Package> {
        let dir = package.manifest_path.parent()?.join(path);
        self.member_at(&find_manifest(dir.as_std_path()).ok()?)
    }

    /// The directories of the local packages that a build of `package` compiles for something that only cargo
    /// compiles: a procedural macro, a build script, or a package that is not local.
    pub(crate) fn behind_cargo(&self, package: &Package) -> BTreeSet<PathBuf> {
        let nodes = self.metadata.resolve.iter().flat_map(|resolve| &resolve.nodes);
        let nodes: HashMap<&PackageId, &Node> = nodes.map(|node| (&node.id, node)).collect();
        let packages: HashMap<&PackageId, &Package> =
            self.metadata.packages.iter().map(|package| (&package.id, package)).collect();
        let mut found = HashSet::new();
        let mut open = vec![(&package.id, false)];
        while let Some((id, is_behind)) = open.pop() {
            let Some(package) = packages.get(id).filter(|_| found.insert((id, is_behind))) else {
                continue;
            };
            let is_behind = is_behind || package.source.is_some() || is_macro(package);
            let edges = nodes.get(id).into_iter().flat_map(|node| &node.deps);
            for edge in edges.filter(|edge| is_built(edge)) {
                let is_for_script =
                    edge.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Build);
                open.push((&edge.pkg, is_behind || is_for_script));
            }
        }
        let behind = found.iter().filter(|(_, is_behind)| *is_behind);
        let behind = behind.filter_map(|(id, _)| packages.get(id));
        let local = behind.filter(|package| package.source.is_none());
        let dirs = local.filter_map(|package| package.manifest_path.parent());
        dirs.map(|dir| dir.as_std_path().to_owned()).collect()
    }

    /// All packages that a build of `package` compiles besides itself: the dependencies of its
    /// library, its programs and its build script, but not those of its tests.
    pub(crate) fn dependencies(&self, package: &Package) -> Vec<&Package> {
        self.reached(package, |_, edge| is_built(edge))
    }

    /// All packages that a build of an example of `package` compiles besides itself: those of
    /// [`dependencies`](Self::dependencies), and those that its tests and examples need.
    pub(crate) fn dependencies_of_examples(&self, package: &Package) -> Vec<&Package> {
        self.reached(package, |of, edge| *of == package.id || is_built(edge))
    }

    /// The packages to which edges lead from `package` that `counts` lets pass.
    fn reached(
        &self,
        package: &Package,
        counts: impl Fn(&PackageId, &NodeDep) -> bool,
    ) -> Vec<&Package> {
        let nodes = self.metadata.resolve.iter().flat_map(|resolve| &resolve.nodes);
        let nodes: HashMap<&PackageId, &Node> = nodes.map(|node| (&node.id, node)).collect();
        let mut found = HashSet::new();
        let mut open = vec![&package.id];
        while let Some(id) = open.pop() {
            let edges = nodes.get(id).into_iter().flat_map(|node| &node.deps);
            open.extend(
                edges
                    .filter(|edge| counts(id, edge))
                    .map(|edge| &edge.pkg)
                    .filter(|id| found.insert(*id)),
            );
        }
        self.metadata.packages.iter().filter(|package| found.contains(&package.id)).collect()
    }
}

/// The arguments of `cargo metadata` for a build with the arguments `args`: those of its features, its
/// target and its configuration.
fn metadata_options(args: &[&str]) -> Vec<String> {
    const ALONE: [&str; 5] =
        ["--all-features", "--no-default-features", "--locked", "--offline", "--frozen"];
    const WITH_VALUE: [&str; 3] = ["--features", "-F", "--config"];
    let mut options = Vec::new();
    // Dependencies for other platforms are neither downloaded nor counted.
    let mut platform = "host-tuple".to_owned();
    // The arguments after `--` are for the compiler.
    let mut args = args.iter().copied().take_while(|arg| *arg != "--");
    while let Some(arg) = args.next() {
        if ALONE.contains(&arg) || WITH_VALUE.iter().any(|name| is_joined(arg, name)) {
            options.push(arg.to_owned());
        } else if WITH_VALUE.contains(&arg) {
            options.extend([arg].into_iter().chain(args.next()).map(str::to_owned));
        } else if arg == "--target" {
            platform = args.next().unwrap_or_default().to_owned();
        } else if let Some(target) = arg.strip_prefix("--target=") {
            platform = target.to_owned();
        }
    }
    options.extend(["--filter-platform".to_owned(), platform]);
    options
}

/// Whether `arg` is the option `name` together with its value: `--features=a`, `-Fa`.
fn is_joined(arg: &str, name: &str) -> bool {
    let value = arg.strip_prefix(name).unwrap_or_default();
    if name.starts_with("--") { value.starts_with('=') } else { !value.is_empty() }
}

pub(crate) fn depends_on_plugin_api(package: &Package) -> bool {
    let is_api = |name: &str, kind| name == PLUGIN_API && kind == DependencyKind::Normal;
    package.dependencies.iter().any(|dependency| is_api(&dependency.name, dependency.kind))
}

/// Whether a package depends on `hotswap-plugin`, or on a crate that depends on it and may re-export it.
pub(crate) fn reaches_plugin_api(workspace: &Workspace, package: &Package) -> bool {
    let is_api = |package: &&Package| package.name.as_str() == PLUGIN_API;
    depends_on_plugin_api(package) || workspace.dependencies(package).iter().any(is_api)
}

/// The path by which the code of `package` reaches `hotswap-plugin`, if it is not `hotswap_plugin`: the name that the
/// package gives it, or a path that is not known, because another crate re-exports it.
pub(crate) fn other_api_path(package: &Package) -> Option<String> {
    let mut dependencies = package.dependencies.iter();
    match dependencies.find(|it| it.name == PLUGIN_API && it.kind == DependencyKind::Normal) {
        Some(dependency) => dependency.rename.as_ref().map(|name| name.replace('-', "_")),
        None => Some("path::to::hotswap_plugin".to_owned()),
    }
}

/// Runs `cargo metadata` as [`MetadataCommand::exec`] does, in a [session of its own](process::in_session).
fn run(command: &MetadataCommand) -> Result<Metadata, Error> {
    let output = process::in_session(command.cargo_command()).output()?;
    if !output.status.success() {
        let stderr = String::from_utf8(output.stderr)?;
        return Err(Error::CargoMetadata { stderr });
    }
    let mut lines = str::from_utf8(&output.stdout)?.lines();
    MetadataCommand::parse(lines.find(|line| line.starts_with('{')).ok_or(Error::NoJson)?)
}

/// Names as a message lists them: `` `a`, `b` ``.
pub(crate) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Whether a build of `package` alone compiles `other`. The resolved features in cargo's metadata are those
/// of all members together; a build of one member has fewer. Also `true` if cargo does not say.
pub(crate) fn compiles(package: &Package, other: &Package) -> bool {
    let mut command = cargo::command();
    command.args(["tree", "--quiet", "--edges", "normal,build", "--prefix", "none"]);
    command.args(["--format", "{p}", "--package", &package.id.repr]);
    command.arg("--manifest-path").arg(&package.manifest_path);
    let (Some(dir), Some(other_dir)) =
        (package.manifest_path.parent(), other.manifest_path.parent())
    else {
        return true;
    };
    let Ok(output) = command.current_dir(dir).output() else { return true };
    let place = format!("({other_dir})");
    !output.status.success() || String::from_utf8_lossy(&output.stdout).contains(&place)
}

fn is_macro(package: &Package) -> bool {
    let kinds = package.targets.iter().flat_map(|target| &target.kind);
    kinds.into_iter().any(|kind| *kind == TargetKind::ProcMacro)
}

fn is_built(edge: &NodeDep) -> bool {
    edge.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
}
