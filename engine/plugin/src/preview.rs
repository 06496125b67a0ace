//! A preview of a value for people: a part of its JSON of bounded size, and a list of what was left out.
//!
//! The value stays locked while its preview is made. So making a preview takes bounded time and memory,
//! however large the value is: the walk through the value ends at the bounds, and notes how much is left.

use std::fmt::{self, Write as _};

use serde::{
    Serialize,
    ser::{
        self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant, Serializer,
    },
};
use serde_json::{Map, Number, Value};

use crate::serializer::serialize;

/// The largest nesting depth of lists, maps and wrappers. Each level takes stack.
const MAX_DEPTH: usize = 64;

/// How much of a value a preview shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The largest size of the JSON, in bytes. It is not exact.
    pub bytes: usize,
    /// The largest number of elements that are shown of each list and each map.
    pub elements: usize,
    /// The largest size, in bytes, that is shown of each text.
    pub text: usize,
    /// The largest number of elements that the whole walk may skip to reach what comes after them. A list or
    /// a map with more elements to skip ends the walk.
    pub passed_over: usize,
}

/// A bounded part of a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// The part, as JSON.
    pub json: String,
    /// What was left out.
    pub cuts: Vec<Cut>,
}

/// A list, a map or a text of which the preview shows only the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Where it lies in the value, as a JSON pointer (RFC 6901).
    pub path: String,
    /// How many elements of the list or map, or how many bytes of the text, the preview shows.
    pub shown: u64,
    /// How many there are in all; `None` if the value does not say.
    pub of: Option<u64>,
}

impl Preview {
    /// Makes a preview of a value.
    ///
    /// # Errors
    /// If the value's own `Serialize` fails, with its message.
    pub fn of<T: Serialize + ?Sized>(value: &T, bounds: Bounds) -> Result<Self, String> {
        look(value, bounds).map(Self::finish)
    }

    fn finish((value, cuts): (Value, Vec<Cut>)) -> Self {
        Self { json: value.to_string(), cuts }
    }
}

/// A part of a value as JSON of bounded size, and what was left out.
///
/// # Errors
/// If the value's own `Serialize` fails, with its message.
pub fn look<T: Serialize + ?Sized>(value: &T, bounds: Bounds) -> Result<(Value, Vec<Cut>), String> {
    let mut walk = Walk::new(bounds);
    let walked = value.serialize(&mut walk);
    walk.finish(walked)
}

/// A serializer that walks through a value up to the bounds.
struct Walk {
    bounds: Bounds,
    /// How much of `bytes` and `passed_over` is left.
    left: Bounds,
    /// The lists and maps that the walk is in, outermost first.
    frames: Vec<Frame>,
    /// How many wrappers the walk is in, such as `Some`, which JSON does not show. In a key of a map, also the depth
    /// of the map.
    wrapped: usize,
    /// The value's JSON, once the walk has left it.
    root: Option<Value>,
    cuts: Vec<Cut>,
}

/// A list or a map that a walk is in.
struct Frame {
    made: Made,
    /// How many elements the walk has come to, shown or not.
    seen: u64,
    /// How many elements there are; `None` if the value does not say.
    of: Option<u64>,
    /// Whether the type fixes the number of elements, as in a struct. Then all are shown.
    is_fixed: bool,
}

/// The JSON of a list or a map so far.
enum Made {
    List(Vec<Value>),
    /// The fields, and the key whose value comes next.
    Map(Map<String, Value>, Option<String>),
}

/// Why a walk ends early.
#[derive(Debug)]
enum Stop {
    /// The bounds are reached.
    Enough,
    /// The value's own `Serialize` failed with this message.
    Refused(String),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enough => f.write_str("the bounds are reached"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Stop {}

impl ser::Error for Stop {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Refused(message.to_string())
    }
}

type Step = Result<(), Stop>;

impl Frame {
    fn shown(&self) -> u64 {
        match &self.made {
            Made::List(items) => items.len() as u64,
            Made::Map(fields, _) => fields.len() as u64,
        }
    }
}

impl Walk {
    fn new(bounds: Bounds) -> Self {
        let (frames, cuts) = (Vec::new(), Vec::new());
        Self { bounds, left: bounds, frames, wrapped: 0, root: None, cuts }
    }

    /// What the walk has seen.
    fn finish(mut self, walked: Step) -> Result<(Value, Vec<Cut>), String> {
        match walked {
            Ok(()) | Err(Stop::Enough) => {}
            Err(Stop::Refused(why)) => return Err(why),
        }
        while !self.frames.is_empty() {
            self.end(true);
        }
        let value = self.root.unwrap_or_else(|| {
            self.cuts.push(Cut { path: String::new(), shown: 0, of: None });
            Value::Null
        });
        Ok((value, self.cuts))
    }

    fn begin(&mut self, made: Made, of: Option<usize>, is_fixed: bool) -> Result<&mut Self, Stop> {
        if self.depth() >= MAX_DEPTH {
            return Err(Stop::Enough);
        }
        self.spend(2)?;
        self.frames.push(Frame { made, seen: 0, of: of.map(|of| of as u64), is_fixed });
        Ok(self)
    }

    fn depth(&self) -> usize {
        self.frames.len() + self.wrapped
    }

    fn list(&mut self, of: Option<usize>, is_fixed: bool) -> Result<&mut Self, Stop> {
        self.begin(Made::List(Vec::new()), of, is_fixed)
    }

    fn map(&mut self, of: Option<usize>, is_fixed: bool) -> Result<&mut Self, Stop> {
        self.begin(Made::Map(Map::new(), None), of, is_fixed)
    }

    /// Walks through what is inside a wrapper.
    fn unwrap<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
        if self.depth() >= MAX_DEPTH {
            return Err(Stop::Enough);
        }
        self.wrapped += 1;
        let done = value.serialize(&mut *self);
        self.wrapped -= 1;
        done
    }

    /// Whether to show the next element. Ends the walk if there are too many elements to skip.
    fn shows_next(&mut self) -> Result<bool, Stop> {
        let bounds = self.bounds;
        let Some(frame) = self.frames.last_mut() else { return Ok(true) };
        frame.seen += 1;
        if frame.is_fixed || frame.shown() < bounds.elements as u64 {
            return Ok(true);
        }
        let rest = frame.of.map_or(1, |of| of.saturating_sub(frame.seen)) as usize;
        if rest >= self.left.passed_over {
            return Err(Stop::Enough);
        }
        self.left.passed_over -= 1;
        Ok(false)
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
        if self.shows_next()? { value.serialize(self) } else { Ok(()) }
    }

    fn key(&mut self, name: impl Into<String>) -> Step {
        let name = name.into();
        self.spend(name.len() + 4)?;
        if let Some(Frame { made: Made::Map(_, key), .. }) = self.frames.last_mut() {
            *key = Some(name);
        }
        Ok(())
    }

    /// A map's key as the name of a field: a text unchanged, anything else as JSON. The walk ends at a key that does
    /// not fit into the bounds.
    fn key_text<T: Serialize + ?Sized>(&self, key: &T) -> Result<String, Stop> {
        let bytes = self.left.bytes;
        let bounds = Bounds { bytes, elements: usize::MAX, text: bytes, passed_over: 0 };
        // The key may be a map, too, with such a key.
        let wrapped = self.depth() + 1;
        let mut walk = Walk { wrapped, ..Walk::new(bounds) };
        let walked = if wrapped < MAX_DEPTH { key.serialize(&mut walk) } else { Err(Stop::Enough) };
        let (key, cuts) = walk.finish(walked).map_err(Stop::Refused)?;
        match key {
            _ if !cuts.is_empty() => Err(Stop::Enough),
            Value::String(text) => Ok(text),
            other => Ok(other.to_string()),
        }
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Step {
        if self.shows_next()? {
            self.key(name)?;
            value.serialize(self)?;
        }
        Ok(())
    }

    /// Takes `bytes` from the number of bytes that are left.
    fn spend(&mut self, bytes: usize) -> Step {
        self.left.bytes = self.left.bytes.checked_sub(bytes).ok_or(Stop::Enough)?;
        Ok(())
    }

    fn scalar(&mut self, value: Value) -> Step {
        self.spend(8)?;
        self.put(value);
        Ok(())
    }

    fn put(&mut self, value: Value) {
        match self.frames.last_mut().map(|frame| &mut frame.made) {
            Some(Made::List(items)) => items.push(value),
            Some(Made::Map(fields, key)) => {
                fields.insert(key.take().unwrap_or_default(), value);
            }
            None => self.root = Some(value),
        }
    }

    /// Leaves a list or a map. `is_early` says that the walk ends there, before the last element.
    fn end(&mut self, is_early: bool) {
        let Some(frame) = self.frames.pop() else { return };
        let (shown, seen) = (frame.shown(), frame.seen);
        if is_early || shown < seen {
            let of = frame.of.or((!is_early).then_some(seen));
            if of != Some(shown) {
                let cut = Cut { path: self.path(), shown, of };
                self.cuts.push(cut);
            }
        }
        self.put(match frame.made {
            Made::List(items) => Value::Array(items),
            Made::Map(fields, _) => Value::Object(fields),
        });
    }

    /// Where the walk is, as a JSON pointer.
    fn path(&self) -> String {
        let steps = self.frames.iter().map(|frame| match &frame.made {
            Made::List(items) => format!("/{}", items.len()),
            Made::Map(_, key) => {
                let key = key.as_deref().unwrap_or_default();
                format!("/{}", key.replace('~', "~0").replace('/', "~1"))
            }
        });
        steps.collect()
    }

    /// The number of bytes that are shown of the next text.
    fn text_bytes(&self) -> usize {
        self.bounds.text.min(self.left.bytes)
    }

    fn text(&mut self, text: &str) -> Step {
        let end = text.floor_char_boundary(self.text_bytes());
        let of = Some(text.len() as u64).filter(|_| end < text.len());
        self.begin_of_text(text[..end].to_owned(), of.map(Some))
    }

    /// Shows the beginning of a text. If it is not the whole text, `cut` has the length of the text, if that is
    /// known.
    fn begin_of_text(&mut self, text: String, cut: Option<Option<u64>>) -> Step {
        self.spend(text.len() + 2)?;
        if let Some(of) = cut {
            self.cuts.push(Cut { path: self.path(), shown: text.len() as u64, of });
        }
        self.put(Value::String(text));
        Ok(())
    }
}

/// The beginning of a text that is being written.
struct Beginning {
    text: String,
    most: usize,
    is_cut: bool,
}

impl fmt::Write for Beginning {
    /// Fails when the beginning is complete, so that no more is written.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.is_cut {
            return Err(fmt::Error);
        }
        let end = text.floor_char_boundary(self.most - self.text.len());
        self.text.push_str(&text[..end]);
        self.is_cut = end < text.len();
        if self.is_cut { Err(fmt::Error) } else { Ok(()) }
    }
}

impl<'w> Serializer for &'w mut Walk {
    serialize!(types { error: Stop, collections: Self, products: Self, variants: Variant<'w> });

    serialize!(self, signed(number) => self.scalar(number.into()));
    serialize!(self, unsigned(number) => self.scalar(number.into()));
    serialize!(self, i128(number) => {
        let value = Number::from_i128(number).map(Value::Number);
        self.scalar(value.unwrap_or_else(|| number.to_string().into()))
    });
    serialize!(self, u128(number) => {
        let value = Number::from_u128(number).map(Value::Number);
        self.scalar(value.unwrap_or_else(|| number.to_string().into()))
    });
    serialize!(self, f32(number) => self.scalar(crate::Value::from(number).into()));
    serialize!(self, f64(number) => self.scalar(crate::Value::from(number).into()));
    serialize!(self, bool(value) => self.scalar(value.into()));
    serialize!(self, char(character) => self.text(character.encode_utf8(&mut [0; 4])));
    serialize!(self, str(text) => self.text(text));

    /// A text that is written piece by piece may be longer than memory.
    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Step {
        let most = self.text_bytes();
        let mut beginning = Beginning { text: String::new(), most, is_cut: false };
        let written = write!(beginning, "{value}");
        let Beginning { text, is_cut, .. } = beginning;
        if written.is_err() && !is_cut {
            return Err(Stop::Refused("its `Display` failed".to_owned()));
        }
        self.begin_of_text(text, is_cut.then_some(None))
    }

    serialize!(self, bytes(bytes) => {
        let list = self.list(Some(bytes.len()), false)?;
        bytes.iter().try_for_each(|byte| list.element(byte))?;
        SerializeSeq::end(list)
    });

    serialize!(self, nothing() => self.scalar(Value::Null));
    serialize!(self, wrapped(value) => self.unwrap(value));
    serialize!(self, unit_variant(name) => self.text(name));
    serialize!(self, newtype_variant(name, value) => {
        let map = self.map(Some(1), true)?;
        map.field(name, value)?;
        SerializeStruct::end(map)
    });

    serialize!(self, seq(len) => self.list(len, false));
    serialize!(self, map(len) => self.map(len, false));
    // For serde an array is a tuple, and an array can be long.
    serialize!(self, tuple(len) => self.list(Some(len), false));
    serialize!(self, tuple_struct(len) => self.list(Some(len), true));
    serialize!(self, struct(len) => self.map(Some(len), true));
    serialize!(self, tuple_variant(name, len) => {
        let map = self.map(Some(1), true)?;
        map.shows_next()?;
        map.key(name)?;
        Ok(Variant(map.list(Some(len), true)?))
    });
    serialize!(self, struct_variant(name, len) => {
        let map = self.map(Some(1), true)?;
        map.shows_next()?;
        map.key(name)?;
        Ok(Variant(map.map(Some(len), true)?))
    });
}

macro_rules! lists {
    ($($kind:ident::$method:ident),* $(,)?) => {
        $(
            impl $kind for &mut Walk {
                type Ok = ();
                type Error = Stop;

                fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
                    self.element(value)
                }

                fn end(self) -> Step {
                    Walk::end(self, false);
                    Ok(())
                }
            }
        )*
    };
}

lists! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
}

impl SerializeMap for &mut Walk {
    type Ok = ();
    type Error = Stop;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Step {
        let name = self.key_text(key)?;
        self.key(name)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
        value.serialize(&mut **self)
    }

    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Step {
        if !self.shows_next()? {
            return Ok(());
        }
        self.serialize_key(key)?;
        self.serialize_value(value)
    }

    fn end(self) -> Step {
        Walk::end(self, false);
        Ok(())
    }
}

impl SerializeStruct for &mut Walk {
    type Ok = ();
    type Error = Stop;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Step {
        self.field(name, value)
    }

    fn end(self) -> Step {
        Walk::end(self, false);
        Ok(())
    }
}

/// A variant with fields: a map with one field, whose value is a list or a map.
struct Variant<'w>(&'w mut Walk);

impl Variant<'_> {
    fn end_both(self) -> Step {
        self.0.end(false);
        self.0.end(false);
        Ok(())
    }
}

impl SerializeTupleVariant for Variant<'_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
        self.0.element(value)
    }

    fn end(self) -> Step {
        self.end_both()
    }
}

impl SerializeStructVariant for Variant<'_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Step {
        self.0.field(name, value)
    }

    fn end(self) -> Step {
        self.end_both()
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeMap};

    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 400, elements: 3, text: 10, passed_over: 5 };

    fn of(value: &impl Serialize) -> (String, Vec<(String, u64, Option<u64>)>) {
        let Preview { json, cuts } = Preview::of(value, BOUNDS).unwrap();
        (json, cuts.into_iter().map(|cut| (cut.path, cut.shown, cut.of)).collect())
    }

    #[derive(Serialize)]
    struct World {
        name: &'static str,
        items: Vec<Item>,
        scores: BTreeMap<u32, u64>,
        last: Option<bool>,
    }

    #[derive(Serialize)]
    enum Item {
        Nothing,
        One(f64),
        Two(u8, u8),
        Named { x: i32 },
    }

    fn world(items: usize, scores: u32) -> World {
        let item = |at| match at % 4 {
            0 => Item::Nothing,
            1 => Item::One(0.5),
            2 => Item::Two(1, 2),
            _ => Item::Named { x: -1 },
        };
        World {
            name: "earth",
            items: (0..items).map(item).collect(),
            scores: (0..scores).map(|n| (n, 7)).collect(),
            last: Some(true),
        }
    }

    #[test]
    fn a_small_value_is_shown_as_a_whole() {
        let world = world(3, 1);
        assert_eq!(of(&world), (serde_json::to_string(&world).unwrap(), vec![]));
        assert_eq!(of(&"héllo"), ("\"héllo\"".into(), vec![]));
        assert_eq!(of(&u128::MAX), (format!("\"{}\"", u128::MAX), vec![]));
        assert_eq!(of(&f64::NAN), ("\"NaN\"".into(), vec![]));
        assert_eq!(of(&f32::NEG_INFINITY), ("\"-Infinity\"".into(), vec![]));
    }

    #[test]
    fn elements_after_a_cut_are_shown() {
        let (json, cuts) = of(&world(7, 4));
        assert!(json.ends_with(r#""scores":{"0":7,"1":7,"2":7},"last":true}"#), "{json}");
        let expected = [("/items".into(), 3, Some(7)), ("/scores".into(), 3, Some(4))];
        assert_eq!(cuts, expected);
    }

    #[test]
    fn a_list_that_is_too_long_to_skip_ends_the_walk() {
        let (json, cuts) = of(&world(3, 1_000_000));
        assert!(json.ends_with(r#""scores":{"0":7,"1":7,"2":7}}"#), "{json}");
        let expected = [("/scores".into(), 3, Some(1_000_000)), (String::new(), 3, Some(4))];
        assert_eq!(cuts, expected);
        let (json, cuts) = of(&vec![0_u8; 50_000_000]);
        assert_eq!((json.as_str(), cuts.len()), ("[0,0,0]", 1));
        let (_, cuts) = of(&"ä".repeat(50_000));
        assert_eq!(cuts, [(String::new(), 10, Some(100_000))]);
    }

    #[test]
    fn a_text_that_is_written_in_pieces_is_read_up_to_the_bound() {
        struct Pieces(Cell<usize>, usize);
        impl fmt::Display for Pieces {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (0..self.1).try_for_each(|_| {
                    self.0.set(self.0.get() + 1);
                    f.write_str("äx")
                })
            }
        }
        impl Serialize for Pieces {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        let pieces = Pieces(Cell::new(0), 1_000);
        assert_eq!(of(&pieces), ("\"äxäxäx\"".into(), vec![(String::new(), 9, None)]));
        assert_eq!(pieces.0.get(), 4);
        assert_eq!(of(&Pieces(Cell::new(0), 2)), ("\"äxäx\"".into(), vec![]));
    }

    #[test]
    fn depth_and_bytes_are_bounded() {
        let wide: Vec<_> = (0..3).map(|_| "x".repeat(9)).collect();
        let deep: Vec<_> = (0..3).map(|_| vec![vec![wide.clone(); 3]; 3]).collect();
        #[derive(Serialize)]
        struct Wrapped(Option<Box<Self>>);

        let wrapped = (0..9_999).fold(Wrapped(None), |inner, _| Wrapped(Some(Box::new(inner))));
        assert_eq!(of(&wrapped).1.len(), 1);
        // Dropping it would take as much stack.
        std::mem::forget(wrapped);
        let Preview { json, cuts } = Preview::of(&deep, BOUNDS).unwrap();
        assert!(json.len() < 500, "{} bytes", json.len());
        assert!(!cuts.is_empty());
    }

    #[test]
    fn keys_are_bounded_too() {
        use std::collections::BTreeMap;

        #[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
        struct Nested(Vec<Self>);

        let keyed = |key: String| of(&BTreeMap::from([(key, 1)])).0;
        assert_eq!(keyed("x".repeat(20)), format!("{{\"{}\":1}}", "x".repeat(20)));
        assert_eq!(keyed("x".repeat(5_000_000)), "{}");
        assert_eq!(of(&BTreeMap::from([((1, "a"), 1)])).0, r#"{"[1,\"a\"]":1}"#);
        assert_eq!(of(&BTreeMap::from([(vec![7_u8; 5_000_000], 1)])).0, "{}");
        let nested = (0..1_000_000).fold(Nested(vec![]), |inner, _| Nested(vec![inner]));
        // Dropping it would take as much stack.
        let nested = std::mem::ManuallyDrop::new(BTreeMap::from([(nested, 1)]));
        let (json, cuts) = of(&*nested);
        assert_eq!((json.as_str(), cuts.len()), ("{}", 1));

        #[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
        struct Keyed(BTreeMap<Self, ()>);

        let keyed = |inner| Keyed(BTreeMap::from([(inner, ())]));
        let nested = (0..1_000_000).fold(Keyed(BTreeMap::new()), |inner, _| keyed(inner));
        let bounds = Bounds { bytes: 1 << 20, ..BOUNDS };
        let cut = Preview::of(&*std::mem::ManuallyDrop::new(nested), bounds).unwrap();
        assert_eq!((cut.json.as_str(), cut.cuts.len()), ("{}", 1));
    }
}
