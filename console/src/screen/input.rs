//! What a person can do, and which keys ask for it.

pub mod action;
pub mod key;
pub mod keymap;
