//! Values that travel between versions by name and schema, not by layout.

use std::hash::{DefaultHasher, Hash, Hasher};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value as Json, json};

use crate::{Error, Result, Value};

/// A value that is handed over by name and schema, not by layout: what waits in a queue while the code
/// that will read it is replaced, and what a host gives to its plugins as they load.
///
/// ```
/// # use hotswap_plugin::{Data, JsonSchema, Result, schemars};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize, JsonSchema)]
/// struct Fire {
///     rounds: u32,
/// }
///
/// # fn main() -> Result<()> {
/// let data = Data::wrap(&Fire { rounds: 3 })?;
/// assert_eq!(data.unwrap::<Fire>()?.rounds, 3);
/// assert!(data.unwrap::<String>().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Data {
    type_name: String,
    /// The JSON Schema of its type, as text.
    schema: Option<String>,
    value: Value,
}

impl Data {
    /// Wraps a value, with its type's name and schema.
    ///
    /// # Errors
    /// When it does not serialise.
    pub fn wrap<T: Serialize + JsonSchema>(value: &T) -> Result<Self> {
        let schema = Some(crate::function::schema::<T>());
        Ok(Self { schema, ..Self::from_serialize(value)? })
    }

    /// Wraps a value whose type has no schema.
    ///
    /// # Errors
    /// When it does not serialise.
    pub fn from_serialize<T: Serialize>(value: &T) -> Result<Self> {
        let type_name = std::any::type_name::<T>().to_owned();
        Ok(Self { type_name, schema: None, value: Value::from_serialize(value)? })
    }

    /// Names a value whose type is known by name only: that of a live type, and its fields.
    pub fn named(type_name: impl Into<String>, value: Value) -> Self {
        Self { type_name: type_name.into(), schema: None, value }
    }

    /// A value of a type with this schema.
    #[doc(hidden)]
    pub fn with_schema(type_name: &str, schema: &str, value: Value) -> Self {
        Self { schema: Some(schema.to_owned()), ..Self::named(type_name, value) }
    }

    /// Reads the value as a `T`, which may have gained fields with `#[serde(default)]` since.
    ///
    /// # Errors
    /// When it does not fit; the message names both types and says what differs.
    pub fn unwrap<T: DeserializeOwned + JsonSchema>(&self) -> Result<T> {
        self.value.to().map_err(|error| {
            let expected = std::any::type_name::<T>();
            self.misfit(error, &format!("`{expected}`"), &crate::function::schema::<T>())
        })
    }

    /// Says that the data does not fit a type, and what differs.
    #[doc(hidden)]
    pub fn misfit(&self, error: Error, expected: &str, expected_schema: &str) -> Error {
        let parse = |text: &str| serde_json::from_str(text).unwrap_or(Json::Null);
        let found = match &self.schema {
            Some(schema) => parse(schema),
            None => shape_of(&self.value),
        };
        let changes = schema_changes(&found, &parse(expected_schema));
        let changes = changes.into_iter().map(|change| change.text).collect::<Vec<_>>().join(", ");
        let differs = if changes.is_empty() { String::new() } else { format!(": {changes}") };
        let found = if self.type_name.is_empty() { "the data" } else { &self.type_name };
        error.context(format_args!("`{found}` does not fit {expected}{differs}"))
    }

    /// The value itself.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The name of its type without the path, which is that of a live type.
    pub fn live_name(&self) -> &str {
        self.type_name.rsplit("::").next().unwrap_or(&self.type_name)
    }

    /// The Rust type it was made of.
    pub fn type_name(&self) -> &str {
        &self.type_name
    }

    /// The JSON Schema of its type as text, if it is known.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// A number that differs when the type's name or its schema does; none without a schema.
    pub fn fingerprint(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        (self.live_name(), self.schema.as_ref()?).hash(&mut hasher);
        Some(hasher.finish())
    }
}

/// A difference between the schemas of a type before and after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChange {
    /// `` `pace` was added, and must be there ``
    pub text: String,
    /// Whether data of before cannot be read as the type of after.
    pub is_breaking: bool,
}

/// What differs between two JSON Schemas of a struct, and of the types it is made of, field by field.
/// Docs and defaults are no difference.
pub fn schema_changes(old: &Json, new: &Json) -> Vec<SchemaChange> {
    let (old, new) = (structure(old), structure(new));
    let mut changes = field_changes(&old, &new);
    for (name, new_part) in new["$defs"].as_object().into_iter().flatten() {
        let Some(old_part) = old["$defs"].get(name) else { continue };
        let parts = field_changes(old_part, new_part).into_iter();
        changes.extend(parts.map(|SchemaChange { text, is_breaking }| SchemaChange {
            text: format!("in `{name}`, {text}"),
            is_breaking,
        }));
    }
    changes
}

/// A schema without what does not decide which values fit.
fn structure(schema: &Json) -> Json {
    const WORDS: [&str; 4] = ["$schema", "title", "description", "default"];
    match schema {
        Json::Object(parts) => {
            let is_name = |word: &String| word == "properties" || word == "$defs";
            let plain = parts.iter().filter(|(word, _)| !WORDS.contains(&word.as_str()));
            let plain = plain.map(|(word, part)| match part {
                // The words in there are the author's.
                Json::Object(named) if is_name(word) => {
                    let named = named.iter().map(|(name, part)| (name.clone(), structure(part)));
                    (word.clone(), Json::Object(named.collect()))
                }
                part => (word.clone(), structure(part)),
            });
            Json::Object(plain.collect())
        }
        Json::Array(parts) => Json::Array(parts.iter().map(structure).collect()),
        other => other.clone(),
    }
}

fn field_changes(old: &Json, new: &Json) -> Vec<SchemaChange> {
    let fields = |schema: &Json| schema["properties"].as_object().cloned().unwrap_or_default();
    let (old_schema, old_fields, new_fields) = (old, fields(old), fields(new));
    let change = |text: String, is_breaking| SchemaChange { text, is_breaking };
    if old_fields.is_empty() && new_fields.is_empty() {
        let differ = type_difference(old, new);
        return differ.map(|what| change(what, true)).into_iter().collect();
    }
    let is_required = |schema: &Json, field: &String| {
        schema["required"].as_array().is_some_and(|all| all.iter().any(|name| name == field))
    };
    let mut changes = Vec::new();
    for (field, schema) in &new_fields {
        match old_fields.get(field) {
            None if is_required(new, field) => {
                changes.push(change(format!("`{field}` was added, and must be there"), true));
            }
            None => changes.push(change(format!("`{field}` was added, and may be missing"), false)),
            Some(old) => {
                let what = type_difference(old, schema);
                changes.extend(what.map(|what| change(format!("`{field}` {what}"), true)));
                match (is_required(old_schema, field), is_required(new, field)) {
                    (false, true) => {
                        changes.push(change(format!("`{field}` must be there now"), true))
                    }
                    (true, false) => {
                        changes.push(change(format!("`{field}` may be missing now"), false))
                    }
                    _ => {}
                }
            }
        }
    }
    let gone = old_fields.keys().filter(|field| !new_fields.contains_key(*field));
    changes.extend(gone.map(|field| change(format!("`{field}` was removed"), false)));
    changes
}

/// `was integer, is string now`, as far as the schemas tell.
fn type_difference(old: &Json, new: &Json) -> Option<String> {
    if old == new {
        return None;
    }
    let texts = ["type", "format", "$ref"].into_iter().find_map(|word| {
        let text = |schema: &Json| match &schema[word] {
            Json::String(text) => Some(text.rsplit('/').next().unwrap_or(text).to_owned()),
            Json::Array(texts) => {
                let texts: Option<Vec<&str>> = texts.iter().map(Json::as_str).collect();
                Some(texts?.join(" or "))
            }
            _ => None,
        };
        let (old, new) = (text(old)?, text(new)?);
        (old != new).then(|| format!("was {old}, is {new} now"))
    });
    // The shape of a value alone says no more than its type.
    let is_shape = old.as_object().is_some_and(|schema| schema.len() <= 1);
    texts.or_else(|| (!is_shape).then(|| "is of another type".to_owned()))
}

/// What a value shows of its type's schema.
fn shape_of(value: &Value) -> Json {
    match value {
        Value::Null => json!({}),
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Int(_) | Value::Uint(_) => json!({"type": "integer"}),
        Value::Float(_) => json!({"type": "number"}),
        Value::Str(_) => json!({"type": "string"}),
        Value::List(_) => json!({"type": "array"}),
        Value::Map(fields) => {
            let required: Vec<_> = fields.iter().map(|(name, _)| name).collect();
            let fields = fields.iter().map(|(name, value)| (name.clone(), shape_of(value)));
            json!({"properties": fields.collect::<serde_json::Map<_, _>>(), "required": required})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, serde::Deserialize, JsonSchema)]
    struct Job {
        rounds: u32,
        pace: String,
    }

    mod later {
        use super::*;

        #[derive(Debug, PartialEq, Serialize, serde::Deserialize, JsonSchema)]
        pub struct Job {
            pub rounds: u32,
            #[serde(default)]
            pub note: String,
        }

        #[derive(Debug, serde::Deserialize, JsonSchema)]
        #[allow(dead_code, reason = "only read into")]
        pub struct Other {
            rounds: String,
            note: String,
        }
    }

    fn job() -> Job {
        Job { rounds: 3, pace: "slow".into() }
    }

    #[test]
    fn fields_that_are_gained_and_lost_fit() {
        let data = Data::wrap(&job()).unwrap();
        let later = later::Job { rounds: 3, note: String::new() };
        assert_eq!(data.unwrap::<later::Job>().unwrap(), later);
        assert_eq!(data.live_name(), "Job");
        let fingerprint = data.fingerprint();
        assert_eq!(Data::wrap(&Job { rounds: 9, ..job() }).unwrap().fingerprint(), fingerprint);
        assert_ne!(Data::wrap(&later).unwrap().fingerprint(), fingerprint);
        assert_eq!(Data::from_serialize(&later).unwrap().fingerprint(), None);
    }

    #[test]
    fn docs_and_defaults_are_no_difference_but_parts_are() {
        let schema = |note: &str, part: &str| {
            json!({
                "title": note,
                "properties": {"title": {"type": "string", "description": note, "default": note},
                               "part": {"$ref": "#/$defs/Part"}},
                "$defs": {"Part": {"properties": {"size": {"type": part}}}},
            })
        };
        assert_eq!(schema_changes(&schema("a", "integer"), &schema("b", "integer")), []);
        let changes = schema_changes(&schema("a", "integer"), &schema("a", "number"));
        assert_eq!(changes[0].text, "in `Part`, `size` was integer, is number now");
        assert!(changes[0].is_breaking && changes.len() == 1);
    }

    #[test]
    fn a_mismatch_says_what_differs() {
        let module = module_path!();
        let expected = "`Job` does not fit `later::Other`: `rounds` was integer, is string now, \
                        `note` was added, and must be there, `pace` was removed";
        let plain = |error: Error| error.message().replace(&format!("{module}::"), "");
        let data = Data::wrap(&job()).unwrap();
        let error = data.unwrap::<later::Other>().unwrap_err();
        assert_eq!(error.causes(), ["invalid type: integer `3`, expected a string"]);
        assert_eq!(plain(error), expected);
        // Without a schema the value itself has to tell.
        let data = Data::from_serialize(&job()).unwrap();
        assert_eq!(plain(data.unwrap::<later::Other>().unwrap_err()), expected);

        let error = Data::wrap(&1_u32).unwrap().unwrap::<String>().unwrap_err();
        assert_eq!(
            error.message(),
            "`u32` does not fit `alloc::string::String`: was integer, is string now"
        );
    }
}
