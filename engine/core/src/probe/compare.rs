//! The differences between the declarations of two artifacts.

use hotswap_plugin::{FunctionDescription, ImportRequest, LiveTypeDescription, schema_changes};
use hotswap_protocol::{ArtifactChange, ChangeKind, ChangedItem};
use serde_json::Value;

use super::{Contents, export_info};

impl Contents {
    /// The changes that a reload from this artifact to `new` would bring. Both are artifacts of one plugin.
    pub fn changes_to(&self, new: &Self) -> Vec<ArtifactChange> {
        let mut changes = self.function_changes(new);
        changes.extend(self.live_type_changes(new));
        changes.extend(self.type_changes(new));
        changes.extend(self.export_change(new));
        changes.extend(self.import_changes(new));
        changes
    }

    fn function_changes(&self, new: &Self) -> Vec<ArtifactChange> {
        paired(
            ChangedItem::Function,
            &self.functions,
            &new.functions,
            |function| &function.name,
            |function| function.signature.clone(),
            |old, new| {
                if (&old.signature, old.is_async) != (&new.signature, new.is_async) {
                    return Some(Difference::both(&old.signature, &new.signature));
                }
                let types = old.types.as_ref().zip(new.types.as_ref());
                let difference = types.and_then(|(old, new)| new.difference(old));
                difference.map(Difference::breaking).or_else(|| shape_difference(old, new))
            },
        )
    }

    fn live_type_changes(&self, new: &Self) -> Vec<ArtifactChange> {
        paired(
            ChangedItem::LiveType,
            &self.live_types,
            &new.live_types,
            |live| &live.name,
            |_| String::new(),
            |old, new| (old.schema != new.schema).then(|| live_type_difference(old, new)),
        )
    }

    fn type_changes(&self, new: &Self) -> Vec<ArtifactChange> {
        paired(
            ChangedItem::Type,
            &self.types,
            &new.types,
            |schema| schema.name(),
            |schema| format!("{} bytes", schema.size()),
            |old, new| new.difference(old).map(Difference::breaking),
        )
    }

    fn export_change(&self, new: &Self) -> Option<ArtifactChange> {
        let of = ChangedItem::Export;
        match (&self.export, &new.export) {
            (None, None) => None,
            (None, Some(new)) => Some(added(of, &new.name, export_info(new).methods.join(", "))),
            (Some(old), None) => Some(removed(of, &old.name, String::new())),
            (Some(old), Some(new)) if old.name != new.name => {
                Some(Difference::both(&old.name, &new.name).change(of, &new.name))
            }
            (Some(old), Some(new)) => {
                let difference = Difference::breaking(new.difference(old)?);
                Some(difference.change(of, &new.name))
            }
        }
    }

    fn import_changes(&self, new: &Self) -> Vec<ArtifactChange> {
        let mut changes = paired(
            ChangedItem::Import,
            &self.imports,
            &new.imports,
            |import| &import.plugin,
            |import| interface_name(import).to_owned(),
            |old, new| {
                let breaking = || {
                    let (old, new) = (old.shape.as_ref()?, new.shape.as_ref()?);
                    new.difference(old).map(Difference::breaking)
                };
                let (was, now) = (interface_name(old), interface_name(new));
                breaking().or_else(|| (was != now).then(|| Difference::both(was, now)))
            },
        );
        // A new version that imports less breaks nothing.
        let is_removed = |change: &&mut ArtifactChange| change.change == ChangeKind::Removed;
        changes.iter_mut().filter(is_removed).for_each(|change| change.is_breaking = false);
        changes
    }
}

/// The interface that an import asks for, or a text for an import that only sets the order.
fn interface_name(import: &ImportRequest) -> &str {
    import.shape.as_ref().map_or("order alone", |shape| &shape.name)
}

/// The difference between an item of one artifact and the same item of another.
#[derive(Debug, PartialEq)]
struct Difference {
    /// The difference as text.
    text: String,
    /// Both sides, if each can be expressed in one word.
    sides: Option<(String, String)>,
    is_breaking: bool,
}

impl Difference {
    /// A breaking difference between two texts.
    fn both(was: &str, now: &str) -> Self {
        let sides = Some((was.to_owned(), now.to_owned()));
        Self { sides, ..Self::breaking(format!("was `{was}`, now `{now}`")) }
    }

    fn breaking(text: String) -> Self {
        Self { text, sides: None, is_breaking: true }
    }

    fn change(self, item: ChangedItem, name: &str) -> ArtifactChange {
        let Self { text: detail, sides, is_breaking } = self;
        let (was, now) = sides.unzip();
        let (name, change) = (name.to_owned(), ChangeKind::Changed);
        ArtifactChange { item, name, change, detail, was, now, is_breaking }
    }
}

/// A new item. `now` describes it, if there is more to say than its name.
fn added(item: ChangedItem, name: &str, now: String) -> ArtifactChange {
    let (detail, now) = in_words(item, now);
    let (name, change) = (name.to_owned(), ChangeKind::Added);
    ArtifactChange { item, name, change, detail, was: None, now, is_breaking: false }
}

/// An item that is gone, which breaks its users.
fn removed(item: ChangedItem, name: &str, was: String) -> ArtifactChange {
    let (detail, was) = in_words(item, was);
    let (name, change) = (name.to_owned(), ChangeKind::Removed);
    ArtifactChange { item, name, change, detail, was, now: None, is_breaking: true }
}

/// One side of a change, as text and as data; the data is `None` if there is nothing to say.
fn in_words(item: ChangedItem, side: String) -> (String, Option<String>) {
    match item {
        _ if side.is_empty() => (side, None),
        ChangedItem::Import => (format!("`{side}`"), Some(side)),
        _ => (side.clone(), Some(side)),
    }
}

/// Pairs the items of two artifacts by name. `differ` returns the difference of a pair.
fn paired<T>(
    item: ChangedItem,
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> &str,
    describe: impl Fn(&T) -> String,
    differ: impl Fn(&T, &T) -> Option<Difference>,
) -> Vec<ArtifactChange> {
    let twin = |of: &T, among: &'_ [T]| among.iter().position(|other| name(other) == name(of));
    let mut changes = Vec::new();
    for old in old {
        match twin(old, new) {
            None => changes.push(removed(item, name(old), describe(old))),
            Some(at) => {
                let difference = differ(old, &new[at]);
                changes.extend(difference.map(|it| it.change(item, name(old))));
            }
        }
    }
    let is_new = new.iter().filter(|new| twin(new, old).is_none());
    changes.extend(is_new.map(|new| added(item, name(new), describe(new))));
    changes
}

/// The changes in the schemas of a function's arguments and its result. They are breaking if arguments that
/// were accepted may be refused, or if code may not be able to read the new result.
fn shape_difference(old: &FunctionDescription, new: &FunctionDescription) -> Option<Difference> {
    let mut texts = Vec::new();
    let mut is_breaking = false;
    for (old, new) in old.params.iter().zip(&new.params) {
        let changes = schema_changes(&parse(&old.schema), &parse(&new.schema));
        is_breaking |= changes.iter().any(|change| change.is_breaking);
        texts.extend(changes.iter().map(|change| format!("in `{}`, {}", new.name, change.text)));
    }
    let (old, new) = (parse(&old.returns), parse(&new.returns));
    // The caller reads the new result as the old one.
    is_breaking |= schema_changes(&new, &old).iter().any(|change| change.is_breaking);
    // Whether a field is required only matters to code that provides a value, and callers provide no result.
    let results = schema_changes(&old, &new).into_iter().map(|change| change.read_text());
    texts.extend(results.map(|text| format!("in the result, {text}")));
    let difference = || Difference { text: texts.join(", "), sides: None, is_breaking };
    (!texts.is_empty()).then(difference)
}

fn parse(schema: &str) -> Value {
    serde_json::from_str(schema).unwrap_or_default()
}

/// The changes in a live type. They are breaking if data of the old type may be unreadable as the new one: a
/// required field was added, or the schema of a field changed.
fn live_type_difference(old: &LiveTypeDescription, new: &LiveTypeDescription) -> Difference {
    let changes = schema_changes(&parse(&old.schema), &parse(&new.schema));
    let is_breaking = changes.iter().any(|change| change.is_breaking);
    let texts: Vec<_> = changes.iter().map(|change| change.text.as_str()).collect();
    let text = match texts.as_slice() {
        [] => "its schema changed".into(),
        texts => texts.join(", "),
    };
    Difference { text, sides: None, is_breaking }
}

#[cfg(test)]
mod tests {
    use hotswap_plugin::ParamDescription;
    use serde_json::json;

    use super::*;

    fn meet(guest: &Value, result: &Value) -> FunctionDescription {
        FunctionDescription {
            is_live: false,
            is_async: false,
            has_effects: false,
            name: "meet".into(),
            signature: "(guest: Guest) -> Met".into(),
            doc: String::new(),
            params: vec![ParamDescription {
                name: "guest".into(),
                type_name: "Guest".into(),
                schema: guest.to_string(),
            }],
            returns: result.to_string(),
            types: None,
        }
    }

    fn fields(names: &[&str]) -> Value {
        let fields = names.iter().map(|name| ((*name).to_owned(), json!({"type": "string"})));
        let fields = fields.collect::<serde_json::Map<_, _>>();
        json!({"type": "object", "properties": fields, "required": names})
    }

    #[test]
    fn arguments_are_read_by_the_new_one_and_results_by_the_caller() {
        let old = meet(&fields(&["name"]), &fields(&["names"]));
        let difference = |guest: &[&str], result: &[&str]| {
            shape_difference(&old, &meet(&fields(guest), &fields(result)))
        };
        assert_eq!(difference(&["name"], &["names"]), None);
        let expected = |text: &str, is_breaking| {
            Some(Difference { text: text.to_owned(), sides: None, is_breaking })
        };
        let renamed = "in `guest`, `who` was added and is required, in `guest`, `name` was removed";
        assert_eq!(difference(&["who"], &["names"]), expected(renamed, true));
        assert_eq!(difference(&[], &["names"]), expected("in `guest`, `name` was removed", false));
        assert_eq!(
            difference(&["name"], &[]),
            expected("in the result, `names` was removed", true)
        );
        let more = "in the result, `times` was added";
        assert_eq!(difference(&["name"], &["names", "times"]), expected(more, false));

        let mut optional = fields(&["name"]);
        optional["required"] = json!([]);
        let lax = meet(&optional, &optional);
        let strict = meet(&fields(&["name"]), &fields(&["name"]));
        let tighter = "in `guest`, `name` is required now, in the result, `name` is required now";
        assert_eq!(shape_difference(&lax, &strict), expected(tighter, true));
        let looser = "in `guest`, `name` is optional now, in the result, `name` is optional now";
        assert_eq!(shape_difference(&strict, &lax), expected(looser, true));
    }
}
