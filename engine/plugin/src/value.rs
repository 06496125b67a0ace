//! The values that any two images understand: arguments and results of calls by name.

mod json;
mod read;
mod watched;
mod words;
mod write;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, ser::Error as _,
};
use serde_json::Value as Json;
use words::word;

pub(crate) use json::{read_json, to_json};
pub(crate) use write::too_large;

use crate::{Field, Result, SchemaBuilder, Shape, Shared, Variant, stack::check_stack};

/// The prefix of the names by which `serde_json` recognises its own types: a number, or a text that is
/// already JSON.
const JSON_OWN: &str = "$serde_json::private::";

/// How deeply lists and maps may be nested in a value. Each level takes stack, and readers of JSON accept no
/// more than 128 levels, some of which are those of the message around the value.
const MAX_DEPTH: usize = 100;

/// The largest size in bytes that a value may take, in memory or as JSON. A type need not have as many bytes as its
/// value says: a list of `()` takes none, and an iterator may never end.
pub(crate) const MAX_BYTES: usize = 1 << 30;

/// A value on its way between images: an argument or the result of a call by name.
///
/// It can hold what JSON can. Its layout is defined here, because the layout of `serde_json::Value` depends
/// on features of that crate, which host and plugin may choose differently. The two types convert to each
/// other.
///
/// ```
/// # use hotswap_plugin::{Result, Value};
/// # fn main() -> Result<()> {
/// assert_eq!(Value::from(3_u32), Value::Uint(3));
/// assert_eq!(Value::from(vec!["a", "b"]).to::<Vec<String>>()?, ["a", "b"]);
///
/// let pair = Value::from_serialize(&(1_i32, true))?;
/// assert_eq!(pair, Value::List(vec![Value::Uint(1), Value::Bool(true)]));
///
/// // It is serialised as the value in it. Only self-describing formats such as JSON can be read back.
/// let text = serde_json::to_string(&pair).unwrap();
/// assert_eq!(text, "[1,true]");
/// assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), pair);
///
/// let error = Value::from("x").to::<u32>().unwrap_err();
/// assert_eq!(error.message(), "invalid type: string \"x\", expected u32");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[repr(C, u64)]
pub enum Value {
    /// Nothing: `()` and `None`.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer, usually a negative one: conversions turn every integer that is not negative into a `Uint`.
    Int(i64),
    /// An integer that is not negative. One that needs more than 64 bits is a `Str` in decimal, which can be
    /// read as an `i128` or a `u128`.
    Uint(u64),
    /// A floating-point number. JSON has no NaN and no infinity: there they become the texts `NaN`,
    /// `Infinity` and `-Infinity`, which can be read as numbers.
    Float(f64),
    /// A text.
    Str(String),
    /// Values in order. Bytes are a list of numbers.
    List(Vec<Value>),
    /// Values with names, in order.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// Converts anything that implements `Serialize` to a `Value`.
    ///
    /// # Errors
    /// If `value`'s own `Serialize` fails, a map in it has keys that are not text, it is nested more than 100 levels
    /// deep, or the result would take more than 1 GiB.
    pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Ok(write::value_of(value)?)
    }

    /// Reads the value as a `T`.
    ///
    /// # Errors
    /// If the value does not fit `T`. The message says what was found and what was expected.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(T::deserialize(self)?)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        check_stack(S::Error::custom)?;
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(b) => serializer.serialize_bool(*b),
            Self::Int(n) => serializer.serialize_i64(*n),
            Self::Uint(n) => serializer.serialize_u64(*n),
            Self::Float(n) => match word(*n).filter(|_| serializer.is_human_readable()) {
                Some(word) => serializer.serialize_str(word),
                None => serializer.serialize_f64(*n),
            },
            Self::Str(s) => serializer.serialize_str(s),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(map) => serializer.collect_map(map.iter().map(|(key, value)| (key, value))),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(read::AnyValue)
    }
}

impl JsonSchema for Value {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Value".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        true.into()
    }
}

// SAFETY: the variants are described in their order, with their tags and fields, and the layout is that of
// the `repr` above. No field has a pointer into an image.
unsafe impl Shared for Value {
    const MAY_POINT_HOME: bool = false;

    fn describe(schema: &mut SchemaBuilder) -> usize {
        fn field<T: Shared>(schema: &mut SchemaBuilder) -> Vec<Field> {
            vec![schema.field::<T>("0", None)]
        }

        schema.add::<Self>(|schema| {
            let variants = [
                ("Null", Vec::new()),
                ("Bool", field::<bool>(schema)),
                ("Int", field::<i64>(schema)),
                ("Uint", field::<u64>(schema)),
                ("Float", field::<f64>(schema)),
                ("Str", field::<String>(schema)),
                ("List", field::<Vec<Self>>(schema)),
                ("Map", field::<Vec<(String, Self)>>(schema)),
            ];
            let variants = variants.into_iter().enumerate().map(|(tag, (name, fields))| Variant {
                name: name.to_owned(),
                discriminant: tag.to_string(),
                fields,
            });
            Shape::Enum { layout: "C, u8".into(), variants: variants.collect() }
        })
    }
}

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::Bool(b),
            Json::Number(n) => n
                .as_u64()
                .map(Self::Uint)
                .or_else(|| n.as_i64().map(Self::Int))
                .unwrap_or_else(|| Self::Float(n.as_f64().unwrap_or(f64::NAN))),
            Json::String(s) => Self::Str(s),
            Json::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Json::Object(map) => {
                Self::Map(map.into_iter().map(|(key, value)| (key, value.into())).collect())
            }
        }
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(b),
            Value::Int(n) => Self::from(n),
            Value::Uint(n) => Self::from(n),
            Value::Float(n) => word(n).map_or_else(|| Self::from(n), Self::from),
            Value::Str(s) => Self::String(s),
            Value::List(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            Value::Map(map) => {
                Self::Object(map.into_iter().map(|(key, value)| (key, value.into())).collect())
            }
        }
    }
}

macro_rules! from_scalar {
    ($($from:ty => $variant:ident as $to:ty),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(<$to>::from(value))
            }
        })*
    };
}

from_scalar! {
    bool => Bool as bool,
    u8 => Uint as u64, u16 => Uint as u64, u32 => Uint as u64, u64 => Uint as u64,
    f32 => Float as f64, f64 => Float as f64,
    &str => Str as String, String => Str as String,
}

macro_rules! from_signed {
    ($($from:ty),*) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                u64::try_from(value).map_or(Self::Int(i64::from(value)), Self::Uint)
            }
        })*
    };
}

from_signed!(i8, i16, i32, i64);

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Uint(value as u64)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{json::from_json, *};
    use crate::stack::TOO_DEEP;

    #[test]
    fn json_goes_through_unharmed() {
        let json: Json = serde_json::json!({
            "null": null, "yes": true, "low": i64::MIN, "high": u64::MAX, "half": 0.5,
            "text": "ä", "list": [1, [2]], "map": {}
        });
        assert_eq!(Json::from(Value::from(json.clone())), json);
    }

    /// Checks that a value is read as a `T` exactly as its JSON is.
    fn reads_as_json<T: DeserializeOwned + PartialEq + std::fmt::Debug>(value: &Value) {
        let read = value.to::<T>().map_err(|error| error.message().to_owned());
        let json = serde_json::from_value::<T>(Json::from(value.clone()));
        assert_eq!(read, json.map_err(|error| error.to_string()), "{value:?}");
    }

    #[test]
    fn scalars_are_read_as_their_json_is() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Unit;
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Wrapped(Option<u8>);
        #[derive(Debug, PartialEq, serde::Deserialize)]
        enum Choice {
            One,
        }
        #[derive(Debug, PartialEq, serde::Deserialize)]
        #[serde(untagged)]
        enum Either {
            Count(u64),
            Change(i64),
            Yes(bool),
            Part(f64),
        }
        let scalars = [
            Value::Null,
            Value::from(true),
            Value::from(-7_i64),
            Value::Int(7),
            Value::from(300_u32),
            Value::from(2.0),
            Value::from(0.25),
        ];
        for value in &scalars {
            reads_as_json::<()>(value);
            reads_as_json::<bool>(value);
            reads_as_json::<u8>(value);
            reads_as_json::<i32>(value);
            reads_as_json::<i128>(value);
            reads_as_json::<f32>(value);
            reads_as_json::<f64>(value);
            reads_as_json::<char>(value);
            reads_as_json::<String>(value);
            reads_as_json::<Option<u16>>(value);
            reads_as_json::<Vec<u8>>(value);
            reads_as_json::<(u8, u8)>(value);
            reads_as_json::<Unit>(value);
            reads_as_json::<Wrapped>(value);
            reads_as_json::<Choice>(value);
            reads_as_json::<Either>(value);
            reads_as_json::<Option<f64>>(value);
            reads_as_json::<Option<Option<i8>>>(value);
            reads_as_json::<Json>(value);
            reads_as_json::<std::collections::BTreeMap<String, u8>>(value);
        }
    }

    #[test]
    fn values_with_parts_are_read_as_their_json_is() {
        use std::collections::{BTreeMap, HashMap};
        #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        struct Part {
            name: String,
            #[serde(default)]
            weights: Vec<f32>,
            kind: Kind,
            #[serde(flatten)]
            rest: BTreeMap<String, u8>,
        }
        #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        enum Kind {
            Plain,
            Of(u8),
            Both(u8, String),
            Named { at: Option<i64> },
        }
        let kinds =
            [Kind::Plain, Kind::Of(1), Kind::Both(2, "b".into()), Kind::Named { at: Some(-3) }];
        let parts = kinds.map(|kind| Part {
            name: "n".into(),
            weights: vec![0.5, 1.0],
            kind,
            rest: BTreeMap::from([("x".into(), 1)]),
        });
        let value = Value::from_serialize(&parts).unwrap();
        assert_eq!(Json::from(value.clone()), serde_json::to_value(&parts).unwrap());
        assert_eq!(value.to::<[Part; 4]>().unwrap(), parts);
        let Value::List(values) = &value else { panic!("a list") };
        for value in values.iter().chain([&value]) {
            reads_as_json::<Part>(value);
            reads_as_json::<Kind>(value);
            reads_as_json::<(Part, Part)>(value);
            reads_as_json::<Json>(value);
            reads_as_json::<BTreeMap<String, Json>>(value);
            reads_as_json::<BTreeMap<u8, Json>>(value);
        }
        let keyed = HashMap::from([((), ()); 1]);
        assert_eq!(Value::from_serialize(&keyed).unwrap_err().message(), "key must be a string");
        let keyed = BTreeMap::from([(-1_i32, true), (2, false)]);
        let value = Value::from_serialize(&keyed).unwrap();
        assert_eq!(Json::from(value.clone()), serde_json::json!({"-1": true, "2": false}));
        assert_eq!(value.to::<BTreeMap<i32, bool>>().unwrap(), keyed);
        for wrong in [Value::Map(vec![("Of".into(), Value::Null)]), Value::Map(Vec::new())] {
            reads_as_json::<Kind>(&wrong);
        }
    }

    #[test]
    fn numbers_that_json_cannot_represent_arrive() {
        let numbers = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.5];
        let same = |read: [f64; 4]| read.map(f64::to_bits) == numbers.map(f64::to_bits);
        let value = Value::from_serialize(&numbers).unwrap();
        assert!(same(value.to().unwrap()));
        assert!(same(from_json(&to_json(&numbers).unwrap()).unwrap()));
        assert_eq!(to_json(&[0.5]).unwrap(), "[0.5]");
        let json = serde_json::to_string(&value).unwrap();
        assert_eq!(json, r#"["NaN","Infinity","-Infinity",0.5]"#);
        assert_eq!(Json::from(value.clone()).to_string(), json);
        assert!(same(serde_json::from_str::<Value>(&json).unwrap().to().unwrap()));
        assert!(Value::from("nan").to::<f32>().unwrap().is_nan());
        assert!(Value::from("1e999").to::<f64>().is_err());
        assert!(value.to::<[Option<f64>; 4]>().unwrap()[0].unwrap().is_nan());

        let large = (i128::MIN, u128::MAX, 7_i128, -7_i128);
        let value = Value::from_serialize(&large).unwrap();
        assert_eq!(value.to::<(i128, u128, i128, i128)>().unwrap(), large);
        let json = serde_json::to_string(&value).unwrap();
        let least = i128::MIN;
        assert_eq!(json, format!(r#"["{least}","{}",7,-7]"#, u128::MAX));

        struct Bytes(Vec<u8>);
        impl Serialize for Bytes {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }
        let value = Value::from_serialize(&Bytes(vec![0, 255])).unwrap();
        assert_eq!(value.to::<Vec<u8>>().unwrap(), [0, 255]);
    }

    #[test]
    fn a_wrong_shape_says_what_was_expected() {
        let error = Value::from("x").to::<u32>().unwrap_err();
        assert_eq!(error.message(), "invalid type: string \"x\", expected u32");
    }

    #[test]
    fn a_value_that_needs_too_much_stack_is_an_error() {
        #[derive(Debug, Serialize, Deserialize)]
        struct Wrapped(Option<Box<Self>>);

        /// A key of a map.
        #[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
        struct Key(Option<Box<Self>>);

        const LEVELS: usize = 1_000_000;
        // Nothing here is dropped, since that would take as much stack.
        let wrapped = (0..LEVELS).fold(Wrapped(None), |inner, _| Wrapped(Some(Box::new(inner))));
        let key = (0..LEVELS).fold(Key(None), |inner, _| Key(Some(Box::new(inner))));
        let keys = std::mem::ManuallyDrop::new(std::collections::BTreeMap::from([(key, 1)]));
        assert_eq!(to_json(&wrapped).unwrap_err().to_string(), TOO_DEEP);
        assert_eq!(to_json(&*keys).unwrap_err().to_string(), TOO_DEEP);
        assert_eq!(Value::from_serialize(&*keys).unwrap_err().to_string(), TOO_DEEP);
        std::mem::forget(wrapped);

        // The type is an `Option` of itself, which any value but `Null` would be without end.
        assert_eq!(Value::Uint(5).to::<Wrapped>().unwrap_err().to_string(), TOO_DEEP);
        Value::Null.to::<Wrapped>().unwrap();

        let list = (0..LEVELS).fold(Value::Null, |inner, _| Value::List(vec![inner]));
        assert_eq!(list.to::<Value>().unwrap_err().to_string(), TOO_DEEP);
        assert_eq!(serde_json::to_string(&list).unwrap_err().to_string(), TOO_DEEP);
        std::mem::forget(list);
    }
}
