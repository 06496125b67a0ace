//! Rows that open and close, as the Vault and the Live tab have them.

use std::collections::HashSet;

use serde_json::Value;

use crate::action::Motion;

/// Of a list or an object at most this many children are shown.
const CHILDREN_SHOWN: usize = 500;

/// A visible row of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TreeRow {
    /// What it is, among all rows; stays the same when the contents change.
    pub path: String,
    /// How deep it lies.
    pub depth: usize,
    /// Whether its children are shown; none when it has no children.
    pub is_open: Option<bool>,
    /// Its name and the other columns.
    pub cells: Vec<String>,
    /// What the last reload did to it.
    pub mark: Mark,
}

/// What the last reload did to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mark {
    /// Nothing.
    #[default]
    Unchanged,
    /// It is new.
    New,
    /// It is another.
    Changed,
    /// It is gone.
    Gone,
}

/// A tab that is a tree: rows that are made of its contents, and which of them are open.
pub trait TreeTab {
    /// The visible rows.
    fn rows(&self) -> Vec<TreeRow>;

    /// Which are open, and which is selected.
    fn tree(&self) -> &Tree;

    /// The same, to change it.
    fn tree_mut(&mut self) -> &mut Tree;

    /// Which of its rows is selected.
    fn selected(&self, rows: &[TreeRow]) -> usize {
        self.tree().selected(rows)
    }

    /// Selects a row.
    fn select(&mut self, index: usize) {
        let rows = self.rows();
        self.tree_mut().select(&rows, index);
    }

    /// Moves the selection, opens and closes.
    fn go(&mut self, motion: Motion, page: usize) {
        let rows = self.rows();
        self.tree_mut().go(&rows, motion, page);
    }

    /// Opens or closes the selected row; false when it has nothing to open.
    fn toggle(&mut self) -> bool {
        let rows = self.rows();
        self.tree_mut().toggle(&rows)
    }
}

/// Which rows are open, and which is selected.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Rows that are not as they are by default: at the top open, below closed.
    toggled: HashSet<String>,
    /// By path, so that the selection stays where it is when rows come and go.
    selected: Option<String>,
    /// Where the selection was, should its row be gone.
    last_index: usize,
}

impl Tree {
    /// Whether the children of this row are shown.
    pub fn is_open(&self, path: &str, depth: usize) -> bool {
        (depth == 0) != self.toggled.contains(path)
    }

    /// Which of these rows is selected.
    pub fn selected(&self, rows: &[TreeRow]) -> usize {
        let chosen = self.selected.as_deref();
        let found = chosen.and_then(|path| rows.iter().position(|row| row.path == path));
        let fallback = if chosen.is_some() { self.last_index } else { 0 };
        found.unwrap_or(fallback).min(rows.len().saturating_sub(1))
    }

    /// Selects one of these rows.
    pub fn select(&mut self, rows: &[TreeRow], index: usize) {
        if let Some(row) = rows.get(index) {
            self.selected = Some(row.path.clone());
            self.last_index = index;
        }
    }

    /// Moves the selection; left closes a row or goes to its parent, right opens it.
    pub fn go(&mut self, rows: &[TreeRow], motion: Motion, page: usize) {
        let from = self.selected(rows);
        let Some(row) = rows.get(from) else { return };
        match (motion, row.is_open) {
            (Motion::Left, Some(true)) | (Motion::Right, Some(false)) => {
                self.toggle(rows);
            }
            (Motion::Left, _) => {
                let parent = rows[..from].iter().rposition(|above| above.depth < row.depth);
                self.select(rows, parent.unwrap_or(from));
            }
            (motion, _) => {
                if let Some(to) = super::plugins::step(motion, from, rows.len(), page) {
                    self.select(rows, to);
                }
            }
        }
    }

    /// Opens the selected row or closes it; false when it has nothing to open.
    pub fn toggle(&mut self, rows: &[TreeRow]) -> bool {
        let index = self.selected(rows);
        let Some(row) = rows.get(index).filter(|row| row.is_open.is_some()) else { return false };
        if !self.toggled.remove(&row.path) {
            self.toggled.insert(row.path.clone());
        }
        self.select(rows, index);
        true
    }

    /// Adds the rows inside a JSON value; `cells` makes the columns of a name and a value.
    pub fn push_json(
        &self,
        rows: &mut Vec<TreeRow>,
        (path, depth): (&str, usize),
        value: &Value,
        mark: &impl Fn(&str) -> Mark,
        cells: &impl Fn(&str, &Value) -> Vec<String>,
    ) {
        let children: Vec<(String, &Value)> = match value {
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| (name.clone(), value)).collect()
            }
            Value::Array(items) => {
                items.iter().enumerate().map(|(index, item)| (format!("[{index}]"), item)).collect()
            }
            _ => return,
        };
        let count = children.len();
        for (name, child) in children.into_iter().take(CHILDREN_SHOWN) {
            let child_path = format!("{path}/{name}");
            let is_open = has_children(child).then(|| self.is_open(&child_path, depth));
            rows.push(TreeRow {
                mark: mark(&child_path),
                path: child_path.clone(),
                depth,
                is_open,
                cells: cells(&name, child),
            });
            if is_open == Some(true) {
                self.push_json(rows, (&child_path, depth + 1), child, mark, cells);
            }
        }
        if count > CHILDREN_SHOWN {
            rows.push(TreeRow {
                path: format!("{path}/…"),
                depth,
                cells: vec![format!("… {} more", count - CHILDREN_SHOWN)],
                ..TreeRow::default()
            });
        }
    }
}

/// Whether there is something to open in a value.
pub fn has_children(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

/// A value in a few words: itself, unless it has children.
pub fn brief(value: &Value) -> String {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            format!("{{{}}}", counted(fields.len(), "field"))
        }
        Value::Array(items) if !items.is_empty() => format!("[{}]", counted(items.len(), "item")),
        other => other.to_string(),
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
