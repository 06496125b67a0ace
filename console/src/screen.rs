//! The console on a screen.
//!
//! What happens comes to [`update`], which changes the [`model`]; [`view`] shows it. Neither has side
//! effects, and neither knows the other. [`app`] connects both with the terminal and with a session.

// Where everything is.
pub mod layout;
// What a person can do, and with which keys.
pub mod input;
// All that is shown.
pub mod model;
pub mod update;
pub mod view;
// The world outside: the clock, the terminal, files, other programs.
pub mod config;
pub mod editor;
mod fleet;
mod keyboard;
mod others;
pub mod remembered;
pub mod terminal;
pub mod writer;
// Both brought together.
pub mod app;
mod picker;
mod start;

pub use start::main;
