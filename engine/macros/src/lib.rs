//! The attributes and derives of Hotswap.
//!
//! Plugins use them through `hotswap_plugin`, whose documentation has examples.
//!
//! | macro | goes on | what it does |
//! |---|---|---|
//! | [`#[plugin]`](macro@plugin) | `impl Plugin for Type` | makes the type this crate's plugin |
//! | [`#[invoke]`](macro@invoke) | a function | makes it callable by name |
//! | [`#[live]`](macro@live) | a function, a type, a module | lets hosts find it by name expect_no_bounds |
//! | [`#[interface]`](macro@interface) | a trait | lets objects of it cross between images |
//! | [`Shared`] | a struct or enum | lets its values cross between images |
//! | [`Imports`] | a struct | asks for objects that other plugins export |
//!
//! Generated code looks for `hotswap_plugin` under that name. A crate that reaches it by another path names
//! the path to each macro: `#[plugin(crate = engine::hotswap_plugin)]`, and in the same way to `invoke`,
//! `live` and `interface`; `#[shared(crate = …)]` beside `#[derive(Shared)]`; and `#[import(crate = …)]`
//! beside `#[derive(Imports)]`.
//!
//! Each macro has a file of its own, and works in two steps. `parse` checks the item, and reports an error at
//! the wrong token. `expand` then generates code that uses only the public items of `hotswap_plugin` and
//! `hotswap_plugin::__private`.

#![forbid(unsafe_code)]

// Where generated code finds `hotswap_plugin`.
mod api;
// The plugin.
mod plugin;
// What a host calls by name. `live` on a function expands as `invoke` does.
mod invoke;
mod live;
// What crosses between images by type.
mod imports;
mod interface;
mod shared;

use proc_macro::TokenStream;
use syn::parse_macro_input;

use api::Api;

/// Makes a type this crate's plugin. It goes on the block `impl Plugin for Type`.
///
/// The type must implement `Default`, with which the engine creates the instance. A crate has one
/// plugin, which should be in the crate's root: `static_plugins![the_crate]` looks for it there.
///
/// ```
/// use hotswap_plugin::prelude::*;
///
/// #[derive(Default)]
/// struct World;
///
/// #[plugin]
/// impl Plugin for World {}
/// # fn main() {}
/// ```
#[proc_macro_attribute]
pub fn plugin(args: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::ItemImpl);
    attribute(args, |args| plugin::Plugin::parse(args, item).map(plugin::Plugin::expand))
}

/// Makes a function callable by name. Callers also see its signature, doc comment and JSON Schema.
///
/// Parameters implement `serde::Deserialize` and `schemars::JsonSchema`. The result implements
/// `serde::Serialize` and `JsonSchema`. If the function returns a `Result`, this goes for the `Ok` type, and
/// an error becomes an error of the call. The function can be `async`.
///
/// Leading parameters that are references are passed by the engine, and are not part of the signature:
/// `&Vault`, and a reference to the plugin's own type.
///
/// ```
/// use hotswap_plugin::prelude::*;
///
/// #[derive(Default)]
/// struct World;
///
/// #[plugin]
/// impl Plugin for World {}
///
/// /// Greets someone.
/// #[invoke]
/// fn greet(_world: &World, _vault: &Vault, name: String) -> Result<String> {
///     Ok(format!("Hello, {name}!"))
/// }
/// # fn main() {}
/// ```
///
/// `#[invoke(effects)]` says that a call has effects, such as sending a message, and must not be repeated
/// automatically. Hotswap then calls the function only when somebody asks for that call: it cannot be pinned.
#[proc_macro_attribute]
pub fn invoke(args: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::ItemFn);
    attribute(args, |args| invoke::Invoke::parse(args, item).map(invoke::Invoke::expand))
}

/// Makes a function or a type live: a host finds it by its name alone, without the plugin's name, and always
/// in the newest generation.
///
/// A function has the form that [`invoke`](macro@invoke) asks for, and `#[live(effects)]` means the same as
/// `#[invoke(effects)]`. Only one plugin of a generation can have a live function of a given name. A type
/// implements `serde::Serialize` and `serde::Deserialize`; `schemars::JsonSchema` is derived if the type does
/// not have it.
///
/// On a module, `#[live]` makes all functions and types in it live whose names begin with `live_`, so nobody
/// has to keep a list. Case and underscores do not count: `LiveJob` begins with `live_`. `#[live(prefix =
/// "job_")]` chooses another prefix. A module inside the module needs a `#[live]` of its own. `hotswap build
/// -v` reports items that have a live name but are not live.
///
/// If a type has a `JsonSchema` of its own, the macro must see it. It sees one that is derived below
/// `#[live]`; in a marked module, it also sees one that is derived above `#[live]` or implemented by hand. In
/// all other cases (a derive above `#[live]` in an unmarked module, an implementation in another module, or
/// one that a macro generates), write `#[live(own_schema)]` on the type.
#[proc_macro_attribute]
pub fn live(args: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::Item);
    attribute(args, |args| live::expand(args, item))
}

/// Lets objects of a trait cross between images, so that one plugin can export and another import them.
///
/// Methods take `&self`. Parameters are `Shared` types or references to them, and results are `Shared` types.
/// Objects can cross as well: `Box<dyn Interface>` and `&dyn Interface` as parameters, `Box<dyn Interface>`
/// as a result, and the handle `Leased<dyn Interface>` in place of any type.
///
/// | a method | is |
/// |---|---|
/// | with a default body | a method like others: the object's own one runs |
/// | `async fn`, with owned parameters | one that returns its future in a box; an implementation that writes `async fn` has `#[interface]` on its `impl` |
/// | with a default body and `where Self: Sized` | a helper, which may be generic; it does not cross |
///
/// The trait gets the supertraits `Send` and `Sync`. `dyn Interface`, `Box<dyn Interface>` and
/// `Leased<dyn Interface>` implement it.
#[proc_macro_attribute]
pub fn interface(args: TokenStream, item: TokenStream) -> TokenStream {
    match parse_macro_input!(item as syn::Item) {
        syn::Item::Trait(item) => attribute(args, |args| {
            interface::Interface::parse(args, item).map(interface::Interface::expand)
        }),
        syn::Item::Impl(item) => attribute(args, |args| interface::implementation(&args, item)),
        other => {
            let message = "#[interface] goes on a trait, or on an implementation of one";
            syn::Error::new_spanned(other, message).to_compile_error().into()
        }
    }
}

/// Lets values of a struct or enum cross between images. The type of every field must be `Shared`.
#[proc_macro_derive(Shared, attributes(shared))]
pub fn shared(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::DeriveInput);
    derive("shared", item, |item| shared::SharedType::parse(item).map(shared::SharedType::expand))
}

/// Makes a struct a plugin's imports, with a field for each object that another plugin exports.
///
/// A field is a `Leased<dyn Interface>`, or an `Option` of one if the other plugin can be missing. The field
/// has the name of the other plugin, or gives that name with `#[import("name")]`. `#[import(after = "name")]`
/// on the struct asks that a plugin loads earlier, without importing anything from it; with `optional`, that
/// plugin can be missing.
#[proc_macro_derive(Imports, attributes(import))]
pub fn imports(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::DeriveInput);
    derive("import", item, |item| imports::ImportSet::parse(item).map(imports::ImportSet::expand))
}

/// Code that makes a second item of this kind and name in one crate a compile error that shows both, whatever
/// modules they are in: exported macros all have their place at the crate's root.
fn refuse_second_item(kind: &str, name: &syn::Ident) -> proc_macro2::TokenStream {
    use syn::ext::IdentExt as _;

    let once = quote::format_ident!("hotswap_{kind}_{}", name.unraw(), span = name.span());
    quote::quote_spanned! {name.span()=>
        #[doc(hidden)]
        #[allow(non_local_definitions, unused_macros)]
        #[macro_export]
        macro_rules! #once {
            () => {};
        }
    }
}

/// Expands an attribute. Its arguments may say where `hotswap_plugin` is.
fn attribute(
    args: TokenStream,
    expand: impl FnOnce(proc_macro2::TokenStream) -> syn::Result<proc_macro2::TokenStream>,
) -> TokenStream {
    finish(Api::take(args.into()).and_then(|(api, args)| Ok(api.rename(expand(args)?))))
}

/// Expands a derive. Its helper attribute `name` may say where `hotswap_plugin` is.
fn derive(
    name: &str,
    mut item: syn::DeriveInput,
    expand: impl FnOnce(syn::DeriveInput) -> syn::Result<proc_macro2::TokenStream>,
) -> TokenStream {
    let api = Api::take_attribute(&mut item.attrs, name);
    finish(api.and_then(|api| Ok(api.rename(expand(item)?))))
}

fn finish(expanded: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    expanded.unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Whether the arguments of an attribute on a function are `effects`. Other arguments are refused.
fn has_effects_argument(args: &proc_macro2::TokenStream, attribute: &str) -> syn::Result<bool> {
    if args.is_empty() {
        return Ok(false);
    }
    match syn::parse2::<syn::Ident>(args.clone()) {
        Ok(word) if word == "effects" => Ok(true),
        _ => {
            let message = format!("#[{attribute}] takes no arguments but `effects`");
            Err(syn::Error::new_spanned(args, message))
        }
    }
}

/// Refuses arguments of an attribute that takes none.
fn no_arguments(args: &proc_macro2::TokenStream, attribute: &str) -> syn::Result<()> {
    if args.is_empty() {
        return Ok(());
    }
    Err(syn::Error::new_spanned(args, format!("#[{attribute}] takes no arguments")))
}
