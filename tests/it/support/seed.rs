//! Copies compiled dependencies into another target directory.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs::{self, DirEntry, File},
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

/// The beginning of the names of the engine's packages. All projects outside the repository name them by the same
/// paths, so they can share what was compiled.
const OURS: &str = "hotswap-";

/// Copies compiled packages from other target directories into `new`, for hosts and for plugins, if `new` lacks them.
/// Packages of the other workspaces themselves are not copied. Cargo decides as usual which of the copies are up to date.
pub fn seed(new: &Path) {
    let build_dirs = fs::read_dir(target_dir().join("e2e")).expect("the directories of tests");
    let build_dirs = build_dirs.map(|dir| dir.expect("a directory").path().join("target"));
    let others = [target_dir()].into_iter().chain(build_dirs.filter(|other| other != new));
    for (number, other) in others.enumerate() {
        // The repository's own packages have other names in the repository's target directory.
        let is_taken =
            |name: &str| FOREIGN.contains(name) || (number > 0 && name.starts_with(OURS));
        for profile in ["debug", "hotswap/hotswap"] {
            let taken = copy_compiled(&other.join(profile), &new.join(profile), is_taken);
            taken.expect("copy what was compiled");
        }
    }
}

fn copy_compiled(from: &Path, to: &Path, is_taken: impl Fn(&str) -> bool) -> io::Result<()> {
    let mut crates = HashSet::new();
    // The files that mark a unit as complete are copied first, since the unit's other files were written earlier.
    for dir in [".fingerprint", "build"] {
        for unit in entries(&from.join(dir)) {
            let (new, name) = (to.join(dir).join(unit.file_name()), unit.file_name());
            if !is_taken(without_hash(&name.to_string_lossy())) || new.exists() {
                continue;
            }
            let path = unit.path();
            copy(&path, &new)?;
            let names = entries(&path).map(|file| file.file_name());
            let name = |name: OsString| Some(name.to_str()?.strip_prefix("lib-")?.to_owned());
            crates.extend(names.filter_map(name));
        }
    }
    fs::create_dir_all(to.join("deps"))?;
    for file in entries(&from.join("deps")) {
        let (path, new) = (file.path(), to.join("deps").join(file.file_name()));
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let stem = without_hash(&stem);
        let name = [stem.strip_prefix("lib").unwrap_or(stem), stem]
            .into_iter()
            .find(|it| crates.contains(*it));
        match name {
            _ if new.exists() => {}
            // Cargo does not write these files again.
            Some(name) if !name.starts_with("hotswap_") => {
                ignore_not_found(fs::hard_link(path, new))?
            }
            Some(_) => copy(&path, &new)?,
            None => {}
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> impl Iterator<Item = DirEntry> {
    fs::read_dir(dir).into_iter().flatten().flatten()
}

fn without_hash(name: &str) -> &str {
    name.rsplit_once('-').map_or(name, |(name, _)| name)
}

/// Copies a file or a directory with its modification times, which cargo compares.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        return entries(from)
            .try_for_each(|entry| copy(&entry.path(), &to.join(entry.file_name())));
    }
    let copied = || {
        let modified = fs::metadata(from)?.modified()?;
        fs::copy(from, to)?;
        File::options().write(true).open(to)?.set_modified(modified)
    };
    ignore_not_found(copied())
}

/// Another build may remove a file meanwhile.
fn ignore_not_found(copied: io::Result<()>) -> io::Result<()> {
    copied
        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
