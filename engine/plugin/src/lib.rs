//! The crate that a Hotswap plugin depends on: the [`Plugin`] trait, the [`Vault`], and the attributes.
//!
//! A plugin is an ordinary library crate:
//!
//! ```
//! use hotswap_plugin::prelude::*;
//!
//! /// Greets whoever asks.
//! #[derive(Default)]
//! struct World;
//!
//! #[plugin]
//! impl Plugin for World {
//!     fn on_init(&self, vault: &Vault) -> Result<()> {
//!         vault.data_bag().carry("greetings", || 0_u64)?; // taken over from the version before
//!         Ok(())
//!     }
//! }
//!
//! /// Says hello.
//! #[invoke]
//! fn greet(vault: &Vault, name: String, times: u32) -> Result<String> {
//!     vault.data_bag().update("greetings", || 0_u64, |count| *count += u64::from(times))?;
//!     Ok(vec![format!("Hello, {name}!"); times as usize].join(" "))
//! }
//! # fn main() {}
//! ```
//!
//! `hotswap build` compiles the crate to a shared library, with `--cfg hotswap_cdylib`. Only with that flag
//! does `#[plugin]` emit what a loaded image needs: its descriptor, its allocator, its log forwarder, and the
//! hooks that let the engine unmap it. In every other build the crate stays a plain library.
//!
//! # Features
//!
//! | to | use |
//! |---|---|
//! | be a plugin, and follow the life of a version | [`Plugin`], [`#[plugin]`](macro@plugin) |
//! | offer functions that hosts, plugins and consoles call by name | [`#[invoke]`](macro@invoke), [`Value`] |
//! | report errors | [`Result`], [`Error`], [`ErrorKind`] |
//! | keep a value across reloads, and share it | [`Vault::data_bag`], [`DataBag::carry`], [`Carried`] |
//! | let a type of your own cross between images | [`#[derive(Shared)]`](derive@Shared), [`Shared`](trait@Shared) |
//! | let trait objects cross | [`#[interface]`](macro@interface), [`Leased`] |
//! | let a stream of values cross | [`LeasedStream`] |
//! | let a value of somebody else's type cross | [`BySerde`] |
//! | let bytes cross without a copy, from and to `bytes::Bytes` | `SharedBytes`, with the feature `bytes` |
//! | migrate a value by hand | [`DataBag::carry_from`], [`MigrateFrom`] |
//! | export an object to other plugins | [`Plugin::export`], [`Export`] |
//! | import what other plugins export | [`#[derive(Imports)]`](derive@Imports), [`Plugin::import`], [`ImportSet`] |
//! | register objects with the host, and find those of others | [`Vault::extension`], [`Extension`] |
//! | have jobs done by the newest code | [`#[live]`](macro@live), [`Vault::live`], [`Live`], [`Data`] |
//! | run tasks, and wait | [`rt`] |
//! | write to the host's log | the crates `tracing` and `log`, as in any program |
//! | link plugins into a host | [`static_plugins!`], [`StaticPlugin`] |
//! | describe functions and types, for hosts and tools | [`FunctionDescription`], [`TypeSchema`], [`InterfaceShape`], [`schema_changes`] |
//!
//! [`prelude`] has what a plugin's source needs, in one `use`.
//!
//! # Under another name
//! A crate that depends on this crate by another name, or through another crate, names the path to each
//! macro: `#[plugin(crate = engine::hotswap_plugin)]`, and in the same way to `invoke`, `live` and
//! `interface`; `#[shared(crate = …)]` beside `#[derive(Shared)]`; and `#[import(crate = …)]` beside
//! `#[derive(Imports)]`.

// The gate accepts an image only if the host's compiler built it, so any type may cross; see `abi`.
#![allow(improper_ctypes_definitions)]

// The macros generate paths that begin with this crate's name, also in its own tests.
#[cfg(test)]
extern crate self as hotswap_plugin;

// A plugin, and the values that cross in its calls.
mod common;
mod data;
mod error;
mod hint;
mod plugin;
mod value;
// What plugins and host share: functions, objects, types and values.
mod collected;
mod dependency;
mod function;
mod interface;
mod shared;
mod vault;
// Tasks and futures on the host's runtime.
mod future;
pub mod rt;
mod stream;
// A value as JSON, in parts: to migrate it, and to preview it.
mod parts;
mod preview;
mod serializer;
mod stack;
// What a thread notes about itself.
mod notes;
// The code of a loaded image, and the functions through which host and image call each other.
#[doc(hidden)]
pub mod abi;
mod export;
mod image;

pub use data::{Data, SchemaChange, SchemaChangeKind, schema_changes};
pub use dependency::{
    BoundObject, Export, Import, ImportRequest, ImportSet, ImportTarget, Imports,
};
pub use error::{Error, ErrorKind, Result};
pub use function::{FunctionDescription, FunctionTypes, LiveTypeDescription, ParamDescription};
/// Implements [`ImportSet`] for a struct. That trait has an example.
pub use hotswap_macros::Imports;
/// Implements [`trait@Shared`] for a struct or an enum. That trait has an example.
pub use hotswap_macros::Shared;
/// Lets other images call the methods of a trait object: see [`Interface`], [`Leased`] and [`Export`].
///
/// ```
/// use hotswap_plugin::prelude::*;
///
/// #[interface]
/// pub trait Shelf {
///     fn get(&self, key: &str) -> Option<Vec<u8>>;
///     fn put(&self, key: String, value: Vec<u8>) -> Result<()>;
/// }
/// ```
pub use hotswap_macros::interface;
/// Lets hosts, plugins and consoles call a function by name.
///
/// ```
/// use hotswap_plugin::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Default)]
/// struct Post {
///     office: String,
/// }
///
/// #[plugin]
/// impl Plugin for Post {}
///
/// #[derive(Serialize, Deserialize, JsonSchema)]
/// struct Letter {
///     to: String,
///     /// In grams.
///     weight: u32,
/// }
///
/// /// The comment is what consoles show. The engine passes the instance and the Vault; callers pass the other
/// /// arguments.
/// #[invoke]
/// fn send(post: &Post, vault: &Vault, letter: Letter) -> Result<String> {
///     if letter.weight > 1000 {
///         return Err(Error::msg("a letter weighs at most 1,000 g"));
///     }
///     vault.data_bag().update("letters", || 0_u64, |letters| *letters += 1)?;
///     Ok(format!("from {} to {}", post.office, letter.to))
/// }
///
/// /// A call can be cancelled while it waits.
/// #[invoke]
/// async fn wait(seconds: u64) -> Result<()> {
///     hotswap_plugin::rt::sleep(std::time::Duration::from_secs(seconds)).await
/// }
/// # fn main() {}
/// ```
pub use hotswap_macros::invoke;
/// Lets hosts and plugins find a function or a type by its name alone: see [`Live`].
///
/// ```
/// use hotswap_plugin::prelude::*;
///
/// #[live]
/// mod jobs {
///     use hotswap_plugin::prelude::*;
///     use serde::{Deserialize, Serialize};
///
///     /// Live, since its name begins with `live`.
///     #[derive(Serialize, Deserialize)]
///     pub struct LiveFire {
///         rounds: u32,
///         #[serde(default)] // jobs that are queued already have no such field
///         pace: String,
///     }
///
///     /// Live, too.
///     pub fn live_fire(vault: &Vault, fire: LiveFire) -> Result<String> {
///         done(vault)?;
///         Ok(vec!["Bang!"; fire.rounds as usize].join(" "))
///     }
///
///     /// Not live.
///     fn done(vault: &Vault) -> Result<()> {
///         vault.data_bag().update("jobs done", || 0_u64, |done| *done += 1)
///     }
/// }
/// # fn main() {}
/// ```
pub use hotswap_macros::live;
pub use hotswap_macros::plugin;
pub use image::StaticPlugin;
pub use interface::{Interface, InterfaceShape, Leased, MethodShape, ObjectOf};
pub use plugin::Plugin;
pub use schemars::{self, JsonSchema};
#[cfg(feature = "bytes")]
pub use shared::SharedBytes;
pub use shared::{
    BySerde, Field, ObjectMethod, SchemaBuilder, Shape, Shared, TypeNode, TypeSchema, Variant,
};
pub use stream::LeasedStream;
pub use value::Value;
pub use vault::{Carried, DataBag, Extension, Live, MigrateFrom, Vault};

/// Everything that a plugin's source needs, in one `use`.
///
/// ```
/// use hotswap_plugin::prelude::*;
/// ```
///
/// `derive(JsonSchema)` generates paths that begin with `schemars`, so the prelude has that crate, too.
pub mod prelude {
    pub use crate::{
        Data, DataBag, Error, Export, Extension, ImportTarget, Imports, JsonSchema, Leased,
        MigrateFrom, Plugin, Result, Shared, Value, Vault, interface, invoke, live, plugin,
        schemars,
    };
}

/// The items that generated code uses. They change without notice.
#[doc(hidden)]
pub mod __private {
    pub use crate::abi::{HostTable, PluginTable, descriptor::Descriptor};
    pub use crate::common::compile_common;
    pub use crate::error::causes_from;
    pub use crate::function::{
        Call, CallFuture, Context, DescribedFunction, Function, FunctionRef, LiveType, NotShared,
        Parameter, Probe, TypedCall, argument, dispatch_typed, expect_arguments, failure_of, renew,
        schema,
    };
    pub use crate::future::{ForeignFuture, Progress, RawFuture};
    pub use crate::image::{
        HOST_SECTION, HostAllocator, Inside as InsideLinked, attach, attach_linked, end_panic,
        hooks,
    };
    pub use crate::interface::{
        Lent,
        raw::{
            BoxFuture, Lease, Method, ObjectTable, RawObject, borrowed, dispatch, dispatch_async,
            invoke_async, invoke_method, lent,
        },
    };
    pub use crate::notes::Notes;
    pub use crate::parts::{Change, Digest, Kind, Parts, Patch, Wanted, digest_seed};
    pub use crate::preview::{Bounds, Cut, Preview, look};
    pub use crate::shared::{PointsHome, discriminant, expect_tag, rehome_field};
    pub use crate::stack::expect_stack;
    pub use crate::vault::raw::{CarryTable, RawValue, ValueCallback, ValueTable};
    pub use crate::vault::table::VaultServices;
    pub use std::marker::PhantomData;
}
