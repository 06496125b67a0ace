//! Trees of rows that open and close, for the Vault tab and the Live tab.

use std::collections::{HashMap, HashSet};

use hotswap_protocol::Cut;
use serde_json::Value;

use super::plugins::contains;
use crate::format;
use crate::screen::input::action::Motion;

/// The maximum number of children that are shown of a list or an object.
const CHILDREN_SHOWN: usize = 500;

/// A visible row of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TreeRow {
    /// Its path, which identifies it even when the contents change.
    pub path: String,
    /// Its depth in the tree.
    pub depth: usize,
    /// Whether it is open; `None` if it has no children.
    pub is_open: Option<bool>,
    /// The texts of its columns, the name first.
    pub cells: Vec<String>,
    /// The last reload's change to it.
    pub mark: Mark,
}

/// The change that the last reload made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mark {
    /// No change.
    #[default]
    Unchanged,
    /// It is new.
    New,
    /// It has changed.
    Changed,
    /// It is gone.
    Gone,
}

/// A tab that shows its contents as a tree.
pub trait TreeTab {
    /// The visible rows.
    fn rows(&self) -> Vec<TreeRow>;

    /// The open rows and the selected row.
    fn tree(&self) -> &Tree;

    /// The open rows and the selected row, to change them.
    fn tree_mut(&mut self) -> &mut Tree;

    /// The index of the selected row.
    fn selected(&self, rows: &[TreeRow]) -> usize {
        self.tree().selected(rows)
    }

    /// Selects a row.
    fn select(&mut self, index: usize) {
        let rows = self.rows();
        self.tree_mut().select(&rows, index);
    }

    /// Moves the selection, and opens and closes rows.
    fn move_by(&mut self, motion: Motion, page: usize) {
        let rows = self.rows();
        self.tree_mut().move_by(&rows, motion, page);
    }

    /// Opens or closes the selected row; false if it has no children.
    fn toggle(&mut self) -> bool {
        let rows = self.rows();
        self.tree_mut().toggle(&rows)
    }
}

/// The open rows, the selected row and the filter of a tree.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The paths of the rows that are not in their default state: open at the top level, closed below it.
    toggled: HashSet<String>,
    /// The path of the selected row. Paths survive when rows come and go.
    selected: Option<String>,
    /// The index of the selected row, for the case that the row disappears.
    last_index: usize,
    /// The filter: text in the names. Rows that contain a match or lie in one are shown too.
    pub filter: String,
}

impl Tree {
    /// The rows that pass the filter.
    pub fn filtered(&self, rows: Vec<TreeRow>) -> Vec<TreeRow> {
        if self.filter.is_empty() {
            return rows;
        }
        let is_match =
            |row: &TreeRow| contains(row.cells.first().map_or("", |name| name), &self.filter);
        // Rows inside a match are shown, and so are the rows that contain a match.
        let mut inside: Option<usize> = None;
        let kept: Vec<bool> = rows
            .iter()
            .map(|row| {
                inside = inside.filter(|depth| row.depth > *depth);
                if inside.is_none() && is_match(row) {
                    inside = Some(row.depth);
                }
                inside.is_some()
            })
            .collect();
        let mut above = 0;
        let mut shown: Vec<TreeRow> = Vec::new();
        for (row, is_kept) in rows.into_iter().zip(kept).rev() {
            if is_kept || row.depth < above {
                above = row.depth;
                shown.push(row);
            }
        }
        shown.reverse();
        shown
    }

    /// Whether this row is open.
    pub fn is_open(&self, path: &str, depth: usize) -> bool {
        (depth == 0) != self.toggled.contains(path)
    }

    /// The index of the selected row among `rows`.
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

    /// Moves the selection. Left closes a row or goes to its parent; right opens a row.
    pub fn move_by(&mut self, rows: &[TreeRow], motion: Motion, page: usize) {
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

    /// Opens or closes the selected row; false if it has no children.
    pub fn toggle(&mut self, rows: &[TreeRow]) -> bool {
        let index = self.selected(rows);
        let Some(row) = rows.get(index).filter(|row| row.is_open.is_some()) else { return false };
        if !self.toggled.remove(&row.path) {
            self.toggled.insert(row.path.clone());
        }
        self.select(rows, index);
        true
    }

    /// Adds the rows of a JSON value's children; `cells` makes the columns from a name and a short form of a value.
    pub fn push_json(
        &self,
        rows: &mut Vec<TreeRow>,
        (path, depth): (&str, usize),
        (value, cuts): (&Value, &Cuts),
        mark: &impl Fn(&str) -> Mark,
        cells: &impl Fn(&str, String) -> Vec<String>,
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
        let left_out = cuts.left_out(path, count);
        for (name, child) in children.into_iter().take(CHILDREN_SHOWN) {
            let child_path = format!("{path}/{name}");
            let is_open = has_children(child).then(|| self.is_open(&child_path, depth));
            rows.push(TreeRow {
                mark: mark(&child_path),
                path: child_path.clone(),
                depth,
                is_open,
                cells: cells(&name, brief(child, cuts.at(&child_path))),
            });
            if is_open == Some(true) {
                self.push_json(rows, (&child_path, depth + 1), (child, cuts), mark, cells);
            }
        }
        if let Some(left_out) = left_out {
            rows.push(TreeRow {
                path: format!("{path}/…"),
                depth,
                cells: vec![format!("… {left_out} more")],
                ..TreeRow::default()
            });
        }
    }
}

/// The parts of a value that the host left out, by the paths of the rows that show them.
#[derive(Debug, Clone, Default)]
pub struct Cuts(HashMap<String, Cut>);

impl Cuts {
    /// The cuts in a value whose row has this path.
    pub fn of(path: &str, value: &Value, cuts: &[Cut]) -> Self {
        let by_path = |cut: &Cut| Some((row_path(path, value, &cut.path)?, cut.clone()));
        Self(cuts.iter().filter_map(by_path).collect())
    }

    /// The cut in the value of a row.
    pub fn at(&self, path: &str) -> Option<&Cut> {
        self.0.get(path)
    }

    /// The number of a row's children that are not shown, or `many`; `None` if all are shown.
    fn left_out(&self, path: &str, count: usize) -> Option<String> {
        let unseen = count.saturating_sub(CHILDREN_SHOWN);
        match self.at(path).map(|cut| cut.of) {
            Some(Some(of)) => {
                Some(format::thousands(of.saturating_sub(count as u64) + unseen as u64))
            }
            Some(None) => Some("many".into()),
            None => (unseen > 0).then(|| unseen.to_string()),
        }
    }
}

/// The path of the row for the value at a JSON pointer.
fn row_path(root: &str, value: &Value, pointer: &str) -> Option<String> {
    let mut path = root.to_owned();
    let mut at = Some(value);
    for step in pointer.split('/').skip(1) {
        let name = step.replace("~1", "/").replace("~0", "~");
        match at? {
            Value::Array(items) => {
                path.push_str(&format!("/[{name}]"));
                at = name.parse::<usize>().ok().and_then(|index| items.get(index));
            }
            Value::Object(fields) => {
                path.push_str(&format!("/{name}"));
                at = fields.get(&name);
            }
            _ => return None,
        }
    }
    Some(path)
}

/// Whether a value has children.
pub fn has_children(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

/// A short form of a value: the value itself, unless it has children or is cut.
pub fn brief(value: &Value, cut: Option<&Cut>) -> String {
    let len = |there: usize| cut.map_or(Some(there as u64), |cut| cut.of);
    match value {
        Value::Object(fields) if !fields.is_empty() || cut.is_some() => {
            format!("{{{}}}", counted(len(fields.len()), "field", "fields"))
        }
        Value::Array(items) if !items.is_empty() || cut.is_some() => {
            format!("[{}]", counted(len(items.len()), "item", "items"))
        }
        other => match cut.map(|cut| cut.of) {
            None => other.to_string(),
            Some(of) => format!("{other} … of {}", counted(of, "byte", "bytes")),
        },
    }
}

fn counted(count: Option<u64>, one: &str, several: &str) -> String {
    match count {
        Some(count) => format::counted(count, one, several),
        None => format!("many {several}"),
    }
}
