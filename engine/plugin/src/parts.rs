//! A map or a list part by part, so that it can be taken over while it is in use.
//!
//! Whoever takes over a large value whose type changed cannot stop everybody for as long as it takes to
//! read it anew. So its parts are read a few at a time; and in the end only those that changed
//! meanwhile, which their digests tell.

use std::ops::Range;

use serde::{
    Serialize,
    ser::{
        self, Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
        SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
    },
};

/// Which parts of a value are wanted, by their places in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The digests of some that follow each other.
    Digests(Range<usize>),
    /// Digests and JSON of some that follow each other.
    Range(Range<usize>),
    /// Digests and JSON of those at these places, which are sorted.
    At(Vec<usize>),
}

impl Wanted {
    /// The digests of all.
    pub const ALL: Self = Self::Digests(0..usize::MAX);
}

/// Some parts of a value.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// How many it has.
    pub len: usize,
    /// Of each that was wanted.
    pub digests: Vec<Digest>,
    /// A value of those that were wanted, as JSON.
    pub json: String,
}

/// A part's digests: that of its key, 0 in a list, and that of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// Of its key.
    pub key: u64,
    /// Of its value.
    pub value: u64,
}

/// How parts are put into a value of a type that has any.
pub enum Patch<T> {
    /// By key: an entry takes the place of the one with its key.
    Map {
        /// Puts the entries of another one in.
        extend: fn(&mut T, T),
        /// Leaves out those at the places for which it says so.
        retain: fn(&mut T, &mut dyn FnMut(usize) -> bool),
    },
    /// As `Map`, where an element is its own key.
    Set {
        /// Puts the elements of another one in.
        extend: fn(&mut T, T),
        /// Leaves out those at the places for which it says so.
        retain: fn(&mut T, &mut dyn FnMut(usize) -> bool),
    },
    /// By place.
    List {
        /// Puts the elements of another one at these places, and makes the list so long.
        replace: fn(&mut T, &[usize], T, usize),
    },
}

/// What is to be done with a value.
pub enum Change<'a> {
    /// Put the parts of another one in.
    Put {
        /// Where in a list.
        places: &'a [usize],
        /// How long a list is then.
        len: usize,
    },
    /// Leave out those at these places, which are sorted.
    Remove(&'a [usize]),
}

/// How the parts of a type are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// By key.
    Map,
    /// By themselves.
    Set,
    /// By place.
    List,
}

impl<T> Patch<T> {
    /// How the parts are told apart.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Map { .. } => Kind::Map,
            Self::Set { .. } => Kind::Set,
            Self::List { .. } => Kind::List,
        }
    }

    /// Changes a value; `parts` are what is put in.
    pub fn apply(&self, value: &mut T, parts: Option<T>, change: &Change<'_>) {
        match (self, parts, change) {
            (Self::Map { extend, .. } | Self::Set { extend, .. }, Some(parts), _) => {
                extend(value, parts);
            }
            (Self::List { replace }, Some(parts), Change::Put { places, len }) => {
                replace(value, places, parts, *len);
            }
            (Self::Map { retain, .. } | Self::Set { retain, .. }, None, Change::Remove(places)) => {
                retain(value, &mut |place| places.binary_search(&place).is_err());
            }
            _ => {}
        }
    }
}

impl Parts {
    /// Reads parts of a value; `None` if it is no map and no list.
    ///
    /// # Errors
    /// What the value's own `Serialize` refuses.
    pub fn of<T: Serialize + ?Sized>(value: &T, wanted: &Wanted) -> Result<Option<Self>, String> {
        let mut reader = Reader { wanted, place: 0, is_map: None, parts: Self::default() };
        match value.serialize(&mut reader) {
            Ok(()) => {}
            Err(Refused(None)) => return Ok(None),
            Err(Refused(Some(why))) => return Err(why),
        }
        let Reader { mut parts, is_map, place, .. } = reader;
        parts.len = place;
        let (open, close) = if is_map == Some(true) { ('{', '}') } else { ('[', ']') };
        parts.json = format!("{open}{}{close}", parts.json);
        Ok(Some(parts))
    }
}

/// Why a value is not read: it has no parts, or its own `Serialize` says so.
#[derive(Debug)]
struct Refused(Option<String>);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("it has no parts"))
    }
}

impl std::error::Error for Refused {}

impl ser::Error for Refused {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(Some(message.to_string()))
    }
}

type Step = Result<(), Refused>;

/// Reads a map or a list.
struct Reader<'a> {
    wanted: &'a Wanted,
    place: usize,
    is_map: Option<bool>,
    parts: Parts,
}

impl Reader<'_> {
    /// Whether digests and JSON of the next part are wanted.
    fn next(&mut self) -> (bool, bool) {
        let place = self.place;
        self.place += 1;
        match self.wanted {
            Wanted::Digests(range) => (range.contains(&place), false),
            Wanted::Range(range) => (range.contains(&place), range.contains(&place)),
            Wanted::At(places) => {
                let is_one = places.binary_search(&place).is_ok();
                (is_one, is_one)
            }
        }
    }

    fn push_json(&mut self, json: &str) {
        if !self.parts.json.is_empty() {
            self.parts.json.push(',');
        }
        self.parts.json.push_str(json);
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
        let (digest, json) = self.next();
        if digest {
            self.parts.digests.push(Digest { key: 0, value: digest_of(value)? });
        }
        if json {
            self.push_json(&to_json(value)?);
        }
        Ok(())
    }

    fn entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(&mut self, key: &K, value: &V) -> Step {
        let (digest, json) = self.next();
        if digest {
            self.parts.digests.push(Digest { key: digest_of(key)?, value: digest_of(value)? });
        }
        if json {
            let entry = to_json(&Entry(key, value))?;
            let inside = entry.strip_prefix('{').and_then(|entry| entry.strip_suffix('}'));
            self.push_json(inside.unwrap_or_default());
        }
        Ok(())
    }
}

/// A map of one entry.
struct Entry<'a, K: ?Sized, V: ?Sized>(&'a K, &'a V);

impl<K: Serialize + ?Sized, V: Serialize + ?Sized> Serialize for Entry<'_, K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, self.1)?;
        map.end()
    }
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String, Refused> {
    serde_json::to_string(value).map_err(|error| Refused(Some(error.to_string())))
}

fn digest_of<T: Serialize + ?Sized>(value: &T) -> Result<u64, Refused> {
    let mut digester = Digester::new();
    value.serialize(&mut digester)?;
    Ok(digester.0)
}

/// What has no parts.
macro_rules! without_parts {
    ($($method:ident($($argument:ty),*)),* $(,)?) => {
        $(
            fn $method(self, $(_: $argument),*) -> Step {
                Err(Refused(None))
            }
        )*
    };
}

impl Serializer for &mut Reader<'_> {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Self;
    type SerializeTuple = Impossible<(), Refused>;
    type SerializeTupleStruct = Impossible<(), Refused>;
    type SerializeTupleVariant = Impossible<(), Refused>;
    type SerializeMap = Self;
    type SerializeStruct = Impossible<(), Refused>;
    type SerializeStructVariant = Impossible<(), Refused>;

    without_parts! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32),
        serialize_i64(i64), serialize_i128(i128), serialize_u8(u8), serialize_u16(u16),
        serialize_u32(u32), serialize_u64(u64), serialize_u128(u128), serialize_f32(f32),
        serialize_f64(f64), serialize_char(char), serialize_str(&str), serialize_bytes(&[u8]),
        serialize_none(), serialize_unit(), serialize_unit_struct(&'static str),
        serialize_unit_variant(&'static str, u32, &'static str),
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Step {
        Err(Refused(None))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Step {
        Err(Refused(None))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Step {
        Err(Refused(None))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Refused> {
        self.is_map = Some(false);
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Refused> {
        self.is_map = Some(true);
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Refused> {
        Err(Refused(None))
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Refused> {
        Err(Refused(None))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Refused> {
        Err(Refused(None))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Refused> {
        Err(Refused(None))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Refused> {
        Err(Refused(None))
    }
}

impl SerializeSeq for &mut Reader<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
        self.element(value)
    }

    fn end(self) -> Step {
        Ok(())
    }
}

impl SerializeMap for &mut Reader<'_> {
    type Ok = ();
    type Error = Refused;

    /// Only whole entries are known what to do with; std's maps tell those.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Step {
        Err(Refused(None))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, _: &T) -> Step {
        Err(Refused(None))
    }

    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Step {
        self.entry(key, value)
    }

    fn end(self) -> Step {
        Ok(())
    }
}

/// Makes a digest of what is serialised: of each scalar its kind and its bits, of each list, map, field and
/// variant its length or name. What JSON tells apart has other digests, and equal JSON has equal ones in
/// all images.
///
/// It is made of 64,000 parts while callers wait, in a debug build too, where the hasher of std takes most
/// of the time; so it is one multiplication a word, as in wyhash and foldhash.
struct Digester(u64);

impl Digester {
    fn new() -> Self {
        Self(0x243f_6a88_85a3_08d3)
    }

    fn word(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        let folded = product as u64 ^ (product >> 64) as u64;
        self.0 = folded.rotate_left(23) ^ 0x1319_8a2e_0370_7344;
    }
}

macro_rules! digest_numbers {
    ($kind:ident: $($method:ident: $number:ty),* $(,)?) => {
        $(
            fn $method(self, number: $number) -> Step {
                self.scalar($kind, number as u64)
            }
        )*
    };
}

/// What a scalar is, so that `true` is told from 1.
const BOOL: u64 = 1;
const SIGNED: u64 = 2;
const UNSIGNED: u64 = 3;
const FLOAT: u64 = 4;
const CHAR: u64 = 5;
const TEXT: u64 = 6;
const NONE: u64 = 7;
const LIST: u64 = 8;
const VARIANT: u64 = 9;

impl Digester {
    fn scalar(&mut self, kind: u64, bits: u64) -> Step {
        self.word(kind);
        self.word(bits);
        Ok(())
    }

    fn bytes(&mut self, kind: u64, bytes: &[u8]) {
        self.word(kind);
        self.word(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.word(u64::from_le_bytes(last));
        }
    }

    fn begin(&mut self, len: Option<usize>) -> Result<&mut Self, Refused> {
        self.scalar(LIST, len.map_or(u64::MAX, |len| len as u64))?;
        Ok(self)
    }

    fn variant(&mut self, name: &str, len: usize) -> Result<&mut Self, Refused> {
        self.bytes(VARIANT, name.as_bytes());
        self.begin(Some(len))
    }
}

impl Serializer for &mut Digester {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    digest_numbers! { SIGNED:
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
    }

    digest_numbers! { UNSIGNED:
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
    }

    digest_numbers! { BOOL: serialize_bool: bool }

    digest_numbers! { CHAR: serialize_char: char }

    fn serialize_i128(self, value: i128) -> Step {
        self.scalar(SIGNED, value as u64)?;
        self.scalar(SIGNED, (value >> 64) as u64)
    }

    fn serialize_u128(self, value: u128) -> Step {
        self.scalar(UNSIGNED, value as u64)?;
        self.scalar(UNSIGNED, (value >> 64) as u64)
    }

    fn serialize_f32(self, value: f32) -> Step {
        self.scalar(FLOAT, value.to_bits().into())
    }

    fn serialize_f64(self, value: f64) -> Step {
        self.scalar(FLOAT, value.to_bits())
    }

    fn serialize_str(self, value: &str) -> Step {
        self.bytes(TEXT, value.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Step {
        self.bytes(LIST, value);
        Ok(())
    }

    fn serialize_none(self) -> Step {
        self.scalar(NONE, 0)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Step {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Step {
        self.scalar(NONE, 0)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Step {
        self.scalar(NONE, 0)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Step {
        self.bytes(VARIANT, name.as_bytes());
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Step {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Step {
        value.serialize(self.variant(name, 1)?)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self, Refused> {
        self.begin(len)
    }

    fn serialize_tuple(self, len: usize) -> Result<Self, Refused> {
        self.begin(Some(len))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Self, Refused> {
        self.begin(Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        len: usize,
    ) -> Result<Self, Refused> {
        self.variant(name, len)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self, Refused> {
        self.begin(len)
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Self, Refused> {
        self.begin(Some(len))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        len: usize,
    ) -> Result<Self, Refused> {
        self.variant(name, len)
    }
}

macro_rules! digest_parts {
    ($($kind:ident: $($method:ident),*;)*) => {
        $(
            impl $kind for &mut Digester {
                type Ok = ();
                type Error = Refused;

                $(
                    fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
                        value.serialize(&mut **self)
                    }
                )*

                fn end(self) -> Step {
                    Ok(())
                }
            }
        )*
    };
}

digest_parts! {
    SerializeSeq: serialize_element;
    SerializeTuple: serialize_element;
    SerializeTupleStruct: serialize_field;
    SerializeTupleVariant: serialize_field;
    SerializeMap: serialize_key, serialize_value;
}

macro_rules! digest_fields {
    ($($kind:ident),*) => {
        $(
            impl $kind for &mut Digester {
                type Ok = ();
                type Error = Refused;

                fn serialize_field<T: Serialize + ?Sized>(
                    &mut self,
                    name: &'static str,
                    value: &T,
                ) -> Step {
                    self.bytes(TEXT, name.as_bytes());
                    value.serialize(&mut **self)
                }

                fn end(self) -> Step {
                    Ok(())
                }
            }
        )*
    };
}

digest_fields!(SerializeStruct, SerializeStructVariant);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize)]
    struct Item {
        name: &'static str,
        score: Option<f64>,
    }

    fn items() -> BTreeMap<u32, Item> {
        let item = |n| (n, Item { name: "x", score: (n > 2).then_some(0.5) });
        (0..5).map(item).collect()
    }

    #[test]
    fn parts_are_read_by_their_places() {
        let all = Parts::of(&items(), &Wanted::ALL).unwrap().unwrap();
        assert_eq!((all.len, all.digests.len(), all.json.as_str()), (5, 5, "{}"));
        let some = Parts::of(&items(), &Wanted::Range(1..3)).unwrap().unwrap();
        let json = r#"{"1":{"name":"x","score":null},"2":{"name":"x","score":null}}"#;
        assert_eq!((some.json.as_str(), &some.digests[..]), (json, &all.digests[1..3]));
        let at = Parts::of(&items(), &Wanted::At(vec![0, 4])).unwrap().unwrap();
        let json = r#"{"0":{"name":"x","score":null},"4":{"name":"x","score":0.5}}"#;
        assert_eq!((at.json.as_str(), at.digests[1]), (json, all.digests[4]));
        let list = Parts::of(&vec![7, 8, 9], &Wanted::At(vec![1])).unwrap().unwrap();
        assert_eq!((list.json.as_str(), list.len), ("[8]", 3));
        let nested = Parts::of(&vec![vec![1], vec![]], &Wanted::Range(0..9)).unwrap().unwrap();
        assert_eq!(nested.json, "[[1],[]]");
    }

    #[test]
    fn what_differs_has_another_digest() {
        let digest = |value: &dyn Fn(&mut Digester) -> Step| {
            let mut digester = Digester::new();
            value(&mut digester).unwrap();
            digester.0
        };
        let of =
            |value: &(&str, Vec<&str>, Option<u8>)| digest(&|digester| value.serialize(digester));
        let one = of(&("ab", vec!["c"], None));
        assert_eq!(one, of(&("ab", vec!["c"], None)));
        for other in [
            ("a", vec!["bc"], None),
            ("ab", vec!["c", ""], None),
            ("ab", vec!["c"], Some(0)),
            ("abc", vec![], None),
        ] {
            assert_ne!(one, of(&other));
        }
    }

    #[test]
    fn what_json_tells_apart_has_another_digest() {
        #[derive(Serialize)]
        struct Sides {
            #[serde(skip_serializing_if = "Option::is_none")]
            left: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            right: Option<u64>,
        }
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Either {
            Flag(bool),
            Number(u64),
            Negative(i64),
            Nothing,
        }
        #[derive(Serialize)]
        enum Team {
            Red,
            Blue,
        }
        let left = digest_of(&Sides { left: Some(5), right: None }).unwrap();
        assert_ne!(left, digest_of(&Sides { left: None, right: Some(5) }).unwrap());
        let flag = digest_of(&Either::Flag(true)).unwrap();
        assert_ne!(flag, digest_of(&Either::Number(1)).unwrap());
        let most = digest_of(&Either::Number(u64::MAX)).unwrap();
        assert_ne!(most, digest_of(&Either::Negative(-1)).unwrap());
        let one = digest_of(&(Either::Nothing, Either::Number(5))).unwrap();
        assert_ne!(one, digest_of(&(Either::Number(5), Either::Nothing)).unwrap());
        assert_ne!(digest_of(&Team::Red).unwrap(), digest_of(&Team::Blue).unwrap());
    }

    #[test]
    fn what_is_no_map_and_no_list_has_no_parts() {
        assert_eq!(Parts::of(&7, &Wanted::ALL), Ok(None));
        assert_eq!(Parts::of(&Item { name: "x", score: None }, &Wanted::ALL), Ok(None));
        assert_eq!(Parts::of(&Some(vec![1]), &Wanted::ALL), Ok(None));
    }
}
