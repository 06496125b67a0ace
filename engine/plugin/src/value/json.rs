//! JSON that loses nothing of a value: numbers that JSON cannot represent are written as [`Value`] writes them.

use std::io;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{
    Error, Serializer,
    ser::{CompactFormatter, Formatter},
};

use super::{
    MAX_BYTES, MAX_DEPTH, Value,
    watched::Watched,
    write::{too_deep, too_large, value_of},
};

/// The value as JSON.
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String, Error> {
    let mut text = Text(Vec::new());
    let mut saw_null = false;
    let formatter = NullSeer { saw_null: &mut saw_null, depth: 0 };
    Watched(value).serialize(&mut Serializer::with_formatter(&mut text, formatter))?;
    // A number that JSON cannot represent becomes `null`. So JSON without `null` has lost no number.
    if saw_null { text_of(&value_of(value)?) } else { utf8(text.0) }
}

/// JSON of bounded size.
struct Text(Vec<u8>);

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > MAX_BYTES - self.0.len() {
            return Err(io::Error::other(too_large()));
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn text_of(value: &Value) -> Result<String, Error> {
    serde_json::to_string(value)
}

fn utf8(text: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}

/// Reads the output of [`to_json`].
pub(crate) fn from_json<T: DeserializeOwned>(json: &str) -> Result<T, Error> {
    serde_json::from_str(json)
        .or_else(|error| value_in(json).and_then(|value| T::deserialize(&value).ok()).ok_or(error))
}

fn value_in(json: &str) -> Option<Value> {
    serde_json::from_str(json).ok()
}

/// Reads like [`from_json`]. The error is for people who do not see the JSON, so it has no line and column.
pub(crate) fn read_json<T: DeserializeOwned>(json: &str) -> crate::Result<T> {
    from_json::<T>(json).map_err(without_place)
}

fn without_place(error: Error) -> crate::Error {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    crate::Error::msg(text.strip_suffix(&place).unwrap_or(&text))
}

/// A formatter that notes whether it wrote a `null`, and refuses values that are nested too deeply.
struct NullSeer<'a> {
    saw_null: &'a mut bool,
    depth: usize,
}

impl NullSeer<'_> {
    fn deeper(&mut self) -> io::Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(io::Error::other(too_deep())) } else { Ok(()) }
    }
}

impl Formatter for NullSeer<'_> {
    fn write_null<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        *self.saw_null = true;
        CompactFormatter.write_null(writer)
    }

    fn begin_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.deeper()?;
        CompactFormatter.begin_array(writer)
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        CompactFormatter.end_array(writer)
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.deeper()?;
        CompactFormatter.begin_object(writer)
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        CompactFormatter.end_object(writer)
    }
}
