//! `#[invoke]`, and `#[live]` on a function: registers a function that is called by name. Callers pass
//! arguments as JSON or as Rust types.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    Attribute, Error, Expr, ExprLit, FnArg, GenericArgument, Ident, ItemFn, Lit, Meta, Pat,
    PatType, PathArguments, Result, ReturnType, Safety, Type, ext::IdentExt as _, spanned::Spanned,
};

use crate::{
    has_effects_argument,
    interface::{Crossing, expect_no_bounds},
    refuse_second_item,
};

/// A checked function.
pub struct Invoke {
    item: ItemFn,
    is_live: bool,
    has_effects: bool,
    /// The parameters that the engine passes. They come before the caller's.
    handed_in: Vec<HandedIn>,
    params: Vec<(Ident, Type, Taken)>,
    returns: Returns,
}

/// A parameter that the engine passes, which is a reference.
enum HandedIn {
    /// `&Vault`
    Vault,
    /// A reference to the plugin's instance.
    Plugin(Box<Type>),
}

/// How a function takes a parameter, and the type that crosses between images for it.
enum Taken {
    /// The value itself.
    AsIs,
    /// As a `Box<dyn Trait>`: what crosses is the handle to the object, in a box.
    Boxed(Type),
    /// As a `&dyn Trait`: what crosses is a reference to the handle.
    Borrowed(Type),
}

/// The return type of a function.
struct Returns {
    /// The type of the value: the `T` of a `Result<T>`, and `()` if there is none. For a `Box<dyn Trait>` it
    /// is the type of the handle to the object.
    value: Type,
    is_boxed: bool,
    /// Whether the value is wrapped in a `Result`.
    fallible: bool,
}

impl Invoke {
    pub fn parse(args: TokenStream, item: ItemFn) -> Result<Self> {
        let has_effects = has_effects_argument(&args, "invoke")?;
        Self::of(item, false, has_effects)
    }

    /// Checks a function that is marked `#[live]`.
    pub fn live(args: &TokenStream, item: ItemFn) -> Result<Self> {
        let has_effects = has_effects_argument(args, "live")?;
        Self::of(item, true, has_effects)
    }

    fn of(item: ItemFn, is_live: bool, has_effects: bool) -> Result<Self> {
        let signature = &item.sig;
        if !signature.generics.params.is_empty() {
            let message = "a function that is called by name cannot be generic";
            return Err(Error::new(signature.generics.span(), message));
        }
        if let Safety::Unsafe(token) = &signature.safety {
            let message = "a function that is called by name cannot be unsafe: its caller does not know its contract";
            return Err(Error::new(token.span(), message));
        }
        let mut inputs = signature.inputs.iter().peekable();
        let handed_in = std::iter::from_fn(|| {
            let input = inputs.next_if(|input| HandedIn::of(input).is_some())?;
            HandedIn::of(input)
        });
        let handed_in = handed_in.collect();
        expect_no_lifetimes(&signature.inputs)?;
        for input in &signature.inputs {
            if let FnArg::Typed(input) = input {
                expect_no_cfg(&input.attrs)?;
            }
        }
        let is_async = signature.asyncness.is_some();
        let params = inputs.map(|input| parameter(input, is_async)).collect::<Result<_>>()?;
        let returns = Returns::of(&signature.output);
        Ok(Self { item, is_live, has_effects, handed_in, params, returns })
    }

    pub fn expand(self) -> TokenStream {
        let Self { item, is_live, has_effects, handed_in, params, returns } = &self;
        let private = quote!(::hotswap_plugin::__private);
        let name = &item.sig.ident;
        let text = name.unraw().to_string();
        let (doc, signature) = (doc(&item.attrs), self.signature());
        let static_name = format_ident!("__HOTSWAP_INVOKE_{text}");

        let schemas = params.iter().map(|(name, ty, _)| {
            let (name, type_name) = (name.unraw().to_string(), type_text(ty));
            quote!((#name, #type_name, #private::schema::<#ty>))
        });
        let reads = params.iter().enumerate().map(|(index, (name, ty, taken))| {
            let name = name.unraw().to_string();
            taken.pass(quote!(#private::argument::<#ty>(__hotswap_args, #index, #name)?))
        });
        let handed_in = handed_in.iter().map(|handed_in| match handed_in {
            HandedIn::Vault => quote!(__hotswap_context.vault,),
            HandedIn::Plugin(plugin) => quote!(__hotswap_context.plugin::<#plugin>()?,),
        });
        let handed_in = handed_in.collect::<Vec<_>>();
        // Generated names, since a parameter of the author's can have the name of the function itself.
        let names = (0..params.len()).map(|at| format_ident!("__hotswap_arg_{at}"));
        let names = names.collect::<Vec<_>>();
        let types = params.iter().map(|(_, ty, _)| ty).collect::<Vec<_>>();
        let passed = params.iter().zip(&names);
        let passed = passed.map(|((_, _, taken), name)| taken.pass(quote!(#name)));
        let passed = passed.collect::<Vec<_>>();
        let count = params.len();
        let value = &returns.value;
        let result = if returns.fallible {
            quote!(result.map_err(#private::failure_of)?)
        } else {
            quote!(result)
        };
        let result = match returns.is_boxed {
            true => quote!(<#value>::new(#result)?),
            false => result,
        };

        let call = if item.sig.asyncness.is_some() {
            quote! {
                #private::Call::Async(|__hotswap_context, __hotswap_args| {
                    let _ = __hotswap_context;
                    #private::expect_arguments(__hotswap_args, #count, #signature)?;
                    let call = #name(#(#handed_in)* #(#reads),*);
                    ::core::result::Result::Ok(::std::boxed::Box::pin(async move {
                        let result = call.await;
                        ::hotswap_plugin::Value::from_serialize(&#result)
                    }))
                })
            }
        } else {
            quote! {
                #private::Call::Sync(|__hotswap_context, __hotswap_args| {
                    let _ = __hotswap_context;
                    #private::expect_arguments(__hotswap_args, #count, #signature)?;
                    let result = #name(#(#handed_in)* #(#reads),*);
                    ::hotswap_plugin::Value::from_serialize(&#result)
                })
            }
        };
        let typed_result = match (returns.fallible, returns.is_boxed) {
            (true, false) => quote!(result.map_err(#private::failure_of)),
            (false, false) => quote!(::hotswap_plugin::Result::Ok(result)),
            (true, true) => {
                quote!(<#value>::new(result.map_err(#private::failure_of)?))
            }
            (false, true) => quote!(<#value>::new(result)),
        };

        let (answer, body) = if item.sig.asyncness.is_some() {
            let answer = quote!(#private::RawFuture<#value>);
            let body = quote! {
                let call = #name(#(#handed_in)* #(#passed),*);
                ::hotswap_plugin::Result::Ok(#private::RawFuture::new(async move {
                    let result = call.await;
                    #typed_result
                }))
            };
            (answer, body)
        } else {
            let body = quote! {
                let result = #name(#(#handed_in)* #(#passed),*);
                #typed_result
            };
            (quote!(#value), body)
        };
        let types = quote!((#(#types,)*));
        let probe = quote! {
            #[allow(unused_imports)]
            use #private::NotShared as _;
            let __hotswap_probe = #private::Probe::<#types, #value>(#private::PhantomData);
        };
        // The address of the function is in a static. An address that code computes at run time could not be
        // told from other addresses.
        let typed = quote! {
            {
                // SAFETY: the caller passes arguments of the types that the function declares.
                unsafe fn __hotswap_call(
                    __hotswap_context: &'static #private::Context<'static>,
                    __hotswap_args: *mut (),
                    __hotswap_out: *mut (),
                ) {
                    let _ = __hotswap_context;
                    #probe
                    unsafe {
                        #private::dispatch_typed::<#types, #answer>(
                            __hotswap_args,
                            __hotswap_out,
                            |args| __hotswap_probe.rehome(args),
                            |(#(#names,)*)| { #body },
                        )
                    }
                }
                __hotswap_call
            }
        };

        let once = refuse_second_item("function", name);
        quote! {
            #item
            #once

            #[used]
            #[unsafe(link_section = "hotswap_functions")]
            #[doc(hidden)]
            #[allow(deprecated, non_upper_case_globals)]
            static #static_name: #private::Function = #private::Function {
                module: ::core::module_path!(),
                is_live: #is_live,
                has_effects: #has_effects,
                name: #text,
                signature: #signature,
                doc: #doc,
                params: &[#(#schemas),*],
                returns: #private::schema::<#value>,
                call: #call,
                types: || {
                    #probe
                    __hotswap_probe.types()
                },
                typed: #typed,
            };
        }
    }

    /// `(name: String, times: u32) -> String`
    fn signature(&self) -> String {
        let params = self.params.iter();
        let params = params.map(|(name, ty, _)| format!("{}: {}", name.unraw(), type_text(ty)));
        let params = params.collect::<Vec<_>>().join(", ");
        let returns = type_text(&self.returns.value);
        // For a box, the handle crosses. The generated code names it by its full path.
        format!("({params}) -> {returns}").replace("::hotswap_plugin::Leased<", "Leased<")
    }
}

/// Refuses what exists only under a condition. A macro sees it in any case, and would generate code for it.
pub(crate) fn expect_no_cfg(attributes: &[Attribute]) -> Result<()> {
    match attributes.iter().find(|attribute| attribute.path().is_ident("cfg")) {
        None => Ok(()),
        Some(cfg) => {
            let message = "both sides of a call must have the same signatures: put the `cfg` on the whole item, \
                           and write the item once for each case";
            Err(Error::new(cfg.span(), message))
        }
    }
}

/// The text of a doc comment.
pub(crate) fn doc(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}

impl Returns {
    fn of(output: &ReturnType) -> Self {
        match output {
            ReturnType::Default => {
                Self { value: syn::parse_quote!(()), is_boxed: false, fallible: false }
            }
            ReturnType::Type(_, ty) => match ok_type(ty) {
                Some(value) => Self::of_value(value, true),
                None => Self::of_value(Type::clone(ty), false),
            },
        }
    }

    fn of_value(value: Type, fallible: bool) -> Self {
        match Crossing::of(&value) {
            Ok(crossing @ Crossing::Boxed(_)) => {
                let handle = crossing.crosses();
                Self { value: syn::parse_quote!(#handle), is_boxed: true, fallible }
            }
            _ => Self { value, is_boxed: false, fallible },
        }
    }
}

impl Taken {
    /// The argument that the function is passed; `value` is the value that has crossed.
    fn pass(&self, value: TokenStream) -> TokenStream {
        match self {
            Self::AsIs => value,
            Self::Boxed(ty) => quote!(::std::boxed::Box::new(#value) as ::std::boxed::Box<#ty>),
            Self::Borrowed(ty) => quote!(&#value as &#ty),
        }
    }
}

/// The `T` of `Result<T>` or `Result<T, E>`.
fn ok_type(ty: &Type) -> Option<Type> {
    let Type::Path(path) = without_parentheses(ty) else { return None };
    let last = path.path.segments.last().filter(|segment| segment.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(value) => Some(value.clone()),
        _ => None,
    }
}

impl HandedIn {
    /// The parameter that the engine passes for `input`; `None` if the caller passes it.
    fn of(input: &FnArg) -> Option<Self> {
        let FnArg::Typed(input) = input else { return None };
        let Type::Reference(reference) = without_parentheses(&input.ty) else { return None };
        Self::of_type(without_parentheses(&reference.elem))
    }

    /// What the engine passes for a reference to `ty`; `None` if `ty` is text, because the caller passes text.
    fn of_type(ty: &Type) -> Option<Self> {
        let Type::Path(path) = ty else { return None };
        let last = path.path.segments.last()?.ident.to_string();
        match last.as_str() {
            "Vault" => Some(Self::Vault),
            "str" | "String" => None,
            _ => Some(Self::Plugin(Box::new(ty.clone()))),
        }
    }
}

/// Refuses named lifetimes: the engine lends its parameters only for the call.
fn expect_no_lifetimes<'a>(inputs: impl IntoIterator<Item = &'a FnArg>) -> Result<()> {
    for input in inputs {
        if let FnArg::Typed(input) = input
            && let Type::Reference(reference) = without_parentheses(&input.ty)
            && let Some(lifetime) = &reference.lifetime
        {
            let message =
                "the engine lends this parameter only for the call: leave the lifetime out";
            return Err(Error::new(lifetime.span(), message));
        }
    }
    Ok(())
}

fn parameter(input: &FnArg, is_async: bool) -> Result<(Ident, Type, Taken)> {
    let FnArg::Typed(input) = input else {
        return Err(Error::new(input.span(), "#[invoke] goes on functions, not on methods"));
    };
    if let Type::Reference(reference) = without_parentheses(&input.ty) {
        if let (object @ Type::TraitObject(_), false) =
            (without_parentheses(&reference.elem), is_async)
        {
            let name = parameter_name(input)?;
            let object = expect_no_bounds(object.clone())?;
            let handle = syn::parse_quote!(::hotswap_plugin::Leased<#object>);
            return Ok((name, handle, Taken::Borrowed(object)));
        }
        let message = match HandedIn::of_type(without_parentheses(&reference.elem)) {
            Some(_) => "a parameter that the engine passes comes before those of the caller",
            None => "a parameter that the caller passes is owned: `String`, not `&str`",
        };
        return Err(Error::new(reference.span(), message));
    }
    let name = parameter_name(input)?;
    Ok(match Crossing::of(&input.ty)? {
        Crossing::Boxed(object) => {
            let handle = syn::parse_quote!(::hotswap_plugin::Leased<#object>);
            (name, handle, Taken::Boxed(object))
        }
        _ => (name, without_parentheses(&input.ty).clone(), Taken::AsIs),
    })
}

fn parameter_name(input: &PatType) -> Result<Ident> {
    match input.pat.as_ref() {
        Pat::Ident(name) => Ok(name.ident.clone()),
        other => Err(Error::new(other.span(), "a parameter needs a name, for forms and messages")),
    }
}

/// A type without parentheses around it, and without the invisible group around a type that was passed
/// to a macro.
pub(crate) fn without_parentheses(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => without_parentheses(&group.elem),
        Type::Paren(paren) => without_parentheses(&paren.elem),
        other => other,
    }
}

/// A type as its author writes it, `Vec<(u8, f32)>`. Its tokens alone print as `Vec < (u8 , f32) >`.
pub(crate) fn type_text(ty: &impl quote::ToTokens) -> String {
    let mut text = String::new();
    for part in ty.to_token_stream().to_string().split(' ') {
        let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let after_comma =
            text.ends_with([',', ';', '>']) && !part.starts_with(['>', ',', ')', ']', ';']);
        if after_comma || (word(text.chars().last()) && word(part.chars().next())) {
            text.push(' ');
        }
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_read_as_written() {
        for text in ["String", "Vec<(u8, f32)>", "Option<Box<str>>", "[u8; 4]", "()", "dyn Cat"] {
            let ty: Type = syn::parse_str(text).unwrap();
            assert_eq!(type_text(&ty), text);
        }
    }
}
