//! What would happen to the values in the DataBag, as far as their types show.

use hotswap_protocol::{
    ArtifactChange, ChangeKind, ChangedItem, DataBagEntry, Outcome, Owner, VaultSnapshot,
    same_plugin,
};
use serde::Serialize;

use super::{Declared, changes_something};

/// What would happen to a value in the DataBag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValuePreview {
    /// The value's name.
    pub key: String,
    /// Its Rust type now.
    #[serde(rename = "type")]
    pub type_name: String,
    /// What the comparison of its type shows.
    pub prospect: Prospect,
    /// The same as text.
    pub detail: String,
    /// Whether the value may be lost, or the reload may be refused because of it.
    pub is_breaking: bool,
}

/// What the type of a value shows about its future.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Prospect {
    /// The type is the same on both sides.
    Same,
    /// The type has another layout in the new artifact.
    Changed,
    /// The new artifact has no type of this name.
    Gone,
    /// The artifacts do not declare the type.
    Unknown,
    /// The plugin is removed, and the value with it.
    Dropped,
}

/// Types whose layout depends only on the toolchain, so it is the same on both sides.
const OF_THE_LANGUAGE: [&str; 17] = [
    "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32",
    "u64", "u128", "usize", "()",
];

/// The values that this plugin owns.
pub(super) fn of_plugin(
    plugin: &str,
    outcome: Outcome,
    declared: &Declared,
    vault: &VaultSnapshot,
) -> Vec<ValuePreview> {
    if !changes_something(outcome) {
        return Vec::new();
    }
    let owned = vault.data_bag.iter().filter(|entry| is_owner(plugin, entry));
    owned.map(|entry| of_value(entry, outcome, declared)).collect()
}

/// Whether a version of this plugin owns the value.
fn is_owner(plugin: &str, entry: &DataBagEntry) -> bool {
    let owner = entry.owned_by.as_ref().and_then(Owner::version);
    owner.is_some_and(|(name, _)| same_plugin(name, plugin))
}

fn of_value(entry: &DataBagEntry, outcome: Outcome, declared: &Declared) -> ValuePreview {
    let (prospect, detail, is_breaking) = match outcome {
        Outcome::Removed => (Prospect::Dropped, "is removed with the plugin".to_owned(), true),
        // The same artifact is loaded again.
        Outcome::Rebound => (Prospect::Same, "its type is the same".to_owned(), false),
        // The version keeps serving, with everything that it owns.
        Outcome::Patched => (Prospect::Same, "it stays".to_owned(), false),
        _ => by_type(&entry.type_name, declared),
    };
    ValuePreview {
        key: entry.key.clone(),
        type_name: entry.type_name.clone(),
        prospect,
        detail,
        is_breaking,
    }
}

fn by_type(type_name: &str, declared: &Declared) -> (Prospect, String, bool) {
    let is_type =
        |change: &&ArtifactChange| change.item == ChangedItem::Type && change.name == type_name;
    match declared.changes.iter().find(is_type) {
        Some(change) if change.change == ChangeKind::Removed => {
            let what = "its type is gone: renamed, moved, or no longer used; only a value that \
                        reads as the new type is carried over"
                .to_owned();
            return (Prospect::Gone, what, true);
        }
        Some(change) if change.change == ChangeKind::Changed => {
            let what = format!(
                "{}; it is carried over if the new type can read the old value; otherwise the reload is refused",
                change.detail
            );
            return (Prospect::Changed, what, true);
        }
        _ => {}
    }
    let declares = |contents: &Option<hotswap_protocol::ArtifactContents>| {
        contents.as_ref().is_some_and(|it| it.types.iter().any(|known| known.name == type_name))
    };
    if (declares(&declared.old) && declares(&declared.new))
        || OF_THE_LANGUAGE.contains(&type_name)
        || type_name == "alloc::string::String"
    {
        // The new version may still request another type for this key.
        let what = "stays if the new version requests this type again";
        return (Prospect::Same, what.to_owned(), false);
    }
    let what = match (&declared.old, &declared.new) {
        (None, None) => "the artifacts were not compared, so it is not known whether it stays",
        _ => "the artifacts do not declare its type, so it is not known whether it stays",
    };
    (Prospect::Unknown, what.to_owned(), false)
}
