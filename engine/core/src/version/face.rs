//! The code of a version's functions: that of its image, and that of patches that were loaded beside it.

use std::{
    fs::File,
    sync::{
        Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
};

use hotswap_plugin::__private::{DescribedFunction, FunctionRef, TypedCall};

use crate::{
    artifact::{BuildId, patch},
    image::{MAX_PATCHES, MappedPatch},
    lock::Lock as _,
};

/// The number of a face of a version: the code that a call finds when it enters the version. The handle or
/// generation through which the call enters determines the face, so one call runs code of one face only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FaceNumber(u8);

impl FaceNumber {
    /// The version as it was loaded.
    pub const BASE: Self = Self(0);

    /// The number; `None` for the base.
    pub fn told(self) -> Option<u32> {
        (self != Self::BASE).then_some(self.0.into())
    }
}

/// The code of the functions of a version.
pub(crate) struct Face {
    /// The build that has this code.
    pub build_id: BuildId,
    /// The functions whose code differs from that of the base, by their readable names.
    pub changed: Vec<String>,
    /// The file of that build, to load it as a whole; `None` for the base, whose image has the file.
    pub artifact: Option<File>,
    targets: Box<[Target]>,
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
        Self { build_id, changed: Vec::new(), artifact: None, targets }
    }

    /// This face with other code for the functions at some places.
    pub fn patched(
        &self,
        build_id: BuildId,
        changed: Vec<String>,
        artifact: Option<File>,
        functions: impl IntoIterator<Item = (usize, Target)>,
    ) -> Self {
        let mut targets = self.targets.clone();
        for (place, function) in functions {
            if let Some(target) = targets.get_mut(place) {
                *target = function;
            }
        }
        Self { build_id, changed, artifact, targets }
    }

    /// The code of the function at `place`.
    #[inline(always)]
    pub fn target(&self, place: usize) -> Option<&Target> {
        self.targets.get(place)
    }
}

/// The faces of a version.
pub(crate) struct Faces {
    faces: Box<[OnceLock<Face>; MAX_PATCHES + 1]>,
    /// The face that serves, or served last.
    serving: AtomicU8,
    /// All patches that were loaded, including those without a face, because their code has run.
    patches: Mutex<Vec<MappedPatch>>,
}

impl Default for Faces {
    fn default() -> Self {
        Self {
            faces: Box::new([const { OnceLock::new() }; MAX_PATCHES + 1]),
            serving: AtomicU8::new(0),
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
        all.find(|(_, face)| face.build_id == build_id).map(|(number, _)| number)
    }

    fn all(&self) -> impl Iterator<Item = (FaceNumber, &Face)> {
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

    /// Notes which face serves. Calls do not use this, because the generation through which they enter names
    /// the face.
    pub fn note_serving(&self, face: FaceNumber) {
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
