//! The values that any two images understand: arguments and results of calls by name.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Visitor},
};
use serde_json::Value as Json;

use crate::{Error, Field, Result, SchemaBuilder, Shape, Shared, Variant};

/// A value on its way between images: an argument or the result of a call by name.
///
/// It has the shapes of JSON. Its layout is its own, since the layout of `serde_json::Value` depends on
/// features of that crate, which host and plugin may choose differently. The two convert to each other.
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
/// // It is serialised as what it is. Only formats that say what they have, as JSON does, can be read.
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
#[repr(C, u8)]
pub enum Value {
    /// Nothing: `()` and `None`.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer, usually a negative one: conversions make a `Uint` of all others.
    Int(i64),
    /// An integer that is not negative.
    Uint(u64),
    /// A floating-point number. JSON has no NaN and no infinity: both become `Null` there.
    Float(f64),
    /// A text.
    Str(String),
    /// Values in order.
    List(Vec<Value>),
    /// Values with names, in order.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// Makes a `Value` of anything that implements `Serialize`.
    ///
    /// # Errors
    /// If `value`'s own `Serialize` fails, or a map in it has keys that are not text.
    pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Ok(serde_json::to_value(value)?.into())
    }

    /// Reads the value as a `T`.
    ///
    /// # Errors
    /// If the value does not fit `T`; the message says what was found and what was expected.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T> {
        let read = match self.scalar() {
            Some(scalar) => T::deserialize(scalar),
            None => serde_json::from_value(self.clone().into()),
        };
        read.map_err(Error::from)
    }

    fn scalar(&self) -> Option<Scalar> {
        match *self {
            Self::Null => Some(Scalar::Null),
            Self::Bool(b) => Some(Scalar::Bool(b)),
            Self::Int(n) => Some(u64::try_from(n).map_or(Scalar::Int(n), Scalar::Uint)),
            Self::Uint(n) => Some(Scalar::Uint(n)),
            // NaN and infinities are `null` in JSON.
            Self::Float(n) if n.is_finite() => Some(Scalar::Float(n)),
            Self::Float(_) | Self::Str(_) | Self::List(_) | Self::Map(_) => None,
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(b) => serializer.serialize_bool(*b),
            Self::Int(n) => serializer.serialize_i64(*n),
            Self::Uint(n) => serializer.serialize_u64(*n),
            Self::Float(n) => serializer.serialize_f64(*n),
            Self::Str(s) => serializer.serialize_str(s),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(map) => serializer.collect_map(map.iter().map(|(key, value)| (key, value))),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Json::deserialize(deserializer).map(Self::from)
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

/// A value without parts. Numbers and options are read from it directly, since the detour through
/// `serde_json::Value` takes a good part of a call's time. Other types take the detour; the result is the
/// same.
#[derive(Clone, Copy)]
enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
}

impl Scalar {
    fn json(self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(b) => Json::from(b),
            Self::Int(n) => Json::from(n),
            Self::Uint(n) => Json::from(n),
            Self::Float(n) => Json::from(n),
        }
    }
}

/// Methods that read the value directly.
macro_rules! read_plainly {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            self.deserialize_any(visitor)
        })*
    };
}

/// Methods that read the value as `serde_json::Value` does.
macro_rules! read_as_json {
    ($($method:ident($($arg:ident: $type:ty),*))*) => {
        $(fn $method<V: Visitor<'de>>(
            self,
            $($arg: $type,)*
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            self.json().$method($($arg,)* visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Scalar {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Bool(b) => visitor.visit_bool(b),
            Self::Int(n) => visitor.visit_i64(n),
            Self::Uint(n) => visitor.visit_u64(n),
            Self::Float(n) => visitor.visit_f64(n),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self {
            Self::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    read_plainly! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    read_as_json! {
        deserialize_bool()
        deserialize_char()
        deserialize_str()
        deserialize_string()
        deserialize_bytes()
        deserialize_byte_buf()
        deserialize_unit()
        deserialize_unit_struct(name: &'static str)
        deserialize_newtype_struct(name: &'static str)
        deserialize_seq()
        deserialize_tuple(len: usize)
        deserialize_tuple_struct(name: &'static str, len: usize)
        deserialize_map()
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
        deserialize_identifier()
        deserialize_ignored_any()
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
            Value::Float(n) => Self::from(n),
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
    use super::*;

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
            Value::from(f64::NAN),
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
    fn a_wrong_shape_says_what_was_expected() {
        let error = Value::from("x").to::<u32>().unwrap_err();
        assert_eq!(error.message(), "invalid type: string \"x\", expected u32");
    }
}
