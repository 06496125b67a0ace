//! A type's structure as a tree, its fingerprint, and the first difference between two.

use std::{
    any::{TypeId, type_name},
    hash::{DefaultHasher, Hash, Hasher},
};

use super::Shared;

/// The structure of a type and of all it is made of; the first node is the type itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TypeSchema {
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
    /// What it is made of.
    pub shape: Shape,
}

/// What a type is made of. A `usize` is the place of another type in the schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Nothing: its name says it all.
    Scalar,
    /// A container of std, with its parameters.
    Generic(Vec<usize>),
    /// Fields.
    Struct(Vec<Field>),
    /// Variants.
    Enum {
        /// Its `repr`; empty for the compiler's own.
        layout: String,
        /// Its variants in order.
        variants: Vec<Variant>,
    },
}

/// A field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// Its name, or its number.
    pub name: String,
    /// Its distance from the start, in bytes; none in an enum's variant.
    pub offset: Option<usize>,
    /// Its type's place in the schema.
    pub type_index: usize,
}

/// A variant of an enum.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Its discriminant; empty in an enum with fields that leaves it to the compiler.
    pub discriminant: String,
    /// Its fields.
    pub fields: Vec<Field>,
}

impl TypeSchema {
    /// The schema of `T`.
    pub fn of<T: Shared>() -> Self {
        let mut builder = SchemaBuilder::default();
        T::describe(&mut builder);
        Self::of_nodes(builder.nodes.into_iter().flatten().collect())
    }

    /// The schema of a `str` that is lent.
    pub(crate) fn of_str() -> Self {
        let (size, align) = (size_of::<&str>(), align_of::<&str>());
        Self::of_nodes(vec![TypeNode { name: "str".into(), size, align, shape: Shape::Scalar }])
    }

    fn of_nodes(nodes: Vec<TypeNode>) -> Self {
        let mut hasher = DefaultHasher::new();
        nodes.hash(&mut hasher);
        Self { nodes, fingerprint: hasher.finish() }
    }

    /// A number that differs when the structure does.
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

    /// The type's fields, `z: f64`, or the names of its variants.
    pub fn members(&self) -> Vec<String> {
        match self.nodes.first().map(|node| &node.shape) {
            Some(Shape::Struct(fields)) => fields.iter().map(|field| self.text(field)).collect(),
            Some(Shape::Enum { variants, .. }) => {
                variants.iter().map(|variant| variant.name.clone()).collect()
            }
            Some(Shape::Scalar | Shape::Generic(_)) | None => Vec::new(),
        }
    }

    /// `z: f64`
    fn text(&self, field: &Field) -> String {
        let type_name = self.nodes.get(field.type_index).map_or("?", |node| &node.name);
        format!("{}: {type_name}", field.name)
    }

    /// The first difference between what is there and what is expected, in words; none when the
    /// two may stand for one another.
    pub fn difference(&self, expected: &Self) -> Option<String> {
        if self == expected {
            return None;
        }
        let mut visited = Vec::new();
        Some(self.difference_at(0, expected, 0, &mut visited).unwrap_or_else(|| {
            format!("`{}` and `{}` have another structure", self.name(), expected.name())
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
            _ if found.name != wanted.name && !matches!(found.shape, Shape::Generic(_)) => {
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
            return Some(format!("`{owner}` differs: found {}, not expected", text(self, extra)));
        }
        if let Some(missing) = wanted.iter().find(|field| !has(found, &field.name)) {
            let missing = text(expected, missing);
            return Some(format!("`{owner}` differs: {missing} was expected and is not there"));
        }
        found.iter().zip(wanted).find_map(|(a, b)| {
            let (found_text, wanted_text) = (text(self, a), text(expected, b));
            if found_text != wanted_text {
                let what = format!("found {found_text}, expected {wanted_text}");
                return Some(format!("`{owner}` differs: {what}"));
            }
            if a.offset != b.offset {
                return Some(format!("`{owner}` differs: {found_text} lies elsewhere"));
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

/// Collects the nodes of a schema.
#[derive(Default)]
pub struct SchemaBuilder {
    nodes: Vec<Option<TypeNode>>,
    known: Vec<(TypeId, usize)>,
}

impl SchemaBuilder {
    /// Adds `T` unless it is there, also where `T` contains itself; returns its place.
    pub fn add<T: 'static>(&mut self, shape: impl FnOnce(&mut Self) -> Shape) -> usize {
        let id = TypeId::of::<T>();
        if let Some((_, at)) = self.known.iter().find(|(known, _)| *known == id) {
            return *at;
        }
        let at = self.nodes.len();
        self.known.push((id, at));
        self.nodes.push(None);
        let shape = shape(self);
        let name = type_name::<T>().to_owned();
        let node = TypeNode { name, size: size_of::<T>(), align: align_of::<T>(), shape };
        if let Some(place) = self.nodes.get_mut(at) {
            *place = Some(node);
        }
        at
    }

    /// Adds a field's type and names the field.
    pub fn field<T: Shared>(&mut self, name: &str, offset: Option<usize>) -> Field {
        Field { name: name.to_owned(), offset, type_index: T::describe(self) }
    }
}
