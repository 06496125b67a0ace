//! `#[derive(Shared)]`: describes the layout of a type, and generates code that rehomes its values.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    Data, DeriveInput, Error, Fields, Ident, Index, Result, parenthesized, parse_quote,
    spanned::Spanned,
};

/// A checked struct or enum.
pub struct SharedType {
    item: DeriveInput,
    layout: Layout,
}

impl SharedType {
    pub fn parse(item: DeriveInput) -> Result<Self> {
        if let Data::Union(data) = &item.data {
            let message =
                "a union does not know which field it holds, so it cannot cross between images";
            return Err(Error::new(data.union_token.span(), message));
        }
        if let Some(lifetime) = item.generics.lifetimes().next() {
            let message =
                "a type that crosses between images cannot have lifetimes, since it cannot borrow";
            return Err(Error::new(lifetime.span(), message));
        }
        let layout = Layout::of(&item)?;
        Ok(Self { item, layout })
    }

    pub fn expand(mut self) -> TokenStream {
        for param in self.item.generics.type_params_mut() {
            param.bounds.push(parse_quote!(::hotswap_plugin::Shared));
        }
        let name = &self.item.ident;
        let listed = self.item.generics.params.is_empty().then(|| listed(name));
        let (generics, arguments, conditions) = self.item.generics.split_for_impl();
        let private = quote!(::hotswap_plugin::__private);
        // A static in generic code would be one for all types.
        let check = self.item.generics.params.is_empty().then(|| {
            quote! {
                static POINTS_HOME: #private::PointsHome = #private::PointsHome::new();
                if !POINTS_HOME.of::<Self>() {
                    return;
                }
            }
        });
        let (shape, rehome) = match &self.item.data {
            Data::Struct(data) => (struct_shape(&data.fields), struct_rehome(&data.fields)),
            Data::Enum(data) => {
                let variants = data.variants.iter().collect::<Vec<_>>();
                (enum_shape(&variants, &self.layout), enum_rehome(&variants))
            }
            Data::Union(_) => unreachable!("`parse` refuses unions"),
        };
        quote! {
            // SAFETY: every field is `Shared`, is described with its offset, and is rehomed. If a field were
            // missing here, the code would not compile.
            #[automatically_derived]
            #[allow(deprecated)]
            unsafe impl #generics ::hotswap_plugin::Shared for #name #arguments #conditions {
                const POINTS_HOME_ITSELF: bool = false;

                fn describe(schema: &mut ::hotswap_plugin::SchemaBuilder) -> usize {
                    schema.add::<Self>(|schema| #shape)
                }

                fn rehome(&mut self) {
                    #check
                    #private::expect_stack();
                    #rehome
                }
            }
            #listed
        }
    }
}

/// Adds the type to the list of types of its image, by which two artifacts are compared.
fn listed(name: &Ident) -> TokenStream {
    quote! {
        #[allow(deprecated)]
        const _: () = {
            #[used]
            #[unsafe(link_section = "hotswap_shared_types")]
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

/// Rehomes each field as the type that was described.
fn struct_rehome(fields: &Fields) -> TokenStream {
    let (pattern, rehomes) = rehome_all_fields(fields);
    quote! {
        let Self #pattern = self;
        #rehomes
    }
}

/// A pattern that names all fields, and code that rehomes each of them.
///
/// An attribute below the derive runs after it, and can add fields or change their types. So the pattern has
/// no `..`: code with a field that the derive has not seen does not compile.
fn rehome_all_fields(fields: &Fields) -> (TokenStream, TokenStream) {
    let private = quote!(::hotswap_plugin::__private);
    let fields = fields.iter().enumerate().map(|(index, field)| {
        let (member, name, ty) = (member(index, field), format_ident!("field_{index}"), &field.ty);
        let rehome = quote! {
            #private::rehome_field(#name, #private::PhantomData::<#ty>);
        };
        (quote!(#member: #name), rehome)
    });
    let (patterns, rehomes): (Vec<_>, Vec<_>) = fields.unzip();
    (quote!({ #(#patterns),* }), quote!(#(#rehomes)*))
}

/// The memory layout that the `repr` attributes of an enum ask for.
#[derive(Default)]
struct Layout {
    /// The attributes, sorted: `C, u8`.
    text: String,
    /// The type of its tag; `None` if the attributes do not name one.
    tag: Option<Ident>,
}

impl Layout {
    fn of(item: &DeriveInput) -> Result<Self> {
        let (mut parts, mut tag) = (Vec::new(), None);
        for attribute in item.attrs.iter().filter(|attribute| attribute.path().is_ident("repr")) {
            attribute.parse_nested_meta(|meta| {
                let mut part = meta.path.require_ident()?.to_string();
                if meta.input.peek(syn::token::Paren) {
                    let content;
                    parenthesized!(content in meta.input);
                    part = format!("{part}({})", content.parse::<TokenStream>()?);
                } else if part != "C" {
                    tag = meta.path.get_ident().cloned();
                }
                parts.push(part);
                Ok(())
            })?;
        }
        parts.sort();
        Ok(Self { text: parts.join(", "), tag })
    }
}

/// Code that describes an enum's variants. A discriminant is described by its value, since its text can name
/// a constant.
fn enum_shape(variants: &[&syn::Variant], layout: &Layout) -> TokenStream {
    let is_plain = variants.iter().all(|variant| matches!(variant.fields, Fields::Unit));
    let mut last = None;
    let variants = variants.iter().map(|variant| {
        let name = variant.ident.to_string();
        let ident = &variant.ident;
        let discriminant = match &layout.tag {
            _ if is_plain => {
                quote!(::hotswap_plugin::__private::discriminant(Self::#ident))
            }
            Some(tag) => {
                let (value, text) = tag_of(variant, tag, last.as_ref());
                last = Some(value);
                text
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
                name: ::std::borrow::ToOwned::to_owned(#name),
                discriminant: #discriminant,
                fields: ::std::vec![#(#fields),*],
            }
        }
    });
    let variants: Vec<_> = variants.collect();
    let text = &layout.text;
    quote! {
        ::hotswap_plugin::Shape::Enum {
            layout: ::std::borrow::ToOwned::to_owned(#text),
            variants: ::std::vec![#(#variants),*],
        }
    }
}

/// The tag of a variant in an enum whose memory begins with the tag: the value as code, and code that
/// describes it after checking that the variant has that tag. `last` is the tag of the variant before.
fn tag_of(
    variant: &syn::Variant,
    tag: &Ident,
    last: Option<&TokenStream>,
) -> (TokenStream, TokenStream) {
    let ident = &variant.ident;
    let value = match (&variant.discriminant, last) {
        (Some((_, value)), _) => quote!((#value)),
        (None, Some(last)) => quote!((#last + 1)),
        (None, None) => quote!(0),
    };
    let text = quote!({
        const __HOTSWAP_TAG: ::core::primitive::#tag = #value;
        // SAFETY: only the tag is read.
        let is_it = |place: *const Self| unsafe { ::core::matches!(*place, Self::#ident { .. }) };
        ::hotswap_plugin::__private::expect_tag(__HOTSWAP_TAG, is_it)
    });
    (value, text)
}

fn enum_rehome(variants: &[&syn::Variant]) -> TokenStream {
    let arms = variants.iter().map(|variant| {
        let name = &variant.ident;
        let (pattern, rehomes) = rehome_all_fields(&variant.fields);
        quote!(Self::#name #pattern => { #rehomes })
    });
    if variants.is_empty() { quote!(match *self {}) } else { quote!(match self { #(#arms)* }) }
}

/// A field's name, or its index in a tuple.
fn member(index: usize, field: &syn::Field) -> TokenStream {
    match &field.ident {
        Some(name) => quote!(#name),
        None => {
            let index = Index::from(index);
            quote!(#index)
        }
    }
}
