//! The programs as users run them: built once per run, started with directories of their own, and ended with the
//! test.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;
use tempfile::TempDir;

/// The longest wait for an event; after it the test fails. It is longer than a first build beside other builds.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// How long a program may take to end when its test is over.
const GRACE: Duration = Duration::from_secs(20);

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository")
}

/// The target directory of this test.
pub fn target_dir() -> PathBuf {
    profile_dir().parent().expect("a target directory").to_owned()
}

fn profile_dir() -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    test.ancestors().nth(2).expect("a directory of the profile").to_owned()
}

/// The profile settings of the repository, also for other projects, so that they share compiled dependencies.
const PROFILE: [(&str, &str); 2] = [
    ("CARGO_PROFILE_DEV_DEBUG", "line-tables-only"),
    ("CARGO_PROFILE_DEV_BUILD_OVERRIDE_DEBUG", "false"),
];

pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.envs(PROFILE);
    command
}

/// One of the repository's programs, built from the present sources.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let dir = BUILT.get_or_init(|| {
        let dir = profile_dir();
        let profile = dir.file_name().and_then(|name| name.to_str()).expect("a profile");
        let mut build = cargo();
        build.args(["build", "-p", "hotswap-console", "-p", "sample-host"]);
        build.args(["--profile", if profile == "debug" { "dev" } else { profile }]);
        build.arg("--target-dir").arg(target_dir()).current_dir(repository());
        succeed(build);
        dir
    });
    dir.join(name)
}

/// Runs a command without a time limit, such as a first build.
pub fn succeed(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().expect("run a command");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{stderr}");
}

/// The directories of one test's hosts, for sockets and staging. Other tests' hosts do not appear there.
pub struct Place {
    runtime_dir: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { runtime_dir: tempfile::tempdir().expect("make a directory") }
    }

    /// The directory of persistent state for programs of this place.
    pub fn state_dir(&self) -> &Path {
        self.runtime_dir.path()
    }

    /// A program with the directories of this place, in the repository's root.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(name));
        command.current_dir(repository()).env("CARGO_TARGET_DIR", target_dir());
        for variable in ["XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"] {
            command.env(variable, self.runtime_dir.path());
        }
        for variable in
            ["HOTSWAP_CONSOLE", "HOTSWAP_PLUGIN_DIR", "HOTSWAP_STORE", "HOTSWAP_FLEET", "RUST_LOG"]
        {
            command.env_remove(variable);
        }
        command.envs(PROFILE);
        // Tests load whole versions, unless they turn patches on.
        command.env("HOTSWAP_NO_PATCH", "1");
        command
    }

    /// Runs `hotswap` to its end.
    pub fn hotswap(&self, args: &[&str]) -> Answer {
        let mut command = self.command("hotswap");
        command.args(args);
        Process::start(command).finish()
    }

    /// The answer of `hotswap` with `--json`, which must succeed.
    pub fn json(&self, args: &[&str]) -> Value {
        let answer = self.hotswap(&[args, &["--json"]].concat());
        assert_eq!(answer.code, Some(0), "{args:?}: {answer:?}");
        answer.json()
    }

    /// The error of `hotswap` with `--json`, which must exit with this code.
    pub fn refusal(&self, code: i32, args: &[&str]) -> Value {
        let answer = self.hotswap(&[args, &["--json"]].concat());
        assert_eq!(answer.code, Some(code), "{args:?}: {answer:?}");
        answer.json()["error"].clone()
    }
}

/// The output and the end of a program.
#[derive(Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A running program, which ends when this is dropped.
pub struct Process {
    child: Child,
    /// Its input, if it reads any.
    input: Option<ChildStdin>,
    output: Receiver<Line>,
    lines: Vec<Line>,
}

/// A line that a program wrote.
#[derive(Debug)]
struct Line {
    is_error: bool,
    text: String,
}

impl Process {
    pub fn start(command: Command) -> Self {
        Self::spawn(command, Stdio::null())
    }

    /// Starts a program that reads lines.
    pub fn start_reading(command: Command) -> Self {
        Self::spawn(command, Stdio::piped())
    }

    fn spawn(mut command: Command, input: Stdio) -> Self {
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let (sender, output) = channel();
        forward(child.stdout.take().expect("the program's stdout"), false, sender.clone());
        forward(child.stderr.take().expect("the program's stderr"), true, sender);
        Self { input: child.stdin.take(), child, output, lines: Vec::new() }
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        let input = self.input.as_mut().expect("a program whose input is open");
        writeln!(input, "{line}").expect("type a line");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("send a signal");
    }

    /// Waits until it has ended.
    pub fn end(&mut self) {
        self.wait(PATIENCE).expect("the program ends in time");
    }

    /// Waits for a line in which `find` finds something; earlier lines count, too.
    pub fn wait_for<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut found = self.lines.iter().find_map(|line| find(&line.text));
        while found.is_none() {
            let Some(line) = self.next(deadline) else {
                panic!(
                    "{what} did not appear in the output of the program:\n{}",
                    self.output_text()
                );
            };
            found = find(&line);
        }
        found.expect("the loop ends with a value")
    }

    /// Waits for a line that contains a text.
    pub fn wait_for_text(&mut self, text: &str) -> String {
        self.wait_for(text, |line| line.contains(text).then(|| line.to_owned()))
    }

    /// Waits for a line with a JSON object that is as wanted.
    pub fn wait_for_json(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_for(what, |line| serde_json::from_str(line).ok().filter(&wanted))
    }

    /// Waits for an event of `hotswap run --json`.
    pub fn wait_for_event(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_for_json(name, |value| value["event"] == name && wanted(value))
    }

    /// Waits for a line of the host that `hotswap run --json` runs, and returns the text after `beginning`.
    pub fn wait_for_host(&mut self, beginning: &str) -> String {
        let line = self.wait_for_json(beginning, |value| {
            value["event"] == "output"
                && value["text"].as_str().is_some_and(|text| text.starts_with(beginning))
        });
        line["text"].as_str().unwrap()[beginning.len()..].to_owned()
    }

    /// Waits until it ends by itself and its whole output was read. It gets no more input.
    pub fn finish(mut self) -> Answer {
        self.input = None;
        let deadline = Instant::now() + PATIENCE;
        while self.next(deadline).is_some() {}
        let status = self.wait(deadline.saturating_duration_since(Instant::now()));
        let status = status.unwrap_or_else(|| {
            panic!("the program does not end; its output:\n{}", self.output_text())
        });
        Answer { code: status.code(), stdout: self.text_of(false), stderr: self.text_of(true) }
    }

    /// The next line; `None` if there are no more lines, or none in time.
    fn next(&mut self, deadline: Instant) -> Option<String> {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = self.output.recv_timeout(left).ok()?;
        let text = line.text.clone();
        self.lines.push(line);
        Some(text)
    }

    fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let has_ended = ends_within(Pid::from_child(&self.child), patience);
        has_ended.then(|| self.child.wait().expect("reap a child"))
    }

    fn text_of(&self, is_error: bool) -> String {
        let lines = self.lines.iter().filter(|line| line.is_error == is_error);
        lines.map(|line| format!("{}\n", line.text)).collect()
    }

    fn output_text(&self) -> String {
        self.lines.iter().map(|line| format!("{}\n", line.text)).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            end(Pid::from_child(&self.child));
            let _ = self.child.wait();
        }
    }
}

fn forward(stream: impl Read + Send + 'static, is_error: bool, sender: Sender<Line>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line).into_owned();
            if sender.send(Line { is_error, text }).is_err() {
                return;
            }
        }
    });
}

/// Ends a child that is not reaped yet, as a user would. If it does not end, kills it and its child processes.
pub fn end(pid: Pid) {
    let _ = kill_process(pid, Signal::TERM);
    if !ends_within(pid, GRACE) {
        for process in children(pid).into_iter().chain([pid]) {
            let _ = kill_process(process, Signal::KILL);
        }
    }
}

/// Whether a child ends in time. It is not reaped, so that its id stays valid.
fn ends_within(pid: Pid, patience: Duration) -> bool {
    let (tell, ended) = channel();
    thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
        let _ = tell.send(());
    });
    ended.recv_timeout(patience).is_ok()
}

fn children(pid: Pid) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let ids = lists.flat_map(|list| list.split(' ').map(str::parse).collect::<Vec<_>>());
    ids.filter_map(|id| Pid::from_raw(id.ok()?)).collect()
}

/// Asks an HTTP server for a path; returns the status and the body.
pub fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    ask(address, "GET", path, "")
}

/// Sends a body to an HTTP server; returns the status and the body of the answer.
pub fn post(address: SocketAddr, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    ask(address, "POST", path, body)
}

fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    match (status, answer.split_once("\r\n\r\n")) {
        (Some(status), Some((_, body))) => Ok((status, body.to_owned())),
        _ => Err(std::io::Error::other(format!("no answer of HTTP: {answer:?}"))),
    }
}
