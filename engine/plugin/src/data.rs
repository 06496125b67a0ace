//! Values that cross from one version to another by name and schema instead of layout.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    mem::offset_of,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value as Json, json};

use crate::{Error, Result, SchemaBuilder, Shape, Shared, Value};

/// A value that is handed over by the name and the JSON Schema of its type, and not by its layout.
///
/// So code that is newer than the data can read it: for example a job that waits in a queue while its plugin
/// is replaced, or the data that a host passes to its plugins when it loads them.
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
/// assert_eq!(data.live_name(), "Fire");
/// assert_eq!(data.unwrap::<Fire>()?.rounds, 3);
/// assert!(data.unwrap::<String>().is_err());
///
/// // A host can save it, and read it when it runs again.
/// let saved = serde_json::to_string(&data)?;
/// assert_eq!(serde_json::from_str::<Data>(&saved)?, data);
/// # Ok(())
/// # }
/// ```
///
/// It is [`Shared`]: plugins can keep it in the DataBag, return it, and pass it to objects of others, such as
/// a queue that the host registers in the [`Extension`](crate::Extension).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Data {
    #[serde(rename = "type")]
    type_name: String,
    /// The JSON Schema of its type, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    value: Value,
}

// SAFETY: each field is described with its offset, and none has a pointer into an image.
unsafe impl Shared for Data {
    const MAY_POINT_HOME: bool = false;

    fn describe(schema: &mut SchemaBuilder) -> usize {
        schema.add::<Self>(|schema| {
            Shape::Struct(vec![
                schema.field::<String>("type_name", Some(offset_of!(Self, type_name))),
                schema.field::<Option<String>>("schema", Some(offset_of!(Self, schema))),
                schema.field::<Value>("value", Some(offset_of!(Self, value))),
            ])
        })
    }
}

impl Data {
    /// Wraps a value, with the name and the schema of its type.
    ///
    /// # Errors
    /// If `value`'s own `Serialize` fails, or a map in it has keys that are not text.
    pub fn wrap<T: Serialize + JsonSchema>(value: &T) -> Result<Self> {
        let schema = Some(crate::function::schema::<T>());
        Ok(Self { schema, ..Self::from_serialize(value)? })
    }

    /// Wraps a value whose type has no schema.
    ///
    /// # Errors
    /// As for [`wrap`](Self::wrap).
    pub fn from_serialize<T: Serialize>(value: &T) -> Result<Self> {
        let type_name = std::any::type_name::<T>().to_owned();
        Ok(Self { type_name, schema: None, value: Value::from_serialize(value)? })
    }

    /// Wraps a value whose Rust type is not known here: `type_name` is the name of a live type, and
    /// `value` has its fields.
    ///
    /// ```
    /// # use hotswap_plugin::{Data, Value};
    /// let fire = Data::named("LiveFire", Value::Map(vec![("rounds".into(), 3_u32.into())]));
    /// assert_eq!(fire.live_name(), "LiveFire");
    /// ```
    pub fn named(type_name: impl Into<String>, value: Value) -> Self {
        Self { type_name: type_name.into(), schema: None, value }
    }

    /// Wraps a value of a type with this name and schema.
    #[doc(hidden)]
    pub fn with_schema(type_name: &str, schema: &str, value: Value) -> Self {
        Self { schema: Some(schema.to_owned()), ..Self::named(type_name, value) }
    }

    /// Reads the value as a `T`. `T` may have fields that the data lacks if they have
    /// `#[serde(default)]`.
    ///
    /// # Errors
    /// If the value does not fit `T`; the message names both types and what differs.
    pub fn unwrap<T: DeserializeOwned + JsonSchema>(&self) -> Result<T> {
        self.value.to().map_err(|error| {
            let expected = std::any::type_name::<T>();
            self.misfit(error, &format!("`{expected}`"), &crate::function::schema::<T>())
        })
    }

    /// Describes data that does not fit a type. The error names both types and what differs.
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

    /// The value.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The name of the type without its path: the name of the live type that reads the data.
    pub fn live_name(&self) -> &str {
        self.type_name.rsplit("::").next().unwrap_or(&self.type_name)
    }

    /// The name of the type, with its path if the data was made of a Rust value.
    pub fn type_name(&self) -> &str {
        &self.type_name
    }

    /// The JSON Schema of the type, as text; `None` if it is not known.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// A number that changes with the name ([`live_name`](Self::live_name)) or the schema of the type; `None`
    /// if there is no schema.
    pub fn fingerprint(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        (self.live_name(), self.schema.as_ref()?).hash(&mut hasher);
        Some(hasher.finish())
    }
}

/// A difference between the old and the new schema of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChange {
    /// The type, within the schema, that has the field; `None` if it is the schema's own type.
    pub part: Option<String>,
    /// The field that differs; `None` if the type as a whole differs.
    pub field: Option<String>,
    /// The kind of difference.
    pub kind: SchemaChangeKind,
    /// Whether the new type cannot read data of the old type.
    pub is_breaking: bool,
    /// The difference as text: `` in `Part`, `pace` was added and is required ``.
    pub text: String,
}

/// How a field or a type differs between two schemas.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchemaChangeKind {
    /// The field is new.
    Added {
        /// Whether data without the field cannot be read.
        is_required: bool,
    },
    /// The field is gone.
    Removed,
    /// The field was optional and is required.
    Required,
    /// The field was required and is optional.
    Optional,
    /// The type changed.
    Type {
        /// The old and the new type, such as `integer` and `string`; `None` if the schemas differ in
        /// something else.
        types: Option<(String, String)>,
    },
}

impl SchemaChange {
    fn new(field: Option<&String>, kind: SchemaChangeKind, is_breaking: bool) -> Self {
        let field = field.cloned();
        let text = change_text(None, field.as_deref(), &kind);
        Self { part: None, field, kind, is_breaking, text }
    }

    /// The same change inside the type named `part`.
    fn in_part(self, part: &str) -> Self {
        let text = change_text(Some(part), self.field.as_deref(), &self.kind);
        Self { part: Some(part.to_owned()), text, ..self }
    }

    /// The difference as text for code that only reads values of the type, such as the result of a function.
    /// It does not mention whether an added field is required.
    pub fn read_text(&self) -> String {
        match self.kind {
            SchemaChangeKind::Added { .. } => {
                change_text(self.part.as_deref(), self.field.as_deref(), &"was added")
            }
            _ => self.text.clone(),
        }
    }
}

fn change_text(part: Option<&str>, field: Option<&str>, what: &dyn fmt::Display) -> String {
    let part = part.map(|part| format!("in `{part}`, ")).unwrap_or_default();
    let field = field.map(|field| format!("`{field}` ")).unwrap_or_default();
    format!("{part}{field}{what}")
}

impl fmt::Display for SchemaChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { is_required: true } => f.write_str("was added and is required"),
            Self::Added { is_required: false } => f.write_str("was added and is optional"),
            Self::Removed => f.write_str("was removed"),
            Self::Required => f.write_str("is required now"),
            Self::Optional => f.write_str("is optional now"),
            Self::Type { types: Some((old, new)) } => write!(f, "was {old}, is {new} now"),
            Self::Type { types: None } => f.write_str("has another type"),
        }
    }
}

/// Compares the old and the new JSON Schema of a type, and of the types in it, field by field. Differences in
/// docs and default values do not count.
///
/// ```
/// # use hotswap_plugin::{JsonSchema, SchemaChangeKind, schema_changes, schemars::schema_for};
/// mod old {
///     # use hotswap_plugin::{JsonSchema, schemars};
///     #[derive(JsonSchema)]
///     pub struct Fire {
///         pub rounds: u32,
///     }
/// }
/// mod new {
///     # use hotswap_plugin::{JsonSchema, schemars};
///     #[derive(JsonSchema)]
///     pub struct Fire {
///         pub rounds: u32,
///         pub pace: Option<String>,
///     }
/// }
///
/// let (old, new) = (schema_for!(old::Fire), schema_for!(new::Fire));
/// let changes = schema_changes(old.as_value(), new.as_value());
/// assert_eq!(changes[0].kind, SchemaChangeKind::Added { is_required: false });
/// assert_eq!(changes[0].text, "`pace` was added and is optional");
/// assert!(!changes[0].is_breaking);
/// ```
pub fn schema_changes(old: &Json, new: &Json) -> Vec<SchemaChange> {
    let (old, new) = (structure(old), structure(new));
    let mut changes = field_changes(&old, &new);
    for (name, new_part) in new["$defs"].as_object().into_iter().flatten() {
        let Some(old_part) = old["$defs"].get(name) else { continue };
        let parts = field_changes(old_part, new_part).into_iter();
        changes.extend(parts.map(|change| change.in_part(name)));
    }
    changes
}

/// A schema with only the keywords that decide which values fit.
fn structure(schema: &Json) -> Json {
    const WORDS: [&str; 4] = ["$schema", "title", "description", "default"];
    match schema {
        Json::Object(parts) => {
            let is_name = |word: &String| word == "properties" || word == "$defs";
            let plain = parts.iter().filter(|(word, _)| !WORDS.contains(&word.as_str()));
            let plain = plain.map(|(word, part)| match part {
                // Here the words are names of fields or types.
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
    if old_fields.is_empty() && new_fields.is_empty() {
        let differ = type_difference(old, new);
        return differ.map(|kind| SchemaChange::new(None, kind, true)).into_iter().collect();
    }
    let change =
        |field: &String, kind, is_breaking| SchemaChange::new(Some(field), kind, is_breaking);
    let is_required = |schema: &Json, field: &String| {
        schema["required"].as_array().is_some_and(|all| all.iter().any(|name| name == field))
    };
    let mut changes = Vec::new();
    for (field, schema) in &new_fields {
        match old_fields.get(field) {
            None => {
                let is_required = is_required(new, field);
                let kind = SchemaChangeKind::Added { is_required };
                changes.push(change(field, kind, is_required));
            }
            Some(old) => {
                let kind = type_difference(old, schema);
                changes.extend(kind.map(|kind| change(field, kind, true)));
                match (is_required(old_schema, field), is_required(new, field)) {
                    (false, true) => changes.push(change(field, SchemaChangeKind::Required, true)),
                    (true, false) => changes.push(change(field, SchemaChangeKind::Optional, false)),
                    _ => {}
                }
            }
        }
    }
    let gone = old_fields.keys().filter(|field| !new_fields.contains_key(*field));
    changes.extend(gone.map(|field| change(field, SchemaChangeKind::Removed, false)));
    changes
}

/// The difference between the types of two schemas; `None` if they are the same, or if one of them does not
/// give a type.
fn type_difference(old: &Json, new: &Json) -> Option<SchemaChangeKind> {
    if old == new {
        return None;
    }
    let types = ["type", "format", "$ref"].into_iter().find_map(|word| {
        let text = |schema: &Json| match &schema[word] {
            Json::String(text) => Some(text.rsplit('/').next().unwrap_or(text).to_owned()),
            Json::Array(texts) => {
                let texts: Option<Vec<&str>> = texts.iter().map(Json::as_str).collect();
                Some(texts?.join(" or "))
            }
            _ => None,
        };
        let (old, new) = (text(old)?, text(new)?);
        (old != new).then_some((old, new))
    });
    // A schema that was guessed from a value has nothing but the type.
    let is_guessed = old.as_object().is_some_and(|schema| schema.len() <= 1);
    (types.is_some() || !is_guessed).then_some(SchemaChangeKind::Type { types })
}

/// The schema of a value's type, as far as the value shows it.
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
    fn data_fits_a_type_with_added_and_removed_fields() {
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
    fn docs_and_defaults_are_not_compared_but_parts_are() {
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
        let [change] = changes.as_slice() else { panic!("{changes:?}") };
        assert_eq!(change.text, "in `Part`, `size` was integer, is number now");
        let names = (change.part.as_deref(), change.field.as_deref());
        assert_eq!(names, (Some("Part"), Some("size")));
        assert!(change.is_breaking);
    }

    #[test]
    fn a_mismatch_says_what_differs() {
        let module = module_path!();
        let expected = "`Job` does not fit `later::Other`: `rounds` was integer, is string now, \
                        `note` was added and is required, `pace` was removed";
        let plain = |error: Error| error.message().replace(&format!("{module}::"), "");
        let data = Data::wrap(&job()).unwrap();
        let error = data.unwrap::<later::Other>().unwrap_err();
        assert_eq!(error.causes(), ["invalid type: integer `3`, expected a string"]);
        assert_eq!(plain(error), expected);
        // Without a schema the value itself shows its type.
        let data = Data::from_serialize(&job()).unwrap();
        assert_eq!(plain(data.unwrap::<later::Other>().unwrap_err()), expected);

        let error = Data::wrap(&1_u32).unwrap().unwrap::<String>().unwrap_err();
        assert_eq!(
            error.message(),
            "`u32` does not fit `alloc::string::String`: was integer, is string now"
        );
    }
}
