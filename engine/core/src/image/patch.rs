//! Loads a patch beside the image of its base.

use std::{
    fmt, fs, io,
    ops::Range,
    ptr::{self, NonNull},
};

use hotswap_plugin::__private::FunctionRef;

use super::mapping::Loaded;
use crate::artifact::patch::{Fixup, Form, Header, PAGE, Patch, Target};

/// The largest number of patches that are loaded beside one image.
pub(crate) const MAX_PATCHES: usize = 32;

/// The largest distance between a place in a patch and what it refers to.
const REACH: usize = i32::MAX as usize;

unsafe extern "C" {
    // A function of the unwinder, which `std` links.
    fn __register_frame(begin: *const u8);
    fn __deregister_frame(begin: *const u8);
}

/// A mapped patch. It stays mapped until `unmap`, because code that it ran may have left pointers into it.
pub(crate) struct MappedPatch {
    start: NonNull<u8>,
    bytes: usize,
    /// Where its frame descriptions begin; `None` if it has none.
    frames: Option<usize>,
    functions: Vec<usize>,
}

// SAFETY: nothing is written to the mapping.
unsafe impl Send for MappedPatch {}
// SAFETY: as above.
unsafe impl Sync for MappedPatch {}

/// Why a patch cannot be loaded.
#[derive(Debug)]
pub(crate) enum NotMapped {
    /// Its base is linked into this program.
    Linked,
    /// The loader does not know the image of its base.
    NoBase,
    /// There is no room near its base.
    NoRoom,
    /// It refers to this address, which its base does not have, or not with the needed rights.
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
    /// can unwind through it.
    pub(super) fn map(patch: &Patch, base: &Loaded) -> Result<Self, NotMapped> {
        let Header { code, frames, fixups, functions, .. } = &patch.header;
        let bytes = patch.content.len().next_multiple_of(PAGE).max(PAGE);
        let region = Region::near(&base.range(), bytes)?;
        let start = region.start.addr().get();
        let mut content = patch.content.clone();
        for fixup in fixups {
            fill_in(&mut content, fixup, start, base)?;
        }
        // SAFETY: the region has this length, was mapped as writable, and is not known to other code.
        unsafe {
            ptr::copy_nonoverlapping(content.as_ptr(), region.start.as_ptr(), content.len());
        }
        let code = size(*code);
        region.protect(0..code, libc::PROT_READ | libc::PROT_EXEC)?;
        region.protect(code..bytes, libc::PROT_READ)?;
        let mapped = Self {
            start: region.keep(),
            bytes,
            frames: (!frames.is_empty()).then_some(size(frames.start)),
            functions: functions.iter().copied().map(size).collect(),
        };
        if let Some(frames) = mapped.frames() {
            // SAFETY: `Patch::read` has checked that the descriptions have an end mark, and they stay until
            // they are deregistered.
            unsafe { __register_frame(frames) };
        }
        Ok(mapped)
    }

    /// How many bytes are mapped.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address range of the patch.
    pub fn range(&self) -> Range<usize> {
        let start = self.start.addr().get();
        start..start + self.bytes
    }

    /// The functions that it contains.
    pub fn functions(&self) -> Vec<FunctionRef> {
        let at = |offset: &usize| FunctionRef::at(self.start.as_ptr().wrapping_add(*offset).cast());
        self.functions.iter().map(at).collect()
    }

    fn frames(&self) -> Option<*const u8> {
        self.frames.map(|at| self.start.as_ptr().wrapping_add(at).cast_const())
    }

    /// Unmaps the patch.
    ///
    /// # Safety
    /// No code runs in it, and no pointer leads into it.
    pub unsafe fn unmap(self) {
        if let Some(frames) = self.frames() {
            // SAFETY: the descriptions were registered when the patch was mapped.
            unsafe { __deregister_frame(frames) };
        }
        drop(Region { start: self.start, bytes: self.bytes });
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

/// A mapping that is unmapped when dropped.
struct Region {
    start: NonNull<u8>,
    bytes: usize,
}

impl Region {
    /// Maps `bytes` bytes where nothing is mapped, as near to the base as possible.
    fn near(base: &Range<usize>, bytes: usize) -> Result<Self, NotMapped> {
        let maps = fs::read_to_string("/proc/self/maps").map_err(NotMapped::System)?;
        for place in places(&maps, base, bytes) {
            let wanted = ptr::with_exposed_provenance_mut(place);
            // SAFETY: the mapping is new, and replaces no other mapping.
            let mapped = unsafe {
                libc::mmap(
                    wanted,
                    bytes,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
                    -1,
                    0,
                )
            };
            if mapped == libc::MAP_FAILED {
                match io::Error::last_os_error() {
                    // Another thread has taken the place.
                    error if error.raw_os_error() == Some(libc::EEXIST) => continue,
                    error => return Err(NotMapped::System(error)),
                }
            }
            mapped.expose_provenance();
            let start = NonNull::new(mapped.cast()).ok_or(NotMapped::NoRoom)?;
            let region = Self { start, bytes };
            // A system that does not know the flag treats the address as a hint.
            if mapped == wanted {
                return Ok(region);
            }
        }
        Err(NotMapped::NoRoom)
    }

    fn protect(&self, part: Range<usize>, protection: libc::c_int) -> Result<(), NotMapped> {
        if part.is_empty() {
            return Ok(());
        }
        let start = self.start.as_ptr().wrapping_add(part.start);
        // SAFETY: the part consists of whole pages of the region, which is not known to other code yet.
        match unsafe { libc::mprotect(start.cast(), part.len(), protection) } {
            0 => Ok(()),
            _ => Err(NotMapped::System(io::Error::last_os_error())),
        }
    }

    /// Keeps the mapping.
    fn keep(self) -> NonNull<u8> {
        let start = self.start;
        std::mem::forget(self);
        start
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: this owns the mapping, and no pointer leads into it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// The addresses near a base where `bytes` bytes could be mapped, the nearest first. There is one for each
/// gap that is large enough, at the end of the gap nearest to the base. Base and mapping together span at
/// most [`REACH`].
fn places(maps: &str, base: &Range<usize>, bytes: usize) -> Vec<usize> {
    let mapped = maps.lines().filter_map(|line| {
        let (range, _) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        // A stack grows down into the gap below it.
        Some((number(start)?, number(end)?, line.ends_with("[stack]")))
    });
    let mut places = Vec::new();
    let mut gap_begins = None;
    for (start, end, is_stack) in mapped {
        if let Some(gap) = gap_begins.filter(|gap| !is_stack && gap + bytes <= start) {
            let place = if start <= base.start { start - bytes } else { gap };
            let (first, last) = (place.min(base.start), (place + bytes).max(base.end));
            if last - first <= REACH {
                places.push(place);
            }
        }
        gap_begins = Some(end);
    }
    places.sort_by_key(|place| place.abs_diff(base.start));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
        7f0000000000-7f0000010000 r-xp 00000000 00:00 0 /lib/below.so\n\
        7f0000020000-7f0000030000 r--p 00000000 00:00 0 /lib/base.so\n\
        7f0000030000-7f0000040000 r-xp 00010000 00:00 0 /lib/base.so\n\
        7f0000042000-7f0000050000 r-xp 00000000 00:00 0 /lib/above.so\n\
        7f0200000000-7f0200001000 r-xp 00000000 00:00 0 /lib/far.so\n\
        7f0200100000-7f0200200000 rw-p 00000000 00:00 0 [stack]\n";
    const BASE: Range<usize> = 0x7f00_0002_0000..0x7f00_0004_0000;

    #[test]
    fn a_place_is_the_nearest_where_nothing_is_mapped() {
        assert_eq!(
            places(MAPS, &BASE, 0x1000),
            [0x7f00_0001_f000, 0x7f00_0004_0000, 0x7f00_0005_0000]
        );
        // The gap above the base is too small.
        assert_eq!(places(MAPS, &BASE, 0x3000), [0x7f00_0001_d000, 0x7f00_0005_0000]);
    }

    #[test]
    fn there_is_no_place_where_a_patch_could_not_reach_its_base() {
        assert!(places(MAPS, &BASE, REACH).is_empty());
        assert!(places("nonsense\n", &BASE, 0x1000).is_empty());
    }

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
    fn a_fixup_writes_where_its_target_is_or_how_far_away() {
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
    fn what_is_not_readable_is_not_read_and_no_thread_locals_have_no_number() {
        let unreadable = (0x1000..0x2000, 0);
        let base = Loaded { bias: 0, segments: vec![unreadable], thread_locals: 0 };
        let filled = |target| filled(0x3000, &base, (Form::Absolute, target, 0));
        assert!(matches!(filled(Target::Bound(0x1000)), Err(NotMapped::OutsideBase(0x1000))));
        assert!(matches!(filled(Target::ThreadLocals), Err(NotMapped::NoThreadLocals)));
    }
}
