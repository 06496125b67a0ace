//! A patch: new code for some functions of a version that runs, while its data stays.
//!
//! A patch is made against one build, its base, and is loaded beside the image of exactly that build. It contains
//! the functions that changed, and all their callers up to the functions that the engine calls. It takes
//! everything else from the base, by the address in the base's file. A patch contains no absolute address:
//! whatever depends on where base and patch are mapped is a [`Fixup`], which the engine fills in.
//!
//! A patch file consists of [`MAGIC`], the lengths of the header and of the content, the header as JSON, the
//! content, the symbols, and a hash of everything before. No reader trusts it: [`Patch::read`] refuses references
//! that lead out of the patch, and the engine refuses references that lead out of the base.

use std::fmt;
use std::ops::Range;

use hotswap_plugin::__private::Function;
use hotswap_protocol::BuildId;
use serde::{Deserialize, Serialize};

/// The first bytes of a patch file. The last byte is the version of the format.
pub const MAGIC: [u8; 8] = *b"hswppat\x02";
/// The largest content of a patch, in bytes. Larger ones are neither made nor read.
pub const MAX_BYTES: usize = 1 << 20;
/// The largest file of symbols of a patch, in bytes. Larger ones are not made, and are not read.
pub const MAX_SYMBOL_BYTES: usize = 16 << 20;
/// The size of a page. Data that is aligned to it in a patch is aligned to it in memory.
pub const PAGE: usize = 4096;
/// The size of a hash, in bytes.
const HASH: usize = 32;

/// A patch; see the [module](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The header, which describes the content.
    pub header: Header,
    /// The content: first the code, up to [`Header::code`], then read-only data.
    pub content: Vec<u8>,
    /// An ELF file that names the functions, for backtraces; empty if there is none. It has the places in the
    /// source if the compiler made debug information. In this file, the content begins at the address [`PAGE`],
    /// since readers of such files take the address 0 for none.
    pub symbols: Vec<u8>,
}

/// The header of a patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The build that the patch was made against.
    pub base: BuildId,
    /// The build whose code the plugin has with this patch; see [`Patch::is_early`].
    pub build: BuildId,
    /// How many bytes of the content are code: a multiple of [`PAGE`].
    pub code: u32,
    /// Where the frame descriptions (`.eh_frame`) are, including the four zero bytes that end them; empty if
    /// there are none.
    pub frames: Range<u32>,
    /// The places that the engine fills in.
    pub fixups: Vec<Fixup>,
    /// The places of the descriptions of the functions that the engine calls. Each replaces the base's function
    /// of the same name.
    pub functions: Vec<u32>,
    /// The functions whose code changed, by their readable names.
    pub changed: Vec<String>,
}

/// A place in a patch whose content depends on where base and patch are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fixup {
    /// The offset of the place in the content.
    pub at: u32,
    /// What to write there.
    pub form: Form,
    /// What it refers to.
    pub target: Target,
    /// The number that is added to the target's address.
    pub addend: i64,
}

/// What is written to the place of a [`Fixup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The target's address, in eight bytes.
    Absolute,
    /// The target's address minus the address of the place, in four bytes with a sign.
    Relative,
}

impl Form {
    /// How many bytes are written.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Absolute => 8,
            Self::Relative => 4,
        }
    }
}

/// A place that a [`Fixup`] refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// An offset in the content of the patch.
    Own(u32),
    /// An address in the base's file, that is, an offset from the start of its image.
    Base(u64),
    /// The eight bytes at this address in the base's file, to which the loader has written the address of a
    /// symbol of another library.
    Bound(u64),
    /// The TLS module number of the base, by which the loader tells the thread-locals of libraries apart; the
    /// addend is ignored.
    ThreadLocals,
}

/// Why a file is not a usable patch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatchError {
    /// It does not begin with [`MAGIC`].
    NotAPatch,
    /// Its length or its hash is wrong.
    Damaged,
    /// It has this many bytes, more than [`MAX_BYTES`].
    TooLarge(usize),
    /// It contradicts itself.
    Nonsense(&'static str),
}

impl fmt::Display for PatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPatch => f.write_str("it is not a patch of this version"),
            Self::Damaged => f.write_str("it is damaged: its content does not match its hash"),
            Self::TooLarge(bytes) => {
                write!(f, "it has {bytes} bytes; at most {MAX_BYTES} are allowed")
            }
            Self::Nonsense(what) => write!(f, "it contradicts itself: {what}"),
        }
    }
}

impl std::error::Error for PatchError {}

impl Patch {
    /// The id of the code, whatever build has it: a hash of header and content without [`Header::build`].
    #[must_use]
    pub fn code_id(&self) -> BuildId {
        let header = Header { build: BuildId::from_bytes([0; 16]), ..self.header.clone() };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&serde_json::to_vec(&header).unwrap_or_default());
        hasher.update(&self.content);
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        BuildId::from_bytes(id)
    }

    /// Whether the build with this code is not linked yet: [`Header::build`] is the [`code_id`](Self::code_id).
    #[must_use]
    pub fn is_early(&self) -> bool {
        self.header.build == self.code_id()
    }

    /// The file of the patch.
    ///
    /// # Errors
    /// If the result could not be read again.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PatchError> {
        self.check()?;
        let header = serde_json::to_vec(&self.header)
            .map_err(|_| PatchError::Nonsense("its header cannot be written"))?;
        let mut bytes = MAGIC.to_vec();
        for part in [&header, &self.content] {
            let length = u32::try_from(part.len())
                .map_err(|_| PatchError::Nonsense("its header is too long"))?;
            bytes.extend(length.to_le_bytes());
        }
        bytes.extend(header);
        bytes.extend(&self.content);
        bytes.extend(&self.symbols);
        let hash = blake3::hash(&bytes);
        bytes.extend(hash.as_bytes());
        Ok(bytes)
    }

    /// Reads a patch from the content of a file.
    ///
    /// # Errors
    /// If the file is damaged, or anything in it refers to a place outside it.
    pub fn read<'b>(bytes: &'b [u8]) -> Result<Self, PatchError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(PatchError::NotAPatch)?;
        let (rest, hash) = rest.split_last_chunk::<HASH>().ok_or(PatchError::Damaged)?;
        if blake3::hash(&bytes[..bytes.len() - HASH]) != blake3::Hash::from(*hash) {
            return Err(PatchError::Damaged);
        }
        let (header_length, rest) = rest.split_first_chunk::<4>().ok_or(PatchError::Damaged)?;
        let (content_length, rest) = rest.split_first_chunk::<4>().ok_or(PatchError::Damaged)?;
        let part = |rest: &'b [u8], length: &[u8; 4]| {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            rest.split_at_checked(length).ok_or(PatchError::Damaged)
        };
        let (header, rest) = part(rest, header_length)?;
        let (content, symbols) = part(rest, content_length)?;
        let header = serde_json::from_slice(header).map_err(|_| PatchError::NotAPatch)?;
        let patch = Self { header, content: content.to_owned(), symbols: symbols.to_owned() };
        patch.check()?;
        Ok(patch)
    }

    /// Refuses references to places outside the content.
    fn check(&self) -> Result<(), PatchError> {
        let Header { code, frames, fixups, functions, .. } = &self.header;
        let length = self.content.len();
        if length > MAX_BYTES {
            return Err(PatchError::TooLarge(length));
        }
        if self.symbols.len() > MAX_SYMBOL_BYTES {
            return Err(PatchError::Nonsense("its symbols are too large"));
        }
        let nonsense = |what| Err(PatchError::Nonsense(what));
        let offset = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX);
        let code = offset(*code);
        if code > length || !code.is_multiple_of(PAGE) {
            return nonsense("its code does not end at a page");
        }
        if !frames.is_empty() {
            let (begin, end) = (offset(frames.start), offset(frames.end));
            let are_placed = code <= begin && begin.is_multiple_of(8) && end <= length;
            let frames = self.content.get(begin..end).filter(|_| are_placed);
            if !frames.is_some_and(are_terminated) {
                return nonsense("its frame descriptions have no end mark");
            }
        }
        for fixup in fixups {
            if offset(fixup.at).saturating_add(fixup.form.size()) > length {
                return nonsense("a fixup lies outside of it");
            }
            if matches!(fixup.target, Target::Own(at) if offset(at) > length) {
                return nonsense("a fixup leads out of it");
            }
        }
        let is_placed = |at: &u32| {
            let end = offset(*at).saturating_add(size_of::<Function>());
            code <= offset(*at) && end <= length && at.is_multiple_of(8)
        };
        if !functions.iter().all(is_placed) {
            return nonsense("the description of a function lies outside its data");
        }
        Ok(())
    }
}

/// Whether the frame descriptions form a chain that ends with four zero bytes.
fn are_terminated(mut frames: &[u8]) -> bool {
    while let Some((length, rest)) = frames.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        match rest.get(length..) {
            Some(_) if length == 0 => return rest.is_empty(),
            Some(next) if length >= 4 => frames = next,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch() -> Patch {
        let header = Header {
            base: BuildId::from_bytes([1; 16]),
            build: BuildId::from_bytes([2; 16]),
            code: 4096,
            frames: 0..0,
            fixups: vec![Fixup {
                at: 8,
                form: Form::Relative,
                target: Target::Base(64),
                addend: -4,
            }],
            functions: vec![4096],
            changed: vec!["greet".to_owned()],
        };
        Patch { header, content: vec![0; 5000], symbols: b"symbols".to_vec() }
    }

    #[test]
    fn a_patch_is_read_as_it_was_written() {
        let bytes = patch().to_bytes().unwrap();
        assert_eq!(Patch::read(&bytes), Ok(patch()));
    }

    #[test]
    fn a_patch_of_which_any_byte_is_another_is_refused() {
        let bytes = patch().to_bytes().unwrap();
        for at in (0..bytes.len()).step_by(37) {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(Patch::read(&other).is_err(), "byte {at}");
            assert!(Patch::read(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_fixup_outside_of_its_patch_is_refused() {
        let mut outside = patch();
        outside.header.fixups[0].at = 4998;
        assert_eq!(outside.to_bytes(), Err(PatchError::Nonsense("a fixup lies outside of it")));
        let mut far = patch();
        far.header.fixups[0].target = Target::Own(5001);
        assert_eq!(far.to_bytes(), Err(PatchError::Nonsense("a fixup leads out of it")));
        let mut endless = patch();
        endless.header.frames = 4096..4104;
        endless.content[4100] = 1;
        assert!(endless.to_bytes().is_err());
    }
}
