//! From source to artifact: cargo, git, watching, and the artifact store.
//!
//! A plugin is an ordinary library crate. [`build_plugin`] makes a shared library of it, in a
//! target directory of its own so that neither an editor's checks nor a build of the workspace
//! hold its lock; stamps the build id and the git facts into the finished file; and keeps the
//! result in a [`Store`], from where [`Built::install`] brings it into a host's plugin directory.
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
//! Everything blocks; call it from a thread of its own. A [`Cancel`] ends a build from elsewhere,
//! and a [`Watcher`] tells which plugins to build again.

#![forbid(unsafe_code)]

mod error;
// What there is to build.
mod host_metadata;
mod included;
mod package;
mod workspace;
// Building it.
mod build;
mod cancel;
mod cargo;
mod git;
mod message;
mod process;
mod replay;
mod source_diff;
mod static_link;
// What was built.
mod atomic_file;
mod store;
// When to build it again.
mod watch;

/// What is read of files that others write, for tests that write anything into them.
#[doc(hidden)]
pub mod inputs {
    pub use crate::replay::inputs::{compiler_notes, dep_info, record};
}

pub use build::profile::DEFAULT_PROFILE;
pub use build::{BuildEffect, BuildOptions, Built, build_host, build_plugin};
pub use cancel::Cancel;
pub use error::{BuildError, BuildErrorKind};
pub use included::IncludedFiles;
pub use message::{BuildMessage, Diagnostic, DiagnosticLevel};
pub use package::{HostPackage, PluginPackage};
pub use source_diff::{SourceDiff, SourceLine, SourceLineKind, source_diff};
pub use static_link::{StaticLinks, link_statically, unlink_statically};
pub use store::{Store, StoreLimits, StoredArtifact, StoredFile};
pub use watch::{Quiet, SourceChange, Watcher};

pub use hotswap_artifact::{BuildId, Facts, Source};
