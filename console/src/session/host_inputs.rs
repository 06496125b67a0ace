//! The sources and settings that a host was compiled from, which show whether it is older than its sources. The list is kept
//! beside the artifacts, so that every command can use it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hotswap_build::{HostPackage, last_change, program_sources};
use hotswap_protocol::HostInfo;
use serde::{Deserialize, Serialize};

/// The files that a program was compiled from, and their contents.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct HostInputs {
    /// The name of the host's package.
    #[serde(default)]
    package: String,
    /// The profile that it was built with.
    #[serde(default)]
    profile: String,
    files: BTreeMap<PathBuf, Option<u64>>,
    /// The manifests and settings: the content of each, and what it says about the code.
    #[serde(default)]
    settings: BTreeMap<PathBuf, (Option<u64>, Option<u64>)>,
}

impl HostInputs {
    /// Reads the list that cargo keeps beside the program of a package, and the package's settings. The build of the
    /// program began at `began`. A file that changed since then may have been read before. Rust sources that change
    /// meanwhile make the build begin again; a build script may have written them.
    pub fn of(executable: &Path, package: &HostPackage, began: SystemTime) -> Self {
        let is_source = |file: &Path| file.extension().is_some_and(|it| it == "rs");
        let files = program_sources(executable).into_iter().map(|file| {
            let is_known = is_source(&file) || last_change(&file).is_none_or(|at| at < began);
            let content = content(&file).filter(|_| is_known);
            (file, content)
        });
        let profile = profile_of(executable);
        let settings = package.setting_files().into_iter().map(|file| {
            let hashes = (content(&file), setting(&file, &package.name, &profile));
            (file, hashes)
        });
        let (files, settings) = (files.collect(), settings.collect());
        Self { package: package.name.clone(), profile, files, settings }
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
            content(file) != *content_then
                && setting(file, &self.package, &self.profile) != *setting_then
        })
    }
}

/// The sources of the host that was started last.
#[derive(Serialize, Deserialize)]
struct Started {
    pid: u32,
    inputs: HostInputs,
}

/// The tables of a manifest or of cargo's configuration that do not change the code of a program.
const WITHOUT_EFFECT: [&str; 11] = [
    "workspace",
    "dev-dependencies",
    "test",
    "bench",
    "example",
    "lints",
    "alias",
    "term",
    "net",
    "http",
    "cargo-new",
];

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

/// The profile of a program, which cargo puts into a directory with the name of the profile, or `debug`.
fn profile_of(executable: &Path) -> String {
    match executable.parent().and_then(Path::file_name).and_then(OsStr::to_str) {
        Some("debug") | None => "dev".to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// A hash of what a manifest, a lock file or a settings file says about the code of a program. The list of plugins, the
/// members of a workspace, dependencies of tests, locked packages that the program does not need, and profiles that it
/// is not built with do not count. `None` if there is no file, or if it says nothing.
fn setting(file: &Path, package: &str, profile: &str) -> Option<u64> {
    let content = fs::read_to_string(file).ok()?;
    let mut hasher = DefaultHasher::new();
    match content.parse::<toml::Table>() {
        Ok(lock) if file.ends_with("Cargo.lock") => locked(&lock, package).hash(&mut hasher),
        Ok(mut table) => {
            table.retain(|name, _| WITHOUT_EFFECT.iter().all(|it| *name != **it));
            if let Some(toml::Value::Table(package)) = table.get_mut("package")
                && let Some(metadata) = package.remove("metadata")
            {
                let flags = metadata.get("hotswap").and_then(|its| its.get("cargo-flags"));
                flags.map(ToString::to_string).hash(&mut hasher);
            }
            // Any other profile inherits settings, perhaps from a profile in another file.
            if let Some(toml::Value::Table(profiles)) = table.get_mut("profile")
                && ["dev", "release"].contains(&profile)
            {
                profiles.retain(|name, _| name == profile);
                if profiles.is_empty() {
                    table.remove("profile");
                }
            }
            // Such a configuration is the same as none.
            if table.is_empty() {
                return None;
            }
            table.to_string().hash(&mut hasher);
        }
        Err(_) => content.hash(&mut hasher),
    }
    Some(hasher.finish())
}

/// The packages in a lock file that a package of the workspace needs, itself included, each with its source and checksum.
fn locked(lock: &toml::Table, package: &str) -> BTreeSet<String> {
    let text = |entry: &toml::Value, key: &str| {
        entry.get(key).and_then(toml::Value::as_str).unwrap_or_default().to_owned()
    };
    let entries = lock.get("package").and_then(toml::Value::as_array).into_iter().flatten();
    let entries: Vec<_> = entries.collect();
    // A dependency is named as briefly as possible: by its name, `name version`, or `name version (source)`.
    let mut named: HashMap<String, Vec<&toml::Value>> = HashMap::new();
    for entry in &entries {
        let (name, version) = (text(entry, "name"), text(entry, "version"));
        let whole = format!("{name} {version} ({})", text(entry, "source"));
        for name in [name.clone(), format!("{name} {version}"), whole] {
            named.entry(name).or_default().push(entry);
        }
    }
    let is_own = |entry: &&&toml::Value| entry.get("source").is_none();
    let own = named.get(package).into_iter().flatten().filter(is_own);
    let mut open: Vec<&toml::Value> = own.copied().collect();
    let mut needed = BTreeSet::new();
    while let Some(entry) = open.pop() {
        let parts = ["name", "version", "source", "checksum"].map(|key| text(entry, key));
        if needed.insert(parts.join(" ")) {
            let names = entry.get("dependencies").and_then(toml::Value::as_array);
            let names = names.into_iter().flatten().filter_map(toml::Value::as_str);
            open.extend(names.filter_map(|name| named.get(name)).flatten());
        }
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_locked_packages_that_the_host_needs_count() {
        let lock = |itoa: &str, libm: &str| {
            let entry = |name: &str, version: &str, more: &str| {
                format!("[[package]]\nname = {name:?}\nversion = {version:?}\n{more}\n")
            };
            let registry = "source = \"registry+https://example.org/index\"\n";
            let entries = [
                entry("host", "0.1.0", "dependencies = [\"api\"]"),
                entry("api", "0.1.0", &format!("dependencies = [\"itoa {itoa}\"]")),
                entry("plugin", "0.1.0", "dependencies = [\"itoa 0.4.8\", \"libm\"]"),
                entry("itoa", "0.4.8", registry),
                entry("itoa", itoa, registry),
                entry("libm", libm, registry),
            ];
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("Cargo.lock");
            fs::write(&file, format!("version = 4\n{}", entries.concat())).unwrap();
            setting(&file, "host", "dev").unwrap()
        };
        assert_eq!(lock("1.0.1", "0.2.1"), lock("1.0.1", "0.2.2"), "the plugin alone needs it");
        assert_ne!(lock("1.0.1", "0.2.1"), lock("1.0.2", "0.2.1"), "the host needs it");
    }
}
