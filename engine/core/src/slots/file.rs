//! Slots in a memory file, so that a console can read which calls were under way when this process died.
//! `hotswap_protocol::in_flight` describes the layout.

use std::{
    ffi::c_int,
    fs::File,
    io,
    mem::offset_of,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::PathBuf,
    process, ptr,
    sync::{Mutex, MutexGuard},
};

use hotswap_protocol::BuildId;
use hotswap_protocol::in_flight::{
    FILE_BYTES, LEGEND_AT, LEGEND_ENTRIES, LEGEND_ENTRY_BYTES, LEGEND_FACTS_AT, LEGEND_PATCHES_AT,
    LEGEND_TEXT_AT, MAGIC, ROW_BYTES, ROW_CALLS, ROW_CALLS_AT, ROW_NAME_AT, ROW_THREAD_AT, ROWS,
    ROWS_AT,
};

use super::{
    MAX_THREADS, Rows, calls_file,
    protocol::{DEPTH, NAME_BYTES, ThreadSlots},
};
use crate::{lock::Lock as _, os};

const _: () = assert!(
    size_of::<Rows>() == LEGEND_AT - ROWS_AT
        && size_of::<ThreadSlots>() == ROW_BYTES
        && MAX_THREADS == ROWS
        && DEPTH == ROW_CALLS
        && offset_of!(ThreadSlots, thread_id) == ROW_THREAD_AT
        && offset_of!(ThreadSlots, slots) == ROW_CALLS_AT
        && offset_of!(ThreadSlots, name) == ROW_NAME_AT
);

/// The memory file, and the slots of all threads in it.
pub(super) struct CallsFile {
    file: File,
    rows: &'static Rows,
    /// Which entries of the legend are in use.
    entries: Mutex<[bool; LEGEND_ENTRIES]>,
}

impl CallsFile {
    /// Makes the file. No thread has a row yet.
    pub fn new() -> io::Result<Self> {
        let file = os::memory_file(c"hotswap-calls", FILE_BYTES as u64)?;
        file.write_all_at(&[&MAGIC[..], &process::id().to_ne_bytes()].concat(), 0)?;
        let start = map(ptr::null_mut(), libc::MAP_SHARED, Some(&file))?;
        // SAFETY: the rows lie in the mapping, which is never unmapped. They begin at a page of it, so they
        // are aligned. Rows are atomics, for which zeros are valid.
        let rows = unsafe { &*start.byte_add(ROWS_AT).cast::<Rows>() };
        // The first row belongs to no thread that could say whether it must fence.
        rows[0].begin(true, 0, [0; NAME_BYTES]);
        // SAFETY: the handler only does what is allowed in a child of a process with several threads.
        let code = unsafe { libc::pthread_atfork(None, None, Some(keep_apart)) };
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code));
        }
        Ok(Self { file, rows, entries: Mutex::new([false; LEGEND_ENTRIES]) })
    }

    pub fn rows(&self) -> &'static Rows {
        self.rows
    }

    /// The path by which another process of this user can open the file while this process lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.file.as_raw_fd()).into()
    }

    /// Writes which version has an address that slots may hold, and what the notes of calls there mean: the
    /// functions, and then the activities, by number. `builds` are the builds of the version's faces, the base
    /// first.
    pub fn describe<'a>(
        &'static self,
        address: usize,
        plugin: &str,
        version: u32,
        builds: &[BuildId],
        functions: &[&'a str],
        activities: impl IntoIterator<Item = &'a str>,
    ) -> Option<LegendEntry> {
        let entry = LegendEntry { file: self, number: self.free_entry()? };
        let text = legend_text(plugin, functions.iter().copied().chain(activities));
        let mut content = Vec::with_capacity(LEGEND_ENTRY_BYTES);
        content.extend(address.to_ne_bytes());
        content.extend(version.to_ne_bytes());
        content.extend((text.len() as u32).to_ne_bytes());
        content.extend(text.bytes());
        content.resize(LEGEND_PATCHES_AT, 0);
        let (base, patches) = builds.split_first().unzip();
        content.extend(patches.into_iter().flatten().flat_map(|build| build.bytes()));
        content.resize(LEGEND_FACTS_AT, 0);
        content.extend((functions.len() as u32).to_ne_bytes());
        content.extend(base.into_iter().flat_map(|build| build.bytes()));
        entry.write(&content);
        Some(entry)
    }

    fn free_entry(&self) -> Option<usize> {
        let mut entries = self.entries();
        let number = entries.iter().position(|is_used| !is_used)?;
        entries[number] = true;
        Some(number)
    }

    fn entries(&self) -> MutexGuard<'_, [bool; LEGEND_ENTRIES]> {
        self.entries.locked()
    }
}

/// The lines of an entry, as many as it has room for.
fn legend_text<'a>(plugin: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = plugin.to_owned();
    for name in names {
        if text.len() + 1 + name.len() > LEGEND_PATCHES_AT - LEGEND_TEXT_AT {
            break;
        }
        text.push('\n');
        text.push_str(name);
    }
    text
}

/// An entry of the legend, which is removed when this is dropped.
pub(crate) struct LegendEntry {
    file: &'static CallsFile,
    number: usize,
}

impl LegendEntry {
    fn write(&self, content: &[u8]) {
        let at = LEGEND_AT + self.number * LEGEND_ENTRY_BYTES;
        // An incomplete legend is no reason to refuse a plugin.
        let _ = self.file.file.write_all_at(content, at as u64);
    }
}

impl Drop for LegendEntry {
    fn drop(&mut self) {
        self.write(&[0; LEGEND_TEXT_AT]);
        self.file.entries()[self.number] = false;
    }
}

/// Gives a forked child slots of its own: it must not release what calls of its parent hold.
extern "C" fn keep_apart() {
    let Some(CallsFile { file, rows, .. }) = calls_file() else { return };
    // SAFETY: the rows begin at this distance from the start of the mapping.
    let start = unsafe { ptr::from_ref(*rows).byte_sub(ROWS_AT) }.cast_mut().cast();
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    if map(start, private, None).is_err() {
        process::abort();
    }
    // If reading fails, the rows stay empty, which is safe: they belong to threads of the parent.
    // SAFETY: the mapping has just been made, has this length, and is only known to this thread.
    let _ = unsafe { libc::pread(file.as_raw_fd(), start, LEGEND_AT, 0) };
}

/// Maps the part of the file before the legend.
fn map(
    start: *mut libc::c_void,
    flags: c_int,
    file: Option<&File>,
) -> io::Result<*mut libc::c_void> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let descriptor = file.map_or(-1, |file| file.as_raw_fd());
    // SAFETY: the mapping replaces no used memory, except in a child, where it replaces the mapping of the
    // same file.
    let mapped = unsafe { libc::mmap(start, LEGEND_AT, access, flags, descriptor, 0) };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(mapped) }
}
