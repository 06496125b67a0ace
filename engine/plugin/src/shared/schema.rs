//! The structure of a type as a tree, with a fingerprint and a comparison.

use std::{
    alloc::Layout,
    any::{TypeId, type_name},
    hash::{DefaultHasher, Hash, Hasher},
};

use super::Shared;
use crate::interface::Lent;

/// The structure of a [`Shared`] type and of all types in it. Two images compare their structures before one
/// uses a value of the other.
///
/// ```
/// use hotswap_plugin::{Shared, TypeSchema};
///
/// mod old {
///     # use hotswap_plugin::Shared;
///     #[derive(Shared)]
///     pub struct Point(pub f32);
/// }
/// mod new {
///     # use hotswap_plugin::Shared;
///     #[derive(Shared)]
///     pub struct Point(pub f64);
/// }
///
/// let (old, new) = (TypeSchema::of::<old::Point>(), TypeSchema::of::<new::Point>());
/// assert_ne!(old.fingerprint(), new.fingerprint());
/// assert_eq!(old.members(), ["0: f32"]);
/// assert_eq!(new.size(), 8);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TypeSchema {
    /// The first node is the type itself.
    nodes: Vec<TypeNode>,
    fingerprint: u64,
}

/// One type in a [`TypeSchema`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TypeNode {
    /// The type's path.
    pub name: String,
    /// Its size in bytes.
    pub size: usize,
    /// Its alignment in bytes.
    pub align: usize,
    /// The types that it is made of.
    pub shape: Shape,
}

/// The parts of a type. A part is given by its index in the schema, from 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Shape {
    /// A type without parts, such as a number or `String`. Its name says what it is.
    Scalar,
    /// A container of std, with the indices of its type parameters.
    Generic(Vec<usize>),
    /// A struct or a tuple.
    Struct(Vec<Field>),
    /// An enum.
    Enum {
        /// Its `repr`, such as `C, u8`; empty if it has none.
        layout: String,
        /// Its variants, in the order of the source.
        variants: Vec<Variant>,
    },
    /// An object of an interface, with its methods.
    Object(Vec<ObjectMethod>),
}

/// A method of an object's interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectMethod {
    /// The method's name.
    pub name: String,
    /// Its parameters and its result as written.
    pub signature: String,
    /// The indices of the types of its parameters and, last, of its result.
    pub types: Vec<usize>,
}

/// A field of a struct or a variant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// The field's name, or its number.
    pub name: String,
    /// Its distance in bytes from the start of the struct; `None` in a variant of an enum.
    pub offset: Option<usize>,
    /// The index of its type in the schema.
    pub type_index: usize,
}

/// A variant of an enum.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Variant {
    /// The variant's name.
    pub name: String,
    /// Its discriminant, in decimal; empty if the enum has fields and no `repr` with an integer type.
    pub discriminant: String,
    /// Its fields.
    pub fields: Vec<Field>,
}

impl TypeSchema {
    /// The schema of `T`.
    pub fn of<T: Shared>() -> Self {
        Self::described(T::describe)
    }

    /// The schema of a type that is passed by reference.
    pub(crate) fn of_lent<T: Lent + ?Sized>() -> Self {
        Self::described(T::describe_lent)
    }

    /// The schema of the type that `describe` adds.
    pub(crate) fn described(describe: fn(&mut SchemaBuilder) -> usize) -> Self {
        let mut builder = SchemaBuilder::default();
        describe(&mut builder);
        let nodes: Vec<TypeNode> = builder.nodes.into_iter().flatten().collect();
        let mut hasher = DefaultHasher::new();
        nodes.hash(&mut hasher);
        Self { nodes, fingerprint: hasher.finish() }
    }

    /// A hash of the structure.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The type's path.
    pub fn name(&self) -> &str {
        self.nodes.first().map_or("?", |node| node.name.as_str())
    }

    /// The type's size in bytes.
    pub fn size(&self) -> usize {
        self.nodes.first().map_or(0, |node| node.size)
    }

    /// The type's fields, such as `z: f64`, or the names of its variants.
    pub fn members(&self) -> Vec<String> {
        match self.nodes.first().map(|node| &node.shape) {
            Some(Shape::Struct(fields)) => fields.iter().map(|field| self.text(field)).collect(),
            Some(Shape::Enum { variants, .. }) => {
                variants.iter().map(|variant| variant.name.clone()).collect()
            }
            Some(Shape::Object(methods)) => {
                let text =
                    |method: &ObjectMethod| format!("fn {}{}", method.name, method.signature);
                methods.iter().map(text).collect()
            }
            Some(Shape::Scalar | Shape::Generic(_)) | None => Vec::new(),
        }
    }

    /// A field as text, such as `z: f64`.
    fn text(&self, field: &Field) -> String {
        let type_name = self.nodes.get(field.type_index).map_or("?", |node| &node.name);
        format!("{}: {type_name}", field.name)
    }

    /// The first difference between this schema, which was found, and the expected one, as text. `None` if
    /// the two are equal: then a value of one type can be used as a value of the other.
    pub fn difference(&self, expected: &Self) -> Option<String> {
        if self == expected {
            return None;
        }
        let mut visited = Vec::new();
        Some(self.difference_at(0, expected, 0, &mut visited).unwrap_or_else(|| {
            format!("`{}` and `{}` differ in structure", self.name(), expected.name())
        }))
    }

    fn difference_at(
        &self,
        at: usize,
        expected: &Self,
        expected_at: usize,
        visited: &mut Vec<(usize, usize)>,
    ) -> Option<String> {
        if visited.contains(&(at, expected_at)) {
            return None;
        }
        visited.push((at, expected_at));
        let (found, wanted) = (self.nodes.get(at)?, expected.nodes.get(expected_at)?);
        let mut deeper = |a, b| self.difference_at(a, expected, b, visited);
        match (&found.shape, &wanted.shape) {
            // Two containers of the same kind are compared by their type parameters below.
            _ if found.name != wanted.name
                && !(found.is_container() && is_same_kind(found, wanted)) =>
            {
                Some(format!("found `{}`, expected `{}`", found.name, wanted.name))
            }
            (Shape::Generic(a), Shape::Generic(b)) if a.len() == b.len() => {
                a.iter().zip(b).find_map(|(a, b)| deeper(*a, *b))
            }
            (Shape::Struct(a), Shape::Struct(b)) => {
                self.field_difference(&found.name, a, expected, b, &mut deeper)
            }
            (
                Shape::Enum { layout: a_layout, variants: a },
                Shape::Enum { layout: b_layout, variants: b },
            ) => {
                if a_layout != b_layout {
                    let what = format!("found the layout `{a_layout}`, expected `{b_layout}`");
                    return Some(format!("`{}` differs: {what}", found.name));
                }
                self.variant_difference(&found.name, a, expected, b, &mut deeper)
            }
            (Shape::Object(a), Shape::Object(b)) => {
                method_difference(&found.name, a, b, &mut deeper)
            }
            _ => None,
        }
        .or_else(|| {
            ((found.size, found.align) != (wanted.size, wanted.align)).then(|| {
                format!(
                    "`{}` differs: found {} bytes aligned to {}, expected {} aligned to {}",
                    found.name, found.size, found.align, wanted.size, wanted.align
                )
            })
        })
    }

    fn field_difference(
        &self,
        owner: &str,
        found: &[Field],
        expected: &Self,
        wanted: &[Field],
        deeper: &mut dyn FnMut(usize, usize) -> Option<String>,
    ) -> Option<String> {
        let text = |schema: &Self, field: &Field| format!("`{}`", schema.text(field));
        let has = |fields: &[Field], name: &str| fields.iter().any(|field| field.name == name);
        if let Some(extra) = found.iter().find(|field| !has(wanted, &field.name)) {
            return Some(format!("`{owner}` differs: {} is unexpected", text(self, extra)));
        }
        if let Some(missing) = wanted.iter().find(|field| !has(found, &field.name)) {
            let missing = text(expected, missing);
            return Some(format!("`{owner}` differs: {missing} is missing"));
        }
        found.iter().zip(wanted).find_map(|(a, b)| {
            let (found_text, wanted_text) = (text(self, a), text(expected, b));
            if found_text != wanted_text {
                let what = format!("found {found_text}, expected {wanted_text}");
                return Some(format!("`{owner}` differs: {what}"));
            }
            if a.offset != b.offset {
                return Some(format!("`{owner}` differs: {found_text} has another offset"));
            }
            deeper(a.type_index, b.type_index)
        })
    }

    fn variant_difference(
        &self,
        owner: &str,
        found: &[Variant],
        expected: &Self,
        wanted: &[Variant],
        deeper: &mut dyn FnMut(usize, usize) -> Option<String>,
    ) -> Option<String> {
        let names = |variants: &[Variant]| {
            let text = |(at, variant): (usize, &Variant)| match variant.discriminant.as_str() {
                value if value.is_empty() || value == at.to_string() => variant.name.clone(),
                value => format!("{} = {value}", variant.name),
            };
            variants.iter().enumerate().map(text).collect::<Vec<_>>().join(", ")
        };
        let (found_names, wanted_names) = (names(found), names(wanted));
        if found_names != wanted_names {
            let what = format!("found the variants {found_names}, expected {wanted_names}");
            return Some(format!("`{owner}` differs: {what}"));
        }
        found.iter().zip(wanted).find_map(|(a, b)| {
            let owner = format!("{owner}::{}", a.name);
            self.field_difference(&owner, &a.fields, expected, &b.fields, deeper)
        })
    }
}

fn method_difference(
    owner: &str,
    found: &[ObjectMethod],
    wanted: &[ObjectMethod],
    deeper: &mut dyn FnMut(usize, usize) -> Option<String>,
) -> Option<String> {
    if found.len() != wanted.len() {
        let (found, wanted) = (found.len(), wanted.len());
        return Some(format!("`{owner}` differs: found {found} methods, expected {wanted}"));
    }
    found.iter().zip(wanted).find_map(|(a, b)| {
        if (&a.name, &a.signature) != (&b.name, &b.signature) {
            return Some(format!(
                "`{owner}` differs: found `fn {}{}`, expected `fn {}{}`",
                a.name, a.signature, b.name, b.signature
            ));
        }
        a.types.iter().zip(&b.types).find_map(|(a, b)| deeper(*a, *b))
    })
}

/// Whether two types have the same path without their parameters.
fn is_same_kind(found: &TypeNode, wanted: &TypeNode) -> bool {
    found.name.split('<').next() == wanted.name.split('<').next()
}

impl TypeNode {
    fn is_container(&self) -> bool {
        matches!(self.shape, Shape::Generic(_))
    }
}

/// Collects the types of a schema, for [`Shared::describe`].
#[derive(Default)]
pub struct SchemaBuilder {
    nodes: Vec<Option<TypeNode>>,
    known: Vec<(TypeId, usize)>,
    points_home: bool,
}

impl SchemaBuilder {
    /// Adds `T`, unless it is there already, and returns its index. `T` may contain itself.
    pub fn add<T: 'static>(&mut self, shape: impl FnOnce(&mut Self) -> Shape) -> usize {
        match self.place_of(TypeId::of::<T>()) {
            Place::Known(at) => at,
            Place::New(at) => {
                let shape = shape(self);
                self.put(at, type_name::<T>(), Layout::new::<T>(), shape)
            }
        }
    }

    fn place_of(&mut self, id: TypeId) -> Place {
        if let Some((_, at)) = self.known.iter().find(|(known, _)| *known == id) {
            return Place::Known(*at);
        }
        let at = self.nodes.len();
        self.known.push((id, at));
        self.nodes.push(None);
        Place::New(at)
    }

    fn put(&mut self, at: usize, name: &str, layout: Layout, shape: Shape) -> usize {
        let (size, align) = (layout.size(), layout.align());
        if let Some(place) = self.nodes.get_mut(at) {
            *place = Some(TypeNode { name: name.to_owned(), size, align, shape });
        }
        at
    }

    /// Adds the type of a field, and returns the field. `offset` is the field's distance in bytes from the
    /// start of the struct.
    pub fn field<T: Shared>(&mut self, name: &str, offset: Option<usize>) -> Field {
        Field::new(name, offset, self.part::<T>())
    }

    /// Adds the type of a part, and returns its index.
    pub(crate) fn part<T: Shared>(&mut self) -> usize {
        self.points_home |= T::POINTS_HOME_ITSELF;
        T::describe(self)
    }

    /// Whether a `T`, or any part of it, may contain pointers that must be replaced.
    pub(crate) fn any_points_home<T: Shared>() -> bool {
        let mut builder = Self::default();
        builder.part::<T>();
        builder.points_home
    }
}

impl Field {
    fn new(name: &str, offset: Option<usize>, type_index: usize) -> Self {
        Self { name: name.to_owned(), offset, type_index }
    }
}

/// The place of a type in a schema.
enum Place {
    Known(usize),
    /// It is to be filled.
    New(usize),
}

#[cfg(test)]
mod tests {
    use std::collections::{HashSet, VecDeque};

    use super::*;

    fn difference<Found: Shared, Expected: Shared>() -> Option<String> {
        TypeSchema::of::<Found>().difference(&TypeSchema::of::<Expected>())
    }

    #[test]
    fn a_container_differs_from_other_types_and_from_other_containers() {
        let told = difference::<Vec<String>, String>().unwrap();
        assert_eq!(
            told,
            "found `alloc::vec::Vec<alloc::string::String>`, expected `alloc::string::String`"
        );
        let told = difference::<VecDeque<u8>, HashSet<u8>>().unwrap();
        assert!(
            told.ends_with("VecDeque<u8>`, expected `std::collections::hash::set::HashSet<u8>`"),
            "{told}"
        );
        assert_eq!(
            difference::<Vec<Vec<u8>>, Vec<Vec<u16>>>().unwrap(),
            "found `u8`, expected `u16`"
        );
        assert_eq!(
            difference::<[u8; 2], [u8; 3]>().unwrap(),
            "found `[u8; 2]`, expected `[u8; 3]`"
        );
        assert_eq!(difference::<Vec<u8>, Vec<u8>>(), None);
    }
}
