//! What another version would change: of what artifacts declare, and of the sources.

// Opens artifacts, in a process of its own.
pub mod probe;
// The pinned calls, made in what a reload would load.
pub mod replay;
// What a reload would change.
pub mod preview;
// How two versions differ.
pub mod difference;
