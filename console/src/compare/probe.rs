//! Opens artifacts in a process of their own, to find out what they declare.
//!
//! Opening an artifact runs its code, which may crash, hang or print. Therefore another process of this program
//! opens it, started with a hidden command. The process has limited time, the output of the artifact goes to its
//! stderr, and the way it ends is reported.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use hotswap_artifact::{ArtifactError, Misfit};
use hotswap_engine::probe::Contents;
use hotswap_engine::{EngineError, LoadCause};
use hotswap_protocol::{ArtifactChange, ArtifactContents, ErrorKind, Step, WireError};
use process_wrap::tokio::{CommandWrap, CommandWrapper as _, ProcessSession};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::replay;
use crate::host::HostExit;

/// The hidden command.
const COMMAND: &str = "__probe";
/// How long opening one or two artifacts may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer in bytes.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;
/// How many bytes are kept at the end of what the artifact prints.
const LAST_WORDS: usize = 2 * 1024;

/// Opens artifacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prober {
    program: PathBuf,
    has_session: bool,
}

/// The declarations of two artifacts of a plugin, and their differences.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The declarations of the first.
    pub old: ArtifactContents,
    /// The declarations of the second.
    pub new: ArtifactContents,
    /// The changes from the first to the second.
    pub changes: Vec<ArtifactChange>,
}

/// A line that the process writes.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Contents(ArtifactContents),
    Changes(Vec<ArtifactChange>),
    Error(WireError),
}

impl Prober {
    /// Opens artifacts in another process of this program, even if its file was replaced in the meantime.
    pub fn this_program() -> Self {
        Self::at("/proc/self/exe")
    }

    /// Opens artifacts in a process of the program at this path: `hotswap` or `hotswap-console`.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), has_session: false }
    }

    /// Gives each of these processes a session of its own, so that no artifact can write over the screen. Ctrl-C in the
    /// terminal does not end them then.
    pub fn without_terminal(self) -> Self {
        Self { has_session: true, ..self }
    }

    /// The declarations of an artifact.
    pub async fn contents(&self, file: &Path) -> Result<ArtifactContents, WireError> {
        match self.run(&[file]).await?.pop() {
            Some(Line::Contents(contents)) => Ok(contents),
            _ => Err(broken(file, "gave no answer")),
        }
    }

    /// The declarations of two artifacts of a plugin, and their differences.
    pub async fn compare(&self, old: &Path, new: &Path) -> Result<Comparison, WireError> {
        let mut lines = self.run(&[old, new]).await?.into_iter();
        match (lines.next(), lines.next(), lines.next()) {
            (
                Some(Line::Contents(old)),
                Some(Line::Contents(new)),
                Some(Line::Changes(changes)),
            ) => Ok(Comparison { old, new, changes }),
            _ => Err(broken(new, "gave an incomplete answer")),
        }
    }

    /// Starts a process with the hidden command.
    pub(super) fn start(
        &self,
        command: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> std::io::Result<Child> {
        let mut process = Command::new(&self.program);
        process.arg(command).args(arguments).kill_on_drop(true);
        process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.has_session {
            let of_nothing = CommandWrap::with_new("", |_| ());
            ProcessSession.pre_spawn(&mut process, &of_nothing)?;
        }
        process.spawn()
    }

    /// The lines that the process writes about these files, if it ends well and reports no error.
    async fn run(&self, files: &[&Path]) -> Result<Vec<Line>, WireError> {
        let mut child = self.start(COMMAND, files).map_err(|error| {
            broken(
                files[0],
                &format!("cannot be opened: no process for it can be started: {error}"),
            )
        })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let (answer, last_words) = tokio::join!(read_all(stdout), read_end(stderr));
            (answer, last_words, child.wait().await)
        };
        let Ok((answer, last_words, status)) = timeout(PATIENCE, work).await else {
            let seconds = PATIENCE.as_secs();
            let what =
                format!("did not open within {seconds} s: its code hangs while it is loaded");
            return Err(broken(files.last().copied().unwrap_or(files[0]), &what));
        };
        let mut lines = Vec::new();
        for line in answer.lines() {
            match serde_json::from_str(line) {
                Ok(Line::Error(error)) => return Err(error),
                Ok(line) => lines.push(line),
                Err(_) => break,
            }
        }
        // The process writes a line about each file before it opens the next one.
        let reached = files[lines.len().min(files.len() - 1)];
        match status {
            Ok(status) if status.success() => Ok(lines),
            Ok(status) => Err(crash(reached, status, &last_words)),
            Err(error) => Err(broken(reached, &format!("cannot be waited for: {error}"))),
        }
    }
}

fn broken(file: &Path, what: &str) -> WireError {
    let file = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    WireError {
        step: Some(Step::Open),
        ..WireError::new(ErrorKind::Build, format!("{file} {what}"))
    }
}

fn crash(file: &Path, status: ExitStatus, last_words: &str) -> WireError {
    let exit = exit_of(status);
    let what = format!("ended the process that opened it, with {exit}; no host was touched");
    let mut error = broken(file, &what);
    if !last_words.is_empty() {
        error.chain.push(format!("its last output: {last_words}"));
    }
    error
}

/// How the process ended.
pub(super) fn exit_of(status: ExitStatus) -> HostExit {
    HostExit { code: status.code(), signal: status.signal() }
}

async fn read_all(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // If reading fails, the part before the error is used.
        let _ = stream.take(MAX_ANSWER).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads to the end, and returns the last part.
pub(super) async fn read_end(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::with_capacity(2 * LAST_WORDS);
    if let Some(mut stream) = stream {
        while let Ok(1..) = stream.read_buf(&mut kept).await {
            if kept.len() > LAST_WORDS {
                kept.drain(..kept.len() - LAST_WORDS);
            }
        }
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

/// Opens artifacts if this process was started with the hidden command; otherwise returns `None`. A program that
/// uses [`this_program`](Prober::this_program) has to call this first.
pub fn serve() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next()?;
    let done = match command.to_str()? {
        COMMAND => open(&arguments.map(PathBuf::from).collect::<Vec<_>>()),
        replay::COMMAND => replay::serve(arguments.next()?.to_str()?),
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

/// The work of the process: opens one or two artifacts, and writes a line about each.
fn open(files: &[PathBuf]) -> std::io::Result<()> {
    prepare()?;
    let mut out = own_output()?;
    let mut write_line = |line: &Line| {
        let line = serde_json::to_string(line).map_err(std::io::Error::other)?;
        writeln!(out, "{line}")
    };
    let mut opened: Vec<Contents> = Vec::new();
    for file in files {
        match Contents::open(file) {
            Ok(contents) => {
                write_line(&Line::Contents(contents.info()))?;
                opened.push(contents);
            }
            Err(error) => return write_line(&Line::Error(probe_error(file, &error))),
        }
    }
    match opened.as_slice() {
        [old, new] => write_line(&Line::Changes(old.changes_to(new))),
        _ => Ok(()),
    }
}

/// The error of a load. If the toolchain differs, it names this program, which is not a host.
fn probe_error(file: &Path, error: &EngineError) -> WireError {
    let wire = error.to_wire();
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    let Some(LoadCause::Artifact(ArtifactError::Toolchain(misfit))) = cause else { return wire };
    let Misfit { part, found, expected } = misfit;
    let file = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let message = format!(
        "{file} cannot be opened to tell what it declares: its {} is {found}, and that of this program \
         {expected}; install Hotswap's programs with the toolchain of the project",
        part.as_str()
    );
    WireError { message, ..wire }
}

/// The output for the lines of the process, separate from what an artifact prints.
pub(super) fn own_output() -> std::io::Result<File> {
    let out = File::from(rustix::io::dup(std::io::stdout())?);
    rustix::stdio::dup2_stdout(std::io::stderr().as_fd())?;
    Ok(out)
}

/// Ensures that this process leaves no core dump and does not outlive its parent.
pub(super) fn prepare() -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // If this is refused, there may be a core dump.
    let _ = setrlimit(Resource::Core, none);
    Ok(())
}
