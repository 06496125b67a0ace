//! The place where a function was found last, so that the next call can begin there.

use std::{
    mem, ptr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence},
    },
};

use hotswap_plugin::__private::{Context, TypedCall};

use super::expected::Called;
use crate::{
    lock::Lock as _,
    serve::{current::Current, generation::GenerationNumber},
    slots::{self, Entered},
    version::{
        TypedTarget, Version,
        counts::CallCounts,
        face::{FaceNumber, Faced},
        lease::Lease,
    },
};

/// The place where a function was found last.
///
/// The version here may be gone. Only a thread whose slot holds the version, and which then sees that the
/// generation with this tag still serves, may use it.
pub(super) struct Known {
    /// The tag of the generation in which the function was found. It is written after the other fields, which
    /// are only replaced by those of a newer generation that already serves. So if the generation with this
    /// tag still serves after the other fields were read, they belong to it.
    generation: AtomicU64,
    version: AtomicPtr<Version>,
    counts: AtomicPtr<CallCounts>,
    /// The place of the function and its face, in the form of a slot's note.
    note: AtomicUsize,
    context: AtomicPtr<Context<'static>>,
    call: AtomicPtr<()>,
    /// The newest generation that was written.
    newest: Mutex<u64>,
}

impl Known {
    /// Nothing known.
    pub const fn new() -> Self {
        Self {
            generation: AtomicU64::new(0),
            version: AtomicPtr::new(ptr::null_mut()),
            counts: AtomicPtr::new(ptr::null_mut()),
            note: AtomicUsize::new(0),
            context: AtomicPtr::new(ptr::null_mut()),
            call: AtomicPtr::new(ptr::null_mut()),
            newest: Mutex::new(0),
        }
    }

    /// Enters the version, and counts the call. `None` if the place of the function is not known, `is_it` says
    /// that it is another function, the call must be timed, or the thread has no slot that it can use without a
    /// fence. `is_it` runs before the call is counted, and must not panic.
    #[inline(always)]
    pub fn enter(
        &self,
        current: &Current,
        is_it: impl FnOnce(&Version, usize) -> bool,
    ) -> Option<KnownCall> {
        let entered = Entered::unfenced()?;
        // Acquire: the fields that were written before the tag are visible.
        let generation = self.generation.load(Ordering::Acquire);
        let version = self.version.load(Ordering::Relaxed);
        let counts = self.counts.load(Ordering::Relaxed);
        let note = self.note.load(Ordering::Relaxed);
        let context = self.context.load(Ordering::Relaxed);
        let call = self.call.load(Ordering::Relaxed);
        entered.try_hold_unfenced(version, note);
        // If the generation still serves, the version is held, and what was read belongs to it. Acquire:
        // whoever has read a field of a newer generation sees that this one serves no more.
        fence(Ordering::Acquire);
        if generation != current.tag() {
            entered.leave_quietly();
            return None;
        }
        let (_, place) = FaceNumber::of_note(note);
        // SAFETY: its generation serves, and so the slot holds the version until the call is left.
        let is_it = is_it(unsafe { &*version }, place);
        // SAFETY: the counts belong to the version, the place is one in it, and a thread that has entered has
        // a number.
        if !is_it || !unsafe { (*counts).count_untimed(slots::this_thread(), place) } {
            entered.leave_quietly();
            return None;
        }
        // SAFETY: `set` made the word from a function of this type.
        let call = unsafe { mem::transmute::<*mut (), TypedCall>(call) };
        Some(KnownCall { entered, version, target: TypedTarget { context, call } })
    }

    /// Remembers the place of the function in a generation. Returns whether this function's place is known
    /// here now, and not that of another function. Functions of linked plugins are not remembered: their calls note which
    /// plugin the thread is in, for which calls of images have no time.
    pub fn set(
        &self,
        generation: GenerationNumber,
        lease: &Lease,
        place: usize,
        target: TypedTarget,
    ) -> bool {
        if lease.image().is_linked() {
            return false;
        }
        let (version, note) = (lease.version(), lease.face().note(place));
        let Some(counts) = version.counts() else { return false };
        let generation = generation.tag();
        let is_this = || {
            self.version.load(Ordering::Relaxed).cast_const() == Arc::as_ptr(version)
                && self.note.load(Ordering::Relaxed) == note
        };
        if self.generation.load(Ordering::Acquire) == generation {
            return is_this();
        }
        let mut newest = self.newest.locked();
        if generation <= *newest {
            return is_this();
        }
        *newest = generation;
        // Release: whoever reads one of the following fields sees that this generation serves, or a newer one.
        fence(Ordering::Release);
        self.version.store(Arc::as_ptr(version).cast_mut(), Ordering::Relaxed);
        self.counts.store(ptr::from_ref(counts).cast_mut(), Ordering::Relaxed);
        self.note.store(note, Ordering::Relaxed);
        self.context.store(target.context.cast_mut(), Ordering::Relaxed);
        self.call.store(target.call as *mut (), Ordering::Relaxed);
        self.generation.store(generation, Ordering::Release);
        true
    }
}

/// A call of a function where it was found last: while this lives the version is in use.
pub(super) struct KnownCall {
    entered: Entered,
    version: *const Version,
    pub target: TypedTarget,
}

impl Called for KnownCall {
    #[inline(always)]
    fn faced(&self) -> Faced<'_> {
        let (face, _) = FaceNumber::of_note(self.entered.noted());
        // SAFETY: the slot holds the version until the call is left.
        Faced { version: unsafe { &*self.version }, face }
    }
}
