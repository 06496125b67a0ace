//! What keeps a version in use.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{image::Image, version::Version};

/// Why a version is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseKind {
    /// A call runs in it.
    Call,
    /// A generation that holds it: the serving one, or one that somebody has a handle to.
    Handle,
    /// An object whose code lies in it is in use.
    Value,
    /// A thread that it started runs.
    Thread,
}

impl LeaseKind {
    const ALL: [Self; 4] = [Self::Call, Self::Handle, Self::Value, Self::Thread];

    fn noun(self, count: usize) -> &'static str {
        match (self, count) {
            (Self::Call, 1) => "call",
            (Self::Call, _) => "calls",
            (Self::Handle, 1) => "handle",
            (Self::Handle, _) => "handles",
            (Self::Value, 1) => "value",
            (Self::Value, _) => "values",
            (Self::Thread, 1) => "thread",
            (Self::Thread, _) => "threads",
        }
    }
}

/// Counts the leases of a version.
#[derive(Default)]
pub(crate) struct LeaseCounts {
    total: AtomicUsize,
    by_kind: [AtomicUsize; LeaseKind::ALL.len()],
}

impl LeaseCounts {
    /// Whether anything keeps the version in use.
    pub fn is_zero(&self) -> bool {
        self.total.load(Ordering::Acquire) == 0
    }

    /// `2 calls`, `1 value`: one text a kind.
    pub fn holders(&self) -> Vec<String> {
        let counts = LeaseKind::ALL.map(|kind| (kind, self.of(kind).load(Ordering::Relaxed)));
        let held = counts.into_iter().filter(|(_, count)| *count > 0);
        held.map(|(kind, count)| format!("{count} {}", kind.noun(count))).collect()
    }

    fn of(&self, kind: LeaseKind) -> &AtomicUsize {
        &self.by_kind[kind as usize]
    }
}

/// Keeps a version in use: while it lives the image is mapped.
pub(crate) struct Lease {
    version: Arc<Version>,
    kind: LeaseKind,
}

impl Lease {
    /// A lease of a version that is in use already, or that code in its image asks for.
    pub fn new(version: &Arc<Version>, kind: LeaseKind) -> Self {
        let counts = version.leases();
        counts.total.fetch_add(1, Ordering::Relaxed);
        counts.of(kind).fetch_add(1, Ordering::Relaxed);
        Self { version: version.clone(), kind }
    }

    /// A lease of a version that may not be in use any more; then there is none to have.
    pub fn try_new(version: &Arc<Version>, kind: LeaseKind) -> Option<Self> {
        let counts = version.leases();
        let one_more = |total| (total > 0).then_some(total + 1);
        counts.total.fetch_update(Ordering::Acquire, Ordering::Relaxed, one_more).ok()?;
        counts.of(kind).fetch_add(1, Ordering::Relaxed);
        Some(Self { version: version.clone(), kind })
    }

    /// Another lease of the same version.
    pub fn another(&self, kind: LeaseKind) -> Self {
        Self::new(&self.version, kind)
    }

    pub fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// The image, which is open as long as there is a lease.
    pub fn image(&self) -> &Image {
        // SAFETY: the reaper closes an image only when there is no lease, and this is one.
        unsafe { self.version.image() }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let counts = self.version.leases();
        counts.of(self.kind).fetch_sub(1, Ordering::Relaxed);
        // Release: what this holder did happens before the image goes. The reaper acquires.
        if counts.total.fetch_sub(1, Ordering::Release) == 1 {
            self.version.unused();
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({}, {:?})", self.version, self.kind)
    }
}
