//! Keeps the input and output of the last builds of each plugin: to make a patch for a running version, its
//! build is compared with the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hotswap_artifact::patch::Patch;
use hotswap_protocol::BuildId;
use serde::{Deserialize, Serialize};

use super::input::Input;
use super::outlines::Outlines;
use super::record::{Compiled, Output, Plugin, ScriptOutputs, Unit, UnitId};
use super::{Invocation, Member, Replay};
use crate::atomic_file;
use crate::outline::{Bound, ChangedFunction, SourceChanges};
use crate::patch::{self, Build, Edited, FileId, Linked, NotPatched};

/// The input of a build, in a file beside its objects.
#[derive(Debug, Serialize, Deserialize)]
struct Base {
    units: BTreeMap<UnitId, Made>,
    guards: Vec<Input>,
    #[serde(default)]
    of_cargo: Vec<Output>,
    env: BTreeMap<String, Option<String>>,
}

/// How a unit was made.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    invocation: Invocation,
    #[serde(rename = "told")]
    script_outputs: ScriptOutputs,
    compiled: Compiled,
}

const MADE_OF: &str = "made-of.json";
/// A copy of the library under a fixed name, since the store may have removed it.
const LIBRARY: &str = "library";
/// The largest number of builds of a plugin that are kept.
const MOST_BASES: usize = 6;

/// A kept build that was read to be compared with another one.
#[derive(Debug)]
pub(super) struct KeptBase {
    id: BuildId,
    made: Base,
    linked: Linked,
}

impl Base {
    fn load(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join(MADE_OF)).ok()?).ok()
    }

    /// The hashes of all sources.
    fn hashes(&self) -> impl Iterator<Item = &str> {
        let inputs = self.units.values().flat_map(|made| &made.compiled.inputs);
        inputs.filter_map(Input::hash)
    }
}

/// A build that has just finished, to be kept and compared. It does not change with the record.
#[derive(Debug)]
pub(crate) struct NewBuild {
    /// The directory of the plugin's builds.
    bases: PathBuf,
    root: UnitId,
    made: Base,
    objects: Vec<PathBuf>,
}

impl NewBuild {
    /// Keeps the input and the objects of the plugin, which was just built as `artifact`.
    pub(crate) fn keep(&self, build_id: BuildId, artifact: &Path) -> io::Result<()> {
        let Self { bases, made, objects, .. } = self;
        let dir = bases.join(build_id.to_string());
        let made_of = serde_json::to_vec(made)?;
        if objects_in(&dir).is_ok_and(|kept| ids(&kept) == ids(objects)) {
            return atomic_file::write(&dir.join(MADE_OF), &made_of);
        }
        fs::create_dir_all(bases)?;
        let kept = tempfile::Builder::new().prefix(".").tempdir_in(bases)?;
        for object in objects {
            let name = object.file_name().unwrap_or_default();
            link(object, &kept.path().join(name))?;
        }
        link(artifact, &kept.path().join(LIBRARY))?;
        fs::write(kept.path().join(MADE_OF), made_of)?;
        // A build with the same code may be kept already, with other object files. The object files that the
        // compiler uses from now on replace them: whatever is the same file in the next build need not be
        // compared.
        let before = tempfile::Builder::new().prefix(".").tempdir_in(bases)?;
        match fs::rename(&dir, before.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::rename(kept.path(), &dir)?,
        }
        _ = kept.keep();
        forget_bases(bases, &dir)
    }

    /// The patch that turns the build `from` into this one, `to`.
    ///
    /// # Errors
    /// If a file of one of the builds cannot be read.
    pub(crate) fn patch(
        &self,
        record: &Replay,
        from: BuildId,
        to: Build<'_>,
    ) -> io::Result<Result<Patch, NotPatched>> {
        // It was read while the compiler ran, if an early patch was wanted.
        let known = record.base_read.as_ref().filter(|base| base.id == from);
        let read = if known.is_none() { kept_base(&self.bases, from)? } else { None };
        let Some(base) = known.or(read.as_ref()) else {
            return Ok(Err(NotPatched::NothingKept));
        };
        patch_to((base, record.outlines()), (&self.root, &self.made), (Some(to), &self.objects))
    }
}

impl Replay {
    fn bases(&self, member: &Member<'_>) -> PathBuf {
        self.dir.join("bases").join(&member.plugin.name)
    }

    /// The build of the plugin that the record describes; `None` if the compiler keeps no objects of it.
    pub(crate) fn new_build(&self, member: &Member<'_>) -> Option<NewBuild> {
        let root = self.record.plugins.get(&member.plugin.name)?.root.clone();
        let (made, objects) = (self.base(member)?, self.objects(member)?);
        Some(NewBuild { bases: self.bases(member), root, made, objects })
    }

    /// The input of the current build of the plugin; `None` if it is not known.
    fn base(&self, member: &Member<'_>) -> Option<Base> {
        let plugin = self.record.plugins.get(&member.plugin.name).filter(|it| !it.is_dropped)?;
        let made = |id: &UnitId| {
            let Unit { invocation, script_outputs, compiled, .. } = self.record.units.get(id)?;
            let (invocation, script_outputs) = (invocation.clone(), script_outputs.clone());
            Some((id.clone(), Made { invocation, script_outputs, compiled: compiled.clone() }))
        };
        let units = plugin.units.iter().map(made).collect::<Option<_>>()?;
        let Plugin { guards, of_cargo, env, .. } = plugin.clone();
        Some(Base { units, guards, of_cargo, env })
    }

    /// The object files of all units of the plugin, and archives of them. Those of the plugin itself are in
    /// the compiler's own cache; `None` if it has none.
    fn objects(&self, member: &Member<'_>) -> Option<Vec<PathBuf>> {
        let plugin = self.record.plugins.get(&member.plugin.name)?;
        let root = self.record.units.get(&plugin.root)?;
        let entries = fs::read_dir(session(&root.invocation)?).ok()?.flatten();
        let own = entries.map(|entry| entry.path()).filter(|path| has_extension(path, "o"));
        let others = plugin.units.iter().filter(|id| **id != plugin.root);
        let others = others.filter_map(|id| self.record.units.get(id));
        let outputs = others.flat_map(|unit| &unit.compiled.outputs);
        let archives = outputs.map(|output| &output.path).filter(|it| has_extension(it, "rlib"));
        let own: Vec<_> = own.collect();
        (!own.is_empty()).then(|| own.into_iter().chain(archives.cloned()).collect())
    }

    /// The hashes of the sources of all kept builds.
    pub(super) fn hashes_of_bases(&self) -> BTreeSet<String> {
        let plugins = fs::read_dir(self.dir.join("bases")).into_iter().flatten().flatten();
        let builds = plugins.flat_map(|plugin| fs::read_dir(plugin.path()).into_iter().flatten());
        let bases = builds.flatten().filter_map(|build| Base::load(&build.path()));
        bases.flat_map(|base| base.hashes().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// Reads a build that was kept; `None` if it was not.
    ///
    /// # Errors
    /// If its files cannot be read.
    pub(super) fn kept_base(
        &self,
        member: &Member<'_>,
        id: BuildId,
    ) -> io::Result<Option<KeptBase>> {
        kept_base(&self.bases(member), id)
    }

    /// An early patch: it is made after compiling, while the linker runs, and turns a kept build into the new one.
    /// `root` is the input of the plugin's own unit; all other input is recorded.
    ///
    /// # Errors
    /// If a kept file cannot be read.
    pub(super) fn early_patch(
        &self,
        member: &Member<'_>,
        known: (&KeptBase, &Outlines),
        root: Compiled,
        linked: &[PathBuf],
    ) -> io::Result<Result<Patch, NotPatched>> {
        let objects = self.objects(member).filter(|objects| are_linked(objects, linked));
        let (Some(objects), Some(mut now)) = (objects, self.base(member)) else {
            return Ok(Err(NotPatched::NoObjects));
        };
        let Some(plugin) = self.record.plugins.get(&member.plugin.name) else {
            return Ok(Err(NotPatched::NoObjects));
        };
        if let Some(made) = now.units.get_mut(&plugin.root) {
            made.compiled = root;
        }
        patch_to(known, (&plugin.root, &now), (None, &objects))
    }
}

fn patch_to(
    (base, outlines): (&KeptBase, &Outlines),
    (root, now): (&UnitId, &Base),
    new: (Option<Build<'_>>, &[PathBuf]),
) -> io::Result<Result<Patch, NotPatched>> {
    let KeptBase { id: from, made: base, linked } = base;
    if !is_compiled_alike(base, now) {
        return Ok(Err(NotPatched::CompiledOtherwise));
    }
    let mut changes = SourceChanges::default();
    for (id, now) in &now.units {
        let before = base.units.get(id).map(|made| &made.compiled);
        match before.and_then(|before| outlines.changes(before, &now.compiled)) {
            Some(changed) => changes.add(changed),
            None => return Ok(Err(NotPatched::NothingKept)),
        }
    }
    // The objects show whether a function of a trait is called through a table.
    let is_exchangeable =
        |function: &ChangedFunction| matches!(function.bound, None | Some(Bound::Trait));
    if !changes.items.is_empty() || !changes.functions.iter().all(is_exchangeable) {
        return Ok(Err(NotPatched::Sources(Box::new(changes))));
    }
    let libraries = now.units.get(root).map_or(&[][..], |root| &root.compiled.libraries);
    let inputs = now.units.values().flat_map(|made| &made.compiled.inputs);
    let sources: Vec<_> = inputs.map(|input| input.path.clone()).collect();
    let is_optimised = now.units.values().any(|made| made.invocation.is_optimised());
    let edited = Edited { functions: &changes.functions, sources: &sources, is_optimised };
    let made = patch::make((*from, linked), new, libraries, edited)?;
    Ok(made.map_err(NotPatched::Objects))
}

/// Reads the build `id` of those that were kept in `bases`; `None` if it was not.
fn kept_base(bases: &Path, id: BuildId) -> io::Result<Option<KeptBase>> {
    let dir = bases.join(id.to_string());
    let Some(made) = Base::load(&dir) else { return Ok(None) };
    // This marks it as recently used, so it is not removed.
    fs::File::open(&dir)?.set_modified(std::time::SystemTime::now())?;
    let linked = Linked::read(fs::read(dir.join(LIBRARY))?, &objects_in(&dir)?)?;
    Ok(Some(KeptBase { id, made, linked }))
}

/// Removes the oldest builds in `bases`.
fn forget_bases(bases: &Path, newest: &Path) -> io::Result<()> {
    let age = |path: &PathBuf| fs::metadata(path).and_then(|it| it.modified()).ok();
    let entries = fs::read_dir(bases)?.flatten().map(|entry| entry.path());
    let mut dirs: Vec<_> = entries.filter(|path| path != newest).collect();
    dirs.sort_by_cached_key(age);
    let surplus = (dirs.len() + 1).saturating_sub(MOST_BASES);
    dirs.into_iter().take(surplus).for_each(|dir| drop(fs::remove_dir_all(dir)));
    Ok(())
}

/// The objects and archives in a directory of a build.
fn objects_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(dir)?.map(|entry| Ok(entry?.path()));
    let paths = paths.collect::<io::Result<Vec<_>>>()?;
    let is_object = |path: &PathBuf| has_extension(path, "o") || has_extension(path, "rlib");
    Ok(paths.into_iter().filter(is_object).collect())
}

/// Whether each of the compiler's `objects` is among the files that were passed to the linker: the same file,
/// under any name.
fn are_linked(objects: &[PathBuf], linked: &[PathBuf]) -> bool {
    let own: Vec<_> = objects.iter().filter(|path| has_extension(path, "o")).cloned().collect();
    let (own, linked) = (ids(&own), ids(linked));
    own.is_some_and(|own| linked.is_some_and(|linked| own.is_subset(&linked)))
}

/// The identities of files; `None` if one does not exist.
fn ids(paths: &[PathBuf]) -> Option<BTreeSet<FileId>> {
    paths.iter().map(|path| FileId::of(path).ok()).collect()
}

/// Whether two builds differ only in sources: the compiler is called in the same way, and no procedural macro or
/// build script changed.
fn is_compiled_alike(base: &Base, now: &Base) -> bool {
    let ids = |base: &Base| base.units.keys().cloned().collect::<Vec<_>>();
    let is_same = |(id, now): (&UnitId, &Made)| {
        base.units.get(id).is_some_and(|before| {
            (&before.invocation, &before.script_outputs) == (&now.invocation, &now.script_outputs)
        })
    };
    let are_guards_same = base.guards.len() == now.guards.len()
        && base.guards.iter().zip(&now.guards).all(|(one, other)| one.has_same_content(other));
    // If cargo has made nothing again, guards have changed in a way that does not matter, such as a comment in a manifest.
    let is_rest_same = !now.of_cargo.is_empty()
        && base.of_cargo.len() == now.of_cargo.len()
        && base.of_cargo.iter().zip(&now.of_cargo).all(|(one, other)| one.is_same(other));
    ids(base) == ids(now)
        && now.units.iter().all(is_same)
        && (are_guards_same || is_rest_same)
        && base.env == now.env
}

/// The newest finished directory of the compiler's cache for a call.
fn session(invocation: &Invocation) -> Option<PathBuf> {
    let dir = invocation.dir.join(invocation.codegen_option("incremental")?);
    let name = format!("{}-", invocation.option("--crate-name")?);
    let named = |path: &PathBuf, start: &str| {
        path.file_name().and_then(|it| it.to_str()).is_some_and(|it| it.starts_with(start))
    };
    let entries =
        |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|it| it.path());
    let crates = entries(&dir).filter(|path| named(path, &name));
    let sessions = crates.flat_map(|path| entries(&path).collect::<Vec<_>>());
    let finished = sessions.filter(|path| {
        let is_working = path.to_string_lossy().ends_with("-working");
        named(path, "s-") && path.is_dir() && !is_working
    });
    finished.max_by_key(|path| fs::metadata(path).and_then(|it| it.modified()).ok())
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|it| it == extension)
}

/// Makes a hard link to a file, or a copy where a link is not possible.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))
}
