//! The console: `hotswap-console` as a screen and `hotswap` for scripts, on the same operations.
//!
//! Each module may use the modules above it; `tests/it/tidy.rs` has the table.

#![forbid(unsafe_code)]

// Failures, formats and signals, which all others use.
pub mod failure;
pub mod format;
pub mod signals;
// Talks to a host.
pub mod host;
// Compares artifacts and sources.
pub mod compare;
// Builds, starts, watches and reloads a host.
pub mod session;
// Follows the declarations of a fleet.
pub mod agent;
// Commands and lines, for scripts.
pub mod cli;
// The screen, for people.
pub mod screen;
