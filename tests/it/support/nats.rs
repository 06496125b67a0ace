//! A real NATS server with JetStream for one test. It has a port and a directory of its own, and ends with the
//! test. Tests that need one are `#[ignore]`d; `.ci/run` runs them.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use tempfile::TempDir;

/// The longest wait for a start or an answer; after it the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The path of the program: `HOTSWAP_NATS_SERVER`, or else the one that `.ci/tools` installs.
pub fn program() -> PathBuf {
    let named = env::var_os("HOTSWAP_NATS_SERVER").filter(|named| !named.is_empty());
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let repository = repository.into_iter().find(|dir| dir.join("Cargo.lock").exists());
    named.map_or_else(
        || repository.expect("the repository").join("target/tools/bin/nats-server"),
        PathBuf::from,
    )
}

/// A running server.
pub struct NatsServer {
    dir: TempDir,
    config: Vec<String>,
    port: u16,
    running: Option<Child>,
}

impl NatsServer {
    /// Starts one on a port that the system chooses.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with these arguments, which include its directory.
    pub fn start_with(config: &[&str]) -> Self {
        let mut server = Self {
            dir: tempfile::tempdir().expect("make a directory"),
            config: config.iter().map(ToString::to_string).collect(),
            port: 0,
            running: None,
        };
        server.start_again();
        server
    }

    /// Starts the server again, at the same address.
    pub fn start_again(&mut self) {
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let mut command = Command::new(program());
        command.args(["--addr", "127.0.0.1", "--port", &port]).args(&self.config);
        if self.config.is_empty() {
            command.arg("--jetstream").arg("--store_dir").arg(self.dir.path().join("store"));
        }
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let child = child.unwrap_or_else(|error| {
            let program = program();
            let advice = "`.ci/tools` installs it, or HOTSWAP_NATS_SERVER names another";
            panic!("{}: {error}; {advice}", program.display())
        });
        let child = self.running.insert(child);
        let lines = lines(child.stderr.take().expect("the log of the server"));
        let mut log = String::new();
        while !log.contains("Server is ready") {
            let line =
                lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{error}: {log}"));
            if let Some((_, address)) = line.split_once("Listening for client connections on ") {
                let port = address.trim().rsplit(':').next().and_then(|port| port.parse().ok());
                self.port = port.unwrap_or_else(|| panic!("{line}"));
            }
            log += &(line + "\n");
        }
    }

    /// Kills it, as a crash of the machine would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().expect("kill the server");
            child.wait().expect("the server's end");
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("the server runs").id()
    }

    /// The directory of its data; change it only while the server does not run.
    pub fn store_dir(&self) -> PathBuf {
        assert!(self.running.is_none(), "the server runs");
        self.dir.path().join("store")
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, reported) = channel();
    // The log is read to its end, because a server that cannot write its log would wait.
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = tell.send(line);
        }
    });
    reported
}
