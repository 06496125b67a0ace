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
use super::record::{Compiled, Told, Unit, UnitId};
use super::{Invocation, Member, Replay};
use crate::atomic_file;
use crate::outline::{Bound, ChangedFunction, SourceChanges};
use crate::patch::{self, Build, Edited, FileId, Linked, NotPatched};

/// The input of a build, in a file beside its objects.
#[derive(Debug, Serialize, Deserialize)]
struct Base {
    units: BTreeMap<UnitId, Made>,
    guards: Vec<Input>,
    env: BTreeMap<String, Option<String>>,
}

/// How a unit was made.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    invocation: Invocation,
    told: Told,
    compiled: Compiled,
}

const MADE_OF: &str = "made-of.json";
/// A copy of the library under a fixed name, since the store may have removed it.
const LIBRARY: &str = "library";
/// The largest number of builds of a plugin that are kept.
const MOST_BASES: usize = 6;

/// A build that was kept, read to be compared with another one.
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

impl Replay {
    fn bases(&self, member: &Member<'_>) -> PathBuf {
        self.dir.join("bases").join(&member.plugin.name)
    }

    /// Keeps the input and the objects of the plugin, which was just built as `artifact`. Nothing is kept if
    /// the compiler keeps no objects.
    pub(crate) fn keep_base(
        &self,
        member: &Member<'_>,
        build_id: BuildId,
        artifact: &Path,
    ) -> io::Result<()> {
        let bases = self.bases(member);
        let dir = bases.join(build_id.to_string());
        let (Some(base), Some(objects)) = (self.base(member), self.objects(member)) else {
            return Ok(());
        };
        let made_of = serde_json::to_vec(&base)?;
        if objects_in(&dir).is_ok_and(|kept| ids(&kept) == ids(&objects)) {
            return atomic_file::write(&dir.join(MADE_OF), &made_of);
        }
        fs::create_dir_all(&bases)?;
        let kept = tempfile::Builder::new().prefix(".").tempdir_in(&bases)?;
        for object in objects {
            let name = object.file_name().unwrap_or_default();
            link(&object, &kept.path().join(name))?;
        }
        link(artifact, &kept.path().join(LIBRARY))?;
        fs::write(kept.path().join(MADE_OF), made_of)?;
        // The same code may be there already, from other object files. Those that the compiler goes on with now are
        // kept: whatever is the same file in the next build need not be compared.
        let before = tempfile::Builder::new().prefix(".").tempdir_in(&bases)?;
        match fs::rename(&dir, before.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::rename(kept.path(), &dir)?,
        }
        _ = kept.keep();
        self.forget_bases(&bases, &dir)
    }

    /// The input of the current build of the plugin; `None` if it is not known.
    fn base(&self, member: &Member<'_>) -> Option<Base> {
        let plugin = self.record.plugins.get(&member.plugin.name).filter(|it| !it.is_dropped)?;
        let made = |id: &UnitId| {
            let Unit { invocation, told, compiled, .. } = self.record.units.get(id)?;
            let (invocation, told) = (invocation.clone(), told.clone());
            Some((id.clone(), Made { invocation, told, compiled: compiled.clone() }))
        };
        let units = plugin.units.iter().map(made).collect::<Option<_>>()?;
        Some(Base { units, guards: plugin.guards.clone(), env: plugin.env.clone() })
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

    /// Removes the oldest builds.
    fn forget_bases(&self, bases: &Path, newest: &Path) -> io::Result<()> {
        let age = |path: &PathBuf| fs::metadata(path).and_then(|it| it.modified()).ok();
        let entries = fs::read_dir(bases)?.flatten().map(|entry| entry.path());
        let mut dirs: Vec<_> = entries.filter(|path| path != newest).collect();
        dirs.sort_by_cached_key(age);
        let surplus = (dirs.len() + 1).saturating_sub(MOST_BASES);
        dirs.into_iter().take(surplus).for_each(|dir| drop(fs::remove_dir_all(dir)));
        Ok(())
    }

    /// The hashes of the sources of all kept builds.
    pub(super) fn hashes_of_bases(&self) -> BTreeSet<String> {
        let plugins = fs::read_dir(self.dir.join("bases")).into_iter().flatten().flatten();
        let builds = plugins.flat_map(|plugin| fs::read_dir(plugin.path()).into_iter().flatten());
        let bases = builds.flatten().filter_map(|build| Base::load(&build.path()));
        bases.flat_map(|base| base.hashes().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// The patch that turns the build `from` into the build `to`, the current build of the plugin.
    ///
    /// # Errors
    /// If a kept file cannot be read.
    pub(crate) fn patch(
        &mut self,
        member: &Member<'_>,
        (from, to): (BuildId, BuildId),
    ) -> io::Result<Result<Patch, NotPatched>> {
        let after = self.bases(member).join(to.to_string());
        let Some(now) = Base::load(&after) else { return Ok(Err(NotPatched::NoObjects)) };
        let (library, objects) = (fs::read(after.join(LIBRARY))?, objects_in(&after)?);
        let new = (Some(Build { id: to, library: &library }), &objects[..]);
        // It was read beside the compiler, if a patch was wanted early.
        let read = self.base_read.take().filter(|base| base.id == from);
        let base = match read {
            Some(base) => Some(base),
            None => self.kept_base(member, from)?,
        };
        let Some(base) = base else { return Ok(Err(NotPatched::NothingKept)) };
        let outlines = self.outlines.take().unwrap_or_else(|| Outlines::load(&self.dir));
        let patch = self.patch_to(member, (&base, &outlines), &now, new);
        self.outlines = Some(outlines);
        patch
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
        let dir = self.bases(member).join(id.to_string());
        let Some(made) = Base::load(&dir) else { return Ok(None) };
        // As recently used as the newest.
        fs::File::open(&dir)?.set_modified(std::time::SystemTime::now())?;
        let linked = Linked::read(fs::read(dir.join(LIBRARY))?, &objects_in(&dir)?)?;
        Ok(Some(KeptBase { id, made, linked }))
    }

    /// The patch that makes the plugin, as it was compiled now while its linker still runs, of a build that was kept.
    /// `root` says what its own unit was made of; all else is as it was.
    ///
    /// # Errors
    /// If something that was kept cannot be read.
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
        let plugin = self.record.plugins.get(&member.plugin.name);
        if let Some(made) = plugin.and_then(|plugin| now.units.get_mut(&plugin.root)) {
            made.compiled = root;
        }
        self.patch_to(member, known, &now, (None, &objects))
    }

    fn patch_to(
        &self,
        member: &Member<'_>,
        (base, outlines): (&KeptBase, &Outlines),
        now: &Base,
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
        let functions = changes.functions.into_iter().map(|function| function.name);
        let functions: Vec<_> = functions.collect();
        let plugin = self.record.plugins.get(&member.plugin.name);
        let root = plugin.and_then(|plugin| now.units.get(&plugin.root));
        let libraries = root.map_or(&[][..], |root| &root.compiled.libraries);
        let inputs = now.units.values().flat_map(|made| &made.compiled.inputs);
        let sources: Vec<_> = inputs.map(|input| input.path.clone()).collect();
        let edited = Edited { functions: &functions, sources: &sources };
        let made = patch::make((*from, linked), new, libraries, edited)?;
        Ok(made.map_err(NotPatched::Objects))
    }
}

/// The objects and archives in a directory of a build.
fn objects_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(dir)?.map(|entry| Ok(entry?.path()));
    let paths = paths.collect::<io::Result<Vec<_>>>()?;
    let is_object = |path: &PathBuf| has_extension(path, "o") || has_extension(path, "rlib");
    Ok(paths.into_iter().filter(is_object).collect())
}

/// Whether each of the compiler's `objects` is among the files that the linker was given: the same file, under
/// whatever name.
fn are_linked(objects: &[PathBuf], linked: &[PathBuf]) -> bool {
    let own: Vec<_> = objects.iter().filter(|path| has_extension(path, "o")).cloned().collect();
    let (own, linked) = (ids(&own), ids(linked));
    own.is_some_and(|own| linked.is_some_and(|linked| own.is_subset(&linked)))
}

/// Which files these are, whatever they are called; `None` if one is not there.
fn ids(paths: &[PathBuf]) -> Option<BTreeSet<FileId>> {
    paths.iter().map(|path| FileId::of(path).ok()).collect()
}

/// Whether two builds differ in nothing but sources: the compiler is called alike, and no procedural macro and
/// no build script changed.
fn is_compiled_alike(base: &Base, now: &Base) -> bool {
    let ids = |base: &Base| base.units.keys().cloned().collect::<Vec<_>>();
    let is_same = |(id, now): (&UnitId, &Made)| {
        base.units.get(id).is_some_and(|before| {
            (&before.invocation, &before.told) == (&now.invocation, &now.told)
        })
    };
    let are_guards_same = base.guards.len() == now.guards.len()
        && base.guards.iter().zip(&now.guards).all(|(one, other)| one.has_same_content(other));
    ids(base) == ids(now) && now.units.iter().all(is_same) && are_guards_same && base.env == now.env
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
