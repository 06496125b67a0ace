//! Futures that cross between images. They are polled through shims that catch panics.

use std::{
    marker::PhantomData,
    pin::Pin,
    ptr::NonNull,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use crate::{
    Result, Value,
    abi::{Answer, PanicReport, TiedWaker, WakeTarget},
    image::{catch, end_panic, image_host},
    interface::raw::Lease,
};

/// A future that another image polls, and whose result is a `T`.
#[repr(C)]
pub struct RawFuture<T = Value> {
    /// The future, on the heap.
    pub data: NonNull<()>,
    /// The shims of its image.
    pub table: *const FutureTable<T>,
}

/// The shims of a future's image.
#[repr(C)]
pub struct FutureTable<T> {
    /// Polls once.
    pub poll: unsafe extern "C" fn(NonNull<()>, waker: &CaughtWaker) -> Progress<T>,
    /// Drops the future.
    pub drop: unsafe extern "C" fn(NonNull<()>) -> Answer<()>,
}

/// The result of a poll.
#[repr(C)]
pub enum Progress<T = Value> {
    /// The future has not ended.
    Pending,
    /// The future has ended, and must not be polled again.
    Ready(Answer<T>),
}

impl<T: 'static> RawFuture<T> {
    /// Moves a future to the heap and pairs it with its shims.
    pub fn new<F: Future<Output = Result<T>> + Send + 'static>(future: F) -> Self {
        let data = NonNull::from(Box::leak(Box::new(future))).cast();
        Self { data, table: &raw const *Shims::<F, T>::TABLE }
    }
}

/// The shims of a future `F`.
struct Shims<F, T>(PhantomData<(F, T)>);

impl<T: 'static, F: Future<Output = Result<T>> + 'static> Shims<F, T> {
    const TABLE: &'static FutureTable<T> =
        &FutureTable { poll: poll::<F, T>, drop: drop_future::<F> };
}

unsafe extern "C" fn poll<F: Future<Output = Result<T>>, T>(
    future: NonNull<()>,
    waker: &CaughtWaker,
) -> Progress<T> {
    // SAFETY: the poller has the only reference, and drops the future after its last poll. Until then it
    // stays where it is on the heap.
    let future = unsafe { Pin::new_unchecked(future.cast::<F>().as_mut()) };
    let answer = catch(|| match future.poll(&mut Context::from_waker(&waker.waker)) {
        Poll::Pending => Answer::Ok(None),
        Poll::Ready(result) => Answer::from_result(result.map(Some)),
    });
    match answer {
        Answer::Ok(None) => Progress::Pending,
        Answer::Ok(Some(value)) => Progress::Ready(Answer::Ok(value)),
        Answer::Err(error) => Progress::Ready(Answer::Err(error)),
        Answer::Panic(report) => Progress::Ready(Answer::Panic(report)),
    }
}

unsafe extern "C" fn drop_future<F>(future: NonNull<()>) -> Answer<()> {
    // SAFETY: the future was leaked from a `Box`, and is dropped once.
    let future = unsafe { Box::from_raw(future.cast::<F>().as_ptr()) };
    catch(|| {
        drop(future);
        Answer::Ok(())
    })
}

/// A future of another image, on the side that polls it.
pub struct ForeignFuture<T = Value> {
    raw: RawFuture<T>,
    /// The waker of the last poll. It is reused as long as it wakes the same task.
    waker: Option<CaughtWaker>,
    report: Report,
    is_dropped: bool,
}

/// Reports a panic that cannot be returned to a caller.
pub type Report = fn(&PanicReport);

// SAFETY: the future is `Send`, as `RawFuture::new` asks, and it is only polled through `&mut`.
unsafe impl<T> Send for ForeignFuture<T> {}

impl<T> ForeignFuture<T> {
    /// Takes over a future of another image. `report` is called if a waker of the poller panics.
    ///
    /// # Safety
    /// The image that made the future stays mapped until this is dropped.
    pub unsafe fn new(raw: RawFuture<T>, report: Report) -> Self {
        Self { raw, waker: None, report, is_dropped: false }
    }

    /// Polls once. Must not be called again after the future has ended.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Progress<T> {
        let waker = CaughtWaker::renew(&mut self.waker, context.waker(), self.report);
        // SAFETY: `new`'s caller keeps the image mapped; nobody else polls.
        let progress = unsafe { ((*self.raw.table).poll)(self.raw.data, waker) };
        if matches!(progress, Progress::Ready(_)) {
            self.waker = None;
        }
        progress
    }

    /// Drops the future now; the answer says whether that panicked.
    pub fn end(&mut self) -> Answer<()> {
        if std::mem::replace(&mut self.is_dropped, true) {
            return Answer::Ok(());
        }
        // SAFETY: `new`'s caller keeps the image mapped; the future is dropped once.
        unsafe { ((*self.raw.table).drop)(self.raw.data) }
    }
}

impl<T> Drop for ForeignFuture<T> {
    fn drop(&mut self) {
        if let Answer::Panic(report) = self.end() {
            let _ = end_panic(|| (self.report)(&report));
        }
    }
}

/// A waker that another image may call, and keep for as long as it likes.
///
/// A waker consists of pointers to functions, which the other image calls without a shim. A panic that leaves
/// one of these functions would be foreign to that image, and a foreign panic ends the process. So shims take
/// this type, which can only be made by wrapping the poller's waker in one that catches panics.
///
/// The code that is polled may keep a clone long after the future was dropped: a channel keeps one until its
/// sender is dropped. So the functions of an image's waker belong to the host, and they call the image only as
/// long as this value exists.
#[repr(C)]
pub struct CaughtWaker {
    waker: Waker,
    inner: Arc<Caught>,
    /// The waker works until this is dropped. `None` if the poller is the program, which is never unmapped.
    _tie: Option<Lease>,
}

impl CaughtWaker {
    /// The waker in `place`, after replacing it if it does not wake the same task as `waker`.
    pub(crate) fn renew<'a>(
        place: &'a mut Option<Self>,
        waker: &Waker,
        report: Report,
    ) -> &'a Self {
        let kept = place.take().filter(|kept| kept.inner.wakes_as(waker));
        place.insert(kept.unwrap_or_else(|| Self::new(waker.clone(), report)))
    }

    /// The waker that catches panics.
    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    fn new(waker: Waker, report: Report) -> Self {
        let inner = Arc::new(Caught { waker: Some(waker), report });
        let Some(host) = image_host() else {
            return Self { waker: Waker::from(inner.clone()), inner, _tie: None };
        };
        let target = WakeTarget {
            data: Arc::into_raw(inner.clone()).cast(),
            wake: wake_caught,
            release: release_caught,
        };
        // SAFETY: the context is the host's own, and the target owns the reference in it.
        let TiedWaker { waker, tie } = unsafe { (host.tie_waker)(host.context, target) };
        Self { waker, inner, _tie: Some(tie) }
    }
}

/// The poller's waker inside a [`CaughtWaker`].
struct Caught {
    /// `None` only during the drop.
    waker: Option<Waker>,
    report: Report,
}

impl Caught {
    fn wakes_as(&self, waker: &Waker) -> bool {
        self.waker.as_ref().is_some_and(|own| own.will_wake(waker))
    }

    fn wake_poller(&self) {
        Self::run(self.report, || self.waker.iter().for_each(Waker::wake_by_ref));
    }

    /// Runs code of the poller. The report is the poller's code too, and may panic as well.
    fn run(report: Report, f: impl FnOnce()) {
        let answer = catch(|| {
            f();
            Answer::Ok(())
        });
        if let Answer::Panic(panic) = answer {
            let _ = end_panic(|| report(&panic));
        }
    }
}

impl Wake for Caught {
    fn wake(self: Arc<Self>) {
        self.wake_poller();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_poller();
    }
}

unsafe extern "C" fn wake_caught(caught: *const ()) {
    // SAFETY: the pointer came from `Arc::into_raw`, and is not released yet.
    let caught = unsafe { &*caught.cast::<Caught>() };
    let _ = end_panic(|| caught.wake_poller());
}

unsafe extern "C" fn release_caught(caught: *const ()) {
    // SAFETY: as above; it is released once.
    let caught = unsafe { Arc::from_raw(caught.cast::<Caught>()) };
    let _ = end_panic(|| drop(caught));
}

impl Drop for Caught {
    fn drop(&mut self) {
        let waker = self.waker.take();
        Self::run(self.report, || drop(waker));
    }
}
