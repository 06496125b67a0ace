//! `#[interface] trait Name { … }`: generates the shape of the trait, a shim for each method on the side of
//! the object, and the methods of a handle on the side of the caller.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    Block, Error, FnArg, GenericArgument, Ident, ImplItem, ItemImpl, ItemTrait, Pat, PatType,
    PathArguments, Receiver, ReceiverKind, Result, ReturnType, Safety, Signature, TraitItem,
    TraitItemFn, Type, TypeParamBound, WherePredicate, ext::IdentExt as _, spanned::Spanned,
};

use crate::{
    invoke::{expect_no_cfg, type_text, without_parentheses},
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
    is_async: bool,
    params: Vec<Param>,
    /// The result, and the form in which it crosses.
    returns: Crossing,
}

/// A parameter of a method.
struct Param {
    name: Ident,
    crossing: Crossing,
}

/// The form in which a type of a signature crosses between images.
pub(crate) enum Crossing {
    /// A value of the type itself.
    Owned(Type),
    /// `&T`: a reference that is valid only for the call.
    Lent(Type),
    /// `Box<dyn Trait>`: a handle to the object. The type is `dyn Trait`.
    Boxed(Type),
    /// `&dyn Trait`: a reference to such a handle.
    Borrowed(Type),
}

impl Interface {
    pub fn parse(args: TokenStream, item: ItemTrait) -> Result<Self> {
        no_arguments(&args, "interface")?;
        if !item.generics.params.is_empty() {
            return Err(Error::new(item.generics.span(), "an interface cannot be generic"));
        }
        let clause = item.generics.where_clause.as_ref();
        let supertrait = item.supertraits.iter().find(|bound| !is_marker(bound));
        if let Some(place) = supertrait.map(Spanned::span).or_else(|| Some(clause?.span())) {
            let message = "an interface cannot have supertraits: their methods do not cross, and would run on \
                           the handle instead of the object";
            return Err(Error::new(place, message));
        }
        let mut methods = Vec::new();
        for item in &item.items {
            match item {
                // A helper, which does not cross: `dyn Trait` does not have it.
                TraitItem::Fn(method) if method.default.is_some() && is_for_sized(method) => {}
                TraitItem::Fn(method) => methods.push(Method::parse(method)?),
                other => {
                    let message = "an interface can only have methods";
                    return Err(Error::new(other.span(), message));
                }
            }
        }
        Ok(Self { item, methods })
    }

    pub fn expand(self) -> TokenStream {
        let Self { mut item, methods } = self;
        item.supertraits.push(syn::parse_quote!(::core::marker::Send));
        item.supertraits.push(syn::parse_quote!(::core::marker::Sync));
        for item in &mut item.items {
            if let TraitItem::Fn(method) = item {
                method.default = boxed(&mut method.sig, method.default.take());
            }
        }
        let name = &item.ident;
        let text = name.to_string();
        let private = quote!(::hotswap_plugin::__private);
        let shapes = methods.iter().map(Method::shape);
        let described = methods.iter().map(Method::described);
        let shims = methods.iter().map(|method| method.shim(name));
        let shim_names = methods.iter().map(Method::shim_name);
        let calls = methods.iter().enumerate().map(|(index, method)| method.call(index));
        let forwards = methods.iter().map(|method| method.forward(name));
        let forwards = quote!(#(#forwards)*);
        quote! {
            #item

            #[allow(deprecated)]
            const _: () = {
                // SAFETY: the shape lists the methods of the shims below, in the same order.
                unsafe impl ::hotswap_plugin::Interface for dyn #name {
                    fn shape() -> ::hotswap_plugin::InterfaceShape {
                        ::hotswap_plugin::InterfaceShape {
                            name: ::std::format!("{}::{}", ::core::module_path!(), #text),
                            methods: ::std::vec![#(#shapes),*],
                        }
                    }

                    fn describe_methods(
                        __hotswap_schema: &mut ::hotswap_plugin::SchemaBuilder,
                    ) -> ::std::vec::Vec<::hotswap_plugin::ObjectMethod> {
                        let _ = &__hotswap_schema;
                        ::std::vec![#(#described),*]
                    }
                }

                // SAFETY: the shims take such an object, and belong to the shape's methods, in the same order.
                unsafe impl<
                    __HotswapObject: #name + ::core::marker::Send + ::core::marker::Sync + 'static,
                > ::hotswap_plugin::ObjectOf<__HotswapObject> for dyn #name
                {
                    const TABLE: &'static #private::ObjectTable =
                        &#private::ObjectTable::new::<dyn #name, __HotswapObject>(
                            &[#(#shim_names::<__HotswapObject>),*],
                        );
                }

                #(#shims)*

                impl #name for ::hotswap_plugin::Leased<dyn #name> {
                    #(#calls)*
                }

                impl #name for ::std::boxed::Box<dyn #name> {
                    #forwards
                }

                impl #name for &'static dyn #name {
                    #forwards
                }
            };
        }
    }
}

/// Changes an `async` function into one that returns its future in a box, so that it can be called through a
/// handle.
pub(crate) fn boxed(signature: &mut Signature, body: Option<Block>) -> Option<Block> {
    if signature.asyncness.take().is_none() {
        return body;
    }
    let returns = match &signature.output {
        ReturnType::Default => syn::parse_quote!(()),
        ReturnType::Type(_, ty) => Type::clone(ty),
    };
    signature.output = syn::parse_quote!(-> ::hotswap_plugin::__private::BoxFuture<'_, #returns>);
    // The unreachable `return` comes first: it gives the block its result type, to which the result is then
    // coerced.
    body.map(|body| {
        syn::parse_quote!({
            ::std::boxed::Box::pin(async move {
                if let ::core::option::Option::Some(__hotswap_result) =
                    ::core::option::Option::None::<#returns>
                {
                    return __hotswap_result;
                }
                #[allow(clippy::diverging_sub_expression)]
                let __hotswap_result: #returns = #body;
                #[allow(unreachable_code)]
                __hotswap_result
            })
        })
    })
}

impl Method {
    fn parse(method: &TraitItemFn) -> Result<Self> {
        let signature = &method.sig;
        let is_async = signature.asyncness.is_some();
        expect_no_cfg(&method.attrs)?;
        if let Safety::Unsafe(token) = &signature.safety {
            let message =
                "a method of an interface cannot be unsafe: its caller does not know its contract";
            return Err(Error::new(token.span(), message));
        }
        if !signature.generics.params.is_empty() {
            let message = "a method of an interface cannot be generic; only a helper with a body and \
                           `where Self: Sized` can, because it does not cross";
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
            FnArg::Typed(input)
                if is_async && matches!(without_parentheses(&input.ty), Type::Reference(_)) =>
            {
                let message =
                    "an async method takes its parameters by value: it may outlive the call";
                Err(Error::new(input.ty.span(), message))
            }
            FnArg::Typed(input) => Param::parse(input),
            FnArg::Receiver(receiver) => Err(Error::new(receiver.span(), "a second `self`")),
        });
        let returns = match &signature.output {
            ReturnType::Default => Crossing::Owned(syn::parse_quote!(())),
            ReturnType::Type(_, ty) if matches!(without_parentheses(ty), Type::Reference(_)) => {
                let message = "a result that crosses between images is owned";
                return Err(Error::new(ty.span(), message));
            }
            ReturnType::Type(_, ty) => Crossing::of(ty)?,
        };
        let params = params.collect::<Result<_>>()?;
        Ok(Self { name: signature.ident.clone(), is_async, params, returns })
    }

    fn shim_name(&self) -> Ident {
        format_ident!("__{}", self.name.unraw())
    }

    /// `(times: u32) -> String`
    fn signature(&self) -> String {
        let text = self.params.iter().map(Param::text).collect::<Vec<_>>().join(", ");
        let is_async = if self.is_async { "async " } else { "" };
        format!("({text}) -> {is_async}{}", type_text(&self.returns.written()))
    }

    fn shape(&self) -> TokenStream {
        let (name, signature) = (self.name.unraw().to_string(), self.signature());
        let schemas = self.params.iter().map(|param| &param.crossing).chain([&self.returns]);
        let schemas = schemas.map(Crossing::schema);
        quote! {
            ::hotswap_plugin::MethodShape {
                name: ::std::borrow::ToOwned::to_owned(#name),
                signature: ::std::borrow::ToOwned::to_owned(#signature),
                types: ::std::vec![#(#schemas),*],
            }
        }
    }

    fn described(&self) -> TokenStream {
        let (name, signature) = (self.name.unraw().to_string(), self.signature());
        let places = self.params.iter().map(|param| &param.crossing).chain([&self.returns]);
        let places = places.map(Crossing::described);
        quote! {
            ::hotswap_plugin::ObjectMethod {
                name: ::std::borrow::ToOwned::to_owned(#name),
                signature: ::std::borrow::ToOwned::to_owned(#signature),
                types: ::std::vec![#(#places),*],
            }
        }
    }

    /// The function on the object's side that calls the method.
    ///
    /// Its inner function has the method's types with lifetimes of its own. So a method that needs a
    /// reference for longer than the call does not compile, however its types are written.
    fn shim(&self, interface: &Ident) -> TokenStream {
        let Self { name, is_async, params, returns } = self;
        let shim = self.shim_name();
        let method = format!("{}::{}", interface.unraw(), name.unraw());
        let private = quote!(::hotswap_plugin::__private);
        let names = params.iter().map(|param| &param.name).collect::<Vec<_>>();
        let types = params.iter().map(|param| param.crossing.crosses()).collect::<Vec<_>>();
        let received = params.iter().map(Param::received);
        let crossed = returns.crosses();
        let (result, dispatch, call) = if *is_async {
            let result = quote!(#private::BoxFuture<'static, #crossed>);
            let sent = returns.sent(quote!(__hotswap_future.await));
            let call = quote! {
                let __hotswap_future = <__HotswapObject as #interface>::#name(__hotswap_object #(, #names)*);
                ::std::boxed::Box::pin(async move { #sent })
            };
            (result, quote!(dispatch_async::<__HotswapObject, (#(#types,)*), #crossed>), call)
        } else {
            let sent = returns.sent(
                quote!(<__HotswapObject as #interface>::#name(__hotswap_object #(, #names)*)),
            );
            let call = quote!(::hotswap_plugin::Result::Ok(#sent));
            (
                quote!(::hotswap_plugin::Result<#crossed>),
                quote!(dispatch::<__HotswapObject, (#(#types,)*), #crossed>),
                call,
            )
        };
        let lifetime = is_async.then(|| quote!('static));
        quote! {
            unsafe extern "C" fn #shim<__HotswapObject: #interface + 'static>(
                __hotswap_object: ::core::ptr::NonNull<()>,
                __hotswap_args: *mut (),
                __hotswap_out: *mut (),
            ) {
                fn __hotswap_call<__HotswapObject: #interface + 'static>(
                    __hotswap_object: &#lifetime __HotswapObject,
                    (#(#names,)*): (#(#types,)*),
                ) -> #result {
                    #(#received)*
                    #call
                }
                // SAFETY: `invoke_method` passes arguments of the types in the interface's shape.
                unsafe {
                    #private::#dispatch(
                        __hotswap_object,
                        __hotswap_args,
                        __hotswap_out,
                        #method,
                        __hotswap_call::<__HotswapObject>,
                    )
                }
            }
        }
    }

    /// The method of the handle on the caller's side.
    fn call(&self, index: usize) -> TokenStream {
        let Self { is_async, params, returns, .. } = self;
        let private = quote!(::hotswap_plugin::__private);
        let head = self.head();
        let names = params.iter().map(|param| &param.name).collect::<Vec<_>>();
        let types = params.iter().map(|param| param.crossing.crosses()).collect::<Vec<_>>();
        let owned = params.iter().filter_map(|param| {
            let name = &param.name;
            matches!(param.crossing, Crossing::Boxed(_))
                .then(|| quote!(let #name = #private::lent(#name);))
        });
        let crossed = returns.crosses();
        let call = if *is_async { quote!(invoke_async) } else { quote!(invoke_method) };
        let call = quote! {
            // SAFETY: the handle was made for this interface, so the method has these types.
            unsafe { #private::#call::<_, (#(#types,)*), #crossed>(self, #index, (#(#names,)*)) }
        };
        let call = match (is_async, returns) {
            (true, Crossing::Boxed(_)) => {
                let received = returns.received(quote!(__hotswap_future.await));
                quote! {
                    let __hotswap_future = #call;
                    ::std::boxed::Box::pin(async move { #received })
                }
            }
            (true, _) => call,
            (false, _) => returns.received(call),
        };
        // The first borrowed parameter is the outermost closure.
        let call = params.iter().rev().fold(call, |call, param| match &param.crossing {
            Crossing::Borrowed(ty) => {
                let name = &param.name;
                quote! {
                    #private::borrowed(
                        // SAFETY: the other image gets it as a reference that is valid only for the call.
                        unsafe { ::core::mem::transmute::<&#ty, &'static #ty>(#name) },
                        |#name| { #call },
                    )
                }
            }
            _ => call,
        });
        quote! {
            #head {
                #(#owned)*
                #call
            }
        }
    }

    /// The method of a box with an object, or of a reference to an object.
    fn forward(&self, interface: &Ident) -> TokenStream {
        let (name, head) = (&self.name, self.head());
        let names = self.params.iter().map(|param| &param.name);
        quote! {
            #head {
                <dyn #interface as #interface>::#name(&**self #(, #names)*)
            }
        }
    }

    /// The method's signature as the trait has it, `fn name(&self, params) -> returns`.
    fn head(&self) -> TokenStream {
        let Self { name, is_async, params, returns } = self;
        let params = params.iter().map(|Param { name, crossing }| {
            let ty = crossing.written();
            quote!(#name: #ty)
        });
        let returns = returns.written();
        let returns = match is_async {
            true => quote!(::hotswap_plugin::__private::BoxFuture<'_, #returns>),
            false => quote!(#returns),
        };
        quote!(fn #name(&self #(, #params)*) -> #returns)
    }
}

impl Param {
    fn parse(input: &PatType) -> Result<Self> {
        expect_no_cfg(&input.attrs)?;
        let Pat::Ident(name) = input.pat.as_ref() else {
            return Err(Error::new(input.pat.span(), "a parameter needs a name"));
        };
        let name = name.ident.clone();
        let Type::Reference(reference) = without_parentheses(&input.ty) else {
            return Ok(Self { name, crossing: Crossing::of(&input.ty)? });
        };
        if reference.mutability.is_some() {
            let message = "through a `&mut`, one image could leave its own pointers in a value of the other: \
                           take it by value and return it";
            return Err(Error::new(input.ty.span(), message));
        }
        if let Some(lifetime) = reference.lifetime.as_ref().filter(|it| it.ident != "_") {
            let message = "this parameter is lent only for the call: leave the lifetime out, or take \
                           an owned value";
            return Err(Error::new(lifetime.span(), message));
        }
        let ty = without_parentheses(&reference.elem).clone();
        let crossing = match &ty {
            Type::TraitObject(_) => Crossing::Borrowed(expect_no_bounds(ty)?),
            _ => Crossing::Lent(ty),
        };
        Ok(Self { name, crossing })
    }

    /// `name: &str`
    fn text(&self) -> String {
        format!("{}: {}", self.name.unraw(), type_text(&self.crossing.written()))
    }

    /// Code that converts what has crossed to what the method takes, on the object's side.
    fn received(&self) -> TokenStream {
        let name = &self.name;
        match &self.crossing {
            Crossing::Owned(_) => quote! {
                let mut #name = #name;
                ::hotswap_plugin::Shared::rehome(&mut #name);
            },
            Crossing::Lent(_) => quote!(),
            Crossing::Boxed(ty) => {
                quote!(let #name: ::std::boxed::Box<#ty> = ::std::boxed::Box::new(#name);)
            }
            Crossing::Borrowed(ty) => quote!(let #name: &(#ty) = #name;),
        }
    }
}

impl Crossing {
    /// The form in which a type that is not a reference crosses.
    pub(crate) fn of(ty: &Type) -> Result<Self> {
        let ty = without_parentheses(ty);
        Ok(match in_box(ty) {
            Some(object) => Self::Boxed(expect_no_bounds(object)?),
            None => Self::Owned(ty.clone()),
        })
    }

    /// The type as it is written in a signature.
    pub(crate) fn written(&self) -> TokenStream {
        match self {
            Self::Owned(ty) => quote!(#ty),
            Self::Lent(ty) | Self::Borrowed(ty) => quote!(&#ty),
            Self::Boxed(ty) => quote!(::std::boxed::Box<#ty>),
        }
    }

    /// The type that crosses.
    pub(crate) fn crosses(&self) -> TokenStream {
        match self {
            Self::Owned(ty) => quote!(#ty),
            Self::Lent(ty) => quote!(&#ty),
            Self::Boxed(ty) => quote!(::hotswap_plugin::Leased<#ty>),
            Self::Borrowed(ty) => quote!(&::hotswap_plugin::Leased<#ty>),
        }
    }

    /// Code that converts the value `value`, as written, to what crosses.
    fn sent(&self, value: TokenStream) -> TokenStream {
        match self {
            Self::Boxed(_) => quote!(::hotswap_plugin::__private::lent(#value)),
            _ => value,
        }
    }

    /// Code that converts `value`, which has crossed, to the type as written.
    fn received(&self, value: TokenStream) -> TokenStream {
        match self {
            Self::Boxed(ty) => quote! {{
                let __hotswap_object: ::std::boxed::Box<#ty> = ::std::boxed::Box::new(#value);
                __hotswap_object
            }},
            _ => value,
        }
    }

    fn schema(&self) -> TokenStream {
        let (ty, is_lent) = self.lent();
        match is_lent {
            true => quote!(<#ty as ::hotswap_plugin::__private::Lent>::schema()),
            false => quote!(::hotswap_plugin::TypeSchema::of::<#ty>()),
        }
    }

    fn described(&self) -> TokenStream {
        let (ty, is_lent) = self.lent();
        match is_lent {
            true => {
                quote!(<#ty as ::hotswap_plugin::__private::Lent>::describe_lent(__hotswap_schema))
            }
            false => quote!(<#ty as ::hotswap_plugin::Shared>::describe(__hotswap_schema)),
        }
    }

    /// The type that crosses, and whether it crosses by reference. The type is without its `&`.
    fn lent(&self) -> (TokenStream, bool) {
        match self {
            Self::Owned(ty) => (quote!(#ty), false),
            Self::Lent(ty) => (quote!(#ty), true),
            Self::Boxed(ty) => (quote!(::hotswap_plugin::Leased<#ty>), false),
            Self::Borrowed(ty) => (quote!(::hotswap_plugin::Leased<#ty>), true),
        }
    }
}

/// The `dyn Trait` of a `Box<dyn Trait>`; `None` for another type.
fn in_box(ty: &Type) -> Option<Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|segment| segment.ident == "Box")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(object @ Type::TraitObject(_)) => Some(object.clone()),
        _ => None,
    }
}

/// A `dyn Trait` without further bounds: an interface already has `Send` and `Sync`.
pub(crate) fn expect_no_bounds(object: Type) -> Result<Type> {
    match &object {
        Type::TraitObject(bounds) if bounds.bounds.len() > 1 => {
            let message = "an object that crosses has the type `dyn Interface` without further bounds: it is \
                           `Send` and `Sync` already, and owns its data";
            Err(Error::new(object.span(), message))
        }
        _ => Ok(object),
    }
}

/// Whether a supertrait is `Send`, `Sync` or a lifetime, which every interface has anyway.
fn is_marker(bound: &TypeParamBound) -> bool {
    match bound {
        TypeParamBound::Lifetime(_) => true,
        TypeParamBound::Trait(bound) => {
            let last = bound.path.segments.last();
            last.is_some_and(|last| last.ident == "Send" || last.ident == "Sync")
        }
        _ => false,
    }
}

/// Whether a method asks for `Self: Sized`, so that `dyn Trait` does not have it.
fn is_for_sized(method: &TraitItemFn) -> bool {
    let clause = method.sig.generics.where_clause.iter();
    clause.flat_map(|clause| &clause.predicates).any(|predicate| {
        let WherePredicate::Type(bounded) = predicate else { return false };
        let is_self = type_text(&bounded.bounded_ty) == "Self";
        let mut bounds = bounded.bounds.iter();
        is_self && bounds.any(|bound| quote!(#bound).to_string().ends_with("Sized"))
    })
}

/// Whether a receiver is `&self`, without a named lifetime.
fn is_plain(receiver: &Receiver) -> bool {
    let ReceiverKind::Reference(_, lifetime, None) = &receiver.kind else { return false };
    lifetime.as_ref().is_none_or(|lifetime| lifetime.ident == "_")
}

/// `#[interface] impl Name for Type { … }`: an implementation with `async` methods.
pub fn implementation(args: &TokenStream, mut item: ItemImpl) -> Result<TokenStream> {
    no_arguments(args, "interface")?;
    if item.trait_.is_none() {
        let message = "#[interface] goes on a trait, or on an implementation of one";
        return Err(Error::new(item.span(), message));
    }
    for item in &mut item.items {
        if let ImplItem::Fn(method) = item
            && method.sig.asyncness.is_some()
        {
            let body = boxed(&mut method.sig, Some(method.block.clone()));
            method.block = body.unwrap_or_else(|| method.block.clone());
        }
    }
    Ok(quote!(#item))
}
