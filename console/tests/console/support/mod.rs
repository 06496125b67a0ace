//! Helpers that several test modules share.

pub mod console;
pub mod fake_host;
pub mod samples;
