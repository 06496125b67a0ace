//! Keeps compilers that have started and wait for their arguments, so that the next build need not wait until a
//! compiler is loaded.
//!
//! Loading a compiler takes some 15 ms, of the 150 ms or so that the build of a small plugin takes. A waiting
//! compiler has read neither arguments nor sources: it reads its arguments from its standard input. There is one
//! for each of the crates that were compiled last, since these are likely to be saved again. If this process ends,
//! their standard input ends, and so do the compilers.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use parking_lot::Mutex;

use crate::Cancel;
use crate::patch::FileId;
use crate::process::{self, Running};

/// The waiting compilers, the newest last.
static READY: Mutex<Vec<Ready>> = Mutex::new(Vec::new());

/// The largest number of waiting compilers. Each takes some 6 MB.
const MOST_READY: usize = 4;

/// The only argument of a waiting compiler: the file with all other arguments, one on each line.
const FROM_INPUT: &str = "@/dev/stdin";

struct Ready {
    started: Started,
    /// `None` once it was handed over.
    child: Option<Child>,
}

/// Everything that determines how a compiler starts, except its arguments.
#[derive(PartialEq, Eq)]
struct Started {
    program: PathBuf,
    dir: PathBuf,
    env: Vec<(OsString, Option<OsString>)>,
    /// The program and the directory may have been replaced since.
    files: [FileId; 2],
}

impl Started {
    /// The start of `command`; `None` if it is not the compiler itself, since a wrapper may not read arguments
    /// from a file.
    fn of(command: &Command) -> Option<Self> {
        let program = Path::new(command.get_program()).to_owned();
        let dir = command.get_current_dir()?.to_owned();
        let is_compiler = program.is_absolute() && program.file_name()? == "rustc";
        let files = [FileId::of(&program).ok()?, FileId::of(&dir).ok()?];
        let env = command.get_envs();
        let env = env.map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned)));
        let env = env.collect();
        is_compiler.then_some(Self { program, dir, env, files })
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It has not done anything yet.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts a compiler that waits for the arguments of a command like this one. Errors are ignored, because the next
/// build only takes a little longer without it.
pub(super) fn prepare(mut command: Command) {
    let Some(started) = Started::of(&command) else { return };
    let mut ready = READY.lock();
    if ready.iter().any(|ready| ready.started == started) {
        return;
    }
    process::with_pipes(command.arg(FROM_INPUT)).stdin(Stdio::piped());
    ready.extend(command.spawn().ok().map(|child| Ready { started, child: Some(child) }));
    let surplus = ready.len().saturating_sub(MOST_READY);
    ready.drain(..surplus);
}

/// Runs a command. If a compiler waits for commands like it, that compiler gets its arguments.
pub(super) fn start<'a>(command: &mut Command, cancel: &'a Cancel) -> io::Result<Running<'a>> {
    match handed_over(command) {
        Some(child) => Ok(Running::of(child, cancel)),
        None => Running::start(command, cancel),
    }
}

/// The compiler that waited for a command like this one, with the arguments of `command`.
fn handed_over(command: &Command) -> Option<Child> {
    let mut args = Vec::new();
    for arg in command.get_args() {
        let arg = arg.to_str().filter(|arg| !arg.contains('\n'))?;
        args.extend([arg.as_bytes(), b"\n"].concat());
    }
    let started = Started::of(command)?;
    let mut ready = {
        let mut ready = READY.lock();
        let place = ready.iter().position(|ready| ready.started == started)?;
        ready.remove(place)
    };
    let mut input = ready.child.as_mut()?.stdin.take()?;
    input.write_all(&args).ok()?;
    drop(input);
    ready.child.take()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;

    use super::*;

    /// A command that starts the compiler in a directory.
    fn compiler(dir: &Path, args: &[&str]) -> Command {
        let found = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap();
        let sysroot = String::from_utf8(found.stdout).unwrap();
        let mut command = process::command(Path::new(sysroot.trim()).join("bin/rustc"));
        command.current_dir(dir).args(args);
        command
    }

    fn run(mut command: Command) -> String {
        let cancel = Cancel::default();
        let mut running = start(&mut command, &cancel).unwrap();
        let mut printed = String::new();
        running.take_stdout().unwrap().read_to_string(&mut printed).unwrap();
        assert!(running.finish().unwrap().success());
        printed
    }

    fn does_wait(dir: &Path) -> bool {
        READY.lock().iter().any(|ready| ready.started.dir == dir)
    }

    #[test]
    fn a_compiler_that_waits_gets_the_arguments_of_the_next_call_like_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let print = ["--cfg", "one=\"a b\"", "--print", "cfg"];
        prepare(compiler(dir, &[]));
        assert!(does_wait(dir));
        // Neither a call with another environment nor one with an argument that has a line break may get the
        // waiting compiler.
        let mut other = compiler(dir, &print);
        other.env("OTHER", "1");
        assert!(run(other).contains("one=\"a b\""));
        let two_lines = ["--cfg", "one=\"a\nb\"", "--print", "cfg"];
        assert!(run(compiler(dir, &two_lines)).contains("one=\"a\nb\""));
        assert!(does_wait(dir));
        assert!(run(compiler(dir, &print)).contains("one=\"a b\""));
        assert!(!does_wait(dir), "the prepared compiler was used");
        assert!(run(compiler(dir, &print)).contains("one=\"a b\""));
    }

    #[test]
    fn a_compiler_does_not_wait_for_calls_in_another_directory_of_the_same_path() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("package");
        fs::create_dir(&dir).unwrap();
        prepare(compiler(&dir, &[]));
        fs::rename(&dir, parent.path().join("elsewhere")).unwrap();
        fs::create_dir(&dir).unwrap();
        run(compiler(&dir, &["--version"]));
        assert!(does_wait(&dir), "a compiler that waits in the old directory is not used");
    }
}
