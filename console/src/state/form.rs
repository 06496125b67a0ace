//! The form that calls a function: a field a parameter, checked as it is typed.

use hotswap_protocol::{FunctionInfo, InvokeParams, ParamInfo};
use serde_json::Value;
use tui_input::Input;

use crate::operation::Operation;

/// The form of one function.
pub struct Form {
    /// `world`, or `world@2`
    pub target: String,
    /// The function.
    pub function: String,
    /// A field a parameter.
    pub fields: Vec<Field>,
    /// Which field has the keyboard.
    pub focused: usize,
    /// Which entry of the history is shown, counted from the newest; none for what was typed.
    recalled: Option<usize>,
}

/// A parameter of the form.
pub struct Field {
    /// The parameter's name.
    pub name: String,
    /// Its Rust type.
    pub type_name: String,
    kind: Kind,
    /// What was typed.
    pub input: Input,
}

/// What a field accepts.
#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Text,
    Boolean,
    Integer {
        least: i128,
        most: i128,
    },
    Number,
    /// Anything else is typed as JSON; of these JSON types, when the schema names any.
    Json {
        types: Vec<String>,
    },
}

impl Form {
    /// An empty form.
    pub fn new(target: String, function: &FunctionInfo) -> Self {
        Self {
            target,
            function: function.name.clone(),
            fields: function.params.iter().map(Field::new).collect(),
            focused: 0,
            recalled: None,
        }
    }

    /// The field that has the keyboard.
    pub fn focused_field(&mut self) -> Option<&mut Field> {
        self.recalled = None;
        self.fields.get_mut(self.focused)
    }

    /// Gives the keyboard to the next field, or the one before.
    pub fn focus(&mut self, forward: bool) {
        let count = self.fields.len().max(1);
        let step = if forward { 1 } else { count - 1 };
        self.focused = (self.focused + step) % count;
    }

    /// What was typed, to be recalled later.
    pub fn texts(&self) -> Vec<String> {
        self.fields.iter().map(|field| field.input.value().to_owned()).collect()
    }

    /// Shows an older entry of the history (newest last), or a younger one.
    pub fn recall(&mut self, history: &[Vec<String>], older: bool) {
        self.recalled = match (self.recalled, older) {
            (None, true) => Some(0),
            (Some(position), true) => Some(position + 1),
            (Some(position), false) => position.checked_sub(1),
            (None, false) => return,
        };
        let Some(last) = history.len().checked_sub(1) else {
            self.recalled = None;
            return;
        };
        self.recalled = self.recalled.map(|position| position.min(last));
        let texts = self.recalled.map(|position| history[last - position].as_slice());
        for (position, field) in self.fields.iter_mut().enumerate() {
            let text = texts.and_then(|texts| texts.get(position)).cloned().unwrap_or_default();
            field.input = Input::new(text);
        }
    }

    /// The call, or the position of the first field that is wrong.
    pub fn call(&self) -> Result<Operation, usize> {
        let mut args = Vec::with_capacity(self.fields.len());
        for (position, field) in self.fields.iter().enumerate() {
            args.push(field.value().map_err(|_| position)?);
        }
        Ok(Operation::Invoke(InvokeParams {
            plugin: self.target.clone(),
            function: self.function.clone(),
            args,
            lenient: false,
            repeat: 1,
        }))
    }
}

impl Field {
    fn new(parameter: &ParamInfo) -> Self {
        let kind = Kind::of(&parameter.schema);
        let initial = if kind == Kind::Boolean { "false" } else { "" };
        Self {
            name: parameter.name.clone(),
            type_name: parameter.type_name.clone(),
            kind,
            input: Input::new(initial.into()),
        }
    }

    /// Whether the space bar flips this field.
    pub fn is_boolean(&self) -> bool {
        self.kind == Kind::Boolean
    }

    /// Makes true of false, and false of anything else.
    pub fn flip(&mut self) {
        let flipped = if self.input.value() == "true" { "false" } else { "true" };
        self.input = Input::new(flipped.into());
    }

    /// The argument, or what is wrong with what was typed.
    pub fn value(&self) -> Result<Value, String> {
        let text = self.input.value();
        match &self.kind {
            Kind::Text => Ok(Value::String(text.to_owned())),
            Kind::Boolean => match text.trim() {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err("expected true or false".into()),
            },
            Kind::Integer { least, most } => integer(text.trim(), *least, *most),
            Kind::Number => number(text.trim()),
            Kind::Json { types } => json(text, types),
        }
    }

    /// What is to be typed, in a word or two.
    pub fn expected(&self) -> String {
        match &self.kind {
            Kind::Text => "text".into(),
            Kind::Boolean => "true or false, Space flips".into(),
            Kind::Integer { least, most } if *least == 0 => format!("0 to {most}"),
            Kind::Integer { least, most } => format!("{least} to {most}"),
            Kind::Number => "a number".into(),
            Kind::Json { types } if types.is_empty() => "JSON".into(),
            Kind::Json { types } => format!("JSON, {}", types.join(" or ")),
        }
    }
}

impl Kind {
    fn of(schema: &Value) -> Self {
        let types: Vec<String> = match &schema["type"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(several) => {
                several.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect()
            }
            _ => Vec::new(),
        };
        match types.as_slice() {
            // A text with a shape of its own (an enum, a date) is typed as text all the same.
            [one] if one == "string" => Self::Text,
            [one] if one == "boolean" => Self::Boolean,
            [one] if one == "number" => Self::Number,
            [one] if one == "integer" => {
                let (least, most) = integer_bounds(schema);
                Self::Integer { least, most }
            }
            _ => Self::Json { types },
        }
    }
}

/// The narrower of what the format and the explicit bounds allow.
fn integer_bounds(schema: &Value) -> (i128, i128) {
    let (least, most): (i128, i128) = match schema["format"].as_str() {
        Some("int8") => (i8::MIN.into(), i8::MAX.into()),
        Some("int16") => (i16::MIN.into(), i16::MAX.into()),
        Some("int32") => (i32::MIN.into(), i32::MAX.into()),
        Some("uint8") => (0, u8::MAX.into()),
        Some("uint16") => (0, u16::MAX.into()),
        Some("uint32") => (0, u32::MAX.into()),
        Some("uint64" | "uint") => (0, u64::MAX.into()),
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

fn integer(text: &str, least: i128, most: i128) -> Result<Value, String> {
    let value: i128 = text.parse().map_err(|_| "not a whole number".to_owned())?;
    let outside = || format!("not within {least} to {most}");
    if !(least..=most).contains(&value) {
        return Err(outside());
    }
    match (i64::try_from(value), u64::try_from(value)) {
        (Ok(value), _) => Ok(value.into()),
        (_, Ok(value)) => Ok(value.into()),
        _ => Err(outside()),
    }
}

fn number(text: &str) -> Result<Value, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    serde_json::Number::from_f64(value)
        .map(Value::Number)
        .ok_or_else(|| "not a finite number".into())
}

fn json(text: &str, types: &[String]) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| match text.trim() {
        "" => "expected JSON".to_owned(),
        _ => format!("no JSON: {error}"),
    })?;
    let found = match &value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = types.iter().any(|it| it == found || (it == "number" && found == "integer"));
    if types.is_empty() || fits {
        return Ok(value);
    }
    Err(format!("expected {}, found {found}", types.join(" or ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(schema: Value, text: &str) -> Result<Value, String> {
        let parameter = ParamInfo { name: "it".into(), type_name: "T".into(), schema };
        let mut field = Field::new(&parameter);
        field.input = Input::new(text.into());
        field.value()
    }

    #[test]
    fn a_string_keeps_its_text() {
        assert_eq!(check(json!({"type": "string"}), "42"), Ok(json!("42")));
        assert_eq!(check(json!({"type": "string"}), ""), Ok(json!("")));
    }

    #[test]
    fn an_integer_stays_within_the_bounds_of_its_type() {
        let u8_schema = json!({"type": "integer", "format": "uint8", "minimum": 0, "maximum": 255});
        assert_eq!(check(u8_schema.clone(), "255"), Ok(json!(255)));
        assert_eq!(check(u8_schema.clone(), "256"), Err("not within 0 to 255".into()));
        assert!(check(u8_schema.clone(), "-1").is_err());
        assert!(check(u8_schema.clone(), "1.5").is_err());
        assert!(check(u8_schema, "").is_err());
        let u64_schema = json!({"type": "integer", "format": "uint64", "minimum": 0});
        assert_eq!(check(u64_schema, &u64::MAX.to_string()), Ok(json!(u64::MAX)));
    }

    #[test]
    fn other_types_are_json_of_the_right_sort() {
        let list = json!({"type": "array", "items": {"type": "integer"}});
        assert_eq!(check(list.clone(), "[1, 2]"), Ok(json!([1, 2])));
        assert_eq!(check(list, "{}"), Err("expected array, found object".into()));
        let optional = json!({"type": ["number", "null"]});
        assert_eq!(check(optional.clone(), "null"), Ok(json!(null)));
        assert_eq!(check(optional.clone(), "2"), Ok(json!(2)));
        assert!(check(optional, "tru").unwrap_err().starts_with("no JSON"));
        assert!(check(json!({}), "{\"any\": 1}").is_ok());
    }

    #[test]
    fn numbers_are_finite() {
        assert_eq!(check(json!({"type": "number"}), "1e3"), Ok(json!(1000.0)));
        assert!(check(json!({"type": "number"}), "inf").is_err());
    }
}
