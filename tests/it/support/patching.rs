//! Patches that are made by hand. The description of a function is copied from the artifact, and points to code of
//! the patch. This code calls another function of the artifact.

use std::{fs, ops::Range};

use hotswap_engine::artifact::{
    self, BuildId,
    patch::{Fixup, Form, Header, PAGE, Patch, Target},
};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind, read::elf::ElfFile64,
};

/// Code that calls a function, `sub rsp, 8; call …; add rsp, 8; ret`, with padding.
const CALL: [u8; 16] =
    [0x48, 0x83, 0xec, 8, 0xe8, 0, 0, 0, 0, 0x48, 0x83, 0xc4, 8, 0xc3, 0xcc, 0xcc];
/// The offset of the call's target in it.
const CALL_TARGET: u32 = 5;
/// The common unwind record (CIE).
const CIE: [u8; 24] =
    [20, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1, 0, 0];
/// The unwind record of one piece of code (FDE), without its address.
const FDE: [u8; 24] =
    [20, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0x44, 0x0e, 16, 0x49, 0x0e, 8, 0];

/// A function of an artifact.
struct Described {
    content: Vec<u8>,
    /// The offsets of addresses in it, with the addresses.
    pointers: Vec<(u64, u64)>,
}

fn descriptor_of(file: &[u8], function: &str) -> Described {
    let elf = ElfFile64::<object::Endianness>::parse(file).unwrap();
    let name = format!("__HOTSWAP_INVOKE_{function}");
    let is_it = |symbol: &object::read::elf::ElfSymbol64<'_, '_, _>| {
        symbol.kind() == SymbolKind::Data && symbol.name().is_ok_and(|found| found.contains(&name))
    };
    let symbol = elf.symbols().find(is_it).unwrap_or_else(|| panic!("no {name}"));
    let section = elf.section_by_index(symbol.section_index().unwrap()).unwrap();
    let content = section.data_range(symbol.address(), symbol.size()).unwrap().unwrap();
    let range = symbol.address()..symbol.address() + symbol.size();
    let relocations = elf.dynamic_relocations().unwrap();
    let pointers = relocations.filter(|(at, _)| range.contains(at));
    let pointers = pointers.map(|(at, it)| (at - range.start, it.addend() as u64)).collect();
    Described { content: content.to_vec(), pointers }
}

fn text_range(file: &[u8]) -> Range<u64> {
    let elf = ElfFile64::<object::Endianness>::parse(file).unwrap();
    let text = elf.section_by_name(".text").unwrap();
    text.address()..text.address() + text.size()
}

/// The build id of an artifact.
pub fn build_of(file: &[u8]) -> BuildId {
    artifact::inspect(file).unwrap().build_id
}

/// A patch of `base` to `build`. In each pair, the first function gets the code of the second.
pub fn patch(base: &[u8], build: &[u8], functions: &[(&str, &str)]) -> Patch {
    let text = text_range(base);
    let (mut code, mut data, mut fixups, mut places) = (vec![], vec![], vec![], vec![]);
    for (function, other) in functions {
        let (described, other) = (descriptor_of(base, function), descriptor_of(base, other));
        let start = (PAGE + data.len()) as u32;
        places.push(start);
        data.extend(&described.content);
        for (at, own) in &described.pointers {
            let mut target = Target::Base(*own);
            // An empty list has no address.
            let others = other.pointers.iter().find(|(place, _)| place == at);
            if let Some((_, others)) = others.filter(|_| text.contains(own)) {
                target = Target::Own(code.len() as u32);
                let place = code.len() as u32 + CALL_TARGET;
                let others = Target::Base(*others);
                fixups.push(Fixup { at: place, form: Form::Relative, target: others, addend: -4 });
                code.extend(CALL);
            }
            let at = start + *at as u32;
            fixups.push(Fixup { at, form: Form::Absolute, target, addend: 0 });
        }
    }
    data.resize(data.len().next_multiple_of(8), 0);
    let frames = (PAGE + data.len()) as u32;
    data.extend(CIE);
    for (number, begins) in (0..code.len()).step_by(CALL.len()).enumerate() {
        let at = PAGE + data.len();
        let mut fde = FDE;
        fde[4] += (number * FDE.len()) as u8;
        data.extend(fde);
        let (at, target) = ((at + 8) as u32, Target::Own(begins as u32));
        fixups.push(Fixup { at, form: Form::Relative, target, addend: 0 });
    }
    data.extend([0; 4]);
    let ends = (PAGE + data.len()) as u32;
    code.resize(PAGE, 0xcc);
    let header = Header {
        base: build_of(base),
        build: build_of(build),
        code: PAGE as u32,
        frames: frames..ends,
        fixups,
        functions: places,
        changed: functions.iter().map(|(name, _)| (*name).to_owned()).collect(),
    };
    Patch { header, content: [code, data].concat(), symbols: Vec::new() }
}

/// The mappings of this process that are code and belong to no file: patches.
pub fn code_without_file() -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let is_it = |line: &&str| {
        let mut words = line.split_ascii_whitespace();
        words.next();
        words.next().is_some_and(|rights| rights.contains('x')) && words.nth(3).is_none()
    };
    maps.lines().filter(is_it).map(ToOwned::to_owned).collect()
}
