//! Cargo's flags, for the host and for its plugins.

use std::path::{Path, PathBuf};

use hotswap_build::HostPackage;

/// Flags of cargo that apply only to the host's package and take a value.
const OF_HOST_WITH_VALUE: [&str; 2] = ["--features", "-F"];
/// Flags of cargo that apply only to the host's package and take no value.
const OF_HOST: [&str; 2] = ["--all-features", "--no-default-features"];

/// Cargo's flags, for the host and for plugins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CargoFlags {
    /// The flags for the host.
    pub host: Vec<String>,
    /// The flags for plugins: those that do not apply only to the host's package.
    pub plugins: Vec<String>,
    target_dir: Option<PathBuf>,
}

impl CargoFlags {
    /// Sorts flags. If two exclude each other, the later one counts.
    pub fn of(flags: impl IntoIterator<Item = String>) -> Self {
        let mut sorted = Self::default();
        let mut flags = flags.into_iter();
        while let Some(flag) = flags.next() {
            let (name, attached) = match flag.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (flag.as_str(), None),
            };
            let mut value = || attached.clone().or_else(|| flags.next());
            match name {
                // The package was read with it, and names the program.
                "--bin" | "--example" => drop(value()),
                "--target-dir" => sorted.target_dir = value().map(Into::into).or(sorted.target_dir),
                _ if OF_HOST_WITH_VALUE.contains(&name) => {
                    let value = value();
                    sorted.host.push(name.to_owned());
                    sorted.host.extend(value);
                }
                _ if OF_HOST.contains(&name) => sorted.host.push(flag),
                _ => {
                    sorted.host.push(flag.clone());
                    sorted.plugins.push(flag);
                }
            }
        }
        sorted
    }

    /// The flags of a host's manifest, followed by those of the command line.
    pub fn for_package(package: &HostPackage, command_line: &[String]) -> Self {
        Self::of(package.cargo_flags.iter().chain(command_line).cloned())
    }

    /// Applies the flag that chooses the target directory.
    pub fn apply(&self, package: &mut HostPackage) {
        let Some(target_dir) = &self.target_dir else { return };
        // Cargo runs in another directory than this program.
        let target_dir = std::path::absolute(target_dir).unwrap_or_else(|_| target_dir.clone());
        if let Some(rest) = below(&package.plugin_dir, &package.target_dir) {
            package.plugin_dir = target_dir.join(rest);
        }
        package.plugins.iter_mut().for_each(|plugin| plugin.target_dir.clone_from(&target_dir));
        package.target_dir = target_dir;
    }
}

fn below(path: &Path, dir: &Path) -> Option<PathBuf> {
    path.strip_prefix(dir).ok().map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_choose_within_the_hosts_package_are_not_used_for_plugins() {
        let words = "--release --features a,b -F c --bin=tool --example hello --locked --target-dir out \
                     --config net.offline=true --no-default-features --profile=fast";
        let flags = CargoFlags::of(words.split(' ').map(str::to_owned));
        let host = "--release --features a,b -F c --locked --config net.offline=true \
                    --no-default-features --profile=fast";
        assert_eq!(flags.host.join(" "), host);
        let plugins = "--release --locked --config net.offline=true --profile=fast";
        assert_eq!(flags.plugins.join(" "), plugins);
        assert_eq!(flags.target_dir, Some("out".into()));
    }
}
