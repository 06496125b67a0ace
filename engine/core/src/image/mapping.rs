//! What the loader and the system know of a mapped file.

use std::{
    ffi::{CStr, c_int, c_void},
    mem::MaybeUninit,
    ops::Range,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    ptr,
};

/// Where the loader has mapped a file, from its first byte to its last; `None` if it has not.
pub(super) fn mapping(path: &Path) -> Option<Range<usize>> {
    struct Search<'a> {
        path: &'a [u8],
        found: Option<Range<usize>>,
    }

    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader passes a valid record and the pointer given below.
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
        let loaded = headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
        let ranges = loaded.map(|header| {
            let start = info.dlpi_addr.wrapping_add(header.p_vaddr);
            (start as usize, start.wrapping_add(header.p_memsz) as usize)
        });
        let whole = ranges.reduce(|(a, b), (start, end)| (a.min(start), b.max(end)));
        search.found = Some(whole.map_or(0..0, |(start, end)| start..end));
        1
    }

    let mut search = Search { path: path.as_os_str().as_bytes(), found: None };
    // SAFETY: `visit` is called on this thread before the function returns.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
    search.found
}

/// A signal whose handler lies in a mapping, by its number: the system would call into what is gone.
pub(super) fn handled_signal(mapping: &Range<usize>) -> Option<c_int> {
    (1..=libc::SIGRTMAX()).find(|signal| {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: with no new action the call only writes the present one.
        let code = unsafe { libc::sigaction(*signal, ptr::null(), action.as_mut_ptr()) };
        // SAFETY: where it succeeds it has written the action.
        code == 0 && mapping.contains(&unsafe { action.assume_init() }.sa_sigaction)
    })
}
