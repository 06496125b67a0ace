//! The cargo profile with which plugins are built.

use std::collections::BTreeSet;
use std::env;
use std::fs;

use crate::cargo::given_configurations;
use crate::replay::configuration_files;
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

/// The arguments that choose the profile; none if `options` choose one. A profile `hotswap` in the workspace's manifest
/// is used as it is. Settings in cargo's configuration, in its variables and in flags take precedence over the defaults.
pub(super) fn arguments(plugin: &PluginPackage, options: &BuildOptions) -> Vec<&'static str> {
    let chosen = |flag: &String| {
        flag.starts_with("--profile") || matches!(flag.as_str(), "--release" | "-r")
    };
    if options.release || options.cargo_flags.iter().any(chosen) {
        return Vec::new();
    }
    let manifest = fs::read_to_string(plugin.workspace_root.join("Cargo.toml"));
    let of_manifest = manifest.ok().and_then(|text| settings_in(&text));
    let of_cargo = settings_of_cargo(plugin, options);
    let is_wanted = |setting: &str| match setting {
        // Stripping would remove the debug information that was asked for.
        "strip" => !of_cargo.contains("strip") && !of_cargo.contains("debug"),
        setting => !of_cargo.contains(setting),
    };
    let defaults = [("inherits", 2..4), ("debug", 4..6), ("strip", 6..8)];
    let defaults =
        defaults.into_iter().filter(|(name, _)| of_manifest.is_none() && is_wanted(name));
    let defaults = defaults.flat_map(|(_, arguments)| &DEFAULT_PROFILE[arguments]);
    DEFAULT_PROFILE[..2].iter().chain(defaults).copied().collect()
}

/// The settings of the profile outside of the manifest: in files with cargo's configuration, in variables, and in flags.
fn settings_of_cargo(plugin: &PluginPackage, options: &BuildOptions) -> BTreeSet<String> {
    let files = configuration_files(&plugin.dir, &plugin.configurations);
    let files = files.into_iter().map(fs::read_to_string);
    let flags: Vec<&str> = options.cargo_flags.iter().map(String::as_str).collect();
    let texts = files.flatten().chain(given_configurations(&flags).map(str::to_owned));
    let variables = env::vars_os().filter_map(|(name, _)| {
        let name = name.to_str()?.strip_prefix("CARGO_PROFILE_HOTSWAP_")?.to_lowercase();
        Some(name.replace('_', "-"))
    });
    texts.filter_map(|text| settings_in(&text)).flatten().chain(variables).collect()
}

/// The names of the profile's settings in a manifest or a configuration; `None` if it does not define the profile.
/// Cargo reports errors in the text.
fn settings_in(text: &str) -> Option<BTreeSet<String>> {
    let table: toml::Table = text.parse().ok()?;
    let profile = table.get("profile")?.get("hotswap")?.as_table()?;
    Some(profile.keys().cloned().collect())
}
