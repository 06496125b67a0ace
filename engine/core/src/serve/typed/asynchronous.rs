//! `async` functions that are called with Rust types.

use std::{
    any::type_name,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hotswap_plugin::Shared;

use super::{
    Found, Signature,
    expected::{Expected, rehomed},
};
use crate::{
    CallError,
    serve::{asynchronous::AsyncCall, current::Current},
    version::lease::{LeaseKind, LeaseName},
};

/// A plugin's `async` function that is called with Rust types.
///
/// It follows every reload, as a [`Func`](super::Func) does.
///
/// ```no_run
/// # async fn greet() -> Result<(), Box<dyn std::error::Error>> {
/// # let engine = hotswap_engine::Engine::builder("plugins").build()?;
/// let answer = engine.async_func::<fn(String, u32) -> String>("world", "answer")?;
/// println!("{}", answer.call("Ada".into(), 2).await?);
/// # Ok(())
/// # }
/// ```
pub struct AsyncFunc<F> {
    current: Arc<Current>,
    plugin: String,
    name: String,
    expected: Expected<F>,
}

impl<F: Signature> AsyncFunc<F> {
    /// An `async` function of a plugin that serves now.
    pub(crate) fn new(current: &Arc<Current>, plugin: &str, name: &str) -> Result<Self, CallError> {
        let expected = Expected::new(true);
        Found::search(&expected, &current.load(), plugin, name)?;
        expected.announce(current.expectations(), Some(plugin), name);
        let (plugin, name) = (plugin.to_owned(), name.to_owned());
        Ok(Self { current: current.clone(), plugin, name, expected })
    }

    /// Begins a call with its arguments as a tuple. The call ends on the version that serves now, which stays
    /// in use until then. Dropping the future cancels the call.
    ///
    /// # Errors
    /// The future returns an error if the plugin or the function is gone, if the function has another
    /// signature now, and if it fails or panics.
    pub fn call_with(&self, args: F::Args) -> FuncCall<F::Result> {
        FuncCall(match self.begin(args) {
            Ok(call) => State::Running(call),
            Err(error) => State::Refused(Some(error)),
        })
    }

    fn begin(&self, args: F::Args) -> Result<AsyncCall<F::Result>, CallError> {
        let (version, (place, target)) = self.current.enter(&self.name, |serving| {
            let found = Found::search(&self.expected, serving, &self.plugin, &self.name)?;
            Ok((found.lease, found.place, (found.place, found.target)))
        })?;
        let begun = version.begin_call(place);
        let name = self.name.as_str();
        let lease = version.lease(LeaseKind::Call).named(LeaseName::Function(name.into()));
        // SAFETY: until the future is dropped, the lease keeps the version in use, and its function has the
        // types of `F`.
        match unsafe { self.expected.begin(version.faced(), name, target, args) } {
            Ok(future) => Ok(AsyncCall::new(future, name, (place, begun), lease)),
            Err(error) => {
                version.end_call(place, begun);
                Err(error)
            }
        }
    }
}

impl<F> fmt::Debug for AsyncFunc<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsyncFunc({}::{} as {})", self.plugin, self.name, type_name::<F>())
    }
}

/// A call of an [`AsyncFunc`] that has begun. Dropping it cancels the call.
pub struct FuncCall<R>(State<R>);

enum State<R> {
    Running(AsyncCall<R>),
    /// `None` after the error was returned.
    Refused(Option<CallError>),
}

impl<R: Shared> Future for FuncCall<R> {
    type Output = Result<R, CallError>;

    /// # Panics
    /// If it is polled again after it has ended.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Running(call) => match Pin::new(&mut *call).poll(context) {
                Poll::Ready(Ok(value)) if R::MAY_POINT_HOME => {
                    Poll::Ready(rehomed(call.lease().faced(), &call.function(), value))
                }
                other => other,
            },
            State::Refused(error) => {
                let error = error.take();
                Poll::Ready(Err(error.expect("a call that was refused is polled once")))
            }
        }
    }
}

impl<R> fmt::Debug for FuncCall<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            State::Running(call) => write!(f, "FuncCall({})", call.function()),
            State::Refused(error) => write!(f, "FuncCall({error:?})"),
        }
    }
}
