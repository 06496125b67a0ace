//! The file that names the functions of a patch, for backtraces.
//!
//! It is an ELF file with a symbol table. If the objects of the functions have debug information, the file has it
//! too, because the linker strips it from the library, but not from the objects. Information about functions that
//! are not in the patch stays in it, without an address.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hotswap_artifact::patch::{MAX_SYMBOL_BYTES, PAGE};
use object::elf::{self, FileHeader64, Ident, SectionHeader64, Sym64};
use object::pod::bytes_of;
use object::read::elf::ElfFile64;
use object::read::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget};
use object::{LittleEndian, RelocationFlags, SectionFlags, SectionIndex, U16, U32, U64};

use super::compare::{AtomId, Objects};
use super::object_file::{Kind, ObjectFile, index};

/// The byte order of all numbers.
const LE: LittleEndian = LittleEndian;

/// The address for everything that is not in the patch. Readers skip it; -1 has another meaning in some lists.
const NOWHERE: u64 = u64::MAX - 1;

/// The file for atoms at these offsets in the content of a patch.
pub(super) fn file(objects: &Objects, placed: &HashMap<AtomId, usize>) -> Vec<u8> {
    let functions = functions(objects, placed);
    if functions.is_empty() {
        return Vec::new();
    }
    let (symbols, names) = symbol_table(&functions);
    let mut debug = Debug::default();
    let files: BTreeSet<usize> = functions.iter().map(|function| function.id.file).collect();
    for file in files {
        debug.add(file, &objects.files[file], placed);
    }
    let mut writer = Writer::default();
    let strings = writer.section(b".strtab", elf::SHT_STRTAB, &names, Table::default());
    let table = Table { names: strings, entry_bytes: size_of::<Sym64<LittleEndian>>() as u64 };
    writer.section(b".symtab", elf::SHT_SYMTAB, &symbols, table);
    let bytes: usize = debug.sections.values().map(Vec::len).sum();
    // The limit leaves room for the headers, which are smaller than the content.
    if bytes + symbols.len() + names.len() <= MAX_SYMBOL_BYTES / 2 {
        for (name, content) in &debug.sections {
            writer.section(name, elf::SHT_PROGBITS, content, Table::default());
        }
    }
    writer.end()
}

/// A function of the patch.
struct Function<'a> {
    id: AtomId,
    name: &'a str,
    address: u64,
    size: u64,
}

/// The functions, sorted by address.
fn functions<'a>(objects: &'a Objects, placed: &HashMap<AtomId, usize>) -> Vec<Function<'a>> {
    let named = |(&id, &at): (&AtomId, &usize)| {
        let atom = objects.atom(id);
        let name = atom.name.as_deref().filter(|_| atom.kind == Kind::Code)?;
        Some(Function { id, name, address: (PAGE + at) as u64, size: atom.size })
    };
    let mut functions: Vec<_> = placed.iter().filter_map(named).collect();
    functions.sort_by_key(|function| function.address);
    functions
}

/// The symbol table, and the string table with the names.
fn symbol_table(functions: &[Function<'_>]) -> (Vec<u8>, Vec<u8>) {
    let mut names = vec![0];
    let mut symbols = vec![0; size_of::<Sym64<LittleEndian>>()];
    for function in functions {
        let symbol = Sym64 {
            st_name: U32::new(LE, names.len() as u32),
            st_info: (elf::STB_GLOBAL << 4) | elf::STT_FUNC,
            st_other: 0,
            st_shndx: U16::new(LE, elf::SHN_ABS),
            st_value: U64::new(LE, function.address),
            st_size: U64::new(LE, function.size),
        };
        symbols.extend(bytes_of(&symbol));
        names.extend(function.name.as_bytes());
        names.push(0);
    }
    (symbols, names)
}

/// The debug information of several objects, by section.
#[derive(Default)]
struct Debug {
    sections: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Debug {
    /// Adds the debug information of an object. If a part cannot be read, backtraces only lack source locations.
    fn add(&mut self, number: usize, object: &ObjectFile, placed: &HashMap<AtomId, usize>) {
        if let Some(sections) = filled_in(number, object, placed, &self.sections) {
            for section in sections {
                let all = self.sections.entry(section.name).or_default();
                all.resize(section.begin, 0);
                all.extend(section.content);
            }
        }
    }
}

/// A section of an object's debug information.
struct DebugSection {
    name: Vec<u8>,
    /// The offset at which it begins, after the sections of other objects.
    begin: usize,
    content: Vec<u8>,
}

/// The sections of an object's debug information with the addresses of the placed atoms. They will follow the
/// sections that are in `before`. `None` if the object has no debug information that can be read.
fn filled_in(
    number: usize,
    object: &ObjectFile,
    placed: &HashMap<AtomId, usize>,
    before: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> Option<Vec<DebugSection>> {
    let file = ElfFile64::<LittleEndian>::parse(&*object.with_debug).ok()?;
    let mut begins: HashMap<SectionIndex, usize> = HashMap::new();
    let mut debug = Vec::new();
    for section in file.sections() {
        let name = section.name_bytes().ok()?;
        let SectionFlags::Elf { sh_flags } = section.flags() else { continue };
        if !name.starts_with(b".debug_") || sh_flags & u64::from(elf::SHF_ALLOC) != 0 {
            continue;
        }
        if sh_flags & u64::from(elf::SHF_COMPRESSED) != 0 {
            return None;
        }
        let align = index(section.align().max(1));
        let begin = before.get(name).map_or(0, Vec::len).checked_next_multiple_of(align)?;
        begins.insert(section.index(), begin);
        debug.push((section, name, begin));
    }
    let mut sections = Vec::new();
    for (section, name, begin) in debug {
        let mut content = section.data().ok()?.to_vec();
        for (at, relocation) in section.relocations() {
            let RelocationFlags::Elf { r_type } = relocation.flags() else { continue };
            let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
            let symbol = file.symbol_by_index(symbol).ok()?;
            let place = symbol.address().wrapping_add_signed(relocation.addend());
            let target = symbol.section_index().and_then(|section| match begins.get(&section) {
                Some(begin) => Some(*begin as u64 + place),
                None => address(number, object, placed, section, place),
            });
            let (target, bytes) = match r_type {
                elf::R_X86_64_64 => (target.unwrap_or(NOWHERE), 8),
                elf::R_X86_64_32 => (target.unwrap_or(0), 4),
                // The offset of a thread-local, which no backtrace needs.
                _ => continue,
            };
            let at = index(at);
            content.get_mut(at..at + bytes)?.copy_from_slice(&target.to_le_bytes()[..bytes]);
        }
        sections.push(DebugSection { name: name.to_vec(), begin, content });
    }
    Some(sections)
}

/// The address of a place in a section of an object; `None` if it is not in the patch. The place may be the end of
/// an atom.
fn address(
    file: usize,
    object: &ObjectFile,
    placed: &HashMap<AtomId, usize>,
    section: SectionIndex,
    place: u64,
) -> Option<u64> {
    let atoms = object.by_section.get(&section)?;
    let after = atoms.partition_point(|(start, ..)| *start <= place);
    let (start, length, atom) = *atoms.get(after.checked_sub(1)?)?;
    let at = placed.get(&AtomId { file, atom }).filter(|_| place - start <= length)?;
    Some((PAGE + at) as u64 + place - start)
}

/// Writes an ELF file.
#[derive(Default)]
struct Writer {
    /// The bytes after the file's header.
    content: Vec<u8>,
    names: Vec<u8>,
    /// All headers but the first, which is empty.
    headers: Vec<SectionHeader64<LittleEndian>>,
}

/// The header fields that only a symbol table has.
#[derive(Default)]
struct Table {
    /// The number of the section with the names.
    names: u32,
    entry_bytes: u64,
}

impl Writer {
    /// Adds a section, and returns its number.
    fn section(&mut self, name: &[u8], kind: u32, content: &[u8], table: Table) -> u32 {
        const ALIGN: usize = 8;
        self.content.resize(self.content.len().next_multiple_of(ALIGN), 0);
        let begin = size_of::<FileHeader64<LittleEndian>>() + self.content.len();
        self.content.extend(content);
        self.names.push(0);
        let number = |number: usize| U64::new(LE, number as u64);
        self.headers.push(SectionHeader64 {
            sh_name: U32::new(LE, self.names.len() as u32),
            sh_type: U32::new(LE, kind),
            sh_flags: number(0),
            sh_addr: number(0),
            sh_offset: number(begin),
            sh_size: number(content.len()),
            sh_link: U32::new(LE, table.names),
            // In the header of a symbol table, the index of the first symbol that is not local.
            sh_info: U32::new(LE, u32::from(table.names != 0)),
            sh_addralign: number(ALIGN),
            sh_entsize: U64::new(LE, table.entry_bytes),
        });
        self.names.extend(name);
        self.headers.len() as u32
    }

    /// Adds the section names and the section headers, and returns the file.
    fn end(mut self) -> Vec<u8> {
        const NAME: &[u8] = b".shstrtab";
        let names = [&*self.names, b"\0", NAME, b"\0"].concat();
        let last = self.section(NAME, elf::SHT_STRTAB, &names, Table::default());
        self.content.resize(self.content.len().next_multiple_of(8), 0);
        let header = FileHeader64 {
            e_ident: Ident {
                magic: elf::ELFMAG,
                class: elf::ELFCLASS64,
                data: elf::ELFDATA2LSB,
                version: elf::EV_CURRENT,
                os_abi: elf::ELFOSABI_NONE,
                abi_version: 0,
                padding: [0; 7],
            },
            e_type: U16::new(LE, elf::ET_DYN),
            e_machine: U16::new(LE, elf::EM_X86_64),
            e_version: U32::new(LE, elf::EV_CURRENT.into()),
            e_entry: U64::new(LE, 0),
            e_phoff: U64::new(LE, 0),
            e_shoff: U64::new(
                LE,
                (size_of::<FileHeader64<LittleEndian>>() + self.content.len()) as u64,
            ),
            e_flags: U32::new(LE, 0),
            e_ehsize: U16::new(LE, size_of::<FileHeader64<LittleEndian>>() as u16),
            e_phentsize: U16::new(LE, 0),
            e_phnum: U16::new(LE, 0),
            e_shentsize: U16::new(LE, size_of::<SectionHeader64<LittleEndian>>() as u16),
            e_shnum: U16::new(LE, last as u16 + 1),
            e_shstrndx: U16::new(LE, last as u16),
        };
        let mut file = bytes_of(&header).to_vec();
        file.extend(self.content);
        file.extend([0; size_of::<SectionHeader64<LittleEndian>>()]);
        self.headers.iter().for_each(|header| file.extend(bytes_of(header)));
        file
    }
}
