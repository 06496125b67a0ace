//! How often cargo made other code than builds without it: a number beside the artifacts, so that every
//! command can tell it.

use std::fs;
use std::path::{Path, PathBuf};

/// The file in a plugin directory that holds the number.
const FILE: &str = ".hotswap-replay-disagreements";

/// How often that happened for the host that loads from `plugin_dir`.
pub(crate) fn count(plugin_dir: &Path) -> u64 {
    let text = fs::read_to_string(file(plugin_dir)).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

/// Counts another one.
pub(crate) fn add(plugin_dir: &Path) {
    // Where it cannot be written the event is told all the same.
    let _ = fs::write(file(plugin_dir), format!("{}\n", count(plugin_dir) + 1));
}

fn file(plugin_dir: &Path) -> PathBuf {
    plugin_dir.join(FILE)
}
