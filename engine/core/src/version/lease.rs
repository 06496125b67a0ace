//! The leases that keep a version in use, and that can have names.
//!
//! Most calls have no lease: their slots keep the version in use.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use hotswap_protocol::{Activity, BuildId, HolderKind};

use super::{
    Version,
    face::{FaceNumber, Faced},
    life::Stage,
};
use crate::image::Image;
use crate::lock::Lock as _;

/// Why a version is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseKind {
    /// A call runs in it.
    Call,
    /// A generation holds it: the serving one, or one to which somebody has a handle.
    Handle,
    /// An object whose code lies in it is in use.
    Value,
    /// A thread that it started runs.
    Thread,
    /// A task that it started, or a waker of such a task.
    Task,
}

impl LeaseKind {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 5] = [Self::Call, Self::Task, Self::Value, Self::Thread, Self::Handle];

    /// The same in the console protocol.
    pub fn to_wire(self) -> HolderKind {
        match self {
            Self::Call => HolderKind::Call,
            Self::Handle => HolderKind::Handle,
            Self::Value => HolderKind::Value,
            Self::Thread => HolderKind::Thread,
            Self::Task => HolderKind::Task,
        }
    }
}

/// Counts the leases of a version, and keeps the names of the leases that have one.
#[derive(Default)]
pub(crate) struct LeaseCounts {
    /// The number of leases through which the version can be entered, and [`CLOSED`].
    entries: AtomicUsize,
    /// The number of threads and tasks that the version started, and of threads that wake one of them; and
    /// [`CLOSED`].
    own: AtomicUsize,
    by_kind: [AtomicUsize; LeaseKind::ALL.len()],
    named: Mutex<Named>,
}

/// The leases with names, by number.
#[derive(Default)]
struct Named {
    last: u64,
    leases: BTreeMap<u64, NamedLease>,
}

/// A lease with a name.
#[derive(Debug, Clone)]
pub(crate) struct NamedLease {
    pub kind: LeaseKind,
    pub name: LeaseName,
    /// The face that code meets when it enters by this lease.
    pub face: FaceNumber,
    pub since: Instant,
}

/// The purpose of a lease.
#[derive(Debug, Clone)]
pub(crate) enum LeaseName {
    /// A call of a function.
    Function(Arc<str>),
    /// Other code of the plugin that runs.
    Activity(Activity),
    /// A task.
    Task(Arc<str>),
    /// A value of the DataBag, by its key.
    Value(Arc<str>),
    /// A registration.
    Registration { name: Arc<str>, interface: Arc<str> },
    /// An object that it has given out, by its interface.
    Object(Arc<str>),
    /// The export of the version, by its interface. An import or the host uses it.
    Export(Arc<str>),
    /// A thread, by its id in the system.
    Thread(i32),
    /// A console that keeps the version.
    Console,
}

/// A bit of both counters that is set for ever. In `entries` it is set when the last entry has ended: from then
/// on, only the version's own threads and tasks run. In `own` it is set when the instance is gone: from then on,
/// nobody wakes the tasks.
const CLOSED: usize = 1 << (usize::BITS - 1);

impl LeaseCounts {
    /// Makes the wakers of the version have no effect from now on.
    pub fn close_own(&self) {
        // A thread that is waking a task was counted before, and the reaper waits for it.
        self.own.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Closes the version if only its own threads can be in it. Returns whether it is closed.
    pub fn close(&self) -> bool {
        // Acquire: whatever the last holders did happens before what comes now. They release.
        let closed = self.entries.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Acquire);
        closed.is_ok() || closed == Err(CLOSED)
    }

    /// Whether the version is closed, and nothing keeps it in use.
    pub fn has_ended(&self) -> bool {
        let own = self.own.load(Ordering::Acquire) & !CLOSED;
        self.entries.load(Ordering::Acquire) == CLOSED && own == 0
    }

    /// Whether there is no lease through which the version can be entered.
    pub fn has_no_entry(&self) -> bool {
        let entries = self.entries.load(Ordering::Acquire);
        entries == 0 || entries == CLOSED
    }

    /// How many leases of a kind there are.
    pub fn count(&self, kind: LeaseKind) -> usize {
        self.of(kind).load(Ordering::Relaxed)
    }

    /// The leases with names, at most `most` of each kind.
    pub fn named(&self, most: usize) -> Vec<NamedLease> {
        let mut left = LeaseKind::ALL.map(|_| most);
        let named = self.lock_named();
        let listed = named.leases.values().filter(|lease| {
            let left = &mut left[lease.kind as usize];
            let is_listed = *left > 0;
            *left = left.saturating_sub(1);
            is_listed
        });
        listed.cloned().collect()
    }

    /// How many leases are for exports that other versions import.
    pub fn imports(&self) -> usize {
        let named = self.lock_named();
        named.leases.values().filter(|lease| matches!(lease.name, LeaseName::Export(_))).count()
    }

    fn lock_named(&self) -> MutexGuard<'_, Named> {
        self.named.locked()
    }

    fn of(&self, kind: LeaseKind) -> &AtomicUsize {
        &self.by_kind[kind as usize]
    }

    /// The counter for a kind of lease.
    fn total(&self, kind: LeaseKind) -> &AtomicUsize {
        match kind {
            LeaseKind::Thread | LeaseKind::Task => &self.own,
            LeaseKind::Call | LeaseKind::Handle | LeaseKind::Value => &self.entries,
        }
    }
}

/// Keeps a version in use. While it exists, the image is mapped.
pub(crate) struct Lease {
    version: Arc<Version>,
    /// The face through which code enters by this lease.
    face: FaceNumber,
    kind: LeaseKind,
    /// Its number among the named leases; 0 if it has no name.
    number: u64,
}

impl Lease {
    /// The first lease of a version that is being loaded.
    pub fn first(version: &Arc<Version>) -> Self {
        Self::counted(version, LeaseKind::Handle)
    }

    /// The lease of a thread that the image starts. The image's code requests it, so the image is mapped.
    pub fn of_thread(version: &Arc<Version>) -> Self {
        Self::counted(version, LeaseKind::Thread)
    }

    /// The lease of a task, requested by the image's code as for a thread.
    pub fn of_task(version: &Arc<Version>) -> Self {
        Self::counted(version, LeaseKind::Task)
    }

    /// A lease of a version that may be closed; `None` if it is. The caller has checked that the version was
    /// opened.
    pub fn try_new(version: &Arc<Version>, kind: LeaseKind) -> Option<Self> {
        let counts = version.leases();
        let one_more = |total| (total & CLOSED == 0).then_some(total + 1);
        counts.total(kind).fetch_update(Ordering::Acquire, Ordering::Relaxed, one_more).ok()?;
        counts.of(kind).fetch_add(1, Ordering::Relaxed);
        Some(Self { version: version.clone(), face: FaceNumber::BASE, kind, number: 0 })
    }

    /// A lease of a version that a call of this thread uses.
    pub fn of_entered(version: &Arc<Version>, kind: LeaseKind) -> Self {
        Self::counted(version, kind)
    }

    /// Gives the lease a name, for the list of what keeps the version in use.
    pub fn named(mut self, name: LeaseName) -> Self {
        let holder = NamedLease { kind: self.kind, name, face: self.face, since: Instant::now() };
        let mut named = self.version.leases().lock_named();
        named.last += 1;
        self.number = named.last;
        named.leases.insert(self.number, holder);
        drop(named);
        self
    }

    /// Another lease of the same version, through which it can be entered. It must not be made from the lease
    /// of a thread or task.
    pub fn another(&self, kind: LeaseKind) -> Self {
        debug_assert!(!matches!(self.kind, LeaseKind::Thread | LeaseKind::Task));
        Self::counted(&self.version, kind).facing(self.face)
    }

    /// The same lease for another face of the version.
    pub fn facing(self, face: FaceNumber) -> Self {
        let mut lease = self;
        lease.face = face;
        lease
    }

    #[inline(always)]
    pub fn face(&self) -> FaceNumber {
        self.face
    }

    /// The version, with the face that code meets when it enters by this lease.
    pub fn faced(&self) -> Faced<'_> {
        Faced { version: &self.version, face: self.face }
    }

    /// The build with the code that is met by entering through this lease.
    pub fn build_id(&self) -> BuildId {
        self.version.build_of(self.face)
    }

    pub fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// The image, which is open as long as there is a lease.
    pub fn image(&self) -> &Image {
        // SAFETY: the reaper closes an image only if there is no lease, and this is one.
        unsafe { self.version.image() }
    }

    fn counted(version: &Arc<Version>, kind: LeaseKind) -> Self {
        let counts = version.leases();
        counts.total(kind).fetch_add(1, Ordering::Relaxed);
        counts.of(kind).fetch_add(1, Ordering::Relaxed);
        Self { version: version.clone(), face: FaceNumber::BASE, kind, number: 0 }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let counts = self.version.leases();
        if self.number != 0 {
            counts.lock_named().leases.remove(&self.number);
        }
        counts.of(self.kind).fetch_sub(1, Ordering::Relaxed);
        // Release: whatever this holder did happens before the image is unmapped. The reaper acquires.
        let before = counts.total(self.kind).fetch_sub(1, Ordering::Release) & !CLOSED;
        // While the version serves, the generation has a lease. When that lease ends, the reaper considers
        // the version.
        if before == 1 && self.version.stage() != Stage::Serving {
            self.version.notify_reaper();
        }
    }
}

impl fmt::Display for Lease {
    /// `world v3`, `world v3+2`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.faced().fmt(f)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({self}, {:?})", self.kind)
    }
}
