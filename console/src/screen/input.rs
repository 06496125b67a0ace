//! The actions of a person, and their keys.

pub mod action;
pub mod key;
pub mod keymap;
