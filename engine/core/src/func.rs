//! Functions called with Rust types, followed across reloads.

use std::{
    any::type_name,
    fmt,
    marker::PhantomData,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use hotswap_plugin::{FunctionDescription, FunctionTypes, Shared, TypeSchema, abi::Outcome};

use crate::{
    CallError, EngineError,
    engine::Inner,
    lease::{Lease, LeaseKind},
    manager::same_name,
    thread::checkpoint,
    version::Version,
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
    engine: Weak<Inner>,
    plugin: String,
    name: String,
    types: FunctionTypes,
    /// The version that was checked last and the number of the function in it, in one word: two
    /// threads may be at two versions. See [`checked`].
    checked: AtomicU64,
    signature: PhantomData<fn() -> F>,
}

impl<F: Signature> Func<F> {
    /// A function of a plugin that serves now.
    pub(crate) fn new(engine: &Arc<Inner>, plugin: &str, name: &str) -> Result<Self, CallError> {
        let func = Self {
            engine: Arc::downgrade(engine),
            plugin: plugin.to_owned(),
            name: name.to_owned(),
            types: FunctionTypes {
                args: TypeSchema::of::<F::Args>(),
                result: TypeSchema::of::<F::Result>(),
            },
            checked: AtomicU64::new(0),
            signature: PhantomData,
        };
        let lease = func.lease()?;
        func.check(lease.version())?;
        Ok(func)
    }

    /// Calls the function with its arguments as a tuple.
    ///
    /// # Errors
    /// When the plugin or the function is gone or has another signature now, and when the function
    /// fails or panics.
    pub fn call_with(&self, args: F::Args) -> Result<F::Result, CallError> {
        checkpoint();
        let lease = self.lease()?;
        let version = lease.version();
        let known = self.checked.load(Ordering::Relaxed);
        let index = if known >> INDEX_BITS == version.serial {
            (known & MAX_INDEX) as usize
        } else {
            self.check(version)?
        };
        version.count_call(&self.name);
        // SAFETY: the function of this number has the types of `F`: its schemas were compared.
        let outcome = unsafe { lease.image().invoke_typed(index, args) };
        match outcome {
            Some(Outcome::Ok(mut value)) => {
                F::Result::rehome(&mut value);
                Ok(value)
            }
            Some(Outcome::Err(error)) => Err(CallError::failed(&lease, &self.name, error)),
            Some(Outcome::Panic(report)) => Err(CallError::panicked(&lease, &self.name, &report)),
            None => Err(self.refused(version, "it cannot be called with Rust types")),
        }
    }

    fn lease(&self) -> Result<Lease, CallError> {
        let gone = |error: &EngineError| CallError::gone(&self.plugin, &self.name, error);
        let engine = self.engine.upgrade().ok_or_else(|| gone(&EngineError::ShutDown))?;
        let current = engine.current();
        let mut serving = current.versions.iter();
        let lease = serving.find(|lease| same_name(lease.version().name(), &self.plugin));
        match lease {
            Some(lease) => Ok(lease.another(LeaseKind::Call)),
            None => match current.plugin(&self.plugin) {
                Err(error) => Err(gone(&error)),
                Ok(_) => Err(gone(&EngineError::ShutDown)),
            },
        }
    }

    /// Compares the function of a version with what is expected; remembers its number.
    fn check(&self, version: &Arc<Version>) -> Result<usize, CallError> {
        let described = version.function(&self.name);
        let described = described.ok_or_else(|| {
            let names = version.function_names().join(", ");
            self.refused(version, &format!("there is no such function; there are {names}"))
        })?;
        self.expect_types(version, described)?;
        if let Some(checked) = checked(version, described.index) {
            self.checked.store(checked, Ordering::Relaxed);
        }
        Ok(described.index)
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

/// How many bits of the word are for the function's number.
const INDEX_BITS: u32 = 16;

/// The largest number that has room.
const MAX_INDEX: u64 = (1 << INDEX_BITS) - 1;

/// A version's serial and a function's number in one word; none where they do not fit.
fn checked(version: &Version, index: usize) -> Option<u64> {
    let index = u64::try_from(index).ok().filter(|index| *index <= MAX_INDEX)?;
    Some(version.serial.checked_mul(1 << INDEX_BITS)? | index)
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
