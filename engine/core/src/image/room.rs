//! The address space beside an image in which its patches are mapped.
//!
//! Code that resolves backtraces lists the images of a process only once, before its first backtrace. Therefore
//! the places of all patches are reported before any patch exists: the whole room is reserved at once, with a
//! place of fixed size for each patch.

use std::{
    ffi::CString,
    fs, io,
    ops::Range,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use super::patch::{MAX_PATCHES, NotMapped};
use crate::artifact::patch::{MAX_BYTES, PAGE};

/// The largest distance between a place in a patch and the target of its reference.
pub(super) const REACH: usize = i32::MAX as usize;

/// The address space for the patches of an image. It stays reserved until `release`.
pub(super) struct Room {
    start: usize,
    places: Box<[Place]>,
}

/// The result of a search for room.
enum Found {
    Room(Room),
    /// There was room, but other threads have mapped something there since.
    OnlyTaken,
    Nothing,
}

/// How often room is searched for while other threads take it.
const MOST_TRIES: usize = 100;

/// The room for one patch.
struct Place {
    is_used: AtomicBool,
    /// The path of the file with the symbols of the patch, which is reported to code that resolves backtraces.
    name: CString,
    header: libc::Elf64_Phdr,
    /// The device and the inode of that file; empty as long as the file does not exist.
    symbols: OnceLock<(u64, u64)>,
}

/// The place of a patch that is being mapped. If it is dropped, the place is empty again.
pub(super) struct Taken<'a> {
    room: &'a Room,
    number: usize,
}

impl Room {
    /// Reserves room near the image of `file`.
    pub fn near(image: &Range<usize>, file: &Path) -> Result<Self, NotMapped> {
        // The nearest place is also the one where the system puts the next mapping of another thread.
        for _ in 0..MOST_TRIES {
            match Self::try_near(image, file)? {
                Found::Room(room) => return Ok(room),
                Found::Nothing => return Err(NotMapped::NoRoom),
                Found::OnlyTaken => {}
            }
        }
        Err(NotMapped::NoRoom)
    }

    fn try_near(image: &Range<usize>, file: &Path) -> Result<Found, NotMapped> {
        let bytes = MAX_PATCHES * MAX_BYTES;
        let maps = fs::read_to_string("/proc/self/maps").map_err(NotMapped::System)?;
        let mut found = Found::Nothing;
        for place in places(&maps, image, bytes) {
            let wanted = ptr::with_exposed_provenance_mut(place);
            // SAFETY: the mapping is new, and replaces no other mapping.
            let mapped = unsafe {
                libc::mmap(
                    wanted,
                    bytes,
                    libc::PROT_NONE,
                    RESERVE | libc::MAP_FIXED_NOREPLACE,
                    -1,
                    0,
                )
            };
            if mapped == libc::MAP_FAILED {
                match io::Error::last_os_error() {
                    error if error.raw_os_error() == Some(libc::EEXIST) => {
                        found = Found::OnlyTaken;
                        continue;
                    }
                    error => return Err(NotMapped::System(error)),
                }
            }
            let start = mapped.expose_provenance();
            // A system that does not know the flag treats the address as a hint.
            if mapped != wanted {
                unmap(start, bytes);
                continue;
            }
            let places = (0..MAX_PATCHES).map(|number| Place::new(file, number)).collect();
            return Ok(Found::Room(Self { start, places }));
        }
        Ok(found)
    }

    /// The addresses of all present and future patches.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.places.len() * MAX_BYTES
    }

    /// Takes the next place.
    pub fn take(&self) -> Result<Taken<'_>, NotMapped> {
        let free = |place: &Place| !place.is_used.swap(true, Ordering::Relaxed);
        let number = self.places.iter().position(free).ok_or(NotMapped::NoRoom)?;
        Ok(Taken { room: self, number })
    }

    /// Calls `callback` for each place as if an image were there, until it returns another number than 0.
    pub fn each(&self, mut callback: impl FnMut(&libc::dl_phdr_info) -> i32) -> i32 {
        let visit = |(number, place): (usize, &Place)| {
            // SAFETY: the type has no invalid values.
            let mut info: libc::dl_phdr_info = unsafe { std::mem::zeroed() };
            info.dlpi_addr = (self.start + number * MAX_BYTES - PAGE) as u64;
            info.dlpi_name = place.name.as_ptr();
            info.dlpi_phdr = &raw const place.header;
            info.dlpi_phnum = 1;
            callback(&info)
        };
        self.places.iter().enumerate().map(visit).find(|answer| *answer != 0).unwrap_or(0)
    }

    /// Whether a file has the symbols of a patch.
    pub fn has_symbols_in(&self, file: (u64, u64)) -> bool {
        self.places.iter().any(|place| place.symbols.get() == Some(&file))
    }

    /// Unmaps all patches, and the room for others.
    ///
    /// # Safety
    /// No code runs in a patch, no pointer leads into one, and no other function of this room is called
    /// afterwards.
    pub unsafe fn release(&self) {
        let range = self.range();
        unmap(range.start, range.len());
    }
}

impl Place {
    fn new(file: &Path, number: usize) -> Self {
        let name = symbols_beside(file, number);
        Self {
            is_used: AtomicBool::new(false),
            // A path that was opened has no zero.
            name: CString::new(name.as_os_str().as_bytes()).unwrap_or_default(),
            header: libc::Elf64_Phdr {
                p_type: libc::PT_LOAD,
                p_flags: libc::PF_R | libc::PF_X,
                p_offset: 0,
                p_vaddr: PAGE as u64,
                p_paddr: PAGE as u64,
                p_filesz: MAX_BYTES as u64,
                p_memsz: MAX_BYTES as u64,
                p_align: PAGE as u64,
            },
            symbols: OnceLock::new(),
        }
    }
}

/// The file with the symbols of a patch: `world-v3-7f3a90ab+2.symbols`
fn symbols_beside(file: &Path, number: usize) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{stem}+{}.symbols", number + 1))
}

impl Taken<'_> {
    /// The address of its first byte.
    pub fn start(&self) -> usize {
        self.room.start + self.number * MAX_BYTES
    }

    /// Sets the access rights of the place from `part.start` to `part.end`.
    pub fn protect(&self, part: Range<usize>, protection: i32) -> Result<(), NotMapped> {
        if part.is_empty() {
            return Ok(());
        }
        let start = ptr::with_exposed_provenance_mut(self.start() + part.start);
        // SAFETY: the part consists of whole pages of the place, which is not known to other code yet.
        match unsafe { libc::mprotect(start, part.len(), protection) } {
            0 => Ok(()),
            _ => Err(NotMapped::System(io::Error::last_os_error())),
        }
    }

    /// Writes the file with the symbols at its reported path.
    pub fn write_symbols(&self, file: &Path, symbols: &[u8]) -> io::Result<SymbolFile> {
        let written = SymbolFile(symbols_beside(file, self.number));
        fs::write(&written.0, symbols)?;
        let metadata = fs::metadata(&written.0)?;
        let _ = self.room.places[self.number].symbols.set((metadata.dev(), metadata.ino()));
        Ok(written)
    }

    /// Keeps the mapping in the place, so that the place is not emptied.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let start = ptr::with_exposed_provenance_mut(self.start());
        let flags = RESERVE | libc::MAP_FIXED;
        // SAFETY: the place belongs to the room, and no pointer leads into it yet.
        unsafe { libc::mmap(start, MAX_BYTES, libc::PROT_NONE, flags, -1, 0) };
        self.room.places[self.number].is_used.store(false, Ordering::Relaxed);
    }
}

/// A file with the symbols of a patch. It is removed when this is dropped.
pub(super) struct SymbolFile(PathBuf);

impl Drop for SymbolFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The flags of a mapping that only reserves addresses.
const RESERVE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

fn unmap(start: usize, bytes: usize) {
    // SAFETY: the callers own the mapping, into which no pointer leads any more.
    unsafe { libc::munmap(ptr::with_exposed_provenance_mut(start), bytes) };
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
    fn the_nearest_unmapped_places_are_found() {
        assert_eq!(
            places(MAPS, &BASE, 0x1000),
            [0x7f00_0001_f000, 0x7f00_0004_0000, 0x7f00_0005_0000]
        );
        // The gap above the base is too small.
        assert_eq!(places(MAPS, &BASE, 0x3000), [0x7f00_0001_d000, 0x7f00_0005_0000]);
    }

    #[test]
    fn room_is_found_while_other_threads_map_and_unmap() {
        let is_over = AtomicBool::new(false);
        // Its library is where the system puts mappings.
        let image = libc::getpid as *const () as usize;
        let image = image..image + PAGE;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let access = libc::PROT_READ;
                        // SAFETY: the mapping is new.
                        let mapped =
                            unsafe { libc::mmap(ptr::null_mut(), 1 << 20, access, RESERVE, -1, 0) };
                        unmap(mapped.expose_provenance(), 1 << 20);
                    }
                });
            }
            let reserve = |_| {
                let room = Room::near(&image, Path::new("image.so"));
                // SAFETY: no patch was mapped in it.
                room.map(|room| unsafe { room.release() })
            };
            let rooms: Vec<_> = (0..1000).map(reserve).collect();
            is_over.store(true, Ordering::Relaxed);
            let failed: Vec<_> = rooms.into_iter().filter_map(Result::err).collect();
            assert!(failed.is_empty(), "{}: {:?}", failed.len(), failed.first());
        });
    }

    #[test]
    fn no_place_is_out_of_reach_of_the_base() {
        assert!(places(MAPS, &BASE, REACH).is_empty());
        assert!(places("nonsense\n", &BASE, 0x1000).is_empty());
    }
}
