//! Copies compiled dependencies into another target directory.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::Path,
    sync::LazyLock,
};

use super::process::{repository, target_dir};

/// The packages from a registry, whose sources are the same for all target directories.
static FOREIGN: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let lock = fs::read_to_string(repository().join("Cargo.lock")).expect("a lock file");
    let lock: toml::Table = lock.parse().expect("a lock file in TOML");
    let packages = lock["package"].as_array().expect("the packages of the lock file").iter();
    let foreign = packages.filter(|package| package.get("source").is_some());
    foreign.map(|package| package["name"].as_str().expect("a name").to_owned()).collect()
});

/// Copies the compiled foreign packages of the repository's target directory into a new target directory, for
/// hosts and for plugins. Cargo decides as usual what it can use of them.
pub fn seed(new: &Path) {
    for profile in ["debug", "hotswap/hotswap"] {
        let (from, to) = (target_dir().join(profile), new.join(profile));
        if from.join(".fingerprint").is_dir() && !to.exists() {
            take_over(&from, &to).expect("link the compiled packages");
        }
    }
}

fn take_over(from: &Path, to: &Path) -> io::Result<()> {
    let mut libraries = HashSet::new();
    // The files that mark a unit as complete are copied first, since the unit's other files were written earlier.
    for dir in [".fingerprint", "build"] {
        for unit in fs::read_dir(from.join(dir))? {
            let unit = unit?;
            if FOREIGN.contains(without_hash(&unit.file_name().to_string_lossy())) {
                copy(&unit.path(), &to.join(dir).join(unit.file_name()))?;
                for file in fs::read_dir(unit.path())? {
                    let file = file?.file_name();
                    libraries
                        .extend(file.to_string_lossy().strip_prefix("lib-").map(str::to_owned));
                }
            }
        }
    }
    fs::create_dir_all(to.join("deps"))?;
    for file in fs::read_dir(from.join("deps"))? {
        let file = file?;
        let name = file.file_name();
        let stem = Path::new(&name).file_stem().unwrap_or_default().to_string_lossy();
        let stem = without_hash(&stem);
        if libraries.contains(stem.strip_prefix("lib").unwrap_or(stem)) || libraries.contains(stem)
        {
            // Cargo does not write these files again.
            fs::hard_link(file.path(), to.join("deps").join(name))?;
        }
    }
    Ok(())
}

fn without_hash(name: &str) -> &str {
    name.rsplit_once('-').map_or(name, |(name, _)| name)
}

/// Copies a file or a directory with its modification times, which cargo compares.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    fs::copy(from, to)?;
    File::options().write(true).open(to)?.set_modified(fs::metadata(from)?.modified()?)
}
