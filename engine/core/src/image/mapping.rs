//! What the loader and the system know about a mapped file.

use std::{
    ffi::{CStr, c_int, c_void},
    mem::MaybeUninit,
    ops::Range,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    ptr,
};

/// The address range in which the loader has mapped a file, from its first byte to its last; `None` if it has
/// not.
pub(super) fn mapping(path: &Path) -> Option<Range<usize>> {
    loaded(path).map(|loaded| loaded.range())
}

/// What the loader knows about a file that it has mapped.
pub(super) struct Loaded {
    /// The address at which the file's address 0 is mapped.
    pub bias: usize,
    /// The ranges of its segments, with their access rights.
    pub segments: Vec<(Range<usize>, u32)>,
    /// The TLS module number of the file; 0 if it has no thread-locals.
    pub thread_locals: usize,
}

impl Loaded {
    /// The range from its first byte to its last.
    pub fn range(&self) -> Range<usize> {
        let ranges = self.segments.iter().map(|(range, _)| range.clone());
        ranges.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
    }

    /// Where an address of the file is mapped, if the next `bytes` bytes lie in one segment that has the
    /// rights `flags`.
    pub fn address(&self, address: u64, bytes: usize, flags: u32) -> Option<usize> {
        let start = self.bias.wrapping_add(usize::try_from(address).ok()?);
        let end = start.checked_add(bytes)?;
        let is_inside = |(range, allowed): &(Range<usize>, u32)| {
            range.start <= start && end <= range.end && allowed & flags == flags
        };
        self.segments.iter().any(is_inside).then_some(start)
    }
}

/// What the loader knows about a file; `None` if it has not mapped it.
pub(super) fn loaded(path: &Path) -> Option<Loaded> {
    struct Search<'a> {
        path: &'a [u8],
        found: Option<Loaded>,
    }

    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader passes a valid record, and the pointer from below.
        let (info, search) = unsafe { (&*info, &mut *data.cast::<Search<'_>>()) };
        if info.dlpi_name.is_null() {
            return 0;
        }
        // SAFETY: the loader's names end with a zero.
        if unsafe { CStr::from_ptr(info.dlpi_name) }.to_bytes() != search.path {
            return 0;
        }
        // SAFETY: the loader's record says how many headers there are.
        let headers =
            unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        let segments = headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
        let segments = segments.map(|header| {
            let start = info.dlpi_addr.wrapping_add(header.p_vaddr);
            let end = start.wrapping_add(header.p_memsz);
            (start as usize..end as usize, header.p_flags)
        });
        search.found = Some(Loaded {
            bias: info.dlpi_addr as usize,
            segments: segments.collect(),
            thread_locals: info.dlpi_tls_modid,
        });
        1
    }

    let mut search = Search { path: path.as_os_str().as_bytes(), found: None };
    // SAFETY: `visit` is called on this thread before the function returns.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
    search.found
}

/// The number of a signal whose handler lies in a mapping: the system would call unmapped code.
pub(super) fn handled_signal(mapping: &Range<usize>) -> Option<c_int> {
    (1..=libc::SIGRTMAX()).find(|signal| {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: without a new action, the call only writes the present one.
        let code = unsafe { libc::sigaction(*signal, ptr::null(), action.as_mut_ptr()) };
        // SAFETY: if the call succeeds, it has written the action.
        code == 0 && mapping.contains(&unsafe { action.assume_init() }.sa_sigaction)
    })
}

/// The number of bytes of a mapped range that are in memory, among its first [`MAX_CHECKED_BYTES`] bytes.
pub(super) fn resident(range: &Range<usize>) -> usize {
    /// How many bytes to ask for at a time.
    const STEP: usize = 64 << 20;
    let page = page_size();
    let end = range.end.min(range.start.saturating_add(MAX_CHECKED_BYTES));
    let mut pages = vec![0_u8; STEP / page];
    let mut bytes = 0;
    for start in (range.start..end).step_by(STEP) {
        let size = STEP.min(end - start);
        let address = ptr::without_provenance_mut(start);
        // SAFETY: there is a byte for each page of so much memory.
        let code = unsafe { libc::mincore(address, size, pages.as_mut_ptr()) };
        if code == 0 {
            let asked = pages.iter().take(size.div_ceil(page));
            bytes += asked.filter(|page| **page & 1 != 0).count() * page;
        }
    }
    bytes.min(range.len())
}

/// The size of a page, in bytes.
pub(super) fn page_size() -> usize {
    // SAFETY: the call has no precondition.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// The largest number of bytes of a range that [`resident`] checks. Some programs reserve a terabyte.
const MAX_CHECKED_BYTES: usize = 16 << 30;
