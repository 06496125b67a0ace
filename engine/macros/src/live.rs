//! `#[live]` on a function, a type, or a module: registers functions and types that a host finds by their
//! names alone.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{
    Attribute, Error, Generics, Ident, Item, ItemImpl, ItemMod, LitStr, Meta, Path, Result, Token,
    Type, ext::IdentExt as _, parse_quote, punctuated::Punctuated, spanned::Spanned,
};

use crate::{
    invoke::{Invoke, doc, without_parentheses},
    refuse_second_item,
};

/// The default prefix of live names in a marked module.
const PREFIX: &str = "live_";

/// The environment variable by which a build chooses another prefix: `hotswap_protocol::env::LIVE_PREFIX`.
const PREFIX_ENV: &str = "HOTSWAP_LIVE_PREFIX";

/// Expands `#[live]`.
pub fn expand(args: TokenStream, item: Item) -> Result<TokenStream> {
    match item {
        Item::Mod(module) => expand_module(&args, module),
        Item::Fn(function) => Ok(Invoke::live(&args, function)?.expand()),
        Item::Struct(item) => {
            let live = live_type(&item.ident, &item.generics, &item.attrs)?;
            let schema = schema_derive(args, &item.attrs)?;
            Ok(quote!(#schema #item #live))
        }
        Item::Enum(item) => {
            let live = live_type(&item.ident, &item.generics, &item.attrs)?;
            let schema = schema_derive(args, &item.attrs)?;
            Ok(quote!(#schema #item #live))
        }
        other => Err(Error::new(
            other.span(),
            "#[live] goes on a function, a struct, an enum, or a module of these",
        )),
    }
}

/// Marks each item of the module `#[live]` whose name begins with the prefix, ignoring case. Names of types
/// have no underscores, so names are compared without them.
fn expand_module(args: &TokenStream, mut module: ItemMod) -> Result<TokenStream> {
    let prefix = prefix(args)?;
    let Some((_, items)) = &mut module.content else {
        return Err(Error::new(
            module.span(),
            "#[live] needs the module's content: `mod name { … }`",
        ));
    };
    let is_live = |name: &Ident| plain(&name.unraw().to_string()).starts_with(&plain(&prefix));
    let own_schemas = own_schemas(items);
    for item in items {
        match item {
            Item::Fn(item) => mark(is_live(&item.sig.ident), &[], &mut item.attrs),
            Item::Struct(item) => {
                mark(is_live(&item.ident), &schemas_of(&item.ident, &own_schemas), &mut item.attrs);
            }
            Item::Enum(item) => {
                mark(is_live(&item.ident), &schemas_of(&item.ident, &own_schemas), &mut item.attrs);
            }
            _ => {}
        }
    }
    // Makes cargo compile a plugin that is linked into a host again when the variable changes. Builds of
    // plugins pass the prefix to the compiler in another way, and are replayed without cargo.
    Ok(quote! {
        #[allow(unexpected_cfgs)]
        const _: () = {
            #[cfg(not(hotswap_cdylib))]
            const _: ::core::option::Option<&str> = ::core::option_env!(#PREFIX_ENV);
        };
        #module
    })
}

/// Marks an item `#[live]` before all its other attributes: an attribute above `#[live]` would be expanded
/// first, and `#[live]` would not see what it derives. `schemas` are the conditions under which the item has
/// a `JsonSchema` of its own.
fn mark(is_live: bool, schemas: &[TokenStream], attributes: &mut Vec<Attribute>) {
    let marked = attributes.iter().position(|attribute| is_named(attribute.path(), "live"));
    let (path, args) = match marked.map(|place| attributes.remove(place).meta) {
        Some(Meta::List(list)) => (list.path, list.tokens),
        Some(meta) => (meta.path().clone(), TokenStream::new()),
        // The macro on the item does not see the module's arguments, so the crate's path is repeated.
        None if is_live => (parse_quote!(::hotswap_plugin::live), quote!(crate = ::hotswap_plugin)),
        None => return,
    };
    let marks: Vec<Attribute> = match schemas {
        [] => vec![parse_quote!(#[#path(#args)])],
        schemas => vec![
            parse_quote!(#[cfg_attr(any(#(#schemas),*), #path(own_schema, #args))]),
            parse_quote!(#[cfg_attr(not(any(#(#schemas),*)), #path(#args))]),
        ],
    };
    attributes.splice(0..0, marks);
}

/// The types for which a module implements `JsonSchema` by hand, each with the condition of that
/// implementation.
fn own_schemas(items: &[Item]) -> Vec<(Ident, TokenStream)> {
    let mut found = Vec::new();
    for item in items {
        match item {
            Item::Impl(item) => found.extend(own_schema(item)),
            Item::Mod(ItemMod { content: Some((_, items)), .. }) => {
                found.extend(own_schemas(items))
            }
            _ => {}
        }
    }
    found
}

fn own_schema(item: &ItemImpl) -> Option<(Ident, TokenStream)> {
    let (implemented, _) = item.trait_.as_ref()?;
    let Type::Path(path) = without_parentheses(&item.self_ty) else { return None };
    let name = &path.path.segments.last()?.ident;
    let conditions = item.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    let conditions = conditions.filter_map(|cfg| cfg.parse_args::<TokenStream>().ok());
    is_named(implemented, "JsonSchema").then(|| (name.clone(), quote!(all(#(#conditions),*))))
}

/// The conditions of a type's own implementations of `JsonSchema`.
fn schemas_of(name: &Ident, all: &[(Ident, TokenStream)]) -> Vec<TokenStream> {
    all.iter().filter(|(other, _)| other == name).map(|(_, condition)| condition.clone()).collect()
}

/// A name in the form in which it is compared with the prefix.
fn plain(text: &str) -> String {
    text.replace('_', "").to_lowercase()
}

/// The prefix in `#[live(prefix = "job_")]`, or the one that the build chooses, or the default.
fn prefix(args: &TokenStream) -> Result<String> {
    let mut prefix = None;
    let parser = syn::meta::parser(|meta| {
        if !meta.path.is_ident("prefix") {
            return Err(meta.error("#[live] on a module takes `prefix = \"…\"`"));
        }
        prefix = Some(meta.value()?.parse::<LitStr>()?.value());
        Ok(())
    });
    syn::parse::Parser::parse2(parser, args.clone())?;
    let prefix = prefix.or_else(|| std::env::var(PREFIX_ENV).ok());
    let prefix = prefix.unwrap_or_else(|| PREFIX.into());
    if plain(&prefix).is_empty() {
        let message =
            format!("the live prefix {prefix:?} has no letter: every name begins with it");
        return Err(Error::new(Span::call_site(), message));
    }
    Ok(prefix)
}

/// The derive of the JSON Schema, unless the type has one of its own: by a derive below `#[live]`; by a
/// derive above, of which only `#[schemars(crate = …)]` is visible; or in a way that `#[live(own_schema)]`
/// declares.
fn schema_derive(args: TokenStream, attributes: &[Attribute]) -> Result<Option<TokenStream>> {
    let is_named = has_own_schema_argument(args)?;
    let is_own = is_named || derives_schema(attributes) || names_schema_crate(attributes);
    Ok((!is_own).then(|| {
        quote! {
            #[derive(::hotswap_plugin::JsonSchema)]
            #[schemars(crate = "::hotswap_plugin::schemars")]
        }
    }))
}

/// Whether the arguments of `#[live]` on a type are `own_schema`.
fn has_own_schema_argument(args: TokenStream) -> Result<bool> {
    let mut is_named = false;
    let parser = syn::meta::parser(|meta| {
        if !meta.path.is_ident("own_schema") {
            return Err(meta.error(
                "#[live] on a type takes only `own_schema`, for a type with a `JsonSchema` that the \
                 attribute cannot see",
            ));
        }
        is_named = true;
        Ok(())
    });
    syn::parse::Parser::parse2(parser, args)?;
    Ok(is_named)
}

fn derives_schema(attributes: &[Attribute]) -> bool {
    let derives = attributes.iter().filter(|attribute| attribute.path().is_ident("derive"));
    // If a derive cannot be parsed, the compiler reports it.
    let parse = Punctuated::<Path, Token![,]>::parse_terminated;
    let mut derived = derives.filter_map(|derive| derive.parse_args_with(parse).ok()).flatten();
    derived.any(|path| is_named(&path, "JsonSchema"))
}

/// Whether there is a `#[schemars(crate = "…")]`, which is only written on types that derive `JsonSchema`.
fn names_schema_crate(attributes: &[Attribute]) -> bool {
    let parse = Punctuated::<Meta, Token![,]>::parse_terminated;
    let schemars = attributes.iter().filter(|attribute| attribute.path().is_ident("schemars"));
    let mut arguments =
        schemars.filter_map(|attribute| attribute.parse_args_with(parse).ok()).flatten();
    arguments.any(|meta| meta.path().is_ident("crate"))
}

/// Whether the last part of a path is `name`: `live`, `hotswap_plugin::live`.
fn is_named(path: &Path, name: &str) -> bool {
    path.segments.last().is_some_and(|segment| segment.ident == name)
}

/// Registers a type as live.
fn live_type(name: &Ident, generics: &Generics, attributes: &[Attribute]) -> Result<TokenStream> {
    if !generics.params.is_empty() {
        let message = "a live type cannot be generic";
        return Err(Error::new(generics.span(), message));
    }
    let private = quote!(::hotswap_plugin::__private);
    let text = name.unraw().to_string();
    let doc = doc(attributes);
    let static_name = format_ident!("__HOTSWAP_LIVE_{text}");
    let once = refuse_second_item("live_type", name);
    Ok(quote! {
        #once

        #[used]
        #[unsafe(link_section = "hotswap_live_types")]
        #[doc(hidden)]
        #[allow(deprecated, non_upper_case_globals)]
        static #static_name: #private::LiveType = #private::LiveType {
            module: ::core::module_path!(),
            name: #text,
            doc: #doc,
            schema: #private::schema::<#name>,
            renew: #private::renew::<#name>,
        };
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derives_schema(item: Item) -> bool {
        let expanded = expand(TokenStream::new(), item).unwrap().to_string();
        expanded.contains("derive (:: hotswap_plugin :: JsonSchema)")
    }

    #[test]
    fn the_schema_is_derived_unless_the_author_derives_it() {
        assert!(derives_schema(parse_quote!(
            struct Job;
        )));
        assert!(derives_schema(parse_quote!(
            #[derive(Clone, MyJsonSchemaLike)]
            struct Job;
        )));
        assert!(derives_schema(parse_quote!(
            #[derive(JsonSchema::Other)]
            enum Job {}
        )));
        assert!(!derives_schema(parse_quote!(
            #[derive(Clone, JsonSchema)]
            struct Job;
        )));
        assert!(!derives_schema(parse_quote!(
            #[derive(Clone, schemars::JsonSchema)]
            struct Job;
        )));
    }

    #[test]
    fn items_that_are_marked_in_a_module_are_not_marked_again() {
        let expanded = expand(
            TokenStream::new(),
            parse_quote!(
                mod jobs {
                    #[hotswap_plugin::live]
                    fn live_one() {}
                    #[live]
                    fn live_two() {}
                }
            ),
        );
        let file: syn::File = syn::parse2(expanded.unwrap()).unwrap();
        let Some(Item::Mod(module)) = file.items.into_iter().next_back() else {
            panic!("a module")
        };
        for item in module.content.unwrap().1 {
            let Item::Fn(function) = item else { panic!("a function") };
            assert_eq!(function.attrs.len(), 1);
        }
    }

    #[test]
    fn a_prefix_without_a_letter_is_refused() {
        for args in [quote!(prefix = ""), quote!(prefix = "_")] {
            let error = expand(
                args,
                parse_quote!(
                    mod jobs {}
                ),
            )
            .unwrap_err()
            .to_string();
            assert!(error.contains("has no letter"), "{error}");
        }
    }

    #[test]
    fn the_variable_of_the_prefix_is_the_one_that_a_build_sets() {
        assert_eq!(PREFIX_ENV, hotswap_protocol::env::LIVE_PREFIX);
    }
}
