//! What outside checks rely on: `hotswap`, the sample host and its plugins as separate programs.

mod commands;
mod previews;
mod processes;
mod refusals;

use std::{
    collections::HashMap,
    fs,
    process::Command,
    sync::{Mutex, PoisonError},
};

use hotswap_engine::artifact;
use serde_json::Value;

use crate::support::{Place, PluginDir, Session, program, succeed};

/// The artifact of a sample plugin, built once a run.
fn sample(plugin: &str) -> Vec<u8> {
    static BUILT: Mutex<Option<HashMap<String, Vec<u8>>>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let build = || {
        let dir = tempfile::tempdir().unwrap();
        let mut build = Place::new().command("hotswap");
        build.args(["build", &format!("sample-plugins/{plugin}")]).arg(dir.path());
        succeed(build);
        fs::read(dir.path().join(format!("{plugin}.so"))).unwrap()
    };
    built.get_or_insert_default().entry(plugin.to_owned()).or_insert_with(build).clone()
}

/// `world` as if its greeting had been edited: `Hello07Ada!`
fn world(number: u32) -> Vec<u8> {
    let mut file = sample("world");
    let at = file.windows(7).position(|bytes| bytes == b"Hello, ").expect("its greeting");
    file[at..at + 7].copy_from_slice(format!("Hello{number:02}").as_bytes());
    artifact::stamp(&mut file, None).unwrap();
    file
}

/// The sample host in a place of its own, started by `hotswap run`.
struct Serving {
    session: Session,
    place: Place,
    plugins: PluginDir,
}

impl Serving {
    /// With the sample plugins `world` and `cat`.
    fn samples() -> Self {
        let plugins = PluginDir::empty();
        plugins.write("world", &sample("world"));
        plugins.write("cat", &sample("cat"));
        Self::of(plugins)
    }

    fn of(plugins: PluginDir) -> Self {
        let place = Place::new();
        let mut run = run_command(&place, &plugins);
        run.arg("--json");
        Self { session: Session::start(run), place, plugins }
    }

    fn json(&self, args: &[&str]) -> Value {
        self.place.json(args)
    }

    fn refusal(&self, args: &[&str]) -> Value {
        self.place.refusal(1, args)
    }

    /// What a host says that it is asked for in vain, and goes on serving.
    fn refused_reload(&self) -> Value {
        let error = self.refusal(&["reload"]);
        assert_eq!(error["kind"], "reload", "{error}");
        assert_eq!(self.session.get("/greet/Ada"), "Hello, Ada!\n");
        assert_eq!(self.json(&["status"])["generation"], 1);
        error
    }
}

/// `hotswap run` with the sample host that is built already.
fn run_command(place: &Place, plugins: &PluginDir) -> Command {
    let mut run = place.command("hotswap");
    run.arg("run").arg(program("sample-host")).arg("--plugins").arg(plugins.path());
    run
}

/// The sample host by itself, with a console socket.
fn host_command(place: &Place, plugins: &PluginDir) -> Command {
    let mut host = place.command("sample-host");
    host.arg("--plugins").arg(plugins.path()).env("HOTSWAP_CONSOLE", "1");
    host
}

fn outcomes(report: &Value) -> Vec<(&str, &str)> {
    let plugins = report["plugins"].as_array().expect("plugins").iter();
    plugins.map(|it| (it["name"].as_str().unwrap(), it["outcome"].as_str().unwrap())).collect()
}

fn version<'a>(status: &'a Value, plugin: &str, version: u32) -> &'a Value {
    let plugins = status["plugins"].as_array().expect("plugins");
    let plugin = plugins.iter().find(|it| it["name"] == plugin).expect("the plugin");
    let versions = plugin["versions"].as_array().expect("versions");
    versions.iter().find(|it| it["version"] == version).expect("the version")
}
