//! An image that cannot be unmapped is kept, with a reason. A file that cannot even be kept is refused.

use hotswap_engine::{
    args, artifact,
    protocol::{KeepKind, VersionInfo, VersionState},
};
use insta::assert_snapshot;
use object::{
    LittleEndian, elf,
    read::elf::{Dyn as _, ElfFile64},
};

use crate::support::{Host, find, keep_reason, revision};

/// Loads `echo` from this artifact and replaces it. Returns the state of the version, which must be kept.
fn replace_artifact(artifact: &[u8]) -> (Host, VersionInfo) {
    let host = Host::with(&[]);
    host.plugins.write("echo", artifact);
    host.reload();
    host.plugins.install("echo", 2);
    host.reload();
    let kept = host.wait_for("echo", 1, VersionState::Kept);
    assert_eq!(host.mapped().len(), 2);
    (host, kept)
}

/// The artifact of `echo` after a change, as if it had been built so.
fn changed_echo(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut file = revision("echo", 1);
    change(&mut file);
    artifact::stamp(&mut file, None).expect("stamp a change");
    file
}

#[test]
fn a_file_with_the_flag_nodelete_is_kept() {
    let (_host, kept) = replace_artifact(&changed_echo(|file| {
        let at = loader_flags_offset(file);
        file[at] |= elf::DF_1_NODELETE as u8;
    }));
    assert_snapshot!(kept.detail, @"kept: the file is marked NODELETE; link it without `-z nodelete`");
    assert_eq!(keep_reason(&kept).kind, KeepKind::NoDelete);
}

#[test]
fn a_file_with_a_symbol_that_is_unique_in_the_process_is_kept() {
    let (_host, kept) = replace_artifact(&changed_echo(|file| {
        let at = symbol_info_offset(file, b"hotswap_attach");
        file[at] = elf::STB_GNU_UNIQUE << 4 | file[at] & 0xf;
    }));
    assert_snapshot!(kept.detail, @"kept: it has the unique symbol `hotswap_attach`, which all images share, as C++ code has them; compile that code with `-fno-gnu-unique`");
    let reason = keep_reason(&kept);
    assert_eq!(
        (reason.kind, reason.symbol.as_deref()),
        (KeepKind::UniqueSymbol, Some("hotswap_attach"))
    );
}

#[test]
fn a_file_that_needs_an_untrusted_library_is_kept() {
    let host = Host::with(&["foreign"]);
    let seconds = |host: &Host| {
        let date = "19900101000000";
        host.engine.invoke::<u32>("foreign", "seconds", args![date]).unwrap()
    };
    assert_eq!(seconds(&host), 631_152_000);
    host.plugins.install("foreign", 2);
    host.reload();
    let kept = host.wait_for("foreign", 1, VersionState::Kept);
    assert_snapshot!(kept.detail, @r#"kept: it needs libresolv.so.2, which may keep pointers into it that the engine cannot see (threads, callbacks, keys); link it statically, or make the host trust it with `EngineBuilder::trust_library("libresolv.so.2")`"#);

    let needs = keep_reason(&kept);
    assert_eq!(
        (needs.kind, needs.library.as_deref()),
        (KeepKind::NeedsLibrary, Some("libresolv.so.2"))
    );

    // The library is already in the process when the second version is opened. That version is kept for the same
    // reason.
    assert_eq!(seconds(&host), 631_152_000);
    host.plugins.install("foreign", 3);
    host.reload();
    assert_eq!(host.wait_for("foreign", 2, VersionState::Kept).detail, kept.detail);
}

#[test]
fn a_file_with_a_symbol_of_an_unnamed_library_is_kept() {
    let (_host, kept) = replace_artifact(&changed_echo(|file| {
        let at = symbol_version_offset(file, b"getcwd");
        // The symbol has no version, and so no particular library.
        file[at..at + 2].copy_from_slice(&elf::VER_NDX_GLOBAL.to_le_bytes());
    }));
    assert_snapshot!(kept.detail, @"kept: it takes `getcwd` from whatever library the host has loaded, which may keep pointers into it that the engine cannot see; link the library statically");
}

#[test]
fn a_file_without_a_needed_hook_is_refused() {
    let host = Host::with(&["echo"]);
    let unhooked = changed_echo(|file| {
        // The artifact imports this symbol weakly, so it may be missing.
        let name = b"\0__gmon_start__\0";
        let at = find(file, name).unwrap();
        file[at + 1..at + name.len() - 1].copy_from_slice(b"pthread_create");
    });
    host.plugins.write("echo", &unhooked);
    assert_snapshot!(host.refused_reload(), @"echo.so: inspect: it takes `pthread_create` from libc, so the engine could not follow its threads, and it could never be unmapped safely; build it with `hotswap build`");
    assert_eq!(host.engine.plugin("echo").unwrap().version(), 1);
}

/// The offset of the flags in the dynamic section that affect the loader.
fn loader_flags_offset(file: &[u8]) -> usize {
    let (elf, endian) = parse(file);
    let sections = elf.elf_section_table();
    let (entries, _) = sections.dynamic(endian, file).unwrap().expect("a dynamic section");
    let is_flags = |entry: &&elf::Dyn64<LittleEndian>| entry.tag32(endian) == Some(elf::DT_FLAGS_1);
    let entry = entries.iter().find(is_flags).expect("flags");
    offset_in(file, &entry.d_val)
}

/// The offset of the version of an imported symbol.
fn symbol_version_offset(file: &[u8], name: &[u8]) -> usize {
    let (elf, endian) = parse(file);
    let sections = elf.elf_section_table();
    let symbols = sections.symbols(endian, file, elf::SHT_DYNSYM).unwrap();
    let is_it = |symbol: &elf::Sym64<LittleEndian>| symbols.symbol_name(endian, symbol) == Ok(name);
    let at = symbols.iter().position(is_it).expect("the symbol");
    let (versions, _) = sections.gnu_versym(endian, file).unwrap().expect("versions of symbols");
    offset_in(file, &versions[at])
}

/// The offset of the binding of an exported symbol.
fn symbol_info_offset(file: &[u8], name: &[u8]) -> usize {
    let (elf, endian) = parse(file);
    let symbols = elf.elf_section_table().symbols(endian, file, elf::SHT_DYNSYM).unwrap();
    let mut all = symbols.iter();
    let is_it =
        |symbol: &&elf::Sym64<LittleEndian>| symbols.symbol_name(endian, *symbol) == Ok(name);
    offset_in(file, &all.find(is_it).expect("the symbol").st_info)
}

fn parse(file: &[u8]) -> (ElfFile64<'_, LittleEndian>, LittleEndian) {
    let elf = ElfFile64::parse(file).expect("an artifact");
    let endian = elf.endian();
    (elf, endian)
}

/// The offset of a structure that was found in a file.
fn offset_in<T>(file: &[u8], found: &T) -> usize {
    std::ptr::from_ref(found).addr() - file.as_ptr().addr()
}
