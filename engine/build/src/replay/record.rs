//! What is known of the units that plugins are compiled from, kept from build to build.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::input::{Input, Stat};
use super::invocation::Invocation;
use crate::{Diagnostic, atomic_file};

/// The version of the record's form; one of another form counts as none.
const FORM: u32 = 1;

/// What compiled files are named after: the crate, and what tells it from others of its name.
pub(super) type UnitId = String;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
    form: u32,
    /// By package name.
    pub plugins: BTreeMap<String, Plugin>,
    pub units: BTreeMap<UnitId, Unit>,
}

/// What a plugin's commands hold good for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plugin {
    pub root: UnitId,
    /// All units that it is compiled from, itself included.
    pub units: Vec<UnitId>,
    /// The library that cargo made of the root when it compiled it last.
    pub cargo_library: Stat,
    /// What cargo looks at besides sources.
    pub guards: Vec<Input>,
    /// The variables that build scripts look at.
    pub env: BTreeMap<String, Option<String>>,
    /// What the compiler had to say about what only cargo compiles.
    pub diagnostics: Vec<Diagnostic>,
    /// The hash of the library as it was compiled last.
    #[serde(default)]
    pub library: Option<String>,
    /// The build id of the last artifact.
    pub build_id: Option<String>,
}

/// A library crate of the plugin's author, or the plugin itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Unit {
    /// The crate's name.
    pub name: String,
    /// How cargo compiled it.
    pub invocation: Invocation,
    /// The hash of the files besides Rust sources that went into it.
    #[serde(default)]
    pub included: Option<String>,
    /// The directory of its package.
    pub package_dir: PathBuf,
    /// The settings that this holds good for.
    pub settings: String,
    /// What the compiler had to say about it.
    pub diagnostics: Vec<Diagnostic>,
    pub compiled: Compiled,
}

/// What a unit was compiled from and into.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Compiled {
    pub inputs: Vec<Input>,
    /// The variables that its source looks at.
    pub env: Vec<(String, Option<String>)>,
    /// The libraries that it was compiled against.
    pub externs: Vec<Output>,
    pub outputs: Vec<Output>,
}

/// A compiled file as it was when it had just been written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Output {
    pub path: PathBuf,
    stat: Option<Stat>,
}

impl Output {
    pub(super) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), stat: Stat::of(path) }
    }

    /// Whether it is there as it was written.
    pub(super) fn is_whole(&self) -> bool {
        self.is_same(&Self::of(&self.path))
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same = |(one, other): (Stat, Stat)| one.is_same_output(other);
        self.path == other.path && self.stat.zip(other.stat).is_some_and(same)
    }
}

impl Compiled {
    /// Whether its sources are no longer what they were.
    pub(super) fn has_other_inputs(&self) -> bool {
        self.inputs.iter().any(|input| !input.has_same_content(&input.look_again()))
    }

    /// Its file of this name.
    pub(super) fn output(&self, name: &str) -> Option<&Path> {
        let mut paths = self.outputs.iter().map(|output| output.path.as_path());
        paths.find(|path| path.file_name().is_some_and(|it| it == name))
    }
}

impl Record {
    /// An empty one where there is none that can be read.
    pub(super) fn load(path: &Path) -> Self {
        fs::read(path).map(|bytes| Self::read(&bytes)).unwrap_or_default()
    }

    pub(super) fn read(bytes: &[u8]) -> Self {
        let record = serde_json::from_slice::<Self>(bytes).ok();
        record.filter(|record| record.form == FORM).unwrap_or_default()
    }

    pub(super) fn save(&mut self, path: &Path) -> io::Result<()> {
        self.form = FORM;
        let needed: BTreeSet<&UnitId> = self.plugins.values().flat_map(|it| &it.units).collect();
        self.units.retain(|id, _| needed.contains(id));
        atomic_file::write(path, &serde_json::to_vec(self)?)
    }

    /// The units that a plugin is compiled from, each after those that it needs. Where some need each
    /// other in a circle, as only a broken record says, one of them comes too early.
    pub(super) fn in_order<'a>(&'a self, plugin: &'a Plugin) -> Vec<(&'a str, &'a Unit)> {
        let (mut order, mut begun) = (Vec::new(), BTreeSet::new());
        for id in &plugin.units {
            let mut open: Vec<_> = self.begin(id, &mut begun).into_iter().collect();
            while let Some((id, unit, needed)) = open.last_mut() {
                match needed.pop() {
                    Some(needed) => open.extend(self.begin(needed, &mut begun)),
                    None => {
                        order.push((*id, *unit));
                        open.pop();
                    }
                }
            }
        }
        order
    }

    /// A unit that nobody has come by yet, and those that it needs, the first one last.
    fn begin<'a>(
        &'a self,
        id: &str,
        begun: &mut BTreeSet<&'a str>,
    ) -> Option<(&'a str, &'a Unit, Vec<&'a str>)> {
        let (id, unit) = self.units.get_key_value(id)?;
        if !begun.insert(id) {
            return None;
        }
        let mut needed: Vec<_> =
            unit.invocation.externs().filter_map(|(_, path)| unit_id_of(path)).collect();
        needed.reverse();
        Some((id, unit, needed))
    }
}

/// The unit that a library file such as `libapi-0123456789abcdef.rmeta` is made of.
pub(super) fn unit_id_of(library: &Path) -> Option<&str> {
    library.file_stem()?.to_str()?.strip_prefix("lib")
}
