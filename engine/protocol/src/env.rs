//! The environment variables that Hotswap defines: one list for hosts, consoles and builds.
//!
//! Variables that start with `HOTSWAP_` and are missing here belong to tests, or pass compile-time
//! facts from a build script to its own crate.

/// Asks a host for a console socket.
///
/// - Set by: the console, for the host that it starts; or by the user.
/// - Read by: `hotswap_engine::ConsoleSocket::from_env`.
/// - Holds: `1` for a socket in the [runtime directory](crate::RuntimeDir), or the path of a
///   socket. Empty and `0` ask for none.
pub const CONSOLE: &str = "HOTSWAP_CONSOLE";

/// Names the directory from which a host loads its plugins.
///
/// - Set by: the console, for the host that it starts; or by the user.
/// - Read by: `hotswap_engine::Engine::from_env`, and every engine with a console.
/// - Holds: the path of a directory of artifacts.
pub const PLUGIN_DIR: &str = "HOTSWAP_PLUGIN_DIR";

/// Names the artifact store, from which a host takes earlier builds when it rolls back.
///
/// - Set by: the console, for the host that it starts; or by the user.
/// - Read by: `hotswap_engine::Engine::from_env`, and every engine with a console.
/// - Holds: the path of the store's directory.
pub const STORE_DIR: &str = "HOTSWAP_STORE";

/// Names the directory of a fleet, or its server.
///
/// - Set by: the user.
/// - Read by: `hotswap fleet` and `hotswap agent`.
/// - Holds: the path of the directory that `hotswap fleet init` made, or `nats://HOST:PORT/NAME`.
pub const FLEET: &str = "HOTSWAP_FLEET";

/// Sets the labels of a host in a fleet. Hosts with the same labels and the same toolchain form a stratum, and
/// each stratum tries a release on hosts of its own first.
///
/// - Set by: the user.
/// - Read by: `hotswap_engine::Engine::from_env`, and every engine with a console.
/// - Holds: pairs `KEY=VALUE`, separated by commas: `region=eu,size=large`.
pub const LABELS: &str = "HOTSWAP_LABELS";

/// Changes which names are live in a module that is marked `#[live]`.
///
/// - Set by: `hotswap-build`, from `BuildOptions::live_prefix`, for the cargo that it runs.
/// - Read by: the macro `#[live]` (in `hotswap-macros`, which repeats this name so that a plugin's
///   build need not compile this crate).
/// - Holds: the prefix of live names, such as `job_`.
pub const LIVE_PREFIX: &str = "HOTSWAP_LIVE_PREFIX";

/// Names the directory for notes on how cargo calls the compiler.
///
/// - Set by: `hotswap-build`, for the cargo that it runs.
/// - Read by: the script `note-compilers.sh` of `hotswap-build`, which cargo runs as its
///   `RUSTC_WRAPPER`.
/// - Holds: the path of a directory that exists only during that run of cargo.
pub const NOTES_DIR: &str = "HOTSWAP_NOTES";

/// Makes the console scan the sources for changes at intervals, where the file system does not report
/// changes.
///
/// - Set by: the user.
/// - Read by: the console.
/// - Holds: the pause between two scans, in seconds; it may have a fraction.
pub const POLL: &str = "HOTSWAP_POLL";

/// Makes the host load each build as a whole, and never as a patch of the version that serves.
///
/// - Set by: the user.
/// - Read by: the console.
/// - Holds: any value.
pub const NO_PATCH: &str = "HOTSWAP_NO_PATCH";

/// Sets when cargo checks libraries that `hotswap-build` has compiled without cargo.
///
/// - Set by: the user.
/// - Read by: the console.
/// - Holds: for how many seconds no file may have been saved before cargo checks, or `off` if it should never
///   check.
pub const REVIEW: &str = "HOTSWAP_REVIEW";
