//! Checks the imports of a crate against the table of its floors.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use super::scan::{self, Import};

/// In [`Floor::may_import`]: all floors before it in the table.
pub const ALL_BELOW: &str = "*";
/// In [`Floor::may_import`]: the items of the crate's root.
pub const ROOT: &str = "crate";
/// How many re-exports are followed in a row.
const REEXPORTS_FOLLOWED: usize = 8;

/// A crate whose modules have floors.
pub struct House {
    /// The directory of its sources.
    pub root: &'static str,
    /// The lowest floor first.
    pub floors: &'static [Floor],
}

/// A module, with all modules in it that have no floor of their own.
pub struct Floor {
    /// `format`, or `screen::view`.
    pub module: &'static str,
    /// The floors that it may import, all of which are below it.
    pub may_import: &'static [&'static str],
}

impl Floor {
    /// The floor of a module that may import these floors.
    pub const fn of(module: &'static str, may_import: &'static [&'static str]) -> Self {
        Self { module, may_import }
    }
}

/// A file of a crate.
pub struct SourceFile {
    /// The path of the file, for messages.
    pub path: String,
    /// The path of its module; empty for the root.
    pub module: Vec<String>,
    pub text: String,
}

/// The files of the library in this directory.
pub fn sources(repository: &Path, root: &str) -> Vec<SourceFile> {
    let directory = repository.join(root);
    let mut files = Vec::new();
    for path in rust_files(&directory) {
        let inside = path.strip_prefix(&directory).unwrap();
        // Programs of the package are crates of their own.
        if !inside.starts_with("bin") && inside != Path::new("main.rs") {
            let path = format!("{root}/{}", inside.display());
            let text = fs::read_to_string(repository.join(&path)).unwrap();
            files.push(SourceFile { path, module: module_of(inside), text });
        }
    }
    files
}

/// All Rust files below a directory, sorted, without build output.
pub fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<_> =
        fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.ends_with("target") {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn module_of(file: &Path) -> Vec<String> {
    let names = file.with_extension("");
    let names = names.iter().map(|name| name.to_string_lossy().into_owned());
    let mut module: Vec<String> = names.collect();
    if module.last().is_some_and(|last| ["mod", "lib"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

/// The faults in the imports of these files, or in the table, a sentence each.
pub fn complaints(house: &House, files: &[SourceFile]) -> Vec<String> {
    let plan = Plan::of(house, files);
    let mut complaints: BTreeSet<String> = plan.faults_of_table().into_iter().collect();
    for file in files.iter().filter(|file| !file.module.is_empty()) {
        match plan.floor_of(&file.module) {
            Some(floor) if plan.belongs_to(&file.module, floor) => {
                let imports = scan::imports(&file.text, &file.module);
                complaints.extend(imports.iter().filter_map(|it| plan.judge(file, floor, it)));
                complaints.extend(scan::other_files(&file.text).into_iter().map(|line| {
                    format!("{}:{line} takes code from another file, past the table", file.path)
                }));
            }
            _ => {
                complaints.insert(format!(
                    "{} is the module `{}`, which the table of {} does not name: say there what it \
                     may import",
                    file.path,
                    file.module.join("::"),
                    house.root
                ));
            }
        }
    }
    complaints.into_iter().collect()
}

/// The table with the modules that exist.
struct Plan<'a> {
    house: &'a House,
    modules: BTreeSet<Vec<String>>,
    /// The items that divided modules re-export under another name.
    reexports: HashMap<Vec<String>, Vec<Import>>,
}

impl<'a> Plan<'a> {
    fn of(house: &'a House, files: &[SourceFile]) -> Self {
        let modules = files.iter().map(|file| file.module.clone()).collect();
        let mut plan = Self { house, modules, reexports: HashMap::new() };
        for SourceFile { module, text, .. } in files {
            if plan.is_divided(module) {
                plan.reexports.insert(module.clone(), scan::imports(text, module));
            }
        }
        plan
    }

    fn faults_of_table(&self) -> Vec<String> {
        let root = self.house.root;
        let mut faults = Vec::new();
        for (position, floor) in self.house.floors.iter().enumerate() {
            let name = floor.module;
            if !self.modules.contains(&names(name)) {
                faults.push(format!("the table of {root} names `{name}`, which is not there"));
            }
            let below = &self.house.floors[..position];
            let is_below = |other: &str| below.iter().any(|floor| floor.module == other);
            for other in floor.may_import {
                if ![ALL_BELOW, ROOT].contains(other) && !is_below(other) {
                    faults.push(format!(
                        "the table of {root} lets `{name}` import `{other}`, which does not stand \
                         below it: a floor looks down only"
                    ));
                }
            }
        }
        faults
    }

    /// The floor of a module: its own, or that of the nearest module around it.
    fn floor_of(&self, module: &[String]) -> Option<&'a Floor> {
        let around =
            self.house.floors.iter().filter(|floor| module.starts_with(&names(floor.module)));
        around.max_by_key(|floor| floor.module.len())
    }

    /// Whether modules in it have floors of their own.
    fn is_divided(&self, module: &[String]) -> bool {
        let is_inside = |inner: &[String]| inner.len() > module.len() && inner.starts_with(module);
        self.house.floors.iter().any(|floor| is_inside(&names(floor.module)))
    }

    /// Whether the module belongs to this floor, as all modules of an undivided floor do.
    fn belongs_to(&self, module: &[String], floor: &Floor) -> bool {
        let of_floor = names(floor.module);
        of_floor == module || !self.is_divided(&of_floor)
    }

    fn judge(&self, file: &SourceFile, floor: &Floor, import: &Import) -> Option<String> {
        let target = self.target(import, REEXPORTS_FOLLOWED)?;
        if target == floor.module || self.allows(floor, &target) {
            return None;
        }
        let allowed = match floor.may_import {
            [] => "may import nothing of its crate".to_owned(),
            [ALL_BELOW] => "may import only what stands before it in the table".to_owned(),
            list => format!("may import only `{}`", list.join("`, `")),
        };
        let (place, path) = (format!("{}:{}", file.path, import.line), import.path.join("::"));
        Some(format!(
            "{place} imports `crate::{path}`: `{}` {allowed}; move what both need down, or pass it in",
            floor.module
        ))
    }

    fn allows(&self, floor: &Floor, target: &str) -> bool {
        let position = |name: &str| self.house.floors.iter().position(|it| it.module == name);
        let is_below = || target != ROOT && position(target) < position(floor.module);
        floor.may_import.contains(&target) || floor.may_import.contains(&ALL_BELOW) && is_below()
    }

    /// How many of these names are modules.
    fn depth(&self, path: &[String]) -> usize {
        (0..=path.len()).rev().find(|&depth| self.modules.contains(&path[..depth])).unwrap_or(0)
    }

    /// The floor that an import leads to, also through re-exports; `None` if it leads to another crate.
    fn target(&self, import: &Import, reexports: usize) -> Option<String> {
        if import.plain.is_some_and(|at| !self.modules.contains(&import.path[..=at])) {
            return None;
        }
        let (module, rest) = import.path.split_at(self.depth(&import.path));
        let found = || self.floor_of(module).map_or(ROOT, |floor| floor.module).to_owned();
        let Some(name) = rest.first().filter(|_| self.is_divided(module)) else {
            return Some(found());
        };
        let mut reexported = self.reexports.get(module).into_iter().flatten();
        match reexported.find(|it| it.name == *name) {
            Some(reexport) if reexports > 0 => self.target(reexport, reexports - 1),
            _ => Some(found()),
        }
    }
}

fn names(module: &str) -> Vec<String> {
    module.split("::").map(str::to_owned).collect()
}
