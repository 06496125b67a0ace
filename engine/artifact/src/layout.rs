//! The layout of a store of builds: a directory for each plugin, a file for each build, named after its build
//! id, and further files beside it.

use std::{
    env::consts::DLL_SUFFIX,
    io::Read,
    path::{Path, PathBuf},
};

use hotswap_protocol::{BuildId, PhaseTiming, PluginName};

/// The directory in which a store keeps the artifacts of one plugin, each named after its build id.
pub fn store_dir(store: &Path, plugin: &PluginName) -> PathBuf {
    store.join(plugin.folded())
}

/// The file in which a store keeps one build of a plugin.
pub fn stored_path(store: &Path, plugin: &PluginName, build_id: BuildId) -> PathBuf {
    store_dir(store, plugin).join(format!("{build_id}{DLL_SUFFIX}"))
}

/// The build after which a file in a store is named; `None` if it has another name.
pub fn stored_id(stored: &Path) -> Option<BuildId> {
    let name = stored.file_name()?.to_str()?;
    let id = name.strip_suffix(DLL_SUFFIX)?;
    id.parse().ok().filter(|parsed: &BuildId| parsed.to_string() == id)
}

/// The extension of a patch file. The file lies beside its artifact, as `libworld.patch` or `world.patch`.
pub const PATCH_EXTENSION: &str = "patch";

/// The file beside a stored build that every process locks while it has the build loaded.
pub fn stored_lock(stored: &Path) -> PathBuf {
    stored.with_extension("loaded")
}

/// The file beside a stored build that says how long each phase of that build took, as a JSON list of
/// `PhaseTiming`s.
pub fn stored_phases(stored: &Path) -> PathBuf {
    stored.with_extension("phases.json")
}

/// The largest file of phases that is read. A real one has a few hundred bytes.
const MAX_PHASES_BYTES: u64 = 64 << 10;

/// Reads the file that [`stored_phases`] names. Empty if its content makes no sense.
pub fn read_phases(text: impl Read) -> Vec<PhaseTiming> {
    serde_json::from_reader(text.take(MAX_PHASES_BYTES)).unwrap_or_default()
}
