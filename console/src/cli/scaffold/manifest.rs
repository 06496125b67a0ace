//! Changes manifests and keeps everything else in them as it is.

use std::path::Path;

use toml_edit::{Array, DocumentMut, Item, Table, Value, value};

use super::refuse;
use crate::failure::Failure;

/// A manifest that is being changed.
pub(super) struct Manifest {
    document: DocumentMut,
}

impl Manifest {
    pub fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        let document = text.parse();
        let document = document.map_err(|error| refuse(format!("{}: {error}", path.display())))?;
        Ok(Self { document })
    }

    /// The item at a path of keys; `None` if there is none.
    pub fn get(&self, place: &[&str]) -> Option<&Item> {
        place.iter().try_fold(self.document.as_item(), |item, key| item.get(key))
    }

    /// The texts of a list.
    pub fn list(&self, place: &[&str]) -> Vec<&str> {
        let list = self.get(place).and_then(Item::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Adds a text to the end of a list, in the list's style: each entry on a line of its own, or all entries on
    /// one line.
    pub fn push(&mut self, place: &[&str], text: &str) -> Result<(), Failure> {
        let (key, tables) = place.split_last().expect("a place has a key");
        let list = self.table(tables)?.entry(key).or_insert_with(|| value(Array::new()));
        let Some(list) = list.as_array_mut() else {
            return Err(refuse(format!("`{}` is not a list", place.join("."))));
        };
        let prefix = list.iter().last().and_then(|last| last.decor().prefix()?.as_str());
        let indent = prefix.and_then(|prefix| prefix.rsplit_once('\n'));
        let Some(indent) = indent.map(|(_, indent)| indent.to_owned()) else {
            list.push(text);
            return Ok(());
        };
        // A comment on the last line stays there.
        let end = list.trailing().as_str().and_then(|end| end.rsplit_once('\n'));
        let (comment, end) = end.unwrap_or_default();
        let (prefix, end) = (format!("{comment}\n{indent}"), format!("\n{end}"));
        list.push(text);
        if let Some(last) = list.iter_mut().last() {
            last.decor_mut().set_prefix(prefix);
        }
        list.set_trailing(end);
        list.set_trailing_comma(true);
        Ok(())
    }

    /// Sets a key, unless it exists already.
    pub fn set(&mut self, place: &[&str], what: Value) -> Result<(), Failure> {
        let (key, tables) = place.split_last().expect("a place has a key");
        self.table(tables)?.entry(key).or_insert_with(|| value(what));
        Ok(())
    }

    /// Adds a dependency on a crate of the workspace's table: `krate.workspace = true`.
    pub fn inherit(&mut self, place: &[&str]) -> Result<(), Failure> {
        let (key, tables) = place.split_last().expect("a place has a key");
        let mut inherited = Table::from_iter([("workspace", value(true))]);
        inherited.set_dotted(true);
        self.table(tables)?.entry(key).or_insert(Item::Table(inherited));
        Ok(())
    }

    /// The table at a path of keys, which is made if there is none.
    fn table(&mut self, place: &[&str]) -> Result<&mut dyn toml_edit::TableLike, Failure> {
        let mut item = self.document.as_item_mut();
        let last = place.len().saturating_sub(1);
        for (number, key) in place.iter().enumerate() {
            let table = item.as_table_like_mut();
            let table =
                table.ok_or_else(|| refuse(format!("`{}` is not a table", place.join("."))))?;
            item = table.entry(key).or_insert_with(|| {
                let mut made = Table::new();
                made.set_implicit(number < last);
                Item::Table(made)
            });
        }
        item.as_table_like_mut()
            .ok_or_else(|| refuse(format!("`{}` is not a table", place.join("."))))
    }
}

impl std::fmt::Display for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.document.fmt(f)
    }
}
