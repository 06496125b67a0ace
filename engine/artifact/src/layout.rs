//! How a store of builds is laid out: one directory for each plugin, one file for each build, named
//! after its build id, and what lies beside it.

use std::{
    env::consts::DLL_SUFFIX,
    io::Read,
    path::{Path, PathBuf},
};

use hotswap_protocol::{BuildId, PhaseTiming, PluginName};

/// The directory where a store keeps the artifacts of one plugin, each named after its build id.
pub fn store_dir(store: &Path, plugin: &PluginName) -> PathBuf {
    store.join(plugin.folded())
}

/// The file where a store keeps one build of a plugin.
pub fn stored_path(store: &Path, plugin: &PluginName, build_id: BuildId) -> PathBuf {
    store_dir(store, plugin).join(format!("{build_id}{DLL_SUFFIX}"))
}

/// The build that a file in a store is named after; `None` if it is named otherwise.
pub fn stored_id(stored: &Path) -> Option<BuildId> {
    let name = stored.file_name()?.to_str()?;
    let id = name.strip_suffix(DLL_SUFFIX)?;
    id.parse().ok().filter(|parsed: &BuildId| parsed.to_string() == id)
}

/// What the file of a patch is called, beside the artifact that it belongs to: `libworld.patch`, `world.patch`.
pub const PATCH_EXTENSION: &str = "patch";

/// The file beside a stored build that whoever has it loaded keeps locked.
pub fn stored_lock(stored: &Path) -> PathBuf {
    stored.with_extension("loaded")
}

/// The file beside a stored build that says how long each phase of that build took: a JSON list of
/// `PhaseTiming`s.
pub fn stored_phases(stored: &Path) -> PathBuf {
    stored.with_extension("phases.json")
}

/// Phases of a build take a few hundred bytes; what is larger is something else.
const MAX_PHASES_BYTES: u64 = 64 << 10;

/// Reads what [`stored_phases`] has: nothing where that does not make sense.
pub fn read_phases(text: impl Read) -> Vec<PhaseTiming> {
    serde_json::from_reader(text.take(MAX_PHASES_BYTES)).unwrap_or_default()
}
