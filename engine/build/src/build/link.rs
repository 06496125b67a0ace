//! Making a plugin's shared library: by cargo, or as cargo did it before.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hotswap_protocol::env;

use crate::build::compile::{Package, Run, compile};
use crate::build::lock::BuildLock;
use crate::build::profile;
use crate::build::{BuildEffect, BuildOptions, add_common_arguments};
use crate::replay::{self, Moment, Next, Outdated, Replay};
use crate::{BuildError, BuildMessage, Cancel, Diagnostic, DiagnosticLevel, PluginPackage, cargo};

/// How often sources that change while they are compiled are compiled anew in one build.
const MOST_REPLAYS: usize = 4;
/// How often cargo runs in one build: it may leave alone what has to be compiled once more to be
/// noted, and what it goes by may change while it runs.
const MOST_CARGO_RUNS: usize = 3;

/// A shared library as the linker made it, in memory.
pub(super) struct Linked<'a> {
    pub library: Vec<u8>,
    pub warnings: usize,
    pub effect: BuildEffect,
    pub phases: Vec<(&'static str, Duration)>,
    /// What is remembered of it, where anything is.
    pub replay: Option<Replay<'a>>,
    /// Nobody else builds in the target directory as long as this is there.
    pub _lock: BuildLock,
}

pub(super) fn link<'a>(
    plugin: &'a PluginPackage,
    options: &BuildOptions,
    cancel: &Cancel,
    on_message: &mut dyn FnMut(BuildMessage),
) -> Result<Linked<'a>, BuildError> {
    let target_dir = plugin.target_dir.join("hotswap");
    let lock = BuildLock::acquire(&target_dir, &plugin.name, cancel, on_message)?;
    let mut linking = Linking {
        plugin,
        options,
        cancel,
        on_message,
        phases: Vec::new(),
        warnings: 0,
        effect: BuildEffect::UpToDate,
        included: plugin.included.hash(&plugin.dir),
        profile: profile::arguments(plugin, options),
    };
    let mut replay = linking.open_replay();
    let run = match &mut replay {
        Some(replay) => linking.bring_up_to_date(replay)?,
        None => Some(linking.run_cargo(None)?),
    };
    let mut path = linking.library_of(run, replay.as_ref())?;
    let mut library = linking.read(&path)?;
    if let Some(replay) = &mut replay {
        if linking.effect == BuildEffect::UpToDate && !replay.is_library(&library) {
            linking.say(format!(
                "{} is not what was compiled; `{}` is built anew",
                path.display(),
                plugin.name
            ));
            replay::remove_output(&path);
            let run = linking.run_cargo(Some(replay))?;
            path = linking.library_of(Some(run), Some(replay))?;
            library = linking.read(&path)?;
        }
        if let Err(error) = replay.remember_library(&library) {
            linking.say(format!("this build of `{}` is not remembered: {error}", plugin.name));
        }
    }
    let Linking { phases, warnings, effect, .. } = linking;
    Ok(Linked { library, warnings, effect, phases, replay, _lock: lock })
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

impl<'a> Linking<'a, '_> {
    fn open_replay(&mut self) -> Option<Replay<'a>> {
        if self.options.no_replay {
            return None;
        }
        let target_dir = self.plugin.target_dir.join("hotswap");
        let included = self.included.clone();
        match Replay::open(self.plugin, &target_dir, &self.common_command(), included) {
            Ok(replay) => Some(replay),
            Err(reason) => {
                self.say(format!("every build goes through cargo, since {reason}"));
                None
            }
        }
    }

    /// Where the library is that was made: by cargo in this run, or else what is remembered.
    fn library_of(
        &self,
        run: Option<Run>,
        replay: Option<&Replay<'_>>,
    ) -> Result<PathBuf, BuildError> {
        let made_by_cargo = run.and_then(|run| run.shared_library());
        let remembered = || replay?.library().map(ToOwned::to_owned);
        made_by_cargo.or_else(remembered).ok_or_else(|| {
            BuildError::setup(format!(
                "cargo built `{}` without a shared library; do the cargo flags choose something \
                 else?",
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

    /// Answers with cargo's run where the library is what that made.
    fn bring_up_to_date(&mut self, replay: &mut Replay<'a>) -> Result<Option<Run>, BuildError> {
        let (mut replays, mut cargo_runs) = (0, 0);
        let mut last_run = None;
        loop {
            let began = Instant::now();
            let next = replay.next();
            self.phases.push(("check", began.elapsed()));
            match next {
                Next::UpToDate => break,
                // The next build goes on; whoever changes sources without end gets what there is.
                Next::Replay(_) if replays == MOST_REPLAYS => break,
                Next::Cargo(_) if cargo_runs == MOST_CARGO_RUNS => return Ok(last_run),
                Next::Replay(outdated) => {
                    if replays > 0 {
                        self.say(format!(
                            "the sources of `{}` changed meanwhile",
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
                        self.say(format!("building with cargo, since {reason}"));
                    }
                    cargo_runs += 1;
                    last_run = Some(self.run_cargo(Some(replay))?);
                }
            }
        }
        if cargo_runs == 0 {
            replay.diagnostics().into_iter().for_each(|diagnostic| self.show(diagnostic));
        }
        Ok(None)
    }

    /// Whether what was outdated could be compiled without cargo.
    fn replay(&mut self, replay: &mut Replay<'a>, outdated: Outdated) -> Result<bool, BuildError> {
        self.effect = BuildEffect::NewCode;
        let began = Instant::now();
        let relinked = replay.run(outdated, self.cancel);
        self.stop_where_cancelled()?;
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
        // Without notes the next build goes through cargo again.
        let notes = replay
            .as_ref()
            .and_then(|replay| replay.note(&mut command, self.options.leave_temps).ok());
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
            self.say(format!("how cargo called the compilers is in {}", notes.dir().display()));
        }
        if let Some((notes, replay)) = notes.zip(replay) {
            let learned = replay.learn(&notes, began_at, &self.cargo_command(), &run);
            if let Err(error) = learned {
                self.say(format!("this build of `{}` is not remembered: {error}", plugin.name));
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
        command.args(["rustc", "--package", &plugin.name, "--lib", "--crate-type", "cdylib"]);
        command.arg("--target-dir").arg(plugin.target_dir.join("hotswap"));
        add_common_arguments(&mut command, &plugin.manifest_path, &plugin.dir, self.options);
        command.args(self.profile);
        command.args(["--", "--cfg", "hotswap_cdylib"]);
        if let Some(prefix) = &self.options.live_prefix {
            // Nobody but the macro looks at the variable; the argument makes cargo compile anew.
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

fn is_warning(message: &BuildMessage) -> bool {
    match message {
        BuildMessage::Diagnostic(diagnostic) => diagnostic.level == DiagnosticLevel::Warning,
        _ => false,
    }
}
