//! Why a file is not a usable artifact.

use std::fmt;

use hotswap_protocol::{BuildId, Misfit};

/// Why a file is not an artifact that can be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArtifactError {
    /// The file is not a shared library for this machine. The text says why.
    NotALibrary(String),
    /// The file is not a Hotswap plugin.
    NotAPlugin,
    /// The file was built, but not by `hotswap build`.
    NotStamped,
    /// The file was changed, or cut short, after `hotswap build` wrote it.
    Damaged {
        /// The build id in the stamp.
        expected: BuildId,
        /// The build id that fits the content.
        found: BuildId,
    },
    /// The descriptor is invalid. The text says why.
    BadDescriptor(String),
    /// The plugin was built by another toolchain than the host.
    Toolchain(Misfit),
    /// The file uses a shared library of Rust's, such as a shared `std`, where a plugin must have its own.
    SharedRuntime {
        /// A symbol that it takes from that library, or the library itself.
        symbol: String,
    },
    /// The file lacks the hooks without which its image could never be unmapped safely.
    NoHooks {
        /// The first symbol that it takes from libc instead of a hook.
        symbol: String,
    },
}

impl fmt::Display for ArtifactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotALibrary(why) => write!(f, "not a shared library for this machine: {why}"),
            Self::NotAPlugin => f.write_str(
                "not a Hotswap plugin: it has no descriptor; is there a `#[plugin]` in the crate, \
                 and was it built with `hotswap build`?",
            ),
            Self::NotStamped => f.write_str(
                "not stamped: it was linked, but not by `hotswap build`; build it with `hotswap build`",
            ),
            Self::Damaged { expected, found } => write!(
                f,
                "damaged or half written: its stamp says {expected}, its content {found}; build it again"
            ),
            Self::BadDescriptor(why) => write!(f, "its descriptor is invalid: {why}"),
            Self::Toolchain(misfit) => misfit.fmt(f),
            Self::SharedRuntime { symbol } => write!(
                f,
                "it takes `{symbol}` from a shared Rust library, but a plugin must have its own \
                 `std`, whose threads and thread-locals the engine follows: build it without \
                 `-C prefer-dynamic` (in RUSTFLAGS or .cargo/config.toml), and without a dependency of \
                 `crate-type = [\"dylib\"]`"
            ),
            Self::NoHooks { symbol } => write!(
                f,
                "it takes `{symbol}` from libc, so the engine could not follow its threads, and it could \
                 never be unmapped safely; build it with `hotswap build`"
            ),
        }
    }
}

impl std::error::Error for ArtifactError {}
