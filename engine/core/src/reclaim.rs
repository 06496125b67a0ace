//! The end of what nothing uses any more: who decides it, and who runs it.

pub(crate) mod ending;
pub(crate) mod reaper;
