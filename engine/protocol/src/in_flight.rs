//! The calls that are under way in a host, in a memory file that a client can read after the host has died.
//!
//! [`HostInfo::calls_file`](crate::HostInfo::calls_file) is the path by which a client opens the file. The
//! file exists as long as a client has it open, however the host ends. Otherwise it ends with the host, so
//! nothing is left to clean up.
//!
//! ```no_run
//! use std::fs::File;
//!
//! use hotswap_protocol::{HostInfo, in_flight::calls_in_flight};
//!
//! /// Opens the file while the host lives, and reads it when the host has died.
//! fn last_words(host: &HostInfo, wait_for_its_end: impl FnOnce()) -> std::io::Result<()> {
//!     let Some(path) = &host.calls_file else { return Ok(()) };
//!     let file = File::open(path)?;
//!     wait_for_its_end();
//!     for call in calls_in_flight(&file)? {
//!         println!("{call}");
//!     }
//!     Ok(())
//! }
//! ```
//!
//! The layout of the file, with numbers in the machine's byte order:
//!
//! | at | what |
//! |---|---|
//! | 0 | [`MAGIC`], and the host's process id as a `u32` |
//! | [`ROWS_AT`] | [`ROWS`] rows of [`ROW_BYTES`], a row for each thread |
//! | [`LEGEND_AT`] | [`LEGEND_ENTRIES`] entries of [`LEGEND_ENTRY_BYTES`], an entry for each version |
//!
//! | at | field of a row |
//! |---|---|
//! | [`ROW_THREAD_AT`] | the system's id of the thread, an `i32`; 0 if the row is unused |
//! | [`ROW_CALLS_AT`] | [`ROW_CALLS`] calls, the outermost first. Each has the address of its version, a `u64`, 0 for no call; the number of its function, a `u32`; and the number of the patch whose code it runs, a `u32`, 0 for the version as it was loaded |
//! | [`ROW_NAME_AT`] | the thread's name as the system has it, 16 bytes, padded with zeros |
//!
//! The lowest bit of an address is a tag and not part of the address. It is set if the host protects the version
//! in another way than by this call. If the legend has no entry for an address, the address does not belong to a
//! version.
//!
//! | at | field of an entry of the legend |
//! |---|---|
//! | 0 | the address of the version, a `u64`; 0 if the entry is unused |
//! | 8 | the version's number, a `u32` |
//! | 12 | the length of the text in bytes, a `u32` |
//! | 16 | lines of text: the plugin, and then its functions and [activities](Activity::NOTED) in the order of their numbers |
//! | [`LEGEND_PATCHES_AT`] | the build ids of the patches, from the first one on, 16 bytes each |
//! | [`LEGEND_FACTS_AT`] | the number of the first activity, a `u32`; and the 16 bytes of the build id, all 0 for no artifact |

use std::{collections::HashMap, fmt, fs::File, io, os::unix::fs::FileExt};

use serde::{Deserialize, Serialize};

use crate::{Activity, BuildId, version_label};

/// The first bytes of the file; the last of them is the version of the layout.
pub const MAGIC: [u8; 16] = *b"HOTSWAP-CALLS\r\n\x02";

/// Where the rows begin.
pub const ROWS_AT: usize = 4096;
/// The number of rows.
pub const ROWS: usize = 1024;
/// The size of a row in bytes.
pub const ROW_BYTES: usize = 128;
/// The offset of the thread id in a row.
pub const ROW_THREAD_AT: usize = 8;
/// The offset of the calls in a row.
pub const ROW_CALLS_AT: usize = 16;
/// The number of calls in a row.
pub const ROW_CALLS: usize = 6;
/// The offset of the thread's name in a row.
pub const ROW_NAME_AT: usize = 112;

/// Where the legend begins.
pub const LEGEND_AT: usize = ROWS_AT + ROWS * ROW_BYTES;
/// The number of entries. Calls of further versions are left out of the result.
pub const LEGEND_ENTRIES: usize = 512;
/// The size of an entry in bytes. If a plugin has more functions than fit, only the first ones are named.
pub const LEGEND_ENTRY_BYTES: usize = 8192;
/// The offset of the text in an entry.
pub const LEGEND_TEXT_AT: usize = 16;
/// The offset of the patches' build ids in an entry. The text ends before it.
pub const LEGEND_PATCHES_AT: usize = LEGEND_FACTS_AT - MOST_PATCHES * size_of::<BuildId>();
/// How many patches of a version an entry has room for.
pub const MOST_PATCHES: usize = 32;
/// The offset of the facts in an entry: the number of the first activity, and the build id.
pub const LEGEND_FACTS_AT: usize = LEGEND_ENTRY_BYTES - LEGEND_FACTS_BYTES;
/// The size of the facts in bytes.
const LEGEND_FACTS_BYTES: usize = 20;

/// The size of the file. Pages that were never written take no memory.
pub const FILE_BYTES: usize = LEGEND_AT + LEGEND_ENTRIES * LEGEND_ENTRY_BYTES;

/// The largest number of characters that are read from a name.
const LONGEST_NAME: usize = 256;

/// A call that was under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlightCall {
    /// The plugin.
    pub plugin: String,
    /// The version.
    pub version: u32,
    /// The patch of that version whose code it runs; `None` for the version as it was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<u32>,
    /// The function, or the step of the plugin's lifecycle; `None` if the legend had no room for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The thread's name; `main` for the first thread.
    pub thread: String,
    /// The system's id of the thread.
    pub thread_id: i32,
    /// The activity that runs, if it is not a function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<Activity>,
    /// The build whose code it runs; `None` if the plugin has no artifact, or if the host does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
}

impl InFlightCall {
    /// Whether it is a step that runs code of a version that is being loaded.
    pub fn is_of_load(&self) -> bool {
        self.activity.is_some_and(Activity::is_of_load)
    }
}

impl fmt::Display for InFlightCall {
    /// `world v4: greet on "http-3" (4125)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plugin, version, patch, function, thread, thread_id, .. } = self;
        let function = function.as_deref().unwrap_or("a function without a name");
        let version = version_label(*version, *patch);
        write!(f, "{plugin} {version}: {function} on \"{thread}\" ({thread_id})")
    }
}

/// Reads the calls from a file of this layout, thread by thread. The calls of one thread are sorted from the
/// outermost to the innermost.
///
/// The content is not trusted: whatever it is, the result is text and numbers, and control characters in
/// names are replaced.
///
/// # Errors
/// [`InvalidData`](io::ErrorKind::InvalidData) if the file has another layout, or the error of reading it.
pub fn calls_in_flight(file: &File) -> io::Result<Vec<InFlightCall>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() != FILE_BYTES as u64 {
        return Err(no_calls_file("its size is wrong"));
    }
    let mut head = [0; MAGIC.len() + 4];
    file.read_exact_at(&mut head, 0)?;
    let pid =
        head.strip_prefix(&MAGIC).ok_or_else(|| no_calls_file("its first bytes are wrong"))?;
    let pid = i32::from_ne_bytes(number(pid, 0));
    let mut rows = vec![0; ROWS * ROW_BYTES];
    file.read_exact_at(&mut rows, ROWS_AT as u64)?;
    let legend = read_legend(file)?;
    let calls = rows.chunks_exact(ROW_BYTES).flat_map(|row| calls_of_row(row, pid, &legend));
    Ok(calls.collect())
}

fn no_calls_file(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a file of calls: {why}"))
}

/// A version, as the legend describes it.
struct LegendEntry {
    version: u32,
    text: String,
    /// The number of the first activity; `None` from a host that does not send it.
    first_activity: Option<u32>,
    build_id: Option<BuildId>,
    /// The build ids of its patches, as bytes.
    patches: Vec<u8>,
}

impl LegendEntry {
    /// The build that has the code of a patch.
    fn build_of(&self, patch: Option<u32>) -> Option<BuildId> {
        let Some(patch) = patch else { return self.build_id };
        let at = usize::try_from(patch).ok()?.checked_sub(1)?;
        let id = self.patches.as_chunks().0.get(at).filter(|id| **id != [0; 16])?;
        Some(BuildId::from_bytes(*id))
    }
}

fn read_legend(file: &File) -> io::Result<HashMap<u64, LegendEntry>> {
    let mut legend = HashMap::new();
    for number_of_entry in 0..LEGEND_ENTRIES {
        let at = (LEGEND_AT + number_of_entry * LEGEND_ENTRY_BYTES) as u64;
        let mut head = [0; LEGEND_TEXT_AT];
        file.read_exact_at(&mut head, at)?;
        let address = u64::from_ne_bytes(number(&head, 0));
        if address == 0 {
            continue;
        }
        let length = u32::from_ne_bytes(number(&head, 12)) as usize;
        // An older host may have text in the place of the facts.
        let has_facts = LEGEND_TEXT_AT + length <= LEGEND_FACTS_AT;
        let mut text = vec![0; length.min(LEGEND_ENTRY_BYTES - LEGEND_TEXT_AT)];
        file.read_exact_at(&mut text, at + LEGEND_TEXT_AT as u64)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let version = u32::from_ne_bytes(number(&head, 8));
        let mut facts = [0; LEGEND_FACTS_BYTES];
        file.read_exact_at(&mut facts, at + LEGEND_FACTS_AT as u64)?;
        let build_id: [u8; 16] = number(&facts, 4);
        let first_activity = u32::from_ne_bytes(number(&facts, 0));
        let (first_activity, build_id) = match has_facts && build_id != [0; 16] {
            true => (Some(first_activity), Some(BuildId::from_bytes(build_id))),
            false => (None, None),
        };
        let mut patches = vec![0; LEGEND_FACTS_AT - LEGEND_PATCHES_AT];
        file.read_exact_at(&mut patches, at + LEGEND_PATCHES_AT as u64)?;
        let entry = LegendEntry { version, text, first_activity, build_id, patches };
        legend.insert(address, entry);
    }
    Ok(legend)
}

fn calls_of_row(row: &[u8], pid: i32, legend: &HashMap<u64, LegendEntry>) -> Vec<InFlightCall> {
    let thread_id = i32::from_ne_bytes(number(row, ROW_THREAD_AT));
    if thread_id == 0 {
        return Vec::new();
    }
    let name = row[ROW_NAME_AT..].split(|byte| *byte == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name);
    let thread = if thread_id == pid { "main".to_owned() } else { printable(&name) };
    let calls = row[ROW_CALLS_AT..ROW_NAME_AT].chunks_exact(16).filter_map(|call| {
        let address = u64::from_ne_bytes(number(call, 0)) & !1;
        let note = u64::from_ne_bytes(number(call, 8));
        // The function is in the lower half, and the patch in the upper half.
        let (place, patch) = (note as u32, Some((note >> 32) as u32).filter(|patch| *patch != 0));
        let entry = legend.get(&address)?;
        let mut lines = entry.text.lines();
        let plugin = printable(lines.next().unwrap_or_default());
        let function = usize::try_from(place).ok().and_then(|place| lines.nth(place));
        let function = function.map(printable);
        let number = entry.first_activity.and_then(|first| place.checked_sub(first));
        let number = number.and_then(|number| usize::try_from(number).ok());
        let activity = number.and_then(|number| Activity::NOTED.get(number).copied());
        let (version, thread) = (entry.version, thread.clone());
        let build_id = entry.build_of(patch).map(|build_id| build_id.to_string());
        Some(InFlightCall {
            plugin,
            version,
            patch,
            function,
            thread,
            thread_id,
            activity,
            build_id,
        })
    });
    calls.collect()
}

/// The bytes of the number at `at`. They must be within `bytes`.
fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[at + index])
}

/// A name without control characters, which a terminal would interpret, cut to [`LONGEST_NAME`].
fn printable(name: &str) -> String {
    let shown = |char: char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char };
    name.chars().take(LONGEST_NAME).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of calls that is written by hand.
    struct Written(File);

    impl Written {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!(
                "hotswap-calls-{:?}-{}",
                std::thread::current().id(),
                std::process::id()
            ));
            let file = File::options().read(true).write(true).create_new(true).open(&path);
            std::fs::remove_file(&path).unwrap();
            let written = Self(file.unwrap());
            written.0.set_len(FILE_BYTES as u64).unwrap();
            written.put(0, &MAGIC);
            written.put(MAGIC.len(), &4121_u32.to_ne_bytes());
            written
        }

        fn put(&self, at: usize, bytes: &[u8]) {
            self.0.write_all_at(bytes, at as u64).unwrap();
        }

        fn thread(&self, row: usize, id: i32, name: &[u8]) {
            let at = ROWS_AT + row * ROW_BYTES;
            self.put(at + ROW_THREAD_AT, &id.to_ne_bytes());
            self.put(at + ROW_NAME_AT, name);
        }

        fn call(&self, row: usize, depth: usize, address: u64, place: u64) {
            let at = ROWS_AT + row * ROW_BYTES + ROW_CALLS_AT + depth * 16;
            self.put(at, &address.to_ne_bytes());
            self.put(at + 8, &place.to_ne_bytes());
        }

        fn entry(&self, number: usize, address: u64, version: u32, length: u32, text: &[u8]) {
            let at = LEGEND_AT + number * LEGEND_ENTRY_BYTES;
            self.put(at, &address.to_ne_bytes());
            self.put(at + 8, &version.to_ne_bytes());
            self.put(at + 12, &length.to_ne_bytes());
            self.put(at + LEGEND_TEXT_AT, text);
        }

        fn texts(&self) -> Vec<String> {
            calls_in_flight(&self.0).unwrap().iter().map(ToString::to_string).collect()
        }
    }

    #[test]
    fn calls_are_listed_by_thread_with_the_outermost_first() {
        let file = Written::new();
        file.entry(0, 0x1000, 4, 17, b"world\ngreet\nreset");
        file.entry(LEGEND_ENTRIES - 1, 0x2000, 1, 8, b"cat\nmeow");
        file.thread(3, 4125, b"http-3");
        file.call(3, 0, 0x1000, 1);
        file.call(3, 1, 0x2001, 0);
        file.thread(ROWS - 1, 4121, b"sample-host");
        file.call(ROWS - 1, 0, 0x2000, 7);
        assert_eq!(
            file.texts(),
            [
                "world v4: reset on \"http-3\" (4125)",
                "cat v1: meow on \"http-3\" (4125)",
                "cat v1: a function without a name on \"main\" (4121)",
            ]
        );
    }

    #[test]
    fn a_row_without_a_thread_and_an_unknown_address_give_no_call() {
        let file = Written::new();
        file.entry(0, 0x1000, 4, 11, b"world\ngreet");
        file.thread(1, 0, b"has ended");
        file.call(1, 0, 0x1000, 0);
        file.thread(2, 77, b"reads");
        file.call(2, 0, 0x3000, 0);
        assert_eq!(file.texts(), Vec::<String>::new());
    }

    #[test]
    fn nothing_in_the_file_is_believed() {
        let file = Written::new();
        file.entry(0, 0x1000, u32::MAX, u32::MAX, b"\x1b[2Jworld\n\xff\xfe");
        file.thread(1, -1, &[b'x'; 16]);
        file.call(1, 0, 0x1000, 0);
        file.call(1, 1, 0x1000, u64::MAX);
        assert_eq!(
            file.texts(),
            [
                "\u{fffd}[2Jworld v4294967295: \u{fffd}\u{fffd}".to_owned()
                    + &"\u{fffd}".repeat(LONGEST_NAME - 2)
                    + " on \"xxxxxxxxxxxxxxxx\" (-1)",
                "\u{fffd}[2Jworld v4294967295+4294967295: a function without a name on \"xxxxxxxxxxxxxxxx\" (-1)"
                    .to_owned(),
            ]
        );
    }

    #[test]
    fn a_step_and_its_build_are_facts() {
        let file = Written::new();
        file.entry(0, 0x1000, 4, 26, b"world\ngreet\nby hand\nopen\n\n");
        let facts = LEGEND_AT + LEGEND_FACTS_AT;
        file.put(facts, &1_u32.to_ne_bytes());
        file.put(facts + 4, &[7; 16]);
        file.thread(1, 4125, b"http-3");
        file.call(1, 0, 0x1000, 0);
        file.call(1, 1, 0x1000, 2);
        file.call(1, 2, 0x1000, u64::MAX);
        let calls = calls_in_flight(&file.0).unwrap();
        let activities: Vec<_> = calls.iter().map(|call| call.activity).collect();
        assert_eq!(activities, [None, Some(Activity::Open), None]);
        assert_eq!(calls[1].build_id.as_deref(), Some("07".repeat(16).as_str()));
        assert!(calls[1].is_of_load() && !calls[0].is_of_load());
    }

    #[test]
    fn a_call_in_the_code_of_a_patch_names_it_and_its_build() {
        let file = Written::new();
        file.entry(0, 0x1000, 4, 11, b"world\ngreet");
        let entry = LEGEND_AT;
        file.put(entry + LEGEND_FACTS_AT, &1_u32.to_ne_bytes());
        file.put(entry + LEGEND_FACTS_AT + 4, &[7; 16]);
        file.put(entry + LEGEND_PATCHES_AT + 16, &[8; 16]);
        file.thread(1, 4125, b"http-3");
        for (depth, patch) in (0..).zip([0, 1, 2, 33]) {
            file.call(1, depth, 0x1000, patch << 32);
        }
        let calls = calls_in_flight(&file.0).unwrap();
        let told = |call: &InFlightCall| (call.patch, call.build_id.clone());
        let (base, second) = (Some("07".repeat(16)), Some("08".repeat(16)));
        let expected = [(None, base), (Some(1), None), (Some(2), second), (Some(33), None)];
        assert_eq!(calls.iter().map(told).collect::<Vec<_>>(), expected);
        assert_eq!(calls[2].to_string(), "world v4+2: greet on \"http-3\" (4125)");
    }

    #[test]
    fn another_file_is_refused() {
        let file = Written::new();
        file.put(0, b"something else");
        assert_eq!(
            calls_in_flight(&file.0).unwrap_err().to_string(),
            "not a file of calls: its first bytes are wrong"
        );
        let file = Written::new();
        file.0.set_len(u64::MAX >> 1).or_else(|_| file.0.set_len(1 << 32)).unwrap();
        assert_eq!(
            calls_in_flight(&file.0).unwrap_err().to_string(),
            "not a file of calls: its size is wrong"
        );
        let device = File::open("/dev/zero").unwrap();
        assert!(calls_in_flight(&device).is_err());
    }
}
