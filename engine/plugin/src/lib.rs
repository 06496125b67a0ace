//! What a Hotswap plugin depends on: the `Plugin` trait, the Vault, and the attributes.
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
//!         vault.data_bag().set("greetings", 0_u64)
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
//! `hotswap build` makes a shared library of it, with `--cfg hotswap_cdylib`. Only then does
//! `#[plugin]` emit what a loaded image needs: its descriptor, its allocator, its log forwarder
//! and the hooks that let the engine unmap it. Everywhere else it stays a plain library.

// Everything that crosses is compiled by one compiler, which the gate makes sure of; see `abi`.
#![allow(improper_ctypes_definitions)]

// What the macros write names this crate, also in its own tests.
#[cfg(test)]
extern crate self as hotswap_plugin;

mod data;
mod error;
mod plugin;
mod value;

mod dependency;
mod interface;
mod shared;
mod vault;

mod export;
mod function;
mod future;
mod image;
mod parts;
mod preview;
pub mod rt;

#[doc(hidden)]
pub mod abi;

pub use data::{Data, SchemaChange, schema_changes};
pub use dependency::{
    BoundObject, Export, Import, ImportRequest, ImportSet, ImportTarget, Imports,
};
pub use error::{Error, ErrorKind, Result};
pub use function::{FunctionDescription, FunctionTypes, LiveTypeDescription, ParamDescription};
pub use hotswap_macros::{Imports, Shared, interface, invoke, live, plugin};
pub use image::StaticPlugin;
pub use interface::{Interface, InterfaceShape, Leased, MethodShape, ObjectOf};
pub use plugin::Plugin;
pub use schemars::{self, JsonSchema};
pub use shared::{Field, SchemaBuilder, Shape, Shared, TypeNode, TypeSchema, Variant};
pub use value::Value;
pub use vault::{Carried, DataBag, Extension, Live, Vault};

/// What a plugin's source needs, in one `use`.
pub mod prelude {
    pub use crate::{
        Data, DataBag, Error, Export, Extension, ImportTarget, Imports, JsonSchema, Leased, Plugin,
        Result, Shared, Value, Vault, interface, invoke, live, plugin,
    };
}

#[doc(hidden)]
pub mod __private {
    pub use crate::abi::{HostTable, PluginTable, descriptor::Descriptor};
    pub use crate::function::{
        Call, CallFuture, Context, FUNCTIONS, Function, LIVE_TYPES, LiveType, NotShared, Parameter,
        Probe, Typed, TypedCall, argument, dispatch_typed, expect_arguments, renew, schema,
    };
    pub use crate::future::{ForeignFuture, Progress, RawFuture};
    pub use crate::image::{HOST_SECTION, HostAllocator, attach, attach_linked, end_panic, hooks};
    pub use crate::interface::{
        Lent,
        raw::{Lease, Method, ObjectTable, RawObject, dispatch, invoke_method},
    };
    pub use crate::parts::{Change, Digest, Kind, Parts, Patch, Wanted};
    pub use crate::preview::{Bounds, Cut, Preview, look};
    pub use crate::shared::{SHARED_TYPES, discriminant, expect_tag, rehome_field};
    pub use crate::vault::raw::{CarryTable, RawValue, ValueCallback, ValueTable};
    pub use linkme;
    pub use std::marker::PhantomData;
}
