//! The toolchain of a program or an artifact, and whether two of them fit together.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The toolchain that built an artifact or a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Toolchain {
    /// The compiler's release, `1.95.0`.
    pub rustc_release: String,
    /// The compiler's commit.
    pub rustc_commit: String,
    /// The target triple.
    pub target: String,
    /// `unwind` or `abort`.
    pub panic_strategy: String,
    /// The version of hotswap-plugin.
    pub plugin_crate_version: String,
    /// The version of the binary interface between host and image.
    pub abi_version: u32,
}

/// A part of the toolchain in which a plugin and its host must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ToolchainPart {
    /// The binary interface between host and image.
    Abi,
    /// The compiler release and commit.
    Rustc,
    /// The target triple.
    Target,
    /// What a panic does.
    PanicStrategy,
    /// The version of hotswap-plugin.
    HotswapPlugin,
}

/// The first difference between the toolchains of a plugin and of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// What differs.
    pub part: ToolchainPart,
    /// The plugin's.
    pub found: String,
    /// The host's.
    pub expected: String,
}

impl Toolchain {
    /// `rustc 1.95.0 (59807616e)`
    pub fn rustc(&self) -> String {
        let commit = self.rustc_commit.get(..9).unwrap_or(&self.rustc_commit);
        format!("rustc {} ({commit})", self.rustc_release)
    }

    /// The first part of the toolchain in which an artifact built by `self` differs from `host`; `None` if
    /// the artifact fits.
    pub fn misfit(&self, host: &Self) -> Option<Misfit> {
        let is_same_rustc =
            (&self.rustc_commit, &self.rustc_release) == (&host.rustc_commit, &host.rustc_release);
        let abi = |toolchain: &Self| format!("version {}", toolchain.abi_version);
        let parts = [
            (ToolchainPart::Abi, self.abi_version == host.abi_version, abi as fn(&Self) -> String),
            (ToolchainPart::Rustc, is_same_rustc, Self::rustc),
            (ToolchainPart::Target, self.target == host.target, |it| it.target.clone()),
            (ToolchainPart::PanicStrategy, self.panic_strategy == host.panic_strategy, |it| {
                it.panic_strategy.clone()
            }),
            (
                ToolchainPart::HotswapPlugin,
                self.plugin_crate_version == host.plugin_crate_version,
                |it| it.plugin_crate_version.clone(),
            ),
        ];
        let (part, _, text) = parts.into_iter().find(|(_, is_same, _)| !is_same)?;
        Some(Misfit { part, found: text(self), expected: text(host) })
    }
}

impl fmt::Display for Toolchain {
    /// `rustc 1.95.0 (59807616e), x86_64-unknown-linux-gnu, panic=unwind, hotswap-plugin 0.1.0, ABI 6`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, panic_strategy, plugin_crate_version, abi_version, .. } = self;
        write!(
            f,
            "{}, {target}, panic={panic_strategy}, hotswap-plugin {plugin_crate_version}, ABI {abi_version}",
            self.rustc()
        )
    }
}

impl ToolchainPart {
    /// The name of the part, as it stands in a sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abi => "ABI",
            Self::Rustc => "rustc",
            Self::Target => "target",
            Self::PanicStrategy => "panic strategy",
            Self::HotswapPlugin => "hotswap-plugin",
        }
    }

    /// What to do if plugin and host differ in this part.
    fn advice(self) -> &'static str {
        match self {
            Self::Rustc => "build both with the same toolchain",
            Self::Target => "build both for the same target",
            Self::PanicStrategy => {
                "set the same `panic` in the profile that builds the host and in \
                 `[profile.hotswap]`, which builds plugins and inherits from `[profile.dev]`; \
                 without `panic = \"abort\"` in both, a panic in a plugin becomes an error of the call"
            }
            Self::Abi | Self::HotswapPlugin => {
                "build both with the same version of Hotswap: `cargo update` where their lock files differ"
            }
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, found, expected } = self;
        write!(
            f,
            "built with another {}: the plugin has {found}, the host {expected}; {}",
            part.as_str(),
            part.advice()
        )
    }
}
