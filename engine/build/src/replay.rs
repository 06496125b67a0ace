//! Builds without cargo, as long as only sources have changed since a build with cargo.
//!
//! A run of cargo is recorded: each compiler call for a crate of the plugin's author, with its environment.
//! While nothing else changes that decides how cargo calls the compiler, a build repeats the calls for the
//! crates whose sources changed, and for the crates that depend on these. This saves the time that cargo
//! takes, and before it the toolchain switch (rustup).
//!
//! The repeated calls write to a directory of their own. So cargo's output stays as cargo left it, and both
//! ways can be used in turn. Content decides whether something is up to date: a file that comes back with its
//! old modification time is a change here, though not for cargo.
//!
//! | word | meaning |
//! |---|---|
//! | unit | a library crate of the plugin's author, or the plugin, compiled in one way |
//! | way to build | a cargo command in an environment; each has a record of its own |
//! | notes | what a run of cargo leaves about its compiler calls; they are read into the record |
//! | guard | a file other than a source that decides what cargo does; if it changes, cargo runs |

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cargo_metadata::{Artifact, TargetKind};
use hotswap_artifact::patch::Patch;
use hotswap_protocol::{BuildId, PhaseKind};
use parking_lot::Mutex;

use crate::build::compile::Run;
use crate::outline::SourceChanges;
use crate::reads::Reads;
use crate::replay::bases::KeptBase;
pub(crate) use crate::replay::bases::NewBuild;
use crate::replay::dep_info::DepInfo;
pub use crate::replay::dep_info::program_sources;
pub(crate) use crate::replay::guard::BuildScript;
pub use crate::replay::guard::toolchain_files;
pub(crate) use crate::replay::guard::{configuration_files, is_downloaded};
use crate::replay::input::Stat;
pub(crate) use crate::replay::input::{Input, Moment, is_of_editor};
pub(crate) use crate::replay::invocation::Notes;
use crate::replay::invocation::{Invocation, Noted};
use crate::replay::outlines::Outlines;
use crate::replay::plan::Plan;
pub(crate) use crate::replay::plan::Seen;
use crate::replay::record::{
    BehindCargo, Compiled, Plugin, Record, ScriptOutputs, Unit, unit_id_of,
};
pub(crate) use crate::replay::record::{Output, UnitId};
use crate::replay::run::{Linker, Replayed};
use crate::replay::workspace_info::WorkspaceInfo;
use crate::{Cancel, Diagnostic, PluginPackage, atomic_file, reads};

mod bases;
mod dep_info;
mod guard;
mod input;
mod invocation;
mod outlines;
mod plan;
mod ready;
mod record;
mod run;
mod workspace_info;

/// The file of the record, in the directory of its way to build.
const RECORD: &str = "record.json";
/// How many hexadecimal digits the name of a way to build has.
const WAY_DIGITS: usize = 16;

/// See `hotswap_build::inputs`.
pub(crate) mod inputs {
    use std::path::{Path, PathBuf};

    use super::{dep_info::DepInfo, guard::BuildScript, invocation, record::Record};

    /// The files and variables that a `.d` file lists, written by a compiler that ran in `dir`.
    pub fn dep_info(text: &str, dir: &Path) -> (Vec<PathBuf>, Vec<(String, Option<String>)>) {
        let DepInfo { files, env } = DepInfo::parse(text, dir);
        (files, env)
    }

    /// Parses `bytes` as a note of a compiler call, and as the output of a build script. Returns whether
    /// either gave a result.
    pub fn compiler_notes(bytes: &[u8], dir: &Path) -> bool {
        let asked = BuildScript::parse(&String::from_utf8_lossy(bytes), dir, None);
        invocation::texts(bytes).is_some() || asked != BuildScript::default()
    }

    /// How many units a record lists for its plugins in total, after they are sorted.
    pub fn record(bytes: &[u8]) -> usize {
        let record = Record::read(bytes);
        record.plugins.values().map(|plugin| record.in_order(plugin).len()).sum()
    }
}

/// The largest number of ways to build that are kept for a target directory: some profiles and settings of
/// some checkouts that share it. A record takes some 100 KiB, besides the crates that were compiled without
/// cargo.
const REMEMBERED_WAYS: usize = 16;

/// The record of one way to build the plugins of a workspace, with the operations on it.
///
/// A user of the record must hold the lock of the target directory.
#[derive(Debug)]
pub(crate) struct Replay {
    dir: PathBuf,
    record: Record,
    /// Whether the record differs from its file.
    is_changed: bool,
    /// Cargo's information about the workspace during this build.
    workspace_info: Option<WorkspaceInfo>,
    /// The outlines of sources, once they are needed.
    outlines: OnceLock<Outlines>,
    /// The build to be patched, if it was read while the compiler ran.
    base_read: Option<KeptBase>,
}

/// A plugin that is built in a recorded way.
#[derive(Clone, Debug)]
pub(crate) struct Member<'a> {
    pub plugin: &'a PluginPackage,
    /// The hash of the plugin's included files.
    pub included: Option<String>,
}

/// A request for a patch while the plugin is still being linked.
pub(crate) struct PatchRequest<'a> {
    pub member: &'a Member<'a>,
    /// The build to be patched.
    pub base: BuildId,
    pub deliver: Box<DeliverPatch<'a>>,
}

/// Called with a patch, and with the durations of compiling and of making the patch.
type DeliverPatch<'a> = dyn Fn(Patch, [(PhaseKind, Duration); 2]) + Send + Sync + 'a;

/// The content of recorded files just before a run of cargo began.
#[derive(Debug)]
pub(crate) struct InputsBefore {
    pub seen: Seen,
    pub began: Moment,
}

impl InputsBefore {
    /// The content that the run has read from `path`.
    fn read(&self, path: &Path) -> Input {
        Input::read_since(path, self.began.at(), self.seen.get(path))
    }
}

/// The next thing that a build has to do.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing: the recorded library is up to date.
    UpToDate,
    /// Compile these units without cargo.
    Replay(Outdated),
    /// Run cargo, for this reason.
    Cargo(String),
}

/// The units that have to be compiled again, each after those that it depends on.
#[derive(Debug, Default)]
pub(crate) struct Outdated {
    units: Vec<UnitId>,
}

impl Outdated {
    /// How many units there are.
    pub(crate) fn count(&self) -> usize {
        self.units.len()
    }

    pub(crate) fn units(&self) -> impl Iterator<Item = &UnitId> {
        self.units.iter()
    }

    /// Adds the units that another plugin needs.
    pub(crate) fn add(&mut self, other: &Self) {
        let new = other.units.iter().filter(|id| !self.units.contains(id));
        let new: Vec<_> = new.cloned().collect();
        self.units.extend(new);
    }

    /// The first of these units that a run did not make; `None` if it made all.
    pub(crate) fn first_missing(&self, ran: &Ran) -> Option<&UnitId> {
        self.units.iter().find(|id| !ran.done.contains_key(*id))
    }
}

/// The units that a run without cargo compiled.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    done: BTreeMap<UnitId, Recompiled>,
    /// The changes in the sources of each unit; `None` if they are not known.
    changes: BTreeMap<UnitId, Option<SourceChanges>>,
}

impl Ran {
    /// The changes in the sources of these units; `None` if they are not known.
    pub(crate) fn changes_of(&self, outdated: &Outdated) -> Option<SourceChanges> {
        let mut all = SourceChanges::default();
        for id in &outdated.units {
            all.add(self.changes.get(id)?.clone()?);
        }
        Some(all)
    }
}

/// How long it took to compile a unit, including the units for which it waited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recompiled {
    pub elapsed: Duration,
    /// The time that its linker took; `None` if that is not known.
    pub linking: Option<Duration>,
}

/// The directory of the record for builds of `plugin` with the command `cargo`, which does not contain the
/// `included` hash.
///
/// # Errors
/// The text says why such builds cannot be recorded.
pub(crate) fn place_of_record(
    plugin: &PluginPackage,
    target_dir: &Path,
    cargo: &Command,
) -> Result<PathBuf, String> {
    if let Some(reason) = guard::unrecordable(plugin, cargo) {
        return Err(reason);
    }
    let parent = target_dir.join("replay");
    let dir = parent.join(way(plugin, cargo));
    if !dir.is_dir() {
        forget_oldest(&parent);
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    }
    Ok(dir)
}

impl Replay {
    /// Opens the record in `dir`, a [`place_of_record`].
    pub(crate) fn open(dir: PathBuf) -> Self {
        let record = Record::load(&dir.join(RECORD));
        Self {
            dir,
            record,
            is_changed: false,
            workspace_info: None,
            outlines: OnceLock::new(),
            base_read: None,
        }
    }

    /// The directory of the record.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Finds out what has changed, and so what to do. `seen` contains the files that were already read for
    /// other plugins, and gets the files that are read now.
    pub(crate) fn next(&self, member: &Member<'_>, seen: &mut Seen) -> Next {
        match plan::plan(&self.record, member.plugin, seen) {
            Plan::Nothing | Plan::Replay(..) if self.has_other_files(member) => {
                Next::Cargo("an included file changed".to_owned())
            }
            Plan::Nothing => Next::UpToDate,
            Plan::Replay(units) => Next::Replay(Outdated { units }),
            Plan::Cargo(reason) => Next::Cargo(reason),
        }
    }

    fn has_other_files(&self, member: &Member<'_>) -> bool {
        let plugin = self.record.plugins.get(&member.plugin.name);
        let root = plugin.and_then(|plugin| self.record.units.get(&plugin.root));
        root.and_then(|root| root.included.as_ref()) != member.included.as_ref()
    }

    /// Makes the run of `command` write notes of its compiler calls. With `stay`, the notes are kept for the
    /// user. With `hold`, cargo compiles everything that the plugin needs, but not the plugin itself.
    pub(crate) fn note(
        &self,
        member: &Member<'_>,
        command: &mut Command,
        stay: bool,
        hold: bool,
    ) -> io::Result<Notes> {
        let plugin = member.plugin;
        let recorded = self.record.units.values().map(|unit| &unit.package_dir);
        let dirs: BTreeSet<&PathBuf> = plugin.source_dirs.iter().chain(recorded).collect();
        let settings = |dir: &PathBuf| (dir.clone(), guard::settings(plugin, dir));
        let settings = dirs.into_iter().map(settings).collect();
        Notes::attach(command, &self.dir, settings, stay, hold)
    }

    /// Reads the files from which the plugin was built last, before cargo reads them, so that a file that was
    /// saved just before cargo began is known.
    pub(crate) fn read_inputs(&self, member: &Member<'_>) -> Seen {
        let Some(plugin) = self.record.plugins.get(&member.plugin.name) else { return Seen::new() };
        let units = plugin.units.iter().filter_map(|id| self.record.units.get(id));
        let inputs = units.flat_map(|unit| &unit.compiled.inputs);
        let files = plugin.guards.iter().chain(inputs);
        files.map(|file| (file.path.clone(), file.reread())).collect()
    }

    /// Records a run of cargo that left these notes. Everything that was recorded of the plugin before is
    /// replaced: from now on the record describes the output of cargo.
    ///
    /// Cargo may have found a crate up to date whose compiler call was never noted. The sources of such a
    /// crate become guards: when they change, cargo compiles the crate, and the call is noted. If the plugin
    /// itself is such a crate, there is no record of it. With `again`, its library is removed in this case,
    /// so that the next run of cargo compiles and notes it.
    pub(crate) fn record_run(
        &mut self,
        member: &Member<'_>,
        notes: &Notes,
        before_run: &InputsBefore,
        cargo: &Command,
        run: &Run,
        again: bool,
    ) -> io::Result<()> {
        let before = self.record.plugins.get(&member.plugin.name).cloned();
        let output_before = self.library_output(member).cloned();
        let mut results = self.units_of(member, notes, before_run, run, again);
        let roots: Vec<_> =
            results.dirs.iter().filter_map(|dir| guard::named_workspace(dir)).collect();
        results.dirs.extend(roots);
        let behind = self.behind_cargo(member, before.as_ref(), &results.dirs, cargo);
        let mut always = self.unknown_library(&results.units, run);
        let scripts = build_scripts(run);
        always = always.or_else(|| scripts.iter().find_map(BuildScript::missing));
        always = always.or_else(|| behind.as_ref().err().cloned());
        // If cargo has to run for every build, or if something that only cargo compiles uses the plugin,
        // cargo compiles the plugin, too.
        let is_behind =
            behind.as_ref().is_ok_and(|behind| behind.dirs.contains(&member.plugin.dir));
        let needs_cargo = always.is_some() || is_behind;
        let root = results.root.take().filter(|(_, library)| library.is_some() || !needs_cargo);
        let Some((root, cargo_library)) = root else { return self.mark_outdated(member) };
        let compiler = self.record.units.get(&root).map(|unit| unit.invocation.program.clone());
        let compiler = compiler.unwrap_or_default();
        let mut files = results.files;
        let deciding = guard::files(member.plugin, &results.dirs, &compiler, cargo);
        let mut variables = guard::configured_variables(member.plugin, cargo);
        for script in scripts {
            files.extend(script.paths);
            variables.extend(script.variables);
        }
        if let Ok(behind) = &behind {
            files.extend(self.sources_behind(&results.units, &behind.dirs));
        }
        let is_worth_watching = guard::worth_watching(member.plugin);
        let is_watched = |path: &&PathBuf| {
            results.dirs.iter().any(|dir| path.starts_with(dir)) || is_worth_watching(path)
        };
        let own = files.iter().filter(|path| !guard::is_downloaded(path));
        let read = own.chain(deciding.iter().filter(is_watched)).cloned().collect();
        files.extend(deciding);
        let guards = files.iter().map(|path| before_run.read(path)).collect();
        let of_cargo = of_cargo(&results.units, member.plugin, run);
        let env = variables.into_iter().map(|name| (std::env::var(&name).ok(), name));
        let env = env.map(|(value, name)| (name, value)).collect();
        let (library, build_id) = before.map(|it| (it.library, it.build_id)).unwrap_or_default();
        let plugin = Plugin {
            root,
            units: results.units,
            cargo_library,
            guards,
            of_cargo,
            read,
            env,
            always,
            behind: behind.unwrap_or_default(),
            is_dropped: false,
            diagnostics: results.diagnostics,
            library,
            build_id,
        };
        self.record.plugins.insert(member.plugin.name.clone(), plugin);
        // The remembered content belongs to another file if the library was replaced.
        let is_kept = |(one, other): (&Output, &Output)| one.is_same(other);
        if !output_before.as_ref().zip(self.library_output(member)).is_some_and(is_kept)
            && let Some(plugin) = self.record.plugins.get_mut(&member.plugin.name)
        {
            plugin.library = None;
        }
        self.write()
    }

    /// Marks the record of the plugin as outdated: the next build runs cargo.
    pub(crate) fn mark_outdated(&mut self, member: &Member<'_>) -> io::Result<()> {
        if let Some(plugin) = self.record.plugins.get_mut(&member.plugin.name) {
            plugin.is_dropped = true;
            plugin.library = None;
        }
        self.write()
    }

    /// The units of a run of cargo, which are recorded, and the files of everything else that it compiled.
    fn units_of(
        &mut self,
        member: &Member<'_>,
        notes: &Notes,
        before_run: &InputsBefore,
        run: &Run,
        again: bool,
    ) -> RunResults {
        let (noted, mut settings) = (notes.read(), notes.settings.clone());
        let script_outputs = script_outputs(run);
        let plugin = member.plugin;
        let mut results = RunResults::default();
        results.dirs.extend(plugin.source_dirs.iter().cloned());
        for artifact in run.artifacts.iter().filter(|artifact| is_local(artifact)) {
            if let Some(dir) = artifact.manifest_path.parent().map(|dir| dir.as_std_path()) {
                // If its manifest changed meanwhile, the manifest is a guard that cargo has to check.
                let now = || guard::settings(plugin, dir);
                settings.entry(dir.to_owned()).or_insert_with(now);
                results.dirs.insert(dir.to_owned());
            }
            let is_root = artifact.manifest_path == plugin.manifest_path;
            let id = is_library(artifact)
                .then(|| {
                    self.unit_of(member, artifact, &noted, &settings, &script_outputs, before_run)
                })
                .flatten();
            if let Some(id) = id {
                if let Some(unit) = self.record.units.get_mut(&id) {
                    unit.diagnostics = run.diagnostics_of(artifact).cloned().collect();
                    // Cargo compares times, so it may have missed that both the settings and the sources
                    // changed. Without its output, it compiles the unit again.
                    if settings.get(&unit.package_dir) != Some(&unit.settings)
                        && unit.compiled.has_other_inputs()
                        && (again || !is_root)
                    {
                        remove_outputs(artifact);
                    }
                }
                if let Some(library) = shared_library(artifact).filter(|_| is_root) {
                    results.root = Stat::of(library).map(|library| (id.clone(), Some(library)));
                }
                results.units.push(id);
            } else if is_library(artifact) && is_root {
                if again {
                    remove_outputs(artifact);
                }
            } else {
                // Procedural macros and build scripts are left to cargo: their sources are guards.
                results.files.extend(sources_of(&plugin.workspace_root, artifact));
                results.diagnostics.extend(run.diagnostics_of(artifact).cloned());
            }
        }
        let held = noted.iter().find(|noted| run.is_held && noted.is_held);
        if let Some(id) =
            held.and_then(|held| self.record_held_call(member, held, &settings, &script_outputs))
        {
            results.units.push(id.clone());
            results.root = Some((id, None));
        }
        results
    }

    /// Records the plugin's own unit, with the call that cargo would have made now. The earlier output is
    /// kept if cargo has never made the call and the call is the same: then this is the only reason why cargo
    /// wanted to make it.
    fn record_held_call(
        &mut self,
        member: &Member<'_>,
        held: &Noted,
        settings: &BTreeMap<PathBuf, String>,
        script_outputs: &ScriptOutputs,
    ) -> Option<UnitId> {
        let id = unit_id(&held.invocation)?;
        let package_dir = &member.plugin.dir;
        let mut unit = Unit {
            name: held.invocation.option("--crate-name")?.to_owned(),
            included: member.included.clone(),
            invocation: held.invocation.clone(),
            package_dir: package_dir.clone(),
            settings: settings.get(package_dir).cloned().unwrap_or_default(),
            script_outputs: script_outputs.clone(),
            diagnostics: Vec::new(),
            compiled: Compiled::default(),
            by_cargo: Some(Compiled::default()),
        };
        if let Some(before) = self.record.units.remove(&id)
            && before.by_cargo.is_some_and(|compiled| compiled.outputs.is_empty())
            && (&before.invocation, &before.script_outputs)
                == (&unit.invocation, &unit.script_outputs)
            && before.included == unit.included
        {
            (unit.compiled, unit.diagnostics) = (before.compiled, before.diagnostics);
        }
        self.record.units.insert(id.clone(), unit);
        Some(id)
    }

    /// Why a record of these units would be incomplete: one of them uses a library that no package of this
    /// run made. `None` if there is no such library.
    fn unknown_library(&self, units: &[UnitId], run: &Run) -> Option<String> {
        let made = run.artifacts.iter().flat_map(|artifact| &artifact.filenames);
        let made: BTreeSet<&Path> = made.map(|path| path.as_std_path()).collect();
        let units: BTreeSet<&str> = units.iter().map(String::as_str).collect();
        let is_known = |library: &Path| {
            made.contains(library) || unit_id_of(library).is_some_and(|id| units.contains(id))
        };
        let of_unit = |id: &&str| {
            let unit = self.record.units.get(*id)?;
            let mut externs = unit.invocation.externs().map(|(_, library)| library);
            let unknown = externs.find(|library| !is_known(library))?;
            Some(format!("`{}` uses {}, which is not recorded", unit.name, unknown.display()))
        };
        units.iter().find_map(of_unit)
    }

    /// The packages that only cargo can bring up to date. Cargo is asked for its metadata with the flags of
    /// the build, and asked again when a manifest or the lock file has changed.
    fn behind_cargo(
        &mut self,
        member: &Member<'_>,
        before: Option<&Plugin>,
        dirs: &BTreeSet<PathBuf>,
        cargo: &Command,
    ) -> Result<BehindCargo, String> {
        let settings = dirs.iter().map(|dir| guard::settings(member.plugin, dir));
        let settings = settings.collect::<Vec<_>>().join(" ");
        let before = before.map(|plugin| &plugin.behind);
        if let Some(known) = before.filter(|known| known.settings == settings) {
            return Ok(known.clone());
        }
        let args: Vec<&str> = cargo.get_args().filter_map(OsStr::to_str).collect();
        let plugin = member.plugin;
        let info = match self.workspace_info.take().filter(|info| info.is_for(plugin, &args)) {
            Some(info) => info,
            None => WorkspaceInfo::load(plugin, &args)?,
        };
        let workspace = self.workspace_info.insert(info).workspace();
        let package = workspace
            .member_at(&member.plugin.manifest_path)
            .ok_or_else(|| "cargo's metadata does not have the package".to_owned())?;
        Ok(BehindCargo { settings, dirs: workspace.behind_cargo(package) })
    }

    /// The sources of those `units` whose packages are in `dirs`.
    fn sources_behind(&self, units: &[UnitId], dirs: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
        let units = units.iter().filter_map(|id| self.record.units.get(id));
        let behind = units.filter(|unit| dirs.contains(&unit.package_dir));
        let inputs = behind.flat_map(|unit| &unit.compiled.inputs);
        inputs.map(|input| input.path.clone()).collect()
    }

    /// Makes a directory for the compiler calls of a build without cargo. The directory is not removed.
    pub(crate) fn place_for_calls(&self) -> io::Result<PathBuf> {
        Ok(tempfile::Builder::new().prefix("calls-").tempdir_in(&self.dir)?.keep())
    }

    /// Compiles these units again, as many side by side as the `server` allows. `seen` is the content of the
    /// sources when the units were found to be outdated. The compiler calls are written to the directory
    /// `calls`.
    pub(crate) fn run(
        &mut self,
        outdated: &Outdated,
        seen: &Seen,
        calls: Option<&Path>,
        requests: &[PatchRequest<'_>],
        server: Option<&jobserver::Client>,
        cancel: &Cancel,
    ) -> io::Result<Ran> {
        let units = &outdated.units;
        let known = Mutex::new(self.outlines.take());
        let this = &*self;
        let changed = this.changed_files(units, seen);
        let (outlines, outlined) = (OnceLock::new(), || {
            let mut outlines = known.lock().take().unwrap_or_else(|| Outlines::load(&this.dir));
            changed.iter().for_each(|(path, hash)| outlines.add(path, hash));
            outlines
        });
        // Only if nothing else is compiled. Otherwise the input of the build is known only at the end.
        let request = match &units[..] {
            [only] => requests.iter().find(|request| this.is_root(request.member, only)),
            _ => None,
        };
        let (base, read_base) =
            (OnceLock::new(), || this.kept_base(request?.member, request?.base).ok().flatten());
        let at_link = |id: &UnitId, began: Moment, linker: &Linker| {
            if let Some(request) = request
                && let Some(base) = base.get_or_init(read_base)
            {
                let known = (base, outlines.get_or_init(outlined));
                this.make_early_patch(request, id, (began, seen), linker, known);
            }
        };
        let replayed = thread::scope(|scope| {
            // This runs while the compilers run, which take longer.
            scope.spawn(|| _ = outlines.get_or_init(outlined));
            if request.is_some() {
                scope.spawn(|| _ = base.get_or_init(read_base));
            }
            run::run(&this.record, units, &this.dir, calls, server, &at_link, cancel)
        })?;
        let (outlines, base) = (outlines.into_inner().unwrap_or_default(), base.into_inner());
        let mut ran = Ran::default();
        for done in replayed {
            let Some(unit) = self.record.units.get(&done.id) else { continue };
            let outputs = done.outputs.iter().map(|path| Output::of(path)).collect();
            let compiled =
                self.compiled(&done.id, unit, (done.began, seen), (outputs, done.libraries))?;
            if let Some(unit) = self.record.units.get_mut(&done.id) {
                let before = std::mem::replace(&mut unit.compiled, compiled);
                let changes = outlines.changes(&before, &unit.compiled);
                ran.changes.insert(done.id.clone(), changes);
                unit.by_cargo.get_or_insert(before);
                unit.diagnostics = done.diagnostics;
            }
            let Replayed { elapsed, linking, .. } = done;
            ran.done.insert(done.id, Recompiled { elapsed, linking });
        }
        self.outlines = OnceLock::from(outlines);
        self.base_read = base.flatten();
        self.is_changed = true;
        Ok(ran)
    }

    /// The input and the output of a unit that a compiler has compiled since `began`.
    fn compiled(
        &self,
        id: &UnitId,
        unit: &Unit,
        (began, seen): (Moment, &Seen),
        (outputs, libraries): (Vec<Output>, Vec<PathBuf>),
    ) -> io::Result<Compiled> {
        let info = dep_info(&unit.invocation, &place_of(&self.dir, id))?;
        let read = |path: &PathBuf| Input::read_since(path, began.at(), seen.get(path));
        Ok(Compiled {
            inputs: info.files.iter().map(read).collect(),
            env: info.env,
            externs: plan::externs(&self.record, unit),
            outputs,
            libraries,
        })
    }

    fn is_root(&self, member: &Member<'_>, id: &UnitId) -> bool {
        self.record.plugins.get(&member.plugin.name).is_some_and(|plugin| plugin.root == *id)
    }

    /// Makes the requested patch if that is possible. If it is not, the end of the build reports why.
    fn make_early_patch(
        &self,
        request: &PatchRequest<'_>,
        id: &UnitId,
        (began, seen): (Moment, &Seen),
        linker: &Linker,
        (base, outlines): (&KeptBase, &Outlines),
    ) {
        let Some(unit) = self.record.units.get(id) else { return };
        let compiled_in = began.elapsed();
        let reached = Instant::now();
        let made = (unit.compiled.outputs.clone(), linker.libraries.clone());
        let Ok(compiled) = self.compiled(id, unit, (began, seen), made) else { return };
        let known = (base, outlines);
        let patch = self.early_patch(request.member, known, compiled, &linker.objects);
        if let Ok(Ok(patch)) = patch
            // Without changed functions, this build is, or may be, the running one, and there is nothing to do.
            && !patch.header.functions.is_empty()
        {
            let compile = (PhaseKind::Compile, compiled_in);
            (request.deliver)(patch, [compile, (PhaseKind::Patch, reached.elapsed())]);
        }
    }

    /// The sources of these units that differ from those that were compiled last, with their hashes.
    fn changed_files<'a>(&self, units: &[UnitId], seen: &'a Seen) -> Vec<(&'a Path, &'a str)> {
        let units = units.iter().filter_map(|id| self.record.units.get(id));
        let inputs = units.flat_map(|unit| &unit.compiled.inputs);
        let changed = inputs.filter_map(|input| {
            let now = seen.get(&input.path).filter(|now| !input.has_same_content(now))?;
            Some((now.path.as_path(), now.hash()?))
        });
        changed.collect()
    }

    /// Starts a compiler that waits for the next build of the plugin's own crate, since its sources are saved most
    /// often.
    pub(crate) fn prepare_compiler(&self, member: &Member<'_>) {
        let plugin = self.record.plugins.get(&member.plugin.name);
        if let Some(unit) = plugin.and_then(|plugin| self.record.units.get(&plugin.root)) {
            ready::prepare(unit.invocation.without_arguments());
        }
    }

    /// The outlines of the sources from which units were compiled.
    fn outlines(&self) -> &Outlines {
        self.outlines.get_or_init(|| Outlines::load(&self.dir))
    }

    /// The sources from which units were compiled, by the hash.
    fn sources(&self) -> BTreeMap<&str, &Path> {
        let inputs = self.record.units.values().flat_map(|unit| &unit.compiled.inputs);
        inputs.filter_map(|it| Some((it.hash()?, it.path.as_path()))).collect()
    }

    /// Reads the sources from which cargo has compiled units: they can be saved again as soon as the build is reported,
    /// before there are outlines of all.
    pub(crate) fn read_sources(&mut self) {
        let mut outlines = self.outlines.take().unwrap_or_else(|| Outlines::load(&self.dir));
        self.sources().into_iter().for_each(|(hash, path)| outlines.read(path, hash));
        self.outlines = OnceLock::from(outlines);
    }

    /// Saves outlines of the sources from which the units were compiled, so that the next build can report what
    /// changed.
    pub(crate) fn save_outlines(&mut self) -> io::Result<()> {
        let mut outlines = self.outlines.take().unwrap_or_else(|| Outlines::load(&self.dir));
        let files = self.sources();
        files.iter().for_each(|(hash, path)| outlines.read(path, hash));
        outlines.finish();
        let of_bases = self.hashes_of_bases();
        outlines.retain(&files.into_keys().chain(of_bases.iter().map(String::as_str)).collect());
        let saved = outlines.save(&self.dir);
        self.outlines = OnceLock::from(outlines);
        saved
    }

    /// How the plugin's own unit was compiled in a run; `None` if it was not.
    pub(crate) fn recompiled(&self, member: &Member<'_>, ran: &Ran) -> Option<Recompiled> {
        let plugin = self.record.plugins.get(&member.plugin.name)?;
        ran.done.get(&plugin.root).copied()
    }

    /// The name of the unit's crate, if there are errors in its files.
    pub(crate) fn crate_with_errors(&self, id: &UnitId, files: &[PathBuf]) -> Option<&str> {
        let unit = self.record.units.get(id)?;
        let has_errors = unit.compiled.inputs.iter().any(|input| files.contains(&input.path));
        has_errors.then_some(unit.name.as_str())
    }

    /// The path of the library that was compiled last.
    pub(crate) fn library(&self, member: &Member<'_>) -> Option<&Path> {
        self.library_output(member).map(|output| output.path.as_path())
    }

    fn library_output(&self, member: &Member<'_>) -> Option<&Output> {
        let plugin = self.record.plugins.get(&member.plugin.name)?;
        let outputs = &self.record.units.get(&plugin.root)?.compiled.outputs;
        outputs.iter().find(|output| is_shared_library(&output.path))
    }

    /// The files from which the plugin was built last, and the files that decide how it is built, without those that
    /// build scripts wrote.
    pub(crate) fn read_files(&self, member: &Member<'_>) -> Reads {
        let Some(plugin) = self.record.plugins.get(&member.plugin.name) else {
            return Reads::new();
        };
        let guards = plugin.guards.iter().filter(|guard| plugin.read.contains(&guard.path));
        let units = || plugin.units.iter().filter_map(|id| self.record.units.get(id));
        let inputs = units().flat_map(|unit| &unit.compiled.inputs);
        let of_scripts: BTreeSet<&PathBuf> =
            units().flat_map(|unit| unit.script_outputs.keys()).collect();
        let is_own = |input: &&Input| !of_scripts.iter().any(|dir| input.path.starts_with(dir));
        let read = |input: &Input| (input.path.clone(), Some(hash_in_list(input)));
        guards.chain(inputs).filter(is_own).map(read).collect()
    }

    /// Whether cargo has to run for every build.
    pub(crate) fn always_runs_cargo(&self, member: &Member<'_>) -> bool {
        let plugin = self.record.plugins.get(&member.plugin.name);
        plugin.is_some_and(|plugin| plugin.always.is_some() && !plugin.is_dropped)
    }

    /// Notes the content of the library that was compiled last; `false` if the content belongs to another
    /// library. Size and times have already been compared, but a changed file can have the same ones.
    pub(crate) fn is_library(&mut self, member: &Member<'_>, content: &[u8]) -> bool {
        let Some(plugin) = self.record.plugins.get_mut(&member.plugin.name) else { return true };
        let hash = Some(blake3::hash(content).to_string());
        let is_it = plugin.library.is_none() || plugin.library == hash;
        self.is_changed |= plugin.library != hash;
        plugin.library = hash;
        is_it
    }

    /// The compilers' diagnostics for the current state of all units.
    pub(crate) fn diagnostics(&self, member: &Member<'_>) -> Vec<Diagnostic> {
        let Some(plugin) = self.record.plugins.get(&member.plugin.name) else { return Vec::new() };
        let units = self.record.in_order(plugin).into_iter();
        let of_units = units.flat_map(|(_, unit)| &unit.diagnostics);
        plugin.diagnostics.iter().chain(of_units).cloned().collect()
    }

    /// The compilers' diagnostics for these units.
    pub(crate) fn diagnostics_of(&self, units: &BTreeSet<UnitId>) -> Vec<Diagnostic> {
        let units = units.iter().filter_map(|id| self.record.units.get(id));
        units.flat_map(|unit| &unit.diagnostics).cloned().collect()
    }

    /// The build id of the last artifact; `None` if there is none.
    pub(crate) fn build_id(&self, member: &Member<'_>) -> Option<&str> {
        self.record.plugins.get(&member.plugin.name)?.build_id.as_deref()
    }

    /// The units of the plugin that cargo compiled last, and whose sources have not changed since.
    pub(crate) fn unchanged_since_cargo(&self, member: &Member<'_>) -> BTreeSet<UnitId> {
        let plugin = self.record.plugins.get(&member.plugin.name);
        let units = plugin.into_iter().flat_map(|plugin| &plugin.units);
        let is_unchanged =
            |id: &&UnitId| self.record.units.get(*id).is_some_and(|unit| unit.by_cargo.is_none());
        units.filter(is_unchanged).cloned().collect()
    }

    /// Records the build id of the artifact.
    pub(crate) fn note_build_id(&mut self, member: &Member<'_>, build_id: String) {
        if let Some(plugin) = self.record.plugins.get_mut(&member.plugin.name) {
            self.is_changed |= plugin.build_id.as_ref() != Some(&build_id);
            plugin.build_id = Some(build_id);
        }
    }

    /// Writes the record, if it has changed. Until then, the file of the record lists the units that were compiled
    /// meanwhile as outdated.
    pub(crate) fn save(&mut self) -> io::Result<()> {
        if self.is_changed { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        let record = self.dir.join(RECORD);
        self.record.save(&record)?;
        self.is_changed = false;
        let parent = self.dir.parent().unwrap_or(&self.dir);
        let others = ways(parent).into_iter().filter(|(_, dir)| *dir != self.dir);
        atomic_file::date_as_newest(&record, others.filter_map(|(used, _)| used))
    }

    /// The unit from which cargo made `artifact`, recorded from the notes of this run or of an earlier one.
    /// `None` if its compiler call was never noted, or if build scripts have printed something else since.
    fn unit_of(
        &mut self,
        member: &Member<'_>,
        artifact: &Artifact,
        noted: &[Noted],
        settings: &BTreeMap<PathBuf, String>,
        script_outputs: &ScriptOutputs,
        before_run: &InputsBefore,
    ) -> Option<UnitId> {
        let is_root = artifact.manifest_path == member.plugin.manifest_path;
        let package_dir = artifact.manifest_path.parent()?.as_std_path();
        let crate_name = artifact.target.name.replace('-', "_");
        let file = artifact.filenames.iter().find_map(|path| unit_id_of(path.as_std_path()));
        let is_it = |noted: &&Noted| {
            let id = unit_id(&noted.invocation);
            let is_named = noted.invocation.option("--crate-name") == Some(&crate_name);
            is_named && if is_root { is_shared(&noted.invocation) } else { id.as_deref() == file }
        };
        let Some(noted) = noted.iter().find(is_it) else {
            let id = if is_root {
                let plugin = self.record.plugins.get(&member.plugin.name);
                let plugin = plugin.filter(|plugin| !plugin.is_dropped)?;
                let library = shared_library(artifact).and_then(Stat::of)?;
                library.is_same_output(plugin.cargo_library?).then(|| plugin.root.clone())?
            } else {
                file.map(str::to_owned)?
            };
            if !self.record.units.get(&id)?.is_valid_for(script_outputs) {
                self.record.units.remove(&id);
                return None;
            }
            self.record.units.get_mut(&id)?.adopt_cargo_output(artifact).ok()?;
            return Some(id);
        };
        let id = unit_id(&noted.invocation)?;
        let invocation = noted.invocation.clone();
        let out_dir = invocation.dir.join(invocation.option("--out-dir")?);
        let info = dep_info(&invocation, &out_dir).ok()?;
        let began = before_run.began.if_steady(noted.began);
        let read = |path: &PathBuf| Input::read_since(path, began, before_run.seen.get(path));
        let outputs = artifact.filenames.iter().map(|path| Output::of(path.as_std_path()));
        let externs = invocation.externs().map(|(_, path)| Output::of(path)).collect();
        let compiled = Compiled {
            inputs: info.files.iter().map(read).collect(),
            env: info.env,
            externs,
            outputs: outputs.collect(),
            libraries: Vec::new(),
        };
        let unit = Unit {
            name: crate_name,
            included: member.included.clone().filter(|_| is_root),
            invocation,
            package_dir: package_dir.to_owned(),
            settings: settings.get(package_dir).cloned().unwrap_or_default(),
            script_outputs: script_outputs.clone(),
            diagnostics: Vec::new(),
            compiled,
            by_cargo: None,
        };
        self.record.units.insert(id.clone(), unit);
        Some(id)
    }
}

/// Everything that only cargo makes for `plugin`, as a run has left it: the files of all artifacts that are not among
/// the `units`, and the output of build scripts, which cargo writes each time a script runs.
fn of_cargo(units: &[UnitId], plugin: &PluginPackage, run: &Run) -> Vec<Output> {
    let is_unit =
        |path: &Path| unit_id_of(path).is_some_and(|id| units.iter().any(|unit| unit == id));
    let others = run.artifacts.iter().filter(|artifact| {
        !(is_library(artifact) && artifact.manifest_path == plugin.manifest_path)
    });
    let files = others.flat_map(|artifact| &artifact.filenames).map(|path| path.as_std_path());
    let files: BTreeSet<PathBuf> =
        files.filter(|path| !is_unit(path)).map(Path::to_owned).collect();
    let printed = run.scripts.iter().filter_map(output_of);
    files
        .into_iter()
        .chain(printed.collect::<BTreeSet<_>>())
        .map(|path| Output::of(&path))
        .collect()
}

/// The output of the build scripts of a run, including those that did not have to run.
fn script_outputs(run: &Run) -> ScriptOutputs {
    let of_script = |script: &cargo_metadata::BuildScript| {
        let output = fs::read(output_of(script)?).ok()?;
        Some((script.out_dir.clone().into(), blake3::hash(&output).to_hex()[..16].to_owned()))
    };
    run.scripts.iter().filter_map(of_script).collect()
}

/// The file in which cargo keeps what a build script printed.
fn output_of(script: &cargo_metadata::BuildScript) -> Option<PathBuf> {
    Some(script.out_dir.parent()?.join("output").into())
}

/// The requests of the build scripts of a run.
fn build_scripts(run: &Run) -> Vec<BuildScript> {
    let of_script = |script: &cargo_metadata::BuildScript| {
        let output = fs::read_to_string(output_of(script)?).ok()?;
        let artifact = run.artifacts.iter().find(|it| it.package_id == script.package_id)?;
        let dir = artifact.manifest_path.parent()?.as_std_path();
        let package_dir = Some(dir).filter(|_| is_local(artifact));
        Some(BuildScript::parse(&output, dir, package_dir))
    };
    run.scripts.iter().filter_map(of_script).collect()
}

/// The files and directories for which the build scripts of a run have asked, in packages that the author can edit or
/// elsewhere.
pub(crate) fn asked_by_scripts(run: &Run) -> impl Iterator<Item = PathBuf> {
    let asked = build_scripts(run).into_iter().flat_map(|script| script.paths);
    asked.filter(|path| !guard::is_downloaded(path))
}

/// A build script of a run that has asked to run again when files change.
pub(crate) struct AskingScript {
    /// The name of its package.
    pub package: String,
    /// The file in which cargo keeps what it printed. Without this file, cargo runs the script again.
    pub output: PathBuf,
    /// The files and directories.
    pub paths: Vec<PathBuf>,
}

/// The build scripts of a run that have asked to run again when files change.
pub(crate) fn asking_scripts(run: &Run) -> Vec<AskingScript> {
    let of_script = |script: &cargo_metadata::BuildScript| {
        let output = output_of(script)?;
        let artifact = run.artifacts.iter().find(|it| it.package_id == script.package_id)?;
        let dir = artifact.manifest_path.parent()?.as_std_path();
        let paths = BuildScript::parse(&fs::read_to_string(&output).ok()?, dir, None).paths;
        let package = dir.file_name()?.to_string_lossy().into_owned();
        (!paths.is_empty()).then_some(AskingScript { package, output, paths })
    };
    run.scripts.iter().filter_map(of_script).collect()
}

/// The sources of an artifact, and of the path dependencies of a program, from the dep-info files beside it; the
/// directory of its package if they cannot be read.
pub(crate) fn sources_of(workspace_root: &Path, artifact: &Artifact) -> Vec<PathBuf> {
    let program = artifact.executable.as_ref().map(|program| program.as_std_path());
    let of_program = program.map(program_sources).unwrap_or_default();
    if !of_program.is_empty() {
        return of_program;
    }
    let package_dir = artifact.manifest_path.parent().map(|dir| dir.as_std_path());
    let texts = dep_infos_beside(artifact);
    let texts: Vec<_> = texts.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    // Paths are relative to the compiler's directory: that of the workspace or of the package.
    let dirs = [Some(workspace_root), package_dir];
    let files = dirs.into_iter().flatten().map(|dir| {
        let infos = texts.iter().map(|text| DepInfo::parse(text, dir));
        infos.flat_map(|info| info.files).collect::<Vec<_>>()
    });
    let is_found =
        |files: &Vec<PathBuf>| !files.is_empty() && files.iter().all(|file| file.exists());
    let whole_package = || package_dir.map(Path::to_owned).into_iter().collect();
    files.into_iter().find(is_found).unwrap_or_else(whole_package)
}

/// The crates of those `units` that a run of cargo compiled, sorted by name, because cargo reports them in any
/// order.
pub(crate) fn compiled_of(units: &BTreeSet<UnitId>, run: &Run) -> Vec<String> {
    let is_one = |artifact: &&Artifact| {
        let mut ids = artifact.filenames.iter().filter_map(|path| unit_id_of(path.as_std_path()));
        !artifact.fresh && ids.any(|id| units.contains(id))
    };
    let compiled = run.artifacts.iter().filter(is_one);
    let mut names: Vec<_> = compiled.map(|artifact| artifact.target.name.clone()).collect();
    names.sort_unstable();
    names
}

/// The hash of the content that a compiler, which began at `began`, has read from `path`, for a list of what
/// it read. If the file may have changed since then, it is a hash that no content of the file has.
pub(crate) fn read_since(path: &Path, began: Moment) -> String {
    hash_in_list(&Input::read_since(path, began.at(), None))
}

fn hash_in_list(input: &Input) -> String {
    let other = || blake3::hash(b"changed").to_string();
    let absent = input.is_absent().then(|| reads::ABSENT.to_owned());
    absent.or_else(|| input.hash().map(str::to_owned)).unwrap_or_else(other)
}

/// The files that a run of cargo read for the packages that the author can edit, and cargo's configuration, without
/// files that build scripts wrote into the directory that cargo gives them.
/// Files that watchers cannot know before the run, which began at `began`, have the hash of what it read: all but Rust
/// sources, which a build script may also have written.
pub(crate) fn read_by(plugin: &PluginPackage, run: &Run, began: Moment) -> Reads {
    let local = run.artifacts.iter().filter(|artifact| is_local(artifact));
    let sources = local.flat_map(|artifact| sources_of(&plugin.workspace_root, artifact));
    let deciding = guard::configuration_files(&plugin.dir, &plugin.configurations).into_iter();
    let deciding = deciding.chain(guard::toolchain_files(&plugin.dir));
    let is_worth_watching = guard::worth_watching(plugin);
    let deciding = deciding.filter(|path| is_worth_watching(path));
    let sources = sources.filter(|path| !guard::is_downloaded(path));
    let of_scripts: Vec<&Path> =
        run.scripts.iter().map(|script| script.out_dir.as_std_path()).collect();
    let files = sources.chain(asked_by_scripts(run));
    let files = files.filter(|path| !of_scripts.iter().any(|dir| path.starts_with(dir)));
    let is_source = |path: &Path| path.extension().is_some_and(|it| it == "rs");
    let with_hash = |path: PathBuf| {
        let hash = (!is_source(&path)).then(|| read_since(&path, began));
        (path, hash)
    };
    files.chain(deciding).map(with_hash).collect()
}

/// Whether `artifact` comes from a package that the plugin's author can edit: cargo took it from a directory,
/// and not from a registry or a repository.
pub(crate) fn is_local(artifact: &Artifact) -> bool {
    artifact.package_id.repr.contains("path+file://")
}

/// The results of a run of cargo.
#[derive(Default)]
struct RunResults {
    /// The plugin's own unit, and the state of the library that cargo made of it: `None` if cargo's call was held
    /// back.
    root: Option<(UnitId, Option<Stat>)>,
    units: Vec<UnitId>,
    /// The directories of the packages that the author can edit.
    dirs: BTreeSet<PathBuf>,
    /// The sources of everything that is not a unit.
    files: BTreeSet<PathBuf>,
    /// The compiler's diagnostics for everything that is not a unit.
    diagnostics: Vec<Diagnostic>,
}

impl Unit {
    /// Notes that cargo found the unit up to date, so `compiled` describes the output of cargo again. If the
    /// files differ from those that were noted, another program made cargo compile them, from the sources
    /// that their dep-info names.
    fn adopt_cargo_output(&mut self, artifact: &Artifact) -> io::Result<()> {
        if let Some(by_cargo) = self.by_cargo.take() {
            self.compiled = by_cargo;
        }
        let outputs = artifact.filenames.iter().map(|path| Output::of(path.as_std_path()));
        let outputs: Vec<_> = outputs.collect();
        let is_noted =
            |output: &Output| self.compiled.outputs.iter().any(|noted| noted.is_same(output));
        if !outputs.iter().all(is_noted) {
            let invocation = &self.invocation;
            let out_dir = invocation.option("--out-dir").unwrap_or_default();
            let info = dep_info(invocation, &invocation.dir.join(out_dir))?;
            self.compiled.inputs = info.files.iter().map(|path| Input::read(path)).collect();
            self.compiled.env = info.env;
        }
        self.compiled.outputs = outputs;
        let externs = self.invocation.externs().map(|(_, library)| Output::of(library));
        self.compiled.externs = externs.collect();
        Ok(())
    }
}

/// The directory to which a unit is compiled without cargo.
fn place_of(dir: &Path, id: &str) -> PathBuf {
    dir.join("units").join(id)
}

/// The name of a way to build: a hash of everything that its builds have in common.
fn way(plugin: &PluginPackage, cargo: &Command) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |text: &OsStr| {
        hasher.update(text.as_encoded_bytes());
        hasher.update(b"\0");
    };
    add(plugin.workspace_root.as_os_str());
    add(cargo.get_program());
    // The plugins of a workspace share a way to build, so the arguments that name one do not count.
    let own = [plugin.package_id.as_str().as_ref(), plugin.manifest_path.as_os_str()];
    cargo.get_args().filter(|arg| !own.contains(arg)).for_each(&mut add);
    for (name, value) in guard::cargo_variables() {
        add(name.as_ref());
        add(value.as_ref());
    }
    for (name, value) in cargo.get_envs() {
        add(name);
        add(value.unwrap_or_default());
    }
    hasher.finalize().to_hex()[..WAY_DIGITS].to_owned()
}

/// The directories of the recorded ways to build, with the time at which each was used last: the
/// oldest first.
fn ways(parent: &Path) -> Vec<(Option<SystemTime>, PathBuf)> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let is_way = |entry: &fs::DirEntry| {
        let is_named = entry.file_name().to_str().is_some_and(is_way_name);
        is_named && entry.file_type().is_ok_and(|file| file.is_dir())
    };
    let used = |dir: &Path| fs::metadata(dir.join(RECORD)).and_then(|it| it.modified()).ok();
    let dirs = entries.filter(is_way).map(|entry| entry.path());
    let mut ways: Vec<_> = dirs.map(|dir| (used(&dir), dir)).collect();
    ways.sort();
    ways
}

/// Whether `name` has the form of a name that [`way`] makes.
fn is_way_name(name: &str) -> bool {
    name.len() == WAY_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Removes the oldest ways to build, to make room for another one.
fn forget_oldest(parent: &Path) {
    let ways = ways(parent);
    let surplus = (ways.len() + 1).saturating_sub(REMEMBERED_WAYS);
    for (_, dir) in ways.into_iter().take(surplus) {
        // If a directory cannot be removed now, the next run finds it again.
        let _ = fs::remove_dir_all(dir);
    }
}

/// The id of the unit that a compiler call makes. The unit's files are named after it, except for a linked
/// library, whose name has no hash.
fn unit_id(invocation: &Invocation) -> Option<UnitId> {
    let name = invocation.option("--crate-name")?;
    let metadata = invocation.codegen_option("metadata")?;
    Some(match invocation.codegen_option("extra-filename") {
        Some(extra) => format!("{name}{extra}"),
        None => format!("{name}-{metadata}"),
    })
}

/// The dep-info that a compiler call left in `out_dir`.
fn dep_info(invocation: &Invocation, out_dir: &Path) -> io::Result<DepInfo> {
    let name = invocation.option("--crate-name").unwrap_or_default();
    let extra = invocation.codegen_option("extra-filename").unwrap_or_default();
    let text = fs::read_to_string(out_dir.join(format!("{name}{extra}.d")))?;
    Ok(DepInfo::parse(&text, &invocation.dir))
}

fn is_library(artifact: &Artifact) -> bool {
    use TargetKind::{CDyLib, DyLib, Lib, RLib, StaticLib};
    artifact.target.kind.iter().any(|kind| matches!(kind, Lib | RLib | DyLib | CDyLib | StaticLib))
}

fn is_shared(invocation: &Invocation) -> bool {
    invocation.option("--crate-type") == Some("cdylib")
}

fn is_shared_library(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(std::env::consts::DLL_SUFFIX.as_bytes())
}

fn shared_library(artifact: &Artifact) -> Option<&Path> {
    artifact.filenames.iter().map(|path| path.as_std_path()).find(|path| is_shared_library(path))
}

/// The dep-info files beside an artifact: the one with the library's name, or else all in its directory,
/// since that of a program can have another name than the program.
fn dep_infos_beside(artifact: &Artifact) -> Vec<PathBuf> {
    let Some(file) = artifact.filenames.first() else { return Vec::new() };
    if let Some(id) = unit_id_of(file.as_std_path()) {
        // The one beside a linked library was written by cargo, in another form.
        let compilers = file.with_file_name("deps").join(format!("{id}.d"));
        let beside = file.with_file_name(format!("{id}.d"));
        return vec![if compilers.exists() { compilers.into() } else { beside.into() }];
    }
    let entries = file.parent().and_then(|dir| fs::read_dir(dir).ok());
    let paths = entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "d")).collect()
}

/// Removes the files of an artifact, so that cargo compiles it again.
fn remove_outputs(artifact: &Artifact) {
    artifact.filenames.iter().for_each(|path| remove_output(path.as_std_path()));
}

/// Removes a compiled file under both of its names.
pub(crate) fn remove_output(path: &Path) {
    // A file beside the directory `deps` is a hard link to the one inside.
    let inner = path.parent().zip(path.file_name()).map(|(dir, name)| dir.join("deps").join(name));
    for path in inner.iter().map(PathBuf::as_path).chain([path]) {
        let _ = fs::remove_file(path);
    }
}
