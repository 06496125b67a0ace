//! The cargo profile with which plugins are built.

use std::fs;

use crate::{BuildOptions, PluginPackage};

/// The arguments that define and choose the profile `hotswap`, for a workspace that does not define it: a debug
/// build without debug information.
///
/// `debug` leaves out the debug information of the plugin, and `strip` that of `std`, which is the largest part.
/// The artifact is then a quarter of its size, so it is linked, hashed, staged and read faster, and compiling
/// takes a fifth less time: see BENCHMARKS.md. Symbols stay, so backtraces have names.
pub const DEFAULT_PROFILE: [&str; 8] = [
    "--profile",
    "hotswap",
    "--config",
    "profile.hotswap.inherits=\"dev\"",
    "--config",
    "profile.hotswap.debug=0",
    "--config",
    "profile.hotswap.strip=\"debuginfo\"",
];

/// The arguments that choose the profile; none if `options` choose one.
pub(super) fn arguments(plugin: &PluginPackage, options: &BuildOptions) -> &'static [&'static str] {
    let chosen = |flag: &String| {
        flag.starts_with("--profile") || matches!(flag.as_str(), "--release" | "-r")
    };
    if options.release || options.cargo_flags.iter().any(chosen) {
        &[]
    } else if is_defined(plugin) {
        &DEFAULT_PROFILE[..2]
    } else {
        &DEFAULT_PROFILE
    }
}

/// Whether the workspace defines the profile `hotswap`. Cargo reports errors in its manifest.
fn is_defined(plugin: &PluginPackage) -> bool {
    let manifest = fs::read_to_string(plugin.workspace_root.join("Cargo.toml"));
    let manifest = manifest.ok().and_then(|text| text.parse::<toml::Table>().ok());
    manifest.is_some_and(|manifest| {
        manifest.get("profile").is_some_and(|profiles| profiles.get("hotswap").is_some())
    })
}
