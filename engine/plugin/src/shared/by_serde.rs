//! Values of types that are not `Shared`, which cross between images in the form that serde writes.

use std::{any::type_name, borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, ser};

use super::{SchemaBuilder, Shape, Shared};
use crate::{
    Result, Value,
    value::{read_json, to_json},
};

/// A value of a type from another crate, which crosses between images through serde.
///
/// [`new`](Self::new) writes the value, and [`get`](Self::get) reads it, with whatever version of the type's
/// crate the image has. Use it for types that cannot derive [`Shared`](derive@crate::Shared): a value of a type
/// that derives it crosses without being written and read.
///
/// ```
/// use std::borrow::Cow;
///
/// use hotswap_plugin::{BySerde, prelude::*};
///
/// #[derive(Shared)]
/// struct Order {
///     article: BySerde<Cow<'static, str>>,
/// }
///
/// # fn main() -> Result<()> {
/// let order = Order { article: BySerde::new(&Cow::Borrowed("tea"))? };
/// assert_eq!(order.article.get()?, "tea");
/// # Ok(())
/// # }
/// ```
pub struct BySerde<T> {
    json: String,
    value: PhantomData<fn() -> T>,
}

impl<T> BySerde<T> {
    /// Writes a value.
    ///
    /// # Errors
    /// If its `Serialize` fails.
    pub fn new(value: &T) -> Result<Self>
    where
        T: Serialize,
    {
        Ok(Self { json: to_json(value)?, value: PhantomData })
    }

    /// Reads the value.
    ///
    /// # Errors
    /// If the `Deserialize` of this image's type cannot read what was written, because the images have
    /// incompatible versions of the type's crate.
    pub fn get(&self) -> Result<T>
    where
        T: DeserializeOwned,
    {
        read_json(&self.json).map_err(|error| {
            let name = type_name::<T>();
            error.context(format_args!("a `{name}` that crossed by serde cannot be read here"))
        })
    }
}

// SAFETY: it is text; the name in the schema says which type the text is of.
unsafe impl<T: 'static> Shared for BySerde<T> {
    const MAY_POINT_HOME: bool = false;

    fn describe(schema: &mut SchemaBuilder) -> usize {
        schema.add::<Self>(|_| Shape::Scalar)
    }
}

impl<T> Clone for BySerde<T> {
    fn clone(&self) -> Self {
        Self { json: self.json.clone(), value: PhantomData }
    }
}

impl<T> PartialEq for BySerde<T> {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl<T> fmt::Debug for BySerde<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json)
    }
}

impl<T> Serialize for BySerde<T> {
    /// Serialises the value itself.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let value: Value = read_json(&self.json).map_err(ser::Error::custom)?;
        value.serialize(serializer)
    }
}

impl<'de, T: Serialize + Deserialize<'de>> Deserialize<'de> for BySerde<T> {
    /// Deserialises the value itself.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = T::deserialize(deserializer)?;
        Self::new(&value).map_err(serde::de::Error::custom)
    }
}

impl<T: JsonSchema> JsonSchema for BySerde<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use schemars::schema_for;

    use super::*;

    mod one {
        #[derive(schemars::JsonSchema)]
        pub struct Word {
            #[allow(dead_code, reason = "only described")]
            pub text: String,
        }
    }

    mod other {
        #[derive(schemars::JsonSchema)]
        pub struct Word {
            #[allow(dead_code, reason = "only described")]
            pub number: u32,
        }
    }

    #[test]
    fn its_schema_is_that_of_the_type_among_others_of_the_same_name() {
        let both = schema_for!((BySerde<one::Word>, BySerde<other::Word>));
        assert_eq!(both, schema_for!((one::Word, other::Word)));
    }

    #[test]
    fn its_json_is_that_of_the_value() {
        let word = BySerde::new(&Cow::Borrowed("tea")).unwrap();
        let json = serde_json::to_string(&word).unwrap();
        assert_eq!(json, "\"tea\"");
        let read: BySerde<Cow<'static, str>> = serde_json::from_str(&json).unwrap();
        assert_eq!(read, word);
        assert_eq!(read.get().unwrap(), "tea");
        let wrong: BySerde<u32> = BySerde { json, value: PhantomData };
        assert_eq!(
            wrong.get().unwrap_err().to_string(),
            "a `u32` that crossed by serde cannot be read here"
        );
    }
}
