//! The order in which versions end that left together: the version that was loaded last ends first, like
//! local variables.

use std::sync::{Arc, Weak};

use super::{Version, lease::LeaseKind, life::Stage};
use crate::slots;

/// Retires versions that leave together. They are given in load order.
pub(crate) fn retire_together(versions: &[Arc<Version>]) {
    leave_together(versions);
    versions.iter().rev().for_each(|version| version.retire());
}

/// Notes that versions leave together. They are given in load order.
pub(crate) fn leave_together(versions: &[Arc<Version>]) {
    for (at, version) in versions.iter().enumerate() {
        let later = versions[at + 1..].iter().map(Arc::downgrade).collect();
        // A version leaves only once.
        let _ = version.later.set(later);
    }
}

impl Version {
    /// Whether this version has to wait for another one to end first: one that was loaded later, left
    /// together with this one, and has not begun to end. If one of those is in use, this version waits for
    /// none of them, because that use may last.
    pub fn waits_for_another(&self) -> bool {
        let later = self.later.get().into_iter().flatten().filter_map(Weak::upgrade);
        // A version that has to be freed at once does not wait for versions that are kept for some time.
        let is_due = |version: &Arc<Version>| version.is_urgent() || !self.is_urgent();
        let leaving = |version: &Arc<Version>| version.stage() == Stage::Leaving && is_due(version);
        let later: Vec<_> = later.filter(leaving).collect();
        !later.is_empty() && !later.iter().any(|version| version.is_in_use())
    }

    /// Whether something uses it besides the imports of other versions, which end with those versions.
    fn is_in_use(self: &Arc<Self>) -> bool {
        let leases = self.leases();
        leases.count(LeaseKind::Call) > 0
            || leases.count(LeaseKind::Handle) > 0
            || leases.count(LeaseKind::Value) > leases.imports()
            || slots::is_held(Arc::as_ptr(self))
    }
}
