//! What keeps a version in use, and can be named.
//!
//! Most calls are not counted here: `slots` keeps those.

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
};
use crate::image::Image;
use crate::lock::Lock as _;

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
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 5] = [Self::Call, Self::Task, Self::Value, Self::Thread, Self::Handle];

    /// What the protocol calls it.
    pub fn told(self) -> HolderKind {
        match self {
            Self::Call => HolderKind::Call,
            Self::Handle => HolderKind::Handle,
            Self::Value => HolderKind::Value,
            Self::Thread => HolderKind::Thread,
            Self::Task => HolderKind::Task,
        }
    }
}

/// Counts the leases of a version, and knows them by name.
#[derive(Default)]
pub(crate) struct LeaseCounts {
    /// The leases through which the version can be entered, and [`CLOSED`].
    entries: AtomicUsize,
    /// The threads and tasks that the version started.
    own: AtomicUsize,
    by_kind: [AtomicUsize; LeaseKind::ALL.len()],
    named: Mutex<Named>,
}

/// The leases that have a name, by number.
#[derive(Default)]
struct Named {
    last: u64,
    leases: BTreeMap<u64, NamedLease>,
}

/// A lease that has a name.
#[derive(Debug, Clone)]
pub(crate) struct NamedLease {
    pub kind: LeaseKind,
    pub name: LeaseName,
    /// The face that whoever has it meets.
    pub face: FaceNumber,
    pub since: Instant,
}

/// What a lease is for.
#[derive(Debug, Clone)]
pub(crate) enum LeaseName {
    /// A call of a function.
    Function(Arc<str>),
    /// Something else of the plugin that runs.
    Activity(Activity),
    /// A task.
    Task(Arc<str>),
    /// A value of the DataBag, by its key.
    Value(Arc<str>),
    /// A registration.
    Registration { name: Arc<str>, interface: Arc<str> },
    /// An object that it gave to somebody, by its interface.
    Object(Arc<str>),
    /// What the version exports, by its interface: an import has it, or the host.
    Export(Arc<str>),
    /// A thread, by the system's number.
    Thread(i32),
    /// A console that keeps the version.
    Console,
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

    /// Whether there is no lease through which the version can be entered.
    pub fn has_no_entry(&self) -> bool {
        let entries = self.entries.load(Ordering::Acquire);
        entries == 0 || entries == CLOSED
    }

    /// How many leases there are of a kind.
    pub fn count(&self, kind: LeaseKind) -> usize {
        self.of(kind).load(Ordering::Relaxed)
    }

    /// The leases that have a name.
    pub fn named(&self) -> Vec<NamedLease> {
        self.lock_named().leases.values().cloned().collect()
    }

    fn lock_named(&self) -> MutexGuard<'_, Named> {
        self.named.locked()
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
    /// The face that whoever enters by it meets.
    face: FaceNumber,
    kind: LeaseKind,
    /// Its number among those with a name; 0 where it has none.
    number: u64,
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
        Some(Self { version: version.clone(), face: FaceNumber::BASE, kind, number: 0 })
    }

    /// A lease of a version that a call of this thread uses.
    pub fn of_entered(version: &Arc<Version>, kind: LeaseKind) -> Self {
        Self::counted(version, kind)
    }

    /// Gives the lease a name, for whoever asks what holds the version.
    pub fn named(mut self, name: LeaseName) -> Self {
        let holder = NamedLease { kind: self.kind, name, face: self.face, since: Instant::now() };
        let mut named = self.version.leases().lock_named();
        named.last += 1;
        self.number = named.last;
        named.leases.insert(self.number, holder);
        drop(named);
        self
    }

    /// Another lease of the same version, through which it can be entered; there is none of a
    /// thread's or a task's.
    pub fn another(&self, kind: LeaseKind) -> Self {
        debug_assert!(!matches!(self.kind, LeaseKind::Thread | LeaseKind::Task));
        Self::counted(&self.version, kind).facing(self.face)
    }

    /// The lease, of another face of the version.
    pub fn facing(self, face: FaceNumber) -> Self {
        let mut lease = self;
        lease.face = face;
        lease
    }

    #[inline(always)]
    pub fn face(&self) -> FaceNumber {
        self.face
    }

    /// The version, as whoever enters by it meets it.
    pub fn faced(&self) -> Faced<'_> {
        Faced { version: &self.version, face: self.face }
    }

    /// The build whose code whoever enters by it meets.
    pub fn build_id(&self) -> BuildId {
        self.version.build_of(self.face)
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
        // Release: what this holder did happens before the image goes. The reaper acquires.
        if counts.total(self.kind).fetch_sub(1, Ordering::Release) == 1 {
            self.version.unused();
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
