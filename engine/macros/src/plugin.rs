//! `#[plugin] impl Plugin for Type`: exports the plugin through `__export_plugin!`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Ident, ItemImpl, Result, spanned::Spanned};

use crate::{no_arguments, refuse_second_item};

/// A checked `impl Plugin for Type`.
pub struct Plugin {
    item: ItemImpl,
}

impl Plugin {
    pub fn parse(args: TokenStream, item: ItemImpl) -> Result<Self> {
        no_arguments(&args, "plugin")?;
        let is_plugin = item.trait_.as_ref().and_then(|(path, _)| path.segments.last());
        if is_plugin.is_none_or(|segment| segment.ident != "Plugin") {
            return Err(Error::new(
                item.self_ty.span(),
                "#[plugin] goes on a block `impl Plugin for Type`",
            ));
        }
        if !item.generics.params.is_empty() {
            return Err(Error::new(item.generics.span(), "a plugin's type cannot be generic"));
        }
        Ok(Self { item })
    }

    pub fn expand(self) -> TokenStream {
        let Self { item } = self;
        let plugin = &item.self_ty;
        let once = refuse_second_item("crate_has_one", &Ident::new("plugin", plugin.span()));
        quote! {
            #item
            #once
            ::hotswap_plugin::__export_plugin!(#plugin);
        }
    }
}
