//! Repeats recorded compiler calls in parallel, each as soon as the libraries that it needs are there.

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
use super::{place_of, plan};
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
    /// How long its linker took; `None` if it was not linked.
    pub linking: Option<Duration>,
}

/// Compiles `units`, to a directory of its own below `dir` each. A unit must come after those that it
/// depends on. `None` if one fails. What is called is written to the directory `calls`, a file a unit.
pub(super) fn run(
    record: &Record,
    units: &[UnitId],
    dir: &Path,
    calls: Option<&Path>,
    cancel: &Cancel,
) -> io::Result<Option<Vec<Replayed>>> {
    let board = Board::default();
    thread::scope(|scope| {
        let mut compilers = Vec::new();
        for id in units {
            let Some(Unit { invocation, .. }) = record.units.get(id) else { return Ok(None) };
            let job = Job { id, invocation, record, units, dir, calls, board: &board };
            let compiler = thread::Builder::new().name(format!("rustc {id}"));
            compilers.push(compiler.spawn_scoped(scope, move || job.compile(cancel))?);
        }
        let mut replayed = Vec::new();
        for compiler in compilers {
            let outcome = compiler.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            replayed.push(outcome?);
        }
        Ok(replayed.into_iter().collect())
    })
}

/// What the compilers of a run tell each other.
#[derive(Debug, Default)]
struct Board {
    state: Mutex<BoardState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct BoardState {
    /// The file names of libraries that other units can be compiled against.
    ready: BTreeSet<String>,
    failed: bool,
}

impl Board {
    fn update(&self, change: impl FnOnce(&mut BoardState)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    /// Waits until all libraries in `names` are ready; `false` if a compiler failed.
    fn wait_for(&self, names: &[String]) -> bool {
        let waits = |state: &mut BoardState| {
            !state.failed && !names.iter().all(|name| state.ready.contains(name))
        };
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, waits);
        !state.failed
    }
}

/// Reports on the board that a compiler failed, if it is dropped before `done` is set: after an error
/// or a panic.
struct FailsUnlessDone<'a> {
    board: &'a Board,
    done: bool,
}

impl Drop for FailsUnlessDone<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.board.update(|state| state.failed = true);
        }
    }
}

struct Job<'a> {
    id: &'a UnitId,
    invocation: &'a Invocation,
    record: &'a Record,
    /// All units of this run.
    units: &'a [UnitId],
    dir: &'a Path,
    /// Where compiler calls are written to, for the user to read.
    calls: Option<&'a Path>,
    board: &'a Board,
}

impl Job<'_> {
    fn compile(&self, cancel: &Cancel) -> io::Result<Option<Replayed>> {
        let mut outcome = FailsUnlessDone { board: self.board, done: false };
        if !self.board.wait_for(&self.awaited()) || cancel.is_cancelled() {
            return Ok(None);
        }
        let place = place_of(self.dir, self.id);
        fs::create_dir_all(&place)?;
        let command = self.command(&place);
        if let Some(calls) = self.calls {
            fs::write(calls.join(format!("{}.txt", self.id)), format!("{command:?}\n"))?;
        }
        let began = Moment::now();
        let mut running = Running::start(command, cancel)?;
        let linking = running.take_stdout().map(|stdout| thread::spawn(move || first_byte(stdout)));
        let heard = match running.take_stderr() {
            Some(stderr) => self.listen(stderr)?,
            None => Heard::default(),
        };
        let status = running.finish()?;
        let linking = linking.and_then(|reader| reader.join().ok()?);
        if !status.success() || heard.is_strange {
            return Ok(None);
        }
        outcome.done = true;
        self.board.update(|state| {
            state.ready.extend(heard.outputs.iter().filter_map(|output| file_name(output)));
        });
        Ok(Some(Replayed {
            id: self.id.clone(),
            began,
            diagnostics: heard.diagnostics,
            outputs: heard.outputs,
            linking: linking.map(|began| began.elapsed()),
        }))
    }

    /// The libraries of this run that it needs. For a library that is only compiled against this is
    /// its metadata (`.rmeta`), which is there early; for linking it is the whole library.
    fn awaited(&self) -> Vec<String> {
        let needed = self.invocation.externs().map(|(_, path)| path);
        let needed = needed.filter(|path| {
            unit_id_of(path).is_some_and(|id| self.units.iter().any(|unit| unit == id))
        });
        needed.filter_map(file_name).collect()
    }

    /// The recorded call, with `place` as its output directory, and with the paths at which the
    /// libraries that it needs are now.
    fn command(&self, place: &Path) -> Command {
        let Invocation { program, args, dir, env } = self.invocation;
        let mut command = Command::new(program);
        command.current_dir(dir);
        for (name, value) in env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        // The compiler prints this when it begins to link; it has no other effect.
        command.args(["--print", "link-args"]);
        for dir in self.search_dirs() {
            command.arg("-L").arg(format!("dependency={}", dir.display()));
        }
        let mut option = "";
        for arg in args {
            match option {
                "--out-dir" => command.arg(place),
                "--extern" => command.arg(self.resolve(arg)),
                _ => command.arg(arg),
            };
            option = arg;
        }
        command
    }

    /// The value of an `--extern`, such as `api=/…/libapi-0123456789abcdef.rmeta`, with the path at
    /// which the library is now.
    fn resolve(&self, named: &str) -> String {
        let Some((name, path)) = named.split_once('=') else { return named.to_owned() };
        let path = Path::new(path);
        let path = match unit_id_of(path).zip(path.file_name()) {
            Some((id, file)) if self.units.iter().any(|unit| unit == id) => {
                place_of(self.dir, id).join(file)
            }
            _ => plan::resolve(self.record, path).to_owned(),
        };
        format!("{name}={}", path.display())
    }

    /// The directories of all units that were compiled without cargo. The compiler looks there for the
    /// libraries that its libraries depend on.
    fn search_dirs(&self) -> BTreeSet<PathBuf> {
        let now = self.units.iter().map(|id| place_of(self.dir, id));
        let earlier = self.record.units.values().flat_map(|unit| &unit.compiled.outputs);
        let earlier = earlier.filter_map(|output| output.path.parent().map(Path::to_owned));
        now.chain(earlier.filter(|dir| dir.starts_with(self.dir))).collect()
    }

    fn listen(&self, stderr: impl Read) -> io::Result<Heard> {
        let mut heard = Heard::default();
        for line in BufReader::new(stderr).split(b'\n') {
            match serde_json::from_slice(&line?) {
                Ok(Message::Artifact { artifact, emit }) => {
                    if emit == "metadata" {
                        self.board.update(|state| state.ready.extend(file_name(&artifact)));
                    }
                    if emit != "dep-info" {
                        heard.outputs.push(artifact);
                    }
                }
                Ok(Message::Diagnostic(diagnostic)) => {
                    let diagnostic = Diagnostic::from_rustc(*diagnostic, &self.invocation.dir);
                    heard.diagnostics.extend(diagnostic);
                }
                Ok(Message::FutureIncompat(_)) => {}
                // Then cargo runs, and shows whatever it is.
                Err(_) => heard.is_strange = true,
            }
        }
        Ok(heard)
    }
}

/// What a compiler reported.
#[derive(Debug, Default)]
struct Heard {
    diagnostics: Vec<Diagnostic>,
    outputs: Vec<PathBuf>,
    /// A line was not a message.
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

/// Reads the stream to its end, and returns when the first byte came; `None` if there was none.
fn first_byte(mut stdout: impl Read) -> Option<Instant> {
    let first = stdout.read(&mut [0]).ok().filter(|len| *len > 0).map(|_| Instant::now());
    let _ = io::copy(&mut stdout, &mut io::sink());
    first
}
