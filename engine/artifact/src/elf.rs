//! The ELF file around a descriptor.

use std::ops::Range;

use hotswap_plugin::__private::{Descriptor, HOST_SECTION, hooks};
use hotswap_plugin::abi::descriptor::SECTION;
use object::{
    LittleEndian, elf,
    read::elf::{Dyn as _, ElfFile64, FileHeader as _, SectionHeader as _, SymbolTable},
};

use crate::{ArtifactError, unseen};

/// The libraries whose functions the hooks and the list of the unseen ones cover: libc's family, and
/// the unwinder.
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

/// How the loader's name begins.
const LOADER: &str = "ld-linux";

/// What names a library in the dynamic section; the latter two stand in for another one's symbols.
const NAMES_LIBRARY: [u32; 3] = [elf::DT_NEEDED, elf::DT_AUXILIARY, elf::DT_FILTER];

/// What the ELF file itself tells.
pub struct ElfFacts {
    /// Where the descriptor lies in the file.
    pub descriptor: Range<usize>,
    /// Where the file has the address of its host; nothing before it is opened.
    pub host: Option<Range<usize>>,
    /// The first hook that the file takes from libc.
    pub missing_hook: Option<String>,
    /// Which function it takes from libc that keeps pointers where no hook sees it.
    pub unseen: Option<usize>,
    /// A symbol that it takes from a library which it does not name.
    pub unnamed: Option<String>,
    /// Whether the file is marked to stay mapped for good.
    pub is_no_delete: bool,
    /// The libraries it needs that may keep pointers into it.
    pub foreign_libraries: Vec<String>,
    /// A symbol that the loader may bind for the whole process, and then keeps the image for.
    pub unique_symbol: Option<String>,
    /// Whether it has constructors that are not those of every Rust library.
    pub has_constructors: bool,
    /// Whether it has thread-locals in the static area.
    pub has_static_tls: bool,
}

/// Finds the descriptor and what decides whether the image can be unmapped.
pub fn read(file: &[u8]) -> Result<ElfFacts, ArtifactError> {
    let elf = ElfFile64::<LittleEndian>::parse(file).map_err(not_a_library)?;
    let (header, endian) = (elf.elf_header(), elf.endian());
    if header.e_type(endian) != elf::ET_DYN {
        return Err(ArtifactError::NotALibrary("an ELF file, but no shared library".into()));
    }
    let machine = header.e_machine(endian);
    if machine != MACHINE {
        let why = format!("built for ELF machine {machine}, and this is {MACHINE}");
        return Err(ArtifactError::NotALibrary(why));
    }
    let sections = header.sections(endian, file).map_err(not_a_library)?;
    let section_named = |name: &str| sections.section_by_name(endian, name.as_bytes());
    let (_, section) = section_named(SECTION).ok_or(ArtifactError::NotAPlugin)?;
    let (start, len) = section.file_range(endian).ok_or(ArtifactError::NotAPlugin)?;
    let descriptor = checked_range(start, len, file.len())?;
    let host = section_named(HOST_SECTION).and_then(|(_, section)| section.file_range(endian));

    let symbols = sections.symbols(endian, file, elf::SHT_DYNSYM).map_err(not_a_library)?;
    let taken = taken(&sections, &symbols, endian, file)?;
    if let Some(symbol) = taken.iter().find(|symbol| is_of_rust(symbol.name)) {
        return Err(ArtifactError::SharedRuntime { symbol: symbol.name.to_owned() });
    }
    let hooked = taken.iter().find(|symbol| hooks::NAMES.contains(&symbol.name));
    let mut defined = symbols.iter().filter(|symbol| symbol.st_bind() == elf::STB_GNU_UNIQUE);
    let unique_symbol = defined.find_map(|symbol| symbols.symbol_name(endian, symbol).ok());
    let Dynamic { is_no_delete, has_static_tls, foreign: foreign_libraries } =
        dynamic(&sections, endian, file)?;
    let unnamed = taken.iter().find(|symbol| symbol.is_unnamed && foreign_libraries.is_empty());
    Ok(ElfFacts {
        descriptor,
        host: host.and_then(|(start, len)| place_of_host(start, len, file.len())),
        missing_hook: hooked.map(|symbol| symbol.name.to_owned()),
        unseen: taken.iter().filter_map(|symbol| unseen::number(symbol.name)).min(),
        unnamed: unnamed.map(|symbol| symbol.name.to_owned()),
        is_no_delete,
        foreign_libraries,
        has_constructors: has_constructors(&sections, endian, file),
        has_static_tls,
        unique_symbol: unique_symbol.map(|name| String::from_utf8_lossy(name).into_owned()),
    })
}

type Sections<'data> = object::read::elf::SectionTable<'data, elf::FileHeader64<LittleEndian>>;
type Symbols<'data> = SymbolTable<'data, elf::FileHeader64<LittleEndian>>;

/// A symbol that the file takes from elsewhere.
struct Taken<'data> {
    name: &'data str,
    /// Whether it must be there, and the file does not say of which library: all that libc has is of a
    /// version, which names its library.
    is_unnamed: bool,
}

/// The symbols that the file takes from elsewhere.
fn taken<'data>(
    sections: &Sections<'data>,
    symbols: &Symbols<'data>,
    endian: LittleEndian,
    file: &'data [u8],
) -> Result<Vec<Taken<'data>>, ArtifactError> {
    let versions = sections.versions(endian, file).map_err(not_a_library)?;
    let undefined =
        symbols.enumerate().filter(|(_, symbol)| symbol.st_shndx.get(endian) == elf::SHN_UNDEF);
    let taken = undefined.filter_map(|(at, symbol)| {
        let name = std::str::from_utf8(symbols.symbol_name(endian, symbol).ok()?).ok()?;
        let version = versions.as_ref().map(|versions| versions.version_index(endian, at));
        let has_version = version.is_some_and(|version| version.index() > elf::VER_NDX_GLOBAL);
        let is_unnamed =
            symbol.st_bind() == elf::STB_GLOBAL && !has_version && !is_of_sanitizer(name);
        (!name.is_empty()).then_some(Taken { name, is_unnamed })
    });
    Ok(taken.collect())
}

/// Whether a symbol is of a sanitizer's runtime, which is a part of a host that was built with one. What
/// it keeps of an image it forgets when that is unmapped.
fn is_of_sanitizer(symbol: &str) -> bool {
    ["__asan_", "__sanitizer_", "__lsan_"].iter().any(|begin| symbol.starts_with(begin))
}

/// Whether a symbol is one that a Rust compiler made, and so of a library of Rust's, such as `std`.
fn is_of_rust(symbol: &str) -> bool {
    const RUNTIME: [&str; 4] =
        ["rust_begin_unwind", "rust_eh_personality", "rust_panic", "__rust_"];
    if RUNTIME.iter().any(|begin| symbol.starts_with(begin)) {
        return true;
    }
    // `_R`, and then a path, which begins with one of these.
    if symbol
        .strip_prefix("_R")
        .is_some_and(|path| path.starts_with(['C', 'M', 'X', 'Y', 'N', 'I']))
    {
        return true;
    }
    // As of C++, but with a hash: `_ZN3std…17h0123456789abcdefE`.
    let hash = symbol.strip_suffix('E').filter(|name| name.starts_with("_ZN"));
    let hash = hash.and_then(|name| name.get(name.len().checked_sub(19)?..)?.strip_prefix("17h"));
    hash.is_some_and(|hash| hash.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Whether the file has constructors beside those that every Rust library has: the one of `std` that keeps
/// the arguments, and the one of the C library's start files.
fn has_constructors(sections: &Sections<'_>, endian: LittleEndian, file: &[u8]) -> bool {
    const USUAL: [&str; 2] = ["frame_dummy", "ARGV_INIT_ARRAY"];
    let is_array = |kind| [elf::SHT_INIT_ARRAY, elf::SHT_PREINIT_ARRAY].contains(&kind);
    let arrays: Vec<Range<u64>> = sections
        .iter()
        .filter(|section| is_array(section.sh_type(endian)))
        .map(|section| {
            let start = section.sh_addr(endian);
            start..start.saturating_add(section.sh_size(endian))
        })
        .collect();
    let count: u64 = arrays.iter().map(|array| (array.end - array.start) / 8).sum();
    // Where the array's entries lead is in the relocations that fill it.
    let relocations = sections.iter().filter_map(|section| section.rela(endian, file).ok()?);
    let entries: Vec<u64> = relocations
        .flat_map(|(relocations, _)| relocations)
        .filter(|it| arrays.iter().any(|array| array.contains(&it.r_offset.get(endian))))
        .map(|it| it.r_addend.get(endian).cast_unsigned())
        .collect();
    let symbols = sections.symbols(endian, file, elf::SHT_SYMTAB).ok();
    let names: Vec<&[u8]> = symbols
        .iter()
        .flat_map(|symbols| {
            let at_entry = symbols.iter().filter(|it| entries.contains(&it.st_value.get(endian)));
            at_entry.filter_map(|symbol| symbols.symbol_name(endian, symbol).ok())
        })
        .collect();
    let is_usual = |name: &&[u8]| {
        let name = String::from_utf8_lossy(name);
        USUAL.iter().any(|usual| name.contains(usual))
    };
    // Without names, only their number says anything.
    let usual = match names.is_empty() {
        true => USUAL.len() as u64,
        false => names.iter().filter(|name| is_usual(name)).count() as u64,
    };
    count > usual
}

/// What the dynamic section says.
#[derive(Default)]
struct Dynamic {
    is_no_delete: bool,
    has_static_tls: bool,
    /// The libraries that may keep pointers into the image.
    foreign: Vec<String>,
}

/// Looks in the dynamic section for what would keep the image mapped: a mark, and libraries.
fn dynamic(
    sections: &Sections<'_>,
    endian: LittleEndian,
    file: &[u8],
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
            let name = entry.string(endian, strings).map_err(not_a_library)?;
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

/// Whether what a library keeps of an image is known.
pub fn is_covered(library: &str) -> bool {
    COVERED.contains(&library) || library.starts_with(LOADER)
}

/// The descriptor's place, if the section is as large as a descriptor and inside the file.
fn checked_range(start: u64, len: u64, file_len: usize) -> Result<Range<usize>, ArtifactError> {
    let wrong = |why: String| ArtifactError::BadDescriptor(why);
    let start = usize::try_from(start).map_err(|_| wrong("its place is out of range".into()))?;
    let end = start.checked_add(size_of::<Descriptor>());
    let end = end.filter(|end| *end <= file_len);
    let end = end.ok_or_else(|| wrong("its place is outside the file".into()))?;
    if len < size_of::<Descriptor>() as u64 {
        return Err(wrong(format!("its section has {len} bytes only")));
    }
    Ok(start..end)
}

/// Where the host's address goes, if there is room for just that.
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
    fn symbols_of_rust_are_told_from_those_of_c_and_cpp() {
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
