//! Comparisons: what another version declares and returns, and how its sources differ.

// Opens artifacts in a process of their own.
pub mod probe;
// Makes the pinned calls in the builds that a reload would load.
pub mod replay;
// The effects of a reload.
pub mod preview;
// The differences between two versions.
pub mod difference;
