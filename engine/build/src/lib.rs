//! From source to artifact: cargo, git, watching, and the artifact store.
//!
//! A plugin is an ordinary library crate. [`build_plugin`] does three things with it:
//!
//! 1. It builds a shared library, in a target directory of its own, so that it need not wait for
//!    an editor's checks or a build of the workspace.
//! 2. It stamps the build id and the git facts into that library, which makes it an artifact.
//! 3. It keeps the artifact in a [`Store`]. From there [`Built::install`] copies it into a host's
//!    plugin directory.
//!
//! ```no_run
//! use hotswap_build::{BuildMessage, BuildOptions, Cancel, HostPackage, build_plugin};
//!
//! # fn main() -> Result<(), hotswap_build::BuildError> {
//! let host = HostPackage::open("sample-host".as_ref())?;
//! for plugin in &host.plugins {
//!     let mut show = |message| {
//!         if let BuildMessage::Diagnostic(diagnostic) = message {
//!             eprint!("{}", diagnostic.rendered);
//!         }
//!     };
//!     let mut built = build_plugin(plugin, &BuildOptions::default(), &Cancel::default(), &mut show)?;
//!     println!("{}", built.install(&host.plugin_dir)?.display());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! All functions here block: call them from a thread of their own. A [`Cancel`] ends a build from
//! another thread, and a [`Watcher`] reports which plugins need another build.
//!
//! | to | use |
//! |---|---|
//! | find a host and its plugins | [`HostPackage`], [`PluginPackage`] |
//! | read what a plugin's sources declare | [`PluginPackage::declarations`] |
//! | build them | [`build_host`], [`build_plugin`], [`build_plugins`] with [`BuildOptions`] |
//! | compare a build without cargo with what cargo makes | [`review_plugin`] |
//! | follow and end a build | [`BuildMessage`], [`Cancel`] |
//! | keep and find earlier builds | [`Store`] |
//! | build after each change | [`Watcher`] |
//! | compare the sources of two builds | [`source_diff()`] |
//! | see which functions a build changed | [`Built::changes`] |
//! | make plugins a part of the host | [`link_statically`], [`unlink_statically`] |

#![forbid(unsafe_code)]

mod error;
// Hosts and plugins, and what they declare.
mod declared;
mod host_metadata;
mod included;
mod package;
mod patch;
mod workspace;
// Builds.
mod build;
mod cancel;
mod cargo;
mod git;
mod jobs;
mod message;
mod outline;
mod process;
mod real_path;
mod replay;
mod source_diff;
mod static_link;
mod syntax;
// Artifacts.
mod atomic_file;
mod store;
// Changes of sources.
mod reads;
mod watch;

/// Parsers of files that other programs write. They are public for tests that feed them arbitrary content.
#[doc(hidden)]
pub mod inputs {
    pub use crate::replay::inputs::{compiler_notes, dep_info, record};
}

pub use build::profile::DEFAULT_PROFILE;
pub use build::{
    BuildEffect, BuildOptions, Built, Disagreement, EarlyPatch, Installed, OnPatch, Review,
    build_host, build_plugin, build_plugins, review_plugin,
};
pub use cancel::Cancel;
pub use declared::{Declaration, DeclarationKind, Declarations, UnreadFile};
pub use error::{BuildError, BuildErrorKind};
pub use included::IncludedFiles;
pub use message::{BuildMessage, Diagnostic, DiagnosticLevel};
pub use outline::{Bound, ChangedFunction, ChangedItem, ItemChange, SourceChanges};
pub use package::{HostPackage, PluginPackage, Program};
pub use patch::{NotPatched, Unpatchable};
pub use replay::{program_sources, toolchain_files};
pub use source_diff::{SourceDiff, SourceLine, SourceLineKind, source_diff};
pub use static_link::{
    LivePrefix, StaticLinks, link_statically, link_statically_with, unlink_statically,
};
pub use store::{Store, StoreLimits, StoredArtifact, StoredFile};
pub use watch::{Quiet, SourceChange, Watcher, last_change};

pub use hotswap_artifact::patch::Patch;
pub use hotswap_artifact::{ArtifactError, BuildId, Facts, Source};
