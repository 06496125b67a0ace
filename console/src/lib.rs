//! The console: `hotswap-console` on a screen and `hotswap` in a script, on one action layer.
//!
//! Each module may use those above it; `tests/it/tidy.rs` has the table.

#![forbid(unsafe_code)]

// What everything else says and ends with.
pub mod failure;
pub mod format;
pub mod signals;
// A host, asked.
pub mod host;
// Artifacts and sources, compared.
pub mod compare;
// A host, built, started, watched and reloaded.
pub mod session;
// Hosts, brought to what a fleet declares.
pub mod agent;
// Commands and lines, for scripts.
pub mod cli;
// The screen, for a person.
pub mod screen;
