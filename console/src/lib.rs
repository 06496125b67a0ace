//! The console: `hotswap-console` on a screen and `hotswap` in a script, on one action layer.

#![forbid(unsafe_code)]

pub mod cli;
pub mod client;
pub mod format;
pub mod linear;
pub mod operation;
pub mod session;
pub mod signals;
pub mod socket;
