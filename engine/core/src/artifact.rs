//! What a built plugin file says of itself, read and checked without running any of it.

mod elf;
mod facts;
mod stamp;
pub(crate) mod unseen;

pub(crate) use elf::is_covered;
pub(crate) use facts::is_name;
pub use facts::{BuildId, Facts, Toolchain, claims, inspect};
pub use hotswap_protocol::Source;
pub use stamp::stamp;

/// Where a store keeps the artifacts of one plugin, each named after its build id; plugins are known
/// without regard to case.
pub fn store_dir(store: &std::path::Path, plugin: &str) -> std::path::PathBuf {
    store.join(plugin.to_lowercase())
}

/// Where a store keeps one build of a plugin.
pub fn stored_path(store: &std::path::Path, plugin: &str, build_id: BuildId) -> std::path::PathBuf {
    store_dir(store, plugin).join(format!("{build_id}{}", std::env::consts::DLL_SUFFIX))
}

/// The build that a file in a store is named after; none where it is named otherwise.
pub fn stored_id(stored: &std::path::Path) -> Option<BuildId> {
    let name = stored.file_name()?.to_str()?;
    let id = name.strip_suffix(std::env::consts::DLL_SUFFIX)?;
    id.parse().ok().filter(|parsed: &BuildId| parsed.to_string() == id)
}

/// The file beside a stored build that whoever has it loaded keeps locked.
pub fn stored_lock(stored: &std::path::Path) -> std::path::PathBuf {
    stored.with_extension("loaded")
}

/// The file beside a stored build that says how long each phase of that build took: a JSON list of
/// `PhaseTiming`s.
pub fn stored_phases(stored: &std::path::Path) -> std::path::PathBuf {
    stored.with_extension("phases.json")
}

/// Phases of a build take a few hundred bytes; what is larger is something else.
const MAX_PHASES_BYTES: u64 = 64 << 10;

/// Reads what [`stored_phases`] has: nothing where that does not make sense.
pub fn read_phases(text: impl std::io::Read) -> Vec<hotswap_protocol::PhaseTiming> {
    serde_json::from_reader(std::io::Read::take(text, MAX_PHASES_BYTES)).unwrap_or_default()
}

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
    Toolchain {
        /// What differs: `rustc`, `target`, `panic strategy`, `hotswap-plugin`, `ABI`.
        what: &'static str,
        /// The plugin's.
        found: String,
        /// The host's.
        expected: String,
    },
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

impl std::fmt::Display for ArtifactError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
            Self::Toolchain { what, found, expected } => write!(
                f,
                "built with another {what}: the plugin has {found}, the host {expected}; \
                 build both with the same toolchain"
            ),
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
