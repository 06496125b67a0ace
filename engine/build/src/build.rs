//! Building hosts and plugins.

use std::env::consts::DLL_SUFFIX;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use hotswap_artifact::{self as artifact, BuildId, Source};
use hotswap_protocol::PhaseTiming;
use serde::Serialize;

use crate::build::compile::{Package, compile};
use crate::build::link::{Linked, link};
use crate::replay::Replay;
use crate::store::{self, StoreLimits, StoredArtifact};
use crate::{BuildError, BuildMessage, Cancel, HostPackage, PluginPackage, cargo, git};

pub(crate) mod compile;
pub(crate) mod link;
mod lock;
pub(crate) mod profile;

/// How to build; the default is the profile `hotswap`: the one of that name in the workspace's
/// manifest, or else a debug build whose debug information is left out.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Build with the profile `release`.
    pub release: bool,
    /// More flags for cargo, such as `--features` and a list.
    pub cargo_flags: Vec<String>,
    /// Go through cargo also where only sources changed.
    pub no_replay: bool,
    /// What makes a function live by its name, instead of `live_`.
    pub live_prefix: Option<String>,
    /// Keep what is usually removed after the build, and say where it is.
    pub leave_temps: bool,
    /// How much the store keeps of the plugin.
    pub store_limits: StoreLimits,
    /// When the save was noticed that the build is for; from then until it begins is its phase
    /// `notice`.
    pub noticed: Option<Instant>,
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
    /// What the build changed.
    pub effect: BuildEffect,
    /// How long each phase took, in order: `notice` from a save until the build began; `check` what
    /// there is to do; then `cargo`, or `compile` and `link` where its commands were replayed; then
    /// `stamp` and `store`, and `install` once that was done.
    pub phases: Vec<PhaseTiming>,
}

/// What a build changed, compared with the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildEffect {
    /// The code is another one.
    NewCode,
    /// The sources changed, but the code that they make is what it was.
    SameCode,
    /// The sources are what they were.
    UpToDate,
}

impl Built {
    /// Brings the artifact into a host's plugin directory as `<plugin>.so` and returns its path.
    ///
    /// The file appears there as a whole or not at all, and one that is the same already is left
    /// alone. A host that has the earlier file mapped keeps that one, as it has another inode.
    pub fn install(&mut self, out_dir: &Path) -> Result<PathBuf, BuildError> {
        let began = Instant::now();
        let path = store::install(&self.plugin, self.build_id, &self.artifact, out_dir)?;
        self.phases.push(PhaseTiming::new("install", None, began.elapsed()));
        self.keep_phases();
        Ok(path)
    }

    /// Whoever loads the artifact tells how it was built; nothing depends on that.
    fn keep_phases(&self) {
        if self.effect == BuildEffect::NewCode {
            let _ = store::keep_phases(&self.artifact, &self.phases);
        }
    }

    /// Whether a host's plugin directory has this very code already.
    pub fn is_in(&self, out_dir: &Path) -> bool {
        let installed = fs::read(out_dir.join(format!("{}{DLL_SUFFIX}", self.plugin)));
        let facts = installed.ok().and_then(|bytes| artifact::inspect(&bytes).ok());
        facts.is_some_and(|facts| facts.build_id == self.build_id)
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
    let notice = options.noticed.map(|noticed| ("notice", noticed.elapsed()));
    let (linked, source) = thread::scope(|scope| {
        let source = scope.spawn(|| git::source(&plugin.dir));
        let linked = link(plugin, options, cancel, on_message);
        (linked, source.join())
    });
    let Linked { mut library, phases, warnings, mut effect, mut replay, _lock } = linked?;
    let source = match source {
        Ok(Ok(source)) => source,
        Ok(Err(error)) => {
            let text = format!("`{}` gets no git facts: {}", plugin.name, error.message());
            on_message(BuildMessage::Output(text));
            None
        }
        Err(panic) => std::panic::resume_unwind(panic),
    };

    let linked_at = Instant::now();
    let build_id = artifact::stamp(&mut library, source.as_ref()).map_err(|error| {
        BuildError::artifact(format!("`{}` compiles, but is no plugin: {error}", plugin.name))
    })?;
    let stamped_at = Instant::now();
    let store = plugin.store()?;
    let StoredArtifact { path, facts } = store.put(&library)?;
    store.prune(facts.name.as_str(), options.store_limits)?;
    let last = [("stamp", stamped_at - linked_at), ("store", stamped_at.elapsed())];
    if let Some(replay) = &mut replay {
        effect = judge(effect, build_id, replay);
    }
    let phases = in_sum(notice.into_iter().chain(phases).chain(last));
    let plugin = facts.name;
    let built = Built {
        plugin: plugin.to_string(),
        build_id,
        artifact: path,
        source,
        warnings,
        effect,
        phases,
    };
    built.keep_phases();
    Ok(built)
}

/// What was compiled may be what it was before, and what was not may be another build's than the
/// last one's.
fn judge(effect: BuildEffect, build_id: BuildId, replay: &mut Replay<'_>) -> BuildEffect {
    let build_id = build_id.to_string();
    match replay.replace_build_id(build_id.clone()) {
        Ok(Some(before)) if before != build_id => BuildEffect::NewCode,
        Ok(Some(_)) if effect == BuildEffect::NewCode => BuildEffect::SameCode,
        _ => effect,
    }
}

/// One entry a phase, in the order in which they began first.
fn in_sum(phases: impl Iterator<Item = (&'static str, Duration)>) -> Vec<PhaseTiming> {
    let mut sums: Vec<(&'static str, Duration)> = Vec::new();
    for (phase, elapsed) in phases {
        match sums.iter_mut().find(|(other, _)| *other == phase) {
            Some((_, sum)) => *sum += elapsed,
            None => sums.push((phase, elapsed)),
        }
    }
    sums.into_iter().map(|(phase, elapsed)| PhaseTiming::new(phase, None, elapsed)).collect()
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
