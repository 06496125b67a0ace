//! `hotswap run` with the host that it started.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use serde_json::Value;

use super::{
    host::mapped_files,
    process::{Answer, Process, get},
};

/// A session that prints events as JSON, with a host that answers.
pub struct Session {
    process: Process,
    /// The host's process id.
    pub host: u32,
    /// The HTTP address of the host.
    pub address: SocketAddr,
    pub staging_dir: PathBuf,
    pub socket: PathBuf,
}

impl Session {
    /// Waits until the host of this command is ready.
    pub fn start(command: Command) -> Self {
        let mut process = Process::start(command);
        let connected =
            process.wait_for_json("the host answers", |event| event["event"] == "connected");
        let address = process.wait_for("the host listens", |line| {
            let event: Value = serde_json::from_str(line).ok()?;
            let text = event["text"].as_str().filter(|_| event["event"] == "output")?;
            text.strip_prefix("listening on http://")?.parse().ok()
        });
        let host = &connected["host"];
        let path = |name: &str| PathBuf::from(host[name].as_str().expect("a path"));
        Self {
            host: u32::try_from(host["pid"].as_u64().expect("a pid")).expect("a pid"),
            address,
            staging_dir: path("staging_dir"),
            socket: path("socket"),
            process,
        }
    }

    /// Waits for an event that is as wanted; an earlier one counts, too.
    pub fn wait_for(&mut self, event: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.process.wait_for_json(event, |value| value["event"] == event && wanted(value))
    }

    /// Waits until a version is unmapped, which the engine checks.
    pub fn wait_until_freed(&mut self, plugin: &str, version: u32) {
        self.wait_for("version_changed", |event| {
            event["plugin"] == plugin && event["version"] == version && event["state"] == "freed"
        });
    }

    /// Waits until a generation serves, and returns the outcome of each plugin.
    pub fn wait_for_generation(&mut self, generation: u64) -> Value {
        let wanted = |event: &Value| event["report"]["generation"] == generation;
        self.wait_for("reload_finished", wanted)["report"].clone()
    }

    /// The body of a successful answer.
    pub fn get(&self, path: &str) -> String {
        let (status, body) = get(self.address, path).expect("an answer");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The mapped files of the host's staging directory, as the system lists them.
    pub fn mapped(&self) -> BTreeSet<String> {
        mapped_files(Path::new(&format!("/proc/{}/maps", self.host)), &self.staging_dir)
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    pub fn finish(self) -> Answer {
        self.process.finish()
    }
}
