//! Loads a patch beside the image of its base.

use std::{fmt, io, path::Path, ptr};

use hotswap_plugin::__private::FunctionRef;

use super::{
    mapping::Loaded,
    room::{Room, SymbolFile},
};
use crate::artifact::patch::{Fixup, Form, Header, PAGE, Patch, Target};

/// The largest number of patches that are loaded beside one image.
pub(crate) const MAX_PATCHES: usize = 32;

unsafe extern "C" {
    // A function of the unwinder, which `std` links.
    fn __register_frame(begin: *const u8);
    fn __deregister_frame(begin: *const u8);
}

/// A mapped patch. It stays mapped as long as its room, because code that it ran may have left pointers into it.
pub(crate) struct MappedPatch {
    bytes: usize,
    /// The address of its frame descriptions; `None` if it has none.
    frames: Option<usize>,
    functions: Vec<usize>,
    /// The file with its symbols; `None` if it has none, or if they could not be written.
    _symbols: Option<SymbolFile>,
}

/// Why a patch cannot be loaded.
#[derive(Debug)]
pub(crate) enum NotMapped {
    /// Its base is linked into this program.
    Linked,
    /// The loader does not know the image of its base.
    NoBase,
    /// There is no room near its base.
    NoRoom,
    /// It refers to this address, which is outside its base or lacks the needed access rights.
    OutsideBase(u64),
    /// It refers to thread-locals, and its base has none.
    NoThreadLocals,
    /// The target of the fixup at this offset is too far away.
    TooFar(u32),
    /// The system refused to map it.
    System(io::Error),
}

impl fmt::Display for NotMapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linked => f.write_str("its base is linked into this program"),
            Self::NoBase => f.write_str("the loader does not say where its base lies"),
            Self::NoRoom => f.write_str("there is no room for it within 2 GiB of its base"),
            Self::OutsideBase(address) => {
                write!(
                    f,
                    "it refers to the address {address:#x}, which does not exist in its base or lacks the needed access rights"
                )
            }
            Self::NoThreadLocals => {
                f.write_str("it refers to thread-locals, and its base has none")
            }
            Self::TooFar(at) => {
                write!(f, "the target of the reference at {at:#x} is more than 2 GiB away")
            }
            Self::System(error) => write!(f, "the system refused to map it: {error}"),
        }
    }
}

impl MappedPatch {
    /// Maps a patch near its base, fills in the fixups, and registers its frame descriptions, so that panics
    /// can unwind through it. Its symbols are written beside `file`, the file of the base.
    pub(super) fn map(
        patch: &Patch,
        base: &Loaded,
        room: &Room,
        file: &Path,
    ) -> Result<Self, NotMapped> {
        let Header { code, frames, fixups, functions, .. } = &patch.header;
        let bytes = patch.content.len().next_multiple_of(PAGE).max(PAGE);
        let place = room.take()?;
        let start = place.start();
        let mut content = patch.content.clone();
        for fixup in fixups {
            fill_in(&mut content, fixup, start, base)?;
        }
        place.protect(0..bytes, libc::PROT_READ | libc::PROT_WRITE)?;
        // SAFETY: the place is at least that large, is writable, and is not known to other code.
        unsafe {
            let to = ptr::with_exposed_provenance_mut(start);
            ptr::copy_nonoverlapping(content.as_ptr(), to, content.len());
        }
        let code = size(*code);
        place.protect(0..code, libc::PROT_READ | libc::PROT_EXEC)?;
        place.protect(code..bytes, libc::PROT_READ)?;
        let symbols = Some(&patch.symbols).filter(|symbols| !symbols.is_empty());
        let mapped = Self {
            bytes,
            frames: (!frames.is_empty()).then_some(start + size(frames.start)),
            functions: functions.iter().map(|at| start + size(*at)).collect(),
            // Without symbols, only the names in backtraces are missing.
            _symbols: symbols.and_then(|symbols| place.write_symbols(file, symbols).ok()),
        };
        place.keep();
        if let Some(frames) = mapped.frames {
            // SAFETY: `Patch::read` has checked that the descriptions have an end mark, and they stay until
            // they are deregistered.
            unsafe { __register_frame(ptr::with_exposed_provenance(frames)) };
        }
        Ok(mapped)
    }

    /// The number of mapped bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The functions that it contains.
    pub fn functions(&self) -> Vec<FunctionRef> {
        let at = |at: &usize| FunctionRef::at(ptr::with_exposed_provenance::<u8>(*at).cast());
        self.functions.iter().map(at).collect()
    }

    /// Ends the use of the patch, before its room is released.
    ///
    /// # Safety
    /// No code runs in it, and no pointer leads into it.
    pub unsafe fn end(self) {
        if let Some(frames) = self.frames {
            // SAFETY: the descriptions were registered when the patch was mapped.
            unsafe { __deregister_frame(ptr::with_exposed_provenance(frames)) };
        }
    }
}

/// Writes the target of a fixup to its place in the content.
fn fill_in(
    content: &mut [u8],
    fixup: &Fixup,
    start: usize,
    base: &Loaded,
) -> Result<(), NotMapped> {
    let Fixup { at, form, target, addend } = *fixup;
    let outside = |address| NotMapped::OutsideBase(address);
    let address = match target {
        Target::Own(offset) => start + size(offset),
        // An address may be the end of the image.
        Target::Base(address) => base.address(address, 0, 0).ok_or_else(|| outside(address))?,
        Target::Bound(address) => {
            let place = base.address(address, size_of::<usize>(), libc::PF_R);
            let place =
                ptr::with_exposed_provenance::<usize>(place.ok_or_else(|| outside(address))?);
            // SAFETY: this many bytes are readable there, and the image stays mapped meanwhile.
            unsafe { place.read_unaligned() }
        }
        Target::ThreadLocals if base.thread_locals == 0 => return Err(NotMapped::NoThreadLocals),
        Target::ThreadLocals => base.thread_locals,
    };
    let added = match target {
        Target::ThreadLocals => address as u64,
        _ => (address as u64).wrapping_add_signed(addend),
    };
    let place = size(at);
    match form {
        Form::Absolute => content[place..place + form.size()].copy_from_slice(&added.to_le_bytes()),
        Form::Relative => {
            let distance = added.wrapping_sub((start + place) as u64).cast_signed();
            let distance = i32::try_from(distance).map_err(|_| NotMapped::TooFar(at))?;
            content[place..place + form.size()].copy_from_slice(&distance.to_le_bytes());
        }
    }
    Ok(())
}

fn size(offset: u32) -> usize {
    // All platforms that can load anything have 64-bit addresses.
    offset as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a fixup at offset 8 of a patch at `start` writes.
    fn filled(
        start: usize,
        base: &Loaded,
        (form, target, addend): (Form, Target, i64),
    ) -> Result<i64, NotMapped> {
        let mut content = [0; 24];
        fill_in(&mut content, &Fixup { at: 8, form, target, addend }, start, base)?;
        let (before, written) = content.split_at(8);
        assert_eq!(before, [0; 8]);
        let written: [u8; 8] = written[..8].try_into().unwrap();
        Ok(match form {
            Form::Absolute => i64::from_le_bytes(written),
            Form::Relative => i64::from_le_bytes(written) << 32 >> 32,
        })
    }

    #[test]
    fn a_fixup_writes_the_address_of_its_target_or_the_distance_to_it() {
        let bound: [usize; 2] = [0x1234, 0x5678];
        let at = bound.as_ptr().expose_provenance();
        let readable = (at..at + 16, libc::PF_R);
        let base = Loaded { bias: at - 0x100, segments: vec![readable], thread_locals: 7 };
        let start = at + 0x1000;
        let filled = |form, target, addend| filled(start, &base, (form, target, addend));
        let address = |offset: usize| (at + offset) as i64;
        for (form, target, addend, expected) in [
            (Form::Absolute, Target::Base(0x108), 2, address(10)),
            (Form::Absolute, Target::Base(0x110), 0, address(16)),
            (Form::Relative, Target::Base(0x108), -4, 8 - 0x1008 - 4),
            (Form::Absolute, Target::Own(16), 1, address(0x1011)),
            (Form::Relative, Target::Own(16), -4, 4),
            (Form::Absolute, Target::Bound(0x108), 1, 0x5679),
            (Form::Absolute, Target::ThreadLocals, 5, 7),
        ] {
            assert_eq!(filled(form, target, addend).unwrap(), expected, "{form:?} {target:?}");
        }
        for target in [Target::Base(0x111), Target::Base(0xff), Target::Base(u64::MAX)] {
            assert!(matches!(filled(Form::Absolute, target, 0), Err(NotMapped::OutsideBase(_))));
        }
        for target in [Target::Bound(0x109), Target::Bound(0xff), Target::Bound(u64::MAX - 3)] {
            assert!(matches!(filled(Form::Absolute, target, 0), Err(NotMapped::OutsideBase(_))));
        }
        let far = filled(Form::Relative, Target::Bound(0x100), 0);
        assert!(matches!(far, Err(NotMapped::TooFar(8))));
    }

    #[test]
    fn unreadable_memory_and_missing_thread_locals_are_errors() {
        let unreadable = (0x1000..0x2000, 0);
        let base = Loaded { bias: 0, segments: vec![unreadable], thread_locals: 0 };
        let filled = |target| filled(0x3000, &base, (Form::Absolute, target, 0));
        assert!(matches!(filled(Target::Bound(0x1000)), Err(NotMapped::OutsideBase(0x1000))));
        assert!(matches!(filled(Target::ThreadLocals), Err(NotMapped::NoThreadLocals)));
    }
}
