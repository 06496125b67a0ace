//! Counts how often cargo made other code than a build without cargo. The count is stored beside the artifacts, so
//! that every command can show it.

use std::fs;
use std::path::{Path, PathBuf};

/// The file with the count, in a plugin directory.
const FILE: &str = ".hotswap-replay-disagreements";

/// The count for the host that loads from `plugin_dir`.
pub(crate) fn count(plugin_dir: &Path) -> u64 {
    let text = fs::read_to_string(file(plugin_dir)).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

/// Increases the count.
pub(crate) fn add(plugin_dir: &Path) {
    // If it cannot be written, the event still reports the difference.
    let _ = fs::write(file(plugin_dir), format!("{}\n", count(plugin_dir) + 1));
}

fn file(plugin_dir: &Path) -> PathBuf {
    plugin_dir.join(FILE)
}
