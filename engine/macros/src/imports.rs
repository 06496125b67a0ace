//! `#[derive(Imports)]`: declares an import for each field of a struct, and fills the struct. It also declares
//! the plugins in `#[import(after = "…")]` on the struct, which must load earlier.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Attribute, Data, DeriveInput, Error, Field, Fields, Ident, LitStr, Result, Type,
    ext::IdentExt as _, spanned::Spanned,
};

/// A checked struct of imports.
pub struct ImportSet {
    name: Ident,
    fields: Vec<Import>,
    after: Vec<After>,
}

/// A plugin that must load before this one.
struct After {
    plugin: String,
    optional: bool,
}

/// A field, and the plugin whose export it takes.
struct Import {
    field: Ident,
    ty: Type,
    plugin: String,
}

impl ImportSet {
    pub fn parse(item: DeriveInput) -> Result<Self> {
        if !item.generics.params.is_empty() {
            let message = "a struct of imports cannot be generic";
            return Err(Error::new(item.generics.span(), message));
        }
        let message = "#[derive(Imports)] goes on a struct with named fields, or without fields";
        let Data::Struct(data) = item.data else {
            return Err(Error::new(item.ident.span(), message));
        };
        let fields = match data.fields {
            Fields::Named(fields) => fields.named.into_iter().map(Import::parse).collect(),
            Fields::Unit => Ok(Vec::new()),
            Fields::Unnamed(_) => Err(Error::new(item.ident.span(), message)),
        };
        let of_struct = item.attrs.iter().filter(|attribute| attribute.path().is_ident("import"));
        let after = of_struct.map(After::parse).collect::<Result<_>>()?;
        Ok(Self { name: item.ident, fields: fields?, after })
    }

    pub fn expand(self) -> TokenStream {
        let Self { name, fields, after } = self;
        let after = after.iter().map(After::request);
        let names = fields.iter().map(|import| &import.field);
        let types = fields.iter().map(|import| &import.ty).collect::<Vec<_>>();
        let plugins = fields.iter().map(|import| &import.plugin);
        quote! {
            #[automatically_derived]
            impl ::hotswap_plugin::ImportSet for #name {
                fn requests() -> ::std::vec::Vec<::hotswap_plugin::ImportRequest> {
                    ::std::vec![
                        #(<#types as ::hotswap_plugin::Import>::request(#plugins),)*
                        #(#after,)*
                    ]
                }

                fn bind(
                    objects: &mut dyn ::core::iter::Iterator<
                        Item = ::core::option::Option<::hotswap_plugin::BoundObject>,
                    >,
                ) -> ::hotswap_plugin::Result<Self> {
                    ::core::result::Result::Ok(Self {
                        #(#names: <#types as ::hotswap_plugin::Import>::bind(
                            objects.next().flatten(),
                        )?,)*
                    })
                }
            }
        }
    }
}

impl After {
    fn parse(attribute: &Attribute) -> Result<Self> {
        let (mut plugin, mut optional) = (None, false);
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("after") && plugin.is_none() {
                plugin = Some(meta.value()?.parse::<LitStr>()?.value());
                Ok(())
            } else if meta.path.is_ident("optional") {
                optional = true;
                Ok(())
            } else {
                Err(meta.error("expected one `after = \"PLUGIN\"`, and optionally `optional`"))
            }
        })?;
        let missing = || Error::new(attribute.span(), "expected `after = \"PLUGIN\"`");
        Ok(Self { plugin: plugin.ok_or_else(missing)?, optional })
    }

    fn request(&self) -> TokenStream {
        let Self { plugin, optional } = self;
        quote! {
            ::hotswap_plugin::ImportRequest {
                optional: #optional,
                ..::hotswap_plugin::ImportRequest::after(#plugin)
            }
        }
    }
}

impl Import {
    fn parse(field: Field) -> Result<Self> {
        let span = field.span();
        let name = field.ident.ok_or_else(|| Error::new(span, "a field needs a name"))?;
        let mut plugin = name.unraw().to_string();
        for attribute in field.attrs.iter().filter(|a| a.path().is_ident("import")) {
            plugin = attribute.parse_args::<LitStr>()?.value();
        }
        Ok(Self { field: name, ty: field.ty, plugin })
    }
}
