//! An existing project, to which a plugin or Hotswap is added.

use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{Dependency, Error, Metadata, MetadataCommand, Package, Target, TargetKind};
use toml_edit::Value;

use super::draft::Draft;
use super::manifest::Manifest;
use super::origin::{Origin, at_path};
use super::refuse;
use crate::failure::Failure;

/// Keys that a new package inherits from its workspace if the workspace has them.
const INHERITED: [&str; 7] =
    ["version", "edition", "rust-version", "license", "authors", "repository", "publish"];

/// The crates of Hotswap that a plugin needs.
const OURS: [&str; 2] = ["hotswap-plugin", "hotswap-engine"];

/// A workspace, or a package without one.
pub(super) struct Project {
    metadata: Metadata,
    root: PathBuf,
    manifest: Manifest,
}

/// A package that has plugins or gets them.
pub(super) struct Host {
    pub dir: PathBuf,
    /// The source of its program.
    pub main: PathBuf,
    /// The name of the program, if it is one of several and a command has to choose it.
    pub bin: Option<String>,
    dependencies: Vec<Dependency>,
}

/// A package whose types a host and its plugins share.
pub(super) struct Api {
    pub name: String,
    dir: PathBuf,
}

impl Project {
    /// The project that contains a directory.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        if !dir.is_dir() {
            return Err(refuse(format!(
                "there is no directory {}; `hotswap new DIR` makes a project of its own",
                dir.display()
            )));
        }
        let mut command = MetadataCommand::new();
        command.current_dir(dir).no_deps();
        let metadata = command.exec().map_err(|error| {
            let reason = match &error {
                Error::CargoMetadata { stderr } => {
                    stderr.trim().trim_start_matches("error: ").to_owned()
                }
                other => other.to_string(),
            };
            refuse(format!(
                "{}: {reason}; `hotswap new DIR` makes a project of its own",
                dir.display()
            ))
        })?;
        let root = PathBuf::from(metadata.workspace_root.clone());
        let path = root.join("Cargo.toml");
        let text = fs::read_to_string(&path)
            .map_err(|error| refuse(format!("{}: {error}", path.display())))?;
        let manifest = Manifest::parse(&text, &path)?;
        Ok(Self { metadata, root, manifest })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path relative to the root.
    pub fn shown<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// The host for a new plugin: the named one, or the only one.
    pub fn host(&self, named: Option<&str>) -> Result<Host, Failure> {
        let hosts = self.metadata.packages.iter().filter(|it| lists_plugins(it));
        let hosts: Vec<_> = hosts.collect();
        let named_so = |host: &&&Package| named.is_none_or(|named| host.name.as_str() == named);
        let mut chosen = hosts.iter().filter(named_so);
        match (chosen.next(), chosen.next()) {
            (Some(host), None) => Ok(Host::of(host)),
            (None, _) if hosts.is_empty() => Err(refuse(
                "no package here has a [package.metadata.hotswap] with a list of plugins: `hotswap init DIR` \
                 makes the package in DIR a host, and `hotswap new DIR` a new project",
            )),
            (None, _) => Err(refuse(format!(
                "no host is named `{}`; there is {}",
                named.unwrap_or_default(),
                names(&hosts)
            ))),
            (Some(_), Some(_)) => Err(refuse(format!(
                "several packages are hosts: choose one with `--for`: {}",
                names(&hosts)
            ))),
        }
    }

    /// The package in a directory that becomes a host.
    pub fn host_to_be(&self, dir: &Path) -> Result<Host, Failure> {
        let dir = fs::canonicalize(dir)?;
        let programs: Vec<_> = self.metadata.packages.iter().filter(|it| has_program(it)).collect();
        let (hosts, others): (Vec<_>, Vec<_>) =
            programs.iter().copied().partition(|package| lists_plugins(package));
        let is_here = |package: &&&Package| {
            package
                .manifest_path
                .parent()
                .is_some_and(|of| fs::canonicalize(of).is_ok_and(|of| of == dir))
        };
        match programs.iter().find(is_here) {
            Some(package) if lists_plugins(package) => Err(refuse(format!(
                "`{}` is a host already: `hotswap new --plugin NAME` adds a plugin",
                package.name
            ))),
            Some(package) => Ok(Host::of(package)),
            None if programs.is_empty() => Err(refuse(
                "no package here has a program that could be a host; `hotswap new DIR` makes a new project",
            )),
            None if others.is_empty() => Err(refuse(format!(
                "here is a host already, {}: `hotswap new --plugin NAME` adds a plugin",
                names(&hosts)
            ))),
            None => {
                let dirs = others.iter().filter_map(|package| {
                    let of = package.manifest_path.parent()?.as_std_path();
                    Some(format!("{} (`{}`)", of.display(), package.name))
                });
                Err(refuse(format!(
                    "{} is not a package with a program: give the directory of one: {}",
                    dir.display(),
                    dirs.collect::<Vec<_>>().join(", ")
                )))
            }
        }
    }

    /// Fails if a package or directory has the plugin's name.
    pub fn expect_new(&self, name: &str) -> Result<(), Failure> {
        let folded = |name: &str| name.replace('-', "_").to_lowercase();
        let is_same = |package: &&Package| folded(&package.name) == folded(name);
        match self.metadata.packages.iter().find(is_same) {
            Some(package) => Err(refuse(format!(
                "the workspace has a package `{}` already, in {}: give the plugin another name with `--plugin`",
                package.name, package.manifest_path
            ))),
            None => Ok(()),
        }
    }

    /// The origin of Hotswap's crates in this project; `None` if it does not use them yet.
    pub fn origin(&self) -> Option<Origin> {
        let packages = self.metadata.packages.iter();
        let mut dependencies = packages.flat_map(|package| &package.dependencies);
        dependencies.find(|it| OURS.contains(&it.name.as_str())).and_then(Origin::of)
    }

    /// The directory for a new plugin, relative to the root: beside other plugins, or beside other members.
    pub fn dir_for_plugin(&self, name: &str) -> PathBuf {
        let members = self.manifest.list(&["workspace", "members"]);
        let globs: Vec<_> = members.iter().filter_map(|member| member.strip_suffix("/*")).collect();
        let plugins = self.metadata.packages.iter().filter(|it| depends_on_plugin_api(it));
        let dirs = plugins.filter_map(|it| it.manifest_path.parent()?.parent());
        let dirs: Vec<_> = dirs.map(|dir| self.shown(dir.as_std_path())).collect();
        let of_plugins = globs.iter().find(|glob| dirs.contains(&Path::new(glob)));
        let parent = of_plugins.or(globs.first());
        parent.map_or_else(PathBuf::new, PathBuf::from).join(name)
    }

    /// The packages of the workspace that a host depends on and that depend on `hotswap-plugin`. They have the
    /// types that the host shares with its plugins.
    pub fn shared_by(&self, host: &Host) -> Vec<Api> {
        let is_needed = |package: &&Package| {
            let dir = package.manifest_path.parent();
            host.dependencies.iter().any(|it| it.path.as_deref().is_some_and(|of| Some(of) == dir))
        };
        let shared = self.metadata.packages.iter().filter(|it| depends_on_plugin_api(it));
        let shared = shared.filter(is_needed).map(|package| Api {
            name: package.name.to_string(),
            dir: package.manifest_path.parent().map_or_else(PathBuf::new, Into::into),
        });
        shared.collect()
    }

    /// The manifest of a new plugin, in the style of the workspace.
    pub fn plugin_manifest(&self, name: &str, dir: &Path, origin: &Origin, apis: &[Api]) -> String {
        let mut text = format!("[package]\nname = \"{name}\"\n");
        for key in INHERITED {
            if self.manifest.get(&["workspace", "package", key]).is_some() {
                text += &format!("{key}.workspace = true\n");
            } else if key == "version" {
                text += "version = \"0.1.0\"\n";
            } else if key == "edition" {
                text += "edition = \"2024\"\n";
            }
        }
        if self.manifest.get(&["workspace", "lints"]).is_some() {
            text += "\n[lints]\nworkspace = true\n";
        }
        let dir = self.root.join(dir);
        let line = |krate: &str, dependency: Value| {
            if self.manifest.get(&["workspace", "dependencies", krate]).is_some()
                || (self.has_shared_dependencies() && OURS.contains(&krate))
            {
                format!("{krate}.workspace = true\n")
            } else {
                format!("{krate} = {dependency}\n")
            }
        };
        text += "\n[dependencies]\n";
        for api in apis {
            text += &line(&api.name, at_path(&api.dir, &dir));
        }
        text += &line("hotswap-plugin", origin.dependency("hotswap-plugin", &dir));
        text += match self.has_shared_dependencies() {
            // The workspace's own dependency may lack the derives.
            true => "serde = { workspace = true, features = [\"derive\"] }\n".to_owned(),
            false => line("serde", Origin::serde().dependency("serde", &dir)),
        }
        .as_str();
        text += "\n[dev-dependencies]\n";
        text += &line("hotswap-engine", origin.dependency("hotswap-engine", &dir));
        text
    }

    /// Makes a directory a member of the workspace, unless a pattern covers it.
    pub fn join(&self, draft: &mut Draft, dir: &Path) -> Result<(), Failure> {
        let members = self.manifest.list(&["workspace", "members"]);
        let parent = dir.parent().unwrap_or(Path::new(""));
        let is_covered =
            |member: &&str| member.strip_suffix("/*").is_some_and(|of| Path::new(of) == parent);
        if members.iter().any(is_covered) {
            return Ok(());
        }
        self.change(draft, &self.root, |manifest| {
            manifest.push(&["workspace", "members"], &dir.to_string_lossy())
        })
    }

    /// Adds a plugin to the host's list.
    pub fn list(&self, draft: &mut Draft, host: &Host, name: &str) -> Result<(), Failure> {
        self.change(draft, &host.dir, |manifest| {
            manifest.push(&["package", "metadata", "hotswap", "plugins"], name)
        })
    }

    /// Adds a crate to the workspace's dependencies, if the workspace has such a table.
    pub fn depend_by_workspace(
        &self,
        draft: &mut Draft,
        krate: &str,
        origin: &Origin,
    ) -> Result<(), Failure> {
        if !self.has_shared_dependencies() {
            return Ok(());
        }
        let dependency = origin.dependency(krate, &self.root);
        self.change(draft, &self.root, |manifest| {
            manifest.set(&["workspace", "dependencies", krate], dependency)
        })
    }

    /// Makes a package depend on a crate, unless it does already.
    pub fn depend(
        &self,
        draft: &mut Draft,
        host: &Host,
        krate: &str,
        origin: &Origin,
    ) -> Result<(), Failure> {
        self.depend_by_workspace(draft, krate, origin)?;
        let dependency = origin.dependency(krate, &host.dir);
        self.change(draft, &host.dir, |manifest| {
            if self.has_shared_dependencies() {
                manifest.inherit(&["dependencies", krate])
            } else {
                manifest.set(&["dependencies", krate], dependency)
            }
        })
    }

    fn has_shared_dependencies(&self) -> bool {
        self.manifest.get(&["workspace", "dependencies"]).is_some()
    }

    fn change(
        &self,
        draft: &mut Draft,
        dir: &Path,
        edit: impl FnOnce(&mut Manifest) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let path = dir.join("Cargo.toml");
        draft.change(&path, |text| {
            let mut manifest = Manifest::parse(text, &path)?;
            edit(&mut manifest)?;
            Ok(manifest.to_string())
        })
    }
}

impl Host {
    fn of(package: &Package) -> Self {
        let dir: PathBuf = package.manifest_path.parent().map_or_else(PathBuf::new, Into::into);
        let programs: Vec<&Target> = package
            .targets
            .iter()
            .filter(|target| target.kind.contains(&TargetKind::Bin))
            .collect();
        let named = |name: &str| programs.iter().copied().find(|target| target.name == name);
        let (first, is_only) = (programs.first().copied(), programs.len() == 1);
        let chosen = package.default_run.as_deref().and_then(named);
        let chosen = chosen.or(first.filter(|_| is_only)).or_else(|| named(&package.name));
        let main = chosen.or(first).map(|target| target.src_path.clone().into());
        Self {
            main: main.unwrap_or_else(|| dir.join("src/main.rs")),
            bin: first.filter(|_| chosen.is_none()).map(|target| target.name.clone()),
            dir,
            dependencies: package.dependencies.clone(),
        }
    }
}

fn lists_plugins(package: &Package) -> bool {
    package.metadata.get("hotswap").is_some_and(|table| table.get("plugins").is_some())
}

fn has_program(package: &Package) -> bool {
    package.targets.iter().any(cargo_metadata::Target::is_bin)
}

fn depends_on_plugin_api(package: &Package) -> bool {
    package.dependencies.iter().any(|dependency| dependency.name == "hotswap-plugin")
}

fn names(packages: &[&Package]) -> String {
    packages.iter().map(|package| format!("`{}`", package.name)).collect::<Vec<_>>().join(", ")
}
