//! JSON Schemas, as far as forms need them.

use std::sync::Arc;

use regex::Regex;
use serde_json::Value;

/// How many references are followed in a row.
const REFERENCES_FOLLOWED: usize = 16;
/// How many fields or choices a summary names.
const SUMMARY_NAMES: usize = 6;

/// A schema within its document, whose definitions it may reference.
#[derive(Debug, Clone)]
pub struct Schema {
    document: Arc<Value>,
    node: Value,
}

/// The shape of values, as a form shows it.
#[derive(Debug, Clone)]
pub enum Shape {
    /// Nothing but `null`.
    Nothing,
    /// True or false.
    Boolean,
    /// A whole number within these bounds. If `most` is `i128::MAX`, the number has no upper bound.
    Integer {
        /// The minimum.
        least: i128,
        /// The maximum.
        most: i128,
    },
    /// A number within these bounds.
    Number {
        /// The minimum.
        least: f64,
        /// The maximum.
        most: f64,
    },
    /// Text.
    Text {
        /// The smallest number of characters.
        shortest: usize,
        /// The largest number of characters.
        longest: usize,
        /// The pattern that it must match: the source text and the compiled form.
        pattern: Option<(String, Regex)>,
    },
    /// One of these values.
    Choice(Vec<Value>),
    /// `null`, or a value of the schema.
    Optional(Box<Schema>),
    /// A list within these bounds.
    List {
        /// The schema of each item.
        item: Box<Schema>,
        /// The smallest number of items.
        fewest: usize,
        /// The largest number of items.
        most: usize,
    },
    /// A list with one item for each schema.
    Tuple(Vec<Schema>),
    /// An object with any keys, whose values have this schema.
    Map(Box<Schema>),
    /// An object with these fields.
    Object(Vec<Property>),
    /// One of several variants.
    Variants(Vec<Variant>),
    /// Any JSON; of these types, if any are named.
    Json(Vec<String>),
}

/// A field of an object.
#[derive(Debug, Clone)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Its schema.
    pub schema: Schema,
    /// Whether it is required.
    pub is_required: bool,
}

/// One of several variants of a value.
#[derive(Debug, Clone)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// The key of the only field of the object that contains the value, if there is such an object.
    pub tag: Option<String>,
    /// The schema of the value.
    pub schema: Schema,
}

impl Schema {
    /// The schema of a whole document.
    pub fn new(document: &Value) -> Self {
        Self { document: Arc::new(document.clone()), node: document.clone() }
    }

    fn at(&self, node: &Value) -> Self {
        Self { document: self.document.clone(), node: node.clone() }
    }

    /// The schema that a reference leads to, with the reference's own default.
    fn resolved(&self) -> Self {
        let mut schema = self.clone();
        for _ in 0..REFERENCES_FOLLOWED {
            let target = schema.node["$ref"].as_str().and_then(|it| it.strip_prefix('#'));
            let Some(target) = target.and_then(|path| self.document.pointer(path)) else { break };
            let default = schema.node.get("default").cloned();
            schema.node = target.clone();
            if let (Some(default), Some(fields)) = (default, schema.node.as_object_mut()) {
                fields.insert("default".into(), default);
            }
        }
        schema
    }

    /// The default value.
    pub fn default_value(&self) -> Option<Value> {
        self.resolved().node.get("default").cloned()
    }

    /// The description, on one line.
    pub fn doc(&self) -> String {
        let doc = self.node["description"].as_str().unwrap_or_default();
        doc.lines().next().unwrap_or_default().to_owned()
    }

    /// The shape of its values.
    pub fn shape(&self) -> Shape {
        let schema = self.resolved();
        let node = &schema.node;
        if let Some(value) = node.get("const") {
            return Shape::Choice(vec![value.clone()]);
        }
        if let Some(values) = node["enum"].as_array().filter(|values| !values.is_empty()) {
            return Shape::Choice(values.clone());
        }
        for several in ["oneOf", "anyOf"] {
            if let Some(schemas) = node[several].as_array().filter(|it| !it.is_empty()) {
                return schema.of_several(schemas);
            }
        }
        if let Some([one]) = node["allOf"].as_array().map(Vec::as_slice) {
            return schema.at(one).shape();
        }
        let types = types(node);
        let names: Vec<&str> = types.iter().map(String::as_str).collect();
        match names.as_slice() {
            ["null"] => Shape::Nothing,
            ["boolean"] => Shape::Boolean,
            ["integer"] => {
                let (least, most) = integer_bounds(node);
                Shape::Integer { least, most }
            }
            ["number"] => {
                let (least, most) = number_bounds(node);
                Shape::Number { least, most }
            }
            ["string"] => schema.text(),
            ["array"] => schema.list(),
            ["object"] => schema.object(),
            [one, "null"] | ["null", one] => {
                let mut inner = node.clone();
                inner["type"] = Value::String((*one).to_owned());
                Shape::Optional(Box::new(schema.at(&inner)))
            }
            _ => Shape::Json(types),
        }
    }

    fn text(&self) -> Shape {
        let pattern = self.node["pattern"].as_str();
        Shape::Text {
            shortest: length(&self.node["minLength"], 0),
            longest: length(&self.node["maxLength"], usize::MAX),
            // A pattern that cannot be compiled here may still be checked by the host.
            pattern: pattern.and_then(|it| Some((it.to_owned(), Regex::new(it).ok()?))),
        }
    }

    fn list(&self) -> Shape {
        if let Some(items) = self.node["prefixItems"].as_array() {
            return Shape::Tuple(items.iter().map(|item| self.at(item)).collect());
        }
        Shape::List {
            item: Box::new(self.at(self.node.get("items").unwrap_or(&Value::Bool(true)))),
            fewest: length(&self.node["minItems"], 0),
            most: length(&self.node["maxItems"], usize::MAX),
        }
    }

    fn object(&self) -> Shape {
        let Some(properties) = self.node["properties"].as_object() else {
            return match self.node.get("additionalProperties") {
                Some(values) if values.is_object() => Shape::Map(Box::new(self.at(values))),
                _ => Shape::Json(vec!["object".into()]),
            };
        };
        let required = self.node["required"].as_array();
        let is_required =
            |name: &str| required.is_some_and(|names| names.iter().any(|it| it == name));
        let property = |(name, schema): (&String, &Value)| Property {
            name: name.clone(),
            schema: self.at(schema),
            is_required: is_required(name),
        };
        Shape::Object(properties.iter().map(property).collect())
    }

    /// `oneOf` and `anyOf`: an optional value, a choice among constants, or variants.
    fn of_several(&self, schemas: &[Value]) -> Shape {
        let is_null = |it: &&Value| it["type"] == "null";
        let others: Vec<&Value> = schemas.iter().filter(|it| !is_null(it)).collect();
        if others.len() < schemas.len() && !others.is_empty() {
            let inner = match others.as_slice() {
                [one] => (*one).clone(),
                several => serde_json::json!({ "oneOf": several }),
            };
            return Shape::Optional(Box::new(self.at(&inner)));
        }
        let constants: Vec<Value> = others.iter().flat_map(|it| constants(it)).collect();
        if others.iter().all(|it| !constants_of(it).is_empty()) {
            return Shape::Choice(constants);
        }
        Shape::Variants(others.into_iter().flat_map(|it| self.variants_of(it)).collect())
    }

    fn variants_of(&self, node: &Value) -> Vec<Variant> {
        let constants = constants(node);
        if !constants.is_empty() {
            let variant = |value: Value| Variant {
                name: plain(&value),
                tag: None,
                schema: self.at(&serde_json::json!({ "const": value })),
            };
            return constants.into_iter().map(variant).collect();
        }
        if let (Some(fields), Some([only])) =
            (node["properties"].as_object(), node["required"].as_array().map(Vec::as_slice))
            && fields.len() == 1
            && let Some((name, schema)) = fields.iter().next()
            && only == name
        {
            return vec![Variant {
                name: name.clone(),
                tag: Some(name.clone()),
                schema: self.at(schema),
            }];
        }
        let schema = self.at(node);
        let title = schema.resolved().node["title"].as_str().map(str::to_owned);
        let name = title.unwrap_or_else(|| schema.summary());
        vec![Variant { name, tag: None, schema }]
    }

    /// A summary in a few words: `text`, `list of 0 to 255`, `{rounds, name}`.
    pub fn summary(&self) -> String {
        match self.shape() {
            Shape::Nothing => "nothing".into(),
            Shape::Boolean => "true or false".into(),
            Shape::Integer { .. } => "whole number".into(),
            Shape::Number { .. } => "number".into(),
            Shape::Text { .. } => "text".into(),
            Shape::Choice(values) => {
                format!("one of {}", listed(values.iter().map(plain), values.len()))
            }
            Shape::Optional(inner) => format!("{} or none", inner.summary()),
            Shape::List { item, .. } => format!("list of {}", item.summary()),
            Shape::Tuple(items) => {
                format!("({})", listed(items.iter().map(Self::summary), items.len()))
            }
            Shape::Map(value) => format!("names with {}", value.summary()),
            Shape::Object(fields) => {
                let names = fields.iter().map(|field| field.name.clone());
                format!("{{{}}}", listed(names, fields.len()))
            }
            Shape::Variants(variants) => {
                let names = variants.iter().map(|variant| variant.name.clone());
                format!("one of {}", listed(names, variants.len()))
            }
            Shape::Json(types) if types.is_empty() => "JSON".into(),
            Shape::Json(types) => format!("JSON, {}", types.join(" or ")),
        }
    }
}

/// A summary of a schema document, in a few words.
pub fn summary(document: &Value) -> String {
    Schema::new(document).summary()
}

/// A value without the quotes of a text.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn listed(names: impl Iterator<Item = String>, count: usize) -> String {
    let mut text = names.take(SUMMARY_NAMES).collect::<Vec<_>>().join(", ");
    if count > SUMMARY_NAMES {
        text.push_str(", …");
    }
    text
}

fn types(node: &Value) -> Vec<String> {
    match &node["type"] {
        Value::String(one) => vec![one.clone()],
        Value::Array(several) => {
            several.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect()
        }
        // A schema that lists properties describes an object, even if it does not say so.
        _ if node["properties"].is_object() => vec!["object".into()],
        _ => Vec::new(),
    }
}

fn constants_of(node: &Value) -> Vec<&Value> {
    match (node.get("const"), node["enum"].as_array()) {
        (Some(value), _) => vec![value],
        (None, Some(values)) => values.iter().collect(),
        (None, None) => Vec::new(),
    }
}

fn constants(node: &Value) -> Vec<Value> {
    constants_of(node).into_iter().cloned().collect()
}

fn length(value: &Value, fallback: usize) -> usize {
    value.as_u64().map_or(fallback, |length| usize::try_from(length).unwrap_or(usize::MAX))
}

/// The explicit bounds, limited to the range of a 32-bit float if the format says so.
fn number_bounds(schema: &Value) -> (f64, f64) {
    let widest = match schema["format"].as_str() {
        Some("float") => f32::MAX.into(),
        _ => f64::INFINITY,
    };
    (schema["minimum"].as_f64().unwrap_or(-widest), schema["maximum"].as_f64().unwrap_or(widest))
}

/// The narrower one of the format's bounds and the explicit bounds.
fn integer_bounds(schema: &Value) -> (i128, i128) {
    let (least, most): (i128, i128) = match schema["format"].as_str() {
        Some("int8") => (i8::MIN.into(), i8::MAX.into()),
        Some("int16") => (i16::MIN.into(), i16::MAX.into()),
        Some("int32") => (i32::MIN.into(), i32::MAX.into()),
        Some("uint8") => (0, u8::MAX.into()),
        Some("uint16") => (0, u16::MAX.into()),
        Some("uint32") => (0, u32::MAX.into()),
        Some("uint64" | "uint") => (0, u64::MAX.into()),
        Some("int128") => (i128::MIN, i128::MAX),
        Some("uint128") => (0, i128::MAX),
        _ => (i64::MIN.into(), i64::MAX.into()),
    };
    let bound = |name: &str| {
        let bound = &schema[name];
        bound.as_i64().map(i128::from).or_else(|| bound.as_u64().map(i128::from))
    };
    (
        bound("minimum").map_or(least, |bound| bound.max(least)),
        bound("maximum").map_or(most, |bound| bound.min(most)),
    )
}
