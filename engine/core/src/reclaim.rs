//! The end of versions that nothing uses any more: the reaper decides that they end, and enders carry it out.

pub(crate) mod ending;
pub(crate) mod reaper;
