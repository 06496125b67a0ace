//! The host's runtime, as a plugin uses it: tasks and time.
//!
//! No type of tokio can cross between images, so these go through the host. A host that has given its
//! engine no runtime (`EngineBuilder::tokio`) makes them errors.
//!
//! What is not here (sockets, an HTTP client) takes a runtime of the plugin's own: make it in `on_init`,
//! and shut it down in `on_free`. Its threads keep the version in use until they have ended.
//!
//! A task keeps its version in use. When the version has been replaced, and its last call has ended,
//! its tasks are cancelled at their next `await`.
//!
//! Of plugins that are linked into their host, a task is the plugin's whose step, call by name, or
//! `async` function starts it. One that is started in a call with Rust types, in a method of an
//! interface, or on a thread of the plugin's own counts as the plugin's that was attached last: these
//! come past what would tell whose they are.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    Error, Result, Value,
    abi::Outcome,
    future::{ForeignFuture, Progress, RawFuture},
    image::{current_host, inside, log_panic},
};

/// Starts a task on the host's runtime; its name is for the log. One that is started when the version
/// ends is cancelled at once.
///
/// # Errors
/// When the host has no runtime for plugins.
pub fn spawn<T, F>(name: &str, future: F) -> Result<Task<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let shared = Arc::new(Mutex::new(Shared { state: State::Running, waker: None }));
    let finish = Finish(shared.clone());
    let task = Box::pin(async move {
        let result = future.await;
        finish.set(State::Done(result));
        Ok(Value::Null)
    });
    let host = current_host().ok_or_else(no_host)?;
    // SAFETY: the context is the host's own; the future passes to the host.
    match unsafe { (host.spawn)(host.context, name, RawFuture::new(inside(task))) } {
        Outcome::Ok(()) => Ok(Task(shared)),
        Outcome::Err(error) => Err(error),
        Outcome::Panic(report) => Err(Error::msg(report.message)),
    }
}

/// Waits for a while.
///
/// # Errors
/// When the host has no runtime for plugins.
pub async fn sleep(duration: Duration) -> Result<()> {
    let host = current_host().ok_or_else(no_host)?;
    // SAFETY: the context is the host's own.
    let mut sleep = match unsafe { (host.sleep)(host.context, duration) } {
        Outcome::Ok(future) => HostFuture::new(future),
        Outcome::Err(error) => return Err(error),
        Outcome::Panic(report) => return Err(Error::msg(report.message)),
    };
    poll_fn(|context| Pin::new(&mut sleep).poll(context)).await
}

/// Ticks, each time a period after the last tick was asked for.
pub fn interval(period: Duration) -> Interval {
    Interval { period }
}

/// See [`interval`].
#[derive(Debug)]
pub struct Interval {
    period: Duration,
}

impl Interval {
    /// Waits for the next tick.
    ///
    /// # Errors
    /// When the host has no runtime for plugins.
    pub async fn tick(&mut self) -> Result<()> {
        sleep(self.period).await
    }
}

/// A task that was started; awaiting it gives its result. Dropping this leaves the task running.
pub struct Task<T>(Arc<Mutex<Shared<T>>>);

struct Shared<T> {
    state: State<T>,
    waker: Option<Waker>,
}

enum State<T> {
    Running,
    Done(T),
    /// It was cancelled, or it panicked.
    Gone,
}

/// Tells whoever waits for a task how it ended, also when it is dropped before.
struct Finish<T>(Arc<Mutex<Shared<T>>>);

impl<T> Finish<T> {
    fn set(&self, state: State<T>) {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(shared.state, State::Running) {
            shared.state = state;
        }
        let waker = shared.waker.take();
        drop(shared);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for Finish<T> {
    fn drop(&mut self) {
        self.set(State::Gone);
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut shared.state, State::Gone) {
            State::Running => {
                shared.state = State::Running;
                shared.waker = Some(context.waker().clone());
                Poll::Pending
            }
            State::Done(result) => Poll::Ready(Ok(result)),
            State::Gone => Poll::Ready(Err(Error::msg("the task was cancelled, or it panicked"))),
        }
    }
}

/// A future of the host's.
struct HostFuture(ForeignFuture);

impl HostFuture {
    fn new(future: RawFuture) -> Self {
        let report = |panic: &_| log_panic("a waker of the plugin", panic);
        // SAFETY: the host made the future, and outlives this image.
        Self(unsafe { ForeignFuture::new(future, report) })
    }
}

impl Future for HostFuture {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0.poll(context) {
            Progress::Pending => Poll::Pending,
            Progress::Ready(Outcome::Ok(_)) => Poll::Ready(Ok(())),
            Progress::Ready(Outcome::Err(error)) => Poll::Ready(Err(error)),
            Progress::Ready(Outcome::Panic(report)) => Poll::Ready(Err(Error::msg(report.message))),
        }
    }
}

fn no_host() -> Error {
    Error::msg("the plugin is not loaded by a host")
}
