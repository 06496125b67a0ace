//! The cargo profile that plugins are built with.

use std::fs;

use crate::{BuildOptions, PluginPackage};

/// The arguments that define and choose the profile `hotswap`, for a workspace that does not define
/// it: a debug build without debug information, most of which is `std`'s.
///
/// The compiler makes none (`debug`), and what `std` brings is left out (`strip`). This leaves a quarter of
/// the artifact to link, hash, stage and read, and a fifth less to compile: see BENCHMARKS.md. Symbols stay,
/// so backtraces have names.
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

/// Whether the workspace defines the profile `hotswap`. Errors in its manifest are for cargo to
/// report.
fn is_defined(plugin: &PluginPackage) -> bool {
    let manifest = fs::read_to_string(plugin.workspace_root.join("Cargo.toml"));
    let manifest = manifest.ok().and_then(|text| text.parse::<toml::Table>().ok());
    manifest.is_some_and(|manifest| {
        manifest.get("profile").is_some_and(|profiles| profiles.get("hotswap").is_some())
    })
}
