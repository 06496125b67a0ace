//! The stamp, written into a plugin's file after linking: its build and its source.

use std::{mem::offset_of, ops::Range};

use hotswap_plugin::abi::descriptor::{Stamp, Text};
use hotswap_protocol::{BuildId, Source};

use crate::{ArtifactError, elf, facts};

/// Writes the git facts, the build id and the seal into a freshly linked plugin.
///
/// The build id covers the file without its stamp, so a commit alone does not change it. The seal covers the
/// stamp.
///
/// # Errors
/// If the file is not a plugin of this ABI.
pub fn stamp(file: &mut [u8], source: Option<&Source>) -> Result<BuildId, ArtifactError> {
    let descriptor_start = elf::read(file)?.descriptor.start;
    facts::descriptor(file, descriptor_start)?;
    let build_id = build_id(file, descriptor_start);
    let place = stamp_range(descriptor_start);
    file[place.clone()].fill(0);
    let mut put = |offset: usize, bytes: &[u8]| {
        let start = place.start + offset;
        file[start..start + bytes.len()].copy_from_slice(bytes);
    };
    put(offset_of!(Stamp, build_id), &build_id.bytes());
    if let Some(source) = source {
        put(offset_of!(Stamp, commit), cut::<{ size_of::<Text<64>>() }>(&source.commit));
        put(offset_of!(Stamp, branch), cut::<{ size_of::<Text<128>>() }>(&source.branch));
        put(offset_of!(Stamp, commit_time), &source.commit_time.to_le_bytes());
        put(offset_of!(Stamp, dirty), &[u8::from(source.dirty)]);
    }
    let seal = seal(file, descriptor_start);
    let seal_start = place.start + offset_of!(Stamp, seal);
    file[seal_start..seal_start + seal.len()].copy_from_slice(&seal);
    Ok(build_id)
}

/// The hash of the file with a stamp of zeros.
pub(super) fn build_id(file: &[u8], descriptor_start: usize) -> BuildId {
    let place = stamp_range(descriptor_start);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&file[..place.start]);
    hasher.update(&[0; size_of::<Stamp>()]);
    hasher.update(&file[place.end..]);
    BuildId::from_bytes(half(&hasher.finalize()))
}

/// The hash of the stamp with a seal of zeros.
pub(super) fn seal(file: &[u8], descriptor_start: usize) -> [u8; 16] {
    let mut stamp = file[stamp_range(descriptor_start)].to_vec();
    stamp[offset_of!(Stamp, seal)..][..size_of::<[u8; 16]>()].fill(0);
    half(&blake3::hash(&stamp))
}

fn stamp_range(descriptor_start: usize) -> Range<usize> {
    let start = facts::stamp_start(descriptor_start);
    start..start + size_of::<Stamp>()
}

fn half(hash: &blake3::Hash) -> [u8; 16] {
    std::array::from_fn(|i| hash.as_bytes()[i])
}

/// As much of a text as its field can take, cut between two characters.
fn cut<const N: usize>(text: &str) -> &[u8] {
    &text.as_bytes()[..text.floor_char_boundary(N)]
}
