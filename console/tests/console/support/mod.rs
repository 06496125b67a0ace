//! What several test modules need.

pub mod fake_host;
pub mod samples;
