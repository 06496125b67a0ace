//! Assembles a patch.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;

use hotswap_artifact::patch::{Fixup, Form, Header, MAX_BYTES, PAGE, Patch, Target};
use hotswap_protocol::BuildId;
use object::elf;

use super::Unpatchable;
use super::base::{Base, Place};
use super::compare::{AtomId, Difference, Objects, Pair, name_of};
use super::object_file::{Kind, ObjectFile, Record, Reference, To, index};
use super::symbols;

/// The filling between functions: an instruction that traps.
const TRAP: u8 = 0xcc;
/// The smallest alignment of a function.
const CODE_ALIGN: u64 = 16;

/// The patch that loads `difference` into a version with the build `base`. Functions that the base lacks are taken
/// from the `libraries`.
pub(super) fn write(
    base: &Base,
    mut pair: Pair<'_>,
    difference: &Difference,
    libraries: &[PathBuf],
    made: Made<'_>,
) -> io::Result<Result<Patch, Unpatchable>> {
    loop {
        let symbol = match write_with(base, &pair, difference, &made) {
            Err(Unpatchable::Missing(symbol)) => symbol,
            written => return Ok(written),
        };
        if let Err(reason) = pair.read_mentioning(&symbol)? {
            return Ok(Err(reason));
        }
        if !pair.new.has(&symbol) {
            let mut libraries = libraries.iter();
            let found = libraries.find_map(|library| ObjectFile::find_in(library, &symbol));
            found.into_iter().for_each(|object| pair.new.add(object));
        }
        if !pair.new.has(&symbol) {
            return Ok(Err(Unpatchable::Missing(symbol)));
        }
    }
}

/// The input of a patch.
pub(super) struct Made<'a> {
    pub from: BuildId,
    /// The build that the patch makes; `None` if it is not linked yet.
    pub to: Option<BuildId>,
    /// The functions whose bodies changed.
    pub functions: &'a [String],
}

fn write_with(
    base: &Base,
    pair: &Pair<'_>,
    difference: &Difference,
    made: &Made<'_>,
) -> Result<Patch, Unpatchable> {
    let objects = &pair.new;
    let place_of = |id: &AtomId| {
        let name = objects.atom(*id).name.as_ref()?;
        place_in(base, pair, &objects.files[id.file].stem, name)
    };
    // Data or code outside these objects may have the address of such a function, if the base has it at all.
    for id in &difference.uncalled {
        if place_of(id).is_some() {
            let function = name_of(objects.atom(*id));
            return Err(Unpatchable::CalledFromOutside { function });
        }
    }
    // The base must have a description of each function, too. Otherwise the objects belong to another library.
    for id in &difference.entries {
        if !matches!(place_of(id), Some(Place::At(_))) {
            return Err(Unpatchable::OtherObjects);
        }
    }
    let mut writer = Writer {
        base,
        pair,
        objects,
        own: difference.exchanged.union(&difference.entries).copied().collect(),
        placed: HashMap::new(),
        content: Vec::new(),
        slots: BTreeMap::new(),
        jumps: BTreeMap::new(),
        open: Vec::new(),
    };
    writer.add_needed_atoms()?;
    let code = writer.place_code()?;
    writer.place_data()?;
    let frames = writer.place_frames()?;
    let fixups = writer.fill_in()?;
    if writer.content.len() > MAX_BYTES {
        return Err(Unpatchable::TooLarge(writer.content.len()));
    }
    let functions = difference.entries.iter().map(|id| offset(writer.placed[id]));
    let header = Header {
        base: made.from,
        build: made.to.unwrap_or(made.from),
        code,
        frames,
        fixups,
        functions: functions.collect::<Result<_, _>>()?,
        changed: made.functions.to_vec(),
    };
    let symbols = symbols::file(objects, &writer.placed);
    let mut patch = Patch { header, content: writer.content, symbols };
    if made.to.is_none() {
        patch.header.build = patch.code_id();
    }
    Ok(patch)
}

/// The place in the base of a symbol that the new object named `stem` defines.
fn place_in(base: &Base, pair: &Pair<'_>, stem: &str, name: &str) -> Option<Place> {
    base.find(stem, pair.name_in_base(stem, name))
}

struct Writer<'a> {
    base: &'a Base,
    pair: &'a Pair<'a>,
    /// Those of the new build.
    objects: &'a Objects,
    /// The atoms that the patch contains.
    own: BTreeSet<AtomId>,
    /// The offset of each of these in the content.
    placed: HashMap<AtomId, usize>,
    content: Vec<u8>,
    /// The offsets of the slots that the code reads: addresses of symbols, and places of thread-locals.
    slots: BTreeMap<Slot, usize>,
    /// The offsets of jumps to functions that may be too far away for a call.
    jumps: BTreeMap<u64, usize>,
    /// The references that are not filled in yet.
    open: Vec<PendingReference>,
}

/// The content of a slot: eight bytes, or sixteen for a thread-local.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Own(AtomId),
    Base(u64),
    Bound(u64),
    /// For a thread-local at this offset.
    ThreadLocal(u64),
}

/// A reference that is not filled in yet.
struct PendingReference {
    at: usize,
    file: usize,
    reference: Reference,
}

/// The target of a reference.
#[derive(Clone, Copy)]
enum Found {
    Own(AtomId),
    Place(Place),
}

impl Writer<'_> {
    /// Adds the atoms that the base lacks: unnamed constants, and new functions.
    fn add_needed_atoms(&mut self) -> Result<(), Unpatchable> {
        let mut open: Vec<AtomId> = self.own.iter().copied().collect();
        while let Some(id) = open.pop() {
            let atom = self.objects.atom(id);
            let frame = atom.frame.iter().flat_map(|frame| [&frame.common, &frame.own]);
            let frame = frame.flat_map(|record| &record.references);
            for reference in atom.references.iter().chain(frame) {
                if let Found::Own(needed) = self.find(id.file, reference)?
                    && self.own.insert(needed)
                {
                    open.push(needed);
                }
            }
        }
        Ok(())
    }

    /// The target of a reference: an atom of the patch, if it contains one or the base does not have it.
    fn find(&self, file: usize, reference: &Reference) -> Result<Found, Unpatchable> {
        let here = self.objects.find(file, &reference.to);
        if let Some(id) = here.filter(|id| self.own.contains(id)) {
            return Ok(Found::Own(id));
        }
        let To::Named(name) = &reference.to else {
            let id = here.ok_or(Unpatchable::Objects)?;
            return match self.objects.atom(id).kind {
                Kind::Constant | Kind::Code => Ok(Found::Own(id)),
                _ => Err(Unpatchable::UnnamedStatic),
            };
        };
        let stem = here.map_or("", |id| &self.objects.files[id.file].stem);
        if let Some(place) = place_in(self.base, self.pair, stem, name) {
            return Ok(Found::Place(place));
        }
        let missing = || Unpatchable::Missing(name.clone());
        let id = here.ok_or_else(missing)?;
        match self.objects.atom(id).kind {
            Kind::Code | Kind::Constant => Ok(Found::Own(id)),
            _ => Err(Unpatchable::NewStatic(name.clone())),
        }
    }

    fn place_code(&mut self) -> Result<u32, Unpatchable> {
        let is_code = |id: &&AtomId| self.objects.atom(**id).kind == Kind::Code;
        let code: Vec<_> = self.own.iter().filter(is_code).copied().collect();
        for id in &code {
            self.place(*id, CODE_ALIGN, TRAP)?;
        }
        // A call reaches two gigabytes in each direction; another library may be farther away.
        let called: BTreeSet<u64> =
            self.open.iter().filter_map(|open| self.slot_of_direct_call(open)).collect();
        for bound in called {
            self.align(CODE_ALIGN, TRAP);
            self.jumps.insert(bound, self.content.len());
            // jmp *slot(%rip)
            self.content.extend([0xff, 0x25, 0, 0, 0, 0]);
        }
        self.align(PAGE as u64, TRAP);
        offset(self.content.len())
    }

    /// The slot of a function of another library that is called directly; `None` for any other reference.
    fn slot_of_direct_call(&self, open: &PendingReference) -> Option<u64> {
        let is_direct = matches!(open.reference.form, elf::R_X86_64_PLT32 | elf::R_X86_64_PC32);
        match self.find(open.file, &open.reference) {
            Ok(Found::Place(Place::Bound(bound))) if is_direct => Some(bound),
            _ => None,
        }
    }

    fn place_data(&mut self) -> Result<(), Unpatchable> {
        let is_data = |id: &&AtomId| self.objects.atom(**id).kind != Kind::Code;
        let data: Vec<_> = self.own.iter().filter(is_data).copied().collect();
        for id in data {
            self.place(id, 8, 0)?;
        }
        let mut wanted = Vec::new();
        for open in &self.open {
            wanted.extend(self.slot(open)?);
        }
        wanted.extend(self.jumps.keys().map(|bound| Slot::Bound(*bound)));
        for slot in wanted {
            if self.slots.contains_key(&slot) {
                continue;
            }
            self.align(8, 0);
            self.slots.insert(slot, self.content.len());
            self.content.extend([0; 8]);
            if let Slot::ThreadLocal(offset) = slot {
                self.content.extend(offset.to_le_bytes());
            }
        }
        Ok(())
    }

    /// The slot that a reference reads; `None` if it reads none.
    fn slot(&self, open: &PendingReference) -> Result<Option<Slot>, Unpatchable> {
        let Reference { form, .. } = open.reference;
        Ok(match form {
            elf::R_X86_64_GOTPCREL | elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX => {
                Some(match self.find(open.file, &open.reference)? {
                    Found::Own(id) => Slot::Own(id),
                    Found::Place(Place::At(address)) => Slot::Base(address),
                    Found::Place(Place::Bound(at)) => Slot::Bound(at),
                    Found::Place(Place::ThreadLocal(_)) => {
                        return Err(Unpatchable::Relocation(form));
                    }
                })
            }
            elf::R_X86_64_TLSGD => match self.find(open.file, &open.reference)? {
                Found::Place(Place::ThreadLocal(offset)) => Some(Slot::ThreadLocal(offset)),
                _ => return Err(Unpatchable::Relocation(form)),
            },
            elf::R_X86_64_TLSLD => Some(Slot::ThreadLocal(0)),
            _ => None,
        })
    }

    fn place(&mut self, id: AtomId, align: u64, filler: u8) -> Result<(), Unpatchable> {
        let atom = self.objects.atom(id);
        // The patch as a whole begins at a page.
        if atom.align > PAGE as u64 {
            return Err(Unpatchable::Alignment(atom.align));
        }
        if self.content.len() + PAGE + atom.bytes.len() > MAX_BYTES {
            return Err(Unpatchable::TooLarge(self.content.len() + atom.bytes.len()));
        }
        self.align(atom.align.max(align), filler);
        let at = self.content.len();
        self.placed.insert(id, at);
        self.content.extend(&atom.bytes);
        if atom.bytes.len() != index(atom.size) {
            return Err(Unpatchable::NewStatic(name_of(atom)));
        }
        self.add_references(id.file, at, &atom.references);
        Ok(())
    }

    fn add_references(&mut self, file: usize, at: usize, references: &[Reference]) {
        let open = references.iter().cloned().map(|reference| {
            let at = at + index(reference.at);
            PendingReference { at, file, reference }
        });
        self.open.extend(open);
    }

    fn align(&mut self, align: u64, filler: u8) {
        let length = self.content.len().next_multiple_of(index(align));
        self.content.resize(length, filler);
    }

    /// Places the unwind information, one record after the other: zeros between them would end the list.
    fn place_frames(&mut self) -> Result<std::ops::Range<u32>, Unpatchable> {
        self.align(8, 0);
        let begin = self.content.len();
        let objects = self.objects;
        let described =
            self.own.iter().filter_map(|id| Some((*id, objects.atom(*id).frame.as_ref()?)));
        for (id, frame) in described.collect::<Vec<_>>() {
            let common = self.place_record(id.file, &frame.common);
            let own = self.place_record(id.file, &frame.own);
            // The distance from here back to the common record (CIE) on which it builds.
            let back = u32::try_from(own + 4 - common).map_err(|_| Unpatchable::Objects)?;
            self.content[own + 4..own + 8].copy_from_slice(&back.to_le_bytes());
        }
        if self.content.len() > begin {
            self.content.extend([0; 4]);
        }
        Ok(offset(begin)?..offset(self.content.len())?)
    }

    fn place_record(&mut self, file: usize, record: &Record) -> usize {
        let at = self.content.len();
        self.content.extend(&record.bytes);
        self.add_references(file, at, &record.references);
        at
    }

    /// Writes what is already known, and returns the fixups for the rest.
    fn fill_in(&mut self) -> Result<Vec<Fixup>, Unpatchable> {
        let mut fixups = Vec::new();
        let slots: Vec<_> = self.slots.iter().map(|(slot, at)| (*slot, *at)).collect();
        for (slot, at) in slots {
            let target = match slot {
                Slot::Own(id) => Target::Own(offset(self.placed[&id])?),
                Slot::Base(address) => Target::Base(address),
                Slot::Bound(at) => Target::Bound(at),
                Slot::ThreadLocal(_) => Target::ThreadLocals,
            };
            fixups.push(Fixup { at: offset(at)?, form: Form::Absolute, target, addend: 0 });
        }
        let jumps: Vec<_> = self.jumps.iter().map(|(bound, at)| (*bound, *at)).collect();
        for (bound, at) in jumps {
            let slot = self.slots[&Slot::Bound(bound)];
            self.relative(at + 2, slot, -4)?;
        }
        for open in std::mem::take(&mut self.open) {
            fixups.extend(self.fill_in_one(&open)?);
        }
        fixups.sort_by_key(|fixup| fixup.at);
        Ok(fixups)
    }

    fn fill_in_one(&mut self, open: &PendingReference) -> Result<Option<Fixup>, Unpatchable> {
        let Reference { form, addend, .. } = open.reference;
        let at = offset(open.at)?;
        let fixup = |form, target| Some(Fixup { at, form, target, addend });
        if let Some(slot) = self.slot(open)? {
            let slot = *self.slots.get(&slot).ok_or(Unpatchable::Relocation(form))?;
            self.relative(open.at, slot, addend)?;
            return Ok(None);
        }
        let found = self.find(open.file, &open.reference)?;
        Ok(match (form, found) {
            (elf::R_X86_64_64, Found::Own(id)) => {
                fixup(Form::Absolute, Target::Own(offset(self.placed[&id])?))
            }
            (elf::R_X86_64_64, Found::Place(Place::At(address))) => {
                fixup(Form::Absolute, Target::Base(address))
            }
            (elf::R_X86_64_64, Found::Place(Place::Bound(bound))) => {
                fixup(Form::Absolute, Target::Bound(bound))
            }
            (elf::R_X86_64_PC32 | elf::R_X86_64_PLT32, Found::Own(id)) => {
                self.relative(open.at, self.placed[&id], addend)?;
                None
            }
            (elf::R_X86_64_PC32 | elf::R_X86_64_PLT32, Found::Place(Place::At(address))) => {
                fixup(Form::Relative, Target::Base(address))
            }
            (elf::R_X86_64_PC32 | elf::R_X86_64_PLT32, Found::Place(Place::Bound(bound))) => {
                let jump = *self.jumps.get(&bound).ok_or(Unpatchable::Relocation(form))?;
                self.relative(open.at, jump, addend)?;
                None
            }
            (elf::R_X86_64_DTPOFF32, Found::Place(Place::ThreadLocal(place))) => {
                let value = i64::try_from(place).ok().and_then(|place| place.checked_add(addend));
                let value = value.and_then(|value| i32::try_from(value).ok());
                let value = value.ok_or(Unpatchable::Relocation(form))?;
                let place = self.content.get_mut(open.at..open.at + 4);
                place.ok_or(Unpatchable::Objects)?.copy_from_slice(&value.to_le_bytes());
                None
            }
            _ => return Err(Unpatchable::Relocation(form)),
        })
    }

    /// Writes the distance from one place of the patch to another.
    fn relative(&mut self, at: usize, to: usize, addend: i64) -> Result<(), Unpatchable> {
        let far = to as i64 + addend - at as i64;
        let far = i32::try_from(far).map_err(|_| Unpatchable::Objects)?;
        let place = self.content.get_mut(at..at + 4).ok_or(Unpatchable::Objects)?;
        place.copy_from_slice(&far.to_le_bytes());
        Ok(())
    }
}

fn offset(at: usize) -> Result<u32, Unpatchable> {
    u32::try_from(at).map_err(|_| Unpatchable::TooLarge(at))
}
