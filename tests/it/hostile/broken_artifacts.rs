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

fn refused(file: &[u8]) -> ArtifactError {
    let error = artifact::inspect(file).expect_err("it is not what was built");
    assert!(error.to_string().len() > 20, "{error}");
    error
}

#[test]
fn an_artifact_that_is_cut_short_is_refused() {
    for plugin in PLUGINS {
        let file = built(plugin);
        artifact::inspect(&file).unwrap();
        for length in (0..file.len()).step_by(PAGE).chain([file.len() - 1]) {
            refused(&file[..length]);
        }
    }
}

#[test]
fn an_artifact_with_more_at_its_end_is_refused() {
    for plugin in PLUGINS {
        let mut file = built(plugin);
        file.push(0);
        assert!(matches!(refused(&file), ArtifactError::Damaged { .. }));
    }
}

#[test]
fn an_artifact_with_a_damaged_byte_is_refused() {
    for plugin in PLUGINS {
        let mut file = built(plugin);
        for at in Numbers::seeded(plugin).below(file.len()).take(DAMAGED) {
            file[at] ^= 0x41;
            refused(&file);
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
            refused(&file);
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
