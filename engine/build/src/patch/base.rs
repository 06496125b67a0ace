//! The library of the running version, and the addresses of its items.

use std::collections::HashMap;
use std::ops::Range;

use object::read::elf::ElfFile64;
use object::read::{
    Object as _, ObjectSegment as _, ObjectSymbol as _, ObjectSymbolTable as _, RelocationTarget,
};
use object::{LittleEndian, RelocationFlags, SymbolKind, elf};

use super::Unpatchable;
use super::compare::Objects;
use super::object_file::{Kind, index};

/// A library with its symbols.
#[derive(Debug, Default)]
pub(super) struct Base {
    /// The symbols by name.
    symbols: HashMap<String, Vec<Symbol>>,
    /// The addresses to which the loader writes the addresses of other libraries' symbols.
    bound: HashMap<String, u64>,
    /// The file's parts that are mapped: the address, and the place in the file.
    mapped: Vec<(u64, Range<usize>)>,
    file: Vec<u8>,
}

#[derive(Debug)]
struct Symbol {
    /// The object to which it is local; empty if it is not local.
    file: String,
    address: u64,
    is_thread_local: bool,
}

/// The place of a symbol in the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At this address of the file.
    At(u64),
    /// Among the thread-locals, at this offset.
    ThreadLocal(u64),
    /// In another library; the loader writes its address to this place.
    Bound(u64),
}

impl Base {
    pub(super) fn read(library: Vec<u8>) -> Result<Self, Unpatchable> {
        let mut base = Self::default();
        base.parse(&library)?;
        base.file = library;
        Ok(base)
    }

    fn parse(&mut self, library: &[u8]) -> Result<(), Unpatchable> {
        let file = ElfFile64::<LittleEndian>::parse(library).map_err(|_| Unpatchable::Base)?;
        for segment in file.segments() {
            let (begin, length) = segment.file_range();
            let begin = index(begin);
            self.mapped.push((segment.address(), begin..begin.saturating_add(index(length))));
        }
        let mut from = String::new();
        for symbol in file.symbols() {
            let name = symbol.name().map_err(|_| Unpatchable::Base)?;
            match symbol.kind() {
                SymbolKind::File => name.clone_into(&mut from),
                SymbolKind::Section => {}
                kind if symbol.section_index().is_some() => {
                    let entry = Symbol {
                        file: if symbol.is_local() { from.clone() } else { String::new() },
                        address: symbol.address(),
                        is_thread_local: kind == SymbolKind::Tls,
                    };
                    self.symbols.entry(name.to_owned()).or_default().push(entry);
                }
                _ => {}
            }
        }
        if self.symbols.is_empty() {
            return Err(Unpatchable::Stripped);
        }
        let Some(relocations) = file.dynamic_relocations() else { return Ok(()) };
        let symbols = file.dynamic_symbol_table().ok_or(Unpatchable::Base)?;
        for (at, relocation) in relocations {
            let RelocationFlags::Elf { r_type } = relocation.flags() else { continue };
            let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
            let is_address = matches!(r_type, elf::R_X86_64_GLOB_DAT | elf::R_X86_64_JUMP_SLOT);
            if is_address && relocation.addend() == 0 {
                let symbol = symbols.symbol_by_index(symbol).map_err(|_| Unpatchable::Base)?;
                let name = symbol.name().map_err(|_| Unpatchable::Base)?;
                self.bound.entry(name.to_owned()).or_insert(at);
            }
        }
        Ok(())
    }

    /// Refuses objects from which the library was not linked. The library must contain the code of each
    /// function, except for the bytes that the linker fills in.
    pub(super) fn expect_linked_from(&self, objects: &Objects) -> Result<(), Unpatchable> {
        for id in objects.all() {
            let (atom, file) = (objects.atom(id), &objects.files[id.file].stem);
            let (Kind::Code, Some(name)) = (atom.kind, &atom.name) else { continue };
            // The linker leaves out what nothing needs.
            let Some(Place::At(address)) = self.find(file, name) else { continue };
            let linked =
                self.content(address, atom.bytes.len()).ok_or(Unpatchable::OtherObjects)?;
            let mut is_filled_in = vec![false; atom.bytes.len()];
            for reference in &atom.references {
                let at = index(reference.at);
                // The linker may use another instruction with the same effect, which begins up to three bytes
                // earlier.
                let place = at.saturating_sub(3)..at.saturating_add(8);
                is_filled_in.iter_mut().take(place.end).skip(place.start).for_each(|it| *it = true);
            }
            let bytes = atom.bytes.iter().zip(linked).zip(is_filled_in);
            if !bytes.into_iter().all(|((own, linked), is_filled_in)| is_filled_in || own == linked)
            {
                return Err(Unpatchable::OtherObjects);
            }
        }
        Ok(())
    }

    fn content(&self, address: u64, length: usize) -> Option<&[u8]> {
        self.mapped.iter().find_map(|(begin, place)| {
            let from = index(address.checked_sub(*begin)?);
            self.file.get(place.clone())?.get(from..from.checked_add(length)?)
        })
    }

    /// The place of a name as the object `file` refers to it; `None` if it does not exist, or if several do.
    pub(super) fn find(&self, file: &str, name: &str) -> Option<Place> {
        let Some(all) = self.symbols.get(name) else {
            return self.bound.get(name).map(|at| Place::Bound(*at));
        };
        let own = all.iter().find(|symbol| symbol.file == file);
        let only = || all.first().filter(|_| all.len() == 1);
        let symbol = own.or_else(only)?;
        Some(match symbol.is_thread_local {
            true => Place::ThreadLocal(symbol.address),
            false => Place::At(symbol.address),
        })
    }
}
