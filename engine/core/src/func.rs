//! Functions called with Rust types, followed across reloads.

use std::{
    any::type_name,
    fmt,
    marker::PhantomData,
    mem::{ManuallyDrop, MaybeUninit},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hotswap_plugin::{FunctionDescription, FunctionTypes, Shared, TypeSchema, abi::Outcome};

use crate::{
    CallError, PluginManager,
    current::Current,
    lease::Lease,
    manager::same_name,
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
    /// Where the function was found last, and in which version, in one word: two threads may be at
    /// two versions. See [`Known`].
    known: AtomicU64,
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
            known: AtomicU64::new(0),
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
        let (version, found) = self.current.enter(|serving| {
            let found = self.find(serving)?;
            Ok((found.version, found.place, (found.place, found.target)))
        })?;
        let (place, target) = found;
        let mut args = ManuallyDrop::new(args);
        let mut out = MaybeUninit::<Outcome<F::Result>>::uninit();
        let begun = version.begin_call(place);
        // SAFETY: the version is in use, so its image is mapped. The function has the types of `F`,
        // as its schemas were compared: it takes the arguments over, and fills the place.
        let outcome = unsafe {
            let args = (&raw mut args).cast();
            (target.call)(&*target.context, args, out.as_mut_ptr().cast());
            out.assume_init()
        };
        version.end_call(place, begun);
        match outcome {
            Outcome::Ok(mut value) => {
                F::Result::rehome(&mut value);
                Ok(value)
            }
            Outcome::Err(error) => Err(CallError::failed(&version, &self.name, error)),
            Outcome::Panic(report) => Err(CallError::panicked(&version, &self.name, &report)),
        }
    }

    /// The function in the generation that serves.
    #[inline(always)]
    fn find<'a>(&self, serving: &'a PluginManager) -> Result<Found<'a>, CallError> {
        let known = Known(self.known.load(Ordering::Relaxed));
        if let Some(lease) = serving.versions.get(known.position())
            && lease.version().serial == known.serial()
            && let Some(target) = lease.version().typed_target(known.place())
        {
            return Ok(Found { version: lease.version(), place: known.place(), target });
        }
        self.search(serving)
    }

    /// As `find`, from scratch; remembers where it is.
    #[cold]
    fn search<'a>(&self, serving: &'a PluginManager) -> Result<Found<'a>, CallError> {
        let mut versions = serving.versions.iter().map(Lease::version).enumerate();
        let found = versions.find(|(_, version)| same_name(version.name(), &self.plugin));
        let Some((position, version)) = found else {
            let error = serving.unknown(&self.plugin);
            return Err(CallError::gone(&self.plugin, &self.name, &error));
        };
        let (place, described) = version.function(&self.name).ok_or_else(|| {
            let names = version.function_names().join(", ");
            self.refused(version, &format!("there is no such function; there are {names}"))
        })?;
        self.expect_types(version, described)?;
        let target = version.typed_target(place);
        let target =
            target.ok_or_else(|| self.refused(version, "it cannot be called with Rust types"))?;
        if let Some(known) = Known::new(version.serial, position, place) {
            self.known.store(known.0, Ordering::Relaxed);
        }
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

/// A version's serial, its position in the generation, and a function's place in it. 0 is none: no
/// version has the serial 0.
#[derive(Clone, Copy)]
struct Known(u64);

impl Known {
    /// How many bits position and place have each.
    const BITS: u32 = 12;
    const MASK: u64 = (1 << Self::BITS) - 1;

    /// None where they do not fit.
    fn new(serial: u64, position: usize, place: usize) -> Option<Self> {
        let small = |number: usize| u64::try_from(number).ok().filter(|small| *small <= Self::MASK);
        let serial = serial.checked_mul(1 << (2 * Self::BITS))?;
        Some(Self(serial | small(position)? << Self::BITS | small(place)?))
    }

    fn serial(self) -> u64 {
        self.0 >> (2 * Self::BITS)
    }

    fn position(self) -> usize {
        (self.0 >> Self::BITS & Self::MASK) as usize
    }

    fn place(self) -> usize {
        (self.0 & Self::MASK) as usize
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
