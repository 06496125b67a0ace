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
    /// A task that it started, or what would wake one.
    Task,
}

impl LeaseKind {
    const ALL: [Self; 5] = [Self::Call, Self::Handle, Self::Value, Self::Thread, Self::Task];

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
            (Self::Task, 1) => "task",
            (Self::Task, _) => "tasks",
        }
    }
}

/// Counts the leases of a version.
#[derive(Default)]
pub(crate) struct LeaseCounts {
    /// The leases through which the version can be entered, and [`CLOSED`].
    entries: AtomicUsize,
    /// The threads and tasks that the version started.
    own: AtomicUsize,
    by_kind: [AtomicUsize; LeaseKind::ALL.len()],
}

/// Set for good when the last entry has ended: from then on only the version's own threads and tasks
/// run.
const CLOSED: usize = 1 << (usize::BITS - 1);

impl LeaseCounts {
    /// Closes the version if nobody can be in it but its own threads; says whether it is closed.
    pub fn close(&self) -> bool {
        // Acquire: what the last holders did happens before what comes now. They release.
        let closed = self.entries.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Acquire);
        closed.is_ok() || closed == Err(CLOSED)
    }

    /// Whether nothing at all keeps the version in use, and it is closed.
    pub fn has_ended(&self) -> bool {
        self.entries.load(Ordering::Acquire) == CLOSED && self.own.load(Ordering::Acquire) == 0
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

    /// The counter that decides, for a kind.
    fn total(&self, kind: LeaseKind) -> &AtomicUsize {
        match kind {
            LeaseKind::Thread | LeaseKind::Task => &self.own,
            LeaseKind::Call | LeaseKind::Handle | LeaseKind::Value => &self.entries,
        }
    }
}

/// Keeps a version in use: while it lives the image is mapped.
pub(crate) struct Lease {
    version: Arc<Version>,
    kind: LeaseKind,
}

impl Lease {
    /// The first lease of a version that is being loaded.
    pub fn first(version: &Arc<Version>) -> Self {
        Self::counted(version, LeaseKind::Handle)
    }

    /// The lease of a thread that the image starts; the image's code asks for it, and so is mapped.
    pub fn of_thread(version: &Arc<Version>) -> Self {
        Self::counted(version, LeaseKind::Thread)
    }

    /// The lease of a task; as for a thread.
    pub fn of_task(version: &Arc<Version>) -> Self {
        Self::counted(version, LeaseKind::Task)
    }

    /// A lease of a version that may be closed; then there is none to have. The caller has seen that
    /// the version was opened.
    pub fn try_new(version: &Arc<Version>, kind: LeaseKind) -> Option<Self> {
        let counts = version.leases();
        let one_more = |total| (total & CLOSED == 0).then_some(total + 1);
        counts.entries.fetch_update(Ordering::Acquire, Ordering::Relaxed, one_more).ok()?;
        counts.of(kind).fetch_add(1, Ordering::Relaxed);
        Some(Self { version: version.clone(), kind })
    }

    /// Another lease of the same version, through which it can be entered; there is none of a
    /// thread's or a task's.
    pub fn another(&self, kind: LeaseKind) -> Self {
        debug_assert!(!matches!(self.kind, LeaseKind::Thread | LeaseKind::Task));
        Self::counted(&self.version, kind)
    }

    pub fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// The image, which is open as long as there is a lease.
    pub fn image(&self) -> &Image {
        // SAFETY: the reaper closes an image only when there is no lease, and this is one.
        unsafe { self.version.image() }
    }

    fn counted(version: &Arc<Version>, kind: LeaseKind) -> Self {
        let counts = version.leases();
        counts.total(kind).fetch_add(1, Ordering::Relaxed);
        counts.of(kind).fetch_add(1, Ordering::Relaxed);
        Self { version: version.clone(), kind }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let counts = self.version.leases();
        counts.of(self.kind).fetch_sub(1, Ordering::Relaxed);
        // Release: what this holder did happens before the image goes. The reaper acquires.
        if counts.total(self.kind).fetch_sub(1, Ordering::Release) == 1 {
            self.version.unused();
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({}, {:?})", self.version, self.kind)
    }
}
