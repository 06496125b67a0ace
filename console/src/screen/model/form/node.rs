//! A value of a form: typed, chosen, or made of other values.

use crossterm::event::{Event as TerminalEvent, KeyCode, KeyEvent};
use serde_json::{Map, Value};
use tui_input::Input;
use tui_input::backend::crossterm::EventHandler;

use crate::format::counted;
use crate::host::schema::{Property, Schema, Shape, Variant, plain};

/// The maximum number of values in a form. Values beyond it are typed as JSON.
const MOST_NODES: usize = 500;
/// The maximum nesting depth of values. Deeper values are typed as JSON.
const DEEPEST: usize = 8;

/// A value of a form.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its type: for a parameter, the Rust type; for an inner value, a summary of its schema.
    pub type_name: String,
    schema: Schema,
    shape: Shape,
    absence: Option<Absence>,
    /// The content; `None` while the value is absent.
    content: Option<Content>,
    depth: usize,
}

/// The meaning of an absent optional value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absence {
    Null,
    /// The object does not have the field.
    Omitted,
}

#[derive(Debug, Clone)]
enum Content {
    Nothing,
    Text(Input),
    Choice(usize),
    /// The items of a list, the entries of a map, the fields of an object.
    Children(Vec<Node>),
    /// The index of the variant, and its value.
    Variant(usize, Box<Node>),
}

/// The way in which a value is shown and changed.
#[derive(Debug, Clone)]
pub enum Look<'a> {
    /// A text that is typed.
    Text(&'a Input),
    /// A choice; this is the chosen entry.
    Choice(String),
    /// An absent value.
    Absent,
    /// A group of other values, in a few words.
    Group(String),
}

/// The number of nodes that may still be made.
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(MOST_NODES)
    }
}

impl Node {
    /// The initial value of a parameter.
    pub(super) fn parameter(
        name: &str,
        type_name: &str,
        schema: Schema,
        budget: &mut Budget,
    ) -> Self {
        let mut node = Self::new(name, schema, true, 0, budget);
        type_name.clone_into(&mut node.type_name);
        node
    }

    fn new(
        name: &str,
        schema: Schema,
        is_required: bool,
        depth: usize,
        budget: &mut Budget,
    ) -> Self {
        budget.0 = budget.0.saturating_sub(1);
        let type_name = schema.summary();
        let default = schema.default_value();
        let (schema, shape, absence) = match schema.shape() {
            Shape::Optional(inner) => {
                let shape = inner.shape();
                (*inner, shape, Some(if is_required { Absence::Null } else { Absence::Omitted }))
            }
            shape => (schema, shape, (!is_required).then_some(Absence::Omitted)),
        };
        // An optional value inside an optional value can only be typed as JSON.
        let shape = match shape {
            Shape::Optional(_) => Shape::Json(Vec::new()),
            Shape::Object(_) | Shape::Tuple(_) | Shape::Variants(_)
                if depth >= DEEPEST || budget.0 == 0 =>
            {
                Shape::Json(Vec::new())
            }
            shape => shape,
        };
        let name = name.to_owned();
        let mut node = Self { name, type_name, schema, shape, absence, content: None, depth };
        if absence.is_none() {
            node.content = Some(node.initial(budget));
            if let Some(default) = default {
                // A default that does not match its own schema is ignored.
                let _ = node.clone().fill(&default).map(|filled| node = filled);
            }
        }
        node
    }

    fn initial(&self, budget: &mut Budget) -> Content {
        let child = |name: &str, schema: &Schema, is_required: bool, budget: &mut Budget| {
            Self::new(name, schema.clone(), is_required, self.depth + 1, budget)
        };
        match &self.shape {
            Shape::Nothing => Content::Nothing,
            Shape::Boolean | Shape::Choice(_) => Content::Choice(0),
            Shape::List { item, fewest, .. } => {
                let items = (0..(*fewest).min(16))
                    .map(|index| child(&format!("[{index}]"), item, true, budget));
                Content::Children(items.collect())
            }
            Shape::Map(_) => Content::Children(Vec::new()),
            Shape::Tuple(items) => {
                let items = items.iter().enumerate();
                let children =
                    items.map(|(index, item)| child(&format!(".{index}"), item, true, budget));
                Content::Children(children.collect())
            }
            Shape::Object(fields) => {
                let children = fields
                    .iter()
                    .map(|field| child(&field.name, &field.schema, field.is_required, budget));
                Content::Children(children.collect())
            }
            Shape::Variants(variants) => self.variant(variants, 0, budget),
            Shape::Integer { .. } | Shape::Number { .. } | Shape::Text { .. } => text(""),
            Shape::Optional(_) | Shape::Json(_) => text(""),
        }
    }

    fn variant(&self, variants: &[Variant], chosen: usize, budget: &mut Budget) -> Content {
        let Some(variant) = variants.get(chosen) else { return Content::Nothing };
        let inner = Self::new(&variant.name, variant.schema.clone(), true, self.depth + 1, budget);
        Content::Variant(chosen, Box::new(inner))
    }

    /// The way in which it is shown.
    pub fn look(&self) -> Look<'_> {
        match &self.content {
            None => Look::Absent,
            Some(Content::Nothing) => Look::Group("nothing to say".into()),
            Some(Content::Text(input)) => Look::Text(input),
            Some(Content::Choice(chosen)) => {
                Look::Choice(self.choices().get(*chosen).cloned().unwrap_or_default())
            }
            Some(Content::Variant(chosen, _)) => {
                Look::Choice(self.choices().get(*chosen).cloned().unwrap_or_default())
            }
            Some(Content::Children(children)) => match &self.shape {
                Shape::List { .. } => Look::Group(counted(children.len() as u64, "item", "items")),
                Shape::Map(_) => Look::Group(counted(children.len() as u64, "entry", "entries")),
                _ => Look::Group(String::new()),
            },
        }
    }

    /// Whether it may be absent.
    pub fn is_optional(&self) -> bool {
        self.absence.is_some()
    }

    /// Whether items can be added to it.
    pub fn takes_items(&self) -> bool {
        matches!(self.shape, Shape::List { .. } | Shape::Map(_)) && self.content.is_some()
    }

    /// The entries of its choice; empty if it is not a choice.
    pub fn choices(&self) -> Vec<String> {
        match &self.shape {
            Shape::Boolean => vec!["false".into(), "true".into()],
            Shape::Choice(values) => values.iter().map(plain).collect(),
            Shape::Variants(variants) => variants.iter().map(|it| it.name.clone()).collect(),
            _ => Vec::new(),
        }
    }

    /// The children that have their own lines.
    pub fn children(&self) -> &[Self] {
        match &self.content {
            Some(Content::Children(children)) => children,
            Some(Content::Variant(_, inner)) => match &inner.content {
                Some(Content::Children(children)) if !inner.takes_items() => children,
                Some(Content::Nothing) => &[],
                Some(Content::Choice(_)) if inner.choices().len() < 2 => &[],
                _ => std::slice::from_ref(inner),
            },
            _ => &[],
        }
    }

    pub(super) fn child_mut(&mut self, index: usize) -> Option<&mut Self> {
        let is_inner = matches!(&self.content, Some(Content::Variant(_, inner))
            if self.children().first().is_some_and(|it| std::ptr::eq(it, &raw const **inner)));
        match self.content.as_mut()? {
            Content::Children(children) => children.get_mut(index),
            Content::Variant(_, inner) => {
                if is_inner {
                    Some(inner)
                } else {
                    inner.child_mut(index)
                }
            }
            _ => None,
        }
    }

    /// Its text input, if text is typed.
    pub fn input_mut(&mut self) -> Option<&mut Input> {
        match self.content.as_mut()? {
            Content::Text(input) => Some(input),
            _ => None,
        }
    }

    /// Handles a key; false if the key has no meaning here.
    pub(super) fn press(&mut self, key: KeyEvent) -> bool {
        if self.content.is_none() {
            let KeyCode::Char(letter) = key.code else { return false };
            self.appear();
            if letter != ' ' {
                self.press(key);
            }
            return true;
        }
        match (self.content.as_mut(), key.code) {
            (Some(Content::Text(input)), _) => {
                input.handle_event(&TerminalEvent::Key(key)).is_some()
            }
            (
                Some(Content::Choice(_) | Content::Variant(..)),
                KeyCode::Char(' ') | KeyCode::Right,
            ) => self.choose(|chosen, count| (chosen + 1) % count),
            (Some(Content::Choice(_) | Content::Variant(..)), KeyCode::Left) => {
                self.choose(|chosen, count| (chosen + count - 1) % count)
            }
            (Some(Content::Choice(_) | Content::Variant(..)), KeyCode::Char(letter)) => {
                let choices = self.choices();
                let begins = |name: &String| {
                    name.chars().next().is_some_and(|first| first.eq_ignore_ascii_case(&letter))
                };
                self.choose(|chosen, count| {
                    let after = (1..=count).map(|step| (chosen + step) % count);
                    after.clone().find(|index| begins(&choices[*index])).unwrap_or(chosen)
                })
            }
            (_, KeyCode::Char('+' | ' ')) => self.add_item(),
            _ => false,
        }
    }

    fn choose(&mut self, next: impl Fn(usize, usize) -> usize) -> bool {
        let count = self.choices().len();
        if count == 0 {
            return false;
        }
        match &mut self.content {
            Some(Content::Choice(chosen)) => *chosen = next(*chosen, count).min(count - 1),
            Some(Content::Variant(chosen, _)) => {
                let chosen = next(*chosen, count).min(count - 1);
                self.set_variant(chosen);
            }
            _ => return false,
        }
        true
    }

    fn set_variant(&mut self, chosen: usize) {
        if let Shape::Variants(variants) = &self.shape {
            let content = self.variant(variants, chosen, &mut Budget::default());
            self.content = Some(content);
        }
    }

    /// Makes an absent value present.
    pub(super) fn appear(&mut self) {
        if self.content.is_none() {
            self.content = Some(self.initial(&mut Budget::default()));
        }
    }

    /// Whether it is an optional value that is present.
    pub fn can_vanish(&self) -> bool {
        self.absence.is_some() && self.content.is_some()
    }

    /// Makes an optional value absent; false when it is not optional.
    pub(super) fn vanish(&mut self) -> bool {
        let can = self.can_vanish();
        if can {
            self.content = None;
        }
        can
    }

    /// Adds an item to a list; false if this is not a list, or the list is full.
    pub(super) fn add_item(&mut self) -> bool {
        let depth = self.depth + 1;
        let Some(Content::Children(children)) = &mut self.content else { return false };
        let budget = &mut Budget::default();
        let item = match &self.shape {
            Shape::List { item, most, .. } if children.len() < (*most).min(MOST_NODES) => {
                Self::new(&format!("[{}]", children.len()), (**item).clone(), true, depth, budget)
            }
            Shape::Map(value) if children.len() < MOST_NODES => {
                Self::entry(children.len(), value, depth, budget)
            }
            _ => return false,
        };
        children.push(item);
        true
    }

    /// An entry of a map: a name and a value.
    fn entry(index: usize, value: &Schema, depth: usize, budget: &mut Budget) -> Self {
        let text = Schema::new(&serde_json::json!({ "type": "string" }));
        let name = Self::new("name", text.clone(), true, depth + 1, budget);
        let value = Self::new("value", value.clone(), true, depth + 1, budget);
        Self {
            name: format!("[{index}]"),
            type_name: String::new(),
            schema: text,
            shape: Shape::Tuple(Vec::new()),
            absence: None,
            content: Some(Content::Children(vec![name, value])),
            depth,
        }
    }

    /// Removes an item from a list; false if this is not a list.
    pub(super) fn remove_item(&mut self, index: usize) -> bool {
        if !self.takes_items() {
            return false;
        }
        let Some(Content::Children(children)) = &mut self.content else { return false };
        if index >= children.len() {
            return false;
        }
        children.remove(index);
        for (index, child) in children.iter_mut().enumerate() {
            child.name = format!("[{index}]");
        }
        true
    }

    /// The value, or a description of its problem.
    pub fn value(&self) -> Result<Value, String> {
        let Some(content) = &self.content else { return Ok(Value::Null) };
        match (content, &self.shape) {
            (Content::Nothing, _) => Ok(Value::Null),
            (Content::Text(input), shape) => typed(input.value(), shape),
            (Content::Choice(chosen), Shape::Choice(values)) => {
                values.get(*chosen).cloned().ok_or_else(|| "nothing is chosen".into())
            }
            (Content::Choice(chosen), _) => Ok(Value::Bool(*chosen == 1)),
            (Content::Variant(chosen, inner), Shape::Variants(variants)) => {
                let value = inner.value()?;
                Ok(match variants.get(*chosen).and_then(|it| it.tag.clone()) {
                    Some(tag) => Value::Object(Map::from_iter([(tag, value)])),
                    None => value,
                })
            }
            (Content::Children(children), Shape::Object(_)) => {
                let present = children.iter().filter(|it| !it.is_omitted());
                let fields = present.map(|it| Ok((it.name.clone(), it.value()?)));
                Ok(Value::Object(fields.collect::<Result<_, String>>()?))
            }
            (Content::Children(entries), Shape::Map(_)) => {
                let mut fields = Map::new();
                for entry in entries {
                    let Value::Array(pair) = entry.value()? else { continue };
                    if let [Value::String(name), value] = pair.as_slice()
                        && fields.insert(name.clone(), value.clone()).is_some()
                    {
                        return Err(format!("{name:?} appears twice"));
                    }
                }
                Ok(Value::Object(fields))
            }
            (Content::Children(items), shape) => {
                let items =
                    items.iter().map(Self::value).collect::<Result<Vec<Value>, String>>()?;
                match shape {
                    Shape::List { fewest, .. } if items.len() < *fewest => {
                        Err(format!("at least {}", counted(*fewest as u64, "item", "items")))
                    }
                    _ => Ok(Value::Array(items)),
                }
            }
            (Content::Variant(..), _) => Err("nothing is chosen".into()),
        }
    }

    fn is_omitted(&self) -> bool {
        self.content.is_none() && self.absence == Some(Absence::Omitted)
    }

    /// The problem of this line itself, without that of its children.
    pub fn problem(&self) -> Option<String> {
        match &self.content {
            Some(Content::Text(_)) => self.value().err(),
            Some(Content::Children(children)) if children.iter().all(|it| it.value().is_ok()) => {
                self.value().err()
            }
            _ => None,
        }
    }

    /// Whether a value is required and nothing has been typed yet.
    pub fn is_blank(&self) -> bool {
        matches!(&self.content, Some(Content::Text(input)) if input.value().is_empty())
    }

    /// Returns this node with the value filled in; an error says where the value does not match, and why.
    pub(super) fn fill(mut self, value: &Value) -> Result<Self, String> {
        if value.is_null() && self.absence.is_some() {
            self.content = None;
            return Ok(self);
        }
        let expected = |what: &str| Err(format!("expected {what}, found {}", kind(value)));
        let content = match (&self.shape, value) {
            (Shape::Nothing, Value::Null) => Content::Nothing,
            (Shape::Nothing, _) => return expected("null"),
            (Shape::Boolean, Value::Bool(it)) => Content::Choice(usize::from(*it)),
            (Shape::Boolean, _) => return expected("true or false"),
            (Shape::Choice(values), value) => match values.iter().position(|it| it == value) {
                Some(chosen) => Content::Choice(chosen),
                None => return Err(format!("{value} is not one of {}", self.choices().join(", "))),
            },
            (Shape::Text { .. }, Value::String(it)) => text(it),
            (Shape::Text { .. }, _) => return expected("text"),
            (Shape::Integer { .. } | Shape::Number { .. }, Value::Number(it)) => {
                text(&it.to_string())
            }
            (Shape::Integer { .. } | Shape::Number { .. }, Value::String(it))
                if typed(it, &self.shape).as_ref() == Ok(value) =>
            {
                text(it)
            }
            (Shape::Integer { .. } | Shape::Number { .. }, _) => return expected("a number"),
            (Shape::List { item, most, .. }, Value::Array(values)) => {
                self.fill_list(item, *most, values)?
            }
            (Shape::Tuple(schemas), Value::Array(values)) => self.fill_tuple(schemas, values)?,
            (Shape::List { .. } | Shape::Tuple(_), _) => return expected("a list"),
            (Shape::Map(schema), Value::Object(fields)) => self.fill_map(schema, fields)?,
            (Shape::Object(properties), Value::Object(fields)) => {
                self.fill_object(properties, fields)?
            }
            (Shape::Object(_) | Shape::Map(_), _) => return expected("an object"),
            (Shape::Variants(variants), value) => self.fill_variant(variants, value)?,
            (Shape::Optional(_) | Shape::Json(_), value) => text(&value.to_string()),
        };
        self.content = Some(content);
        // The value must also be within the bounds.
        self.problem().map_or(Ok(self), Err)
    }

    fn fill_list(&self, item: &Schema, most: usize, values: &[Value]) -> Result<Content, String> {
        if values.len() > most {
            return Err(format!("at most {}", counted(most as u64, "item", "items")));
        }
        if values.len() > MOST_NODES {
            return Err(format!("a form shows at most {MOST_NODES} items"));
        }
        let names = (0..).map(|index| format!("[{index}]"));
        self.fill_items(names.zip(std::iter::repeat(item)).zip(values))
    }

    fn fill_tuple(&self, schemas: &[Schema], values: &[Value]) -> Result<Content, String> {
        if schemas.len() != values.len() {
            return Err(format!("{} of {} items", values.len(), schemas.len()));
        }
        let names = (0..).map(|index| format!(".{index}"));
        self.fill_items(names.zip(schemas).zip(values))
    }

    fn fill_items<'a>(
        &self,
        items: impl Iterator<Item = ((String, &'a Schema), &'a Value)>,
    ) -> Result<Content, String> {
        let budget = &mut Budget::default();
        let fill = |((name, schema), value): ((String, &Schema), &Value)| {
            let node = Self::new(&name, schema.clone(), true, self.depth + 1, budget);
            node.fill(value).map_err(within(&name))
        };
        items.map(fill).collect::<Result<_, _>>().map(Content::Children)
    }

    fn fill_map(&self, schema: &Schema, fields: &Map<String, Value>) -> Result<Content, String> {
        if fields.len() > MOST_NODES {
            return Err(format!("a form shows at most {MOST_NODES} entries"));
        }
        let budget = &mut Budget::default();
        let mut entries = Vec::with_capacity(fields.len());
        for (index, (name, value)) in fields.iter().enumerate() {
            let mut entry = Self::entry(index, schema, self.depth + 1, budget);
            if let Some(Content::Children(pair)) = &mut entry.content {
                pair[0].content = Some(text(name));
                pair[1] = pair[1].clone().fill(value).map_err(within(name))?;
            }
            entries.push(entry);
        }
        Ok(Content::Children(entries))
    }

    fn fill_object(
        &self,
        properties: &[Property],
        fields: &Map<String, Value>,
    ) -> Result<Content, String> {
        let known = |name: &str| properties.iter().any(|it| it.name == name);
        if let Some(name) = fields.keys().find(|name| !known(name)) {
            return Err(format!("there is no field `{name}`"));
        }
        let budget = &mut Budget::default();
        let mut children = Vec::with_capacity(properties.len());
        for field in properties {
            let (schema, is_required) = (field.schema.clone(), field.is_required);
            let node = Self::new(&field.name, schema, is_required, self.depth + 1, budget);
            children.push(match fields.get(&field.name) {
                Some(value) => node.fill(value).map_err(within(&field.name))?,
                None if field.is_required => {
                    return Err(format!("the field `{}` is missing", field.name));
                }
                None => Self { content: None, ..node },
            });
        }
        Ok(Content::Children(children))
    }

    /// The content of the first variant that matches the value.
    fn fill_variant(&self, variants: &[Variant], value: &Value) -> Result<Content, String> {
        let mut nearest = None;
        for (index, variant) in variants.iter().enumerate() {
            let inside = match &variant.tag {
                None => Some(value),
                Some(tag) => {
                    value.as_object().filter(|it| it.len() == 1).and_then(|it| it.get(tag))
                }
            };
            let Some(inside) = inside else { continue };
            let Content::Variant(_, inner) = self.variant(variants, index, &mut Budget::default())
            else {
                continue;
            };
            match inner.fill(inside) {
                Ok(inner) => return Ok(Content::Variant(index, Box::new(inner))),
                Err(wrong) => {
                    nearest.get_or_insert(within(&variant.name)(wrong));
                }
            }
        }
        Err(nearest.unwrap_or_else(|| format!("none of {}", self.choices().join(", "))))
    }

    /// A hint at what to type or choose.
    pub fn expected(&self) -> String {
        match &self.shape {
            Shape::Nothing => String::new(),
            Shape::Boolean => "true or false, Space flips".into(),
            Shape::Choice(values) => format!("Space chooses among {}", values.len()),
            Shape::Variants(variants) => format!("Space chooses among {}", variants.len()),
            // The bounds of a large type say no more than its name does.
            Shape::Integer { least, most } if *most >= i32::MAX.into() => match *least {
                least if least <= i32::MIN.into() => "a whole number".into(),
                least => format!("{least} or more"),
            },
            Shape::Integer { least, most } => format!("{least} to {most}"),
            Shape::Number { least, most }
                if *least > f32::MIN.into() && *most < f32::MAX.into() =>
            {
                format!("{least} to {most}")
            }
            Shape::Number { .. } => "a number".into(),
            Shape::Text { .. } => "text".into(),
            Shape::List { .. } => "Space adds an item".into(),
            Shape::Map(_) => "Space adds an entry".into(),
            Shape::Tuple(_) | Shape::Object(_) => String::new(),
            Shape::Optional(_) | Shape::Json(_) => self.schema.summary(),
        }
    }
}

fn text(value: &str) -> Content {
    Content::Text(Input::new(value.to_owned()))
}

/// Adds to a message the name of the value that it is about.
fn within(name: &str) -> impl Fn(String) -> String {
    move |wrong| format!("{name}: {wrong}")
}

/// Parses a typed text; an error describes its problem.
fn typed(text: &str, shape: &Shape) -> Result<Value, String> {
    match shape {
        Shape::Integer { least, most } => integer(text.trim(), *least, *most),
        Shape::Number { least, most } => number(text.trim(), *least, *most),
        Shape::Text { shortest, longest, pattern } => {
            let length = text.chars().count();
            if length < *shortest {
                return Err(format!(
                    "at least {}",
                    counted(*shortest as u64, "character", "characters")
                ));
            }
            if length > *longest {
                return Err(format!(
                    "at most {}",
                    counted(*longest as u64, "character", "characters")
                ));
            }
            match pattern {
                Some((source, pattern)) if !pattern.is_match(text) => {
                    Err(format!("does not match {source}"))
                }
                _ => Ok(Value::String(text.to_owned())),
            }
        }
        Shape::Json(types) => json(text, types),
        _ => json(text, &[]),
    }
}

/// An integer. One that needs more than 64 bits becomes a string, because JSON has no notation for it.
fn integer(text: &str, least: i128, most: i128) -> Result<Value, String> {
    if most == i128::MAX && text.parse::<i128>().is_err() && text.parse::<u128>().is_ok() {
        return Ok(text.into());
    }
    let value: i128 = text.parse().map_err(|_| "not a whole number".to_owned())?;
    let outside = || format!("not within {least} to {most}");
    if !(least..=most).contains(&value) {
        return Err(outside());
    }
    match (i64::try_from(value), u64::try_from(value)) {
        (Ok(value), _) => Ok(value.into()),
        (_, Ok(value)) => Ok(value.into()),
        _ => Ok(value.to_string().into()),
    }
}

/// A number. One that is not finite becomes a string, because JSON has no notation for it.
fn number(text: &str, least: f64, most: f64) -> Result<Value, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let Some(number) = serde_json::Number::from_f64(value) else {
        return not_finite(text, value, least, most);
    };
    if value < least || value > most {
        let bound = |it: f64| if it.abs() < 1e15 { it.to_string() } else { format!("{it:e}") };
        return Err(format!("not within {} to {}", bound(least), bound(most)));
    }
    Ok(Value::Number(number))
}

/// A number that is not finite, if the bounds allow any number.
fn not_finite(text: &str, value: f64, least: f64, most: f64) -> Result<Value, String> {
    let is_word = !text.bytes().any(|byte| byte.is_ascii_digit());
    if !is_word || least > f32::MIN.into() || most < f32::MAX.into() {
        return Err("not a finite number".to_owned());
    }
    Ok(hotswap_engine::Value::from(value).into())
}

fn json(text: &str, types: &[String]) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| match text.trim() {
        "" => "expected JSON".to_owned(),
        _ => format!("not JSON: {error}"),
    })?;
    let found = kind(&value);
    let fits = types.iter().any(|it| it == found || (it == "number" && found == "integer"));
    if types.is_empty() || fits {
        return Ok(value);
    }
    Err(format!("expected {}, found {found}", types.join(" or ")))
}

/// The name of a value's type in JSON Schema.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(schema: &Value) -> Node {
        Node::parameter("it", "T", Schema::new(schema), &mut Budget::default())
    }

    fn check(schema: &Value, text: &str) -> Result<Value, String> {
        let mut node = node(schema);
        *node.input_mut().expect("a field to type into") = Input::new(text.into());
        node.value()
    }

    fn round_trip(schema: &Value, value: Value) {
        assert_eq!(node(schema).fill(&value).and_then(|it| it.value()), Ok(value));
    }

    #[test]
    fn a_string_keeps_its_text() {
        assert_eq!(check(&json!({"type": "string"}), "42"), Ok(json!("42")));
        assert_eq!(check(&json!({"type": "string"}), ""), Ok(json!("")));
        let letter = json!({"type": "string", "minLength": 1, "maxLength": 1});
        assert_eq!(check(&letter, "ab"), Err("at most 1 character".into()));
        let digits = json!({"type": "string", "pattern": "^[0-9]+$"});
        assert_eq!(check(&digits, "x"), Err("does not match ^[0-9]+$".into()));
    }

    #[test]
    fn an_integer_stays_within_the_bounds_of_its_type() {
        let u8_schema = json!({"type": "integer", "format": "uint8", "minimum": 0, "maximum": 255});
        assert_eq!(check(&u8_schema, "255"), Ok(json!(255)));
        assert_eq!(check(&u8_schema, "256"), Err("not within 0 to 255".into()));
        for wrong in ["-1", "1.5", ""] {
            assert!(check(&u8_schema, wrong).is_err(), "{wrong}");
        }
        let u64_schema = json!({"type": "integer", "format": "uint64", "minimum": 0});
        assert_eq!(check(&u64_schema, &u64::MAX.to_string()), Ok(json!(u64::MAX)));
    }

    #[test]
    fn numbers_that_json_cannot_represent_are_sent_as_text() {
        let number = json!({"type": "number", "format": "double"});
        for (typed, sent) in [("nan", "NaN"), ("inf", "Infinity"), ("-Infinity", "-Infinity")] {
            assert_eq!(check(&number, typed), Ok(json!(sent)));
            round_trip(&number, json!(sent));
        }
        assert!(check(&number, "1e999").is_err());
        assert!(check(&json!({"type": "number", "minimum": 0.0}), "nan").is_err());
        let signed = json!({"type": "integer", "format": "int128"});
        let unsigned = json!({"type": "integer", "format": "uint128", "minimum": 0});
        assert_eq!(check(&signed, "-7"), Ok(json!(-7)));
        assert!(check(&unsigned, "-7").is_err());
        let (least, most) = (i128::MIN.to_string(), u128::MAX.to_string());
        assert_eq!(check(&signed, &least), Ok(json!(least)));
        assert_eq!(check(&unsigned, &most), Ok(json!(most)));
        round_trip(&signed, json!(least));
        round_trip(&unsigned, json!(most));
    }

    #[test]
    fn numbers_are_within_their_bounds() {
        assert_eq!(check(&json!({"type": "number"}), "1e3"), Ok(json!(1000.0)));
        let f32_schema = json!({"type": "number", "format": "float"});
        assert_eq!(check(&f32_schema, "1.5"), Ok(json!(1.5)));
        assert!(check(&f32_schema, "1e39").unwrap_err().starts_with("not within -3.4"));
        assert_eq!(check(&json!({"type": "number", "format": "double"}), "1e39"), Ok(json!(1e39)));
    }

    #[test]
    fn a_value_with_a_mixed_type_is_typed_as_json_of_an_allowed_kind() {
        let either = json!({"type": ["number", "array"]});
        assert_eq!(check(&either, "[1, 2]"), Ok(json!([1, 2])));
        assert_eq!(check(&either, "{}"), Err("expected number or array, found object".into()));
        assert!(check(&either, "tru").unwrap_err().starts_with("not JSON"));
        assert!(check(&json!(true), "{\"any\": 1}").is_ok());
    }

    #[test]
    fn values_of_every_shape_go_in_and_out() {
        let point = json!({
            "type": "object",
            "properties": {"x": {"type": "number"}, "note": {"type": ["string", "null"]}},
            "required": ["x"],
        });
        let shape = json!({
            "oneOf": [
                {"type": "string", "enum": ["Empty", "Full"]},
                {"type": "object", "properties": {"Circle": {"type": "number"}}, "required": ["Circle"]},
                {"type": "object", "properties": {"Line": {"$ref": "#/$defs/Line"}}, "required": ["Line"]},
            ],
            "$defs": {
                "Line": {"type": "array", "items": point.clone()},
            },
        });
        round_trip(&json!({"type": "null"}), json!(null));
        round_trip(&json!({"type": "boolean"}), json!(true));
        round_trip(
            &json!({"type": "array", "items": {"type": ["integer", "null"]}}),
            json!([1, null]),
        );
        round_trip(&json!({"anyOf": [point.clone(), {"type": "null"}]}), json!(null));
        round_trip(&point, json!({"x": 1.5}));
        round_trip(&point, json!({"x": 1.5, "note": "here"}));
        round_trip(&shape, json!("Full"));
        round_trip(&shape, json!({"Circle": 2.0}));
        round_trip(&shape, json!({"Line": [{"x": 1.0}, {"x": 2.0, "note": "end"}]}));
        let map = json!({"type": "object", "additionalProperties": {"type": "boolean"}});
        round_trip(&map, json!({"a": true, "b": false}));
        let pair = json!({
            "type": "array",
            "prefixItems": [{"type": "string"}, {"type": "integer"}],
        });
        round_trip(&pair, json!(["a", 1]));
    }

    #[test]
    fn a_value_that_does_not_fit_says_where() {
        let schema = json!({
            "type": "object",
            "properties": {"list": {"type": "array", "items": {"type": "integer", "format": "uint8"}}},
            "required": ["list"],
        });
        let wrong = |value: Value| node(&schema).fill(&value).unwrap_err();
        assert_eq!(wrong(json!({"list": [1, 300]})), "list: [1]: not within 0 to 255");
        assert_eq!(wrong(json!({"list": "x"})), "list: expected a list, found string");
        assert_eq!(wrong(json!({})), "the field `list` is missing");
        assert_eq!(wrong(json!({"list": [], "other": 1})), "there is no field `other`");
    }

    #[test]
    fn a_type_that_contains_itself_ends_in_json() {
        let schema = json!({
            "$ref": "#/$defs/Tree",
            "$defs": {"Tree": {
                "oneOf": [
                    {"type": "object", "properties": {"Node": {
                        "type": "array",
                        "prefixItems": [{"$ref": "#/$defs/Tree"}, {"$ref": "#/$defs/Tree"}],
                    }}, "required": ["Node"]},
                    {"type": "object", "properties": {"Leaf": {"type": "integer"}}, "required": ["Leaf"]},
                ],
            }},
        });
        round_trip(&schema, json!({"Node": [{"Leaf": 1}, {"Leaf": 2}]}));
        assert!(check(&json!({"$ref": "#"}), "1").is_ok(), "a reference to itself");
    }
}
