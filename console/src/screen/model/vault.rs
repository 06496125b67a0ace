//! The Vault as trees, with the changes of the last reload.

use std::collections::BTreeSet;

use hotswap_protocol::{
    Cut, DataBagEntry, ExtensionSlot, Owner, ValueChange, ValueOutcome, VaultSnapshot, WireError,
};
use serde_json::Value;

use super::tree::{Cuts, Mark, Tree, TreeRow, TreeTab, brief, has_children};
use crate::format;

/// The columns of the Vault tab.
pub const COLUMNS: [&str; 5] = ["name", "type", "owner", "size", "value"];

/// The Vault tab.
#[derive(Default)]
pub struct Vault {
    /// The last snapshot of the Vault.
    contents: Option<Result<VaultSnapshot, WireError>>,
    /// The last snapshot from the generation before.
    before: Option<VaultSnapshot>,
    /// The generation of the last reload, and the changes that it made to the values of the DataBag.
    outcomes: (u64, Vec<ValueOutcome>),
    tree: Tree,
}

/// The change that a reload made to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueVerdict {
    /// The value and its change: `greetings was u64`
    pub text: String,
    /// Whether it is gone.
    pub is_lost: bool,
}

impl TreeTab for Vault {
    fn rows(&self) -> Vec<TreeRow> {
        let Some(Ok(vault)) = &self.contents else { return Vec::new() };
        let mut rows = Vec::new();
        self.push_data_bag(&mut rows, vault);
        self.push_extension(&mut rows, vault);
        self.push_slots(&mut rows, vault);
        self.tree.filtered(rows)
    }

    fn tree(&self) -> &Tree {
        &self.tree
    }

    fn tree_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }
}

impl Vault {
    /// Takes a snapshot of the Vault; true if it differs from the last one.
    pub fn update(&mut self, contents: Result<VaultSnapshot, WireError>) -> bool {
        if self.contents.as_ref() == Some(&contents) {
            return false;
        }
        if let (Ok(now), Some(Ok(seen))) = (&contents, &self.contents)
            && now.generation != seen.generation
        {
            self.before = Some(seen.clone());
        }
        self.contents = Some(contents);
        true
    }

    /// Takes the changes that a reload made to the DataBag.
    pub fn reloaded(&mut self, generation: u64, outcomes: &[ValueOutcome]) {
        self.outcomes = (generation, outcomes.to_vec());
    }

    /// Forgets the Vault of a host that has ended.
    pub fn clear(&mut self) {
        self.contents = None;
        self.before = None;
        self.outcomes = Default::default();
    }

    /// The path of the first value or registration with this owner.
    pub fn path_of_first(&self, owner: &Owner) -> Option<String> {
        let Some(Ok(vault)) = &self.contents else { return None };
        let value = vault.data_bag.iter().find(|entry| entry.owned_by.as_ref() == Some(owner));
        let slot = || vault.slots.iter().find(|slot| slot.owned_by.as_ref() == Some(owner));
        value.map(|entry| bag_path(&entry.key)).or_else(|| slot().map(slot_path))
    }

    /// The paths and names of all values and registrations.
    pub fn names(&self) -> impl Iterator<Item = (String, String)> {
        let vault = self.contents.as_ref().and_then(|contents| contents.as_ref().ok());
        vault.into_iter().flat_map(|vault| {
            let values = vault.data_bag.iter().map(|it| (bag_path(&it.key), it.key.clone()));
            values.chain(vault.slots.iter().map(|it| (slot_path(it), it.name.clone())))
        })
    }

    /// Whether a value is known to belong to another plugin than this one, or to the host.
    pub fn is_of_another(&self, key: &str, plugin: &str) -> bool {
        let Some(Ok(vault)) = &self.contents else { return false };
        let owner = entry(vault, key).and_then(|entry| entry.owned_by.as_ref());
        match owner {
            Some(Owner::Version { plugin: owner, .. }) => owner != plugin,
            Some(Owner::Host) => true,
            _ => false,
        }
    }

    /// The changes that the last reload made to a plugin's values, lost values first. Values that were kept are
    /// left out.
    pub fn changes_of(&self, plugin: &str) -> Vec<ValueVerdict> {
        let Some(Ok(vault)) = &self.contents else { return Vec::new() };
        let is_its = |entry: &DataBagEntry| match &entry.owned_by {
            Some(Owner::Version { plugin: owner, .. }) => owner == plugin,
            _ => false,
        };
        let is_lost =
            |entry: &&DataBagEntry| is_its(entry) && self::entry(vault, &entry.key).is_none();
        let before = self.before.iter().flat_map(|before| &before.data_bag).filter(is_lost);
        let lost =
            before.map(|it| ValueVerdict { text: format!("{} is gone", it.key), is_lost: true });
        let changed = vault.data_bag.iter().filter(|entry| is_its(entry)).filter_map(|entry| {
            let outcome = self.outcomes_of(vault).iter().find(|it| it.key == entry.key)?;
            let is_kept = matches!(outcome.change, ValueChange::Kept | ValueChange::Shared);
            let (_, note) = self.change(entry);
            let text = format!("{} {note}", entry.key);
            (!is_kept && !note.is_empty()).then_some(ValueVerdict { text, is_lost: false })
        });
        lost.chain(changed).collect()
    }

    /// The reason why the Vault cannot be shown.
    pub fn error(&self) -> Option<&WireError> {
        self.contents.as_ref()?.as_ref().err()
    }

    /// The details of the selected row: a title and lines.
    pub fn details(&self) -> Option<(String, Vec<String>)> {
        let rows = self.rows();
        let row = rows.get(self.tree.selected(&rows))?;
        let mut lines: Vec<String> = COLUMNS
            .iter()
            .zip(&row.cells)
            .skip(1)
            .take(3)
            .filter(|(_, cell)| !cell.is_empty())
            .map(|(column, cell)| format!("{column:<6} {cell}"))
            .collect();
        if let Some(was) = self.was(row) {
            lines.push(was);
        }
        if let Some(cut) = self.cut_at(&row.path) {
            let of = cut.of.map_or("more".into(), format::thousands);
            lines.push(format!("shown  {} of {of}", format::thousands(cut.shown)));
        }
        lines.push(String::new());
        match self.value_at(&row.path) {
            Some(value) => lines.extend(format!("{value:#}").lines().map(str::to_owned)),
            None => lines.extend(row.cells.last().cloned()),
        }
        Some((row.cells.first()?.clone(), lines))
    }

    /// The content of a new or changed row before the last reload.
    fn was(&self, row: &TreeRow) -> Option<String> {
        let before = self.before.as_ref()?;
        match row.mark {
            Mark::New => Some("was    not there before the last reload".into()),
            Mark::Changed => {
                let value = value_in(before, &row.path).map_or("opaque".into(), Value::to_string);
                let entry = row.path.strip_prefix("bag/").and_then(|key| entry(before, key));
                let type_name = entry.map_or_else(String::new, |it| format!("{} ", it.type_name));
                Some(format!("was    {type_name}{value}"))
            }
            _ => None,
        }
    }

    fn value_at(&self, path: &str) -> Option<&Value> {
        match &self.contents {
            Some(Ok(vault)) => value_in(vault, path),
            _ => None,
        }
    }

    /// The cut in the value of a row.
    fn cut_at(&self, path: &str) -> Option<Cut> {
        let Some(Ok(vault)) = &self.contents else { return None };
        let cuts = vault.data_bag.iter().map(|entry| {
            let whole = entry.value.as_ref().unwrap_or(&Value::Null);
            Cuts::of(&bag_path(&entry.key), whole, &entry.cuts)
        });
        let of_extension = Cuts::of("ext", &vault.extension, &vault.extension_cuts);
        cuts.chain([of_extension]).find_map(|cuts| cuts.at(path).cloned())
    }

    /// Whether the Vault has changed since the last snapshot. `changes` is the host's count of changes.
    pub fn is_outdated(&self, changes: u64) -> bool {
        match &self.contents {
            // A host that does not count changes sends 0.
            Some(Ok(seen)) => changes == 0 || seen.changes != changes,
            _ => true,
        }
    }

    fn push_data_bag(&self, rows: &mut Vec<TreeRow>, vault: &VaultSnapshot) {
        let open = self.tree.is_open("bag", 0);
        rows.push(heading("bag", "DataBag", "", open, vault.data_bag.len()));
        if !open {
            return;
        }
        for entry in &vault.data_bag {
            let path = bag_path(&entry.key);
            let children = entry.value.as_ref().filter(|value| has_children(value));
            let is_open = children.map(|_| self.tree.is_open(&path, 1));
            let (mark, note) = self.change(entry);
            let whole = entry.value.as_ref().unwrap_or(&Value::Null);
            let cuts = Cuts::of(&path, whole, &entry.cuts);
            let value = entry.value.as_ref();
            let value = value.map_or_else(|| "opaque".into(), |value| brief(value, cuts.at(&path)));
            let size = entry.size_bytes.map_or_else(|| "–".into(), format::bytes);
            rows.push(TreeRow {
                path: path.clone(),
                depth: 1,
                is_open,
                cells: vec![
                    entry.key.clone(),
                    entry.type_name.clone(),
                    entry.owner.clone(),
                    size,
                    if note.is_empty() { value } else { format!("{value}  ({note})") },
                ],
                mark,
            });
            if let (Some(value), Some(true)) = (children, is_open) {
                let unmarked = |_: &str| Mark::Unchanged;
                self.tree.push_json(rows, (&path, 2), (value, &cuts), &unmarked, &json_cells);
            }
        }
        push_more(rows, "bag", vault.data_bag.len(), vault.data_bag_len);
        let known: BTreeSet<&str> = vault.data_bag.iter().map(|it| it.key.as_str()).collect();
        let is_gone = |it: &&ValueOutcome| {
            it.change == ValueChange::Dropped && !known.contains(it.key.as_str())
        };
        for gone in self.outcomes_of(vault).iter().filter(is_gone) {
            let before = self.before.as_ref().and_then(|before| entry(before, &gone.key));
            let of = |f: fn(&DataBagEntry) -> &String| {
                before.map_or_else(String::new, |it| f(it).clone())
            };
            rows.push(TreeRow {
                path: format!("bag-gone/{}", gone.key),
                depth: 1,
                is_open: None,
                cells: vec![
                    gone.key.clone(),
                    of(|it| &it.type_name),
                    of(|it| &it.owner),
                    String::new(),
                    "went with its version".into(),
                ],
                mark: Mark::Gone,
            });
        }
    }

    fn outcomes_of(&self, vault: &VaultSnapshot) -> &[ValueOutcome] {
        if self.outcomes.0 == vault.generation { &self.outcomes.1 } else { &[] }
    }

    /// The change that the last reload made to a value, as a mark and in words.
    fn change(&self, entry: &DataBagEntry) -> (Mark, String) {
        let Some(Ok(vault)) = &self.contents else { return Default::default() };
        let outcome = self.outcomes_of(vault).iter().find(|it| it.key == entry.key);
        let before = self.before.as_ref().and_then(|before| self::entry(before, &entry.key));
        match (outcome.map(|it| it.change), before) {
            (Some(ValueChange::Added), _) => (Mark::New, "new".into()),
            (Some(ValueChange::Set), _) => (Mark::Changed, "set anew".into()),
            (Some(ValueChange::Migrated), Some(before)) => {
                (Mark::Changed, format!("was {}", before.type_name))
            }
            (Some(ValueChange::Migrated), None) => (Mark::Changed, "of another type".into()),
            (Some(ValueChange::Shared), _) => (Mark::Changed, "taken over".into()),
            _ => Default::default(),
        }
    }

    fn push_extension(&self, rows: &mut Vec<TreeRow>, vault: &VaultSnapshot) {
        let open = self.tree.is_open("ext", 0);
        let count = match &vault.extension {
            Value::Object(fields) => fields.len(),
            Value::Array(items) => items.len(),
            Value::Null => 0,
            _ => 1,
        };
        let cuts = Cuts::of("ext", &vault.extension, &vault.extension_cuts);
        let type_name = if vault.has_extension() { &vault.extension_type } else { "none" };
        let mut row = heading("ext", "Extension", type_name, open, count);
        if count > 0 && !has_children(&vault.extension) {
            row.cells[4] = brief(&vault.extension, cuts.at("ext"));
        }
        rows.push(row);
        if open {
            let mark = |path: &str| self.extension_mark(vault, path);
            self.tree.push_json(rows, ("ext", 1), (&vault.extension, &cuts), &mark, &json_cells);
        }
    }

    /// The change of a part of the Extension, which each generation builds again: compares both snapshots.
    fn extension_mark(&self, vault: &VaultSnapshot, path: &str) -> Mark {
        let Some(before) = &self.before else { return Mark::Unchanged };
        match (value_in(before, path), value_in(vault, path)) {
            (None, Some(_)) => Mark::New,
            (Some(was), Some(is)) if was != is => Mark::Changed,
            _ => Mark::Unchanged,
        }
    }

    fn push_slots(&self, rows: &mut Vec<TreeRow>, vault: &VaultSnapshot) {
        let open = self.tree.is_open("slots", 0);
        rows.push(heading("slots", "Registered", "", open, vault.slots.len()));
        for slot in vault.slots.iter().filter(|_| open) {
            let same = |it: &&ExtensionSlot| it.interface == slot.interface && it.name == slot.name;
            let mark = match self.before.as_ref().map(|it| it.slots.iter().find(same)) {
                Some(None) => Mark::New,
                Some(Some(before)) if before.owner != slot.owner => Mark::Changed,
                _ => Mark::Unchanged,
            };
            rows.push(TreeRow {
                path: slot_path(slot),
                depth: 1,
                is_open: None,
                cells: vec![
                    slot.name.clone(),
                    slot.interface.clone(),
                    slot.owner.clone(),
                    String::new(),
                    String::new(),
                ],
                mark,
            });
        }
        if open {
            push_more(rows, "slots", vault.slots.len(), vault.slots_len);
        }
    }
}

/// The path of a value of the DataBag.
pub fn bag_path(key: &str) -> String {
    format!("bag/{key}")
}

/// The path of a registration.
pub fn registration_path(interface: &str, name: &str) -> String {
    format!("slots/{interface}/{name}")
}

fn slot_path(slot: &ExtensionSlot) -> String {
    registration_path(&slot.interface, &slot.name)
}

/// Adds a row for entries that the host did not list.
fn push_more(rows: &mut Vec<TreeRow>, path: &str, listed: usize, of: u64) {
    let more = of.saturating_sub(listed as u64);
    if more > 0 {
        rows.push(TreeRow {
            path: format!("{path}/…"),
            depth: 1,
            cells: vec![format!("… {} more", format::thousands(more))],
            ..TreeRow::default()
        });
    }
}

fn heading(path: &str, name: &str, type_name: &str, open: bool, count: usize) -> TreeRow {
    TreeRow {
        path: path.into(),
        depth: 0,
        is_open: (count > 0).then_some(open),
        cells: vec![
            name.into(),
            type_name.into(),
            String::new(),
            String::new(),
            if count == 0 { "empty".into() } else { String::new() },
        ],
        mark: Mark::Unchanged,
    }
}

fn json_cells(name: &str, value: String) -> Vec<String> {
    vec![name.into(), String::new(), String::new(), String::new(), value]
}

fn entry<'a>(vault: &'a VaultSnapshot, key: &str) -> Option<&'a DataBagEntry> {
    vault.data_bag.iter().find(|entry| entry.key == key)
}

/// The value at the path of a row.
fn value_in<'a>(vault: &'a VaultSnapshot, path: &str) -> Option<&'a Value> {
    if let Some(rest) = path.strip_prefix("bag/") {
        let key_of = |entry: &&DataBagEntry| {
            rest.strip_prefix(entry.key.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let entry = vault.data_bag.iter().filter(key_of).max_by_key(|it| it.key.len())?;
        return inside(entry.value.as_ref()?, &rest[entry.key.len()..]);
    }
    inside(&vault.extension, path.strip_prefix("ext")?)
}

/// Follows `/name/[0]` into a value. Names may contain slashes.
fn inside<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let Some(rest) = path.strip_prefix('/') else { return path.is_empty().then_some(value) };
    let leads =
        |name: &str| rest.strip_prefix(name).filter(|it| it.is_empty() || it.starts_with('/'));
    match value {
        Value::Object(fields) => {
            fields.iter().find_map(|(name, value)| leads(name).and_then(|rest| inside(value, rest)))
        }
        Value::Array(items) => {
            let (index, rest) = rest.strip_prefix('[')?.split_once(']')?;
            inside(items.get(index.parse::<usize>().ok()?)?, rest)
        }
        _ => None,
    }
}
