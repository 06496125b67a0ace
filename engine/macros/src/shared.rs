//! `#[derive(Shared)]`

use proc_macro2::TokenStream;
use quote::{ToTokens as _, format_ident, quote};
use syn::{Data, DeriveInput, Error, Fields, Ident, Index, Result, parse_quote, spanned::Spanned};

/// A checked struct or enum.
pub struct SharedType {
    item: DeriveInput,
}

impl SharedType {
    pub fn parse(item: DeriveInput) -> Result<Self> {
        if let Data::Union(data) = &item.data {
            let message = "a union cannot tell what it holds, so it cannot cross between images";
            return Err(Error::new(data.union_token.span(), message));
        }
        if let Some(lifetime) = item.generics.lifetimes().next() {
            let message = "a type that crosses between images borrows nothing";
            return Err(Error::new(lifetime.span(), message));
        }
        Ok(Self { item })
    }

    pub fn expand(mut self) -> TokenStream {
        for param in self.item.generics.type_params_mut() {
            param.bounds.push(parse_quote!(::hotswap_plugin::Shared));
        }
        let name = &self.item.ident;
        let listed = self.item.generics.params.is_empty().then(|| listed(name));
        let (generics, arguments, conditions) = self.item.generics.split_for_impl();
        let (shape, rehome) = match &self.item.data {
            Data::Struct(data) => (struct_shape(&data.fields), struct_rehome(&data.fields)),
            Data::Enum(data) => {
                let variants = data.variants.iter().collect::<Vec<_>>();
                (enum_shape(&variants, &layout_attributes(&self.item)), enum_rehome(&variants))
            }
            Data::Union(_) => unreachable!("refused by `parse`"),
        };
        quote! {
            // SAFETY: every field is `Shared` and is told, with its offset, and rehomed.
            #[automatically_derived]
            unsafe impl #generics ::hotswap_plugin::Shared for #name #arguments #conditions {
                fn describe(schema: &mut ::hotswap_plugin::SchemaBuilder) -> usize {
                    schema.add::<Self>(|schema| #shape)
                }

                fn rehome(&mut self) {
                    #rehome
                }
            }
            #listed
        }
    }
}

/// Lists the type among those of its image, so that two artifacts can be compared.
fn listed(name: &Ident) -> TokenStream {
    let private = quote!(::hotswap_plugin::__private);
    quote! {
        const _: () = {
            #[#private::linkme::distributed_slice(#private::SHARED_TYPES)]
            #[linkme(crate = #private::linkme)]
            static TYPE: fn() -> ::hotswap_plugin::TypeSchema =
                ::hotswap_plugin::TypeSchema::of::<#name>;
        };
    }
}

fn struct_shape(fields: &Fields) -> TokenStream {
    let fields = fields.iter().enumerate().map(|(index, field)| {
        let ty = &field.ty;
        let member = member(index, field);
        let text = quote!(#member).to_string();
        quote! {
            schema.field::<#ty>(#text, ::core::option::Option::Some(
                ::core::mem::offset_of!(Self, #member)
            ))
        }
    });
    quote!(::hotswap_plugin::Shape::Struct(::std::vec![#(#fields),*]))
}

fn struct_rehome(fields: &Fields) -> TokenStream {
    let fields = fields.iter().enumerate();
    let (members, names): (Vec<_>, Vec<_>) =
        fields.map(|(index, field)| (member(index, field), format_ident!("field_{index}"))).unzip();
    // All of them: an attribute that comes later may have added some.
    quote! {
        let Self { #(#members: #names),* } = self;
        #(::hotswap_plugin::Shared::rehome(#names);)*
    }
}

/// The attributes that decide how an enum lies in memory, as text.
fn layout_attributes(item: &DeriveInput) -> String {
    let layout = item.attrs.iter().filter(|attribute| attribute.path().is_ident("repr"));
    layout.map(|attribute| attribute.meta.to_token_stream().to_string()).collect()
}

fn enum_shape(variants: &[&syn::Variant], layout: &str) -> TokenStream {
    // Evaluated where it can be: the text may name a constant whose value differs.
    let is_plain = variants.iter().all(|variant| matches!(variant.fields, Fields::Unit));
    let is_numbered = variants.iter().any(|variant| variant.discriminant.is_some());
    let tags = ["u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128"];
    let words = layout.split(|c: char| !c.is_alphanumeric());
    let tag = words.filter(|word| tags.contains(word)).next().unwrap_or("isize");
    let tag = format_ident!("{tag}");
    let variants = variants.iter().map(|variant| {
        let name = variant.ident.to_string();
        let ident = &variant.ident;
        let discriminant = match &variant.discriminant {
            _ if is_plain && is_numbered => {
                quote!(::std::string::ToString::to_string(&(Self::#ident as i128)))
            }
            Some((_, value)) => {
                quote!({
                    const DISCRIMINANT: #tag = #value;
                    ::std::string::ToString::to_string(&DISCRIMINANT)
                })
            }
            None => quote!(::std::string::String::new()),
        };
        let fields = variant.fields.iter().enumerate().map(|(index, field)| {
            let ty = &field.ty;
            let member = member(index, field);
            let text = quote!(#member).to_string();
            quote!(schema.field::<#ty>(#text, ::core::option::Option::None))
        });
        quote! {
            ::hotswap_plugin::Variant {
                name: ::std::string::String::from(#name),
                discriminant: #discriminant,
                fields: ::std::vec![#(#fields),*],
            }
        }
    });
    quote! {
        ::hotswap_plugin::Shape::Enum {
            layout: ::std::string::String::from(#layout),
            variants: ::std::vec![#(#variants),*],
        }
    }
}

fn enum_rehome(variants: &[&syn::Variant]) -> TokenStream {
    let arms = variants.iter().map(|variant| {
        let name = &variant.ident;
        let fields = variant.fields.iter().enumerate();
        let (members, names): (Vec<_>, Vec<_>) = fields
            .map(|(index, field)| (member(index, field), format_ident!("field_{index}")))
            .unzip();
        quote! {
            Self::#name { #(#members: #names),* } => {
                #(::hotswap_plugin::Shared::rehome(#names);)*
            }
        }
    });
    if variants.is_empty() { quote!(match *self {}) } else { quote!(match self { #(#arms)* }) }
}

/// A field's name, or its number.
fn member(index: usize, field: &syn::Field) -> TokenStream {
    match &field.ident {
        Some(name) => quote!(#name),
        None => {
            let index = Index::from(index);
            quote!(#index)
        }
    }
}
