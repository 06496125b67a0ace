//! Tasks and time that plugins ask the host for.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use hotswap_plugin::{
    __private::{CallFuture, Progress, RawFuture},
    Error, Result, Value,
    abi::Outcome,
};

use crate::{lease::Lease, lifecycle::running, thread::checkpoint, version::Version};

/// A future that the runtime drives.
pub(crate) type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the engine needs of the host's runtime.
pub(crate) trait Runtime: Send + Sync {
    /// Drives a task.
    fn spawn(&self, task: BoxFuture) -> Box<dyn TaskHandle>;

    /// A future that ends after a while.
    fn sleep(&self, duration: Duration) -> BoxFuture;
}

/// A task that was started.
pub(crate) trait TaskHandle: Send + Sync {
    /// Drops the task at its next `await`.
    fn cancel(&self);

    fn is_finished(&self) -> bool;
}

/// Starts a task of a version.
pub(crate) fn spawn(version: &Arc<Version>, name: &str, future: RawFuture) -> Result<()> {
    let task = Task { future, name: name.to_owned(), lease: Lease::of_task(version).named(name) };
    let runtime = version.runtime().ok_or_else(no_runtime)?;
    if version.outside.is_closing() {
        return Err(is_closing());
    }
    version.add_task(runtime.spawn(Box::pin(task)));
    Ok(())
}

/// A future for a version's code to wait with.
pub(crate) fn sleep(version: &Arc<Version>, duration: Duration) -> Result<RawFuture> {
    if version.outside.is_closing() {
        return Err(is_closing());
    }
    let runtime = version.runtime().ok_or_else(no_runtime)?;
    let sleep = Leasing { future: runtime.sleep(duration), version: version.clone() };
    let future: CallFuture = Box::pin(sleep);
    Ok(RawFuture::new(future))
}

fn no_runtime() -> Error {
    Error::msg("the host has given its engine no runtime (`EngineBuilder::tokio`)")
}

/// What a finaliser is told: what it starts would run when its image is gone.
fn is_closing() -> Error {
    Error::msg("the plugin's image is being unmapped, and can start nothing any more")
}

/// A task of a version, which it keeps mapped.
struct Task {
    // Dropped first, by `Drop`; then the lease may let the image go.
    future: RawFuture,
    name: String,
    lease: Lease,
}

// SAFETY: the future is `Send`, and is polled through `&mut` only.
unsafe impl Send for Task {}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        checkpoint();
        let _running = running(self.lease.version());
        // SAFETY: the lease keeps the image mapped, and nobody else polls.
        match unsafe { ((*self.future.table).poll)(self.future.data, &caught(context.waker())) } {
            Progress::Pending => return Poll::Pending,
            Progress::Ready(Outcome::Ok(_)) => {}
            Progress::Ready(Outcome::Err(error)) => {
                tracing::error!("{}: task {}: {error:?}", self.lease.version(), self.name);
            }
            Progress::Ready(Outcome::Panic(report)) => tracing::error!(
                "{}: task {} panicked at {}: {}",
                self.lease.version(),
                self.name,
                report.location,
                report.message
            ),
        }
        Poll::Ready(())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // SAFETY: the lease keeps the image mapped; the future is dropped once.
        let _ = unsafe { ((*self.future.table).drop)(self.future.data) };
    }
}

/// A waker of the host's on its way into an image: a panic of its ends here.
pub(crate) fn caught(waker: &Waker) -> Waker {
    Waker::from(Arc::new(Caught(Some(waker.clone()))))
}

struct Caught(Option<Waker>);

impl Wake for Caught {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wake = std::panic::AssertUnwindSafe(|| self.0.iter().for_each(Waker::wake_by_ref));
        if std::panic::catch_unwind(wake).is_err() {
            tracing::error!("a waker of the host's panicked");
        }
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(self.0.take())));
    }
}

/// A future of the host's that an image waits for.
///
/// The waker may be of that image (an author's own executor, a join of futures). The host's timer
/// keeps it for a moment longer than the image may be mapped, so it is wrapped in one with a lease.
struct Leasing {
    future: BoxFuture,
    version: Arc<Version>,
}

impl Future for Leasing {
    type Output = Result<Value>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A finaliser may poll one that is older than it. The waker would be called when it is gone.
        if self.version.outside.is_closing() {
            return Poll::Ready(Err(is_closing()));
        }
        let leased =
            LeasedWaker { waker: context.waker().clone(), _lease: Lease::of_task(&self.version) };
        let waker = Waker::from(Arc::new(leased));
        let polled = self.future.as_mut().poll(&mut Context::from_waker(&waker));
        polled.map(|()| Ok(Value::Null))
    }
}

/// A waker that keeps a version mapped; dropped in this order.
struct LeasedWaker {
    waker: Waker,
    _lease: Lease,
}

impl Wake for LeasedWaker {
    fn wake(self: Arc<Self>) {
        self.waker.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.waker.wake_by_ref();
    }
}
