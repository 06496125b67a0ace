//! The attributes and derives of Hotswap: `#[plugin]`, `#[invoke]`, `#[interface]`, `Shared`.
//!
//! Plugins use them through `hotswap_plugin`, whose documentation shows them at work. Each macro
//! parses first and expands after; what it generates calls only `hotswap_plugin::__private`.

#![forbid(unsafe_code)]

mod imports;
mod interface;
mod invoke;
mod live;
mod plugin;
mod shared;

use proc_macro::TokenStream;
use syn::parse_macro_input;

/// Makes a type this crate's plugin: stands on its `impl Plugin for Type` block.
///
/// The type needs `Default`, by which the engine makes the instance. One per crate, and best in its
/// root: `static_plugins![the_crate]` looks for it there.
#[proc_macro_attribute]
pub fn plugin(args: TokenStream, item: TokenStream) -> TokenStream {
    let args = proc_macro2::TokenStream::from(args);
    let item = parse_macro_input!(item as syn::ItemImpl);
    finish(plugin::Plugin::parse(args, item).map(plugin::Plugin::expand))
}

/// Makes a function callable by name, with its signature, docs and JSON Schema.
///
/// Parameters implement `serde::Deserialize` and `schemars::JsonSchema`, the result
/// `serde::Serialize` and `JsonSchema`; a `Result` is unwrapped. Leading parameters that are
/// references are handed in by the engine and are not part of the signature: `&Vault`, and a
/// reference to the plugin's own type.
#[proc_macro_attribute]
pub fn invoke(args: TokenStream, item: TokenStream) -> TokenStream {
    let args = proc_macro2::TokenStream::from(args);
    let item = parse_macro_input!(item as syn::ItemFn);
    finish(invoke::Invoke::parse(args, item).map(invoke::Invoke::expand))
}

/// Makes a function or a type live: found by name alone, in the newest generation.
///
/// A function is as for [`invoke`](macro@invoke), and its name is the only one in its generation. A
/// type implements `serde::Serialize`, `serde::Deserialize` and `schemars::JsonSchema`.
///
/// On a module, `#[live]` or `#[live(prefix = "job_")]` makes live what its name says, so that there
/// is no list to keep: functions and types whose names begin with `live_`, without regard to case
/// and underscores.
#[proc_macro_attribute]
pub fn live(args: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::Item);
    finish(live::expand(args.into(), item))
}

/// Lets objects of a trait cross between images.
///
/// Methods take `&self`; parameters are `Shared` types or references to them, results are `Shared`.
#[proc_macro_attribute]
pub fn interface(args: TokenStream, item: TokenStream) -> TokenStream {
    let args = proc_macro2::TokenStream::from(args);
    let item = parse_macro_input!(item as syn::ItemTrait);
    finish(interface::Interface::parse(args, item).map(interface::Interface::expand))
}

/// Lets values of a struct or enum cross between images; every field must be `Shared`.
#[proc_macro_derive(Shared)]
pub fn shared(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::DeriveInput);
    finish(shared::SharedType::parse(item).map(shared::SharedType::expand))
}

/// Makes a struct a plugin's imports, a field for each plugin that it needs.
///
/// A field is a `Leased<dyn Interface>`, or an `Option` of one for a plugin that can be missing. The
/// plugin is that of the field's name, or of `#[import("name")]`.
#[proc_macro_derive(Imports, attributes(import))]
pub fn imports(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::DeriveInput);
    finish(imports::ImportSet::parse(item).map(imports::ImportSet::expand))
}

fn finish(expanded: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    expanded.unwrap_or_else(syn::Error::into_compile_error).into()
}

/// An attribute's arguments, where there are none to give.
fn no_arguments(args: &proc_macro2::TokenStream, attribute: &str) -> syn::Result<()> {
    if args.is_empty() {
        return Ok(());
    }
    Err(syn::Error::new_spanned(args, format!("#[{attribute}] takes no arguments")))
}
