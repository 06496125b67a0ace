//! Tasks and time on the host's runtime, for plugins.
//!
//! ```
//! use std::time::Duration;
//!
//! use hotswap_plugin::{prelude::*, rt};
//!
//! #[derive(Default)]
//! struct Clock;
//!
//! #[plugin]
//! impl Plugin for Clock {
//!     fn on_init(&self, vault: &Vault) -> Result<()> {
//!         let vault = vault.clone();
//!         rt::spawn("ticks", async move {
//!             let mut second = rt::interval(Duration::from_secs(1));
//!             while second.tick().await.is_ok() {
//!                 let _ = vault.data_bag().update("ticks", || 0_u64, |ticks| *ticks += 1);
//!             }
//!         })?;
//!         Ok(())
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! A task keeps its version in use. When the version has been replaced and its last call has returned,
//! its tasks are cancelled at their next `await`.
//!
//! No type of tokio can cross between images, so these functions go through the host. If the host has
//! given its engine no runtime (`EngineBuilder::tokio`), they return errors.
//!
//! For anything else (sockets, an HTTP client) a plugin needs a runtime of its own: make it in `on_init`
//! and shut it down in `on_free`. Its threads keep the version in use until they have ended.
//!
//! # Linked plugins
//! Plugins that are linked into their host share one copy of this crate, so it must find out which plugin
//! starts a task. It knows the plugin during a step of a load, a call by name, and an `async` function. It
//! does not know it in a call with Rust types, in a method of an interface, and on a thread that the plugin
//! started. There it assumes the plugin that was attached last.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    Error, Result, Value,
    abi::Answer,
    future::{ForeignFuture, Progress, RawFuture},
    image::{current_host, inside, log_panic},
};

/// Starts a task on the host's runtime. `name` appears in logs and in the list of what keeps the version in
/// use. A task that is started while the version ends is cancelled at once.
///
/// # Errors
/// If the host has given its engine no runtime.
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
    // SAFETY: the context is the host's own; the host owns the future from here on.
    match unsafe { (host.spawn)(host.context, name, RawFuture::new(inside(task))) } {
        Answer::Ok(()) => Ok(Task(shared)),
        Answer::Err(error) => Err(error),
        Answer::Panic(report) => Err(Error::msg(report.message)),
    }
}

/// Waits for `duration`.
///
/// # Errors
/// If the host has given its engine no runtime.
pub async fn sleep(duration: Duration) -> Result<()> {
    let host = current_host().ok_or_else(no_host)?;
    // SAFETY: the context is the host's own.
    let mut sleep = match unsafe { (host.sleep)(host.context, duration) } {
        Answer::Ok(future) => HostFuture::new(future),
        Answer::Err(error) => return Err(error),
        Answer::Panic(report) => return Err(Error::msg(report.message)),
    };
    poll_fn(|context| Pin::new(&mut sleep).poll(context)).await
}

/// A timer: each call of [`Interval::tick`] waits for `period`.
pub fn interval(period: Duration) -> Interval {
    Interval { period }
}

/// See [`interval`].
#[derive(Debug)]
pub struct Interval {
    period: Duration,
}

impl Interval {
    /// Waits for the period.
    ///
    /// # Errors
    /// If the host has given its engine no runtime.
    pub async fn tick(&mut self) -> Result<()> {
        sleep(self.period).await
    }
}

/// A handle to a task: awaiting it gives the task's result, or an error if the task was cancelled or
/// panicked. Dropping the handle leaves the task running.
pub struct Task<T>(Arc<Mutex<Shared<T>>>);

struct Shared<T> {
    state: State<T>,
    waker: Option<Waker>,
}

enum State<T> {
    Running,
    Done(T),
    /// It was cancelled or panicked, or its result was taken.
    Gone,
}

/// The task's side of a [`Task`]: it stores how the task ended, also if the task's future is dropped early.
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
            State::Gone => Poll::Ready(Err(Error::msg("the task was cancelled or panicked"))),
        }
    }
}

/// A future that the host made.
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
            Progress::Ready(Answer::Ok(_)) => Poll::Ready(Ok(())),
            Progress::Ready(Answer::Err(error)) => Poll::Ready(Err(error)),
            Progress::Ready(Answer::Panic(report)) => Poll::Ready(Err(Error::msg(report.message))),
        }
    }
}

fn no_host() -> Error {
    Error::msg("the plugin is not loaded by a host")
}
