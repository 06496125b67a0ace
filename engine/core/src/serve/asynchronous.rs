//! Calls of `async` functions.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use hotswap_plugin::{
    __private::{ForeignFuture, Progress, RawFuture},
    Value,
    abi::Answer,
};

use super::error::CallError;
use crate::version::{counts, lease::Lease, tasks::report_waker, threads::checkpoint};

/// A call of an `async` function that has begun. It ends on the version on which it began.
///
/// Each poll catches the plugin's panics. Dropping the call before it has ended cancels it.
pub(crate) struct AsyncCall<T = Value> {
    // Dropped first: afterwards the lease may let the image be unmapped.
    future: ForeignFuture<T>,
    function: String,
    place: usize,
    /// When it began; `None` if it is not timed.
    begun: counts::Begun,
    lease: Lease,
}

impl<T> AsyncCall<T> {
    /// Wraps a future of the leased version's image.
    pub fn new(
        future: RawFuture<T>,
        function: &str,
        (place, begun): (usize, counts::Begun),
        lease: Lease,
    ) -> Self {
        // SAFETY: the lease keeps the image mapped, and is dropped after the future.
        let future = unsafe { ForeignFuture::new(future, report_waker) };
        Self { future, function: function.to_owned(), place, begun, lease }
    }

    /// The function's name.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// The lease that keeps the version in use until the call ends.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Blocks this thread until the call ends.
    pub fn wait(self) -> Result<T, CallError> {
        struct Unpark(Thread);

        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }

        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut call = pin!(self);
        loop {
            match call.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(result) => return result,
                Poll::Pending => thread::park(),
            }
        }
    }
}

impl<T> Future for AsyncCall<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        checkpoint();
        let Self { future, lease, place, .. } = &mut *self;
        let noted = lease.version().note_call(lease.face(), *place);
        let _linked = lease.image().note_linked();
        let Progress::Ready(answer) = future.poll(context) else { return Poll::Pending };
        drop(noted);
        let called = self.lease.faced();
        called.version.end_counted(called.face, self.place, self.begun);
        Poll::Ready(match answer {
            Answer::Ok(value) => Ok(value),
            Answer::Err(error) => Err(CallError::failed(called, &self.function, error)),
            Answer::Panic(report) => Err(CallError::panicked(called, &self.function, &report)),
        })
    }
}

impl<T> Drop for AsyncCall<T> {
    fn drop(&mut self) {
        let _linked = self.lease.image().note_linked();
        if let Answer::Panic(report) = self.future.end() {
            let (version, function) = (&self.lease, &self.function);
            let (message, location) = (report.message, report.location);
            tracing::error!(
                "{version}: dropping a call of {function} panicked at {location}: {message}"
            );
        }
    }
}
