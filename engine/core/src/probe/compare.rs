//! The differences between what two artifacts declare.

use hotswap_plugin::{FunctionDescription, LiveTypeDescription, schema_changes};
use hotswap_protocol::{ArtifactChange, ChangeKind, ChangedItem};
use serde_json::Value;

use super::{Contents, export_info};

impl Contents {
    /// What a reload from this artifact to another one of the plugin would change.
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
                    return Some((
                        format!("was `{}`, now `{}`", old.signature, new.signature),
                        true,
                    ));
                }
                let types = old.types.as_ref().zip(new.types.as_ref());
                let difference = types.and_then(|(old, new)| {
                    let args = new.args.difference(&old.args);
                    args.or_else(|| new.result.difference(&old.result))
                });
                difference.map(|what| (what, true)).or_else(|| shape_difference(old, new))
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
            |old, new| new.difference(old).map(|what| (what, true)),
        )
    }

    fn export_change(&self, new: &Self) -> Option<ArtifactChange> {
        let change = |name: &str, change, detail: String, is_breaking| ArtifactChange {
            item: ChangedItem::Export,
            name: name.to_owned(),
            change,
            detail,
            is_breaking,
        };
        match (&self.export, &new.export) {
            (None, None) => None,
            (None, Some(new)) => {
                let methods = export_info(new).methods.join(", ");
                Some(change(&new.name, ChangeKind::Added, methods, false))
            }
            (Some(old), None) => Some(change(&old.name, ChangeKind::Removed, String::new(), true)),
            (Some(old), Some(new)) if old.name != new.name => {
                let detail = format!("was `{}`, now `{}`", old.name, new.name);
                Some(change(&new.name, ChangeKind::Changed, detail, true))
            }
            (Some(old), Some(new)) => {
                let what = new.difference(old)?;
                Some(change(&new.name, ChangeKind::Changed, what, true))
            }
        }
    }

    fn import_changes(&self, new: &Self) -> Vec<ArtifactChange> {
        let mut changes = paired(
            ChangedItem::Import,
            &self.imports,
            &new.imports,
            |import| &import.plugin,
            |import| format!("`{}`", import.shape.name),
            |old, new| {
                let what = new.shape.difference(&old.shape);
                let what = what.or_else(|| {
                    (old.shape.name != new.shape.name)
                        .then(|| format!("was `{}`, now `{}`", old.shape.name, new.shape.name))
                });
                Some((what?, true))
            },
        );
        // Asking for less breaks nothing.
        let removed = |change: &&mut ArtifactChange| change.change == ChangeKind::Removed;
        changes.iter_mut().filter(removed).for_each(|change| change.is_breaking = false);
        changes
    }
}

/// Pairs what two artifacts have by name. What is gone breaks whoever used it; `differ` says what
/// changed, and whether that breaks.
fn paired<T>(
    item: ChangedItem,
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> &str,
    describe: impl Fn(&T) -> String,
    differ: impl Fn(&T, &T) -> Option<(String, bool)>,
) -> Vec<ArtifactChange> {
    let change = |of: &T, change, detail, is_breaking| ArtifactChange {
        item,
        name: name(of).to_owned(),
        change,
        detail,
        is_breaking,
    };
    let twin = |of: &T, among: &'_ [T]| among.iter().position(|other| name(other) == name(of));
    let mut changes = Vec::new();
    for old in old {
        match twin(old, new) {
            None => changes.push(change(old, ChangeKind::Removed, describe(old), true)),
            Some(at) => {
                let difference = differ(old, &new[at]);
                changes.extend(difference.map(|(detail, is_breaking)| {
                    change(old, ChangeKind::Changed, detail, is_breaking)
                }));
            }
        }
    }
    let added = new.iter().filter(|new| twin(new, old).is_none());
    changes.extend(added.map(|new| change(new, ChangeKind::Added, describe(new), false)));
    changes
}

/// What changed in the shapes of a function's arguments and its result, and whether arguments that
/// fitted may not, or a result may not be read as before.
fn shape_difference(
    old: &FunctionDescription,
    new: &FunctionDescription,
) -> Option<(String, bool)> {
    let mut texts = Vec::new();
    let mut is_breaking = false;
    for (old, new) in old.params.iter().zip(&new.params) {
        let changes = schema_changes(&parse(&old.schema), &parse(&new.schema));
        is_breaking |= changes.iter().any(|change| change.is_breaking);
        texts.extend(changes.iter().map(|change| format!("in `{}`, {}", new.name, change.text)));
    }
    let (old, new) = (parse(&old.returns), parse(&new.returns));
    // Of a result it is the caller who reads the new one as the old one.
    is_breaking |= schema_changes(&new, &old).iter().any(|change| change.is_breaking);
    let changes = schema_changes(&old, &new);
    texts.extend(changes.iter().map(|change| format!("in the result, {}", change.read_text())));
    (!texts.is_empty()).then(|| (texts.join(", "), is_breaking))
}

fn parse(schema: &str) -> Value {
    serde_json::from_str(schema).unwrap_or_default()
}

/// What changed in a live type, and whether data of the old one may not be read as the new one: a
/// field that must be there was added, or a field's schema is another.
fn live_type_difference(old: &LiveTypeDescription, new: &LiveTypeDescription) -> (String, bool) {
    let changes = schema_changes(&parse(&old.schema), &parse(&new.schema));
    let is_breaking = changes.iter().any(|change| change.is_breaking);
    let texts: Vec<_> = changes.into_iter().map(|change| change.text).collect();
    match texts.as_slice() {
        [] => ("its schema is another".into(), false),
        texts => (texts.join(", "), is_breaking),
    }
}

#[cfg(test)]
mod tests {
    use hotswap_plugin::ParamDescription;
    use serde_json::json;

    use super::*;

    fn meet(guest: &Value, result: &Value) -> FunctionDescription {
        FunctionDescription {
            index: 0,
            is_live: false,
            is_async: false,
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
        let told = |text: &str, is_breaking| Some((text.to_owned(), is_breaking));
        let renamed = "in `guest`, `who` was added and is required, in `guest`, `name` was removed";
        assert_eq!(difference(&["who"], &["names"]), told(renamed, true));
        assert_eq!(difference(&[], &["names"]), told("in `guest`, `name` was removed", false));
        assert_eq!(difference(&["name"], &[]), told("in the result, `names` was removed", true));
        let more = "in the result, `times` was added";
        assert_eq!(difference(&["name"], &["names", "times"]), told(more, false));

        let mut optional = fields(&["name"]);
        optional["required"] = json!([]);
        let lax = meet(&optional, &optional);
        let strict = meet(&fields(&["name"]), &fields(&["name"]));
        let tighter = "in `guest`, `name` is required now, in the result, `name` is required now";
        assert_eq!(shape_difference(&lax, &strict), told(tighter, true));
        let looser = "in `guest`, `name` is optional now, in the result, `name` is optional now";
        assert_eq!(shape_difference(&strict, &lax), told(looser, true));
    }
}
