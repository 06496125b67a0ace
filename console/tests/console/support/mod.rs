//! What several test modules need.

pub mod console;
pub mod fake_host;
pub mod samples;
