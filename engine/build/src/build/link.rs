//! Makes a plugin's shared library: with cargo, or by repeating the compiler calls of an earlier run
//! of cargo.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hotswap_protocol::env;

use crate::build::compile::{Package, Run, compile};
use crate::build::lock::BuildLock;
use crate::build::profile;
use crate::build::{BuildEffect, BuildOptions, add_common_arguments};
use crate::replay::{self, Moment, Next, Outdated, Replay};
use crate::{
    BuildError, BuildMessage, Cancel, Diagnostic, DiagnosticLevel, PluginPackage, cargo, reads,
};

/// How often one build compiles sources without cargo, if they keep changing meanwhile.
const MOST_REPLAYS: usize = 4;
/// How often one build runs cargo. A first run may find a crate up to date whose compiler call was
/// never noted, and manifests may change during a run.
const MOST_CARGO_RUNS: usize = 3;

/// A shared library as the linker made it, read into memory.
pub(super) struct Linked<'a> {
    pub library: Vec<u8>,
    pub warnings: usize,
    pub effect: BuildEffect,
    pub phases: Vec<(&'static str, Duration)>,
    /// The record of how it was built; `None` if such builds are not recorded.
    pub replay: Option<Replay<'a>>,
    /// How long the build waited for its beginning; `None` if that is not known.
    pub notice: Option<Duration>,
    /// Keeps other builds out of the target directory.
    pub _lock: BuildLock,
}

pub(super) fn link<'a>(
    plugin: &'a PluginPackage,
    options: &BuildOptions,
    cancel: &Cancel,
    on_message: &mut dyn FnMut(BuildMessage),
) -> Result<Linked<'a>, BuildError> {
    let notice = options.noticed.map(|noticed| noticed.elapsed());
    let target_dir = plugin.target_dir.join("hotswap");
    let lock = BuildLock::acquire(&target_dir, &plugin.name, cancel, on_message)?;
    let mut linking = Linking::of(plugin, options, cancel, on_message);
    let mut replay = linking.open_replay();
    let run = match &mut replay {
        Some(replay) if options.no_replay => Some(linking.run_cargo(Some(replay))?),
        Some(replay) => linking.bring_up_to_date(replay)?,
        None => Some(linking.run_cargo(None)?),
    };
    let read = match &replay {
        None => run.as_ref().map(|run| replay::read_by(plugin, run)),
        Some(replay) => Some(replay.read_files()),
    };
    // Without the list, the packages' own sources are watched.
    let _ = reads::write(plugin, &read.unwrap_or_default());
    let mut path = linking.library_of(run, replay.as_ref())?;
    let mut library = linking.read(&path)?;
    if let Some(replay) = &mut replay {
        if linking.effect == BuildEffect::UpToDate && !replay.is_library(&library) {
            linking.say(format!(
                "{} was changed after it was compiled; building `{}` again",
                path.display(),
                plugin.name
            ));
            replay::remove_output(&path);
            let run = linking.run_cargo(Some(replay))?;
            path = linking.library_of(Some(run), Some(replay))?;
            library = linking.read(&path)?;
        }
        if let Err(error) = replay.remember_library(&library) {
            linking.say(not_recorded(plugin, &error));
        }
    }
    Ok(linking.done(library, replay, notice, lock))
}

/// What cargo made of a plugin that was up to date without it.
pub(super) struct Reviewed<'a> {
    pub linked: Linked<'a>,
    /// The build id of the artifact before.
    pub replayed: String,
    /// The crates that cargo compiled although none of their recorded sources had changed.
    pub missed: Vec<String>,
}

/// Lets cargo build what is up to date without it. `None` if nothing is, or if builds are not recorded.
pub(super) fn review<'a>(
    plugin: &'a PluginPackage,
    options: &BuildOptions,
    cancel: &Cancel,
    on_message: &mut dyn FnMut(BuildMessage),
) -> Result<Option<Reviewed<'a>>, BuildError> {
    let target_dir = plugin.target_dir.join("hotswap");
    let lock = BuildLock::acquire(&target_dir, &plugin.name, cancel, on_message)?;
    let options = &BuildOptions { no_replay: true, ..options.clone() };
    let mut linking = Linking::of(plugin, options, cancel, on_message);
    let Some(mut replay) = linking.open_replay() else { return Ok(None) };
    let Some(replayed) = replay.build_id().map(str::to_owned) else { return Ok(None) };
    if !matches!(replay.next(), Next::UpToDate) {
        return Ok(None);
    }
    let unchanged = replay.unchanged_since_cargo();
    let run = linking.run_cargo(Some(&mut replay))?;
    let missed = replay::compiled_of(&unchanged, &run);
    let path = linking.library_of(Some(run), Some(&replay))?;
    let library = linking.read(&path)?;
    let _ = replay.remember_library(&library);
    let _ = reads::write(plugin, &replay.read_files());
    let linked = linking.done(library, Some(replay), None, lock);
    Ok(Some(Reviewed { linked, replayed, missed }))
}

struct Linking<'a, 'b> {
    plugin: &'a PluginPackage,
    options: &'b BuildOptions,
    cancel: &'b Cancel,
    on_message: &'b mut dyn FnMut(BuildMessage),
    phases: Vec<(&'static str, Duration)>,
    warnings: usize,
    effect: BuildEffect,
    /// The hash of the files besides Rust sources that the plugin is made of.
    included: Option<String>,
    /// The arguments that choose the profile, the same for all that this build does.
    profile: &'static [&'static str],
}

impl<'a, 'b> Linking<'a, 'b> {
    fn of(
        plugin: &'a PluginPackage,
        options: &'b BuildOptions,
        cancel: &'b Cancel,
        on_message: &'b mut dyn FnMut(BuildMessage),
    ) -> Self {
        Self {
            plugin,
            options,
            cancel,
            on_message,
            phases: Vec::new(),
            warnings: 0,
            effect: BuildEffect::UpToDate,
            included: plugin.included.hash(&plugin.dir),
            profile: profile::arguments(plugin, options),
        }
    }

    /// The library, with what making it has shown.
    fn done(
        self,
        library: Vec<u8>,
        replay: Option<Replay<'a>>,
        notice: Option<Duration>,
        lock: BuildLock,
    ) -> Linked<'a> {
        let Self { phases, warnings, effect, .. } = self;
        Linked { library, warnings, effect, phases, replay, notice, _lock: lock }
    }

    fn open_replay(&mut self) -> Option<Replay<'a>> {
        let target_dir = self.plugin.target_dir.join("hotswap");
        let included = self.included.clone();
        match Replay::open(self.plugin, &target_dir, &self.common_command(), included) {
            Ok(replay) => Some(replay),
            Err(_) if self.options.no_replay && !self.options.leave_temps => None,
            Err(reason) => {
                if !self.options.no_replay {
                    self.say(format!("every build runs cargo, because {reason}"));
                }
                if self.options.leave_temps {
                    self.say(format!("nothing is kept of this build, because {reason}"));
                }
                None
            }
        }
    }

    /// The path of the library: the one from `run`, or else the recorded one.
    fn library_of(
        &self,
        run: Option<Run>,
        replay: Option<&Replay<'_>>,
    ) -> Result<PathBuf, BuildError> {
        let made_by_cargo = run.and_then(|run| run.shared_library());
        let remembered = || replay?.library().map(ToOwned::to_owned);
        made_by_cargo.or_else(remembered).ok_or_else(|| {
            BuildError::setup(format!(
                "cargo did not build the shared library of `{}`; do the cargo flags select another \
                 target?",
                self.plugin.name
            ))
        })
    }

    fn read(&self, library: &Path) -> Result<Vec<u8>, BuildError> {
        fs::read(library).map_err(|error| {
            BuildError::artifact(format!(
                "`{}` is built, but {} cannot be read: {error}",
                self.plugin.name,
                library.display()
            ))
        })
    }

    /// Compiles what is outdated. Returns the run of cargo that made the library; `None` if the
    /// library is the recorded one.
    fn bring_up_to_date(&mut self, replay: &mut Replay<'a>) -> Result<Option<Run>, BuildError> {
        let (mut replays, mut cargo_runs) = (0, 0);
        let mut last_run = None;
        loop {
            let began = Instant::now();
            let next = replay.next();
            self.phases.push(("check", began.elapsed()));
            match next {
                Next::UpToDate => break,
                // Sources that never stop changing must not keep this build from ending.
                Next::Replay(_) if replays == MOST_REPLAYS => break,
                Next::Cargo(_) if cargo_runs == MOST_CARGO_RUNS => return Ok(last_run),
                Next::Cargo(_) if cargo_runs > 0 && replay.always_runs_cargo() => {
                    return Ok(last_run);
                }
                Next::Replay(outdated) => {
                    if replays > 0 {
                        self.say(format!(
                            "the sources of `{}` changed during the build; compiling them again",
                            self.plugin.name
                        ));
                    }
                    replays += 1;
                    if !self.replay(replay, outdated)? {
                        return self.run_cargo(Some(replay)).map(Some);
                    }
                }
                Next::Cargo(reason) => {
                    if cargo_runs == 0 {
                        self.say(format!("running cargo, because {reason}"));
                    }
                    cargo_runs += 1;
                    last_run = Some(self.run_cargo(Some(replay))?);
                }
            }
        }
        if cargo_runs == 0 && replays == 0 && self.options.leave_temps {
            self.say("nothing was compiled, so there is nothing to keep".to_owned());
        }
        if cargo_runs == 0 {
            replay.diagnostics().into_iter().for_each(|diagnostic| self.show(diagnostic));
        }
        Ok(None)
    }

    /// Compiles what is outdated without cargo; `false` if that fails, and cargo has to run.
    fn replay(&mut self, replay: &mut Replay<'a>, outdated: Outdated) -> Result<bool, BuildError> {
        self.effect = BuildEffect::NewCode;
        let began = Instant::now();
        let calls = self.options.leave_temps.then(|| replay.place_for_calls()).transpose();
        let calls = calls.unwrap_or_else(|error| {
            self.say(format!("the compiler calls cannot be kept: {error}"));
            None
        });
        let relinked = replay.run(outdated, calls.as_deref(), self.cancel);
        self.stop_where_cancelled()?;
        if let Some(calls) = calls {
            self.say(format!("the compiler calls of this build are in {}", calls.display()));
        }
        let Ok(Some(relinked)) = relinked else { return Ok(false) };
        let linking = relinked.linking.unwrap_or_default();
        self.phases.push(("compile", began.elapsed().saturating_sub(linking)));
        self.phases.push(("link", linking));
        Ok(true)
    }

    fn run_cargo(&mut self, replay: Option<&mut Replay<'a>>) -> Result<Run, BuildError> {
        let began = Instant::now();
        let began_at = Moment::now();
        let mut command = self.cargo_command();
        // If nothing can be noted, the next build runs cargo again.
        let notes =
            replay.as_ref().map(|replay| replay.note(&mut command, self.options.leave_temps));
        let notes = notes.transpose().unwrap_or_else(|error| {
            self.say(format!("the compiler calls cannot be noted: {error}"));
            None
        });
        let plugin = self.plugin;
        let package = Package {
            name: &plugin.name,
            manifest_path: &plugin.manifest_path,
            workspace_root: &plugin.workspace_root,
            package_count: plugin.package_count,
        };
        self.warnings = 0;
        let warnings = &mut self.warnings;
        let on_message = &mut *self.on_message;
        let run = compile(package, command, self.cancel, &mut |message| {
            *warnings += usize::from(is_warning(&message));
            on_message(message);
        })?;
        if !run.is_fresh() {
            self.effect = BuildEffect::NewCode;
        }
        self.phases.push(("cargo", began.elapsed()));
        if let Some(notes) = &notes
            && self.options.leave_temps
        {
            self.say(format!("the notes of compiler calls are in {}", notes.dir().display()));
        }
        if let Some((notes, replay)) = notes.zip(replay) {
            let again = !self.options.no_replay;
            let learned = replay.learn(&notes, began_at, &self.cargo_command(), &run, again);
            if let Err(error) = learned {
                self.say(not_recorded(plugin, &error));
            }
        }
        Ok(run)
    }

    fn cargo_command(&self) -> Command {
        let mut command = self.common_command();
        if let Some(hash) = &self.included {
            // The linker writes the hash into the library, so it becomes part of the build id.
            command.args(["-C", &format!("link-arg=-Wl,--build-id=0x{hash}")]);
        }
        command
    }

    /// The part of cargo's command that stays the same when included files change.
    fn common_command(&self) -> Command {
        let plugin = self.plugin;
        let mut command = cargo::command();
        command.args(["rustc", "--package", &plugin.package_id, "--lib", "--crate-type", "cdylib"]);
        let target_dir = plugin.target_dir.join("hotswap");
        command.arg("--target-dir").arg(&target_dir);
        // The user's setting would have builds of the workspace and this one share what they compile.
        command.env("CARGO_BUILD_BUILD_DIR", target_dir);
        add_common_arguments(&mut command, &plugin.manifest_path, &plugin.dir, self.options);
        command.args(self.profile);
        command.args(["--", "--cfg", "hotswap_cdylib"]);
        if let Some(prefix) = &self.options.live_prefix {
            // Only the macro reads the variable. The argument makes cargo compile again when it
            // changes.
            command.env(env::LIVE_PREFIX, prefix).arg("--cfg");
            command.arg(format!("hotswap_live_prefix={prefix:?}"));
        }
        command
    }

    fn stop_where_cancelled(&self) -> Result<(), BuildError> {
        match self.cancel.is_cancelled() {
            true => Err(BuildError::cancelled(&self.plugin.name)),
            false => Ok(()),
        }
    }

    fn show(&mut self, diagnostic: Diagnostic) {
        let message = BuildMessage::Diagnostic(diagnostic);
        self.warnings += usize::from(is_warning(&message));
        (self.on_message)(message);
    }

    fn say(&mut self, text: String) {
        (self.on_message)(BuildMessage::Output(text));
    }
}

fn not_recorded(plugin: &PluginPackage, error: &io::Error) -> String {
    format!(
        "this build of `{}` could not be recorded, so the next one runs cargo: {error}",
        plugin.name
    )
}

fn is_warning(message: &BuildMessage) -> bool {
    match message {
        BuildMessage::Diagnostic(diagnostic) => diagnostic.level == DiagnosticLevel::Warning,
        _ => false,
    }
}
