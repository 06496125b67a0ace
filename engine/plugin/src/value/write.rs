//! Makes a [`Value`] from a value that implements `Serialize`.
//!
//! It works like `serde_json::to_value`, except for numbers that JSON cannot represent: numbers that are not
//! finite are kept, and integers that need more than 64 bits become text.

use std::collections::HashSet;

use serde::{
    Serialize, Serializer,
    ser::{
        Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
        SerializeTuple, SerializeTupleStruct, SerializeTupleVariant,
    },
};
use serde_json::{Error, Value as Json};

use super::{JSON_OWN, MAX_DEPTH, Value};
use crate::{serializer::serialize, stack::check_stack};

/// The value that a `T` serialises to.
pub(super) fn value_of<T: Serialize + ?Sized>(from: &T) -> Result<Value, Error> {
    value_at(from, Depth::default())
}

/// The value of a part at a depth.
fn value_at<T: Serialize + ?Sized>(from: &T, depth: Depth) -> Result<Value, Error> {
    let mut value = Value::Null;
    from.serialize(Writer { place: &mut value, depth })?;
    Ok(value)
}

/// An integer as a value: text if it needs more than 64 bits.
pub(super) fn integer<T>(number: T) -> Value
where
    T: Copy + ToString + TryInto<u64> + TryInto<i64>,
{
    if let Ok(number) = number.try_into() {
        Value::Uint(number)
    } else if let Ok(number) = number.try_into() {
        Value::Int(number)
    } else {
        Value::Str(number.to_string())
    }
}

/// Writes a value into its place.
struct Writer<'a> {
    place: &'a mut Value,
    depth: Depth,
}

impl<'a> Writer<'a> {
    fn put(self, value: Value) -> Result<(), Error> {
        *self.place = value;
        Ok(())
    }

    fn parts(self, parts: Parts) -> Result<Builder<'a>, Error> {
        let depth = self.depth.deeper()?;
        Ok(Builder { place: self.place, variant: None, parts, depth })
    }

    fn list(self, len: usize) -> Result<Builder<'a>, Error> {
        self.parts(Parts::List(Vec::with_capacity(len.min(MAX_RESERVED))))
    }

    fn map(self, len: usize) -> Result<Builder<'a>, Error> {
        self.parts(Parts::Map(Vec::with_capacity(len.min(MAX_RESERVED))))
    }
}

/// The largest number of elements for which room is reserved at once. The announced length may be wrong.
const MAX_RESERVED: usize = 4096;

impl<'a> Serializer for Writer<'a> {
    serialize!(types {
        error: Error, collections: Builder<'a>, products: Builder<'a>, variants: Builder<'a>,
    });
    serialize!(self, signed(number) => self.put(Value::from(number)));
    serialize!(self, unsigned(number) => self.put(Value::from(number)));
    serialize!(self, i128(number) => self.put(integer(number)));
    serialize!(self, u128(number) => self.put(integer(number)));
    serialize!(self, f32(number) => self.put(Value::from(number)));
    serialize!(self, f64(number) => self.put(Value::from(number)));
    serialize!(self, bool(yes) => self.put(Value::Bool(yes)));
    serialize!(self, char(c) => self.put(Value::Str(c.to_string())));
    serialize!(self, str(text) => self.put(Value::Str(text.to_owned())));
    serialize!(self, bytes(bytes) => {
        self.put(Value::List(bytes.iter().map(|byte| Value::Uint((*byte).into())).collect()))
    });
    serialize!(self, nothing() => self.put(Value::Null));
    serialize!(self, wrapped(value) => {
        value.serialize(Writer { depth: self.depth.wrapped()?, ..self })
    });
    serialize!(self, unit_variant(name) => self.put(Value::Str(name.to_owned())));
    serialize!(self, newtype_variant(name, value) => {
        let value = value_at(value, self.depth.deeper()?)?;
        self.put(Value::Map(vec![(name.to_owned(), value)]))
    });
    serialize!(self, seq(len) => self.list(len.unwrap_or(0)));
    serialize!(self, map(len) => self.map(len.unwrap_or(0)));
    serialize!(self, tuple(len) => self.list(len));
    serialize!(self, tuple_struct(len) => self.list(len));
    serialize!(self, struct(len) => self.map(len));
    serialize!(self, tuple_variant(name, len) => {
        Ok(Builder { variant: Some(name), ..self.list(len)? })
    });
    serialize!(self, struct_variant(name, len) => {
        Ok(Builder { variant: Some(name), ..self.map(len)? })
    });
}

/// A value whose parts are still being written.
struct Builder<'a> {
    place: &'a mut Value,
    variant: Option<&'static str>,
    parts: Parts,
    /// The depth of its parts.
    depth: Depth,
}

enum Parts {
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

impl Builder<'_> {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let Parts::List(items) = &mut self.parts else { return Err(misused()) };
        items.push(value_at(value, self.depth)?);
        Ok(())
    }

    fn insert<T: Serialize + ?Sized>(&mut self, key: String, value: &T) -> Result<(), Error> {
        let Parts::Map(entries) = &mut self.parts else { return Err(misused()) };
        entries.push((key, value_at(value, self.depth)?));
        Ok(())
    }

    fn finish(self) -> Result<(), Error> {
        let value = match self.parts {
            Parts::List(items) => Value::List(items),
            Parts::Map(entries) => json_own(&entries)?.unwrap_or(Value::Map(entries)),
        };
        *self.place = match self.variant {
            Some(variant) => Value::Map(vec![(variant.to_owned(), value)]),
            None => value,
        };
        Ok(())
    }
}

/// The value of a type of `serde_json` itself, which serialises as one entry with a text of JSON; `None` for
/// other entries.
fn json_own(entries: &[(String, Value)]) -> Result<Option<Value>, Error> {
    match entries {
        [(key, Value::Str(text))] if key.starts_with(JSON_OWN) => {
            serde_json::from_str::<Json>(text).map(|json| Some(json.into()))
        }
        _ => Ok(None),
    }
}

/// How deeply a part is nested.
#[derive(Clone, Copy, Default)]
struct Depth {
    /// In how many lists and maps.
    levels: usize,
    /// In how many wrappers since the last list or map.
    wrappers: usize,
}

impl Depth {
    /// The depth inside one more list or map.
    fn deeper(self) -> Result<Self, Error> {
        let levels = self.levels + 1;
        if levels <= MAX_DEPTH { Ok(Self { levels, wrappers: 0 }) } else { Err(too_deep()) }
    }

    /// The depth inside one more wrapper, such as `Some`.
    fn wrapped(self) -> Result<Self, Error> {
        let wrappers = self.wrappers + 1;
        if wrappers <= MAX_WRAPPERS { Ok(Self { wrappers, ..self }) } else { Err(too_deep()) }
    }
}

/// The largest number of wrappers without a list or a map in between.
const MAX_WRAPPERS: usize = 16;

/// The error for a value that is nested more deeply than [`MAX_DEPTH`].
pub(super) fn too_deep() -> Error {
    Error::custom(format_args!("it is nested more than {MAX_DEPTH} levels deep"))
}

fn misused() -> Error {
    Error::custom(
        "an implementation of `Serialize` wrote entries into a list, or elements into a map",
    )
}

macro_rules! lists {
    ($($interface:ident $method:ident),* $(,)?) => {
        $(impl $interface for Builder<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.push(value)
            }

            fn end(self) -> Result<(), Error> {
                self.finish()
            }
        })*
    };
}

lists! {
    SerializeSeq serialize_element, SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field,
}

macro_rules! structs {
    ($($interface:ident),*) => {
        $(impl $interface for Builder<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Error> {
                self.insert(name.to_owned(), value)
            }

            fn end(self) -> Result<(), Error> {
                self.finish()
            }
        })*
    };
}

structs!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for Builder<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let mut text = String::new();
        key.serialize(KeyWriter(&mut text))?;
        self.insert(text, &())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let Parts::Map(entries) = &mut self.parts else { return Err(misused()) };
        let (_, place) = entries.last_mut().ok_or_else(misused)?;
        value.serialize(Writer { place, depth: self.depth })
    }

    fn end(mut self) -> Result<(), Error> {
        if let Parts::Map(entries) = &mut self.parts {
            keep_last(entries);
        }
        self.finish()
    }
}

/// Keeps only the last of several entries with the same key, as a map does. Flattened fields may have the
/// same names.
pub(super) fn keep_last(entries: &mut Vec<(String, Value)>) {
    let mut keys = HashSet::new();
    if entries.iter().all(|(key, _)| keys.insert(key.as_str())) {
        return;
    }
    let mut kept: Vec<(String, Value)> = Vec::new();
    for (key, value) in std::mem::take(entries) {
        match kept.iter_mut().find(|(other, _)| *other == key) {
            Some((_, place)) => *place = value,
            None => kept.push((key, value)),
        }
    }
    *entries = kept;
}

/// Writes the key of a map, which is text.
struct KeyWriter<'a>(&'a mut String);

impl KeyWriter<'_> {
    fn put(self, key: impl ToString) -> Result<(), Error> {
        *self.0 = key.to_string();
        Ok(())
    }
}

fn no_key<T>() -> Result<T, Error> {
    Err(Error::custom("key must be a string"))
}

impl Serializer for KeyWriter<'_> {
    serialize!(types {
        error: Error,
        collections: serde::ser::Impossible<(), Error>,
        products: serde::ser::Impossible<(), Error>,
        variants: serde::ser::Impossible<(), Error>,
    });
    serialize!(self, signed(number) => self.put(number));
    serialize!(self, unsigned(number) => self.put(number));
    serialize!(self, i128(number) => self.put(number));
    serialize!(self, u128(number) => self.put(number));
    serialize!(self, f32(number) => self.put(Json::from(number)));
    serialize!(self, f64(number) => self.put(Json::from(number)));
    serialize!(self, bool(yes) => self.put(yes));
    serialize!(self, char(c) => self.put(c));
    serialize!(self, str(text) => self.put(text));
    serialize!(self, wrapped(value) => {
        check_stack(Error::custom)?;
        value.serialize(self)
    });
    serialize!(self, unit_variant(name) => self.put(name));
    serialize!(self, newtype_variant(_, _) => no_key());
    serialize!(self, all[
        nothing(), bytes(_), seq(_), map(_), tuple(_), tuple_struct(_), struct(_),
        tuple_variant(_, _), struct_variant(_, _),
    ] => no_key());
}
