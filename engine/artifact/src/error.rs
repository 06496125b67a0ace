//! Why a file is refused.

use std::fmt;

use hotswap_protocol::{BuildId, Misfit};

/// Why a file is no artifact that can be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArtifactError {
    /// The file is no shared library that this machine could load; why, in words.
    NotALibrary(String),
    /// The file is no Hotswap plugin.
    NotAPlugin,
    /// The file was built, but not by `hotswap build`.
    NotStamped,
    /// The file was changed, or cut short, after `hotswap build` wrote it.
    Damaged {
        /// What the stamp says.
        expected: BuildId,
        /// What the content says.
        found: BuildId,
    },
    /// The descriptor cannot be right; why, in words.
    BadDescriptor(String),
    /// The plugin was built by another toolchain than the host.
    Toolchain(Misfit),
    /// The file shares Rust's standard library, or another library of Rust's, with others.
    SharedRuntime {
        /// A symbol that it takes from there, or the library.
        symbol: String,
    },
    /// The file lacks the hooks without which it could never be unmapped safely.
    NoHooks {
        /// The first symbol that it takes from libc instead.
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
                "not stamped: it was linked, but not finished by `hotswap build`; build it with that",
            ),
            Self::Damaged { expected, found } => write!(
                f,
                "damaged or half written: its stamp says {expected}, its content {found}; build it again"
            ),
            Self::BadDescriptor(why) => write!(f, "its descriptor cannot be right: {why}"),
            Self::Toolchain(misfit) => misfit.fmt(f),
            Self::SharedRuntime { symbol } => write!(
                f,
                "it takes `{symbol}` from a shared library of Rust's, but a plugin must have its own \
                 `std`, whose threads and thread-locals the engine follows: build it without \
                 `-C prefer-dynamic` (in RUSTFLAGS or .cargo/config.toml), and without a dependency of \
                 `crate-type = [\"dylib\"]`"
            ),
            Self::NoHooks { symbol } => write!(
                f,
                "it takes `{symbol}` from libc, so its threads could not be followed and it could \
                 never be unmapped safely; build it with `hotswap build`"
            ),
        }
    }
}

impl std::error::Error for ArtifactError {}
