//! Takes apart the object files from which a library was linked.
//!
//! An **atom** is something that the linker may place by itself: a function, a static, or a constant that the
//! compiler made. Atoms refer to each other by name, or by number if they have no permanent name.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::{fs, io};

use object::read::ReadCache;
use object::read::archive::ArchiveFile;
use object::read::elf::{ElfFile64, ElfSection64, FileHeader as _, SectionHeader as _};
use object::read::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget};
use object::{LittleEndian, RelocationFlags, SectionFlags, SectionIndex, SymbolKind, elf};

use super::Unpatchable;

/// One object file.
#[derive(Debug, Default)]
pub(super) struct ObjectFile {
    /// The name that the compiler gave it, and that symbols of the linked library contain.
    pub stem: String,
    pub atoms: Vec<Atom>,
    /// The atoms by their names.
    pub by_name: HashMap<String, usize>,
    /// For each section, the offset, size and number of each atom in it, in order.
    pub by_section: Sections,
    /// The content of the file, if it has debug information; otherwise empty.
    pub with_debug: Vec<u8>,
}

/// The atoms in each section: offset, size and number of each, in order.
pub(super) type Sections = HashMap<SectionIndex, Vec<(u64, u64, usize)>>;

/// A function, a static, or a constant.
#[derive(Debug)]
pub(super) struct Atom {
    /// `None` if the compiler made the name up, since such a name may differ in the next build.
    pub name: Option<String>,
    /// Other names of it, or of places in it: the compiler may merge two functions that do the same.
    pub aliases: Vec<String>,
    pub kind: Kind,
    /// Empty for zeroed memory.
    pub bytes: Vec<u8>,
    /// The size in memory.
    pub size: u64,
    pub align: u64,
    pub references: Vec<Reference>,
    /// The unwind information of this function; `None` if it has none, or is not a function.
    pub frame: Option<Frame>,
}

/// The kind of an atom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Code,
    /// A description of a function that the engine calls.
    Function,
    /// Data that never changes.
    Constant,
    /// Data that may change.
    Variable,
    /// Data that each thread has.
    ThreadLocal,
    /// Something that the linker or the loader processes: constructors, and statics of one section.
    Collected,
}

/// A place in an atom that refers to another atom.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub at: u64,
    /// The number of the relocation's type.
    pub form: u32,
    pub to: To,
    pub addend: i64,
}

/// The target of a reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum To {
    /// An atom of the same object.
    Own(usize),
    /// A symbol in this object or elsewhere.
    Named(String),
}

/// The unwind information of a function: its own record (FDE), and the common record (CIE) on which it
/// builds.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub common: Record,
    pub own: Record,
}

/// A record of `.eh_frame`, with its length.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub bytes: Vec<u8>,
    pub references: Vec<Reference>,
}

/// The largest section, and the largest distance of a reference.
const MOST_BYTES: u64 = 1 << 32;

/// Why an object could not be taken apart.
enum Problem {
    /// A compiler did not write it.
    Broken,
    /// It has no machine code, but code of LLVM.
    Bitcode,
    /// It is for another machine.
    Machine,
    /// Something refers to a part of this section, but the start of that part is not known.
    Whole(SectionIndex),
}

/// The error for an object that cannot be read.
fn broken<E>(_: E) -> Problem {
    Problem::Broken
}

/// The first bytes of a file with LLVM's code, without and with a header.
const BITCODE: [[u8; 4]; 2] = [*b"BC\xc0\xde", [0xde, 0xc0, 0x17, 0x0b]];
/// The section of the functions that the engine calls.
const FUNCTIONS: &str = "hotswap_functions";
/// The section without which there is no debug information.
const DEBUG_INFORMATION: &str = ".debug_info";
/// The prefixes of sections that the linker concatenates unchanged.
const COLLECTED: [&str; 6] =
    ["hotswap_", "linkme_", "linkm2_", ".hotswap", ".init_array", ".fini_array"];

impl ObjectFile {
    /// Reads an object file, or all objects in an archive.
    pub(super) fn read(path: &Path) -> io::Result<Result<Vec<Self>, Unpatchable>> {
        let bytes = fs::read(path)?;
        let parsed = match ArchiveFile::parse(&*bytes) {
            Ok(archive) => Self::members(&archive, &bytes),
            Err(_) => Self::parse(&bytes).map(|object| vec![object]),
        };
        Ok(parsed.map_err(|problem| match problem {
            Problem::Machine => Unpatchable::Machine,
            Problem::Bitcode => Unpatchable::LinkTime,
            Problem::Broken | Problem::Whole(_) => Unpatchable::Objects,
        }))
    }

    /// The member of an archive that defines a symbol; `None` if none does.
    pub(super) fn find_in(archive: &Path, symbol: &str) -> Option<Self> {
        let file = ReadCache::new(fs::File::open(archive).ok()?);
        let archive = ArchiveFile::parse(&file).ok()?;
        let symbols = archive.symbols().ok()??;
        let found = symbols.filter_map(Result::ok).find(|it| it.name() == symbol.as_bytes())?;
        let member = archive.member(found.offset()).ok()?;
        Self::member(member.data(&file).ok()?).ok()
    }

    /// The names of the symbols of an object file, or of all objects in an archive; `None` if they cannot be read.
    pub(super) fn symbols(path: &Path) -> io::Result<Option<HashSet<String>>> {
        let bytes = fs::read(path)?;
        let mut names = HashSet::new();
        let read = match ArchiveFile::parse(&*bytes) {
            Ok(archive) => each_object(&archive, &bytes, |object| add_symbols(object, &mut names)),
            Err(_) => add_symbols(&bytes, &mut names),
        };
        Ok(read.is_ok().then_some(names))
    }

    fn members(archive: &ArchiveFile<'_>, bytes: &[u8]) -> Result<Vec<Self>, Problem> {
        let mut objects = Vec::new();
        each_object(archive, bytes, |object| {
            objects.push(Self::parse(object)?);
            Ok(())
        })?;
        Ok(objects)
    }

    /// Reads an object from an archive, where it may lie at any address; it is copied to an aligned one.
    fn member(content: &[u8]) -> Result<Self, Problem> {
        let content = Vec::from(content);
        Self::parse(&content)
    }

    fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let mut whole = HashSet::new();
        loop {
            match Self::cut(bytes, &whole) {
                // Each time it is another section.
                Err(Problem::Whole(section)) if whole.insert(section) => {}
                other => return other,
            }
        }
    }

    /// Takes the object apart, except for sections that have to stay whole.
    fn cut(bytes: &[u8], whole: &HashSet<SectionIndex>) -> Result<Self, Problem> {
        if BITCODE.iter().any(|magic| bytes.starts_with(magic)) {
            return Err(Problem::Bitcode);
        }
        let file = ElfFile64::<LittleEndian>::parse(bytes).map_err(broken)?;
        if file.elf_header().e_machine(file.endian()) != elf::EM_X86_64 {
            return Err(Problem::Machine);
        }
        let mut cut = Cut::of(&file, whole)?;
        let mut references: Vec<Vec<Reference>> = vec![Vec::new(); cut.atoms.len()];
        let loaded = file.sections().filter(|it| cut.by_section.contains_key(&it.index()));
        for section in loaded {
            for reference in cut.references(&file, &section)? {
                if let Some((atom, at)) = cut.atom_at(section.index(), reference.at) {
                    references[atom].push(Reference { at, ..reference });
                }
            }
        }
        for (atom, references) in cut.atoms.iter_mut().zip(references) {
            atom.references = references;
        }
        let frames = frames(&file, &cut)?;
        let Cut { atoms, by_section, names } = cut;
        let stem = file.symbols().find(|symbol| symbol.kind() == SymbolKind::File);
        let stem = stem.and_then(|symbol| symbol.name().ok()).unwrap_or_default().to_owned();
        let has_debug = file.section_by_name(DEBUG_INFORMATION).is_some();
        let with_debug = if has_debug { bytes.to_owned() } else { Vec::new() };
        let by_name = names.into_iter().collect();
        let mut object = Self { stem, atoms, by_name, by_section, with_debug };
        for (function, frame) in frames {
            let function = match function {
                To::Own(atom) => Some(atom),
                To::Named(name) => object.by_name.get(&name).copied(),
            };
            if let Some(function) = function {
                object.atoms[function].frame = Some(frame);
            }
        }
        Ok(object)
    }
}

/// Visits the objects in an archive, where they may lie at any address; each is copied to an aligned one.
fn each_object(
    archive: &ArchiveFile<'_>,
    bytes: &[u8],
    mut visit: impl FnMut(&[u8]) -> Result<(), Problem>,
) -> Result<(), Problem> {
    for member in archive.members() {
        let member = member.map_err(broken)?;
        if member.name().ends_with(b".o") {
            visit(&Vec::from(member.data(bytes).map_err(broken)?))?;
        }
    }
    Ok(())
}

fn add_symbols(object: &[u8], names: &mut HashSet<String>) -> Result<(), Problem> {
    let file = ElfFile64::<LittleEndian>::parse(object).map_err(broken)?;
    for symbol in file.symbols() {
        let name = symbol.name().map_err(broken)?;
        if !name.is_empty() && !names.contains(name) {
            names.insert(name.to_owned());
        }
    }
    Ok(())
}

/// The functions' frame descriptions.
fn frames(file: &ElfFile64<'_, LittleEndian>, cut: &Cut) -> Result<Vec<(To, Frame)>, Problem> {
    let mut frames = Vec::new();
    let Some(section) = file.section_by_name(".eh_frame") else { return Ok(frames) };
    let bytes = section.data().map_err(broken)?;
    let mut references = cut.references(file, &section)?;
    references.sort_by_key(|reference| reference.at);
    let mut records: HashMap<usize, Record> = HashMap::new();
    let mut at = 0;
    while let Some(length) = word(bytes, at) {
        let end = at.saturating_add(4).saturating_add(length);
        if length < 8 || end > bytes.len() {
            break;
        }
        let first = references.partition_point(|it| index(it.at) < at);
        let own = references[first..].iter().take_while(|it| index(it.at) < end);
        let own = own.map(|it| Reference { at: it.at - at as u64, ..it.clone() });
        let record = Record { bytes: bytes[at..end].to_vec(), references: own.collect() };
        let back = word(bytes, at + 4).unwrap_or(0);
        if back == 0 {
            records.insert(at, record);
        } else if let Some(common) = (at + 4).checked_sub(back).and_then(|at| records.get(&at))
            && let Some(begin) = record.references.iter().find(|it| it.at == 8)
        {
            frames.push((begin.to.clone(), Frame { common: common.clone(), own: record }));
        }
        at = end;
    }
    Ok(frames)
}

/// The sections of an object, cut into atoms.
struct Cut {
    atoms: Vec<Atom>,
    by_section: Sections,
    names: Vec<(String, usize)>,
}

impl Cut {
    fn of(
        file: &ElfFile64<'_, LittleEndian>,
        whole: &HashSet<SectionIndex>,
    ) -> Result<Self, Problem> {
        let mut cut = Self { atoms: Vec::new(), by_section: HashMap::new(), names: Vec::new() };
        let mut symbols: HashMap<SectionIndex, Vec<(u64, u64, String)>> = HashMap::new();
        for symbol in file.symbols() {
            if let Some(section) = symbol.section_index()
                && symbol.kind() != SymbolKind::Section
                && symbol.kind() != SymbolKind::File
            {
                let name = symbol.name().map_err(broken)?.to_owned();
                let section_size = file.section_by_index(section).map_err(broken)?.size();
                if symbol.address().checked_add(symbol.size()).is_none_or(|it| it > section_size) {
                    return Err(Problem::Broken);
                }
                symbols.entry(section).or_default().push((symbol.address(), symbol.size(), name));
            }
        }
        for section in file.sections() {
            let SectionFlags::Elf { sh_flags } = section.flags() else { continue };
            let name = section.name().map_err(broken)?;
            if sh_flags & u64::from(elf::SHF_ALLOC) == 0 || name == ".eh_frame" {
                continue;
            }
            if section.size() > MOST_BYTES || section.align() > MOST_BYTES {
                return Err(Problem::Broken);
            }
            let kind = kind_of(name, sh_flags);
            let bytes = section.data().map_err(broken)?;
            let mut symbols = symbols.remove(&section.index()).unwrap_or_default();
            let has = |flag: u32| sh_flags & u64::from(flag) != 0;
            let entry = section.elf_section_header().sh_entsize(LittleEndian);
            match (has(elf::SHF_MERGE), has(elf::SHF_STRINGS)) {
                (true, true) => symbols.extend(strings(bytes)),
                (true, false) => symbols.extend(entries(bytes, entry)),
                _ => {}
            }
            if whole.contains(&section.index()) {
                // Symbols without a size do not divide anything.
                symbols.iter_mut().for_each(|(_, size, _)| *size = 0);
            }
            cut.add(section.index(), (kind, section.align(), section.size()), bytes, symbols);
        }
        Ok(cut)
    }

    /// Cuts a section at its symbols, if they cover it; otherwise the section is one atom.
    fn add(
        &mut self,
        section: SectionIndex,
        (kind, align, size): (Kind, u64, u64),
        bytes: &[u8],
        mut symbols: Vec<(u64, u64, String)>,
    ) {
        symbols.sort();
        let mut starts: Vec<(u64, u64)> = Vec::new();
        for (start, length, _) in symbols.iter().filter(|(_, length, _)| *length > 0) {
            match starts.last_mut() {
                Some((last, longest)) if last == start => *longest = (*longest).max(*length),
                Some((last, length)) if *last + *length > *start => {}
                _ => starts.push((*start, *length)),
            }
        }
        let covered: u64 = starts.iter().map(|(_, length)| length).sum();
        if starts.len() < 2 || covered + align * (starts.len() as u64) < size {
            starts = vec![(0, size)];
        }
        let places = self.by_section.entry(section).or_default();
        for (start, length) in starts {
            let from = |at: u64| index(at).min(bytes.len());
            let number = self.atoms.len();
            places.push((start, length, number));
            let first = symbols.partition_point(|(at, ..)| *at < start);
            let names = symbols[first..].iter().take_while(|(at, ..)| *at < start + length.max(1));
            let stable = names.filter(|(_, _, name)| is_stable_name(name));
            // Other objects of the same build refer to a made-up name, too.
            let shared = symbols[first..].iter().take_while(|(at, ..)| *at == start);
            let shared = shared.filter(|(.., it)| !is_stable_name(it) && promoted(it).is_some());
            self.names.extend(shared.map(|(.., symbol)| (symbol.clone(), number)));
            let (mut name, mut aliases) = (None, Vec::new());
            for (at, _, symbol) in stable {
                let is_begin = *at == start;
                if is_begin {
                    self.names.push((symbol.clone(), number));
                }
                match &name {
                    None if is_begin => name = Some(symbol.clone()),
                    _ => aliases.push(symbol.clone()),
                }
            }
            self.atoms.push(Atom {
                name,
                aliases,
                kind,
                bytes: bytes[from(start)..from(start + length)].to_vec(),
                size: length,
                align: align.max(1),
                references: Vec::new(),
                frame: None,
            });
        }
    }

    fn atom_at(&self, section: SectionIndex, offset: u64) -> Option<(usize, u64)> {
        let places = self.by_section.get(&section)?;
        let after = places.partition_point(|(start, ..)| *start <= offset);
        let (start, length, atom) = places.get(after.checked_sub(1)?)?;
        (offset - start < *length).then(|| (*atom, offset - start))
    }

    /// The references in a section, with their offsets in the section.
    fn references(
        &self,
        file: &ElfFile64<'_, LittleEndian>,
        section: &ElfSection64<'_, '_, LittleEndian>,
    ) -> Result<Vec<Reference>, Problem> {
        let mut references = Vec::new();
        for (at, relocation) in section.relocations() {
            let RelocationFlags::Elf { r_type: form } = relocation.flags() else { continue };
            let RelocationTarget::Symbol(symbol) = relocation.target() else {
                return Err(Problem::Broken);
            };
            let (to, addend) = self.target(file, symbol, form, relocation.addend())?;
            references.push(Reference { at, form, to, addend });
        }
        Ok(references)
    }

    /// The target of a relocation, and the number that is added to its address.
    fn target(
        &self,
        file: &ElfFile64<'_, LittleEndian>,
        symbol: object::SymbolIndex,
        form: u32,
        addend: i64,
    ) -> Result<(To, i64), Problem> {
        if addend.unsigned_abs() > MOST_BYTES {
            return Err(Problem::Broken);
        }
        let symbol = file.symbol_by_index(symbol).map_err(broken)?;
        let name = symbol.name().map_err(broken)?;
        let Some(section) = symbol.section_index() else {
            return Ok((To::Named(name.to_owned()), addend));
        };
        if symbol.kind() != SymbolKind::Section && is_stable_name(name) {
            return Ok((To::Named(name.to_owned()), addend));
        }
        let places = self.by_section.get(&section).ok_or(Problem::Broken)?;
        if let [(start, _, atom)] = places[..] {
            return Ok((self.to(atom), addend + symbol.address() as i64 - start as i64));
        }
        // A section and an offset give the exact place only if nothing else is added.
        let is_section = symbol.kind() == SymbolKind::Section;
        if is_section && form != elf::R_X86_64_64 {
            return Err(Problem::Whole(section));
        }
        let place = symbol.address() as i64 + if is_section { addend } else { 0 };
        let place = u64::try_from(place).map_err(|_| Problem::Whole(section))?;
        let (atom, in_atom) = self.atom_at(section, place).ok_or(Problem::Whole(section))?;
        let start = place - in_atom;
        Ok((self.to(atom), addend + symbol.address() as i64 - start as i64))
    }

    /// A named atom is the same for all references.
    fn to(&self, atom: usize) -> To {
        match self.atoms.get(atom).and_then(|atom| atom.name.clone()) {
            Some(name) => To::Named(name),
            None => To::Own(atom),
        }
    }
}

/// The texts of a section, each of which ends with a zero byte: their offsets, lengths, and no names.
fn strings(bytes: &[u8]) -> impl Iterator<Item = (u64, u64, String)> {
    let texts = bytes.split_inclusive(|byte| *byte == 0).scan(0, |at, text| {
        let start = *at;
        *at += text.len() as u64;
        Some((start, text.len() as u64, String::new()))
    });
    texts.collect::<Vec<_>>().into_iter()
}

/// The constants of a section, each of which has `size` bytes: their offsets, lengths, and no names.
fn entries(bytes: &[u8], size: u64) -> impl Iterator<Item = (u64, u64, String)> {
    let count = (bytes.len() as u64).checked_div(size).unwrap_or(0);
    (0..count).map(move |number| (number * size, size, String::new()))
}

fn kind_of(section: &str, flags: u64) -> Kind {
    let has = |flag: u32| flags & u64::from(flag) != 0;
    if section == FUNCTIONS {
        Kind::Function
    } else if COLLECTED.iter().any(|prefix| section.starts_with(prefix)) {
        Kind::Collected
    } else if has(elf::SHF_EXECINSTR) {
        Kind::Code
    } else if has(elf::SHF_TLS) {
        Kind::ThreadLocal
    } else if has(elf::SHF_WRITE)
        && !section.starts_with(".data.rel.ro")
        && !section.starts_with(".data.DW.ref.")
    {
        Kind::Variable
    } else {
        Kind::Constant
    }
}

/// Whether a symbol has the same name in each build, apart from the number of a [promoted](promoted) one.
pub(super) fn is_stable_name(name: &str) -> bool {
    let made_up = [".L", "anon.", "GCC_except_table"];
    !name.is_empty() && !made_up.iter().any(|prefix| name.starts_with(prefix))
}

/// The name and the number of a symbol that the optimiser promoted: it was local to its object, and others use it
/// now. The number depends on all that its object contains.
pub(super) fn promoted(symbol: &str) -> Option<(&str, &str)> {
    let (name, number) = symbol.rsplit_once(".llvm.")?;
    let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then_some((name, number))
}

/// Whether a static is a part of another one, which the optimiser split: `NAME.0`. A part that has only two values is
/// shortened to one bit, `NAME.0.b`.
pub(super) fn is_part(symbol: &str) -> bool {
    let symbol = promoted(symbol).map_or(symbol, |(name, _)| name);
    symbol.rsplit_once('.').is_some_and(|(_, last)| {
        last == "b" || !last.is_empty() && last.bytes().all(|digit| digit.is_ascii_digit())
    })
}

/// A name for a promoted symbol that is the same in each build, since it has the name of its object.
pub(super) fn lasting(name: &str, stem: &str) -> String {
    format!("{name}.llvm.{stem}")
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*word)).ok()
}

/// An offset into a file in memory.
pub(super) fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_for_optimisation_while_linking_are_recognised() {
        let object = tempfile::NamedTempFile::new().unwrap();
        fs::write(object.path(), b"BC\xc0\xde5\x14\0\0").unwrap();
        assert!(matches!(ObjectFile::read(object.path()), Ok(Err(Unpatchable::LinkTime))));
        fs::write(object.path(), b"no object").unwrap();
        assert!(matches!(ObjectFile::read(object.path()), Ok(Err(Unpatchable::Objects))));
    }
}
