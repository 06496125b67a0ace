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
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use crate::{
    Error, Result, Value,
    abi::Outcome,
    future::{Progress, RawFuture},
    image::{current_host, inside},
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
        Outcome::Ok(future) => HostFuture(future),
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
struct HostFuture(RawFuture);

// SAFETY: the host's futures are `Send`.
unsafe impl Send for HostFuture {}

impl Future for HostFuture {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = Waker::from(Arc::new(Caught(Some(context.waker().clone()))));
        // SAFETY: the host made the future, and nobody else polls it.
        match unsafe { ((*self.0.table).poll)(self.0.data, &waker) } {
            Progress::Pending => Poll::Pending,
            Progress::Ready(Outcome::Ok(_)) => Poll::Ready(Ok(())),
            Progress::Ready(Outcome::Err(error)) => Poll::Ready(Err(error)),
            Progress::Ready(Outcome::Panic(report)) => Poll::Ready(Err(Error::msg(report.message))),
        }
    }
}

impl Drop for HostFuture {
    fn drop(&mut self) {
        // SAFETY: the host made the future; it is dropped once.
        let _ = unsafe { ((*self.0.table).drop)(self.0.data) };
    }
}

/// A waker of this image on its way to the host: a panic of its ends here.
struct Caught(Option<Waker>);

impl Wake for Caught {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        caught(|| self.0.iter().for_each(Waker::wake_by_ref));
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        caught(|| drop(self.0.take()));
    }
}

fn caught(f: impl FnOnce()) {
    if let Outcome::Panic(report) = crate::image::catch(|| {
        f();
        Outcome::Ok(())
    }) {
        tracing_core_error(&report.message, &report.location);
    }
}

fn tracing_core_error(message: &str, location: &str) {
    eprintln!("a waker panicked at {location}: {message}");
}

fn no_host() -> Error {
    Error::msg("the plugin is not loaded by a host")
}
