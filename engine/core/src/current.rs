//! The generation that serves: replaced with one pointer store, entered without a lock.

use std::{
    fmt,
    mem::ManuallyDrop,
    ops::Deref,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicPtr, AtomicU64, Ordering},
    },
};

use hotswap_plugin::__private::end_panic;

use crate::{
    PluginManager, counts,
    image::Image,
    lease::{Lease, LeaseKind},
    reaper::ReaperHandle,
    slots::{self, Counted, Entered},
    version::Version,
};

/// The generation that serves.
pub(crate) struct Current {
    /// From an `Arc`, one count of which is this one's.
    generation: AtomicPtr<PluginManager>,
    /// The number of the generation that serves; never 0. Changed after the pointer, and before anything of
    /// the old generation is let go: who has taken hold of a version of it, and sees the number
    /// unchanged, has it.
    number: AtomicU64,
    reaper: ReaperHandle,
}

impl Current {
    pub fn new(first: PluginManager, reaper: ReaperHandle) -> Self {
        let number = AtomicU64::new(number_of(first.generation));
        let generation = AtomicPtr::new(Arc::into_raw(Arc::new(first)).cast_mut());
        Self { generation, number, reaper }
    }

    /// A handle to the generation that serves.
    pub fn load(&self) -> Arc<PluginManager> {
        let Some(entered) = Entered::new() else { return self.load_shared() };
        let generation = entered.protect(&self.generation);
        // SAFETY: see `counted`; the slot holds the generation until the count is taken.
        let handle = unsafe { counted(generation) };
        // Who asks for it may hold locks, under which no plugin's code may run.
        entered.leave_quietly();
        handle
    }

    fn load_shared(&self) -> Arc<PluginManager> {
        let (generation, _hold) = slots::protect_shared(&self.generation);
        // SAFETY: see `counted`; the hold lasts until the count is taken.
        unsafe { counted(generation) }
    }

    /// Makes another generation serve. Who uses the old one may go on.
    pub fn publish(&self, new: Arc<PluginManager>) -> Replaced {
        let number = number_of(new.generation);
        let old = self.generation.swap(Arc::into_raw(new).cast_mut(), Ordering::AcqRel);
        self.number.store(number, Ordering::Release);
        // SAFETY: the pointer came from `Arc::into_raw`, and its count is handed on.
        let old = unsafe { Arc::from_raw(old) };
        Replaced { generation: ManuallyDrop::new(old), reaper: self.reaper.clone() }
    }

    /// The number of the generation that serves; never 0.
    #[inline(always)]
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// Enters a version of the generation that serves. `find` picks it, and the place of the function
    /// that is to be called.
    pub fn enter<T, E>(
        &self,
        find: impl FnOnce(&PluginManager) -> Result<(&Arc<Version>, usize, T), E>,
    ) -> Result<(InUse, T), E> {
        let Some(entered) = Entered::new() else { return self.enter_counted(find) };
        // SAFETY: the slot holds the generation, and with it the versions, until it holds one of
        // these instead.
        let (version, place, found) = find(unsafe { &*entered.protect(&self.generation) })?;
        let version = Arc::as_ptr(version);
        entered.hold(version, place);
        Ok((InUse { version, _by: By::Slot(entered) }, found))
    }

    /// As `enter`, for a call that has no slot.
    fn enter_counted<T, E>(
        &self,
        find: impl FnOnce(&PluginManager) -> Result<(&Arc<Version>, usize, T), E>,
    ) -> Result<(InUse, T), E> {
        let generation = self.load_shared();
        let (version, _, found) = find(&generation)?;
        let lease = Lease::of_entered(version, LeaseKind::Call);
        let by = By::Lease(Counted::new(), lease);
        Ok((InUse { version: Arc::as_ptr(version), _by: by }, found))
    }
}

/// The number by which a generation is known here: there is one with the number 0 before the first
/// load.
pub(crate) fn number_of(generation: u64) -> u64 {
    generation + 1
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
        } else if end_panic(|| drop(generation)).is_err() {
            // The host's Extension may end with the generation.
            tracing::error!("the host's Extension panicked when it was dropped");
        }
    }
}

/// A version that a call on this thread uses: while this lives the image is mapped.
pub(crate) struct InUse {
    version: *const Version,
    _by: By,
}

/// What keeps a version in use.
enum By {
    Slot(#[allow(dead_code, reason = "held")] Entered),
    Lease(#[allow(dead_code, reason = "held")] Counted, #[allow(dead_code, reason = "held")] Lease),
}

impl InUse {
    /// A call of a version that is leased for longer than the call.
    pub fn of<'lease>(lease: &'lease Lease, place: usize) -> Borrowed<'lease> {
        let version = Arc::as_ptr(lease.version());
        let by = match Entered::new() {
            Some(entered) => {
                entered.hold(version, place);
                By::Slot(entered)
            }
            None => By::Lease(Counted::new(), lease.another(LeaseKind::Call)),
        };
        Borrowed { in_use: Self { version, _by: by }, _lease: lease }
    }

    /// A call that a lease of its own keeps.
    pub fn by(lease: Lease) -> Self {
        Self { version: Arc::as_ptr(lease.version()), _by: By::Lease(Counted::new(), lease) }
    }

    /// Counts a call of the function of a place.
    #[inline(always)]
    pub fn begin_call(&self, place: usize) -> counts::Begun {
        self.counts()?.begin(slots::this_thread(), place)
    }

    /// Ends a call that was counted.
    #[inline(always)]
    pub fn end_call(&self, place: usize, begun: counts::Begun) {
        self.end_counted(place, begun);
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
