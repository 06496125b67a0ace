//! The differences between what two artifacts declare.

use hotswap_plugin::{LiveTypeDescription, schema_changes};
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
                difference.map(|what| (what, true))
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

/// What changed in a live type, and whether data of the old one may not be read as the new one: a
/// field that must be there was added, or a field's schema is another.
fn live_type_difference(old: &LiveTypeDescription, new: &LiveTypeDescription) -> (String, bool) {
    let parse = |live: &LiveTypeDescription| {
        serde_json::from_str::<Value>(&live.schema).unwrap_or_default()
    };
    let changes = schema_changes(&parse(old), &parse(new));
    let is_breaking = changes.iter().any(|change| change.is_breaking);
    let texts: Vec<_> = changes.into_iter().map(|change| change.text).collect();
    match texts.as_slice() {
        [] => ("its schema is another".into(), false),
        texts => (texts.join(", "), is_breaking),
    }
}
