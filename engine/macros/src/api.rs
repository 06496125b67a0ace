//! The path by which generated code refers to `hotswap_plugin`: that name, or the path in `crate = path`.
//!
//! Each macro generates paths that begin with `::hotswap_plugin`. A path that the author gives replaces that
//! beginning in all generated code, also in the arguments of attributes.

use proc_macro2::{Group, Literal, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    Attribute, Error, Expr, ExprLit, Ident, Lit, Meta, MetaNameValue, Path, Result, Token,
    parse::Parser, punctuated::Punctuated,
};

/// The name under which generated code looks for the crate.
const NAME: &str = "hotswap_plugin";

/// The crate `hotswap_plugin`, as the author's crate reaches it.
#[derive(Default)]
pub struct Api {
    /// The path that the author gives; `None` for the default `::hotswap_plugin`.
    path: Option<Path>,
}

impl Api {
    /// Takes `crate = path` out of the arguments of an attribute.
    pub fn take(args: TokenStream) -> Result<(Self, TokenStream)> {
        // If the arguments are not a list, the macro itself reports the error.
        let Ok(metas) = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(args.clone()) else {
            return Ok((Self::default(), args));
        };
        let (of_crate, others): (Vec<_>, Vec<_>) = metas.into_iter().partition(says_crate);
        let Some(meta) = of_crate.into_iter().next() else { return Ok((Self::default(), args)) };
        let path = path_of(meta)?;
        Ok((Self { path: Some(path) }, quote!(#(#others),*)))
    }

    /// Takes `#[name(crate = path)]` out of the attributes of an item.
    pub fn take_attribute(attributes: &mut Vec<Attribute>, name: &str) -> Result<Self> {
        let mut api = Self::default();
        for attribute in attributes.iter_mut().filter(|it| it.path().is_ident(name)) {
            let Meta::List(list) = &mut attribute.meta else { continue };
            let (found, others) = Self::take(list.tokens.clone())?;
            if found.path.is_some() {
                (api, list.tokens) = (found, others);
            }
        }
        attributes.retain(|attribute| {
            let is_empty = matches!(&attribute.meta, Meta::List(list) if list.tokens.is_empty());
            !(is_empty && attribute.path().is_ident(name))
        });
        Ok(api)
    }

    /// Replaces the beginning of all paths in generated code by the path of this crate.
    pub fn rename(&self, generated: TokenStream) -> TokenStream {
        match &self.path {
            None => generated,
            Some(path) => renamed(generated, &absolute(path)),
        }
    }
}

fn says_crate(meta: &Meta) -> bool {
    meta.path().is_ident("crate")
}

/// The path in `crate = path`, or in `crate = "path"`.
fn path_of(meta: Meta) -> Result<Path> {
    match meta {
        Meta::NameValue(MetaNameValue { value: Expr::Path(path), .. }) => Ok(path.path),
        Meta::NameValue(MetaNameValue {
            value: Expr::Lit(ExprLit { lit: Lit::Str(text), .. }),
            ..
        }) => text.parse(),
        other => Err(Error::new_spanned(other, "expected `crate = path::to::hotswap_plugin`")),
    }
}

/// The path with a leading `::`, so that it means the same wherever it is used. Paths that begin with `crate`
/// or a similar keyword stay as they are.
fn absolute(path: &Path) -> TokenStream {
    let first = path.segments.first().map(|segment| segment.ident.to_string());
    match first.as_deref() {
        _ if path.leading_colon.is_some() => path.to_token_stream(),
        Some("crate" | "self" | "super" | "Self") => path.to_token_stream(),
        _ => quote!(::#path),
    }
}

fn renamed(tokens: TokenStream, path: &TokenStream) -> TokenStream {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut output = TokenStream::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let is_inside_a_path = at > 0 && is_segment(&tokens[at - 1]);
        if !is_inside_a_path && begins_with_name(&tokens[at..]) {
            output.extend(path.clone());
            at += 3;
        } else {
            output.extend([in_token(token, path)]);
            at += 1;
        }
    }
    output
}

/// Whether the tokens begin with `::hotswap_plugin`.
fn begins_with_name(tokens: &[TokenTree]) -> bool {
    let [TokenTree::Punct(one), TokenTree::Punct(two), TokenTree::Ident(name), ..] = tokens else {
        return false;
    };
    one.as_char() == ':' && two.as_char() == ':' && name == NAME
}

/// Whether a token may be the part of a path before `::`: a name, and not a keyword such as `impl`.
fn is_segment(token: &TokenTree) -> bool {
    let TokenTree::Ident(ident) = token else { return false };
    let is_keyword = syn::parse2::<Ident>(token.to_token_stream()).is_err();
    !is_keyword || ["crate", "self", "super", "Self"].iter().any(|it| ident == it)
}

/// Renames paths inside a token: in brackets, or in a text that is a path.
fn in_token(token: &TokenTree, path: &TokenStream) -> TokenTree {
    match token {
        TokenTree::Group(group) => {
            let mut inner = Group::new(group.delimiter(), renamed(group.stream(), path));
            inner.set_span(group.span());
            inner.into()
        }
        TokenTree::Literal(literal) => {
            let text = literal.to_string();
            let Some(rest) = text.strip_prefix("\"::hotswap_plugin::") else {
                return token.clone();
            };
            let path = path.to_string().replace(' ', "");
            let mut renamed = Literal::string(&format!("{path}::{}", rest.trim_end_matches('"')));
            renamed.set_span(literal.span());
            renamed.into()
        }
        other => other.clone(),
    }
}
