//! A file that is cut short or damaged at any place never reaches the loader, and the error says what is wrong.

use hotswap_engine::{
    args,
    artifact::{self, ArtifactError},
};

use crate::support::{Host, Numbers, artifact as built};

/// Plugins with little and with much content, with tasks, and with C++ code.
const PLUGINS: [&str; 4] = ["by-hand", "echo", "shapes", "foreign"];
/// The size of a page, which a loader maps as a whole.
const PAGE: usize = 4096;
/// How many bytes of each artifact are damaged, one at a time.
const DAMAGED: usize = 50;
/// In section headers, one of this many bytes is damaged.
const STEP: usize = 11;

fn inspection_error(file: &[u8]) -> ArtifactError {
    let error = artifact::inspect(file).expect_err("a damaged artifact is refused");
    assert!(error.to_string().len() > 20, "{error}");
    error
}

#[test]
fn an_artifact_that_is_cut_short_is_refused() {
    for plugin in PLUGINS {
        let file = built(plugin);
        artifact::inspect(&file).unwrap();
        for length in (0..file.len()).step_by(PAGE).chain([file.len() - 1]) {
            inspection_error(&file[..length]);
        }
    }
}

#[test]
fn an_artifact_with_more_at_its_end_is_refused() {
    for plugin in PLUGINS {
        let mut file = built(plugin);
        file.push(0);
        assert!(matches!(inspection_error(&file), ArtifactError::Damaged { .. }));
    }
}

#[test]
fn an_artifact_with_a_damaged_byte_is_refused() {
    for plugin in PLUGINS {
        let mut file = built(plugin);
        for at in Numbers::seeded(plugin).below(file.len()).take(DAMAGED) {
            file[at] ^= 0x41;
            inspection_error(&file);
            file[at] ^= 0x41;
        }
        artifact::inspect(&file).unwrap();
        // Parts of the stamp are only shown to people.
        for length in [0, PAGE, file.len() / 2, file.len()] {
            let _ = artifact::claims(&file[..length]);
        }
    }
}

/// The header bytes that a reader uses before it has checked the hash.
#[test]
fn an_artifact_with_damaged_headers_is_refused() {
    let mut file = built("by-hand");
    let sections = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
    let (size, count) = (u16::from_le_bytes([file[58], file[59]]), file[60]);
    let end = sections + usize::from(size) * usize::from(count);
    assert!(sections < end && end <= file.len());
    for at in (0..64).chain((sections..end).step_by(STEP)) {
        for bits in [0xff, 0x01] {
            file[at] ^= bits;
            inspection_error(&file);
            file[at] ^= bits;
        }
    }
}

/// A damaged file may be stamped again. Then only its content decides, and reading must still come to an end.
#[test]
fn an_artifact_that_was_damaged_before_it_was_stamped_is_read_to_the_end() {
    let file = built("echo");
    let numbers = Numbers::seeded("stamped");
    for at in numbers.below(file.len().min(PAGE)).take(DAMAGED) {
        let mut damaged = file.clone();
        damaged[at] = damaged[at].wrapping_add(1);
        if artifact::stamp(&mut damaged, None).is_ok() {
            let _ = artifact::inspect(&damaged);
        }
    }
}

/// An artifact with other section headers, and with more content, than the linker wrote.
struct Forged {
    file: Vec<u8>,
    headers: Vec<Vec<u8>>,
}

impl Forged {
    const NAMES: usize = 62;
    const HEADER: usize = 64;

    fn of(plugin: &str) -> Self {
        let file = built(plugin);
        let start = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
        let count = usize::from(u16::from_le_bytes([file[60], file[61]]));
        let headers = file[start..start + count * Self::HEADER].chunks(Self::HEADER);
        Self { headers: headers.map(<[u8]>::to_vec).collect(), file }
    }

    /// Adds content for sections, aligned as the loader wants it. Returns its place.
    fn add(&mut self, content: &[u8]) -> (u64, u64) {
        self.file.resize(self.file.len().next_multiple_of(16), 0);
        let start = self.file.len() as u64;
        self.file.extend(content);
        (start, content.len() as u64)
    }

    /// Adds a section. Returns its number.
    fn section(&mut self, kind: u32, (start, len): (u64, u64), (link, entry): (u32, u64)) -> u32 {
        let mut header = vec![0; Self::HEADER];
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[24..32].copy_from_slice(&start.to_le_bytes());
        header[32..40].copy_from_slice(&len.to_le_bytes());
        header[40..44].copy_from_slice(&link.to_le_bytes());
        header[48..56].copy_from_slice(&8_u64.to_le_bytes());
        header[56..64].copy_from_slice(&entry.to_le_bytes());
        self.headers.push(header);
        self.headers.len() as u32 - 1
    }

    /// The file with the new section headers.
    fn finish(mut self) -> Vec<u8> {
        let (start, _) = self.add(&self.headers.concat());
        self.file[40..48].copy_from_slice(&start.to_le_bytes());
        self.file[60..62].copy_from_slice(&(self.headers.len() as u16).to_le_bytes());
        self.file
    }
}

const STRINGS: u32 = 3;
const RELOCATIONS: u32 = 4;
const DYNAMIC: u32 = 6;
const CONSTRUCTORS: u32 = 14;

#[test]
fn lists_of_constructors_that_fill_all_memory_are_read_to_the_end() {
    let mut forged = Forged::of("by-hand");
    for _ in 0..9 {
        forged.section(CONSTRUCTORS, (0, u64::MAX), (0, 8));
    }
    let mut file = forged.finish();
    artifact::stamp(&mut file, None).unwrap();
    assert!(artifact::inspect(&file).unwrap().has_constructors);
}

/// Ten thousand sections with the same relocations, each of which seems to make a constructor.
#[test]
fn relocations_that_overlap_are_refused() {
    let mut forged = Forged::of("by-hand");
    let len = forged.file.len() as u64;
    forged.section(CONSTRUCTORS, (0, u64::MAX), (0, 8));
    for _ in 0..10_000 {
        forged.section(RELOCATIONS, (0, len / 24 * 24), (0, 24));
    }
    let refused = inspection_error(&forged.finish()).to_string();
    assert!(refused.contains("its relocations overlap"), "{refused}");
}

#[test]
fn names_that_overlap_are_refused() {
    let mut forged = Forged::of("by-hand");
    let text = [&vec![b'a'; forged.file.len()][..], &[0]].concat();
    let place = forged.add(&text);
    let names = forged.section(STRINGS, place, (0, 0));
    forged.file[Forged::NAMES..Forged::NAMES + 2].copy_from_slice(&(names as u16).to_le_bytes());
    for _ in 0..100 {
        forged.section(0, (0, 0), (0, 0));
    }
    let refused = inspection_error(&forged.finish()).to_string();
    assert!(refused.contains("its names overlap"), "{refused}");
}

/// A copy of each name would take hundreds of times as much memory as the file.
#[test]
fn libraries_whose_names_overlap_are_refused() {
    let mut forged = Forged::of("by-hand");
    let text = [&vec![b'a'; forged.file.len()][..], &[0]].concat();
    let place = forged.add(&text);
    let names = forged.section(STRINGS, place, (0, 0));
    let needed = [1_u64.to_le_bytes(), 0_u64.to_le_bytes()].concat().repeat(200);
    let place = forged.add(&needed);
    for header in forged.headers.iter_mut().filter(|it| it[4..8] == DYNAMIC.to_le_bytes()) {
        header[4..8].fill(0);
    }
    forged.section(DYNAMIC, place, (names, 16));
    let refused = inspection_error(&forged.finish()).to_string();
    assert!(refused.contains("its names overlap"), "{refused}");
}

/// The whole way: a host loads nothing of such a file, and keeps serving.
#[test]
fn a_host_that_finds_a_broken_artifact_keeps_what_it_has() {
    let host = Host::with(&["echo"]);
    let whole = built("echo");
    let numbers = Numbers::seeded("host");
    for at in numbers.below(whole.len()).take(6) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        for broken in [&damaged[..], &whole[..at]] {
            host.plugins.write("echo", broken);
            let refused = host.refused_reload();
            assert!(refused.contains("echo") && refused.contains("inspect"), "{refused}");
            assert_eq!(host.engine.invoke::<u32>("echo", "revision", args![]).unwrap(), 1);
            assert_eq!(host.mapped().len(), 1);
        }
    }
    host.plugins.install("echo", 2);
    host.reload();
    assert_eq!(host.engine.invoke::<u32>("echo", "revision", args![]).unwrap(), 2);
}
