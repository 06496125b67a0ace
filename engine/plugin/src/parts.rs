//! Reads and changes a map or a list part by part, so that it can be migrated while it is in use.
//!
//! A large value whose type changed takes long to read as the new type, and its users must not wait
//! for all of it. So a migration reads a few parts at a time. At the end it compares the digests of all
//! parts, and reads again only the parts that changed meanwhile.

use std::{
    hash::{BuildHasher as _, RandomState},
    ops::Range,
    sync::OnceLock,
};

use serde::{
    Serialize,
    ser::{
        self, Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
        SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
    },
};

use crate::{
    image::image_host,
    serializer::serialize,
    stack::check_stack,
    value::{MAX_BYTES, too_large},
};

/// Which parts of a value to read, by their places in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The digests of all parts, without those of a map's values.
    Keys,
    /// The digests of the parts in this range.
    Digests(Range<usize>),
    /// The digests and the JSON of the parts in this range.
    Range(Range<usize>),
    /// The digests and the JSON of the parts at these places, which are sorted.
    At(Vec<usize>),
}

impl Wanted {
    /// The digests of all parts.
    pub const ALL: Self = Self::Digests(0..usize::MAX);
}

/// The parts of a value that were asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// How many parts the value has in all.
    pub len: usize,
    /// The digests of the parts that were asked for, in order.
    pub digests: Vec<Digest>,
    /// A map or a list of the parts that were asked for, as JSON.
    pub json: String,
}

/// The digests of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// The digest of its key; 0 in a list.
    pub key: u64,
    /// The digest of its value; 0 in a map of which only the keys are wanted.
    pub value: u64,
}

/// How to change parts of a value of type `T`, by the kind of `T`.
pub enum Patch<T> {
    /// A map: an entry replaces the entry with the same key.
    Map {
        /// Moves the entries of the second map into the first.
        extend: fn(&mut T, T),
        /// Keeps only the entries at whose place the function returns true.
        retain: fn(&mut T, &mut dyn FnMut(usize) -> bool),
    },
    /// A set: like `Map`, with each element as its own key.
    Set {
        /// Moves the elements of the second set into the first.
        extend: fn(&mut T, T),
        /// Keeps only the elements at whose place the function returns true.
        retain: fn(&mut T, &mut dyn FnMut(usize) -> bool),
    },
    /// A list: an element replaces the element at the same place.
    List {
        /// Moves the elements of the second list to these places of the first, appends those whose
        /// place is beyond its end, and cuts the list to this length.
        replace: fn(&mut T, &[usize], T, usize),
    },
}

/// A change of a value's parts.
pub enum Change<'a> {
    /// Adds or replaces parts.
    Put {
        /// The place of each part; only a list needs them.
        places: &'a [usize],
        /// The length of a list after the change.
        len: usize,
    },
    /// Removes the parts at these places, which are sorted.
    Remove(&'a [usize]),
}

/// How the parts of a type are identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// By their keys.
    Map,
    /// By their own values.
    Set,
    /// By their places.
    List,
}

impl<T> Patch<T> {
    /// How the parts are identified.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Map { .. } => Kind::Map,
            Self::Set { .. } => Kind::Set,
            Self::List { .. } => Kind::List,
        }
    }

    /// Changes a value. `parts` has the new parts of a [`Change::Put`].
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
    /// Reads parts of a value; `None` if the value is neither a map nor a list.
    ///
    /// # Errors
    /// If the value's own `Serialize` fails, with its message.
    pub fn of<T: Serialize + ?Sized>(value: &T, wanted: &Wanted) -> Result<Option<Self>, String> {
        let mut reader = Reader::new(wanted);
        let read = value.serialize(&mut reader);
        reader.end(read)
    }
}

/// Why a value was not read: its own `Serialize` failed with this message, or it has no parts (`None`).
#[derive(Debug)]
struct Refused(Option<String>);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("the value is neither a map nor a list"))
    }
}

impl std::error::Error for Refused {}

impl ser::Error for Refused {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(Some(message.to_string()))
    }
}

type Step = Result<(), Refused>;

/// A serializer that reads parts of a map or a list.
struct Reader<'a> {
    wanted: &'a Wanted,
    /// The place of the next part.
    place: usize,
    /// How many of the wanted places have been passed.
    passed: usize,
    /// Whether the value is a map; `None` until it has begun.
    is_map: Option<bool>,
    seed: u64,
    parts: Parts,
}

impl<'a> Reader<'a> {
    fn new(wanted: &'a Wanted) -> Self {
        Self {
            wanted,
            place: 0,
            passed: 0,
            is_map: None,
            seed: digest_seed(),
            parts: Parts::default(),
        }
    }

    /// What was read.
    fn end(self, read: Step) -> Result<Option<Parts>, String> {
        match read {
            Ok(()) => {}
            Err(Refused(None)) => return Ok(None),
            Err(Refused(Some(why))) => return Err(why),
        }
        let Self { mut parts, is_map, place, .. } = self;
        parts.len = place;
        let (open, close) = if is_map == Some(true) { ('{', '}') } else { ('[', ']') };
        parts.json = format!("{open}{}{close}", parts.json);
        Ok(Some(parts))
    }

    /// Whether to read the digests, and whether to read the JSON, of the next part.
    fn next(&mut self) -> Result<(bool, bool), Refused> {
        let place = self.place;
        self.place += 1;
        expect_size(self.place, MAX_PARTS)?;
        Ok(match self.wanted {
            Wanted::Keys => (true, false),
            Wanted::Digests(range) => (range.contains(&place), false),
            Wanted::Range(range) => (range.contains(&place), range.contains(&place)),
            Wanted::At(places) => {
                let is_one = places.get(self.passed) == Some(&place);
                self.passed += usize::from(is_one);
                (is_one, is_one)
            }
        })
    }

    /// Reserves room for the digests of the wanted parts. `len` is the announced number of all parts.
    fn begin(&mut self, len: Option<usize>) -> Step {
        expect_size(len.unwrap_or(0), MAX_PARTS)?;
        let wanted = match self.wanted {
            Wanted::Keys => usize::MAX,
            Wanted::Digests(range) | Wanted::Range(range) => range.len(),
            Wanted::At(places) => places.len(),
        };
        // The announced length may be wrong.
        self.parts.digests.reserve(wanted.min(len.unwrap_or(0)).min(1 << 20));
        Ok(())
    }

    fn push_json(&mut self, json: &str) -> Step {
        expect_size(self.parts.json.len() + json.len(), MAX_BYTES)?;
        if !self.parts.json.is_empty() {
            self.parts.json.push(',');
        }
        self.parts.json.push_str(json);
        Ok(())
    }

    /// Adds the JSON of a map with one entry.
    fn push_entry(&mut self, map: &str) -> Step {
        let inside = map.strip_prefix('{').and_then(|map| map.strip_suffix('}'));
        self.push_json(inside.unwrap_or_default())
    }

    fn push_digest(&mut self, key: u64, value: u64) {
        self.parts.digests.push(Digest { key, value });
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
        let (digest, json) = self.next()?;
        if digest {
            self.push_digest(0, digest_of(value, self.seed)?);
        }
        if json {
            self.push_json(&to_json(value)?)?;
        }
        Ok(())
    }

    fn entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(&mut self, key: &K, value: &V) -> Step {
        let (digest, json) = self.next()?;
        if digest {
            let are_keys_wanted = matches!(self.wanted, Wanted::Keys);
            let value = if are_keys_wanted { 0 } else { digest_of(value, self.seed)? };
            self.push_digest(digest_of(key, self.seed)?, value);
        }
        if json {
            self.push_entry(&to_json(&Entry(key, value))?)?;
        }
        Ok(())
    }
}

/// The largest number of parts whose digests fit into [`MAX_BYTES`].
const MAX_PARTS: usize = MAX_BYTES / size_of::<Digest>();

/// Refuses a value that is too large to be read. A list of `()` may have more elements than memory has bytes.
#[inline]
fn expect_size(found: usize, most: usize) -> Step {
    if found <= most { Ok(()) } else { Err(refused(&too_large())) }
}

/// A map with one entry.
struct Entry<'a, K: ?Sized, V: ?Sized>(&'a K, &'a V);

impl<K: Serialize + ?Sized, V: Serialize + ?Sized> Serialize for Entry<'_, K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, self.1)?;
        map.end()
    }
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String, Refused> {
    crate::value::to_json(value).map_err(|error| refused(&error))
}

fn refused(error: &serde_json::Error) -> Refused {
    Refused(Some(error.to_string()))
}

fn digest_of<T: Serialize + ?Sized>(value: &T, seed: u64) -> Result<u64, Refused> {
    let mut digester = Digester(seed);
    value.serialize(&mut digester)?;
    Ok(digester.0)
}

impl Serializer for &mut Reader<'_> {
    serialize!(types {
        error: Refused,
        collections: Self,
        products: Impossible<(), Refused>,
        variants: Impossible<(), Refused>,
    });

    serialize!(self, seq(len) => {
        self.begin(len)?;
        self.is_map = Some(false);
        Ok(self)
    });
    serialize!(self, map(len) => {
        self.begin(len)?;
        self.is_map = Some(true);
        Ok(self)
    });
    serialize!(self, all[
        signed(_), unsigned(_), i128(_), u128(_), f32(_), f64(_), bool(_), char(_), str(_), bytes(_),
        nothing(), wrapped(_), unit_variant(_), newtype_variant(_, _), tuple(_), tuple_struct(_),
        struct(_), tuple_variant(_, _), struct_variant(_, _),
    ] => Err(Refused(None)));
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

    /// A key without its value cannot be read as a part. The maps of std serialise whole entries.
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

/// A serializer that makes a digest: of the kind and the bits of each scalar, of the length of each list
/// and map, and of the name of each field and variant.
///
/// Two values of a type with different JSON have different digests, except by chance. Two values with equal
/// JSON have equal digests within one image. Across images, only keys have equal digests: they consist of
/// texts, numbers and names of variants, while the name of a field enters the digest by its address.
///
/// Callers wait while a migration makes the digests of up to 64,000 parts, also in debug builds, where the
/// hasher of std would take most of the time. So each word costs only one multiplication, as in wyhash and
/// foldhash. The factor depends on the kind of the word.
struct Digester(u64);

/// The seed of all digests of the process. An image gets it from its host.
///
/// The seed is random, because a value may come from outside. An attacker who knew the seed could make two values
/// with the same digest, and a migration would not notice that one had replaced the other.
pub fn digest_seed() -> u64 {
    static OF_PROGRAM: OnceLock<u64> = OnceLock::new();
    image_host().map_or_else(
        || *OF_PROGRAM.get_or_init(|| RandomState::new().hash_one(())),
        |host| host.digest_seed,
    )
}

impl Digester {
    #[inline]
    fn word(&mut self, Kinded(factor): Kinded, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(factor);
        let folded = product as u64 ^ (product >> 64) as u64;
        self.0 = folded.rotate_left(23) ^ 0x1319_8a2e_0370_7344;
    }
}

/// The factor for words of one kind. Each kind has its own, so that `true` and 1 have different digests.
#[derive(Clone, Copy)]
struct Kinded(u64);

impl Kinded {
    /// The factor is odd, and another for each kind.
    const fn new(kind: u64) -> Self {
        Self((2 * kind + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

const WORD: Kinded = Kinded::new(0);
const BOOL: Kinded = Kinded::new(1);
const SIGNED: Kinded = Kinded::new(2);
const UNSIGNED: Kinded = Kinded::new(3);
const FLOAT: Kinded = Kinded::new(4);
const CHAR: Kinded = Kinded::new(5);
const TEXT: Kinded = Kinded::new(6);
const NONE: Kinded = Kinded::new(7);
const LIST: Kinded = Kinded::new(8);
const VARIANT: Kinded = Kinded::new(9);
const FIELD: Kinded = Kinded::new(10);

impl Digester {
    #[inline]
    fn scalar(&mut self, kind: Kinded, bits: impl Into<u64>) -> Step {
        self.word(kind, bits.into());
        Ok(())
    }

    #[inline]
    fn bytes(&mut self, kind: Kinded, bytes: &[u8]) {
        self.word(kind, bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(WORD, u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            // The last 8 bytes determine the rest, since the length is already in the digest.
            let last = match bytes.last_chunk::<8>() {
                Some(last) => u64::from_le_bytes(*last),
                None => rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
            };
            self.word(WORD, last);
        }
    }

    /// Adds the name of a field by its address and its length. No two names in one image have both in common.
    #[inline]
    fn field(&mut self, name: &'static str) {
        self.word(FIELD, name.as_ptr().addr() as u64 ^ (name.len() as u64).rotate_right(16));
    }

    fn begin(&mut self, len: Option<usize>) -> Result<&mut Self, Refused> {
        expect_stack()?;
        expect_size(len.unwrap_or(0), MAX_BYTES)?;
        self.scalar(LIST, len.map_or(u64::MAX, |len| len as u64))?;
        Ok(self)
    }

    fn variant(&mut self, name: &str, len: usize) -> Result<&mut Self, Refused> {
        self.bytes(VARIANT, name.as_bytes());
        self.begin(Some(len))
    }
}

/// Refuses a value that is nested more deeply than the stack allows.
#[inline]
fn expect_stack() -> Step {
    check_stack(|why| Refused(Some(why.to_owned())))
}

impl Serializer for &mut Digester {
    serialize!(types { error: Refused, collections: Self, products: Self, variants: Self });

    serialize!(self, signed(number) => self.scalar(SIGNED, number as u64));
    serialize!(self, unsigned(number) => self.scalar(UNSIGNED, number));
    serialize!(self, i128(number) => {
        self.scalar(SIGNED, number as u64)?;
        self.scalar(SIGNED, (number >> 64) as u64)
    });
    serialize!(self, u128(number) => {
        self.scalar(UNSIGNED, number as u64)?;
        self.scalar(UNSIGNED, (number >> 64) as u64)
    });
    serialize!(self, f32(number) => self.scalar(FLOAT, number.to_bits()));
    serialize!(self, f64(number) => self.scalar(FLOAT, number.to_bits()));
    serialize!(self, bool(value) => self.scalar(BOOL, value));
    serialize!(self, char(character) => self.scalar(CHAR, character));
    serialize!(self, str(text) => {
        self.bytes(TEXT, text.as_bytes());
        Ok(())
    });
    serialize!(self, bytes(bytes) => {
        self.bytes(LIST, bytes);
        Ok(())
    });

    serialize!(self, nothing() => self.scalar(NONE, 0_u64));
    serialize!(self, wrapped(value) => {
        expect_stack()?;
        value.serialize(self)
    });
    serialize!(self, unit_variant(name) => {
        self.bytes(VARIANT, name.as_bytes());
        Ok(())
    });
    serialize!(self, newtype_variant(name, value) => value.serialize(self.variant(name, 1)?));

    serialize!(self, seq(len) => self.begin(len));
    serialize!(self, map(len) => self.begin(len));
    serialize!(self, tuple(len) => self.begin(Some(len)));
    serialize!(self, tuple_struct(len) => self.begin(Some(len)));
    serialize!(self, struct(len) => self.begin(Some(len)));
    serialize!(self, tuple_variant(name, len) => self.variant(name, len));
    serialize!(self, struct_variant(name, len) => self.variant(name, len));
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
                    self.field(name);
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
    use std::{collections::BTreeMap, mem::ManuallyDrop};

    use super::*;
    use crate::stack::TOO_DEEP;

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
        let keys = Parts::of(&items(), &Wanted::Keys).unwrap().unwrap();
        assert!(keys.digests.iter().zip(&all.digests).all(|(it, all)| it.key == all.key));
        assert_eq!((keys.len, keys.digests[1].value), (5, 0));
        let list = Parts::of(&vec![7, 8, 9], &Wanted::At(vec![1])).unwrap().unwrap();
        assert_eq!((list.json.as_str(), list.len), ("[8]", 3));
        let nested = Parts::of(&vec![vec![1], vec![]], &Wanted::Range(0..9)).unwrap().unwrap();
        assert_eq!(nested.json, "[[1],[]]");
    }

    #[test]
    fn more_parts_than_memory_could_have_are_refused() {
        let refused = Err(too_large().to_string());
        assert_eq!(Parts::of(&vec![(); usize::MAX], &Wanted::Range(0..2)), refused);
        assert_eq!(Parts::of(&[vec![(); usize::MAX]][..], &Wanted::ALL), refused);
    }

    #[test]
    fn values_that_differ_have_different_digests() {
        let digest = |value: &dyn Fn(&mut Digester) -> Step| {
            let mut digester = Digester(digest_seed());
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
    fn values_with_different_json_have_different_digests() {
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
        fn digest<T: Serialize>(value: &T) -> u64 {
            digest_of(value, digest_seed()).unwrap()
        }
        let left = digest(&Sides { left: Some(5), right: None });
        assert_ne!(left, digest(&Sides { left: None, right: Some(5) }));
        let flag = digest(&Either::Flag(true));
        assert_ne!(flag, digest(&Either::Number(1)));
        let most = digest(&Either::Number(u64::MAX));
        assert_ne!(most, digest(&Either::Negative(-1)));
        let one = digest(&(Either::Nothing, Either::Number(5)));
        assert_ne!(one, digest(&(Either::Number(5), Either::Nothing)));
        assert_ne!(digest(&Team::Red), digest(&Team::Blue));
    }

    /// Two different texts with the same digest for this seed. The second word of each equals the state of the
    /// digester before that word, which cancels everything that came before.
    fn alike(seed: u64) -> [Vec<u8>; 2] {
        [1_u64, 2].map(|first| {
            let mut digester = Digester(seed);
            digester.word(LIST, 16);
            digester.word(WORD, first);
            [first, digester.0].into_iter().flat_map(u64::to_le_bytes).collect()
        })
    }

    #[test]
    fn digests_that_collide_for_a_known_seed_differ_for_the_seed_of_the_process() {
        struct Bytes(Vec<u8>);
        impl Serialize for Bytes {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }
        const KNOWN: u64 = 0x243f_6a88_85a3_08d3;
        let digests = |seed| alike(KNOWN).map(|bytes| digest_of(&Bytes(bytes), seed).unwrap());
        let [one, other] = digests(KNOWN);
        assert_eq!(one, other);
        let [one, other] = digests(digest_seed());
        assert_ne!(one, other);
    }

    #[test]
    fn a_value_that_is_no_map_and_no_list_has_no_parts() {
        assert_eq!(Parts::of(&7, &Wanted::ALL), Ok(None));
        assert_eq!(Parts::of(&Item { name: "x", score: None }, &Wanted::ALL), Ok(None));
        assert_eq!(Parts::of(&Some(vec![1]), &Wanted::ALL), Ok(None));
    }

    #[test]
    fn a_part_that_needs_too_much_stack_is_an_error() {
        #[derive(Serialize)]
        struct Wrapped(Option<Box<Self>>);

        #[derive(Serialize)]
        struct Nested {
            inner: Vec<Self>,
        }

        const LEVELS: usize = 1_000_000;
        let wrapped = (0..LEVELS).fold(Wrapped(None), |inner, _| Wrapped(Some(Box::new(inner))));
        let nested = (0..LEVELS).fold(Nested { inner: vec![] }, |it, _| Nested { inner: vec![it] });
        // Dropping them would take as much stack.
        let (wrapped, nested) = (ManuallyDrop::new([wrapped]), ManuallyDrop::new([nested]));
        assert_eq!(Parts::of(&&wrapped[..], &Wanted::ALL), Err(TOO_DEEP.to_owned()));
        assert_eq!(Parts::of(&&nested[..], &Wanted::ALL), Err(TOO_DEEP.to_owned()));
    }
}
