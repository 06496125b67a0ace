//! Whoever frees what nothing uses any more.

use std::sync::Arc;

use super::Version;

/// Whoever frees versions.
pub(crate) trait Reclaimer: Send + Sync {
    /// A version may have become unused.
    fn consider(&self, version: &Arc<Version>);
}
