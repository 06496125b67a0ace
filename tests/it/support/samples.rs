//! The sample plugins and their host.

use std::{
    collections::BTreeMap,
    fs,
    process::Command,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use hotswap_engine::artifact;

use super::{Place, PluginDir, plugins::find, succeed};

/// The artifact of a sample plugin, built once a run.
pub fn sample(plugin: &str) -> Vec<u8> {
    static BUILT: Mutex<BTreeMap<String, Arc<OnceLock<Vec<u8>>>>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let file = built.entry(plugin.to_owned()).or_default().clone();
    drop(built);
    file.get_or_init(|| build(plugin)).clone()
}

fn build(plugin: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let mut build = Place::new().command("hotswap");
    build.args(["build", &format!("sample-plugins/{plugin}")]).arg(dir.path());
    succeed(build);
    fs::read(dir.path().join(format!("{plugin}.so"))).unwrap()
}

/// `world` as if its greeting had been edited: `Hello07Ada!`; there are a hundred of them.
pub fn world(number: u32) -> Vec<u8> {
    let mut file = sample("world");
    let at = find(&file, b"Hello, ").expect("the greeting of `world`");
    file[at..at + 7].copy_from_slice(format!("Hello{:02}", number % 100).as_bytes());
    artifact::stamp(&mut file, None).unwrap();
    file
}

/// The sample host by itself, with a console socket.
pub fn host_command(place: &Place, plugins: &PluginDir) -> Command {
    let mut host = place.command("sample-host");
    host.arg("--plugins").arg(plugins.path()).env("HOTSWAP_CONSOLE", "1");
    host
}
