//! `#[interface] trait Name { … }`: generates the shape of the trait, a shim for each method on the
//! side of the object, and the methods of a handle on the side of the caller.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    Error, FnArg, Ident, ItemTrait, Pat, PatType, Receiver, ReceiverKind, Result, ReturnType,
    Safety, TraitItem, TraitItemFn, Type, spanned::Spanned,
};

use crate::{
    invoke::{bare, type_text},
    no_arguments,
};

/// A checked trait.
pub struct Interface {
    item: ItemTrait,
    methods: Vec<Method>,
}

/// A method: `fn name(&self, params) -> returns`.
struct Method {
    name: Ident,
    params: Vec<Param>,
    returns: Type,
}

/// A parameter of a method.
struct Param {
    name: Ident,
    /// Whether it is a reference, which is valid for the call only.
    is_lent: bool,
    /// Its type; of a reference, the type that it refers to.
    ty: Type,
}

impl Interface {
    pub fn parse(args: TokenStream, item: ItemTrait) -> Result<Self> {
        no_arguments(&args, "interface")?;
        if !item.generics.params.is_empty() {
            return Err(Error::new(item.generics.span(), "an interface cannot be generic"));
        }
        let methods = item.items.iter().map(|item| match item {
            TraitItem::Fn(method) => Method::parse(method),
            other => Err(Error::new(other.span(), "an interface can only have methods")),
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
                // SAFETY: the shape lists the methods of the shims below, in the same order.
                unsafe impl ::hotswap_plugin::Interface for dyn #name {
                    fn shape() -> ::hotswap_plugin::InterfaceShape {
                        ::hotswap_plugin::InterfaceShape {
                            name: ::std::format!("{}::{}", ::core::module_path!(), #text),
                            methods: ::std::vec![#(#shapes),*],
                        }
                    }
                }

                // SAFETY: the shims take a `T`, and belong to the shape's methods, in the same order.
                unsafe impl<T: #name + ::core::marker::Send + ::core::marker::Sync + 'static>
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
            return Err(Error::new(token.span(), "a method of an interface cannot be async yet"));
        }
        if let Safety::Unsafe(token) = &signature.safety {
            let message =
                "a method of an interface cannot be unsafe: its caller does not know its contract";
            return Err(Error::new(token.span(), message));
        }
        if let Some(body) = &method.default {
            return Err(Error::new(
                body.span(),
                "a method of an interface cannot have a default body",
            ));
        }
        if !signature.generics.params.is_empty() {
            let message = "a method of an interface cannot be generic";
            return Err(Error::new(signature.generics.span(), message));
        }
        let mut inputs = signature.inputs.iter();
        match inputs.next() {
            Some(FnArg::Receiver(receiver)) if is_plain(receiver) => {}
            _ => {
                return Err(Error::new(signature.span(), "a method of an interface takes `&self`"));
            }
        }
        let params = inputs.map(|input| match input {
            FnArg::Typed(input) => Param::parse(input),
            FnArg::Receiver(receiver) => Err(Error::new(receiver.span(), "a second `self`")),
        });
        let returns = match &signature.output {
            ReturnType::Default => syn::parse_quote!(()),
            ReturnType::Type(_, ty) if matches!(bare(ty), Type::Reference(_)) => {
                let message = "a result that crosses between images is owned";
                return Err(Error::new(ty.span(), message));
            }
            ReturnType::Type(_, ty) => bare(ty).clone(),
        };
        Ok(Self { name: signature.ident.clone(), params: params.collect::<Result<_>>()?, returns })
    }

    fn shim_name(&self) -> Ident {
        format_ident!("__{}", self.name)
    }

    fn shape(&self) -> TokenStream {
        let name = self.name.to_string();
        let text = self.params.iter().map(Param::text).collect::<Vec<_>>().join(", ");
        let signature = format!("({text}) -> {}", type_text(&self.returns));
        let returns = &self.returns;
        let schemas = self.params.iter().map(Param::schema);
        quote! {
            ::hotswap_plugin::MethodShape {
                name: ::std::string::String::from(#name),
                signature: ::std::string::String::from(#signature),
                types: ::std::vec![
                    #(#schemas,)*
                    ::hotswap_plugin::TypeSchema::of::<#returns>()
                ],
            }
        }
    }

    /// The function that calls the method, on the object's side.
    ///
    /// Its inner function has the method's types with lifetimes of its own. So a method does not compile
    /// if it needs a reference for longer than the call, in whatever way its types are written.
    fn shim(&self, interface: &Ident) -> TokenStream {
        let Self { name, params, returns } = self;
        let shim = self.shim_name();
        let names = params.iter().map(|param| &param.name).collect::<Vec<_>>();
        let types = params.iter().map(Param::written).collect::<Vec<_>>();
        let owned = params.iter().filter(|param| !param.is_lent);
        let owned = owned.map(|param| &param.name).collect::<Vec<_>>();
        quote! {
            unsafe extern "C" fn #shim<T: #interface>(
                __hotswap_object: ::core::ptr::NonNull<()>,
                __hotswap_args: *mut (),
                __hotswap_out: *mut (),
            ) {
                fn __hotswap_call<T: #interface>(
                    __hotswap_object: &T,
                    (#(#names,)*): (#(#types,)*),
                ) -> #returns {
                    #(
                        let mut #owned = #owned;
                        ::hotswap_plugin::Shared::rehome(&mut #owned);
                    )*
                    <T as #interface>::#name(__hotswap_object #(, #names)*)
                }
                // SAFETY: `invoke_method` passes arguments of the types in the interface's shape.
                unsafe {
                    ::hotswap_plugin::__private::dispatch::<T, (#(#types,)*), #returns>(
                        __hotswap_object,
                        __hotswap_args,
                        __hotswap_out,
                        __hotswap_call::<T>,
                    )
                }
            }
        }
    }

    /// The method of the handle, on the caller's side.
    fn call(&self, index: usize) -> TokenStream {
        let Self { name, params, returns } = self;
        let names = params.iter().map(|param| &param.name).collect::<Vec<_>>();
        let types = params.iter().map(Param::written).collect::<Vec<_>>();
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

impl Param {
    fn parse(input: &PatType) -> Result<Self> {
        let Pat::Ident(name) = input.pat.as_ref() else {
            return Err(Error::new(input.pat.span(), "a parameter needs a name"));
        };
        let name = name.ident.clone();
        let Type::Reference(reference) = bare(&input.ty) else {
            return Ok(Self { name, is_lent: false, ty: bare(&input.ty).clone() });
        };
        if reference.mutability.is_some() {
            let message = "with a `&mut`, one image could leave its own pointers in the other's value: \
                           take it by value and return it";
            return Err(Error::new(input.ty.span(), message));
        }
        if let Some(lifetime) = reference.lifetime.as_ref().filter(|it| it.ident != "_") {
            let message = "another image lends this for the call only: leave the lifetime out, or take \
                           an owned value";
            return Err(Error::new(lifetime.span(), message));
        }
        Ok(Self { name, is_lent: true, ty: bare(&reference.elem).clone() })
    }

    /// The type as it is written in a signature.
    fn written(&self) -> TokenStream {
        let ty = &self.ty;
        if self.is_lent { quote!(&#ty) } else { quote!(#ty) }
    }

    /// `name: &str`
    fn text(&self) -> String {
        format!("{}: {}", self.name, type_text(&self.written()))
    }

    fn schema(&self) -> TokenStream {
        let ty = &self.ty;
        if self.is_lent {
            quote!(<#ty as ::hotswap_plugin::__private::Lent>::schema())
        } else {
            quote!(::hotswap_plugin::TypeSchema::of::<#ty>())
        }
    }
}

/// Whether a receiver is `&self`, without a named lifetime.
fn is_plain(receiver: &Receiver) -> bool {
    let ReceiverKind::Reference(_, lifetime, None) = &receiver.kind else { return false };
    lifetime.as_ref().is_none_or(|lifetime| lifetime.ident == "_")
}
