//! The functions and types that `#[invoke]` and `#[live]` collect, with signatures and JSON Schemas.

use std::{marker::PhantomData, pin::Pin};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Error, ErrorKind, Plugin, Result, Shared, TypeSchema, Value, Vault, abi::Answer,
    collected::collected, image::catch_in_call,
};

/// A function declared by `#[invoke]`.
#[doc(hidden)]
pub struct Function {
    /// The path of the function's module; its first part is the crate.
    pub module: &'static str,
    /// Whether it is a live function.
    pub is_live: bool,
    /// Whether its author says that a call must not be repeated automatically.
    pub has_effects: bool,
    pub name: &'static str,
    pub signature: &'static str,
    pub doc: &'static str,
    pub params: &'static [Parameter],
    pub returns: fn() -> String,
    pub call: Call,
    /// Its types; `None` if one of them is not `Shared`.
    pub types: fn() -> Option<FunctionTypes>,
    /// How to call it with Rust types, if all of them are `Shared`. The address is data, and no code computes
    /// it: a patch that replaces the function contains another description of the function.
    pub typed: TypedCall,
}

/// How to call a function by name.
#[doc(hidden)]
pub enum Call {
    /// A function that returns its result.
    Sync(fn(&Context<'_>, &[Value]) -> Result<Value>),
    /// An `async` function, which returns a future. The context lives as long as the image, and the future's
    /// lease keeps the image mapped.
    Async(fn(&Context<'static>, &[Value]) -> Result<CallFuture>),
}

/// The future of a call of an `async` function.
#[doc(hidden)]
pub type CallFuture = Pin<Box<dyn Future<Output = Result<Value>> + Send>>;

/// Moves the arguments, a tuple, out of `args`, and writes an `Answer` to `out`. The answer has the result,
/// or the future of an `async` function.
///
/// The context lives as long as the image. The caller keeps the image mapped during the call, and until the
/// future of an `async` function is dropped.
#[doc(hidden)]
pub type TypedCall = unsafe fn(&'static Context<'static>, args: *mut (), out: *mut ());

/// The address of a function's description. The description lies in the image that returned it, or in a patch
/// that was loaded beside that image. The address is valid as long as the image is open.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct FunctionRef(*const Function);

// SAFETY: the description is a static, which is `Sync`.
unsafe impl Send for FunctionRef {}
// SAFETY: as above.
unsafe impl Sync for FunctionRef {}

impl FunctionRef {
    /// The function that is described at an address.
    pub fn at(address: *const ()) -> Self {
        Self(address.cast())
    }

    /// The description.
    ///
    /// # Safety
    /// There is a description at the address, and it is not unmapped.
    pub(crate) unsafe fn get(self) -> &'static Function {
        // SAFETY: the caller's promise.
        unsafe { &*self.0 }
    }
}

/// A function's description of itself, and how to call the function.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct DescribedFunction {
    /// The function.
    pub function: FunctionRef,
    /// How to call it with Rust types; `None` if a type of its signature is not `Shared`.
    pub typed: Option<TypedCall>,
    /// The description.
    pub description: FunctionDescription,
}

/// The types of a function that can be called with Rust types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionTypes {
    /// The type of its arguments, a tuple.
    pub args: TypeSchema,
    /// The type of its result.
    pub result: TypeSchema,
}

impl FunctionTypes {
    /// The first difference between these types, which were found, and the expected ones, as text; `None` if
    /// there is none.
    pub fn difference(&self, expected: &Self) -> Option<String> {
        let difference = self.args.difference(&expected.args);
        difference.or_else(|| self.result.difference(&expected.result))
    }
}

/// Finds out at compile time whether the types of a signature are `Shared`: if they are, method calls resolve
/// to the inherent methods, and otherwise to those of the trait [`NotShared`].
#[doc(hidden)]
pub struct Probe<A, R>(pub PhantomData<fn(A) -> R>);

impl<A: Shared, R: Shared> Probe<A, R> {
    /// The function's types.
    pub fn types(&self) -> Option<FunctionTypes> {
        Some(FunctionTypes { args: TypeSchema::of::<A>(), result: TypeSchema::of::<R>() })
    }

    /// Rehomes arguments that another image made.
    pub fn rehome(&self, args: &mut A) {
        args.rehome();
    }
}

/// The methods of a [`Probe`] whose types are not `Shared`.
#[doc(hidden)]
pub trait NotShared<A> {
    fn types(&self) -> Option<FunctionTypes> {
        None
    }

    fn rehome(&self, _: &mut A) {}
}

impl<A, R> NotShared<A> for Probe<A, R> {}

/// The callee's side of a typed call: runs `f` with the arguments, and catches its panic.
///
/// # Safety
/// `args` points to an `A` that is not used again, and `out` to room for an `Answer<R>`.
#[doc(hidden)]
#[inline(always)]
pub unsafe fn dispatch_typed<A, R>(
    args: *mut (),
    out: *mut (),
    rehome: impl FnOnce(&mut A),
    f: impl FnOnce(A) -> Result<R>,
) {
    // SAFETY: the caller's promise.
    let mut args = unsafe { args.cast::<A>().read() };
    let answer = catch_in_call(|| {
        rehome(&mut args);
        Answer::from_result(f(args))
    });
    let out = out.cast::<Answer<R>>();
    match answer {
        // Writing the value directly, instead of the whole `answer` with its room for an error, makes
        // calls measurably faster.
        // SAFETY: the caller's promise.
        Answer::Ok(value) => unsafe { out.write(Answer::Ok(value)) },
        // SAFETY: the caller's promise.
        other => unsafe { out.write(other) },
    }
}

/// A parameter of a [`Function`]: name, type as written, JSON Schema.
#[doc(hidden)]
pub type Parameter = (&'static str, &'static str, fn() -> String);

/// What a function can ask for besides its arguments.
#[doc(hidden)]
pub struct Context<'a> {
    pub vault: &'a Vault,
    pub plugin: &'a dyn Plugin,
}

impl<'a> Context<'a> {
    /// The plugin's instance.
    ///
    /// # Errors
    /// If the plugin is not a `P`.
    pub fn plugin<P: Plugin>(&self) -> Result<&'a P> {
        let plugin: &dyn std::any::Any = self.plugin;
        plugin.downcast_ref().ok_or_else(|| {
            let wanted = std::any::type_name::<P>();
            Error::msg(format_args!(
                "the function takes `&{wanted}`, which is not the plugin's type"
            ))
        })
    }
}

collected!(
    /// The functions of all plugins in this binary. Those of one plugin have its crate's name in `module`.
    #[doc(hidden)]
    FUNCTIONS: Function,
    "hotswap_functions"
);

/// A function with `#[invoke]` or `#[live]`, as a plugin describes it to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionDescription {
    /// Whether it is a live function.
    pub is_live: bool,
    /// Whether it is `async`.
    pub is_async: bool,
    /// Whether its author says, with `effects`, that a call has effects and must not be repeated
    /// automatically.
    pub has_effects: bool,
    /// The function's name.
    pub name: String,
    /// Its parameters and its result as written: `(name: String, times: u32) -> String`.
    pub signature: String,
    /// Its doc comment; empty if it has none.
    pub doc: String,
    /// Its parameters in order, without those that the engine passes.
    pub params: Vec<ParamDescription>,
    /// The JSON Schema of its result, as text.
    pub returns: String,
    /// Its types; `None` if it cannot be called with Rust types.
    pub types: Option<FunctionTypes>,
}

/// A parameter of a [`FunctionDescription`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamDescription {
    /// The parameter's name.
    pub name: String,
    /// Its Rust type as written.
    pub type_name: String,
    /// Its JSON Schema, as text.
    pub schema: String,
}

/// A type declared by `#[live]`.
#[doc(hidden)]
pub struct LiveType {
    /// The path of the type's module; its first part is the crate.
    pub module: &'static str,
    pub name: &'static str,
    pub doc: &'static str,
    pub schema: fn() -> String,
    /// Reads a value as this type and converts it back, which adds the fields that the value lacks.
    pub renew: fn(&Value) -> Result<Value>,
}

collected!(
    /// The live types of all plugins in this binary. Those of one plugin have its crate's name in `module`.
    #[doc(hidden)]
    LIVE_TYPES: LiveType,
    "hotswap_live_types"
);

/// A type with `#[live]`, as a plugin describes it to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTypeDescription {
    /// The type's number in its image, from 0.
    pub index: usize,
    /// The type's name.
    pub name: String,
    /// Its doc comment; empty if it has none.
    pub doc: String,
    /// Its JSON Schema, as text.
    pub schema: String,
}

impl LiveType {
    /// Describes the live types of one crate, sorted by name.
    pub(crate) fn describe_all(module: &str) -> Vec<LiveTypeDescription> {
        let krate = crate_of(module);
        let own = LIVE_TYPES.iter().enumerate().filter(|(_, live)| crate_of(live.module) == krate);
        let described = own.map(|(index, live)| LiveTypeDescription {
            index,
            name: live.name.into(),
            doc: live.doc.into(),
            schema: (live.schema)(),
        });
        let mut all: Vec<_> = described.collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// The function of [`LiveType::renew`].
#[doc(hidden)]
pub fn renew<T: Serialize + DeserializeOwned>(value: &Value) -> Result<Value> {
    Value::from_serialize(&value.to::<T>()?)
}

impl Function {
    /// Describes the functions of one crate, sorted by name.
    pub(crate) fn describe_all(module: &str) -> Vec<DescribedFunction> {
        let krate = crate_of(module);
        let own = FUNCTIONS.iter().filter(|function| crate_of(function.module) == krate);
        let mut all: Vec<_> = own.map(Self::described).collect();
        all.sort_by(|a, b| a.description.name.cmp(&b.description.name));
        all
    }

    /// The function's description of itself.
    pub(crate) fn described(&self) -> DescribedFunction {
        let description = self.describe();
        let typed = description.types.is_some().then_some(self.typed);
        DescribedFunction { function: FunctionRef(self), typed, description }
    }

    fn describe(&self) -> FunctionDescription {
        let params = self.params.iter().map(|(name, type_name, schema)| {
            let (name, type_name) = ((*name).into(), (*type_name).into());
            ParamDescription { name, type_name, schema: schema() }
        });
        FunctionDescription {
            is_live: self.is_live,
            is_async: matches!(self.call, Call::Async(_)),
            has_effects: self.has_effects,
            name: self.name.into(),
            signature: self.signature.into(),
            doc: self.doc.into(),
            params: params.collect(),
            returns: (self.returns)(),
            types: (self.types)(),
        }
    }
}

fn crate_of(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

/// Refuses a call with too few or too many arguments.
#[doc(hidden)]
pub fn expect_arguments(args: &[Value], count: usize, signature: &str) -> Result<()> {
    if args.len() == count {
        return Ok(());
    }
    let found = args.len();
    let arguments = if count == 1 { "argument" } else { "arguments" };
    let message = format!("expected {count} {arguments}, found {found}: {signature}");
    Err(Error::new(ErrorKind::BadArgument, message))
}

/// Turns an error that a function returned into a failure of that function. The function may pass on an error
/// of a call that it made itself, which can say that *that* call was wrong. This is not a fault of the
/// function's caller.
#[doc(hidden)]
#[cold]
pub fn failure_of(error: impl Into<Error>) -> Error {
    error.into().into_failure()
}

/// Reads argument number `index` of a call.
#[doc(hidden)]
pub fn argument<T: DeserializeOwned>(args: &[Value], index: usize, name: &str) -> Result<T> {
    argument_at(args, index).to().map_err(|error| bad_argument(index, name, &error))
}

fn argument_at(args: &[Value], index: usize) -> &Value {
    args.get(index).unwrap_or(&Value::Null)
}

#[cold]
fn bad_argument(index: usize, name: &str, error: &Error) -> Error {
    let number = index + 1;
    let message = format!("argument {number} (`{name}`): {}", error.message());
    Error::new(ErrorKind::BadArgument, message)
}

/// The JSON Schema of a type, as text.
#[doc(hidden)]
pub fn schema<T: JsonSchema>() -> String {
    text_of(&schemars::schema_for!(T))
}

fn text_of(schema: &schemars::Schema) -> String {
    serde_json::to_string(schema).unwrap_or_else(|_| "true".into())
}
