//! Types whose values may cross between images without conversion.
//!
//! Rust has no stable ABI, and the `TypeId` of a type stays the same when a field is added. So a type that
//! crosses describes itself as a tree of names, sizes, offsets and fields, which both sides compare.

mod by_serde;
#[cfg(feature = "bytes")]
mod bytes;
mod schema;
mod std_types;

#[cfg(feature = "bytes")]
pub use self::bytes::SharedBytes;
pub use by_serde::BySerde;
pub use schema::{Field, ObjectMethod, SchemaBuilder, Shape, TypeNode, TypeSchema, Variant};

use std::{
    any::{TypeId, type_name},
    collections::HashMap,
    fmt::Display,
    hash::{Hash, Hasher},
    marker::PhantomData,
    mem::{self, ManuallyDrop, MaybeUninit},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU8, Ordering},
    },
};

use crate::{collected::collected, parts::Patch};

/// A type whose values may be used by other images than the one that made them.
///
/// [`#[derive(Shared)]`](derive@crate::Shared) implements it for a struct or an enum if the types of all
/// fields are `Shared`. It is implemented for numbers, `bool`, `char`, owned text and paths, times and
/// addresses; for std's files and sockets; for `Option`, `Result`, `Box`, tuples and arrays, and the lists,
/// maps and sets of std, if their elements are `Shared`.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use hotswap_plugin::{Shared, TypeSchema};
///
/// #[derive(Shared)]
/// struct Scores {
///     by_player: BTreeMap<String, u32>,
///     last: Option<Event>,
/// }
///
/// #[derive(Shared)]
/// enum Event {
///     Won { player: String },
///     Ended,
/// }
///
/// assert_eq!(TypeSchema::of::<Event>().members(), ["Won", "Ended"]);
/// ```
///
/// A type that hides a pointer into the image that made it is not `Shared`:
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
/// `describe` describes the true layout: two types with equal schemas have the same layout. A value contains
/// no pointer into its image, such as a `&'static`, a function pointer or a trait object, unless
/// [`rehome`](Shared::rehome) replaces it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot cross between images",
    label = "not `Shared`",
    note = "only owned values cross: numbers, `String`, std's containers, and types with \
            `#[derive(Shared)]`; a type of another crate crosses as `BySerde<T>`, an object as \
            `Leased<dyn Interface>`",
    note = "`&'static` references, `Cow`, `Arc<str>`, function pointers and trait objects point into \
            the image that made them"
)]
pub unsafe trait Shared: Sized + Send + Sync + 'static {
    /// Whether a value may contain a pointer that [`rehome`](Shared::rehome) must replace. If not, containers
    /// do not visit their elements.
    #[doc(hidden)]
    const MAY_POINT_HOME: bool = true;

    /// Whether a value may contain such a pointer besides those of the parts that it describes.
    #[doc(hidden)]
    const POINTS_HOME_ITSELF: bool = Self::MAY_POINT_HOME;

    /// Adds this type to a schema, and returns its index there.
    fn describe(schema: &mut SchemaBuilder) -> usize;

    /// Replaces hidden pointers into another image by pointers into this one.
    ///
    /// An empty `HashMap` has such a pointer: its control bytes are a static of the image that made it.
    ///
    /// This may run code of the type (the hash or the order of a key), which may panic. It also panics if the
    /// value is nested more deeply than the stack allows. After a panic, the value may only be dropped.
    fn rehome(&mut self) {}

    /// How to change parts of a value; `None` if the type is not a map, a set or a list. A value with parts
    /// is migrated part by part.
    #[doc(hidden)]
    fn patch() -> Option<Patch<Self>> {
        None
    }
}

/// Rehomes a field. The second argument makes sure that the field has the type that the derive saw: with a
/// type parameter alone, a `Box<T>` would be dereferenced to fit.
#[doc(hidden)]
pub fn rehome_field<T: Shared>(field: &mut T, _: PhantomData<T>) {
    field.rehome();
}

/// Whether values of a derived type contain pointers that must be replaced, once that is known.
///
/// If not, no value is visited. So a list whose nodes own each other may be as long as memory allows: visiting
/// it would take stack for each node.
#[doc(hidden)]
pub struct PointsHome(AtomicU8);

impl PointsHome {
    const NOT_KNOWN: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;

    #[allow(clippy::new_without_default, reason = "only for statics")]
    pub const fn new() -> Self {
        Self(AtomicU8::new(Self::NOT_KNOWN))
    }

    /// The answer for `T`, which is the same type in all calls.
    #[inline]
    pub fn of<T: Shared>(&self) -> bool {
        match self.0.load(Ordering::Relaxed) {
            Self::NOT_KNOWN => self.ask::<T>(),
            known => known == Self::YES,
        }
    }

    #[cold]
    fn ask<T: Shared>(&self) -> bool {
        let answer = SchemaBuilder::any_points_home::<T>();
        self.0.store(if answer { Self::YES } else { Self::NO }, Ordering::Relaxed);
        answer
    }
}

/// The discriminant of an enum's value, as text.
///
/// `mem::Discriminant` does not reveal its integer, but it hashes it.
#[doc(hidden)]
pub fn discriminant<T>(value: T) -> String {
    let mut written = Written::default();
    mem::discriminant(&*ManuallyDrop::new(value)).hash(&mut written);
    written.0
}

/// A hasher that keeps the integers that are written to it, as text.
#[derive(Default)]
struct Written(String);

macro_rules! keep_integers {
    ($($method:ident: $integer:ty),* $(,)?) => {
        $(
            fn $method(&mut self, integer: $integer) {
                self.0 += &integer.to_string();
            }
        )*
    };
}

impl Hasher for Written {
    keep_integers! {
        write_i8: i8, write_i16: i16, write_i32: i32, write_i64: i64, write_i128: i128,
        write_isize: isize, write_u8: u8, write_u16: u16, write_u32: u32, write_u64: u64,
        write_u128: u128, write_usize: usize,
    }

    /// Std does not hash integers through this. If it did, the bytes would still tell discriminants apart.
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 += &format!("{byte:02x}"));
    }

    fn finish(&self) -> u64 {
        0
    }
}

/// The tag as text, after a check that a `T` with this tag is the variant that `is_it` matches. `T` has
/// fields, and a layout that begins with the tag.
///
/// # Panics
/// If it is another variant: then the compiled type is not the one that the derive saw.
#[doc(hidden)]
pub fn expect_tag<T, Tag: Copy + Display>(
    tag: Tag,
    is_it: impl FnOnce(*const T) -> bool,
) -> String {
    let mut place = MaybeUninit::<T>::zeroed();
    assert!(size_of::<Tag>() <= size_of::<T>(), "{}", OTHER_TAG);
    // SAFETY: there is room for the tag, and only bytes are written.
    unsafe { place.as_mut_ptr().cast::<Tag>().write_unaligned(tag) };
    let name = type_name::<T>();
    assert!(
        is_it(place.as_ptr()),
        "a variant of `{name}` has another discriminant than {tag}: {OTHER_TAG}"
    );
    tag.to_string()
}

/// Why a compiled enum can differ from the one that the derive saw.
const OTHER_TAG: &str =
    "an attribute below `#[derive(Shared)]` changes the enum; put the attribute above the derive";

collected!(
    /// The types of an image that have `#[derive(Shared)]` and no type parameters.
    #[doc(hidden)]
    SHARED_TYPES: fn() -> TypeSchema,
    "hotswap_shared_types"
);

/// The schema of a type. It is made once, and kept until the image is unmapped.
pub(crate) fn schema_of<T: Shared>() -> Arc<TypeSchema> {
    kept_schema(TypeId::of::<T>(), T::describe)
}

fn kept_schema(id: TypeId, describe: fn(&mut SchemaBuilder) -> usize) -> Arc<TypeSchema> {
    if let Some(schema) = SCHEMAS.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
        return schema;
    }
    let schema = Arc::new(TypeSchema::described(describe));
    let mut schemas = SCHEMAS.write().unwrap_or_else(PoisonError::into_inner);
    schemas.0.get_or_insert_default().entry(id).or_insert(schema).clone()
}

/// A copy of the schema of a type.
pub(crate) fn own_schema_of<T: Shared>() -> TypeSchema {
    copy(&schema_of::<T>())
}

fn copy(schema: &TypeSchema) -> TypeSchema {
    schema.clone()
}

/// Frees the kept schemas, before the image is unmapped.
pub(crate) fn forget_schemas() {
    SCHEMAS.write().unwrap_or_else(PoisonError::into_inner).0 = None;
}

static SCHEMAS: RwLock<Schemas> = RwLock::new(Schemas(None));

struct Schemas(Option<HashMap<TypeId, Arc<TypeSchema>>>);

impl Schemas {
    fn get(&self, id: &TypeId) -> Option<Arc<TypeSchema>> {
        self.0.as_ref()?.get(id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discriminant_is_described_by_its_integer() {
        enum Plain {
            First,
            Second,
        }
        #[repr(i8)]
        enum Signed {
            Low = -128,
            High = 127,
        }
        #[repr(u64)]
        enum Wide {
            Most = u64::MAX,
        }
        assert_eq!([discriminant(Plain::First), discriminant(Plain::Second)], ["0", "1"]);
        assert_eq!([discriminant(Signed::Low), discriminant(Signed::High)], ["-128", "127"]);
        assert_eq!(discriminant(Wide::Most), u64::MAX.to_string());
    }
}
