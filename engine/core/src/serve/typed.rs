//! Functions that are called with Rust types and follow reloads.

mod asynchronous;
mod expected;
mod known;

use std::{
    any::type_name,
    collections::BTreeSet,
    fmt,
    hash::BuildHasher,
    sync::{Arc, Mutex},
};

use hotswap_plugin::Shared;
use rustc_hash::FxBuildHasher;

use super::{current::Current, error::CallError, generation::Generation};
use crate::{
    lock::Lock as _,
    version::{TypedTarget, Version, lease::Lease},
};
pub use asynchronous::{AsyncFunc, FuncCall};
use expected::Expected;
use known::Known;

/// A function pointer type that names the parameters and the result of a function: `fn(f32) -> String`.
///
/// Function pointers with up to eight parameters implement it. All types must be `Shared`, and must borrow
/// nothing:
///
/// ```compile_fail,E0277
/// # use hotswap_engine::Engine;
/// fn lend(engine: &Engine) {
///     let _ = engine.func::<fn(&'static str) -> u32>("world", "greet");
/// }
/// ```
///
/// There is no need to implement it for other types. Doing so would be safe: the engine compares the types
/// themselves.
pub trait Signature: 'static {
    /// The parameters, as a tuple.
    type Args: Shared;
    /// The result.
    type Result: Shared;
}

/// A plugin's function that is called with Rust types.
///
/// It follows every reload: each call goes to the version that serves. While a `Func` exists, a reload that
/// would change the signature of the function or remove it is refused, unless
/// [`publish_breaking`](crate::EngineBuilder::publish_breaking) is set. If such a reload is published, or the
/// plugin is unloaded, calls return an error that shows both signatures, until another reload brings the
/// function back.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let engine = hotswap_engine::Engine::builder("plugins").build()?;
/// let describe = engine.func::<fn(f32) -> String>("physics", "describe")?;
/// println!("{}", describe.call(9.81)?);
/// # Ok(())
/// # }
/// ```
pub struct Func<F> {
    current: Arc<Current>,
    plugin: String,
    name: String,
    expected: Expected<F>,
    known: Known,
}

impl<F: Signature> Func<F> {
    /// A function of a plugin that serves now.
    pub(crate) fn new(current: &Arc<Current>, plugin: &str, name: &str) -> Result<Self, CallError> {
        let expected = Expected::new(false);
        let func = Self {
            current: current.clone(),
            plugin: plugin.to_owned(),
            name: name.to_owned(),
            expected,
            known: Known::new(),
        };
        func.search(&current.load())?;
        func.expected.announce(current.expectations(), Some(plugin), name);
        Ok(func)
    }

    /// Calls the function with its arguments as a tuple.
    ///
    /// # Errors
    /// If the plugin or the function is gone, or the function has another signature now, or it fails or
    /// panics.
    #[inline]
    pub fn call_with(&self, args: F::Args) -> Result<F::Result, CallError> {
        let Some(call) = self.known.enter(&self.current, |_, _| true) else {
            return self.call_timed(args);
        };
        // SAFETY: the version is in use until the call's end, and its function has the types of `F`.
        unsafe { self.expected.run(&call, &self.name, call.target, args) }
    }

    /// Calls like `call_with`, if the place of the function is not known, the call is timed, or no slot can
    /// be used without a fence.
    #[cold]
    fn call_timed(&self, args: F::Args) -> Result<F::Result, CallError> {
        let (version, (place, target)) = self.current.enter(&self.name, |serving| {
            let found = self.search(serving)?;
            Ok((found.lease, found.place, (found.place, found.target)))
        })?;
        let begun = version.begin_call(place);
        let _linked = version.image().note_linked();
        // SAFETY: as in `call_with`.
        let result = unsafe { self.expected.run(&version, &self.name, target, args) };
        version.end_call(place, begun);
        result
    }

    /// The function in the generation that serves. Its place is remembered.
    fn search<'a>(&self, serving: &'a Generation) -> Result<Found<'a>, CallError> {
        let found = Found::search(&self.expected, serving, &self.plugin, &self.name)?;
        self.known.set(serving.number, found.lease, found.place, found.target);
        Ok(found)
    }
}

impl<F> fmt::Debug for Func<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Func({}::{} as {})", self.plugin, self.name, type_name::<F>())
    }
}

/// A function that may be called.
struct Found<'a> {
    lease: &'a Lease,
    place: usize,
    target: TypedTarget,
}

impl<'a> Found<'a> {
    /// The function of a plugin in a generation, if it has these types.
    fn search<F: Signature>(
        expected: &Expected<F>,
        serving: &'a Generation,
        plugin: &str,
        name: &str,
    ) -> Result<Self, CallError> {
        let lease = serving.find(plugin);
        let lease = lease.map_err(|error| CallError::gone(plugin, name, &error))?;
        let version = lease.version();
        let (place, described) = version.function(name).ok_or_else(|| {
            CallError::signature(lease.faced(), name, &version.has_no_such_function())
        })?;
        let target = expected.target(lease, place, described)?;
        Ok(Found { lease, place, target })
    }
}

/// The live functions with one signature. Each call finds its function by name.
///
/// The name is looked up in the generation that serves at the time of the call, so a job that was queued
/// before a reload runs the newest code. After a name was called, a reload that would give it another
/// signature is refused, as for a [`Func`]. A reload that removes the name is not refused.
pub struct LiveFuncs<F> {
    current: Arc<Current>,
    expected: Expected<F>,
    /// The places where functions were found last. The hash of a name gives two places for it. A function for
    /// which both are taken is looked up in each call.
    known: Box<[Known; KNOWN]>,
    /// The names that were called. A live function with one of these names must keep its types.
    announced: Mutex<BTreeSet<String>>,
}

/// The number of places that a [`LiveFuncs`] remembers.
const KNOWN: usize = 64;

impl<F: Signature> LiveFuncs<F> {
    pub(crate) fn new(current: &Arc<Current>) -> Self {
        let known = Box::new([const { Known::new() }; KNOWN]);
        let (current, announced) = (current.clone(), Mutex::default());
        Self { current, expected: Expected::new(false), known, announced }
    }

    /// Calls the live function named `name` with its arguments as a tuple.
    ///
    /// # Errors
    /// If no plugin has a live function of that name, or the function has another signature, or it fails or
    /// panics.
    #[inline]
    pub fn call(&self, name: &str, args: F::Args) -> Result<F::Result, CallError> {
        let is_it = |version: &Version, place| version.function_name(place) == Some(name);
        let [first, second] = self.known(name);
        let known = first.enter(&self.current, is_it);
        let Some(call) = known.or_else(|| second.enter(&self.current, is_it)) else {
            return self.call_timed(name, args);
        };
        // SAFETY: the version is in use until the call's end, and its function has the types of `F`.
        unsafe { self.expected.run(&call, &name, call.target, args) }
    }

    /// Calls like `call`, in the cases of `call_timed` of [`Func`].
    #[cold]
    fn call_timed(&self, name: &str, args: F::Args) -> Result<F::Result, CallError> {
        let (version, (place, target)) = self.current.enter(name, |serving| {
            let (lease, place, described) = serving.live_function(name)?;
            let target = self.expected.target(lease, place, described)?;
            let [first, second] = self.known(name);
            if !first.set(serving.number, lease, place, target) {
                second.set(serving.number, lease, place, target);
            }
            Ok((lease, place, (place, target)))
        })?;
        self.announce(name);
        let begun = version.begin_call(place);
        let _linked = version.image().note_linked();
        // SAFETY: as in `call`.
        let result = unsafe { self.expected.run(&version, &name, target, args) };
        version.end_call(place, begun);
        result
    }

    fn announce(&self, name: &str) {
        let mut announced = self.announced.locked();
        if !announced.contains(name) {
            self.expected.announce(self.current.expectations(), None, name);
            announced.insert(name.to_owned());
        }
    }

    #[inline(always)]
    fn known(&self, name: &str) -> [&Known; 2] {
        let hash = FxBuildHasher.hash_one(name) as usize;
        [hash, hash >> 32].map(|place| &self.known[place % KNOWN])
    }
}

impl<F> fmt::Debug for LiveFuncs<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveFuncs({})", type_name::<F>())
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

            impl<Out: Shared, $($name: Shared),*> AsyncFunc<fn($($name),*) -> Out> {
                /// Begins a call: see [`call_with`](Self::call_with).
                #[allow(clippy::too_many_arguments, reason = "as many as the function has")]
                pub fn call(&self, $($arg: $name),*) -> FuncCall<Out> {
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
