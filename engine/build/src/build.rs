//! Builds hosts and plugins.

use std::cell::RefCell;
use std::env::consts::DLL_SUFFIX;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hotswap_artifact::patch::Patch;
use hotswap_artifact::{self as artifact, BuildId, Source, layout};
use hotswap_protocol::{PhaseKind, PhaseTiming, same_plugin};
use serde::Serialize;

use crate::build::batch::{Batch, Reviewed};
use crate::build::compile::{Package, compile, expect_dir};
use crate::build::link::Linked;
use crate::build::lock::BuildLock;
use crate::outline::SourceChanges;
use crate::patch::{self, NotPatched};
use crate::replay::{self, Member, Moment, NewBuild, Replay};
use crate::store::{self, StoreLimits, StoredArtifact};
use crate::{
    BuildError, BuildMessage, Cancel, HostPackage, PluginPackage, atomic_file, cargo, git, reads,
};

mod batch;
pub(crate) mod compile;
pub(crate) mod link;
mod lock;
mod origins;
pub(crate) mod profile;

/// How to build.
///
/// By default plugins are built with the profile `hotswap`: the profile of that name in the
/// workspace's manifest, or else [`DEFAULT_PROFILE`](crate::DEFAULT_PROFILE), a debug build without
/// debug information. Hosts are built with cargo's default profile.
///
/// ```
/// use hotswap_build::{BuildOptions, StoreLimits};
///
/// let options = BuildOptions {
///     release: true,
///     cargo_flags: vec!["--features".into(), "fancy".into()],
///     store_limits: StoreLimits { count: 5, ..StoreLimits::default() },
///     ..BuildOptions::default()
/// };
/// ```
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Whether to use the profile `release`.
    pub release: bool,
    /// More flags for cargo, one argument each.
    pub cargo_flags: Vec<String>,
    /// Whether to run cargo even if only sources have changed since the last build. Otherwise such a build
    /// repeats the compiler calls of an earlier run of cargo, which saves the time that cargo takes.
    pub no_replay: bool,
    /// The prefix of the names that are live in a module marked `#[live]`; `None` for `live_`.
    pub live_prefix: Option<String>,
    /// Whether to keep the temporary files of the build. A [`BuildMessage::Output`] names their place.
    pub leave_temps: bool,
    /// How many builds of the plugin the store keeps.
    pub store_limits: StoreLimits,
    /// The build that a host runs. If it is given, the build makes a patch for it: see [`Built::patch`].
    pub patch_base: Option<BuildId>,
    /// Called with a patch for [`patch_base`](Self::patch_base) while the linker of the plugin still runs. This
    /// happens only if nothing but the plugin itself had to be compiled. The patch [is early](Patch::is_early): it
    /// does not name its build yet. After the build, [`Built::patch`] has the same code with the build id.
    pub on_early_patch: Option<OnPatch>,
    /// The plugin directory into which the artifact is copied, as by [`Built::install`]. If that fails, the build
    /// fails.
    pub install_to: Option<PathBuf>,
    /// Whether to start a compiler after the build of a single plugin. It waits for the next build of that plugin
    /// in this process, which then need not wait for a compiler to be loaded. Such a compiler takes some 6 MB of
    /// memory and no CPU time. At most four wait at a time.
    pub keep_compiler: bool,
    /// When the change that this build is for was noticed. The time from then until the build begins is the phase
    /// `notice`; without it, there is no such phase.
    pub noticed: Option<Instant>,
}

/// A patch whose artifact is still being linked.
#[derive(Clone, Debug)]
pub struct EarlyPatch {
    /// The patch; it [is early](Patch::is_early).
    pub patch: Patch,
    /// How long each phase has taken so far, as in [`Built::phases`].
    pub phases: Vec<PhaseTiming>,
}

/// A callback for early patches. It runs on a thread of the build.
#[derive(Clone)]
pub struct OnPatch(pub Arc<dyn Fn(EarlyPatch) + Send + Sync>);

impl fmt::Debug for OnPatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnPatch")
    }
}

/// A plugin that was built: an artifact in the store.
#[derive(Clone, Debug)]
pub struct Built {
    /// The plugin's name, as the artifact gives it.
    pub plugin: String,
    /// Identifies the code. Building the same sources again gives the same id, even after a commit.
    pub build_id: BuildId,
    /// The path of the artifact in the store.
    pub artifact: PathBuf,
    /// The git facts when the build began; `None` outside a repository.
    pub source: Option<Source>,
    /// The number of compiler warnings for this plugin and its dependencies.
    pub warnings: usize,
    /// What changed compared with the last build.
    pub effect: BuildEffect,
    /// The functions and other items that changed; `None` if cargo compiled the plugin, if nothing was compiled,
    /// or if the sources of the last build are not known.
    pub changes: Option<SourceChanges>,
    /// A patch that turns [`BuildOptions::patch_base`] into this build, so that the running version need not
    /// be replaced; or the reason why there is none. `None` if no patch was requested, or if this build is
    /// the base.
    pub patch: Option<Result<Patch, NotPatched>>,
    /// Where the artifact was installed; `None` without [`BuildOptions::install_to`].
    pub installed: Option<Installed>,
    /// How long each phase took, in order:
    ///
    /// | phase | what it does |
    /// |---|---|
    /// | `notice` | waits, from the change until the build begins; only with [`BuildOptions::noticed`] |
    /// | `check` | finds out what has to be compiled |
    /// | `cargo` | runs cargo |
    /// | `compile`, `link` | runs the compilers without cargo |
    /// | `stamp` | writes build id and git facts into the library |
    /// | `store` | puts the artifact into the store |
    /// | `patch` | compares the build with the one that runs; only with [`BuildOptions::patch_base`] |
    /// | `install` | copies it into a plugin directory; with [`BuildOptions::install_to`] or after [`install`](Self::install) |
    pub phases: Vec<PhaseTiming>,
}

/// An artifact in a plugin directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The path of the file.
    pub path: PathBuf,
    /// Whether the directory had no build with this code before.
    pub is_new: bool,
}

/// What a build changed, compared with the last build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildEffect {
    /// The code differs.
    NewCode,
    /// The sources differ, but they compile to the same code.
    SameCode,
    /// The sources are the same.
    UpToDate,
}

impl Built {
    /// Copies the artifact into the plugin directory `out_dir` as `<plugin>.so` and returns the path of that
    /// file.
    ///
    /// The file appears as a whole or not at all. A file with the same content is left alone. Any other file
    /// is replaced and not overwritten, so a host that has it mapped is not disturbed.
    ///
    /// # Errors
    /// [`Artifact`](crate::BuildErrorKind::Artifact) if the stored file is not this build any more, or if the
    /// file cannot be written.
    pub fn install(&mut self, out_dir: &Path) -> Result<PathBuf, BuildError> {
        let began = Instant::now();
        self.install_patch(out_dir).map_err(|error| {
            let dir = out_dir.display();
            BuildError::artifact(format!(
                "the patch of `{}` cannot be put into or removed from {dir}: {error}",
                self.plugin
            ))
        })?;
        let path = store::install(&self.plugin, self.build_id, &self.artifact, out_dir)?;
        remove_other_spellings(&path);
        self.phases.push(PhaseTiming::new(PhaseKind::Install, None, began.elapsed()));
        self.store_phases();
        Ok(path)
    }

    /// Puts the patch beside the place of the artifact, and removes an earlier patch.
    fn install_patch(&self, out_dir: &Path) -> io::Result<()> {
        let path = out_dir.join(&self.plugin).with_extension(layout::PATCH_EXTENSION);
        match &self.patch {
            Some(Ok(patch)) => {
                atomic_file::write(&path, &patch.to_bytes().map_err(io::Error::other)?)
            }
            _ => match fs::remove_file(&path) {
                Err(error) if path.exists() => Err(error),
                // If the directory cannot be written, the artifact reports it.
                _ => Ok(()),
            },
        }
    }

    /// Stores the phases beside the artifact, for the host that loads it. Nothing depends on them,
    /// so errors are ignored.
    fn store_phases(&self) {
        if self.effect == BuildEffect::NewCode {
            let _ = store::store_phases(&self.artifact, &self.phases);
        }
    }

    /// Whether the plugin directory `out_dir` already has this build.
    pub fn is_in(&self, out_dir: &Path) -> bool {
        let installed = artifact::read(&out_dir.join(format!("{}{DLL_SUFFIX}", self.plugin)));
        let facts = installed.ok().and_then(|bytes| artifact::inspect(&bytes).ok());
        facts.is_some_and(|facts| facts.build_id == self.build_id)
    }
}

/// Removes artifacts, and their patches, whose names differ from the one at `path` only in upper and lower case. They are
/// of the same plugin, under the name that its package had before, and a host would refuse to load both.
fn remove_other_spellings(path: &Path) {
    let stem = |path: &Path| path.file_stem().map(|it| it.to_string_lossy().into_owned());
    let (Some(dir), Some(plugin)) = (path.parent(), stem(path)) else { return };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_other = |other: &PathBuf| {
        let is_ours = [DLL_SUFFIX, layout::PATCH_EXTENSION].iter().any(|ending| {
            other.extension().is_some_and(|it| *it == *ending.trim_start_matches('.'))
        });
        // Where case does not count, both names lead to one file.
        is_ours
            && stem(other).is_some_and(|it| it != plugin && same_plugin(&it, &plugin))
            && fs::canonicalize(other).ok() != fs::canonicalize(path).ok()
    };
    // One that cannot be removed is reported by the host.
    entries.filter(is_other).for_each(|other| drop(fs::remove_file(other)));
}

/// Builds the program of `host` in the target directory of its workspace and returns its path.
///
/// Only `release` and `cargo_flags` of `options` apply to a host. `on_message` is called on the calling
/// thread.
///
/// ```no_run
/// use hotswap_build::{BuildOptions, Cancel, HostPackage, build_host};
///
/// # fn main() -> Result<(), hotswap_build::BuildError> {
/// let host = HostPackage::open("sample-host".as_ref())?;
/// let mut show = |message| println!("{message:?}");
/// let program = build_host(&host, &BuildOptions::default(), &Cancel::default(), &mut show)?;
/// println!("{}", program.display());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Its [kind](BuildError::kind) is `Compile`, `Cancelled` or `Setup`.
pub fn build_host(
    host: &HostPackage,
    options: &BuildOptions,
    cancel: &Cancel,
    on_message: &mut dyn FnMut(BuildMessage),
) -> Result<PathBuf, BuildError> {
    expect_dir(&host.name, &host.dir)?;
    let mut command = cargo::command();
    command.args(["build", "--package", &host.package_id]).args(host.program.flags());
    let target_dir = target_dir(options).unwrap_or_else(|| host.target_dir.clone());
    command.arg("--target-dir").arg(&target_dir);
    add_common_arguments(&mut command, &host.manifest_path, &host.dir, options);
    let package = Package {
        name: &host.name,
        manifest_path: &host.manifest_path,
        workspace_root: &host.workspace_root,
        target_dir: &target_dir,
        package_count: host.package_count,
        api_path: None,
    };
    // Held until the owners of the compiled files are noted. Otherwise these notes would take files that another
    // build compiles in the meantime for files of another workspace.
    let lock_dir = target_dir.join("hotswap/host");
    let _lock = BuildLock::acquire(&lock_dir, &host.name, cancel, on_message)?;
    let watched = with_flags(&host.watched_as(&host.name), options);
    let (began, mut wrong) = (Moment::now(), Vec::new());
    let compiled =
        compile(package, command, None, cancel, on_message, &mut |file| wrong.push(file));
    let compiled = compiled.inspect_err(|_| record_files_with_errors(&watched, wrong, began))?;
    // Without the list, the packages' own sources are watched.
    let _ = reads::write(&watched, &replay::read_by(&watched, &compiled, began));
    compiled.program(&host.program).ok_or_else(|| {
        BuildError::setup(format!(
            "cargo did not build the {} of `{}`; do the cargo flags select another target?",
            host.program, host.name
        ))
    })
}

/// Adds the files in which a build found errors, with their content, to the list of files that it has read. A watcher
/// then notices when they are mended.
fn record_files_with_errors(package: &PluginPackage, files: Vec<PathBuf>, began: Moment) {
    // In a target directory, they are those that the build itself wrote.
    let wrong = files.into_iter().filter(|file| !file.starts_with(&package.target_dir));
    let wrong = wrong.map(|file| {
        let content = replay::read_since(&file, began);
        (file, Some(content))
    });
    // Without the list, the packages' own sources are watched.
    let _ = reads::add(package, wrong.collect());
}

/// Builds a plugin as a shared library, stamps the library, and puts it into the store of its workspace.
///
/// `on_message` is called on the calling thread, with each diagnostic, each finished package, and each other
/// line of output. See the [crate's example](crate).
///
/// Several processes can build in one workspace at the same time: the library that cargo made is read while
/// no other build can change it, and is never written to.
///
/// # Errors
/// The error's [kind](BuildError::kind) says whether the sources do not compile, the build was cancelled,
/// something around it is wrong, or the result is not an artifact. In these cases the store is unchanged.
pub fn build_plugin(
    plugin: &PluginPackage,
    options: &BuildOptions,
    cancel: &Cancel,
    on_message: &mut dyn FnMut(BuildMessage),
) -> Result<Built, BuildError> {
    let mut results = Vec::new();
    build_plugins(
        &[(plugin, options)],
        cancel,
        &mut |_, message| on_message(message),
        &mut |_, built| results.push(built),
    );
    results.pop().unwrap_or_else(|| Err(BuildError::cancelled(&plugin.name)))
}

/// Builds plugins side by side, each like [`build_plugin`], with as many jobs as cargo would use: the number
/// from `--jobs`, from `build.jobs`, or else one for each core.
///
/// `on_message` is called with the position of a plugin and a message of its build, and `on_built` once for
/// each plugin, with its position and its result. Both are called on the calling thread. If one plugin fails,
/// the others are still built.
///
/// ```no_run
/// use hotswap_build::{BuildOptions, Cancel, HostPackage, build_plugins};
///
/// # fn main() -> Result<(), hotswap_build::BuildError> {
/// let host = HostPackage::open("sample-host".as_ref())?;
/// let options =
///     BuildOptions { install_to: Some(host.plugin_dir.clone()), ..BuildOptions::default() };
/// let plugins: Vec<_> = host.plugins.iter().map(|plugin| (plugin, &options)).collect();
/// build_plugins(&plugins, &Cancel::default(), &mut |_, _| (), &mut |position, built| {
///     let name = &host.plugins[position].name;
///     match built {
///         Ok(built) => println!("{name}: {}", built.build_id),
///         Err(error) => eprintln!("{name}: {error}"),
///     }
/// });
/// # Ok(())
/// # }
/// ```
pub fn build_plugins(
    plugins: &[(&PluginPackage, &BuildOptions)],
    cancel: &Cancel,
    on_message: &mut dyn FnMut(usize, BuildMessage),
    on_built: &mut dyn FnMut(usize, Result<Built, BuildError>),
) {
    let plugins: Vec<_> = plugins.iter().map(|it| (with_flags(it.0, it.1), it.1)).collect();
    let sources = git::query(plugins.iter().map(|(plugin, _)| plugin.dir.clone()).collect());
    let on_message = RefCell::new(on_message);
    let send = |position, message| (on_message.borrow_mut())(position, message);
    let mut batch = Batch::begin(&plugins, cancel, &send);
    batch.compile();
    let all: Vec<_> = plugins.iter().zip(sources.wait()).enumerate().collect();
    for together in all.chunks(MOST_TOGETHER) {
        let linked: Vec<_> = together.iter().map(|(position, _)| batch.link(*position)).collect();
        let of_each = together.iter().zip(linked);
        let making = of_each.map(|((position, ((plugin, options), source)), linked)| {
            let (linked, new) = linked?;
            let on_message = &mut |message| send(*position, message);
            let source = source_or_notice(source.clone(), &plugin.name, on_message);
            let record = batch.record(*position);
            Ok(Making { plugin, options, linked, new, record, source })
        });
        let made = finish_in_parallel(making.collect());
        for ((position, _), made) in together.iter().zip(made) {
            let built = made.map(|(built, new)| {
                batch.note_build(*position, &built, new);
                built
            });
            on_built(*position, built);
        }
    }
    batch.end();
}

/// The largest number of artifacts that are written at once. They are in memory until they are written, which
/// mostly waits for the disk.
const MOST_TOGETHER: usize = 8;

/// Finishes builds in parallel. Returns the results in the order of `making`.
fn finish_in_parallel(
    making: Vec<Result<Making<'_>, BuildError>>,
) -> Vec<Result<(Built, Option<NewBuild>), BuildError>> {
    if let [_] = making[..] {
        return making.into_iter().map(|making| making?.finish()).collect();
    }
    thread::scope(|scope| {
        let making = making.into_iter();
        let threads: Vec<_> = making.map(|it| scope.spawn(move || it?.finish())).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}

/// The result of [`review_plugin`].
#[derive(Clone, Debug)]
pub struct Review {
    /// The build that cargo made. It is in the store, and the next build is compared with it.
    pub built: Built,
    /// How it differs from the build before; `None` if it is the same code.
    pub disagreement: Option<Disagreement>,
}

/// A difference between the code that cargo makes and the code of a build without cargo.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// The build id of the build without cargo.
    pub replayed: String,
    /// The crates that cargo compiled although none of their recorded sources had changed.
    pub missed: Vec<String>,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cargo makes other code than the build without cargo, {}", self.replayed)?;
        if !self.missed.is_empty() {
            write!(f, "; without a recorded change it compiled {}", self.missed.join(", "))?;
        }
        Ok(())
    }
}

/// Runs cargo for a plugin whose builds without cargo are up to date, and reports whether the result is the
/// same.
///
/// `None` if there is nothing to review: the plugin is not up to date, or its builds are not recorded. The
/// result of cargo replaces the record. A review takes as long as a build with cargo; cancel it if something
/// has to be built meanwhile.
///
/// # Errors
/// As for [`build_plugin`].
pub fn review_plugin(
    plugin: &PluginPackage,
    options: &BuildOptions,
    cancel: &Cancel,
    on_message: &mut dyn FnMut(BuildMessage),
) -> Result<Option<Review>, BuildError> {
    let options = &BuildOptions { no_replay: true, ..options.clone() };
    let plugins = [(with_flags(plugin, options), options)];
    let plugin = &plugins[0].0;
    let on_message = RefCell::new(on_message);
    let send = |_, message| (on_message.borrow_mut())(message);
    let Some(reviewed) = Batch::begin(&plugins, cancel, &send).review()? else {
        return Ok(None);
    };
    let Reviewed { mut batch, replayed, missed } = reviewed;
    let source = git::query(vec![plugin.dir.clone()]).wait().remove(0);
    let source = source_or_notice(source, &plugin.name, &mut |message| send(0, message));
    let (linked, new) = batch.link(0)?;
    let record = batch.record(0);
    let (built, new) = Making { plugin, options, linked, new, record, source }.finish()?;
    batch.note_build(0, &built, new);
    batch.end();
    let is_same = replayed == built.build_id.to_string();
    let disagreement = (!is_same).then_some(Disagreement { replayed, missed });
    Ok(Some(Review { built, disagreement }))
}

/// The package with the target directory and the configuration files that the cargo flags choose.
fn with_flags(package: &PluginPackage, options: &BuildOptions) -> PluginPackage {
    let target_dir = target_dir(options).unwrap_or_else(|| package.target_dir.clone());
    let configurations = cargo::given_files(&options.cargo_flags);
    PluginPackage { target_dir, configurations, ..package.clone() }
}

/// The git facts. If an error prevents them, it is reported.
fn source_or_notice(
    source: Result<Option<Source>, String>,
    plugin: &str,
    on_message: &mut dyn FnMut(BuildMessage),
) -> Option<Source> {
    source.unwrap_or_else(|reason| {
        if git::is_first_report(plugin, &reason) {
            let text = format!("`{plugin}` is built without git facts: {reason}");
            on_message(BuildMessage::Output(text));
        }
        None
    })
}

/// A library from which an artifact is made.
struct Making<'a> {
    plugin: &'a PluginPackage,
    options: &'a BuildOptions,
    linked: Linked,
    /// The input of the build, which is kept for later patches.
    new: Option<NewBuild>,
    record: Option<(&'a Replay, &'a Member<'a>)>,
    source: Option<Source>,
}

impl Making<'_> {
    /// Makes the artifact, and puts it into the store. Also returns the input of its build.
    fn finish(self) -> Result<(Built, Option<NewBuild>), BuildError> {
        let Self { plugin, options, linked, new, record, source } = self;
        let Linked { mut library, phases, warnings, mut effect, changes, notice } = linked;
        let linked_at = Instant::now();
        let build_id = artifact::stamp(&mut library, source.as_ref()).map_err(|error| {
            BuildError::artifact(format!(
                "`{}` compiles, but is not a plugin: {error}",
                plugin.name
            ))
            .because(error)
        })?;
        let stamped_at = Instant::now();
        let store = plugin.store()?;
        let StoredArtifact { path, facts } = store.put(&library)?;
        store.prune(facts.name.as_str(), options.store_limits)?;
        let last =
            [(PhaseKind::Stamp, stamped_at - linked_at), (PhaseKind::Store, stamped_at.elapsed())];
        let (mut patch, mut patched) = (None, None);
        if let Some((record, member)) = record {
            effect = judge(effect, record.build_id(member), build_id);
            let began = Instant::now();
            let made = patch::Build { id: build_id, library: &library };
            patch = options.patch_base.and_then(|base| patch_of(record, new.as_ref(), base, made));
            if patch.is_some() {
                patched = Some((PhaseKind::Patch, began.elapsed()));
            }
        }
        let notice = notice.map(|notice| (PhaseKind::Notice, notice));
        let phases = sum_by_phase(notice.into_iter().chain(phases).chain(last).chain(patched));
        let mut built = Built {
            plugin: facts.name.to_string(),
            build_id,
            artifact: path,
            source,
            warnings,
            effect,
            changes,
            patch,
            installed: None,
            phases,
        };
        match &options.install_to {
            Some(dir) => {
                let is_new = effect == BuildEffect::NewCode || !built.is_in(dir);
                built.installed = Some(Installed { path: built.install(dir)?, is_new });
            }
            None => built.store_phases(),
        }
        Ok((built, new))
    }
}

/// The patch for a host that runs the build `base`; `None` if that is this build.
fn patch_of(
    record: &Replay,
    new: Option<&NewBuild>,
    base: BuildId,
    made: patch::Build<'_>,
) -> Option<Result<Patch, NotPatched>> {
    if base == made.id {
        return None;
    }
    let patch = match new {
        Some(new) => new.patch(record, base, made),
        None => Ok(Err(NotPatched::NoObjects)),
    };
    Some(patch.unwrap_or_else(|error| Err(NotPatched::Unreadable(error.to_string()))))
}

/// Decides the effect of a build. Compiling again can give identical code, and a library that was not
/// compiled again can differ from the artifact `before`, so the build ids decide.
fn judge(effect: BuildEffect, before: Option<&str>, build_id: BuildId) -> BuildEffect {
    match before {
        Some(before) if before != build_id.to_string() => BuildEffect::NewCode,
        Some(_) if effect == BuildEffect::NewCode => BuildEffect::SameCode,
        _ => effect,
    }
}

/// One entry per phase, with the sum of its times, in the order in which the phases began first.
fn sum_by_phase(phases: impl Iterator<Item = (PhaseKind, Duration)>) -> Vec<PhaseTiming> {
    let mut sums: Vec<(PhaseKind, Duration)> = Vec::new();
    for (phase, elapsed) in phases {
        match sums.iter_mut().find(|(other, _)| *other == phase) {
            Some((_, sum)) => *sum += elapsed,
            None => sums.push((phase, elapsed)),
        }
    }
    sums.into_iter().map(|(phase, elapsed)| PhaseTiming::new(phase, None, elapsed)).collect()
}

/// Adds the arguments that all builds with cargo share. Cargo runs in the package's directory, as it would
/// for the package's author, so that the same `.cargo/config.toml` and `rust-toolchain.toml` apply.
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
    let mut is_value = false;
    for flag in &cargo::with_paths_from_current_dir(&options.cargo_flags) {
        // It is already passed as an absolute path.
        let is_target_dir = is_value || flag.starts_with("--target-dir=");
        is_value = flag == TARGET_DIR;
        if !is_value && !is_target_dir {
            command.arg(flag);
        }
    }
}

const TARGET_DIR: &str = "--target-dir";

/// The target directory that the cargo flags choose, relative to the directory of this process;
/// `None` if they choose none.
fn target_dir(options: &BuildOptions) -> Option<PathBuf> {
    let flags = &options.cargo_flags;
    let apart = flags.windows(2).filter(|pair| pair[0] == TARGET_DIR).map(|pair| pair[1].as_str());
    let joined = flags.iter().filter_map(|flag| flag.strip_prefix("--target-dir="));
    apart.chain(joined).next().map(|dir| cargo::absolute(dir.as_ref()))
}
