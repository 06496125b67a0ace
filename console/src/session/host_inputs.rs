//! The sources and settings that a host was compiled from, which show whether it is older than its sources. The list is kept
//! beside the artifacts, so that every command can use it.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use hotswap_build::HostPackage;
use hotswap_protocol::HostInfo;
use serde::{Deserialize, Serialize};

/// The files that a program was compiled from, and their contents.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct HostInputs {
    files: BTreeMap<PathBuf, Option<u64>>,
    /// The manifests and settings: the content of each, and what it says about the code.
    #[serde(default)]
    settings: BTreeMap<PathBuf, (Option<u64>, Option<u64>)>,
}

impl HostInputs {
    /// Reads the list that cargo keeps beside the program of a package, and the package's settings.
    pub fn of(executable: &Path, package: &HostPackage) -> Self {
        let list = fs::read_to_string(executable.with_extension("d")).unwrap_or_default();
        let files = inputs(&list).into_iter().map(|file| {
            let content = content(&file);
            (file, content)
        });
        let settings = package.setting_files().into_iter().map(|file| {
            let hashes = (content(&file), setting(&file));
            (file, hashes)
        });
        Self { files: files.collect(), settings: settings.collect() }
    }

    /// Whether the content of a file has changed; `true` if there is no list.
    pub fn have_changed(&self) -> bool {
        self.files.is_empty()
            || self.files.iter().any(|(file, was)| content(file) != *was)
            || self.settings_have_changed()
    }

    /// Whether a manifest or a settings file has changed so that it matters. Each save asks this, so that only files
    /// with another content are parsed.
    pub fn settings_have_changed(&self) -> bool {
        let mut settings = self.settings.iter();
        settings.any(|(file, (content_then, setting_then))| {
            content(file) != *content_then && setting(file) != *setting_then
        })
    }
}

/// The sources of the host that was started last.
#[derive(Serialize, Deserialize)]
struct Started {
    pid: u32,
    inputs: HostInputs,
}

/// The tables of a manifest that do not change the code of a program.
const WITHOUT_EFFECT: [&str; 6] =
    ["workspace", "dev-dependencies", "test", "bench", "example", "lints"];

/// The file with the host's sources, in a plugin directory.
const FILE: &str = ".hotswap-host-inputs.json";

/// Stores the sources of a host that was started.
pub(super) fn save(plugin_dir: &Path, pid: u32, inputs: &HostInputs) {
    let started = Started { pid, inputs: inputs.clone() };
    // If it cannot be written, the event still reports changes.
    let _ = serde_json::to_vec(&started).map(|text| fs::write(plugin_dir.join(FILE), text));
}

/// Whether a host is older than its sources; `None` if no console has built and started it.
pub(crate) fn is_outdated(host: &HostInfo) -> Option<bool> {
    let text = fs::read(host.plugin_dir.join(FILE)).ok()?;
    let started: Started = serde_json::from_slice(&text).ok()?;
    let is_known = started.pid == host.pid && !started.inputs.files.is_empty();
    is_known.then(|| started.inputs.have_changed())
}

fn content(file: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    fs::read(file).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

/// A hash of what a manifest or a settings file says about the code of a program. The list of plugins, the members of a
/// workspace, and dependencies of tests do not count.
fn setting(file: &Path) -> Option<u64> {
    let content = fs::read_to_string(file).ok()?;
    let mut hasher = DefaultHasher::new();
    match content.parse::<toml::Table>() {
        Ok(mut table) => {
            table.retain(|name, _| WITHOUT_EFFECT.iter().all(|it| *name != **it));
            if let Some(toml::Value::Table(package)) = table.get_mut("package")
                && let Some(metadata) = package.remove("metadata")
            {
                let flags = metadata.get("hotswap").and_then(|its| its.get("cargo-flags"));
                flags.map(ToString::to_string).hash(&mut hasher);
            }
            table.to_string().hash(&mut hasher);
        }
        Err(_) => content.hash(&mut hasher),
    }
    Some(hasher.finish())
}

/// The files after the first colon of a makefile rule, in which a `\` marks a space within a name.
fn inputs(rule: &str) -> Vec<PathBuf> {
    let line = rule.lines().next().unwrap_or_default();
    let Some((_, files)) = line.split_once(": ") else { return Vec::new() };
    let mut names = vec![String::new()];
    let mut signs = files.chars();
    while let Some(sign) = signs.next() {
        match (sign, names.last_mut()) {
            (' ', _) => names.push(String::new()),
            ('\\', Some(name)) => name.extend(signs.next()),
            (sign, Some(name)) => name.push(sign),
            (_, None) => {}
        }
    }
    names.into_iter().filter(|name| !name.is_empty()).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_lists_files_with_any_name() {
        let rule = "/t/debug/host: /w/src/main.rs /w/with\\ space/größe.rs\n\n/w/src/main.rs:\n";
        assert_eq!(
            inputs(rule),
            [Path::new("/w/src/main.rs"), Path::new("/w/with space/größe.rs")]
        );
        assert!(inputs("").is_empty());
    }
}
