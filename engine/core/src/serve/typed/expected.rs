//! The types that a caller expects of a function, and calls with these types.

use std::{
    any::type_name,
    marker::PhantomData,
    mem::{ManuallyDrop, MaybeUninit},
    sync::Arc,
};

use hotswap_plugin::{
    __private::{RawFuture, end_panic},
    Error, FunctionDescription, FunctionTypes, Shared, TypeSchema,
    abi::Answer,
};

use super::Signature;
use crate::{
    serve::{error::CallError, in_use::InUse},
    version::{TypedTarget, expectations::Expectations, face::Faced, lease::Lease},
};

/// A version that is in use by a call.
pub(super) trait Called {
    /// The version, as the call meets it.
    fn faced(&self) -> Faced<'_>;
}

impl Called for InUse {
    fn faced(&self) -> Faced<'_> {
        InUse::faced(self)
    }
}

/// The types that a caller expects of a function.
pub(super) struct Expected<F> {
    types: Arc<FunctionTypes>,
    is_async: bool,
    signature: PhantomData<fn() -> F>,
}

impl<F: Signature> Expected<F> {
    pub fn new(is_async: bool) -> Self {
        let types = FunctionTypes {
            args: TypeSchema::of::<F::Args>(),
            result: TypeSchema::of::<F::Result>(),
        };
        Self { types: Arc::new(types), is_async, signature: PhantomData }
    }

    /// Tells the engine that the host calls a function with these types.
    pub fn announce(&self, to: &Expectations, plugin: Option<&str>, name: &str) {
        to.of_function(plugin, name, (&self.types, self.is_async), type_name::<F>());
    }

    /// How to call the function at `place`, if it has these types.
    pub fn target(
        &self,
        lease: &Lease,
        place: usize,
        described: &FunctionDescription,
    ) -> Result<TypedTarget, CallError> {
        let is_as_expected = described.types.as_ref().is_some_and(|types| {
            described.is_async == self.is_async
                && types.args.fingerprint() == self.types.args.fingerprint()
                && types.result.fingerprint() == self.types.result.fingerprint()
        });
        if !is_as_expected {
            self.expect_types(lease.faced(), &described.name, described)?;
        }
        lease.version().typed_target(lease.face(), place).ok_or_else(|| {
            let why = "it cannot be called with Rust types";
            CallError::signature(lease.faced(), &described.name, why)
        })
    }

    /// Calls the function itself.
    ///
    /// # Safety
    /// The version is in use, and the function belongs to it and has the types of `F`.
    #[inline(always)]
    pub unsafe fn run(
        &self,
        called: &impl Called,
        name: &impl AsRef<str>,
        target: TypedTarget,
        args: F::Args,
    ) -> Result<F::Result, CallError> {
        let mut args = ManuallyDrop::new(args);
        let mut out = MaybeUninit::<Answer<F::Result>>::uninit();
        // SAFETY: the caller's promise: the image is mapped, and the function takes over the arguments and
        // fills the place for the result.
        let answer = unsafe {
            let args = (&raw mut args).cast();
            (target.call)(&*target.context, args, out.as_mut_ptr().cast());
            out.assume_init()
        };
        match answer {
            Answer::Ok(value) if F::Result::MAY_POINT_HOME => rehomed(called.faced(), name, value),
            Answer::Ok(value) => Ok(value),
            // The name is read only here, because a call that was done does not need it.
            other => Err(Self::not_done(called.faced(), name.as_ref(), other)),
        }
    }

    /// Calls like `run`, for an `async` function: begins the call, and returns its future.
    ///
    /// # Safety
    /// As for `run`; and the version stays in use until the future is dropped.
    pub unsafe fn begin(
        &self,
        called: Faced<'_>,
        name: &str,
        target: TypedTarget,
        args: F::Args,
    ) -> Result<RawFuture<F::Result>, CallError> {
        let mut args = ManuallyDrop::new(args);
        let mut out = MaybeUninit::<Answer<RawFuture<F::Result>>>::uninit();
        // SAFETY: as in `run`.
        let answer = unsafe {
            let args = (&raw mut args).cast();
            (target.call)(&*target.context, args, out.as_mut_ptr().cast());
            out.assume_init()
        };
        match answer {
            Answer::Ok(future) => Ok(future),
            other => Err(Self::not_done(called, name, other)),
        }
    }

    #[cold]
    fn not_done<T>(called: Faced<'_>, name: &str, answer: Answer<T>) -> CallError {
        match answer {
            Answer::Ok(_) => unreachable!("a call that has a value is done"),
            Answer::Err(error) => CallError::failed(called, name, error),
            Answer::Panic(report) => CallError::panicked(called, name, &report),
        }
    }

    fn expect_types(
        &self,
        called: Faced<'_>,
        name: &str,
        described: &FunctionDescription,
    ) -> Result<(), CallError> {
        let expected = type_name::<F>();
        let found = &described.signature;
        let refused =
            |why: &str| Err(CallError::signature(called, name, &format!("`{name}{found}`: {why}")));
        let Some(types) = &described.types else {
            return refused(
                "a type of its signature is not `Shared`, or it has more than 8 parameters",
            );
        };
        match (described.is_async, self.is_async) {
            (true, false) => return refused("it is async; call it with `Engine::async_func`"),
            (false, true) => return refused("it is not async; call it with `Engine::func`"),
            _ => {}
        }
        match types.difference(&self.types) {
            None => Ok(()),
            Some(what) => Err(CallError::signature(
                called,
                name,
                &format!("its signature is `{found}`, but `{expected}` is expected: {what}"),
            )),
        }
    }
}

/// A result whose pointers into its image were replaced. This may run the caller's code (the hash of a key).
/// If that panics, the value is dropped while the version is still in use.
pub(super) fn rehomed<R: Shared>(
    called: Faced<'_>,
    name: &impl AsRef<str>,
    mut value: R,
) -> Result<R, CallError> {
    let rehome = || {
        value.rehome();
        value
    };
    end_panic(rehome).map_err(|panic| {
        let why = Error::msg(format_args!("its result cannot be used here: panicked: {panic}"));
        CallError::bad_result(called, name.as_ref(), &why)
    })
}
