//! The signatures of serde's `Serializer`, written once for the serializers of this crate.

/// Writes methods of [`serde::Serializer`]: the name of a group of methods, the arguments that its body
/// uses, and the body.
///
/// ```text
/// impl Serializer for &mut Counter {
///     serialize!(types { error: Never, collections: Self, products: Self, variants: Self });
///     serialize!(self, signed(number) => self.add(number.into()));
///     serialize!(self, seq(len) => self.begin(len));
///     // …
/// }
/// ```
macro_rules! serialize {
    // `collections` have as many elements as the value; `products` as many as their type says.
    (types {
        error: $error:ty, collections: $collection:ty, products: $product:ty, variants: $variant:ty $(,)?
    }) => {
        type Ok = ();
        type Error = $error;
        type SerializeSeq = $collection;
        type SerializeMap = $collection;
        type SerializeTuple = $product;
        type SerializeTupleStruct = $product;
        type SerializeStruct = $product;
        type SerializeTupleVariant = $variant;
        type SerializeStructVariant = $variant;
    };

    // Values without parts. The body must fit each type of the group.
    ($this:ident, signed($value:tt) => $body:expr) => {
        serialize!(@scalars $this, $value => $body;
            serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64);
    };
    ($this:ident, unsigned($value:tt) => $body:expr) => {
        serialize!(@scalars $this, $value => $body;
            serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64);
    };
    ($this:ident, i128($value:tt) => $body:expr) => {
        serialize!(@scalars $this, $value => $body; serialize_i128: i128);
    };
    ($this:ident, u128($value:tt) => $body:expr) => {
        serialize!(@scalars $this, $value => $body; serialize_u128: u128);
    };
    ($this:ident, f32($value:tt) => $body:expr) => {
        serialize!(@scalars $this, $value => $body; serialize_f32: f32);
    };
    ($this:ident, f64($value:tt) => $body:expr) => {
        serialize!(@scalars $this, $value => $body; serialize_f64: f64);
    };
    ($this:ident, bool($value:tt) => $body:expr) => {
        serialize!(@scalars $this, $value => $body; serialize_bool: bool);
    };
    ($this:ident, char($value:tt) => $body:expr) => {
        serialize!(@scalars $this, $value => $body; serialize_char: char);
    };
    ($this:ident, str($value:tt) => $body:expr) => {
        serialize!(@scalars $this, $value => $body; serialize_str: &str);
    };
    ($this:ident, bytes($value:tt) => $body:expr) => {
        serialize!(@scalars $this, $value => $body; serialize_bytes: &[u8]);
    };
    (@scalars $this:ident, $value:tt => $body:expr; $($method:ident: $scalar:ty),*) => {
        $(
            fn $method($this, $value: $scalar) -> Result<(), Self::Error> {
                $body
            }
        )*
    };

    // `None`, `()` and structs without fields.
    ($this:ident, nothing() => $body:expr) => {
        fn serialize_none($this) -> Result<(), Self::Error> {
            $body
        }

        fn serialize_unit($this) -> Result<(), Self::Error> {
            $body
        }

        fn serialize_unit_struct($this, _: &'static str) -> Result<(), Self::Error> {
            $body
        }
    };

    // `Some`, and structs with one unnamed field.
    ($this:ident, wrapped($value:tt) => $body:expr) => {
        fn serialize_some<T: Serialize + ?Sized>($this, $value: &T) -> Result<(), Self::Error> {
            $body
        }

        fn serialize_newtype_struct<T: Serialize + ?Sized>(
            $this,
            _: &'static str,
            $value: &T,
        ) -> Result<(), Self::Error> {
            $body
        }
    };

    // Variants without fields, and variants with one unnamed field.
    ($this:ident, unit_variant($name:tt) => $body:expr) => {
        fn serialize_unit_variant(
            $this,
            _: &'static str,
            _: u32,
            $name: &'static str,
        ) -> Result<(), Self::Error> {
            $body
        }
    };
    ($this:ident, newtype_variant($name:tt, $value:tt) => $body:expr) => {
        fn serialize_newtype_variant<T: Serialize + ?Sized>(
            $this,
            _: &'static str,
            _: u32,
            $name: &'static str,
            $value: &T,
        ) -> Result<(), Self::Error> {
            $body
        }
    };

    // Values with parts.
    ($this:ident, seq($len:tt) => $body:expr) => {
        fn serialize_seq($this, $len: Option<usize>) -> Result<Self::SerializeSeq, Self::Error> {
            $body
        }
    };
    ($this:ident, map($len:tt) => $body:expr) => {
        fn serialize_map($this, $len: Option<usize>) -> Result<Self::SerializeMap, Self::Error> {
            $body
        }
    };
    ($this:ident, tuple($len:tt) => $body:expr) => {
        fn serialize_tuple($this, $len: usize) -> Result<Self::SerializeTuple, Self::Error> {
            $body
        }
    };
    ($this:ident, tuple_struct($len:tt) => $body:expr) => {
        fn serialize_tuple_struct(
            $this,
            _: &'static str,
            $len: usize,
        ) -> Result<Self::SerializeTupleStruct, Self::Error> {
            $body
        }
    };
    ($this:ident, struct($len:tt) => $body:expr) => {
        fn serialize_struct(
            $this,
            _: &'static str,
            $len: usize,
        ) -> Result<Self::SerializeStruct, Self::Error> {
            $body
        }
    };
    ($this:ident, tuple_variant($name:tt, $len:tt) => $body:expr) => {
        fn serialize_tuple_variant(
            $this,
            _: &'static str,
            _: u32,
            $name: &'static str,
            $len: usize,
        ) -> Result<Self::SerializeTupleVariant, Self::Error> {
            $body
        }
    };
    ($this:ident, struct_variant($name:tt, $len:tt) => $body:expr) => {
        fn serialize_struct_variant(
            $this,
            _: &'static str,
            _: u32,
            $name: &'static str,
            $len: usize,
        ) -> Result<Self::SerializeStructVariant, Self::Error> {
            $body
        }
    };

    // Several groups with the same body, which uses no argument.
    ($this:ident, all[$($group:ident $arguments:tt),* $(,)?] => $body:expr) => {
        $(serialize!($this, $group $arguments => $body);)*
    };
}

pub(crate) use serialize;
