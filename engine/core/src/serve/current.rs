//! The generation that serves. It is replaced by storing one pointer, and entered without a lock.

use std::{
    mem::ManuallyDrop,
    ops::Deref,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicPtr, AtomicU64, Ordering},
    },
};

use hotswap_plugin::__private::end_panic;

use super::{error::CallError, generation::Generation, in_use::InUse};
use crate::{
    reclaim::reaper::{Readable, ReaperHandle},
    slots::{self, Entered},
    version::{
        expectations::Expectations,
        lease::{Lease, LeaseKind},
        turnstile::{Admission, Through, Turnstile},
    },
};

/// The generation that serves.
pub(crate) struct Current {
    /// The pointer came from an `Arc`; this owns one count of it.
    generation: AtomicPtr<Generation>,
    /// The tag of the generation that serves. It is changed before the pointer, and so before anything of the
    /// old generation is dropped: whoever has a hold on a version of the generation, and then sees the tag
    /// unchanged, may use the version. And whoever has seen the pointer to a generation never sees the tag of
    /// an older one.
    tag: AtomicU64,
    reaper: ReaperHandle,
    expectations: Arc<Expectations>,
}

impl Current {
    pub fn new(first: Generation, reaper: ReaperHandle, expectations: Arc<Expectations>) -> Self {
        let tag = AtomicU64::new(first.number.tag());
        let generation = AtomicPtr::new(Arc::into_raw(Arc::new(first)).cast_mut());
        Self { generation, tag, reaper, expectations }
    }

    /// The expectations of the host for the versions that serve.
    pub fn expectations(&self) -> &Expectations {
        &self.expectations
    }

    /// A handle to the generation that serves.
    pub fn load(&self) -> Arc<Generation> {
        let Some(entered) = Entered::new() else { return self.load_shared() };
        let generation = entered.protect(&self.generation);
        // SAFETY: see `counted`. The slot holds the generation until the count is taken.
        let handle = unsafe { counted(generation) };
        // The caller may have locks, under which no code of a plugin may run.
        entered.leave_quietly();
        handle
    }

    fn load_shared(&self) -> Arc<Generation> {
        let (generation, _hold) = slots::protect_shared(&self.generation);
        // SAFETY: see `counted`. The hold lasts until the count is taken.
        unsafe { counted(generation) }
    }

    /// Makes another generation serve. Calls on the old one continue.
    pub fn publish(&self, new: Arc<Generation>) -> Replaced {
        let tag = new.number.tag();
        self.tag.store(tag, Ordering::Release);
        let old = self.generation.swap(Arc::into_raw(new).cast_mut(), Ordering::AcqRel);
        // SAFETY: the pointer came from `Arc::into_raw`, and its count is passed on.
        let old = unsafe { Arc::from_raw(old) };
        Replaced { generation: ManuallyDrop::new(old), reaper: self.reaper.clone() }
    }

    /// Makes calls look into the generation, where they see which versions hold their calls up. This lasts
    /// until the next publish, or until it is switched off.
    pub fn expect_slow_calls(&self, slow: bool) {
        /// The tag of no generation.
        const NONE: u64 = u64::MAX;
        let serving = self.load().number.tag();
        let (from, to) = if slow { (serving, NONE) } else { (NONE, serving) };
        // If another generation is being published meanwhile, its tag stays.
        let _ = self.tag.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The tag of the generation that serves.
    #[inline(always)]
    pub fn tag(&self) -> u64 {
        self.tag.load(Ordering::Acquire)
    }

    /// Enters a version of the generation that serves. `find` picks the version and the place of the
    /// function named `name`. It may be called again: if the version hands over, the call waits, and then enters
    /// the version that serves.
    pub fn enter<T>(
        &self,
        name: &str,
        find: impl Fn(&Generation) -> Result<(&Lease, usize, T), CallError>,
    ) -> Result<(InUse, T), CallError> {
        loop {
            // Like `try_enter`, with which the benchmark `calls` takes some 10 ns more for each call by name.
            let (version, found) = self.enter_at_once(&find)?;
            let turnstile = match version.admission() {
                Admission::Run => return Ok((version, found)),
                Admission::Refuse => return Err(CallError::inside_load(version.faced(), name)),
                Admission::Wait => version.turnstile.clone(),
            };
            drop(version);
            if matches!(turnstile.wait(), Through::Refused) {
                return Err(self.refusal(name, &find));
            }
        }
    }

    /// The error of a call that was held up for too long.
    #[cold]
    pub fn refusal<T>(
        &self,
        name: &str,
        find: impl Fn(&Generation) -> Result<(&Lease, usize, T), CallError>,
    ) -> CallError {
        match self.enter_at_once(&find) {
            Ok((version, _)) => CallError::held_up(version.faced(), name),
            Err(error) => error,
        }
    }

    /// Like [`enter`](Self::enter), without waiting.
    pub fn try_enter<T>(
        &self,
        name: &str,
        find: impl Fn(&Generation) -> Result<(&Lease, usize, T), CallError>,
    ) -> Result<Entry<T>, CallError> {
        let (version, found) = self.enter_at_once(&find)?;
        match version.admission() {
            Admission::Run => Ok(Entry::In(version, found)),
            Admission::Refuse => Err(CallError::inside_load(version.faced(), name)),
            Admission::Wait => Ok(Entry::HeldUp(version.turnstile.clone())),
        }
    }

    #[inline]
    fn enter_at_once<T>(
        &self,
        find: &impl Fn(&Generation) -> Result<(&Lease, usize, T), CallError>,
    ) -> Result<(InUse, T), CallError> {
        let Some(entered) = Entered::new() else { return self.enter_counted(find) };
        // SAFETY: the slot holds the generation, and so its versions, until it holds one of these versions
        // instead.
        let (serving, place, found) = find(unsafe { &*entered.protect(&self.generation) })?;
        let (version, face) = (Arc::as_ptr(serving.version()), serving.face());
        entered.hold(version, face.note(place));
        // SAFETY: the slot holds the version.
        Ok((unsafe { InUse::by_slot(version, face, entered) }, found))
    }

    /// Enters like `enter`, for a call that has no slot.
    fn enter_counted<T>(
        &self,
        find: &impl Fn(&Generation) -> Result<(&Lease, usize, T), CallError>,
    ) -> Result<(InUse, T), CallError> {
        let generation = self.load_shared();
        let (serving, place, found) = find(&generation)?;
        Ok((InUse::by(serving.another(LeaseKind::Call), place), found))
    }
}

/// What became of a call that enters a version.
pub(crate) enum Entry<T> {
    /// It is in the version.
    In(InUse, T),
    /// It waits at this turnstile, and then enters again.
    HeldUp(Arc<Turnstile>),
}

/// Another handle to a generation.
///
/// # Safety
/// The pointer came from `Arc::into_raw`, and the generation is held meanwhile.
unsafe fn counted(generation: *mut Generation) -> Arc<Generation> {
    // SAFETY: the caller's promise.
    unsafe {
        Arc::increment_strong_count(generation);
        Arc::from_raw(generation)
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        let last = self.generation.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: the pointer came from `Arc::into_raw`. Nobody can enter while this is dropped, and
        // everybody who has entered has borrowed it until now.
        drop(unsafe { Arc::from_raw(last) });
    }
}

/// A generation that was replaced. Calls may still be reading it. When this is dropped, the generation is
/// kept until they have gone on.
pub(crate) struct Replaced {
    generation: ManuallyDrop<Arc<Generation>>,
    reaper: ReaperHandle,
}

impl Readable for Replaced {
    fn is_read(&self) -> bool {
        slots::is_held(Arc::as_ptr(&self.generation))
    }
}

impl Deref for Replaced {
    type Target = Generation;

    fn deref(&self) -> &Generation {
        &self.generation
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        // SAFETY: it is taken only here.
        let generation = unsafe { ManuallyDrop::take(&mut self.generation) };
        if slots::is_held(Arc::as_ptr(&generation)) {
            let (generation, reaper) = (ManuallyDrop::new(generation), self.reaper.clone());
            self.reaper.keep(Box::new(Self { generation, reaper }));
        } else if end_panic(|| drop(generation)).is_err() {
            // The host's Extension may end with the generation.
            tracing::error!("the host's Extension panicked when it was dropped");
        }
    }
}
