//! Reads the ELF file around a descriptor.

use std::{cell::Cell, collections::HashSet, ops::Range};

use hotswap_plugin::__private::{Descriptor, HOST_SECTION, hooks};
use hotswap_plugin::abi::descriptor::SECTION;
use object::{
    LittleEndian, elf,
    read::elf::{Dyn as _, ElfFile64, FileHeader as _, SectionHeader as _, SymbolTable},
};

use crate::{ArtifactError, unseen};

/// The libraries that the hooks and the list in `unseen` cover: the libraries of glibc, and the unwinder.
const COVERED: [&str; 8] = [
    "libc.so.6",
    "libm.so.6",
    "libgcc_s.so.1",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libutil.so.1",
    "libanl.so.1",
];

/// The first characters of the loader's name.
const LOADER: &str = "ld-linux";

/// The entries of the dynamic section that name a library. The latter two name a library that provides symbols in
/// place of another one.
const NAMES_LIBRARY: [u32; 3] = [elf::DT_NEEDED, elf::DT_AUXILIARY, elf::DT_FILTER];

/// What the ELF file shows.
pub struct ElfFacts {
    /// Where the descriptor lies in the file.
    pub descriptor: Range<usize>,
    /// Where the file has room for the address of its host; `None` if it has none.
    pub host: Option<Range<usize>>,
    /// The first hook that the file takes from libc.
    pub missing_hook: Option<String>,
    /// The number in `unseen` of a function that it takes from libc and that keeps pointers unseen by the
    /// hooks.
    pub unseen: Option<usize>,
    /// A symbol that it takes from a library that it does not declare as needed.
    pub unnamed: Option<String>,
    /// Whether the file is marked to stay mapped forever.
    pub is_no_delete: bool,
    /// The libraries it needs that may keep pointers into it.
    pub foreign_libraries: Vec<String>,
    /// A symbol that the loader may bind for the whole process; it then keeps the image.
    pub unique_symbol: Option<String>,
    /// Whether it has constructors besides those of every Rust library.
    pub has_constructors: bool,
    /// Whether it has thread-locals in the static TLS area.
    pub has_static_tls: bool,
}

/// Finds the descriptor and what decides whether the image can be unmapped.
pub fn read(file: &[u8]) -> Result<ElfFacts, ArtifactError> {
    let elf = ElfFile64::<LittleEndian>::parse(file).map_err(not_a_library)?;
    let (header, endian) = (elf.elf_header(), elf.endian());
    if header.e_type(endian) != elf::ET_DYN {
        return Err(ArtifactError::NotALibrary(
            "it is an ELF file, but not a shared library".into(),
        ));
    }
    let machine = header.e_machine(endian);
    if machine != MACHINE {
        let why = format!("it was built for ELF machine {machine}, and this is {MACHINE}");
        return Err(ArtifactError::NotALibrary(why));
    }
    let sections = header.sections(endian, file).map_err(not_a_library)?;
    let names = Names::of(file);
    let section_named = |wanted: &str| -> Result<_, ArtifactError> {
        for section in sections.iter() {
            let name = names.read(sections.section_name(endian, section))?;
            if name == wanted.as_bytes() {
                return Ok(section.file_range(endian));
            }
        }
        Ok(None)
    };
    let (start, len) = section_named(SECTION)?.ok_or(ArtifactError::NotAPlugin)?;
    let descriptor = checked_range(start, len, file.len())?;
    let host = section_named(HOST_SECTION)?;

    let symbols = sections.symbols(endian, file, elf::SHT_DYNSYM).map_err(not_a_library)?;
    let taken = imported_symbols(&sections, &symbols, endian, (file, &names))?;
    if let Some(symbol) = taken.iter().find(|symbol| is_of_rust(symbol.name)) {
        return Err(ArtifactError::SharedRuntime { symbol: symbol.name.to_owned() });
    }
    let hooked = taken.iter().find(|symbol| hooks::NAMES.contains(&symbol.name));
    let unique = symbols.iter().find(|symbol| symbol.st_bind() == elf::STB_GNU_UNIQUE);
    let unique =
        unique.map(|symbol| names.read(symbols.symbol_name(endian, symbol))).transpose()?;
    let Dynamic { is_no_delete, has_static_tls, foreign: foreign_libraries } =
        dynamic(&sections, endian, (file, &names))?;
    let unnamed = taken.iter().find(|symbol| symbol.is_unnamed && foreign_libraries.is_empty());
    Ok(ElfFacts {
        descriptor,
        host: host.and_then(|(start, len)| place_of_host(start, len, file.len())),
        missing_hook: hooked.map(|symbol| symbol.name.to_owned()),
        unseen: taken.iter().filter_map(|symbol| unseen::number(symbol.name)).min(),
        unnamed: unnamed.map(|symbol| symbol.name.to_owned()),
        is_no_delete,
        foreign_libraries,
        has_constructors: has_constructors(&sections, endian, (file, &names))?,
        has_static_tls,
        unique_symbol: unique.map(|name| String::from_utf8_lossy(name).into_owned()),
    })
}

type Sections<'data> = object::read::elf::SectionTable<'data, elf::FileHeader64<LittleEndian>>;
type Symbols<'data> = SymbolTable<'data, elf::FileHeader64<LittleEndian>>;

/// Reads names in the file, until it has read more than a file of this length has.
///
/// In a damaged file, all names may begin in one long text. Then all names together are longer than the file by
/// the number of names, and so are the time and the memory that they take.
struct Names {
    /// How many bytes may still be read.
    left: Cell<usize>,
}

/// How many times as long as the file all names in it may be. Names of symbols share their ends, and some of them
/// are read twice.
const NAMES_PER_FILE: usize = 16;

impl Names {
    fn of(file: &[u8]) -> Self {
        Self { left: Cell::new(file.len().saturating_mul(NAMES_PER_FILE)) }
    }

    fn read<'data>(&self, name: object::Result<&'data [u8]>) -> Result<&'data [u8], ArtifactError> {
        let name = name.map_err(not_a_library)?;
        let left = self.left.get().checked_sub(name.len());
        self.left.set(left.ok_or_else(|| not_a_library("its names overlap"))?);
        Ok(name)
    }
}

/// A symbol that the file imports.
struct ImportedSymbol<'data> {
    name: &'data str,
    /// Whether the symbol is required, but the file does not say which library has it. Symbols of libc are
    /// versioned, and a version names its library.
    is_unnamed: bool,
}

/// The symbols that the file imports.
fn imported_symbols<'data>(
    sections: &Sections<'data>,
    symbols: &Symbols<'data>,
    endian: LittleEndian,
    (file, names): (&'data [u8], &Names),
) -> Result<Vec<ImportedSymbol<'data>>, ArtifactError> {
    let versions = sections.versions(endian, file).map_err(not_a_library)?;
    let undefined =
        symbols.enumerate().filter(|(_, symbol)| symbol.st_shndx.get(endian) == elf::SHN_UNDEF);
    let mut taken = Vec::new();
    for (at, symbol) in undefined {
        let name = names.read(symbols.symbol_name(endian, symbol))?;
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let version = versions.as_ref().map(|versions| versions.version_index(endian, at));
        let has_version = version.is_some_and(|version| version.index() > elf::VER_NDX_GLOBAL);
        let is_unnamed =
            symbol.st_bind() == elf::STB_GLOBAL && !has_version && !is_of_sanitizer(name);
        if !name.is_empty() {
            taken.push(ImportedSymbol { name, is_unnamed });
        }
    }
    Ok(taken)
}

/// Whether a symbol belongs to a sanitizer's runtime, which is part of a host that was built with a sanitizer.
/// That runtime drops its data about an image when the image is unmapped.
fn is_of_sanitizer(symbol: &str) -> bool {
    ["__asan_", "__sanitizer_", "__lsan_"].iter().any(|begin| symbol.starts_with(begin))
}

/// Whether a Rust compiler made the symbol, so that it comes from a Rust library such as `std`.
fn is_of_rust(symbol: &str) -> bool {
    const RUNTIME: [&str; 4] =
        ["rust_begin_unwind", "rust_eh_personality", "rust_panic", "__rust_"];
    if RUNTIME.iter().any(|begin| symbol.starts_with(begin)) {
        return true;
    }
    // The v0 mangling: `_R`, and then a path, which begins with one of these.
    if symbol
        .strip_prefix("_R")
        .is_some_and(|path| path.starts_with(['C', 'M', 'X', 'Y', 'N', 'I']))
    {
        return true;
    }
    // The legacy mangling, as in C++ but with a hash: `_ZN3std…17h0123456789abcdefE`.
    let hash = symbol.strip_suffix('E').filter(|name| name.starts_with("_ZN"));
    let hash = hash.and_then(|name| name.get(name.len().checked_sub(19)?..)?.strip_prefix("17h"));
    hash.is_some_and(|hash| hash.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Whether the file has constructors besides those of every Rust library: the one in which `std` keeps the
/// arguments, and the one of the C library's start files.
fn has_constructors(
    sections: &Sections<'_>,
    endian: LittleEndian,
    (file, names): (&[u8], &Names),
) -> Result<bool, ArtifactError> {
    const USUAL: [&str; 2] = ["frame_dummy", "ARGV_INIT_ARRAY"];
    let is_array = |kind| [elf::SHT_INIT_ARRAY, elf::SHT_PREINIT_ARRAY].contains(&kind);
    let arrays = sections.iter().filter(|section| is_array(section.sh_type(endian)));
    let arrays = merged(arrays.map(|section| {
        let start = section.sh_addr(endian);
        start..start.saturating_add(section.sh_size(endian))
    }));
    let count: u64 = arrays.iter().map(|array| (array.end - array.start) / 8).sum();
    let is_in_array = |address: u64| {
        let after = arrays.partition_point(|array| array.start <= address);
        after.checked_sub(1).is_some_and(|at| arrays[at].contains(&address))
    };
    // The relocations that fill the array say where its entries lead.
    let mut entries = HashSet::new();
    let mut left = file.len();
    for section in sections.iter() {
        let Ok(Some((relocations, _))) = section.rela(endian, file) else { continue };
        left = left
            .checked_sub(size_of_val(relocations))
            .ok_or_else(|| not_a_library("its relocations overlap"))?;
        let filling = relocations.iter().filter(|it| is_in_array(it.r_offset.get(endian)));
        entries.extend(filling.map(|it| it.r_addend.get(endian).cast_unsigned()));
    }
    let is_usual = |name: &[u8]| {
        let name = String::from_utf8_lossy(name);
        USUAL.iter().any(|usual| name.contains(usual))
    };
    let (mut named, mut usual) = (0_u64, 0_u64);
    let symbols = sections.symbols(endian, file, elf::SHT_SYMTAB).ok();
    let symbols = symbols.as_ref().into_iter().flat_map(|symbols| {
        let all = symbols.iter().filter(|symbol| entries.contains(&symbol.st_value.get(endian)));
        all.map(|symbol| symbols.symbol_name(endian, symbol))
    });
    for name in symbols {
        named += 1;
        usual += u64::from(is_usual(names.read(name)?));
    }
    // Without names, only the number of constructors says anything.
    Ok(count > if named == 0 { USUAL.len() as u64 } else { usual })
}

/// The ranges in order, as ranges that do not overlap.
fn merged(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut all: Vec<_> = ranges.collect();
    all.sort_by_key(|range| range.start);
    all.dedup_by(|next, range| {
        let overlaps = next.start < range.end;
        if overlaps {
            range.end = range.end.max(next.end);
        }
        overlaps
    });
    all
}

/// What the dynamic section says.
#[derive(Default)]
struct Dynamic {
    is_no_delete: bool,
    has_static_tls: bool,
    /// The libraries that may keep pointers into the image.
    foreign: Vec<String>,
}

/// Searches the dynamic section for whatever would keep the image mapped: a mark, or libraries.
fn dynamic(
    sections: &Sections<'_>,
    endian: LittleEndian,
    (file, names): (&[u8], &Names),
) -> Result<Dynamic, ArtifactError> {
    let Some((entries, link)) = sections.dynamic(endian, file).map_err(not_a_library)? else {
        return Err(ArtifactError::NotALibrary("it has no dynamic section".into()));
    };
    let strings = sections.strings(endian, file, link).map_err(not_a_library)?;
    let mut found = Dynamic::default();
    for entry in entries {
        let (tag, value) = (entry.tag32(endian).unwrap_or(0), entry.d_val(endian));
        if tag == elf::DT_FLAGS_1 && value & u64::from(elf::DF_1_NODELETE) != 0 {
            found.is_no_delete = true;
        }
        if tag == elf::DT_FLAGS && value & u64::from(elf::DF_STATIC_TLS) != 0 {
            found.has_static_tls = true;
        }
        if NAMES_LIBRARY.contains(&tag) {
            let name = names.read(entry.string(endian, strings))?;
            let name = String::from_utf8_lossy(name);
            if name.starts_with("libstd-") {
                return Err(ArtifactError::SharedRuntime { symbol: name.into_owned() });
            }
            if !is_covered(&name) {
                found.foreign.push(name.into_owned());
            }
        }
    }
    Ok(found)
}

/// Whether it is known which pointers into an image the library keeps.
pub fn is_covered(library: &str) -> bool {
    COVERED.contains(&library) || library.starts_with(LOADER)
}

/// The descriptor's place in the file, if the section has the size of a descriptor and lies inside the file.
fn checked_range(start: u64, len: u64, file_len: usize) -> Result<Range<usize>, ArtifactError> {
    let wrong = |why: String| ArtifactError::BadDescriptor(why);
    let start = usize::try_from(start).map_err(|_| wrong("its place is out of range".into()))?;
    let end = start.checked_add(size_of::<Descriptor>());
    let end = end.filter(|end| *end <= file_len);
    let end = end.ok_or_else(|| wrong("its place is outside the file".into()))?;
    if len < size_of::<Descriptor>() as u64 {
        return Err(wrong(format!("its section has only {len} bytes")));
    }
    Ok(start..end)
}

/// Where the host's address is written, if there is room for exactly that.
fn place_of_host(start: u64, len: u64, file_len: usize) -> Option<Range<usize>> {
    let start = usize::try_from(start).ok()?;
    let end = start.checked_add(size_of::<usize>()).filter(|end| *end <= file_len)?;
    (len == size_of::<usize>() as u64).then_some(start..end)
}

fn not_a_library(error: impl std::fmt::Display) -> ArtifactError {
    ArtifactError::NotALibrary(error.to_string())
}

/// This machine's number in an ELF header.
const MACHINE: u16 = if cfg!(target_arch = "aarch64") { elf::EM_AARCH64 } else { elf::EM_X86_64 };

#[cfg(test)]
mod tests {
    use super::is_of_rust;

    #[test]
    fn symbols_of_rust_are_distinguished_from_those_of_c_and_cpp() {
        for symbol in [
            "_ZN3std2io5stdio6_print17h0123456789abcdefE",
            "_RNvCs5QJ_3foo3bar",
            "_RNvNtCsabc_3std9panicking13begin_panic",
            "rust_eh_personality",
            "__rust_alloc",
        ] {
            assert!(is_of_rust(symbol), "{symbol}");
        }
        for symbol in
            ["malloc", "_ZNSt6vectorIiSaIiEE9push_backERKi", "_Rb_tree", "_ZN1aE", "_RB_insert", ""]
        {
            assert!(!is_of_rust(symbol), "{symbol}");
        }
    }
}
