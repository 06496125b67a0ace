//! A patch: code that takes the place of some functions of a version that runs, while its data stay.
//!
//! A patch is made against one build, its base, and loaded beside the image of just that build. It has the
//! functions that changed, and all that call them up to the functions that the engine calls. Whatever else it
//! needs it takes from the base, by the place in the base's file. No address is in it: what depends on where
//! base and patch lie is a [`Fixup`], which the engine fills in.
//!
//! As a file it is [`MAGIC`], the length of the header, the header as JSON, the content, and the hash of all
//! before. Nothing in it is believed unchecked: [`Patch::read`] refuses what would lead out of the patch, and
//! the engine what would lead out of the base.

use std::fmt;
use std::ops::Range;

use hotswap_plugin::__private::Function;
use hotswap_protocol::BuildId;
use serde::{Deserialize, Serialize};

/// How the file of a patch begins. The last byte is the version of the format.
pub const MAGIC: [u8; 8] = *b"hswppat\x01";
/// The largest patch that is made and read, in bytes of content.
pub const MAX_BYTES: usize = 1 << 20;
/// What begins at a multiple of this in a patch does so in memory.
pub const PAGE: usize = 4096;
/// The size of a hash, in bytes.
const HASH: usize = 32;

/// A patch, see the [module](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// What it is made of.
    pub header: Header,
    /// First the code, up to [`Header::code`], then read-only data.
    pub content: Vec<u8>,
}

/// What a patch says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The build against whose image it is loaded.
    pub base: BuildId,
    /// The build whose code the plugin has with this patch; see [`Patch::is_early`].
    pub build: BuildId,
    /// How many bytes of the content are code: a multiple of [`PAGE`].
    pub code: u32,
    /// Where the frame descriptions (`.eh_frame`) are, with the four zero bytes that end them; empty if there
    /// are none.
    pub frames: Range<u32>,
    /// What is to be filled in.
    pub fixups: Vec<Fixup>,
    /// Where the descriptions of the functions are that the engine calls: each takes the place of the base's
    /// function of the same name.
    pub functions: Vec<u32>,
    /// The functions whose code changed, as people know them.
    pub changed: Vec<String>,
}

/// A place in a patch that depends on where base and patch lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fixup {
    /// The offset of the place in the content.
    pub at: u32,
    /// What to write there.
    pub form: Form,
    /// What it refers to.
    pub target: Target,
    /// What is added to the target's address.
    pub addend: i64,
}

/// What is written to the place of a [`Fixup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The target's address, in eight bytes.
    Absolute,
    /// The target's address minus that of the place, in four bytes with a sign.
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

/// What a [`Fixup`] refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// An offset in the content of the patch.
    Own(u32),
    /// An address in the base's file, which is an offset from where its image lies.
    Base(u64),
    /// What the loader has written to eight bytes at this address in the base's file: the address of a symbol of
    /// another library.
    Bound(u64),
    /// The number of the base's thread-locals among those of all libraries; the addend does not count.
    ThreadLocals,
}

/// Why a file is no patch that can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatchError {
    /// It does not begin as a patch of this version does.
    NotAPatch,
    /// It is not whole: its length or its hash is another.
    Damaged,
    /// It has so many bytes, which is too many.
    TooLarge(usize),
    /// What it says of itself cannot be.
    Nonsense(&'static str),
}

impl fmt::Display for PatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPatch => f.write_str("it is no patch of this version"),
            Self::Damaged => f.write_str("it is damaged: its content does not match its hash"),
            Self::TooLarge(bytes) => write!(f, "it has {bytes} bytes; {MAX_BYTES} are possible"),
            Self::Nonsense(what) => write!(f, "it contradicts itself: {what}"),
        }
    }
}

impl std::error::Error for PatchError {}

impl Patch {
    /// The id of the code, whatever build has it: a hash of all but [`Header::build`].
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

    /// Whether the build is not linked yet that has this code: [`Header::build`] is the [`code_id`](Self::code_id).
    #[must_use]
    pub fn is_early(&self) -> bool {
        self.header.build == self.code_id()
    }

    /// The file of the patch.
    ///
    /// # Errors
    /// If it is none that could be read again.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PatchError> {
        self.check()?;
        let header = serde_json::to_vec(&self.header)
            .map_err(|_| PatchError::Nonsense("its header cannot be written"))?;
        let length = u32::try_from(header.len())
            .map_err(|_| PatchError::Nonsense("its header is too long"))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend(header);
        bytes.extend(&self.content);
        let hash = blake3::hash(&bytes);
        bytes.extend(hash.as_bytes());
        Ok(bytes)
    }

    /// Reads the file of a patch.
    ///
    /// # Errors
    /// If it is damaged, or anything in it leads out of it.
    pub fn read(bytes: &[u8]) -> Result<Self, PatchError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(PatchError::NotAPatch)?;
        let (content, hash) = rest.split_last_chunk::<HASH>().ok_or(PatchError::Damaged)?;
        if blake3::hash(&bytes[..bytes.len() - HASH]) != blake3::Hash::from(*hash) {
            return Err(PatchError::Damaged);
        }
        let (length, content) = content.split_first_chunk::<4>().ok_or(PatchError::Damaged)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (header, content) = content.split_at_checked(length).ok_or(PatchError::Damaged)?;
        let header = serde_json::from_slice(header).map_err(|_| PatchError::NotAPatch)?;
        let patch = Self { header, content: content.to_owned() };
        patch.check()?;
        Ok(patch)
    }

    /// Refuses what leads out of the content.
    fn check(&self) -> Result<(), PatchError> {
        let Header { code, frames, fixups, functions, .. } = &self.header;
        let length = self.content.len();
        if length > MAX_BYTES {
            return Err(PatchError::TooLarge(length));
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
            if !frames.is_some_and(do_end) {
                return nonsense("its frame descriptions do not end");
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
            return nonsense("a function is described where no data are");
        }
        Ok(())
    }
}

/// Whether frame descriptions follow each other up to the four zero bytes that end them.
fn do_end(mut frames: &[u8]) -> bool {
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
        Patch { header, content: vec![0; 5000] }
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
    fn what_leads_out_of_a_patch_is_refused() {
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
