//! What a host depends on: the engine that loads, serves, replaces and frees plugins.

pub mod artifact;
