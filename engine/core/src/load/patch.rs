//! Patches: new code for some functions of a version that serves, instead of a new version.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
};

use hotswap_plugin::{
    __private::{DescribedFunction, FunctionRef},
    abi::Answer,
};

use super::{find::Found, stage::Inspected};
use crate::{
    EngineError, Step,
    artifact::{
        BuildId,
        layout::PATCH_EXTENSION,
        patch::{MAX_BYTES, Patch, PatchError},
    },
    image::{Image, MAX_PATCHES, NotMapped, step_thread::StepThread},
    version::{
        face::{FaceNumber, Target},
        lease::Lease,
    },
};

/// The largest patch file that is read: the content, and a header that describes every few bytes of it.
const MAX_FILE_BYTES: u64 = 32 * MAX_BYTES as u64;

/// How a version can get the code of another build.
pub(super) enum Way {
    /// Through a face that it already has.
    Face(FaceNumber),
    /// Through a patch that has to be loaded.
    Patch(Box<Patch>),
}

/// Why a plugin is loaded as a whole although there is a patch for it.
#[derive(Debug)]
pub(super) enum NotPatched {
    /// The file cannot be read.
    Unreadable(io::Error),
    /// The file is not a usable patch.
    File(PatchError),
    /// The patch was made for another build than the one that serves.
    OtherBase { base: BuildId, serving: BuildId },
    /// The version has the largest allowed number or size of patches.
    Full,
    /// The patch cannot be mapped.
    NotMapped(NotMapped),
    /// The functions of the patch cannot be described.
    Undescribed(EngineError),
    /// The patch has a function that its base does not have.
    UnknownFunction(String),
    /// The patch changes the description of a function.
    OtherFunction(String),
    /// The plugin imports a plugin that changes.
    ImportsChange,
}

impl fmt::Display for NotPatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "the patch cannot be read: {error}"),
            Self::File(error) => write!(f, "the patch cannot be loaded: {error}"),
            Self::OtherBase { base, serving } => write!(
                f,
                "the patch is for a version of build {base}, but the version that serves is of build {serving}"
            ),
            Self::Full => write!(
                f,
                "the version has the allowed maximum of patches: {MAX_PATCHES} patches or {} KiB",
                MAX_BYTES / 1024
            ),
            Self::NotMapped(error) => write!(f, "the patch cannot be loaded: {error}"),
            Self::Undescribed(error) => {
                write!(f, "the functions of the patch cannot be described: {error}")
            }
            Self::UnknownFunction(name) => {
                write!(
                    f,
                    "the patch has the function {name}, which the version that serves does not have"
                )
            }
            Self::OtherFunction(name) => write!(
                f,
                "{name} has another signature, schema or doc in the patch than in the version that serves"
            ),
            Self::ImportsChange => f.write_str("a plugin that it imports changes"),
        }
    }
}

/// How the version that serves can get the code of an artifact without being replaced; `None` if it must be
/// replaced.
pub(super) fn way_to(running: &Lease, artifact: &Inspected) -> Result<Option<Way>, NotPatched> {
    let (version, build) = (running.version(), artifact.facts.build_id);
    if let Some(face) = version.faces.of_build(build) {
        return Ok(Some(Way::Face(face)));
    }
    let Some(patch) = beside(&artifact.found)? else { return Ok(None) };
    if patch.header.build != build {
        // The patch was left by another build.
        return Ok(None);
    }
    let (base, serving) = (patch.header.base, version.facts.build_id);
    if base != serving {
        return Err(NotPatched::OtherBase { base, serving });
    }
    Ok(Some(Way::Patch(Box::new(patch))))
}

/// The patch beside an artifact; `None` if there is none.
fn beside(artifact: &Found) -> Result<Option<Patch>, NotPatched> {
    let file = match File::open(artifact.path.with_extension(PATCH_EXTENSION)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(NotPatched::Unreadable)?,
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE_BYTES).read_to_end(&mut bytes);
    read.map_err(NotPatched::Unreadable)?;
    Patch::read(&bytes).map(Some).map_err(NotPatched::File)
}

/// Loads a patch beside the version that serves, and makes a face of it. The version keeps the patch until it
/// is freed, even if no face is made: code of the patch has run by then.
pub(super) fn load(
    running: &Lease,
    patch: &Patch,
    artifact: &Found,
    steps: &StepThread,
) -> Result<FaceNumber, NotPatched> {
    let version = running.version();
    let faces = &version.faces;
    if !faces.has_room_for(patch.content.len()) {
        return Err(NotPatched::Full);
    }
    let mapped = running.image().load_patch(patch).map_err(NotPatched::NotMapped)?;
    let functions = mapped.functions();
    faces.keep_patch(mapped);
    let described =
        steps.run(running, Step::Create, move |image| describe(image, functions.as_slice()));
    let described = described.map_err(NotPatched::Undescribed)?;
    let mut targets = Vec::new();
    for function in &described {
        let name = &function.description.name;
        let base = version.function(name);
        let (place, base) = base.ok_or_else(|| NotPatched::UnknownFunction(name.clone()))?;
        if *base != function.description {
            return Err(NotPatched::OtherFunction(name.clone()));
        }
        targets.push((place, Target::of(function)));
    }
    let base = faces.base().ok_or(NotPatched::Full)?;
    let whole = File::open(&artifact.path).map_err(NotPatched::Unreadable)?;
    let changed = patch.header.changed.clone();
    let face = base.patched(patch.header.build, changed, Some(whole), targets);
    faces.add(face).ok_or(NotPatched::Full)
}

fn describe(image: &Image, functions: &[FunctionRef]) -> Answer<Vec<DescribedFunction>> {
    let mut described = Vec::new();
    for function in functions {
        match image.describe_function(*function) {
            Answer::Ok(function) => described.push(function),
            Answer::Err(error) => return Answer::Err(error),
            Answer::Panic(report) => return Answer::Panic(report),
        }
    }
    Answer::Ok(described)
}
