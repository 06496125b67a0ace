//! Repeats recorded compiler calls side by side. Each begins as soon as the libraries that it needs exist,
//! and no more run at once than there are jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use cargo_metadata::diagnostic::Diagnostic as RustcDiagnostic;
use parking_lot::{Condvar, Mutex};
use serde::Deserialize;

use super::input::Moment;
use super::invocation::Invocation;
use super::record::{Record, Unit, UnitId, unit_id_of};
use super::{place_of, plan, ready};
use crate::process::Running;
use crate::{Cancel, Diagnostic};

/// A unit that was compiled.
#[derive(Debug)]
pub(super) struct Replayed {
    pub id: UnitId,
    /// When its compiler began.
    pub began: Moment,
    pub diagnostics: Vec<Diagnostic>,
    pub outputs: Vec<PathBuf>,
    /// How long it took from the beginning of the run.
    pub elapsed: Duration,
    /// How long its linker took; `None` if it was not linked.
    pub linking: Option<Duration>,
    /// The libraries that its linker was given.
    pub libraries: Vec<PathBuf>,
}

/// Called on a thread of its own when a unit is compiled and its linker begins, with the time when its compiler
/// began.
pub(super) type AtLink<'a> = dyn Fn(&UnitId, Moment, &Linker) + Sync + 'a;

/// Compiles `units`, each into a directory of its own below `dir`. A unit must come after those that it depends
/// on. If a unit cannot be compiled, the result lacks it and all units that depend on it. With a `server`, the
/// compilers and their threads share its jobs. If `calls` names a directory, each compiler call is written to a
/// file there.
pub(super) fn run(
    record: &Record,
    units: &[UnitId],
    dir: &Path,
    calls: Option<&Path>,
    server: Option<&jobserver::Client>,
    at_link: &AtLink<'_>,
    cancel: &Cancel,
) -> io::Result<Vec<Replayed>> {
    let progress = Progress::default();
    let all = units.iter().map(String::as_str).collect();
    let run = RunContext { record, units: &all, dir, calls, progress: &progress, server, at_link };
    thread::scope(|scope| {
        let mut compilers = Vec::new();
        for id in units {
            let Some(Unit { invocation, .. }) = record.units.get(id) else { continue };
            let job = Job { id, invocation, run: &run, began: Instant::now() };
            let compiler = thread::Builder::new().name(format!("rustc {id}"));
            compilers.push(compiler.spawn_scoped(scope, move || job.compile(cancel))?);
        }
        let join = |compiler: thread::ScopedJoinHandle<'_, Option<Replayed>>| {
            compiler.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let replayed: Vec<_> = compilers.into_iter().filter_map(join).collect();
        Ok(complete(replayed, &run))
    })
}

/// Leaves out units that were compiled against the metadata of a library whose compilation failed later.
fn complete(replayed: Vec<Replayed>, run: &RunContext<'_>) -> Vec<Replayed> {
    let mut done: BTreeSet<UnitId> = BTreeSet::new();
    let mut whole = Vec::new();
    for unit in replayed {
        if run.needed_by(&unit.id).all(|id| done.contains(id)) {
            done.insert(unit.id.clone());
            whole.push(unit);
        }
    }
    whole
}

/// The progress of the compilers of a run, on which they wait for each other.
#[derive(Debug, Default)]
struct Progress {
    state: Mutex<ProgressState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ProgressState {
    /// The file names of libraries against which other units can be compiled.
    ready: BTreeSet<String>,
    /// The units that are compiled.
    done: BTreeSet<UnitId>,
    /// The units that could not be compiled.
    failed: BTreeSet<UnitId>,
}

impl Progress {
    fn update(&self, change: impl FnOnce(&mut ProgressState)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    /// Waits until everything is ready that a unit needs; `false` if some of it could not be compiled.
    fn wait_for(&self, awaited: &Awaited<'_>) -> bool {
        let is_failed = |state: &ProgressState, id: &str| state.failed.contains(id);
        let has_failed = |state: &ProgressState| awaited.units().any(|id| is_failed(state, id));
        let is_there = |state: &ProgressState| match awaited {
            Awaited::Metadata(libraries) => {
                let mut names = libraries.iter().filter_map(|path| file_name(path));
                names.all(|name| state.ready.contains(&name))
            }
            Awaited::Whole(units) => units.iter().all(|id| state.done.contains(*id)),
        };
        let waits = |state: &mut ProgressState| !has_failed(state) && !is_there(state);
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, waits);
        !has_failed(&state)
    }
}

/// What a unit needs of its run.
enum Awaited<'a> {
    /// The metadata of these libraries, which exists before the libraries. The unit is compiled against them, and
    /// not linked.
    Metadata(Vec<&'a Path>),
    /// The libraries of these units. The unit is linked with them, so the list also has units on which it depends
    /// indirectly.
    Whole(Vec<&'a str>),
}

impl Awaited<'_> {
    fn units(&self) -> impl Iterator<Item = &str> {
        let (libraries, units): (&[&Path], &[&str]) = match self {
            Self::Metadata(libraries) => (libraries, &[]),
            Self::Whole(units) => (&[], units),
        };
        libraries.iter().filter_map(|path| unit_id_of(path)).chain(units.iter().copied())
    }
}

/// Records in the progress that a unit could not be compiled, if this is dropped before `done` is set: after an
/// error or a panic.
struct FailsUnlessDone<'a> {
    progress: &'a Progress,
    id: &'a UnitId,
    done: bool,
}

impl Drop for FailsUnlessDone<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.progress.update(|state| {
                state.failed.insert(self.id.clone());
            });
        }
    }
}

/// The parameters that the compilers of a run share.
struct RunContext<'a> {
    record: &'a Record,
    /// All units of this run.
    units: &'a BTreeSet<&'a str>,
    dir: &'a Path,
    /// The directory to which compiler calls are written for the user.
    calls: Option<&'a Path>,
    progress: &'a Progress,
    /// Limits how many compilers and compiler threads run; `None` if only one compiler runs.
    server: Option<&'a jobserver::Client>,
    at_link: &'a AtLink<'a>,
}

impl RunContext<'_> {
    /// The units of this run on whose libraries the unit `id` depends.
    fn needed_by(&self, id: &str) -> impl Iterator<Item = &str> {
        let unit = self.record.units.get(id).into_iter();
        let named = unit.flat_map(|unit| unit.invocation.externs());
        named.filter_map(|(_, path)| unit_id_of(path)).filter(|id| self.units.contains(id))
    }

    /// The unit `id`, and those on which it depends.
    fn with_needed<'u>(&'u self, id: &'u str) -> BTreeSet<&'u str> {
        let (mut all, mut open) = (BTreeSet::new(), vec![id]);
        while let Some(id) = open.pop() {
            let Some((id, unit)) = self.record.units.get_key_value(id) else { continue };
            if all.insert(id.as_str()) {
                open.extend(unit.invocation.externs().filter_map(|(_, path)| unit_id_of(path)));
            }
        }
        all
    }
}

struct Job<'a> {
    id: &'a UnitId,
    invocation: &'a Invocation,
    run: &'a RunContext<'a>,
    began: Instant,
}

impl Job<'_> {
    /// Compiles the unit; `None` if that fails. Then a run of cargo reports the reason.
    fn compile(&self, cancel: &Cancel) -> Option<Replayed> {
        let mut outcome = FailsUnlessDone { progress: self.run.progress, id: self.id, done: false };
        let replayed = self.try_compile(cancel).ok().flatten()?;
        outcome.done = true;
        self.run.progress.update(|state| {
            state.ready.extend(replayed.outputs.iter().filter_map(|output| file_name(output)));
            state.done.insert(self.id.clone());
        });
        Some(replayed)
    }

    fn try_compile(&self, cancel: &Cancel) -> io::Result<Option<Replayed>> {
        if !self.run.progress.wait_for(&self.awaited()) {
            return Ok(None);
        }
        let _token = self.run.server.map(jobserver::Client::acquire).transpose()?;
        if cancel.is_cancelled() {
            return Ok(None);
        }
        let place = place_of(self.run.dir, self.id);
        fs::create_dir_all(&place)?;
        let mut command = self.command(&place);
        if let Some(calls) = self.run.calls {
            fs::write(calls.join(format!("{}.txt", self.id)), format!("{command:?}\n"))?;
        }
        let began = Moment::now();
        let mut running = match self.run.server {
            // It was started without a jobserver.
            None => ready::start(&mut command, cancel)?,
            Some(_) => Running::start(&mut command, cancel)?,
        };
        let (stdout, stderr) = (running.take_stdout(), running.take_stderr());
        thread::scope(|scope| {
            let reader =
                stdout.map(|stdout| scope.spawn(move || self.read_linker_command(stdout, began)));
            let messages =
                stderr.map(|stderr| self.read_messages(stderr)).transpose()?.unwrap_or_default();
            let status = running.finish()?;
            let ended = Instant::now();
            let linker = reader.and_then(|reader| reader.join().ok()?);
            if !status.success() || messages.is_strange {
                return Ok(None);
            }
            Ok(Some(Replayed {
                id: self.id.clone(),
                began,
                diagnostics: messages.diagnostics,
                outputs: messages.outputs,
                elapsed: ended - self.began,
                linking: linker.as_ref().map(|linker| ended - linker.began),
                libraries: linker.map(|linker| linker.libraries).unwrap_or_default(),
            }))
        })
    }

    /// Reads the output of the compiler to its end, and returns the linker's command, which the compiler prints
    /// before it runs it.
    fn read_linker_command(&self, stdout: impl Read, began: Moment) -> Option<Linker> {
        let mut stdout = BufReader::new(stdout);
        let linker = Linker::read(&mut stdout);
        if let Some(linker) = &linker {
            (self.run.at_link)(self.id, began, linker);
        }
        let _ = io::copy(&mut stdout, &mut io::sink());
        linker
    }

    /// What it needs of this run.
    fn awaited(&self) -> Awaited<'_> {
        let externs = || self.invocation.externs().map(|(_, path)| path);
        // Cargo names whole libraries only to a compiler that links.
        if !externs().any(|path| path.extension().is_some_and(|it| it == "rlib")) {
            return Awaited::Metadata(externs().filter(|path| self.is_of_run(path)).collect());
        }
        let needed = self.run.with_needed(self.id).into_iter();
        let is_awaited = |id: &&str| self.run.units.contains(id) && *id != self.id.as_str();
        Awaited::Whole(needed.filter(is_awaited).collect())
    }

    fn is_of_run(&self, library: &Path) -> bool {
        unit_id_of(library).is_some_and(|id| self.run.units.contains(id))
    }

    /// The recorded call, with `place` as its output directory, and with the current paths of the libraries
    /// that it needs.
    fn command(&self, place: &Path) -> Command {
        let mut command = self.invocation.without_arguments();
        if let Some(server) = self.run.server {
            server.configure(&mut command);
        }
        // The compiler prints the arguments when it begins to link; the option has no other effect.
        command.args(["--print", "link-args"]);
        for dir in self.search_dirs() {
            command.arg("-L").arg(format!("dependency={}", dir.display()));
        }
        let mut option = "";
        for arg in &self.invocation.args {
            match option {
                "--out-dir" => command.arg(place),
                "--extern" => command.arg(self.resolve(arg)),
                _ => command.arg(arg),
            };
            option = arg;
        }
        command
    }

    /// The value of an `--extern`, such as `api=/…/libapi-0123456789abcdef.rmeta`, with the current path of
    /// the library.
    fn resolve(&self, named: &str) -> String {
        let Some((name, path)) = named.split_once('=') else { return named.to_owned() };
        let path = Path::new(path);
        let path = match unit_id_of(path).zip(path.file_name()) {
            Some((id, file)) if self.is_of_run(path) => place_of(self.run.dir, id).join(file),
            _ => plan::resolve(self.run.record, path).to_owned(),
        };
        format!("{name}={}", path.display())
    }

    /// The directories of those units on which it depends and that were compiled without cargo. The compiler
    /// searches them for the libraries on which its libraries depend.
    fn search_dirs(&self) -> BTreeSet<PathBuf> {
        let (run, needed) = (self.run, self.run.with_needed(self.id));
        let now = needed.iter().filter(|id| run.units.contains(**id));
        let now = now.map(|id| place_of(run.dir, id));
        let units = needed.iter().filter_map(|id| run.record.units.get(*id));
        let earlier = units.flat_map(|unit| &unit.compiled.outputs);
        let earlier = earlier.filter_map(|output| output.path.parent().map(Path::to_owned));
        now.chain(earlier.filter(|dir| dir.starts_with(run.dir))).collect()
    }

    fn read_messages(&self, stderr: impl Read) -> io::Result<Messages> {
        let mut messages = Messages::default();
        for line in BufReader::new(stderr).split(b'\n') {
            match serde_json::from_slice(&line?) {
                Ok(Message::Artifact { artifact, emit }) => {
                    if emit == "metadata" {
                        let name = file_name(&artifact);
                        self.run.progress.update(|state| state.ready.extend(name));
                    }
                    if emit != "dep-info" {
                        messages.outputs.push(artifact);
                    }
                }
                Ok(Message::Diagnostic(diagnostic)) => {
                    let diagnostic = Diagnostic::from_rustc(*diagnostic, &self.invocation.dir);
                    messages.diagnostics.extend(diagnostic);
                }
                Ok(Message::FutureIncompat(_)) => {}
                // Then cargo runs, and reports the problem.
                Err(_) => messages.is_strange = true,
            }
        }
        Ok(messages)
    }
}

/// The messages of a compiler.
#[derive(Debug, Default)]
struct Messages {
    diagnostics: Vec<Diagnostic>,
    outputs: Vec<PathBuf>,
    /// Whether a line was not a message.
    is_strange: bool,
}

#[derive(Deserialize)]
#[serde(tag = "$message_type", rename_all = "snake_case")]
enum Message {
    Diagnostic(Box<RustcDiagnostic>),
    Artifact { artifact: PathBuf, emit: String },
    FutureIncompat(#[allow(dead_code)] BTreeMap<String, serde_json::Value>),
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

/// The linker's command, as the compiler printed it.
pub(super) struct Linker {
    began: Instant,
    /// The object files and the static libraries that are passed to it.
    pub objects: Vec<PathBuf>,
    pub libraries: Vec<PathBuf>,
}

impl Linker {
    /// Reads a linker's command; `None` if there is none.
    fn read(stdout: &mut impl BufRead) -> Option<Self> {
        let mut line = Vec::new();
        stdout.read_until(b'\n', &mut line).ok().filter(|length| *length > 0)?;
        let (began, command) = (Instant::now(), String::from_utf8_lossy(&line));
        // Each argument is in quotes, as Rust writes a text.
        let arguments = || command.split('"').skip(1).step_by(2);
        let files = |ending: &str| {
            let named = arguments().filter(|argument| argument.ends_with(ending));
            named.map(PathBuf::from).collect()
        };
        Some(Self { began, objects: files(".o"), libraries: files(".rlib") })
    }
}
