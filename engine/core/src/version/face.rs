//! The code of a version's functions: the code of its image, and the code of patches that were loaded beside it.

use std::{
    fmt,
    fs::File,
    sync::{
        Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Instant,
};

use hotswap_plugin::__private::{DescribedFunction, FunctionRef, TypedCall};
use hotswap_protocol::in_flight::MOST_PATCHES;

use super::Version;
use crate::{
    artifact::{BuildId, Source, patch},
    image::{MAX_PATCHES, MappedPatch},
    lock::Lock as _,
};

/// The number of a face, which decides the code that a call meets when it enters a version. The call gets the
/// number from whatever led it there, so it sees the code of one face only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct FaceNumber(u8);

impl FaceNumber {
    /// The version as it was loaded.
    pub const BASE: Self = Self(0);

    /// The number; `None` for the base.
    pub fn patch_number(self) -> Option<u32> {
        (self != Self::BASE).then_some(self.0.into())
    }

    /// The value by which a version notes that a call of this face has returned; never 0.
    #[inline(always)]
    pub fn answered(self) -> u8 {
        self.0 + 1
    }

    /// The note of a slot for a call of the function at `place` in this face.
    #[inline(always)]
    pub fn note(self, place: usize) -> usize {
        place | usize::from(self.0) << PLACE_BITS
    }

    /// The face and the place that a slot notes.
    #[inline(always)]
    pub fn of_note(note: usize) -> (Self, usize) {
        // A note has nothing above the face.
        (Self((note >> PLACE_BITS) as u8), note & ((1 << PLACE_BITS) - 1))
    }
}

/// How many bits of a note are the place of the function; above them is the face.
const PLACE_BITS: u32 = 32;

/// A version, and the face of it that a call meets.
#[derive(Clone, Copy)]
pub(crate) struct Faced<'a> {
    pub version: &'a Version,
    pub face: FaceNumber,
}

impl fmt::Display for Faced<'_> {
    /// `world v3`, `world v3+2`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version.fmt_face(self.face, f)
    }
}

/// The code of the functions of a version.
pub(crate) struct Face {
    /// The id of the code; for the base, the build id.
    code_id: BuildId,
    /// The build that has this code, and its file, so that it can be loaded as a whole. Empty for the base, whose
    /// image has the file, and as long as the build is not linked yet.
    whole: OnceLock<Whole>,
    /// The readable names of the functions whose code differs from the base's.
    pub changed: Vec<String>,
    targets: Box<[Target]>,
}

/// The build with the code of a face.
struct Whole {
    build_id: BuildId,
    artifact: File,
    source: Option<Source>,
}

/// The address of a function's code.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub function: FunctionRef,
    /// How to call it with Rust types; `None` if that is not possible.
    pub typed: Option<TypedCall>,
}

impl Target {
    pub fn of(described: &DescribedFunction) -> Self {
        Self { function: described.function, typed: described.typed }
    }
}

impl Face {
    /// The face of a version as it was loaded. `functions` are the functions that it describes, in their
    /// places.
    pub fn base(build_id: BuildId, functions: &[DescribedFunction]) -> Self {
        let targets = functions.iter().map(Target::of).collect();
        Self { code_id: build_id, whole: OnceLock::new(), changed: Vec::new(), targets }
    }

    /// This face with other code for the functions at some places.
    pub fn patched(
        &self,
        code_id: BuildId,
        changed: Vec<String>,
        functions: impl IntoIterator<Item = (usize, Target)>,
    ) -> Self {
        let mut targets = self.targets.clone();
        for (place, function) in functions {
            if let Some(target) = targets.get_mut(place) {
                *target = function;
            }
        }
        Self { code_id, whole: OnceLock::new(), changed, targets }
    }

    /// The build that has this code; the code's own id as long as it is not linked yet.
    pub fn build_id(&self) -> BuildId {
        self.whole.get().map_or(self.code_id, |whole| whole.build_id)
    }

    /// The file of the build that has this code; `None` for the base, and as long as the build is not linked yet.
    pub fn artifact(&self) -> Option<&File> {
        self.whole.get().map(|whole| &whole.artifact)
    }

    /// The source of the build that has this code; `None` for the base, and as long as the build is not linked yet.
    pub fn source(&self) -> Option<&Option<Source>> {
        self.whole.get().map(|whole| &whole.source)
    }

    /// Whether the build that has this code is not linked yet. `number` is the number of this face.
    pub fn is_early(&self, number: FaceNumber) -> bool {
        number != FaceNumber::BASE && self.whole.get().is_none()
    }

    /// Records the build that has this code, its artifact and its source. Only the first call has an effect.
    pub fn settle(&self, build_id: BuildId, artifact: File, source: Option<Source>) {
        let _ = self.whole.set(Whole { build_id, artifact, source });
    }

    /// The code of the function at `place`.
    #[inline(always)]
    pub fn target(&self, place: usize) -> Option<&Target> {
        self.targets.get(place)
    }
}

const _: () = assert!(MAX_PATCHES <= MOST_PATCHES);

/// The faces of a version.
pub(crate) struct Faces {
    faces: Box<[OnceLock<Face>; MAX_PATCHES + 1]>,
    /// The face that serves, or served last. `since` says since when, if the face took the place of another one.
    serving: AtomicU8,
    since: Mutex<Option<Instant>>,
    /// All patches that were loaded, including those without a face, since their code has run.
    patches: Mutex<Vec<MappedPatch>>,
}

impl Default for Faces {
    fn default() -> Self {
        Self {
            faces: Box::new([const { OnceLock::new() }; MAX_PATCHES + 1]),
            serving: AtomicU8::new(0),
            since: Mutex::default(),
            patches: Mutex::default(),
        }
    }
}

impl Faces {
    pub fn set_base(&self, base: Face) {
        let _ = self.faces[0].set(base);
    }

    /// A face. The base does not exist before the version has described its functions.
    #[inline(always)]
    pub fn get(&self, face: FaceNumber) -> Option<&Face> {
        self.faces.get(usize::from(face.0))?.get()
    }

    pub fn base(&self) -> Option<&Face> {
        self.get(FaceNumber::BASE)
    }

    /// The face with the code of a build.
    pub fn of_build(&self, build_id: BuildId) -> Option<FaceNumber> {
        let mut all = self.all();
        all.find(|(_, face)| face.build_id() == build_id).map(|(number, _)| number)
    }

    /// The face with this code whose build is not linked yet.
    pub fn early(&self, code_id: BuildId) -> Option<FaceNumber> {
        let mut all = self.all();
        let is_it = |(number, face): &(FaceNumber, &Face)| {
            face.is_early(*number) && face.code_id == code_id
        };
        all.find(is_it).map(|(number, _)| number)
    }

    /// Whether a face has this code, by a patch.
    pub fn has_code(&self, face: FaceNumber, code_id: BuildId) -> bool {
        face != FaceNumber::BASE && self.get(face).is_some_and(|face| face.code_id == code_id)
    }

    /// All faces, the base first.
    pub fn all(&self) -> impl Iterator<Item = (FaceNumber, &Face)> {
        let numbered = (0..).zip(self.faces.iter());
        numbered.map_while(|(number, face)| Some((FaceNumber(number), face.get()?)))
    }

    /// Adds a face, after its patch was loaded, so there is room for it.
    pub fn add(&self, face: Face) -> Option<FaceNumber> {
        let (number, place) = (0..).zip(self.faces.iter()).find(|(_, it)| it.get().is_none())?;
        place.set(face).ok().map(|()| FaceNumber(number))
    }

    /// The face that serves, or served last.
    pub fn serving(&self) -> FaceNumber {
        FaceNumber(self.serving.load(Ordering::Relaxed))
    }

    /// Since when the face serves that serves now; `None` if it has not taken the place of another one.
    pub fn serving_since(&self) -> Option<Instant> {
        *self.since.locked()
    }

    /// Notes which face serves from now on. Calls do not read this: they get the face from the generation that
    /// they enter.
    pub fn note_serving(&self, face: FaceNumber) {
        *self.since.locked() = Some(Instant::now());
        self.serving.store(face.0, Ordering::Relaxed);
    }

    /// Whether a patch of `bytes` bytes may be loaded.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        let patches = self.lock_patches();
        let used: usize = patches.iter().map(MappedPatch::bytes).sum();
        patches.len() < MAX_PATCHES && used + bytes <= patch::MAX_BYTES
    }

    /// Keeps a patch until the version is freed.
    pub fn keep_patch(&self, patch: MappedPatch) {
        self.lock_patches().push(patch);
    }

    /// How many bytes the patches have.
    pub fn patches_bytes(&self) -> u64 {
        self.lock_patches().iter().map(|patch| patch.bytes() as u64).sum()
    }

    /// Takes the patches, to unmap them with the image.
    pub fn take_patches(&self) -> Vec<MappedPatch> {
        std::mem::take(&mut *self.lock_patches())
    }

    fn lock_patches(&self) -> MutexGuard<'_, Vec<MappedPatch>> {
        self.patches.locked()
    }
}
