//! A version that a call on this thread uses.

use std::{fmt, ops::Deref, sync::Arc};

use hotswap_plugin::__private::FunctionRef;

use crate::{
    image::Image,
    slots::{self, Counted, Entered},
    version::{
        Version, counts,
        face::{FaceNumber, Faced},
        lease::{Lease, LeaseKind},
        turnstile::{Address, Admission},
    },
};

/// A version that a call on this thread uses. While this lives, the image is mapped.
pub(crate) struct InUse {
    version: *const Version,
    face: FaceNumber,
    by: By,
}

/// What keeps a version in use.
enum By {
    Slot(#[allow(dead_code, reason = "held")] Entered),
    /// A lease, while a slot only notes the call.
    NotedLease(
        #[allow(dead_code, reason = "held")] Entered,
        #[allow(dead_code, reason = "held")] Lease,
    ),
    Lease(#[allow(dead_code, reason = "held")] Counted, #[allow(dead_code, reason = "held")] Lease),
}

impl InUse {
    /// A version that a slot of this thread holds.
    ///
    /// # Safety
    /// The slot holds the version, whose image is open.
    pub unsafe fn by_slot(version: *const Version, face: FaceNumber, entered: Entered) -> Self {
        Self { version, face, by: By::Slot(entered) }
    }

    /// A call of a version that is leased for longer than the call.
    pub fn of<'lease>(lease: &'lease Lease, place: usize) -> Borrowed<'lease> {
        let version = Arc::as_ptr(lease.version());
        let by = match Entered::new() {
            Some(entered) => {
                entered.hold(version, lease.face().note(place));
                By::Slot(entered)
            }
            None => By::Lease(Counted::new(), lease.another(LeaseKind::Call)),
        };
        Borrowed { in_use: Self { version, face: lease.face(), by }, _lease: lease }
    }

    /// A call of the function at `place` with a lease of its own.
    pub fn by(lease: Lease, place: usize) -> Self {
        let (version, face) = (Arc::as_ptr(lease.version()), lease.face());
        let by = match lease.version().note_call(face, place) {
            Some(noted) => By::NotedLease(noted, lease),
            None => By::Lease(Counted::new(), lease),
        };
        Self { version, face, by }
    }

    /// What the call does, which has taken a hold of the version.
    #[inline]
    pub fn admission(&self) -> Admission {
        let own = Address::of(self.version);
        let has_slot = !matches!(self.by, By::Lease(..));
        self.turnstile.admission(|version| {
            let is_own = has_slot && version == own;
            version.calls_here() > usize::from(is_own)
        })
    }

    /// Counts a call of the function at `place`.
    #[inline(always)]
    pub fn begin_call(&self, place: usize) -> counts::Begun {
        self.counts()?.begin(slots::this_thread(), place)
    }

    /// Ends a counted call.
    #[inline(always)]
    pub fn end_call(&self, place: usize, begun: counts::Begun) {
        self.end_counted(self.face, place, begun);
    }

    /// The version, as the call meets it.
    #[inline(always)]
    pub fn faced(&self) -> Faced<'_> {
        Faced { version: self, face: self.face }
    }

    /// A lease for something that outlives the call.
    pub fn lease(&self, kind: LeaseKind) -> Lease {
        // SAFETY: the pointer came from an `Arc` that is alive, because the version is in use.
        let version = unsafe {
            Arc::increment_strong_count(self.version);
            Arc::from_raw(self.version)
        };
        Lease::of_entered(&version, kind).facing(self.face)
    }

    /// The function at `place`, in the face of this call.
    #[inline(always)]
    pub fn function_ref(&self, place: usize) -> Option<FunctionRef> {
        self.faces.get(self.face)?.target(place).map(|target| target.function)
    }

    /// The image, which is open as long as the version is in use.
    #[inline(always)]
    pub fn image(&self) -> &Image {
        // SAFETY: the reaper closes an image only if no slot holds the version and there is no lease of it.
        unsafe { (*self.version).image() }
    }
}

impl Deref for InUse {
    type Target = Version;

    #[inline(always)]
    fn deref(&self) -> &Version {
        // SAFETY: the engine keeps every version whose image is open, and the image is open while the version
        // is in use.
        unsafe { &*self.version }
    }
}

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InUse({})", self.faced())
    }
}

/// Like [`InUse`], through a lease that is borrowed meanwhile.
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
