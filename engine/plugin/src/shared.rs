//! Types whose values may cross between images as they are, and their structural fingerprints.
//!
//! Rust has no stable ABI, and a `TypeId` stays the same when a field is added. So a type that
//! crosses describes itself as a tree of names, sizes, offsets and fields, which both sides compare.

mod schema;
mod std_types;

pub use schema::{Field, SchemaBuilder, Shape, TypeNode, TypeSchema, Variant};

use std::{
    any::{TypeId, type_name},
    collections::HashMap,
    fmt::Display,
    marker::PhantomData,
    mem::{self, ManuallyDrop, MaybeUninit},
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
    /// Whether a value may hold what [`rehome`](Shared::rehome) replaces. Some types of std cannot, and
    /// are not walked through.
    #[doc(hidden)]
    const MAY_POINT_HOME: bool = true;

    /// Adds this type to a schema and returns its place in it.
    fn describe(schema: &mut SchemaBuilder) -> usize;

    /// Replaces hidden pointers into another image by pointers into this one.
    ///
    /// An empty `HashMap` has one: its control bytes are a static of the image that made it.
    ///
    /// It may run code of the type (the hash or the order of a key) and so panic. Then the value is one
    /// that may be dropped, and not used any more.
    fn rehome(&mut self) {}

    /// How parts are put into a value, if it is a map or a list: such a value is migrated part by part.
    #[doc(hidden)]
    fn patch() -> Option<Patch<Self>> {
        None
    }
}

/// Rehomes a field, which is of the type that the derive saw: references would be turned into what they
/// lead to, but for the second argument.
#[doc(hidden)]
pub fn rehome_field<T: Shared>(field: &mut T, _: PhantomData<T>) {
    field.rehome();
}

/// The discriminant of a value of an enum, as text.
#[doc(hidden)]
pub fn discriminant<T>(value: T) -> String {
    let text = format!("{:?}", mem::discriminant(&*ManuallyDrop::new(value)));
    text.chars().filter(|c| c.is_ascii_digit() || *c == '-').collect()
}

/// The tag as text, after a look whether the variant of `T` that `is_it` asks for has it. `T` has fields,
/// and a layout that begins with the tag.
///
/// # Panics
/// When it has another one: what the derive saw is not what was compiled.
#[doc(hidden)]
pub fn expect_tag<T, Tag: Copy + Display>(
    tag: Tag,
    is_it: impl FnOnce(*const T) -> bool,
) -> String {
    let mut place = MaybeUninit::<T>::zeroed();
    assert!(size_of::<Tag>() <= size_of::<T>(), "{}", OTHER_TAG);
    // SAFETY: it is large enough, and nothing of it but bytes.
    unsafe { place.as_mut_ptr().cast::<Tag>().write_unaligned(tag) };
    let name = type_name::<T>();
    assert!(
        is_it(place.as_ptr()),
        "a variant of `{name}` has another discriminant than {tag}: {OTHER_TAG}"
    );
    tag.to_string()
}

/// What makes a discriminant another one.
const OTHER_TAG: &str = "an attribute that changes the enum stands above `#[derive(Shared)]`";

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
