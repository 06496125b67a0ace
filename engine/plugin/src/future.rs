//! Futures that cross between images: polled through a shim that catches panics.

use std::{
    pin::Pin,
    ptr::NonNull,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use crate::{
    Value,
    abi::{Outcome, PanicReport},
    function::CallFuture,
    image::{catch, end_panic},
};

/// A future of one image that another one polls.
#[repr(C)]
pub struct RawFuture {
    /// The future, on the heap.
    pub data: NonNull<()>,
    /// Its image's shims.
    pub table: *const FutureTable,
}

/// The shims of a future's image.
#[repr(C)]
pub struct FutureTable {
    /// Polls once.
    pub poll: unsafe extern "C" fn(NonNull<()>, waker: &CaughtWaker) -> Progress,
    /// Drops the future.
    pub drop: unsafe extern "C" fn(NonNull<()>) -> Outcome<()>,
}

/// What came of polling.
#[repr(C)]
pub enum Progress {
    /// Nothing yet.
    Pending,
    /// It ended; it is not polled again.
    Ready(Outcome<Value>),
}

impl RawFuture {
    /// Moves a future to the heap and pairs it with its shims.
    pub fn new(future: CallFuture) -> Self {
        let data = NonNull::from(Box::leak(Box::new(future))).cast();
        Self { data, table: &raw const TABLE }
    }
}

static TABLE: FutureTable = FutureTable { poll, drop: drop_future };

unsafe extern "C" fn poll(future: NonNull<()>, waker: &CaughtWaker) -> Progress {
    // SAFETY: the poller has the only reference, and drops the future after its last poll.
    let future = unsafe { future.cast::<CallFuture>().as_mut() };
    let mut is_pending = false;
    let outcome = catch(|| match Pin::new(future).poll(&mut Context::from_waker(&waker.waker)) {
        Poll::Pending => {
            is_pending = true;
            Outcome::Ok(Value::Null)
        }
        Poll::Ready(result) => Outcome::from_result(result),
    });
    if is_pending { Progress::Pending } else { Progress::Ready(outcome) }
}

unsafe extern "C" fn drop_future(future: NonNull<()>) -> Outcome<()> {
    // SAFETY: the future was leaked from a box, and is dropped once.
    let future = unsafe { Box::from_raw(future.cast::<CallFuture>().as_ptr()) };
    catch(|| {
        drop(future);
        Outcome::Ok(())
    })
}

/// A future of another image, as the image that polls it has it.
pub struct ForeignFuture {
    raw: RawFuture,
    /// The waker of the last poll, for as long as the poller's stays the same.
    waker: Option<CaughtWaker>,
    report: Report,
    is_dropped: bool,
}

/// What becomes of a panic that nobody can be told of otherwise.
pub type Report = fn(&PanicReport);

// SAFETY: what crosses is a `CallFuture`, which is `Send`, and it is polled through `&mut` only.
unsafe impl Send for ForeignFuture {}

impl ForeignFuture {
    /// Takes over a future of another image. `report` is told of the poller's wakers that panic.
    ///
    /// # Safety
    /// The image that made the future stays mapped until this is dropped.
    pub unsafe fn new(raw: RawFuture, report: Report) -> Self {
        Self { raw, waker: None, report, is_dropped: false }
    }

    /// Polls once; not to be called again after the future has ended.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Progress {
        let waker = CaughtWaker::renew(&mut self.waker, context.waker(), self.report);
        // SAFETY: `new`'s caller keeps the image mapped; nobody else polls.
        let progress = unsafe { ((*self.raw.table).poll)(self.raw.data, waker) };
        if matches!(progress, Progress::Ready(_)) {
            self.waker = None;
        }
        progress
    }

    /// Drops the future now, and tells what came of that.
    pub fn end(&mut self) -> Outcome<()> {
        if std::mem::replace(&mut self.is_dropped, true) {
            return Outcome::Ok(());
        }
        // SAFETY: `new`'s caller keeps the image mapped; the future is dropped once.
        unsafe { ((*self.raw.table).drop)(self.raw.data) }
    }
}

impl Drop for ForeignFuture {
    fn drop(&mut self) {
        if let Outcome::Panic(report) = self.end() {
            let _ = end_panic(|| (self.report)(&report));
        }
    }
}

/// A waker on its way into another image.
///
/// A waker brings its own functions, which the other image calls without a shim. A panic that left
/// one would be a foreign one there, which ends the process. So a future of another image is polled
/// with this, and this can only be made by wrapping the poller's waker in one that catches.
#[repr(C)]
pub struct CaughtWaker {
    waker: Waker,
    inner: Arc<Caught>,
}

impl CaughtWaker {
    /// The waker in `place`, made anew where it would wake something else than `waker` does.
    fn renew<'a>(place: &'a mut Option<Self>, waker: &Waker, report: Report) -> &'a Self {
        let kept = place.take().filter(|kept| kept.inner.wakes_as(waker));
        place.insert(kept.unwrap_or_else(|| Self::new(waker.clone(), report)))
    }

    fn new(waker: Waker, report: Report) -> Self {
        let inner = Arc::new(Caught { waker: Some(waker), report });
        Self { waker: Waker::from(inner.clone()), inner }
    }
}

/// What a [`CaughtWaker`] wakes.
struct Caught {
    /// None only while it is dropped.
    waker: Option<Waker>,
    report: Report,
}

impl Caught {
    fn wakes_as(&self, waker: &Waker) -> bool {
        self.waker.as_ref().is_some_and(|own| own.will_wake(waker))
    }

    /// Runs what is the poller's; the report is the poller's code as well, and may panic too.
    fn run(report: Report, f: impl FnOnce()) {
        let outcome = catch(|| {
            f();
            Outcome::Ok(())
        });
        if let Outcome::Panic(panic) = outcome {
            let _ = end_panic(|| report(&panic));
        }
    }
}

impl Wake for Caught {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Self::run(self.report, || self.waker.iter().for_each(Waker::wake_by_ref));
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        let waker = self.waker.take();
        Self::run(self.report, || drop(waker));
    }
}
