//! Checks the manifests of the workspace, and the places of `unsafe`.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use toml::{Table, Value};

use super::{
    floors::rust_files,
    scan::{Kind, tokens},
};

/// A crate of the workspace, and the crates of the workspace that it may depend on.
pub struct Crate {
    pub directory: &'static str,
    pub may_depend_on: &'static [&'static str],
}

/// The directories of the workspace's crates, without those of the tests.
pub fn members(repository: &Path) -> Vec<String> {
    let manifest = manifest(repository, ".");
    let members = manifest["workspace"]["members"].as_array().unwrap();
    let members = members.iter().filter_map(Value::as_str);
    members.filter(|member| !member.starts_with("tests")).map(str::to_owned).collect()
}

fn manifest(repository: &Path, directory: &str) -> Table {
    fs::read_to_string(repository.join(directory).join("Cargo.toml")).unwrap().parse().unwrap()
}

/// The faults in the dependencies between the crates, or in the table, a sentence each.
pub fn dependency_complaints(repository: &Path, crates: &[Crate]) -> Vec<String> {
    let members = members(repository);
    let mut complaints = Vec::new();
    for member in &members {
        let Some(row) = crates.iter().find(|row| row.directory == member) else {
            complaints.push(format!(
                "{member} is a crate that the table does not name: say there what it may depend on"
            ));
            continue;
        };
        for dependency in own_dependencies(repository, member) {
            if !row.may_depend_on.contains(&dependency.as_str()) {
                complaints.push(format!(
                    "{member}/Cargo.toml depends on `{dependency}`: {member} may depend only on \
                     {:?}; move what both need down",
                    row.may_depend_on
                ));
            }
        }
    }
    let gone = crates.iter().filter(|row| !members.iter().any(|member| member == row.directory));
    complaints.extend(gone.map(|row| format!("the table names {}, which is gone", row.directory)));
    complaints
}

/// The faults in the versions that manifests require, a sentence each: each must be the version in `Cargo.lock`,
/// which was tested.
pub fn version_complaints(repository: &Path) -> Vec<String> {
    let lock: Table = fs::read_to_string(repository.join("Cargo.lock")).unwrap().parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let locked = |name: &str| -> Vec<&str> {
        let versions = packages.iter().filter(|package| package["name"].as_str() == Some(name));
        // What follows `+` says nothing about the order of versions.
        let versions =
            versions.filter_map(|package| package["version"].as_str()?.split('+').next());
        versions.collect()
    };
    let workspace = manifest(repository, ".");
    let shared = workspace["workspace"]["dependencies"].as_table().unwrap();
    let mut complaints = Vec::new();
    let mut judge = |place: &str, dependencies: &Table| {
        for (name, asked) in dependencies {
            let version = if asked.is_str() { Some(asked) } else { asked.get("version") };
            let Some(version) = version.and_then(Value::as_str) else { continue };
            let package = asked.get("package").and_then(Value::as_str).unwrap_or(name);
            if !locked(package).contains(&version) {
                complaints.push(format!(
                    "{place}/Cargo.toml asks for {name} {version}, and the tests run with {:?}: ask for what is tested",
                    locked(package)
                ));
            }
        }
    };
    judge(".", shared);
    for directory in members(repository) {
        let manifest = manifest(repository, &directory);
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            if let Some(own) = manifest.get(section).and_then(Value::as_table) {
                judge(&directory, own);
            }
        }
    }
    complaints
}

/// The packages that a selection of packages is compiled from, each with its features. A package appears twice if a
/// build script or a macro needs it with other features.
pub fn with_features(repository: &Path, selection: &[&str]) -> BTreeSet<(String, String)> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked"]).args(selection);
    cargo.args(["--prefix", "none", "--no-dedupe", "--format", "{p}|{f}"]).current_dir(repository);
    let output = cargo.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let tree = String::from_utf8(output.stdout).unwrap();
    let packages = tree.lines().filter_map(|line| line.split_once('|'));
    packages.map(|(package, features)| (package.to_owned(), features.to_owned())).collect()
}

/// The crates of this repository that a crate depends on, except for its tests.
fn own_dependencies(repository: &Path, directory: &str) -> Vec<String> {
    let workspace = manifest(repository, ".");
    let shared = workspace["workspace"]["dependencies"].as_table().unwrap();
    let manifest = manifest(repository, directory);
    let tables = std::iter::once(&manifest).chain(
        manifest
            .get("target")
            .and_then(Value::as_table)
            .into_iter()
            .flat_map(|targets| targets.values().filter_map(Value::as_table)),
    );
    let sections =
        tables.flat_map(|table| [table.get("dependencies"), table.get("build-dependencies")]);
    let dependencies = sections.flatten().filter_map(Value::as_table).flatten();
    let is_own = |name: &str, value: &Value| {
        value.get("path").is_some() || shared.get(name).is_some_and(|it| it.get("path").is_some())
    };
    dependencies.filter(|(name, value)| is_own(name, value)).map(|(name, _)| name.clone()).collect()
}

/// The places of `unsafe` outside these directories, a sentence each.
pub fn unsafe_complaints(repository: &Path, allowed: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    for member in members(repository) {
        for path in rust_files(&repository.join(member)) {
            if allowed.iter().any(|place| path.starts_with(repository.join(place))) {
                continue;
            }
            let found = tokens(&fs::read_to_string(&path).unwrap()).into_iter();
            let found = found.filter(|token| token.kind == Kind::Word("unsafe".into()));
            let path = path.strip_prefix(repository).unwrap().display();
            complaints.extend(found.map(|token| {
                format!(
                    "{path}:{} has `unsafe`, which may stand only in {allowed:?}: give what it is \
                     for a safe function there",
                    token.line
                )
            }));
        }
    }
    complaints
}

/// The libraries and programs of these crates that do not forbid `unsafe`, a sentence each.
pub fn missing_forbids(repository: &Path, crates: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    for directory in crates {
        let sources = repository.join(directory).join("src");
        let mut roots = rust_files(&sources.join("bin"));
        roots.extend(["lib.rs", "main.rs"].map(|name| sources.join(name)));
        for root in roots.iter().filter(|root| root.is_file()) {
            if !forbids_unsafe(&fs::read_to_string(root).unwrap()) {
                let path = root.strip_prefix(repository).unwrap().display();
                complaints.push(format!("{path} has no `#![forbid(unsafe_code)]`: put it there"));
            }
        }
    }
    complaints
}

fn forbids_unsafe(text: &str) -> bool {
    let wanted = tokens("#![forbid(unsafe_code)]");
    let kinds: Vec<Kind> = tokens(text).into_iter().map(|token| token.kind).collect();
    kinds.windows(wanted.len()).any(|kinds| kinds.iter().eq(wanted.iter().map(|it| &it.kind)))
}
