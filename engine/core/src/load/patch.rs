//! Patches: new code for some functions of a version that serves, instead of a new version.

use std::{
    env::consts::DLL_EXTENSION,
    fmt,
    io::{self, Read as _},
    path::Path,
};

use hotswap_plugin::{
    __private::{DescribedFunction, FunctionRef},
    abi::Answer,
};

use hotswap_protocol::{PluginName, ReloadReport};

use super::{find::Found, stage::Inspected};
use crate::{
    EngineError, LoadCause, Step,
    artifact::{
        self, BuildId,
        layout::PATCH_EXTENSION,
        patch::{MAX_BYTES, Patch, PatchError},
    },
    image::{Image, MAX_PATCHES, NotMapped, step_thread::StepThread},
    serve::generation::Generation,
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
pub(crate) enum NotPatched {
    /// The file cannot be read.
    Unreadable(io::Error),
    /// The file is not a usable patch.
    File(PatchError),
    /// The patch makes another build than the artifact beside it.
    OtherBuild { patch: BuildId, artifact: BuildId },
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

impl NotPatched {
    /// The error of a load that can do nothing but patch.
    pub(super) fn refused(self, plugin: &PluginName) -> EngineError {
        EngineError::load(plugin, Step::Open, self)
    }
}

impl fmt::Display for NotPatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "the patch cannot be read: {error}"),
            Self::File(error) => write!(f, "the patch cannot be loaded: {error}"),
            Self::OtherBuild { patch, artifact } => write!(
                f,
                "the patch beside it makes build {patch}, but the artifact is build {artifact}"
            ),
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

/// How the version that serves can get the code of an artifact without being replaced; `None` if there is no patch.
pub(super) fn way_to(running: &Lease, artifact: &Inspected) -> Result<Option<Way>, NotPatched> {
    let (version, build) = (running.version(), artifact.facts.build_id);
    if let Some(face) = version.faces.of_build(build) {
        return Ok(Some(Way::Face(face)));
    }
    let Some(patch) = beside(&artifact.found)? else { return Ok(None) };
    if patch.header.build != build {
        return Err(NotPatched::OtherBuild { patch: patch.header.build, artifact: build });
    }
    let way = way_by(running, patch)?;
    // The version was patched before the artifact was linked, when the build was not known yet.
    if let Way::Face(face) = &way {
        let file = artifact::open(&artifact.found.path).map_err(NotPatched::Unreadable)?;
        version.settle(*face, build, file, artifact.facts.source.clone());
    }
    Ok(Some(way))
}

/// The way by which the version that serves can get the code of a patch.
pub(super) fn way_by(running: &Lease, patch: Patch) -> Result<Way, NotPatched> {
    let version = running.version();
    let (base, serving) = (patch.header.base, version.facts.build_id);
    if base != serving {
        return Err(NotPatched::OtherBase { base, serving });
    }
    Ok(match version.faces.early(patch.code_id()) {
        Some(face) => Way::Face(face),
        None => Way::Patch(Box::new(patch)),
    })
}

/// The patch beside an artifact; `None` if there is none.
fn beside(artifact: &Found) -> Result<Option<Patch>, NotPatched> {
    match read(&artifact.path.with_extension(PATCH_EXTENSION)) {
        Err(NotPatched::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        patch => patch.map(Some),
    }
}

/// The id of the code of a build, from the patch beside its artifact; `None` if there is no patch for this build.
pub(super) fn code_of(artifact: &Found, build: BuildId) -> Option<BuildId> {
    let patch = beside(artifact).ok().flatten()?;
    (patch.header.build == build).then(|| patch.code_id())
}

/// Reads the file of a patch.
pub(crate) fn read(path: &Path) -> Result<Patch, NotPatched> {
    let file = artifact::open(path).map_err(NotPatched::Unreadable)?;
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE_BYTES).read_to_end(&mut bytes);
    read.map_err(NotPatched::Unreadable)?;
    Patch::read(&bytes).map_err(NotPatched::File)
}

/// Loads a patch beside the version that serves, and makes a face of it. The version keeps the patch until it
/// is freed, even if no face is made: code of the patch has run by then.
pub(super) fn load(
    running: &Lease,
    patch: &Patch,
    artifact: Option<&Inspected>,
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
    let face = base.patched(patch.code_id(), patch.header.changed.clone(), targets);
    if let Some(artifact) = artifact {
        let path = &artifact.found.path;
        let whole = artifact::open(path).map_err(NotPatched::Unreadable)?;
        face.settle(patch.header.build, whole, artifact.facts.source.clone());
    }
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

/// Records which build has the code that a plugin got from `patch`; returns an error if the plugin has other
/// code.
pub(crate) fn settle(
    current: &Generation,
    plugin: &str,
    patch: &Patch,
    path: &Path,
) -> Result<ReloadReport, EngineError> {
    let other =
        || EngineError::load(plugin, Step::Find, "other code of it serves than the patch's");
    let running = current.versions.iter().find(|lease| lease.version().name().is(plugin));
    let running = running.ok_or_else(other)?;
    let version = running.version();
    let early = version.faces.early(patch.code_id());
    let face = early.filter(|face| *face == running.face()).ok_or_else(other)?;
    let path = path.with_extension(DLL_EXTENSION);
    let artifact = artifact::open(&path).map_err(|error| {
        let refused = EngineError::load(plugin, Step::Find, &error);
        refused.because(LoadCause::Io(error))
    })?;
    // Only shown.
    let source = artifact::read(&path).ok().and_then(|file| artifact::claims(&file)?.source);
    version.settle(face, patch.header.build, artifact, source);
    Ok(ReloadReport { generation: current.number.get(), ..ReloadReport::default() })
}
