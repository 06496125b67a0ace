//! The console: `hotswap-console` on a screen and `hotswap` in a script, on one action layer.

#![forbid(unsafe_code)]

// A host, asked.
pub mod client;
pub mod operation;
pub mod socket;
// Artifacts, opened elsewhere and compared.
pub mod preview;
pub mod probe;
// A host, built, started, watched and reloaded.
pub mod session;
// The scriptable half.
pub mod cli;
pub mod format;
pub mod linear;
pub mod signals;
// The screen.
pub mod action;
pub mod app;
pub mod config;
pub mod console_cli;
pub mod editor;
pub mod files;
pub mod history_file;
pub mod key;
pub mod keymap;
pub mod layout;
pub mod memory_file;
mod picker;
pub mod state;
mod state_file;
pub mod terminal;
pub mod update;
pub mod view;
