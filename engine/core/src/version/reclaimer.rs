//! The interface of the reaper for versions.

use std::sync::Arc;

use super::Version;

/// Frees versions that nothing uses any more.
pub(crate) trait Reclaimer: Send + Sync {
    /// Called when a version may have become unused.
    fn consider(&self, version: &Arc<Version>);
}
