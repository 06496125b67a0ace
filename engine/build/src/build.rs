//! Building hosts and plugins.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use hotswap_engine::artifact::{self, BuildId, Source};

use crate::build::compile::{Package, compile};
use crate::build::lock::BuildLock;
use crate::store::{self, StoredArtifact};
use crate::{BuildError, BuildMessage, Cancel, HostPackage, PluginPackage, cargo, git};

mod compile;
mod lock;

/// How to build; the default is an ordinary debug build.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Build with the profile `release`.
    pub release: bool,
    /// More flags for cargo, such as `--features` and a list.
    pub cargo_flags: Vec<String>,
}

/// A plugin that was built: an artifact in the store.
#[derive(Clone, Debug)]
pub struct Built {
    /// The name that the artifact says of itself.
    pub plugin: String,
    /// The identity of its code. The same source built again has the same one, also under
    /// another commit.
    pub build_id: BuildId,
    /// Where it lies in the store.
    pub artifact: PathBuf,
    /// The state of the git work tree when the build began; `None` outside a repository.
    pub source: Option<Source>,
    /// How many warnings the compiler gave, about this plugin and what it depends on.
    pub warnings: usize,
    /// How long each phase took: `cargo`, `stamp` and `store`.
    pub phases: Vec<(&'static str, Duration)>,
}

impl Built {
    /// Brings the artifact into a host's plugin directory as `<plugin>.so` and returns its path.
    ///
    /// The file appears there as a whole or not at all, and one that is the same already is left
    /// alone. A host that has the earlier file mapped keeps that one, as it has another inode.
    pub fn install(&self, out_dir: &Path) -> Result<PathBuf, BuildError> {
        store::install(&self.plugin, &self.artifact, out_dir)
    }
}

/// Builds a host's program in the ordinary target directory of its workspace and returns its
/// path.
pub fn build_host(
    host: &HostPackage,
    options: &BuildOptions,
    cancel: &Cancel,
    on_message: &mut dyn FnMut(BuildMessage),
) -> Result<PathBuf, BuildError> {
    let mut command = cargo::command();
    command.args(["build", "--package", &host.name, "--bin", &host.bin]);
    command.arg("--target-dir").arg(&host.target_dir);
    add_common_arguments(&mut command, &host.manifest_path, &host.dir, options);
    let package = Package {
        name: &host.name,
        manifest_path: &host.manifest_path,
        workspace_root: &host.workspace_root,
        package_count: host.package_count,
    };
    let compiled = compile(package, command, cancel, on_message)?;
    compiled.program(&host.bin).ok_or_else(|| {
        BuildError::setup(format!(
            "cargo built `{}` without its program `{}`; do the cargo flags choose something else?",
            host.name, host.bin
        ))
    })
}

/// Makes a shared library of a plugin, stamps it, and puts it into the store of its workspace.
///
/// Several processes may build in one workspace at the same time: the file that cargo made is
/// read while no other build can change it, and is never written to.
pub fn build_plugin(
    plugin: &PluginPackage,
    options: &BuildOptions,
    cancel: &Cancel,
    on_message: &mut dyn FnMut(BuildMessage),
) -> Result<Built, BuildError> {
    let started = Instant::now();
    let (linked, source) = thread::scope(|scope| {
        let source = scope.spawn(|| git::source(&plugin.dir));
        let linked = link(plugin, options, cancel, on_message);
        (linked, source.join())
    });
    let Linked { mut library, warnings } = linked?;
    let source = match source {
        Ok(Ok(source)) => source,
        Ok(Err(error)) => {
            let text = format!("`{}` gets no git facts: {}", plugin.name, error.message());
            on_message(BuildMessage::Output(text));
            None
        }
        Err(panic) => std::panic::resume_unwind(panic),
    };

    let compiled_at = Instant::now();
    artifact::stamp(&mut library, source.as_ref()).map_err(|error| {
        BuildError::artifact(format!("`{}` compiles, but is no plugin: {error}", plugin.name))
    })?;
    let stamped_at = Instant::now();
    let StoredArtifact { path, facts } = plugin.store()?.put(&library)?;
    Ok(Built {
        plugin: facts.name,
        build_id: facts.build_id,
        artifact: path,
        source,
        warnings,
        phases: vec![
            ("cargo", compiled_at - started),
            ("stamp", stamped_at - compiled_at),
            ("store", stamped_at.elapsed()),
        ],
    })
}

/// A shared library as the linker made it, in memory.
struct Linked {
    library: Vec<u8>,
    warnings: usize,
}

fn link(
    plugin: &PluginPackage,
    options: &BuildOptions,
    cancel: &Cancel,
    on_message: &mut dyn FnMut(BuildMessage),
) -> Result<Linked, BuildError> {
    let target_dir = plugin.target_dir.join("hotswap");
    let _lock = BuildLock::acquire(&target_dir, &plugin.name, cancel, on_message)?;

    let mut command = cargo::command();
    command.args(["rustc", "--package", &plugin.name, "--lib", "--crate-type", "cdylib"]);
    command.arg("--target-dir").arg(&target_dir);
    add_common_arguments(&mut command, &plugin.manifest_path, &plugin.dir, options);
    command.args(["--", "--cfg", "hotswap_cdylib"]);
    let package = Package {
        name: &plugin.name,
        manifest_path: &plugin.manifest_path,
        workspace_root: &plugin.workspace_root,
        package_count: plugin.package_count,
    };
    let compiled = compile(package, command, cancel, on_message)?;
    let path = compiled.shared_library().ok_or_else(|| {
        BuildError::setup(format!(
            "cargo built `{}` without a shared library; do the cargo flags choose something else?",
            plugin.name
        ))
    })?;
    let library = fs::read(&path).map_err(|error| {
        BuildError::artifact(format!(
            "`{}` is built, but {} cannot be read: {error}",
            plugin.name,
            path.display()
        ))
    })?;
    Ok(Linked { library, warnings: compiled.warnings })
}

/// Cargo runs in the package's directory, as it would for its author, so that the same
/// `.cargo/config.toml` and `rust-toolchain.toml` apply.
fn add_common_arguments(
    command: &mut Command,
    manifest_path: &Path,
    dir: &Path,
    options: &BuildOptions,
) {
    command.current_dir(dir).arg("--manifest-path").arg(manifest_path);
    command.args(["--message-format", "json-diagnostic-rendered-ansi"]);
    if options.release {
        command.arg("--release");
    }
    command.args(&options.cargo_flags);
}
