//! Makes a plugin's shared library, with cargo or by repeating the compiler calls of an earlier run of cargo.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hotswap_protocol::{PhaseKind, env};

use crate::build::compile::{Package, Run, compile};
use crate::build::profile;
use crate::build::{
    BuildEffect, BuildOptions, EarlyPatch, OnPatch, add_common_arguments, record_files_with_errors,
    sum_by_phase,
};
use crate::outline::SourceChanges;
use crate::replay::{
    self, InputsBefore, Member, Moment, Next, PatchRequest, Recompiled, Replay, Seen, UnitId,
};
use crate::{
    BuildError, BuildMessage, Cancel, Diagnostic, DiagnosticLevel, PluginPackage, cargo, reads,
};

/// The largest number of times that one build runs cargo. A first run may find a crate up to date whose
/// compiler call was never noted, and manifests may change during a run.
const MOST_CARGO_RUNS: usize = 3;

/// A shared library as the linker made it, read into memory.
pub(super) struct Linked {
    pub library: Vec<u8>,
    pub warnings: usize,
    pub effect: BuildEffect,
    pub changes: Option<SourceChanges>,
    pub phases: Vec<(PhaseKind, Duration)>,
    /// How long the build waited before it began; `None` if that is not known.
    pub notice: Option<Duration>,
}

/// Receives the messages of all plugins that are built, each with the plugin's position.
pub(super) type OnMessage<'v> = dyn Fn(usize, BuildMessage) + 'v;

/// A plugin whose library is being made.
pub(super) struct Linking<'a> {
    pub member: Member<'a>,
    options: &'a BuildOptions,
    cancel: &'a Cancel,
    on_message: &'a OnMessage<'a>,
    /// The position of the plugin in the build.
    position: usize,
    notice: Option<Duration>,
    /// When the build began.
    began: Moment,
    phases: Vec<(PhaseKind, Duration)>,
    warnings: usize,
    effect: BuildEffect,
    /// The next thing to do; `None` if it is not known yet.
    pub next: Option<Next>,
    /// The run of cargo that made the library; `None` if the library is the recorded one.
    run: Option<Run>,
    /// How often cargo ran.
    cargo_runs: usize,
    /// How often it was compiled without cargo.
    replays: usize,
    /// The units that were compiled for it without cargo.
    replayed: BTreeSet<UnitId>,
    /// The changes in the sources of these units; `None` if they are not known.
    changes: Option<SourceChanges>,
    /// Whether cargo may leave compiling the plugin itself to a later run beside other plugins.
    pub may_hold: bool,
    /// The unit that could not be compiled without cargo.
    pub failed: Option<UnitId>,
    /// The files in which a compiler found errors.
    pub files_with_errors: Vec<PathBuf>,
    /// The arguments that choose the profile, which are the same in all steps of this build.
    profile: Vec<&'static str>,
}

impl<'a> Linking<'a> {
    pub(super) fn of(
        plugin: &'a PluginPackage,
        options: &'a BuildOptions,
        cancel: &'a Cancel,
        on_message: &'a OnMessage<'a>,
        position: usize,
    ) -> Self {
        let included = plugin.included.hash(&plugin.dir);
        Self {
            member: Member { plugin, included },
            options,
            cancel,
            on_message,
            position,
            notice: options.noticed.map(|noticed| noticed.elapsed()),
            began: Moment::now(),
            phases: Vec::new(),
            warnings: 0,
            effect: BuildEffect::UpToDate,
            next: None,
            run: None,
            cargo_runs: 0,
            replays: 0,
            replayed: BTreeSet::new(),
            changes: None,
            may_hold: false,
            failed: None,
            files_with_errors: Vec::new(),
            profile: profile::arguments(plugin, options),
        }
    }

    /// The directory of the record of its builds; `None` if they are not recorded, which is reported.
    pub(super) fn place_of_record(&mut self) -> Option<PathBuf> {
        let target_dir = self.member.plugin.cargo_target_dir();
        let command = self.common_command();
        match replay::place_of_record(self.member.plugin, &target_dir, &command) {
            Ok(dir) => Some(dir),
            Err(_) if self.options.no_replay && !self.options.leave_temps => None,
            Err(reason) => {
                if !self.options.no_replay {
                    self.send_output(format!("every build runs cargo, because {reason}"));
                }
                if self.options.leave_temps {
                    self.send_output(format!("nothing is kept of this build, because {reason}"));
                }
                None
            }
        }
    }

    /// Whether its compiler calls are kept for the user.
    pub(super) fn keeps_calls(&self) -> bool {
        self.options.leave_temps
    }

    /// Whether a compiler is to wait for its next build.
    pub(super) fn keeps_compiler(&self) -> bool {
        self.options.keep_compiler
    }

    /// The early patch that the caller wants, if any.
    pub(super) fn patch_request(&self) -> Option<PatchRequest<'_>> {
        let OnPatch(on_patch) = self.options.on_early_patch.as_ref()?;
        let notice = self.notice.map(|notice| (PhaseKind::Notice, notice));
        let began: Vec<_> = notice.into_iter().chain(self.phases.iter().cloned()).collect();
        let deliver = move |patch, phases: [(PhaseKind, Duration); 2]| {
            let phases = sum_by_phase(began.iter().cloned().chain(phases));
            on_patch(EarlyPatch { patch, phases });
        };
        Some(PatchRequest {
            member: &self.member,
            base: self.options.patch_base?,
            deliver: Box::new(deliver),
        })
    }

    /// Whether cargo has run for it.
    pub(super) fn has_run_cargo(&self) -> bool {
        self.cargo_runs > 0 || self.run.is_some()
    }

    /// Whether it may be compiled without cargo.
    pub(super) fn may_replay(&self) -> bool {
        !self.options.no_replay && self.failed.is_none()
    }

    /// Those of the `units` that the last run of cargo compiled.
    pub(super) fn compiled_of(&self, units: &BTreeSet<UnitId>) -> Vec<String> {
        let run = self.run.as_ref();
        run.map(|run| replay::compiled_of(units, run)).unwrap_or_default()
    }

    /// Finds the next thing to do, unless it is known.
    pub(super) fn check(&mut self, replay: &Replay, seen: &mut Seen) -> &Next {
        let began = Instant::now();
        let (member, phases) = (&self.member, &mut self.phases);
        self.next.get_or_insert_with(|| {
            let next = replay.next(member, seen);
            phases.push((PhaseKind::Check, began.elapsed()));
            next
        })
    }

    /// Runs cargo as long as the next thing to do needs it. Returns whether it ran.
    pub(super) fn run_cargo_where_needed(
        &mut self,
        mut replay: Option<&mut Replay>,
        seen: &mut Seen,
    ) -> Result<bool, BuildError> {
        let Some(replay) = replay.as_deref_mut().filter(|_| !self.options.no_replay) else {
            let is_first = self.run.is_none();
            if is_first {
                self.run = Some(self.run_cargo(replay, false, false)?);
            }
            return Ok(is_first);
        };
        let mut has_run = false;
        while let Next::Cargo(reason) = self.check(replay, seen) {
            let reason = reason.clone();
            if self.cargo_runs == MOST_CARGO_RUNS
                || (self.cargo_runs > 0 && replay.always_runs_cargo(&self.member))
            {
                return Ok(has_run);
            }
            if self.cargo_runs == 0 {
                self.send_output(format!("running cargo, because {reason}"));
            }
            self.cargo_runs += 1;
            let hold =
                self.may_hold && self.cargo_runs == 1 && !replay.always_runs_cargo(&self.member);
            let again = self.cargo_runs < MOST_CARGO_RUNS;
            self.run = Some(self.run_cargo(Some(replay), hold, again)?);
            has_run = true;
            seen.clear();
            self.next = None;
        }
        // The library is the recorded one, which may have been compiled since then.
        self.run = None;
        Ok(has_run)
    }

    /// Notes that it was compiled without cargo, or that `failed` could not be compiled.
    pub(super) fn replayed(
        &mut self,
        recompiled: Result<Option<Recompiled>, UnitId>,
        changes: Option<SourceChanges>,
    ) {
        let before =
            if self.replays == 0 { Some(SourceChanges::default()) } else { self.changes.take() };
        self.changes = before.zip(changes).map(|(mut all, changes)| {
            all.add(changes);
            all
        });
        if let Some(Next::Replay(outdated)) = self.next.take() {
            self.replayed.extend(outdated.units().cloned());
        }
        self.effect = BuildEffect::NewCode;
        self.replays += 1;
        match recompiled {
            Ok(Some(Recompiled { elapsed, linking })) => {
                let linking = linking.unwrap_or_default();
                self.phases.push((PhaseKind::Compile, elapsed.saturating_sub(linking)));
                self.phases.push((PhaseKind::Link, linking));
            }
            Ok(None) => {}
            Err(failed) => self.failed = Some(failed),
        }
    }

    /// Reports that sources changed while they were compiled.
    pub(super) fn report_another_replay(&self) {
        if self.replays > 0 {
            self.send_output(format!(
                "the sources of `{}` changed during the build; compiling them again",
                self.member.plugin.name
            ));
        }
    }

    /// The library, and the findings of making it. If compiling without cargo failed, cargo compiles it, and
    /// reports why it fails.
    pub(super) fn link(&mut self, mut replay: Option<&mut Replay>) -> Result<Linked, BuildError> {
        let plugin = self.member.plugin;
        self.stop_where_cancelled()?;
        if self.failed.is_some() {
            self.run = Some(self.run_cargo(replay.as_deref_mut(), false, false)?);
            self.send_output(format!(
                "`{}` could not be compiled without cargo, which has compiled it now",
                plugin.name
            ));
        } else {
            // No other plugin is left to be compiled beside it.
            self.may_hold = false;
            self.run_cargo_where_needed(replay.as_deref_mut(), &mut Seen::new())?;
        }
        let is_replayed = replay.is_some() && self.cargo_runs == 0 && self.run.is_none();
        if is_replayed && self.replays == 0 && self.options.leave_temps {
            self.send_output("nothing was compiled, so there is nothing to keep".to_owned());
        }
        if let Some(replay) = replay.as_deref().filter(|_| is_replayed) {
            replay.diagnostics(&self.member).into_iter().for_each(|it| self.show(it));
        } else if let Some(replay) = replay.as_deref().filter(|_| self.run.is_none()) {
            // Cargo has reported the diagnostics of all other units.
            let compiled = std::mem::take(&mut self.replayed);
            replay.diagnostics_of(&compiled).into_iter().for_each(|it| self.show(it));
        }
        let read = match &replay {
            None => self.run.as_ref().map(|run| replay::read_by(plugin, run, self.began)),
            Some(replay) => Some(replay.read_files(&self.member)),
        };
        // Without the list, the packages' own sources are watched.
        let _ = reads::write(plugin, &read.unwrap_or_default());
        let mut path = self.library_of(replay.as_deref())?;
        let mut library = self.read(&path)?;
        if let Some(replay) = &mut replay
            && !replay.is_library(&self.member, &library)
            && self.effect == BuildEffect::UpToDate
        {
            self.send_output(format!(
                "{} was changed after it was compiled; building `{}` again",
                path.display(),
                plugin.name
            ));
            replay::remove_output(&path);
            self.run = Some(self.run_cargo(Some(replay), false, false)?);
            path = self.library_of(Some(replay))?;
            library = self.read(&path)?;
            replay.is_library(&self.member, &library);
        }
        let phases = std::mem::take(&mut self.phases);
        let changes = self.changes.take().filter(|_| self.cargo_runs == 0 && self.run.is_none());
        let Self { warnings, effect, notice, .. } = *self;
        Ok(Linked { library, warnings, effect, changes, phases, notice })
    }

    /// The path of the library: the one that cargo made, or else the recorded one.
    fn library_of(&self, replay: Option<&Replay>) -> Result<PathBuf, BuildError> {
        let made_by_cargo = self.run.as_ref().and_then(Run::shared_library);
        let remembered = || replay?.library(&self.member).map(ToOwned::to_owned);
        made_by_cargo.or_else(remembered).ok_or_else(|| {
            BuildError::setup(format!(
                "cargo did not build the shared library of `{}`; do the cargo flags select another \
                 target?",
                self.member.plugin.name
            ))
        })
    }

    fn read(&self, library: &Path) -> Result<Vec<u8>, BuildError> {
        fs::read(library).map_err(|error| {
            BuildError::artifact(format!(
                "`{}` is built, but {} cannot be read: {error}",
                self.member.plugin.name,
                library.display()
            ))
            .because(error)
        })
    }

    /// Runs cargo, and records the run. With `again`, the library may be removed, so that cargo makes it once more:
    /// then cargo has to run again.
    fn run_cargo(
        &mut self,
        replay: Option<&mut Replay>,
        hold: bool,
        again: bool,
    ) -> Result<Run, BuildError> {
        let began = Instant::now();
        let seen = replay.as_ref().map(|replay| replay.read_inputs(&self.member));
        let began_at = Moment::now();
        let mut command = self.cargo_command();
        // If notes are not possible, the next build runs cargo again.
        let notes = replay
            .as_ref()
            .map(|replay| replay.note(&self.member, &mut command, self.options.leave_temps, hold));
        let notes = notes.transpose().unwrap_or_else(|error| {
            self.send_output(format!("the compiler calls cannot be noted: {error}"));
            None
        });
        let plugin = self.member.plugin;
        let package = Package {
            name: &plugin.name,
            manifest_path: &plugin.manifest_path,
            workspace_root: &plugin.workspace_root,
            target_dir: &plugin.cargo_target_dir(),
            package_count: plugin.package_count,
            api_path: plugin.api_path.as_deref(),
        };
        self.warnings = 0;
        let mut wrong = Vec::new();
        let (warnings, files_with_errors) = (&mut self.warnings, &mut self.files_with_errors);
        let (on_message, position) = (self.on_message, self.position);
        let holding = notes.as_ref().filter(|_| hold);
        let run = compile(
            package,
            command,
            holding,
            self.cancel,
            &mut |message| {
                *warnings += usize::from(is_warning(&message));
                files_with_errors.extend(file_with_error(&message));
                on_message(position, message);
            },
            &mut |file| wrong.push(file),
        );
        let run = run.inspect_err(|_| record_files_with_errors(plugin, wrong, began_at))?;
        if !run.is_fresh() {
            self.effect = BuildEffect::NewCode;
        }
        self.phases.push((PhaseKind::Cargo, began.elapsed()));
        if let Some(notes) = &notes
            && self.options.leave_temps
        {
            self.send_output(format!(
                "the notes of compiler calls are in {}",
                notes.dir().display()
            ));
        }
        if let Some((notes, replay)) = notes.zip(replay) {
            let before_run = InputsBefore { seen: seen.unwrap_or_default(), began: began_at };
            let recorded = replay.record_run(
                &self.member,
                &notes,
                &before_run,
                &self.cargo_command(),
                &run,
                again,
            );
            if let Err(error) = recorded {
                self.send_output(not_recorded(plugin, &error));
            }
        }
        Ok(run)
    }

    fn cargo_command(&self) -> Command {
        let mut command = self.common_command();
        if let Some(hash) = &self.member.included {
            // The linker writes the hash into the library, so it becomes part of the build id.
            command.args(["-C", &format!("link-arg=-Wl,--build-id=0x{hash}")]);
        }
        command
    }

    /// The part of cargo's command that is the same when included files change.
    fn common_command(&self) -> Command {
        let plugin = self.member.plugin;
        let mut command = cargo::command();
        command.args(["rustc", "--package", &plugin.package_id, "--lib", "--crate-type", "cdylib"]);
        let target_dir = plugin.cargo_target_dir();
        command.arg("--target-dir").arg(&target_dir);
        // The user's setting would make builds of the workspace share their output with this one. In the value of this
        // variable, cargo takes text in braces for the name of something else.
        if !target_dir.as_os_str().as_encoded_bytes().iter().any(|byte| b"{}".contains(byte)) {
            command.env("CARGO_BUILD_BUILD_DIR", target_dir);
        }
        add_common_arguments(&mut command, &plugin.manifest_path, &plugin.dir, self.options);
        command.args(&self.profile);
        command.args(["--", "--cfg", "hotswap_cdylib"]);
        if let Some(prefix) = &self.options.live_prefix {
            // Only the macro reads the variable. The argument makes cargo compile again when the variable
            // changes.
            command.env(env::LIVE_PREFIX, prefix).arg("--cfg");
            command.arg(format!("hotswap_live_prefix={prefix:?}"));
        }
        command
    }

    pub(super) fn stop_where_cancelled(&self) -> Result<(), BuildError> {
        match self.cancel.is_cancelled() {
            true => Err(BuildError::cancelled(&self.member.plugin.name)),
            false => Ok(()),
        }
    }

    fn show(&mut self, diagnostic: Diagnostic) {
        let message = BuildMessage::Diagnostic(diagnostic);
        self.warnings += usize::from(is_warning(&message));
        self.send(message);
    }

    pub(super) fn send_output(&self, text: String) {
        self.send(BuildMessage::Output(text));
    }

    fn send(&self, message: BuildMessage) {
        (self.on_message)(self.position, message);
    }
}

pub(super) fn not_recorded(plugin: &PluginPackage, error: &io::Error) -> String {
    format!(
        "this build of `{}` could not be recorded, so the next one runs cargo: {error}",
        plugin.name
    )
}

pub(super) fn not_kept(plugin: &PluginPackage, error: &io::Error) -> String {
    format!(
        "the input of this build of `{}` could not be kept, so the next save makes no patch: {error}",
        plugin.name
    )
}

fn file_with_error(message: &BuildMessage) -> Option<PathBuf> {
    match message {
        BuildMessage::Diagnostic(diagnostic) if diagnostic.level == DiagnosticLevel::Error => {
            diagnostic.file.clone()
        }
        _ => None,
    }
}

fn is_warning(message: &BuildMessage) -> bool {
    match message {
        BuildMessage::Diagnostic(diagnostic) => diagnostic.level == DiagnosticLevel::Warning,
        _ => false,
    }
}
