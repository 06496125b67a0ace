//! A value as somebody looks at it: a bounded part of its JSON, and what was left out.
//!
//! Whoever looks at a value holds its lock meanwhile, so looking must take a bounded time and space,
//! whatever the value is: the walk ends where the bounds say, and tells how much there is.

use serde::{
    Serialize,
    ser::{
        self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant, Serializer,
    },
};
use serde_json::{Map, Number, Value};

/// How deep lists and maps may lie in each other, since looking at them takes stack.
const MAX_DEPTH: usize = 64;

/// How much of a value is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of JSON, roughly.
    pub bytes: usize,
    /// Elements of each list and each map.
    pub elements: usize,
    /// Bytes of each text.
    pub text: usize,
    /// Elements that are passed over to get at what comes after them; where there are more, the walk
    /// ends with them.
    pub passed_over: usize,
}

/// A bounded part of a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// The part, as JSON.
    pub json: String,
    /// What is left out, if anything.
    pub cuts: Vec<Cut>,
}

/// A list, a map or a text of which only the beginning is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Where it lies in the value, as a JSON pointer (RFC 6901).
    pub path: String,
    /// How many elements, or bytes of a text, are there.
    pub shown: u64,
    /// How many it has; `None` if it does not tell.
    pub of: Option<u64>,
}

impl Preview {
    /// Looks at a value.
    ///
    /// # Errors
    /// What the value's own `Serialize` refuses.
    pub fn of<T: Serialize + ?Sized>(value: &T, bounds: Bounds) -> Result<Self, String> {
        let (value, cuts) = look(value, bounds)?;
        Ok(Self { json: value.to_string(), cuts })
    }
}

/// Looks at a value: a part of it as JSON, and what is left out.
///
/// # Errors
/// What the value's own `Serialize` refuses.
pub fn look<T: Serialize + ?Sized>(value: &T, bounds: Bounds) -> Result<(Value, Vec<Cut>), String> {
    let mut walk =
        Walk { bounds, left: bounds, frames: Vec::new(), wrapped: 0, root: None, cuts: Vec::new() };
    match value.serialize(&mut walk) {
        Ok(()) | Err(Stop::Enough) => {}
        Err(Stop::Refused(why)) => return Err(why),
    }
    while !walk.frames.is_empty() {
        walk.end(true);
    }
    let value = walk.root.unwrap_or_else(|| {
        walk.cuts.push(Cut { path: String::new(), shown: 0, of: None });
        Value::Null
    });
    Ok((value, walk.cuts))
}

/// A walk through a value.
struct Walk {
    bounds: Bounds,
    left: Bounds,
    /// The lists and maps that it is in, outermost first.
    frames: Vec<Frame>,
    /// How many wrappers it is in, which JSON does not show.
    wrapped: usize,
    root: Option<Value>,
    cuts: Vec<Cut>,
}

/// A list or a map that a walk is in.
struct Frame {
    made: Made,
    seen: u64,
    of: Option<u64>,
    /// Whether it has as many elements as its type says, and not as many as somebody put there.
    is_fixed: bool,
}

/// What there is of a list or a map.
enum Made {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

/// Why a walk ends early.
#[derive(Debug)]
enum Stop {
    /// The bounds are reached.
    Enough,
    /// The value cannot be serialised.
    Refused(String),
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Enough => f.write_str("enough was seen"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Stop {}

impl ser::Error for Stop {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
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
    fn begin(&mut self, made: Made, of: Option<usize>, is_fixed: bool) -> Result<&mut Self, Stop> {
        if self.frames.len() + self.wrapped >= MAX_DEPTH {
            return Err(Stop::Enough);
        }
        self.pay(2)?;
        self.frames.push(Frame { made, seen: 0, of: of.map(|of| of as u64), is_fixed });
        Ok(self)
    }

    fn list(&mut self, of: Option<usize>, is_fixed: bool) -> Result<&mut Self, Stop> {
        self.begin(Made::List(Vec::new()), of, is_fixed)
    }

    fn map(&mut self, of: Option<usize>, is_fixed: bool) -> Result<&mut Self, Stop> {
        self.begin(Made::Map(Map::new(), None), of, is_fixed)
    }

    /// Looks at what a wrapper has inside.
    fn unwrap<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
        if self.frames.len() + self.wrapped >= MAX_DEPTH {
            return Err(Stop::Enough);
        }
        self.wrapped += 1;
        let done = value.serialize(&mut *self);
        self.wrapped -= 1;
        done
    }

    /// Whether the next element is to be looked at; ends the walk if there are too many to pass over.
    fn looks_on(&mut self) -> Result<bool, Stop> {
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
        if self.looks_on()? { value.serialize(self) } else { Ok(()) }
    }

    fn key(&mut self, name: impl Into<String>) -> Step {
        let name = name.into();
        self.pay(name.len() + 4)?;
        if let Some(Frame { made: Made::Map(_, key), .. }) = self.frames.last_mut() {
            *key = Some(name);
        }
        Ok(())
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Step {
        if self.looks_on()? {
            self.key(name)?;
            value.serialize(self)?;
        }
        Ok(())
    }

    fn pay(&mut self, bytes: usize) -> Step {
        self.left.bytes = self.left.bytes.checked_sub(bytes).ok_or(Stop::Enough)?;
        Ok(())
    }

    fn scalar(&mut self, value: Value) -> Step {
        self.pay(8)?;
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

    /// Leaves a list or a map; early, where the walk ends in it.
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

    fn text(&mut self, text: &str) -> Step {
        let end = text.floor_char_boundary(self.bounds.text.min(self.left.bytes));
        self.pay(end + 2)?;
        if end < text.len() {
            let (shown, of) = (end as u64, Some(text.len() as u64));
            self.cuts.push(Cut { path: self.path(), shown, of });
        }
        self.put(Value::String(text[..end].to_owned()));
        Ok(())
    }
}

macro_rules! numbers {
    ($($method:ident: $number:ty),* $(,)?) => {
        $(
            fn $method(self, number: $number) -> Step {
                self.scalar(number.into())
            }
        )*
    };
}

impl<'w> Serializer for &'w mut Walk {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = &'w mut Walk;
    type SerializeTuple = &'w mut Walk;
    type SerializeTupleStruct = &'w mut Walk;
    type SerializeTupleVariant = Variant<'w>;
    type SerializeMap = &'w mut Walk;
    type SerializeStruct = &'w mut Walk;
    type SerializeStructVariant = Variant<'w>;

    numbers! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_f32: f32, serialize_f64: f64, serialize_bool: bool,
    }

    fn serialize_i128(self, number: i128) -> Step {
        let value = Number::from_i128(number).map(Value::Number);
        self.scalar(value.unwrap_or_else(|| number.to_string().into()))
    }

    fn serialize_u128(self, number: u128) -> Step {
        let value = Number::from_u128(number).map(Value::Number);
        self.scalar(value.unwrap_or_else(|| number.to_string().into()))
    }

    fn serialize_char(self, character: char) -> Step {
        self.text(character.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Step {
        self.text(text)
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Step {
        let list = self.list(Some(bytes.len()), false)?;
        bytes.iter().try_for_each(|byte| list.element(byte))?;
        SerializeSeq::end(list)
    }

    fn serialize_none(self) -> Step {
        self.scalar(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Step {
        self.unwrap(value)
    }

    fn serialize_unit(self) -> Step {
        self.scalar(Value::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Step {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Step {
        self.text(name)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Step {
        self.unwrap(value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Step {
        let map = self.map(Some(1), true)?;
        map.field(name, value)?;
        SerializeStruct::end(map)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self, Stop> {
        self.list(len, false)
    }

    fn serialize_tuple(self, len: usize) -> Result<Self, Stop> {
        // Arrays are tuples to serde, and can be long.
        self.list(Some(len), false)
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Self, Stop> {
        self.list(Some(len), true)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        len: usize,
    ) -> Result<Variant<'w>, Stop> {
        let map = self.map(Some(1), true)?;
        map.looks_on()?;
        map.key(name)?;
        Ok(Variant(map.list(Some(len), true)?))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self, Stop> {
        self.map(len, false)
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Self, Stop> {
        self.map(Some(len), true)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        len: usize,
    ) -> Result<Variant<'w>, Stop> {
        let map = self.map(Some(1), true)?;
        map.looks_on()?;
        map.key(name)?;
        Ok(Variant(map.map(Some(len), true)?))
    }
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
        let name = key_text(key)?;
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
        if !self.looks_on()? {
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

/// A map's key as the name of a field: texts as they are, others as JSON tells them.
fn key_text<T: Serialize + ?Sized>(key: &T) -> Result<String, Stop> {
    match serde_json::to_value(key) {
        Ok(Value::String(text)) => Ok(text),
        Ok(other) => Ok(other.to_string()),
        Err(error) => Err(Stop::Refused(error.to_string())),
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

/// A variant with fields: a map with one field, which is a list or a map.
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
    use std::collections::BTreeMap;

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
    fn what_is_small_is_there_as_a_whole() {
        let world = world(3, 1);
        assert_eq!(of(&world), (serde_json::to_string(&world).unwrap(), vec![]));
        assert_eq!(of(&"héllo"), ("\"héllo\"".into(), vec![]));
        assert_eq!(of(&u128::MAX), (format!("\"{}\"", u128::MAX), vec![]));
        assert_eq!(of(&f64::NAN), ("null".into(), vec![]));
    }

    #[test]
    fn what_comes_after_a_cut_is_there() {
        let (json, cuts) = of(&world(7, 4));
        assert!(json.ends_with(r#""scores":{"0":7,"1":7,"2":7},"last":true}"#), "{json}");
        let expected = [("/items".into(), 3, Some(7)), ("/scores".into(), 3, Some(4))];
        assert_eq!(cuts, expected);
    }

    #[test]
    fn what_is_too_large_to_pass_over_ends_the_walk() {
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
    fn depth_and_bytes_have_an_end() {
        let wide: Vec<_> = (0..3).map(|_| "x".repeat(9)).collect();
        let deep: Vec<_> = (0..3).map(|_| vec![vec![wide.clone(); 3]; 3]).collect();
        #[derive(Serialize)]
        struct Wrapped(Option<Box<Self>>);

        let wrapped = (0..9_999).fold(Wrapped(None), |inner, _| Wrapped(Some(Box::new(inner))));
        assert_eq!(of(&wrapped).1.len(), 1);
        // Its own drop would take as much stack.
        std::mem::forget(wrapped);
        let Preview { json, cuts } = Preview::of(&deep, BOUNDS).unwrap();
        assert!(json.len() < 500, "{} bytes", json.len());
        assert!(!cuts.is_empty());
    }
}
