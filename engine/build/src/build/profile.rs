//! The cargo profile that plugins are built with.

use std::fs;

use crate::{BuildOptions, PluginPackage};

/// Cargo's arguments for the profile `hotswap` where the workspace does not make one: a debug build
/// without debug information, most of which is `std`'s. A quarter of the artifact is left to be
/// linked, hashed, staged and read: see BENCHMARKS.md. Symbols stay, and so do the names in a
/// backtrace.
pub const DEFAULT_PROFILE: [&str; 6] = [
    "--profile",
    "hotswap",
    "--config",
    "profile.hotswap.inherits=\"dev\"",
    "--config",
    "profile.hotswap.strip=\"debuginfo\"",
];

/// Chooses the profile, where the caller has not.
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

/// Whether the workspace has a profile of its own for plugins. What is wrong with the manifest is
/// cargo's to say.
fn is_defined(plugin: &PluginPackage) -> bool {
    let manifest = fs::read_to_string(plugin.workspace_root.join("Cargo.toml"));
    let manifest = manifest.ok().and_then(|text| text.parse::<toml::Table>().ok());
    manifest.is_some_and(|manifest| {
        manifest.get("profile").is_some_and(|profiles| profiles.get("hotswap").is_some())
    })
}
