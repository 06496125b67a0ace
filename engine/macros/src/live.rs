//! `#[live]` on a function, a type, or a module: registers functions and types that a host finds by
//! their name alone.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{
    Attribute, Error, Generics, Ident, Item, ItemMod, LitStr, Path, Result, Token, parse_quote,
    punctuated::Punctuated, spanned::Spanned,
};

use crate::{
    invoke::{Invoke, doc},
    no_arguments, once_in_a_crate,
};

/// The prefix of live names in a marked module, unless the author or the build chooses another.
const PREFIX: &str = "live_";

/// The environment variable with which a build chooses another prefix:
/// `hotswap_protocol::env::LIVE_PREFIX`.
const PREFIX_ENV: &str = "HOTSWAP_LIVE_PREFIX";

/// Expands `#[live]`.
pub fn expand(args: TokenStream, item: Item) -> Result<TokenStream> {
    match item {
        Item::Mod(module) => expand_module(&args, module),
        item => {
            no_arguments(&args, "live")?;
            expand_item(item)
        }
    }
}

fn expand_item(item: Item) -> Result<TokenStream> {
    match item {
        Item::Fn(function) => Ok(Invoke::live(function)?.expand()),
        Item::Struct(item) => {
            let live = live_type(&item.ident, &item.generics, &item.attrs)?;
            let schema = schema_derive(&item.attrs);
            Ok(quote!(#schema #item #live))
        }
        Item::Enum(item) => {
            let live = live_type(&item.ident, &item.generics, &item.attrs)?;
            let schema = schema_derive(&item.attrs);
            Ok(quote!(#schema #item #live))
        }
        other => Err(Error::new(
            other.span(),
            "#[live] goes on a function, a struct, an enum, or a module of these",
        )),
    }
}

/// Marks each item of the module `#[live]` whose name begins with the prefix, without regard to case.
/// Types' names have no underscores, so names are compared without them.
fn expand_module(args: &TokenStream, mut module: ItemMod) -> Result<TokenStream> {
    let prefix = prefix(args)?;
    let Some((_, items)) = &mut module.content else {
        return Err(Error::new(
            module.span(),
            "#[live] needs the module's content: `mod name { … }`",
        ));
    };
    let is_live = |name: &Ident| plain(&name.to_string()).starts_with(&plain(&prefix));
    for item in items {
        let attributes = match item {
            Item::Fn(item) if is_live(&item.sig.ident) => &mut item.attrs,
            Item::Struct(item) if is_live(&item.ident) => &mut item.attrs,
            Item::Enum(item) if is_live(&item.ident) => &mut item.attrs,
            _ => continue,
        };
        if !attributes.iter().any(|attribute| is_named(attribute.path(), "live")) {
            // The path is said for the macro on the item, which does not see this one's arguments.
            attributes.push(parse_quote!(#[::hotswap_plugin::live(crate = ::hotswap_plugin)]));
        }
    }
    Ok(quote!(#module))
}

/// A name without what does not count when it is compared with the prefix.
fn plain(text: &str) -> String {
    text.replace('_', "").to_lowercase()
}

/// The prefix in `#[live(prefix = "job_")]`, else the one that the build chooses, else the default.
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

/// Derives the JSON Schema, unless the author does.
fn schema_derive(attributes: &[Attribute]) -> Option<TokenStream> {
    let derives = attributes.iter().filter(|attribute| attribute.path().is_ident("derive"));
    // A derive that cannot be parsed is an error of the compiler's.
    let parse = Punctuated::<Path, Token![,]>::parse_terminated;
    let mut derived = derives.filter_map(|derive| derive.parse_args_with(parse).ok()).flatten();
    let has_it = derived.any(|path| is_named(&path, "JsonSchema"));
    (!has_it).then(|| {
        quote! {
            #[derive(::hotswap_plugin::JsonSchema)]
            #[schemars(crate = "::hotswap_plugin::schemars")]
        }
    })
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
    let text = name.to_string();
    let doc = doc(attributes);
    let static_name = format_ident!("__HOTSWAP_LIVE_{}", text.to_uppercase());
    let once = once_in_a_crate("live_type", name);
    Ok(quote! {
        #once

        #[#private::linkme::distributed_slice(#private::LIVE_TYPES)]
        #[linkme(crate = #private::linkme)]
        #[doc(hidden)]
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
    fn what_is_marked_in_a_module_is_not_marked_again() {
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
        let module: ItemMod = syn::parse2(expanded.unwrap()).unwrap();
        for item in module.content.unwrap().1 {
            let Item::Fn(function) = item else { panic!("a function") };
            assert_eq!(function.attrs.len(), 1);
        }
    }

    #[test]
    fn a_prefix_that_every_name_begins_with_is_refused() {
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
    fn the_variable_is_the_one_that_a_build_sets() {
        assert_eq!(PREFIX_ENV, hotswap_protocol::env::LIVE_PREFIX);
    }
}
