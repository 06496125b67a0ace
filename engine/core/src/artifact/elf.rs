//! The ELF file around a descriptor.

use std::ops::Range;

use hotswap_plugin::__private::Descriptor;
use hotswap_plugin::abi::descriptor::SECTION;
use object::{
    LittleEndian, elf,
    read::elf::{Dyn as _, ElfFile64, FileHeader as _, SectionHeader as _},
};

use super::ArtifactError;

/// The functions that an image must define for itself: see `hotswap_plugin`'s hooks.
const HOOKS: [&str; 6] = [
    "__cxa_thread_atexit_impl",
    "pthread_create",
    "pthread_key_create",
    "pthread_key_delete",
    "pthread_setspecific",
    "pthread_getspecific",
];

/// What lets libc, or a library that is opened later, run code of the image on threads, or at ends,
/// of which no hook knows.
const UNSEEN: [&str; 13] = [
    "thrd_create",
    "tss_create",
    "timer_create",
    "mq_notify",
    "getaddrinfo_a",
    "lio_listio",
    "aio_read",
    "aio_write",
    "on_exit",
    "at_quick_exit",
    "__cxa_at_quick_exit",
    "dlopen",
    "dlmopen",
];

/// Libraries whose threads and thread-locals the hooks do see, or that have none.
const HARMLESS: [&str; 6] =
    ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-", "libpthread.so.0", "libdl.so.2"];

/// What the ELF file itself tells.
pub struct ElfFacts {
    /// Where the descriptor lies in the file.
    pub descriptor: Range<usize>,
    /// The first hook that the file takes from libc.
    pub missing_hook: Option<String>,
    /// A function of libc that runs code of the image where no hook sees it.
    pub unseen: Option<String>,
    /// Whether the file is marked to stay mapped for good.
    pub is_no_delete: bool,
    /// The libraries it needs whose threads and thread-locals the hooks do not see.
    pub foreign_libraries: Vec<String>,
    /// A symbol that the loader may bind for the whole process, and then keeps the image for.
    pub unique_symbol: Option<String>,
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
    let (_, section) =
        sections.section_by_name(endian, SECTION.as_bytes()).ok_or(ArtifactError::NotAPlugin)?;
    let (start, len) = section.file_range(endian).ok_or(ArtifactError::NotAPlugin)?;
    let descriptor = checked_range(start, len, file.len())?;

    let symbols = sections.symbols(endian, file, elf::SHT_DYNSYM).map_err(not_a_library)?;
    let undefined = symbols.iter().filter(|symbol| symbol.st_shndx.get(endian) == elf::SHN_UNDEF);
    let names = undefined.filter_map(|symbol| symbols.symbol_name(endian, symbol).ok());
    let names: Vec<&str> = names.filter_map(|name| std::str::from_utf8(name).ok()).collect();
    let first_of = |list: &[&str]| names.iter().find(|name| list.contains(name));
    let missing_hook = first_of(&HOOKS).map(|name| (*name).to_owned());
    let unseen = first_of(&UNSEEN).map(|name| (*name).to_owned());
    let mut defined = symbols.iter().filter(|symbol| symbol.st_bind() == elf::STB_GNU_UNIQUE);
    let unique_symbol = defined.find_map(|symbol| symbols.symbol_name(endian, symbol).ok());
    let unique_symbol = unique_symbol.map(|name| String::from_utf8_lossy(name).into_owned());
    let (is_no_delete, foreign_libraries) = dynamic(&sections, endian, file)?;
    Ok(ElfFacts {
        descriptor,
        missing_hook,
        unseen,
        is_no_delete,
        foreign_libraries,
        unique_symbol,
    })
}

/// Looks in the dynamic section for what would keep the image mapped: a mark, and libraries.
fn dynamic(
    sections: &object::read::elf::SectionTable<'_, elf::FileHeader64<LittleEndian>>,
    endian: LittleEndian,
    file: &[u8],
) -> Result<(bool, Vec<String>), ArtifactError> {
    let Some((entries, link)) = sections.dynamic(endian, file).map_err(not_a_library)? else {
        return Err(ArtifactError::NotALibrary("it has no dynamic section".into()));
    };
    let strings = sections.strings(endian, file, link).map_err(not_a_library)?;
    let (mut is_no_delete, mut foreign) = (false, Vec::new());
    for entry in entries {
        let (tag, value) = (entry.tag32(endian).unwrap_or(0), entry.d_val(endian));
        if tag == elf::DT_FLAGS_1 && value & u64::from(elf::DF_1_NODELETE) != 0 {
            is_no_delete = true;
        }
        // Those of the C runtime and of std; any other may allocate, and there is no host yet.
        if tag == elf::DT_INIT_ARRAYSZ && value > 16 {
            return Err(ArtifactError::BadDescriptor("it has constructors".into()));
        }
        if tag == elf::DT_NEEDED {
            let name = entry.string(endian, strings).map_err(not_a_library)?;
            let name = String::from_utf8_lossy(name);
            if !HARMLESS.iter().any(|harmless| name.starts_with(harmless)) {
                foreign.push(name.into_owned());
            }
        }
    }
    Ok((is_no_delete, foreign))
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

fn not_a_library(error: impl std::fmt::Display) -> ArtifactError {
    ArtifactError::NotALibrary(error.to_string())
}

/// This machine's number in an ELF header.
const MACHINE: u16 = if cfg!(target_arch = "aarch64") { elf::EM_AARCH64 } else { elf::EM_X86_64 };
