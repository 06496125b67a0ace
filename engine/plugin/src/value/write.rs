//! Makes a [`Value`] from a value that implements `Serialize`.
//!
//! It works like `serde_json::to_value`, except for numbers that JSON cannot represent: numbers that are not
//! finite are kept, and integers that need more than 64 bits become text.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    fmt::{self, Write as _},
};

use serde::{
    Serialize, Serializer,
    ser::{
        Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
        SerializeTuple, SerializeTupleStruct, SerializeTupleVariant,
    },
};
use serde_json::{Error, Value as Json};

use super::{JSON_OWN, MAX_BYTES, MAX_DEPTH, Value};
use crate::{serializer::serialize, stack::check_stack};

/// The value that a `T` serialises to.
pub(super) fn value_of<T: Serialize + ?Sized>(from: &T) -> Result<Value, Error> {
    value_at(from, Depth::default(), &Room(Cell::new(MAX_BYTES)))
}

/// The value of a part at a depth.
fn value_at<T: Serialize + ?Sized>(from: &T, depth: Depth, room: &Room) -> Result<Value, Error> {
    room.take(size_of::<Value>())?;
    let mut value = Value::Null;
    from.serialize(Writer { place: &mut value, depth, room })?;
    Ok(value)
}

/// The number of bytes that the parts of a value may still take.
struct Room(Cell<usize>);

impl Room {
    fn take(&self, bytes: usize) -> Result<(), Error> {
        self.0.set(self.0.get().checked_sub(bytes).ok_or_else(too_large)?);
        Ok(())
    }

    /// Refuses so many parts at once if they cannot fit.
    fn expect(&self, parts: usize) -> Result<(), Error> {
        if parts <= self.0.get() / size_of::<Value>() { Ok(()) } else { Err(too_large()) }
    }

    fn text(&self, text: &str) -> Result<String, Error> {
        self.take(text.len())?;
        Ok(text.to_owned())
    }

    /// The key of an entry of a map.
    fn key(&self, key: &str) -> Result<String, Error> {
        self.take(size_of::<String>())?;
        self.text(key)
    }

    /// The name of a variant whose parts are a list or a map: the key of a map with one entry.
    fn variant(&self, name: &str) -> Result<String, Error> {
        self.take(size_of::<Value>())?;
        self.key(name)
    }

    /// A text that is written piece by piece, which may never end.
    fn display<T: fmt::Display + ?Sized>(&self, value: &T) -> Result<String, Error> {
        struct Pieces<'a> {
            room: &'a Room,
            text: String,
            taken: Result<(), Error>,
        }

        impl fmt::Write for Pieces<'_> {
            fn write_str(&mut self, piece: &str) -> fmt::Result {
                if self.taken.is_ok() {
                    self.taken = self.room.take(piece.len());
                }
                self.taken.as_ref().map_err(|_| fmt::Error)?;
                self.text.push_str(piece);
                Ok(())
            }
        }

        let mut pieces = Pieces { room: self, text: String::new(), taken: Ok(()) };
        let written = write!(pieces, "{value}");
        pieces.taken?;
        written.map_err(|_| Error::custom("its `Display` failed"))?;
        Ok(pieces.text)
    }
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
    room: &'a Room,
}

impl<'a> Writer<'a> {
    fn put(self, value: Value) -> Result<(), Error> {
        *self.place = value;
        Ok(())
    }

    fn parts(self, parts: Parts) -> Result<Builder<'a>, Error> {
        let depth = self.depth.deeper()?;
        Ok(Builder { place: self.place, variant: None, parts, depth, room: self.room })
    }

    fn list(self, len: usize) -> Result<Builder<'a>, Error> {
        self.room.expect(len)?;
        self.parts(Parts::List(Vec::with_capacity(len.min(MAX_RESERVED))))
    }

    fn map(self, len: usize) -> Result<Builder<'a>, Error> {
        self.room.expect(len)?;
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
    serialize!(self, str(text) => {
        let text = self.room.text(text)?;
        self.put(Value::Str(text))
    });

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        let text = self.room.display(value)?;
        self.put(Value::Str(text))
    }

    serialize!(self, bytes(bytes) => {
        self.room.take(bytes.len().saturating_mul(size_of::<Value>()))?;
        self.put(Value::List(bytes.iter().map(|byte| Value::Uint((*byte).into())).collect()))
    });
    serialize!(self, nothing() => self.put(Value::Null));
    serialize!(self, wrapped(value) => {
        value.serialize(Writer { depth: self.depth.wrapped()?, ..self })
    });
    serialize!(self, unit_variant(name) => {
        let name = self.room.text(name)?;
        self.put(Value::Str(name))
    });
    serialize!(self, newtype_variant(name, value) => {
        let name = self.room.key(name)?;
        let value = value_at(value, self.depth.deeper()?, self.room)?;
        self.put(Value::Map(vec![(name, value)]))
    });
    serialize!(self, seq(len) => self.list(len.unwrap_or(0)));
    serialize!(self, map(len) => self.map(len.unwrap_or(0)));
    serialize!(self, tuple(len) => self.list(len));
    serialize!(self, tuple_struct(len) => self.list(len));
    serialize!(self, struct(len) => self.map(len));
    serialize!(self, tuple_variant(name, len) => {
        Ok(Builder { variant: Some(self.room.variant(name)?), ..self.list(len)? })
    });
    serialize!(self, struct_variant(name, len) => {
        Ok(Builder { variant: Some(self.room.variant(name)?), ..self.map(len)? })
    });
}

/// A value whose parts are still being written.
struct Builder<'a> {
    place: &'a mut Value,
    /// The name of the variant whose parts they are, if they are those of a variant.
    variant: Option<String>,
    parts: Parts,
    /// The depth of its parts.
    depth: Depth,
    room: &'a Room,
}

enum Parts {
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

impl Builder<'_> {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let Parts::List(items) = &mut self.parts else { return Err(misused()) };
        items.push(value_at(value, self.depth, self.room)?);
        Ok(())
    }

    fn insert<T: Serialize + ?Sized>(&mut self, key: String, value: &T) -> Result<(), Error> {
        let Parts::Map(entries) = &mut self.parts else { return Err(misused()) };
        entries.push((key, value_at(value, self.depth, self.room)?));
        Ok(())
    }

    fn finish(self) -> Result<(), Error> {
        let value = match self.parts {
            Parts::List(items) => Value::List(items),
            Parts::Map(entries) => json_own(&entries, self.room)?.unwrap_or(Value::Map(entries)),
        };
        *self.place = match self.variant {
            Some(variant) => Value::Map(vec![(variant, value)]),
            None => value,
        };
        Ok(())
    }
}

/// The value of a type of `serde_json` itself, which serialises as one entry with a text of JSON; `None` for
/// other entries.
fn json_own(entries: &[(String, Value)], room: &Room) -> Result<Option<Value>, Error> {
    match entries {
        [(key, Value::Str(text))] if key.starts_with(JSON_OWN) => {
            // A part has at least two bytes of text, such as `1,`.
            room.take(text.len().saturating_mul(size_of::<Value>() / 2))?;
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

/// The error for a value that takes more than [`MAX_BYTES`].
pub(crate) fn too_large() -> Error {
    Error::custom(format_args!(
        "it takes more than {} MiB; pass less at a time, or as Rust types without serde",
        MAX_BYTES >> 20
    ))
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
                self.insert(self.room.key(name)?, value)
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
        self.room.take(size_of::<String>())?;
        key.serialize(KeyWriter { text: &mut text, room: self.room })?;
        self.insert(text, &())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let Parts::Map(entries) = &mut self.parts else { return Err(misused()) };
        let (_, place) = entries.last_mut().ok_or_else(misused)?;
        value.serialize(Writer { place, depth: self.depth, room: self.room })
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
    let mut places = HashMap::new();
    let mut kept: Vec<(String, Value)> = Vec::new();
    for (key, value) in std::mem::take(entries) {
        match places.get(&key) {
            Some(place) => kept[*place] = (key, value),
            None => {
                places.insert(key.clone(), kept.len());
                kept.push((key, value));
            }
        }
    }
    *entries = kept;
}

/// Writes the key of a map, which is text.
struct KeyWriter<'a> {
    text: &'a mut String,
    room: &'a Room,
}

impl KeyWriter<'_> {
    fn put<T: fmt::Display + ?Sized>(self, key: &T) -> Result<(), Error> {
        *self.text = self.room.display(key)?;
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
    serialize!(self, signed(number) => self.put(&number));
    serialize!(self, unsigned(number) => self.put(&number));
    serialize!(self, i128(number) => self.put(&number));
    serialize!(self, u128(number) => self.put(&number));
    serialize!(self, f32(number) => self.put(&Json::from(number)));
    serialize!(self, f64(number) => self.put(&Json::from(number)));
    serialize!(self, bool(yes) => self.put(&yes));
    serialize!(self, char(c) => self.put(&c));
    serialize!(self, str(text) => self.put(text));

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.put(value)
    }

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

#[cfg(test)]
mod tests {
    use std::iter::{empty, repeat, repeat_n};

    use super::*;

    /// Serialises as the parts of an iterator, which may never end.
    #[derive(Clone)]
    struct Many<I>(I);

    impl<T: Serialize, I: Iterator<Item = T> + Clone> Serialize for Many<I> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut list = serializer.serialize_seq(None)?;
            self.0.clone().try_for_each(|part| list.serialize_element(&part))?;
            list.end()
        }
    }

    /// Is written as a text that never ends.
    #[derive(Clone)]
    struct Endless;

    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            repeat(()).try_for_each(|()| f.write_str("and so on "))
        }
    }

    impl Serialize for Endless {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    /// A map with this one key.
    #[derive(Clone)]
    struct Keyed<K>(K);

    impl<K: Serialize> Serialize for Keyed<K> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map([(&self.0, ())])
        }
    }

    #[derive(Clone, Serialize)]
    enum Choice {
        None,
        One(u8),
        Two((), ()),
        Named {},
    }

    fn refusal<T: Serialize>(value: &T) -> Option<String> {
        let room = Room(Cell::new(100_000));
        value_at(value, Depth::default(), &room).err().map(|error| error.to_string())
    }

    #[test]
    fn a_value_is_written_up_to_a_bound() {
        let refused = Some(too_large().to_string());
        assert_eq!(refusal(&Many(repeat(()))), refused);
        assert_eq!(refusal(&Many(repeat(Many(empty::<()>())))), refused);
        assert_eq!(refusal(&Many(repeat("x".repeat(100)))), refused);
        assert_eq!(refusal(&Many(repeat(Keyed("x")))), refused);
        for choice in [Choice::None, Choice::One(1), Choice::Two((), ()), Choice::Named {}] {
            assert_eq!(refusal(&Many(repeat(choice))), refused);
        }
        assert_eq!(refusal(&Endless), refused);
        assert_eq!(refusal(&Keyed(Endless)), refused);
        assert_eq!(refusal(&vec![(); usize::MAX]), refused);
        assert_eq!(refusal(&Many(repeat_n((), 2_000))), None);
        assert_eq!(refusal(&Many(repeat_n("x".repeat(1_000), 90))), None);
        assert_eq!(refusal(&Keyed("x".repeat(90_000))), None);
    }

    #[test]
    fn the_last_of_several_entries_with_the_same_key_counts() {
        let entry = |key: &str, value: u32| (key.to_owned(), Value::from(value));
        let mut entries = vec![entry("a", 1), entry("b", 2), entry("a", 3), entry("c", 4)];
        keep_last(&mut entries);
        assert_eq!(entries, [entry("a", 3), entry("b", 2), entry("c", 4)]);
    }
}
