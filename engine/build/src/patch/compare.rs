//! Finds the functions that changed between two builds, and the functions that must be exchanged with them.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use hotswap_artifact::patch::MAX_BYTES;
use iced_x86::{
    Decoder, DecoderOptions, FlowControl, InstructionInfoFactory, Mnemonic, OpKind, Register,
};
use object::elf;

use super::Unpatchable;
use super::object_file::{
    Atom, Frame, Kind, ObjectFile, Reference, To, index, is_part, is_stable_name, lasting, promoted,
};
use crate::outline::ChangedFunction;

/// The objects of one build that were read.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub files: Vec<ObjectFile>,
    /// The definitions of each name. Several objects may have a local function of the same name. Promoted symbols have
    /// a lasting name, too.
    by_name: HashMap<String, Vec<AtomId>>,
    /// For the number of each promoted symbol, the name of the object that defines it.
    promoted_in: HashMap<String, String>,
    /// The atoms that refer to each name, also if no object defines it.
    naming: HashMap<String, Vec<AtomId>>,
    unnamed: HashMap<AtomId, Vec<AtomId>>,
}

/// An atom among all objects of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct AtomId {
    pub file: usize,
    pub atom: usize,
}

/// The differences between a build and its base.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// The functions whose code differs, and all their callers.
    pub exchanged: BTreeSet<AtomId>,
    /// The descriptions of those functions that the engine calls.
    pub entries: BTreeSet<AtomId>,
    /// The exchanged functions that no code in the objects calls.
    pub uncalled: BTreeSet<AtomId>,
}

/// Whether source locations, which panics report, count as a difference.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Locations {
    Count,
    Skip,
}

impl Objects {
    /// Reads objects, and the objects in archives.
    fn read<'p>(paths: impl Iterator<Item = &'p Path>) -> io::Result<Result<Self, Unpatchable>> {
        let mut objects = Self::default();
        for path in paths {
            if let Err(reason) = objects.add_file(path)? {
                return Ok(Err(reason));
            }
        }
        Ok(Ok(objects))
    }

    /// Adds an object, or all objects of an archive.
    fn add_file(&mut self, path: &Path) -> io::Result<Result<(), Unpatchable>> {
        let files = ObjectFile::read(path)?;
        Ok(files.map(|files| files.into_iter().for_each(|file| self.add(file))))
    }

    /// Adds an object.
    pub(super) fn add(&mut self, object: ObjectFile) {
        let file = self.files.len();
        for (name, &atom) in &object.by_name {
            self.by_name.entry(name.clone()).or_default().push(AtomId { file, atom });
            if let Some((plain, number)) = promoted(name) {
                self.promoted_in.entry(number.to_owned()).or_insert_with(|| object.stem.clone());
                let lasting = lasting(plain, &object.stem);
                self.by_name.entry(lasting).or_default().push(AtomId { file, atom });
            }
        }
        for (number, atom) in object.atoms.iter().enumerate() {
            let by = AtomId { file, atom: number };
            for reference in &atom.references {
                let all = match &reference.to {
                    To::Named(name) => self.naming.entry(name.clone()).or_default(),
                    To::Own(atom) => self.unnamed.entry(AtomId { file, atom: *atom }).or_default(),
                };
                if all.last() != Some(&by) {
                    all.push(by);
                }
            }
        }
        self.files.push(object);
    }

    /// Whether one of the objects defines a name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub(super) fn atom(&self, id: AtomId) -> &Atom {
        &self.files[id.file].atoms[id.atom]
    }

    pub(super) fn all(&self) -> impl Iterator<Item = AtomId> + '_ {
        let files = self.files.iter().enumerate();
        files.flat_map(|(file, it)| (0..it.atoms.len()).map(move |atom| AtomId { file, atom }))
    }

    /// The atom to which a reference in an object leads; `None` if no object has it.
    pub(super) fn find(&self, from: usize, to: &To) -> Option<AtomId> {
        match to {
            To::Own(atom) => Some(AtomId { file: from, atom: *atom }),
            To::Named(name) => match self.files[from].by_name.get(name) {
                Some(&atom) => Some(AtomId { file: from, atom }),
                None => self.by_name.get(name)?.first().copied(),
            },
        }
    }

    /// A name that is the same in each build. That of a promoted symbol stays as it is if no object here defines it:
    /// then the object that does is the same file in both builds.
    fn lasting_name<'n>(&self, name: &'n str) -> Cow<'n, str> {
        let found = promoted(name).and_then(|(plain, number)| {
            Some(Cow::Owned(lasting(plain, self.promoted_in.get(number)?)))
        });
        found.unwrap_or(Cow::Borrowed(name))
    }

    /// The atom of a name in the object named `stem`, or otherwise in any object that has one.
    fn counterpart(&self, stem: &str, name: &str) -> Option<AtomId> {
        let (plain, _) = promoted(name).unwrap_or((name, ""));
        // It may be promoted in only one of the builds.
        let promoted = self.by_name.get(&lasting(plain, stem));
        let all = promoted.or_else(|| self.by_name.get(plain))?;
        let same = all.iter().find(|id| self.files[id.file].stem == stem);
        same.or(all.first()).copied()
    }
}

/// Hashes of atoms, computed from their content and their references. A named atom that is referred to counts
/// by its name.
struct Hashes<'a> {
    objects: &'a Objects,
    sources: &'a [PathBuf],
    known: HashMap<(AtomId, Locations), blake3::Hash>,
}

impl<'a> Hashes<'a> {
    fn of(objects: &'a Objects, sources: &'a [PathBuf]) -> Self {
        Self { objects, sources, known: HashMap::new() }
    }

    fn get(&mut self, id: AtomId, locations: Locations) -> blake3::Hash {
        if let Some(hash) = self.known.get(&(id, locations)) {
            return *hash;
        }
        // An unnamed atom that refers to itself counts as nothing at that reference.
        self.known.insert((id, locations), blake3::hash(b"cycle"));
        let atom = self.objects.atom(id);
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{:?} {} ", atom.kind, atom.size).as_bytes());
        if locations == Locations::Count || !self.is_location(id) {
            hasher.update(&atom.bytes);
        }
        self.add(&mut hasher, id.file, &atom.references, locations);
        if let Some(Frame { common, own }) = &atom.frame {
            hasher.update(&common.bytes);
            // The second word says how far away the common record (CIE) is, and the first reference is the
            // function itself. The record is padded with zeros.
            let end = own.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            hasher.update(own.bytes.get(8..end).unwrap_or_default());
            let references = own.references.iter().filter(|it| it.at != 8);
            let references = common.references.iter().chain(references).cloned();
            self.add(&mut hasher, id.file, &references.collect::<Vec<_>>(), locations);
        }
        let hash = hasher.finalize();
        self.known.insert((id, locations), hash);
        hash
    }

    fn add(
        &mut self,
        hasher: &mut blake3::Hasher,
        file: usize,
        references: &[Reference],
        locations: Locations,
    ) {
        for reference in references {
            hasher.update(&reference.at.to_le_bytes());
            hasher.update(&reference.form.to_le_bytes());
            hasher.update(&reference.addend.to_le_bytes());
            let unnamed = match &reference.to {
                To::Named(name) if is_stable_name(name) => None,
                to => self.objects.find(file, to),
            };
            match (unnamed, &reference.to) {
                (Some(id), _) => {
                    let hash = self.get(id, locations);
                    hasher.update(&usize::MAX.to_le_bytes()).update(hash.as_bytes());
                }
                (None, To::Named(name)) => {
                    let name = self.objects.lasting_name(name);
                    hasher.update(&name.len().to_le_bytes()).update(name.as_bytes());
                }
                (None, To::Own(_)) => {}
            }
        }
    }

    /// Whether an atom is a source location as panics report it: the path of a file with its length, a line and a
    /// column.
    fn is_location(&self, id: AtomId) -> bool {
        let atom = self.objects.atom(id);
        let (Kind::Constant, 24, None) = (atom.kind, atom.size, &atom.name) else { return false };
        let [Reference { at: 0, form: elf::R_X86_64_64, addend: 0, to }] = &atom.references[..]
        else {
            return false;
        };
        let Some(path) = self.objects.find(id.file, to).map(|id| self.objects.atom(id)) else {
            return false;
        };
        let length = atom.bytes.get(8..16).and_then(|it| it.first_chunk::<8>());
        let length = length.map_or(0, |length| index(u64::from_le_bytes(*length)));
        let text = path.bytes.get(..length).and_then(|path| std::str::from_utf8(path).ok());
        let is_source = |text: &str| self.sources.iter().any(|source| source.ends_with(text));
        path.references.is_empty() && text.is_some_and(|text| !text.is_empty() && is_source(text))
    }
}

/// The objects of two builds. Objects that the compiler did not make again are the same file in both.
pub(super) struct Pair<'a> {
    pub base: Objects,
    pub new: Objects,
    /// The files that are the same in both builds, and were not read yet.
    same: Vec<&'a ListedFile>,
}

impl<'a> Pair<'a> {
    /// Reads the objects that differ between two builds.
    pub(super) fn read(base: &'a Listed, new: &[PathBuf]) -> io::Result<Result<Self, Unpatchable>> {
        let after = with_file_ids(new)?;
        let is_same =
            |(path, id): &&(PathBuf, FileId)| base.named(path).is_some_and(|file| file.id == *id);
        let (same, differ): (Vec<_>, Vec<_>) = after.iter().partition(is_same);
        let ids: BTreeSet<FileId> = same.iter().map(|(_, id)| *id).collect();
        let (same, gone): (Vec<_>, Vec<_>) =
            base.files.iter().partition(|file| ids.contains(&file.id));
        let objects = (
            Objects::read(gone.into_iter().map(|file| file.path.as_path()))?,
            Objects::read(differ.into_iter().map(|(path, _)| path.as_path()))?,
        );
        let (base, new) = match objects {
            (Ok(base), Ok(new)) => (base, new),
            (Err(reason), _) | (_, Err(reason)) => return Ok(Err(reason)),
        };
        Ok(Ok(Self { base, new, same }))
    }

    /// The name in the base of a symbol that the new object named `stem` defines. A symbol that is promoted in one of the
    /// builds has another name there.
    pub(super) fn name_in_base<'n>(&'n self, stem: &str, name: &'n str) -> &'n str {
        let before = Some(name)
            .filter(|it| is_stable_name(it))
            .and_then(|it| self.base.counterpart(stem, it));
        before.and_then(|id| self.base.atom(id).name.as_deref()).unwrap_or(name)
    }

    /// Reads the objects that are the same in both builds and have a symbol with this name.
    pub(super) fn read_mentioning(&mut self, name: &str) -> io::Result<Result<(), Unpatchable>> {
        let mentioning: Vec<_> = self.same.extract_if(.., |file| file.mentions(name)).collect();
        for file in mentioning {
            if let Err(reason) = self.new.add_file(&file.path)? {
                return Ok(Err(reason));
            }
        }
        Ok(Ok(()))
    }
}

/// The objects of a build that is compared with another one, in the order of their names.
#[derive(Debug)]
pub(super) struct Listed {
    files: Vec<ListedFile>,
}

#[derive(Debug)]
struct ListedFile {
    path: PathBuf,
    id: FileId,
    /// The names of its symbols; `None` if they cannot be read.
    symbols: Option<HashSet<String>>,
}

impl ListedFile {
    fn mentions(&self, name: &str) -> bool {
        self.symbols.as_ref().is_none_or(|symbols| symbols.contains(name))
    }
}

impl Listed {
    /// Reads the names of their symbols.
    pub(super) fn read(paths: &[PathBuf]) -> io::Result<Self> {
        let mut files = Vec::new();
        for (path, id) in with_file_ids(paths)? {
            let symbols = ObjectFile::symbols(&path)?;
            files.push(ListedFile { path, id, symbols });
        }
        Ok(Self { files })
    }

    /// The file with the same name as `path`.
    fn named(&self, path: &Path) -> Option<&ListedFile> {
        let at = self.files.binary_search_by_key(&path.file_name(), |file| file.path.file_name());
        at.ok().map(|at| &self.files[at])
    }
}

/// The identity of a file whose content nobody changes. It shows whether two names belong to the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// Files with their identities, sorted by file name, so that the result does not depend on their directory.
fn with_file_ids(paths: &[PathBuf]) -> io::Result<Vec<(PathBuf, FileId)>> {
    let identify = |path: &PathBuf| Ok((path.clone(), FileId::of(path)?));
    let mut identified = paths.iter().map(identify).collect::<io::Result<Vec<_>>>()?;
    identified.sort_by(|(one, _), (other, _)| one.file_name().cmp(&other.file_name()));
    Ok(identified)
}

/// What is known from the sources about a build.
#[derive(Clone, Copy)]
pub(crate) struct Edited<'a> {
    /// The functions whose bodies changed.
    pub functions: &'a [ChangedFunction],
    /// The files from which the build was compiled.
    pub sources: &'a [PathBuf],
    /// Whether the compiler optimised.
    pub is_optimised: bool,
}

/// Compares a build with its base.
pub(super) fn compare(
    pair: &mut Pair<'_>,
    edited: Edited<'_>,
) -> io::Result<Result<Difference, Unpatchable>> {
    let roots = match changed(&pair.base, &pair.new, edited) {
        Ok(roots) => roots,
        Err(reason) => return Ok(Err(reason)),
    };
    let difference = reach(pair, roots)?;
    Ok(difference.and_then(|difference| {
        expect_not_kept(pair, &difference.exchanged)?;
        if edited.is_optimised {
            expect_no_removed_address(pair)?;
        }
        Ok(difference)
    }))
}

/// The functions whose code differs.
fn changed(base: &Objects, new: &Objects, edited: Edited<'_>) -> Result<Vec<AtomId>, Unpatchable> {
    let mut before = Hashes::of(base, edited.sources);
    let mut after = Hashes::of(new, edited.sources);
    let (mut roots, mut all_have_code) = (Vec::new(), None);
    for id in new.all() {
        let atom = new.atom(id);
        let stem = &new.files[id.file].stem;
        // One of its names may have belonged to another function.
        for alias in atom.aliases.iter().filter(|_| atom.kind == Kind::Code) {
            let old = base.counterpart(stem, alias);
            let mut is_same =
                |old| before.get(old, Locations::Count) == after.get(id, Locations::Count);
            if !old.is_none_or(&mut is_same) {
                return Err(Unpatchable::Alias(alias.clone()));
            }
        }
        let Some(name) = &atom.name else {
            if atom.kind == Kind::Collected {
                expect_collected(base, &mut before, after.get(id, Locations::Count))?;
            }
            continue;
        };
        let Some(old) = base.counterpart(stem, name) else {
            match atom.kind {
                // A function that needs it has then changed, too.
                Kind::Code | Kind::Constant => {}
                Kind::Function | Kind::Variable | Kind::ThreadLocal | Kind::Collected => {
                    return Err(Unpatchable::NewStatic(name.clone()));
                }
            }
            continue;
        };
        if before.get(old, Locations::Count) == after.get(id, Locations::Count) {
            continue;
        }
        // If only source locations differ, the code stays as it is, with its old locations. This does not apply to
        // edited functions, whose constants may look like locations, nor to functions in which one of them may be
        // inlined.
        if !is_edited(name, edited.functions)
            && before.get(old, Locations::Skip) == after.get(id, Locations::Skip)
            && *all_have_code.get_or_insert_with(|| have_code(new, edited.functions))
        {
            continue;
        }
        match atom.kind {
            Kind::Code => roots.push(id),
            _ if is_event(name) && is_moved_event((&mut before, old), (&mut after, id)) => {}
            _ => return Err(Unpatchable::ChangedStatic(name.clone())),
        }
    }
    if edited.is_optimised {
        expect_statics(base, new)?;
        let edited = Some(edited.functions).filter(|_| !roots.is_empty());
        expect_whole_statics((base, &mut before), (new, &mut after), edited)?;
        expect_whole_statics((new, &mut after), (base, &mut before), edited)?;
    }
    Ok(roots)
}

/// Refuses a build that lacks a static of its base, or in which a function no longer uses a thread-local. If nothing in
/// the new code writes to a static, the optimiser replaces what reads it by its first value, but the running version may
/// have written another one. A static that remains after that is a constant then, but a thread-local looks as before.
fn expect_statics(base: &Objects, new: &Objects) -> Result<(), Unpatchable> {
    for id in base.all() {
        let Atom { kind: kind @ (Kind::Variable | Kind::ThreadLocal), name: Some(name), .. } =
            base.atom(id)
        else {
            continue;
        };
        let gone = || Unpatchable::GoneStatic(name.clone());
        let now = counterpart_in(new, base, id).ok_or_else(gone)?;
        if *kind == Kind::ThreadLocal {
            let users: BTreeSet<AtomId> = referring(new, now).map(|(by, _)| by).collect();
            let is_user = |by| counterpart_in(new, base, by).is_some_and(|by| users.contains(&by));
            if !referring(base, id).all(|(by, _)| is_user(by)) {
                return Err(gone());
            }
        }
    }
    Ok(())
}

/// Refuses builds in which an edited function, or code that changed, uses a part of a static that the optimiser split. It
/// numbers only the parts that are used, so the same number, in the same code, may be another part in the other build.
/// `edited` is `None` if no code changed: then a function whose edit has no other effect may be part of any code.
fn expect_whole_statics(
    (objects, hashes): (&Objects, &mut Hashes<'_>),
    (others, of_others): (&Objects, &mut Hashes<'_>),
    edited: Option<&[ChangedFunction]>,
) -> Result<(), Unpatchable> {
    for id in objects.all() {
        let Atom { kind: Kind::Variable | Kind::ThreadLocal, name: Some(name), .. } =
            objects.atom(id)
        else {
            continue;
        };
        if !is_part(name) {
            continue;
        }
        let is_edited = |by| {
            let name = objects.atom(by).name.as_ref().zip(edited);
            name.is_none_or(|(name, edited)| is_edited(name, edited))
        };
        let mut is_same = |by| {
            !is_edited(by)
                && counterpart_in(others, objects, by).is_some_and(|other| {
                    hashes.get(by, Locations::Count) == of_others.get(other, Locations::Count)
                })
        };
        if !referring(objects, id).all(|(by, _)| is_same(by)) {
            return Err(Unpatchable::SplitStatic(name.clone()));
        }
    }
    Ok(())
}

/// Whether a symbol belongs to a function whose body changed, as far as its name shows.
fn is_edited(symbol: &str, functions: &[ChangedFunction]) -> bool {
    let readable = readable(symbol);
    let words: HashSet<&str> = words(&readable).collect();
    functions.iter().any(|function| words.contains(last_of(&function.name)))
}

/// Whether all these functions have code of their own. A function has none if it was inlined everywhere.
fn have_code(objects: &Objects, functions: &[ChangedFunction]) -> bool {
    let code = objects.all().map(|id| objects.atom(id)).filter(|atom| atom.kind == Kind::Code);
    let mut paths: HashMap<String, Vec<Vec<String>>> = HashMap::new();
    for path in code.filter_map(|atom| own_path(atom.name.as_ref()?)) {
        let name = path.last().cloned().unwrap_or_default();
        paths.entry(name).or_default().push(path);
    }
    functions.iter().all(|function| {
        let named = paths.get(last_of(&function.name));
        named.is_some_and(|paths| paths.iter().any(|path| is_path_of(path, function)))
    })
}

/// Whether this may be the path of a function in the sources. A function in a module is found by its whole path. The
/// path of a method names its type and its trait in different forms, so only the names in it count.
fn is_path_of(path: &[String], function: &ChangedFunction) -> bool {
    if is_name(&function.name) {
        let modules = modules_of(&function.file).into_iter();
        return path.iter().skip(1).eq(modules.chain([&*function.name]));
    }
    let there: HashSet<&str> = path.iter().flat_map(|part| words(part)).collect();
    let is_there = |word: &str| KEYWORDS.contains(&word) || there.contains(word);
    words(&without_arguments(&function.name)).all(is_there)
}

/// The words in the name of a method that are not names.
const KEYWORDS: [&str; 5] = ["for", "dyn", "mut", "const", "impl"];

/// The name of a method without the arguments of generic types in it.
fn without_arguments(method: &str) -> String {
    // `<Display for Score>::fmt`
    let all = method.strip_prefix('<').unwrap_or(method);
    let mut depth = 0;
    let mut is_outside = |letter: &char| {
        match letter {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ => {}
        }
        depth <= 0
    };
    all.chars().filter(|letter| is_outside(letter)).collect()
}

/// The modules that a file usually contains, from the root of its crate.
fn modules_of(file: &Path) -> Vec<&str> {
    let parts: Vec<&str> = file.iter().filter_map(|part| part.to_str()).collect();
    let from = parts
        .iter()
        .rposition(|part| *part == "src")
        .map_or(parts.len().saturating_sub(1), |at| at + 1);
    let modules = parts.get(from..).unwrap_or_default().iter();
    let modules = modules.map(|part| part.strip_suffix(".rs").unwrap_or(part));
    modules.filter(|module| !["lib", "main", "mod"].contains(module)).collect()
}

/// The path of a function, without its type parameters. A closure has that of its function.
fn own_path(symbol: &str) -> Option<Vec<String>> {
    let path = path_of(symbol);
    let parts = path.split("::").filter(|part| !part.starts_with('{'));
    let parts: Vec<String> = parts.map(ToOwned::to_owned).collect();
    (!parts.is_empty()).then_some(parts)
}

/// The last part of the name of a function in the sources.
fn last_of(function: &str) -> &str {
    function.rsplit("::").next().unwrap_or(function)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|it: char| !is_of_name(it)).filter(|word| !word.is_empty())
}

fn is_name(text: &str) -> bool {
    text.chars().all(is_of_name)
}

fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Items without names that the linker collects must exist in the base, too.
fn expect_collected(
    base: &Objects,
    before: &mut Hashes<'_>,
    hash: blake3::Hash,
) -> Result<(), Unpatchable> {
    let is_it = |id: AtomId| base.atom(id).kind == Kind::Collected && base.atom(id).name.is_none();
    let all: Vec<_> = base.all().filter(|id| is_it(*id)).collect();
    match all.into_iter().any(|id| before.get(id, Locations::Count) == hash) {
        true => Ok(()),
        false => Err(Unpatchable::Collected),
    }
}

/// Whether a symbol is the description of a `tracing` event.
fn is_event(symbol: &str) -> bool {
    symbol.contains("__CALLSITE") && path_of(symbol).ends_with("::__CALLSITE::META")
}

/// Whether the descriptions of a `tracing` event differ only in the line. The line is in the event's name,
/// such as `event src/lib.rs:12`, and also in a number of its own.
fn is_moved_event(
    (before, old): (&mut Hashes<'_>, AtomId),
    (after, new): (&mut Hashes<'_>, AtomId),
) -> bool {
    let (old_atom, new_atom) = (before.objects.atom(old), after.objects.atom(new));
    let are_alike = (old_atom.kind, old_atom.size) == (new_atom.kind, new_atom.size)
        && old_atom.references.len() == new_atom.references.len();
    let (Some(from), Some(to)) = (event(before.objects, old), event(after.objects, new)) else {
        return false;
    };
    if !are_alike || (from.at, &from.file) != (to.at, &to.file) {
        return false;
    }
    let references = old_atom.references.iter().zip(&new_atom.references);
    for (one, other) in references.filter(|(one, _)| one.at != from.at) {
        let are_same = (one.at, one.form, one.addend) == (other.at, other.form, other.addend)
            && match (&one.to, &other.to) {
                (To::Named(one), To::Named(other)) => {
                    before.objects.lasting_name(one) == after.objects.lasting_name(other)
                }
                (To::Own(one), To::Own(other)) => {
                    let one = AtomId { file: old.file, atom: *one };
                    let other = AtomId { file: new.file, atom: *other };
                    before.get(one, Locations::Count) == after.get(other, Locations::Count)
                }
                _ => false,
            };
        if !are_same {
            return false;
        }
    }
    let words = old_atom.bytes.chunks(4).zip(new_atom.bytes.chunks(4)).enumerate();
    let length = index(from.at + 8) / 4;
    words.filter(|(_, (one, other))| one != other).all(|(at, (one, other))| {
        let is_line = one == from.line.to_le_bytes() && other == to.line.to_le_bytes();
        // The length of the name, which contains the line.
        is_line || at == length
    })
}

/// The name of an event.
struct Event {
    /// The offset of the reference to it.
    at: u64,
    file: Vec<u8>,
    line: u32,
}

fn event(objects: &Objects, id: AtomId) -> Option<Event> {
    let atom = objects.atom(id);
    let mut names = atom.references.iter().filter_map(|reference| {
        let text = objects.find(id.file, &reference.to).map(|id| objects.atom(id))?;
        let length = atom.bytes.get(index(reference.at) + 8..)?.first_chunk::<8>()?;
        let name = text.bytes.get(..index(u64::from_le_bytes(*length)))?;
        let name = name.strip_prefix(b"event ")?;
        let colon = name.iter().rposition(|byte| *byte == b':')?;
        let line = std::str::from_utf8(&name[colon + 1..]).ok()?.parse().ok()?;
        Some(Event { at: reference.at, file: name[..colon].to_vec(), line })
    });
    names.next()
}

/// Goes from the changed functions up to those that the engine calls.
fn reach(pair: &mut Pair<'_>, roots: Vec<AtomId>) -> io::Result<Result<Difference, Unpatchable>> {
    let mut difference = Difference::default();
    let (mut open, mut bytes) = (roots, 0);
    while let Some(id) = open.pop() {
        if !difference.exchanged.insert(id) {
            continue;
        }
        if let Some(name) = pair.new.atom(id).name.clone()
            && let Err(reason) = pair.read_mentioning(&name)?
        {
            return Ok(Err(reason));
        }
        bytes += pair.new.atom(id).bytes.len();
        match callers(&pair.new, id) {
            Ok(_) if bytes > MAX_BYTES => return Ok(Err(Unpatchable::TooLarge(bytes))),
            Ok(callers) => {
                if callers.functions.is_empty() && callers.entries.is_empty() {
                    difference.uncalled.insert(id);
                }
                open.extend(callers.functions);
                difference.entries.extend(callers.entries);
            }
            Err(reason) => return Ok(Err(reason)),
        }
    }
    Ok(Ok(difference))
}

/// The callers of a function.
#[derive(Default)]
struct Callers {
    functions: Vec<AtomId>,
    /// The descriptions through which the engine calls it.
    entries: Vec<AtomId>,
}

/// The callers of a function that is to be exchanged; an error if its address may be stored somewhere.
fn callers(new: &Objects, id: AtomId) -> Result<Callers, Unpatchable> {
    let function = new.atom(id);
    if let Some(alias) = function.aliases.first() {
        return Err(Unpatchable::Alias(alias.clone()));
    }
    let taken =
        |by: &Atom| Unpatchable::AddressTaken { function: name_of(function), by: name_of(by) };
    if takes_own_address(function) {
        return Err(taken(function));
    }
    let mut callers = Callers::default();
    for (by, reference) in referring(new, id) {
        let atom = new.atom(by);
        match atom.kind {
            // It calls itself.
            Kind::Code if by == id && is_call(atom, reference) => {}
            Kind::Code if is_call(atom, reference) || is_lent(function, atom) => {
                callers.functions.push(by);
            }
            Kind::Code => return Err(taken(atom)),
            Kind::Function => callers.entries.push(by),
            Kind::Constant if is_jump_table(new, by, id) => {}
            Kind::Constant | Kind::Variable | Kind::ThreadLocal | Kind::Collected => {
                return Err(Unpatchable::AddressStored { function: name_of(function) });
            }
        }
    }
    Ok(callers)
}

/// Refuses functions whose address the running version may have stored, even if the new build does not store it any
/// more. Their callers are exchanged too, or only the base has them, such as a closure that was removed.
fn expect_not_kept(pair: &Pair<'_>, exchanged: &BTreeSet<AtomId>) -> Result<(), Unpatchable> {
    let (base, new) = (&pair.base, &pair.new);
    let mut gone = HashSet::new();
    // The functions, each with its atom in the base if that object was compiled again.
    let before = |id: &AtomId| (new.atom(*id), counterpart_in(base, new, *id));
    let mut open: Vec<(&Atom, Option<AtomId>)> = exchanged.iter().map(before).collect();
    while let Some((function, id)) = open.pop() {
        let kept = || Unpatchable::AddressKept { function: name_of(function) };
        if id.is_some_and(|id| takes_own_address(base.atom(id))) {
            return Err(kept());
        }
        let references: Vec<_> = match id {
            Some(id) => referring(base, id).collect(),
            None => references_by_name(base, function).collect(),
        };
        for (by, reference) in references {
            let caller = base.atom(by);
            match caller.kind {
                Kind::Code if Some(by) == id && is_call(caller, reference) => {}
                Kind::Code if is_call(caller, reference) || is_lent(function, caller) => {
                    if counterpart_in(new, base, by).is_none() && gone.insert(by) {
                        open.push((caller, Some(by)));
                    }
                }
                Kind::Function => {}
                Kind::Constant if id.is_some_and(|id| is_jump_table(base, by, id)) => {}
                _ => return Err(kept()),
            }
        }
    }
    Ok(())
}

/// Refuses an optimised build that lacks a function whose address is in data of the base, or is taken by code of it. The
/// running version may have stored it, such as the table of a closure: an edited function may be inlined in it, so that
/// nothing refers to that one.
fn expect_no_removed_address(pair: &Pair<'_>) -> Result<(), Unpatchable> {
    let (base, new) = (&pair.base, &pair.new);
    for id in base.all() {
        let function = base.atom(id);
        if function.kind != Kind::Code
            || function.name.is_none()
            || counterpart_in(new, base, id).is_some()
        {
            continue;
        }
        let is_kept = |(by, reference): (AtomId, &Reference)| {
            let user = base.atom(by);
            match user.kind {
                Kind::Code => {
                    !is_call(user, reference) && !is_lent(function, user) && !formats(function)
                }
                Kind::Function => false,
                _ => !is_jump_table(base, by, id),
            }
        };
        if referring(base, id).any(is_kept) {
            return Err(Unpatchable::AddressKept { function: name_of(function) });
        }
    }
    Ok(())
}

/// The atom of another build, among these objects, with the same name.
fn counterpart_in(objects: &Objects, others: &Objects, id: AtomId) -> Option<AtomId> {
    objects.counterpart(&others.files[id.file].stem, others.atom(id).name.as_ref()?)
}

/// The references to the name of a function that none of these objects defines.
fn references_by_name<'o>(
    objects: &'o Objects,
    function: &'o Atom,
) -> impl Iterator<Item = (AtomId, &'o Reference)> {
    let name = function.name.as_ref();
    let all = name.and_then(|name| objects.naming.get(name)).into_iter().flatten();
    let references =
        all.flat_map(|by| objects.atom(*by).references.iter().map(move |it| (*by, it)));
    references.filter(move |(_, it)| matches!(&it.to, To::Named(to) if Some(to) == name))
}

/// Whether a function computes its own address, for which the assembler needs no relocation.
fn takes_own_address(function: &Atom) -> bool {
    let mut code = Decoder::with_ip(64, &function.bytes, 0, DecoderOptions::NONE);
    let is_referred_to = |begin: u64, end: u64| {
        function.references.iter().any(|reference| (begin..end).contains(&reference.at))
    };
    code.iter().any(|instruction| {
        instruction.is_ip_rel_memory_operand()
            && instruction.ip_rel_memory_address() == 0
            && !is_referred_to(instruction.ip(), instruction.next_ip())
    })
}

/// Whether a constant is a jump table of a function: distances to places in the function, which only the
/// function reads.
fn is_jump_table(objects: &Objects, table: AtomId, function: AtomId) -> bool {
    let atom = objects.atom(table);
    let is_distance = |reference: &Reference| {
        reference.form == elf::R_X86_64_PC32
            && objects.find(table.file, &reference.to) == Some(function)
    };
    atom.name.is_none()
        && atom.references.iter().all(is_distance)
        && referring(objects, table).all(|(by, _)| by == function)
}

/// The references to an atom.
fn referring(objects: &Objects, id: AtomId) -> impl Iterator<Item = (AtomId, &Reference)> {
    let atom = objects.atom(id);
    let names = atom.name.iter().chain(&atom.aliases);
    let naming = names.filter_map(|name| objects.naming.get(name)).flatten();
    let unnamed = objects.unnamed.get(&id).into_iter().flatten();
    let all: BTreeSet<AtomId> = naming.chain(unnamed).copied().collect();
    let references = all
        .into_iter()
        .flat_map(|by| objects.atom(by).references.iter().map(move |reference| (by, reference)));
    references.filter(move |(by, reference)| objects.find(by.file, &reference.to) == Some(id))
}

/// Whether code only jumps to the target of a reference, and keeps no address of it.
fn is_call(atom: &Atom, reference: &Reference) -> bool {
    let at = index(reference.at);
    let before = |count: usize| at.checked_sub(count).and_then(|from| atom.bytes.get(from..at));
    let is_direct = || matches!(before(1), Some([0xe8 | 0xe9]));
    let is_conditional = || matches!(before(2), Some([0x0f, 0x80..=0x8f]));
    let is_indirect = || matches!(before(2), Some([0xff, 0x15 | 0x25]));
    match reference.form {
        elf::R_X86_64_PLT32 | elf::R_X86_64_PC32 => is_direct() || is_conditional(),
        elf::R_X86_64_GOTPCREL | elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX => {
            is_indirect() || at.checked_sub(3).is_some_and(|from| is_loaded_to_call(atom, from))
        }
        _ => false,
    }
}

/// Whether the instruction at `from` loads an address into a register that is used only for one call soon
/// after.
fn is_loaded_to_call(atom: &Atom, from: usize) -> bool {
    /// The registers that a called function may change and that hold no argument: after the call, the address
    /// is lost.
    const LOST: [Register; 3] = [Register::RAX, Register::R10, Register::R11];
    let mut code =
        Decoder::new(64, atom.bytes.get(from..).unwrap_or_default(), DecoderOptions::NONE);
    let load = code.decode();
    let register = load.op0_register();
    let is_load = load.mnemonic() == Mnemonic::Mov && load.is_ip_rel_memory_operand();
    if !is_load || !LOST.contains(&register) {
        return false;
    }
    let mut infos = InstructionInfoFactory::new();
    for instruction in code.iter() {
        let is_it =
            instruction.op0_kind() == OpKind::Register && instruction.op0_register() == register;
        match instruction.flow_control() {
            FlowControl::IndirectCall | FlowControl::IndirectBranch => return is_it,
            FlowControl::Next => {}
            _ => return false,
        }
        let mut used = infos.info(&instruction).used_registers().iter();
        if used.any(|used| used.register().full_register() == register) {
            return false;
        }
    }
    false
}

/// Whether this caller passes the address of a function only to code that does not keep it after the call. This
/// applies to the function that `catch_unwind` passes to the compiler's own `try`, and to a closure on a value of
/// the DataBag, which the engine calls before it returns.
fn is_lent(function: &Atom, by: &Atom) -> bool {
    let path = |atom: &Atom| atom.name.as_deref().map(path_of).unwrap_or_default();
    let function = path(function);
    let is_caught = function.starts_with("std::panicking::")
        && (function.ends_with("::do_call") || function.ends_with("::do_catch"));
    is_caught
        || function == "hotswap_plugin::vault::raw::run"
            && path(by) == "hotswap_plugin::vault::raw::ValueCallback::new"
}

/// Whether this function writes a value as text. Code takes the address of such a function only to format something, and
/// does not keep it.
fn formats(function: &Atom) -> bool {
    function.name.as_deref().is_some_and(|name| path_of(name).ends_with("::fmt"))
}

/// The path of a symbol without type parameters. It is the same in both forms of symbols (`-C
/// symbol-mangling-version`), of which only one contains them.
fn path_of(symbol: &str) -> String {
    let readable = readable(symbol);
    let path = readable.split("::<").next().unwrap_or_default();
    path.trim_start_matches('<').replace(">::", "::")
}

/// The readable name of an atom.
pub(super) fn name_of(atom: &Atom) -> String {
    match &atom.name {
        Some(name) => readable(name),
        None => "a function without a name".to_owned(),
    }
}

/// A symbol as it is written in the source: `world::greet`.
pub(super) fn readable(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_by_its_path() {
        let is_it = |symbol: &str, file: &str, name: &str| {
            let function = ChangedFunction { name: name.into(), file: file.into(), bound: None };
            is_path_of(&own_path(symbol).unwrap(), &function)
        };
        let (top, deep) =
            ("_ZN5world5place17h0123456789abcdefE", "_ZN5world1a5place17h0123456789abcdefE");
        assert!(is_it(top, "world/src/lib.rs", "place"));
        assert!(is_it(deep, "world/src/lib.rs", "a::place"));
        assert!(is_it(deep, "world/src/a.rs", "place") && is_it(deep, "src/a/mod.rs", "place"));
        assert!(!is_it(deep, "world/src/lib.rs", "place") && !is_it(top, "src/a.rs", "place"));
        assert!(!is_it(top, "world/src/lib.rs", "a::place"));
        assert!(is_it("_RNvNtCs3n0nSHTitgS_5world1a5place", "world/src/a.rs", "place"));
        let method =
            "_ZN51_$LT$world..Score$u20$as$u20$core..fmt..Display$GT$3fmt17h0123456789abcdefE";
        assert!(is_it(method, "src/a.rs", "<fmt::Display for Score>::fmt"));
        assert!(!is_it(method, "src/a.rs", "<fmt::Debug for Score>::fmt"));
        let generic = "_ZN5world13List$LT$T$GT$3len17h0123456789abcdefE";
        assert!(is_it(generic, "src/lib.rs", "List<T>::len"));
        assert!(is_it(generic, "src/lib.rs", "List<Item>::len"));
        assert!(!is_it(generic, "src/lib.rs", "Text::len"));
    }

    #[test]
    fn both_forms_of_a_symbol_have_the_same_path() {
        let symbols = [
            "_ZN3std9panicking12catch_unwind7do_call17hfe02b0a874b2ea01E",
            "_RINvNvNtCsjrHSEGnQ3l9_3std9panicking12catch_unwind7do_callNCNvCs3n0nSHTitgS_2tr6caught0mEBY_",
            "_RINvMs5_NtNtCslur8hmHfYdA_14hotswap_plugin5vault3rawNtB6_13ValueCallback3newQNCINvMs3_B8_NtB8_7DataBag\
             6updateyyNCNvCscG7OZgIgJvq_7greeter5count0NCB1N_s_0E0yINtNtCsgEmfK2I1SDS_4core6option6OptionyEEB1P_",
            "_RINvNtNtCslur8hmHfYdA_14hotswap_plugin5vault3raw3runQNCINvMs3_B4_NtB4_7DataBag6updateyyNCNvCscG7OZgIgJvq_\
             7greeter5count0NCB1p_s_0E0yINtNtCsgEmfK2I1SDS_4core6option6OptionyEEB1r_",
        ];
        assert_eq!(
            symbols.map(path_of),
            [
                "std::panicking::catch_unwind::do_call",
                "std::panicking::catch_unwind::do_call",
                "hotswap_plugin::vault::raw::ValueCallback::new",
                "hotswap_plugin::vault::raw::run",
            ]
        );
        assert!(is_event("_ZN2tr5greet10__CALLSITE4META17hc65c23e13778862bE"));
        assert!(is_event("_RNvNvNvCs3n0nSHTitgS_2tr5greet10___CALLSITE4META"));
    }
}
