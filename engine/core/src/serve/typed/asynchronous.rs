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
    serve::{
        asynchronous::AsyncCall,
        current::{Current, Entry},
        generation::Generation,
    },
    version::{
        TypedTarget,
        lease::{Lease, LeaseKind, LeaseName},
        turnstile::{Through, Turnstile},
    },
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
pub struct AsyncFunc<F>(Arc<Function<F>>);

/// The function of an [`AsyncFunc`].
struct Function<F> {
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
        let current = current.clone();
        Ok(Self(Arc::new(Function { current, plugin, name, expected })))
    }

    /// Begins a call with its arguments as a tuple. The call ends on the version that serves now, which stays
    /// in use until then. Dropping the future cancels the call.
    ///
    /// # Errors
    /// The future returns an error if the plugin or the function is gone, if the function has another
    /// signature now, and if it fails or panics.
    pub fn call_with(&self, args: F::Args) -> FuncCall<F::Result> {
        FuncCall(match self.0.begin(args) {
            Ok(Begun::Running(call)) => State::Running(call),
            Ok(Begun::HeldUp(turnstile, args)) => {
                State::HeldUp(Box::pin(self.0.clone().begin_after(turnstile, args)))
            }
            Err(error) => State::Refused(Some(error)),
        })
    }
}

/// What became of a call that begins.
enum Begun<F: Signature> {
    Running(AsyncCall<F::Result>),
    /// It waits at this turnstile, and then begins again.
    HeldUp(Arc<Turnstile>, F::Args),
}

impl<F: Signature> Function<F> {
    /// Begins a call that is held up, as soon as it is not.
    async fn begin_after(
        self: Arc<Self>,
        mut turnstile: Arc<Turnstile>,
        mut args: F::Args,
    ) -> Result<AsyncCall<F::Result>, CallError> {
        loop {
            if matches!(turnstile.wait_async().await, Through::Refused) {
                return Err(self.current.refusal(&self.name, |serving| self.find(serving)));
            }
            match self.begin(args)? {
                Begun::Running(call) => return Ok(call),
                Begun::HeldUp(at, with) => (turnstile, args) = (at, with),
            }
        }
    }

    /// The function in the generation that serves.
    fn find<'a>(
        &self,
        serving: &'a Generation,
    ) -> Result<(&'a Lease, usize, (usize, TypedTarget)), CallError> {
        let found = Found::search(&self.expected, serving, &self.plugin, &self.name)?;
        Ok((found.lease, found.place, (found.place, found.target)))
    }

    fn begin(&self, args: F::Args) -> Result<Begun<F>, CallError> {
        let entry = self.current.try_enter(&self.name, |serving| self.find(serving))?;
        let (version, (place, target)) = match entry {
            Entry::In(version, found) => (version, found),
            Entry::HeldUp(turnstile) => return Ok(Begun::HeldUp(turnstile, args)),
        };
        let begun = version.begin_call(place);
        let name = self.name.as_str();
        let lease = version.lease(LeaseKind::Call).named(LeaseName::Function(name.into()));
        let _linked = version.image().note_linked();
        // SAFETY: until the future is dropped, the lease keeps the version in use, and its function has the
        // types of `F`.
        match unsafe { self.expected.begin(version.faced(), name, target, args) } {
            Ok(future) => Ok(Begun::Running(AsyncCall::new(future, name, (place, begun), lease))),
            Err(error) => {
                version.end_call(place, begun);
                Err(error)
            }
        }
    }
}

impl<F> fmt::Debug for AsyncFunc<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsyncFunc({}::{} as {})", self.0.plugin, self.0.name, type_name::<F>())
    }
}

/// A call of an [`AsyncFunc`] that has begun. Dropping it cancels the call.
pub struct FuncCall<R>(State<R>);

enum State<R> {
    /// The plugin hands over, and the call begins afterwards.
    HeldUp(Pin<Box<dyn Future<Output = Result<AsyncCall<R>, CallError>> + Send>>),
    Running(AsyncCall<R>),
    /// `None` after the error was returned.
    Refused(Option<CallError>),
}

impl<R: Shared> Future for FuncCall<R> {
    type Output = Result<R, CallError>;

    /// # Panics
    /// If it is polled again after it has ended.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::HeldUp(begin) = &mut self.0 {
            self.0 = match begin.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(call)) => State::Running(call),
                Poll::Ready(Err(error)) => State::Refused(Some(error)),
            };
        }
        match &mut self.0 {
            State::HeldUp(_) => unreachable!("the call has begun"),
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
            State::HeldUp(_) => f.write_str("FuncCall(held up)"),
            State::Running(call) => write!(f, "FuncCall({})", call.function()),
            State::Refused(error) => write!(f, "FuncCall({error:?})"),
        }
    }
}
