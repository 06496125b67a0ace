//! The sample plugins and their host.

use std::{
    collections::HashMap,
    fs,
    process::Command,
    sync::{Mutex, PoisonError},
};

use hotswap_engine::artifact;

use super::{Place, PluginDir, succeed};

/// The artifact of a sample plugin, built once a run.
pub fn sample(plugin: &str) -> Vec<u8> {
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

/// `world` as if its greeting had been edited: `Hello07Ada!`; there are a hundred of them.
pub fn world(number: u32) -> Vec<u8> {
    let mut file = sample("world");
    let at = file.windows(7).position(|bytes| bytes == b"Hello, ").expect("its greeting");
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
