//! The record of a way to build. It is a file that is kept between builds, with the units from which the
//! plugins are compiled, and how each was compiled last.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::input::{Input, Stat};
use super::invocation::Invocation;
use crate::{Diagnostic, atomic_file};

/// The version of the record's format. A record of another version counts as empty.
const FORM: u32 = 3;

/// The name of a unit, after which its files are named: the crate's name, and a hash that distinguishes it
/// from other units of that name.
pub(crate) type UnitId = String;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
    form: u32,
    /// The plugins, by package name.
    pub plugins: BTreeMap<String, Plugin>,
    pub units: BTreeMap<UnitId, Unit>,
}

/// A plugin, and everything that must stay the same for its recorded compiler calls to be valid.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plugin {
    pub root: UnitId,
    /// All units from which it is compiled, including the root.
    pub units: Vec<UnitId>,
    /// The library that cargo linked last; `None` if cargo's call was held back.
    pub cargo_library: Option<Stat>,
    /// The files other than sources that decide what cargo does.
    pub guards: Vec<Input>,
    /// Everything that only cargo makes, as cargo has left it; empty if that is not known.
    #[serde(default)]
    pub of_cargo: Vec<Output>,
    /// Those guards that the plugin's author can change, including directories. Watchers watch these.
    #[serde(default)]
    pub read: BTreeSet<PathBuf>,
    /// The values that variables had in this process for which build scripts ask to be run again when they change, and
    /// those that cargo's configuration sets.
    pub env: BTreeMap<String, Option<String>>,
    /// Why every build of it has to run cargo; `None` if only changes need that.
    #[serde(default)]
    pub always: Option<String>,
    #[serde(default)]
    pub behind: BehindCargo,
    /// Whether the record does not describe the plugin's current state for cargo. The records of its units
    /// are still valid.
    #[serde(default)]
    pub is_dropped: bool,
    /// The compiler's diagnostics for crates that only cargo compiles.
    pub diagnostics: Vec<Diagnostic>,
    /// The hash of the library as it was compiled last.
    #[serde(default)]
    pub library: Option<String>,
    /// The build id of the last artifact.
    pub build_id: Option<String>,
}

/// The packages of the plugin's author that are used by something that only cargo compiles: a procedural
/// macro, a build script, or a package of another author.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct BehindCargo {
    /// The [settings](super::guard::settings) of all packages for which this is known.
    pub settings: String,
    pub dirs: BTreeSet<PathBuf>,
}

/// A hash of the output of each build script in a run of cargo, by the directory that cargo gave the script
/// for its files.
pub(super) type ScriptOutputs = BTreeMap<PathBuf, String>;

/// A library crate of the plugin's author, or the plugin itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Unit {
    /// The crate's name.
    pub name: String,
    /// How cargo called the compiler for it.
    pub invocation: Invocation,
    /// The hash of the plugin's included files, which cargo's call passed to the linker.
    #[serde(default)]
    pub included: Option<String>,
    /// The directory of its package.
    pub package_dir: PathBuf,
    /// The [settings](super::guard::settings) for which the call is valid.
    pub settings: String,
    /// The hashes of the output of the build scripts for which the call is valid: what they print can be part
    /// of the call.
    #[serde(rename = "told")]
    pub script_outputs: ScriptOutputs,
    /// The compiler's diagnostics when it was compiled last.
    pub diagnostics: Vec<Diagnostic>,
    pub compiled: Compiled,
    /// How cargo compiled it last, if it was compiled without cargo since.
    #[serde(default)]
    pub by_cargo: Option<Compiled>,
}

/// The files from which a unit was last compiled, and the resulting files; no files if it was not compiled
/// yet.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Compiled {
    pub inputs: Vec<Input>,
    /// The variables that its source reads, with their values.
    pub env: Vec<(String, Option<String>)>,
    /// The libraries that it was compiled against.
    pub externs: Vec<Output>,
    pub outputs: Vec<Output>,
    /// The libraries that were passed to its linker; empty if it was not linked, or was linked by cargo.
    #[serde(default)]
    pub libraries: Vec<PathBuf>,
}

/// A compiled file in the state in which it was just written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Output {
    pub path: PathBuf,
    stat: Option<Stat>,
}

impl Output {
    pub(crate) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), stat: Stat::of(path) }
    }

    /// Whether the file is still there and unchanged.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_same(&Self::of(&self.path))
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same = |(one, other): (Stat, Stat)| one.is_same_output(other);
        self.path == other.path && self.stat.zip(other.stat).is_some_and(same)
    }
}

impl Unit {
    /// Whether the recorded call is the one that cargo would make now, after build scripts have printed this.
    /// Another run of cargo in the same target directory may have run them since.
    pub(super) fn is_valid_for(&self, script_outputs: &ScriptOutputs) -> bool {
        script_outputs
            .iter()
            .all(|(dir, now)| self.script_outputs.get(dir).is_none_or(|then| then == now))
    }
}

impl Compiled {
    /// Whether a source has changed since then.
    pub(super) fn has_other_inputs(&self) -> bool {
        self.inputs.iter().any(|input| !input.has_same_content(&input.reread()))
    }

    /// The path of the output file called `name`.
    pub(super) fn output(&self, name: &str) -> Option<&Path> {
        let mut paths = self.outputs.iter().map(|output| output.path.as_path());
        paths.find(|path| path.file_name().is_some_and(|it| it == name))
    }
}

impl Record {
    /// Reads the record at `path`; an empty one if there is none, or if it cannot be read.
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

    /// The units from which `plugin` is compiled, each after those on which it depends. If they depend on
    /// each other in a circle, which happens only in a broken record, one of them comes too early.
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

    /// The unit `id` and those on which it depends, with `id` last; `None` if the unit was visited before, or
    /// is not recorded.
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

/// The unit of a library file such as `libapi-0123456789abcdef.rmeta`.
pub(super) fn unit_id_of(library: &Path) -> Option<&str> {
    library.file_stem()?.to_str()?.strip_prefix("lib")
}
