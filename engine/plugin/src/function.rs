//! What `#[invoke]` collects: callable functions with their signature and JSON Schema.

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, ErrorKind, Plugin, Result, Value, Vault};

/// A function declared by `#[invoke]`.
#[doc(hidden)]
pub struct Function {
    /// The path of the module it stands in; its first part is the crate.
    pub module: &'static str,
    /// Whether it is found by name alone, in the newest generation.
    pub is_live: bool,
    pub name: &'static str,
    pub signature: &'static str,
    pub doc: &'static str,
    pub params: fn() -> Vec<Parameter>,
    pub returns: fn() -> String,
    pub call: fn(&Context<'_>, &[Value]) -> Result<Value>,
}

/// A parameter of a [`Function`]: name, type as written, JSON Schema.
#[doc(hidden)]
pub type Parameter = (&'static str, &'static str, String);

/// What the engine hands a function beside its arguments.
#[doc(hidden)]
pub struct Context<'a> {
    pub vault: &'a Vault,
    pub plugin: &'a dyn Plugin,
}

impl<'a> Context<'a> {
    /// The plugin's instance, for a function that asks for it.
    ///
    /// # Errors
    /// When the plugin is of another type than the function asks for.
    pub fn plugin<P: Plugin>(&self) -> Result<&'a P> {
        let plugin: &dyn std::any::Any = self.plugin;
        plugin.downcast_ref().ok_or_else(|| {
            let wanted = std::any::type_name::<P>();
            Error::msg(format_args!("the function asks for `&{wanted}`, which is not the plugin"))
        })
    }
}

/// All functions of all plugins in this binary; a plugin's own are those of its crate.
#[doc(hidden)]
#[linkme::distributed_slice]
pub static FUNCTIONS: [Function];

/// What a plugin tells the engine of one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionDescription {
    /// Its number in the image.
    pub index: usize,
    /// Whether it is a live function.
    pub is_live: bool,
    /// Its name.
    pub name: String,
    /// `(name: String, times: u32) -> String`
    pub signature: String,
    /// Its doc comment.
    pub doc: String,
    /// Its parameters in order.
    pub params: Vec<ParamDescription>,
    /// The JSON Schema of its result, as text.
    pub returns: String,
}

/// What a plugin tells the engine of one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamDescription {
    /// Its name.
    pub name: String,
    /// Its Rust type as written.
    pub type_name: String,
    /// Its JSON Schema, as text.
    pub schema: String,
}

/// A type declared by `#[live]`.
#[doc(hidden)]
pub struct LiveType {
    /// The path of the module it stands in; its first part is the crate.
    pub module: &'static str,
    pub name: &'static str,
    pub doc: &'static str,
    pub schema: fn() -> String,
    /// Reads a value as this type and writes it anew, which fills in what it lacks.
    pub renew: fn(&Value) -> Result<Value>,
}

/// All live types of all plugins in this binary; a plugin's own are those of its crate.
#[doc(hidden)]
#[linkme::distributed_slice]
pub static LIVE_TYPES: [LiveType];

/// What a plugin tells the engine of one live type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTypeDescription {
    /// Its number in the image.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Its doc comment.
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

/// What a [`LiveType`] does with a value; `#[live]` names it.
#[doc(hidden)]
pub fn renew<T: Serialize + DeserializeOwned>(value: &Value) -> Result<Value> {
    Value::from_serialize(&value.to::<T>()?)
}

impl Function {
    /// Describes the functions of one crate, sorted by name.
    pub(crate) fn describe_all(module: &str) -> Vec<FunctionDescription> {
        let krate = crate_of(module);
        let own = FUNCTIONS.iter().enumerate().filter(|(_, f)| crate_of(f.module) == krate);
        let mut all: Vec<_> = own.map(|(index, function)| function.describe(index)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn describe(&self, index: usize) -> FunctionDescription {
        let params = (self.params)().into_iter().map(|(name, type_name, schema)| {
            ParamDescription { name: name.into(), type_name: type_name.into(), schema }
        });
        FunctionDescription {
            index,
            is_live: self.is_live,
            name: self.name.into(),
            signature: self.signature.into(),
            doc: self.doc.into(),
            params: params.collect(),
            returns: (self.returns)(),
        }
    }
}

fn crate_of(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

/// Refuses a call with too many or too few arguments.
#[doc(hidden)]
pub fn expect_arguments(args: &[Value], count: usize, signature: &str) -> Result<()> {
    if args.len() == count {
        return Ok(());
    }
    let found = args.len();
    let message = format!("expected {count} arguments, found {found}: {signature}");
    Err(Error::new(ErrorKind::BadArgument, message))
}

/// Reads argument number `index` of a call.
#[doc(hidden)]
pub fn argument<T: DeserializeOwned>(args: &[Value], index: usize, name: &str) -> Result<T> {
    let arg = args.get(index).unwrap_or(&Value::Null);
    arg.to().map_err(|error| {
        let number = index + 1;
        let message = format!("argument {number} (`{name}`): {}", error.message());
        Error::new(ErrorKind::BadArgument, message)
    })
}

/// The JSON Schema of a type, as text.
#[doc(hidden)]
pub fn schema<T: JsonSchema>() -> String {
    serde_json::to_string(&schemars::schema_for!(T)).unwrap_or_else(|_| "true".into())
}
