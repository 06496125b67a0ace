//! Tasks and timers that plugins request from the host.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hotswap_plugin::{
    __private::{CallFuture, ForeignFuture, Progress, RawFuture},
    Error, Result, Value,
    abi::{Answer, PanicReport},
};

use super::{
    Version,
    lease::{Lease, LeaseName},
    steps::running,
    threads::checkpoint,
};
use crate::error::shortened;

/// A future that the runtime runs.
pub(crate) type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the engine needs from the host's runtime.
pub(crate) trait Runtime: Send + Sync {
    /// Runs a task.
    fn spawn(&self, task: BoxFuture) -> Box<dyn TaskHandle>;

    /// A future that ends after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture;
}

/// A task that was started.
pub(crate) trait TaskHandle: Send + Sync {
    /// Drops the task at its next `await`.
    fn cancel(&self);

    fn is_finished(&self) -> bool;
}

/// The longest name of a task that is kept, in bytes.
const MAX_NAME: usize = 256;

/// Starts a task of a version.
pub(crate) fn spawn(version: &Arc<Version>, name: &str, future: RawFuture) -> Result<()> {
    let name = shortened(name, MAX_NAME);
    let lease = Lease::of_task(version).facing(version.face_here());
    let lease = lease.named(LeaseName::Task(name.as_str().into()));
    // SAFETY: the lease keeps the image mapped, and is dropped after the future.
    let future = unsafe { ForeignFuture::new(future, report_waker) };
    let task = Task { future, name, lease };
    let runtime = version.runtime().ok_or_else(no_runtime)?;
    if version.outside().is_closing() {
        return Err(is_closing());
    }
    version.add_task(runtime.spawn(Box::pin(task)));
    Ok(())
}

/// A future with which code of a version can wait.
pub(crate) fn sleep(version: &Arc<Version>, duration: Duration) -> Result<RawFuture> {
    if version.outside().is_closing() {
        return Err(is_closing());
    }
    let runtime = version.runtime().ok_or_else(no_runtime)?;
    let sleep = Waited { future: runtime.sleep(duration), version: version.clone() };
    let future: CallFuture = Box::pin(sleep);
    Ok(RawFuture::new(future))
}

fn no_runtime() -> Error {
    Error::msg("the host has given its engine no runtime (`EngineBuilder::tokio`)")
}

/// The error for a finaliser: a task that it starts would run after its image is gone.
fn is_closing() -> Error {
    Error::msg("the plugin's image is being unmapped, so it cannot start tasks any more")
}

/// A task of a version, which keeps the version mapped.
struct Task {
    // Dropped first: afterwards the lease may let the image be unmapped.
    future: ForeignFuture,
    name: String,
    lease: Lease,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        checkpoint();
        let _running = running(&self.lease);
        match self.future.poll(context) {
            Progress::Pending => return Poll::Pending,
            Progress::Ready(Answer::Ok(_)) => {}
            Progress::Ready(Answer::Err(error)) => {
                tracing::error!("{}: task {}: {error:?}", self.lease.faced(), self.name);
            }
            Progress::Ready(Answer::Panic(report)) => tracing::error!(
                "{}: task {} panicked at {}: {}",
                self.lease.faced(),
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
        let _running = running(&self.lease);
        if let Answer::Panic(report) = self.future.end() {
            let (version, name) = (self.lease.faced(), &self.name);
            let (message, location) = (report.message, report.location);
            tracing::error!("{version}: dropping task {name} panicked at {location}: {message}");
        }
    }
}

/// A future of the host that an image waits for.
struct Waited {
    future: BoxFuture,
    version: Arc<Version>,
}

impl Future for Waited {
    type Output = Result<Value>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A finaliser may poll a future that was made before, and nobody would wake it.
        if self.version.outside().is_closing() {
            return Poll::Ready(Err(is_closing()));
        }
        self.future.as_mut().poll(context).map(|()| Ok(Value::Null))
    }
}

/// Logs that a waker of the host panicked when an image called it.
pub(crate) fn report_waker(report: &PanicReport) {
    tracing::error!("a waker of the host panicked: {}", report.message);
}
