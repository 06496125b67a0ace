//! Types whose values may cross between images as they are, and their structural fingerprints.
//!
//! Rust has no stable ABI, and a `TypeId` stays the same when a field is added. So a type that
//! crosses describes itself as a tree of names, sizes, offsets and fields, which both sides compare.

mod schema;
mod std_types;

pub use schema::{Field, SchemaBuilder, Shape, TypeNode, TypeSchema, Variant};

use std::{
    any::TypeId,
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use crate::parts::Patch;

/// A type whose values may be used by another image than the one that made them.
///
/// Derive it: `#[derive(Shared)]`. It is there for numbers, `bool`, `char`, `String`, and for
/// `Option`, `Result`, `Box`, `Vec`, tuples, arrays and std's maps and sets of such types.
///
/// What hides a pointer into the image that made it is not `Shared`:
///
/// ```compile_fail,E0277
/// # use hotswap_plugin::Shared;
/// #[derive(Shared)]
/// struct Hides {
///     name: &'static str,
/// }
/// ```
/// ```compile_fail,E0277
/// # use hotswap_plugin::Shared;
/// #[derive(Shared)]
/// struct Hides {
///     name: std::sync::Arc<str>,
/// }
/// ```
/// ```compile_fail,E0277
/// # use hotswap_plugin::Shared;
/// #[derive(Shared)]
/// struct Hides {
///     call: fn(u32) -> u32,
/// }
/// ```
///
/// # Safety
/// `describe` tells the true layout, so that two types with equal schemas may stand for one another
/// in memory. A value holds no pointer into its image that [`rehome`](Shared::rehome) does not
/// replace: no `&'static`, function pointer or trait object.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot cross between images",
    label = "not `Shared`",
    note = "what crosses is owned: numbers, `String`, std's containers, and types with \
            `#[derive(Shared)]`",
    note = "`&'static` references, `Cow`, `Arc<str>`, function pointers and trait objects point into \
            the image that made them"
)]
pub unsafe trait Shared: Sized + Send + Sync + 'static {
    /// Adds this type to a schema and returns its place in it.
    fn describe(schema: &mut SchemaBuilder) -> usize;

    /// Replaces hidden pointers into another image by pointers into this one.
    ///
    /// An empty `HashMap` has one: its control bytes are a static of the image that made it.
    fn rehome(&mut self) {}

    /// How parts are put into a value, if it is a map or a list: such a value is migrated part by part.
    #[doc(hidden)]
    fn patch() -> Option<Patch<Self>> {
        None
    }
}

/// The types of an image that `#[derive(Shared)]` stands on, but for those with parameters.
#[doc(hidden)]
#[linkme::distributed_slice]
pub static SHARED_TYPES: [fn() -> TypeSchema];

/// The schema of a type, kept for the life of the image.
pub(crate) fn schema_of<T: Shared>() -> Arc<TypeSchema> {
    let id = TypeId::of::<T>();
    if let Some(schema) = SCHEMAS.read().unwrap_or_else(PoisonError::into_inner).get_or_empty(&id) {
        return schema;
    }
    let schema = Arc::new(TypeSchema::of::<T>());
    let mut schemas = SCHEMAS.write().unwrap_or_else(PoisonError::into_inner);
    schemas.0.get_or_insert_default().entry(id).or_insert(schema).clone()
}

/// Frees the kept schemas; an image does so before it is unmapped.
pub(crate) fn forget_schemas() {
    SCHEMAS.write().unwrap_or_else(PoisonError::into_inner).0 = None;
}

static SCHEMAS: RwLock<Schemas> = RwLock::new(Schemas(None));

struct Schemas(Option<HashMap<TypeId, Arc<TypeSchema>>>);

impl Schemas {
    fn get_or_empty(&self, id: &TypeId) -> Option<Arc<TypeSchema>> {
        self.0.as_ref()?.get(id).cloned()
    }
}
