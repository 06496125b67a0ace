//! The generation that serves: replaced with one pointer store, entered without a lock.

use std::{
    fmt,
    mem::ManuallyDrop,
    ops::Deref,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicPtr, Ordering},
    },
};

use crate::{
    PluginManager, counts,
    image::Image,
    lease::{Lease, LeaseKind},
    reaper::ReaperHandle,
    slots::{self, Entered},
    version::Version,
};

/// The generation that serves.
pub(crate) struct Current {
    /// From an `Arc`, one count of which is this one's.
    generation: AtomicPtr<PluginManager>,
    reaper: ReaperHandle,
}

impl Current {
    pub fn new(first: PluginManager, reaper: ReaperHandle) -> Self {
        let generation = AtomicPtr::new(Arc::into_raw(Arc::new(first)).cast_mut());
        Self { generation, reaper }
    }

    /// A handle to the generation that serves.
    pub fn load(&self) -> Arc<PluginManager> {
        let entered = Entered::new();
        let handle = match entered.protect(&self.generation) {
            // SAFETY: see `counted`; the slot holds the generation until the count is taken.
            Some(generation) => unsafe { counted(generation) },
            None => self.load_shared(),
        };
        // Who asks for it may hold locks, under which no plugin's code may run.
        entered.leave_quietly();
        handle
    }

    #[cold]
    fn load_shared(&self) -> Arc<PluginManager> {
        let (generation, _hold) = slots::protect_shared(&self.generation);
        // SAFETY: see `counted`; the hold lasts until the count is taken.
        unsafe { counted(generation) }
    }

    /// Makes another generation serve. Who uses the old one may go on.
    pub fn publish(&self, new: Arc<PluginManager>) -> Replaced {
        let old = self.generation.swap(Arc::into_raw(new).cast_mut(), Ordering::AcqRel);
        // SAFETY: the pointer came from `Arc::into_raw`, and its count is handed on.
        let old = unsafe { Arc::from_raw(old) };
        Replaced { generation: ManuallyDrop::new(old), reaper: self.reaper.clone() }
    }

    /// Enters a version of the generation that serves. `find` picks it, and the number of the
    /// function that is to be called; it may be asked twice.
    #[inline(always)]
    pub fn enter<T, E>(
        &self,
        find: impl Fn(&PluginManager) -> Result<(&Arc<Version>, usize, T), E>,
    ) -> Result<(InUse, T), E> {
        let entered = Entered::new();
        let Some(generation) = entered.protect(&self.generation) else {
            return self.enter_counted(entered, find);
        };
        // SAFETY: the slot holds the generation, and with it the versions, until it holds one of
        // these instead.
        let (version, function, found) = find(unsafe { &*generation })?;
        let version = Arc::as_ptr(version);
        entered.hold(version, function);
        Ok((InUse { version, entered, _lease: None }, found))
    }

    /// As `enter`, for a call that has no slot.
    #[cold]
    fn enter_counted<T, E>(
        &self,
        entered: Entered,
        find: impl Fn(&PluginManager) -> Result<(&Arc<Version>, usize, T), E>,
    ) -> Result<(InUse, T), E> {
        let generation = self.load_shared();
        let (version, _, found) = find(&generation)?;
        let serving = generation.versions.iter();
        let mut leases = serving.filter(|lease| Arc::ptr_eq(lease.version(), version));
        let lease = leases.next().map(|lease| lease.another(LeaseKind::Call));
        Ok((InUse { version: Arc::as_ptr(version), entered, _lease: lease }, found))
    }
}

/// Another handle to a generation.
///
/// # Safety
/// The pointer came from `Arc::into_raw`, and the generation is held meanwhile.
unsafe fn counted(generation: *mut PluginManager) -> Arc<PluginManager> {
    // SAFETY: the caller's promise.
    unsafe {
        Arc::increment_strong_count(generation);
        Arc::from_raw(generation)
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        let last = self.generation.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: the pointer came from `Arc::into_raw`; nobody enters what is being dropped, and who
        // entered has borrowed it until now.
        drop(unsafe { Arc::from_raw(last) });
    }
}

/// A generation that was replaced. Calls may still be reading it: when dropped, it is kept until they
/// have gone on.
pub(crate) struct Replaced {
    generation: ManuallyDrop<Arc<PluginManager>>,
    reaper: ReaperHandle,
}

impl Replaced {
    /// Whether a call is still reading it.
    pub fn is_held(&self) -> bool {
        slots::is_held(Arc::as_ptr(&self.generation))
    }
}

impl Deref for Replaced {
    type Target = PluginManager;

    fn deref(&self) -> &PluginManager {
        &self.generation
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        let generation = unsafe { ManuallyDrop::take(&mut self.generation) };
        if slots::is_held(Arc::as_ptr(&generation)) {
            let (generation, reaper) = (ManuallyDrop::new(generation), self.reaper.clone());
            self.reaper.keep(Self { generation, reaper });
        }
    }
}

/// A version that a call on this thread uses: while this lives the image is mapped.
pub(crate) struct InUse {
    version: *const Version,
    entered: Entered,
    /// Keeps the version where the call has no slot.
    _lease: Option<Lease>,
}

impl InUse {
    /// A call of a version that is leased for longer than the call.
    pub fn of<'lease>(lease: &'lease Lease, function: usize) -> Borrowed<'lease> {
        let entered = Entered::new();
        let version = Arc::as_ptr(lease.version());
        let counted = (!entered.hold(version, function)).then(|| lease.another(LeaseKind::Call));
        Borrowed { in_use: Self { version, entered, _lease: counted }, _lease: lease }
    }

    /// Counts a call of the function of a place.
    #[inline(always)]
    pub fn begin_call(&self, place: usize) -> counts::Begun {
        self.counts()?.begin(self.entered.thread(), place)
    }

    /// Ends a call that was counted.
    #[inline(always)]
    pub fn end_call(&self, place: usize, begun: counts::Begun) {
        if begun.is_some() {
            self.counts().into_iter().for_each(|counts| counts.end(place, begun));
        }
    }

    /// A lease of its own, for what outlives the call.
    pub fn lease(&self, kind: LeaseKind) -> Lease {
        // SAFETY: the pointer came from an `Arc` whose value is alive: the version is in use.
        let version = unsafe {
            Arc::increment_strong_count(self.version);
            Arc::from_raw(self.version)
        };
        Lease::of_entered(&version, kind)
    }

    /// The image, which is open as long as the version is in use.
    #[inline(always)]
    pub fn image(&self) -> &Image {
        // SAFETY: the reaper closes an image only when no slot holds the version and there is no
        // lease of it.
        unsafe { (*self.version).image() }
    }
}

impl Deref for InUse {
    type Target = Version;

    #[inline(always)]
    fn deref(&self) -> &Version {
        // SAFETY: the engine holds every version whose image is open, and it is while it is in use.
        unsafe { &*self.version }
    }
}

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InUse({})", **self)
    }
}

/// As [`InUse`], by way of a lease that is borrowed meanwhile.
pub(crate) struct Borrowed<'lease> {
    in_use: InUse,
    _lease: &'lease Lease,
}

impl Deref for Borrowed<'_> {
    type Target = InUse;

    fn deref(&self) -> &InUse {
        &self.in_use
    }
}
