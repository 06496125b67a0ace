//! `#[derive(Imports)]`: asks for the imports of a struct's fields, and fills the struct with them.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Field, Fields, Ident, LitStr, Result, Type, spanned::Spanned};

/// A checked struct of imports.
pub struct ImportSet {
    name: Ident,
    fields: Vec<Import>,
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
        let Data::Struct(data) = item.data else {
            return Err(Error::new(item.ident.span(), "imports are a struct with named fields"));
        };
        let Fields::Named(fields) = data.fields else {
            return Err(Error::new(item.ident.span(), "imports are a struct with named fields"));
        };
        let fields = fields.named.into_iter().map(Import::parse).collect::<Result<_>>()?;
        Ok(Self { name: item.ident, fields })
    }

    pub fn expand(self) -> TokenStream {
        let Self { name, fields } = self;
        let names = fields.iter().map(|import| &import.field);
        let types = fields.iter().map(|import| &import.ty).collect::<Vec<_>>();
        let plugins = fields.iter().map(|import| &import.plugin);
        quote! {
            #[automatically_derived]
            impl ::hotswap_plugin::ImportSet for #name {
                fn requests() -> ::std::vec::Vec<::hotswap_plugin::ImportRequest> {
                    ::std::vec![#(<#types as ::hotswap_plugin::Import>::request(#plugins)),*]
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

impl Import {
    fn parse(field: Field) -> Result<Self> {
        let span = field.span();
        let name = field.ident.ok_or_else(|| Error::new(span, "a field needs a name"))?;
        let mut plugin = name.to_string();
        for attribute in field.attrs.iter().filter(|a| a.path().is_ident("import")) {
            plugin = attribute.parse_args::<LitStr>()?.value();
        }
        Ok(Self { field: name, ty: field.ty, plugin })
    }
}
