//! A buffer of bytes that crosses between images, with conversions from and to that of the crate `bytes`.

use std::{borrow::Cow, fmt, ops::Deref, sync::Arc};

use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{SchemaBuilder, Shape, Shared};

/// Bytes that cross between images without a copy, and whose clones share their memory.
///
/// Use it where [`Bytes`] would cross: a `Bytes` contains functions of the crate that made it, and
/// images can have different versions of that crate. A `SharedBytes` becomes a `Bytes` without a copy. A `Bytes`
/// becomes a `SharedBytes` without a copy if it has no clones and owns a `Vec` that it shows from the start.
///
/// It needs the feature `bytes` of this crate.
///
/// ```
/// use bytes::Bytes;
/// use hotswap_plugin::{SharedBytes, prelude::*};
///
/// /// Answers with the first line of a request.
/// #[invoke]
/// fn first_line(request: SharedBytes) -> SharedBytes {
///     let request = Bytes::from(request);
///     let end = request.iter().position(|byte| *byte == b'\n').unwrap_or(request.len());
///     request.slice(..end).into()
/// }
///
/// # #[derive(Default)]
/// # struct Lines;
/// # #[plugin]
/// # impl Plugin for Lines {}
/// # fn main() {
/// let request = SharedBytes::from(b"GET /\nHost: here".to_vec());
/// assert_eq!(*first_line(request), *b"GET /");
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedBytes(Arc<Vec<u8>>);

// SAFETY: an `Arc` of a `Vec` always has memory of its own, which comes from the shared allocator, and so does the
// buffer of the `Vec`. Neither contains a pointer into an image.
unsafe impl Shared for SharedBytes {
    const MAY_POINT_HOME: bool = false;

    fn describe(schema: &mut SchemaBuilder) -> usize {
        schema.add::<Self>(|_| Shape::Scalar)
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(bytes))
    }
}

impl From<SharedBytes> for Vec<u8> {
    /// Copies the bytes if there are clones.
    fn from(bytes: SharedBytes) -> Self {
        Arc::unwrap_or_clone(bytes.0)
    }
}

impl From<Bytes> for SharedBytes {
    fn from(bytes: Bytes) -> Self {
        Vec::from(bytes).into()
    }
}

impl From<SharedBytes> for Bytes {
    fn from(bytes: SharedBytes) -> Self {
        Self::from_owner(bytes)
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for SharedBytes {
    /// Serialises the bytes as a list of numbers, as those of a `Vec<u8>`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

impl JsonSchema for SharedBytes {
    fn schema_name() -> Cow<'static, str> {
        Vec::<u8>::schema_name()
    }

    fn inline_schema() -> bool {
        Vec::<u8>::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<u8>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_converted_without_a_copy() {
        let vec = b"a request".to_vec();
        let place = vec.as_ptr();
        let shared = SharedBytes::from(Bytes::from(vec));
        assert_eq!(shared.as_ptr(), place);
        let bytes = Bytes::from(shared.clone());
        assert_eq!((bytes.as_ptr(), &bytes[..]), (place, &b"a request"[..]));
        assert_eq!(shared.clone().as_ptr(), place);
        drop(bytes);
        assert_eq!(Vec::from(shared).as_ptr(), place);
    }

    #[test]
    fn their_json_is_that_of_a_list() {
        let shared = SharedBytes::from(vec![0, 255]);
        let json = serde_json::to_string(&shared).unwrap();
        assert_eq!(json, "[0,255]");
        assert_eq!(serde_json::from_str::<SharedBytes>(&json).unwrap(), shared);
    }
}
