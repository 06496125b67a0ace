//! The end of what nothing uses any more: the reaper decides it, and enders run it.

pub(crate) mod ending;
pub(crate) mod reaper;
