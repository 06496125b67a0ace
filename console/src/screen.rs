//! The console on a screen.
//!
//! [`app`] passes inputs to [`update`], which changes the [`model`], and [`view`] draws the model. [`update`] and
//! [`view`] have no side effects and do not use each other; [`app`] connects both with the terminal and with a session.

// The places of all parts.
pub mod layout;
// The actions and their keys.
pub mod input;
// The state, its changes, and its drawing.
pub mod model;
pub mod update;
pub mod view;
// The outside world: the terminal, files, other programs.
pub mod config;
pub mod editor;
mod fleet;
mod keyboard;
mod others;
pub mod remembered;
pub mod terminal;
pub mod writer;
// The application, which connects these.
pub mod app;
mod picker;
mod start;

pub use start::main;
