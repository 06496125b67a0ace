//! Functions called with Rust types, followed across reloads.

use std::{
    any::type_name,
    fmt,
    marker::PhantomData,
    mem::{self, ManuallyDrop, MaybeUninit},
    ptr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence},
    },
};

use hotswap_plugin::{
    __private::{Context, TypedCall},
    FunctionDescription, FunctionTypes, Shared, TypeSchema,
    abi::Outcome,
};

use crate::{
    CallError, PluginManager,
    counts::CallCounts,
    current::{Current, number_of},
    slots::{self, Entered},
    version::{TypedTarget, Version},
};

/// A function pointer type that names a function's parameters and result: `fn(f32) -> String`.
///
/// It is there for up to eight parameters of `Shared` types.
pub trait Signature {
    /// The parameters, as a tuple.
    type Args: Shared;
    /// The result.
    type Result: Shared;
}

/// A plugin's function, called with Rust types.
///
/// It follows every reload: each call goes to the version that serves. A reload that changes or
/// removes the function makes the call an error that shows both signatures, until another one brings
/// it back.
pub struct Func<F> {
    current: Arc<Current>,
    plugin: String,
    name: String,
    types: FunctionTypes,
    known: Known,
    signature: PhantomData<fn() -> F>,
}

impl<F: Signature> Func<F> {
    /// A function of a plugin that serves now.
    pub(crate) fn new(current: &Arc<Current>, plugin: &str, name: &str) -> Result<Self, CallError> {
        let func = Self {
            current: current.clone(),
            plugin: plugin.to_owned(),
            name: name.to_owned(),
            types: FunctionTypes {
                args: TypeSchema::of::<F::Args>(),
                result: TypeSchema::of::<F::Result>(),
            },
            known: Known::default(),
            signature: PhantomData,
        };
        func.search(&current.load())?;
        Ok(func)
    }

    /// Calls the function with its arguments as a tuple.
    ///
    /// # Errors
    /// When the plugin or the function is gone or has another signature now, and when the function
    /// fails or panics.
    #[inline]
    pub fn call_with(&self, args: F::Args) -> Result<F::Result, CallError> {
        let Some((_entered, version, target)) = self.known.enter(&self.current) else {
            return self.call_timed(args);
        };
        // SAFETY: the version is in use until the call's end, and its function has the types of `F`.
        unsafe { self.run(&*version, target, args) }
    }

    /// As `call_with`, where the function is not known, the call is timed, or no slot is at hand.
    #[cold]
    fn call_timed(&self, args: F::Args) -> Result<F::Result, CallError> {
        let (version, (place, target)) = self.current.enter(|serving| {
            let found = self.search(serving)?;
            Ok((found.version, found.place, (found.place, found.target)))
        })?;
        let begun = version.begin_call(place);
        // SAFETY: as in `call_with`.
        let result = unsafe { self.run(&version, target, args) };
        version.end_call(place, begun);
        result
    }

    /// Runs the function proper.
    ///
    /// # Safety
    /// The version is in use, and the function, which is its own, has the types of `F`.
    #[inline(always)]
    unsafe fn run(
        &self,
        version: &Version,
        target: TypedTarget,
        args: F::Args,
    ) -> Result<F::Result, CallError> {
        let mut args = ManuallyDrop::new(args);
        let mut out = MaybeUninit::<Outcome<F::Result>>::uninit();
        // SAFETY: the caller's promise: the image is mapped, and the function takes the arguments
        // over and fills the place.
        let outcome = unsafe {
            let args = (&raw mut args).cast();
            (target.call)(&*target.context, args, out.as_mut_ptr().cast());
            out.assume_init()
        };
        match outcome {
            Outcome::Ok(mut value) => {
                F::Result::rehome(&mut value);
                Ok(value)
            }
            other => Err(self.not_done(version, other)),
        }
    }

    #[cold]
    fn not_done(&self, version: &Version, outcome: Outcome<F::Result>) -> CallError {
        match outcome {
            Outcome::Ok(_) => unreachable!("a call that has a value is done"),
            Outcome::Err(error) => CallError::failed(version, &self.name, error),
            Outcome::Panic(report) => CallError::panicked(version, &self.name, &report),
        }
    }

    /// The function in the generation that serves; remembers where it is.
    fn search<'a>(&self, serving: &'a PluginManager) -> Result<Found<'a>, CallError> {
        let version = serving.version(&self.plugin);
        let version = version.map_err(|error| CallError::gone(&self.plugin, &self.name, &error))?;
        let (place, described) = version.function(&self.name).ok_or_else(|| {
            let names = version.function_names().join(", ");
            self.refused(version, &format!("there is no such function; there are {names}"))
        })?;
        self.expect_types(version, described)?;
        let target = version.typed_target(place);
        let target =
            target.ok_or_else(|| self.refused(version, "it cannot be called with Rust types"))?;
        self.known.set(serving.generation, version, place, target);
        Ok(Found { version, place, target })
    }

    fn expect_types(
        &self,
        version: &Version,
        described: &FunctionDescription,
    ) -> Result<(), CallError> {
        let expected = type_name::<F>();
        let found = &described.signature;
        let Some(types) = &described.types else {
            let why = if described.is_async {
                "it is async; call it with `invoke_async`"
            } else {
                "a type of its signature is not `Shared`, or it has more than 8 parameters"
            };
            return Err(self.refused(version, &format!("`{}{found}`: {why}", self.name)));
        };
        let difference = types.args.difference(&self.types.args);
        let difference = difference.or_else(|| types.result.difference(&self.types.result));
        match difference {
            None => Ok(()),
            Some(what) => Err(self.refused(
                version,
                &format!("its signature is `{found}`, and `{expected}` is expected: {what}"),
            )),
        }
    }

    fn refused(&self, version: &Version, why: &str) -> CallError {
        CallError::signature(version, &self.name, why)
    }
}

impl<F> fmt::Debug for Func<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Func({}::{} as {})", self.plugin, self.name, type_name::<F>())
    }
}

/// A function that may be called.
struct Found<'a> {
    version: &'a Arc<Version>,
    place: usize,
    target: TypedTarget,
}

/// Where a function was found last.
///
/// What is here may be gone. It is taken at its word only by a thread whose slot holds the version,
/// and which then sees that the generation of that number still serves.
#[derive(Default)]
struct Known {
    /// The generation in which it was found, as [`Current::number`] counts them; 0 while the rest is
    /// being written. A generation is written once only, so who reads the same number before and
    /// after has read what belongs to it.
    generation: AtomicU64,
    version: AtomicPtr<Version>,
    counts: AtomicPtr<CallCounts>,
    place: AtomicUsize,
    context: AtomicPtr<Context<'static>>,
    call: AtomicPtr<()>,
    /// The newest generation that was written.
    newest: Mutex<u64>,
}

impl Known {
    /// Enters the version, and counts the call; none when the function is not known to be there, the
    /// call is to be timed, or the thread has no slot at hand.
    #[inline(always)]
    fn enter(&self, current: &Current) -> Option<(Entered, *const Version, TypedTarget)> {
        let entered = Entered::at_hand()?;
        // Acquire: what was written before the number is there.
        let generation = self.generation.load(Ordering::Acquire);
        let version = self.version.load(Ordering::Relaxed);
        let counts = self.counts.load(Ordering::Relaxed);
        let place = self.place.load(Ordering::Relaxed);
        let context = self.context.load(Ordering::Relaxed);
        let call = self.call.load(Ordering::Relaxed);
        entered.try_hold(version, place);
        // What was read belongs together if nothing was written meanwhile, and the version is held
        // if its generation still serves.
        fence(Ordering::Acquire);
        let is_valid =
            generation == self.generation.load(Ordering::Relaxed) && generation == current.number();
        // SAFETY: the counts are the version's, which is held, and the place is one in it.
        if !is_valid || !unsafe { (*counts).count_untimed(slots::this_thread(), place) } {
            entered.leave_quietly();
            return None;
        }
        // SAFETY: `set` made the word of a function of this type.
        let call = unsafe { mem::transmute::<*mut (), TypedCall>(call) };
        Some((entered, version, TypedTarget { context, call }))
    }

    /// Remembers where the function is in a generation.
    fn set(&self, generation: u64, version: &Arc<Version>, place: usize, target: TypedTarget) {
        let Some(counts) = version.counts() else { return };
        let generation = number_of(generation);
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if generation <= *newest {
            return;
        }
        *newest = generation;
        self.generation.store(0, Ordering::Relaxed);
        // Release: who reads anything of what follows does not find the old number afterwards.
        fence(Ordering::Release);
        self.version.store(Arc::as_ptr(version).cast_mut(), Ordering::Relaxed);
        self.counts.store(ptr::from_ref(counts).cast_mut(), Ordering::Relaxed);
        self.place.store(place, Ordering::Relaxed);
        self.context.store(target.context.cast_mut(), Ordering::Relaxed);
        self.call.store(target.call as *mut (), Ordering::Relaxed);
        self.generation.store(generation, Ordering::Release);
    }
}

macro_rules! signatures {
    ($(($($name:ident $arg:ident),*)),* $(,)?) => {
        $(
            impl<Out: Shared, $($name: Shared),*> Signature for fn($($name),*) -> Out {
                type Args = ($($name,)*);
                type Result = Out;
            }

            impl<Out: Shared, $($name: Shared),*> Func<fn($($name),*) -> Out> {
                /// Calls the function.
                ///
                /// # Errors
                /// As [`call_with`](Self::call_with).
                #[inline]
                #[allow(clippy::too_many_arguments, reason = "as many as the function has")]
                pub fn call(&self, $($arg: $name),*) -> Result<Out, CallError> {
                    self.call_with(($($arg,)*))
                }
            }
        )*
    };
}

signatures! {
    (),
    (A a),
    (A a, B b),
    (A a, B b, C c),
    (A a, B b, C c, D d),
    (A a, B b, C c, D d, E e),
    (A a, B b, C c, D d, E e, F f),
    (A a, B b, C c, D d, E e, F f, G g),
    (A a, B b, C c, D d, E e, F f, G g, H h),
}
