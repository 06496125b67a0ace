//! `#[interface] trait Name { … }`

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    Error, FnArg, Ident, ItemTrait, Pat, Result, ReturnType, TraitItem, TraitItemFn, Type,
    spanned::Spanned,
};

use crate::{invoke::type_text, no_arguments};

/// A checked trait.
pub struct Interface {
    item: ItemTrait,
    methods: Vec<Method>,
}

/// A method: `fn name(&self, params) -> returns`.
struct Method {
    name: Ident,
    params: Vec<(Ident, Type)>,
    returns: Type,
}

impl Interface {
    pub fn parse(args: TokenStream, item: ItemTrait) -> Result<Self> {
        no_arguments(&args, "interface")?;
        if !item.generics.params.is_empty() {
            return Err(Error::new(item.generics.span(), "an interface has no type parameters"));
        }
        let methods = item.items.iter().map(|item| match item {
            TraitItem::Fn(method) => Method::parse(method),
            other => Err(Error::new(other.span(), "an interface has methods only")),
        });
        let methods = methods.collect::<Result<_>>()?;
        Ok(Self { item, methods })
    }

    pub fn expand(self) -> TokenStream {
        let Self { item, methods } = &self;
        let name = &item.ident;
        let text = name.to_string();
        let private = quote!(::hotswap_plugin::__private);
        let shapes = methods.iter().map(Method::shape);
        let shims = methods.iter().map(|method| method.shim(name));
        let shim_names = methods.iter().map(Method::shim_name);
        let calls = methods.iter().enumerate().map(|(index, method)| method.call(index));
        quote! {
            #item

            const _: () = {
                impl ::hotswap_plugin::Interface for dyn #name {
                    fn shape() -> ::hotswap_plugin::InterfaceShape {
                        ::hotswap_plugin::InterfaceShape {
                            name: ::std::format!("{}::{}", ::core::module_path!(), #text),
                            methods: ::std::vec![#(#shapes),*],
                        }
                    }
                }

                impl<T: #name + ::core::marker::Send + ::core::marker::Sync + 'static>
                    ::hotswap_plugin::ObjectOf<T> for dyn #name
                {
                    const TABLE: &'static #private::ObjectTable =
                        &#private::ObjectTable::new::<dyn #name, T>(&[#(#shim_names::<T>),*]);
                }

                #(#shims)*

                impl #name for ::hotswap_plugin::Leased<dyn #name> {
                    #(#calls)*
                }
            };
        }
    }
}

impl Method {
    fn parse(method: &TraitItemFn) -> Result<Self> {
        let signature = &method.sig;
        if let Some(token) = &signature.asyncness {
            return Err(Error::new(token.span(), "an interface has no async methods yet"));
        }
        if let Some(body) = &method.default {
            return Err(Error::new(body.span(), "an interface's method has no default body"));
        }
        if !signature.generics.params.is_empty() {
            let message = "an interface's method has no type parameters";
            return Err(Error::new(signature.generics.span(), message));
        }
        let mut inputs = signature.inputs.iter();
        match inputs.next() {
            Some(FnArg::Receiver(receiver))
                if receiver.reference.is_some() && receiver.mutability.is_none() => {}
            _ => return Err(Error::new(signature.span(), "an interface's method takes `&self`")),
        }
        let params = inputs.map(|input| match input {
            FnArg::Typed(input) if is_mutable(&input.ty) => {
                let message = "a `&mut` would let one image leave its own pointers in the other's \
                               value; take it by value and return it";
                Err(Error::new(input.ty.span(), message))
            }
            FnArg::Typed(input) if names_lifetime(&input.ty) => {
                let message = "what another image passes lives as long as the call: leave the \
                               lifetime out";
                Err(Error::new(input.ty.span(), message))
            }
            FnArg::Typed(input) => match input.pat.as_ref() {
                Pat::Ident(name) => Ok((name.ident.clone(), Type::clone(&input.ty))),
                other => Err(Error::new(other.span(), "a parameter needs a name")),
            },
            FnArg::Receiver(receiver) => Err(Error::new(receiver.span(), "a second `self`")),
        });
        let returns = match &signature.output {
            ReturnType::Default => syn::parse_quote!(()),
            ReturnType::Type(_, ty) if matches!(ty.as_ref(), Type::Reference(_)) => {
                let message = "a result that crosses between images is owned";
                return Err(Error::new(ty.span(), message));
            }
            ReturnType::Type(_, ty) => Type::clone(ty),
        };
        Ok(Self { name: signature.ident.clone(), params: params.collect::<Result<_>>()?, returns })
    }

    fn shim_name(&self) -> Ident {
        format_ident!("__{}", self.name)
    }

    fn shape(&self) -> TokenStream {
        let name = self.name.to_string();
        let params = self.params.iter();
        let text = params.map(|(name, ty)| format!("{name}: {}", type_text(ty)));
        let text = text.collect::<Vec<_>>().join(", ");
        let signature = format!("({text}) -> {}", type_text(&self.returns));
        let returns = &self.returns;
        let types = self.params.iter().map(|(_, ty)| referent(ty)).chain([quote!(#returns)]);
        quote! {
            ::hotswap_plugin::MethodShape {
                name: ::std::string::String::from(#name),
                signature: ::std::string::String::from(#signature),
                types: ::std::vec![#(::hotswap_plugin::TypeSchema::of::<#types>()),*],
            }
        }
    }

    /// The object's side of the call.
    fn shim(&self, interface: &Ident) -> TokenStream {
        let Self { name, params, returns } = self;
        let shim = self.shim_name();
        let names = params.iter().map(|(name, _)| name).collect::<Vec<_>>();
        let types = params.iter().map(|(_, ty)| ty);
        let owned = params.iter().filter(|(_, ty)| !matches!(ty, Type::Reference(_)));
        let owned = owned.map(|(name, _)| name).collect::<Vec<_>>();
        quote! {
            unsafe extern "C" fn #shim<T: #interface>(
                object: ::core::ptr::NonNull<()>,
                args: *mut (),
                out: *mut (),
            ) {
                // SAFETY: `invoke_method` passes what the interface's shape says.
                unsafe {
                    ::hotswap_plugin::__private::dispatch::<T, (#(#types,)*), #returns>(
                        object,
                        args,
                        out,
                        |object, (#(#names,)*)| {
                            #(
                                let mut #owned = #owned;
                                ::hotswap_plugin::Shared::rehome(&mut #owned);
                            )*
                            object.#name(#(#names),*)
                        },
                    )
                }
            }
        }
    }

    /// The caller's side of the call.
    fn call(&self, index: usize) -> TokenStream {
        let Self { name, params, returns } = self;
        let names = params.iter().map(|(name, _)| name).collect::<Vec<_>>();
        let types = params.iter().map(|(_, ty)| ty).collect::<Vec<_>>();
        quote! {
            fn #name(&self #(, #names: #types)*) -> #returns {
                // SAFETY: the handle was made for this interface, so the method has these types.
                unsafe {
                    ::hotswap_plugin::__private::invoke_method::<_, (#(#types,)*), #returns>(
                        self,
                        #index,
                        (#(#names,)*),
                    )
                }
            }
        }
    }
}

/// What a reference refers to, and `String` for `&str`; any other type itself.
fn referent(ty: &Type) -> TokenStream {
    match ty {
        Type::Reference(reference) => match reference.elem.as_ref() {
            Type::Path(path) if path.path.is_ident("str") => quote!(::std::string::String),
            other => quote!(#other),
        },
        other => quote!(#other),
    }
}

fn is_mutable(ty: &Type) -> bool {
    matches!(ty, Type::Reference(reference) if reference.mutability.is_some())
}

fn names_lifetime(ty: &Type) -> bool {
    let Type::Reference(reference) = ty else { return false };
    reference.lifetime.as_ref().is_some_and(|lifetime| lifetime.ident != "_")
}
